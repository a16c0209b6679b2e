"""Label-free diagnostics of the network: do its self-supervised keypoints follow the body?"""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import pipeline
from data_pipelines.clips import Clip
from data_pipelines.windows import SubjectFrames
from ttp_jax import driver, geometry, losses, methods, metrics, state, ttp, visualize
from ttp_jax.augment import Ranges
from ttp_jax.models.pose import denormalize, normalize
from ttp_jax.runs import members, sources
from ttp_jax.runs.experiment import Experiment

TRAINING_PEOPLE = 64  # training people whose pictures are reconstructed
BATCH = 64  # frames of a subject in a batch; 512 of the paper's size take over 20 GiB
FEW = 16  # frames of a subject for the diagnostics of its report
AS_IT_IS = Ranges(rotation_prob=0.0, scale=0.0, flip_prob=0.0)


def bottleneck(experiment: Experiment, base: state.Base, clips) -> dict[str, float]:
    """Return the errors of the task's `probe`, averaged over these clips."""
    errors = prober(experiment, base, len(clips))
    return mean_errors([errors(clip, [{}])[0] for clip in clips])


def mean_errors(errors: Sequence[dict]) -> dict[str, float]:
    """Average the errors that `prober` returned, by name."""
    return {name: float(np.mean([error[name] for error in errors])) for name in errors[0]}


