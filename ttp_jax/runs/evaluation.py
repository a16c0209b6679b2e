"""The table of a test split: mean pose, untrained network, without TTP, online, offline."""

import pathlib

import jax
import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax import metrics, visualize
from ttp_jax.files import write_json
from ttp_jax.runs import (
    base_model,
    boxes,
    comparison,
    diagnostics,
    identity,
    scoring,
    sources,
)
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.comparison import CONTROL, NAMES
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import progress_bar, say
from ttp_jax.skeletons import Skeleton


def evaluate(experiment: Experiment, workdir: pathlib.Path) -> dict:
    """Score the test split, print the tables, write evaluation.json; return its content.

    Raises DataError if there are no labelled test people, FileNotFoundError without a model.
    """
    base, step = base_model.load_base(experiment, workdir)
    base = jax.device_put(base, jax.local_devices()[0])  # copy it to the device only once
    clips = sources.load_clips(experiment.data)
    test = clips_lib.by_subject(clips_lib.select(clips, "test"))
    training = clips_lib.select(clips, "train")
    if not test or any(clip.joints is None for clip in test):
        raise clips_lib.DataError(f"no labelled test clips in {experiment.data.root}.")
    predictor = Runner(experiment, base, "none")
    # All rows of the table use the same boxes as personalization.
    test = [boxes.resolve(clip, predictor, experiment.data) for clip in test]
    predictions = _predictions(experiment, workdir, predictor, base, training, test)
    labels = experiment.skeleton, scoring.measures_from(experiment.config.eval)
    rows = {name: scoring.row(test, joints, *labels) for name, joints in predictions.items()}
    for name in (NAMES["online"], NAMES["offline"], CONTROL):
        if name in rows:
            rows[name]["gain"] = scoring.gain(rows[NAMES["none"]], rows[name])
    report = {
        "config": experiment.name,
        "checkpoint_step": step,
        "test_subjects": [clip.name for clip in test],
        "rows": rows,
    }
    if note := scoring.left_out(test, *labels):
        report["left_out"] = note
    if experiment.data.source == "project":
        report |= _recommended(experiment, workdir, predictor, base, clips, rows)
    _print_table(report)
    drawn = test[: experiment.config.eval.pictures]
    _draw_overlays(workdir, drawn, predictions, experiment.skeleton)
    if experiment.task.probe:
        report |= _bottleneck(experiment, base, training, test)
        _print_bottleneck(report)
    write_json(workdir / "evaluation.json", report)
    say(f"\nwrote {workdir / 'evaluation.json'}")
    return report


def _predictions(
    experiment: Experiment, workdir: pathlib.Path, predictor: Runner, base, training, test
) -> dict[str, list[np.ndarray]]:
    """Return the joints of the test subjects for each row of the table."""
    predictor.use(base_model.untrained(experiment, base.normalisers))
    predictions = {"untrained network": _predict(predictor, test, "untrained")}
    predictor.use(base)
    if training:
        mean = scoring.mean_pose(training, test, experiment.image_size)
        predictions = {"mean training pose": mean, **predictions}
    for scenario, name in NAMES.items():
        folder = comparison.folder_of(workdir, "test", scenario)
        protocol = identity.protocol(experiment.config, base, scenario)
        found = comparison.stored(folder, protocol, test)
        if found is None and scenario == "none":
            found = _predict(predictor, test, "without TTP")
        if found is not None:
            predictions[name] = found
    if NAMES["offline"] in predictions and experiment.data.source == "project":
        protocol = identity.protocol(experiment.config, base, "offline")
        found = comparison.control(predictor, workdir, base, protocol, test)
        predictor.use(base)
        if found is not None:
            predictions[CONTROL] = found
    return predictions


def _recommended(
    experiment: Experiment, workdir: pathlib.Path, predictor: Runner, base, clips, rows
) -> dict:
    """Return the entries that only projects have in evaluation.json: times, recommendation."""
    folders = {name: comparison.folder_of(workdir, "test", key) for key, name in NAMES.items()}
    seconds = {name: comparison.seconds_a_frame(folder) for name, folder in folders.items()}
    found: dict = {"seconds_a_frame": seconds}
    if NAMES["offline"] not in rows:
        return found
    validation = clips_lib.by_subject(clips_lib.select(clips, "val"))
    validation = [boxes.resolve(clip, predictor, experiment.data) for clip in validation]
    joints, choice = {}, None
    for scenario in NAMES if validation else ():
        folder = comparison.folder_of(workdir, "val", scenario)
        protocol = identity.protocol(experiment.config, base, scenario)
        predicted = comparison.stored(folder, protocol, validation)
        if predicted is not None:
            joints[scenario] = predicted
    if len(joints) == len(NAMES):
        labels = experiment.skeleton, scoring.measures_from(experiment.config.eval)
        choice = comparison.chosen(validation, joints, *labels)
        found |= {"chosen": choice} if choice else {}
    return found | {"recommended": comparison.recommendation(choice, rows)}


