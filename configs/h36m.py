"""Human3.6M, ResNet-18: paper Table 1, column Human 3.6M.

Command:   python main.py --config=configs/h36m.py --config.data.root=DIR
Published: PCK@0.2 87.90 without TTP, 91.70 online, 92.05 offline.
Ours:      not run, because the data set needs a licence and was not available.
"""

from configs import common


def get_config():
    c = common.get_config()
    c.name = "h36m"
    c.data.source = "h36m"
    c.data.root = "data/Human36M"
    c.data.skeleton = "h36m16"
    # A test subject has 1,650 frames of 1000 x 1000 pixels, which is 5 GB. When they are shrunk by
    # area to twice the crop, they are smoother than the training crops; the effect isn't measured.
    c.data.oversample = 2.0
    c.model.init = "models/imagenet/resnet18-5c106cde.pth"
    c.train.frames_per_epoch = 32_000
    c.train.stages = (
        (90_000, 1e-3, 1e-5, "constant"),
        (30_000, 1e-4, 1e-5, "constant"),
        (20_000, 1e-5, 1e-5, "constant"),
    )
    c.reproduce.lengths = (100, 200, 400, 800)
    return c
