"""The tiny network on frames in Penn Action's layout: a smoke test with real images, on CPU.

Command:   python main.py --config=configs/tiny_penn.py --config.data.root=DIR --workdir=runs/real
           python main.py personalize --config=configs/tiny_penn.py --config.data.root=DIR \\
               --workdir=runs/real --scenario=online   (then offline, then evaluate)
Expected:  docs/results.md, "Trained on real frames". A few hundred frames of one person are not
           enough for a general model.
"""

from configs import common, tiny


def get_config():
    c = tiny.get_config()
    c.name = "tiny_penn"
    c.data = common.get_config().data  # without the fields for rendered people
    c.data.source = "penn"
    c.data.root = "data/Penn_Action"
    c.data.skeleton = "penn13"
    c.data.oversample = 2.0
    c.train.stages = ((800, 2e-3, 0.0, "constant"), (400, 2e-3, 1e-2, "cosine"))
    c.train.checkpoint_every = 400
    return c
