"""Lift a function of one subject to many, and a training step to many devices. Knows no pose."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def over_subjects(fn: Callable, *, how: str = "auto") -> Callable:
    """Return `fn` with a leading axis [N] on every argument and result.

    Args:
      fn: pure function of one subject's arrays.
      how: "map" runs subjects one after the other in one program, "vmap" side by side; "auto"
        takes "map" on CPU, whose caches prefer one subject at a time, and "vmap" elsewhere.
    """
    if how == "auto":
        how = "map" if jax.default_backend() == "cpu" else "vmap"
    if how == "vmap":
        return jax.vmap(fn)
    if how == "map":
        return lambda *args: jax.lax.map(lambda one: fn(*one), args)
    raise ValueError(f'how is {how!r}, expected "auto", "map" or "vmap".')


def data_mesh(devices=None) -> Mesh:
    """One axis "data" over all local devices. Explicit axes, jax's default, would break `jit`."""
    devices = jax.local_devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def split_batch(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose axis 0 is the batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Sharding of the state: a copy on each device."""
    return NamedSharding(mesh, PartitionSpec())
