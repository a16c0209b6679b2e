"""The model that a run starts from: random, trained, or from a file."""

import contextlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import pipeline
from ttp_jax import convert, fetch, losses, skeletons, state, steps
from ttp_jax.checkpoint import (
    Best,
    Checkpoints,
    base_of,
    blazepose_path,
    model_path,
    read_model,
)
from ttp_jax.models import vgg
from ttp_jax.models.pose import normalize
from ttp_jax.runs import identity, sources
from ttp_jax.runs.experiment import Config, Experiment, build

RESNETS = pathlib.Path("models/imagenet")  # where the paper's configs look for ResNet weights
NORMALISER_PAIRS = 256  # pairs on which initial loss normalisers are measured


def init_training(experiment: Experiment, normalisers) -> state.TrainState:
    """Return the state before the first step, with the encoder from `config.model.init`."""
    init = experiment.config.model.init
    if not init:
        raise ValueError(
            "config.model.init must name a file to start from (torchvision's ResNet, or a model's "
            "with the same encoder), or be 'blazepose' or 'random'."
        )
    fresh = random_state(experiment, normalisers)
    if init == "random":
        return fresh
    variables = {"params": fresh.params, "batch_stats": fresh.batch_stats}
    if init == "blazepose" or init.endswith(".npz"):
        found = read_model(model_path(init)).base
        parts = {"params": found.params, "batch_stats": found.batch_stats}
        loaded = convert.put_encoder(parts, variables, source=init)
    else:
        loaded = convert.load_resnet(init, variables)
    return fresh.replace(params=loaded["params"], batch_stats=loaded["batch_stats"])


def choose_encoder(model: Config, workdir: pathlib.Path) -> str | None:
    """Put the best available encoder into a project's `config.model`; return a description.

    This is BlazePose's if it has been fetched, otherwise torchvision's ResNet-18, otherwise a
    ResNet with random weights. A training that has begun keeps its encoder. Returns None if there
    is nothing to choose.
    """
    fields = ("encoder", "init", "depth", "half_pixel")
    stored = identity.training_config(workdir)
    wanted = model.encoder, model.init
    if stored is not None and wanted == ("blazepose", "blazepose"):
        model.update({name: stored.model[name] for name in fields})
        return None
    if wanted != ("blazepose", "blazepose") or blazepose_path().is_file():
        return None
    name = fetch.PUBLISHED["resnet18"]
    there = [path for path in (fetch.folder() / name, RESNETS / name) if path.is_file()]
    init = str(there[0]) if there else "random"
    model.update(dict(zip(fields, ("resnet", init, 18, False), strict=True)))
    start = f"torchvision's {name}" if there else "random weights, which needs far more labels"
    return (
        f"BlazePose isn't here (`python main.py fetch blazepose` gets it): a ResNet-18 starts from "
        f"{start}."
    )


def random_state(experiment: Experiment, normalisers) -> state.TrainState:
    """Return the state before the first step, with random weights from the experiment's seed."""
    net, tx, size = experiment.net, experiment.tx, experiment.image_size
    # This program runs once, but LLVM's optimisation of it would take most of a minute on CPU.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw = jax.jit(
        lambda key, start: steps.init_state(net, tx, key, size, start), compiler_options=options
    )
    return draw(jax.random.key(experiment.seed), jnp.asarray(normalisers, jnp.float32))


def untrained(experiment: Experiment, normalisers) -> state.Base:
    """Return the untrained network with random weights."""
    fresh = random_state(experiment, normalisers)
    return state.Base(fresh.params, fresh.batch_stats, fresh.normalisers)


