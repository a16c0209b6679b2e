"""The tiny network on rendered people of preset `wild`, to become the model of the project.

Command:   python main.py --config=configs/people.py   (then personalize, then evaluate)
Takes:     some hours on two CPU cores; stops and resumes at any time.

As `configs/rendered.py`, with people who wear and carry more, stand behind things and move as
captured people do, with twice as many of them, and trained twice as long.
"""

from configs import rendered


def get_config():
    c = rendered.get_config()
    c.name = "people"
    c.data.root = "data/people"
    c.data.preset = "wild"
    c.data.train = 6000
    c.data.val = 16
    c.data.test = 32
    c.data.eval_frames = 48
    c.train.stages = (
        (3000, 2e-3, 0.0, "constant"),
        (2000, 2e-3, 1e-3, "constant"),
        (9000, 2e-3, 1e-2, "cosine"),
    )
    c.train.checkpoint_every = 500
    return c