def _bottleneck(experiment: Experiment, base, training, test) -> dict:
    """Return the entries of evaluation.json about the self-supervised task."""
    found: dict = {"bottleneck": {"test": diagnostics.bottleneck(experiment, base, test)}}
    if training:
        some = diagnostics.some_of(training)
        found["bottleneck"]["training"] = diagnostics.bottleneck(experiment, base, some)
        found["readout"] = diagnostics.readout(experiment, base, training, test)
    found["verdict"] = {
        people: metrics.bottleneck_verdict(**errors)
        for people, errors in found["bottleneck"].items()
    }
    return found


def _draw_overlays(workdir, clips, predictions, skeleton: Skeleton, frames=3) -> None:
    """Draw joints before and after personalization, and labels, over some whole pictures."""
    for scenario in ("online", "offline"):
        if NAMES[scenario] not in predictions:
            continue
        before, after = predictions[NAMES["none"]], predictions[NAMES[scenario]]
        for i, clip in enumerate(clips):
            readable = np.flatnonzero(np.isfinite(after[i]).all((1, 2)))
            chosen = diagnostics.spread(readable, frames)
            pictures = []
            for t in chosen:
                picture, truth = clip.read(t), clip.joints[t]
                poses = before[i][t], after[i][t], skeleton, truth, clip.visible[t]
                scale = max(1, 320 // max(picture.shape[:2]))
                pictures.append(visualize.overlay(picture, *poses, scale=scale))
            sheet = visualize.grid(pictures, frames, [f"frame {t}" for t in chosen])
            visualize.save(workdir / "results" / scenario / f"{clip.name}_overlay.png", sheet)


def _predict(predictor: Runner, clips, name: str) -> list[np.ndarray]:
    total = sum(clip.num_frames for clip in clips)
    with progress_bar(total, name) as bar:
        return predictor.joints_of(clips, bar)


def _print_table(report) -> None:
    rows, count = report["rows"], len(report["test_subjects"])
    measures = list(next(iter(rows.values())))
    say(f"\nTest split of {report['config']}: {count} subjects, step {report['checkpoint_step']}")
    if (seconds := report.get("seconds_a_frame")) is not None:  # a labelled project
        for line in comparison.table(rows, seconds):
            say(line)
        if "left_out" in report:
            say(report["left_out"])
        if "recommended" in report:
            say(f"\n{report['recommended']}")
        return
    heads = "".join(f"{m:>12}" for m in measures)
    say(f"{'':20}{heads}   gain per subject ({measures[0]}), +- standard error, subjects worse off")
    for name, row in rows.items():
        line = f"{name:20}" + "".join(f"{row[m]['mean']:12.2f}" for m in measures)
        if gain := row.get("gain"):
            line += f"   {gain['mean']:+.2f}"
            if count > 1:
                line += f" +- {gain['standard_error']:.2f}, {gain['worse']:.0%}"
        say(line)
    if "left_out" in report:
        say(report["left_out"])
    _explain_losses(rows, count)


def _explain_losses(rows: dict, count: int) -> None:
    """Explain why personalization may not have helped, if it didn't."""
    for name, row in rows.items():
        gain = row.get("gain")
        if not gain or gain["mean"] > 2 * (gain["standard_error"] if count > 1 else 0):
            continue
        unclear = count > 1 and abs(gain["mean"]) <= 2 * gain["standard_error"]
        verdict = "no clear change" if unclear else "no gain"
        say(
            f"{name}: {verdict} for these {count} subjects. With one update per frame, "
            "personalization\nneeds a few dozen frames, and self-supervised keypoints that "
            "follow the pose (below)."
        )


def _print_bottleneck(report) -> None:
    say("\nDo the self-supervised keypoints follow the pose? Reconstruction error before TTP:")
    for people, verdict in report["verdict"].items():
        say(f"  {people} people: {verdict}")
    if "alive" not in report["verdict"]["test"]:
        say("  The keypoints are weaker on people who look different from the training people.")
        say("  Personalization can improve this: docs/method.md, When it can't work.")
    if "readout" not in report:
        return
    linear = report["readout"]
    say(
        "  joints computed from the keypoints by a linear map fitted on other people: error "
        f"{linear['error']:.3f} of the crop side (mean pose: {linear['mean_pose_error']:.3f})"
    )
