"""Signs, without labels, that personalization did harm. Plain numpy.

A sign is a measure that left the range it had on validation subjects with settings that helped them
(`LIMITS`, docs/notes.md). No sign is no proof: adaptation can do harm and look well.
"""

from typing import NamedTuple

import numpy as np


class Limits(NamedTuple):
    """The ranges, each with room to spare.

    Attributes:
      loss: largest ratio of the held-out reconstruction loss after by that before.
      confidence: smallest and largest ratio of mean confidence after by that before.
      moved: largest mean change of the joints, in sides of the box.
      repeated: largest share of frames that repeat the one before.
    """

    loss: float = 1.1
    confidence: tuple[float, float] = (0.5, 2.0)
    moved: float = 0.2
    repeated: float = 0.5


LIMITS = Limits()
REMEDY = (
    "Lower --config.ttp.learning_rate or --iterations, check that the video shows one person only, "
    "and compare before and after in the report."
)


class Evidence(NamedTuple):
    """What the signs are read from.

    Attributes:
      before: joints [T, K, 2] in picture pixels, without personalization; NaN for unread frames.
      after: likewise, with it.
      confidence: [T, K] before and after.
      boxes: [T, 4] x1, y1, x2, y2 in picture pixels.
      losses: of held-out frames before and after; None where none are held out.
      repeated: number of frames that repeat the one before.
    """

    before: np.ndarray
    after: np.ndarray
    confidence: tuple[np.ndarray, np.ndarray]
    boxes: np.ndarray
    losses: tuple[float, float] | None = None
    repeated: int = 0


def signs(evidence: Evidence, limits: Limits = LIMITS, remedy: str = REMEDY) -> list[str]:
    """Return a sentence for each measure outside its range, the remedy last; none if all is well.

    Args:
      evidence: what was measured before and after personalization.
      limits: the ranges.
      remedy: the sentence on what to do.
    """
    found = []
    if evidence.losses is not None:
        before, after = evidence.losses
        if not after <= limits.loss * before:
            found.append(
                f"The reconstruction of held-out frames got worse: loss {before:.3g} before, "
                f"{after:.3g} after."
            )
    before, after = (_mean(each) for each in evidence.confidence)
    low, high = limits.confidence
    if before > 0 and not low * before <= after <= high * before:
        found.append(
            f"Mean confidence went from {before:.3g} to {after:.3g}; between {low:g} and {high:g} "
            "times as much is usual."
        )
    sides = (evidence.boxes[:, 2:] - evidence.boxes[:, :2]).max(1)
    moved = np.linalg.norm(evidence.after - evidence.before, axis=-1) / sides[:, None]
    change = _mean(moved)
    if change > limits.moved:
        found.append(
            f"The joints moved by {change:.0%} of the box on average; up to {limits.moved:.0%} is "
            "usual."
        )
    frames = len(evidence.before)
    if evidence.repeated > limits.repeated * frames:
        found.append(
            f"{evidence.repeated} of {frames} frames repeat the one before. They count once in "
            "what is learned, so little is learned here."
        )
    return [*found, remedy] if found else []


def _mean(values: np.ndarray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
