"""Scores of predicted joints with labels, and signs of quality without them.

Plain numpy. Joints are [T, K, 2] in pixels of the original picture, visible is [T, K] (bool or
0/1). A clip's counts are a `Score`; scores of clips add up, so a data set is never held at once.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

# own / other of `bottleneck_verdict`. A net whose test-time updates made PCK worse had 0.93, one
# that gained from them 0.79 (docs/design.md); the limits lie between.
DEAD_RATIO = 0.9
WEAK_RATIO = 0.85


# --- With labels ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """Count right predictions per joint.

    Attributes:
      correct: [K] int, visible joints predicted within the threshold.
      total: [K] int, visible joints.
      average: what `mean` weighs alike, "micro" every visible joint of every frame, "macro" every
        joint name.
    """

    correct: np.ndarray
    total: np.ndarray
    average: Literal["micro", "macro"] = "micro"

    @property
    def per_joint(self) -> np.ndarray:
        """Percent right [K], NaN where a joint was never visible."""
        percent = np.full(self.total.shape, np.nan)
        return np.divide(100.0 * self.correct, self.total, out=percent, where=self.total > 0)

    @property
    def mean(self) -> float:
        """Percent right, NaN where nothing was visible."""
        if self.average == "macro":
            return _mean(self.per_joint)
        total = self.total.sum()
        return float(100.0 * self.correct.sum() / total) if total else math.nan

    def __add__(self, other: "Score") -> "Score":
        """Pool the frames of two scores of one metric."""
        if not isinstance(other, Score):
            return NotImplemented
        if (self.average, self.total.shape) != (other.average, other.total.shape):
            raise ValueError(
                f"cannot add a {other.average} score of {other.total.size} joints to a "
                f"{self.average} score of {self.total.size} joints: add scores of one metric."
            )
        return Score(self.correct + other.correct, self.total + other.total, self.average)


def merge(scores: Sequence[Score]) -> Score:
    """Pool the scores of several clips; long clips weigh more, as in the published program."""
    if not scores:
        raise ValueError("got no scores to merge, expected one a clip.")
    return functools.reduce(operator.add, scores)


def pck(predicted, joints, visible, skeleton, threshold: float = 0.2) -> Score:
    """Count joints within `threshold` torso lengths of the truth (micro average).

    The torso is that of the true joints of the frame, even where they are marked invisible. A
    frame without a torso and a prediction of NaN count as wrong (as in the published program).
    Differs from the paper: section 4.1 says half the torso, but 0.2 gives its Penn table.
    """
    predicted, joints, visible = _checked(predicted, joints, visible)
    error = np.linalg.norm(predicted - joints, axis=-1)
    torso = np.broadcast_to(skeleton.torso_length(joints)[:, None], error.shape)
    relative = np.divide(error, torso, out=np.full(error.shape, np.inf), where=torso > 0)
    return _count(relative <= threshold, visible, "micro")


def accuracy_px(predicted, joints, visible, pixels: float = 6) -> Score:
    """Count joints within `pixels` of the truth (macro average), the score of BBC Pose.

    Both are first mapped by p' = (p - 1) / 2 + 1 as in the published program, so 6 pixels are 12 of
    the original picture. A prediction of NaN counts as wrong.
    """
    predicted, joints, visible = _checked(predicted, joints, visible)
    error = np.linalg.norm(predicted - joints, axis=-1)
    return _count(error / 2 <= pixels, visible, "macro")


class Rmse(NamedTuple):
    """Root mean square distances to the truth, in pixels.

    Attributes:
      per_joint: [K], NaN where a joint was never visible.
      mean: over all visible joints of all frames (micro average), NaN where nothing was visible.
      missing: number of visible joints without a prediction (NaN), which both leave out.
    """

    per_joint: np.ndarray
    mean: float
    missing: int


def rmse(predicted, joints, visible) -> Rmse:
    """Return the root of the mean squared distance of visible joints to the truth."""
    predicted, joints, visible = _checked(predicted, joints, visible)
    squared = ((predicted - joints) ** 2).sum(-1)
    scored = visible & np.isfinite(squared)
    total, count = np.where(scored, squared, 0.0).sum(0), scored.sum(0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return Rmse(np.sqrt(mean), math.sqrt(_mean(squared[scored])), int((visible & ~scored).sum()))


def score_labels(predicted, joints, visible, skeleton) -> dict:
    """Score the labelled frames of a video, where some joints of a frame may have no label.

    PCK counts frames only in which all torso joints are labelled, and is left out where none is;
    RMSE counts all frames.

    Args:
      predicted: [n, K, 2] of the labelled frames only.
      joints: [n, K, 2], NaN where not labelled.
      visible: [n, K], the joints to score.
      skeleton: of the joints.

    Returns:
      "frames" and "joints", what was labelled visibly; "PCK@0.2", "PCK@0.5" in percent and
      "RMSE px", each with "mean" and "per_joint" by name, NaN where a joint was never visible; and
      "notes", sentences that say what was left out.
    """
    predicted, joints, visible = _checked(predicted, joints, visible)
    visible = visible & np.isfinite(joints).all(-1)

    def named(mean, per_joint):
        return {"mean": mean, "per_joint": dict(zip(skeleton.joints, per_joint, strict=True))}

    found: dict[str, Any] = {"frames": int(visible.any(1).sum()), "joints": int(visible.sum())}
    torso, notes = [k for group in skeleton.torso for k in group], []
    measured = np.isfinite(joints[:, torso].sum((1, 2))) & (len(torso) > 0)
    if measured.any():
        for threshold in (0.2, 0.5):
            score = pck(predicted, joints, visible & measured[:, None], skeleton, threshold)
            found[f"PCK@{threshold}"] = named(score.mean, score.per_joint.tolist())
    if not torso:
        notes.append(f"no PCK: {skeleton.name} has no torso to measure by.")
    elif not measured.all():
        names = ", ".join(skeleton.joints[k] for k in torso)
        notes.append(
            f"{(~measured).sum()} of {len(joints)} labelled frames don't count in PCK, which needs "
            f"labels of {names}."
        )
    error = rmse(predicted, joints, visible)
    found["RMSE px"] = named(error.mean, error.per_joint.tolist())
    if error.missing:
        notes.append(
            f"{error.missing} labelled joints have no prediction: wrong in PCK, not in RMSE."
        )
    return found | {"notes": notes}


def _count(right, visible, average) -> Score:
    return Score((right & visible).sum(0), visible.sum(0), average)


def _checked(predicted, joints, visible):
    """Return float64 joints and a bool mask, or complain about their shapes."""
    predicted, joints = np.asarray(predicted, np.float64), np.asarray(joints, np.float64)
    visible = np.asarray(visible).astype(bool)
    if joints.ndim != 3 or predicted.shape != joints.shape or visible.shape != joints.shape[:2]:
        raise ValueError(
            f"got predicted {predicted.shape}, joints {joints.shape}, visible {visible.shape}; "
            "expected [T, K, 2], [T, K, 2], [T, K] of the same frames and joints."
        )
    return predicted, joints, visible


# --- Before and after personalization ------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class SubjectTable:
    """Describe what personalization changed, video by video, in points of percent.

    Attributes:
      deltas: [N] after - before, NaN where a video has no score; the rest leaves those out.
      mean: mean of the deltas; unlike a merged `Score` every video weighs the same.
      standard_error: of that mean, over videos; NaN below two videos.
      worse: share of the videos with a negative delta, 0..1.
      interval: 95 % interval of the mean, see `bootstrap_interval`.
    """

    deltas: np.ndarray
    mean: float
    standard_error: float
    worse: float
    interval: tuple[float, float]


def subject_table(before, after) -> SubjectTable:
    """Compare the scores [N] of the same N videos before and after personalization."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if before.ndim != 1 or before.shape != after.shape:
        raise ValueError(
            f"got {before.shape} scores before and {after.shape} after; expected [N] twice, one "
            "score a video, in the same order."
        )
    deltas = after - before
    scored = deltas[np.isfinite(deltas)]
    error = scored.std(ddof=1) / math.sqrt(scored.size) if scored.size > 1 else math.nan
    return SubjectTable(
        deltas=deltas,
        mean=_mean(scored),
        standard_error=float(error),
        worse=_mean(scored < 0),
        interval=bootstrap_interval(scored),
    )


