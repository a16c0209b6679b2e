"""BBC Pose: 20 videos of sign language interpreters, JPEG frames and one MATLAB file of labels.

The first ten videos are for training (all frames labelled, semi-automatically), the last ten for
testing (200 frames each labelled by hand; the official validation and test videos together). Every
video counts as one person.

The data set has no boxes. As in the published program, they are made from the labels, even on test
frames, so results assume a perfect person detector.

The labels count pixels from 1; everything here counts from 0. Boxes follow the published program's
formula, which makes them one pixel wider and higher than x2 - x1 and y2 - y1.
"""

import functools
import os
from pathlib import Path

import numpy as np
import scipy.io

from data_pipelines.clips import Clip, DataError
from data_pipelines.pictures import read_jpeg
from ttp_jax.skeletons import BBC7

SPLITS = ("train", "test")
LAYOUT = """Expected the layout of the BBC Pose archive:
  DIR/
    bbcpose.mat
    1/
      1.jpg, 2.jpg, ...
    ...
    20/
      ...
Set the folder with --config.data.root=DIR."""
VIDEOS = 20  # the struct array has 92 elements; the rest belongs to Extended BBC Pose
TRAIN_VIDEOS = 10
# Positions in an element of the struct array: the numbers of the labelled frames; their joints
# follow. Test videos have both kinds of labels.
SEMI_AUTOMATIC, BY_HAND = 3, 5
BOX_MARGIN = 60  # pixels around the outermost joints
PICTURE = (720, 480)  # the published program's limits for boxes


def clips(root: str | os.PathLike, split: str | None = None, extra: int = 0) -> list[Clip]:
    """List the videos under `root` by number, without opening pictures before they are read.

    Clips are named after the videos' folders, with two digits ("01" .. "20").

    Args:
      root: folder with `bbcpose.mat` and a folder of pictures per video.
      split: "train" or "test" to list (and check) only those; None for both.
      extra: unlabelled frames to add to each test video, for personalization on more frames than
        are scored (paper, figure 4). As in the published program, they are drawn at random from the
        video's other frames, at most extra // 2 frame numbers before the first and after the last
        scored frame, and all frames are in order of time. The draw is always the same. Added frames
        have a box (from the semi-automatic labels) and invisible joints at (0, 0), so that no
        measure counts them.

    Raises:
      DataError: the layout is missing, the labels can't be used, or pictures are missing.
    """
    if split not in (None, *SPLITS):
        raise DataError(f"BBC Pose has the splits {' and '.join(SPLITS)}, but not {split!r}.")
    root = Path(root).expanduser()
    path = root / "bbcpose.mat"
    found = []
    for number, row in enumerate(_load_mat(path), 1):
        own = "train" if number <= TRAIN_VIDEOS else "test"
        if split in (None, own):
            labels = _frames_of(row, own, number, extra, path)
            found.append(_clip(root / str(number), own, *labels))
    return found


def names_in(folder: Path, layout: str) -> set[str]:
    """List the names in a folder, except hidden files.

    Args:
      folder: folder to list.
      layout: description of the expected layout, for the error.

    Raises:
      DataError: the folder can't be listed; the message shows `layout`.
    """
    try:
        return {name for name in os.listdir(folder) if not name.startswith(".")}
    except OSError as error:
        raise DataError(
            f"Folder {folder} can't be listed ({error.strerror}): unpack it, or correct its "
            f"permissions.\n{layout}"
        ) from error


def _load_mat(path: Path) -> np.ndarray:
    """Load the struct array's first 20 elements."""
    try:
        with open(path, "rb") as file:
            rows = scipy.io.loadmat(file, variable_names=("bbcpose",))["bbcpose"].ravel()
    except Exception as error:  # the kind of error depends on where the damage is
        reason = getattr(error, "strerror", None) or repr(error)
        raise DataError(
            f"{path} can't be read as a MATLAB file of labels ({reason}): unpack it again from the "
            f"data set's code archive.\n{LAYOUT}"
        ) from error
    if len(rows) < VIDEOS or len(rows.dtype.names or ()) <= BY_HAND + 1:
        raise DataError(
            f"{path} is not the BBC Pose file: its variable bbcpose holds {len(rows)} videos of "
            f"{len(rows.dtype.names or ())} fields, expected 92 of 7. Unpack it again."
        )
    return rows[:VIDEOS]


