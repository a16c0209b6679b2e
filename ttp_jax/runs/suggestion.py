"""Suggestions of which frames of a new subject to label next: those of low confidence."""

import contextlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from data_pipelines.clips import Clip
from data_pipelines.video import Video
from ttp_jax import exports, geometry, visualize
from ttp_jax.files import unused, write_atomically, write_csv
from ttp_jax.hdf5_exports import write_table
from ttp_jax.skeletons import Skeleton

LEVELS = ["scorer", "bodyparts", "coords"]  # levels of the header of DeepLabCut's tables
SIGNS = ("confidence", "jump", "change")
# Jumps are listed but not ranked by, because within a speaker's frames they don't follow the error
# (docs/notes.md).
RANKED = ("confidence", "change")


def signs_of_doubt(
    joints: np.ndarray, confidence: np.ndarray, sides: np.ndarray, after: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute label-free signs [T]; larger is more doubtful, NaN for frames without joints.

    Args:
      joints: predictions [T, K, 2] of consecutive frames, NaN if a frame couldn't be read.
      confidence: their confidences [T, K].
      sides: sides of the boxes [T], in the unit of the joints.
      after: predictions of the personalized model; without them there is no "change".

    Returns:
      "confidence": 1 - the mean confidence; "jump": the mean acceleration; "change": the mean
        distance to `after`. The last two are in box sides.
    """
    ends = (joints[1:2], joints[-2:-1]) if len(joints) > 1 else (joints, joints)
    padded = np.concatenate([ends[0], joints, ends[1]])  # reflected at both ends
    bend = np.linalg.norm(padded[:-2] - 2 * joints + padded[2:], axis=-1).mean(-1)
    found = {"confidence": 1 - np.clip(confidence, 0, 1).mean(-1), "jump": bend / sides}
    if after is not None:
        # Rounded, because two programs that compute the same differ in the last digits.
        found["change"] = (np.linalg.norm(after - joints, axis=-1).mean(-1) / sides).round(4)
    return found


def doubt(signs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the mean rank [T] of the signs in `RANKED`, from 0 (sure) to 1; NaN if unknown."""
    from scipy import stats  # imported late, because it takes a while

    ranks = []
    for values in (signs[name] for name in RANKED if name in signs):
        known = np.isfinite(values)
        rank = np.full(len(values), np.nan)
        # Equal values share their mean rank; otherwise later frames would count as more doubtful.
        rank[known] = (stats.rankdata(values[known]) - 1) / max(known.sum() - 1, 1)
        ranks.append(rank)
    stacked = np.stack(ranks)
    known = np.isfinite(stacked)
    total, count = np.where(known, stacked, 0).sum(0), known.sum(0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def choose(doubtful: np.ndarray, count: int, gap: int) -> list[int]:
    """Choose the most doubtful frames that are at least `gap` apart; return them in order."""
    chosen: list[int] = []
    for frame in np.argsort(-np.nan_to_num(doubtful, nan=-1), kind="stable").tolist():
        if len(chosen) == count or not np.isfinite(doubtful[frame]):
            break
        if all(abs(frame - other) >= gap for other in chosen):
            chosen.append(frame)
    return sorted(chosen)


def make_room(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """Move earlier suggestions for a video of this name aside, as they may have been corrected.

    Returns the folder to which they were moved; None if there were none.
    """
    parts = (f"labeled-data/{name}", f"{name}.predictions.slp", f"{name}_doubt.csv")
    there = [part for part in parts if (root / part).exists()]
    if not there:
        return None
    aside = unused(root / name)
    for part in there:
        (aside / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).rename(aside / part)
    return aside


def write_deeplabcut(
    root: pathlib.Path,
    clip: Clip,
    frames: Sequence[int],
    joints: np.ndarray,
    skeleton: Skeleton,
    scorer: str,
) -> pathlib.Path:
    """Write frames and predictions as a DeepLabCut folder, to be corrected there.

    Pictures and joints are those of the stored frames, whatever the shape of their pixels, because
    DeepLabCut extracts and analyses such frames.

    Args:
      root: folder for labeled-data/NAME with the pictures and CollectedData_SCORER.csv, and, if
        pandas and PyTables are installed, .h5, which DeepLabCut's labelling tool opens.
      clip: the clip.
      frames: indices of its frames to write.
      joints: predictions [T, K, 2] for the whole clip.
      skeleton: names of the joints.
      scorer: name of the labeller, as in the project's config.yaml.
    """
    folder = root / "labeled-data" / clip.name
    folder.mkdir(parents=True, exist_ok=True)
    read, joints = _as_stored(clip, joints)
    digits = len(str(_last_frame(clip)))
    index, columns = [], [(scorer, joint, axis) for joint in skeleton.joints for axis in "xy"]
    for frame in frames:
        file = _file_of(clip, frame, digits)
        visualize.save(folder / file, read(frame))
        index.append(("labeled-data", clip.name, file))
    values = joints[list(frames)].reshape(len(index), -1).astype(np.float64)
    titles = zip(LEVELS, zip(*columns, strict=True), strict=True)
    rows = [[title, "", "", *words] for title, words in titles]
    for picture, row in zip(index, values, strict=True):
        rows.append([*picture, *("" if np.isnan(value) else f"{value:.3f}" for value in row)])
    path = folder / f"CollectedData_{scorer}.csv"
    write_csv(path, rows)
    with contextlib.suppress(ImportError):
        exports.check(["dlc-h5"])
        _write_h5(path.with_suffix(".h5"), index, columns, values)
    return folder


def _last_frame(clip: Clip) -> int:
    """Return the number of the last frame of the clip's whole video, of which it may be a part."""
    if clip.frame_names is None and clip.source:
        return len(Video(clip.source)) - 1
    return int(clip.frame_numbers.max())


def _file_of(clip: Clip, frame: int, digits: int) -> str:
    """Return the name of the file for a frame: DeepLabCut's, or that of the user's own picture."""
    if clip.frame_names is not None:
        name = clip.frame_names[frame]
        return name if name.lower().endswith(".png") else f"{name}.png"
    return f"img{int(clip.frame_numbers[frame]):0{digits}}.png"


def _as_stored(clip: Clip, joints: np.ndarray) -> tuple[Callable[[int], np.ndarray], np.ndarray]:
    """Return a reader of the clip's frames as stored, and the joints in their pixels."""
    if clip.stored_size is None:
        return clip.read, joints
    video, scale = Video(clip.source, square=False), np.divide(clip.stored_size, clip.largest)
    moved = geometry.rescale_points(joints, scale[::-1])
    return lambda frame: video.read(int(clip.frame_numbers[frame])), moved


def _write_h5(path: pathlib.Path, index: list, columns: list, values: np.ndarray) -> None:
    """Write the table in DeepLabCut's HDF5 format."""
    import pandas

    table = pandas.DataFrame(
        values,
        index=pandas.MultiIndex.from_tuples(index),
        columns=pandas.MultiIndex.from_tuples(columns, names=LEVELS),
    )
    write_atomically(path, lambda temporary: write_table(temporary, table, "fixed"))


def write_sleap(
    root: pathlib.Path,
    clip: Clip,
    frames: Sequence[int],
    joints: np.ndarray,
    confidence: np.ndarray,
    skeleton: Skeleton,
    every: int = 1,
) -> pathlib.Path:
    """Write the predictions of these frames as NAME.predictions.slp, to be corrected in SLEAP.

    Args:
      root: folder for the file.
      clip: clip of a video or a folder of pictures.
      frames: indices of its frames to write.
      joints: predictions [T, K, 2] for the whole clip.
      confidence: their confidences [T, K].
      skeleton: names of the joints.
      every: step in the video from one frame of the clip to the next.

    Raises ImportError if sleap-io isn't installed.
    """
    chosen = np.full_like(joints, np.nan)
    chosen[list(frames)] = joints[list(frames)]
    track = exports.Track(
        clip.name,
        chosen,
        confidence,
        skeleton,
        first_frame=int(clip.frame_numbers[0]),
        step=every,
        pictures=clip.frame_names,
        video=clip.source,
        picture_size=clip.largest[::-1],
        stored_size=clip.stored_size and clip.stored_size[::-1],
    )
    (path,) = exports.write(track, root, ["slp"])
    return path
