"""The two losses and the running normalisers of the perceptual one."""

import jax
import jax.numpy as jnp

from ttp_jax.models.vgg import VGG16

MOMENTUM = 0.01


def joints_mse(maps: jax.Array, truth: jax.Array, weights: jax.Array) -> jax.Array:
    """Half the mean squared error of heatmaps [B, h, w, K], weights [B, K] in {0, 1} (Eq. 9).

    The mean counts invisible joints too, as the published program does.
    """
    return 0.5 * jnp.mean(jnp.square((maps - truth) * weights[:, None, None, :]))


def feature_errors(
    vgg: VGG16, picture: jax.Array, target: jax.Array, *, bgr: bool = False
) -> jax.Array:
    """Mean squared errors [levels + 1]: the pictures themselves, then each relu level.

    No gradient goes to the target's side.
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

    Each entry is divided by its own running mean, updated first and without a gradient; the
    paper's separate squared error is entry 0 of the list (published program).
    """
    errors = feature_errors(vgg, picture, target, bgr=bgr)
    normalisers = normalisers + MOMENTUM * (jax.lax.stop_gradient(errors) - normalisers)
    return jnp.sum(errors / normalisers), normalisers
