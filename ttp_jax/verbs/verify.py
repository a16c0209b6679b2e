"""Repeat a run and check that its results match their record, byte for byte.

    python main.py verify runs/tiny/results/online

Reads run.json, which every `personalize` and `predict` writes. For each subject it checks that the
files and the model are those of the record, runs it again in a temporary folder, and compares
inputs and results byte by byte. The exit code is 1 if anything differs. Expect the same bytes on
the same machine with the same versions and, if subjects ran side by side on a GPU, the same number
of them at a time. Versions that differ are named.
"""

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Iterator

from ttp_jax.checkpoint import fingerprint, model_path
from ttp_jax.files import inside, read_json, sha256
from ttp_jax.runs import (
    base_model,
    experiment,
    identity,
    personalization,
    provenance,
    results,
    run_record,
)
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.personalization import RunOptions
from ttp_jax.runs.process import STOPPED, say


def run(words: list[str]) -> int:
    """Verify the results in the named folder; return the exit code."""
    if len(words) != 1:
        raise ValueError(
            "verify takes one folder of results: main.py verify WORKDIR/results/online"
        )
    folder = pathlib.Path(words[0]).expanduser()
    path = folder / "run.json"
    record = read_json(path, {"scenario": str, "config": dict})
    if record is None:
        raise ValueError(
            f"{path} does not exist, so {folder} is not a folder of results: name one that "
            "personalize or predict wrote."
        )
    if record["scenario"] == "live":
        raise ValueError(
            f"{folder} was made from a live stream, whose frames are not stored: verify works for "
            "runs on videos and pictures only."
        )
    record = read_json(path, run_record.RECORD)
    config = identity.stored_config(record["config"], path)
    say(f"{folder}: {len(record['subjects'])} subjects, {record['protocol']}")
    wrong = stored_files(folder, record) or ["the record lists no subjects"] * (
        not record["subjects"]
    )
    workdir, base_file = folder.resolve().parent.parent, config.base
    with _naming(path):
        then = experiment.build(config)
    base, _ = base_model.load_base(then, workdir)
    if record["person"] is None and fingerprint(base) != record["base"]:
        place = model_path(base_file) if base_file else workdir / "checkpoints"
        wrong.append(f"the model in {place} is not the one that made these results")
    _compare_versions(record)
    if not wrong:
        found = done_again(then, workdir, record, path)
        if found is None:
            say("stopped before the comparison was finished: run verify again for a verdict")
            return STOPPED
        wrong = found
    for line in wrong:
        say(f"DIFFERS: {line}")
    say("the results differ from their record" if wrong else "verified: every byte is as recorded")
    return 1 if wrong else 0


def _compare_versions(record: dict) -> None:
    """Print which versions have changed since the run."""
    now = provenance.made_with()
    made = [subject["made_with"] for subject in record["subjects"].values()]
    for name in now:
        for then in sorted({str(m.get(name)) for m in made} - {now[name]}):
            say(f"note: {name} was {then} at the time, now it is {now[name]}")


def stored_files(folder: pathlib.Path, record: dict) -> list[str]:
    """Return a sentence for each file of results that is missing or was changed."""
    wrong = []
    for subject in record["subjects"].values():
        for name, digest in subject["outputs"].items():
            path = inside(folder, name)
            if not path.is_file():
                wrong.append(f"{path} is missing")
            elif sha256(path) != digest:
                wrong.append(f"{path} was changed after the run")
    return wrong


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Add the record's file to errors about its experiment."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def done_again(
    then: Experiment, workdir: pathlib.Path, record: dict, path: pathlib.Path
) -> list[str] | None:
    """Run all subjects again; return the differences, or None if the run was stopped."""
    options = RunOptions(scenario=record["scenario"], person=record["person"])
    # Several commands may have added subjects to the record, some of them more than once.
    by_source: dict[str, dict[str, dict]] = {}
    for name, subject in record["subjects"].items():
        by_source.setdefault(json.dumps(subject["data"]), {})[name] = subject
    wrong = []
    for data, subjects in sorted(by_source.items()):
        of_then = identity.stored_config({"data": json.loads(data)}, path).data
        with _naming(path):
            own = then.changed({"eval.pictures": 0}).with_data(of_then)
        with tempfile.TemporaryDirectory() as place:
            again = pathlib.Path(place) / "again"
            if personalization.run(own, workdir, options, again) == STOPPED:
                return None
            found = read_json(again / "run.json") or {}
            wrong += differences(subjects, found, path.parent, again)
    return wrong


def differences(
    subjects: dict[str, dict], found: dict, folder: pathlib.Path, again: pathlib.Path
) -> list[str]:
    """Return the differences between the repeated run and the recorded subjects.

    Args:
      subjects: subjects of the record that is verified.
      found: the record of the repeated run.
      folder: folder of the recorded results.
      again: folder of the repeated run's results.
    """
    wrong = []
    for name, subject in subjects.items():
        own = subject.get("name", name)  # the results may have been moved aside
        new = found.get("subjects", {}).get(own)
        if new is None:
            wrong.append(f"{name}: no result this time, {found.get('failed', {}).get(own, '')}")
        elif new["inputs"] != subject["inputs"]:
            wrong.append(f"{name}: the frames or boxes differ from those of the run")
        elif [*new["outputs"].values()] != [*subject["outputs"].values()] and not all(
            # Earlier versions had another name for the confidence, so files may differ in that.
            results.same(folder / then, again / now)
            for then, now in zip(subject["outputs"], new["outputs"], strict=True)
        ):
            wrong.append(f"{name}: the same frames gave different results")
    return wrong
