"""The files of Human3.6M: the official download, and those of mmpose's preprocessing."""

import functools
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cdflib
import numpy as np
from tqdm import tqdm

from data_pipelines import video
from data_pipelines.bbc_pose import names_in
from data_pipelines.clips import DataError, FrameError
from data_pipelines.pictures import read_jpeg
from data_pipelines.video import Video
from ttp_jax.files import inside, read_arrays, reason_of

SUBJECTS = {"train": (1, 5, 6, 7, 8), "test": (9, 11)}
STRIDE = {"train": 5, "test": 200}
LAYOUT = """Expected one of two layouts of Human3.6M, the official one
  DIR/
    S1/
      Videos/Directions 1.54138969.mp4, ...
      MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf, ...
      MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf, ... (for the published boxes)
    S5/, S6/, S7/, S8/, S9/, S11/ alike
or the one of mmpose's preprocess_h36m.py
  DIR/
    annotation_body3d/fps10/h36m_train.npz, h36m_test.npz (or fps50/, or
    annotation_body2d/h36m_coco_train.json, h36m_coco_test.json)
    images/S1/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg, ...
Set the folder with --config.data.root=DIR."""
# In order of preference; 10 frames a second contain all frames used here.
ANNOTATIONS = (
    "annotation_body3d/fps10/h36m_{}.npz",
    "annotation_body3d/fps50/h36m_{}.npz",
    "annotation_body2d/h36m_coco_{}.json",
)
PICTURE = re.compile(r"(?:.*/)?(?P<name>S(?P<subject>\d+)_.+\.\d{8})_(?P<number>\d{6,})\.jpg")
# In the order of the data set's numbers (2 to 16), as in the published program. The order matters
# if state is carried over from frame to frame.
ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "Photo", "Waiting", "Walking", "WalkDog"),
    "WalkTogether",
)
# Names that differ in the files of some people.
OTHER_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
ALL_ACTIONS = "_ALL"  # recordings of all actions in sequence, without labels
NO_VIDEO = frozenset({"S11_Directions.54138969"})  # can't be decoded in the official download

# Some of the official 32 joints are duplicates. These are the 17 that move, then the mid shoulders
# as number 17.
FROM_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
PROGRESS_ABOVE = 50  # show a progress bar for more videos than this


class Recording(NamedTuple):
    """Sampled frames of one camera's recording.

    Fields: name as in the pictures' folders ("S9_Walking_1.60457274"); read and file as in `Clip`;
    points float64 [T, 17, 2] in picture pixels, NaN where unknown; pelvis float64 [T, 3] in
    millimetres before the camera, or None.
    """

    name: str
    read: Callable[[int], np.ndarray]
    points: np.ndarray
    pelvis: np.ndarray | None
    file: Callable[[int], Path] | None = None


def _place(name: str) -> tuple[int, str]:
    """Return the sort key of a recording among its person's: by action, then by name."""
    action = re.split(r"[_.]", name)[1]
    action = OTHER_NAMES.get(action, action)
    return (ACTIONS.index(action) if action in ACTIONS else len(ACTIONS)), name


# --- The official download -----------------------------------------------------------------------


def from_videos(root: Path, split: str, skipped: list[str]) -> list[Recording]:
    """Load the labels of a split's people and check their videos."""
    jobs = []
    for number in SUBJECTS[split]:
        folder = root / f"S{number}"
        if not os.path.isdir(folder):
            continue
        names = {f"{folder.name}_{stem.replace(' ', '_')}": stem for stem in _stems(folder)}
        # By name, not stem, so that a person's frames have one order in both layouts.
        for name, stem in sorted(names.items(), key=lambda pair: _place(pair[0])):
            if name in NO_VIDEO and not _openable(folder / "Videos" / f"{stem}.mp4"):
                skipped.append(name)
            else:
                jobs.append((name, folder, stem))
    if not jobs:
        people = ", ".join(f"S{number}" for number in SUBJECTS[split])
        raise DataError(f"Human3.6M: {root} has no recordings of {people}.\n{LAYOUT}")

    def load(job: tuple[str, Path, str]) -> Recording:
        return _load_video(*job, STRIDE[split])

    with ThreadPoolExecutor() as pool:
        found = tqdm(
            pool.map(load, jobs),
            total=len(jobs),
            desc=f"Human3.6M {split} videos",
            disable=len(jobs) <= PROGRESS_ABOVE,
        )
        return list(found)


