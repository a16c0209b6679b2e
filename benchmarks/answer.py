"""Should you adapt? The tables and plots of docs/benchmark.md, from the stored run records.

    python -m benchmarks.answer docs

Replaces each of TABLES between its marks in the page, and writes docs/who_gains.svg,
docs/frames.svg and docs/grades.svg. Seconds, because no model runs. A row is missing while a data
set has no records.
"""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import svg
from configs import graded, lips, rendered, tongue
from ttp_jax import metrics
from ttp_jax.paper import records, selection, statistics
from ttp_jax.paper.selection import FLIPPED, Grid
from ttp_jax.paper.statistics import Find

ERRORS = "errors"  # key of a record's mean errors, which only labelled projects have
# One for each of SETS.
COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f5539", "#e69f00", "#56b4e9", "#999999"),
    *("#000000", "#882255"),
)


class DataSet(NamedTuple):
    """A data set with its records.

    Attributes:
      name: for people.
      folder: of the records, in docs/results.
      config: of the experiment, without the data.
      changes: of the config's fields at test time, by which its records differ from others.
      parts: data sets whose subjects are taken together; of these, `folder` is unused.
    """

    name: str
    folder: str
    config: Any
    changes: tuple = ()
    parts: "tuple[DataSet, ...]" = ()

    @property
    def grid(self) -> Grid:
        """What its tables compare."""
        return Grid.of(self.config)


GRADED = graded.get_config()
LIPS = (
    DataSet("lips, from scratch", "lips_scratch", lips.get_config("scratch")),
    DataSet("lips, second split", "lips_second_split", lips.get_config("second_split")),
)
LONGER = (
    DataSet("lips, longer training", "lips_scratch_longer", lips.get_config("scratch_longer")),
    DataSet(
        "lips, second split, longer training",
        "lips_second_split_longer",
        lips.get_config("second_split_longer"),
    ),
)
ROWS = (
    *(
        DataSet(f"rendered people, {about}", "graded", GRADED, changes)
        for about, changes in selection.graded(Grid.of(GRADED))
    ),
    DataSet("rendered people, new colours, earlier network", "cells", rendered.get_config()),
    *LIPS,
    DataSet("lips, both splits (means over speakers)", "", LIPS[0].config, parts=LIPS),
    *LONGER,
    DataSet("lips, both splits, longer training", "", LONGER[0].config, parts=LONGER),
    DataSet("lips, BlazePose's encoder", "lips", lips.get_config()),
    DataSet("tongues, from scratch", "tongue_scratch", tongue.get_config("scratch")),
)  # fmt: skip
SETS = tuple(data for data in ROWS if not data.parts)  # those with records of their own
# Heading, scenario, changes; those that adapt are shown offline, where they have all frames.
WAYS = (
    ("averaged with the mirrored crop", "none", FLIPPED),
    *((name, "offline", (("ttp.method", method),)) for method, name in selection.OTHERS.items()),
    ("TTP online", "online", ()),
    ("TTP offline", "offline", ()),
)


def finder(folder: pathlib.Path) -> Find:
    """Return a function that finds a run's record by its title: a folder is of one experiment."""
    there: dict[str, list[dict]] = {}
    for path in sorted(folder.glob("*.json")):
        record = records.read(folder, path.stem)
        if record is not None:
            there.setdefault(record["run"], []).append(record)

    def find(spec):
        of_title = there.get(spec.title, [])
        if len(of_title) > 1:
            raise ValueError(f"{folder} has several records of {spec.title}: keep one.")
        return of_title[0] if of_title else None

    return find


def found(
    data: DataSet,
    find: Callable[[DataSet], Find],
    scenario: str,
    changes: tuple = (),
    method: str | None = None,
) -> list[dict]:
    """Return the records of all seeds of a way, by default of the best network."""
    if data.parts:
        each = [
            {record["seed"]: record for record in found(part, find, scenario, changes, method)}
            for part in data.parts
        ]
        seeds = sorted(set.intersection(*map(set, each)))
        return [together([records_of[seed] for records_of in each]) for seed in seeds]
    grid = data.grid
    changes = (*data.changes, *changes)
    specs = selection.each(grid, method or selection.best(grid), (scenario,), changes=changes)
    return statistics.finished(find(data), specs)