def prober(
    experiment: Experiment, base: state.Base, people: int
) -> Callable[[Clip, Sequence[state.Flat]], list[dict]]:
    """Return a function (clip, deltas) -> errors of the task's `probe` for each delta.

    A delta is an adaptation of the base, {} for the base itself. All deltas are probed on the same
    frames: `config.eval.probe_frames` over all people.
    """
    settings = experiment.settings("none")
    assert experiment.task.probe is not None
    probe = jax.jit(functools.partial(experiment.task.probe, model=experiment.net))
    wanted = max(4, experiment.config.eval.probe_frames // people)
    size, batches = min(wanted, BATCH), max(1, wanted // BATCH)

    def errors(clip, deltas):
        rng = np.random.default_rng([experiment.seed, zlib.crc32(clip.name.encode())])
        stream = sources.subject_frames(clip, experiment.data, settings.image_size)
        few = np.unique(np.linspace(0, len(stream) - 1, BATCH).astype(int))
        frames = jax.tree.map(jnp.asarray, stream.read(few))
        readable = np.flatnonzero(frames.valid)
        found = [[] for _ in deltas]
        for _ in range(batches):
            drawn = [rng.choice(readable, 3, replace=len(readable) < 3) for _ in range(size)]
            target, source, other = np.stack(drawn, 1)
            affines = geometry.crop_affine(frames.crops[target], settings.image_size)
            crops = [ttp.cut(frames, i, affines, settings) for i in (target, source, other)]
            for own, delta in zip(found, deltas, strict=True):
                own.append(jax.device_get(probe(state.adapted(base, delta), *crops)))
        return [mean_errors(own) for own in found]

    return errors


def some_of(training: Sequence[Clip]) -> Sequence[Clip]:
    """Return training clips that are spread evenly over the data set."""
    return training[:: max(1, len(training) // TRAINING_PEOPLE)][:TRAINING_PEOPLE]


def readout(experiment: Experiment, base: state.Base, training, test) -> dict[str, float]:
    """Measure how well a linear map predicts joints from the 30 keypoints, in crop sides."""
    model, size, bgr = experiment.net, experiment.image_size, experiment.bgr

    @jax.jit
    def points_of(variables, pictures):
        found: Any = model.apply(variables, normalize(pictures, bgr=bgr), method="keypoints")
        _, maps, points = found
        return points * (size / maps.shape[1])

    variables = {"params": base.params, "batch_stats": base.batch_stats}

    def collect(clips, frames):
        frames = min(frames, sum(clip.num_frames for clip in clips))
        batch_size = min(32, frames)
        stream = pipeline.train_pairs(
            clips,
            experiment.skeleton,
            pipeline.Crops(size, experiment.heatmap_size, model.sigma),
            batch_size=batch_size,
            seed=experiment.seed,
            ranges=AS_IT_IS,
            num_steps=frames // batch_size,
        )
        parts = [
            (points_of(variables, b["target"]), b["joints"], b["weights"] > 0)
            for b in pipeline.numpy_batches(stream)
        ]
        points, joints, visible = (np.concatenate(part) for part in zip(*parts, strict=True))
        return points / size, joints / size, visible

    wanted = experiment.config.eval.probe_frames
    fit, unseen = collect(training, 4 * wanted), collect(test, wanted)
    result = metrics.linear_readout(*fit[:2], *unseen[:2], fit[2], unseen[2])
    return {"error": float(result.error), "mean_pose_error": float(result.mean_pose_error)}


def before_and_after(
    experiment: Experiment,
    base: state.Base,
    frames: SubjectFrames,
    *found: tuple[dict, np.ndarray],
) -> dict[str, list[float]]:
    """Compute label-free diagnostics of a subject, before and after personalization.

    Args:
      experiment: network and settings.
      base: the trained model.
      frames: frames of the subject.
      found: pairs of a model's `variables` and the joints [T, K, 2] that it predicted.

    Returns:
      Name -> one number for each pair. Empty for a network without self-supervised keypoints.
      "reconstruction": the loss that adaptation minimises, on a few frames, each with another frame
      as its source. If there are held-out frames, it is computed on them and called "held-out
      reconstruction". It is missing for methods that don't minimise it, because a higher loss would
      mean nothing. "agreement", for a Transformer: the distance between joints and the keypoints
      that contribute to them, weighted by the affinity, in sides of the box.
    """
    if not experiment.net.parts.keypoints:
        return {}
    settings, measured = experiment.settings("none"), {}
    readable = np.flatnonzero(np.isfinite(found[0][1]).all((1, 2)))
    name, shown, learned = "reconstruction", readable, readable
    # Adaptation counts the frames of all of the subject's recordings.
    held_out = members.held_out(readable + frames.first, experiment.config.ttp.held_out)
    if held_out.any() and not held_out.all():
        name, shown, learned = f"held-out {name}", readable[held_out], readable[~held_out]
    few, others = _few(shown), np.roll(_few(learned), FEW // 2)
    # Each frame is read once, in order.
    places, where = np.unique(np.concatenate([few, others]), return_inverse=True)
    some = jax.tree.map(jnp.asarray, frames.read(places))
    affines = geometry.crop_affine(some.crops, settings.image_size)
    targets, looks_of = jnp.asarray(where[:FEW]), jnp.asarray(where[FEW:])
    affines = affines[targets]
    crops, looks = (ttp.cut(some, of, affines, settings) for of in (targets, looks_of))
    see = driver.forward(experiment.net)
    for variables, joints in found:
        output: Any = see(variables, crops, looks)
        means, picture = base.normalisers, output.reconstruction
        if methods.of(settings.method).minimises_task:
            loss, _ = losses.reconstruction(
                experiment.features, picture, crops, means, bgr=settings.bgr
            )
            measured.setdefault(name, []).append(float(loss))
        if output.affinity is None:
            continue
        weights = jnp.abs(output.affinity)
        weights = weights / weights.sum(-1, keepdims=True)
        mean = jnp.einsum("bkm,bmx->bkx", weights, output.points) / output.heatmaps.shape[1]
        inside = geometry.transform_points(affines, jnp.asarray(joints[few]))
        away = jnp.linalg.norm(mean - inside / settings.image_size, axis=-1)
        measured.setdefault("agreement", []).append(float(away.mean()))
    return measured


def _few(places: np.ndarray) -> np.ndarray:
    """Return `FEW` of the places, evenly spread; repeat some if there are fewer."""
    return places[np.linspace(0, len(places) - 1, FEW).astype(int)]


def figure5(
    experiment: Experiment,
    variables: dict,
    clip: Clip,
    frames: SubjectFrames,
    joints: np.ndarray,
    count: int = 3,
) -> np.ndarray:
    """Draw the paper's Figure 5 for some frames and a personalized model.

    Args:
      experiment: network and skeleton.
      variables: variables of the personalized model.
      clip: clip of the subject; its labels are drawn if it has any.
      frames: frames of the clip.
      joints: joints [T, K, 2] that the model predicted.
      count: number of frames to show.
    """
    size, bgr = experiment.image_size, experiment.bgr
    settings = experiment.settings("none")
    chosen = spread(np.flatnonzero(np.isfinite(joints).all((1, 2))), count)
    some = jax.tree.map(jnp.asarray, frames.read(chosen))
    affines = geometry.crop_affine(some.crops, size)
    crops = ttp.cut(some, jnp.arange(count), affines, settings)
    # The source is another frame, cut with this frame's box, as in training.
    looks = ttp.cut(some, (jnp.arange(count) + 1) % count, affines, settings)
    output = driver.forward(experiment.net)(variables, crops, looks)
    pictures = np.asarray(denormalize(crops, bgr=bgr).round(), np.uint8)
    reconstruction = np.asarray(denormalize(output.reconstruction, bgr=bgr), np.uint8)
    stride = size / output.self_heatmaps.shape[1]
    rows = []
    for row, t in enumerate(chosen):
        to_crop = np.asarray(affines[row])
        entry = {
            "image": pictures[row],
            "reconstruction": reconstruction[row],
            "points": np.asarray(output.points[row]) * stride,
            "joints": geometry.transform_points(to_crop, joints[t]),
            "affinity": np.asarray(output.affinity[row]),
        }
        if clip.joints is not None and clip.visible is not None:
            entry["truth"] = geometry.transform_points(to_crop, clip.joints[t])
            entry["visible"] = clip.visible[t]
        rows.append(entry)
    return visualize.figure5(rows, experiment.skeleton)


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """Return `count` evenly spread frames to draw, without the first and the last."""
    return frames[np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]
