"""The compiled programs of personalization, on chunks of frames: the only place that compiles them.

A batch of subjects, one call from Python and a camera all go through these:

    programs = driver.programs(net, settings)          # cached: the same network, the same programs
    subject = programs.start(base, key, capacity, shape)
    subject, (joints, peaks) = programs.step(base, features, subject, frames)        # online
    subject = programs.remember(base, features, subject, frames)[0]                  # offline: all,
    subject, _ = programs.adapt(base, features, ttp.again(subject), None)            # then updates,
    subject, (joints, peaks) = programs.predict(base, features, ttp.again(subject), frames)

Each takes over the subject that it is given: use the one that it returns.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ttp_jax import parallel, state, ttp
from ttp_jax.frames import Frames
from ttp_jax.models.pose import PoseNet

CHUNK = 8  # frames, or updates, of one call
ONE = "one"

Program = Callable[..., tuple[ttp.Subject, Any]]  # base, features, subject, frames


class Layout(NamedTuple):
    """How many subjects run in one call, and where.

    Attributes:
      how: "one": a single subject, without an axis [N]; else of `parallel.over_subjects`.
      chunk: subjects side by side where `how` is "chunks".
      devices: that share [N]; 0 for the default device alone.
    """

    how: str = ONE
    chunk: int | None = None
    devices: int = 0


class Programs(NamedTuple):
    """What a network and its settings are compiled to.

    Attributes:
      tools: network, optimizer and settings.
      layout: of the subjects; with an axis [N] on subjects, frames and results unless "one".
      step: update on each of the next frames, then predict it (`ttp.online`).
      remember: take in the next frames (`ttp.watch`); returns how many were valid so far.
      adapt: the next `CHUNK` updates on what is remembered (`ttp.adapt_offline`); frames are None;
        returns the last loss.
      predict: predict the next frames (`ttp.predict_frames`).
      look: take in the next frames and predict them, without an update (`ttp.look`).
    """

    tools: ttp.Tools
    layout: Layout
    step: Program
    remember: Program
    adapt: Program
    predict: Program
    look: Program

    def start(
        self,
        base: state.Base,
        key: jax.Array,
        capacity: int,
        shape: tuple[int, int],
        turned: bool = False,
    ) -> ttp.Subject:
        """One subject before its first frame, see `ttp.start`."""
        return ttp.start(base, key, tools=self.tools, capacity=capacity, shape=shape, turned=turned)


def programs(net: PoseNet, settings: ttp.Settings, layout: Layout = Layout()) -> Programs:
    """The programs of a network; those of equal arguments are made, and compiled, once."""
    return _programs(net, settings, layout)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=32)
def _programs(net: PoseNet, settings: ttp.Settings, layout: Layout) -> Programs:
    tools = ttp.tools(net, settings)

    def step(base, features, subject, frames):
        return ttp.online(subject, base, features, frames, tools=tools)

    def remember(base, features, subject, frames):
        del base, features
        subject = ttp.watch(subject, frames)
        return subject, (subject.memory.seen,)

    def adapt(base, features, subject, frames):
        del frames
        subject = ttp.adapt_offline(subject, base, features, tools=tools, count=CHUNK)
        return subject, (subject.adaptation.loss,)

    def predict(base, features, subject, frames):
        del features
        return ttp.predict_frames(subject, base, frames, tools=tools)

    def look(base, features, subject, frames):
        del features
        return ttp.look(subject, base, frames, tools=tools)

    compiled = (_compiled(fn, layout) for fn in (step, remember, adapt, predict, look))
    return Programs(tools, layout, *compiled)


def _compiled(fn: Program, layout: Layout) -> Program:
    if layout.how != ONE:
        devices = jax.local_devices()[: layout.devices]
        mesh = parallel.subject_mesh(devices) if devices else None
        fn = parallel.over_subjects(fn, how=layout.how, chunk=layout.chunk, shared=2, mesh=mesh)
    return jax.jit(fn, donate_argnums=2)


def predictor(net: PoseNet, image_size: int, bgr: bool) -> Callable[[state.Base, Frames], Any]:
    """The program (base, frames) -> joints, peaks; settings of adaptation don't touch it."""
    return _predictor(net, ttp.Settings(image_size=image_size, bgr=bgr))  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=8)
def _predictor(net: PoseNet, settings: ttp.Settings) -> Callable[[state.Base, Frames], Any]:
    tools = ttp.tools(net, settings)
    return jax.jit(lambda base, frames: ttp.predict(base, {}, frames, tools=tools))


def forward(net: PoseNet) -> Callable[..., Any]:
    """The network itself, compiled: (variables, target, source) -> `pose.Output`."""
    return _forward(net)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=8)
def _forward(net: PoseNet) -> Callable[..., Any]:
    return jax.jit(net.apply)
