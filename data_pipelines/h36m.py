"""Human3.6M: 7 people, 15 actions twice, 4 cameras; from the videos or from unpacked pictures.

Two layouts are read: the official download (videos, and poses in CDF files), and what mmpose's
tools/dataset/preprocess_h36m.py makes of it (pictures, and poses in .npz or COCO .json files).
Decoding single frames of a video costs a seek each, up to a fifth of a second: for training unpack
the pictures once.

Every 5th frame of people 1, 5, 6, 7, 8 is for training, every 200th of people 9 and 11 for testing
(paper, section 4.1). A clip is one (person, action, sub-action, camera).

Boxes are made from the labels, as in the published program's data: a square of 2 m around the
pelvis, at the pelvis' depth. Where there is no depth, the box is a square around the joints, 1.25
times as long as the longer side of their extent (as much for a standing person), and a warning
says for how many clips: then results don't compare with the published ones. The published data
put joints and boxes at undistorted positions; here they are the labelled ones, on the pictures.
Known to be wrong in the official labels and used as they are, as elsewhere: parts of person 9's
Greeting, SittingDown and Waiting, where the joints lie beside the person.
"""

import functools
import json
import os
import re
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cdflib
import cv2
import numpy as np
from tqdm import tqdm

from data_pipelines.bbc_pose import names_in
from data_pipelines.clips import Clip, DataError, FrameError, LastUsed
from data_pipelines.penn import read_frame
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
# In order of preference; 10 frames a second hold all that is used here.
ANNOTATIONS = (
    "annotation_body3d/fps10/h36m_{}.npz",
    "annotation_body3d/fps50/h36m_{}.npz",
    "annotation_body2d/h36m_coco_{}.json",
)
PICTURE = re.compile(r"(?:.*/)?(?P<name>S(?P<subject>\d+)_.+\.\d{8})_(?P<number>\d{6,})\.jpg")
# In the order of the data set's own numbers (2 to 16), which the published program follows; the
# order matters where something is carried from frame to frame.
ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "Photo", "Waiting", "Walking", "WalkDog"),
    "WalkTogether",
)
OTHER_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # of some people's files
ALL_ACTIONS = "_ALL"  # recordings of all actions in a row, without labels of their own
NO_VIDEO = frozenset({"S11_Directions.54138969"})  # can't be decoded in the official download

# The official 32 joints hold some twice; the 17 that move, then (as number 17) the mid shoulders.
FROM_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
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
# 3-D pelvis against labelled pelvis: the lens moves it by some pixels, another frame of reference
# (some published files hold world coordinates) by hundreds.
DEPTH_TOLERANCE = 30

OPEN_VIDEOS = 16  # decoders kept open, some 10 MB each
GRAB_AHEAD = 16  # frames forward up to which decoding on is cheaper than a seek
PROGRESS_ABOVE = 50  # videos; fewer are listed before a bar could be seen


class _Sequence(NamedTuple):
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


def clips(root: str | os.PathLike, split: str | None = None) -> list[Clip]:
    """List the recordings under `root`, by person, action and name; pictures are opened when read.

    Clips are named as mmpose names the pictures' folders ("S9_Walking_1.60457274"), subjects are
    "S1", ..., "S11".

    Args:
      root: folder in one of the two layouts of `LAYOUT`; the pictures win if both are there.
      split: "train" or "test" to list (and check) only those; None for both.

    Warns:
      of boxes that aren't the published ones, of people who are missing, and of the recording
      whose video the official download lacks.

    Raises:
      DataError: the layout isn't there, labels can't be used, or videos or pictures are missing.
    """
    if split not in (None, *SUBJECTS):
        raise DataError(f"Human3.6M has the splits {' and '.join(SUBJECTS)}, but not {split!r}.")
    root = Path(root)
    names = names_in(root, LAYOUT)
    if names & {"images", "annotation_body2d", "annotation_body3d"}:
        load = _from_pictures
    elif names & {f"S{number}" for numbers in SUBJECTS.values() for number in numbers}:
        load = _from_videos
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
    """Turn the 17 moving joints [..., 17, 2] of the labels into those of `skeletons.H36M16`."""
    thorax = points[..., SHOULDERS, :].mean(-2, keepdims=True)
    return np.concatenate([points, thorax], -2)[..., TO_16, :]


def _warn(
    found: list[Clip], skipped: list[str], without_depth: list[str], split: str | None
) -> None:
    """Say what is not as published, each in one warning."""
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


def _clip(sequence: _Sequence, split: str) -> tuple[Clip, bool]:
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


def _place(name: str) -> tuple[int, str]:
    """Where a recording stands among those of its person: by action, then by name."""
    action = re.split(r"[_.]", name)[1]
    action = OTHER_NAMES.get(action, action)
    return (ACTIONS.index(action) if action in ACTIONS else len(ACTIONS)), name


# --- The official download -----------------------------------------------------------------------


