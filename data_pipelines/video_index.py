"""What a video file holds: how many frames, when each is shown, and how it lies.

Headers lie about the number of frames. Where each frame is one packet the packets are counted,
which takes no decoding; a file of another kind, or a damaged one, is decoded once.
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

# Containers that are read. Others that FFmpeg knows include playlists, which name further files.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,dv,mxf,nut"
)
MOST_PIXELS = 2**27  # of a frame, as many as 16K has; a header that claims more is damaged
THREADS = min(4, os.cpu_count() or 1)  # of one decoder; each holds frames of its own
# A frame of these is one packet, as is one of a codec that predicts nothing from other frames.
# Older codecs have packets that show nothing.
ONE_PACKET = ("h264", "hevc", "vvc", "vp9", "av1")
ODDEST_PIXEL = 8  # longer to shorter side; a header that claims more is damaged
SQUARE = 0.01  # pixels so close to square are left alone: encoders round
COMMON_RATES = (10, 12, 12.5, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 200, 240)
CUT_SECONDS, CUT_SHARE = 0.25, 0.01  # missing of what the header announces: less says nothing


class Turn(NamedTuple):
    """How a stored frame becomes upright: rows and columns swap, then each may be flipped."""

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


class Index(NamedTuple):
    """The frames of a video, in the order in which they are shown.

    Attributes:
      count: T.
      stamps: int64 [T], time stamps in units of the stream; None where frames share some, so that
        only counting tells them apart.
      keys: int [n], places of the frames that decoding can start from.
      times: float64 [T], seconds from the first frame; None where the file has no times.
      rate: mean frames a second; None where the file doesn't say.
      size: height and width of the upright pictures with square pixels.
      turn: from the stored frames to the upright ones.
      note: a sentence for the reader of results, "" for none.
    """

    count: int
    stamps: np.ndarray | None
    keys: np.ndarray
    times: np.ndarray | None
    rate: float | None
    size: tuple[int, int]
    turn: Turn
    note: str


def _first(path: Path, container, stream) -> av.VideoFrame:
    """Decode the first frame; raises DataError where there is none."""
    frame = next(decode(container, stream), None)
    if frame is None:
        raise _nothing(path)
    return frame


def read_index(path: Path, *, square: bool = True) -> Index:
    """Count the frames of a file; a progress bar shows if that takes long.

    Warns where the file is cut off.

    Args:
      path: of the file.
      square: whether pixels are made square.

    Raises:
      DataError: no video, or not one frame can be decoded.
    """
    container, stream = open_file(path)
    with container:
        packets = _packets(container, stream)
    container, stream = open_file(path)
    with container:
        first = _first(path, container, stream)
        shape, time_base, announced = stream.sample_aspect_ratio, stream.time_base, stream.frames
        header = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        if container.format.name == "asf":  # which says nothing; these are guesses
            header = ()
        if not packets.ordered:  # FFmpeg's guesses mix both parts' clocks
            header = (1 / (packets.step * stream.time_base),) if packets.step > 0 else ()
        numbered = container.format.name == "avi"  # its packets, in the order of the file
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
    upright = (size[1], size[0]) if turn.swap else size
    return Index(count, stamps, keys, times, rate, upright, turn, _note(stored, size, shape))


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
        f"{stored[1]} x {stored[0]} to {size[1]} x {size[0]} pixels, as players show them."
    )


def open_file(path: Path, *, ahead: bool = False) -> tuple[Any, Any]:
    """Open a video file -> container and video stream of PyAV, or raise DataError.

    ahead: decode several frames at the same time. That is faster, but a packet that can't be
    decoded takes whole frames with it.
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
    """The video stream of a container; raises DataError where it has none that can be decoded."""
    cover = av.stream.Disposition.attached_pic  # the picture of an album, say
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
    """Refuse what is no file, can't be read or is empty, with the system's reason."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe might never end
            raise DataError(f"{path} is not a file: name a video.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    if empty:
        raise DataError(f"{path} is empty (0 bytes): copy it again.")


def decode(container, stream) -> Iterator[av.VideoFrame]:
    """Yield the frames from here to the end; packets that can't be decoded are passed over."""
    with contextlib.suppress(av.FFmpegError):  # of a file that ends inside a packet
        for packet in _demux(container, stream):
            with contextlib.suppress(av.FFmpegError):
                yield from packet.decode()


