"""Should you adapt? Every adaptation method on the subjects of a split, in one table.

    python -m benchmarks.adaptation runs/lips --split=val
    python -m benchmarks.adaptation runs/lips-seed0 runs/lips-seed1 --split=test

Takes the folders of one or more trainings that differ in their seed only. Choose settings on
validation subjects (`--set ttp.learning_rate=3e-4`), then score the test subjects once. What is
done is kept in FOLDER/adaptation, a file for each split and settings, row by row: a run that was
stopped goes on, and one that is repeated scores nothing again.

The table has, for each way of adapting: PCK at each threshold and the mean error, as means over
subjects; the gain in the first two thresholds with its 95 % interval over subjects and trainings;
the share of subjects worse off; seconds a frame.
"""

import argparse
import json
import pathlib
import re
import time
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines.clips import Clip
from ttp_jax import metrics, tasks
from ttp_jax.files import read_json, write_json
from ttp_jax.runs import base_model, identity, process, scoring, sources
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment

ERROR = "mean error %"


class Way(NamedTuple):
    """One way of adapting.

    Attributes:
      scenario: "none", "online" or "offline".
      changes: of the config's fields.
      about: what it is, for people.
    """

    scenario: str
    changes: dict[str, Any]
    about: str


def ways(config) -> dict[str, Way]:
    """The ways that a network can be adapted in, by their short names."""
    found = {
        "none": Way("none", {}, "no adaptation"),
        "flip": Way("none", {"model.flip_average": True}, "no adaptation, flip average"),
    }
    if tasks.of(config.model.method) is not tasks.NOTHING:
        found["ttp-online"] = Way("online", {}, "TTP online")
        found["ttp-offline"] = Way("offline", {}, "TTP offline")
    if config.model.encoder == "resnet":
        for name in ("bn", "entropy"):
            changes = {"ttp.method": name}
            found[f"{name}-online"] = Way("online", changes, f"{name} online")
            found[f"{name}-offline"] = Way("offline", changes, f"{name} offline")
    taught = {"teacher": "mean teacher"}
    if config.model.method != "baseline":
        taught["teacher+ttp"] = "mean teacher and TTP"
    for name, about in taught.items():
        for scenario in ("online", "offline"):
            changes = {"ttp.method": name}
            found[f"{name}-{scenario}"] = Way(scenario, changes, f"{about} {scenario}")
    return found


def scores(made: Experiment, clips: list[Clip], joints: list[np.ndarray]) -> dict[str, list]:
    """Per measure one number a subject: PCK at each threshold, mean error in % of the length."""
    how = scoring.measures_from(made.config.eval)
    found = scoring.scores_of(clips, joints, made.skeleton, how)
    rows = {name: [score.mean for score in each] for name, each in found.items()}
    rows[ERROR] = [_error(made, clip, each, how) for clip, each in zip(clips, joints, strict=True)]
    return rows


def _error(made: Experiment, clip: Clip, joints: np.ndarray, how: scoring.Measures) -> float:
    assert clip.joints is not None and clip.visible is not None
    found = metrics.score_labels(
        joints, clip.joints, clip.visible, made.skeleton, scale_joints=how.scale_joints
    )
    return found[ERROR]["mean"]


def measure(made: Experiment, base, clips: list[Clip], way: Way) -> dict:
    """One row of the table: scores of each subject and seconds a frame, compilation included."""
    began = time.monotonic()
    joints = Runner(made.changed(way.changes), base, way.scenario).joints_of(clips)
    seconds = (time.monotonic() - began) / sum(clip.num_frames for clip in clips)
    return {"scores": scores(made, clips, joints), "seconds": seconds}


def run(
    folder: pathlib.Path, made: Experiment, split: str, names: list[str], changes: dict[str, Any]
) -> dict:
    """The rows of one training: {"subjects", "step", "rows": {name: row}}; those there are kept.

    Args:
      folder: of the training.
      made: its experiment.
      split: whose subjects.
      names: of the ways.
      changes: of the experiment's fields.

    Raises:
      ValueError: the rows there are of another model, or there are no such subjects.
    """
    made = made.changed(changes)
    base, step = base_model.load_base(made, folder)
    clips = clips_lib.by_subject(sources.load_clips(made.data, split))
    if not clips:
        raise ValueError(f"{folder} has no {split} subjects: name another --split.")
    settings = [f"{name}={json.dumps(value)}" for name, value in sorted(changes.items())]
    file = re.sub(r"[^\w.=,+-]+", "_", ",".join([split, *settings]))
    place = folder / "adaptation" / f"{file}.json"
    own = {"subjects": [clip.name for clip in clips], "step": step, "changes": changes}
    found = read_json(place) or {**own, "rows": {}}
    if {name: found[name] for name in own} != json.loads(json.dumps(own)):
        raise ValueError(f"{place} is of another model or other settings: move it away.")
    for name in names:
        if name not in found["rows"]:
            process.say(f"{folder.name}: {name}, {len(clips)} subjects")
            found["rows"][name] = measure(made, base, clips, ways(made.config)[name])
            write_json(place, found)
    return found


def table(trainings: list[dict], about: dict[str, str]) -> list[str]:
    """Markdown lines: a row for each way that all trainings have."""
    rows = [name for name in about if all(name in each["rows"] for each in trainings)]
    measures = list(trainings[0]["rows"][rows[0]]["scores"])
    heads = [*measures, *(f"gain in {name}" for name in measures[:2]), "worse off", "s a frame"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name in rows:
        cells = [f"{_values(trainings, name, each).mean():.1f}" for each in measures]
        if name == "none":
            cells += ["", "", ""]
        else:
            gains = [
                _values(trainings, name, each) - _values(trainings, "none", each)
                for each in measures[:2]
            ]
            cells += [_gain(each) for each in gains]
            cells.append(f"{(gains[0].mean(0) < 0).mean():.0%}")
        cells.append(f"{np.mean([each['rows'][name]['seconds'] for each in trainings]):.2f}")
        lines.append(f"| {about[name]} | {' | '.join(cells)} |")
    return lines


def _values(trainings: list[dict], name: str, measure: str) -> np.ndarray:
    """Of one way and measure [trainings, subjects]."""
    return np.array([each["rows"][name]["scores"][measure] for each in trainings])


def _gain(deltas: np.ndarray) -> str:
    low, high = metrics.bootstrap_interval(deltas)
    return f"{np.nanmean(deltas):+.1f} ({low:+.1f} to {high:+.1f})"


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adaptation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="of trainings")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--ways", default="", help="short names, joined by commas; default all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="of the config"
    )
    options = parser.parse_args(argv)
    process.use_compilation_cache()
    changes = {name: json.loads(value) for name, value in (w.split("=", 1) for w in options.set)}
    try:
        trained = [identity.training_experiment(folder) for folder in options.folders]
    except ValueError as error:
        parser.error(str(error))
    known = ways(trained[0].config)
    names = [name for name in options.ways.split(",") if name] or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--ways has {', '.join(unknown)}: expected some of {', '.join(known)}.")
    try:
        found = [
            run(folder, made, options.split, names, changes)
            for folder, made in zip(options.folders, trained, strict=True)
        ]
    except ValueError as error:
        parser.error(str(error))
    subjects, trainings = len(found[0]["subjects"]), len(found)
    heading = f"{trained[0].name}: {subjects} {options.split} subjects, {trainings} training(s)"
    print(", ".join([heading, *options.set]) + "\n")
    print("\n".join(table(found, {name: way.about for name, way in known.items()})))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
