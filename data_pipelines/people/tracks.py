"""Tracks of people through a video: joining detections over time, and choosing one person."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from data_pipelines import locate
from data_pipelines.clips import DataError
from data_pipelines.people.detections import People
from ttp_jax.geometry import Places
from ttp_jax.skeletons import BLAZEPOSE33

REACH = 0.35  # largest movement of the hips between examined frames, in sides of the region
LARGER = 1.8  # largest change of size between examined frames, as a factor
# Largest difference, of 255, between the median colours of the clothes of a person who was lost: if
# the person reappears nearby, and if the person reappears elsewhere.
COLOUR, FAR_COLOUR = 25.0, 15.0
PATIENCE = 6  # examined frames for which somebody may be missing (hidden or undetected)
LEAST = 3  # smallest number of examined frames in which somebody must be seen
SHARE = 0.1  # smallest share of examined frames; what is seen less often is an error or passer-by
STEADY = 1.0  # standard deviation of the smoothing in time, in examined frames
# Costs in the choice between turned and upright regions, in units of mean confidence. The first is
# for a change between two examined frames. The second is for left and right joints that swap, and
# is multiplied by how much exchanging them would shorten the mean movement, in region sides.
CHANGE, EXCHANGE = 0.05, 30.0
SIDES = np.array(BLAZEPOSE33.flip_order)[11:] - 11
CHOICES = ("largest", "left", "right")


@dataclasses.dataclass(eq=False)
class Track:
    """One person, as seen in some of the frames that were searched.

    Attributes:
      looks: numbers of the searched frames in which the person was seen, ascending.
      regions: [n, 4], in those frames, in pixels.
      angles: [n], degrees.
      hips: [n, 2], in pixels.
      scores: [n].
      boxes: [n, 4], close around the joints.
      colours: [n, 6], of torso and thighs.
      poses: [n, 2, 22, 2], joints found in the turned and in the upright region.
      sure: [n, 2], mean confidence of the two.
    """

    looks: list[int]
    regions: list[np.ndarray]
    angles: list[float]
    hips: list[np.ndarray]
    scores: list[float]
    boxes: list[np.ndarray]
    colours: list[np.ndarray]
    poses: list[np.ndarray]
    sure: list[np.ndarray]

    def expected(self, gap: int) -> np.ndarray:
        """Predict the hips (x, y) `gap` searched frames after the last one, from their velocity."""
        if len(self.looks) < 2:
            return self.hips[-1]
        steps = self.looks[-1] - self.looks[-2]
        # Somebody out of sight may have stopped, so assume at most the movement of one frame.
        return self.hips[-1] + (self.hips[-1] - self.hips[-2]) / steps * min(gap, 1)

    @property
    def side(self) -> float:
        """Median side of the region, in pixels."""
        return float(np.median([region[2] - region[0] for region in self.regions]))

    @property
    def place(self) -> np.ndarray:
        """Median position (x, y) of the hips."""
        return np.median(self.hips, axis=0)


def follow(found: Sequence[People], stills: bool = False) -> list[Track]:
    """Join the people found in some frames into tracks, from left to right.

    The nearest pairs are joined first, within limits on movement and change of size from frame to
    frame. Somebody who leaves and returns is recognised by size and colours.

    Args:
      found: the people in each frame that was searched, in order.
      stills: whether the frames may be of different scenes. If so, and no frame shows two people,
        all are taken to be one person.
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
                tracks.append(Track(*([] for _ in dataclasses.fields(Track))))
                _add(tracks[-1], look, people, i)
    if stills and all(len(people) <= 1 for people in found):
        tracks = [_everybody(found)] if any(map(len, found)) else []
    tracks = _reunited(tracks)
    least = max(min(LEAST, len(found)), SHARE * len(found))
    kept = [track for track in tracks if len(track.looks) >= least]
    return sorted(kept, key=lambda track: track.place[0])


def _everybody(found: Sequence[People]) -> Track:
    """Return a single track of all people that were seen."""
    track = Track(*([] for _ in dataclasses.fields(Track)))
    for look, people in enumerate(found):
        for i in range(len(people)):
            _add(track, look, people, i)
    return track


def _reunited(tracks: Sequence[Track]) -> list[Track]:
    """Join the tracks of people who were away in between, the most similar ones first."""
    left = list(tracks)
    while True:
        pairs = [(one, other) for one in left for other in left if one.looks[-1] < other.looks[0]]
        costs = [_unlike(*pair) for pair in pairs]
        if not costs or min(costs) >= 1:
            return left
        one, other = pairs[int(np.argmin(costs))]
        for field in dataclasses.fields(Track):
            getattr(one, field.name).extend(getattr(other, field.name))
        left.remove(other)


def _unlike(one: Track, other: Track) -> float:
    """Return how much two tracks differ in size, colours and position; below 1 for one person."""
    if not 1 / LARGER < one.side / other.side < LARGER:
        return np.inf
    away = np.linalg.norm(one.hips[-1] - other.hips[0]) / one.side
    colours = np.abs(np.median(one.colours, 0) - np.median(other.colours, 0)).max()
    colours /= COLOUR if away < 1 else FAR_COLOUR
    if not colours < 1 or (away > 1 and min(len(one.looks), len(other.looks)) < LEAST):
        return np.inf
    return float(colours + min(away, 1.0)) / 2  # prefers people near where somebody was lost


def _cost(track: Track, people: People, i: int, gap: int) -> float | None:
    """Return a detection's distance to a track, in region sides; None if it is another person."""
    side = track.regions[-1][2] - track.regions[-1][0]
    now = people.regions[i, 2] - people.regions[i, 0]
    away = float(np.linalg.norm(people.hips[i] - track.expected(gap))) / side
    if away > REACH * gap or not 1 / LARGER < now / side < LARGER:
        return None
    return away


