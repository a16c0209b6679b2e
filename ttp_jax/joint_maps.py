"""Conversion of joints between skeletons, so that a model of one data set is scored on another."""

import numpy as np

from ttp_jax.skeletons import Skeleton

# Joints that one data set labels and another has only as the middle of two others.
MIDDLES = {"pelvis": ("left_hip", "right_hip"), "thorax": ("left_shoulder", "right_shoulder")}
# Joints that BlazePose lacks, as means of joints that it has. "head" is the middle between the
# ears, which is some centimetres below Human3.6M's, the top of the head. Human3.6M's neck is below
# the chin, OpenPose's between the shoulders.
_SHOULDERS, _EARS = ("left_shoulder", "right_shoulder"), ("left_ear", "right_ear")
DERIVED = {
    ("blazepose33", "penn13"): {"head": _EARS},
    ("blazepose33", "bbc7"): {"head": _EARS},
    ("blazepose33", "h36m16"): {
        "head": _EARS,
        "neck": ("mouth_left", "mouth_right", *_SHOULDERS),
    },
    ("blazepose33", "body25"): {
        "neck": _SHOULDERS,
        "mid_hip": ("left_hip", "right_hip"),
        "left_big_toe": ("left_foot_index",),
        "right_big_toe": ("right_foot_index",),
    },
}


def joint_map(source: Skeleton, target: Skeleton) -> tuple[tuple[int, ...], ...]:
    """Return, for each joint of `target`, the joints of `source` whose mean stands for it.

    Joints of the same name stand for each other, although data sets place them differently by some
    centimetres ("head" is the top of the head in Human3.6M, its middle in the others). An empty
    tuple means that `source` has nothing for that joint ("neck" of Human3.6M).

    Args:
      source: skeleton to convert from.
      target: skeleton to convert to.

    Returns:
      One tuple of indices of `source` for each joint of `target`.
    """
    derived = DERIVED.get((source.name, target.name), {})

    def places(name):
        for names in ((name,), derived.get(name, ()), MIDDLES.get(name, ())):
            if names and set(names) <= set(source.joints):
                return tuple(source.joints.index(each) for each in names)
        return ()

    return tuple(places(name) for name in target.joints)


def map_joints(joints: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Convert joints [..., K, 2] from one skeleton to another; NaN for joints without a source.

    This is how a model trained on one data set is scored on another (paper, Table 6).

    Args:
      joints: [..., K, 2] of `source`.
      source: skeleton to convert from.
      target: skeleton to convert to.
    """
    missing = np.full_like(joints[..., 0, :], np.nan, dtype=np.result_type(joints, np.float32))
    columns = [
        joints[..., list(places), :].mean(-2) if places else missing
        for places in joint_map(source, target)
    ]
    return np.stack(columns, -2)
