"""Run records of `reproduce`: one model, run once over the people of one split, as a JSON file.

A record holds the scores per person and what they cost. Its name ends in a fingerprint of all that
its numbers depend on, so nothing is computed twice and no record is mistaken for another.
"""

import dataclasses
import functools
import hashlib
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
POINTS = "points"  # the scenario that scores the keypoints, not the joints
CONTROL = "cross_subject_control"  # key of the scores by the previous person's model
# Keys of records that earlier versions wrote. Kept records stay as they are; `read` renames these.
RENAMED = {"cell": "run", "stranger": CONTROL}
# What records hold at least, patterns of `files.unlike`: where and when, trainings, the others.
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
    {**PIECES, "run": str, "seconds": float},
    {**_RUN, "bottleneck": _ERRORS, "readout": {str: {"error": float, "mean_pose_error": float}}},
    {
        **_RUN,
        **{"people": [str], "frames": int, "seconds_per_frame": float, "memory_mib": float},
        **{
            "scores": _SCORES,
            "smoothed": _SCORES,
            "by_frame": ([(float, None)], [[(float, None)]]),
        },
        **{f"{CONTROL}?": _SCORES, "bottleneck?": _ERRORS},
    },
)


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """What to run: which model, how, on whom. A record is what has come of it.

    Attributes:
      method: of `PoseNet`.
      scenario: "none", "online", "offline"; "mean pose" and "untrained" need no training;
        "points" looks at the self-supervised keypoints.
      seed: of the training and of all that follows.
      changes: fields of the config that differ at test time: (("ttp.iterations", 2), ...).
      split: "test"; "val" for the people that settings are chosen on.
      transfer: the people are those of `config.transfer` (paper, Table 6).
    """

    method: str
    scenario: str
    seed: int = 0
    changes: tuple[tuple[str, Any], ...] = ()
    split: str = "test"
    transfer: bool = False

    @property
    def title(self) -> str:
        """Name of the file, but for the fingerprint."""
        words = [self.method, f"seed{self.seed}", self.scenario.replace(" ", "-")]
        words += [f"{field.split('.')[-1]}={value}" for field, value in self.changes]
        words += [self.split] * (self.split != "test") + ["transfer"] * self.transfer
        return "-".join(words)


@functools.lru_cache(maxsize=1024)
def experiment_of(experiment: Experiment, spec: RunSpec) -> Experiment:
    """The experiment with the changes that this run makes to it."""
    config = experiment.config
    changes: dict[str, Any] = {"seed": spec.seed, "model.method": spec.method}
    if tasks.of(spec.method).needs_upright:
        changes |= {f"ttp.{scenario}_rotation_prob": 0.0 for scenario in ("online", "offline")}
        changes["train.stages"] = tuple(
            (steps, rate, config.reproduce.rotation_lambda if weight else weight, decay)
            for steps, rate, weight, decay in config.train.stages
        )
    if spec.transfer:  # other people's frames, in the model's own skeleton
        fields = ("oversample", "context", "refine", "fit")
        changes |= {f"data.{field}": config.transfer[field] for field in fields}
    return experiment.changed(changes | dict(spec.changes))


def fingerprint(value) -> str:
    """Eight hexadecimal digits of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def model_name(experiment: Experiment, spec: RunSpec) -> str:
    """Folder of a trained model: method, seed and a fingerprint of what it was trained on and how.

    What matters at test time only is no part of it.
    """
    trained = identity.trained_on(experiment_of(experiment, spec).config)
    return f"{spec.method}-seed{spec.seed}-{fingerprint(trained)}"


def record_name(experiment: Experiment, spec: RunSpec) -> str:
    """Name of a run's record: the file without its suffix."""
    own = experiment_of(experiment, spec).config
    # The key "cell" must stay, because the names of all stored records depend on it.
    parts: dict = {"model": model_name(experiment, spec), "cell": spec.title}
    parts |= {"eval": own.eval.pixels}
    elsewhere = ("pixels", "probe_frames", "pictures")  # change no score, or named above
    parts |= identity.identifying("eval", own.eval, elsewhere)
    predicted = {name: own.model[name] for name in identity.NOT_THE_MODEL["model"]}
    parts |= identity.identifying("model", predicted)
    where = ("root", "tfds", "workers")
    parts["data"] = identity.identifying("data", own.data, where)
    if spec.scenario in ("online", "offline"):
        parts["ttp"] = identity.identifying("ttp", own.ttp, identity.HOW)
    if spec.transfer:
        parts["transfer"] = identity.identifying("data", own.transfer, (*where, "about"))
    if spec.scenario == POINTS or (spec.scenario == "offline" and tasks.of(spec.method).probe):
        parts["probe"] = own.eval.probe_frames
    return f"{spec.title}-{fingerprint(parts)}"


def read(folder: pathlib.Path, name: str) -> dict | None:
    """A finished run's record, earlier versions' too, under today's keys.

    Returns None if there is none, or only a damaged one (with a warning), which `write` moves
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
        return record  # the caller reports what was expected
    record = {RENAMED.get(key, key): value for key, value in record.items()}
    if isinstance(errors := record.get("bottleneck"), dict):
        record["bottleneck"] = {RENAMED.get(key, key): value for key, value in errors.items()}
    return record


def _is_whole(record: dict) -> bool:
    """Whether all scores of a record are of the same measures and people."""
    parts = [record[part] for part in ("scores", "smoothed", CONTROL) if part in record]
    lengths = {len(score["per_subject"]) for part in parts for score in part.values()}
    same = all(part.keys() == parts[0].keys() for part in parts) and len(parts[0]) > 0
    if all(isinstance(row, list) for row in record["by_frame"]):  # the first had means over people
        lengths.add(len(record["by_frame"]))
    return same and lengths == {len(record["people"])}


def write(folder: pathlib.Path, name: str, record: dict) -> None:
    """Write a record, each list of numbers on one line."""

    def joined(numbers):
        return " ".join(numbers[0].split())

    text = re.sub(r"\[\n[^\[\]{}\"]*\]", joined, json.dumps(record, indent=1))
    path = inside(folder, f"{name}.json")
    if path.exists() and read(folder, name) is None:
        warnings.warn(f"the damaged {path} is now {move_aside(path, path.suffix)}", stacklevel=2)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n"))


def command() -> str:
    """The command that repeats a run, without the paths of this machine."""
    given: list[str] = []
    for word in sys.argv[1:]:
        if given and re.fullmatch(r"--?[\w.]+", given[-1]) and not word.startswith("-"):
            given[-1] += f"={word}"  # "--workdir DIR", in two words
        else:
            given.append(word)
    words = []
    for word in given:
        flag, _, value = word.partition("=")
        if flag.lstrip("-") in ("workdir", "records", "cells", "minutes"):
            continue
        if flag.endswith(".root") and os.path.isabs(value):
            word = f"{flag}=DIR"
        words.append(word)
    return "python main.py " + shlex.join(words)


def missing(
    experiment: Experiment, wanted: Sequence[RunSpec], folder: pathlib.Path
) -> list[RunSpec]:
    """Those of the wanted runs that have no record yet."""
    return [spec for spec in wanted if read(folder, record_name(experiment, spec)) is None]
