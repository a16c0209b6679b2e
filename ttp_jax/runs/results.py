"""Writing and reading a subject's keypoints as files."""

import contextlib
import dataclasses
import glob
import pathlib
from collections.abc import Iterable

import numpy as np

from data_pipelines.clips import DataError, FrameError, first_few
from data_pipelines.windows import SubjectFrames
from ttp_jax import state
from ttp_jax.files import DAMAGED, read_arrays, unused, write_arrays, write_csv
from ttp_jax.skeletons import Skeleton

# The arrays of NAME.npz, as a pattern of `files.read_arrays`.
RESULTS = {
    "joints": ("f", 3), "confidence": ("f", 2), "frames": ("iu", 1), "inputs": ("U", 0),
    "origin": ("U", 0),
}  # fmt: skip

RENAMED = {"peaks": "confidence"}  # arrays of earlier versions: old name -> new name


@dataclasses.dataclass
class Result:
    """A subject's predictions.

    Attributes:
      frames: the frames that were predicted.
      joints: float32 [T, K, 2] in picture pixels; NaN for frames that could not be read.
      confidence: float32 [T, K], NaN for the same frames.
      adaptation: the final state of the adaptation.
      inputs: SHA-256 of the pixels of all whole pictures and of the crops.
      seconds: its share of its group's time, including earlier runs that were stopped.
      repeated: number of frames read in this run that repeat the previous one; no model adapts to
        them.
      compiling: the part of `seconds` that was spent compiling programs in this run.
      looks: looks of the frames [T, n], see `warning_signs.look`; None if an earlier run read some.
    """

    frames: SubjectFrames
    joints: np.ndarray
    confidence: np.ndarray
    adaptation: state.Adaptation
    inputs: str
    seconds: float = 0.0
    repeated: int = 0
    compiling: float = 0.0
    looks: np.ndarray | None = None


def columns(skeleton) -> list[str]:
    """Return the names of a keypoint table's columns, except those that identify the frame."""
    return [f"{joint}_{part}" for joint in skeleton.joints for part in ("x", "y", "confidence")]


def fields(joints: np.ndarray, confidence: np.ndarray) -> list[str]:
    """Return a frame's cells for these columns, from its joints [K, 2] and confidence [K]."""
    return [f"{value:.4f}" for value in np.concatenate([joints, confidence[:, None]], -1).ravel()]


def write_result(folder: pathlib.Path, clip, result: Result, skeleton: Skeleton) -> None:
    """Write NAME.csv (one row a frame) and then NAME.npz, whose presence marks the subject as done.

    If the clip knows the frames' file names or times, they get a column and an array.
    """
    name, leads = clip.name, {"frame": clip.frame_numbers.tolist()}
    arrays = {
        "joints": result.joints,
        "confidence": result.confidence,
        "frames": clip.frame_numbers,
    }
    if clip.frame_names is not None:
        leads["picture"], arrays["pictures"] = clip.frame_names, np.array(clip.frame_names)
    if clip.times is not None:
        leads["time"], arrays["times"] = [f"{time:.6f}" for time in clip.times], clip.times
    frames = zip(*leads.values(), result.joints, result.confidence, strict=True)
    rows = ([*lead, *fields(joints, confidence)] for *lead, joints, confidence in frames)
    write_csv(folder / f"{name}.csv", [[*leads, *columns(skeleton)], *rows])
    texts = {"inputs": np.array(result.inputs), "origin": np.array(clip.fingerprint)}
    write_arrays(folder / f"{name}.npz", {**arrays, **texts})


