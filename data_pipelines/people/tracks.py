"""People followed through a video: detections joined over time, and the choice of one of them."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from data_pipelines.clips import DataError
from data_pipelines.people.detections import People
from ttp_jax import geometry

REACH = 0.35  # of the region's side that the hips move at most from look to look
LARGER = 1.8  # times as large, or as small, from look to look
PATIENCE = 6  # looks that somebody may be missing, behind something or undetected
LEAST = 3  # looks that somebody must have been seen
SHARE = 0.1  # of the looks, likewise: what is seen less often is a mistake, or a passer-by
# Side of a region by the longer side of a labelled person's box: 1.46 to 1.66 on a real man.
ROOM = 1.55
CHOICES = ("largest", "left", "right")


@dataclasses.dataclass
class Track:
    """One person.

    Attributes:
      looks: numbers of the looks in which the person was seen, ascending.
      regions: [n, 4] then, in picture pixels.
      hips: [n, 2] then.
      scores: [n] then.
    """

    looks: list[int]
    regions: list[np.ndarray]
    hips: list[np.ndarray]
    scores: list[float]

    def expected(self, gap: int) -> np.ndarray:
        """Where the hips (x, y) should be so many looks after the last: as they moved before."""
        if len(self.looks) < 2:
            return self.hips[-1]
        steps = self.looks[-1] - self.looks[-2]
        # Somebody out of sight may have stopped: one look's movement at most.
        return self.hips[-1] + (self.hips[-1] - self.hips[-2]) / steps * min(gap, 1)

    @property
    def side(self) -> float:
        """Median side of the region, in pixels."""
        return float(np.median([region[2] - region[0] for region in self.regions]))

    @property
    def place(self) -> np.ndarray:
        """Median place (x, y) of the hips."""
        return np.median(self.hips, axis=0)


def follow(found: Sequence[People]) -> list[Track]:
    """Join what was found in each look into people, from left to right in the picture.

    The nearest pairs are joined first; nobody jumps or changes in size from look to look.
    """
    tracks: list[Track] = []
    for look, people in enumerate(found):
        pairs = []
        for number, track in enumerate(tracks):
            gap = look - track.looks[-1]
            if gap > PATIENCE:
                continue
            for i in range(len(people)):
                cost = _cost(track, people, i, gap)
                if cost is not None:
                    pairs.append((cost, number, i))
        taken: set[int] = set()
        grown: set[int] = set()
        for _, number, i in sorted(pairs):
            if number not in grown and i not in taken:
                grown.add(number)
                taken.add(i)
                _add(tracks[number], look, people, i)
        for i in range(len(people)):
            if i not in taken:
                tracks.append(Track([], [], [], []))
                _add(tracks[-1], look, people, i)
    least = max(min(LEAST, len(found)), SHARE * len(found))
    kept = [track for track in tracks if len(track.looks) >= least]
    return sorted(kept, key=lambda track: track.place[0])


def _cost(track: Track, people: People, i: int, gap: int) -> float | None:
    """How far a detection is from a track, in sides of the region; None for another person's."""
    side = track.regions[-1][2] - track.regions[-1][0]
    now = people.regions[i, 2] - people.regions[i, 0]
    away = float(np.linalg.norm(people.hips[i] - track.expected(gap))) / side
    if away > REACH * gap or not 1 / LARGER < now / side < LARGER:
        return None
    return away


def _add(track: Track, look: int, people: People, i: int) -> None:
    track.looks.append(look)
    track.regions.append(people.regions[i])
    track.hips.append(people.hips[i])
    track.scores.append(float(people.scores[i]))


def choose(tracks: Sequence[Track], which: str, name: str) -> Track:
    """One of several people.

    Args:
      tracks: from left to right, at least one.
      which: "largest" (in the picture, and seen longest), "left", "right", a number counted from
        1 from the left, or a place "x,y" in pixels where the person stands.
      name: of the clip, for messages.

    Raises DataError for another word, or a number that is too large.
    """
    if which == "largest":
        return max(tracks, key=lambda track: track.side * len(track.looks) ** 0.5)
    if which in ("left", "right"):
        return tracks[0 if which == "left" else -1]
    if re.fullmatch(r"\d+", which):
        if not 1 <= int(which) <= len(tracks):
            raise DataError(f"{name}: --person={which}, but {len(tracks)} people were found.")
        return tracks[int(which) - 1]
    if place := re.fullmatch(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", which):
        point = np.array([float(place[1]), float(place[2])])
        return min(tracks, key=lambda track: float(np.linalg.norm(track.place - point)))
    raise DataError(
        f"--person={which}: expected {', '.join(CHOICES)}, a number from the left, or x,y."
    )


def body_boxes(regions: np.ndarray) -> np.ndarray:
    """Person boxes [n, 4], as data sets have them, from regions around whole bodies [n, 4].

    The crop around such a box (`geometry.box_to_crop`) has the region's centre.
    """
    side = (regions[:, 2:] - regions[:, :2]) / ROOM
    centre = (regions[:, 2:] + regions[:, :2]) / 2
    centre[:, 1] -= geometry.BOX_SHIFT * side[:, 1]
    return np.concatenate([centre - side / 2, centre + side / 2], -1)


def boxes_of(track: Track, places: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Regions [count, 4] of a person in every frame, and in which the person is there [count].

    Args:
      track: the person.
      places: frame indices of the looks, ascending.
      count: T.

    Between looks regions are interpolated; a person who is missing for more than `PATIENCE` looks
    is gone in between, and so before the first look and after the last but for one look's time.
    """
    seen = np.array([places[look] for look in track.looks])
    frames = np.arange(count)
    regions = np.stack(
        [np.interp(frames, seen, column) for column in np.array(track.regions).T], -1
    )
    step = float(np.median(np.diff(places))) if len(places) > 1 else 1.0
    following = np.searchsorted(seen, frames)
    before = np.where(following > 0, seen[np.maximum(following - 1, 0)], -np.inf)
    after = np.where(following < len(seen), seen[np.minimum(following, len(seen) - 1)], np.inf)
    inside = np.isfinite(before) & np.isfinite(after) & (after - before <= PATIENCE * step)
    near = np.minimum(frames - before, after - frames) < step
    return regions, inside | near
