"""Predictions in the formats that other pose tools read.

    name            file                 read by                    missing point; missing frame
    dlc-csv         .csv                 DeepLabCut, movement, EKS  NaN
    dlc-h5          .h5                  DeepLabCut, movement       NaN
    coco            .json                pycocotools, as results    0, 0, 0; the frame is left out
    sleap           .analysis.h5         SLEAP, sleap-io, movement  NaN; track_occupancy 0
    slp             .predictions.slp     SLEAP, sleap-io, movement  NaN; the frame is left out
    trc             .trc                 OpenSim                    NaN
    npz             .npz                 NumPy                      NaN
    parquet         .parquet             pandas, polars, R, DuckDB  null
    lightning-pose  .lightning_pose.csv  Lightning Pose             NaN

`write_eks` writes the predictions of one subject by models of several seeds.

Joints below `Track.pcutoff` count as missing. Unlike points that were never predicted, they keep
their confidence in formats that have a column for it (dlc-csv, dlc-h5, npz, parquet): x and y are
NaN (null), and the reader still sees how uncertain the network was. SLEAP has scores only for
points that exist, so these are NaN as well. COCO gets 0, 0, 0, and such joints don't count in the
mean score. OpenSim gets NaN. `write_eks` ignores the p-cutoff, because the smoother itself weights
joints by their confidence.

Points are (x, y) in pixels of the whole image, x right, y down, pixel centres at integers, in all
formats but TRC, whose y points up. So the centre of the first pixel is (0, 0): a tool that has it
at (0.5, 0.5) must add 0.5. COCO's own keypoints are pixel indices too; Detectron2, for example,
adds 0.5 when it reads them and subtracts it when it writes them.

Text formats keep four decimals, the others all digits.
"""

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ttp_jax import hdf5_exports
from ttp_jax.files import write_arrays, write_atomically, write_csv
from ttp_jax.track import Track, mean_confidence

LIGHTNING_POSE = "heatmap_tracker"  # the scorer in Lightning Pose's tables
PERSON = 1  # COCO's category
# Steps between frames are uneven if they differ from the mean by more than this share of it, and by
# more than these seconds, to which containers round.
UNEVEN, ROUNDED = 0.1, 1.1e-3
# Formats with frame numbers but no times.
WITHOUT_TIMES = ("dlc-csv", "dlc-h5", "deeplabcut", "eks", "lightning-pose", "coco", "sleap", "slp")


def write(
    track: Track, folder: str | os.PathLike, formats: Sequence[str], suffix: str = ""
) -> list[Path]:
    """Write NAME{suffix}.EXT for each format (keys of `FORMATS`) and return the files' paths.

    A file is written completely or not at all, and replaces one of the same name. Missing folders
    are created.

    Args:
      track: the keypoints of one subject.
      folder: where the files go.
      formats: keys of `FORMATS`.
      suffix: suffix of the files' names, before the extension.

    Raises:
      ValueError: a format is unknown (then nothing is written), or the track is invalid.
      ImportError: a format needs a package that isn't installed.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"got formats {unknown}, expected some of {', '.join(FORMATS)}.")
    return [FORMATS[name](track, Path(folder) / f"{track.name}{suffix}") for name in formats]


def is_uneven(times: np.ndarray | None) -> bool:
    """Return whether frames are unevenly spaced, by more than the rounding of containers."""
    if times is None or len(times) < 3:
        return False
    steps = np.diff(times)
    return bool(np.abs(steps - steps.mean()).max() > max(UNEVEN * steps.mean(), ROUNDED))


def note_on_times(times: np.ndarray | None, formats: Sequence[str], table: str) -> list[str]:
    """Warn about unevenly spaced frames in formats that have no times.

    Args:
      times: seconds [T]; None if unknown.
      formats: keys of `FORMATS`.
      table: name of the file whose column `time` has the time of each frame.

    Returns:
      Sentences; none for evenly spaced frames.
    """
    without = [name for name in formats if name in WITHOUT_TIMES]
    if times is None or not without or not is_uneven(times):
        return []
    steps = np.diff(times)
    return [
        f"The frames are not evenly spaced: {1000 * steps.min():.3g} to {1000 * steps.max():.3g} "
        f"ms apart, {1 / steps.mean():.4g} per second on average. {', '.join(without)} can't "
        f"store this; the column time of {table} has the time of each frame."
    ]


def check(formats: Sequence[str]) -> None:
    """Raise ImportError, saying what to install, if a format's package is missing."""
    for kind in formats:
        if kind in NEEDS:
            _optional(kind)


