"""The included model on eight rendered people that it has never seen.

Command:   ./run.sh   (personalize online and offline, evaluate)
Takes:     about three minutes on two CPU cores; `./run.sh --train` trains a model first.
"""

from configs import graded


def get_config():
    c = graded.get_config()
    c.name = "demo"
    c.base = "shipped"
    c.data.root = "data/demo"
    c.data.preset = "shifted"  # new colours
    c.data.train, c.data.val, c.data.test = 0, 0, 8  # the first eight test people
    c.eval.probe_frames = 64
    return c
