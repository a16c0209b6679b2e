"""Scores of predicted joints with labels: counts within a distance, and distances.

Joints are [T, K, 2] in pixels of the original image, visible is [T, K] (bool or 0/1) and says
which of them are scored. A clip's counts are a `Score`. Scores of clips can be added, so a data set
never has to be held in memory.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.skeletons import Skeleton


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """Counts of correct predictions for each joint.

    Attributes:
      correct: [K] int, visible joints predicted within the threshold.
      total: [K] int, visible joints.
      average: what `mean` averages over with equal weights: "micro" every visible joint of every
        frame, "macro" every joint name.
    """

    correct: np.ndarray
    total: np.ndarray
    average: Literal["micro", "macro"] = "micro"

    @property
    def per_joint(self) -> np.ndarray:
        """Percentage correct [K], NaN if a joint was never visible."""
        percent = np.full(self.total.shape, np.nan)
        return np.divide(100.0 * self.correct, self.total, out=percent, where=self.total > 0)

    @property
    def mean(self) -> float:
        """Percentage correct, NaN if nothing was visible."""
        if self.average == "macro":
            return mean_of(self.per_joint)
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
    """Pool the scores of several clips. As in the published program, long clips weigh more.

    Raises:
      ValueError: there are no scores.
    """
    if not scores:
        raise ValueError("got no scores to merge, expected one per clip.")
    return functools.reduce(operator.add, scores)


def pck(
    predicted: ArrayLike,
    joints: ArrayLike,
    visible: ArrayLike,
    skeleton: Skeleton,
    threshold: float = 0.2,
) -> Score:
    """Count joints within `threshold` torso lengths of the truth (micro average).

    The torso is measured between the frame's true joints, even if they are marked invisible. As in
    the published program, frames without a torso and NaN predictions count as wrong.
    Differs from the paper: section 4.1 says half the torso, but 0.2 gives its Penn table.

    Args:
      predicted: [T, K, 2] in pixels, NaN where there is no prediction.
      joints: [T, K, 2], the truth in pixels.
      visible: [T, K], the joints to score.
      skeleton: skeleton of the joints, which must have a torso.
      threshold: share of the torso length.
    """
    lengths = skeleton.torso_length(np.asarray(joints, np.float64))
    return pck_of(predicted, joints, visible, lengths, threshold)


def pck_of(
    predicted: ArrayLike,
    joints: ArrayLike,
    visible: ArrayLike,
    lengths: ArrayLike,
    threshold: float,
) -> Score:
    """Count joints within `threshold` of the frame's length [T] of the truth (micro average).

    NaN predictions count as wrong, and so do all joints of a frame whose length is 0 or NaN.

    Args:
      predicted: [T, K, 2] in pixels.
      joints: [T, K, 2], the truth in pixels.
      visible: [T, K], the joints to score.
      lengths: [T] in pixels.
      threshold: share of the length.
    """
    relative, visible = _relative(predicted, joints, visible, lengths)
    return _count(relative <= threshold, visible, "micro")


def pck_area(
    predicted: ArrayLike,
    joints: ArrayLike,
    visible: ArrayLike,
    lengths: ArrayLike,
    limit: float = 0.2,
) -> "Errors":
    """Return the area under the curve of PCK over thresholds 0 to `limit`, in percent of all.

    PCK at t is the share of relative errors e up to t, so a joint's part of the area is max(0, 1 -
    e / limit), which is exact. Whatever counts as wrong in `pck_of` adds no area.

    Args:
      predicted: [T, K, 2] in pixels.
      joints: [T, K, 2], the truth in pixels.
      visible: [T, K], the joints to score.
      lengths: [T] in pixels.
      limit: largest threshold, as a share of the length.
    """
    relative, visible = _relative(predicted, joints, visible, lengths)
    area = 100 * np.clip(1 - relative / limit, 0, 1)
    return _errors(area, visible)


def accuracy_px(
    predicted: ArrayLike, joints: ArrayLike, visible: ArrayLike, pixels: float = 6
) -> Score:
    """Count joints within `pixels` of the truth (macro average), the score of BBC Pose.

    As in the published program, predictions and truth are first mapped by p' = (p - 1) / 2 + 1, so
    6 pixels are 12 pixels of the original image. NaN predictions count as wrong.

    Args:
      predicted: [T, K, 2] in pixels of the image.
      joints: [T, K, 2], the truth in the same pixels.
      visible: [T, K], the joints to score.
      pixels: largest distance that counts as correct, after the mapping.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    error = np.linalg.norm(predicted - joints, axis=-1)
    return _count(error / 2 <= pixels, visible, "macro")


