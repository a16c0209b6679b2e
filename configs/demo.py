"""The included model on eight rendered people that it has never seen.

Command:   ./run.sh   (personalize online and offline, evaluate)
Takes:     about three minutes on two CPU cores; `./run.sh --train` trains a model first.
"""

from configs import rendered


def get_config():
    c = rendered.get_config()
    c.name = "demo"
    c.base = "shipped"
    c.data.root = "data/demo"
    c.data.train, c.data.val, c.data.test = 0, 0, 8  # the benchmark's first eight test people
    c.eval.probe_frames = 64
    return c
