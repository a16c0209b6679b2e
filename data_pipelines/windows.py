"""Frames of a subject as personalization needs them: windows of one size, cut around the person."""

import collections
import copy
import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from data_pipelines.clips import Clip, FrameError, nothing_readable
from data_pipelines.spill import Spill
from ttp_jax.frames import Frames

WINDOW_MULTIPLE = 64  # window sides are rounded up to multiples, so that jit compiles few shapes
NAMED_FRAMES = 5  # largest number of unreadable frames that a warning names
Row = tuple[np.ndarray, tuple[float, int, int]]  # a window and its view, see `window_of`
# Bytes of a subject's windows in memory, then on disk: enough for 300 and 2,700 frames of 128 px
# crops at oversample 2.
KEPT_BYTES, SPILLED_BYTES = 2**28, 2**31


def window_of(
    picture: np.ndarray, crop: np.ndarray, shape: tuple[int, int], pixels: float = math.inf
) -> Row:
    """Cut a window around a crop, shrunk until the crop has at most `pixels` a side.

    Args:
      picture: uint8 RGB [H, W, 3].
      crop: [3] or [4], see `geometry.crop_affine`.
      shape: height and width of the window; it stays inside the picture if the picture is larger.
      pixels: largest side of the crop, in pixels.

    Returns:
      The window uint8 [height, width, 3] and its view: zoom, x, y (`geometry.window_affine`).
    """
    *centre, side = crop[:3]
    zoom = min(1.0, pixels / float(side))
    if zoom < 1:
        # With fx and fy instead of a size, cv2 uses exactly this factor, even though the sides are
        # rounded.
        picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    window, (height, width) = np.zeros((*shape, 3), np.uint8), shape
    x, y = (
        int(np.clip(round((c + 0.5) * zoom - length / 2), 0, max(own - length, 0)))
        for c, length, own in zip(centre, (width, height), picture.shape[1::-1], strict=True)
    )
    part = picture[y : y + height, x : x + width]
    window[: part.shape[0], : part.shape[1]] = part
    return window, (zoom, x, y)


