"""The effect of personalization, subject by subject."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.metrics.scores import mean_of


@dataclasses.dataclass(frozen=True, eq=False)
class SubjectTable:
    """The effect of personalization on each video, in percentage points.

    Attributes:
      deltas: [N] after - before, NaN for videos without a score, which are left out below.
      mean: mean of the deltas. Unlike in a merged `Score`, every video has the same weight.
      standard_error: standard error of the mean over videos; NaN for fewer than two.
      worse: share of the videos with a negative delta, 0 to 1.
      interval: 95 % interval of the mean; see `bootstrap_interval`.
    """

    deltas: np.ndarray
    mean: float
    standard_error: float
    worse: float
    interval: tuple[float, float]


def subject_table(before: ArrayLike, after: ArrayLike) -> SubjectTable:
    """Compare the scores [N] of the same N videos before and after personalization.

    Args:
      before: [N] scores without personalization, higher is better.
      after: [N] scores of the same videos with it.

    Raises:
      ValueError: the two arrays differ in length.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if before.ndim != 1 or before.shape != after.shape:
        raise ValueError(
            f"got {before.shape} scores before and {after.shape} after; expected [N] twice, one "
            "score per video, in the same order."
        )
    deltas = after - before
    scored = deltas[np.isfinite(deltas)]
    error = scored.std(ddof=1) / math.sqrt(scored.size) if scored.size > 1 else math.nan
    return SubjectTable(
        deltas=deltas,
        mean=mean_of(scored),
        standard_error=float(error),
        worse=mean_of(scored < 0),
        interval=bootstrap_interval(scored),
    )


def bootstrap_interval(
    deltas: ArrayLike, seed: int = 0, samples: int = 10_000
) -> tuple[float, float]:
    """Return the 95 % interval (percentile bootstrap) of the mean of paired differences [(S,) N].

    Whole videos are drawn, because frames of one video are not independent, and whole trainings if
    there are several (S seeds). Two or three trainings show little of how others would vary, so the
    interval is then too narrow. Videos with a NaN are left out. If none is left, the result is
    (NaN, NaN).

    Args:
      deltas: [N] or [S, N], after - before.
      seed: seed of the draws.
      samples: number of draws.
    """
    deltas = np.atleast_2d(np.asarray(deltas, np.float64))
    deltas = deltas[:, np.isfinite(deltas).all(0)]
    if not deltas.size:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    runs, count = deltas.shape
    ends = np.repeat([count, runs], [count, runs if runs > 1 else 0])  # videos, then trainings
    means = []
    for start in range(0, samples, 100):  # in blocks, because all draws at once need much memory
        drawn = rng.integers(ends, size=(min(100, samples - start), ends.size))
        videos = drawn[:, :count]
        trainings = drawn[:, count:] if runs > 1 else np.zeros((len(drawn), 1), int)
        means.append(deltas[trainings[:, :, None], videos[:, None]].mean((1, 2)))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
