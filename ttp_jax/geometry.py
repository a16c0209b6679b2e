"""The coordinate rule: person box -> square crop -> crop pixels -> heatmap pixels, and back.

x points right, y down, pixel centres lie at integers. A *box* is x1, y1, x2, y2 in image pixels,
width x2 - x1. A *crop* is cx, cy, side in image pixels and, if it is rotated with the person, its
angle in degrees, clockwise on the screen. An *affine* is a [2, 3] matrix that maps homogeneous
image points to crop pixels. Heatmap index h stands for crop pixel h * stride (published program),
so there is no shift by half a pixel. Networks that were trained elsewhere may place their cells
differently, see `map_to_crop`.

Array functions take numpy or jax arrays and return the same kind.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Array = Any  # np.ndarray or jax.Array; functions return the kind that they are given

# The published program widens the box by a quarter and moves it down by 7.5 % of the longer side
# (the "MPII tweak").
BOX_SCALE = 1.25
BOX_SHIFT = 0.075
# Limits of plausible boxes.
LARGEST_BOX = 20  # times the image's longer side
LEAST_BOX = 3  # pixels; refuses boxes that are given as shares of the image, 0 to 1
EDGE = "edge"  # see `map_to_crop`
Cells = bool | str


class Places(NamedTuple):
    """Where a person is in each of T frames, as a finder returns it.

    Attributes:
      boxes: float32 [T, 4], x1, y1, x2, y2 in image pixels, tight around the joints.
      crops: float32 [T, 3] or [T, 4], the region that the network sees (`crop_affine`).
      there: bool [T], whether the person is in the frame; if not, the rest is meaningless.
    """

    boxes: np.ndarray
    crops: np.ndarray
    there: np.ndarray

    @property
    def turned(self) -> bool:
        """Whether crops are rotated with the person."""
        return self.crops.shape[-1] == 4


def _namespace(*arrays) -> Any:
    """Return jax.numpy if any argument is a jax array, otherwise numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def whole_box(sizes) -> np.ndarray:
    """Return whole images as boxes float64 [..., 4], from their heights and widths [..., 2]."""
    sizes = np.asarray(sizes, np.float64)
    return np.concatenate([np.zeros_like(sizes), sizes[..., ::-1]], -1) - 0.5


