"""The index of a video file: number, times, size and orientation of its frames.

Headers can be wrong about the number of frames. If each frame is one packet, packets are counted
without decoding. Other files, and damaged ones, are decoded once to count their frames.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from tqdm import tqdm

from data_pipelines.clips import DataError
from data_pipelines.locate import BAR_DELAY

# The only containers that are read. FFmpeg knows others, such as playlists, which name other files.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,dv,mxf,nut"
)
MOST_PIXELS = 2**27  # pixels of a 16K frame; a header that claims more is damaged
THREADS = min(4, os.cpu_count() or 1)  # threads of one decoder; each holds its own frames
# In these codecs, and in codecs that don't predict from other frames, a frame is one packet. Older
# codecs have packets without a frame.
ONE_PACKET = ("h264", "hevc", "vvc", "vp9", "av1")
ODDEST_PIXEL = 8  # ratio of a pixel's sides; a header that claims more is damaged
SQUARE = 0.01  # pixels this close to square are left as they are, because encoders round
COMMON_RATES = (10, 12, 12.5, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 200, 240)
CUT_SECONDS, CUT_SHARE = 0.25, 0.01  # a file is truncated if more than this is missing at its end


class Turn(NamedTuple):
    """How to turn a stored frame upright: swap rows and columns, then flip rows or columns."""

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


class Index(NamedTuple):
    """The frames of a video, in the order in which they are shown.

    Attributes:
      count: number T of frames.
      stamps: int64 [T], time stamps in units of the stream; None if they aren't unique, so that
        frames can only be counted.
      keys: int [n], indices of the frames from which decoding can start.
      times: float64 [T], seconds since the first frame; None if the file has no times.
      rate: mean frames a second; None if the file doesn't say.
      size: height and width of the upright pictures with square pixels.
      stored_size: height and width of the upright pictures without stretching.
      turn: how stored frames become upright.
      note: a sentence for the reader of results, or "".
    """

    count: int
    stamps: np.ndarray | None
    keys: np.ndarray
    times: np.ndarray | None
    rate: float | None
    size: tuple[int, int]
    stored_size: tuple[int, int]
    turn: Turn
    note: str


def _first(path: Path, container, stream) -> av.VideoFrame:
    """Decode the first frame; raises DataError if there is none."""
    frame = next(decode(container, stream), None)
    if frame is None:
        raise _nothing(path)
    return frame


def read_index(path: Path, *, square: bool = True) -> Index:
    """Count the frames of a file; a progress bar shows if that takes long.

    Warns if the file is truncated.

    Args:
      path: path of the file.
      square: whether to make pixels square.

    Raises:
      DataError: it is not a video, or no frame can be decoded.
    """
    container, stream = open_file(path)
    with container:
        packets = _packets(container, stream)
    container, stream = open_file(path)
    with container:
        first = _first(path, container, stream)
        shape, time_base, announced = stream.sample_aspect_ratio, stream.time_base, stream.frames
        header = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        if container.format.name == "asf":  # ASF stores no rate; these are FFmpeg's guesses
            header = ()
        if not packets.ordered:  # FFmpeg's guesses mix the clocks of the joined parts
            header = (1 / (packets.step * stream.time_base),) if packets.step > 0 else ()
        numbered = container.format.name == "avi"  # its time stamps only number the packets
        codec = stream.codec_context.codec
    found: list[Any] = packets.stamps
    one_each = codec.canonical_name in ONE_PACKET and not first.interlaced_frame and not numbered
    whole = bool(found) and None not in found and packets.ordered
    if whole and (codec.intra_only or (one_each and first.pts == min(found))):
        found = sorted(found)
    else:
        found = [s for s in _decode_all(path, announced) if s is None or s != packets.broken]
    if not found:
        raise _nothing(path)
    count, stamps, keys = len(found), None, np.zeros(1, int)
    if None not in found and (np.diff(found) > 0).all():
        stamps = np.array(found, np.int64)
        keys = np.flatnonzero(np.isin(stamps, list(packets.keys)))
    times, rate = clock(stamps, time_base, header, count)
    if packets.cut:
        _warn_of_cut(path, count, times)
    stored, turn = (first.height, first.width), turn_of(first)
    size = squared(stored, shape if square else None)
    upright, plain = ((s[1], s[0]) if turn.swap else s for s in (size, stored))
    note = _note(stored, size, shape)
    return Index(count, stamps, keys, times, rate, upright, plain, turn, note)


def _nothing(path: Path) -> DataError:
    return DataError(f"{path} has no frame that can be decoded: copy it again.")


def _warn_of_cut(path: Path, count: int, times: np.ndarray | None) -> None:
    lasts = "" if times is None else f" ({times[-1]:.3g} s)"
    warnings.warn(
        f"{path} ends after {count} frames{lasts}, earlier than its header says: if the file is "
        "cut off, copy it again.",
        stacklevel=5,
    )


def _note(stored: tuple[int, int], size: tuple[int, int], shape: Fraction | None) -> str:
    if size == stored:
        return ""
    return (
        f"The video's pixels are not square (aspect {shape}): frames are stretched from "
        f"{stored[1]} x {stored[0]} to {size[1]} x {size[0]} pixels, as players show them. "
        "Only the exports deeplabcut and slp are in pixels of the stored frames, on which these "
        "tools draw."
    )


def open_file(path: Path, *, ahead: bool = False) -> tuple[Any, Any]:
    """Open a video file; return PyAV's container and video stream, or raise DataError.

    With `ahead`, several frames are decoded at the same time. This is faster, but a packet that
    can't be decoded then spoils whole frames.
    """
    _check_file(path)
    try:
        container: Any = av.open(
            os.fspath(path),
            options={"max_pixels": str(MOST_PIXELS)},
            container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="ignore",
        )
        if not container.streams:
            container.close()
            raise ValueError("its index is missing.")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a video that FFmpeg can open, or its end is missing: copy it again, or "
            "convert it to mp4."
        ) from error
    try:
        stream = _pictures_of(path, container)
    except DataError:
        container.close()
        raise
    stream.thread_type, stream.codec_context.thread_count = "AUTO" if ahead else "SLICE", THREADS
    return container, stream


def _pictures_of(path: Path, container):
    """Return the video stream of a container; raise DataError if none can be decoded."""
    cover = av.stream.Disposition.attached_pic  # a still picture, such as an album's cover
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    codec = streams[0].codec_context if streams else None
    if codec is None:
        raise DataError(
            f"{path} has no video, or one in a format that FFmpeg can't decode: convert it to mp4."
        )
    if codec.width * codec.height > MOST_PIXELS:
        raise DataError(
            f"{path} says that its frames have {codec.width} x {codec.height} pixels: it is "
            "damaged, or too large to be read. Copy it again, or convert it to smaller frames."
        )
    return streams[0]


def _check_file(path: Path) -> None:
    """Raise DataError, with the system's reason, if the file is missing, unreadable or empty."""
    try:
        if path.exists() and not path.is_file():  # refused, because reading a pipe may never end
            raise DataError(f"{path} is not a file: name a video.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    if empty:
        raise DataError(f"{path} is empty (0 bytes): copy it again.")


def decode(container, stream) -> Iterator[av.VideoFrame]:
    """Yield the frames from the current position on; skip packets that can't be decoded."""
    with contextlib.suppress(av.FFmpegError):  # the file may end inside a packet
        for packet in _demux(container, stream):
            with contextlib.suppress(av.FFmpegError):
                yield from packet.decode()


def _demux(container, *streams) -> Iterator[av.Packet]:
    """Yield the packets of these streams, or of all.

    Packets of streams that start later in a damaged file are skipped, because PyAV doesn't know
    them.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue


class _Packets(NamedTuple):
    """What is known about a file's frames without decoding them.

    Attributes:
      stamps: time stamps of the packets of frames, in the order of the file.
      keys: time stamps of key frames.
      broken: time stamp of an incomplete last packet, which is not in `stamps`.
      cut: whether the file is truncated.
      ordered: whether its clock never jumps back. In joined transport streams it does.
      step: median step of the clock between packets.
    """

    stamps: list[Any]  # int, or None for a packet without one
    keys: set[int]
    broken: int | None
    cut: bool
    ordered: bool
    step: int


def _packets(container, stream) -> _Packets:
    """Read all packets of a file."""
    stamps, keys, hidden, end, broken, cut = [], set(), 0, 0.0, False, False
    clock: list[int] = []
    try:
        for packet in _demux(container):
            if not packet.size:
                continue
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            if packet.is_discard:  # it lies before the file's start time
                hidden += 1
                continue
            stamps.append(packet.pts)
            if packet.dts is not None:
                clock.append(packet.dts)
            broken = packet.is_corrupt
            if packet.is_keyframe:
                keys.add(packet.pts)
    except av.FFmpegError:
        cut = True
    kind, announced = container.format.name, (container.duration or 0) / av.time_base
    if "mov" in kind:  # the header lists the frames
        cut |= stream.frames > len(stamps) + hidden
    elif kind in ("matroska,webm", "flv"):
        cut |= announced - end > max(CUT_SECONDS, CUT_SHARE * announced)
    steps = np.diff(clock)
    step = int(np.median(steps)) if len(steps) else 0
    last, ordered = stamps.pop() if broken else None, bool((steps >= 0).all())
    return _Packets(stamps, keys, last, cut or broken, ordered, step)


def _decode_all(path: Path, announced: int) -> list[int | None]:
    """Decode the whole file; return the time stamps of its frames."""
    container, stream = open_file(path)
    label = f"counting frames of {path.name}"
    with container:
        frames = tqdm(
            decode(container, stream),
            total=announced or None,
            desc=label,
            unit="frame",
            delay=BAR_DELAY,
        )
        return [frame.pts for frame in frames]


def clock(
    stamps: np.ndarray | None, unit: Fraction, header: tuple[Fraction | None, ...], count: int
) -> tuple[np.ndarray | None, float | None]:
    """Return times in seconds [T] since the first frame, and the mean frames a second.

    Some containers round times to milliseconds. If all times fit a constant rate up to this
    rounding, exactly that rate is used.

    Args:
      stamps: ascending int64 [T]; None if there are no usable ones.
      unit: seconds in a unit of `stamps`.
      header: rates in the header, the most reliable first; some are estimates.
      count: number T of frames.
    """
    common = [rate * slow for slow in (1.0, 1000 / 1001) for rate in COMMON_RATES]
    claimed = [_common_or(float(rate), common) for rate in header if rate]
    places = np.arange(count)
    if stamps is None or count < 2:
        rate = claimed[0] if claimed else None
        return (places / rate if rate else None), rate
    seconds = (stamps - stamps[0]) * float(unit)
    mean = (count - 1) / seconds[-1]
    near = sorted(common, key=lambda rate: abs(rate - mean))[:4]
    errors = {rate: places / rate - seconds for rate in (*claimed, *near)}
    fit = [rate for rate, error in errors.items() if np.abs(error).max() <= 1.001 * float(unit)]
    if not fit:
        return seconds, mean
    # Prefer a rate of the header if it fits, because a few frames can't distinguish 30 from 29.97.
    best = min(
        fit, key=lambda r: (r not in claimed, round((errors[r] ** 2).mean() / float(unit) ** 2, 1))
    )
    return places / best, best


def _common_or(rate: float, common: list[float]) -> float:
    """Return the common rate of which this one is rounded (such as 29.97), or the rate itself."""
    nearest = min(common, key=lambda each: abs(each - rate))
    return nearest if abs(nearest / rate - 1) < 1e-4 else rate


def squared(stored: tuple[int, int], shape: Fraction | None) -> tuple[int, int]:
    """Return height and width with square pixels; shape is width / height of a stored pixel."""
    height, width = stored
    if not shape or abs(shape - 1) < SQUARE or not 1 / ODDEST_PIXEL <= shape <= ODDEST_PIXEL:
        return stored
    stretched = max(1, round(width * shape))
    return (height, stretched) if height * stretched <= MOST_PIXELS else stored


def turn_of(frame: av.VideoFrame) -> Turn:
    """Return how to turn a frame for display, from its matrix (ISO 14496-12)."""
    side_data: Any = frame.side_data
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(memoryview(data), np.int32)[:5]
            if abs(int(b)) + abs(int(c)) > abs(int(a)) + abs(int(d)):  # x' = c y, y' = b x
                return Turn(True, bool(b < 0), bool(c < 0))
            return Turn(False, bool(d < 0), bool(a < 0))
    return Turn()
