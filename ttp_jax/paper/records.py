"""Run records of `reproduce`: JSON files, each of one model run once over the people of a split.

A record holds the scores of each person and their cost. Its name ends in a fingerprint of
everything that its numbers depend on, so nothing is computed twice and no record is mistaken for
another.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from ttp_jax import tasks
from ttp_jax.files import Damaged, inside, move_aside, read_json, unlike, write_atomically
from ttp_jax.runs import identity
from ttp_jax.runs.experiment import Experiment

WITHOUT_MODEL = ("mean pose", "untrained")  # scenarios that need no training
POINTS = "points"  # the scenario that examines the keypoints instead of scoring joints
CONTROL = "cross_subject_control"  # key of the scores with the previous person's model
# Keys in records of earlier versions. `read` renames them; the files stay as they are.
RENAMED = {"cell": "run", "stranger": CONTROL}
# Required contents of records, as patterns of `files.unlike`: common ones, of trainings, of runs.
_MADE = {
    "seconds": float,
    "date": str,
    "commit": (str, None),
    "machine": {"device": str, "cores": (int, None)},
}
PIECES = {"pieces": [{**_MADE, "from": int, "to": int}]}
_SCORES = {str: {"mean": float, "per_subject": [(float, None)]}}
_ERRORS = {str: {"own": float, "other": float, "copy": float}}
_RUN = {**_MADE, "run": str, "seed": int, "base?": (str, None)}
RECORD = (
    {**PIECES, "run": str, "seconds": float, "steps?": int},
    {**_RUN, "bottleneck": _ERRORS, "readout": {str: {"error": float, "mean_pose_error": float}}},
    {
        **_RUN,
        **{"people": [str], "frames": int, "seconds_per_frame": float, "memory_mib": float},
        **{
            "scores": _SCORES,
            "smoothed": _SCORES,
            "by_frame": ([(float, None)], [[(float, None)]]),
        },
        **{f"{CONTROL}?": _SCORES, "bottleneck?": _ERRORS, "errors?": _SCORES},
    },
)


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """A run: which model, in which scenario, on which people. Its result is a run record.

    Attributes:
      method: method of `PoseNet`.
      scenario: "none", "online", "offline"; "mean pose" and "untrained" need no training; "points"
        examines the self-supervised keypoints.
      seed: seed of the training and of everything after it.
      changes: fields of the config that differ at test time: (("ttp.iterations", 2), ...).
      split: "test", or "val" for the people who are used to choose settings.
      transfer: whether the people are those of `config.transfer` (paper, Table 6).
    """

    method: str
    scenario: str
    seed: int = 0
    changes: tuple[tuple[str, Any], ...] = ()
    split: str = "test"
    transfer: bool = False

    @property
    def title(self) -> str:
        """Name of the record's file without the fingerprint."""
        words = [self.method, f"seed{self.seed}", self.scenario.replace(" ", "-")]
        words += [f"{field.split('.')[-1]}={value}" for field, value in self.changes]
        words += [self.split] * (self.split != "test") + ["transfer"] * self.transfer
        return "-".join(words)


@functools.lru_cache(maxsize=1024)
def experiment_of(experiment: Experiment, spec: RunSpec) -> Experiment:
    """Return the experiment with this run's changes."""
    config = experiment.config
    changes: dict[str, Any] = {"seed": spec.seed, "model.method": spec.method}
    if tasks.of(spec.method).needs_upright:
        changes |= {f"ttp.{scenario}_rotation_prob": 0.0 for scenario in ("online", "offline")}
        changes["train.stages"] = tuple(
            (steps, rate, config.reproduce.rotation_lambda if weight else weight, decay)
            for steps, rate, weight, decay in config.train.stages
        )
    if spec.transfer:  # frames of the other data set, in the model's own skeleton
        fields = ("oversample", "context", "refine", "fit")
        changes |= {f"data.{field}": config.transfer[field] for field in fields}
    return experiment.changed(changes | dict(spec.changes))


def fingerprint(value) -> str:
    """Return a fingerprint, eight hexadecimal digits, of anything that JSON can hold."""
    return identity.digest(value)[:8]


def model_name(experiment: Experiment, spec: RunSpec) -> str:
    """Return the folder name of a trained model: method, seed, fingerprint of data and settings.

    Settings that only matter at test time are not part of the fingerprint.
    """
    trained = identity.trained_on(experiment_of(experiment, spec).config)
    return f"{spec.method}-seed{spec.seed}-{fingerprint(trained)}"


