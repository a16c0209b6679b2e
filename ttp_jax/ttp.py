"""Test-time personalization of ONE subject (paper section 3.2).

Frames come in chunks of any length. Everything that is carried from one chunk to the next is one
value, `Subject`, so files, resumed runs and cameras use the same code. Nothing here knows about
labels, files or other subjects: `parallel.over_subjects` maps these functions over many subjects.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ttp_jax import deprecation, geometry, memory, methods, ranges, state, steps, tasks
from ttp_jax.crops import cut as cut
from ttp_jax.crops import offline_pairs as offline_pairs
from ttp_jax.crops import online_pairs as online_pairs
from ttp_jax.frames import Frames
from ttp_jax.memory import Memory
from ttp_jax.methods import Tools as Tools
from ttp_jax.models.pose import PoseNet
from ttp_jax.models.vgg import VGG16
from ttp_jax.settings import Settings as Settings
from ttp_jax.settings import settings_from as settings_from


class Subject(flax.struct.PyTreeNode):
    """The state of one subject's personalization, carried from frame to frame.

    Attributes:
      adaptation: the change to the model.
      memory: past frames to draw from.
      key: the subject's random key; a frame's draws depend only on it and the frame index.
      frame: index of the next frame (of the next update while `adapt_offline` runs), int32.
      period: index of the period (of `Settings.reset_every` frames) in which the adaptation last
        started, int32.
    """

    adaptation: state.Adaptation
    memory: Memory
    key: jax.Array
    frame: jax.Array
    period: jax.Array


def check_method(method: str, settings: Settings) -> None:
    """Raise ValueError if the network can't be personalized, or not with these settings.

    Args:
      method: the network's `PoseNet.method`.
      settings: how to personalize.
    """
    task = tasks.of(method, settings.equivariance)
    methods.of(settings.method).check(task, settings)


def tools(model: PoseNet, settings: Settings) -> Tools:
    """Bind network, optimizer and settings.

    Args:
      model: the network.
      settings: how to personalize.

    Raises ValueError for a setting outside its range (`ranges`).
    """
    ranges.check_settings(settings)
    return Tools(model, state.adam(settings.learning_rate), settings)


def start(
    base: state.Base,
    key: jax.Array,
    *,
    tools: Tools,
    capacity: int,
    shape: tuple[int, int],
    turned: bool = False,
) -> Subject:
    """Return a subject's state before its first frame.

    It shares no arrays with `base` or the caller, so compiled programs may reuse its buffers.

    Args:
      base: the trained model.
      key: the subject's random key.
      tools: see `tools`.
      capacity: number of frames to remember.
      shape: height and width of the frames' windows.
      turned: whether crops are rotated with the person.
    """
    adaptation = tools.method.start(base, tools)
    adaptation = adaptation.replace(normalisers=jnp.copy(base.normalisers))
    frame, period = (jnp.zeros((), jnp.int32) for _ in range(2))
    past = memory.empty(capacity, shape, turned)
    return Subject(adaptation, past, jnp.copy(key), frame, period)


def online(
    subject: Subject, base: state.Base, vgg: VGG16 | None, frames: Frames, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Update with each frame as the target, then predict it.

    Sources are drawn from the remembered frames s <= t, including the current one. Pair 0 is not
    augmented. Methods without a source draw their frames in the same way, the current one first.
    A video may be cut into chunks anywhere.

    Args:
      subject: its state.
      base: the trained model.
      vgg: features of the perceptual loss; None if `Tools.needs_features` is false.
      frames: the next n frames.
      tools: see `tools`.

    Returns:
      The new state; joints [n, K, 2] in image pixels and confidence [n, K].
    """
    settings = tools.settings

    def body(subject, frame):
        key = jax.random.fold_in(subject.key, subject.frame)
        adaptation, past, period = subject.adaptation, subject.memory, subject.period
        if settings.reset_every:  # start over, as for a new video; padding never triggers it
            fresh = tools.method.start(base, tools)
            fresh = fresh.replace(step=adaptation.step)  # counts all updates
            if settings.keep_normalisers:
                fresh = fresh.replace(normalisers=adaptation.normalisers)
            now = subject.frame // settings.reset_every
            back = frame.valid & (now > period)
            adaptation = jax.tree.map(lambda a, b: jnp.where(back, b, a), adaptation, fresh)
            past = past.replace(seen=jnp.where(back, 0, past.seen))
            period = jnp.where(back, now, period)
        past = memory.remember(past, frame, jax.random.fold_in(key, 2))

        def update(adaptation):
            now = jax.tree.map(lambda leaf: leaf[None], frame)
            drawn = tools.method.draw(key, past, now, settings)
            return _update(adaptation, base, vgg, drawn, tools=tools)

        adaptation = jax.lax.cond(frame.valid, update, lambda a: a, adaptation)
        after = Subject(adaptation, past, subject.key, subject.frame + 1, period)
        return after, _predict_frame(base, adaptation.delta, frame, tools)

    return jax.lax.scan(body, subject, frames)


def remember_frames(subject: Subject, frames: Frames) -> Subject:
    """Remember the next frames without an update; call it before `adapt_offline`.

    Args:
      subject: its state so far.
      frames: the next n frames.
    """

    def body(subject, frame):
        key = jax.random.fold_in(jax.random.fold_in(subject.key, subject.frame), 2)
        past = memory.remember(subject.memory, frame, key)
        return subject.replace(memory=past, frame=subject.frame + 1), None

    return jax.lax.scan(body, subject, frames)[0]


