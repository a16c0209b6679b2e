"""What a config means: the objects that several verbs build from it."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from configs import common
from data_pipelines import bbc_pose, h36m, locate, media, penn, pipeline, renderer, synthetic
from data_pipelines import clips as clips_lib
from ttp_jax import convert, losses, ranges, state, steps, ttp
from ttp_jax.augment import Ranges
from ttp_jax.checkpoint import SHIPPED, Checkpoints, base_of, read_model
from ttp_jax.files import only_one, read_json, write_json
from ttp_jax.models import pose, vgg
from ttp_jax.models.pose import PoseNet, normalize
from ttp_jax.skeletons import SKELETONS, Skeleton

Config = Any  # ml_collections.ConfigDict, whose fields a type checker can't know
# Fields that leave a trained model's numbers alone.
NOT_THE_MODEL = {
    "model": ("decode",),
    "data": (
        "root", "tfds", "workers", "val", "test", "eval_frames", "boxes", "refine", "fit",
        "extra", "oversample", "context",
    ),
    "train": ("log_every", "checkpoint_every", "keep"),
}  # fmt: skip
NORMALISER_PAIRS = 256  # pairs that measure the loss normalisers' start values


def say(*words) -> None:
    """Print at once, also into a pipe, and above a progress bar."""
    with tqdm.external_write_mode(sys.stdout):
        print(*words, flush=True)


def alone_in(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """`only_one`, asked for by the first of the processes that work together."""
    return only_one(folder) if jax.process_index() == 0 else contextlib.nullcontext()


def use_compilation_cache() -> None:
    """Keep compiled programs between runs: the second run of a config starts at once."""
    folder = pathlib.Path(os.path.expanduser("~/.cache/ttp_jax/xla"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"no compilation cache: {error}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def skeleton_of(config: Config) -> Skeleton:
    """The joint order that the config names."""
    if config.data.skeleton not in SKELETONS:
        raise ValueError(
            f"config.data.skeleton is {config.data.skeleton!r}, expected one of {list(SKELETONS)}."
        )
    return SKELETONS[config.data.skeleton]


def build_model(config: Config) -> PoseNet:
    """The network that the config describes."""
    return pose.from_config(config.model, skeleton_of(config).size, config.train.precision)


def is_bgr(config: Config) -> bool:
    """Whether pictures go in with swapped channels."""
    return pose.is_bgr(config.model)


def heatmap_size(config: Config) -> int:
    """Side of the heatmaps: the trunk divides by 32 (16 with last_stride 1), then doublings."""
    trunk = 16 * config.model.last_stride
    if config.model.image_size % trunk:
        raise ValueError(
            f"config.model.image_size is {config.model.image_size}, expected a multiple of {trunk}."
        )
    return config.model.image_size // trunk * 2**config.model.upsamplings


def load_vgg(config: Config) -> vgg.VGG16:
    """The features of the perceptual loss."""
    return vgg.load(config.loss.features, config.loss.levels)


def load_clips(config: Config, split: str | None = None) -> list[clips_lib.Clip]:
    """Clips of the config's data set, of one split or all.

    Raises DataError with the layout and the flag where the data set isn't there.
    """
    data = config.data
    readers = {
        "penn": lambda: penn.clips(data.root, split),
        "h36m": lambda: h36m.clips(data.root, split),
        "bbc_pose": lambda: bbc_pose.clips(data.root, split, data.extra),
        "synthetic": lambda: synthetic.clips(_spec(data), data.root),
        "media": lambda: _own(data),
    }
    if data.source not in readers:
        raise clips_lib.DataError(
            f"config.data.source is {data.source!r}, expected one of {', '.join(readers)}."
        )
    if data.tfds:
        from data_pipelines import builders  # on use only: it imports TensorFlow

        if data.extra:
            raise clips_lib.DataError(
                "config.data.extra needs the data set's own folder: leave config.data.tfds out."
            )
        if data.source == "synthetic" and _spec(data) != synthetic.Spec(preset=data.preset):
            raise clips_lib.DataError(
                "config.data.tfds holds the rendered people of synthetic.Spec, the config asks for "
                "others (seed, sizes or numbers): leave config.data.tfds out."
            )
        return builders.clips(data.source, data.tfds, split, config=data.get("preset"))
    found = readers[data.source]()
    return found if split is None else clips_lib.select(found, split)


def _own(data: Config) -> list[clips_lib.Clip]:
    """Own videos and pictures, one path or pattern a line of `root`."""
    looked_for = data.boxes in locate.FINDERS  # by `placing.placed`: it takes its time
    found = media.clips(data.root.split("\n"), boxes="whole" if looked_for else data.boxes)
    if looked_for:
        found = [dataclasses.replace(c, origin=f"{c.origin}, {data.boxes}") for c in found]
    return [clips_lib.part(clip, data.frames, data.every) for clip in found]


def _spec(data: Config) -> synthetic.Spec:
    """The rendered people that the config describes."""
    fields = ("seed", "preset", "image_size", "train", "val", "test", "train_frames", "eval_frames")
    return synthetic.Spec(**{field: data[field] for field in fields})


def stages_of(config: Config) -> list[state.Stage]:
    """The training schedule."""
    stages = [state.Stage(*stage) for stage in config.train.stages]
    if not stages or any(stage.steps < 1 for stage in stages):
        raise ValueError("config.train.stages needs at least one stage of at least one step.")
    return stages


def init_training(config: Config, tx, normalisers) -> state.TrainState:
    """The state before the first step: random, or with the trunk from `config.model.init`."""
    init = config.model.init
    if not init:
        raise ValueError("config.model.init must name a torchvision ResNet file, or be 'random'.")
    fresh = random_state(config, tx, normalisers)
    if init == "random":
        return fresh
    variables = {"params": fresh.params, "batch_stats": fresh.batch_stats}
    loaded = convert.load_resnet(init, variables)
    return fresh.replace(params=loaded["params"], batch_stats=loaded["batch_stats"])


def random_state(config: Config, tx, normalisers) -> state.TrainState:
    """The state before the first step from random weights, drawn from the config's seed."""
    model, size = build_model(config), config.model.image_size
    # Runs once and is mostly random numbers: optimizing it would take most of a minute on CPU.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw = jax.jit(
        lambda key, start: steps.init_state(model, tx, key, size, start), compiler_options=options
    )
    return draw(jax.random.key(config.seed), jnp.asarray(normalisers, jnp.float32))


