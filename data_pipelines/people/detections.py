"""What BlazePose's detector says of a picture: anchors, boxes, non-maximum suppression, regions.

After MediaPipe's graph `pose_detection_cpu` (Apache-2.0). A detection is a face's box with four
points; the body's region follows from two of them, the middle of the hips and a point on the circle
around the whole body.
"""

import dataclasses
import functools
from collections.abc import Callable

import cv2
import numpy as np

SIZE = 224  # pixels of the network's input
STRIDES = ((8, 2), (16, 2), (32, 6))  # cells of so many pixels, with so many anchors each
LEAST_SCORE = 0.5
OVERLAP = 0.3  # intersection over union from which on two detections are of one person
ROOM = 1.25  # of the region by the circle around the body
See = Callable[[np.ndarray], tuple]  # uint8 [n, 224, 224, 3] -> values [n, 2254, 12], logits


@dataclasses.dataclass(frozen=True, eq=False)
class People:
    """Those that were found in a picture, the most certain first.

    Attributes:
      regions: float64 [n, 4], x1, y1, x2, y2 in picture pixels, squares around whole bodies.
      angles: float64 [n], degrees by which the body is turned clockwise from upright.
      hips: float64 [n, 2] middles of the hips.
      scores: float64 [n], 0 to 1.
    """

    regions: np.ndarray
    angles: np.ndarray
    hips: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


NOBODY = People(np.empty((0, 4)), np.empty(0), np.empty((0, 2)), np.empty(0))


def letterbox(picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Fit a picture [H, W, 3] into the network's input, black around it.

    Returns the input, its size by that of the picture, and its corner (x, y) in it.
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
    """Centres [2254, 2] of the anchors in pixels of the input: row by row, a cell's together."""
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
    # Pixel centres lie at integers on this side.
    points = (kept[:, 4:].reshape(-1, 4, 2) - corner) / scale - 0.5
    hips, around = points[:, 0], points[:, 1]
    half = ROOM * np.linalg.norm(around - hips, axis=-1)
    away = around - hips
    angles = np.degrees(np.arctan2(away[:, 0], -away[:, 1]))
    regions = np.concatenate([hips - half[:, None], hips + half[:, None]], -1)
    return People(regions, angles, hips, scores)


def _decoded(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Boxes x1, y1, x2, y2 and four points [n, 12] in pixels of the input."""
    middle, size = values[:, :2] + centres, values[:, 2:4]
    points = (values[:, 4:].reshape(-1, 4, 2) + centres[:, None]).reshape(-1, 8)
    return np.concatenate([middle - size / 2, middle + size / 2, points], -1)


def _merged(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted non-maximum suppression: overlapping detections become their mean by score."""
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
    """Intersection over union [n] of a box [4] with boxes [n, 4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = (high - low).clip(0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return common / np.maximum(areas + (box[2:] - box[:2]).prod() - common, 1e-12)
