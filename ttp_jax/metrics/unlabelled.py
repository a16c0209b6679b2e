"""Signs of quality without labels. None of them measures accuracy.

Joints are [T, K, 2] in pixels of the original image, NaN if missing.
"""

import math

import numpy as np

from ttp_jax.metrics.scores import mean_of
from ttp_jax.skeletons import Skeleton


def jitter(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Return the mean size of the joints' acceleration, in `jitter_unit`s per frame^2.

    The acceleration is p[t-1] - 2 p[t] + p[t+1]; those that involve a NaN are ignored. The result
    is NaN for fewer than three frames, and for a single joint, which has no size to compare with.

    Args:
      joints: [T, K, 2] in pixels of evenly spaced frames.
      skeleton: skeleton of the joints.
    """
    joints = np.asarray(joints, np.float64)
    acceleration = np.linalg.norm(joints[:-2] - 2 * joints[1:-1] + joints[2:], axis=-1)
    lengths = _limb_lengths(joints, skeleton) if skeleton.limbs else _diagonals(joints)
    lengths = lengths[np.isfinite(lengths)]
    scale = np.median(lengths) if lengths.size else 0.0
    return mean_of(acceleration) / float(scale) if scale > 0 else math.nan


def jitter_unit(skeleton) -> str:
    """Return the unit of `jitter`: limb lengths, or diagonals of the pose without limbs."""
    return "limb lengths" if skeleton.limbs else "pose diagonals"


def limb_spread(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Return the coefficient of variation of limb lengths over time, as a mean over limbs.

    Lengths are measured in the image, so turning and walking towards the camera change them.
    Compare only results of the same video. NaN frames are ignored.

    Args:
      joints: [T, K, 2] in pixels.
      skeleton: skeleton whose limbs are measured.
    """
    spreads = []
    for lengths in _limb_lengths(np.asarray(joints, np.float64), skeleton).T:
        lengths = lengths[np.isfinite(lengths)]
        if lengths.size > 1 and lengths.mean() > 0:
            spreads.append(lengths.std() / lengths.mean())
    return mean_of(spreads)


def swaps(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Return the share, 0 to 1, of steps at which a left/right pair seems to swap.

    A step is one pair of joints from one frame to the next. It counts as a swap if the pair moves
    less, in total, with left and right exchanged. Steps that involve a NaN are ignored.

    Args:
      joints: [T, K, 2] in pixels.
      skeleton: skeleton with the pairs of left and right joints.
    """
    joints = np.asarray(joints, np.float64)
    pairs = joints[:, np.array(skeleton.flip_pairs, int).reshape(-1, 2)]  # [T, pairs, side, 2]
    before, now = pairs[:-1], pairs[1:]
    kept = np.linalg.norm(now - before, axis=-1).sum(-1)
    exchanged = np.linalg.norm(now - before[:, :, ::-1], axis=-1).sum(-1)
    known = np.isfinite(kept + exchanged)
    return mean_of((exchanged < kept)[known])


def _limb_lengths(joints, skeleton) -> np.ndarray:
    """Return limb lengths [T, limbs]."""
    ends = joints[:, np.array(skeleton.limbs, int).reshape(-1, 2)]
    return np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1)


def _diagonals(joints) -> np.ndarray:
    """Return the diagonals [T] of the boxes around all joints."""
    return np.linalg.norm(joints.max(1) - joints.min(1), axis=-1)
