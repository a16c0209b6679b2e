"""The tiny network on rendered people, trained until personalization helps.

Command:   python main.py --config=configs/rendered.py   (then personalize, then evaluate)
Takes:     about an hour on two CPU cores; README, "Results", has the numbers.

The order matters: the supervised task alone leaves the plateau of the mean pose quickly, the
renderer then learns at a small lambda, and only the large one makes the points follow the pose
(the supervised loss of these small maps is a tenth of that of the paper's).
"""

from configs import tiny


def get_config():
    c = tiny.get_config()
    c.name = "rendered"
    c.data.train = 3000
    c.data.val = 16
    c.data.test = 16
    c.train.stages = (
        (1500, 2e-3, 0.0, "constant"),
        (1000, 2e-3, 1e-3, "constant"),
        (4500, 2e-3, 1e-2, "cosine"),
    )
    c.train.log_every = 100
    return c
