"""The crops that an update of one subject is made on: drawn from its frames, moved, cut."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ttp_jax import augment, geometry, memory
from ttp_jax.frames import Frames
from ttp_jax.memory import Memory
from ttp_jax.models.pose import normalize
from ttp_jax.settings import Settings


def cut(
    frames: Frames | Memory, index: jax.Array, affines: jax.Array, settings: Settings
) -> jax.Array:
    """Cut crops [n, S, S, 3] of frames `index` [n] by `affines` [n, 2, 3], in network colours.

    Args:
      frames: windows to cut from.
      index: [n], which of them.
      affines: [n, 2, 3], from picture pixels to crop pixels.
      settings: of the crops' size and colours.
    """

    def one(i, affine):
        own = geometry.window_affine(affine, frames.views[i])
        return geometry.warp(frames.pictures[i], own, settings.image_size)

    return normalize(jax.vmap(one)(index, affines), bgr=settings.bgr)


def online_pairs(
    key: jax.Array, past: Memory, crop: jax.Array, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Draw the pairs of one frame's update.

    Args:
      key: of the update.
      past: the frames so far, the current one included.
      crop: [3] or [4] of the current frame.
      settings: see `Settings`.

    Returns:
      Places of the sources in `past` [B], and affines [B, 2, 3] in the target's crop.
    """
    sources = memory.draw(past, key, settings.batch_size)
    scale, degrees, flip = augment.draw(
        jax.random.fold_in(key, 1), settings.batch_size, settings.ranges
    )
    first = jnp.arange(settings.batch_size) == 0
    scale, degrees = jnp.where(first, 1.0, scale), jnp.where(first, 0.0, degrees)
    crops = jnp.broadcast_to(crop, (settings.batch_size, *crop.shape))
    return sources, geometry.crop_affine(crops, settings.image_size, scale, degrees, flip & ~first)


def offline_pairs(
    key: jax.Array, past: Memory, settings: Settings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw pairs of all frames.

    Args:
      key: of the update.
      past: all frames.
      settings: see `Settings`.

    Returns:
      Places of targets and of sources in `past` [B], and affines [B, 2, 3].
    """
    target_key, source_key, key = jax.random.split(key, 3)
    targets, sources = (
        memory.draw(past, own, settings.batch_size) for own in (target_key, source_key)
    )
    moves = augment.draw(jax.random.fold_in(key, 1), settings.batch_size, settings.ranges)
    affines = geometry.crop_affine(past.crops[targets], settings.image_size, *moves)
    return targets, sources, affines


def pairs(
    key: jax.Array, past: Memory, now: Frames | None, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Cut the pairs of an update: targets and sources of one subject, moved alike.

    Args:
      key: of the update.
      past: the frames so far, the current one included.
      now: the current frame [1], which is every target (online); None to draw targets (offline).
      settings: see `Settings`.

    Returns:
      Targets and sources [B, S, S, 3].
    """
    if now is None:
        targets, sources, affines = offline_pairs(key, past, settings)
        target = cut(past, targets, affines, settings)
    else:
        sources, affines = online_pairs(key, past, now.crops[0], settings)
        target = cut(now, jnp.zeros_like(sources), affines, settings)
    source = cut(past, sources, affines, settings)
    if settings.source_masking:
        source = augment.mask_blocks(jax.random.fold_in(key, 4), source, settings.source_masking)
    return target, source


class Views(NamedTuple):
    """The same B frames of a subject, seen in two ways; crops [B, S, S, 3] in network colours.

    Attributes:
      plain: as they are.
      moved: turned, scaled, mirrored and recoloured at random.
      affines: [B, 2, 3] from pixels of `plain` to pixels of `moved`.
      flipped: bool [B], which of `moved` are mirrored.
    """

    plain: jax.Array
    moved: jax.Array
    affines: jax.Array
    flipped: jax.Array


def plain(key: jax.Array, past: Memory, now: Frames | None, settings: Settings) -> jax.Array:
    """Cut B frames as they are, [B, S, S, 3].

    They are drawn evenly from `past`; online the first is always the current frame.

    Args:
      key: of the update.
      past: the frames so far, the current one included.
      now: the current frame [1] (online); None (offline).
      settings: see `Settings`.
    """
    frames = _drawn(key, past, now, settings)
    return _cut_all(frames, geometry.crop_affine(frames.crops, settings.image_size), settings)


def views(key: jax.Array, past: Memory, now: Frames | None, settings: Settings) -> Views:
    """Cut the frames of `plain` in two ways: upright, and moved at random.

    Args:
      key: of the update.
      past: the frames so far, the current one included.
      now: the current frame [1] (online); None (offline).
      settings: see `Settings`.
    """
    frames, size = _drawn(key, past, now, settings), settings.image_size
    scale, degrees, flip = augment.draw(
        jax.random.fold_in(key, 1), settings.batch_size, settings.ranges
    )
    flip = flip & bool(settings.flip_order)
    upright = geometry.crop_affine(frames.crops, size)
    moving = geometry.crop_affine(frames.crops, size, scale, degrees, flip)
    return Views(
        _cut_all(frames, upright, settings),
        augment.recolour(jax.random.fold_in(key, 3), _cut_all(frames, moving, settings)),
        geometry.compose_affines(moving, geometry.invert_affine(upright)),
        flip,
    )


def _drawn(key, past: Memory, now: Frames | None, settings) -> Frames:
    places = memory.draw(past, key, settings.batch_size)
    drawn = Frames(
        past.pictures[places], past.views[places], past.crops[places], jnp.ones(len(places), bool)
    )
    if now is None:
        return drawn
    return jax.tree.map(lambda many, one: many.at[0].set(one[0]), drawn, now)


def _cut_all(frames: Frames, affines: jax.Array, settings) -> jax.Array:
    return cut(frames, jnp.arange(len(frames.valid)), affines, settings)
