"""The crops of one subject's update: frames are drawn, augmented and cut."""

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
    """Cut crops [n, S, S, 3] out of frames, in the network's colours.

    Args:
      frames: windows to cut from.
      index: [n], the frame of each crop.
      affines: [n, 2, 3], from image pixels to crop pixels.
      settings: size and colours of the crops.
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
      key: the update's random key.
      past: the frames so far, including the current one.
      crop: crop [3] or [4] of the current frame.
      settings: see `Settings`.

    Returns:
      Indices of the sources in `past` [B], and the affines of the pairs [B, 2, 3], which both
      frames of a pair share: they move the current frame's crop.
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
    """Draw pairs from all frames.

    Args:
      key: the update's random key.
      past: all frames.
      settings: see `Settings`.

    Returns:
      Indices of the targets and of the sources in `past` [B], and the affines [B, 2, 3] that both
      frames of a pair share: they move the target's crop.
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
    """Draw and cut the pairs of an update: targets and sources of one subject, augmented alike.

    Args:
      key: the update's random key.
      past: the frames so far, including the current one.
      now: the current frame [1], the target of all pairs (online); None to draw targets (offline).
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
    """Two crops [B, S, S, 3] of each of B frames of a subject, in the network's colours.

    Attributes:
      plain: crops without augmentation.
      moved: crops that are rotated, scaled, mirrored and recoloured at random.
      affines: [B, 2, 3] from pixels of `plain` to pixels of `moved`.
      flipped: bool [B], whether a crop in `moved` is mirrored.
    """

    plain: jax.Array
    moved: jax.Array
    affines: jax.Array
    flipped: jax.Array


def plain(key: jax.Array, past: Memory, now: Frames | None, settings: Settings) -> jax.Array:
    """Draw B frames and cut their crops [B, S, S, 3] without augmentation.

    Frames are drawn uniformly from `past`; online, the first is always the current frame.

    Args:
      key: the update's random key.
      past: the frames so far, including the current one.
      now: the current frame [1] (online); None (offline).
      settings: see `Settings`.
    """
    frames = _drawn(key, past, now, settings)
    return _cut_all(frames, geometry.crop_affine(frames.crops, settings.image_size), settings)


def views(key: jax.Array, past: Memory, now: Frames | None, settings: Settings) -> Views:
    """Draw the frames that `plain` draws, and cut each without augmentation and moved at random.

    Args:
      key: the update's random key.
      past: the frames so far, including the current one.
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
