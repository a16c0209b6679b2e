"""Human3.6M: 7 people, 15 actions twice, 4 cameras; from the videos or from unpacked pictures.

Two layouts are read: the official download (videos, and poses in CDF files), and what mmpose's
tools/dataset/preprocess_h36m.py makes of it (pictures, and poses in .npz or COCO .json files).
Reading one frame of a video takes a seek of up to a fifth of a second, so unpack the pictures once
before training.

Every 5th frame of people 1, 5, 6, 7, 8 is for training, every 200th of people 9 and 11 for testing
(paper, section 4.1). A clip is one (person, action, sub-action, camera).

Boxes are made from the labels, as in the published program's data: a square of 2 m around the
pelvis, at the pelvis' depth. Without a depth, the box is a square around the joints, 1.25 times as
long as the longer side of their extent (about the same for a standing person). Results then don't
compare with the published ones, and a warning says for how many clips. The published data put
joints and boxes at undistorted positions; here they are at the labelled positions in the pictures.
The official labels have a known fault: in parts of person 9's Greeting, SittingDown and Waiting,
the joints lie beside the person. They are used as they are, as in other work.
"""

import os
import warnings
from pathlib import Path

import numpy as np

from data_pipelines.bbc_pose import names_in
from data_pipelines.clips import Clip, DataError
from data_pipelines.h36m_files import LAYOUT, SUBJECTS, Recording, from_pictures, from_videos

SHOULDERS = (11, 14)
TO_16 = (3, 2, 1, 4, 5, 6, 0, 17, 8, 10, 16, 15, 14, 11, 12, 13)  # order of skeletons.H36M16

BOX_MM = 2000.0
BOX_AROUND_JOINTS = 1.25
# fx, fy, cx, cy in pixels per camera, from the metadata.xml of the data set's code.
INTRINSICS = {
    "54138969": (1145.0494, 1143.7811, 512.5415, 515.4515),
    "55011271": (1149.6757, 1147.5916, 508.8486, 508.0649),
    "58860488": (1149.1407, 1148.7990, 519.8158, 501.4027),
    "60457274": (1145.5113, 1144.7739, 514.9682, 501.8820),
}
# Largest distance in pixels between the projected 3-D pelvis and the labelled one. The lens shifts
# it by a few pixels; a wrong frame of reference (some published files have world coordinates)
# shifts it by hundreds.
DEPTH_TOLERANCE = 30


def clips(root: str | os.PathLike, split: str | None = None) -> list[Clip]:
    """List the recordings under `root` by person, action and name, without opening pictures.

    Clips are named as mmpose names the pictures' folders ("S9_Walking_1.60457274"), subjects are
    "S1", ..., "S11".

    Args:
      root: folder in one of the two layouts of `LAYOUT`; if both are there, the pictures are used.
      split: "train" or "test" to list (and check) only those; None for both.

    Warns:
      about boxes that aren't the published ones, missing people, and the recording whose video the
      official download lacks.

    Raises:
      DataError: the layout is missing, labels can't be used, or videos or pictures are missing.
    """
    if split not in (None, *SUBJECTS):
        raise DataError(f"Human3.6M has the splits {' and '.join(SUBJECTS)}, but not {split!r}.")
    root = Path(root).expanduser()
    names = names_in(root, LAYOUT)
    if names & {"images", "annotation_body2d", "annotation_body3d"}:
        load = from_pictures
    elif names & {f"S{number}" for numbers in SUBJECTS.values() for number in numbers}:
        load = from_videos
    else:
        raise DataError(f"Human3.6M: {root} holds neither images/ nor S1/, S5/, ...\n{LAYOUT}")
    found, skipped, without_depth = [], [], []
    for own in SUBJECTS if split is None else (split,):
        for sequence in load(root, own, skipped):
            clip, depth = _clip(sequence, own)
            found.append(clip)
            without_depth += [] if depth else [clip.name]
    _warn(found, skipped, without_depth, split)
    return found


def to_16(points: np.ndarray) -> np.ndarray:
    """Convert the 17 moving joints [..., 17, 2] of the labels to those of `skeletons.H36M16`."""
    thorax = points[..., SHOULDERS, :].mean(-2, keepdims=True)
    return np.concatenate([points, thorax], -2)[..., TO_16, :]


def _warn(
    found: list[Clip], skipped: list[str], without_depth: list[str], split: str | None
) -> None:
    """Warn about each way in which the clips differ from the published data."""
    wanted = [n for own in SUBJECTS if split in (None, own) for n in SUBJECTS[own]]
    absent = [f"S{n}" for n in wanted if f"S{n}" not in {clip.subject for clip in found}]
    notes = []
    if absent:
        notes.append(f"no recordings of {', '.join(absent)}: the split is not the published one.")
    if skipped:
        notes.append(f"skipped {', '.join(skipped)}, whose video the official download lacks.")
    if without_depth:
        notes.append(
            f"{len(without_depth)} of {len(found)} clips have no usable depth of the pelvis "
            f"(D3_Positions_mono), the first is {without_depth[0]}: their boxes are squares around "
            "the joints, not the published ones."
        )
    for note in notes:
        warnings.warn(f"Human3.6M: {note}", stacklevel=3)


def _clip(sequence: Recording, split: str) -> tuple[Clip, bool]:
    """Return the clip, and whether its boxes are the published ones."""
    points = np.where(np.isfinite(sequence.points).all(-1, keepdims=True), sequence.points, np.nan)
    joints = to_16(points)
    empty = np.isnan(points).all((1, 2))
    if empty.any():
        raise DataError(
            f"Human3.6M: no joint of row {np.argmax(empty)} of {sequence.name} has coordinates, so "
            "it has no box. Unpack its labels again."
        )
    boxes = _boxes_in_space(points[:, 0], sequence.pelvis, sequence.name.rpartition(".")[2])
    clip = Clip(
        name=sequence.name,
        subject=sequence.name.partition("_")[0],
        split=split,
        num_frames=len(points),
        read=sequence.read,
        boxes=(_boxes_around(points) if boxes is None else boxes).astype(np.float32),
        joints=joints.astype(np.float32),
        visible=np.isfinite(joints.sum(-1)),
        file=sequence.file,
    )
    return clip, boxes is not None


def _boxes_in_space(
    labelled: np.ndarray, pelvis: np.ndarray | None, camera: str
) -> np.ndarray | None:
    """Return squares of 2 m [T, 4] around the labelled pelvis [T, 2]; None without its depth."""
    if pelvis is None or camera not in INTRINSICS or not (pelvis[:, 2] > 0).all():
        return None
    focal, middle = np.split(np.array(INTRINSICS[camera]), 2)
    depth = pelvis[:, 2:]
    away = np.abs(pelvis[:, :2] / depth * focal + middle - labelled)
    if not (away <= DEPTH_TOLERANCE).all():
        return None
    half = 0.5 * BOX_MM * focal / depth
    return np.concatenate([labelled - half, labelled + half], -1)


def _boxes_around(points: np.ndarray) -> np.ndarray:
    """Return squares [T, 4] around the joints [T, 17, 2]."""
    low, high = np.nanmin(points, 1), np.nanmax(points, 1)
    centre, longer = (low + high) / 2, (high - low).max(-1, keepdims=True)
    half = 0.5 * BOX_AROUND_JOINTS * np.maximum(longer, 1)
    return np.concatenate([centre - half, centre + half], -1)