def together(parts: Sequence[dict]) -> dict:
    """Return the record of several records' subjects, with what a row shows of it.

    Its scores are means over subjects. Scores of all labelled joints would be those of the part
    with more labels: in the lips' second split, a speaker has a sixth of the first one's labels.
    """

    def joined(kind: str) -> dict[str, dict]:
        found = {}
        for name in parts[0][kind]:
            each = [score for part in parts for score in part[kind][name]["per_subject"]]
            found[name] = {"mean": float(np.nanmean(np.array(each, float))), "per_subject": each}
        return found

    kinds = ("scores", ERRORS, records.CONTROL)
    return {
        "seed": parts[0]["seed"],
        "people": [person for part in parts for person in part["people"]],
        **{kind: joined(kind) for kind in kinds if all(kind in part for part in parts)},
        "seconds_per_frame": float(np.mean([part["seconds_per_frame"] for part in parts])),
        "memory_mib": max(part["memory_mib"] for part in parts),
    }


def row(data: DataSet, find: Callable[[DataSet], Find]) -> tuple[str, ...] | None:
    """Return a data set's row of the table; None without records."""
    before = found(data, find, "none")
    if not before:
        return None
    labels_alone = found(data, find, "none", method="baseline")
    cells = [
        f"{data.name}, {len(before[0]['people'])} subjects",
        statistics.over_seeds(labels_alone) + _seeds(labels_alone, before) if labels_alone else "-",
        f"{data.grid.measures[0]} {statistics.over_seeds(before)}",
    ]
    for _, scenario, changes in WAYS:
        after = found(data, find, scenario, changes)
        deltas = statistics.deltas(before, after)
        if deltas is None:
            cells.append("-")
            continue
        seconds = statistics.cost(after)[0]
        worse = statistics.share_worse(deltas)
        gain = statistics.with_interval(deltas)
        cells.append(f"{gain}; {worse}; {seconds} s{_seeds(after, before)}")
    return tuple(cells)


def _seeds(found: Sequence[dict], before: Sequence[dict]) -> str:
    """Return which seeds records have, if not those of the records without adaptation."""
    own, others = ([record["seed"] for record in records] for records in (found, before))
    seeds = ", ".join(map(str, own))
    return "" if own == others else f"; seed{'s' * (len(own) > 1)} {seeds}"


def overview(find: Callable[[DataSet], Find]) -> str:
    """Return the table of all data sets and ways to adapt."""
    first = "subjects never seen", "network trained on labels alone", "without adaptation"
    rows = [each for data in ROWS if (each := row(data, find))]
    return _markdown((*first, *(name for name, _, _ in WAYS)), rows)


def personal(find: Callable[[DataSet], Find]) -> str:
    """Return the table that compares TTP with the cross-subject control."""
    header = (
        "subjects never seen",
        "measure",
        "TTP offline",
        "adapted to another subject",
        "the subject's own model is better by",
    )
    rows = []
    for data in ROWS:
        before, after = (found(data, find, how) for how in ("none", "offline"))
        controlled = [record for record in after if records.CONTROL in record]
        if statistics.pairs(before, controlled):
            gains = (
                statistics.gain(before, controlled),
                statistics.gain(before, controlled, part=records.CONTROL),
                statistics.gain(controlled, controlled, over=records.CONTROL),
            )
            rows.append((data.name, data.grid.measures[0], *(gain for gain, _ in gains)))
    return _markdown(header, rows)


def second_task(find: Callable[[DataSet], Find]) -> str:
    """Return the table of what training both tasks costs, and TTP regains, on labelled projects."""
    header = ("subjects never seen", "labels alone", "both tasks", "TTP online", "TTP offline")
    rows = []
    for data in ROWS:
        joint = [found(data, find, how) for how in ("none", "online", "offline")]
        columns = [found(data, find, "none", method="baseline"), *joint]
        if all(columns) and all(record.get(ERRORS) for column in columns for record in column):
            cells = (f"{_both(column)}{_seeds(column, joint[0])}" for column in columns)
            rows.append((f"{data.name} ({data.grid.measures[0]})", *cells))
    return _markdown(header, rows)


def _both(found: Sequence[dict]) -> str:
    """Return the first measure and the mean error in percent."""
    errors = np.mean([record[ERRORS]["mean error %"]["mean"] for record in found])
    return f"{statistics.mean(found):.1f} / {errors:.2f} %"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Name of the marks around a table in the page -> the table.
TABLES = {"table": overview, "personal": personal, "second task": second_task}


