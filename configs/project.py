"""A labelled project of your own: DeepLabCut, SLEAP, Lightning Pose or COCO keypoints.

Command:   python main.py train --project=path/to/project
           python main.py personalize new_subject.mp4 --model=runs/NAME
Needs:     python main.py fetch blazepose   (once; without it the encoder starts from scratch)
For:       100 to 5,000 labelled frames of several subjects.

BlazePose's encoder on 128 px crops; training starts with the named joints alone and continues with
both tasks. Differs from the paper: the encoder; cross-entropy instead of squared error for the
named joints, which are decoded as means of their maps, averaged with the mirrored crop's;
photometric changes; AdamW; a small renderer with one perceptual level.
"""

import os.path
import pathlib
import re

from configs import common


def get_config(path="project"):
    c = common.get_config()
    c.name = named(path)
    c.data.root = path
    c.data.source = "project"
    c.data.oversample = 2.0
    c.data.zoom = 0.0
    c.data.test_share = 0.2
    c.data.val_share = 0.2

    c.model.encoder = "blazepose"
    c.model.init = "blazepose"
    c.model.half_pixel = True
    c.model.sigma = 1.5
    c.model.decode = "mean"
    c.model.flip_average = True
    c.model.ffn_dim = 256
    c.model.appearance_widths = (16, 32, 64)
    c.model.keypoint_widths = (64,)
    c.model.code_kernel = 3
    c.loss.levels = 1
    c.loss.supervised = "cross_entropy"

    c.train.batch_size = 16
    c.train.stages = ((300, 1e-3, 0.0, "constant"), (600, 1e-3, 0.3, "cosine"))
    c.train.rotation = 15.0
    c.train.scale = 0.15
    c.train.photometric = 0.3
    c.train.weight_decay = 1e-2
    c.train.best = True
    c.train.log_every = 25
    c.train.checkpoint_every = 100
    c.ttp.batch_size = 8
    c.ttp.rotation = 15.0
    c.ttp.scale = 0.15
    c.eval.thresholds = (0.1, 0.05, 0.2)
    c.eval.distances = True
    return c


def named(path: str) -> str:
    """Return the project's name: that of its folder or file."""
    place = pathlib.PurePath(os.path.abspath(os.path.expanduser(path)))
    if place.name in ("config.yaml", "labeled-data"):
        place = place.parent
    # Only a file's suffix: folders mice.v1 and mice.v2 are two projects.
    name = re.sub(r"\.(slp|json|ya?ml|csv|h5)$", "", place.name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "project"
