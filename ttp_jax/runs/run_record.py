"""run.json of a folder of results: all that is needed to do the runs again and compare."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ttp_jax.files import DAMAGED, only_one, read_arrays, read_json, write_json
from ttp_jax.runs import provenance


def write(
    folder: pathlib.Path,
    names: Sequence[str],
    run: dict[str, Any],
    seconds: Mapping[str, float],
    failed: Mapping[str, str],
    moved: Mapping[str, str],
) -> None:
    """Write the record; several processes add their subjects to one file.

    Args:
      folder: of the results.
      names: subjects to record, if they have results.
      run: what is true of the whole run, its "config" among it.
      seconds: that the subjects took which were done in this run.
      failed: subjects that were not, and why.
      moved: subjects of earlier runs whose files were moved aside -> folder that they are in now.
    """
    path = folder / "run.json"
    with only_one(path, wait=True):
        before = read_json(path) or {}
        subjects = _earlier(folder, before.get("subjects", {}), moved)
        for name in names:
            found = _subject(folder, name, subjects.get(name, {}), run, seconds)
            if found is not None:
                subjects.pop(name, None)  # those of this run come last
                subjects[name] = found
        still = {k: v for k, v in before.get("failed", {}).items() if k not in subjects}
        config = run.pop("config")
        write_json(
            path, {**run, "subjects": subjects, "failed": {**still, **failed}, "config": config}
        )


def _earlier(folder: pathlib.Path, subjects: dict, moved: Mapping[str, str]) -> dict:
    """Subjects of earlier commands whose files are there: another video doesn't replace them."""
    found = {}
    for name, old in subjects.items():
        if name in moved:
            aside = moved[name]
            outputs = {f"{aside}/{file}": digest for file, digest in old["outputs"].items()}
            name, old = aside, {**old, "name": old.get("name", name), "outputs": outputs}
        if all((folder / file).exists() for file in old["outputs"]):
            found[name] = old
    return found


def _subject(
    folder: pathlib.Path, name: str, old: dict, run: dict, seconds: Mapping[str, float]
) -> dict | None:
    """What is recorded of a subject; None where it has no whole results."""
    files = {file: folder / file for file in (f"{name}.csv", f"{name}.npz")}
    if not all(path.exists() for path in files.values()):
        return None
    try:
        stored = read_arrays(files[f"{name}.npz"])
    except DAMAGED:
        return None  # a run to come does it again
    outputs = {file: provenance.sha256(path) for file, path in files.items()}
    if old.get("outputs") != outputs:
        old = {}  # of earlier results: a kill came between those on disk and their record
    now = name in seconds or not old
    return {
        "frames": len(stored["joints"]),
        "seconds": seconds.get(name, old.get("seconds")),
        "data": run["config"]["data"] if now else old["data"],
        "made_with": run["made_with"] if now else old["made_with"],
        "inputs": str(stored["inputs"]),
        "outputs": outputs,
    }