def record_name(experiment: Experiment, spec: RunSpec) -> str:
    """Return the name of a run's record, which is its file name without the suffix."""
    own = experiment_of(experiment, spec).config
    # The key "cell" must stay, because the names of all stored records depend on it.
    parts: dict = {"model": model_name(experiment, spec), "cell": spec.title}
    parts |= {"eval": own.eval.pixels}
    elsewhere = ("pixels", "probe_frames", "pictures")  # change no score, or are named above
    parts |= identity.identifying("eval", own.eval, elsewhere)
    predicted = {name: own.model[name] for name in identity.NOT_THE_MODEL["model"]}
    parts |= identity.identifying("model", predicted)
    where = ("root", "tfds", "workers")
    parts["data"] = identity.identifying("data", own.data, where)
    if spec.scenario not in WITHOUT_MODEL:  # which checkpoint of the training is used
        chosen = {name: own.train[name] for name in ("best", "patience")}
        parts |= identity.identifying("train", chosen)
    if spec.scenario in ("online", "offline"):
        parts["ttp"] = identity.identifying("ttp", own.ttp, identity.HOW)
    if spec.transfer:
        parts["transfer"] = identity.identifying("data", own.transfer, (*where, "about"))
    if spec.scenario == POINTS or (spec.scenario == "offline" and tasks.of(spec.method).probe):
        parts["probe"] = own.eval.probe_frames
    return f"{spec.title}-{fingerprint(parts)}"


def read(folder: pathlib.Path, name: str) -> dict | None:
    """Read the record of a finished run, with the keys of this version.

    Returns None if there is no record, or, with a warning, a damaged one, which `write` moves
    aside.
    """
    path = inside(folder, f"{name}.json")
    try:
        record = read_json(path)
        if record is None:
            return None
        record = _with_current_keys(record)
        if wrong := unlike(record, RECORD):
            raise Damaged(path, wrong)
        if "scores" in record and not _is_whole(record):
            raise Damaged(path, "its parts are not of the same people")
        return record
    except Damaged as error:
        warnings.warn(f"{error} It counts as missing.", stacklevel=2)
        return None


def _with_current_keys(record):
    """Rename the keys of earlier versions, in the record and in its "bottleneck"."""
    if not isinstance(record, dict):
        return record  # the caller reports what it expected
    record = {RENAMED.get(key, key): value for key, value in record.items()}
    if isinstance(errors := record.get("bottleneck"), dict):
        record["bottleneck"] = {RENAMED.get(key, key): value for key, value in errors.items()}
    return record


def _is_whole(record: dict) -> bool:
    """Return whether all scores of a record have the same measures and people."""
    parts = [record[part] for part in ("scores", "smoothed", CONTROL) if part in record]
    lengths = {len(score["per_subject"]) for part in parts for score in part.values()}
    same = all(part.keys() == parts[0].keys() for part in parts) and len(parts[0]) > 0
    if all(
        isinstance(row, list) for row in record["by_frame"]
    ):  # the first version stored means over people
        lengths.add(len(record["by_frame"]))
    return same and lengths == {len(record["people"])}


def write(folder: pathlib.Path, name: str, record: dict) -> None:
    """Write a record with each list of numbers on one line."""

    def joined(numbers):
        return " ".join(numbers[0].split())

    text = re.sub(r"\[\n[^\[\]{}\"]*\]", joined, json.dumps(record, indent=1))
    path = inside(folder, f"{name}.json")
    if path.exists() and read(folder, name) is None:
        warnings.warn(f"the damaged {path} is now {move_aside(path, path.suffix)}", stacklevel=2)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n"))


def command(left_out: Sequence[str] = ()) -> str:
    """Return the command that repeats a run, without paths of this machine and flags `left_out`."""
    given: list[str] = []
    for word in sys.argv[1:]:
        if given and re.fullmatch(r"--?[\w.]+", given[-1]) and not word.startswith("-"):
            given[-1] += f"={word}"  # "--workdir DIR" comes as two words
        else:
            given.append(word)
    words = []
    for word in given:
        flag, _, value = word.partition("=")
        if flag.lstrip("-") in ("workdir", "records", "cells", "minutes", *left_out):
            continue
        if flag.endswith(".root") and os.path.isabs(value):
            word = f"{flag}=DIR"
        words.append(word)
    return "python main.py " + shlex.join(words)


def missing(
    experiment: Experiment, wanted: Sequence[RunSpec], folder: pathlib.Path
) -> list[RunSpec]:
    """Return the wanted runs that have no record yet."""
    return [spec for spec in wanted if read(folder, record_name(experiment, spec)) is None]