class Errors(NamedTuple):
    """Distances to the truth, in pixels or as shares of a length.

    Attributes:
      per_joint: [K], NaN if a joint was never visible.
      mean: mean over all visible joints of all frames (micro average), NaN without any.
      missing: number of visible joints without a prediction (NaN), which are left out of both.
    """

    per_joint: np.ndarray
    mean: float
    missing: int


def rmse(predicted: ArrayLike, joints: ArrayLike, visible: ArrayLike) -> Errors:
    """Return the root of the mean squared distance of visible joints to the truth.

    Args:
      predicted: [T, K, 2] in pixels; NaN predictions are left out.
      joints: [T, K, 2], the truth in pixels.
      visible: [T, K], the joints to score.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    squared = _errors(((predicted - joints) ** 2).sum(-1), visible)
    return Errors(np.sqrt(squared.per_joint), math.sqrt(squared.mean), squared.missing)


def mean_error(
    predicted: ArrayLike, joints: ArrayLike, visible: ArrayLike, lengths: ArrayLike | None = None
) -> Errors:
    """Return the mean distance of visible joints to the truth.

    In pixels, this is what DeepLabCut calls RMSE. For DeepLabCut's error with a p-cutoff, leave out
    predictions of low confidence: `visible & (confidence >= pcutoff)`.

    Args:
      predicted, joints, visible: see the module's docstring.
      lengths: [T], by which each frame's distances are divided, for the normalised mean error.
        Frames whose length is 0 or NaN are left out.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    distance = np.linalg.norm(predicted - joints, axis=-1)
    if lengths is not None:
        lengths = np.broadcast_to(np.asarray(lengths, np.float64)[:, None], distance.shape)
        visible = visible & (lengths > 0)
        distance = np.divide(distance, lengths, out=np.full(distance.shape, np.nan), where=visible)
    return _errors(distance, visible)


def _errors(values: np.ndarray, visible: np.ndarray) -> Errors:
    """Average the finite values [T, K] of visible joints."""
    scored = visible & np.isfinite(values)
    total, count = np.where(scored, values, 0.0).sum(0), scored.sum(0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return Errors(mean, mean_of(values[scored]), int((visible & ~scored).sum()))


def _relative(predicted, joints, visible, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Return relative errors [T, K], as shares of the frames' lengths, and the visible mask.

    Errors are infinite if there is no prediction or no length.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    distance = np.linalg.norm(predicted - joints, axis=-1)
    lengths = np.broadcast_to(np.asarray(lengths, np.float64)[:, None], distance.shape)
    known = (lengths > 0) & np.isfinite(distance)
    relative = np.divide(distance, lengths, out=np.full(distance.shape, np.inf), where=known)
    return relative, visible


def _count(right, visible, average) -> Score:
    return Score((right & visible).sum(0), visible.sum(0), average)


def checked(predicted: ArrayLike, joints: ArrayLike, visible: ArrayLike):
    """Return predicted and true joints as float64, and the mask as bool.

    Args:
      predicted: [T, K, 2].
      joints: [T, K, 2], the truth.
      visible: [T, K], the joints to score.

    Raises:
      ValueError: the shapes don't match.
    """
    predicted, joints = np.asarray(predicted, np.float64), np.asarray(joints, np.float64)
    visible = np.asarray(visible).astype(bool)
    if joints.ndim != 3 or predicted.shape != joints.shape or visible.shape != joints.shape[:2]:
        raise ValueError(
            f"got predicted {predicted.shape}, joints {joints.shape}, visible {visible.shape}; "
            "expected [T, K, 2], [T, K, 2], [T, K] of the same frames and joints."
        )
    return predicted, joints, visible


def mean_of(values) -> float:
    """Return the mean of the finite values, NaN (without a warning) if there are none."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan
