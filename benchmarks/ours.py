"""This project's side: the programs of the commands, compiled ahead of time."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import machine
from benchmarks.case import SELF_WEIGHT, Case, Side
from ttp_jax import parallel, state, steps, ttp
from ttp_jax.models.pose import normalize


class Program(NamedTuple):
    """A compiled function, the seconds to compile it, and XLA's numbers for it, see `Side`."""

    call: Callable
    seconds: float
    planned_bytes: int
    flops: float | None


class DoesNotFit(MemoryError):
    """A program needs more memory than is free, by XLA's plan."""


def compiled(case: Case, fn: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Program:
    """Trace and compile `fn` for `args`.

    Raises DoesNotFit if XLA plans for more memory than is free.
    """
    began = time.perf_counter()
    # On a GPU, jax multiplies float32 matrices in TF32 by default.
    exact = case.precision == "float32" and jax.default_backend() != "cpu"
    with jax.default_matmul_precision("highest" if exact else "default"):
        program = jax.jit(fn, donate_argnums=donate).lower(*args).compile()
    seconds = time.perf_counter() - began
    plan: Any = program.memory_analysis()
    needed = plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    free = machine.free_bytes()
    if free is not None and needed > free:
        raise DoesNotFit(f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")
    costs: Any = program.cost_analysis() or {}
    return Program(program, seconds, needed, costs.get("flops"))


def _side(run, *programs: Program) -> Side:
    """Return a side whose programs run one after the other."""
    flops = [program.flops for program in programs if program.flops is not None]
    return Side(
        run,
        sum(program.seconds for program in programs),
        max(program.planned_bytes for program in programs),
        sum(flops) if flops else None,
    )


def train(case: Case) -> Side:
    """Return a side that makes one update of joint training."""
    tx = state.adam(1e-3)
    # Copies, because the program reuses the memory of its arguments.
    base = jax.tree.map(jnp.copy, case.base)
    begin = jnp.zeros((), jnp.int32), base.params, base.batch_stats, tx.init(base.params)
    training = state.TrainState(*begin, base.normalisers)
    rest = case.batch, jax.random.key(0), case.vgg, jnp.float32(SELF_WEIGHT)
    step = functools.partial(steps.train_step, model=case.model, tx=tx)
    program = compiled(case, step, training, *rest, donate=(0,))

    def run():
        nonlocal training
        training, metrics = jax.block_until_ready(program.call(training, *rest))
        return float(metrics["self"])

    return _side(run, program)


def _start(case, tools):
    """Return a subject's state as a copy, because the programs reuse the memory of arguments."""
    count, height, width, _ = case.video.pictures.shape
    key, shape = jax.random.key(0), (height, width)
    begin = ttp.start(case.base, key, tools=tools, capacity=count, shape=shape)
    return jax.tree.map(jnp.copy, begin)


def online(case: Case) -> Side:
    """Return a side that adapts online; each run continues from the state of the previous run."""
    tools = case.tools("online")
    subject, rest = _start(case, tools), (case.base, case.vgg, case.video)
    program = compiled(
        case, functools.partial(ttp.online, tools=tools), subject, *rest, donate=(0,)
    )

    def run():
        nonlocal subject
        subject, _ = jax.block_until_ready(program.call(subject, *rest))
        return float(subject.adaptation.loss)

    return _side(run, program)


def offline(case: Case) -> Side:
    """Return a side that adapts offline: as many updates as frames, then all predictions."""
    tools, count = case.tools("offline"), len(case.video.valid)
    begin, models = _start(case, tools), (case.base, case.vgg)
    adapt = functools.partial(ttp.adapt_offline, tools=tools, count=count)
    predict = functools.partial(ttp.predict_frames, tools=tools)
    remembering = compiled(case, ttp.remember_frames, begin, case.video, donate=(0,))
    adapting = compiled(case, adapt, begin, *models, donate=(0,))
    predicting = compiled(case, predict, begin, case.base, case.video)

    def run():
        subject = remembering.call(jax.tree.map(jnp.copy, begin), case.video)
        subject = ttp.rewind(adapting.call(ttp.rewind(subject), *models))
        subject, _ = jax.block_until_ready(predicting.call(subject, case.base, case.video))
        return float(subject.adaptation.loss)

    return _side(run, remembering, adapting, predicting)


def subject(case: Case) -> Side:
    """Return a side that runs a whole subject online, from the base model."""
    solo = functools.partial(ttp.personalize, tools=case.tools("online"))
    return _subjects(case, solo, case.video, jax.random.key(0))


def subjects(case: Case, count: int, how: str) -> Side:
    """Return a side that runs `count` whole subjects online in one program.

    `how` is one of the ways of `over_subjects`. The subjects have equal pictures, which the program
    can't exploit, and different keys.
    """
    solo = functools.partial(ttp.personalize, tools=case.tools("online"))

    def every(base, vgg, videos, keys):
        return parallel.over_subjects(lambda v, k: solo(base, vgg, v, k), how=how)(videos, keys)

    videos = jax.tree.map(lambda a: jnp.stack([a] * count), case.video)
    return _subjects(case, every, videos, jax.vmap(jax.random.key)(jnp.arange(count)))


def _subjects(case, fn, videos, keys):
    args = case.base, case.vgg, videos, keys
    program = compiled(case, fn, *args)

    def run():
        subject, _ = jax.block_until_ready(program.call(*args))
        return float(subject.adaptation.loss.ravel()[0])

    return _side(run, program)


def inference(case: Case, count: int) -> Side:
    """Return a side that predicts the joints of `count` crops in one call."""
    variables = {"params": case.base.params, "batch_stats": case.base.batch_stats}
    pictures = normalize(case.batch["target"][:count])
    predict = functools.partial(steps.predict, model=case.model)
    program = compiled(case, predict, variables, pictures)

    def run():
        _, peaks = jax.block_until_ready(program.call(variables, pictures))
        return float(peaks.mean())

    return _side(run, program)
