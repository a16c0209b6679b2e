"""Decoding of videos, cameras and image streams by FFmpeg (PyAV); no other module decodes them.

Frames are uint8 RGB [H, W, 3], upright and with square pixels. The rotation that phones store in a
file is applied, and frames whose pixels are not square (DV, HDV, AVCHD) are stretched, as players
show them.
"""

import itertools
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from data_pipelines import video_index
from data_pipelines.clips import DataError, FrameError, LastUsed
from data_pipelines.video_index import MOST_PIXELS, Turn

OPEN_VIDEOS = 64  # as many as can run side by side on a large device
# Frames with more than 8 bits are converted without FFmpeg's default approximations.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# The first bytes of a picture, and FFmpeg's decoder for that format.
STREAMED = {b"P5": "pgm", b"P6": "ppm", b"\x89P": "png", b"\xff\xd8": "mjpeg", b"BM": "bmp"}
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"
NETPBM = re.compile(
    rb"P(?P<kind>[56])GAP(?P<width>\d+)GAP(?P<height>\d+)GAP(?P<most>\d+)\s".replace(
        b"GAP", rb"(?:\s+(?:#[^\n]*\n)*)+"
    )
)
LONGEST_HEADER = 1024  # bytes of a Netpbm header, with comments
MOST_BYTES = 6 * MOST_PIXELS  # largest size of a picture
AT_ONCE = 1 << 16  # bytes that a pipe holds
PIPE = "pipe them through `ffmpeg -i INPUT -f image2pipe -c:v ppm -`"
PATIENCE = 10.0  # seconds to wait for a camera's answer
# Half a second, in microseconds, for finding out what a camera sends. Not with "nobuffer", which
# drops what it reads meanwhile: without the first key frame, the next frames are lost or grey.
LEAST_DELAY = {"analyzeduration": "500000"}

_of_thread = threading.local()