def set_aside(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Move all of a subject's results in a folder to its subfolder NAME.old1 (.old2, ...).

    Returns the subfolder; None if the subject has no results.
    """
    plain = glob.escape(name)
    patterns = (
        *(f"{plain}.{suffix}" for suffix in ("csv", "npz", "png")),
        *(f"{plain}_{part}" for part in ("report.html", "overlay.mp4", "overlay.png")),
        f"{plain}_scores.json",
        *(f"exports/{plain}_{when}_adapt.*" for when in ("before", "after")),
        f"exports/*/{plain}",
        f"delivery/{plain}.*",
    )
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return move_to_old(folder, name, found) if found else None


def move_to_old(folder: pathlib.Path, name: str, paths: Iterable[pathlib.Path]) -> pathlib.Path:
    """Move some of a subject's files to its subfolder NAME.old1 (.old2, ...); return the subfolder.

    Args:
      folder: folder of the results.
      name: name of the subject.
      paths: files or folders below `folder`.
    """
    aside = unused(folder / name)
    for path in paths:
        target = aside / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return aside


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Return whether two files of results (.csv, .npz) agree, whichever versions wrote them.

    Args:
      one: a file of results.
      other: another file of the same kind.

    Raises:
      Damaged, OSError: one of them can't be read.
    """
    if one.suffix == ".csv":
        tables = (path.read_text("utf-8").partition("\n") for path in (one, other))
        (head, _, rows), (other_head, _, other_rows) = tables
        heads = (each.replace("_likelihood", "_confidence") for each in (head, other_head))
        return rows == other_rows and len(set(heads)) == 1
    arrays, others = (read_arrays(path, RESULTS, renamed=RENAMED) for path in (one, other))
    return arrays.keys() == others.keys() and all(
        array.dtype == others[name].dtype
        and array.shape == others[name].shape
        and array.tobytes() == others[name].tobytes()
        for name, array in arrays.items()
    )


def is_of(path: pathlib.Path, clip) -> bool:
    """Return whether a file of results is of exactly these frames and boxes."""
    return _are_of(read_arrays(path, RESULTS, renamed=RENAMED), clip)


def _are_of(stored: dict[str, np.ndarray], clip) -> bool:
    same = str(stored["origin"]) == clip.fingerprint and len(stored["joints"]) == clip.num_frames
    return same and np.array_equal(stored["frames"], clip.frame_numbers)


def unread_pictures(folder: pathlib.Path, clip) -> str:
    """Name the pictures that can't be read (their rows are NaN); "" if there are none."""
    path = folder / f"{clip.name}.npz"
    if clip.frame_names is None or not path.exists():
        return ""
    joints = read_arrays(path, RESULTS, renamed=RENAMED)["joints"]
    names = [clip.frame_names[place] for place in np.flatnonzero(unreadable(clip, joints))]
    if not names:
        return ""
    count = f"{len(names)} of its {clip.num_frames} pictures"
    return f"{count} can't be read ({first_few(names)}); the others are done."


def unreadable(clip, joints: np.ndarray) -> np.ndarray:
    """Return which of a user's pictures can't be read, bool [T].

    Only pictures without joints are tried, because they may as well be without the person.

    Args:
      clip: a clip of pictures.
      joints: its predictions [T, K, 2].
    """
    found = np.asarray(np.isnan(joints).all((1, 2)))
    for place in np.flatnonzero(found).tolist():
        with contextlib.suppress(DataError, FrameError):
            clip.read(place)
            found[place] = False
    return found


def read_results(folder: pathlib.Path, clips) -> list[np.ndarray] | None:
    """Read the stored joints [T, K, 2] of each clip; return None unless all exist.

    Raises ValueError if they belong to other frames or can't be read.
    """
    paths = [folder / f"{clip.name}.npz" for clip in clips]
    if not all(path.exists() for path in paths):
        return None
    joints = []
    for path, clip in zip(paths, clips, strict=True):
        try:
            stored = read_arrays(path, RESULTS, renamed=RENAMED)
            same = _are_of(stored, clip)
            joints.append(stored["joints"])
        except DAMAGED as error:
            raise ValueError(f"{path} can't be read ({error}): run that scenario again.") from error
        if not same:
            raise ValueError(
                f"{path} was made from other frames or boxes than clip {clip.name} has now: the "
                "data changed; run that scenario again."
            )
    return joints