def _demux(container, *streams) -> Iterator[av.Packet]:
    """Yield the packets of these streams, or of all.

    PyAV doesn't know streams that a damaged file begins later: their packets are passed over.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue


class _Packets(NamedTuple):
    """What a file says of its frames without being decoded.

    Attributes:
      stamps: time stamps of the packets of frames, in the order of the file.
      keys: those of key frames.
      broken: that of a last packet that isn't whole, which `stamps` leaves out.
      cut: whether the file is cut off.
      ordered: whether its clock never goes back, as it does where transport streams were joined.
      step: of the clock from one packet to the next, the median.
    """

    stamps: list[Any]  # int, or None where a packet has none
    keys: set[int]
    broken: int | None
    cut: bool
    ordered: bool
    step: int


def _packets(container, stream) -> _Packets:
    """Go through a file to its end."""
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
            if packet.is_discard:  # before the beginning that the file itself names
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
    if "mov" in kind:  # whose header lists the frames
        cut |= stream.frames > len(stamps) + hidden
    elif kind in ("matroska,webm", "flv"):
        cut |= announced - end > max(CUT_SECONDS, CUT_SHARE * announced)
    steps = np.diff(clock)
    step = int(np.median(steps)) if len(steps) else 0
    last, ordered = stamps.pop() if broken else None, bool((steps >= 0).all())
    return _Packets(stamps, keys, last, cut or broken, ordered, step)


def _decode_all(path: Path, announced: int) -> list[int | None]:
    """Time stamps of all frames that the decoder gives."""
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
    """Times in seconds [T] from the first frame on, and the mean frames a second.

    Some containers round times to milliseconds. Where all frames lie on the grid of a constant
    rate, up to that rounding, they are shown at just that rate.

    Args:
      stamps: ascending int64 [T], in `unit` seconds; None where they tell nothing.
      header: rates that the file claims, the most trusted first; some are estimates.
      count: T.
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
    # What the file claims, if it fits. Else the best one; a few frames don't tell 30 from 29.97.
    best = min(
        fit, key=lambda r: (r not in claimed, round((errors[r] ** 2).mean() / float(unit) ** 2, 1))
    )
    return places / best, best


def _common_or(rate: float, common: list[float]) -> float:
    """The common rate that a rounded one (29.97) means, or the rate itself."""
    nearest = min(common, key=lambda each: abs(each - rate))
    return nearest if abs(nearest / rate - 1) < 1e-4 else rate


def squared(stored: tuple[int, int], shape: Fraction | None) -> tuple[int, int]:
    """Height and width with square pixels; shape: width by height of a stored pixel."""
    height, width = stored
    if not shape or abs(shape - 1) < SQUARE or not 1 / ODDEST_PIXEL <= shape <= ODDEST_PIXEL:
        return stored
    stretched = max(1, round(width * shape))
    return (height, stretched) if height * stretched <= MOST_PIXELS else stored


def turn_of(frame: av.VideoFrame) -> Turn:
    """How the file says that its frames are to be shown (ISO 14496-12's matrix)."""
    side_data: Any = frame.side_data
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(memoryview(data), np.int32)[:5]
            if abs(int(b)) + abs(int(c)) > abs(int(a)) + abs(int(d)):  # x' = c y, y' = b x
                return Turn(True, bool(b < 0), bool(c < 0))
            return Turn(False, bool(d < 0), bool(a < 0))
    return Turn()