class Video:
    """The frames of one video file by index, for any number of threads.

    Frames are counted as the decoder yields them, whatever the header says (see `video_index`).
    They are identified by their time stamps, so the order of reading doesn't change what is read. A
    frame that can't be decoded keeps its index.

    Reading forward continues to decode; other reads start from the previous key frame. Only the
    `OPEN_VIDEOS` most recently used videos keep a decoder and a few frames, and only until their
    last frame is read.

    Attributes:
      index: number, times and size of the frames.
    """

    # Up to this many frames ahead, decoding is faster than seeking to a key frame in between.
    _NEAR = 8
    # Readers are threads of a default pool, and lag behind by at most this many frames.
    _KEEP = min(32, (os.cpu_count() or 1) + 4)
    _open_ones = LastUsed(OPEN_VIDEOS)

    def __init__(self, path: str | os.PathLike, *, square: bool = True):
        """Count the file's frames.

        Warns if the file is truncated.

        Args:
          path: path of the file.
          square: make pixels square; False for frames as they are stored.

        Raises:
          DataError: it is not a video, or no frame can be decoded.
        """
        self._path = Path(os.path.abspath(os.path.expanduser(path)))
        self._lock, self._counting = threading.Lock(), threading.Lock()
        # Number of threads in `read`; whether the last frame has been read.
        self._readers, self._ended = 0, False
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next: int = 0  # index of the next frame from the decoder
        self._held: dict[int, av.VideoFrame] = {}  # decoded but not yet asked for
        self._bad: set[int] = set()
        self._ahead = True
        self._state = _state(self._path)
        self.index = video_index.read_index(self._path, square=square)
        self._keys = set(self.index.keys.tolist())

    def __len__(self) -> int:
        return self.index.count

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.index.size

    @property
    def rate(self) -> float | None:
        """Mean frames a second; None if the file doesn't say."""
        return self.index.rate

    @property
    def times(self) -> np.ndarray | None:
        """Seconds float64 [T] since the first frame; None if the file has no times."""
        return self.index.times

    def read(self, index: int) -> np.ndarray:
        """Return frame `index` as uint8 RGB [H, W, 3].

        Raises:
          FrameError: it can't be decoded.
          DataError: the file has disappeared or changed since it was opened.
          IndexError: there is no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self._path} has {len(self)} frames, but no frame {index}.")
        with self._counting:
            self._readers += 1
        try:
            with self._lock:
                frame = self._held.pop(index, None)
                if frame is None and index not in self._bad:
                    frame = self._find(index)
                    # A damaged frame nearby may be the reason, see `ahead` of `open_file`.
                    if frame is None and self._ahead:
                        self._ahead = False
                        self._release()
                        frame = self._find(index)
                if frame is None:
                    # A lost file also looks like one that ends too early.
                    _check_same(self._path, self._state)
                    self._bad.add(index)
        finally:
            self._leave(index)
        self._open_ones.note(self)
        if frame is None:
            raise _damaged(self._path, index)
        try:
            return _picture(frame, self.index.size, self.index.turn)
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(self._path, index) from error

    def _leave(self, index: int) -> None:
        """Release the decoder after the last frame, unless another thread waits for an earlier."""
        with self._counting:
            self._readers -= 1
            self._ended |= index == len(self) - 1
            done = self._ended and not self._readers
            self._ended &= not done
        if done:
            self.close()  # a decoder holds many frames, which the next subject needs

    def close(self) -> None:
        """Release the decoder and the frames; the next read opens the file again."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        self._held.clear()
        self._frames = iter(())
        if self._container is not None:
            self._container.close()
        self._container = None

    def _find(self, index: int) -> av.VideoFrame | None:
        """Decode up to a frame; None if it can't be decoded."""
        keys = self.index.keys[self.index.keys <= index]
        ahead = index - self._next
        near = ahead <= self._NEAR or not len(keys) or keys[-1] <= self._next
        if self._container is not None and ahead >= 0 and near:
            return self._advance(index)
        # In some containers a seek goes too far. Then try an earlier key frame, or the start of the
        # file.
        for key in keys[:-3:-1].tolist():
            if key and self._jump(index, key):
                return self._advance(index)
        self._start()
        return self._advance(index)

    def _jump(self, index: int, key: int) -> bool:
        """Seek to a key frame; return whether the decoder is now at a key frame up to `index`."""
        if self.index.stamps is None:
            return False
        self._start()
        try:
            self._container.seek(int(self.index.stamps[key]), stream=self._stream)
        except av.FFmpegError:
            return False
        # Frames before the key frame may lack the frames that they were predicted from.
        for frame in self._frames:
            place = self._place(frame)
            if place is not None and place in self._keys:
                self._next = place
                self._frames = itertools.chain([frame], self._frames)
                return place <= index
        return False

    def _start(self) -> None:
        """Open the file again; raises DataError if that isn't possible."""
        self._release()
        _check_same(self._path, self._state)
        self._container, self._stream = video_index.open_file(self._path, ahead=self._ahead)
        self._frames = video_index.decode(self._container, self._stream)
        self._next = 0

    def _advance(self, index: int) -> av.VideoFrame | None:
        """Decode forward to a frame; None if the decoder skips it."""
        for frame in self._frames:
            place = self._place(frame)
            if place is None:
                continue
            self._next = place + 1
            if place == index:
                return frame
            if place > index - self._KEEP:
                self._hold(place, frame)
            if place > index:
                return None
        self._next = len(self)
        return None

    def _place(self, frame: av.VideoFrame) -> int | None:
        """Return the index of a decoded frame; None if it isn't in the index."""
        stamps = self.index.stamps
        if stamps is None:
            return self._next
        place = len(self) if frame.pts is None else int(np.searchsorted(stamps, frame.pts))
        return place if place < len(self) and stamps[place] == frame.pts else None

    def _hold(self, place: int, frame: av.VideoFrame) -> None:
        """Store a frame that another thread may ask for soon."""
        self._held[place] = frame
        while len(self._held) > self._KEEP:
            del self._held[next(iter(self._held))]


