"""Unlabelled frames of a project's videos, for the self-supervised task."""

import collections
import dataclasses
import pathlib

import numpy as np

from data_pipelines import boxes as user_boxes
from data_pipelines import clips
from data_pipelines.clips import Clip, DataError
from data_pipelines.projects.records import Footage, Project
from data_pipelines.video import Video
from ttp_jax import geometry


def unlabelled(
    project: Project, count: int, *, boxes: str = "labels"
) -> tuple[list[Clip], list[str]]:
    """Return clips of unlabelled frames, spread over the videos, and what was left out.

    A video of several subjects is left out, because nothing says who is where. So is a video
    without any labels, because its subject is in no split.

    Args:
      project: the project. Each clip is in the split of its subject.
      count: number of unlabelled frames of each subject.
      boxes: "labels" or "annotated" for the region that holds the boxes of all labelled pictures of
        the recording, "whole", or a region "x1,y1,x2,y2" of these pictures.

    Returns:
      The clips, and sentences about what was left out.

    Raises:
      DataError: `boxes` can't be understood.
    """
    found, left_out, used = [], [], set()
    films = [film for film in project.footage if film.recording and len(film.subjects) == 1]
    owned = collections.Counter(subjects for _, _, subjects in {_identity(film) for film in films})
    labelled = dict(zip(project.recordings, project.clips, strict=True))
    for film in project.footage:
        try:
            if film not in films:
                raise DataError("none or several of the project's subjects are labelled in it.")
            if _identity(film) in used:
                raise DataError("another file of this video is used.")
            part = -(-count // owned[film.subjects])
            found.append(_clip(film, labelled[film.recording], part, boxes))
            used.add(_identity(film))
        except DataError as error:
            left_out.append(f"{film.path.name}: {error}")
    return found, left_out


def other(labelled: Clip, path: pathlib.Path, count: int, *, boxes: str) -> Clip:
    """Return unlabelled frames of a subject from a video without any labels.

    Args:
      labelled: the subject's labelled frames.
      path: the video, which shows this subject only.
      count: number of frames, spread over the video.
      boxes: as in `unlabelled`.

    Raises:
      DataError: the video can't be read, or has frames of another size.
    """
    made = _clip(Footage(path, "", (labelled.subject,), None), labelled, count, boxes)
    return dataclasses.replace(made, name=f"{labelled.subject}_{path.stem}")


def _identity(film: Footage) -> tuple[str, str, tuple[str, ...]]:
    """Return what the files of one video in several containers have in common."""
    return film.recording, film.path.stem, film.subjects


def _clip(film: Footage, labelled: Clip, count: int, boxes: str) -> Clip:
    """Return frames of one video as a clip; raises DataError if they can't be used."""
    whole = _cropped(_whole(film, labelled), film, labelled.largest)
    known = set(labelled.frame_numbers.tolist()) if film.recording else set()
    free = [frame for frame in range(whole.num_frames) if frame not in known]
    if not free:
        raise DataError("all its frames are labelled.")
    places = np.linspace(0, len(free) - 1, min(count, len(free))).round().astype(int)
    chosen = clips.at(whole, [free[place] for place in places])
    box = np.tile(_box(boxes, labelled), (chosen.num_frames, 1))
    return dataclasses.replace(chosen, boxes=box)


def _whole(film: Footage, labelled: Clip) -> Clip:
    """Return all frames of a video as stored, like the labelled ones."""
    video = Video(film.path, square=False)
    sizes = np.tile(video.size, (len(video), 1))
    return Clip(
        name=f"{labelled.name}{clips.UNLABELLED}",
        subject=labelled.subject,
        split=labelled.split,
        num_frames=len(video),
        read=video.read,
        boxes=geometry.whole_box(sizes).astype(np.float32),
        frames_per_second=video.rate,
        times=video.times,
        sizes=sizes,
    )


def _cropped(whole: Clip, film: Footage, size: tuple[int, int]) -> Clip:
    """Return the video cropped like the labelled pictures, which have this size."""
    if whole.largest == size:
        return whole
    x1, x2, y1, y2 = film.crop or (0, 0, 0, 0)
    if (y2 - y1, x2 - x1) != size or x2 > whole.largest[1] or y2 > whole.largest[0]:
        (height, width), (h, w) = whole.largest, size
        raise DataError(
            f"its frames have {width} x {height} pixels, the labelled pictures {w} x {h}."
        )
    return dataclasses.replace(
        whole,
        read=lambda index: np.ascontiguousarray(whole.read(index)[y1:y2, x1:x2]),
        sizes=np.tile(size, (whole.num_frames, 1)),
    )


def _box(rule: str, labelled: Clip) -> np.ndarray:
    """Return the box float32 [4] for all frames of a video."""
    if rule in ("labels", "annotated"):
        low, high = labelled.boxes[:, :2].min(0), labelled.boxes[:, 2:].max(0)
        return np.concatenate([low, high]).astype(np.float32)
    if rule == "whole":
        return geometry.whole_box(labelled.largest).astype(np.float32)
    region = user_boxes.region(rule)
    if region is None:
        raise DataError(
            f'boxes is "{rule}": expected labels, annotated, whole or a region "x1,y1,x2,y2".'
        )
    return region.astype(np.float32)
