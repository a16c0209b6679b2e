"""The form in which a subject's frames are read, adapted to and predicted."""

from typing import Any, NamedTuple

Array = Any  # NumPy on the host, jax on the device


class Frames(NamedTuple):
    """Consecutive frames of a subject, each cut to a window of one size around the person.

    Holds no labels.

    Attributes:
      pictures: uint8 RGB [n, H, W, 3]; zeros outside the image.
      views: float32 [n, 3], zoom, x, y: where the windows lie, see `geometry.window_affine`.
      crops: float32 [n, 3], cx, cy, side in pixels of the whole image, see `geometry.box_to_crop`;
        [n, 4], with degrees, if they are rotated with the person.
      valid: bool [n]; False for padding and for frames that could not be read.
    """

    pictures: Array
    views: Array
    crops: Array
    valid: Array
