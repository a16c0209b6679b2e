"""One random transform for a (source, target) pair, on the device, from a key."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Ranges(NamedTuple):
    """How far a pair may be moved (paper section 4.2; numbers of the published program).

    Attributes:
      rotation: standard deviation in degrees; draws are cut at twice that.
      rotation_prob: share of the pairs that are rotated at all.
      scale: standard deviation of the relative size; draws are cut at once that.
      flip_prob: share of the pairs that are mirrored.
    """

    rotation: float = 30.0
    rotation_prob: float = 0.6
    scale: float = 0.25
    flip_prob: float = 0.5


def draw(key: jax.Array, count: int, ranges: Ranges) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw `count` transforms: scale [count], degrees [count], flip bool [count]."""
    scale_key, rotation_key, gate_key, flip_key = jax.random.split(key, 4)
    scale = 1 + ranges.scale * jnp.clip(jax.random.normal(scale_key, (count,)), -1, 1)
    degrees = ranges.rotation * jnp.clip(jax.random.normal(rotation_key, (count,)), -2, 2)
    rotated = jax.random.uniform(gate_key, (count,)) < ranges.rotation_prob
    flip = jax.random.uniform(flip_key, (count,)) < ranges.flip_prob
    return scale, jnp.where(rotated, degrees, 0.0), flip


def recolour(key: jax.Array, pictures: jax.Array, strength: float = 0.2) -> jax.Array:
    """Change contrast and brightness of each picture [B, H, W, 3], each channel by itself.

    Works in the network's colours, whose unit is a standard deviation. Draws of standard deviation
    `strength`, of the contrast's logarithm and of the brightness, are cut at twice that.
    """
    draws = jnp.clip(jax.random.normal(key, (2, len(pictures), 1, 1, 3)), -2, 2)
    contrast, brightness = strength * draws
    return pictures * jnp.exp(contrast) + brightness
