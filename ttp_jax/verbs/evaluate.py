"""Score the test split: mean training pose, untrained network, without TTP, online, offline.

    python main.py evaluate --config=configs/tiny.py --workdir=runs/tiny

Online and offline appear where `personalize` has written them. Prints the table (PCK@0.2: percent
of joints within 0.2 torso lengths of the truth; a person's gain over without TTP, its mean +-
standard error, and the share of people with a loss), then whether the self-supervised half is
alive, on test people and on training people: three figures that need no labels, and how well joints
can be read from its keypoints. Writes evaluation.json, and per personalized subject
results/SCENARIO/NAME_overlay.png: joints before and after, over the pictures.
"""

import functools
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipelines import clips as clips_lib
from data_pipelines import pipeline
from ttp_jax import geometry, metrics, state, steps, ttp, visualize
from ttp_jax.augment import Ranges
from ttp_jax.files import read_json, write_json
from ttp_jax.memory import Frames
from ttp_jax.models.pose import WITH_KEYPOINTS, normalize
from ttp_jax.verbs import experiment, placing, receipts
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import Runner, spread

PROBED = 64  # training people whose pictures are reconstructed
PROBE_BATCH = 64  # frames (of a subject) side by side: 512 of the paper's size take over 20 GiB
AS_IT_IS = Ranges(rotation_prob=0.0, scale=0.0, flip_prob=0.0)
NAMES = {"none": "without TTP", "online": "TTP online", "offline": "TTP offline"}


def run(config, workdir: pathlib.Path, options) -> int:
    """Evaluate and print."""
    del options
    base, step = experiment.load_base(config, workdir)
    base = jax.device_put(base, jax.local_devices()[0])  # once for all that follows
    clips = experiment.load_clips(config)
    test = clips_lib.by_subject(clips_lib.select(clips, "test"))
    training = clips_lib.select(clips, "train")
    if not test or any(clip.joints is None for clip in test):
        raise clips_lib.DataError(f"no labelled test clips in {config.data.root}.")
    predictor = Runner(config, base, "none")
    # All rows in the boxes that personalization used.
    test = [placing.placed(clip, predictor, config) for clip in test]
    predictor.use(untrained(config, base.normalisers))
    predictions = {"untrained network": _predict(predictor, test, "untrained")}
    predictor.use(base)
    if training:
        mean = mean_pose(config, training, test)
        predictions = {"mean training pose": mean, **predictions}
    for scenario, name in NAMES.items():
        folder, found = workdir / "results" / scenario, None
        own = receipts.protocol(config, base, scenario)
        if read_json(folder / "protocol.json") == own:
            found = receipts.read_results(folder, test)
        elif folder.is_dir():
            say(f"{folder} is of another model or other settings and left out: run it again")
        if found is None and scenario == "none":
            found = _predict(predictor, test, "without TTP")
        if found is not None:
            predictions[name] = found
    rows = {name: row(config, test, joints) for name, joints in predictions.items()}
    for name in (NAMES["online"], NAMES["offline"]):
        if name in rows:
            rows[name]["gain"] = _gain(rows[NAMES["none"]], rows[name])
    report = {
        "config": config.name,
        "checkpoint_step": step,
        "test_subjects": [clip.name for clip in test],
        "rows": rows,
    }
    _print_table(report)
    _draw_overlays(config, workdir, test, predictions)
    if config.model.method in WITH_KEYPOINTS:
        report["bottleneck"] = {"test": bottleneck(config, base, test)}
        if training:
            report["bottleneck"]["training"] = bottleneck(config, base, probed(training))
            report["readout"] = readout(config, base, training, test)
        report["verdict"] = {
            people: metrics.bottleneck_verdict(**errors)
            for people, errors in report["bottleneck"].items()
        }
        _print_bottleneck(report)
    write_json(workdir / "evaluation.json", report)
    say(f"\nwrote {workdir / 'evaluation.json'}")
    return 0


