"""Test-time personalization of ONE subject (paper section 3.2).

A subject's frames lie in one array in one coordinate frame; crops of any frame are cut on the
device. Nothing here knows of labels, files or of other subjects: `parallel.over_subjects` lifts
these functions to many.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ttp_jax import augment, geometry, state, steps
from ttp_jax.models.pose import PoseNet, normalize
from ttp_jax.models.vgg import VGG16


class Frames(flax.struct.PyTreeNode):
    """All pictures of a subject.

    Attributes:
      pictures: uint8 RGB [T, H, W, 3], one coordinate frame for all.
      crops: float32 [T, 3], see `geometry.box_to_crop`.
      valid: bool [T]; False for padding and for frames that could not be read.
    """

    pictures: jax.Array
    crops: jax.Array
    valid: jax.Array


class Settings(NamedTuple):
    """How to personalize; hashable, so that it can be static under `jit`.

    Attributes:
      scenario: "online" or "offline".
      iterations: updates per frame, on the same pairs (paper Table 2).
      batch_size: pairs per update.
      learning_rate: of Adam, constant.
      reset_every: online only: back to the base model after every n frames; 0 never within a
        subject. Subjects always start from what the caller hands over.
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
    rules: str = "reference"
    ranges: augment.Ranges = augment.Ranges()
    image_size: int = 128
    bgr: bool = False


class Tools(NamedTuple):
    """The unchanging parts of personalization, bound once: static but for their arrays."""

    model: PoseNet
    tx: optax.GradientTransformation
    settings: Settings


def tools(model: PoseNet, settings: Settings) -> Tools:
    """Bind network, optimizer and settings."""
    return Tools(model, state.adam(settings.learning_rate), settings)


def start(base: state.Base, tools: Tools) -> state.Adaptation:
    """The subject's state before its first frame."""
    return state.start_adaptation(base, state.RULES[tools.settings.rules], tools.tx)


def online(
    adaptation: state.Adaptation,
    base: state.Base,
    vgg: VGG16,
    frames: Frames,
    ids: jax.Array,
    key: jax.Array,
    *,
    tools: Tools,
) -> tuple[state.Adaptation, tuple[jax.Array, jax.Array]]:
    """Per frame of `ids`: update on the current frame as target, then predict it.

    Sources are drawn from frames s <= t, the current one included; pair 0 is not augmented. What
    a frame draws depends on `key` and its index only, so a video may be cut into chunks anywhere.

    Args:
      adaptation: the subject's state.
      base: the trained model.
      vgg: features of the perceptual loss.
      frames: the subject's pictures, at least up to the last of `ids`.
      ids: int32 [n], consecutive frame indices.
      key: of the subject.
      tools: see `tools`.

    Returns:
      The new state; joints [n, K, 2] in picture pixels and peaks [n, K].
    """
    settings = tools.settings
    fresh = start(base, tools)

    def body(adaptation, t):
        def update(adaptation):
            frame_key = jax.random.fold_in(key, t)
            sources = _draw_valid(frame_key, frames.valid, t, settings.batch_size)
            targets = jnp.full_like(sources, t)
            pairs = _cut_pairs(frame_key, frames, targets, sources, settings, clean_first=True)
            return _updates(adaptation, base, vgg, pairs, tools)

        if settings.reset_every:
            back = (t % settings.reset_every == 0) & (t > 0)
            adaptation = jax.tree.map(lambda a, b: jnp.where(back, b, a), adaptation, fresh)
        adaptation = jax.lax.cond(frames.valid[t], update, lambda a: a, adaptation)
        return adaptation, _predict_frame(adaptation, base, frames, t, tools)

    return jax.lax.scan(body, adaptation, ids)


