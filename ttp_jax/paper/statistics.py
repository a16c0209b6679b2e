"""Numbers over people and seeds, as the tables show them."""

from collections.abc import Callable, Sequence

import numpy as np

from ttp_jax import metrics
from ttp_jax.paper import selection
from ttp_jax.paper.records import Cell
from ttp_jax.runs.experiment import Experiment

FEWEST = 3  # people that an interval is given for
Find = Callable[[Cell], dict | None]


def measure(cell: dict) -> str:
    return next(iter(cell["scores"]))


def over_seeds(found: Sequence[dict], part: str = "scores") -> str:
    """Mean of the first measure, +- the standard deviation over seeds where there are some."""
    means = [cell[part][measure(cell)]["mean"] for cell in found]
    if len(means) < 2:
        return f"{means[0]:.2f}"
    return f"{np.mean(means):.2f} +- {np.std(means, ddof=1):.2f}"


def gain(before, after, part: str = "scores", over: str = "scores") -> tuple[str, str]:
    """Mean gain with its interval over people and seeds, and the share of people made worse.

    Of a person the mean over seeds counts for that share. `part` of the cells after is compared
    with the part `over` of those before.
    """
    found = deltas(before, after, part, over)
    return ("-", "-") if found is None else (with_interval(found), share_worse(found))


def deltas(before, after, part: str = "scores", over: str = "scores") -> np.ndarray | None:
    """Gains [seeds, people] of pairs of one seed; None where there is no pair."""
    gains = [people(a, part) - people(b, over) for b, a in pairs(before, after)]
    return np.stack(gains) if gains else None


def pairs(before, after) -> list[tuple[dict, dict]]:
    """Cells of one seed."""
    return [(b, a) for b in before for a in after if a["seed"] == b["seed"]]


def known(deltas: np.ndarray) -> np.ndarray:
    """Without the people who have no score: none of their joints is labelled."""
    return deltas[:, np.isfinite(deltas).all(0)]


def with_interval(deltas: np.ndarray) -> str:
    deltas = known(deltas)
    if not deltas.size:
        return "-"
    if deltas.shape[1] < FEWEST:
        each = ", ".join(f"{gain:+.2f}" for gain in deltas.mean(0))
        return f"{deltas.mean():+.2f} (each: {each})"
    low, high = metrics.bootstrap_interval(deltas)
    return f"{deltas.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def share_worse(deltas: np.ndarray) -> str:
    deltas = known(deltas)
    return f"{100 * (deltas.mean(0) < 0).mean():.0f} %" if deltas.size else "-"


def people(cell: dict, part: str) -> np.ndarray:
    return np.array(cell[part][measure(cell)]["per_subject"], float)


def cost(found: Sequence[dict]) -> tuple[str, str]:
    seconds = np.median([cell["seconds_per_frame"] for cell in found])
    return f"{seconds:.3f}", f"{max(cell['memory_mib'] for cell in found):.0f}"


def there(find: Find, cells: Sequence[Cell]) -> list[dict]:
    return [cell for cell in map(find, cells) if cell is not None]


def second(found: Sequence[dict], part: str = "scores") -> str:
    """Mean of the second measure, where there is one."""
    measures = list(found[0][part])
    if len(measures) < 2:
        return "-"
    return f"{np.mean([cell[part][measures[1]]['mean'] for cell in found]):.2f}"


def seeds(found, cells) -> str:
    return "" if len(found) == len(cells) else f" ({len(found)} of {len(cells)} seeds)"


def mean_of_labelled(gains: np.ndarray) -> np.ndarray:
    """Mean over frames [seeds, people], without the people who have none of these frames."""
    known = np.isfinite(gains)
    return np.nanmean(gains[:, known.any(-1).all(0)], -1)


def by_frame(cell: dict) -> np.ndarray:
    """The first measure [people, frames], NaN where a person has no such frame or no label."""
    longest = max(map(len, cell["by_frame"]))
    rows = [row + [None] * (longest - len(row)) for row in cell["by_frame"]]
    return np.array(rows, float)


def errors(found: Sequence[dict], part: str) -> tuple[str, ...]:
    own, other, copy = (
        np.mean([cell["bottleneck"][part][name] for cell in found])
        for name in ("own", "other", "copy")
    )
    return f"{own:.4f}", f"{other:.4f}", f"{copy:.4f}", f"{own / other:.3f}"


def readout(found: Sequence[dict], part: str) -> str:
    reads = [cell["readout"][part] for cell in found if part in cell.get("readout", ())]
    if not reads:
        return "-"
    error, mean = (np.mean([read[name] for read in reads]) for name in ("error", "mean_pose_error"))
    return f"{error:.3f} ({mean:.3f})"


def online_with(
    experiment: Experiment, find: Find, changes: Sequence
) -> tuple[list[list[dict]], str]:
    """Cells of the Transformer online per change, and a note that says of which seeds.

    They are of the seeds that all of them have, so that they can be compared; a change without any
    cell doesn't count.
    """
    found = [
        there(find, selection.each(experiment, "transformer", ("online",), changes=c))
        for c in changes
    ]
    each = [{cell["seed"] for cell in cells} for cells in found if cells]
    seeds = set.intersection(*each) if each else set()
    kept = [[cell for cell in cells if cell["seed"] in seeds] for cells in found]
    return kept, f"Seeds: {', '.join(map(str, sorted(seeds))) or 'none'}."
