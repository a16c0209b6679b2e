"""Speed of this project beside PyTorch: both sides in the same run, in one table.

    python -m benchmarks.speed                    # everything; within half an hour on two cores
    python -m benchmarks.speed --quick            # only the tiny network; within 3 minutes
    python -m benchmarks.speed --only train,online --sizes r18 --json speed.json --plot speed.png
    python -m benchmarks.speed --json speed.json --markdown docs/performance_speed.md

Lines are printed when they are done; progress goes to stderr. The time limit decides how often each
line is repeated; lines for which no time is left say so. After Ctrl-C, the JSON file has the lines
so far. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import functools
import gc
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator

import jax
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine, report
from benchmarks.case import PRECISIONS, Case, Side, Size, prepare
from benchmarks.workloads import (
    AMOUNTS,
    EAGER,
    NAMES,
    QUICK,
    SIZES,
    Amounts,
    Entry,
    Workload,
    workloads,
)

# Seconds between two sides, after which the threads of the first no longer wait for more work.
PAUSE = 0.3
LONG = 5.0  # seconds; a run that takes longer needs no other run to warm up


class Clock:
    """The time limit of a run."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Return the seconds left."""
        return self.end - time.monotonic()

    def refusal(self, seconds: float) -> str | None:
        """Return why work of about so many seconds isn't started; None if it may start."""
        if self.left() <= 0:
            return "no time left (--minutes)"
        if seconds > self.left():
            return f"would take about {seconds / 60:.1f} min, {self.left() / 60:.1f} are left"
        return None


def say(*words) -> None:
    """Print progress to stderr."""
    print(*words, file=sys.stderr, flush=True)


# --- Measuring one group -------------------------------------------------------------------------


def blank_row(case: Case, work: Workload, entry: Entry) -> dict:
    """Return a row before it is measured; "seconds" are for a run of `parts` steps, frames, ..."""
    return {
        "work": work.name,
        "title": work.title,
        "size": case.size.name,
        "precision": case.precision,
        "side": entry.side,
        "unit": work.unit,
        "baseline": work.baseline,
        "parts": entry.parts,
        "seconds": [],
        "cpu_seconds": [],
        "compile_seconds": None,
        "call_bytes": None,
        "planned_bytes": None,
        "process_peak_bytes": None,
        "flops_per_part": None,
        "xla_flops": None,
        "first_figure": None,
        "missing": None,
    }


def measure(case: Case, work: Workload, clock: Clock, seconds: float, most: int) -> list[dict]:
    """Build all sides of a group, and time them in turns, `most` times or for `seconds`.

    A side that can't be built or run is listed with the reason; the others have at least two
    timings.
    """
    until = time.monotonic() + seconds
    entries = work.entries(case)
    rows = [blank_row(case, work, entry) for entry in entries]
    ready: list[tuple[Side, dict]] = []
    round_seconds = each = 0.0
    for entry, row in zip(entries, rows, strict=True):
        say(f"  {case.size.name}, {case.precision}: {work.title}: {entry.side}")
        row["missing"] = clock.refusal(round_seconds + 2 * each * entry.parts)
        if row["missing"]:
            continue
        with listing_failure(row):
            side, once = make_ready(entry, row)
            ready.append((side, row))
            round_seconds += once + PAUSE
            each = max(each, once / entry.parts)
    while ready:
        counts = [len(row["seconds"]) for _, row in ready]
        in_time = time.monotonic() + round_seconds < until
        if min(counts) >= 2 and (max(counts) >= most or not in_time):
            break
        for side, row in ready:
            time.sleep(PAUSE)
            with listing_failure(row):
                timed_run(side, row)
        ready = [(side, row) for side, row in ready if row["missing"] is None]
    _share_flops(entries, rows)
    return rows


@contextlib.contextmanager
def listing_failure(row: dict) -> Iterator[None]:
    """Note a side's error in its row instead of raising it, so that the other sides continue."""
    try:
        yield
    except Exception as error:
        row["missing"] = _one_line(error)
        row["seconds"].clear()
        row["cpu_seconds"].clear()
        say(f"  not available: {row['missing']}")


def make_ready(entry: Entry, row: dict) -> tuple[Side, float]:
    """Build a side and run it until it is warm; return it and the seconds of a warm run.

    If the last of these runs is long, it counts as a timing, because the cost of being the first is
    then negligible.
    """
    side = entry.build()
    row["compile_seconds"], row["planned_bytes"] = side.compile_seconds, side.planned_bytes
    row["xla_flops"] = side.xla_flops
    figure = timed_run(side, row) if entry.compiles else None
    counter = FlopCounterMode(display=False) if entry.counts else contextlib.nullcontext()
    with machine.MemoryOfCall(ours=side.compile_seconds is not None) as memory, counter:
        own_figure = timed_run(side, row)
    row["call_bytes"], row["process_peak_bytes"] = memory.bytes, memory.process_peak
    if isinstance(counter, FlopCounterMode):
        row["flops_per_part"] = counter.get_total_flops() / entry.parts
    if figure is not None:
        row["compile_seconds"] = max(row["seconds"][0] - row["seconds"][1], 0.0)
    figure = own_figure if figure is None else figure
    row["first_figure"] = None if math.isnan(figure) else figure
    seconds = row["seconds"][-1]
    kept = slice(-1, None) if seconds > LONG else slice(0)
    row["seconds"], row["cpu_seconds"] = row["seconds"][kept], row["cpu_seconds"][kept]
    return side, seconds


def timed_run(side: Side, row: dict) -> float:
    """Run once and note the seconds; return the number of the run's result."""
    cpu, began = time.process_time(), time.perf_counter()
    figure = side.run()
    row["seconds"].append(time.perf_counter() - began)
    row["cpu_seconds"].append(time.process_time() - cpu)
    return figure


