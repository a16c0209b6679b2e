"""The colours that networks here are fed: RGB less ImageNet's mean, in its standard deviations."""

import jax.numpy as jnp

# ImageNet's colour statistics, RGB, of values in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def to_unit(pictures):
    """Colours of the network [..., 3] back to RGB in 0..1, not clipped."""
    return pictures * jnp.array(STD, pictures.dtype) + jnp.array(MEAN, pictures.dtype)
