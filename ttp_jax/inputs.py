"""A caller's frames and boxes: checked, and cut to the windows that the programs take."""

import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax import geometry
from ttp_jax.memory import Frames, repeats

OVERSAMPLE = 2  # pixels a side of a person's crop, in those of the network, at most
CONTEXT = 2  # sides of a window, in those of the crop


def checked(frames, boxes) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The pictures, their boxes [T, 4], and float32 crops [T, 3] around these.

    Raises ValueError, which says what is wrong.
    """
    if isinstance(frames, np.ndarray | jax.Array) and frames.ndim == 3:
        raise ValueError(f"got frames {frames.shape}, expected [T, H, W, 3]; one is frames[None].")
    pictures = [np.asarray(picture) for picture in frames]
    if not pictures:
        raise ValueError("got no frames, expected at least one.")
    for t, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(
                f"frame {t} is {picture.shape} of {picture.dtype}, expected uint8 RGB [H, W, 3]."
            )
        if picture.shape != pictures[0].shape or not picture.size:
            raise ValueError(
                f"frame {t} is {picture.shape}, frame 0 {pictures[0].shape}, expected one size and "
                "no empty picture."
            )
    height, width, _ = pictures[0].shape
    if boxes is None:
        whole = np.tile(geometry.whole_box((height, width)), (len(pictures), 1))
        return pictures, whole, geometry.box_to_crop(whole).astype(np.float32)
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape not in ((4,), (len(pictures), 4)):
        raise ValueError(f"got boxes {boxes.shape}, expected {(len(pictures), 4)} or (4,).")
    boxes = np.broadcast_to(boxes, (len(pictures), 4))
    wrong = ~(np.isfinite(boxes).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1))
    if wrong.any():
        t = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"box of frame {t} is {boxes[t].tolist()}, expected finite x1, y1, x2, y2 in pixels "
            "with x1 < x2 and y1 < y2."
        )
    for t, box in enumerate(boxes):
        if fault := geometry.misplaced(box, (height, width), "the frame"):
            raise ValueError(f"box of frame {t}, {box.tolist()}, {fault}")
    return pictures, boxes, geometry.box_to_crop(boxes).astype(np.float32)


def chunks(
    pictures: Sequence[np.ndarray],
    crops: np.ndarray,
    image_size: int,
    size: int,
    before: np.ndarray | None = None,
) -> Iterator[Frames]:
    """Yield `size` windows at a time; the last chunk is filled up with invalid ones.

    Frames that repeat the one before are invalid, too: nothing is learned from them.

    Args:
      pictures: uint8 [H, W, 3] each.
      crops: float32 [T, 3], of `checked`.
      image_size: side of the network's crops.
      size: frames of a chunk.
      before: window before the first; None where there is none.
    """
    pixels = OVERSAMPLE * image_size
    side = CONTEXT * pixels
    for first in range(0, len(pictures), size):
        here = range(first, min(first + size, len(pictures)))
        windows = np.zeros((size, side, side, 3), np.uint8)
        views = np.tile(np.array([1, 0, 0], np.float32), (size, 1))
        for row, t in enumerate(here):
            views[row] = cut(pictures[t], crops[t], pixels, out=windows[row])
        indices = np.minimum(np.arange(first, first + size), here[-1])
        valid = (np.arange(size) < len(here)) & ~repeats(windows, before)
        before = windows[-1]
        frames = windows, views, crops[indices], valid
        yield Frames(*map(jnp.asarray, frames))


def cut(
    picture: np.ndarray, crop: np.ndarray, pixels: int, out: np.ndarray
) -> tuple[float, int, int]:
    """Fill a window [S, S, 3] with the surroundings of a crop, shrunk to at most `pixels` a side.

    Returns its view: zoom, x, y (`geometry.window_affine`). Beyond the picture's rim is black.
    """
    zoom, side = min(1.0, pixels / float(crop[2])), len(out)
    corner, spans = [], []
    for centre, length in zip(crop[:2], picture.shape[1::-1], strict=True):
        own = round(length * zoom)
        start = int(np.clip(round((centre + 0.5) * zoom - side / 2), 0, max(own - side, 0)))
        corner.append(start)
        spans.append((start, min(start + side, own)))
    columns, rows = spans
    if zoom < 1:
        down = _shrink(picture, rows, zoom).swapaxes(0, 1)
        part = np.rint(_shrink(down, columns, zoom)).swapaxes(0, 1)
    else:
        part = picture[slice(*rows), slice(*columns)]
    out[: part.shape[0], : part.shape[1]] = part
    return zoom, *corner


def _shrink(rows: np.ndarray, span: tuple[int, int], zoom: float) -> np.ndarray:
    """Rows `span` of a picture that is shrunk along its first axis: means of what each covers."""
    edges = np.minimum(np.arange(span[0], span[1] + 1) / zoom, len(rows))
    first, last = int(edges[0]), max(math.ceil(edges[-1]), 1)
    sums = np.zeros((last - first + 1, *rows.shape[1:]), np.float32)
    np.cumsum(rows[first:last], 0, np.float32, out=sums[1:])
    whole = np.minimum(edges.astype(int), last - 1)
    shares = (edges - whole).astype(np.float32)[:, None, None]  # of the row that an edge cuts
    covered = np.diff(edges).astype(np.float32)[:, None, None]
    return np.diff(sums[whole - first] + shares * rows[whole], axis=0) / covered
