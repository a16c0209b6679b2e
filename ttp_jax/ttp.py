"""Test-time personalization of ONE subject (paper section 3.2).

Frames come in chunks of any length, and everything that is carried from one to the next is one
value, `Subject`: a file, a run that goes on where it was stopped and a camera are the same code.
Nothing here knows of labels, files or of other subjects: `parallel.over_subjects` lifts these
functions to many.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ttp_jax import augment, geometry, memory, state, steps
from ttp_jax.memory import Frames, Memory
from ttp_jax.models.pose import PoseNet, normalize
from ttp_jax.models.vgg import VGG16


class Subject(flax.struct.PyTreeNode):
    """All that a subject's personalization carries from frame to frame.

    Attributes:
      adaptation: what has changed of the model.
      memory: frames to draw from.
      key: of the subject; what a frame draws depends on it and the frame's index only.
      frame: index of the next frame (of the next update while `adapt_offline` runs), int32.
      period: of `Settings.reset_every` frames, the one that the adaptation began in, int32.
    """

    adaptation: state.Adaptation
    memory: Memory
    key: jax.Array
    frame: jax.Array
    period: jax.Array


class Settings(NamedTuple):
    """How to personalize; hashable, so that it can be static under `jit`.

    Attributes:
      scenario: "online" or "offline".
      iterations: updates per frame, on the same pairs (paper Table 2).
      batch_size: pairs per update.
      learning_rate: of Adam, constant.
      reset_every: online only: begin anew, with nothing remembered, after every n frames, with the
        first that is valid; 0 never within a subject. Subjects always start from what the caller
        hands over.
      keep_normalisers: beginning anew leaves the running means of the loss as they are.
      rules: freeze rules, a key of `state.RULES`.
      ranges: of the augmentation.
      image_size: crop pixels.
      bgr: channel order, see `normalize`.
    """

    scenario: str = "online"
    iterations: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-4
    reset_every: int = 0
    keep_normalisers: bool = False
    rules: str = "reference"
    ranges: augment.Ranges = augment.Ranges()
    image_size: int = 128
    bgr: bool = False


def settings_from(
    fields: Mapping[str, Any], scenario: str, *, image_size: int, bgr: bool
) -> Settings:
    """The settings that the fields of `config.ttp` describe.

    Raises ValueError for unknown rules, another reset than "subject", "never" or a number, or other
    normalisers than "reset" or "carried".
    """
    if fields["rules"] not in state.RULES:
        raise ValueError(f"config.ttp.rules must be one of {', '.join(state.RULES)}.")
    reset = str(fields["reset"])
    if not (reset in ("subject", "never") or reset.isdigit()):
        raise ValueError('config.ttp.reset must be "subject", "never" or a number of frames.')
    if fields["normalisers"] not in ("reset", "carried"):
        raise ValueError('config.ttp.normalisers must be "reset" or "carried".')
    moves = fields["rotation"], fields[f"{scenario}_rotation_prob"]
    return Settings(
        scenario=scenario,
        iterations=fields["iterations"],
        batch_size=fields["batch_size"],
        learning_rate=fields["learning_rate"],
        reset_every=int(reset) if reset.isdigit() else 0,
        keep_normalisers=fields["normalisers"] == "carried",
        rules=fields["rules"],
        ranges=augment.Ranges(*moves, fields["scale"], fields["flip_prob"]),
        image_size=image_size,
        bgr=bgr,
    )


def check_method(method: str, settings: Settings) -> None:
    """Raise ValueError for a network that can't be personalized, or not by these settings."""
    if method == "baseline":
        raise ValueError("a baseline has no self-supervised task: it can't be personalized.")
    if method == "rotation" and settings.ranges.rotation_prob > 0:
        raise ValueError(
            "quarter turns can't be told in pictures that are turned at random: the method "
            f'"rotation" needs --config.ttp.{settings.scenario}_rotation_prob=0 (for a model\'s '
            "file, when it is exported)."
        )


class Tools(NamedTuple):
    """The unchanging parts of personalization, bound once: static but for their arrays."""

    model: PoseNet
    tx: optax.GradientTransformation
    settings: Settings


def tools(model: PoseNet, settings: Settings) -> Tools:
    """Bind network, optimizer and settings."""
    return Tools(model, state.adam(settings.learning_rate), settings)