def adapt_offline(
    adaptation: state.Adaptation,
    base: state.Base,
    vgg: VGG16,
    frames: Frames,
    ids: jax.Array,
    key: jax.Array,
    *,
    tools: Tools,
) -> state.Adaptation:
    """One update per entry of `ids` [n] on pairs drawn from all frames.

    As many updates as frames is the paper's rule: `ids` are 0 .. T-1, padding is skipped.
    """
    settings = tools.settings
    last = frames.valid.shape[0] - 1

    def body(adaptation, i):
        def update(adaptation):
            step_key = jax.random.fold_in(key, i)
            target_key, source_key, cut_key = jax.random.split(step_key, 3)
            targets = _draw_valid(target_key, frames.valid, last, settings.batch_size)
            sources = _draw_valid(source_key, frames.valid, last, settings.batch_size)
            pairs = _cut_pairs(cut_key, frames, targets, sources, settings, clean_first=False)
            return _updates(adaptation, base, vgg, pairs, tools)

        return jax.lax.cond(frames.valid[i], update, lambda a: a, adaptation), None

    return jax.lax.scan(body, adaptation, ids)[0]


def predict_frames(
    adaptation: state.Adaptation,
    base: state.Base,
    frames: Frames,
    ids: jax.Array,
    *,
    tools: Tools,
) -> tuple[jax.Array, jax.Array]:
    """Predict frames `ids` [n] without updating.

    Returns joints [n, K, 2] in picture pixels and peaks [n, K].
    """
    return jax.lax.map(lambda t: _predict_frame(adaptation, base, frames, t, tools), ids)


def personalize(
    base: state.Base,
    vgg: VGG16,
    frames: Frames,
    key: jax.Array,
    *,
    tools: Tools,
) -> tuple[state.Adaptation, tuple[jax.Array, jax.Array]]:
    """A whole subject in one call, in the settings' scenario: `over_subjects`' unit of work."""
    ids = jnp.arange(frames.valid.shape[0])
    adaptation = start(base, tools)
    if tools.settings.scenario == "online":
        return online(adaptation, base, vgg, frames, ids, key, tools=tools)
    adaptation = adapt_offline(adaptation, base, vgg, frames, ids, key, tools=tools)
    return adaptation, predict_frames(adaptation, base, frames, ids, tools=tools)


def _updates(adaptation, base, vgg, pairs, tools):
    _, frozen = state.split(base.params, state.RULES[tools.settings.rules])

    def one(_, adaptation):
        return steps.adapt_step(
            adaptation,
            frozen,
            base.batch_stats,
            pairs,
            vgg,
            model=tools.model,
            tx=tools.tx,
            bgr=tools.settings.bgr,
        )

    if tools.settings.iterations == 1:
        return one(0, adaptation)
    return jax.lax.fori_loop(0, tools.settings.iterations, one, adaptation)


def _draw_valid(key, valid, last, count):
    """Draw `count` frame indices, uniformly among the valid ones up to `last`."""
    index = jnp.arange(valid.shape[0])
    allowed = valid & (index <= last)
    order = jnp.argsort(~allowed, stable=True)  # allowed frames first, in their order
    return order[jax.random.randint(key, (count,), 0, jnp.maximum(allowed.sum(), 1))]


def cut(frames: Frames, index: jax.Array, affines: jax.Array, settings: Settings) -> jax.Array:
    """Cut crops [n, S, S, 3] of frames `index` [n] by `affines` [n, 2, 3], in network colours."""

    def one(i, affine):
        return geometry.warp(frames.pictures[i], affine, settings.image_size)

    return normalize(jax.vmap(one)(index, affines), bgr=settings.bgr)


def _cut_pairs(key, frames, targets, sources, settings, *, clean_first):
    """Cut target and source with the target's box and one random transform per pair."""
    scale, degrees, flip = augment.draw(
        jax.random.fold_in(key, 1), targets.shape[0], settings.ranges
    )
    if clean_first:
        first = jnp.arange(targets.shape[0]) == 0
        scale, degrees = jnp.where(first, 1.0, scale), jnp.where(first, 0.0, degrees)
        flip = flip & ~first
    affines = geometry.crop_affine(frames.crops[targets], settings.image_size, scale, degrees, flip)

    return cut(frames, targets, affines, settings), cut(frames, sources, affines, settings)


def _predict_frame(adaptation, base, frames, t, tools):
    settings = tools.settings
    variables = state.adapted(base, adaptation, state.RULES[settings.rules])
    affine = geometry.crop_affine(frames.crops[t], settings.image_size)[None]
    pictures = cut(frames, t[None], affine, settings)
    points, peaks = steps.predict(variables, pictures, model=tools.model)
    return geometry.transform_points(geometry.invert_affine(affine), points)[0], peaks[0]
