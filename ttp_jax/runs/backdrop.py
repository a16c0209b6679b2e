"""The pictures that a subject's poses are drawn over."""

import contextlib
import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np

from data_pipelines import frame_cache
from data_pipelines.clips import Clip, FrameError
from data_pipelines.spill import Spill

VIDEO_PIXELS = 1280  # longer side of the overlay video
MOST = 2**30  # bytes on disk of each kind: 4,000 frames of the overlay, or more


class Backdrop:
    """Pictures of a subject in the overlay's size, and a few whole ones.

    They are kept on disk from when adaptation reads the frames, so that a video isn't decoded once
    more to be shown. A frame that wasn't kept is read again.

    Attributes:
      canvas: height and width that hold every picture.
      size: width and height of the overlay video.
      clip: the same subject; a frame that is read from it is kept, as long as it lives.
    """

    def __init__(self, clip: Clip, whole: Iterable[int] = ()):
        """Keep nothing yet; `whole` are the frames that will be asked for in their full size."""
        self.canvas = clip.largest
        height, width = self.canvas
        zoom = min(1.0, VIDEO_PIXELS / max(height, width))
        # The codec halves the resolution of colour, so it wants even sides.
        self.size = max(2, round(width * zoom) // 2 * 2), max(2, round(height * zoom) // 2 * 2)
        self._read, self._wanted = clip.read, {*whole}
        self._small, self._whole = Spill(MOST), Spill(MOST)
        self.clip = dataclasses.replace(clip, read=self._read_and_keep)

    @classmethod
    def of(cls, clip: Clip) -> "Backdrop":
        """The backdrop whose `clip` this is, in whatever boxes, with all that it has kept."""
        owner = getattr(clip.read, "__self__", None)
        return owner if isinstance(owner, cls) else cls(clip)

    def small(self, index: int) -> np.ndarray:
        """A frame in the overlay's size, uint8 RGB; black where it can't be read."""
        if (data := self._small.get(index)) is not None:
            return frame_cache.unpacked(data)
        picture = np.zeros((*self.canvas, 3), np.uint8)
        with contextlib.suppress(FrameError):
            picture = self.whole(index)
        return self._shrunk(picture)

    def whole(self, index: int) -> np.ndarray:
        """A frame as it is, on the canvas; raises FrameError where it can't be read."""
        if (data := self._whole.get(index)) is not None:
            return frame_cache.unpacked(data)
        return self._on_canvas(self._read(index))

    def _read_and_keep(self, index: int) -> np.ndarray:
        picture = self._read(index)
        if index not in self._small:
            self._small.put(index, frame_cache.packed(self._shrunk(self._on_canvas(picture))))
        if index in self._wanted and index not in self._whole:
            self._whole.put(index, frame_cache.packed(self._on_canvas(picture), exact=True))
        return picture

    def _shrunk(self, picture: np.ndarray) -> np.ndarray:
        return cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)

    def _on_canvas(self, picture: np.ndarray) -> np.ndarray:
        """The picture in the upper left of a black one that holds every picture."""
        rows, columns = self.canvas
        picture = picture[:rows, :columns]  # a picture's header may tell another size
        height, width = picture.shape[:2]
        return np.pad(picture, ((0, rows - height), (0, columns - width), (0, 0)))
