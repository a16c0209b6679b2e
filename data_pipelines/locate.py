"""Boxes of one person in a video: found by motion or by OpenCV's detector, or from joints.

Boxes are x1, y1, x2, y2 in pixels; pixel centres are at integers. Finders need no weights file:

  moving: the moving region in front of a still camera.
  people: OpenCV's detector of upright people. It was made for pedestrians, so it misses bent and
    turned poses, and mistakes bystanders, furniture or a leg for the person.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import scipy.ndimage
from tqdm import tqdm

from data_pipelines.clips import Clip, DataError
from data_pipelines.people.detections import overlaps
from ttp_jax import geometry

# Joints -> box. The training boxes of Penn Action are the box of the visible joints, widened by
# 0.10 of its width (height) at either side and cut off at the picture's edge (medians over 18,730
# frames: 0.100 to 0.114). The rendered people's boxes agree: their longer side is 1.20 times that
# of the joints.
MARGIN = 0.1
LEAST_SHARE = 0.05  # a box from joints is no smaller than this share of the picture's longer side
LEAST_SHRINK = 1 / 3  # nor than this share of the box in which its joints were predicted

# Scales of boxes to try, see `placements`. Relative to the labels' boxes, the best scale was 1.25
# for rendered people and 2 for a real person.
SIZES = (1.0, 1.25, 1.5, 1.75, 2.0)
LARGEST = 1.25  # limit of a box, relative to the picture's longer side
FEW = 16

# Frames that a finder examines in a second. In between, a person hardly leaves the box.
LOOKS_A_SECOND = 6.0
REACH = 0.5  # largest movement of a box between examined frames, relative to its longer side
BAR_DELAY = 2.0  # seconds of work before a progress bar shows
USUAL_RATE = 30.0  # frames a second if the input's rate is unknown

# Boxes float64 [n, 4] in a picture's pixels and scores [n], all above 0.
Candidates = tuple[np.ndarray, np.ndarray]
# Pictures uint8 RGB [H, W, 3] in order of time, None for an unreadable one -> candidates of each.
Finder = Callable[[Iterable[np.ndarray | None]], Iterator[Candidates]]
NOBODY: Candidates = (np.empty((0, 4)), np.empty(0))


def boxes_from_joints(
    joints: np.ndarray,
    picture_size: tuple[int, int] | np.ndarray,
    previous: np.ndarray | None = None,
    *,
    margin: float = MARGIN,
    smooth: float = 2.0,
) -> np.ndarray:
    """Return boxes around predicted joints, like the training boxes around labelled ones.

    Frames with less than half of their joints get a box by interpolation, and outliers of one or
    two frames are dropped. Boxes end at the picture's edge, as the training boxes do.

    Args:
      joints: [T, K, 2] in picture pixels; NaN joints are ignored.
      picture_size: height and width, for all frames or [T, 2].
      previous: boxes [T, 4] that the joints were predicted in. A box shrinks at most to a third of
        its previous size in one call, so that predictions which collapse onto a point can't lose
        the person.
      margin: margin at each side, as a share of the joints' width (height).
      smooth: standard deviation of the Gaussian in time, in frames; 0 neither smooths nor drops
        outliers.

    Returns:
      Boxes float32 [T, 4]. `previous`, or whole frames, if no frame has half of its joints.
    """
    count, joint_count = joints.shape[:2]
    sizes = np.broadcast_to(picture_size, (count, 2))
    whole = geometry.whole_box(sizes)
    known = np.isfinite(joints).all(-1, keepdims=True)
    usable = np.flatnonzero(2 * known.sum((1, 2)) >= joint_count)
    if not usable.size:
        return np.array(whole if previous is None else previous, np.float32)
    low = np.where(known, joints, np.inf)[usable].min(1)
    high = np.where(known, joints, -np.inf)[usable].max(1)
    pad = margin * (high - low)
    boxes = between(usable, np.concatenate([low - pad, high + pad], -1), count)
    boxes = smoothed(boxes, smooth).reshape(count, 2, 2).clip(-0.5, whole[:, None, 2:])
    least = LEAST_SHARE * sizes.max(-1)
    if previous is not None:
        least = np.maximum(least, LEAST_SHRINK * (previous[:, 2:] - previous[:, :2]).max(-1))
    centre, half = boxes.mean(1), (boxes[:, 1] - boxes[:, 0]) / 2
    half = np.maximum(half, least[:, None] / 2)
    return np.concatenate([centre - half, centre + half], -1).astype(np.float32)


def find(clip: Clip, how: str) -> np.ndarray | None:
    """Return boxes float64 [T, 4] of the person that a finder follows through a clip.

    Only some frames are searched; boxes in between are interpolated. Returns None if nobody was
    found.

    Args:
      clip: the video.
      how: key of `FINDERS`.

    Raises:
      DataError: this build of OpenCV lacks what the finder needs.
    """
    places = looks(clip)
    bar = tqdm(places, desc=f"looking for the person in {clip.name}", delay=BAR_DELAY)
    return follow(list(FINDERS[how](map(clip.read_or_none, bar))), places, clip.num_frames)


def looks(clip: Clip) -> list[int]:
    """Return the frames to search: a few of each second, including the first and the last."""
    step = max(1, round((clip.frames_per_second or USUAL_RATE) / LOOKS_A_SECOND))
    step = min(step, max(1, (clip.num_frames - 1) // 2))  # at least three frames are examined
    return sorted({*range(0, clip.num_frames, step), clip.num_frames - 1})


def follow(
    candidates: Sequence[Candidates], places: Sequence[int], count: int
) -> np.ndarray | None:
    """Return boxes float64 [count, 4] of one person, from candidates in the frames at `places`.

    Args:
      candidates: boxes in each frame that was searched.
      places: indices of these frames, ascending.
      count: frames of the whole clip.
    """
    found = _one_person(candidates)
    if not found:
        return None
    sampled = between(list(found), np.array(list(found.values())), len(places))
    return between(places, smoothed(sampled, 1.0), count)


def placements(boxes: np.ndarray, whole: np.ndarray, found: bool) -> dict[str, np.ndarray]:
    """Return boxes [T, 4] at several scales, by names that a user understands.

    Args:
      boxes: [T, 4].
      whole: the whole frames as boxes [T, 4], which limit the scales: larger boxes are mostly
        black, and a network that was only trained on people sees a person even there.
      found: whether `boxes` may be wrong; if so, the region that they cover and the whole frames
        are tried, too.
    """
    places = {"box": boxes}
    if found:
        region = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        places |= {"region of all boxes": np.tile(region, (len(boxes), 1)), "picture": whole}
    most = LARGEST * (whole[:, 2:] - whole[:, :2]).max()
    tried = {}
    for name, place in places.items():
        centre, half = (place[:, :2] + place[:, 2:]) / 2, (place[:, 2:] - place[:, :2]) / 2
        for size in SIZES:
            if size == 1 or 2 * size * half.max() <= most:
                scaled = np.concatenate([centre - size * half, centre + size * half], -1)
                scale = "" if size == 1 else f"{size:g} times "
                tried[f"{scale}the {name}"] = scaled.astype(np.float32)
    return tried


def few(count: int) -> np.ndarray:
    """Return the frames of a clip on which `placements` are tried."""
    return np.unique(np.linspace(0, count - 1, FEW + 2).astype(int)[1:-1])


def between(places: Sequence[int] | np.ndarray, boxes: np.ndarray, count: int) -> np.ndarray:
    """Interpolate boxes linearly to [count, 4]; constant before the first and after the last.

    Args:
      places: [n], indices of frames, ascending.
      boxes: [n, 4] in pixels.
      count: frames of the whole clip.
    """
    frames = np.arange(count)
    return np.stack([np.interp(frames, places, column) for column in boxes.T], -1)


def smoothed(boxes: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth boxes [T, n] in time: a median of 5 rows against outliers, then a Gaussian.

    Args:
      boxes: [T, n].
      sigma: standard deviation of the Gaussian, in rows.
    """
    if sigma <= 0:
        return boxes
    steady = scipy.ndimage.median_filter(boxes, size=(5, 1), mode="nearest")
    return scipy.ndimage.gaussian_filter1d(steady, sigma, axis=0, mode="nearest")