def announced(path: str | os.PathLike) -> int:
    """Return the number of frames that a file's header announces; 0 if it announces none.

    Raises DataError if the file is not a video.
    """
    container, stream = video_index.open_file(Path(os.path.abspath(path)))
    with container:
        return stream.frames


def _state(path: Path) -> tuple[int, int] | None:
    """Return values that change when the file changes; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _check_same(path: Path, state: tuple[int, int] | None) -> None:
    """Raise DataError if a file has disappeared or changed since it had this state."""
    if _state(path) != state:
        what = f"{path} was moved, changed or lost with its disk while it was read"
        raise DataError(f"{what}: put it back, and run the same command again.")


def _damaged(path: Path, index: int) -> FrameError:
    what = f"frame {index} of {path} can't be decoded"
    return FrameError(f"{what}: the file is damaged there. Copy the video again.")


def _picture(frame: av.VideoFrame, size: tuple[int, int], turn: Turn) -> np.ndarray:
    """Convert a stored frame to an upright picture of this size, uint8 RGB [H, W, 3]."""
    if not hasattr(_of_thread, "reformatter"):  # reused, because it caches the conversion
        _of_thread.reformatter = VideoReformatter()
    width, height = size if turn.swap else (size[1], size[0])
    deep = frame.format.components[0].bits > 8
    picture = _of_thread.reformatter.reformat(
        frame, width, height, "rgb24", interpolation=EXACT if deep else Interpolation.BICUBIC
    ).to_ndarray()
    if turn == Turn():
        return picture
    picture = picture.swapaxes(0, 1) if turn.swap else picture
    picture = picture[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]
    return np.ascontiguousarray(picture)


# ---------------------------------------------------------------------------------------------
# Live pictures


def camera(place: str) -> Iterator[np.ndarray]:
    """Yield the frames of a camera, given by number, device file, or address (rtsp, http, ...).

    All have the size of the first one, see `fit`. Ends when the camera stops.

    Raises:
      DataError: the camera can't be opened.
    """
    driver, device, options = _device(place)
    try:
        container: Any = av.open(
            device, format=driver, container_options=LEAST_DELAY | options, timeout=PATIENCE
        )
        stream = container.streams.video[0]
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise DataError(
            f"camera {place!r} can't be opened ({error}): check that it is connected, that no "
            "other program uses it, and that you may read it."
        ) from error
    with container:
        stream.codec_context.thread_count = 1  # each further thread adds a frame of delay
        yield from _alike(_upright(frame) for frame in video_index.decode(container, stream))


def _device(place: str) -> tuple[str | None, str, dict[str, str]]:
    """Return FFmpeg's driver for a camera, FFmpeg's name of the camera, and options."""
    if sys.platform == "linux" and (place.isdigit() or place.startswith("/dev/")):
        return "v4l2", f"/dev/video{place}" if place.isdigit() else place, {}
    if sys.platform == "darwin" and place.isdigit():
        return "avfoundation", place, {"framerate": "30"}
    if sys.platform == "win32" and place.isdigit():
        raise DataError(
            f"camera {place!r}: Windows names its cameras: give video=NAME, as listed by "
            "`ffmpeg -list_devices true -f dshow -i dummy`."
        )
    if sys.platform == "win32" and place.startswith("video="):
        return "dshow", place, {}
    return None, place, {"rtsp_transport": "tcp"} if place.startswith("rtsp:") else {}


def pipe_pictures(stream: BinaryIO) -> Iterator[np.ndarray]:
    """Yield images from a stream: PPM, PGM, PNG, BMP, or JPEG (motion JPEG).

    Each is yielded as soon as its last byte has arrived. All have the size of the first one, see
    `fit`. An image that can't be decoded is skipped with a warning, an unfinished last one without.

    Raises:
      FrameError: the stream holds no images, or one without an end.
    """
    yield from _alike(_upright(frame) for frame in _streamed(stream))


def _streamed(stream: BinaryIO) -> Iterator[av.VideoFrame]:
    read = getattr(stream, "read1", stream.read)  # reads what has arrived, without waiting for more
    head = read(AT_ONCE)
    while len(head) == 1 and (more := read(1)):
        head += more
    if not head:
        return
    if head[:2] not in STREAMED:
        raise FrameError(f"no readable picture on standard input: {PIPE}.")
    kind = STREAMED[head[:2]]
    decoder: Any = av.CodecContext.create(kind, "r")
    decoder.thread_count, decoder.options = 1, {"max_pixels": str(MOST_PIXELS)}
    packets = _netpbm(read, head) if kind in ("pgm", "ppm") else _parsed(decoder, read, head)
    bad = None
    for number, packet in enumerate(packets):
        if bad is not None:  # warn only now, because the last image may be unfinished
            warnings.warn(
                f"picture {bad} on standard input can't be decoded and is left out.", stacklevel=3
            )
            bad = None
        packet.is_keyframe = True  # otherwise a PNG is decoded as a difference to the previous one
        try:
            yield from decoder.decode(packet)
        except av.FFmpegError:
            bad = number


def _parsed(decoder, read: Callable[[int], bytes], data: bytes) -> Iterator[av.Packet]:
    """Split a stream into images with FFmpeg's parser for their format."""
    waiting = 0
    while True:
        waiting += len(data)
        packets = decoder.parse(data or None)
        if data.endswith(JPEG_END):  # otherwise the parser waits for the start of the next image
            packets += decoder.parse(None)
        for packet in packets:
            waiting, picture = 0, bytes(packet)
            # The decoder would invent the rest of an unfinished JPEG.
            if decoder.name != "mjpeg" or picture.rfind(JPEG_END) > picture.rfind(JPEG_SCAN):
                yield packet
        if waiting > MOST_BYTES:
            raise FrameError(
                f"a picture on standard input has no end marker. If more pictures follow, {PIPE}."
            )
        if not data:
            return
        data = read(AT_ONCE)