def bootstrap_interval(deltas, seed: int = 0, samples: int = 10_000) -> tuple[float, float]:
    """Return the 95 % interval (percentile bootstrap) of the mean of paired differences [(S,) N].

    Draws whole videos, since frames of one video are not independent, and of S trainings (seeds)
    whole trainings. Two or three trainings say little of how others would vary, and a bootstrap
    can't go beyond them: their share of the interval is too narrow. Videos with a NaN are left out;
    (NaN, NaN) where nothing is left.
    """
    deltas = np.atleast_2d(np.asarray(deltas, np.float64))
    deltas = deltas[:, np.isfinite(deltas).all(0)]
    if not deltas.size:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    runs, count = deltas.shape
    means = []
    for _ in range(samples):  # one draw at a time: all at once would need samples * N numbers
        drawn = deltas[:, rng.integers(count, size=count)]
        if runs > 1:
            drawn = drawn[rng.integers(runs, size=runs)]
        means.append(drawn.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


# --- Without labels ------------------------------------------------------------------------------


def jitter(joints, skeleton) -> float:
    """Return the mean size of the joints' acceleration, in median limb lengths per frame^2.

    The acceleration is p[t-1] - 2 p[t] + p[t+1]; one that involves a NaN is ignored. NaN below
    three frames.
    """
    joints = np.asarray(joints, np.float64)
    acceleration = np.linalg.norm(joints[:-2] - 2 * joints[1:-1] + joints[2:], axis=-1)
    lengths = _limb_lengths(joints, skeleton)
    lengths = lengths[np.isfinite(lengths)]
    scale = np.median(lengths) if lengths.size else 0.0
    return _mean(acceleration) / float(scale) if scale > 0 else math.nan


def limb_spread(joints, skeleton) -> float:
    """Return the coefficient of variation of limb lengths over time, as a mean over limbs.

    Lengths are those in the picture, so turning and walking towards the camera count, too: compare
    the same video only. NaN frames are ignored.
    """
    spreads = []
    for lengths in _limb_lengths(np.asarray(joints, np.float64), skeleton).T:
        lengths = lengths[np.isfinite(lengths)]
        if lengths.size > 1 and lengths.mean() > 0:
            spreads.append(lengths.std() / lengths.mean())
    return _mean(spreads)


def swaps(joints, skeleton) -> float:
    """Return the share 0..1 of steps at which a left/right pair seems to have changed sides.

    A step is one pair of joints from one frame to the next. It counts as a swap if the pair moves
    less, in total, with left and right exchanged. Steps that involve a NaN are ignored.
    """
    joints = np.asarray(joints, np.float64)
    pairs = joints[:, np.array(skeleton.flip_pairs, int).reshape(-1, 2)]  # [T, pairs, side, 2]
    before, now = pairs[:-1], pairs[1:]
    kept = np.linalg.norm(now - before, axis=-1).sum(-1)
    exchanged = np.linalg.norm(now - before[:, :, ::-1], axis=-1).sum(-1)
    known = np.isfinite(kept + exchanged)
    return _mean((exchanged < kept)[known])


def _limb_lengths(joints, skeleton) -> np.ndarray:
    """Return limb lengths [T, limbs]."""
    ends = joints[:, np.array(skeleton.limbs, int).reshape(-1, 2)]
    return np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1)


