"""Signs, without labels, that personalization did harm. Plain numpy.

A sign is a measure outside of its range (`LIMITS`), which comes from validation subjects with
settings that helped them (docs/notes.md). The absence of signs proves nothing: an adaptation can do
harm and look good.
"""

from typing import NamedTuple

import numpy as np

from ttp_jax.metrics.scores import mean_of


class Limits(NamedTuple):
    """The ranges, each with room to spare.

    Attributes:
      loss: largest ratio of the held-out reconstruction loss, after to before.
      confidence: smallest and largest ratio of mean confidence, after to before.
      moved: largest mean change of the joints, in box sides.
      exchanged: largest share of frames in which left and right are exchanged.
      repeated: largest share of frames that repeat the one before.
      jump: largest change of the image from one frame to the next, relative to the median change.
      lasting: a larger jump only counts if the parts before and after it differ by more than this
        many times the differences within them.
    """

    loss: float = 1.1
    confidence: tuple[float, float] = (0.5, 2.0)
    moved: float = 0.2
    exchanged: float = 0.5
    repeated: float = 0.5
    jump: float = 8.0
    lasting: float = 2.5


LIMITS = Limits()
GRID, EACH = 8, 4  # parts along each side of an image, and sampled pixels along each part's side
SHORTEST = 3  # fewest frames before and after a cut
NOISE = 0.2  # grey levels, of 255, below which nothing counts as a change
REMEDY = (
    "Lower --config.ttp.learning_rate or --iterations, check that the video shows one person only, "
    "and compare before and after in the report."
)
NOTHING_ADAPTS = "Check that the video is intact and shows the right person only."  # a remedy, too


class Evidence(NamedTuple):
    """The measurements from which signs are derived.

    Attributes:
      before: joints [T, K, 2] in image pixels before personalization; NaN for unreadable frames.
      after: likewise, after it.
      confidence: [T, K] before and after.
      boxes: [T, 4] x1, y1, x2, y2 in image pixels.
      losses: losses of held-out frames before and after; None if none are held out.
      repeated: number of frames that repeat the one before.
      looks: results of `look` for all frames, [T, n]; None if unknown.
      pairs: indices of left joints and their partners on the right.
      numbers: numbers [T] of the frames in the whole video; None if they count from 0.
      adapts: whether a model adapted to these frames; False for a kept model and for method "none".
    """

    before: np.ndarray
    after: np.ndarray
    confidence: tuple[np.ndarray, np.ndarray]
    boxes: np.ndarray
    losses: tuple[float, float] | None = None
    repeated: int = 0
    looks: np.ndarray | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    numbers: np.ndarray | None = None
    adapts: bool = True


def look(picture: np.ndarray) -> np.ndarray:
    """Return the mean colours of 8 x 8 parts of an image, float32 [192], which reveal a cut.

    Args:
      picture: uint8 RGB [H, W, 3] of the person and the surroundings.
    """
    places = [
        np.linspace(0, side - 1, GRID * EACH).round().astype(int) for side in picture.shape[:2]
    ]
    some = picture[np.ix_(*places)].reshape(GRID, EACH, GRID, EACH, 3)
    return some.mean((1, 3), dtype=np.float32).ravel()


def cut_at(looks: np.ndarray, limits: Limits = LIMITS) -> int | None:
    """Return the frame from which images look different for good; None if there is none.

    Args:
      looks: results of `look` for all frames in order, [T, n].
      limits: the ranges, of which `jump` and `lasting` are used.
    """
    if len(looks) < 2 * SHORTEST:
        return None
    steps = np.abs(np.diff(looks, axis=0)).mean(1)
    place = SHORTEST + int(steps[SHORTEST - 1 : len(steps) - SHORTEST + 1].argmax())
    parts = looks[:place], looks[place:]
    apart = np.abs(parts[0].mean(0) - parts[1].mean(0)).mean()
    within = np.mean([np.abs(part - part.mean(0)).mean() for part in parts])
    moving = steps[steps > 0]  # so that frozen frames don't make any change look large
    jump = steps[place - 1] / max(np.median(moving) if len(moving) else 0, NOISE)
    return place if jump > limits.jump and apart > limits.lasting * max(within, NOISE) else None


def exchanged(before: np.ndarray, after: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> float:
    """Return the share of frames in which left and right were exchanged.

    In such a frame, the paired joints are, in total, nearer to where their partners were before
    than to where they were themselves.

    Args:
      before: joints [T, K, 2] in pixels; NaN for unreadable frames, which don't count.
      after: likewise.
      pairs: indices of left joints and their partners on the right.
    """
    if not pairs:
        return 0.0
    then, now = (joints[:, np.array(pairs)] for joints in (before, after))  # [T, pairs, side, 2]
    own = np.linalg.norm(now - then, axis=-1).sum((1, 2))
    others = np.linalg.norm(now - then[:, :, ::-1], axis=-1).sum((1, 2))
    known = np.isfinite(own)
    return float((others < own)[known].mean()) if known.any() else 0.0


def signs(evidence: Evidence, limits: Limits = LIMITS, remedy: str = REMEDY) -> list[str]:
    """Return a sentence for each measure outside its range, the remedy last; none if all is well.

    Args:
      evidence: the measurements before and after personalization.
      limits: the ranges.
      remedy: the sentence on what to do, if the run adapted a model.
    """
    found = []
    if evidence.losses is not None:
        before, after = evidence.losses
        if not after <= limits.loss * before:
            found.append(
                f"The reconstruction of held-out frames got worse: loss {before:.3g} before, "
                f"{after:.3g} after."
            )
    before, after = (mean_of(each) for each in evidence.confidence)
    low, high = limits.confidence
    if before > 0 and not low * before <= after <= high * before:
        found.append(
            f"Mean confidence went from {before:.3g} to {after:.3g}; the usual change is "
            f"{low:g} to {high:g} times."
        )
    sides = (evidence.boxes[:, 2:] - evidence.boxes[:, :2]).max(1)
    moved = np.linalg.norm(evidence.after - evidence.before, axis=-1) / sides[:, None]
    change = mean_of(moved)
    if change > limits.moved:
        found.append(
            f"The joints moved by {change:.0%} of the box on average; up to {limits.moved:.0%} is "
            "usual."
        )
    share = exchanged(evidence.before, evidence.after, evidence.pairs)
    if share > limits.exchanged:
        found.append(
            f"Left and right swapped in {share:.0%} of the frames: check whether before or after "
            "is right."
        )
    frames = len(evidence.before)
    if evidence.repeated > limits.repeated * frames:
        few = " A repeated frame counts once, so the model adapts to few frames here."
        found.append(
            f"{evidence.repeated} of {frames} frames repeat the one before." + few * evidence.adapts
        )
    cut = None if evidence.looks is None else cut_at(evidence.looks, limits)
    if cut is not None:
        numbers = evidence.numbers
        where = f"{cut} of {frames}" if numbers is None else f"{numbers[cut]} of the video"
        found.append(
            f"The pictures change permanently at frame {where}, as at a cut or when "
            "another person appears: if so, personalize the two parts separately."
        )
    return [*found, remedy if evidence.adapts else NOTHING_ADAPTS] if found else []