def _from_videos(root: Path, split: str, skipped: list[str]) -> list[_Sequence]:
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

    def load(job: tuple[str, Path, str]) -> _Sequence:
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


def _load_video(name: str, folder: Path, stem: str, stride: int) -> _Sequence:
    """Load one recording: every `stride`-th frame of its labels, which must be in its video."""
    labels, video = folder / "MyPoseFeatures", folder / "Videos" / f"{stem}.mp4"
    points = _read_poses(labels / "D2_Positions" / f"{stem}.cdf", 2)
    frames = np.arange(0, len(points), stride)
    capture = _open_video(video, DataError)
    length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    # Videos may be longer than the labels: then the last frames are left out.
    if frames[-1] >= length:
        raise DataError(
            f"{video} holds {length} frames, but its labels describe {len(points)}. Unpack that "
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
    read = functools.partial(_read_sampled, _Video(video), frames)
    return _Sequence(name, read, points[frames][:, FROM_32], pelvis)


class _Bounded:
    """A CDF file that can't be read more often than it can have entries, of 16 bytes each.

    cdflib believes the number of entries that a file claims: a flipped bit keeps it going for
    hours, filling the memory.
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
    except Exception as error:  # what cdflib raises depends on where the damage is
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


def _read_sampled(video: "_Video", frames: np.ndarray, index: int) -> np.ndarray:
    return video.read(int(frames[index]))


class _Video:
    """Frames of one video file by number, also from several threads at once.

    The decoder stays open between reads: frames that follow one another are decoded once, others
    cost a seek. Only the `OPEN_VIDEOS` last used videos have one, so that memory stays flat.
    """

    _open = LastUsed(OPEN_VIDEOS)

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._capture = None
        self._next = 0  # number of the frame that the decoder yields next

    def read(self, number: int) -> np.ndarray:
        """Decode a frame -> uint8 RGB [H, W, 3]; raises FrameError if that can't be done."""
        with self._lock:
            picture = self._decode(number)
        self._open.note(self)
        return picture

    def close(self) -> None:
        """Close the decoder; the next read opens another."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _decode(self, number: int) -> np.ndarray:
        if self._capture is None:
            self._capture, self._next = _open_video(self._path, FrameError), 0
        if 0 <= number - self._next <= GRAB_AHEAD:
            for _ in range(number - self._next):
                self._capture.grab()
        else:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        found, picture = self._capture.read()
        self._next = number + 1
        if not found:
            self._release()
            raise FrameError(
                f"{self._path}: frame {number + 1} can't be decoded. Unpack this video again."
            )
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


def _open_video(path: Path, error: type[ValueError]) -> cv2.VideoCapture:
    """Open a video for decoding in one thread, or raise an `error` that names it."""
    remedy = "Unpack this video again, or move it and its labels away."
    try:
        with open(path, "rb"):
            pass
    except OSError as reason:
        raise error(f"{path} can't be read: {reason.strerror}. {remedy}") from reason
    # Threads of its own would cost each decoder the memory of many pictures. An absolute path,
    # since ffmpeg takes what stands before a colon for a protocol.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise error(f"{path} is cut off or no video that OpenCV can decode. {remedy}")
    return capture


def _openable(path: Path) -> bool:
    try:
        _open_video(path, DataError)
    except DataError:
        return False
    return True


# --- mmpose's pictures ---------------------------------------------------------------------------


def _from_pictures(root: Path, split: str, skipped: list[str]) -> list[_Sequence]:
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
            _Sequence(
                name,
                read,
                points[rows],
                None if pelvis is None else pelvis[rows],
                pictures.__getitem__,
            )
        )
    return sequences


def _rows_by_recording(files: list[str], split: str, path: Path) -> dict[str, list[int]]:
    """Sort the rows that the split uses by recording and frame."""
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
            f"{STRIDE[split]}: it is of another split, or its pictures were numbered otherwise. "
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
    except Exception as error:  # what numpy raises depends on where the damage is
        raise _unreadable(path, error) from error
    if not len(files) == len(part) == len(space):
        # The toolbox goes on when a video can't be opened, and later rows no longer fit together.
        raise DataError(
            f"{path} names {len(files)} pictures for {len(part)} poses, so they don't fit "
            "together: run preprocess_h36m.py again without the recordings that have no video."
        )
    return files, _seen(part, path), 1000.0 * space


def _read_json(path: Path) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Read the same from a COCO file; pelvis is None where the file has no 3-D joints.

    The names of the joints in such files can have left and right swapped; their order is right.
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
    """Turn [N, 17, 3] of x, y and a mark into points [N, 17, 2], NaN where the mark is 0."""
    if part.shape[1:] != (len(FROM_32), 3):
        raise DataError(
            f"{path}: the joints have shape {part.shape}, expected (pictures, 17, 3). Run "
            "preprocess_h36m.py again."
        )
    return np.where(part[..., 2:] > 0, part[..., :2], np.nan)


def _read_picture(pictures: list[Path], index: int) -> np.ndarray:
    return read_frame(pictures[index])
