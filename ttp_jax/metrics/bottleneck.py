"""Checks whether the self-supervised keypoints follow the pose."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.metrics.scores import mean_of

# Limits of own / other in `bottleneck_verdict`. The ratio was 0.93 for a network whose PCK fell by
# test-time updates and 0.79 for one that gained (docs/notes.md), so the limits lie between.
DEAD_RATIO = 0.9
WEAK_RATIO = 0.85


def mean_pose(joints: ArrayLike, visible: ArrayLike | None = None) -> np.ndarray:
    """Return each joint's mean position over a set of poses.

    Args:
      joints: [N, K, 2] in any unit.
      visible: [N, K], which joints to use; all if None.

    Returns:
      [K, 2] in the unit of `joints`, NaN for a joint that is never visible.
    """
    joints = np.asarray(joints, np.float64)
    weight = _mask(joints, visible)[..., None]
    count = weight.sum(0)
    total = np.where(weight, joints, 0.0).sum(0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


class Readout(NamedTuple):
    """Mean errors of the linear readout and of the mean pose, over visible test joints."""

    error: float
    mean_pose_error: float


def linear_readout(
    points_fit: ArrayLike,
    joints_fit: ArrayLike,
    points_test: ArrayLike,
    joints_test: ArrayLike,
    visible_fit: ArrayLike | None = None,
    visible_test: ArrayLike | None = None,
    ridge: float = 1e-3,
) -> Readout:
    """Measure how well a linear map predicts joints from the self-supervised keypoints.

    Fits joints = points @ A + b on some people and scores it on others. Unless the error is well
    below that of the fit set's mean pose, the keypoints do not follow the body. Distances are in
    the unit of the joints, which should be relative to the crop, as the points are.

    Args:
      points_fit, points_test: [N, M, 2].
      joints_fit, joints_test: [N, K, 2].
      visible_fit, visible_test: [N, K], all if None. A joint never visible in the fit set is left
        out.
      ridge: penalty on A, relative to the mean variance of the points.
    """
    joints_fit, joints_test = (np.asarray(j, np.float64) for j in (joints_fit, joints_test))
    points = (np.asarray(p, np.float64) for p in (points_fit, points_test))
    x_fit, x_test = (p.reshape(len(p), -1) for p in points)
    mean = mean_pose(joints_fit, visible_fit)
    mask = _mask(joints_fit, visible_fit)
    read = np.full(joints_test.shape, np.nan)
    # Joints are visible in different frames, so each is fitted separately.
    for k in np.flatnonzero(mask.any(0)):
        seen = mask[:, k]
        center = x_fit[seen].mean(0)
        x = x_fit[seen] - center
        gram = x.T @ x
        # The tiny number keeps the system solvable if a keypoint never moves.
        penalty = ridge * np.trace(gram) / len(gram) + np.finfo(float).tiny
        weights = np.linalg.solve(
            gram + penalty * np.eye(len(gram)), x.T @ (joints_fit[seen, k] - mean[k])
        )
        read[:, k] = (x_test - center) @ weights + mean[k]
    scored = _mask(joints_test, visible_test)

    def distance(prediction):
        return mean_of(np.linalg.norm(prediction - joints_test, axis=-1)[scored])

    return Readout(distance(read), distance(mean))


def _mask(joints, visible) -> np.ndarray:
    """Return visible [N, K] as bool, all True if None."""
    if visible is None:
        return np.ones(joints.shape[:2], bool)
    visible = np.asarray(visible).astype(bool)
    if visible.shape != joints.shape[:2]:
        raise ValueError(f"got visible {visible.shape}, expected {joints.shape[:2]}.")
    return visible


def bottleneck_verdict(own: float, other: float, copy: float) -> str:
    """Describe in one sentence whether the reconstruction depends on the keypoints.

    If it doesn't, a falling reconstruction loss says nothing about the pose. The bottleneck is
    called dead if own >= 0.9 other, and weak if own >= 0.85 other. On people who look unlike the
    training people it may seem dead before personalization and work afterwards, so compare with
    training people.

    Args:
      own: reconstruction error with the target's own keypoints.
      other: reconstruction error with the keypoints of another frame.
      copy: error if the source itself is taken as the reconstruction.
    """
    ratios = f"own keypoints {own:.3g}, another frame's {other:.3g}, copying {copy:.3g}"
    if not all(map(math.isfinite, (own, other, copy))):
        return f"Bottleneck unknown: the errors are not all finite ({ratios})."
    if own >= DEAD_RATIO * other:
        verdict = "dead: the keypoints hardly matter"
    elif own >= WEAK_RATIO * other:
        verdict = "weak: the keypoints matter a little"
    else:
        verdict = "alive: the reconstruction depends on the keypoints"
    if own >= copy:
        verdict += ", and reconstructing is no better than copying the source"
    return f"Bottleneck {verdict} ({ratios})."
