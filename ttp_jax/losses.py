"""The losses, and the running normalisers of the perceptual loss."""

import jax
import jax.numpy as jnp
import optax

from ttp_jax import heatmaps
from ttp_jax.models.vgg import VGG16

MOMENTUM = 0.01


def joints_mse(maps: jax.Array, truth: jax.Array, weights: jax.Array) -> jax.Array:
    """Return half the mean squared error of heatmaps (Eq. 9).

    The mean also counts invisible joints, as in the published program.

    Args:
      maps: predicted [B, h, w, K].
      truth: [B, h, w, K], Gaussians at the true joints.
      weights: [B, K], 1 for a joint to learn from, else 0.
    """
    return 0.5 * jnp.mean(jnp.square((maps - truth) * weights[:, None, None, :]))


def joints_cross_entropy(
    logits: jax.Array, points: jax.Array, weights: jax.Array, sigma: float
) -> jax.Array:
    """Return the mean cross-entropy over visible joints, of each map's softmax over its cells.

    The target is a Gaussian around the joint's exact position, cut off at the border. Differs from
    the paper, which uses the squared error of heatmaps (Eq. 9).

    Args:
      logits: [B, h, w, K].
      points: [B, K, 2] in cells; those of invisible joints don't matter.
      weights: [B, K] in {0, 1}.
      sigma: standard deviation of the Gaussians, in cells.
    """
    _, height, width, _ = logits.shape
    last = jnp.array([width - 1, height - 1], points.dtype)
    # Unknown positions are NaN, and a Gaussian around a distant one would be 0 everywhere.
    points = jnp.where(weights[..., None] > 0, jnp.clip(points, 0, last), 0)
    truth = heatmaps.gaussian_maps(points, height, width, sigma)
    truth = truth / truth.sum((1, 2), keepdims=True)
    logs = logits - jax.nn.logsumexp(logits, axis=(1, 2), keepdims=True)
    each = -jnp.sum(truth * logs, axis=(1, 2))
    return jnp.sum(each * weights) / jnp.maximum(weights.sum(), 1)


def entropy(shares: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the mean entropy, in nats, of distributions over cells (`heatmaps.distributions`).

    After Wang et al. 2021 (Tent), whose distributions are over classes.

    Args:
      shares: [B, h, w, K], each map sums to 1.
      weights: weights of the maps [B, K]; the mean is 0 if all are 0.
    """
    each = -jnp.sum(shares * jnp.log(shares), (1, 2))
    return jnp.sum(each * weights) / jnp.maximum(weights.sum(), 1)


def quarter_turns(pictures: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Turn square images [B, H, H, 3] by 0, 1, 2, 3, 0, ... quarters; also return these numbers.

    The images of a batch are drawn at random, so their turns may follow a fixed pattern.
    """
    turns = jnp.arange(len(pictures)) % 4
    return heatmaps.turn(pictures, turns, half_pixel=True), turns


def rotation(logits: jax.Array, turns: jax.Array) -> jax.Array:
    """Return the cross-entropy of the predicted quarter turns (Sun et al. 2020).

    Args:
      logits: [B, 4].
      turns: [B], the true number of quarter turns.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, turns).mean()


def equivariance(
    maps: jax.Array, upright: jax.Array, quarters: jax.Array, half_pixel: bool = False
) -> jax.Array:
    """Return the mean squared error of maps of turned images against turned maps of upright ones.

    The upright maps get no gradient. Cells that a turn can't fill (`heatmaps.turn`) don't count.

    Args:
      maps: [B, n, n, M] of the turned images.
      upright: [B, n, n, M] of the same images, not turned.
      quarters: [B], quarter turns.
      half_pixel: how cells lie in the image, see `heatmaps.turn`.
    """
    first = 0 if half_pixel else 1
    wanted = jax.lax.stop_gradient(heatmaps.turn(upright, quarters, half_pixel))
    return jnp.mean(jnp.square(maps - wanted)[:, first:, first:])


def feature_errors(
    vgg: VGG16, picture: jax.Array, target: jax.Array, *, bgr: bool = False
) -> jax.Array:
    """Return mean squared errors [levels + 1]: of the images themselves, then of each relu level.

    The target gets no gradient.

    Args:
      vgg: the features.
      picture: [B, H, W, 3] in the network's colours.
      target: [B, H, W, 3], the image that it should equal.
      bgr: channel order, see `models.pose.normalize`.
    """
    target = jax.lax.stop_gradient(target)
    pairs = [
        (picture, target),
        *zip(vgg(picture, bgr=bgr), vgg(target, bgr=bgr), strict=True),
    ]
    return jnp.stack([jnp.mean(jnp.square((a - b).astype(picture.dtype))) for a, b in pairs])


def reconstruction(
    vgg: VGG16,
    picture: jax.Array,
    target: jax.Array,
    normalisers: jax.Array,
    *,
    bgr: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Return the reconstruction loss (Eq. 1) and the updated normalisers [levels + 1].

    Each error is divided by its own running mean, which is updated first and gets no gradient. The
    paper's separate squared error is entry 0 of the list (published program).

    Args:
      vgg: the features.
      picture: reconstruction [B, H, W, 3] in the network's colours.
      target: [B, H, W, 3], the image that it should equal.
      normalisers: [levels + 1], running means of the entries.
      bgr: channel order, see `models.pose.normalize`.
    """
    errors = feature_errors(vgg, picture, target, bgr=bgr)
    normalisers = normalisers + MOMENTUM * (jax.lax.stop_gradient(errors) - normalisers)
    return jnp.sum(errors / normalisers), normalisers
