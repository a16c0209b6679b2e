"""The states of training and personalization, as pytrees, and which parameters train."""

import itertools
import re
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

Params = Any  # nested dict of arrays, by module
Flat = Any  # dict of arrays by path

# Freeze rules: ordered (matcher, trainable), the first match wins. A matcher is a regular
# expression on the parameter's path, or a function (path, all paths) -> whether it matches.
Matcher = str | Callable[[str, Container[str]], bool]
Rules = Sequence[tuple[Matcher, bool]]
STATISTICS = "batch_stats/"  # prefix of the paths of batch statistics in a delta


def norms(path: str, paths: Container[str]) -> bool:
    """Return whether a parameter is the scale or shift of a normalisation layer.

    Layer names don't matter: any other layer that has a bias has a kernel as well.

    Args:
      path: path of the parameter, for example "encoder/bn1/scale".
      paths: paths of all parameters.
    """
    module, _, leaf = path.rpartition("/")
    return leaf in ("scale", "bias") and f"{module}/kernel" not in paths


SUPERVISED = r"^(decoder|supervised_head)/"
RULES = {
    # As the released program does: every convolution, including the renderer's.
    "reference": ((SUPERVISED, False), (norms, False), (r"", True)),
    # As the paper's text says: only the encoder phi and the head psi_self.
    "paper": (
        (SUPERVISED, False),
        (norms, False),
        (r"^(encoder|self_head|rotation_head)/", True),
        (r"", False),
    ),
    # Only scales and shifts of normalisation layers, as in other test-time adaptation methods.
    "norms": ((SUPERVISED, False), (norms, True), (r"", False)),
}


class NotFinite(ArithmeticError):
    """Training or personalization produced NaN or infinity."""


class TrainState(flax.struct.PyTreeNode):
    """The state of joint training.

    Attributes:
      step: number of updates done, int32.
      params, batch_stats: the variables of `PoseNet`.
      opt_state: the optimizer's state.
      normalisers: running means of the reconstruction loss [levels + 1].
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    normalisers: jax.Array


class Base(flax.struct.PyTreeNode):
    """A trained model, from which personalization starts; it never changes."""

    params: Params
    batch_stats: Params
    normalisers: jax.Array


class Adaptation(flax.struct.PyTreeNode):
    """The state of one subject's adaptation.

    Attributes:
      step: number of updates done, including those before a reset, int32.
      delta: differences to the base by path. They cover the trainable parameters, and batch
        statistics (paths that begin with `STATISTICS`).
      opt_state: Adam's moments for the parameters in `delta`.
      normalisers: running means of the reconstruction loss.
      loss: loss of the last update, computed before it; NaN before the first update, and for
        methods without a loss.
      kept: the adaptation method's own state, see `methods`.
    """

    step: jax.Array
    delta: Flat
    opt_state: optax.OptState
    normalisers: jax.Array
    loss: jax.Array
    kept: Any = ()


def split(params: Params, rules: Rules) -> tuple[Flat, Flat]:
    """Split parameters into trainable and frozen ones.

    Args:
      params: the network's parameters.
      rules: (matcher, trainable) pairs, of which the first match counts.

    Returns:
      Both parts, flat by path, for example "encoder/conv1/kernel".

    Raises:
      ValueError: no rule matches a parameter.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    parts: tuple[Flat, Flat] = ({}, {})
    for path, value in flat.items():
        decision = next((train for rule, train in rules if _matches(rule, path, flat)), None)
        if decision is None:
            raise ValueError(f"no freeze rule matches parameter {path!r}: end with ('', False).")
        parts[0 if decision else 1][path] = value
    return parts


def _matches(matcher: Matcher, path: str, paths: Container[str]) -> bool:
    if isinstance(matcher, str):
        return re.search(matcher, path) is not None
    return matcher(path, paths)


def parts(delta: Flat) -> tuple[Flat, Flat]:
    """Return the parts of a delta for parameters and for batch statistics, with the same paths."""
    of_statistics = {p: change for p, change in delta.items() if p.startswith(STATISTICS)}
    return {p: change for p, change in delta.items() if p not in of_statistics}, of_statistics


