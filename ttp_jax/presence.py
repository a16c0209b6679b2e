"""Whether a person was found: do the joints lie on the moving region, and move with it?

Plain numpy, without labels. A skeleton that stands still beside the person is steady, keeps its
limb lengths and never swaps sides, so it looks good by every measure without labels. Therefore this
is checked first.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

MARGIN = 0.15  # margin around a region, as a share of its side: hands and feet are often still
LEAST_INSIDE = 0.5  # share of the joints that must lie inside the region
LEAST_COVERED = 0.8  # or share of the region that the pose must cover, if only an arm moves
LEAST_MOTION_RATIO = 0.25  # motion of the joints relative to the region; labels have 0.8 to 1.5
LAG = 15  # frames over which motion is measured, so that jitter doesn't count as motion
LEAST_MOTION = 0.05  # share of its longer side that a region must move to judge motion
ALIKE = 1.3  # largest ratio of the sizes of two regions that show the same part of the body
WHOLE = 0.8  # share of the image's area; a larger region locates nobody
FEWEST = 3  # fewest frames to judge by
MOVING = "moving region"
NOWHERE = "nowhere"  # the region of a video in which no finder saw anybody


@dataclasses.dataclass(frozen=True)
class Presence:
    """Whether a person was found.

    Attributes:
      found: whether a person was found; None if this could not be checked.
      inside: share 0..1 of the joints that lie inside the region, NaN without a region.
      covered: share 0..1 of the region that the pose covers, likewise.
      motion: motion of the joints inside the region relative to that of its edges: about 1 for a
        person, 0 for a skeleton that stands still, NaN if the region hardly moves.
      frames: number of frames that were judged.
      region: what the region is: "moving region", "given box" or "detected box";
        `NOWHERE` if a finder looked for the person and found nobody.
    """

    found: bool | None
    inside: float
    covered: float
    motion: float
    frames: int
    region: str = MOVING

    @property
    def words(self) -> str:
        """The finding and its reasons."""
        if self.region == NOWHERE:
            return (
                "No person was found in the video, so the whole frame is used as the person's box. "
                "If the person is small in it, give --config.data.boxes a region or a file of "
                "boxes."
            )
        if self.found is None:
            return (
                "Whether a person was found could not be checked: too few frames have joints and "
                f"a {self.region}."
            )
        facts = f"{self.inside:.0%} of the joints lie inside the {self.region}"
        if np.isfinite(self.motion):
            facts += f", and move {self.motion:.1f} times as much as it does"
        else:
            facts += ", which moves too little to compare motion"
        if self.found:
            return f"Person found: {facts}."
        # Boxes of a detector or the user show a person; whether the moving region does is unknown.
        moving = self.region == MOVING
        return f"{'No person found' if moving else 'The pose misses the person'}: {facts}."

    def to_dict(self) -> dict:
        """Return the attributes for JSON, with None for NaN, and the words."""
        values = {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in dataclasses.asdict(self).items()
        }
        return {**values, "words": self.words}


def measure(
    joints: ArrayLike,
    region: ArrayLike,
    *,
    picture_size: tuple[int, int] | None = None,
    given: bool = False,
    name: str = "",
) -> Presence:
    """Judge whether joints lie on the moving region, and move with it.

    A person counts as found if half of the joints lie inside the region (or the pose covers it, if
    little of the body moves), and if they move at least a quarter as much as it does.

    Args:
      joints: [T, K, 2] in image pixels; NaN if missing.
      region: the moving region's boxes [T, 4], x1, y1, x2, y2 in image pixels, NaN if nothing moves
        (`data_pipelines.locate.find`); or one box [4].
      picture_size: height and width; frames in which the region nearly fills the image are left
        out, because it then locates nobody.
      given: whether the region comes from the user, who knows that the person is there, or from a
        person detector.
      name: what the region is, in words.

    Raises:
      ValueError: the arrays have other shapes.
    """
    joints, region = np.asarray(joints, np.float64), np.asarray(region, np.float64)
    if joints.ndim != 3 or joints.shape[-1] != 2 or region.shape not in ((len(joints), 4), (4,)):
        raise ValueError(
            f"got joints {joints.shape} and region {region.shape}, expected [T, K, 2] and [T, 4]."
        )
    region = np.broadcast_to(region, (len(joints), 4))
    known = np.isfinite(joints).all(axis=-1)
    judged = np.asarray(np.isfinite(region).all(-1)) & (known.sum(1) > 0)
    if picture_size is not None and not given:
        height, width = picture_size
        judged &= _area(region) < WHOLE * height * width
    joints, region, known = joints[judged], region[judged], np.asarray(known)[judged]
    name = name or ("given box" if given else MOVING)
    count = int(judged.sum())
    if count < min(FEWEST, max(1, len(judged))):
        return Presence(None, np.nan, np.nan, np.nan, count, name)
    within = _within(joints, region) & known
    inside = float((within.sum(1) / known.sum(1)).mean())
    covered = float(_covered(joints, region).mean())
    motion = _motion_ratio(joints, region, within, np.flatnonzero(judged))
    there = inside >= LEAST_INSIDE or covered >= LEAST_COVERED
    found = there and not motion < LEAST_MOTION_RATIO
    return Presence(found, inside, covered, motion, count, name)


def nowhere() -> Presence:
    """Return the finding for a video in which no finder saw anybody; joints can't be checked."""
    return Presence(None, np.nan, np.nan, np.nan, 0, NOWHERE)