def write_eks(tracks: Mapping[int, Track], folder: str | os.PathLike) -> list[Path]:
    """Write one subject's tracks, by models of several seeds, for the Ensemble Kalman Smoother.

    Writes DeepLabCut tables FOLDER/predictions.rng=SEED.csv. `eks` takes every CSV file in a folder
    as a member of the ensemble, so use a folder for nothing else. `eks` accepts joints that some
    members lack. If all members lack a joint in a single frame, `eks` returns NaN for that joint in
    every frame. The p-cutoff of tracks is ignored.

    Args:
      tracks: seed -> track.
      folder: where the files go; use it for nothing else.

    Raises:
      ValueError: the tracks differ in frames or joints, so they are not of one video; or all of
        them lack a joint in some frame.
    """
    tracks = {seed: track._replace(pcutoff=0.0) for seed, track in tracks.items()}
    spans = {(tuple(t.frames), t.skeleton.joints) for t in tracks.values()}
    if len(spans) != 1:
        found = {seed: (t.first_frame, len(t.joints)) for seed, t in tracks.items()}
        raise ValueError(
            f"got (first frame, frames) {found}, expected at least one track, and all of the same "
            "frames and joints: give the predictions of one video by models of different seeds."
        )
    nowhere = np.all([np.isnan(t.values()[..., 2]) for t in tracks.values()], axis=0)
    if nowhere.any():
        row, joint = np.argwhere(nowhere)[0]
        track = next(iter(tracks.values()))
        name, frame = track.skeleton.joints[joint], list(track.frames)[row]
        raise ValueError(
            f"{name} is missing from frame {frame} of every track, and the smoother would return "
            "NaN for it in all frames. Leave such frames out (--frames=A-B), or fill the gap."
        )
    folder = Path(folder)
    return [_dlc_csv(track, folder / f"predictions.rng={seed}") for seed, track in tracks.items()]


# --- The formats: writer(track, path without extension) -> path ----------------------------------


def _lightning_pose(track: Track, stem: Path) -> Path:
    """Write Lightning Pose's predictions: DeepLabCut's table with the type of network as scorer."""
    named = track._replace(scorer=LIGHTNING_POSE)
    return _dlc_csv(named, stem.with_name(f"{stem.name}.lightning_pose"))


def _dlc_csv(track: Track, stem: Path) -> Path:
    """Write DeepLabCut's table: three header rows, then frame number and x, y, likelihood."""
    columns = _dlc_columns(track)
    header = zip(*[("scorer", "bodyparts", "coords"), *columns], strict=True)
    values = track.values().reshape(len(track.joints), -1)
    # Missing values are spelled out, because pandas takes a first row of empty cells as a header.
    rows = (
        [frame, *("NaN" if np.isnan(v) else f"{v:.4f}" for v in row)]
        for frame, row in zip(track.frames, values, strict=True)
    )
    path = _path(stem, ".csv")
    write_csv(path, [*header, *rows])
    return path


def _dlc_h5(track: Track, stem: Path) -> Path:
    """Write the same table as DeepLabCut does, with pandas and PyTables."""
    pandas = _optional("dlc-h5")
    levels = ["scorer", "bodyparts", "coords"]
    table = pandas.DataFrame(
        track.values().reshape(len(track.joints), -1),
        index=track.frames,
        columns=pandas.MultiIndex.from_tuples(_dlc_columns(track), names=levels),
    )

    return _put(stem, ".h5", lambda path: hdf5_exports.write_table(path, table))


def _dlc_columns(track: Track) -> list[tuple[str, str, str]]:
    parts = ("x", "y", "likelihood")
    return [(track.scorer, joint, part) for joint in track.skeleton.joints for part in parts]


def _coco(track: Track, stem: Path) -> Path:
    """Write COCO keypoint results: image_id is the frame number, score the joints' mean confidence.

    Frames without any joint are left out, as COCO leaves out people who weren't found. A joint that
    is missing in a frame is 0, 0, 0, as in COCO's files.
    """
    values = track.points()
    results = [
        {
            "image_id": int(frame),
            "category_id": PERSON,
            "keypoints": np.nan_to_num(row).round(4).ravel().tolist(),
            "score": round(float(score), 4),
        }
        for frame, row, score in zip(track.frames, values, mean_confidence(values), strict=True)
        if not np.isnan(score)
    ]
    text = json.dumps(results, allow_nan=False)
    return _put(stem, ".json", lambda path: path.write_text(text))


def _sleap(track: Track, stem: Path) -> Path:
    return _put(stem, ".analysis.h5", lambda path: hdf5_exports.write_analysis(path, track))


def _slp(track: Track, stem: Path) -> Path:
    _optional("slp")
    return _put(stem, ".predictions.slp", lambda path: hdf5_exports.write_slp(path, track))


