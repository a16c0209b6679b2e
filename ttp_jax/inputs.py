"""A caller's frames and boxes: checking them, and cutting the windows that the programs take."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ttp_jax import detector, geometry
from ttp_jax.frames import Frames
from ttp_jax.geometry import Places
from ttp_jax.memory import repeats
from ttp_jax.skeletons import BLAZEPOSE33, Skeleton

# Largest side of a person's crop in a window, as a multiple of the network's input size. It is less
# for BlazePose, whose crops are large, as in `configs/own.py`.
OVERSAMPLE, LESS = 2.0, 1.5
CONTEXT = 2  # side of a window, in crop sides


class Given(NamedTuple):
    """A caller's frames after they have been checked.

    Attributes:
      pictures: uint8 [H, W, 3] each.
      places: where the person is in them.
      pixels: largest side of a crop in a window, as a multiple of the network's input size.
    """

    pictures: list[np.ndarray]
    places: Places
    pixels: float


def find(
    frames: np.ndarray | Sequence[np.ndarray],
    *,
    person: str = "largest",
    frames_per_second: float | None = None,
) -> Places:
    """Find a person in the frames of a video with BlazePose's networks, as the commands do.

    Models with BlazePose's joints call it if no boxes are given. To choose another person or frame
    rate, call it yourself and pass the result as `boxes`, to any model.

    Args:
      frames: uint8 RGB [T, H, W, 3], or T images [H, W, 3].
      person: "largest", "left", "right", a number from the left, or a point "x,y" in pixels.
      frames_per_second: frame rate of the video; 30 if None. Six frames a second are examined.

    Raises:
      FileNotFoundError: BlazePose has not been fetched.
      ValueError: nobody is found, or frames or `person` can't be used.
    """
    # Imported late, so that importing the library doesn't load OpenCV.
    from data_pipelines.people import finder

    networks = detector.load(), detector.load_landmarks()
    how = {"person": person, "frames_per_second": frames_per_second}
    return finder.in_pictures(_pictures(frames), *networks, **how)


def given(
    frames: np.ndarray | Sequence[np.ndarray],
    boxes: ArrayLike | Places | None,
    skeleton: Skeleton,
    trained: Mapping[str, Any] = {},
    finds: bool = True,
) -> Given:
    """Check a caller's frames and boxes for a model, and find the person if necessary.

    Args:
      frames: as in `checked`.
      boxes: as in `checked`, or the result of `find`. If None, the person is found by BlazePose if
        the model has its joints, because such models expect BlazePose's own regions.
      skeleton: the model's skeleton.
      trained: fields of `config.data` that the model file keeps: the "boxes" of its training, and
        their "zoom". Without boxes, the same region of the image is used.
      finds: False never looks for the person: without boxes, the person is taken to fill the frame.

    Raises ValueError as `checked` and `find` do.
    """
    own, pixels = skeleton.name == BLAZEPOSE33.name, pixels_of(skeleton)
    pictures = _pictures(frames)  # first, because a generator gives its frames only once
    if boxes is None and finds and own and detector.is_here():
        boxes = find(pictures)
    if isinstance(boxes, Places):
        if len(boxes.boxes) != len(pictures):
            raise ValueError(
                f"the person was found in {len(boxes.boxes)} frames, but {len(pictures)} frames "
                "were given: call `find` on the same frames."
            )
        # Other networks were trained on upright people, in square crops around their boxes.
        return Given(pictures, boxes if own else _upright(boxes), pixels)
    if boxes is None:
        boxes = _as_trained(pictures[0], trained)
    _, around, crops = checked(pictures, boxes)
    return Given(pictures, Places(around, crops, np.ones(len(pictures), bool)), pixels)


def _as_trained(picture: np.ndarray, trained: Mapping[str, Any]) -> np.ndarray | None:
    """Return the box of an image that a model was trained on; None for the whole image."""
    where, zoom = trained.get("boxes", "whole"), trained.get("zoom", 1.0)
    if where == "whole":
        whole = geometry.whole_box(picture.shape[:2])
        return None if zoom == 1 else geometry.shrink_boxes(whole, zoom)
    from data_pipelines import boxes as boxes_lib  # imported late, because it loads OpenCV

    region = boxes_lib.region(where)  # None for a moving region, which only the commands find
    return None if region is None else geometry.shrink_boxes(region, zoom)


def pixels_of(skeleton: Skeleton) -> float:
    """Return `Given.pixels` for a network of these joints."""
    return LESS if skeleton.name == BLAZEPOSE33.name else OVERSAMPLE


def _upright(places: Places) -> Places:
    return places._replace(crops=_squares(places.boxes))


def checked(
    frames: np.ndarray | Sequence[np.ndarray], boxes: ArrayLike | None
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Check images and boxes, and compute the crops around the boxes.

    Args:
      frames: uint8 RGB [T, H, W, 3], or T images [H, W, 3].
      boxes: x1, y1, x2, y2 in pixels: [T, 4], [4] for all, or None for whole images.

    Returns:
      The images, their boxes [T, 4], and float32 crops [T, 3] around the boxes.

    Raises:
      ValueError: frames or boxes can't be used; the message says why.
    """
    pictures = _pictures(frames)
    height, width, _ = pictures[0].shape
    if boxes is None:
        whole = np.tile(geometry.whole_box((height, width)), (len(pictures), 1))
        return pictures, whole, _squares(whole)
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
    return pictures, boxes, _squares(boxes)


def _pictures(frames: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a caller's images as a list; raise ValueError if they can't be used."""
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
    return pictures


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Return the crops float32 [T, 3] around boxes [T, 4]."""
    return geometry.box_to_crop(boxes.astype(np.float64)).astype(np.float32)


def chunks(
    frames: Given,
    image_size: int,
    size: int,
    before: np.ndarray | None = None,
) -> Iterator[Frames]:
    """Yield `size` windows at a time; the last chunk is padded with invalid ones.

    Frames that repeat the one before, and frames without the person, are marked as invalid too, so
    that the model doesn't adapt to them.

    Args:
      frames: the result of `given`.
      image_size: side of the network's crops in pixels.
      size: frames per chunk.
      before: window before the first; None if there is none.
    """
    # Imported late, so that importing the library doesn't load OpenCV.
    from data_pipelines import windows

    shape = shape_of(image_size, frames.pixels)
    pictures, crops, there = frames.pictures, frames.places.crops, frames.places.there
    for first in range(0, len(pictures), size):
        here = range(first, min(first + size, len(pictures)))
        rows = [
            windows.window_of(
                np.ascontiguousarray(pictures[t]), crops[t], shape, frames.pixels * image_size
            )
            for t in here
        ]
        found = windows.stacked(rows, crops[list(here)], shape, size)
        valid = found.valid & ~repeats(found.pictures, before)
        valid[: len(here)] &= there[list(here)]
        before = found.pictures[-1]
        yield jax.tree.map(jnp.asarray, found._replace(valid=valid))


def shape_of(image_size: int, pixels: float = OVERSAMPLE) -> tuple[int, int]:
    """Return the height and width of a network's windows.

    Args:
      image_size: side of the network's crops in pixels.
      pixels: see `Given.pixels`.
    """
    from data_pipelines import windows

    most = pixels * image_size
    return windows.window_shape((image_size, image_size), most, CONTEXT)