def _share_flops(entries, rows):
    """Give the operations of torch eager to all sides, which do the same work."""
    eager = next((row["flops_per_part"] for row in rows if row["side"] == EAGER), None)
    for entry, row in zip(entries, rows, strict=True):
        if not entry.counts:
            row["flops_per_part"] = eager


def _one_line(error):
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 100 else text[:97] + "..."


# --- The run -------------------------------------------------------------------------------------


def run(
    chosen: dict[str, tuple[Size, Amounts]],
    only: tuple[str, ...],
    precisions: tuple[str, ...],
    *,
    seed: int,
    minutes: float,
    most: int,
    compiles: bool,
    peak_sizes: tuple[int, ...],
    path: pathlib.Path | None,
    command: str,
) -> dict:
    """Measure everything, print the table line by line, write the JSON file; return the report."""
    clock = Clock(minutes)
    result = {
        "command": command,
        "machine": machine.describe(),
        "seed": seed,
        "options": {"only": only, "minutes": minutes, "most_repeats": most},
        "sizes": {name: size.title for name, (size, _) in chosen.items()},
        "features": {},
        "peaks": {p: machine.matmul_rates(p, peak_sizes) for p in precisions},
        "rows": [],
        "complete": False,
    }
    if result["machine"]["busy"]:
        say("this machine is BUSY: the times will be too long and vary")
    # Grouped by network, so that each is drawn only once.
    groups = [
        (size, amounts, precision, workloads(size, amounts, only, compiles))
        for size, amounts in chosen.values()
        for precision in precisions
    ]
    waiting = sum(_weight(size) * len(todo) for size, _, _, todo in groups)
    print(report.head(), flush=True)
    try:
        for size, amounts, precision, todo in groups:
            frames = max(amounts.online, amounts.offline, amounts.each)
            case = prepare(size, precision, seed, frames)
            result["features"][size.name] = case.features
            for work in todo:
                seconds = max(clock.left(), 0) * _weight(size) / waiting
                waiting -= _weight(size)
                rows = measure(case, work, clock, seconds, most)
                result["rows"] += rows
                for i, row in enumerate(rows):
                    print(report.line(row, rows, result["peaks"], first=i == 0), flush=True)
                if path:
                    report.save(result, path)
                _tidy()
        result["complete"] = True
    except KeyboardInterrupt:
        say("interrupted")
    if path:
        report.save(result, path)
    print(f"\n{report.facts(result)}\n\n{report.LEGEND}", flush=True)
    return result


def _weight(size):
    """Return the weight of a size's share of the time, roughly by the pictures' area."""
    return 1 if size.image_size <= 64 else 3


def _tidy():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _names(known, text):
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: expected some of {','.join(known)}")
    return names


def _numbers(text):
    return tuple(int(part) for part in text.split(","))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def some(known):
        return functools.partial(_names, known)

    parser.add_argument("--quick", action="store_true", help="tiny network, no torch.compile")
    parser.add_argument("--only", type=some(NAMES), default=NAMES, help=",".join(NAMES))
    parser.add_argument("--sizes", type=some(SIZES), help="tiny,r18")
    parser.add_argument(
        "--precision",
        type=some(PRECISIONS),
        help="float32,tf32,bf16; default float32 on CPU, tf32,bf16 on a GPU",
    )
    parser.add_argument(
        "--subjects", type=_numbers, help="numbers of subjects side by side, such as 4,16,32"
    )
    parser.add_argument("--minutes", type=float, help="time limit; default 26, with --quick 2")
    parser.add_argument(
        "--repeats", type=int, default=7, help="most runs per line; default %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, help="file for all raw timings")
    parser.add_argument("--plot", type=pathlib.Path, help="file for a plot of the table")
    parser.add_argument(
        "--markdown", type=pathlib.Path, help="file for a page like docs/performance_speed.md"
    )
    return parser.parse_args(argv)


def configure() -> None:
    """Set options of the whole process before jax and torch start."""
    # Don't let jax take most of the GPU's memory at once, because the other side needs some.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Without caches, so that compile times are those of a first run.
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    jax.config.update("jax_enable_compilation_cache", False)
    torch.set_num_threads(machine.cores())
    torch.backends.cudnn.benchmark = True


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    options = arguments(argv)
    configure()
    kind = "cpu" if jax.default_backend() == "cpu" else "gpu"
    precisions = options.precision or (("float32",) if kind == "cpu" else ("tf32", "bf16"))
    if kind == "cpu" and "tf32" in precisions:
        say("a CPU has no tf32: --precision=float32")
        return 2
    chosen = {}
    for name in options.sizes or (("tiny",) if options.quick else tuple(SIZES)):
        amounts = QUICK if options.quick else AMOUNTS[name, kind]
        if options.subjects:
            amounts = amounts._replace(subjects=options.subjects)
        chosen[name] = SIZES[name], amounts
    result = run(
        chosen,
        options.only,
        precisions,
        seed=options.seed,
        minutes=options.minutes or (2 if options.quick else 26),
        most=3 if options.quick else options.repeats,
        compiles=not options.quick,
        peak_sizes=(1024, 2048) if kind == "cpu" else (4096, 8192),
        path=options.json,
        command=" ".join(["python -m benchmarks.speed", *(sys.argv[1:] if argv is None else argv)]),
    )
    if options.markdown:
        options.markdown.write_text(report.page(result))
    if options.plot:
        report.plot(result, options.plot)
    return 0 if result["complete"] else 130


if __name__ == "__main__":
    sys.exit(main())
