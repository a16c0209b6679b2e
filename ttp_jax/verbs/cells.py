"""Cells of the paper's tables: one model, run once over the people of one split, on disk as JSON.

A cell's file holds its scores per person and what it cost. Its name ends in a fingerprint of all
that its numbers follow from, so a cell is computed once and never mistaken for another.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines import clips as clips_lib
from ttp_jax import checkpoint, smooth, state
from ttp_jax.checkpoint import Checkpoints
from ttp_jax.files import (
    Damaged,
    inside,
    move_aside,
    read_json,
    write_atomically,
    write_json,
)
from ttp_jax.models.pose import WITH_KEYPOINTS
from ttp_jax.skeletons import SKELETONS, map_joints
from ttp_jax.verbs import evaluate, experiment, placing, receipts, train
from ttp_jax.verbs.runner import Runner, forget_peak, peak_mib

# Fields younger than the first cells, with the values that those ran with: no part of a name so.
YOUNGER = {"decode": "quarter", "fit": False, "held_out": 0}
WITHOUT_MODEL = ("mean pose", "untrained")  # scenarios that need no training
# What files hold at least, as patterns of `files.read_json`: where and when, trainings, the others.
_MADE = {
    "seconds": float,
    "date": str,
    "commit": (str, None),
    "machine": {"device": str, "cores": (int, None)},
}
PIECES = {"pieces": [{**_MADE, "from": int, "to": int}]}
_SCORES = {str: {"mean": float, "per_subject": [(float, None)]}}
_ERRORS = {str: {"own": float, "other": float, "copy": float}}
_RUN = {**_MADE, "cell": str, "seed": int, "base": (str, None)}
CELL = (
    {**PIECES, "cell": str, "seconds": float},
    {**_RUN, "bottleneck": _ERRORS, "readout": {str: {"error": float, "mean_pose_error": float}}},
    {
        **_RUN,
        **{"people": [str], "frames": int, "seconds_per_frame": float, "memory_mib": float},
        **{"scores": _SCORES, "smoothed": _SCORES, "by_frame": [[(float, None)]]},
        **{"stranger?": _SCORES, "bottleneck?": _ERRORS},
    },
)
POINTS = "points"  # the scenario that predicts nobody: what the keypoints are worth


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


def config_of(config, cell: Cell):
    """The experiment of a cell."""
    own = config.copy_and_resolve_references()
    own.seed, own.model.method = cell.seed, cell.method
    if cell.method == "rotation":
        # Quarter turns can't be told in pictures that are turned at random.
        own.ttp.online_rotation_prob = own.ttp.offline_rotation_prob = 0.0
        own.train.stages = tuple(
            (steps, rate, own.reproduce.rotation_lambda if weight else weight, decay)
            for steps, rate, weight, decay in own.train.stages
        )
    if cell.transfer:  # how those people's frames are taken; the skeleton stays the model's
        for field in ("oversample", "context", "refine", "fit"):
            own.data[field] = own.transfer[field]
    for field, value in cell.changes:
        *path, name = field.split(".")
        part = own
        for word in path:
            part = part[word]
        part[name] = value
    return own


def fingerprint(value) -> str:
    """Eight hexadecimal digits of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def model_name(config, cell: Cell) -> str:
    """Folder of a trained model: method, seed and a fingerprint of what it was trained on and how.

    What matters at test time only is no part of it.
    """
    trained = experiment.trained_on(config_of(config, cell))
    return f"{cell.method}-seed{cell.seed}-{fingerprint(trained)}"


def cell_name(config, cell: Cell) -> str:
    """Name of a cell's file without its suffix."""
    own = config_of(config, cell)

    def fields(part, *left_out):
        kept = {k: v for k, v in part.items() if k not in left_out}
        return {k: v for k, v in kept.items() if k not in YOUNGER or v != YOUNGER[k]}

    parts: dict = {"model": model_name(config, cell), "cell": cell.title, "eval": own.eval.pixels}
    parts |= fields({"decode": own.model.decode})
    parts["data"] = fields(own.data, "root", "tfds", "workers")
    if cell.scenario in ("online", "offline"):
        parts["ttp"] = fields(own.ttp, *receipts.HOW)
    if cell.transfer:
        parts["transfer"] = fields(own.transfer, "root", "tfds", "workers", "about")
    if cell.scenario == POINTS or (cell.scenario == "offline" and cell.method in WITH_KEYPOINTS):
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
    return same and lengths | {len(cell["by_frame"])} == {len(cell["people"])}


