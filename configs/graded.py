"""Rendered people at three distances from training, for a network that has seen changed pictures.

Command:   python main.py reproduce --config=configs/graded.py --what=adapt,table7
Takes:     about four hours of a CPU core for the training, estimated from configs/rendered.py; it
           stops and resumes at any time.

Differs from configs/rendered.py: training pictures change in colour, contrast, sharpness and noise,
joints are read from a parabola through the maps' peaks, and the training is longer. Its test people
(`data.seed`) are others, and nothing was chosen on them.
"""

from configs import rendered


def get_config():
    c = rendered.get_config()
    c.name = "graded"
    c.data.root = "data/graded"
    c.data.seed = 2
    c.data.preset = "plain"
    c.model.decode = "parabola"
    c.train.photometric = 0.5
    c.train.stages = (
        (4000, 2e-3, 0.0, "constant"),
        (2000, 2e-3, 1e-3, "constant"),
        (14000, 2e-3, 1e-2, "cosine"),
    )
    c.train.checkpoint_every = 1000
    c.reproduce.given = ()
    return c
