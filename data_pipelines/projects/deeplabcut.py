"""DeepLabCut projects: labeled-data/NAME/CollectedData_SCORER.csv or .h5 beside pictures.

config.yaml is optional, and a single folder labeled-data/NAME is a project of one recording. If
both label files exist, the .h5 is used, as in DeepLabCut, and compared with the .csv.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from data_pipelines.clips import DataError, read_text
from data_pipelines.projects import assemble, files, names, tables
from data_pipelines.projects.records import (
    Options,
    Project,
    Recording,
    Sheet,
    check_individuals,
)

LABELS = "CollectedData_"
FOLDER = "labeled-data"
MOST_PARTS = 1_000_000  # largest number of parts of a config.yaml
DRAWN = "_labeled"  # suffix of folders in which DeepLabCut has drawn the labels on the pictures


def is_one(path: Path) -> bool:
    """Return whether a folder is a DeepLabCut project, or a folder of its labelled pictures."""
    folders = files.entries(path / FOLDER) if (path / FOLDER).is_dir() else [path]
    return any(labels_in(folder) for folder in folders if folder.is_dir())


def labels_in(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the label files in a folder of pictures, by scorer and suffix."""
    found: dict[str, dict[str, Path]] = {}
    for path in files.entries(folder):
        if path.name.startswith(LABELS) and path.suffix.lower() in (".csv", ".h5"):
            scorer = path.stem.removeprefix(LABELS)
            found.setdefault(scorer, {})[path.suffix.lower()] = path
    return found


def read(path: Path, options: Options) -> Project:
    """Read a project's folder, or one folder of its labelled pictures.

    Args:
      path: the project's folder, its `config.yaml`, or a folder of labelled pictures.
      options: what to read and how.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    root = path if (path / FOLDER).is_dir() else path.parent.parent
    config = read_config(root / "config.yaml")
    folders = [folder for folder in files.entries(path / FOLDER) if folder.is_dir()] or [path]
    recordings, left_out = [], []
    for folder in folders:
        if _is_drawn(folder):
            if labels_in(folder):
                left_out.append(f"{folder.name}: a copy of another folder with its labels drawn.")
            continue
        sheet = sheet_of(folder, options, str(config.get("scorer") or ""))
        if sheet is not None:
            limbs = _limbs(config)
            identity = str(config.get("identity")).lower() in ("true", "yes", "on")
            sheet = sheet._replace(limbs=limbs, identity=identity)
            recordings.append(_recording(folder, root, sheet, options))
        elif pictures := files.pictures_in(folder):
            why = f"no labels by {options.scorer}" if labels_in(folder) else "no file of labels"
            left_out.append(f"{len(pictures)} pictures of {folder.name}: {why}.")
    everyone = (name for recording in recordings for name in recording.sheet.individuals)
    check_individuals(everyone, options.individuals, path)
    return assemble.project(
        path,
        "DeepLabCut",
        recordings,
        options,
        joint_names=_joints(config),
        videos=_videos(root, config, options),
        crops=_crops(config),
        left_out=left_out,
    )


def sheet_of(folder: Path, options: Options, usual: str = "") -> Sheet | None:
    """Read the labels in a folder of pictures; None if there are none by the wanted scorer.

    Args:
      folder: labeled-data/NAME.
      options: `scorer` and `individuals` are used.
      usual: the project's scorer, which is used if there are several and none is requested.

    Raises:
      DataError: the folder has labels by several scorers, or they can't be read.
    """
    found = labels_in(folder)
    scorer = options.scorer or (usual if usual in found else "")
    if options.scorer and scorer not in found:  # the file's name may not be the scorer's
        found = {
            name: each
            for name, each in found.items()
            if scorer in tables.scorers(next(iter(each.values())))
        }
    if not found:
        return None
    if not scorer and len(found) > 1:
        raise DataError(
            f"{folder} has labels of {len(found)} scorers ({', '.join(found)}): choose one with "
            "--config.data.scorer, or move the others away."
        )
    file = scorer if scorer in found else next(iter(found))
    sheet = _compared(found[file], options.scorer or usual, options.individuals)
    others = [name for name in found if name != file]
    if others:
        note = f"labels by {', '.join(others)} are left out where there are {scorer or file}'s."
        sheet = sheet._replace(notes=[*sheet.notes, note])
    return sheet


def _compared(tables_of: dict[str, Path], scorer: str, individuals: Sequence[str]) -> Sheet:
    """Read one scorer's label file, and report where .csv and .h5 differ."""
    read = functools.partial(tables.sheet, usual=scorer, individuals=individuals)
    csv, h5 = (tables_of.get(suffix) for suffix in (".csv", ".h5"))
    if csv is None or h5 is None:
        return read(next(iter(tables_of.values())))
    text = read(csv)
    try:
        sheet = read(h5)
    except DataError as error:
        return text._replace(notes=[*text.notes, f"{error} The .csv is read instead."])
    if differing := _differing(sheet, text):
        note = f"{h5} and the .csv beside it differ in {differing}: the .h5 is read."
        sheet = sheet._replace(notes=[*sheet.notes, note])
    return sheet


