"""The frames of a subject that its updates draw from, in bounded memory."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax.frames import Frames

SAME = 0.1  # mean difference of two pictures, of 255, below which nothing has changed


class Memory(flax.struct.PyTreeNode):
    """At most M past frames: all of them while they fit, then a uniform sample of all so far.

    Attributes:
      pictures, views, crops: of the frames kept [M, ...], as in `Frames`.
      seen: valid frames so far, int32.
    """

    pictures: jax.Array
    views: jax.Array
    crops: jax.Array
    seen: jax.Array

    @property
    def filled(self) -> jax.Array:
        """How many of the M places hold a frame."""
        return jnp.minimum(self.seen, len(self.pictures))


def empty(capacity: int, shape: tuple[int, int], turned: bool = False) -> Memory:
    """Return a memory without frames.

    Args:
      capacity: windows that it can hold.
      shape: height and width of the windows.
      turned: whether crops come with their degrees.
    """
    pictures = jnp.zeros((capacity, *shape, 3), jnp.uint8)
    views, crops = jnp.zeros((capacity, 3)), jnp.zeros((capacity, 3 + turned))
    return Memory(pictures, views, crops, jnp.zeros((), jnp.int32))


def remember(memory: Memory, frame: Frames, key: jax.Array) -> Memory:
    """Take in one frame (fields without [n]): reservoir sampling (Vitter 1985, Algorithm R).

    Valid frame number n, from 0, takes place n while there is one; after that it replaces a random
    one with probability M / (n + 1), so that any frame so far is kept equally likely.

    Args:
      memory: of the frames so far.
      frame: one frame, fields without [n].
      key: of the draw.
    """
    capacity = len(memory.pictures)
    drawn = jax.random.randint(key, (), 0, jnp.maximum(memory.seen + 1, 1))
    place = jnp.where(memory.seen < capacity, memory.seen, drawn)
    # Beyond the end means nowhere. A choice between two memories would copy them under `vmap`.
    place = jnp.where(frame.valid, place, capacity)
    return Memory(
        memory.pictures.at[place].set(frame.pictures, mode="drop"),
        memory.views.at[place].set(frame.views, mode="drop"),
        memory.crops.at[place].set(frame.crops, mode="drop"),
        memory.seen + frame.valid,
    )


def repeats(pictures: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Find windows that show the same as the one before them.

    A frozen picture counts once in adaptation: pairs of equal frames would teach copying.

    Args:
      pictures: uint8 [n, H, W, 3].
      before: the window before the first; None where there is none.

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
    """Draw places [count] of frames, uniformly among those that are filled.

    Args:
      memory: of at least one frame.
      key: of the draws.
      count: places to draw.
    """
    return jax.random.randint(key, (count,), 0, jnp.maximum(memory.filled, 1))
