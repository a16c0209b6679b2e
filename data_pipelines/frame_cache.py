"""A cache of video frames on disk: decoded once in order, then read in any order."""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from data_pipelines import pictures
from data_pipelines.clips import Clip, FrameError
from ttp_jax import files

QUALITY = 95  # JPEG quality; the video's own compression has already lost more


def cached(clip: Clip, folder: str | os.PathLike) -> Clip:
    """Return the clip with its frames read from files below `folder`, written now if missing.

    Files are found by the clip's name and a hash of its fingerprint, frames and sizes. A frame that
    couldn't be decoded has no file, and reading it raises `FrameError`.
    """
    about = f"{clip.fingerprint} {clip.frame_numbers.tolist()} {clip.largest}"
    place = Path(folder) / f"{clip.name}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    with files.only_one(place, wait=True):  # of several processes that train together
        if not place.is_dir():
            _write(clip, place)

    def read(index: int):
        return pictures.read(_file(place, index))

    return dataclasses.replace(clip, read=read)


def _write(clip: Clip, place: Path) -> None:
    """Decode all frames into a folder, which is only moved into place when it is complete."""
    unfinished = place.with_name(f"{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for index in range(clip.num_frames):
        try:
            picture = clip.read(index)
        except FrameError:
            continue
        _file(unfinished, index).write_bytes(packed(picture))
    unfinished.rename(place)


def packed(picture: np.ndarray, *, exact: bool = False) -> bytes:
    """Encode a frame uint8 RGB [H, W, 3] as JPEG, or as PNG if it must be lossless."""
    kind, how = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    if exact:
        kind, how = ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(kind, picture[..., ::-1], how)
    if not done:
        raise ValueError(f"a picture of {picture.shape} can't be encoded.")
    return data.tobytes()


def unpacked(data: bytes) -> np.ndarray:
    """Decode what `packed` encoded."""
    picture = pictures.decode(data)
    if picture is None:
        raise FrameError("a picture that was kept on disk is damaged: run the same command again.")
    return picture


def _file(place: Path, index: int) -> Path:
    return place / f"{index:06}.jpg"