def _area(boxes) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)


def _within(joints, region) -> np.ndarray:
    """Return which joints [T, K] lie inside the widened region; False for NaN."""
    room = MARGIN * (region[:, 2:] - region[:, :2])
    low, high = region[:, :2] - room, region[:, 2:] + room
    return ((joints >= low[:, None]) & (joints <= high[:, None])).all(-1)


def _covered(joints, region) -> np.ndarray:
    """Return the share [T] of the region that lies in the widened box of the joints."""
    low, high = np.nanmin(joints, 1), np.nanmax(joints, 1)
    room = MARGIN * (high - low)
    low, high = low - room, high + room
    low, high = np.maximum(low, region[:, :2]), np.minimum(high, region[:, 2:])
    return (high - low).clip(0).prod(-1) / np.maximum(_area(region), np.finfo(float).tiny)


def _motion_ratio(joints, region, within, frames) -> float:
    """Return the joints' motion relative to that of the region's edges, NaN if these are still.

    Motion is the root mean square of displacements over `lag` frames, minus that over one frame:
    jitter is as large over one frame as over many, so it cancels. Only joints that lie inside the
    region in both frames count (if an arm moves, the arm's), and only pairs of frames in which the
    region has about the same size, and so shows the same part of the body.
    """
    lag = min(LAG, len(joints) // 4)
    if lag < 3:
        return float("nan")
    joint, edge = (_motion(joints, region, within, frames, step) for step in (lag, 1))
    longer = np.median((region[:, 2:] - region[:, :2]).max(-1))
    of_joints, of_region = (max(0.0, far - near) for far, near in zip(joint, edge, strict=True))
    if not of_region > (LEAST_MOTION * longer) ** 2:
        return float("nan")
    return float(np.sqrt(of_joints / of_region))


def _motion(joints, region, within, frames, lag) -> tuple[float, float]:
    """Return mean squared displacements over `lag` frames, of joints and of the region's edges."""
    a, b = slice(None, -lag), slice(lag, None)
    side = region[:, 2:] - region[:, :2]
    ratio = side[b] / np.maximum(side[a], np.finfo(float).tiny)
    both = within[a] & within[b]
    use = (np.abs(np.log(np.maximum(ratio, 1e-9))) <= np.log(ALIKE)).all(-1) & both.any(1)
    use &= frames[b] - frames[a] <= 2 * lag
    if use.sum() < FEWEST:
        return np.nan, np.nan
    squared = np.where(both, ((joints[b] - joints[a]) ** 2).sum(-1), 0)[use]
    edges = ((region[b] - region[a]) ** 2)[use].mean() * 2  # like the motion of a corner
    return float((squared.sum(1) / both[use].sum(1)).mean()), float(edges)
