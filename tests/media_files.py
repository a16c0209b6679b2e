"""Videos and images for tests: drawn, rotated or damaged."""

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
from PIL import Image

SIZE = (48, 64)  # height and width of the test's pictures
WHOLE = [-0.5, -0.5, 63.5, 47.5]


def painted(number, size=SIZE):
    """A picture, RGB, whose colour says its number: base 8, red, green, blue."""
    digits = [number % 8, number // 8 % 8, number // 64 % 8]
    return np.full((*size, 3), [32 * digit + 16 for digit in digits], np.uint8)


def number_of(picture):
    """The number of a painted picture, after lossy compression, too."""
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    mean = picture.reshape(-1, 3).mean(0)
    assert np.abs(mean % 32 - 16).max() < 12, f"no painted colour: {mean}"
    return int((mean // 32) @ [1, 8, 64])


def write_video(path, frames=12, kind="mp4v", pictures=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = map(painted, range(frames)) if pictures is None else pictures
    writer = None
    for picture in pictures:
        if writer is None:
            size = picture.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*kind)
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 25, size)
            assert writer.isOpened()
        writer.write(picture[..., ::-1])
    writer.release()
    return path


def write_picture(path, number=0, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(painted(number, size)).save(path, **options)
    return path


def boxed(data, path, change):
    """Rewrite the innermost MP4 box on `path` (a list of names) and all sizes around it."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + size]
        if name == path[0]:
            body = boxed(body, path[1:], change) if path[1:] else change(body)
        out, at = out + struct.pack(">I4s", len(body) + 8, name) + body, at + size
    return out


def turned(path, degrees):
    """Note a clockwise rotation in an MP4 file, as phones do."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    header = [b"moov", b"trak", b"tkhd"]
    path.write_bytes(boxed(path.read_bytes(), header, lambda b: b[:40] + matrix + b[76:]))


def at_variable_rate(path, durations):
    """Give each frame of an MP4 file its own duration, as multiples of the first rate's."""

    def change(body):
        (unit,) = struct.unpack(">I", body[12:16])
        runs = b"".join(struct.pack(">2I", 1, unit * n) for n in durations)
        return body[:4] + struct.pack(">I", len(durations)) + runs

    times = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"]
    # The list of edits holds the old length, beyond which players show nothing.
    path.write_bytes(boxed(path.read_bytes(), times, change).replace(b"edts", b"free"))


def damaged(path, frames):
    """Zero these frames' data in a MJPG AVI file."""
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"00dc" and data[i + 8] == 0xFF]
    for frame in frames:
        start = starts[frame] + 8
        (size,) = struct.unpack("<I", data[start - 4 : start])
        data[start : start + size] = bytes(size)
    path.write_bytes(data)


def encode(path, pictures, rate=30, codec="libx264", stamps=None, unit=None, pix="yuv420p", **more):
    """Write RGB pictures with FFmpeg; stamps are times of the frames in `unit` seconds."""
    container = more.pop("container", {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container) as file:
        options = {name.replace("__", "-"): str(value) for name, value in more.items()}
        stream = file.add_stream(codec, rate=Fraction(rate), options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix
        if unit:
            stream.codec_context.time_base = unit
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = int(stamps[i]), unit
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def noisy(count, size=SIZE):
    """Painted pictures that differ from their neighbours all over."""
    rng = np.random.default_rng(0)
    return [painted(i, size) + rng.integers(0, 9, (*size, 3), np.uint8) for i in range(count)]