def shrink_boxes(boxes: np.ndarray, zoom: float) -> np.ndarray:
    """Return smaller boxes [..., 4] around the same centres.

    Args:
      boxes: [..., 4] x1, y1, x2, y2.
      zoom: number by which their sides are divided.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    centre, half = (low + high) / 2, (high - low) / (2 * zoom)
    return np.concatenate([centre - half, centre + half], -1)


def misplaced(box: np.ndarray, size: Sequence[int] | np.ndarray, of: str) -> str | None:
    """Say what is wrong with a box in an image.

    A part of it may lie outside, because people can stand at the edge.

    Args:
      box: x1, y1, x2, y2 in pixels.
      size: height and width of the image.
      of: what the sentence calls the image.

    Returns:
      The end of a sentence; None if the box can be used.
    """
    height, width = size
    x1, y1, x2, y2 = whole_box(size)
    sides = box[2:] - box[:2]
    if not (box[0] < x2 and box[1] < y2 and box[2] > x1 and box[3] > y1):
        wrong = "lies outside"
    elif sides.max() > LARGEST_BOX * max(height, width):
        wrong = "is far larger than"
    elif sides.min() < LEAST_BOX:
        wrong = f"is less than {LEAST_BOX} pixels wide or high in"
    else:
        return None
    return f"{wrong} {of}, which is {width} x {height} pixels: give pixels of the upright picture."


def box_to_crop(boxes):
    """Return the square crops [..., 3] = (cx, cy, side) around person boxes [..., 4]."""
    xp = _namespace(boxes)
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    longer = xp.maximum(x2 - x1, y2 - y1)
    return xp.stack([(x1 + x2) / 2, (y1 + y2) / 2 + BOX_SHIFT * longer, BOX_SCALE * longer], -1)


def crop_affine(
    crop: Array,
    size: int,
    scale: ArrayLike = 1.0,
    degrees: ArrayLike = 0.0,
    flip: ArrayLike = False,
) -> Array:
    """Return the affine [..., 2, 3] from image pixels to crop pixels.

    crop_px = size / (side * scale) * R(-degrees) * mirror * (p - c) + size / 2

    Args:
      crop: [..., 3], see `box_to_crop`, or [..., 4] with the region's rotation in degrees.
      size: side of the square crop in pixels.
      scale: enlarges the region, so the person gets smaller.
      degrees: rotation of the region, clockwise on the screen, in addition to the crop's own.
      flip: whether to mirror left and right about the crop's centre.
    """
    xp = _namespace(crop, scale, degrees, flip)
    zoom = size / (crop[..., 2] * scale)
    if crop.shape[-1] == 4:
        # A mirrored region is rotated the other way before it is mirrored.
        degrees = degrees + xp.where(flip, -crop[..., 3], crop[..., 3])
    radians = xp.deg2rad(degrees)
    cos, sin = xp.cos(radians) * zoom, xp.sin(radians) * zoom
    mirror = xp.where(flip, -1.0, 1.0)
    rows = [(cos * mirror, sin + 0 * mirror), (-sin * mirror, cos + 0 * mirror)]
    cx, cy = crop[..., 0], crop[..., 1]
    affine = [xp.stack(xp.broadcast_arrays(a, b, size / 2 - a * cx - b * cy), -1) for a, b in rows]
    return xp.stack(affine, -2)


def transform_points(affine: Array, points: Array) -> Array:
    """Map points [..., n, 2] through affines [..., 2, 3].

    Args:
      affine: [..., 2, 3].
      points: [..., n, 2], x and y.
    """
    # No matrix product, because a GPU would round its factors to 10 bits (TF32).
    turned = (affine[..., None, :, :2] * points[..., None, :]).sum(-1)
    return turned + affine[..., None, :, 2]


def rescale_points(points: Array, scale: float | Array) -> Array:
    """Return points in pixels of the resized image; pixel centres are at integers in both.

    Args:
      points: [..., 2], x and y in pixels of the image.
      scale: factor of the image's size, or factors [2] of its width and height.
    """
    return (points + 0.5) * scale - 0.5


def invert_affine(affine: Array) -> Array:
    """Return the inverse of affines [..., 2, 3]."""
    xp = _namespace(affine)
    a, b, c, d = affine[..., 0, 0], affine[..., 0, 1], affine[..., 1, 0], affine[..., 1, 1]
    det = a * d - b * c
    linear = xp.stack([xp.stack([d, -b], -1), xp.stack([-c, a], -1)], -2) / det[..., None, None]
    shift = -(linear * affine[..., None, :, 2]).sum(-1)
    return xp.concatenate([linear, shift[..., None]], -1)


def map_to_crop(points: Array, stride: float, half_pixel: Cells = False) -> Array:
    """Convert points [..., 2] in cells of a map to crop pixels.

    Cell h covers the `stride` pixels from h * stride. It stands for the first of them; with
    `half_pixel` for their middle, (h + 0.5) * stride - 0.5; with `EDGE` for the edge before the
    first, h * stride - 0.5, which is h / w of the crop's width, as MediaPipe reads its maps.

    Args:
      points: [..., 2], x and y in cells.
      stride: crop pixels per cell.
      half_pixel: whether a cell stands for the middle of its pixels, or `EDGE`.
    """
    return points * stride + _first(stride, half_pixel)


def crop_to_map(points: Array, stride: float, half_pixel: Cells = False) -> Array:
    """Undo `map_to_crop`.

    Args:
      points: [..., 2], x and y in crop pixels.
      stride: crop pixels per cell.
      half_pixel: whether a cell stands for the middle of its pixels, or `EDGE`.
    """
    return (points - _first(stride, half_pixel)) / stride


def _first(stride: float, half_pixel: Cells) -> float:
    """Return the crop pixel that cell 0 stands for."""
    if half_pixel == EDGE:
        return -0.5
    return (stride - 1) / 2 if half_pixel else 0.0


def compose_affines(outer: Array, inner: Array) -> Array:
    """Return the affines [..., 2, 3] that apply `inner`, then `outer`.

    Args:
      outer: [..., 2, 3], applied second.
      inner: [..., 2, 3], applied first.
    """
    linear = (outer[..., :2, :2, None] * inner[..., None, :, :2]).sum(-2)
    shift = transform_points(outer, inner[..., None, :, 2])[..., 0, :]
    return _namespace(outer, inner).concatenate([linear, shift[..., None]], -1)


def map_affine(affine: Array, stride: float, half_pixel: Cells = False) -> Array:
    """Convert affines [..., 2, 3] between crop pixels to affines between cells of the maps.

    Args:
      affine: [..., 2, 3] from crop pixels to crop pixels.
      stride: crop pixels per cell.
      half_pixel: see `map_to_crop`.
    """
    first = map_to_crop(np.zeros(2, np.float32), stride, half_pixel)
    shift = (affine[..., :2] * first).sum(-1) + affine[..., 2]
    shift = crop_to_map(shift, stride, half_pixel)
    return _namespace(affine).concatenate([affine[..., :2], shift[..., None]], -1)


def window_affine(affine: Array, view: Array) -> Array:
    """Convert affines [..., 2, 3] from image pixels to affines from pixels of a window.

    A view [..., 3] = (zoom, x, y) says where the window lies: image point p is at
    (p + 0.5) * zoom - 0.5 - (x, y) in the window.

    Args:
      affine: [..., 2, 3] from image pixels.
      view: [..., 3], zoom, x and y of the window.
    """
    zoom, corner = view[..., :1], view[..., 1:]
    linear = affine[..., :2] / zoom[..., None]
    origin = (corner + 0.5) / zoom - 0.5  # the image point at the window's (0, 0)
    shift = affine[..., 2] + (affine[..., :2] * origin[..., None, :]).sum(-1)
    return _namespace(affine, view).concatenate([linear, shift[..., None]], -1)


def warp(image: jax.Array, affine: jax.Array, size: int) -> jax.Array:
    """Resample one image [H, W, C] into the crop [size, size, C] that `affine` defines.

    Interpolation is bilinear, with zeros outside the image, as in `cv2.warpAffine` with its
    defaults, up to that function's rounding of positions to 1/32 pixel. The result is float32, in
    the range of the input.

    Args:
      image: [H, W, C], any type.
      affine: [2, 3] from image pixels to crop pixels.
      size: side of the crop in pixels.
    """
    height, width, channels = image.shape
    ys, xs = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    grid = jnp.stack([xs, ys], -1).reshape(-1, 2).astype(jnp.float32)
    points = transform_points(invert_affine(affine), grid)
    corner = jnp.floor(points).astype(jnp.int32)
    fraction = points - corner
    flat = image.reshape(-1, channels)
    out = jnp.zeros((size * size, channels), jnp.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            weight = jnp.abs(1 - dx - fraction[:, 0]) * jnp.abs(1 - dy - fraction[:, 1])
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
            out += jnp.where(inside, weight, 0.0)[:, None] * flat[index].astype(jnp.float32)
    return out.reshape(size, size, channels)
