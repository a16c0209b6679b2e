"""Show what a config describes: sizes, schedule, which parts train; or its data.

    python main.py info --config=configs/penn.py
    python main.py info --config=configs/penn.py --config.data.root=DIR --data
    python main.py info --project=path/to/project

Without --data you need no data set. With --data the command prints subjects, frames, joints and
visibility for each split, and draws augmented training pairs with their labels to
WORKDIR/training_pairs.png. Look at them before you trust a number: the loss falls even if the
labels are shifted.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import locate, pipeline
from ttp_jax import geometry, state, tasks, visualize
from ttp_jax.runs import sources
from ttp_jax.runs.experiment import Config, Experiment
from ttp_jax.runs.process import say


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    data: bool


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Print the description."""
    if options.data or experiment.data.source in ("media", "project"):
        return describe_data(experiment, workdir)
    return describe_model(experiment)


def describe_model(experiment: Experiment) -> int:
    """Print network, schedule and freeze rules, with parameter counts of an initialised model."""
    model, size, config = experiment.net, experiment.image_size, experiment.config
    picture = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), picture, picture))
    params = variables["params"]
    skeleton, maps = experiment.skeleton, experiment.heatmap_size

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    fields = config.model
    encoder = "BlazePose" if fields.encoder == "blazepose" else f"ResNet-{fields.depth}"
    say(f"{experiment.name}: method {fields.method}, {encoder}")
    say(f"picture {size} x {size}, heatmaps {maps} x {maps} x {skeleton.size} ({skeleton.name})")
    say(f"initialised from: {config.model.init}; features of the loss: {config.loss.features}")
    say(f"\nparameters {count(params):>14,}")
    for name, part in sorted(params.items()):
        say(f"  {name:<18}{count(part):>8,}")
    if experiment.task is not tasks.NOTHING:
        say("\ntrains at test time:")
        for name in state.RULES:
            trainable, frozen = state.split(params, state.RULES[name])
            mark = "*" if name == config.ttp.rules else " "
            say(
                f" {mark}{name:<10}{count(trainable):>12,} in {len(trainable)} tensors, "
                f"frozen {count(frozen):,} in {len(frozen)}"
            )
    if not config.train.stages:
        return 0
    say("\ntraining stages (updates, learning rate, lambda, decay):")
    for stage in experiment.stages:
        say(f"  {tuple(stage)}")
    return 0


def describe_data(experiment: Experiment, workdir) -> int:
    """Print the data set's contents, and draw training pairs or, without labels, the crops."""
    clips = sources.load_clips(experiment.data)
    skeleton = experiment.skeleton
    if not clips:
        raise clips_lib.DataError(f"no clips in {experiment.data.root}.")
    say(f"{experiment.name}: {experiment.data.source} in {experiment.data.root}")
    say(f"{'split':8}{'subjects':>10}{'clips':>8}{'frames':>10}{'visible joints':>16}")
    for split in dict.fromkeys(clip.split for clip in clips):
        chosen = clips_lib.select(clips, split)
        visible = [clip.visible for clip in chosen if clip.visible is not None]
        share = f"{np.concatenate(visible).mean():.1%}" if visible else "no labels"
        subjects, frames = len({c.subject for c in chosen}), sum(c.num_frames for c in chosen)
        say(f"{split:8}{subjects:10,}{len(chosen):8,}{frames:10,}{share:>16}")
    labelled = [clip.visible for clip in clips if clip.visible is not None]
    if labelled:
        shares = np.concatenate(labelled).mean(0)
        say("\nvisible, per joint:")
        for name, share in zip(skeleton.joints, shares, strict=True):
            say(f"  {name:16}{share:7.1%}")
    training = [clip for clip in clips if clip.split == "train" and clip.joints is not None]
    if training:
        path, sheet = workdir / "training_pairs.png", _pairs(experiment, training)
    else:
        path = workdir / "crops.png"
        sheet = _crops(clips, experiment.data, experiment.image_size)
        if experiment.data.boxes in locate.FINDERS:
            say("\nwhole frames are drawn, because info does not look for the person")
    visualize.save(path, sheet)
    say(f"\nwrote {path}: look at it")
    return 0


def _pairs(experiment: Experiment, clips, count=16) -> np.ndarray:
    """Draw training targets with their labels, each beside its source, as training gets them."""
    stream = sources.training_pairs(
        experiment, clips, 0, -(-count // experiment.config.train.batch_size)
    )
    pictures, skeleton = [], experiment.skeleton
    for batch in pipeline.numpy_batches(stream):
        for row in range(len(batch["target"])):
            seen = batch["weights"][row] > 0
            joints = batch["joints"][row]
            pictures.append(visualize.draw_joints(batch["target"][row], joints, skeleton, seen, 3))
            pictures.append(batch["source"][row].repeat(3, 0).repeat(3, 1))
    pictures = pictures[: 2 * count]
    return visualize.grid(pictures, 8, ["target", "source"] * (len(pictures) // 2))


def _crops(clips, data: Config, size: int, count=16) -> np.ndarray:
    """Draw the crops of unlabelled clips that the network sees."""
    pictures, names = [], []
    for clip in clips[:count]:
        stream, index = sources.subject_frames(clip, data, size), 0
        while not (frames := stream.read([index])).valid[0]:
            index += 1
        affine = geometry.window_affine(
            geometry.crop_affine(frames.crops[0], size), frames.views[0]
        )
        crop = geometry.warp(jnp.asarray(frames.pictures[0]), jnp.asarray(affine), size)
        pictures.append(np.asarray(crop, np.uint8))
        names.append(clip.name)
    return visualize.grid([p.repeat(3, 0).repeat(3, 1) for p in pictures], 4, names)
