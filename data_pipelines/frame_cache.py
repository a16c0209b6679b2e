"""Frames of videos as pictures on disk: decoded once, in their order, then read in any."""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import cv2

from data_pipelines import pictures
from data_pipelines.clips import Clip, FrameError

QUALITY = 95  # of the JPEG files: videos have lost more already


def cached(clip: Clip, folder: str | os.PathLike) -> Clip:
    """The clip, its frames read from files below `folder`, which are made if they aren't there.

    They are found again by the clip's name and a fingerprint of its origin, frames and sizes. A
    frame that couldn't be decoded has no file, and reading it raises `FrameError`.
    """
    about = f"{clip.origin} {clip.frame_numbers.tolist()} {clip.largest}"
    place = Path(folder) / f"{clip.name}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        _write(clip, place)

    def read(index: int):
        return pictures.read(_file(place, index))

    return dataclasses.replace(clip, read=read)


def _write(clip: Clip, place: Path) -> None:
    """Decode all frames into a folder that appears as a whole or not at all."""
    unfinished = place.with_name(f"{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for index in range(clip.num_frames):
        try:
            picture = clip.read(index)
        except FrameError:
            continue
        done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise OSError(f"{unfinished}: a frame of {clip.name} can't be written.")
        _file(unfinished, index).write_bytes(data.tobytes())
    unfinished.rename(place)


def _file(place: Path, index: int) -> Path:
    return place / f"{index:06}.jpg"