def start(
    base: state.Base, key: jax.Array, *, tools: Tools, capacity: int, shape: tuple[int, int]
) -> Subject:
    """A subject before its first frame.

    Nothing of it is also the base's or the caller's: programs may take over its buffers.

    Args:
      base: the trained model.
      key: of the subject.
      tools: see `tools`.
      capacity: frames to remember.
      shape: height and width of the frames' windows.
    """
    adaptation = state.start_adaptation(base, state.RULES[tools.settings.rules], tools.tx)
    adaptation = adaptation.replace(normalisers=jnp.copy(base.normalisers))
    frame, period = (jnp.zeros((), jnp.int32) for _ in range(2))
    return Subject(adaptation, memory.empty(capacity, shape), jnp.copy(key), frame, period)


def online(
    subject: Subject, base: state.Base, vgg: VGG16, frames: Frames, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Per frame: update with it as the target, then predict it.

    Sources are drawn from what is remembered of the frames s <= t, the current one included; pair 0
    is not augmented. A video may be cut into chunks anywhere.

    Args:
      subject: its state.
      base: the trained model.
      vgg: features of the perceptual loss.
      frames: the next n frames.
      tools: see `tools`.

    Returns:
      The new state; joints [n, K, 2] in picture pixels and peaks [n, K].
    """
    settings = tools.settings

    def body(subject, frame):
        key = jax.random.fold_in(subject.key, subject.frame)
        adaptation, past, period = subject.adaptation, subject.memory, subject.period
        if settings.reset_every:  # as if a new video began; not on frames that only fill a chunk
            fresh = state.start_adaptation(base, state.RULES[settings.rules], tools.tx)
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
            sources, affines = online_pairs(key, past, frame.crops, settings)
            alone = jax.tree.map(lambda leaf: leaf[None], frame)
            target = cut(alone, jnp.zeros_like(sources), affines, settings)
            pairs = target, cut(past, sources, affines, settings)
            return _update(adaptation, base, vgg, pairs, tools=tools)

        adaptation = jax.lax.cond(frame.valid, update, lambda a: a, adaptation)
        after = Subject(adaptation, past, subject.key, subject.frame + 1, period)
        return after, _predict_frame(base, adaptation.delta, frame, tools)

    return jax.lax.scan(body, subject, frames)


def watch(subject: Subject, frames: Frames) -> Subject:
    """Remember the next frames, without an update: before `adapt_offline`."""

    def body(subject, frame):
        key = jax.random.fold_in(jax.random.fold_in(subject.key, subject.frame), 2)
        past = memory.remember(subject.memory, frame, key)
        return subject.replace(memory=past, frame=subject.frame + 1), None

    return jax.lax.scan(body, subject, frames)[0]


def adapt_offline(
    subject: Subject, base: state.Base, vgg: VGG16, *, tools: Tools, count: int
) -> Subject:
    """`count` updates on pairs drawn from all that is remembered.

    Update number i is left out unless i < the valid frames seen: as many updates as frames is the
    paper's rule. `subject.frame` counts them; set it to 0 after `watch`.
    """
    settings, past = tools.settings, subject.memory

    def body(carry, _):
        adaptation, i = carry

        def update(adaptation):
            key = jax.random.fold_in(subject.key, i)
            targets, sources, affines = offline_pairs(key, past, settings)
            pairs = (cut(past, index, affines, settings) for index in (targets, sources))
            return _update(adaptation, base, vgg, tuple(pairs), tools=tools)

        adaptation = jax.lax.cond(i < past.seen, update, lambda a: a, adaptation)
        return (adaptation, i + 1), None

    carry = subject.adaptation, subject.frame
    (adaptation, i), _ = jax.lax.scan(body, carry, length=count)
    return subject.replace(adaptation=adaptation, frame=i)


def predict_frames(
    subject: Subject, base: state.Base, frames: Frames, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Predict the next frames without updating; returns as `online`."""
    predicted = predict(base, subject.adaptation.delta, frames, tools=tools)
    return subject.replace(frame=subject.frame + len(frames.valid)), predicted


def predict(
    base: state.Base, delta: state.Flat, frames: Frames, *, tools: Tools
) -> tuple[jax.Array, jax.Array]:
    """Joints [n, K, 2] in picture pixels and peaks [n, K], by the base changed by `delta`."""
    return jax.lax.map(lambda frame: _predict_frame(base, delta, frame, tools), frames)


def look(
    subject: Subject, base: state.Base, frames: Frames, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """Remember the next frames and predict them, without an update; returns as `online`."""
    _, predicted = predict_frames(subject, base, frames, tools=tools)
    return watch(subject, frames), predicted


def personalize(
    base: state.Base, vgg: VGG16, frames: Frames, key: jax.Array, *, tools: Tools
) -> tuple[Subject, tuple[jax.Array, jax.Array]]:
    """A whole subject in one call, in the settings' scenario: `over_subjects`' unit of work."""
    count, height, width, _ = frames.pictures.shape
    subject = start(base, key, tools=tools, capacity=count, shape=(height, width))
    if tools.settings.scenario == "online":
        return online(subject, base, vgg, frames, tools=tools)
    subject = again(watch(subject, frames))
    subject = adapt_offline(subject, base, vgg, tools=tools, count=count)
    return predict_frames(again(subject), base, frames, tools=tools)


def again(subject: Subject) -> Subject:
    """The subject at its first frame (update) again, for the next pass."""
    return subject.replace(frame=jnp.zeros_like(subject.frame))


def _update(adaptation, base, vgg, pairs, *, tools):
    def one(_, adaptation):
        return steps.adapt_step(
            adaptation, base, pairs, vgg, model=tools.model, tx=tools.tx, bgr=tools.settings.bgr
        )

    if tools.settings.iterations == 1:
        return one(0, adaptation)
    return jax.lax.fori_loop(0, tools.settings.iterations, one, adaptation)


def online_pairs(
    key: jax.Array, past: Memory, crop: jax.Array, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Draw one frame's pairs: places of the sources [B], affines [B, 2, 3] in the target's crop."""
    sources = memory.draw(past, key, settings.batch_size)
    scale, degrees, flip = augment.draw(
        jax.random.fold_in(key, 1), settings.batch_size, settings.ranges
    )
    first = jnp.arange(settings.batch_size) == 0
    scale, degrees = jnp.where(first, 1.0, scale), jnp.where(first, 0.0, degrees)
    crops = jnp.broadcast_to(crop, (settings.batch_size, 3))
    return sources, geometry.crop_affine(crops, settings.image_size, scale, degrees, flip & ~first)


def offline_pairs(
    key: jax.Array, past: Memory, settings: Settings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw pairs of all frames: places of targets and sources [B], affines [B, 2, 3]."""
    target_key, source_key, key = jax.random.split(key, 3)
    targets, sources = (
        memory.draw(past, own, settings.batch_size) for own in (target_key, source_key)
    )
    moves = augment.draw(jax.random.fold_in(key, 1), settings.batch_size, settings.ranges)
    affines = geometry.crop_affine(past.crops[targets], settings.image_size, *moves)
    return targets, sources, affines


def check_finite(peaks, settings: Settings | None = None) -> None:
    """Raise NotFinite where the network's maps of some frame are no numbers any more.

    Args:
      peaks: of predictions, any shape; without frames that could not be read.
      settings: of the personalization before it; None where nothing was adapted.
    """
    if np.isfinite(peaks).all():
        return
    if settings is None:
        raise state.NotFinite("the network gives NaN: is the model's file whole, its training?")
    raise state.NotFinite(
        f"personalization ran away to NaN: lower config.ttp.learning_rate ({settings.learning_rate}"
        f") or config.ttp.iterations ({settings.iterations})."
    )


def cut(
    frames: Frames | Memory, index: jax.Array, affines: jax.Array, settings: Settings
) -> jax.Array:
    """Cut crops [n, S, S, 3] of frames `index` [n] by `affines` [n, 2, 3], in network colours."""

    def one(i, affine):
        own = geometry.window_affine(affine, frames.views[i])
        return geometry.warp(frames.pictures[i], own, settings.image_size)

    return normalize(jax.vmap(one)(index, affines), bgr=settings.bgr)


def _predict_frame(base, delta, frame, tools):
    settings = tools.settings
    alone = jax.tree.map(lambda leaf: leaf[None], frame)
    affine = geometry.crop_affine(alone.crops, settings.image_size)
    crops = cut(alone, jnp.zeros(1, jnp.int32), affine, settings)
    variables = state.adapted(base, delta)
    points, peaks = steps.predict(variables, crops, model=tools.model)
    return geometry.transform_points(geometry.invert_affine(affine), points)[0], peaks[0]
