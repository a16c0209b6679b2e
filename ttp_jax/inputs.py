"""A caller's frames and boxes: checked, and cut to the windows that the programs take."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ttp_jax import geometry
from ttp_jax.frames import Frames
from ttp_jax.memory import repeats

OVERSAMPLE = 2  # pixels a side of a person's crop, in those of the network, at most
CONTEXT = 2  # sides of a window, in those of the crop


def checked(
    frames: np.ndarray | Sequence[np.ndarray], boxes: ArrayLike | None
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Check pictures and boxes, and take the crops around these.

    Args:
      frames: uint8 RGB [T, H, W, 3], or T pictures [H, W, 3].
      boxes: x1, y1, x2, y2 in pixels: [T, 4], [4] for all, or None for whole pictures.

    Returns:
      The pictures, their boxes [T, 4], and float32 crops [T, 3] around these.

    Raises:
      ValueError: says what is wrong with them.
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
    from data_pipelines import windows  # on use only: importing the library loads no OpenCV

    shape = shape_of(image_size)
    for first in range(0, len(pictures), size):
        here = range(first, min(first + size, len(pictures)))
        rows = [
            windows.window_of(
                np.ascontiguousarray(pictures[t]), crops[t], shape, OVERSAMPLE * image_size
            )
            for t in here
        ]
        frames = windows.stacked(rows, crops[list(here)], shape, size)
        valid = frames.valid & ~repeats(frames.pictures, before)
        before = frames.pictures[-1]
        yield jax.tree.map(jnp.asarray, frames._replace(valid=valid))


def shape_of(image_size: int) -> tuple[int, int]:
    """Return the height and width of a network's windows.

    Args:
      image_size: pixels a side of the network's crops.
    """
    from data_pipelines import windows

    return windows.window_shape((image_size, image_size), OVERSAMPLE * image_size, CONTEXT)
