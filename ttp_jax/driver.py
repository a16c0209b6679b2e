"""The compiled programs of personalization, which take chunks of frames; compiled only here.

Batch runs, the Python API and cameras all use them:

    programs = driver.programs(net, settings)          # cached by network and settings
    subject = programs.start(base, key, capacity, shape)
    subject, found = programs.step(base, features, subject, frames)        # online
    joints, confidence = found

    subject, _ = programs.remember(base, features, subject, frames)        # offline: all frames,
    subject, _ = programs.adapt(base, features, ttp.rewind(subject), None) # then updates,
    subject, found = programs.predict(base, features, ttp.rewind(subject), frames)

Each program reuses (donates) the buffers of the subject that it gets: use the one that it returns.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ttp_jax import parallel, state, ttp
from ttp_jax.frames import Frames
from ttp_jax.models.pose import PoseNet

CHUNK = 8  # frames, or updates, per call
ONE = "one"

Program = Callable[..., tuple[ttp.Subject, Any]]  # base, features, subject, frames


class Layout(NamedTuple):
    """How many subjects run in one call, and where.

    Attributes:
      how: "one" for a single subject, without an axis [N]; otherwise as in
        `parallel.over_subjects`.
      chunk: number of subjects side by side if `how` is "chunks".
      devices: number of devices that share [N]; 0 for the default device alone.
    """

    how: str = ONE
    chunk: int | None = None
    devices: int = 0


class Programs(NamedTuple):
    """The compiled programs of a network and its settings.

    Attributes:
      tools: network, optimizer and settings.
      layout: layout of the subjects; unless it is "one", subjects, frames and results have an axis
        [N].
      step: update on each of the next frames, then predict it (`ttp.online`).
      remember: remember the next frames (`ttp.remember_frames`); returns the number of valid frames
        so far.
      adapt: make the next `CHUNK` updates on the remembered frames (`ttp.adapt_offline`); frames
        are None; returns the last loss.
      predict: predict the next frames (`ttp.predict_frames`).
      predict_and_remember: predict and remember the next frames, without an update
        (`ttp.predict_and_remember`).
    """

    tools: ttp.Tools
    layout: Layout
    step: Program
    remember: Program
    adapt: Program
    predict: Program
    predict_and_remember: Program

    def start(
        self,
        base: state.Base,
        key: jax.Array,
        capacity: int,
        shape: tuple[int, int],
        turned: bool = False,
    ) -> ttp.Subject:
        """Return a subject's state before its first frame, see `ttp.start`.

        Args:
          base: the model to adapt.
          key: the subject's random key.
          capacity: number of frames to remember.
          shape: height and width of the windows.
          turned: whether crops are rotated with the person.
        """
        return ttp.start(base, key, tools=self.tools, capacity=capacity, shape=shape, turned=turned)


def programs(net: PoseNet, settings: ttp.Settings, layout: Layout = Layout()) -> Programs:
    """Return the programs of a network; equal arguments share them, and compile once.

    Args:
      net: the network.
      settings: how to personalize.
      layout: how many subjects run in one call, and where.
    """
    return _programs(net, settings, layout)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=32)
def _programs(net: PoseNet, settings: ttp.Settings, layout: Layout) -> Programs:
    tools = ttp.tools(net, settings)

    def step(base, features, subject, frames):
        return ttp.online(subject, base, features, frames, tools=tools)

    def remember(base, features, subject, frames):
        del base, features
        subject = ttp.remember_frames(subject, frames)
        return subject, (subject.memory.seen,)

    def adapt(base, features, subject, frames):
        del frames
        subject = ttp.adapt_offline(subject, base, features, tools=tools, count=CHUNK)
        return subject, (subject.adaptation.loss,)

    def predict(base, features, subject, frames):
        del features
        return ttp.predict_frames(subject, base, frames, tools=tools)

    def predict_and_remember(base, features, subject, frames):
        del features
        return ttp.predict_and_remember(subject, base, frames, tools=tools)

    compiled = (
        _compiled(fn, layout) for fn in (step, remember, adapt, predict, predict_and_remember)
    )
    return Programs(tools, layout, *compiled)


def _compiled(fn: Program, layout: Layout) -> Program:
    if layout.how != ONE:
        devices = jax.local_devices()[: layout.devices]
        mesh = parallel.subject_mesh(devices) if devices else None
        fn = parallel.over_subjects(fn, how=layout.how, chunk=layout.chunk, shared=2, mesh=mesh)
    return jax.jit(fn, donate_argnums=2)


def predictor(net: PoseNet, image_size: int, bgr: bool) -> Callable[[state.Base, Frames], Any]:
    """Return the program (base, frames) -> joints, confidence, which is the same for all settings.

    Args:
      net: the network.
      image_size: side of its crops in pixels.
      bgr: channel order, see `models.pose.normalize`.
    """
    return _predictor(net, ttp.Settings(image_size=image_size, bgr=bgr))  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=8)
def _predictor(net: PoseNet, settings: ttp.Settings) -> Callable[[state.Base, Frames], Any]:
    tools = ttp.tools(net, settings)
    return jax.jit(lambda base, frames: ttp.predict(base, {}, frames, tools=tools))


def forward(net: PoseNet) -> Callable[..., Any]:
    """Return the compiled network: (variables, target, source) -> `pose.Output`."""
    return _forward(net)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=8)
def _forward(net: PoseNet) -> Callable[..., Any]:
    return jax.jit(net.apply)
