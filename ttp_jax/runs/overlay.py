"""The video with both poses drawn over it."""

import os
import pathlib
from fractions import Fraction

import av
import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax import geometry
from ttp_jax.files import write_atomically
from ttp_jax.runs.backdrop import Backdrop
from ttp_jax.runs.drawing import draw_pose, write_legend
from ttp_jax.runs.outcome import Outcome
from ttp_jax.skeletons import Skeleton

TICKS = 90_000  # ticks a second, a multiple of the usual frame rates
# Without B-frames, frames are stored in display order; otherwise the duration would be wrong. This
# preset takes a third of the default's time.
CODEC = {"bf": "0", "preset": "veryfast", "crf": "21"}


def overlay_video(
    path: pathlib.Path,
    outcome: Outcome,
    poses,
    skeleton: Skeleton,
    rate: float,
    pcutoff: float = 0.0,
) -> pathlib.Path:
    """Write the video with both poses drawn, "before" under "after", and the frames' numbers.

    The format is H.264, which players, browsers and phones can play. Each frame is shown at its own
    time if the clip knows it, otherwise at `rate` frames a second. Frames that can't be read are
    black, and joints with a confidence below `pcutoff` are hollow. Raises OSError if the file can't
    be written.
    """
    backdrop = Backdrop.of(outcome.clip)
    size = backdrop.size
    scale = np.array(size) / outcome.size[::-1]
    thick = max(2, round(max(size) / 400))
    numbers = outcome.clip.frame_numbers
    stamps = _stamps(outcome.clip, rate)

    def write(temporary):
        # An absolute path, because FFmpeg reads the start of "run-1:2/a.mp4" as a protocol.
        with av.open(
            os.path.abspath(temporary), "w", format="mp4", options={"movflags": "faststart"}
        ) as file:
            given = Fraction(rate).limit_denominator(10_000)
            stream = file.add_stream("libx264", rate=given, options=CODEC)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, TICKS)
            for index in range(outcome.clip.num_frames):
                picture = backdrop.small(index)
                for name, confidence in zip(("before", "after"), outcome.confidence, strict=True):
                    points = geometry.rescale_points(poses[name][index], scale)
                    sure = {"confidence": confidence[index], "pcutoff": pcutoff}
                    draw_pose(picture, points, skeleton, name, thick + 1, **sure)
                write_legend(picture, f"frame {numbers[index]}", skeleton, pcutoff)
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
    """Return the time of each frame, and the end of the last one, in ticks [T + 1]."""
    if clip.times is None:
        times = np.arange(clip.num_frames + 1) / rate
    else:
        times = np.append(clip.times, clip.times[-1] + 1 / rate) - clip.times[0]
    return np.round(times * TICKS)
