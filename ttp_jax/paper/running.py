"""Carrying out one run: train its model, predict its people, score them, write its record."""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines.clips import Clip
from ttp_jax import checkpoint, smooth, state
from ttp_jax.checkpoint import Checkpoints
from ttp_jax.files import read_json, write_json
from ttp_jax.joint_maps import map_joints
from ttp_jax.paper.controls import Controls
from ttp_jax.paper.records import (
    CONTROL,
    PIECES,
    POINTS,
    WITHOUT_MODEL,
    RunSpec,
    command,
    experiment_of,
    model_name,
    read,
    record_name,
    write,
)
from ttp_jax.runs import base_model, boxes, diagnostics, provenance, scoring, sources, training
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import forget_peak, peak_mib, progress_bar
from ttp_jax.skeletons import SKELETONS, Skeleton


def train_model(
    experiment: Experiment,
    spec: RunSpec,
    workdir: pathlib.Path,
    kept: pathlib.Path,
    minutes: float,
) -> bool:
    """Train a run's model, or continue its training, for a limited time.

    A training may take several calls. Its record adds up their seconds, except those of calls that
    were killed: its pieces then lack some of its "steps".

    Args:
      experiment: the experiment whose tables are made.
      spec: the run that needs the model.
      workdir: folder in which the model goes to `models`.
      kept: folder of run records.
      minutes: time after which to stop; 0: no limit.

    Returns whether the training is complete.

    Raises:
      ValueError: this training has a record, but its model is missing. Training again would give
        another model, whose runs could not be compared with the recorded ones.
    """
    own, name = experiment_of(experiment, spec), model_name(experiment, spec)
    folder = workdir / "models" / name
    if not _step(folder) and name in dict(experiment.config.reproduce.given):
        return True
    if (record := read(kept, f"training-{name}")) is not None:
        if _step(folder) == _end_of(record, own):
            return True
        if record["pieces"] and not _step(folder):
            raise ValueError(
                f"{kept} has a record of the training {name}, whose model isn't in {folder}: put "
                "it there, or name another --records folder to run everything anew."
            )
    began, first = time.monotonic(), _step(folder)
    pieces = read_json(folder / "pieces.json", PIECES) or {"pieces": []}
    try:
        training.train(own, folder, minutes)
    finally:  # also if it was stopped or failed
        seconds, last = time.monotonic() - began, _step(folder)
        if last > first:
            pieces["pieces"].append(
                {"from": first, "to": last, "seconds": seconds, **provenance.where()}
            )
            write_json(folder / "pieces.json", pieces)
    if last < own.last_step and minutes and seconds > 60 * minutes:
        return False
    found: dict[str, Any] = {
        "run": f"training-{name}",
        "config": own.name,
        "command": command(),
        "seconds": sum(piece["seconds"] for piece in pieces["pieces"]),
        "steps": last,
        **pieces,
    }
    write(kept, f"training-{name}", found)
    return True


def base_of(experiment: Experiment, spec: RunSpec, workdir: pathlib.Path) -> state.Base:
    """Return a run's model: the one from `train_model`, or the included file that stands in for it.

    Raises:
      FileNotFoundError: neither exists.
      ValueError: the last checkpoint of the training is damaged.
    """
    own, name = experiment_of(experiment, spec), model_name(experiment, spec)
    folder = workdir / "models" / name
    last = _step(folder)
    if not last:
        own = own.changed({"base": dict(experiment.config.reproduce.given).get(name, "")})
    base, _ = base_model.load_base(own, folder)
    # The best checkpoint (`config.train.best`) may be an earlier one, but the last must be there.
    if (step := _step(folder)) < last:
        raise ValueError(
            f"the training in {folder} fell back to step {step}: run the same command to continue "
            "it."
        )
    return base


def in_training(
    experiment: Experiment, spec: RunSpec, workdir: pathlib.Path, kept: pathlib.Path
) -> bool:
    """Return whether a run's model has a checkpoint, but its training hasn't ended."""
    own, name = experiment_of(experiment, spec), model_name(experiment, spec)
    record = read(kept, f"training-{name}")
    last_step = own.last_step if record is None else _end_of(record, own)
    return 0 < _step(workdir / "models" / name) < last_step


def _end_of(record: dict, own: Experiment) -> int:
    """Return the last step of a recorded training, which `config.train.patience` can end early."""
    pieces = record["pieces"]
    return record.get("steps") or (pieces[-1]["to"] if pieces else own.last_step)


def _step(folder: pathlib.Path) -> int:
    checkpoints = Checkpoints(folder / "checkpoints")
    step = checkpoints.latest_step()
    checkpoints.close()
    return step or 0


