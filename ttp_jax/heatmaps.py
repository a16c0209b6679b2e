"""Maps and points: the soft-argmax bottleneck, Gaussian maps, argmax decoding.

Maps are [B, h, w, C] float, points [B, C, 2] as (x, y) in heatmap pixels 0 .. w-1.
"""

import jax
import jax.numpy as jnp

from ttp_jax.geometry import EDGE, Cells

DECODERS = ("quarter", "parabola", "mean", "centroid")
NEAR = 3  # cells on each side of the peak that "mean" and "centroid" use


def soft_argmax(maps: jax.Array) -> jax.Array:
    """Return the expected position [B, M, 2] of each raw map [B, h, w, M].

    Takes the softmax over the row sums and, separately, over the column sums, then the mean index
    (paper section 3.1.1). Jakab et al. average instead of summing. Sums give a sharp distribution
    even for raw maps whose peaks the supervised loss keeps near 1.
    """

    def expectation(logits):  # [B, n, M]
        index = jnp.arange(logits.shape[1], dtype=logits.dtype)
        return jnp.einsum("bnm,n->bm", jax.nn.softmax(logits, axis=1), index)

    return jnp.stack([expectation(maps.sum(1)), expectation(maps.sum(2))], -1)


def gaussian_maps(points: jax.Array, height: int, width: int, sigma: float) -> jax.Array:
    """Draw one Gaussian of peak 1 for each point.

    Args:
      points: [B, M, 2], x and y in cells.
      height: height of the maps, in cells.
      width: width of the maps, in cells.
      sigma: standard deviation, in cells.

    Returns:
      Maps [B, h, w, M].
    """

    def profile(center, size):  # [B, M] -> [B, size, M]
        offset = jnp.arange(size, dtype=center.dtype)[:, None] - center[:, None, :]
        return jnp.exp(-(offset**2) / (2 * sigma**2))

    return profile(points[..., 1], height)[:, :, None] * profile(points[..., 0], width)[:, None]


def confidences(logits: jax.Array, sigma: float) -> jax.Array:
    """Return the softmax over cells of maps [B, h, w, K], scaled to a peak of about 1 if confident.

    This way, maps trained by cross-entropy with Gaussians of `sigma` are decoded and read like
    those trained by squared error.

    Args:
      logits: maps [B, h, w, K].
      sigma: standard deviation of the Gaussians that the network was trained with, in cells.
    """
    flat = logits.reshape(logits.shape[0], -1, logits.shape[-1])
    shares = jax.nn.softmax(flat, axis=1).reshape(logits.shape)
    return shares * (2 * jnp.pi * sigma**2)


def decode(maps: jax.Array, how: str = "quarter") -> tuple[jax.Array, jax.Array]:
    """Return the peaks' positions [B, K, 2] in cells and heights [B, K].

    The peak is the first maximum in row-major order, refined in x and y unless it is at the border.
    A map without a positive value decodes to (0, 0). "centroid" expects maps of logits.

    Args:
      maps: [B, h, w, K].
      how: "quarter" moves the peak a quarter cell towards the higher neighbour, as the published
        program does; its strict `1 < p < size - 1` also excludes index 1. "parabola" moves it to
        the top of the parabola through the logarithms of the three values, by half a cell at most.
        This is exact for a Gaussian, which the maps are trained to be (after Zhang et al.,
        "Distribution-Aware Coordinate Representation", CVPR 2020, without the cross term and the
        blur). "mean" is the mean of the 7 x 7 cells around the peak, weighted by their values: the
        expected position, if a map is trained by cross-entropy to hold each cell's probability.
        "centroid" is the same with the sigmoid of the logits as weights, as MediaPipe refines its
        points; the height is the sigmoid of the largest logit.

    Raises:
      ValueError: `how` is none of these.
    """
    if how not in DECODERS:
        raise ValueError(f"model.decode is {how!r}, expected one of {', '.join(DECODERS)}.")
    batch, height, width, count = maps.shape
    flat = maps.reshape(batch, height * width, count)
    best, peak = flat.argmax(1), flat.max(1)
    x, y = best % width, best // width
    if how == "centroid":
        return _mean_near(jax.nn.sigmoid(maps), x, y), jax.nn.sigmoid(peak)

    def value(dx, dy):
        index = jnp.clip(y + dy, 0, height - 1) * width + jnp.clip(x + dx, 0, width - 1)
        return jnp.take_along_axis(flat, index[:, None], 1)[:, 0]

    if how == "mean":
        # Use equally many cells on both sides: a window cut by the border would pull the mean in.
        reach = jnp.minimum(x, width - 1 - x), jnp.minimum(y, height - 1 - y)
        points = _mean_near(jnp.maximum(maps, 0.0), x, y, *reach)
        return jnp.where((peak > 0)[..., None], points, 0.0), peak
    if how == "quarter":
        step = jnp.stack([value(1, 0) - value(-1, 0), value(0, 1) - value(0, -1)], -1)
        inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        shift = jnp.where(inside[..., None], 0.25 * jnp.sign(step), 0.0)
    else:
        along_x = _top(value(-1, 0), peak, value(1, 0), (x > 0) & (x < width - 1))
        along_y = _top(value(0, -1), peak, value(0, 1), (y > 0) & (y < height - 1))
        shift = jnp.stack([along_x, along_y], -1)
    points = jnp.stack([x, y], -1) + shift
    return jnp.where((peak > 0)[..., None], points, 0.0), peak


