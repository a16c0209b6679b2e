"""BBC Pose, ResNet-18: paper Table 1, column BBC Pose.

Command:   python main.py --config=configs/bbc_pose.py --config.data.root=DIR
Published: accuracy within 6 px at half resolution: 90.19 without TTP, 92.51 online, 92.21 offline.
Ours:      not run, because the data set was not available.
"""

from configs import common


def get_config():
    c = common.get_config()
    c.name = "bbc_pose"
    c.data.source = "bbc_pose"
    c.data.root = "data/bbcpose"
    c.data.skeleton = "bbc7"
    c.model.init = "models/imagenet/resnet18-5c106cde.pth"
    c.train.frames_per_epoch = 6_400
    c.train.stages = (
        (18_000, 1e-3, 1e-3, "constant"),
        (6_000, 1e-4, 1e-3, "constant"),
        (4_000, 1e-5, 1e-3, "constant"),
    )
    c.eval.pixels = 6.0
    c.reproduce.lengths = (25, 50, 100)
    c.reproduce.extra = (200, 400, 800)
    return c