def write(folder: pathlib.Path, name: str, cell: dict) -> None:
    """Write a cell, each list of numbers on one line."""

    def joined(numbers):
        return " ".join(numbers[0].split())

    path = inside(folder, f"{name}.json")
    if path.exists() and read(folder, name) is None:
        warnings.warn(f"the damaged {path} is now {move_aside(path, path.suffix)}", stacklevel=2)
    text = re.sub(r"\[\n[^\[\]{}\"]*\]", joined, json.dumps(cell, indent=1))
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n"))


# --- Training ------------------------------------------------------------------------------------


def train_model(config, cell: Cell, workdir: pathlib.Path, cells: pathlib.Path, minutes: float):
    """Train the cell's model, or go on with it, for at most so many minutes (0: to its end).

    A training is a chain of such pieces; its cell, written at its end, adds up their seconds.
    Returns whether it is done. Raises ValueError where the folder has the cell of a training whose
    model isn't here: one trained again would be another, that its cells can't stand beside.
    """
    own, name = config_of(config, cell), model_name(config, cell)
    folder = workdir / "models" / name
    if not _step(folder) and name in dict(config.reproduce.given):
        return True
    if (told := read(cells, f"training-{name}")) is not None:
        if _step(folder) == _last_step(own):
            return True
        if told["pieces"] and not _step(folder):
            raise ValueError(
                f"{cells} has cells of the training {name}, whose model isn't in {folder}: put it "
                "there, or name another --cells folder, where all is run anew."
            )
    began, first = time.monotonic(), _step(folder)
    pieces = read_json(folder / "pieces.json", PIECES) or {"pieces": []}
    try:
        train.train(own, folder, minutes)
    finally:  # also where it was stopped, or failed
        seconds, last = time.monotonic() - began, _step(folder)
        if last > first:
            pieces["pieces"].append(
                {"from": first, "to": last, "seconds": seconds, **receipts.where()}
            )
            write_json(folder / "pieces.json", pieces)
    if last < _last_step(own):
        return False
    found: dict[str, Any] = {
        "cell": f"training-{name}",
        "config": own.name,
        "command": command(),
        "seconds": sum(piece["seconds"] for piece in pieces["pieces"]),
        **pieces,
    }
    write(cells, f"training-{name}", found)
    return True


def base_of(config, cell: Cell, workdir: pathlib.Path) -> state.Base:
    """The cell's model: what `train_model` has trained, else a file that is given for it.

    Raises FileNotFoundError where there is neither.
    """
    own, name = config_of(config, cell), model_name(config, cell)
    folder = workdir / "models" / name
    if not _step(folder):
        own.base = dict(config.reproduce.given).get(name, "")
    base, step = experiment.load_base(own, folder)
    if not own.base and step < _last_step(own):
        raise ValueError(f"the training in {folder} is back at step {step}: run again to go on.")
    return base


def _step(folder: pathlib.Path) -> int:
    checkpoints = Checkpoints(folder / "checkpoints")
    step = checkpoints.latest_step()
    checkpoints.close()
    return step or 0


def _last_step(config) -> int:
    return sum(stage.steps for stage in experiment.stages_of(config))


# --- Running -------------------------------------------------------------------------------------


def run(config, cell: Cell, workdir: pathlib.Path, cells: pathlib.Path) -> dict:
    """Run a cell whose model is trained, and write its file."""
    own = config_of(config, cell)
    base = None if cell.scenario in WITHOUT_MODEL else base_of(config, cell, workdir)
    forget_peak()
    began = time.monotonic()
    results = points(own, base) if cell.scenario == POINTS else personalized(own, cell, base)
    found = {
        "cell": cell.title,
        "config": own.name,
        "command": command(),
        "seed": own.seed,
        "base": base and checkpoint.fingerprint(base),
        "seconds": time.monotonic() - began,
        **receipts.where(),
        **results,
    }
    write(cells, cell_name(config, cell), found)
    return found


