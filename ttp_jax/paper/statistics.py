"""Statistics over people and seeds, as texts for the tables."""

from collections.abc import Callable, Sequence

import numpy as np

from ttp_jax import metrics
from ttp_jax.paper import selection
from ttp_jax.paper.records import RunSpec
from ttp_jax.paper.selection import Grid

FEWEST = 3  # smallest number of people for which an interval is given
ROUNDING = 1e-9  # a gain that is nearer to 0 comes from adding scores that cancel each other
GAINS = 2  # measures whose gain is shown; the loosest thresholds leave little to gain
Find = Callable[[RunSpec], dict | None]


def measure(record: dict, which: int = 0) -> str:
    """Return the name of a record's measure, of the first by default."""
    return list(record["scores"])[which]


def mean(found: Sequence[dict], part: str = "scores", which: int = 0) -> float:
    """Return the mean of a measure, by default the first, over records."""
    return float(np.mean([record[part][measure(record, which)]["mean"] for record in found]))


def over_seeds(found: Sequence[dict], part: str = "scores") -> str:
    """Return the mean of the first measure, +- the standard deviation over several seeds."""
    means = [record[part][measure(record)]["mean"] for record in found]
    if len(means) < 2:
        return f"{means[0]:.2f}"
    return f"{np.mean(means):.2f} +- {np.std(means, ddof=1):.2f}"


def scores(found: Sequence[dict], count: int, part: str = "scores") -> tuple[str, ...]:
    """Return the texts of the first `count` measures; "-" for those that the records lack."""
    there = len(found[0][part])
    others = [f"{mean(found, part, k):.2f}" if k < there else "-" for k in range(1, count)]
    return (over_seeds(found, part), *others)


def gain(
    before, after, count: int = 1, part: str = "scores", over: str = "scores"
) -> tuple[str, ...]:
    """Return the mean gains in the first `count` measures with intervals, and the share worse off.

    Args:
      before: run records without TTP.
      after: run records with TTP.
      count: number of measures.
      part: which scores of `after` to compare: "scores", "smoothed" or `records.CONTROL`.
      over: which scores of `before` to compare with.

    Returns:
      The texts, "-" if no seed has both. A person is worse off if the mean over seeds of the first
      measure falls.
    """
    shown = [deltas(before, after, part, over, which) for which in range(count)]
    texts = ("-" if found is None else with_interval(found) for found in shown)
    return (*texts, "-" if shown[0] is None else share_worse(shown[0]))


def gain_names(grid: Grid) -> tuple[str, ...]:
    """Return the headings of the gains in `scored`."""
    return tuple(f"gain in {name} (95 %)" for name in grid.measures[:GAINS])


def scored(
    grid: Grid, before, found, part: str = "scores", over: str = "scores"
) -> tuple[str, ...]:
    """Return the cells of all scores, gains and the share worse off, as many as `missing`.

    Args:
      grid: the grid whose measures are shown.
      before: run records without TTP; None if `found` are these, so that there is no gain.
      found: the run records.
      part: which of their scores to show.
      over: which scores of `before` to compare with.
    """
    count = len(gain_names(grid))
    gains = ("",) * (count + 1)
    if before is not None:
        gains = gain(before, found, count, part, over)
    return (*scores(found, len(grid.measures), part), *gains)


def missing(grid: Grid) -> tuple[str, ...]:
    """Return the cells of `scored` for runs that have no record."""
    return ("missing", *["-"] * (len(grid.measures) + len(gain_names(grid))))


def deltas(
    before, after, part: str = "scores", over: str = "scores", which: int = 0
) -> np.ndarray | None:
    """Return gains [seeds, people] between records of the same seed; None if there are none.

    None also if the records have no measure `which`.
    """
    found = [
        people(a, part, which) - people(b, over, which)
        for b, a in pairs(before, after)
        if which < min(len(a[part]), len(b[over]))
    ]
    return np.stack(found) if found else None


def pairs(before, after) -> list[tuple[dict, dict]]:
    """Return pairs of records before and after that have the same seed."""
    return [(b, a) for b in before for a in after if a["seed"] == b["seed"]]