def optimizer(config: Config):
    """Adam on the config's schedule."""
    return state.adam(state.schedule(stages_of(config)))


def training_pairs(
    config: Config, clips, start_step: int, num_steps: int | None, process: tuple[int, int] = (0, 1)
):
    """The stream of augmented training batches from `start_step` on.

    `process`, index and count: the stream has this process's rows only.
    """
    train = config.train
    total = sum(clip.num_frames for clip in clips)
    return pipeline.train_pairs(
        clips,
        skeleton_of(config),
        image_size=config.model.image_size,
        heatmap_size=heatmap_size(config),
        sigma=config.model.sigma,
        batch_size=train.batch_size,
        seed=config.seed,
        start_step=start_step,
        ranges=Ranges(train.rotation, train.rotation_prob, train.scale, train.flip_prob),
        # All of them where only a part of the data set is at hand.
        frames_per_epoch=min(train.frames_per_epoch, total) or None,
        process_index=process[0],
        process_count=process[1],
        num_steps=num_steps,
        workers=config.data.workers or None,
    )


def normaliser_start(config: Config, features: vgg.VGG16, clips) -> np.ndarray:
    """Start values [levels + 1] of the loss normalisers for these features.

    The published ones where they are of these features; otherwise the mean errors of merely
    copying the source, measured on the first training pairs.
    """
    if features.normalisers is not None:
        return np.asarray(features.normalisers, np.float32)
    bgr = is_bgr(config)

    @jax.jit
    def measure(target, source):
        pair = normalize(source, bgr=bgr), normalize(target, bgr=bgr)
        return losses.feature_errors(features, *pair, bgr=bgr)

    batches = max(1, NORMALISER_PAIRS // config.train.batch_size)
    stream = pipeline.numpy_batches(training_pairs(config, clips, 0, batches))
    return np.mean([measure(batch["target"], batch["source"]) for batch in stream], axis=0)


def ttp_tools(config: Config, scenario: str) -> ttp.Tools:
    """Network, optimizer and settings of personalization; scenario "none" predicts only."""
    mode = "offline" if scenario == "offline" else "online"
    size, bgr = config.model.image_size, is_bgr(config)
    settings = ttp.settings_from(config.ttp, mode, image_size=size, bgr=bgr)
    if scenario != "none":
        ttp.check_method(config.model.method, settings)
    return ttp.tools(build_model(config), settings)


def load_base(config: Config, workdir: str | pathlib.Path) -> tuple[state.Base, int]:
    """The trained model under `workdir`, or that of `config.base`, and its step.

    Raises FileNotFoundError where there is none, ValueError where the file is damaged or the model
    was trained as another network than the config's.
    """
    if config.base:
        found = read_model(model_path(config.base))
        _check_network(config, found.config, config.base)
        return found.base, int(found.about.get("step", 0))
    checkpoints = Checkpoints(pathlib.Path(workdir) / "checkpoints")
    if checkpoints.latest_step() is None:
        raise FileNotFoundError(
            f"no trained model in {workdir}: run `python main.py --config=... "
            f"--workdir={workdir}` first."
        )
    if (trained_with := training_config(workdir)) is not None:
        _check_network(config, trained_with.to_dict(), workdir)
    tx = optimizer(config)
    normalisers = jnp.ones(config.loss.levels + 1)
    model, key = build_model(config), jax.random.key(config.seed)
    shapes = jax.eval_shape(
        lambda: steps.init_state(model, tx, key, config.model.image_size, normalisers)
    )
    # As numpy arrays: where training had its devices does not matter here.
    trained = checkpoints.restore(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes))
    checkpoints.close()
    return base_of(trained), int(trained.step)