def _mean_near(maps, x, y, reach_x=None, reach_y=None) -> jax.Array:
    """Return the mean position [B, K, 2] over the cells of maps [B, h, w, K] near (x, y) [B, K].

    Near means `NEAR` cells to each side, or `reach_x` and `reach_y` [B, K] where these are fewer.
    """
    reach_x, reach_y = (jnp.full_like(x, NEAR) if r is None else r for r in (reach_x, reach_y))
    columns, rows = (jnp.arange(n)[:, None] for n in (maps.shape[2], maps.shape[1]))
    near_x, near_y = (  # [B, n, K]
        abs(cells - center[:, None]) <= jnp.minimum(reach, NEAR)[:, None]
        for cells, center, reach in ((columns, x, reach_x), (rows, y, reach_y))
    )
    weights = jnp.where(near_y[:, :, None] & near_x[:, None], maps, 0.0)
    total = jnp.maximum(weights.sum((1, 2)), jnp.finfo(maps.dtype).tiny)
    sums = (weights.sum(1) * columns).sum(1), (weights.sum(2) * rows).sum(1)
    return jnp.stack(sums, -1) / total[..., None]


def _top(before, peak, after, inside) -> jax.Array:
    """Return where the parabola through three logarithms peaks, -0.5 to 0.5; 0 if not inside."""
    # Values beside a peak may be 0 or less: they count as a thousandth of the peak.
    least = 1e-3 * jnp.where(peak > 0, peak, 1.0)
    low, high = (jnp.log(jnp.maximum(side, least) / (1e3 * least)) for side in (before, after))
    bend = low + high  # not above 0: relative to the peak, the peak's own logarithm is 0
    shift = jnp.where(bend < 0, 0.5 * (low - high) / jnp.where(bend < 0, bend, 1.0), 0.0)
    return jnp.where(inside, shift, 0.0)


def alignment(how: str, half_pixel: bool) -> Cells:
    """Return how the cells of the joints' maps lie in the crop (`geometry.map_to_crop`).

    Args:
      how: as in `decode`. "centroid" is for MediaPipe's maps, whose cells lie at `EDGE`.
      half_pixel: the network's `PoseNet.half_pixel`.
    """
    return EDGE if how == "centroid" else half_pixel


def mirror(arrays: jax.Array, half_pixel: Cells = False) -> jax.Array:
    """Mirror crops or their maps [B, h, w, C] horizontally; both agree, whatever the maps' stride.

    With `half_pixel` cells (`geometry.map_to_crop`) index i goes to w - 1 - i; otherwise to w - i,
    and index 0, which has no partner, repeats its neighbour. Cells at `EDGE` belong to crops that
    are mirrored with `half_pixel`.

    Args:
      arrays: [B, h, w, C].
      half_pixel: how cells lie in the image.
    """
    if half_pixel and half_pixel != EDGE:
        return arrays[:, :, ::-1]
    back = arrays[:, :, :0:-1]
    return jnp.concatenate([back[:, :, :1], back], 2)


def turn(arrays: jax.Array, quarters: jax.Array, half_pixel: bool = False) -> jax.Array:
    """Turn square crops or their maps [B, n, n, C] by quarters; both agree, as in `mirror`.

    Nothing is interpolated. Without `half_pixel`, row and column 0 have no partner and become 0.

    Args:
      arrays: [B, n, n, C].
      quarters: [B], counterclockwise quarter turns, 0 to 3.
      half_pixel: how cells lie in the image.
    """
    first = 0 if half_pixel else 1
    inner = arrays[:, first:, first:]
    turned = jnp.stack([jnp.rot90(inner, k, (1, 2)) for k in range(4)], 1)
    chosen = jnp.take_along_axis(turned, quarters[:, None, None, None, None], 1)[:, 0]
    return jnp.pad(chosen, ((0, 0), (first, 0), (first, 0), (0, 0)))


def readable(maps: jax.Array, how: str) -> jax.Array:
    """Convert a network's maps to maps of confidences, 0 to about 1.

    Args:
      maps: [B, h, w, K].
      how: as in `decode`; the maps of "centroid" are logits.
    """
    return jax.nn.sigmoid(maps) if how == "centroid" else maps


def distributions(maps: jax.Array) -> jax.Array:
    """Return maps [B, h, w, K] (`readable`) as distributions over cells, each of which sums to 1.

    Values below 0 count as 0; a map without a positive value becomes uniform.
    """
    least = jnp.finfo(maps.dtype).tiny ** 0.5
    mass = jnp.maximum(maps, 0.0) + least
    return mass / mass.sum((1, 2), keepdims=True)
