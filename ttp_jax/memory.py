"""A bounded memory of a subject's past frames, which its updates draw from."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax.frames import Frames

SAME = 0.1  # images whose mean absolute difference, of 255, is below this count as equal


class Memory(flax.struct.PyTreeNode):
    """At most M past frames: all of them while they fit, then a uniform sample of all so far.

    Attributes:
      pictures, views, crops: fields of the remembered frames [M, ...], as in `Frames`.
      seen: number of valid frames so far, int32.
    """

    pictures: jax.Array
    views: jax.Array
    crops: jax.Array
    seen: jax.Array

    @property
    def filled(self) -> jax.Array:
        """How many of the M slots hold a frame."""
        return jnp.minimum(self.seen, len(self.pictures))


def empty(capacity: int, shape: tuple[int, int], turned: bool = False) -> Memory:
    """Return a memory without frames.

    Args:
      capacity: number of frames that it can hold.
      shape: height and width of the windows.
      turned: whether crops have a rotation in degrees as their fourth number.
    """
    pictures = jnp.zeros((capacity, *shape, 3), jnp.uint8)
    views, crops = jnp.zeros((capacity, 3)), jnp.zeros((capacity, 3 + turned))
    return Memory(pictures, views, crops, jnp.zeros((), jnp.int32))


def remember(memory: Memory, frame: Frames, key: jax.Array) -> Memory:
    """Add one frame by reservoir sampling (Vitter 1985, Algorithm R).

    Valid frame n, counted from 0, goes to slot n if there is one. Otherwise it replaces a random
    frame with probability M / (n + 1), so all frames so far are equally likely to be in memory.

    Args:
      memory: the frames so far.
      frame: one frame, fields without [n].
      key: random key.
    """
    capacity = len(memory.pictures)
    drawn = jax.random.randint(key, (), 0, jnp.maximum(memory.seen + 1, 1))
    place = jnp.where(memory.seen < capacity, memory.seen, drawn)
    # Past the end, the frame is dropped. Choosing between memories would copy them under `vmap`.
    place = jnp.where(frame.valid, place, capacity)
    return Memory(
        memory.pictures.at[place].set(frame.pictures, mode="drop"),
        memory.views.at[place].set(frame.views, mode="drop"),
        memory.crops.at[place].set(frame.crops, mode="drop"),
        memory.seen + frame.valid,
    )


def repeats(pictures: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Return which windows repeat the one before them.

    In adaptation a frozen video counts as one frame: pairs of equal frames would teach copying.

    Args:
      pictures: uint8 [n, H, W, 3].
      before: the window before the first; None if there is none.

    Returns:
      bool [n].
    """
    found = np.zeros(len(pictures), bool)
    for i, picture in enumerate(pictures):
        if before is not None and picture.shape == before.shape:
            found[i] = np.abs(picture.astype(np.int16) - before).mean() < SAME
        before = picture
    return found


def draw(memory: Memory, key: jax.Array, count: int) -> jax.Array:
    """Draw indices [count] of frames, uniformly among the filled slots.

    Args:
      memory: a memory of at least one frame.
      key: random key.
      count: number of indices.
    """
    return jax.random.randint(key, (count,), 0, jnp.maximum(memory.filled, 1))