def _frames_of(
    row: np.void, split: str, number: int, extra: int, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a video's frame numbers [T], joints [T, 7, 2] (0-based), visible and boxes [T, 4]."""
    where = f"{path}, video {number}"
    frames, joints = _labels(row, SEMI_AUTOMATIC if split == "train" else BY_HAND, where)
    visible = np.isfinite(joints.sum(-1))
    boxes = _boxes(joints, visible, frames, where)
    if extra and split == "test":
        more, guesses = _extra(frames, *_labels(row, SEMI_AUTOMATIC, where), extra, where)
        known = np.isfinite(guesses.sum(-1))
        frames = np.concatenate([frames, more])
        joints = np.concatenate([joints, np.zeros_like(guesses)])
        visible = np.concatenate([visible, np.zeros_like(known)])
        boxes = np.concatenate([boxes, _boxes(guesses, known, more, where)])
    order = np.argsort(frames, kind="stable")
    return frames[order], joints[order], visible[order], boxes[order]


def _labels(row: np.void, place: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the frame numbers [T] and joints float64 [T, 7, 2], 0-based, of one kind of label."""
    frames, joints = row[place].ravel().astype(np.int64), row[place + 1]
    shape = (2, BBC7.size, len(frames))
    # MATLAB drops the last axis of a single frame.
    single = len(frames) == 1 and joints.shape == shape[:2]
    if not len(frames) or not (joints.shape == shape or single):
        raise DataError(
            f"{where}: {len(frames)} frame numbers come with joints {joints.shape}, expected "
            f"(2, {BBC7.size}, frames) and at least one frame. Unpack bbcpose.mat again."
        )
    return frames, joints.reshape(shape).transpose(2, 1, 0).astype(np.float64) - 1


def _extra(
    scored: np.ndarray, frames: np.ndarray, joints: np.ndarray, count: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Choose `count` semi-automatically labelled frames, among and around the scored ones."""
    near = (frames >= scored.min() - count // 2) & (frames <= scored.max() + count // 2)
    candidates = np.flatnonzero(near & ~np.isin(frames, scored))
    if len(candidates) < count:
        raise DataError(
            f"{where}: only {len(candidates)} extra frames lie near the scored ones, but {count} "
            "are wanted: ask for fewer."
        )
    chosen = np.random.default_rng(0).choice(candidates, count, replace=False)
    return frames[chosen], joints[chosen]


def _boxes(joints: np.ndarray, visible: np.ndarray, frames: np.ndarray, where: str) -> np.ndarray:
    """Return the published boxes float32 [T, 4] around the visible joints [T, 7, 2] (0-based)."""
    if not visible.any(-1).all():
        raise DataError(
            f"{where}: no joint of frame {frames[np.argmin(visible.any(-1))]} has coordinates, so "
            "it has no box. Unpack bbcpose.mat again."
        )
    one_based, seen = joints + 1, visible[..., None]
    low = np.where(seen, one_based, np.inf).min(1) - BOX_MARGIN
    high = np.where(seen, one_based, -np.inf).max(1) + BOX_MARGIN
    low, high = np.maximum(low, 0), np.minimum(high, PICTURE)
    size = high - low + 1
    bad = np.flatnonzero((size <= 0).any(-1))
    if bad.size:
        raise DataError(
            f"{where}: the joints of frame {frames[bad[0]]} lie outside the picture, so it has no "
            "box. Unpack bbcpose.mat again."
        )
    centre = (low + high) / 2 - 1
    return np.concatenate([centre - size / 2, centre + size / 2], -1).astype(np.float32)


def _clip(
    folder: Path,
    split: str,
    frames: np.ndarray,
    joints: np.ndarray,
    visible: np.ndarray,
    boxes: np.ndarray,
) -> Clip:
    """Join labels with their folder of pictures."""
    missing = {f"{frame}.jpg" for frame in frames} - names_in(folder, LAYOUT)
    if missing:
        raise DataError(
            f"BBC Pose: {folder} lacks {len(missing)} of the {len(frames)} pictures that "
            f"bbcpose.mat names, among them {min(missing, key=lambda name: (len(name), name))}: "
            "unpack that video again."
        )
    name = f"{int(folder.name):02d}"
    return Clip(
        name=name,
        subject=name,
        split=split,
        num_frames=len(frames),
        read=functools.partial(_read_numbered, folder, frames),
        file=functools.partial(_numbered, folder, frames),
        boxes=boxes,
        joints=joints.astype(np.float32),
        visible=visible,
    )


def _numbered(folder: Path, frames: np.ndarray, index: int) -> Path:
    return folder / f"{frames[index]}.jpg"


def _read_numbered(folder: Path, frames: np.ndarray, index: int) -> np.ndarray:
    return read_jpeg(_numbered(folder, frames, index))