def _differing(one: Sheet, other: Sheet) -> str:
    """Describe the difference between two sheets; "" if there is none that matters."""
    if set(one.names) != set(other.names):
        return "their joints"
    at = [other.names.index(name) for name in one.names]
    rows = {(tuple(names.parts(row.picture)), row.individual): row.joints[at] for row in other.rows}
    count = len(rows) - len(one.rows)
    differing = max(count, 0)
    for row in one.rows:
        joints = rows.get((tuple(names.parts(row.picture)), row.individual))
        same = joints is not None and np.allclose(joints, row.joints, atol=1e-3, equal_nan=True)
        differing += not same
    return f"{differing} rows" if differing else ""


# --- Pictures and videos -------------------------------------------------------------------------


def _recording(folder: Path, root: Path, sheet: Sheet, options: Options) -> Recording:
    pictures = {names.key(picture.name) for picture in files.pictures_in(folder)}
    labelled = {names.key(names.file(row.picture)) for row in sheet.rows}
    return Recording(
        folder.name,
        sheet,
        files.finder(sheet.rows, [folder], [root, options.media]),
        unlabelled=len(pictures - labelled),
        aliases=sorted({names.folder(row.picture) for row in sheet.rows} - {""}),
    )


def _is_drawn(folder: Path) -> bool:
    """Return whether a folder has copies of another one's pictures with labels drawn on them."""
    return folder.name.endswith(DRAWN) and bool(
        labels_in(folder.with_name(folder.name.removesuffix(DRAWN)))
    )


def _videos(root: Path, config: dict[str, Any], options: Options) -> list[Path]:
    """Return the project's videos: those in its folder, and those of config.yaml that exist."""
    folders = [root / "videos", *([Path(options.media).expanduser()] if options.media else [])]
    found = [path for folder in folders for path in files.videos_in(folder)]
    sets = config.get("video_sets")
    for name in sets if isinstance(sets, dict) else ():
        path = files.locate(str(name), [])
        if path is not None and path.stem not in {each.stem for each in found}:
            found.append(path)
    return found


def _crops(config: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """Return the regions x1, x2, y1, y2 that pictures were cropped to, by name of the video."""
    sets, crops = config.get("video_sets"), {}
    for name, about in sets.items() if isinstance(sets, dict) else ():
        words = str(about.get("crop", "")).split(",") if isinstance(about, dict) else []
        if len(words) == 4 and all(word.strip().isdecimal() for word in words):
            crops[Path(names.file(str(name))).stem] = tuple(int(word) for word in words)
    return crops


# --- config.yaml ---------------------------------------------------------------------------------


class _Text(yaml.SafeLoader):
    """Reads unquoted words as text: to DeepLabCut, a joint `no` isn't false, and `1_2` isn't 12."""

    yaml_implicit_resolvers: ClassVar = {}


def read_config(path: Path) -> dict[str, Any]:
    """Read config.yaml, values as text; empty if there is none. Raises DataError if damaged."""
    if not path.is_file():
        return {}
    text = read_text(path)
    try:
        config = yaml.load(text, _Text)
        _check_size(config)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not valid YAML ({' '.join(str(error).split())}): correct it, or move it "
            "away, as "
            "labels can be read without it."
        ) from error
    if not isinstance(config, dict):
        raise DataError(f"{path} has no named settings: correct it, or move it away.")
    return config


def _check_size(config: Any) -> None:
    """Raise if a file expands without end, or nearly so, because its parts refer to each other."""
    waiting, count = [config], 0
    while waiting:
        part, count = waiting.pop(), count + 1
        if count > MOST_PARTS:
            raise ValueError(f"with its references it has more than {MOST_PARTS:,} parts")
        if isinstance(part, dict | list):
            waiting += part.values() if isinstance(part, dict) else part


def _joints(config: dict[str, Any]) -> list[str]:
    """Return the names of the joints in the project's order, as far as it lists them."""
    lists = [config.get(key) for key in ("multianimalbodyparts", "bodyparts", "uniquebodyparts")]
    return [str(name) for names_of in lists if isinstance(names_of, list) for name in names_of]


def _limbs(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the project's skeleton as pairs; a longer list of joints is taken as a chain."""
    chains = config.get("skeleton")
    chains = (
        [chain for chain in chains if isinstance(chain, list)] if isinstance(chains, list) else []
    )
    return [(str(a), str(b)) for chain in chains for a, b in itertools.pairwise(chain)]