def _one_person(candidates: Sequence[Candidates]) -> dict[int, np.ndarray]:
    """Choose a box from each list of candidates, going both ways from the best of all.

    Scores are multiplied by the longer side of the box, because the person who is filmed is in
    front. Each choice is at most `REACH` per list away from the previous one. It scores higher the
    more it overlaps with that, so that bystanders aren't taken for the person. Returns the boxes by
    the number of their list, without lists in which nothing fits.
    """
    candidates = [
        (boxes, scores * (boxes[:, 2:] - boxes[:, :2]).max(-1)) for boxes, scores in candidates
    ]
    numbers = [i for i, (boxes, _) in enumerate(candidates) if len(boxes)]
    if not numbers:
        return {}
    start = max(numbers, key=lambda i: candidates[i][1].max())
    chosen = {start: candidates[start][0][candidates[start][1].argmax()]}
    after = [i for i in numbers if i > start]
    before = [i for i in reversed(numbers) if i < start]
    for walk in (after, before):
        last, seen = chosen[start], start
        for i in walk:
            boxes, scores = candidates[i]
            away = np.abs((boxes - last).reshape(-1, 2, 2).mean(1)).max(-1)
            near = away <= abs(i - seen) * REACH * (last[2:] - last[:2]).max()
            if near.any():
                last = boxes[np.argmax(near * scores * (0.1 + overlaps(last, boxes)))]
                chosen[i], seen = last, i
    return dict(sorted(chosen.items()))