def adapted(base: Base, delta: Flat) -> dict[str, Params]:
    """Return the variables of the personalized network, for `PoseNet.apply`.

    Args:
      base: the model before personalization.
      delta: the difference that adaptation adds to it, by path.
    """
    of_params, of_statistics = parts(delta)
    params, statistics = _add(base.params, of_params), base.batch_stats
    if of_statistics:
        short = {path.removeprefix(STATISTICS): v for path, v in of_statistics.items()}
        statistics = _add(statistics, short)
    return {"params": params, "batch_stats": statistics}


def adapted_base(base: Base, delta: Flat) -> Base:
    """Return the personalized network as a base model.

    Args:
      base: the model before personalization.
      delta: the difference that adaptation adds to it, by path.
    """
    return base.replace(**adapted(base, delta))


def by_path(base: Base) -> Flat:
    """Return all arrays that a delta may change, by their paths in a delta."""
    statistics = traverse_util.flatten_dict(base.batch_stats, sep="/")
    return {
        **traverse_util.flatten_dict(base.params, sep="/"),
        **{STATISTICS + path: value for path, value in statistics.items()},
    }


def _add(tree: Params, changes: Flat) -> Params:
    flat = traverse_util.flatten_dict(tree, sep="/")
    changed = {path: flat[path] + change for path, change in changes.items()}
    return traverse_util.unflatten_dict({**flat, **changed}, sep="/")


def start_adaptation(base: Base, rules: Rules, tx: optax.GradientTransformation) -> Adaptation:
    """Return a subject's state before its first frame: a zero delta and empty moments.

    Args:
      base: the model to adapt.
      rules: which parameters train, see `split`.
      tx: the optimizer.
    """
    trainable, _ = split(base.params, rules)
    delta = jax.tree.map(jnp.zeros_like, trainable)
    step, loss = jnp.zeros((), jnp.int32), jnp.full_like(base.normalisers[0], jnp.nan)
    return Adaptation(step, delta, tx.init(delta), base.normalisers, loss)


class Stage(NamedTuple):
    """A stage of joint training.

    Attributes:
      steps: number of updates.
      learning_rate: learning rate at the start of the stage.
      self_weight: lambda of Eq. 10; 0 leaves out the self-supervised half.
      decay: "constant", or "cosine" down to zero at the end of the stage.
    """

    steps: int
    learning_rate: float
    self_weight: float
    decay: str = "constant"


DECAYS = {
    "constant": lambda stage: optax.constant_schedule(stage.learning_rate),
    "cosine": lambda stage: optax.cosine_decay_schedule(stage.learning_rate, stage.steps),
}


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """Return the stage of update `step`, counted from 0.

    Args:
      stages: the stages of the training.
      step: index of the update.
    """
    ends = itertools.accumulate(stage.steps for stage in stages)
    return next((stage for stage, end in zip(stages, ends, strict=True) if step < end), stages[-1])


def schedule(stages: Sequence[Stage]) -> optax.Schedule:
    """Return the learning rate as a function of the step.

    Raises:
      ValueError: the decay of a stage is unknown.
    """
    for stage in stages:
        if stage.decay not in DECAYS:
            raise ValueError(f"decay is {stage.decay!r}, expected one of {tuple(DECAYS)}.")
    ends = list(itertools.accumulate(stage.steps for stage in stages))
    return optax.join_schedules([DECAYS[stage.decay](stage) for stage in stages], ends[:-1])


def adam(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Return Adam as torch defines it, without weight decay (published program)."""
    return optax.adam(learning_rate, b1=0.9, b2=0.999, eps=1e-8)


def adamw(learning_rate: optax.ScalarOrSchedule, decay: float) -> optax.GradientTransformation:
    """Return Adam with decoupled weight decay of kernels; biases, scales and queries don't decay.

    Args:
      learning_rate: a number, or a schedule.
      decay: share of each kernel that is subtracted at an update, times the learning rate.
    """

    def kernels(params):
        flat = traverse_util.flatten_dict(params, sep="/")
        decays = {path: path.endswith("kernel") for path in flat}
        return traverse_util.unflatten_dict(decays, sep="/")

    return optax.adamw(learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=decay, mask=kernels)