def points(config, base) -> dict:
    """Do the 30 points move with the body, and stay on the same part from person to person?

    Reconstruction errors of `evaluate.bottleneck` and `evaluate.readout`, on training people and
    on validation people, where there are such.
    """
    clips = experiment.load_clips(config)
    training, held_out = (clips_lib.select(clips, split) for split in ("train", "val"))
    errors, reads = {"training": evaluate.bottleneck(config, base, evaluate.probed(training))}, {}
    names = list(dict.fromkeys(clip.subject for clip in training))
    known = set(names[: 3 * len(names) // 4])  # the readout is scored on people not in its fit
    fit = [clip for clip in training if clip.subject in known]
    rest = [clip for clip in training if clip.subject not in known]
    if fit and rest:
        reads["training"] = evaluate.readout(config, base, fit, rest)
    if held_out:
        errors["validation"] = evaluate.bottleneck(config, base, held_out)
        reads["validation"] = evaluate.readout(config, base, training, held_out)
    return {"bottleneck": errors, "readout": reads}


def personalized(config, cell: Cell, base: state.Base | None) -> dict:
    """What came out for the people of a cell, and what it cost."""
    clips, skeleton = people(config, cell)
    controls = None
    if base is not None and cell.scenario == "offline":
        controls = Controls(config, base, len(clips))
    began = time.monotonic()
    joints = predict(config, cell, base, clips, controls)
    seconds, memory = time.monotonic() - began, peak_mib()
    if controls:
        seconds -= controls.seconds
    frames = sum(clip.num_frames for clip in clips)
    named = cell.scenario in WITHOUT_MODEL
    found = {
        "protocol": cell.scenario if named else receipts.protocol_line(config, cell.scenario),
        "seconds_per_frame": seconds / frames,  # compiling is part of it
        "memory_mib": memory,
        "people": [clip.name for clip in clips],
        "frames": frames,
        "scores": scores(config, clips, joints, skeleton),
        "smoothed": scores(config, clips, [smooth.savgol(j) for j in joints], skeleton),
        "by_frame": by_frame(config, clips, joints, skeleton),
    }
    if controls and controls.joints:
        strangers = [controls.joints[clip.name] for clip in clips]
        found["stranger"] = scores(config, clips, strangers, skeleton)
    if controls and controls.errors:
        found["bottleneck"] = {
            name: evaluate.mean_errors(errors) for name, errors in controls.errors.items()
        }
    return found


class Controls:
    """What stands beside offline personalization: each person by the model of the one before.

    Before in the order in which they come out: that of the clips where people run one at a time;
    side by side, those of like length come together. Holds the first person's and the last one's
    changes only, however many people there are.

    Attributes:
      joints: of each clip, by the model of the person before (of the last, for the first).
      errors: of the reconstruction (`evaluate.prober`), "before" personalization, "after" it, and
        by the model of that "stranger"; methods with keypoints only.
      seconds: that all this took.
    """

    def __init__(self, config, base: state.Base, people: int):
        self.joints: dict[str, np.ndarray] = {}
        self.errors: dict[str, list[dict]] = {}
        self.seconds = 0.0
        self._base, self._plain = base, Runner(config, base, "none")
        keypoints = config.model.method in WITH_KEYPOINTS
        self._probe = evaluate.prober(config, base, people) if keypoints else None
        self._first: tuple[Any, Any] | None = None
        self._before = None

    def add(self, clip, delta) -> None:
        """A person has been personalized: to this change of the base."""
        if self._first is None:
            self._first = clip, delta  # whom it is compared with comes last
        else:
            self._compare(clip, delta, self._before)
        self._before = delta

    def finish(self) -> None:
        """All people have been added."""
        if self._first is not None:
            clip, delta = self._first
            self._compare(clip, delta, self._before if self._before is not delta else None)

    def _compare(self, clip, own, other) -> None:
        began = time.monotonic()
        models = {"before": {}, "after": own}
        if other is not None:
            models["stranger"] = other
            self._plain.use(self._base.replace(params=state.adapted(self._base, other)["params"]))
            self.joints[clip.name] = self._plain.one(clip).joints
        if self._probe:
            for name, errors in zip(models, self._probe(clip, [*models.values()]), strict=True):
                self.errors.setdefault(name, []).append(errors)
        self.seconds += time.monotonic() - began


def people(config, cell: Cell):
    """The labelled clips a cell runs on, and the skeleton of their labels."""
    there, wanted = config.copy_and_resolve_references(), ()
    if cell.transfer:
        there.data, wanted = config.transfer, config.transfer.people
    clips = experiment.load_clips(there, None if wanted else cell.split)
    clips = [clip for clip in clips if not wanted or clip.name in wanted]
    clips = clips_lib.by_subject(clips)
    if not clips or any(clip.joints is None for clip in clips):
        raise clips_lib.DataError(f"no labelled {cell.split} clips in {there.data.root}.")
    return clips, SKELETONS[there.data.skeleton]


def check_people(config, cell: Cell, folder: pathlib.Path) -> None:
    """Refuse to run a cell on other people than those of the finished ones of its split.

    Raises ValueError where they differ, and what reading them raises.
    """
    names = [clip.name for clip in people(config_of(config, cell), cell)[0]]
    plain = dataclasses.replace(cell, changes=(), scenario="none")
    told = read(folder, cell_name(config, plain))
    if told is not None and told["people"] != names:
        raise ValueError(
            f"{folder} has cells of {len(told['people'])} people, the data now has {len(names)}, "
            "or others: name another --workdir, or another --cells folder."
        )


def predict(config, cell: Cell, base: state.Base | None, clips, controls: Controls | None = None):
    """Joints per clip; `controls` is told of every person's model."""
    if cell.scenario == "mean pose":
        training = experiment.load_clips(config, "train")
        return evaluate.mean_pose(config, training, clips)
    if base is None:
        base = evaluate.untrained(config, np.ones(config.loss.levels + 1))
        return Runner(config, base, "none").joints_of(clips)
    runner, found = Runner(config, base, cell.scenario), {}
    plain = Runner(config, base, "none")
    clips = [placing.placed(clip, plain, config) for clip in clips]
    total = sum(clip.num_frames for clip in clips)
    with tqdm(total=total, unit="frame", desc=cell.title, dynamic_ncols=True) as bar:
        for clip, result in runner.many(clips, bar):
            if isinstance(result, Exception):
                raise result
            found[clip.name] = result.joints
            if controls:
                controls.add(clip, jax.device_get(result.adaptation.delta))
    if controls:
        controls.finish()
    return [found[clip.name] for clip in clips]


def _mapped(config, clips, joints, skeleton):
    """Predictions in the labels' skeleton, and clips whose unknown joints don't count."""
    own = experiment.skeleton_of(config)
    if own == skeleton:
        return clips, joints
    mapped = [map_joints(j, own, skeleton) for j in joints]
    # Joints that the model's skeleton lacks; those of unreadable frames count as wrong.
    known = np.isfinite(map_joints(np.zeros((own.size, 2)), own, skeleton)).all(-1)
    return [dataclasses.replace(c, visible=c.visible & known) for c in clips], mapped


def scores(config, clips, joints, skeleton) -> dict:
    """Per measure: mean, per joint, per person."""
    clips, joints = _mapped(config, clips, joints, skeleton)
    return evaluate.row(_labelled_as(config, skeleton), clips, joints)


def by_frame(config, clips, joints, skeleton) -> list[list[float | None]]:
    """The first measure per person and frame (paper, Figure 3); None where nothing is labelled."""
    clips, joints = _mapped(config, clips, joints, skeleton)
    config = _labelled_as(config, skeleton)

    def at(clip, joints, t):
        alone = clips_lib.at(clip, [t])
        value = evaluate.headline(config, [alone], [joints[t : t + 1]])
        return round(float(value), 2) if np.isfinite(value) else None

    return [
        [at(clip, predicted, t) for t in range(clip.num_frames)]
        for clip, predicted in zip(clips, joints, strict=True)
    ]


def _labelled_as(config, skeleton):
    own = config.copy_and_resolve_references()
    own.data.skeleton = skeleton.name
    return own


# --- Where and how -------------------------------------------------------------------------------


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


def missing(config, wanted: Sequence[Cell], folder: pathlib.Path) -> list[Cell]:
    """Those of the cells that have no file yet."""
    return [cell for cell in wanted if read(folder, cell_name(config, cell)) is None]