def known(deltas: np.ndarray) -> np.ndarray:
    """Return gains [seeds, people] without people who have no labelled joints and so no score."""
    return deltas[:, np.isfinite(deltas).all(0)]


def with_interval(deltas: np.ndarray) -> str:
    """Return the mean of gains [seeds, people] with its 95 % interval, or each gain if few."""
    deltas = known(deltas)
    if not deltas.size:
        return "-"
    if deltas.shape[1] < FEWEST:
        each = ", ".join(f"{gain:+.2f}" for gain in deltas.mean(0))
        return f"{deltas.mean():+.2f} (each: {each})"
    low, high = metrics.bootstrap_interval(deltas)
    return f"{deltas.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def share_worse(deltas: np.ndarray) -> str:
    """Return the share of people whose gain, as a mean over seeds, is negative."""
    deltas = known(deltas)
    return f"{100 * (deltas.mean(0) < -ROUNDING).mean():.0f} %" if deltas.size else "-"


def people(record: dict, part: str, which: int = 0) -> np.ndarray:
    """Return a measure of each person [people], NaN without labels."""
    return np.array(record[part][measure(record, which)]["per_subject"], float)


def cost(found: Sequence[dict]) -> tuple[str, str]:
    """Return the median seconds a frame and the largest MiB over seeds, as texts."""
    seconds = np.median([record["seconds_per_frame"] for record in found])
    return f"{seconds:.3f}", f"{max(record['memory_mib'] for record in found):.0f}"


def finished(find: Find, specs: Sequence[RunSpec]) -> list[dict]:
    """Return the records of the finished runs."""
    return [record for record in map(find, specs) if record is not None]


def seeds(found: Sequence[dict], specs: Sequence[RunSpec]) -> str:
    """Return how many of the runs are finished, in brackets; "" if all are."""
    return "" if len(found) == len(specs) else f" ({len(found)} of {len(specs)} seeds)"


def mean_of_labelled(gains: np.ndarray) -> np.ndarray:
    """Return the mean over frames [seeds, people], without people who have none of these frames."""
    known = np.isfinite(gains)
    return np.nanmean(gains[:, known.any(-1).all(0)], -1)


def by_frame(record: dict) -> np.ndarray:
    """Return the first measure [people, frames], NaN for missing frames and without labels."""
    longest = max(map(len, record["by_frame"]))
    rows = [row + [None] * (longest - len(row)) for row in record["by_frame"]]
    return np.array(rows, float)


def errors(found: Sequence[dict], part: str) -> tuple[str, ...]:
    """Return mean reconstruction errors over seeds, and the ratio own / another frame's."""
    own, other, copy = (
        np.mean([record["bottleneck"][part][name] for record in found])
        for name in ("own", "other", "copy")
    )
    return f"{own:.4f}", f"{other:.4f}", f"{copy:.4f}", f"{own / other:.3f}"


def readout(found: Sequence[dict], part: str) -> str:
    """Return the mean error of the linear readout, with that of the mean pose in brackets."""
    reads = [record["readout"][part] for record in found if part in record.get("readout", ())]
    if not reads:
        return "-"
    error, mean = (np.mean([read[name] for read in reads]) for name in ("error", "mean_pose_error"))
    return f"{error:.3f} ({mean:.3f})"


def online_with(grid: Grid, find: Find, changes: Sequence) -> tuple[list[list[dict]], str]:
    """Return the Transformer's online records for each change, and a note with their seeds.

    Only seeds that all changes have are used, so that rows can be compared. Changes without any
    record are ignored.
    """
    found = [
        finished(find, selection.each(grid, "transformer", ("online",), changes=c)) for c in changes
    ]
    each = [{record["seed"] for record in records} for records in found if records]
    seeds = set.intersection(*each) if each else set()
    kept = [[record for record in records if record["seed"] in seeds] for records in found]
    return kept, f"Seeds: {', '.join(map(str, sorted(seeds))) or 'none'}."