def _stems(folder: Path) -> set[str]:
    """List one person's labelled recordings ("Walking 1.60457274")."""

    def stems(files, ending):
        found = {n.removesuffix(ending) for n in names_in(files, LAYOUT) if n.endswith(ending)}
        return {stem for stem in found if not stem.startswith(ALL_ACTIONS)}

    videos = stems(folder / "Videos", ".mp4")
    labels = stems(folder / "MyPoseFeatures" / "D2_Positions", ".cdf")
    if videos - labels:
        raise DataError(
            f"Human3.6M: {len(videos - labels)} files in {folder / 'Videos'} have no labels, the "
            f"first is {min(videos - labels)}.mp4: unpack that person's D2_Positions again, or "
            f"move the videos away.\n{LAYOUT}"
        )
    return labels


def _load_video(name: str, folder: Path, stem: str, stride: int) -> Recording:
    """Load every `stride`-th labelled frame of one recording; its video must have them."""
    labels, path = folder / "MyPoseFeatures", folder / "Videos" / f"{stem}.mp4"
    points = _read_poses(labels / "D2_Positions" / f"{stem}.cdf", 2)
    frames = np.arange(0, len(points), stride)
    length = _announced(path)
    # If a video is longer than its labels, its last frames are not used.
    if frames[-1] >= length:
        raise DataError(
            f"{path} holds {length} frames, but its labels describe {len(points)}. Unpack that "
            "video again, or move both the video and its labels away."
        )
    pelvis, space = None, labels / "D3_Positions_mono" / f"{stem}.cdf"
    if os.path.exists(space):
        pelvis = _read_poses(space, 3)[:, 0]
        if len(pelvis) != len(points):
            raise DataError(
                f"{space} describes {len(pelvis)} frames, but the labels in D2_Positions "
                f"{len(points)}. Unpack that person's labels again."
            )
        pelvis = pelvis[frames]
    opened = functools.cache(functools.partial(_open_video, path))
    read = functools.partial(_read_sampled, opened, frames)
    return Recording(name, read, points[frames][:, FROM_32], pelvis)


class _Bounded:
    """A CDF file that limits reads to the number of entries, of 16 bytes each, that it can hold.

    cdflib trusts the number of entries that a file claims, so a single flipped bit keeps it busy
    for hours and fills the memory.
    """

    def __init__(self, file: Any, size: int):
        self._file, self._left = file, 10_000 + size // 16

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it claims more entries than it can hold")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _read_poses(path: Path, axes: int) -> np.ndarray:
    """Read a CDF file of poses -> float64 [frames, 32, axes]."""
    try:
        with cdflib.CDF(path) as file:
            file._f = _Bounded(file._f, path.stat().st_size)
            poses = np.asarray(file.varget("Pose"), np.float64)
    except Exception as error:  # the kind of error depends on where the damage is
        raise DataError(
            f"{path} can't be read as a CDF file of poses ({reason_of(error)}): unpack it again.\n"
            f"{LAYOUT}"
        ) from error
    if not poses.size or poses.shape[-1] != 32 * axes:
        raise DataError(
            f"{path}: the poses have shape {poses.shape}, expected (frames, {32 * axes}) for 32 "
            f"joints of {axes} coordinates and at least one frame. Unpack it again."
        )
    return poses.reshape(-1, 32, axes)


def _read_sampled(opened: Callable[[], Video], frames: np.ndarray, index: int) -> np.ndarray:
    try:
        return opened().read(int(frames[index]))
    except IndexError as error:
        raise FrameError(f"{error} Unpack this video again.") from error


def _open_video(path: Path) -> Video:
    """Open a video, when its first frame is read, because scanning takes time."""
    try:
        return Video(path)
    except DataError as error:
        raise FrameError(f"{error} Unpack this video again.") from error


def _announced(path: Path) -> int:
    """Return the number of frames in a video's header; raises DataError if it can't be opened."""
    try:
        return video.announced(path)
    except DataError as error:
        raise DataError(
            f"{error} Unpack that video again, or move it and its labels away."
        ) from error


def _openable(path: Path) -> bool:
    try:
        _announced(path)
    except DataError:
        return False
    return True


# --- mmpose's pictures ---------------------------------------------------------------------------