# ---------------------------------------------------------------------------------------------
# Finders


def people(pictures: Iterable[np.ndarray | None]) -> Iterator[Candidates]:
    """Find people in each frame with OpenCV's pedestrian detector (a `Finder`).

    Raises:
      DataError: this build of OpenCV lacks it.
    """
    if not hasattr(cv2, "HOGDescriptor"):
        raise DataError(
            'boxes "people" needs the people detector, which OpenCV 5 lacks: run pip install '
            '"opencv-python-headless>=4.11,<5", or give a region or a file of boxes.'
        )
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
    for picture in pictures:
        yield NOBODY if picture is None else _pedestrians(hog, picture)


def _pedestrians(hog, picture: np.ndarray) -> Candidates:
    shrink = min(1.0, 640 / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    if small.shape[0] < 128 or small.shape[1] < 64:  # OpenCV crashes below its window size
        return NOBODY
    found, scores = hog.detectMultiScale(small, winStride=(8, 8), padding=(16, 16), scale=1.05)
    found = np.reshape(found, (-1, 4)).astype(np.float64)
    # The detector's window is 128 pixels high, with a person of 96 pixels in it.
    corner, side = found[:, :2] + found[:, 2:] / 8, found[:, 2:] * 0.75
    boxes = np.concatenate([corner, corner + side], -1) / shrink - 0.5
    return boxes, np.reshape(scores, -1)


# Settings of `moving`, chosen on a real video and on rendered people. Similar values work as well.
SMALL = 320  # longer side in pixels of the shrunk pictures that are compared
CHANGED = 15  # threshold in one colour, of 255: above the noise of a shrunk and blurred picture
JOINED = 31  # width in shrunk pixels of the brush that joins the moving parts of a body
TAIL = 0.03  # share of the moving pixels that is left out at each side: noise, shadows
LEAST = 0.0005  # share of the picture; fewer moving pixels are noise, or a person who stands still
MOST = 0.2  # share of the picture; with more, the camera moves or the person fills the picture


def moving(pictures: Iterable[np.ndarray | None]) -> Iterator[Candidates]:
    """Find moving regions in front of a still camera, scored by their size (a `Finder`).

    A pixel moves if it differs from both the frame before and the frame after. If it differs from
    only one of them, it is background that was just uncovered or is about to be covered. If more
    than `MOST` of a frame moves, the candidate is the whole frame.
    """
    before = here = None
    for after in itertools.chain(map(_small, pictures), [None]):
        if here is not None:
            yield _moving_regions(before, here, after)
        before, here = here, after


class _Small(NamedTuple):
    """A shrunk and blurred frame, uint8 [h, w, 3], and its scale relative to the original."""

    pixels: np.ndarray
    scale: float


def _small(picture: np.ndarray | None) -> _Small:
    """Shrink and blur a frame; an unreadable one (None) becomes empty."""
    if picture is None:
        return _Small(np.empty((0, 0, 3), np.uint8), 1.0)
    scale = min(1.0, SMALL / max(picture.shape[:2]))
    pixels = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return _Small(cv2.GaussianBlur(pixels, (0, 0), 1.0), scale)


def _moving_regions(before: _Small | None, here: _Small, after: _Small | None) -> Candidates:
    if not (before and after and here.pixels.size):
        return NOBODY
    if not before.pixels.shape == here.pixels.shape == after.pixels.shape:
        return NOBODY
    changes = [cv2.absdiff(here.pixels, other.pixels).max(-1) for other in (before, after)]
    moves = np.minimum(*changes) > CHANGED
    height, width = moves.shape
    if moves.mean() > MOST:
        regions = [(np.array([0, 0, width, height]), moves.sum())]
    else:
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (JOINED, JOINED))
        count, labels = cv2.connectedComponents(cv2.dilate(moves.astype(np.uint8), brush))
        found = [moves & (labels == label) for label in range(1, count)]
        regions = [(_enclose(own), own.sum()) for own in found if own.mean() > LEAST]
    if not regions:
        return NOBODY
    boxes, scores = (np.array(column, np.float64) for column in zip(*regions, strict=True))
    return boxes / here.scale - 0.5, scores


def _enclose(moves: np.ndarray) -> np.ndarray:
    """Return the box [4] of the moving pixels of [h, w], without the `TAIL` at each side."""
    low, high = [], []
    for axis in (0, 1):
        share = np.cumsum(moves.sum(axis)) / moves.sum()
        low.append(np.searchsorted(share, TAIL))
        high.append(np.searchsorted(share, 1 - TAIL) + 1)
    return np.array(low + high)


# To add a finder, add an entry.
FINDERS: dict[str, Finder] = {"moving": moving, "people": people}
