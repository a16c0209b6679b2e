"""Random changes of images on the device, of geometry and of appearance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Ranges(NamedTuple):
    """Ranges of the random transform of a pair (paper section 4.2; published program's numbers).

    Attributes:
      rotation: standard deviation in degrees; draws are clipped at twice that.
      rotation_prob: share of the pairs that are rotated at all.
      scale: standard deviation of the relative size; draws are clipped at once that.
      flip_prob: share of the pairs that are mirrored.
    """

    rotation: float = 30.0
    rotation_prob: float = 0.6
    scale: float = 0.25
    flip_prob: float = 0.5


def draw(key: jax.Array, count: int, ranges: Ranges) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw random transforms.

    Args:
      key: random key.
      count: number of transforms.
      ranges: ranges to draw from.

    Returns:
      Scales [count], degrees [count], and whether to flip, bool [count].
    """
    scale_key, rotation_key, gate_key, flip_key = jax.random.split(key, 4)
    scale = 1 + ranges.scale * jnp.clip(jax.random.normal(scale_key, (count,)), -1, 1)
    degrees = ranges.rotation * jnp.clip(jax.random.normal(rotation_key, (count,)), -2, 2)
    rotated = jax.random.uniform(gate_key, (count,)) < ranges.rotation_prob
    flip = jax.random.uniform(flip_key, (count,)) < ranges.flip_prob
    return scale, jnp.where(rotated, degrees, 0.0), flip


def mask_blocks(key: jax.Array, pictures: jax.Array, share: float, block: int = 16) -> jax.Array:
    """Hide square blocks of each image behind the mean colour.

    Args:
      key: random key.
      pictures: [B, H, W, 3] in the network's colours, whose zero is the mean colour.
      share: probability that a block is hidden.
      block: side of the blocks in pixels.
    """
    count, height, width, _ = pictures.shape
    grid = count, -(-height // block), -(-width // block)
    seen = jax.random.uniform(key, grid) >= share
    seen = jnp.repeat(jnp.repeat(seen, block, 1), block, 2)[:, :height, :width]
    return jnp.where(seen[..., None], pictures, 0.0)


# --- Appearance ----------------------------------------------------------------------------------

CHANCE = 0.3  # probability of each change other than light and colour, which always change
BLOCK = 8  # side of JPEG's blocks in pixels


def photometric(key: jax.Array, pictures: jax.Array, strength: float = 1.0) -> jax.Array:
    """Change light, colour and sharpness of images, add noise and cut-outs; each has its own draw.

    The same key changes other images of the same shape alike, including noise and cut-outs.

    Args:
      key: random key.
      pictures: RGB 0..255 [B, H, W, 3], uint8 or float; sides are multiples of 8.
      strength: 0 changes nothing; 1 is a contrast between 0.6 and 1.7, for example.

    Returns:
      float32 [B, H, W, 3], 0..255.
    """
    changes = (_light, _blur, _noise, _jpeg, _cut_out)
    values = pictures.astype(jnp.float32) / 255
    for number, change in enumerate(changes):
        values = jnp.clip(change(jax.random.fold_in(key, number), values, strength), 0, 1)
    return 255 * values


def _light(key, values, strength):
    """Change brightness, contrast and gamma of each image, and brightness of each channel."""
    count = len(values)
    keys = jax.random.split(key, 4)

    def draw(key, size, *shape):
        drawn = jax.random.uniform(key, (count, *(shape or (1, 1, 1))), minval=-1.0)
        return strength * size * drawn

    mean = values.mean((1, 2, 3), keepdims=True)
    values = values ** jnp.exp(draw(keys[0], 0.4))
    values = mean + (values - mean) * jnp.exp(draw(keys[1], 0.5))
    return values + draw(keys[2], 0.2) + draw(keys[3], 0.1, 1, 1, 3)


def _some(key, count):
    """Draw which images are changed: bool [count, 1, 1, 1]."""
    return jax.random.uniform(key, (count, 1, 1, 1)) < CHANCE


def _blur(key, values, strength):
    """Blur with a Gaussian of up to 1.5 pixels."""
    some, width = jax.random.split(key)
    sigma = 0.3 + 1.2 * strength * jax.random.uniform(width, (len(values), 1, 1, 1))
    taps = [jnp.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-3, 4)]
    total, blurred = sum(taps), values
    for axis in (1, 2):
        margin = [(3, 3) if i == axis else (0, 0) for i in range(4)]
        padded, size = jnp.pad(blurred, margin, "edge"), blurred.shape[axis]
        shifted = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(7))
        blurred = sum(tap * part for tap, part in zip(taps, shifted, strict=True)) / total
    return jnp.where(_some(some, len(values)), blurred, values)


def _noise(key, values, strength):
    """Add Gaussian noise with a standard deviation of up to 0.06."""
    some, level, noise = jax.random.split(key, 3)
    size = 0.06 * strength * jax.random.uniform(level, (len(values), 1, 1, 1))
    noisy = values + size * jax.random.normal(noise, values.shape)
    return jnp.where(_some(some, len(values)), noisy, values)


def _jpeg(key, values, strength):
    """Compress like JPEG: round the cosine transform of 8 x 8 pixels, high frequencies more."""
    some, quality = jax.random.split(key)
    count, height, width, _ = values.shape
    index = jnp.arange(BLOCK)
    cosines = jnp.cos(jnp.pi * (2 * index[None] + 1) * index[:, None] / (2 * BLOCK)) / 2
    cosines = cosines.at[0].divide(jnp.sqrt(2.0))
    blocks = values.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    steps = strength * 0.02 * (1 + index[:, None] + index[None])  # about that of JPEG's tables
    level = jax.random.uniform(quality, (count, 1, 1, 1, 1, 1), minval=0.2)
    grain = jnp.maximum(level * steps[:, None, :, None], 1e-6)
    waves = jnp.einsum("fy,bryqxc,gx->brfqgc", cosines, blocks, cosines)
    waves = jnp.round(waves / grain) * grain
    found = jnp.einsum("fy,brfqgc,gx->bryqxc", cosines, waves, cosines)
    return jnp.where(_some(some, count), found.reshape(values.shape), values)


def _cut_out(key, values, strength):
    """Cover a rectangle of up to a third of the image's sides with grey."""
    some, centre, sides = jax.random.split(key, 3)
    count, height, width, _ = values.shape
    middle = jax.random.uniform(centre, (count, 2))
    half = strength * jax.random.uniform(sides, (count, 2), minval=0.05, maxval=1 / 6)

    def covered(axis, size):
        place = (jnp.arange(size) + 0.5) / size
        return jnp.abs(place - middle[:, axis, None]) < half[:, axis, None]

    inside = covered(1, height)[:, :, None] & covered(0, width)[:, None]
    return jnp.where(inside[..., None] & _some(some, count), 0.5, values)


def recolour(key: jax.Array, pictures: jax.Array, strength: float = 0.2) -> jax.Array:
    """Change contrast and brightness of each channel of each image.

    Works in the network's colours, whose unit is a standard deviation. The logarithm of the
    contrast and the brightness are drawn with standard deviation `strength`, clipped at twice that.

    Args:
      key: random key.
      pictures: [B, H, W, 3] in the network's colours.
      strength: standard deviation of the draws.
    """
    draws = jnp.clip(jax.random.normal(key, (2, len(pictures), 1, 1, 3)), -2, 2)
    contrast, brightness = strength * draws
    return pictures * jnp.exp(contrast) + brightness
