"""Maps and points: the soft-argmax bottleneck, Gaussian maps, argmax decoding.

Maps are [B, h, w, C] float, points [B, C, 2] as (x, y) in heatmap pixels 0 .. w-1.
"""

import jax
import jax.numpy as jnp


def soft_argmax(maps: jax.Array) -> jax.Array:
    """Return the expected position [B, M, 2] of each raw map [B, h, w, M].

    Softmax over the row sums and, separately, over the column sums, then the mean index (paper
    section 3.1.1). Differs from Jakab et al., who average instead of summing: the sum lets raw maps
    whose peaks the supervised loss holds near 1 give a sharp distribution.
    """

    def expectation(logits):  # [B, n, M]
        index = jnp.arange(logits.shape[1], dtype=logits.dtype)
        return jnp.einsum("bnm,n->bm", jax.nn.softmax(logits, axis=1), index)

    return jnp.stack([expectation(maps.sum(1)), expectation(maps.sum(2))], -1)


def gaussian_maps(points: jax.Array, height: int, width: int, sigma: float) -> jax.Array:
    """Draw one Gaussian of peak 1 per point: [B, M, 2] -> [B, h, w, M]; `sigma` in map pixels."""

    def profile(center, size):  # [B, M] -> [B, size, M]
        offset = jnp.arange(size, dtype=center.dtype)[:, None] - center[:, None, :]
        return jnp.exp(-(offset**2) / (2 * sigma**2))

    return profile(points[..., 1], height)[:, :, None] * profile(points[..., 0], width)[:, None]


def decode(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the peaks' positions [B, K, 2] and heights [B, K].

    First maximum in row-major order, moved a quarter pixel towards the higher neighbour in x and y
    where the peak is not at the border; a map without a positive value decodes to (0, 0). This is
    the published program's rule, whose strict `1 < p < size - 1` also leaves index 1 alone.
    """
    batch, height, width, count = maps.shape
    flat = maps.reshape(batch, height * width, count)
    best, peak = flat.argmax(1), flat.max(1)
    x, y = best % width, best // width

    def value(dx, dy):
        index = jnp.clip(y + dy, 0, height - 1) * width + jnp.clip(x + dx, 0, width - 1)
        return jnp.take_along_axis(flat, index[:, None], 1)[:, 0]

    step = jnp.stack([value(1, 0) - value(-1, 0), value(0, 1) - value(0, -1)], -1)
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    points = jnp.stack([x, y], -1) + jnp.where(inside[..., None], 0.25 * jnp.sign(step), 0.0)
    return jnp.where((peak > 0)[..., None], points, 0.0), peak
