"""Mapping functions of one subject over many, and meshes of devices; nothing specific to poses."""

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

GOODBYE = 5.0  # seconds that process 0 gives the others to sign off
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

    Each subject's result is what `fn` returns for it alone, whatever the other subjects are. When
    subjects run side by side (all but "map"), this holds up to rounding, which depends on how many
    run together.

    Args:
      fn: pure function of one subject's arrays.
      how: "map" runs subjects one after the other in one program, "vmap" side by side, "chunks"
        in groups of `chunk` side by side. "auto" is "map" on CPU, where caches favour one subject
        at a time; elsewhere it is "vmap", or "chunks" if `chunk` is given.
      chunk: number of subjects that fit into memory side by side; [N] (per device) must be a
        multiple of it.
      shared: number of leading arguments that all subjects share; these have no axis [N].
      mesh: devices along an axis "subject" (`subject_mesh`), each of which takes N / devices
        subjects. N must be a multiple of their number, see `pad_subjects`. None for one device.

    Raises:
      ValueError: `how` is unknown, or the chunk is missing or doesn't fit.
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
    """Return `fn` for the subjects of one device, `width` of them side by side; None for all."""

    def lifted(*args):
        common, own = args[:shared], args[shared:]

        def one(own):
            return fn(*common, *own)

        count = jax.tree.leaves(own)[0].shape[0]
        if count == 1:  # no loop, because it would copy inputs and outputs
            return jax.tree.map(lambda a: a[None], one(jax.tree.map(lambda a: a[0], own)))
        if width is None:
            return jax.vmap(one)(own)
        if width == 1:
            return jax.lax.map(one, own)
        if count % width:
            raise ValueError(
                f"{count} subjects per device are not a multiple of the chunk, {width}."
            )
        split = jax.tree.map(lambda a: a.reshape(count // width, width, *a.shape[1:]), own)
        results = jax.lax.map(jax.vmap(one), split)
        return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), results)

    return lifted


def _over_devices(lifted: Callable, shared: int, mesh: Mesh) -> Callable:
    """Return a version of `lifted` in which each device runs its own subjects."""

    def sharded(*args):
        alike, divided = PartitionSpec(), PartitionSpec("subject")
        specs = (alike,) * shared + (divided,) * (len(args) - shared)
        # jit's own partitioning computes convolutions with per-subject kernels wrongly.
        return jax.shard_map(lifted, mesh=mesh, in_specs=specs, out_specs=divided, check_vma=False)(
            *args
        )

    return sharded


def pad_subjects(tree: Any, multiple: int) -> Any:
    """Pad the axis [N] of every leaf to a multiple: with zeros (False), keys by repeating the last.

    A subject without valid frames costs no update under `map`, and changes no other subject.

    Args:
      tree: arrays with a leading axis [N].
      multiple: N is padded to a multiple of this.
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
    """Join this process to others that work together; call it before any other function of jax.

    Args:
      where: "auto" if the launcher tells which processes take part (SLURM, Open MPI, Cloud TPU,
        Kubernetes). Otherwise "HOST:PORT,COUNT,INDEX": address of process 0, number of processes,
        index of this one.

    Raises:
      ValueError: `where` is neither of these.
    """
    # If one process dies, the others go on; the next start does the subjects that it had.
    jax.config.update("jax_enable_recoverability", True)
    join = functools.partial(  # waits a week, because other processes may have more subjects
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
    """Wait until each of the other processes has also called this, or is dead.

    Call it last: process 0 coordinates the others, and they would end with it.
    """
    if jax.process_count() > 1:
        with contextlib.suppress(RuntimeError), multihost_utils.live_devices(jax.devices()):
            pass
        if jax.process_index() == 0:
            time.sleep(GOODBYE)


def subject_of(subjects: Any, index: int) -> Any:
    """Return one subject's arrays, on the device that holds them.

    Indexing sharded arrays instead would make all devices sum over their shards, array by array. On
    a CPU with fewer cores than devices, these sums can deadlock.

    Args:
      subjects: arrays [N, ...], on one device or sharded over several (`split_subjects`).
      index: index of the subject, 0 to N - 1.
    """

    def own(leaf):
        for shard in leaf.addressable_shards:
            first, end, _ = shard.index[0].indices(len(leaf))
            if first <= index < end:
                return shard.data[index - first]
        raise IndexError(f"subject {index} of {len(leaf)} is not on this machine's devices.")

    return jax.tree.map(own, subjects)


def local(tree: Any) -> Any:
    """Return this process's own copy of arrays that all devices hold (`everywhere`)."""

    def own(leaf):
        return leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf

    return jax.tree.map(own, tree)


def data_mesh(devices=None) -> Mesh:
    """Return a mesh with one axis "data" over all devices of all processes.

    Its axes are automatic: explicit axes, jax's default, would break `jit`.
    """
    return _mesh("data", jax.devices() if devices is None else devices)


def subject_mesh(devices=None) -> Mesh:
    """Return a mesh with one axis "subject" over all local devices, for `over_subjects`."""
    return _mesh("subject", jax.local_devices() if devices is None else devices)


def _mesh(name: str, devices) -> Mesh:
    return Mesh(np.asarray(devices), (name,), axis_types=(AxisType.Auto,))


def split_batch(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose axis 0 is the batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Return the sharding of the state: a copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split_subjects(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose axis 0 is the subject."""
    return NamedSharding(mesh, PartitionSpec("subject"))
