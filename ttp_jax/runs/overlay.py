"""The video with both poses drawn over it."""

import contextlib
import os
import pathlib
from fractions import Fraction

import av
import cv2
import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax.files import write_atomically
from ttp_jax.runs.outcome import Outcome
from ttp_jax.skeletons import Skeleton

VIDEO_PIXELS = 1280  # longer side of the overlay video
TICKS = 90_000  # a second: the usual rates divide them
BEFORE, AFTER = (255, 84, 112), (64, 224, 120)


def on_canvas(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture in the upper left of a black one of height and width `size`, the largest's."""
    picture = picture[: size[0], : size[1]]  # a picture's header may tell another size
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, size[0] - height), (0, size[1] - width), (0, 0)))


def overlay_video(
    path: pathlib.Path, outcome: Outcome, poses, skeleton: Skeleton, rate: float
) -> pathlib.Path:
    """Write the video with both poses drawn, before red and after green, and the frames' numbers.

    H.264, which players, browsers and phones show. Each frame is shown at its own time, where the
    clip knows it, else at `rate` frames a second. Frames that can't be read are black. Raises
    OSError where it can't be written.
    """
    height, width = outcome.size
    zoom = min(1.0, VIDEO_PIXELS / max(height, width))
    # The codec halves the resolution of colour, so it wants even sides.
    size = max(2, round(width * zoom) // 2 * 2), max(2, round(height * zoom) // 2 * 2)
    scale = np.array(size) / (width, height)
    thick = max(2, round(max(size) / 400))
    numbers = outcome.clip.frame_numbers
    stamps = _stamps(outcome.clip, rate)

    def write(temporary):
        # As a whole path: FFmpeg takes "run-1:2/a.mp4" for a protocol.
        with av.open(
            os.path.abspath(temporary), "w", format="mp4", options={"movflags": "faststart"}
        ) as file:
            given = Fraction(rate).limit_denominator(10_000)
            # Frames in the order in which they are shown: else the file's length is another.
            stream = file.add_stream("libx264", rate=given, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, TICKS)
            for index in range(outcome.clip.num_frames):
                picture = np.zeros((height, width, 3), np.uint8)
                with contextlib.suppress(clips_lib.FrameError):
                    picture = on_canvas(outcome.clip.read(index), outcome.size)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                for name, color, extra in (("before", BEFORE, 0), ("after", AFTER, 1)):
                    points = (poses[name][index] + 0.5) * scale - 0.5
                    draw_pose(picture, points, skeleton, color, thick + extra)
                write_legend(picture, f"frame {numbers[index]}")
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), "rgb24")
                frame.pts, frame.time_base = int(stamps[index]), Fraction(1, TICKS)
                frame.duration = int(stamps[index + 1] - stamps[index])
                file.mux(stream.encode(frame))
            file.mux(stream.encode())

    try:
        return write_atomically(path, write)
    except av.FFmpegError as error:
        raise OSError(f"{path} can't be written: {error}. Is the disk full?") from error


def _stamps(clip: clips_lib.Clip, rate: float) -> np.ndarray:
    """When each frame is shown, and when the last one ends, in ticks [T + 1]."""
    if clip.times is None:
        times = np.arange(clip.num_frames + 1) / rate
    else:
        times = np.append(clip.times, clip.times[-1] + 1 / rate) - clip.times[0]
    return np.round(times * TICKS)


def write_legend(picture, text: str) -> None:
    """Write a text and what the colours mean into the picture's top left corner."""
    size = max(0.45, max(picture.shape[:2]) / 1600)
    at = np.array([6, 6 + round(22 * size)])
    for word, color in ((text, (255, 255, 255)), ("before", BEFORE), ("after", AFTER)):
        place = tuple(int(v) for v in at)
        for shade, thick in (((0, 0, 0), 4), (color, 1)):
            cv2.putText(picture, word, place, cv2.FONT_HERSHEY_SIMPLEX, size, shade, thick,
                        cv2.LINE_AA)  # fmt: skip
        at += (0, round(32 * size))


def draw_pose(picture, points, skeleton: Skeleton, color, thick: int) -> None:
    """Draw limbs and joints [K, 2] into a picture; those that are NaN are left out."""
    at = [tuple(int(v) for v in np.round(p)) if np.isfinite(p).all() else None for p in points]
    for a, b in ((at[a], at[b]) for a, b in skeleton.limbs):
        if a and b:
            cv2.line(picture, a, b, color, thick, cv2.LINE_AA)
    for place in at:
        if place:
            cv2.circle(picture, place, thick + 1, color, -1, cv2.LINE_AA)