def normaliser_start(experiment: Experiment, features: vgg.VGG16, clips) -> np.ndarray:
    """Return initial values [levels + 1] of the loss normalisers for these features.

    For the published features these are the published values. For others, the mean error of copying
    the source is measured on the first training pairs.
    """
    if features.normalisers is not None:
        return np.asarray(features.normalisers, np.float32)
    bgr = experiment.bgr

    @jax.jit
    def measure(target, source):
        pair = normalize(source, bgr=bgr), normalize(target, bgr=bgr)
        return losses.feature_errors(features, *pair, bgr=bgr)

    batches = max(1, NORMALISER_PAIRS // experiment.config.train.batch_size)
    stream = pipeline.numpy_batches(sources.training_pairs(experiment, clips, 0, batches))
    return np.mean([measure(batch["target"], batch["source"]) for batch in stream], axis=0)


def load_base(experiment: Experiment, workdir: str | pathlib.Path) -> tuple[state.Base, int]:
    """Load the trained model of `config.base` or else of `workdir`; return it and its step.

    `config.base` may also be a workdir. With `config.train.best`, the checkpoint that scored best
    on validation subjects is loaded, not the last one.

    Raises FileNotFoundError if there is no model, ValueError if the file is damaged or the model
    was trained as a different network.
    """
    config = experiment.config
    if config.base and model_path(config.base).is_dir():
        workdir = model_path(config.base)
    elif config.base:
        found = read_model(model_path(config.base))
        check_network(config, found.config, config.base)
        return found.base, int(found.about.get("step", 0))
    return _checkpoint(experiment, pathlib.Path(workdir))


def _checkpoint(experiment: Experiment, workdir: pathlib.Path) -> tuple[state.Base, int]:
    """Load the last or best checkpoint of a training; return it and its step."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    if checkpoints.latest_step() is None:
        raise FileNotFoundError(
            f"no trained model in {workdir}: run `python main.py --config=... "
            f"--workdir={workdir}` first."
        )
    trained_with = identity.training_config(workdir)
    trained_as = experiment
    if trained_with is not None:
        check_network(experiment.config, trained_with.to_dict(), workdir)
        trained_as = build(trained_with)  # a config for a user's videos has no optimizer
    net, tx = experiment.net, trained_as.tx
    normalisers = jnp.ones(experiment.config.loss.levels + 1)
    shapes = jax.eval_shape(
        lambda: steps.init_state(net, tx, jax.random.key(0), experiment.image_size, normalisers)
    )
    # As numpy arrays, because the devices of the training don't matter here.
    empty = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    with contextlib.closing(checkpoints):
        keeps = trained_as.config.train.best
        best = Best(checkpoints.folder).restore(base_of(empty)) if keeps else None
        if best is not None:
            return best[:2]
        trained = checkpoints.restore(empty)
    return base_of(trained), int(trained.step)


def released_base(experiment: Experiment, path: str) -> state.Base:
    """Load a model of the released PyTorch program, ready to be personalized.

    Its file has no loss normalisers, so they start as in training (`normaliser_start`).
    """
    net, size = experiment.net, experiment.image_size
    pictures = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), pictures, pictures)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    loaded = convert.load_model(path, empty)
    normalisers = np.ones(experiment.config.loss.levels + 1, np.float32)
    if experiment.task.needs_features:
        features = experiment.features
        known = features.normalisers is not None
        clips = [] if known else sources.load_clips(experiment.data, "train")
        normalisers = normaliser_start(experiment, features, clips)
    return state.Base(loaded["params"], loaded["batch_stats"], jnp.asarray(normalisers))


def check_network(config: Config, stored: dict, where: str | pathlib.Path) -> None:
    """Raise ValueError if a model would run as a different network than it was trained as.

    Shapes alone don't show this: a change of crop or colours leaves them the same. The features of
    the loss are compared as well, because its normalisers belong to them.
    """
    left_out = ("init", *identity.NOT_THE_MODEL["model"])
    fields = {
        "model": [k for k in stored["model"] if k not in left_out],
        "loss": [
            k for k in ("levels", "features", "supervised", "temperature") if k in stored["loss"]
        ],
    }
    joints = [skeletons.of_config(each).joints for each in (config, stored)]
    if joints[0] != joints[1]:
        raise ValueError(
            f"the config's joints are {', '.join(joints[0])}, but the model in {where} has "
            f"{', '.join(joints[1])}: give the project or config that it was trained with."
        )

    def plain(value):  # compare files by name, as in `trained_on`
        return pathlib.PurePath(value).name if isinstance(value, str) else value

    def in_json(part, names):  # JSON has no tuples
        return json.loads(json.dumps({name: part[name] for name in names}))

    for part, names in fields.items():
        now, then = in_json(config[part], names), in_json(stored[part], names)
        for name in names:
            if plain(now[name]) != plain(then[name]):
                raise ValueError(
                    f"config.{part}.{name} is {now[name]}, but the model in {where} has "
                    f"{then[name]}: give the config that it was trained with."
                )
