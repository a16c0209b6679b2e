"""Cells of the paper's tables: one model, run once over the people of one split, on disk as JSON.

A cell's file holds its scores per person and what it cost. Its name ends in a fingerprint of all
that its numbers follow from, so a cell is computed once and never mistaken for another.
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
from ttp_jax.files import Damaged, inside, move_aside, read_json, write_atomically
from ttp_jax.runs import identity
from ttp_jax.runs.experiment import Experiment

WITHOUT_MODEL = ("mean pose", "untrained")  # scenarios that need no training
POINTS = "points"  # the scenario that predicts nobody: what the keypoints are worth
# What files hold at least, patterns of `files.read_json`: where and when, trainings, the others.
_MADE = {
    "seconds": float,
    "date": str,
    "commit": (str, None),
    "machine": {"device": str, "cores": (int, None)},
}
PIECES = {"pieces": [{**_MADE, "from": int, "to": int}]}
_SCORES = {str: {"mean": float, "per_subject": [(float, None)]}}
_ERRORS = {str: {"own": float, "other": float, "copy": float}}
_RUN = {**_MADE, "cell": str, "seed": int, "base?": (str, None)}
CELL = (
    {**PIECES, "cell": str, "seconds": float},
    {**_RUN, "bottleneck": _ERRORS, "readout": {str: {"error": float, "mean_pose_error": float}}},
    {
        **_RUN,
        **{"people": [str], "frames": int, "seconds_per_frame": float, "memory_mib": float},
        **{
            "scores": _SCORES,
            "smoothed": _SCORES,
            "by_frame": ([(float, None)], [[(float, None)]]),
        },
        **{"stranger?": _SCORES, "bottleneck?": _ERRORS},
    },
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is run.

    Attributes:
      method: of `PoseNet`.
      scenario: "none", "online", "offline"; "mean pose" and "untrained" are the rows below;
        "points" looks at the self-supervised keypoints.
      seed: of the training and of all that follows.
      changes: fields of the config that differ at test time: (("ttp.iterations", 2), ...).
      split: "test"; "val" for what settings are chosen by.
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
def experiment_of(experiment: Experiment, cell: Cell) -> Experiment:
    """The experiment of a cell."""
    config = experiment.config
    changes: dict[str, Any] = {"seed": cell.seed, "model.method": cell.method}
    if tasks.of(cell.method).needs_upright:
        changes |= {f"ttp.{scenario}_rotation_prob": 0.0 for scenario in ("online", "offline")}
        changes["train.stages"] = tuple(
            (steps, rate, config.reproduce.rotation_lambda if weight else weight, decay)
            for steps, rate, weight, decay in config.train.stages
        )
    if cell.transfer:  # how those people's frames are taken; the skeleton stays the model's
        fields = ("oversample", "context", "refine", "fit")
        changes |= {f"data.{field}": config.transfer[field] for field in fields}
    return experiment.changed(changes | dict(cell.changes))


def fingerprint(value) -> str:
    """Eight hexadecimal digits of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def model_name(experiment: Experiment, cell: Cell) -> str:
    """Folder of a trained model: method, seed and a fingerprint of what it was trained on and how.

    What matters at test time only is no part of it.
    """
    trained = identity.trained_on(experiment_of(experiment, cell).config)
    return f"{cell.method}-seed{cell.seed}-{fingerprint(trained)}"


def cell_name(experiment: Experiment, cell: Cell) -> str:
    """Name of a cell's file without its suffix."""
    own = experiment_of(experiment, cell).config
    parts: dict = {"model": model_name(experiment, cell), "cell": cell.title}
    parts |= {"eval": own.eval.pixels}
    elsewhere = ("pixels", "probe_frames", "pictures")  # a part of its own, or of none
    parts |= identity.identifying("eval", own.eval, elsewhere)
    parts |= identity.identifying("model", {"decode": own.model.decode})
    where = ("root", "tfds", "workers")
    parts["data"] = identity.identifying("data", own.data, where)
    if cell.scenario in ("online", "offline"):
        parts["ttp"] = identity.identifying("ttp", own.ttp, identity.HOW)
    if cell.transfer:
        parts["transfer"] = identity.identifying("data", own.transfer, (*where, "about"))
    if cell.scenario == POINTS or (cell.scenario == "offline" and tasks.of(cell.method).probe):
        parts["probe"] = own.eval.probe_frames
    return f"{cell.title}-{fingerprint(parts)}"


def read(folder: pathlib.Path, name: str) -> dict | None:
    """A finished cell; None if there is none, or a damaged one, which `write` moves aside."""
    path = inside(folder, f"{name}.json")
    try:
        cell = read_json(path, CELL)
        if cell is not None and "scores" in cell and not _is_whole(cell):
            raise Damaged(path, "its parts are not of the same people")
        return cell
    except Damaged as error:
        warnings.warn(f"{error} It counts as missing.", stacklevel=2)
        return None


def _is_whole(cell: dict) -> bool:
    """Whether all scores of a cell are of the same measures and people."""
    parts = [cell[part] for part in ("scores", "smoothed", "stranger") if part in cell]
    lengths = {len(score["per_subject"]) for part in parts for score in part.values()}
    same = all(part.keys() == parts[0].keys() for part in parts) and len(parts[0]) > 0
    if all(isinstance(row, list) for row in cell["by_frame"]):  # the first had means over people
        lengths.add(len(cell["by_frame"]))
    return same and lengths == {len(cell["people"])}


def write(folder: pathlib.Path, name: str, cell: dict) -> None:
    """Write a cell, each list of numbers on one line."""

    def joined(numbers):
        return " ".join(numbers[0].split())

    text = re.sub(r"\[\n[^\[\]{}\"]*\]", joined, json.dumps(cell, indent=1))
    path = inside(folder, f"{name}.json")
    if path.exists() and read(folder, name) is None:
        warnings.warn(f"the damaged {path} is now {move_aside(path, path.suffix)}", stacklevel=2)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n"))


def command() -> str:
    """The command that makes a cell again, without the paths of this machine."""
    given: list[str] = []
    for word in sys.argv[1:]:
        if given and re.fullmatch(r"--?[\w.]+", given[-1]) and not word.startswith("-"):
            given[-1] += f"={word}"  # "--workdir DIR", in two words
        else:
            given.append(word)
    words = []
    for word in given:
        flag, _, value = word.partition("=")
        if flag.lstrip("-") in ("workdir", "cells", "minutes"):
            continue
        if flag.endswith(".root") and os.path.isabs(value):
            word = f"{flag}=DIR"
        words.append(word)
    return "python main.py " + shlex.join(words)


def missing(experiment: Experiment, wanted: Sequence[Cell], folder: pathlib.Path) -> list[Cell]:
    """Those of the cells that have no file yet."""
    return [cell for cell in wanted if read(folder, cell_name(experiment, cell)) is None]