def _draw_overlays(config, workdir, clips, predictions, frames=3) -> None:
    """Draw joints before and after personalization, and the truth, over some whole pictures."""
    skeleton = experiment.skeleton_of(config)
    for scenario in ("online", "offline"):
        if NAMES[scenario] not in predictions:
            continue
        before, after = predictions[NAMES["none"]], predictions[NAMES[scenario]]
        for i, clip in enumerate(clips[: config.eval.pictures]):
            readable = np.flatnonzero(np.isfinite(after[i]).all((1, 2)))
            chosen = spread(readable, frames)
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
    with tqdm(total=total, unit="frame", desc=name, dynamic_ncols=True) as bar:
        return predictor.joints_of(clips, bar)


def untrained(config, normalisers) -> state.Base:
    """The network before training, from random weights."""
    fresh = experiment.random_state(config, experiment.optimizer(config), normalisers)
    return state.Base(fresh.params, fresh.batch_stats, fresh.normalisers)


def mean_pose(config, training, test) -> list[np.ndarray]:
    """The training people's mean pose within the crop, put into each test frame's crop."""
    size = config.model.image_size

    def affines(clip):
        return geometry.crop_affine(geometry.box_to_crop(clip.boxes.astype(np.float64)), size)

    posed = [geometry.transform_points(affines(c), c.joints) for c in training]
    mean = metrics.mean_pose(np.concatenate(posed), np.concatenate([c.visible for c in training]))
    return [
        geometry.transform_points(
            geometry.invert_affine(affines(clip)),
            np.broadcast_to(mean, (clip.num_frames, *mean.shape)),
        )
        for clip in test
    ]


def scores_of(config, clips, joints) -> dict[str, list[metrics.Score]]:
    """Per measure, one score per clip."""
    skeleton = experiment.skeleton_of(config)
    if config.eval.pixels:
        measures = {
            f"accuracy@{config.eval.pixels:g}px": functools.partial(
                metrics.accuracy_px, pixels=config.eval.pixels
            )
        }
    else:
        measures = {
            f"PCK@{t}": functools.partial(metrics.pck, skeleton=skeleton, threshold=t)
            for t in (0.2, 0.5)
        }
    return {
        name: [
            measure(predicted, clip.joints, clip.visible)
            for clip, predicted in zip(clips, joints, strict=True)
        ]
        for name, measure in measures.items()
    }


def headline(config, clips, joints) -> float:
    """The first measure over all clips: what a training is judged by."""
    return metrics.merge(next(iter(scores_of(config, clips, joints).values()))).mean


def row(config, clips, joints) -> dict:
    """Per measure: mean over all joints and frames, per joint, per clip."""
    skeleton, found = experiment.skeleton_of(config), {}
    for name, scores in scores_of(config, clips, joints).items():
        total = metrics.merge(scores)
        found[name] = {
            "mean": total.mean,
            "per_joint": dict(zip(skeleton.joints, total.per_joint.tolist(), strict=True)),
            "per_subject": [score.mean for score in scores],
        }
    return found


def _gain(before: dict, after: dict) -> dict:
    """What personalization gave, by the first measure."""
    measure = next(iter(before))
    gains = metrics.subject_table(before[measure]["per_subject"], after[measure]["per_subject"])
    return {
        "mean": gains.mean,
        "standard_error": gains.standard_error,
        "worse": gains.worse,
        "interval95": list(gains.interval),
    }


def _print_table(report) -> None:
    rows, count = report["rows"], len(report["test_subjects"])
    measures = list(next(iter(rows.values())))
    say(f"\nTest split of {report['config']}: {count} subjects, step {report['checkpoint_step']}")
    heads = "".join(f"{m:>12}" for m in measures)
    say(f"{'':20}{heads}   gain per subject ({measures[0]}), +- standard error, share worse")
    for name, row in rows.items():
        line = f"{name:20}" + "".join(f"{row[m]['mean']:12.2f}" for m in measures)
        if gain := row.get("gain"):
            line += f"   {gain['mean']:+.2f}"
            if count > 1:
                line += f" +- {gain['standard_error']:.2f}, {gain['worse']:.0%} worse"
        say(line)


def bottleneck(config, base, clips) -> dict[str, float]:
    """The three label-free errors on frames of these clips (`steps.probe`), mean over clips."""
    errors = prober(config, base, len(clips))
    return mean_errors([errors(clip, [{}])[0] for clip in clips])