def run(experiment: Experiment, spec: RunSpec, workdir: pathlib.Path, kept: pathlib.Path) -> dict:
    """Carry out a run whose model is trained; write its record into the folder `kept`."""
    own = experiment_of(experiment, spec)
    base = None if spec.scenario in WITHOUT_MODEL else base_of(experiment, spec, workdir)
    forget_peak()
    began = time.monotonic()
    results = points(own, base) if spec.scenario == POINTS else personalized(own, spec, base)
    found = {
        "run": spec.title,
        "config": own.name,
        "command": command(),
        "seed": own.seed,
        "base": base and checkpoint.fingerprint(base),
        "seconds": time.monotonic() - began,
        **provenance.where(),
        **results,
    }
    write(kept, record_name(experiment, spec), found)
    return found


def points(experiment: Experiment, base) -> dict:
    """Measure whether the self-supervised keypoints follow the body on different people.

    Returns:
      "bottleneck": reconstruction errors from `diagnostics.bottleneck`; "readout": errors from
      `diagnostics.readout`. Both are for training people and, if there are any, for validation
      people.
    """
    clips = sources.load_clips(experiment.data)
    training, held_out = (clips_lib.select(clips, split) for split in ("train", "val"))
    some = diagnostics.some_of(training)
    errors, reads = {"training": diagnostics.bottleneck(experiment, base, some)}, {}
    names = list(dict.fromkeys(clip.subject for clip in training))
    # The readout is scored on people whom it was not fitted on.
    known = set(names[: 3 * len(names) // 4])
    fit = [clip for clip in training if clip.subject in known]
    rest = [clip for clip in training if clip.subject not in known]
    if fit and rest:
        reads["training"] = diagnostics.readout(experiment, base, fit, rest)
    if held_out:
        errors["validation"] = diagnostics.bottleneck(experiment, base, held_out)
        reads["validation"] = diagnostics.readout(experiment, base, training, held_out)
    return {"bottleneck": errors, "readout": reads}


def personalized(experiment: Experiment, spec: RunSpec, base: state.Base | None) -> dict:
    """Predict and score the people of a run; return scores and costs for its record."""
    clips, skeleton = people(experiment, spec)
    own, measures = experiment.skeleton, scoring.measures_from(experiment.config.eval)
    controls = None
    if base is not None and spec.scenario == "offline":
        controls = Controls(experiment, base, len(clips))
    began = time.monotonic()
    joints = predict(experiment, spec, base, clips, controls)
    seconds, memory = time.monotonic() - began, peak_mib()
    if controls:
        seconds -= controls.seconds
    frames = sum(clip.num_frames for clip in clips)

    def scored(joints):
        return scoring.row(*mapped(clips, joints, own, skeleton), skeleton, measures)

    named = spec.scenario in WITHOUT_MODEL
    labelled = mapped(clips, joints, own, skeleton)
    found = {
        "protocol": spec.scenario
        if named
        else provenance.protocol_line(experiment.data, experiment.config.ttp, spec.scenario),
        "seconds_per_frame": seconds / frames,  # includes compilation
        "memory_mib": memory,
        "people": [clip.name for clip in clips],
        "frames": frames,
        "scores": scored(joints),
        "smoothed": scored([smooth.savgol(each) for each in joints]),
        "by_frame": by_frame(*labelled, skeleton, measures),
        "errors": scoring.errors(*labelled, skeleton, measures),
        "left_out": scoring.left_out(labelled[0], skeleton, measures),
    }
    if controls and controls.joints:
        found[CONTROL] = scored([controls.joints[clip.name] for clip in clips])
    if controls and controls.errors:
        found["bottleneck"] = {
            name: diagnostics.mean_errors(errors) for name, errors in controls.errors.items()
        }
    return found


def people(experiment: Experiment, spec: RunSpec) -> tuple[list[Clip], Skeleton]:
    """Return the labelled clips of a run, and the skeleton of their labels.

    Raises:
      DataError (`data_pipelines.clips`): there are no such clips, or the data can't be read.
    """
    data, wanted, skeleton = experiment.data, (), experiment.skeleton
    if spec.transfer:
        data, wanted = experiment.config.transfer, experiment.config.transfer.people
        skeleton = SKELETONS[data.skeleton]
    clips = sources.load_clips(data, None if wanted else spec.split)
    clips = [clip for clip in clips if not wanted or clip.name in wanted]
    clips = clips_lib.by_subject(clips)
    if not clips or any(clip.joints is None for clip in clips):
        raise clips_lib.DataError(f"no labelled {spec.split} clips in {data.root}.")
    return clips, skeleton


def check_people(experiment: Experiment, spec: RunSpec, folder: pathlib.Path) -> None:
    """Check that a run's data can be scored and are those of the finished runs.

    Folders of two data sets often have the same names ("0001", ...), so frames are counted, too.

    Raises:
      ValueError: subjects or frames differ, or the measures don't suit the joints. DataError
        (`data_pipelines.clips`): the data can't be read, or no labelled frame can be scored.
    """
    plain = dataclasses.replace(spec, changes=(), scenario="none")
    record = read(folder, record_name(experiment, plain))
    clips, skeleton = people(experiment_of(experiment, plain), plain)
    check_measures(clips, skeleton, scoring.measures_from(experiment.config.eval))
    names, frames = [clip.name for clip in clips], sum(clip.num_frames for clip in clips)
    if record is not None and (record["people"], record["frames"]) != (names, frames):
        raise ValueError(
            f"{folder} has run records of {len(record['people'])} subjects with "
            f"{record['frames']} frames, but the data set now has others ({len(names)} with "
            f"{frames}): name another --workdir or another --records folder."
        )
    if changes := data_changes(spec):  # its own frames must be there, too
        own = dataclasses.replace(plain, changes=changes)
        people(experiment_of(experiment, own), own)


def data_changes(spec: RunSpec) -> tuple:
    """Return the changes of a run that concern its people and frames."""
    return tuple(change for change in spec.changes if change[0].startswith("data."))


def check_measures(clips: list[Clip], skeleton: Skeleton, measures: scoring.Measures) -> None:
    """Score the labels themselves, so that wrong measures fail before hours of training.

    Raises:
      ValueError: the measures name joints that the skeleton lacks. DataError
        (`data_pipelines.clips`): no labelled frame can be scored.
    """
    labels = [clip.joints for clip in clips]
    scoring.errors(clips, labels, skeleton, measures)
    if np.isnan(scoring.headline(clips, labels, skeleton, measures)):
        why = scoring.left_out(clips, skeleton, measures) or "no joint is labelled."
        raise clips_lib.DataError(f"none of the frames can be scored: {why}")


def predict(
    experiment: Experiment,
    spec: RunSpec,
    base: state.Base | None,
    clips,
    controls: Controls | None = None,
) -> list[np.ndarray]:
    """Predict joints [T, K, 2] in image pixels for each clip; pass each model to `controls`."""
    if spec.scenario == "mean pose":
        training = sources.load_clips(experiment.data, "train")
        return scoring.mean_pose(training, clips, experiment.image_size)
    if base is None:
        base = base_model.untrained(experiment, np.ones(experiment.config.loss.levels + 1))
        return Runner(experiment, base, "none").joints_of(clips)
    runner, found = Runner(experiment, base, spec.scenario), {}
    plain = Runner(experiment, base, "none")
    clips = [boxes.resolve(clip, plain, experiment.data) for clip in clips]
    total = sum(clip.num_frames for clip in clips)
    with progress_bar(total, spec.title) as bar:
        for clip, result in runner.many(clips, bar):
            if isinstance(result, Exception):
                raise result
            found[clip.name] = result.joints
            if controls:
                controls.add(clip, jax.device_get(result.adaptation.delta))
    if controls:
        controls.finish()
    return [found[clip.name] for clip in clips]


def mapped(clips, joints, own: Skeleton, skeleton: Skeleton):
    """Return clips without joints that the model lacks, and predictions in the labels' skeleton.

    Args:
      clips: labelled clips.
      joints: predictions for each clip, [T, K, 2].
      own: skeleton of the predictions.
      skeleton: skeleton of the labels.
    """
    if own == skeleton:
        return clips, joints
    predictions = [map_joints(each, own, skeleton) for each in joints]
    # Leave out joints that the model's skeleton lacks; unreadable frames still count as wrong.
    known = np.isfinite(map_joints(np.zeros((own.size, 2)), own, skeleton)).all(-1)
    return [dataclasses.replace(c, visible=c.visible & known) for c in clips], predictions


def by_frame(
    clips, joints, skeleton: Skeleton, measures: scoring.Measures
) -> list[list[float | None]]:
    """Return the first measure for each person and frame (paper, Figure 3); None without labels."""

    def at(clip, joints, t):
        alone = clips_lib.at(clip, [t])
        value = scoring.headline([alone], [joints[t : t + 1]], skeleton, measures)
        return round(float(value), 2) if np.isfinite(value) else None

    return [
        [at(clip, predicted, t) for t in range(clip.num_frames)]
        for clip, predicted in zip(clips, joints, strict=True)
    ]