def _add(track: Track, look: int, people: People, i: int) -> None:
    track.looks.append(look)
    track.regions.append(people.regions[i])
    track.angles.append(float(people.angles[i]))
    track.hips.append(people.hips[i])
    track.scores.append(float(people.scores[i]))
    track.boxes.append(people.boxes[i])
    track.colours.append(people.colours[i])
    track.poses.append(people.poses[i])
    track.sure.append(people.sure[i])


def choose(tracks: Sequence[Track], which: str, name: str) -> Track:
    """Choose one of several people.

    Args:
      tracks: at least one track, from left to right.
      which: "largest" (in the frame, and seen longest), "left", "right", a number counted from 1
        from the left, or a point "x,y" in pixels where the person stands.
      name: name of the clip, for messages.

    Raises DataError for another word, or a number that is too large.
    """
    if which == "largest":
        return max(tracks, key=lambda track: track.side * len(track.looks) ** 0.5)
    if which in ("left", "right"):
        return tracks[0 if which == "left" else -1]
    if re.fullmatch(r"\d+", which):
        if not 1 <= int(which) <= len(tracks):
            raise DataError(
                f"{name}: --person={which}, but only {len(tracks)} people were found: choose 1 to "
                f"{len(tracks)}."
            )
        return tracks[int(which) - 1]
    if place := re.fullmatch(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", which):
        point = np.array([float(place[1]), float(place[2])])
        return min(tracks, key=lambda track: float(np.linalg.norm(track.place - point)))
    raise DataError(
        f"--person={which}: expected {', '.join(CHOICES)}, a number from the left, or x,y."
    )


def places_of(track: Track, looks: Sequence[int], count: int) -> Places:
    """Return where a person is in every frame.

    Positions are smoothed in time, and interpolated between searched frames. A person who is
    missing for more than `PATIENCE` of them, or reappears elsewhere, is absent in between. The
    person is also absent before the first and after the last sighting. Frames closer to a sighting
    than the time between two searches still count as present, where it was. Crops are turned with
    the person or upright, see `_turned`.

    Args:
      track: the person.
      looks: indices of the searched frames, ascending.
      count: T.
    """
    seen = np.array([looks[look] for look in track.looks])
    regions, turn = np.array(track.regions), np.radians(track.angles)[:, None]
    centre, side = (regions[:, :2] + regions[:, 2:]) / 2, (regions[:, 2] - regions[:, 0])[:, None]
    # Angles are smoothed as directions, because 179 and -179 degrees are close.
    hips, waited = np.array(track.hips), np.diff(track.looks)
    moved = np.linalg.norm(np.diff(hips, axis=0), axis=-1) > REACH * waited * side[1:, 0]
    breaks = (waited > PATIENCE) | moved
    ends = np.flatnonzero(breaks) + 1
    turn = np.where(_turned(track)[:, None], turn, 0.0)
    rows = [np.array(track.boxes), centre, side, np.cos(turn), np.sin(turn)]
    parts = np.split(np.concatenate(rows, 1), ends)
    rows = np.concatenate([locate.smoothed(part, STEADY) for part in parts])
    frames = np.arange(count)
    every = np.stack([np.interp(frames, seen, column) for column in rows.T], -1)
    following = np.searchsorted(seen, frames)
    before = np.where(following > 0, seen[np.maximum(following - 1, 0)], -np.inf)
    after = np.where(following < len(seen), seen[np.minimum(following, len(seen) - 1)], np.inf)
    inside = ~np.append(True, np.append(breaks, True))[following]
    # Nobody walked from one sighting to the next across a break: the nearest one counts.
    nearest = (following - (frames - before <= after - frames)).clip(0, len(seen) - 1)
    every = np.where(inside[:, None], every, rows[nearest])
    degrees = np.degrees(np.arctan2(every[:, 8:], every[:, 7:8]))
    crops = np.concatenate([every[:, 4:7], degrees], 1)
    step = float(np.median(np.diff(looks))) if len(looks) > 1 else 1.0
    near = np.minimum(frames - before, after - frames) < step
    return Places(every[:, :4].astype(np.float32), crops.astype(np.float32), inside | near)


def _turned(track: Track) -> np.ndarray:
    """Return whether to turn each region with the body, bool [n].

    This is the sequence with the highest confidence, less the costs `CHANGE` and `EXCHANGE`. If
    somebody leans, the network may mistake the back for the front without losing confidence, but a
    person's left and right don't swap from one moment to the next.
    """
    poses, sure = np.array(track.poses), np.nan_to_num(np.array(track.sure))
    cost, before = -sure[0], []
    for t in range(1, len(poses)):
        side = track.regions[t][2] - track.regions[t][0]
        steps = CHANGE * (1 - np.eye(2))
        for i, j in np.ndindex(2, 2):
            steps[i, j] += EXCHANGE * _exchange(poses[t - 1, i], poses[t, j]) / side
        total = cost[:, None] + steps
        before.append(total.argmin(0))
        cost = total.min(0) - sure[t]
    ways = [int(cost.argmin())]
    for best in reversed(before):
        ways.append(int(best[ways[-1]]))
    return np.array(ways[::-1]) == 0


def _exchange(one: np.ndarray, other: np.ndarray) -> float:
    """Return by how much exchanging left and right brings joints [22, 2] nearer to the previous."""
    apart, crossed = (np.linalg.norm(one - each, axis=-1).mean() for each in (other, other[SIDES]))
    return float(np.nan_to_num(max(apart - crossed, 0.0)))
