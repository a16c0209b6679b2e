"""The pictures over which a subject's poses are drawn."""

import contextlib
import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np

from data_pipelines import frame_cache
from data_pipelines.clips import Clip, FrameError
from data_pipelines.spill import Spill

VIDEO_PIXELS = 1280  # longer side of the overlay video
MOST = 2**30  # bytes on disk for each size, enough for at least 4,000 frames of the overlay


class Backdrop:
    """All pictures of a subject in the overlay's size, and a few in full size.

    They are stored on disk while the adaptation reads the frames, so that the video isn't decoded
    again for display. Frames that were not stored are read again.

    Attributes:
      canvas: height and width into which every picture fits.
      size: width and height of the overlay video.
      clip: the subject's clip. Reading a frame from it also stores the frame here.
    """

    def __init__(self, clip: Clip, whole: Iterable[int] = ()):
        """Prepare to store pictures; `whole` are the frames that will be needed in full size."""
        self.canvas = clip.largest
        height, width = self.canvas
        zoom = min(1.0, VIDEO_PIXELS / max(height, width))
        # The codec halves the resolution of colour, so both sides must be even.
        self.size = max(2, round(width * zoom) // 2 * 2), max(2, round(height * zoom) // 2 * 2)
        self._read, self._wanted = clip.read, {*whole}
        self._small, self._whole = Spill(MOST), Spill(MOST)
        self.clip = dataclasses.replace(clip, read=self._read_and_keep)

    @classmethod
    def of(cls, clip: Clip) -> "Backdrop":
        """Return the backdrop that made this clip, even if the clip's boxes have changed since."""
        owner = getattr(clip.read, "__self__", None)
        return owner if isinstance(owner, cls) else cls(clip)

    def small(self, index: int) -> np.ndarray:
        """Return a frame in the overlay's size, uint8 RGB; black if it can't be read."""
        if (data := self._small.get(index)) is not None:
            return frame_cache.unpacked(data)
        picture = np.zeros((*self.canvas, 3), np.uint8)
        with contextlib.suppress(FrameError):
            picture = self.whole(index)
        return self._shrunk(picture)

    def whole(self, index: int) -> np.ndarray:
        """Return a frame in full size on the canvas; raises FrameError if it can't be read."""
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
        """Return the picture in the upper left corner of the black canvas."""
        rows, columns = self.canvas
        picture = picture[:rows, :columns]  # a picture can be larger than its header says
        height, width = picture.shape[:2]
        return np.pad(picture, ((0, rows - height), (0, columns - width), (0, 0)))
