"""Penn Action: one person in each video, 15 actions, JPEG frames and a MATLAB label file.

The labels count pixels from 1; everything here counts from 0. So that results compare with the
published ones, boxes follow the published program's formula: with 1-based x1..y2, the centre is at
(x1 + x2 - 1) / 2 - 1, half a pixel up and left of the labelled rectangle's middle, and the box is
x2 - x1 + 1 wide.
"""

import dataclasses
import functools
import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.io
from tqdm import tqdm

from data_pipelines import pictures
from data_pipelines.clips import Clip, DataError
from ttp_jax.files import DAMAGED, read_arrays, write_arrays
from ttp_jax.skeletons import PENN13

SPLITS = ("train", "test")
LAYOUT = """Expected the layout of the Penn Action archive:
  DIR/
    frames/
      0001/000001.jpg, 000002.jpg, ...
      0002/...
    labels/
      0001.mat
      0002.mat
Set the folder with --config.data.root=DIR."""
FIELDS = ("action", "train", "nframes", "dimensions", "bbox", "x", "y", "visibility")
LABEL_CACHE = Path(os.path.expanduser("~/.cache/ttp_jax/labels"))
CACHE_ABOVE = 200  # fewer label files than this are read quickly without a cache
CACHE_VERSION = 1  # increase it whenever the same files would give a different `Label`


@dataclasses.dataclass(frozen=True)
class Label:
    """The content of a label file, in 0-based picture pixels.

    Attributes:
      video: name of the folder of frames, and of the label file without its suffix ("0003").
      action: "baseball_pitch", ...
      split: "train" or "test"; the data set has no validation split.
      size: height and width of the pictures.
      num_frames: T.
      boxes: float32 [T, 4], x1, y1, x2, y2 (see the module docstring).
      joints: float32 [T, 13, 2]; some "visible" ones lie outside the picture.
      visible: bool [T, 13]; invisible joints have guessed positions.
    """

    video: str
    action: str
    split: str
    size: tuple[int, int]
    num_frames: int
    boxes: np.ndarray
    joints: np.ndarray
    visible: np.ndarray


def clips(root: str | os.PathLike, split: str | None = None) -> list[Clip]:
    """List the videos under `root` by name, without opening pictures before they are read.

    Args:
      root: folder with `frames/` and `labels/`.
      split: "train" or "test" to list (and check) only those; None for both.

    Raises:
      DataError: the layout is missing, a label can't be used, or a video's pictures and label
        disagree on the number of frames.
    """
    if split not in (None, *SPLITS):
        raise DataError(f"Penn Action has the splits {' and '.join(SPLITS)}, but not {split!r}.")
    root = Path(root).expanduser()
    labels = read_labels(_label_files(root))
    wanted = [label for label in labels if split in (None, label.split)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda label: _clip(root / "frames" / label.video, label), wanted))


def read_labels(paths: Sequence[Path]) -> list[Label]:
    """Read label files. If there are many, cache them in one file, named after their content.

    Raises:
      DataError: see `read_label`.
    """
    if len(paths) <= CACHE_ABOVE:
        return [read_label(path) for path in paths]
    file = LABEL_CACHE / f"penn-{CACHE_VERSION}-{_content(paths)}.npz"
    if (stored := _load_labels(file)) is not None:
        return stored
    with ThreadPoolExecutor() as pool:
        labels = list(
            tqdm(pool.map(read_label, paths), total=len(paths), desc="Penn Action labels")
        )
    try:
        _store_labels(file, labels)
    except OSError as error:
        warnings.warn(
            f"{file} can't be written ({error.strerror}), so every start reads all labels again.",
            stacklevel=2,
        )
    return labels


def read_label(path: str | os.PathLike) -> Label:
    """Read one label file; the frames need not exist.

    Raises:
      DataError: names the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    raw = _load_mat(path)
    try:
        return _label(path, raw)
    except DataError:
        raise
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} is not a label file of Penn Action ({error}): unpack it again."
        ) from error


def _label(path: Path, raw: dict[str, np.ndarray]) -> Label:
    frames = int(raw["nframes"].flat[0])
    # Fields are float64, uint16 or uint8. `_per_frame` makes them float64, so none wraps around.
    x, y, visible = (_per_frame(raw[name], name, frames, path) for name in ("x", "y", "visibility"))
    joints = np.stack([x, y], -1) - 1
    height, width = (int(v) for v in raw["dimensions"].flat[:2])
    return Label(
        video=path.stem,
        action=str(raw["action"].flat[0]),
        split="train" if int(raw["train"].flat[0]) == 1 else "test",
        size=(height, width),
        num_frames=frames,
        boxes=_boxes(raw["bbox"].astype(np.float64), frames, path),
        joints=joints.astype(np.float32),
        visible=(visible != 0) & np.isfinite(joints).all(-1),
    )


def _content(paths: Sequence[Path]) -> str:
    """Return a digest of the files' names and bytes."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} can't be read: {error.strerror}.") from error
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:16]


# Content of the file that `_store_labels` writes, as a pattern of `files.read_arrays`.
STORED = {
    **dict.fromkeys(("video", "action", "split"), ("U", 1)),
    **{"size": ("iu", 2), "num_frames": ("iu", 1)},
    **{"boxes": ("f", 2), "joints": ("f", 3), "visible": ("b", 2)},
}


def _store_labels(file: Path, labels: list[Label]) -> None:
    """Write all labels atomically to one file, with their frames concatenated."""
    columns = {
        name: np.array([getattr(label, name) for label in labels])
        for name in ("video", "action", "split", "size", "num_frames")
    }
    frames = {
        name: np.concatenate([getattr(label, name) for label in labels])
        for name in ("boxes", "joints", "visible")
    }

    write_arrays(file, {**columns, **frames}, compress=False)


