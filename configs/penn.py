"""Penn Action, ResNet-50: paper Table 1, column Penn Action.

Command:   python main.py --config=configs/penn.py --config.data.root=DIR   (DIR: frames/, labels/)
Published: PCK@0.2 86.16 without TTP, 87.75 online, 88.98 offline (the paper says "half the torso",
           but 0.2 gives its table).
Ours:      not run yet on the full data set.
"""

from configs import common, h36m


def get_config():
    c = common.get_config()
    c.name = "penn"
    c.data.source = "penn"
    c.data.root = "data/Penn_Action"
    c.data.skeleton = "penn13"
    c.data.validation = 0.02  # 25 of 1,258 videos; the published program trains on them, too
    c.model.depth = 50
    c.model.init = "models/imagenet/resnet50-19c8e357.pth"
    c.train.stages = (
        (246_000, 1e-3, 1e-3, "constant"),
        (82_000, 1e-4, 1e-3, "constant"),
        (55_000, 1e-5, 1e-3, "constant"),
    )
    c.ttp.offline_rotation_prob = 0.6
    c.transfer = h36m.get_config().data
    c.transfer.people = ()
    return c