def _netpbm(read: Callable[[int], bytes], data: bytes) -> Iterator[av.Packet]:
    """Split a stream into PPM and PGM images; FFmpeg's parser loses images with a split header."""
    for number in itertools.count():
        while (
            not (head := NETPBM.match(data)) and len(data) < LONGEST_HEADER and (more := read(64))
        ):
            data += more
        if not head:
            if not data or (len(data) < LONGEST_HEADER and data[:1] == b"P"):
                return  # the sender has stopped
            raise FrameError(f"picture {number} on standard input is not a PPM picture: {PIPE}.")
        width, height, most = (int(head[name]) for name in ("width", "height", "most"))
        length = width * height * (3 if head["kind"] == b"6" else 1) * (2 if most > 255 else 1)
        if length > MOST_BYTES:
            raise FrameError(
                f"picture {number} on standard input claims {width} x {height} pixels."
            )
        parts, missing = [data], head.end() + length - len(data)
        while missing > 0 and (more := read(min(missing, 1 << 20))):
            parts.append(more)
            missing -= len(more)
        if missing > 0:
            return
        whole = b"".join(parts)
        data = whole[head.end() + length :]
        yield av.Packet(whole[: head.end() + length])


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Convert a single frame to an upright picture."""
    turn = video_index.turn_of(frame)
    size = frame.height, frame.width
    return _picture(frame, (size[1], size[0]) if turn.swap else size, turn)


def _alike(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Fit all pictures to the size of the first."""
    size = None
    for picture in pictures:
        size = picture.shape[:2] if size is None else size
        yield picture if picture.shape[:2] == size else fit(picture, size)


def fit(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Scale a picture to fit into this size, in the upper left corner of a black picture."""
    height, width = size
    zoom = min(height / picture.shape[0], width / picture.shape[1])
    shape = [max(1, round(side * zoom)) for side in picture.shape[1::-1]]
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), np.uint8)
    small = cv2.resize(picture, shape, interpolation=how)[:height, :width]
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas
