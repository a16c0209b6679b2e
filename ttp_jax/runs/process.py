"""The process itself: printing, stopping, locks, memory, the compilation cache."""

import contextlib
import os
import pathlib
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from tqdm import tqdm

from ttp_jax.files import only_one

SECONDS_A_LINE = 15.0  # interval between two lines of progress in a log
STOPPED = 143  # exit code, the same as if SIGTERM had ended the program


class Stopped(Exception):
    """The run was asked to stop and has saved what is needed to resume."""


def say(*words) -> None:
    """Print immediately, also into a pipe, and above a progress bar."""
    with tqdm.external_write_mode(sys.stdout):
        print_to(sys.stdout, *words)


def say_failed(errors: Mapping[str, str]) -> None:
    """Print the errors of subjects by name, even if an error begins with the name already.

    Args:
      errors: name of the subject -> its error.
    """
    for name, error in errors.items():
        say(f"FAILED {name}: {error.removeprefix(f'{name}: ')}")


def print_to(stream: Any, *words, sep: str = " ") -> None:
    """Print immediately to a stream; if its reader has ended, this and all later lines are lost.

    Ctrl-C also ends the `tee` of `| tee log`, and the work must still be saved.
    """
    try:
        print(*words, sep=sep, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def alone_in(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Take the lock `only_one` of a folder, in the first of several cooperating processes."""
    return only_one(folder) if jax.process_index() == 0 else contextlib.nullcontext()


def use_compilation_cache() -> None:
    """Store compiled programs, so that the next run of the same config starts quickly."""
    folder = pathlib.Path(os.path.expanduser("~/.cache/ttp_jax/xla"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"no compilation cache: {error}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


class Compiling:
    """A stopwatch of the seconds that this process has spent compiling since it was created."""

    EVENTS = (
        "/jax/core/compile/jaxpr_to_mlir_module_duration",
        "/jax/core/compile/backend_compile_duration",
    )

    def __init__(self):
        """Start measuring."""
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, duration_secs: float, **_: Any) -> None:
        if event in self.EVENTS:
            self.seconds += duration_secs


COMPILING = Compiling()


class _Lines:
    """A stream that writes the progress bar as plain lines, for logs and pipes."""

    _latest = ""

    def write(self, text: str) -> None:
        line = text.replace("\r", " ").strip()
        if line and line != self._latest:  # closing the bar repeats its last line
            self._latest = line
            print_to(sys.stderr, line)

    def flush(self) -> None:
        pass


class _Bar(tqdm):
    """A bar whose percentage is rounded down, so that 100 % means that the work is done."""

    @property
    def format_dict(self):
        found = super().format_dict
        n = min(found["n"], found["total"])  # a sum of shares can end a little above the total
        share = n / found["total"] if found["total"] else 1.0
        return {**found, "n": n, "percent": int(100 * min(share + 1e-9, 1.0))}


def progress_bar(total: float, what: str, **options) -> tqdm:
    """Return a progress bar; if stderr is not a terminal, it prints lines, see `SECONDS_A_LINE`.

    Args:
      total: the amount of work, in any unit.
      what: the work, in the user's words.
      options: options of tqdm.
    """
    if sys.stderr.isatty():
        shown = "{desc}: {percent:3d}%|{bar}| {elapsed}<{remaining}{postfix}"
        return _Bar(total=total, desc=what, dynamic_ncols=True, bar_format=shown, **options)
    return _Bar(
        total=total,
        desc=what,
        file=_Lines(),
        mininterval=SECONDS_A_LINE,
        miniters=0,
        bar_format="{desc}: {percent} %, {elapsed} so far, {remaining} left{postfix}",
        **options,
    )


@contextlib.contextmanager
def stopping(event: threading.Event) -> Iterator[None]:
    """Set the event on SIGTERM and on the first Ctrl-C; a second Ctrl-C stops at once."""

    def ask(number, frame):
        del frame
        event.set()
        # A signal in the middle of a print finds the stream locked.
        with contextlib.suppress(RuntimeError):
            say("\nstopping as soon as the current state is saved ...")
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def peak_mib() -> float:
    """Return the peak memory of this process so far: GPU memory if there is one, else resident."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**20
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> None:
    """Reset `peak_mib`. Only Linux can do this, and only for resident memory."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