def adapt_offline(
    subject: Subject, base: state.Base, vgg: VGG16 | None, *, tools: Tools, count: int
) -> Subject:
    """Make updates on pairs, or single frames, drawn from all remembered frames.

    Update i is skipped unless i is below the number of valid frames seen, because the paper makes
    as many updates as there are frames. `subject.frame` counts updates here, so `rewind` the
    subject after `remember_frames`.

    Args:
      subject: its state, with all frames remembered.
      base: the model that is adapted.
      vgg: features of the perceptual loss; None if the task needs none.
      tools: network, optimizer and settings.
      count: number of updates.
    """
    settings, past = tools.settings, subject.memory

    def body(carry, _):
        adaptation, i = carry

        def update(adaptation):
            key = jax.random.fold_in(subject.key, i)
            drawn = tools.method.draw(key, past, None, settings)
            return _update(adaptation, base, vgg, drawn, tools=tools)

        adaptation = jax.lax.cond(i < past.seen, update, lambda a: a, adaptation)
        return (adaptation, i + 1), None

    carry = subject.adaptation, subject.frame
    (adaptation, i), _ = jax.lax.scan(body, carry, length=count)
    return subject.replace(adaptation=adaptation, frame=i)


def predict_frames(
    subject: Subject, base: state.Base, frames: Frames, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Predict the next frames without an update.

    Args:
      subject: its state.
      base: the model that was adapted.
      frames: the next n frames.
      tools: network, optimizer and settings.

    Returns:
      As `online`.
    """
    predicted = predict(base, subject.adaptation.delta, frames, tools=tools)
    return subject.replace(frame=subject.frame + len(frames.valid)), predicted


def predict(
    base: state.Base, delta: state.Flat, frames: Frames, *, tools: Tools
) -> tuple[jax.Array, jax.Array]:
    """Predict frames with base + delta.

    Args:
      base: the model.
      delta: the difference that adaptation adds to it, by path; {} for none.
      frames: the n frames to predict.
      tools: network and settings.

    Returns:
      Joints [n, K, 2] in image pixels, and the confidence [n, K].
    """
    return jax.lax.map(lambda frame: _predict_frame(base, delta, frame, tools), frames)


def predict_and_remember(
    subject: Subject, base: state.Base, frames: Frames, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Predict the next frames and remember them, without an update.

    Args:
      subject: its state.
      base: the model that is adapted.
      frames: the next n frames.
      tools: network, optimizer and settings.

    Returns:
      As `online`.
    """
    _, predicted = predict_frames(subject, base, frames, tools=tools)
    return remember_frames(subject, frames), predicted


def personalize(
    base: state.Base, vgg: VGG16 | None, frames: Frames, key: jax.Array, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Personalize to a whole subject in one call, online or offline as the settings say.

    This is the function to map with `parallel.over_subjects`.

    Args:
      base: the model to adapt.
      vgg: features of the perceptual loss; None if the task needs none.
      frames: all n frames of the subject.
      key: the subject's random key.
      tools: network, optimizer and settings.

    Returns:
      As `online`.
    """
    count, height, width, _ = frames.pictures.shape
    turned = frames.crops.shape[-1] == 4
    subject = start(base, key, tools=tools, capacity=count, shape=(height, width), turned=turned)
    if tools.settings.scenario == "online":
        return online(subject, base, vgg, frames, tools=tools)
    subject = rewind(remember_frames(subject, frames))
    subject = adapt_offline(subject, base, vgg, tools=tools, count=count)
    return predict_frames(rewind(subject), base, frames, tools=tools)


def rewind(subject: Subject) -> Subject:
    """Return the subject with its frame (or update) index at 0, for the next pass."""
    return subject.replace(frame=jnp.zeros_like(subject.frame))


def _update(adaptation, base, vgg, drawn, *, tools):
    def one(_, adaptation):
        return tools.method.update(adaptation, base, vgg, drawn, tools)

    if tools.settings.iterations == 1:
        return one(0, adaptation)
    return jax.lax.fori_loop(0, tools.settings.iterations, one, adaptation)


def check_finite(confidence: ArrayLike, settings: Settings | None = None) -> None:
    """Raise NotFinite if any prediction is NaN or infinite.

    Args:
      confidence: confidence of the predictions, any shape; leave out frames that could not be read.
      settings: the settings that the model was adapted with; None if it was not adapted.
    """
    if np.isfinite(confidence).all():
        return
    if settings is None:
        raise state.NotFinite(
            "the model predicts NaN before any adaptation: its file is damaged or its training "
            "diverged. Get the file again, or train again with a lower learning rate."
        )
    raise state.NotFinite(
        "personalization diverged to NaN: lower config.ttp.learning_rate "
        f"({settings.learning_rate}) "
        f"or config.ttp.iterations ({settings.iterations})."
    )


def _predict_frame(base, delta, frame, tools):
    settings = tools.settings
    alone = jax.tree.map(lambda leaf: leaf[None], frame)
    affine = geometry.crop_affine(alone.crops, settings.image_size)
    crops = cut(alone, jnp.zeros(1, jnp.int32), affine, settings)
    variables = state.adapted(base, delta)
    points, confidence = steps.predict(variables, crops, model=tools.model)
    return geometry.transform_points(geometry.invert_affine(affine), points)[0], confidence[0]


# Names used by the previous version.
__getattr__ = deprecation.names(
    __name__,
    {"watch": "remember_frames", "look": "predict_and_remember", "again": "rewind"},
)
