"""Decoding of BlazePose's person detector: anchors, boxes, non-maximum suppression, regions.

It follows MediaPipe's graph `pose_detection_cpu` (Apache-2.0). A detection is the box of a face
with four points. Two of them, the middle of the hips and a point on the circle around the whole
body, give the region of the body.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

SIZE = 224  # pixels of the network's input
STRIDES = ((8, 2), (16, 2), (32, 6))  # side of a cell in pixels, and number of anchors in a cell
LEAST_SCORE = 0.5
OVERLAP = 0.3  # detections with at least this intersection over union are one person
ROOM = 1.25  # size of the region relative to the circle around the body
# Side of a region relative to the longer side of a labelled person's box; 1.46 to 1.66 was measured
# on a real person.
LARGER = 1.55
ONE_PERSON = 0.4  # regions with at least this overlap are of one person
NEARLY_SQUARE = 1.2  # pictures with an aspect ratio up to this are only searched as a whole
See = Callable[[np.ndarray], tuple]  # uint8 [n, 224, 224, 3] -> values [n, 2254, 12], logits


@dataclasses.dataclass(frozen=True, eq=False)
class People:
    """The people found in a frame, the most certain first.

    Attributes:
      regions: float64 [n, 4], x1, y1, x2, y2 in picture pixels, squares around whole bodies.
      angles: float64 [n], degrees by which the body is turned clockwise from upright.
      hips: float64 [n, 2], middles of the hips.
      scores: float64 [n], 0 to 1.
      boxes: float64 [n, 4], close around the joints, like those of data sets.
      colours: float64 [n, 6], median RGB of torso and thighs; NaN if they weren't measured.
      poses: float64 [n, 2, 22, 2], the joints below the head, as the landmark network finds them in
        the region turned with the body and in the upright one; NaN before it has run.
      sure: float64 [n, 2], mean confidence of the two poses.
    """

    regions: np.ndarray
    angles: np.ndarray
    hips: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    colours: np.ndarray
    poses: np.ndarray
    sure: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


NOBODY = People(
    *(np.empty((0, *shape)) for shape in ((4,), (), (2,), (), (4,), (6,), (2, 22, 2), (2,)))
)


def some(people: People, which: Sequence[int]) -> People:
    """Return some of the people, in this order."""
    fields = dataclasses.fields(people)
    return People(*(getattr(people, field.name)[list(which)] for field in fields))


def joined(one: People, other: People) -> People:
    """Concatenate two records of people."""
    names = [field.name for field in dataclasses.fields(one)]
    return People(*(np.concatenate([getattr(one, k), getattr(other, k)]) for k in names))


def body_boxes(regions: np.ndarray) -> np.ndarray:
    """Return boxes [n, 4] in the centres of regions, about as large as boxes around the joints."""
    centre = (regions[:, 2:] + regions[:, :2]) / 2
    half = (regions[:, 2:] - regions[:, :2]) / 2 / LARGER
    return np.concatenate([centre - half, centre + half], -1)


def letterbox(picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Fit a picture [H, W, 3] into the network's input, with black borders.

    Returns the input, its scale relative to the picture, and the picture's corner (x, y) in it.
    """
    height, width = picture.shape[:2]
    scale = SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, size, interpolation=how)
    left, top = (SIZE - size[0]) // 2, (SIZE - size[1]) // 2
    canvas = np.zeros((SIZE, SIZE, 3), np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas, scale, np.array([left, top], np.float64)


@functools.cache
def anchors() -> np.ndarray:
    """Return the centres [2254, 2] of the anchors in input pixels, row by row, cell by cell."""
    found = []
    for stride, count in STRIDES:
        cells = SIZE // stride
        y, x = np.divmod(np.arange(cells**2), cells)
        centres = (np.stack([x, y], -1) + 0.5) * stride
        found.append(np.repeat(centres, count, 0))
    return np.concatenate(found)


def detect(see: See, picture: np.ndarray) -> People:
    """Find the people in a picture uint8 RGB [H, W, 3]."""
    canvas, scale, corner = letterbox(picture)
    values, logits = (np.asarray(part[0], np.float64) for part in see(canvas[None]))
    scores = 1 / (1 + np.exp(-logits))
    likely = scores >= LEAST_SCORE
    if not likely.any():
        return NOBODY
    kept, scores = _merged(_decoded(values[likely], anchors()[likely]), scores[likely])
    # Pixel centres are at integers in the picture.
    points = (kept[:, 4:].reshape(-1, 4, 2) - corner) / scale - 0.5
    hips, around = points[:, 0], points[:, 1]
    half = ROOM * np.linalg.norm(around - hips, axis=-1)
    away = around - hips
    angles = np.degrees(np.arctan2(away[:, 0], -away[:, 1]))
    regions = np.concatenate([hips - half[:, None], hips + half[:, None]], -1)
    unseen = (np.full((len(scores), *shape), np.nan) for shape in ((6,), (2, 22, 2), (2,)))
    return People(regions, angles, hips, scores, body_boxes(regions), *unseen)


def search(see: See, picture: np.ndarray, closely: bool = False) -> People:
    """Find people in a whole picture and in square parts of it, in which they appear larger.

    The network was made for people near the camera. It misses a person of only a fifth of the
    picture's height. `closely` searches squares of half the size, which takes many calls.
    """
    found = detect(see, picture)
    for x, y, side in squares(picture.shape[:2], closely):
        part = detect(see, picture[y : y + side, x : x + side])
        corner = np.array([x, y])
        twice = np.tile(corner, 2)
        part = dataclasses.replace(
            part,
            regions=part.regions + twice,
            hips=part.hips + corner,
            boxes=part.boxes + twice,
        )
        found = joined(found, part)
    kept: list[int] = []
    for i in np.argsort(-found.scores, kind="stable"):
        if not kept or overlaps(found.regions[i], found.regions[kept]).max() < ONE_PERSON:
            kept.append(int(i))
    return some(found, kept)


def squares(size: tuple[int, int], closely: bool = False) -> list[tuple[int, int, int]]:
    """Return overlapping squares x, y, side that cover a picture of this height and width.

    Their side is the shorter side of the picture, or half of it. Returns none if one square covers
    the picture.
    """
    height, width = size
    side = max(1, min(size) // 2 if closely else min(size))
    corners = []
    for length in (height, width):
        count = 1 if length < NEARLY_SQUARE * side else int(np.ceil(2 * length / side)) - 1
        corners.append(np.linspace(0, length - side, count).astype(int))
    found = [(int(x), int(y), side) for y in corners[0] for x in corners[1]]
    return found if len(found) > 1 else []


def _decoded(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Decode boxes x1, y1, x2, y2 and four points [n, 12] in pixels of the input."""
    middle, size = values[:, :2] + centres, values[:, 2:4]
    points = (values[:, 4:].reshape(-1, 4, 2) + centres[:, None]).reshape(-1, 8)
    return np.concatenate([middle - size / 2, middle + size / 2, points], -1)


def _merged(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge overlapping detections into their mean, weighted by score."""
    kept, best = [], []
    left = np.argsort(-scores, kind="stable")
    while left.size:
        alike = overlaps(rows[left[0], :4], rows[left, :4]) > OVERLAP
        alike[0] = True
        group = left[alike]
        kept.append(np.average(rows[group], axis=0, weights=scores[group]))
        best.append(scores[left[0]])
        left = left[~alike]
    return np.array(kept), np.array(best)


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union [n] of a box [4] with boxes [n, 4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = (high - low).clip(0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return common / np.maximum(areas + (box[2:] - box[:2]).prod() - common, 1e-12)
