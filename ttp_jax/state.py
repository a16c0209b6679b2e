"""What a run carries along, as pytrees of arrays, and which parameters train."""

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
STATISTICS = "batch_stats/"  # begins the paths of batch statistics in a delta


def norms(path: str, paths: Container[str]) -> bool:
    """Whether a parameter is a normalisation layer's scale or shift, whatever the layer's name.

    Other layers that have a bias have a kernel beside it.

    Args:
      path: of the parameter, "encoder/bn1/scale".
      paths: of all parameters.
    """
    module, _, leaf = path.rpartition("/")
    return leaf in ("scale", "bias") and f"{module}/kernel" not in paths


SUPERVISED = r"^(decoder|supervised_head)/"
RULES = {
    # What the released program does: every convolution, the renderer's included.
    "reference": ((SUPERVISED, False), (norms, False), (r"", True)),
    # What the paper's text says: only the encoder phi and the head psi_self.
    "paper": (
        (SUPERVISED, False),
        (norms, False),
        (r"^(encoder|self_head|rotation_head)/", True),
        (r"", False),
    ),
    # Scales and shifts of the normalisation layers alone, as in other test-time adaptation.
    "norms": ((SUPERVISED, False), (norms, True), (r"", False)),
}


class NotFinite(ArithmeticError):
    """Training or personalization met a NaN or an infinity."""


class TrainState(flax.struct.PyTreeNode):
    """Everything joint training changes.

    Attributes:
      step: updates done, int32.
      params, batch_stats: of `PoseNet`.
      opt_state: of the optimizer.
      normalisers: running means of the reconstruction loss [levels + 1].
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    normalisers: jax.Array


class Base(flax.struct.PyTreeNode):
    """A trained model, as personalization starts from it: nothing in it ever changes."""

    params: Params
    batch_stats: Params
    normalisers: jax.Array


class Adaptation(flax.struct.PyTreeNode):
    """What personalization changes for one subject.

    Attributes:
      step: updates done, int32; also those before a reset.
      delta: what is added to the base, by path: to parameters, of the trainable ones only, and to
        batch statistics, whose paths begin with `STATISTICS`.
      opt_state: Adam's moments of the parameters' part.
      normalisers: running means of the reconstruction loss.
      loss: the last update's loss, before the update; NaN before the first, and of methods that
        have none.
      kept: what else the adaptation method keeps from update to update, see `methods`.
    """

    step: jax.Array
    delta: Flat
    opt_state: optax.OptState
    normalisers: jax.Array
    loss: jax.Array
    kept: Any = ()


def split(params: Params, rules: Rules) -> tuple[Flat, Flat]:
    """Part parameters into trainable and frozen ones.

    Args:
      params: of the network.
      rules: (matcher, trainable), the first that matches counts.

    Returns:
      Both parts, flat by path "encoder/conv1/kernel".

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
    """Return what a delta adds to parameters and what it adds to batch statistics.

    Both keep their paths.
    """
    of_statistics = {p: change for p, change in delta.items() if p.startswith(STATISTICS)}
    return {p: change for p, change in delta.items() if p not in of_statistics}, of_statistics


def adapted(base: Base, delta: Flat) -> dict[str, Params]:
    """The personalized network's variables, for `PoseNet.apply`.

    Args:
      base: the model before personalization.
      delta: what adaptation adds to it, by path.
    """
    of_params, of_statistics = parts(delta)
    params, statistics = _add(base.params, of_params), base.batch_stats
    if of_statistics:
        short = {path.removeprefix(STATISTICS): v for path, v in of_statistics.items()}
        statistics = _add(statistics, short)
    return {"params": params, "batch_stats": statistics}


def adapted_base(base: Base, delta: Flat) -> Base:
    """The personalized network as a model to start from.

    Args:
      base: the model before personalization.
      delta: what adaptation adds to it, by path.
    """
    return base.replace(**adapted(base, delta))


def by_path(base: Base) -> Flat:
    """All that a delta may add to, by the paths of a delta."""
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
    """A subject's state before its first frame: base parameters, empty moments.

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
    """A piece of joint training.

    Attributes:
      steps: updates.
      learning_rate: at its start.
      self_weight: lambda of Eq. 10; 0 leaves the self-supervised half out.
      decay: "constant", or "cosine" down to zero at its end.
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
    """The stage of update number `step`, counted from 0.

    Args:
      stages: of the training.
      step: number of the update.
    """
    ends = itertools.accumulate(stage.steps for stage in stages)
    return next((stage for stage, end in zip(stages, ends, strict=True) if step < end), stages[-1])


def schedule(stages: Sequence[Stage]) -> optax.Schedule:
    """Learning rate by step.

    Raises:
      ValueError: there is no stage.
    """
    for stage in stages:
        if stage.decay not in DECAYS:
            raise ValueError(f"decay is {stage.decay!r}, expected one of {tuple(DECAYS)}.")
    ends = list(itertools.accumulate(stage.steps for stage in stages))
    return optax.join_schedules([DECAYS[stage.decay](stage) for stage in stages], ends[:-1])


def adam(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam as torch defines it, without weight decay (published program)."""
    return optax.adam(learning_rate, b1=0.9, b2=0.999, eps=1e-8)


def adamw(learning_rate: optax.ScalarOrSchedule, decay: float) -> optax.GradientTransformation:
    """The same with decoupled weight decay of kernels; biases, scales and queries stay free.

    Args:
      learning_rate: a number, or a schedule.
      decay: of kernels, a share of them each update, times the learning rate.
    """

    def kernels(params):
        flat = traverse_util.flatten_dict(params, sep="/")
        decays = {path: path.endswith("kernel") for path in flat}
        return traverse_util.unflatten_dict(decays, sep="/")

    return optax.adamw(learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=decay, mask=kernels)