def window_shape(picture_size: tuple[int, ...], pixels: float, context: float) -> tuple[int, int]:
    """Return height and width of a subject's windows, see `SubjectFrames`."""
    sides = np.array(picture_size)
    if math.isfinite(pixels):
        sides[:] = math.ceil(context * pixels)
    height, width = -(-sides // WINDOW_MULTIPLE) * WINDOW_MULTIPLE
    return int(height), int(width)


def stacked(
    rows: Sequence[Row | None],
    crops: np.ndarray,
    shape: tuple[int, int],
    size: int | None = None,
) -> Frames:
    """Stack consecutive windows into one record, padded to `size` with invalid ones.

    Args:
      rows: the result of `window_of` for each frame; None if it can't be read.
      crops: float32 [n, 3] or [n, 4] of these frames.
      shape: height and width of the windows.
      size: number of rows, n or more; n if None.
    """
    size = len(rows) if size is None else size
    pictures = np.zeros((size, *shape, 3), np.uint8)
    views = np.tile(np.array([1, 0, 0], np.float32), (size, 1))
    valid = np.zeros(size, bool)
    crops = crops[np.minimum(np.arange(size), len(rows) - 1)]
    for i, row in enumerate(rows):
        if row is not None:
            pictures[i], views[i], valid[i] = *row, True
    return Frames(pictures, views, crops, valid)


class SubjectFrames:
    """The frames of a clip for personalization: windows of one size, in order.

    Windows are stored after they are cut, up to `KEPT_BYTES` in memory and `SPILLED_BYTES` on disk.
    Within these limits, later passes don't decode them again. Only a few whole pictures are held in
    memory at a time, however long the clip is.

    Attributes:
      clip: the clip, without its labels.
      shape: H and W of the windows.
      errors: errors of the frames that could not be read so far, by index.
      digests: SHA-256 of the whole pictures read so far, by index.
    """

    def __init__(
        self,
        clip: Clip,
        *,
        image_size: int,
        oversample: float | None = None,
        context: float = 2.0,
    ):
        """Determine the size of the windows.

        Args:
          clip: frames and boxes.
          image_size: side of the network's crop, in pixels.
          oversample: shrink each frame until its crop has at most this many times `image_size`
            pixels a side (frames are never enlarged). None keeps the original pixels, as the
            published program does; windows then have the size of the clip's first picture.
          context: with `oversample`, side of the windows in crop sides. Augmentation shows black
            beyond it.

        Raises:
          FrameError: no frame can be read.
        """
        self.clip = clip.without_labels()
        self.errors: dict[int, FrameError] = {}
        self.digests: dict[int, bytes] = {}
        self._warned = False
        self._kept: dict[int, Row] = {}
        self._spill, self._views = Spill(SPILLED_BYTES), {}
        self._offset = 0  # index of the first frame in the whole clip, whose frames the spill holds
        self._crops = clip.network_crops
        self._pixels = math.inf if oversample is None else oversample * image_size
        index, picture = self._first_picture()
        self.shape = window_shape(picture.shape[:2], self._pixels, context)
        # Cut it now, because later a video would have to be decoded from its start again.
        self._cut(index, picture)

    def __len__(self) -> int:
        return self.clip.num_frames

    @property
    def first(self) -> int:
        """Index of the first frame in the whole clip that `part` was called on; 0 for that clip."""
        return self._offset

    @property
    def turned(self) -> bool:
        """Whether the crops are rotated with the person."""
        return self._crops.shape[-1] == 4

    def part(self, clip: Clip, first: int) -> "SubjectFrames":
        """Return the frames of one of the clip's recordings, with the windows already cut.

        Args:
          clip: the recording.
          first: index of its first frame.

        Raises:
          FrameError: no frame of the recording can be read.
        """
        own, frames = copy.copy(self), range(first, first + clip.num_frames)
        own.clip, own._crops = clip.without_labels(), self._crops[frames.start : frames.stop]
        own._offset = self._offset + first
        for name in ("errors", "digests", "_kept", "_views"):
            mine = {i - first: value for i, value in getattr(self, name).items() if i in frames}
            setattr(own, name, mine)
        if not own.digests:
            own._first_picture()
        return own

    def read(self, indices: Iterable[int], size: int | None = None) -> Frames:
        """Read these frames, padded to `size` rows with invalid ones."""
        indices = list(indices)
        rows = [self._window(index) for index in indices]
        return stacked(rows, self._crops[indices], self.shape, size)

    def chunks(self, size: int, pool: ThreadPoolExecutor, start: int = 0) -> Iterator[Frames]:
        """Yield `size` frames at a time from `start` on, read ahead by the threads of `pool`.

        The last chunk is padded with invalid frames. At the end, one warning names the frames that
        could not be read.
        """
        count, ahead = len(self), collections.deque()
        place = start
        for first in range(start, count, size):
            while place < min(first + 2 * size, count):
                ahead.append(pool.submit(self._window, place))
                place += 1
            indices = range(first, min(first + size, count))
            rows = [ahead.popleft().result() for _ in indices]
            yield stacked(rows, self._crops[list(indices)], self.shape, size)
        if self.errors and not self._warned:
            self._warn()

    def _first_picture(self) -> tuple[int, np.ndarray]:
        for index in range(len(self)):
            try:
                return index, self.clip.read(index)
            except FrameError as error:
                # A new error, because the traceback of this one keeps the picture in memory.
                self.errors[index] = FrameError(str(error))
        first = next(iter(self.errors.values()))
        raise FrameError(nothing_readable(self.clip.name, len(self), first))

    def _window(self, index: int) -> Row | None:
        """Return one frame's window and view; None if it can't be read."""
        if index in self._kept:
            return self._kept[index]
        if (data := self._spill.get(self._offset + index)) is not None:
            return np.frombuffer(data, np.uint8).reshape(*self.shape, 3), self._views[index]
        try:
            return self._cut(index, self.clip.read(index))
        except FrameError as error:
            self.errors[index] = FrameError(str(error))
            return None

    def _cut(self, index: int, picture: np.ndarray) -> Row:
        """Cut a frame's window, and store it if there is room."""
        if index not in self.digests:  # only the first pass has to compute it
            self.digests[index] = hashlib.sha256(np.ascontiguousarray(picture).data).digest()
        row = window_of(picture, self._crops[index], self.shape, self._pixels)
        if (len(self._kept) + 1) * row[0].nbytes <= KEPT_BYTES:
            self._kept[index] = row
        else:
            self._views[index] = row[1]  # first, because other threads look for the pixels
            self._spill.put(self._offset + index, row[0].data.cast("B"))
        return row

    def _warn(self) -> None:
        self._warned = True
        errors = [self.errors[index] for index in sorted(self.errors)]
        named = [str(error) for error in errors[:NAMED_FRAMES]]
        if len(errors) > NAMED_FRAMES:
            named.append(f"... and {len(errors) - NAMED_FRAMES} more")
        warnings.warn(
            f"clip {self.clip.name}: {len(errors)} of {len(self)} frames can't be read and are "
            "left out:\n" + "\n".join(named),
            stacklevel=3,
        )