def _trc(track: Track, stem: Path) -> Path:
    """Write OpenSim's marker file: one pixel is one millimetre, y points up, z is 0.

    OpenSim knows only lengths, no pixels. Each row has the time of its frame, the header the mean
    rate. y = 0 is the centre of the image's bottom row or, if the height is unknown, of its top
    row. Frames are counted from 1, time from the start of the video. The format has no confidence.
    """
    table = track.values()
    bottom = track.picture_size[1] - 1 if track.picture_size else 0
    rate, count = f"{track.frames_per_second:.8g}", len(track.joints)
    joints = track.skeleton.joints
    head = {
        "DataRate": rate,
        "CameraRate": rate,
        "NumFrames": count,
        "NumMarkers": len(joints),
        "Units": "mm",
        "OrigDataRate": rate,
        "OrigDataStartFrame": track.first_row + 1,
        "OrigNumFrames": count,
    }
    rows = [
        ["PathFileType", 4, "(X/Y/Z)", f"{stem.name}.trc"],
        head.keys(),
        head.values(),
        ["Frame#", "Time", *(cell for joint in joints for cell in (joint, "", ""))],
        ["", "", *(f"{axis}{i + 1}" for i in range(len(joints)) for axis in "XYZ")],
        [],
    ]
    for row, (second, values) in enumerate(zip(track.seconds, table, strict=True)):
        cells = [track.first_row + row + 1, f"{second:.6f}"]
        for x, y, _ in values:
            cells += ["NaN"] * 3 if np.isnan(x) else [f"{x:.4f}", f"{bottom - y:.4f}", "0.0000"]
        rows.append(cells)
    lines = ["\t".join(map(str, row)) for row in rows]
    return _put(stem, ".trc", lambda path: _write_lines(path, lines))


def _npz(track: Track, stem: Path) -> Path:
    """Write NumPy arrays by name; picture_size, boxes, times, pictures, pcutoff only if known."""
    values = track.values()
    arrays = {
        "joints": values[..., :2],
        "confidence": values[..., 2],
        "names": np.array(track.skeleton.joints),
        "limbs": np.array(track.skeleton.limbs, int).reshape(-1, 2),
        "fps": np.array(float(track.frames_per_second)),
        "first_frame": np.array(track.first_frame),
        "step": np.array(track.step),
        "picture_size": track.picture_size,
        "boxes": track.boxes,
        "times": track.times,
        "pictures": track.pictures,
        "pcutoff": track.pcutoff or None,
    }
    known = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    path = _path(stem, ".npz")
    write_arrays(path, known, compress=False)
    return path


def _parquet(track: Track, stem: Path) -> Path:
    """Write one row per frame and joint: frame, keypoint, x, y, confidence; time, picture if known.

    The metadata of the schema has, each as JSON, name, skeleton, joints, limbs, frames_per_second,
    first_frame, step and picture_size, and pcutoff if there is one.
    """
    pyarrow = _optional("parquet")
    values, skeleton = track.values(), track.skeleton
    columns = {
        "frame": np.repeat(track.frames, skeleton.size),
        "keypoint": np.tile(skeleton.joints, len(values)),
    }
    for name, rows in (("time", track.times), ("picture", track.pictures)):
        if rows is not None:
            columns[name] = np.repeat(rows, skeleton.size)
    for i, name in enumerate(("x", "y", "confidence")):
        flat = values[..., i].ravel()
        columns[name] = pyarrow.array(flat, mask=np.isnan(flat))
    about = {
        "name": track.name,
        "skeleton": skeleton.name,
        "joints": skeleton.joints,
        "limbs": skeleton.limbs,
        "frames_per_second": float(track.frames_per_second),
        "first_frame": track.first_frame,
        "step": track.step,
        "picture_size": track.picture_size,
        **({"pcutoff": track.pcutoff} if track.pcutoff else {}),
    }
    metadata = {name: json.dumps(value) for name, value in about.items()}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    return _put(stem, ".parquet", lambda path: pyarrow.parquet.write_table(table, path))


FORMATS: dict[str, Callable[[Track, Path], Path]] = {
    "dlc-csv": _dlc_csv,
    "dlc-h5": _dlc_h5,
    "coco": _coco,
    "sleap": _sleap,
    "slp": _slp,
    "trc": _trc,
    "npz": _npz,
    "parquet": _parquet,
    "lightning-pose": _lightning_pose,
}


# --- Files ---------------------------------------------------------------------------------------


def _put(stem: Path, extension: str, write: Callable[[Path], object]) -> Path:
    return write_atomically(_path(stem, extension), write)


def _path(stem: Path, extension: str) -> Path:
    return stem.with_name(stem.name + extension)  # not with_suffix: names have dots


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


# Modules that only these formats need.
NEEDS = {
    "dlc-h5": ("pandas", "tables"),
    "slp": ("sleap_io",),
    "parquet": ("pyarrow", "pyarrow.parquet"),
}


def _optional(kind: str):
    """Import the modules that a format needs, and return the first."""
    modules = NEEDS[kind]
    try:
        first, *_ = [importlib.import_module(name) for name in modules]
        return first
    except ImportError as error:
        packages = " ".join(dict.fromkeys(name.split(".")[0] for name in modules))
        packages = packages.replace("_", "-")
        raise ImportError(f"format {kind!r}: {error}. Run: pip install {packages}") from error