def mean_errors(errors: Sequence[dict]) -> dict[str, float]:
    """Mean of what `prober` found, by name."""
    return {name: float(np.mean([error[name] for error in errors])) for name in errors[0]}


def prober(config, base, people: int):
    """Return a function (clip, deltas) -> per delta the three errors of `steps.probe`.

    A delta is what personalization changed of the base, {} for the base itself; all see the same
    frames, `config.eval.probe_frames` over so many people.
    """
    tools = experiment.ttp_tools(config, "none")
    probe = jax.jit(functools.partial(steps.probe, model=tools.model))
    wanted = max(4, config.eval.probe_frames // people)
    size, batches = min(wanted, PROBE_BATCH), max(1, wanted // PROBE_BATCH)

    def errors(clip, deltas):
        rng = np.random.default_rng([config.seed, zlib.crc32(clip.name.encode())])
        stream = experiment.subject_frames(config, clip)
        few = np.unique(np.linspace(0, len(stream) - 1, PROBE_BATCH).astype(int))
        frames = Frames(*map(jnp.asarray, stream.read(few)))
        readable = np.flatnonzero(frames.valid)
        found = [[] for _ in deltas]
        for _ in range(batches):
            drawn = [rng.choice(readable, 3, replace=len(readable) < 3) for _ in range(size)]
            target, source, other = np.stack(drawn, 1)
            affines = geometry.crop_affine(frames.crops[target], tools.settings.image_size)
            crops = [ttp.cut(frames, i, affines, tools.settings) for i in (target, source, other)]
            for own, delta in zip(found, deltas, strict=True):
                own.append(jax.device_get(probe(state.adapted(base, delta), *crops)))
        return [mean_errors(own) for own in found]

    return errors


def probed(training):
    """Some of the training clips, from all over the data set."""
    return training[:: max(1, len(training) // PROBED)][:PROBED]


def readout(config, base, training, test) -> dict[str, float]:
    """How well joints follow linearly from the 30 points on unseen people, in crop sides."""
    model = experiment.build_model(config)
    size = config.model.image_size

    @jax.jit
    def points_of(variables, pictures):
        pictures = normalize(pictures, bgr=experiment.is_bgr(config))
        found: Any = model.apply(variables, pictures, method="keypoints")
        _, maps, points = found
        return points * (size / maps.shape[1])

    variables = {"params": base.params, "batch_stats": base.batch_stats}

    def collect(clips, frames):
        frames = min(frames, sum(clip.num_frames for clip in clips))
        batch_size = min(32, frames)
        stream = pipeline.train_pairs(
            clips,
            experiment.skeleton_of(config),
            image_size=size,
            heatmap_size=experiment.heatmap_size(config),
            sigma=config.model.sigma,
            batch_size=batch_size,
            seed=config.seed,
            ranges=AS_IT_IS,
            num_steps=frames // batch_size,
        )
        parts = [
            (points_of(variables, b["target"]), b["joints"], b["weights"] > 0)
            for b in pipeline.numpy_batches(stream)
        ]
        points, joints, visible = (np.concatenate(part) for part in zip(*parts, strict=True))
        return points / size, joints / size, visible

    fit, unseen = (
        collect(training, 4 * config.eval.probe_frames),
        collect(test, config.eval.probe_frames),
    )
    result = metrics.linear_readout(*fit[:2], *unseen[:2], fit[2], unseen[2])
    return {"error": float(result.error), "mean_pose_error": float(result.mean_pose_error)}


def _print_bottleneck(report) -> None:
    say("\nIs the self-supervised half alive? Mean squared error of the reconstruction:")
    for people, verdict in report["verdict"].items():
        say(f"  {people} people, without TTP: {verdict}")
    if "alive" not in report["verdict"]["test"]:
        say("  (People who look unlike the training ones can put the keypoints to sleep, and")
        say("  personalization can wake them: docs/method.md, When it can't work.)")
    if "readout" not in report:
        return
    linear = report["readout"]
    say(
        "  joints read linearly from the 30 points, people not used for the fit: error "
        f"{linear['error']:.3f} of the crop's side (mean pose: {linear['mean_pose_error']:.3f})"
    )