def _mean(values) -> float:
    """Return the mean of what is finite, NaN (without a warning) where nothing is."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


# --- The bottleneck ------------------------------------------------------------------------------


def mean_pose(joints, visible=None) -> np.ndarray:
    """Return each joint's mean place [K, 2] over [N, K, 2], NaN where it is never visible."""
    joints = np.asarray(joints, np.float64)
    weight = _mask(joints, visible)[..., None]
    count = weight.sum(0)
    total = np.where(weight, joints, 0.0).sum(0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


class Readout(NamedTuple):
    """Mean distances over visible test joints: of the linear readout, and of the mean pose."""

    error: float
    mean_pose_error: float


def linear_readout(
    points_fit,
    joints_fit,
    points_test,
    joints_test,
    visible_fit=None,
    visible_test=None,
    ridge: float = 1e-3,
) -> Readout:
    """Measure how well joints follow linearly from the self-supervised points.

    Fits joints = points @ A + b on some people and scores it on others. If the error is not well
    below that of the fit set's mean pose, the points do not follow the body. Distances are in the
    unit of the joints, which should be relative to the crop, as the points are.

    Args:
      points_fit, points_test: [N, M, 2].
      joints_fit, joints_test: [N, K, 2].
      visible_fit, visible_test: [N, K], all if None. A joint never visible in the fit set is left
        out.
      ridge: penalty on A, relative to the mean variance of the points.
    """
    joints_fit, joints_test = (np.asarray(j, np.float64) for j in (joints_fit, joints_test))
    x_fit, x_test = (
        np.asarray(p, np.float64).reshape(len(p), -1) for p in (points_fit, points_test)
    )
    mean = mean_pose(joints_fit, visible_fit)
    mask = _mask(joints_fit, visible_fit)
    read = np.full(joints_test.shape, np.nan)
    # Each joint has its own frames to fit on, hence its own solution.
    for k in np.flatnonzero(mask.any(0)):
        seen = mask[:, k]
        center = x_fit[seen].mean(0)
        x = x_fit[seen] - center
        gram = x.T @ x
        # The tiny number keeps points that never move solvable.
        penalty = ridge * np.trace(gram) / len(gram) + np.finfo(float).tiny
        weights = np.linalg.solve(
            gram + penalty * np.eye(len(gram)), x.T @ (joints_fit[seen, k] - mean[k])
        )
        read[:, k] = (x_test - center) @ weights + mean[k]
    scored = _mask(joints_test, visible_test)

    def distance(prediction):
        return _mean(np.linalg.norm(prediction - joints_test, axis=-1)[scored])

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
    """Say in one sentence whether the reconstruction depends on the keypoints.

    Where it does not, a falling reconstruction loss says nothing about the pose. Dead: own >= 0.9
    other; weak: own >= 0.85 other. People whose look the model has never seen may seem dead before
    personalization and come alive with it: compare with training people.

    Args:
      own: reconstruction error with the target's own keypoints.
      other: the same with the keypoints of another frame.
      copy: error of the source picture itself, taken as the reconstruction.
    """
    figures = f"own keypoints {own:.3g}, another frame's {other:.3g}, copying {copy:.3g}"
    if not all(map(math.isfinite, (own, other, copy))):
        return f"Bottleneck unknown: the errors are not all finite ({figures})."
    if own >= DEAD_RATIO * other:
        verdict = "dead: the keypoints hardly matter"
    elif own >= WEAK_RATIO * other:
        verdict = "weak: the keypoints matter a little"
    else:
        verdict = "alive: the reconstruction depends on the keypoints"
    if own >= copy:
        verdict += ", and reconstructing is no better than copying the source"
    return f"Bottleneck {verdict} ({figures})."
