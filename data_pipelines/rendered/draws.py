"""Random numbers for the rendered people."""

import math

import jax
import jax.numpy as jnp


def hsv(hue, saturation, value):
    """Return RGB [..., 3]; the hue wraps at 1."""
    ramp = jnp.abs(jnp.mod(hue[..., None] + jnp.array([0.0, 2 / 3, 1 / 3]), 1.0) * 6 - 3) - 1
    white = jnp.clip(ramp, 0.0, 1.0) - 1
    return value[..., None] * (1 + saturation[..., None] * white)


class Draw:
    """Random numbers from one pool, because a key for each draw would take minutes to compile."""

    def __init__(self, key):
        keys = jax.random.split(key)
        pools = jax.random.uniform(keys[0], (1024,)), jax.random.normal(keys[1], (1024,))
        self.pools, self.used = (
            dict(zip(("uniform", "normal"), pools, strict=True)),
            {"uniform": 0, "normal": 0},
        )

    def _take(self, kind, shape):
        start = self.used[kind]
        self.used[kind] = stop = start + math.prod(shape)
        return self.pools[kind][start:stop].reshape(shape)

    def uniform(self, low, high, shape=()):
        """Return numbers from the uniform distribution on `low` to `high`."""
        return low + (high - low) * self._take("uniform", shape)

    def normal(self, shape=()):
        """Return numbers from the standard normal distribution."""
        return self._take("normal", shape)

    def chance(self, probability):
        """Return True with this probability."""
        return self.uniform(0, 1) < probability

    def integer(self, stop):
        """Return an integer from 0 to stop - 1."""
        return jnp.floor(self.uniform(0, stop)).astype(jnp.int32)

    def color(self, saturation, value, shape=()):
        """Return RGB [*shape, 3] of any hue; saturation and value are (low, high)."""
        return hsv(
            self.uniform(0, 1, shape),
            self.uniform(saturation[0], saturation[1], shape),
            self.uniform(value[0], value[1], shape),
        )

    def of(self, options):
        """Return one of the rows, moved a little towards another."""
        a, b = self.integer(len(options)), self.integer(len(options))
        options = jnp.asarray(options, jnp.float32)
        return options[a] + self.uniform(0, 0.4) * (options[b] - options[a])
