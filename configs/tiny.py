"""Rendered people and a small network on 64 px crops: a quick check of everything on two CPU cores.

Command:   ./run.sh --train   (train, personalize online and offline, evaluate)
Expect:    no gain. After 650 joint updates the keypoints don't follow the pose yet, and then
           personalization does harm; `configs/rendered.py` trains until it helps.
Differs from the paper: 64 px images instead of 128; ResNet-10 at half width, without a stride in
its last stage (so that the last map is 4 x 4); heatmaps of 16 x 16 instead of 32 x 32 (hence the
smaller sigma and `logit_scale`); one perceptual level instead of five; a supervised stage before
the joint one; rendered people. `configs/rendered.py` trains the same network 5.6 times as long.
"""

from configs import common


def get_config():
    c = common.get_config()
    c.name = "tiny"
    c.data.source = "synthetic"
    c.data.root = "data/rendered"
    c.data.skeleton = "penn13"
    c.data.seed = 0
    c.data.preset = "shifted"
    c.data.image_size = 80
    c.data.train = 1500
    c.data.val = 12
    c.data.test = 6
    c.data.train_frames = 8
    c.data.eval_frames = 24

    c.model.init = "random"
    c.model.image_size = 64
    c.model.depth = 10
    c.model.width = 32
    c.model.feature_dim = 64
    c.model.last_stride = 1
    c.model.upsamplings = 2
    c.model.sigma = 1.2
    c.model.logit_scale = 3.0
    c.model.ffn_dim = 256
    c.model.appearance_widths = (8, 16, 64)
    c.model.keypoint_widths = (64,)
    c.model.code_kernel = 3
    c.loss.levels = 1

    c.train.batch_size = 16
    c.train.stages = ((1500, 2e-3, 0.0, "constant"), (650, 2e-3, 1e-2, "cosine"))
    c.train.log_every = 50
    c.train.checkpoint_every = 500
    c.ttp.batch_size = 8
    c.eval.probe_frames = 256
    return c