def released_base(config: Config, path: str) -> state.Base:
    """A model of the released PyTorch program, ready to be personalized.

    Its file has no loss normalisers: they start as they do in training, `normaliser_start`.
    """
    config.model.color_order = "bgr"  # as that program reads pictures
    net, size = build_model(config), config.model.image_size
    pictures = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), pictures, pictures)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    loaded = convert.load_model(path, empty)
    normalisers = np.ones(config.loss.levels + 1, np.float32)
    if config.model.method in pose.WITH_KEYPOINTS:
        features = load_vgg(config)
        clips = [] if features.normalisers is not None else load_clips(config, "train")
        normalisers = normaliser_start(config, features, clips)
    return state.Base(loaded["params"], loaded["batch_stats"], jnp.asarray(normalisers))


def _check_network(config: Config, stored: dict, where: str | pathlib.Path) -> None:
    """Refuse to run the model there as another network than it was trained as.

    Shapes don't tell: those of other crops or colours are the same. The features of its loss are a
    part of that: its normalisers are theirs.
    """
    left_out = ("init", *NOT_THE_MODEL["model"])
    fields = {
        "data": ("skeleton",),
        "model": [k for k in stored["model"] if k not in left_out],
        "loss": ("levels", "features"),
    }

    def plain(value):  # files by their names, as in `trained_on`
        return pathlib.PurePath(value).name if isinstance(value, str) else value

    def in_json(part, names):  # which knows no tuples
        return json.loads(json.dumps({name: part[name] for name in names}))

    for part, names in fields.items():
        now, then = in_json(config[part], names), in_json(stored[part], names)
        for name in names:
            if plain(now[name]) != plain(then[name]):
                raise ValueError(
                    f"config.{part}.{name} is {now[name]}, the model in {where} was made "
                    f"with {then[name]}: give the config that it was trained with."
                )


def model_path(base: str) -> pathlib.Path:
    """The file that `config.base` or --model names; "shipped" is the included one."""
    return SHIPPED if base == "shipped" else pathlib.Path(base)


def config_of_model(base: str) -> Config:
    """The experiment to use a model's file with, for own videos and pictures."""
    config, found = common.get_config(), read_model(model_path(base))
    config.name, config.base = pathlib.Path(base).stem, base
    config.data.source = "media"
    with config.unlocked():
        config.update(found.config)
    return config


def subject_frames(config: Config, clip) -> pipeline.SubjectFrames:
    """The frames of a subject as personalization takes them."""
    return pipeline.SubjectFrames(
        clip,
        image_size=config.model.image_size,
        oversample=config.data.oversample or None,
        context=config.data.context,
    )


def padded_length(count: int) -> int:
    """The next of 8, 16, 24, 32, 48, 64, 96, 128, ...: above 16 at most half as much again."""
    length = 8
    while length < count:
        length += 8 if length < 32 else 2 ** (length.bit_length() - 2)
    return length


def trained_on(config: Config) -> dict:
    """All that a trained model follows from; what matters at test time only is no part of it."""
    parts: dict = {"seed": config.seed, "loss": config.loss.to_dict()}
    for part, left_out in NOT_THE_MODEL.items():
        parts[part] = {k: v for k, v in config[part].to_dict().items() if k not in left_out}
    # Files by their names, which say what they are (resnet50-19c8e357.pth), not by where they lie.
    for part, field in (("model", "init"), ("loss", "features")):
        parts[part][field] = pathlib.PurePath(parts[part][field]).name
    if config.data.source == "synthetic":
        parts["renderer"] = renderer.RENDERER_VERSION
    return parts


def stored_config(stored: dict, where: str | os.PathLike = "the stored config") -> Config:
    """A config from its JSON, which knows no tuples; fields younger than it get their defaults.

    Raises ValueError where it holds what no config can; the message names `where`.
    """
    ranges.check(stored, f"{where}: config")

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(inner) for key, inner in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    config = common.get_config()
    try:
        with config.unlocked():
            config.update(tuples(stored))
    except (AttributeError, KeyError, TypeError) as error:  # so ml_collections
        raise ValueError(f"{where} holds no config ({error}).") from error
    return config


def training_config(workdir: str | pathlib.Path) -> Config | None:
    """The config that the model under `workdir` was trained with; None where it wasn't kept."""
    path = pathlib.Path(workdir) / "config.json"
    stored = read_json(path, dict)
    return None if stored is None else stored_config(stored, path)


def save_config(config: Config, workdir: pathlib.Path) -> None:
    """Keep the config beside what was made with it."""
    write_json(workdir / "config.json", config.to_dict())
