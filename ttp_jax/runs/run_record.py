"""The provenance record `run.json` of a results folder, with all that is needed to repeat a run."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from data_pipelines.clips import Clip
from ttp_jax.files import (
    DAMAGED,
    Damaged,
    move_aside,
    only_one,
    read_arrays,
    read_json,
    sha256,
    write_json,
)
from ttp_jax.runs.process import say

# Required content of run.json, as a pattern of `files.read_json`.
RECORD = {
    "scenario": str,
    "subjects": {
        str: {"data": dict, "made_with": dict, "inputs": str, "outputs": {str: str}, "frames": int}
    },
    "failed": {str: str},
    "protocol": str,
    "base": str,
    "person": (str, None),
    "config": dict,
}


class Now(NamedTuple):
    """The outcome of this run's subjects, by name.

    Attributes:
      seconds: seconds of the subjects that are done.
      failed: why others failed; also why inputs were left out, by path.
      warnings: signs of harm, see `warning_signs`.
      moved: folders to which earlier results of these names were moved.
      together: entries of recordings that share a subject's model, see `recordings.record`.
    """

    seconds: Mapping[str, float]
    failed: Mapping[str, str]
    warnings: Mapping[str, list[str]]
    moved: Mapping[str, str]
    together: Mapping[str, dict[str, Any]]


def write(folder: pathlib.Path, clips: Sequence[Clip], run: dict[str, Any], now: Now) -> None:
    """Write the record; several processes add their subjects to one file.

    Args:
      folder: folder of the results.
      clips: clips to record, if they have results. If an earlier run left out one of their files,
        that note is removed.
      run: entries about the whole run, including its "config".
      now: the outcome of the subjects.
    """
    path, names = folder / "run.json", [clip.name for clip in clips]
    with only_one(path, wait=True):
        try:
            before = read_json(path, RECORD) or {}
        except Damaged as error:
            before, aside = {}, move_aside(path, path.suffix)
            say(f"{error} It was moved to {aside}, and {path} starts empty.")
        subjects = _earlier(folder, before.get("subjects", {}), now.moved)
        for name in names:
            found = _subject(folder, name, subjects.get(name, {}), run, now)
            if found is not None:
                subjects.pop(name, None)  # this run's subjects come last
                subjects[name] = found
        mended = {*subjects, *(clip.source for clip in clips)}
        still = {k: v for k, v in before.get("failed", {}).items() if k not in mended}
        config = run.pop("config")
        write_json(
            path, {**run, "subjects": subjects, "failed": {**still, **now.failed}, "config": config}
        )


def _earlier(folder: pathlib.Path, subjects: dict, moved: Mapping[str, str]) -> dict:
    """Return subjects of earlier runs whose files still exist; the new record keeps them."""
    found = {}
    for name, old in subjects.items():
        if name in moved:
            aside = moved[name]
            outputs = {f"{aside}/{file}": digest for file, digest in old["outputs"].items()}
            name, old = aside, {**old, "name": old.get("name", name), "outputs": outputs}
        if all((folder / file).exists() for file in old["outputs"]):
            found[name] = old
    return found


def _subject(folder: pathlib.Path, name: str, old: dict, run: dict, now: Now) -> dict | None:
    """Return the record of one subject; None if its results are incomplete."""
    files = {file: folder / file for file in (f"{name}.csv", f"{name}.npz")}
    if not all(path.exists() for path in files.values()):
        return None
    try:
        stored = read_arrays(files[f"{name}.npz"])
    except DAMAGED:
        return None  # the next run repeats the subject
    outputs = {file: sha256(path) for file, path in files.items()}
    if old.get("outputs") != outputs:
        old = {}  # of earlier results: the latest run was killed before it wrote its record
    new = name in now.seconds or not old
    warnings = now.warnings.get(name, old.get("warnings", []))
    return {
        "frames": len(stored["joints"]),
        "seconds": now.seconds.get(name, old.get("seconds")),
        "data": run["config"]["data"] if new else old["data"],
        "made_with": run["made_with"] if new else old["made_with"],
        "inputs": str(stored["inputs"]),
        "outputs": outputs,
        **({"warnings": warnings} if warnings else {}),
        **now.together.get(name, {}),
    }