def with_tables(text: str, find: Callable[[DataSet], Find]) -> str:
    """Return the page's text with new tables between their marks.

    Raises ValueError if the text lacks a mark.
    """
    for name, make in TABLES.items():
        first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(first)
        _, found, after = rest.partition(last)
        if not found:
            raise ValueError(f"the page lacks the marks {first} and {last}.")
        text = f"{before}{first}\n{make(find)}\n{last}{after}"
    return text


def _figure(path: pathlib.Path, width: float, height: float, draw: Callable) -> None:
    def dressed(axes):
        axes.axhline(0, color="#888888", linewidth=1)
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            above = {"loc": "lower left", "bbox_to_anchor": (0, 1)}  # not on the points
            axes.legend(frameon=False, fontsize=8, ncols=2, **above)

    svg.save(path, (width, height), dressed)


def plot_who_gains(path: pathlib.Path, find: Callable[[DataSet], Find]) -> None:
    """Draw each subject's offline gain against its error without adaptation."""

    def draw(axes):
        for data, color in zip(SETS, COLORS, strict=True):
            before, after = (found(data, find, how) for how in ("none", "offline"))
            deltas = statistics.deltas(before, after)
            if deltas is None:
                continue
            errors = 100 - np.mean([statistics.people(each, "scores") for each in before], 0)
            name = f"{data.name} ({data.grid.measures[0]})"
            axes.plot(errors, deltas.mean(0), "o", color=color, ms=4, alpha=0.8, label=name)
        axes.set_xlabel("joints that are wrong without adaptation, %")
        axes.set_ylabel("gain offline")

    _figure(path, 7.6, 4.8, draw)


def plot_frames(path: pathlib.Path, find: Callable[[DataSet], Find]) -> None:
    """Draw the online gain against the number of frames that are adapted to."""

    def draw(axes):
        for data, color in zip(SETS, COLORS, strict=True):
            if data.changes:  # of the grades, only the records of one have other lengths
                continue
            before, points = found(data, find, "none"), []
            all_changes = (*selection.lengths(data.grid), ())
            records_of, _ = statistics.online_with(data.grid, find(data), all_changes)
            for changes, after in zip(all_changes, records_of, strict=True):
                deltas = statistics.deltas(before, after)
                if deltas is None:
                    continue
                length = dict(changes).get("ttp.reset")
                frames = int(length or after[0]["frames"] / len(after[0]["people"]))
                points.append((frames, statistics.known(deltas).mean()))
            if len(points) > 1:
                axes.plot(*zip(*sorted(points), strict=True), "o-", color=color, label=data.name)
        axes.set_xlabel("frames adapted to, online")
        axes.set_ylabel("gain")

    _figure(path, 4.8, 2.8, draw)


def plot_grades(path: pathlib.Path, find: Callable[[DataSet], Find]) -> None:
    """Draw the gain, with its 95 % interval, on rendered people by their distance from training."""
    graded = [data for data in SETS if data.folder == "graded"]

    def draw(axes):
        for shift, scenario, color in zip(
            (-0.04, 0.04), ("online", "offline"), COLORS, strict=False
        ):
            points = []
            for place, data in enumerate(graded):
                before, after = (found(data, find, how) for how in ("none", scenario))
                if (deltas := statistics.deltas(before, after)) is not None:
                    gains = statistics.known(deltas)
                    points.append((place + shift, gains.mean(), *metrics.bootstrap_interval(gains)))
            if points:
                x, mean, low, high = np.array(points).T
                bars = {"yerr": (mean - low, high - mean), "capsize": 3}
                axes.errorbar(x, mean, fmt="o-", color=color, label=scenario, **bars)
        axes.set_xticks(range(len(graded)), [data.name.partition(", ")[2] for data in graded])
        axes.set_ylabel("gain in PCK@0.2")

    _figure(path, 4.8, 2.8, draw)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=pathlib.Path)
    docs = parser.parse_args(argv).folder
    finders = {data.folder: finder(docs / "results" / data.folder) for data in SETS}
    page = docs / "benchmark.md"
    find = lambda data: finders[data.folder]  # noqa: E731
    try:
        page.write_text(with_tables(page.read_text(), find))
    except (OSError, ValueError) as error:
        parser.error(f"{page}: {error}")
    plot_who_gains(docs / "who_gains.svg", find)
    plot_frames(docs / "frames.svg", find)
    plot_grades(docs / "grades.svg", find)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