def from_pictures(root: Path, split: str, skipped: list[str]) -> list[Recording]:
    """Load the rows of a split's annotation file and check their pictures."""
    paths = [root / name.format(split) for name in ANNOTATIONS]
    path = next((path for path in paths if os.path.exists(path)), None)
    if path is None:
        raise DataError(f"Human3.6M: none of {', '.join(map(str, paths))} exists.\n{LAYOUT}")
    files, points, pelvis = (_read_json if path.suffix == ".json" else _read_npz)(path)
    listing = functools.cache(lambda folder: names_in(folder, LAYOUT))
    sequences = []
    for name, rows in _rows_by_recording(files, split, path).items():
        pictures = [inside(root / "images", files[row]) for row in rows]
        if name in NO_VIDEO and not os.path.isdir(pictures[0].parent):
            skipped.append(name)
            continue
        missing = [p for p in pictures if p.name not in listing(p.parent)]
        if missing:
            raise DataError(
                f"{missing[0].parent} lacks {len(missing)} of the {len(rows)} pictures used, the "
                f"first is {missing[0].name}: run preprocess_h36m.py again.\n{LAYOUT}"
            )
        read = functools.partial(_read_picture, pictures)
        sequences.append(
            Recording(
                name,
                read,
                points[rows],
                None if pelvis is None else pelvis[rows],
                pictures.__getitem__,
            )
        )
    return sequences


def _rows_by_recording(files: list[str], split: str, path: Path) -> dict[str, list[int]]:
    """Return the rows that the split uses, sorted by recording and frame."""
    found = []
    for row, file in enumerate(files):
        match = PICTURE.fullmatch(file)
        if match is None:
            raise DataError(
                f"{path}: can't tell person and frame from picture name {file!r}, expected one "
                "like S1/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg."
            )
        name, subject, number = match["name"], int(match["subject"]), int(match["number"])
        used = subject in SUBJECTS[split] and (number - 1) % STRIDE[split] == 0
        if used and ALL_ACTIONS not in name:
            found.append((subject, name, number, row))
    if not found:
        people = ", ".join(f"S{number}" for number in SUBJECTS[split])
        raise DataError(
            f"{path} names no picture of {people} whose number is 1 more than a multiple of "
            f"{STRIDE[split]}: it is of another split, or its pictures are numbered differently. "
            "Run preprocess_h36m.py again."
        )
    groups: dict[str, list[int]] = {}
    for _, name, _, row in sorted(found, key=lambda each: (each[0], _place(each[1]), each[2])):
        groups.setdefault(name, []).append(row)
    return groups


def _read_npz(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read pictures' names, points [N, 17, 2] in pixels and pelvis [N, 3] in millimetres."""
    try:
        file = read_arrays(path, {"imgname": ("U", 1), "part": ("fiu", 3), "S": ("fiu", 3)})
        files, part, space = file["imgname"].tolist(), file["part"], file["S"][:, 0, :3]
    except Exception as error:  # the kind of error depends on where the damage is
        raise _unreadable(path, error) from error
    if not len(files) == len(part) == len(space):
        # If mmpose can't open a video, it continues, and later names and poses no longer match.
        raise DataError(
            f"{path} names {len(files)} pictures for {len(part)} poses, so they don't fit "
            "together: run preprocess_h36m.py again without the recordings that have no video."
        )
    return files, _seen(part, path), 1000.0 * space


def _read_json(path: Path) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Read the same from a COCO file; pelvis is None if the file has no 3-D joints.

    In such files, the joints' names may have left and right swapped, but their order is right.
    """
    try:
        content: Any = json.loads(path.read_bytes())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        rows = content["annotations"]
        files = [names[row["image_id"]] for row in rows]
        part = np.array([row["keypoints"] for row in rows], np.float64).reshape(len(rows), -1, 3)
        space = None
        if all("keypoints_3d" in row for row in rows):
            space = 1000 * np.array([row["keypoints_3d"][:3] for row in rows], np.float64)
    except Exception as error:  # broken JSON, other fields or ragged lists
        raise _unreadable(path, error) from error
    return files, _seen(part, path), space


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} can't be read as an annotation file of mmpose ({reason_of(error)}): run "
        f"preprocess_h36m.py again.\n{LAYOUT}"
    )


def _seen(part: np.ndarray, path: Path) -> np.ndarray:
    """Convert x, y and visibility [N, 17, 3] to points [N, 17, 2], NaN where visibility is 0."""
    if part.shape[1:] != (len(FROM_32), 3):
        raise DataError(
            f"{path}: the joints have shape {part.shape}, expected (pictures, 17, 3). Run "
            "preprocess_h36m.py again."
        )
    return np.where(part[..., 2:] > 0, part[..., :2], np.nan)


def _read_picture(pictures: list[Path], index: int) -> np.ndarray:
    return read_jpeg(pictures[index])
