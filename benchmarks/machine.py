"""The machine that the benchmark runs on: description, free memory, speed of matrix products."""

import contextlib
import ctypes
import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import time

import jax
import jax.numpy as jnp
import torch

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def cores() -> int:
    """Return the number of CPU cores that this process may use; jax uses all of them by default."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict:
    """Describe machine, versions and time, for the JSON file."""
    device = jax.devices()[0]
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _kib("/proc/meminfo", "MemTotal", 0) / 2**20,
        "device": device.device_kind if device.platform != "cpu" else "cpu",
        "torch_cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_at_start": os.getloadavg()[0],
        "busy": os.getloadavg()[0] > 0.3 * cores(),  # other programs are running
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": {"python": platform.python_version(), **_versions()},
        "settings": {k: os.environ[k] for k in ("XLA_FLAGS", "TTP_JAX_CONV") if k in os.environ},
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError, IndexError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(x for x in lines if x.startswith("model name")).split(":")[1].strip()
    return platform.processor() or platform.machine()


def _versions():
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


# --- Memory --------------------------------------------------------------------------------------


def free_bytes() -> int | None:
    """Return the free memory of the device that jax uses; None if unknown."""
    if jax.default_backend() == "cpu":
        kib = _kib("/proc/meminfo", "MemAvailable", None)
        return None if kib is None else kib * 1024
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats["bytes_in_use"]


class MemoryOfCall:
    """The memory that a call took in addition to what the process or torch's device held before.

    On a CPU, this is from the peak of the resident memory. On a GPU, it is known only for torch;
    for jax there is only the peak of the whole process so far, because jax can't reset it.
    """

    def __init__(self, *, ours: bool):
        self._ours, self._before = ours, 0
        self.bytes: int | None = None
        self.process_peak: int | None = None

    def __enter__(self) -> "MemoryOfCall":
        if jax.default_backend() == "cpu":
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)  # memory kept for reuse would hide a call's needs
            with contextlib.suppress(OSError):
                pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
            self._before = _kib("/proc/self/status", "VmRSS", 0)
        elif not self._ours:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_) -> None:
        if jax.default_backend() == "cpu":
            peak = _kib("/proc/self/status", "VmHWM", None)
            if peak is not None:
                self.process_peak = peak * 1024
                self.bytes = (peak - self._before) * 1024
        elif self._ours:
            self.process_peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        else:
            self.process_peak = torch.cuda.max_memory_allocated()
            self.bytes = self.process_peak - self._before


def peak_mib() -> float:
    """Return the peak resident memory of this process so far, in MiB."""
    return _kib("/proc/self/status", "VmHWM", 0) / 1024


def environment() -> dict[str, str]:
    """Return this process's environment with the repository on the path, for a subprocess."""
    root = str(pathlib.Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def _kib(path, name, default):
    """Return the number in the line "name:  number kB" of one of the kernel's files."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return default


# --- The best rate of multiplying matrices -------------------------------------------------------


def matmul_rates(precision: str, sizes: tuple[int, ...], repeats: int = 5) -> dict[str, float]:
    """Measure the fastest square matrix product, interleaved; return FLOP/s as {library: rate}."""
    best = {}
    for size in sizes:
        for name, call in _products(precision, size).items():
            call()
            for _ in range(repeats):
                began = time.perf_counter()
                call()
                rate = 2 * size**3 / (time.perf_counter() - began)
                best[name] = max(best.get(name, 0.0), rate)
    return best


def _products(precision, size):
    exact = precision == "float32" and jax.default_backend() != "cpu"
    ours = jnp.ones((size, size), jnp.bfloat16 if precision == "bf16" else jnp.float32)

    @functools.partial(jax.jit, static_argnames="how")
    def product(a, how):
        return jnp.matmul(a, a, precision=how)

    calls = {"jax": lambda: product(ours, "highest" if exact else None).block_until_ready()}
    on_gpu = jax.default_backend() != "cpu"
    if on_gpu and not torch.cuda.is_available():
        return calls
    device = "cuda" if on_gpu else "cpu"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    theirs = torch.ones(size, size, dtype=dtype, device=device)

    def call():
        torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
        result = theirs @ theirs
        if on_gpu:
            torch.cuda.synchronize()
        return result

    return {**calls, "torch": call}
