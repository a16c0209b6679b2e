"""Lift a function of one subject to many, and a training step to many devices. Knows no pose."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

GOODBYE = 5.0  # seconds in which the other processes say to process 0 that they end
WAYS = ("auto", "map", "vmap", "chunks")


def over_subjects(
    fn: Callable,
    *,
    how: str = "auto",
    chunk: int | None = None,
    shared: int = 0,
    mesh: Mesh | None = None,
) -> Callable:
    """Return `fn` with a leading axis [N] on its arguments and results.

    Every subject's result is what `fn` gives for it alone, whatever its neighbours are. With
    subjects side by side (all but "map") this holds up to rounding, which depends on their number.

    Args:
      fn: pure function of one subject's arrays.
      how: "map" runs subjects one after the other in one program; "vmap" side by side; "chunks"
        `chunk` of them side by side, chunk after chunk. "auto" takes "map" on CPU, whose caches
        prefer one subject at a time, and elsewhere "vmap", or "chunks" where `chunk` is given.
      chunk: subjects that the memory holds side by side; [N] (per device) is a multiple of it.
      shared: the first so many arguments are the same for all subjects and have no [N].
      mesh: devices with the axis "subject" (`subject_mesh`) that take N / devices subjects each;
        N is a multiple of their number, see `pad_subjects`. None for one device.

    Raises:
      ValueError: an unknown `how`, or a chunk that is missing or doesn't fit.
    """
    if how not in WAYS:
        raise ValueError(f"how is {how!r}, expected one of {', '.join(WAYS)}.")
    if how == "auto":
        side_by_side = "vmap" if chunk is None else "chunks"
        how = "map" if jax.default_backend() == "cpu" else side_by_side
    if how == "chunks" and (chunk is None or chunk < 1):
        raise ValueError('how="chunks" needs a chunk of at least one subject.')
    lifted = _lifted(fn, {"map": 1, "chunks": chunk}.get(how), shared)
    return lifted if mesh is None else _over_devices(lifted, shared, mesh)


def _lifted(fn: Callable, width: int | None, shared: int) -> Callable:
    """`fn` on subjects of one device, `width` of them side by side; None for all."""

    def lifted(*args):
        common, own = args[:shared], args[shared:]

        def one(own):
            return fn(*common, *own)

        count = jax.tree.leaves(own)[0].shape[0]
        if count == 1:  # no loop, which would copy what goes in and out
            return jax.tree.map(lambda a: a[None], one(jax.tree.map(lambda a: a[0], own)))
        if width is None:
            return jax.vmap(one)(own)
        if width == 1:
            return jax.lax.map(one, own)
        if count % width:
            raise ValueError(f"{count} subjects a device are not a multiple of the chunk, {width}.")
        split = jax.tree.map(lambda a: a.reshape(count // width, width, *a.shape[1:]), own)
        results = jax.lax.map(jax.vmap(one), split)
        return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), results)

    return lifted


def _over_devices(lifted: Callable, shared: int, mesh: Mesh) -> Callable:
    """`lifted` on each device's own subjects."""

    def sharded(*args):
        alike, divided = PartitionSpec(), PartitionSpec("subject")
        specs = (alike,) * shared + (divided,) * (len(args) - shared)
        # Never by jit's own partitioning: it gets the convolutions of per-subject kernels wrong.
        return jax.shard_map(lifted, mesh=mesh, in_specs=specs, out_specs=divided, check_vma=False)(
            *args
        )

    return sharded


def pad_subjects(tree: Any, multiple: int) -> Any:
    """Fill [N] on every leaf up to a multiple: with zeros (False), keys with the last one again.

    A subject of which no frame is valid costs no update under `map`, and changes no other.

    Args:
      tree: arrays with a leading axis [N].
      multiple: N becomes a multiple of it.
    """

    def fill(leaf):
        missing = -len(leaf) % multiple
        if not missing:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], missing, 0)])
        return jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))

    return jax.tree.map(fill, tree)


def join_hosts(where: str) -> None:
    """Make this process one of several that work together; before anything else of jax runs.

    Args:
      where: "auto" where the launcher says who takes part (SLURM, Open MPI, Cloud TPU, Kubernetes);
        else "HOST:PORT,COUNT,INDEX": address of process 0, number of processes, which one this is.

    Raises:
      ValueError: neither of these.
    """
    # What subjects a dead process had is done on the next start: the others needn't die with it.
    jax.config.update("jax_enable_recoverability", True)
    join = functools.partial(  # a week: the others may have more subjects to do
        jax.distributed.initialize, shutdown_timeout_seconds=7 * 24 * 3600
    )
    if where == "auto":
        join()
        return
    try:
        address, count, index = where.split(",")
        places = address, int(count), int(index)
    except ValueError:
        raise ValueError(
            f"--hosts is {where!r}, expected auto or HOST:PORT,COUNT,INDEX, as 10.0.0.1:1234,2,0."
        ) from None
    join(*places)


def wait_for_hosts() -> None:
    """Wait until the other processes come here, too, or are dead.

    The last thing to do: process 0 keeps the others together, they would end with it.
    """
    if jax.process_count() > 1:
        with contextlib.suppress(RuntimeError), multihost_utils.live_devices(jax.devices()):
            pass
        if jax.process_index() == 0:
            time.sleep(GOODBYE)


def subject_of(subjects: Any, index: int) -> Any:
    """One subject's arrays, on the device that holds them.

    Indexing divided arrays instead would make all devices add up what they hold, array by array. On
    a CPU with fewer cores than devices they can wait for each other for ever.

    Args:
      subjects: arrays [N, ...], on one device or divided over several (`split_subjects`).
      index: of the subject, 0 to N - 1.
    """

    def own(leaf):
        for shard in leaf.addressable_shards:
            first, end, _ = shard.index[0].indices(len(leaf))
            if first <= index < end:
                return shard.data[index - first]
        raise IndexError(f"subject {index} of {len(leaf)} is not on this machine's devices.")

    return jax.tree.map(own, subjects)


def local(tree: Any) -> Any:
    """This process's own copy of arrays that all devices hold alike (`everywhere`)."""

    def own(leaf):
        return leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf

    return jax.tree.map(own, tree)


def data_mesh(devices=None) -> Mesh:
    """One axis "data" over all devices of all processes.

    Explicit axes, jax's default, would break `jit`.
    """
    return _mesh("data", jax.devices() if devices is None else devices)


def subject_mesh(devices=None) -> Mesh:
    """One axis "subject" over all local devices, for `over_subjects`."""
    return _mesh("subject", jax.local_devices() if devices is None else devices)


def _mesh(name: str, devices) -> Mesh:
    return Mesh(np.asarray(devices), (name,), axis_types=(AxisType.Auto,))


def split_batch(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose axis 0 is the batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Sharding of the state: a copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split_subjects(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose axis 0 is the subject."""
    return NamedSharding(mesh, PartitionSpec("subject"))
