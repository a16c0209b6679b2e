"""The networks' input colours: RGB minus ImageNet's mean, divided by its standard deviation."""

import jax.numpy as jnp

# ImageNet's colour statistics, RGB, of values in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def to_unit(pictures):
    """Convert the network's colours [..., 3] back to RGB in 0..1, without clipping."""
    return pictures * jnp.array(STD, pictures.dtype) + jnp.array(MEAN, pictures.dtype)