def _load_labels(file: Path) -> list[Label] | None:
    """Read the file that `_store_labels` wrote; None if it is missing or damaged."""
    try:
        rows = read_arrays(file, STORED)
    except DAMAGED:
        return None
    ends = np.cumsum(rows["num_frames"])
    if any(len(rows[name]) != ends[-1] for name in ("boxes", "joints", "visible")):
        return None
    return [
        Label(
            video=str(rows["video"][i]),
            action=str(rows["action"][i]),
            split=str(rows["split"][i]),
            size=(int(rows["size"][i, 0]), int(rows["size"][i, 1])),
            num_frames=int(rows["num_frames"][i]),
            **{
                name: rows[name][end - rows["num_frames"][i] : end]
                for name in ("boxes", "joints", "visible")
            },
        )
        for i, end in enumerate(ends)
    ]


def _label_files(root: Path) -> list[Path]:
    """List the label files, after checking the layout around them."""
    for folder in (root, root / "frames", root / "labels"):
        if not folder.is_dir():
            raise DataError(f"Penn Action: no folder {folder}.\n{LAYOUT}")
    paths = sorted(p for p in (root / "labels").glob("*.mat") if not p.name.startswith("."))
    if not paths:
        raise DataError(f"Penn Action: no label files (*.mat) in {root / 'labels'}.\n{LAYOUT}")
    videos = {p.name for p in (root / "frames").iterdir() if p.is_dir() and p.name[0] != "."}
    unlabelled = sorted(videos - {p.stem for p in paths})
    if unlabelled:
        raise DataError(
            f"Penn Action: {len(unlabelled)} folders in {root / 'frames'} have no label file, the "
            f"first is {unlabelled[0]}: add labels/{unlabelled[0]}.mat or move the folder away."
            f"\n{LAYOUT}"
        )
    return paths


def _clip(folder: Path, label: Label) -> Clip:
    """Join a label with its folder of pictures."""
    if not folder.is_dir():
        raise DataError(
            f"Penn Action: label {label.video}.mat has no folder of pictures {folder}: unpack "
            f"that video, or move its label away.\n{LAYOUT}"
        )
    # Skip hidden files of the system: macOS unpacks a ._000001.jpg beside each picture.
    names = sorted(
        name for name in os.listdir(folder) if name.endswith(".jpg") and not name.startswith(".")
    )
    expected = [_frame_name(i) for i in range(label.num_frames)]
    if len(names) != len(expected):
        raise DataError(
            f"Penn Action: {folder} holds {len(names)} pictures, but {label.video}.mat describes "
            f"{len(expected)} frames. Unpack that video again, or move both its folder and its "
            "label away."
        )
    if names != expected:
        missing = sorted(set(expected) - set(names))
        raise DataError(
            f"Penn Action: {folder} lacks {missing[0]} (pictures are numbered from 000001 "
            "without gaps). Unpack that video again."
        )
    return Clip(
        name=label.video,
        subject=label.video,
        split=label.split,
        num_frames=label.num_frames,
        read=functools.partial(_read_numbered, folder),
        file=functools.partial(_numbered, folder),
        boxes=label.boxes,
        joints=label.joints,
        visible=label.visible,
    )


def _frame_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _numbered(folder: Path, index: int) -> Path:
    return folder / _frame_name(index)


def _read_numbered(folder: Path, index: int) -> np.ndarray:
    return pictures.read_jpeg(_numbered(folder, index))


def _load_mat(path: Path) -> dict[str, np.ndarray]:
    """Load the fields of a label file, all of which must be present and not empty."""
    try:
        raw = scipy.io.loadmat(path, variable_names=FIELDS)
    except Exception as error:  # the kind of error depends on where the damage is
        raise DataError(
            f"{path} can't be read as a MATLAB label file ({error}): unpack it again.\n{LAYOUT}"
        ) from error
    missing = [name for name in FIELDS if name not in raw or raw[name].size == 0]
    if missing == ["bbox"]:
        raise DataError(
            f"{path} has no person box: every frame needs a row x1, y1, x2, y2 in the field bbox."
        )
    if missing:
        raise DataError(
            f"{path} is not a Penn Action label: field(s) {', '.join(missing)} missing."
        )
    return raw


def _per_frame(value: np.ndarray, name: str, frames: int, path: Path) -> np.ndarray:
    """Return a field as float64 [T, 13]."""
    if value.shape != (frames, PENN13.size):
        raise DataError(
            f"{path}: field {name} has shape {value.shape}, expected {(frames, PENN13.size)} for "
            f"nframes {frames} and {PENN13.size} joints."
        )
    return value.astype(np.float64)


def _boxes(rows: np.ndarray, frames: int, path: Path) -> np.ndarray:
    """Convert labelled rows x1, y1, x2, y2 (1-based, float64) to float32 boxes [T, 4]."""
    if rows.ndim == 2 and len(rows) == frames - 1:
        rows = np.concatenate([rows, rows[-1:]])  # two videos of the data set lack the last box
    if rows.shape != (frames, 4):
        raise DataError(f"{path}: field bbox has shape {rows.shape}, expected {(frames, 4)}.")
    size = rows[:, 2:] - rows[:, :2] + 1
    bad = np.flatnonzero(~(np.isfinite(rows).all(-1) & (size > 0).all(-1)))
    if bad.size:
        raise DataError(
            f"{path}: {bad.size} frames have no usable person box, the first is frame "
            f"{bad[0] + 1} with bbox {rows[bad[0]].tolist()}: expected x1 <= x2 and y1 <= y2."
        )
    centre = (rows[:, :2] + rows[:, 2:] - 1) / 2 - 1
    return np.concatenate([centre - size / 2, centre + size / 2], -1).astype(np.float32)
