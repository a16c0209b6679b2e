"""Rendered people at three distances from training, for a network trained with photometric changes.

Command:   python main.py reproduce --config=configs/graded.py --what=adapt,table7
Takes:     about two and a half hours on a CPU core for the training; you can stop and resume it at
           any time.

Differs from configs/rendered.py: heatmaps of 32 x 32, training images that change in colour,
contrast, sharpness and noise, joints decoded by a parabola through the maps' peaks, and a longer
supervised stage. It has other test people (`data.seed`), on whom nothing was chosen.
"""

from configs import rendered


def get_config():
    c = rendered.get_config()
    c.name = "graded"
    c.data.root = "data/graded"
    c.data.seed = 2
    c.data.preset = "plain"
    c.model.upsamplings = 3
    c.model.sigma = 2.0
    c.model.logit_scale = 1.0
    c.model.decode = "parabola"
    c.train.photometric = 0.5
    c.train.stages = (
        (6000, 2e-3, 0.0, "constant"),
        (1000, 2e-3, 1e-3, "constant"),
        (9000, 2e-3, 1e-2, "cosine"),
    )
    c.train.checkpoint_every = 1000
    c.reproduce.given = ()
    return c
