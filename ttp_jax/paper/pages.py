"""The tables of a report, as Markdown and as HTML."""

from collections.abc import Sequence
from typing import NamedTuple

from ttp_jax import report

COST = ("s a frame", "MiB", "paper")


class Table(NamedTuple):
    """A table whose cells are text; `plots` are pieces of HTML that are shown below it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()


def machine(made: dict) -> str:
    """Return device and cores of the machine that made a run record or a part of a training."""
    return f"{made['machine']['device']}, {made['machine']['cores']} cores"


def trainings(found: dict[str, dict | None]) -> Table:
    """Make the table of the trainings: minutes, machine and commit of each."""
    rows = []
    for name, record in found.items():
        if record is None:
            rows.append((name, "missing", "-", "-"))
            continue
        if "given" in record:
            rows.append((name, "-", f"trained elsewhere: {record['given']}", "-"))
            continue
        if not record["pieces"]:
            rows.append((name, "-", "unknown: the model existed before", "-"))
            continue
        minutes = f"{record['seconds'] / 60:.0f}"
        timed = sum(piece["to"] - piece["from"] for piece in record["pieces"])
        if timed < record.get("steps", record["pieces"][-1]["to"]):  # a part was killed
            minutes = f"more than {minutes}"
        machines, commits = (
            "; ".join(dict.fromkeys(map(describe, record["pieces"])))
            for describe in (machine, lambda piece: str(piece["commit"]))
        )
        rows.append((name, minutes, machines, commits))
    return Table("Trainings", ("training", "minutes", "machine", "commit"), rows)


def ran(found: Sequence[dict]) -> Table:
    """Make the table of the run records: date, minutes, machine and commit of each."""
    rows = [
        (
            record["run"],
            record["date"],
            f"{record['seconds'] / 60:.1f}",
            machine(record),
            str(record["commit"]),
        )
        for record in found
    ]
    header = ("run", "date", "minutes", "machine", "commit")
    return Table(
        "Run records",
        header,
        rows,
        ("A + after a commit marks a checkout with uncommitted changes.",),
    )


def markdown(table: Table) -> str:
    """Format a table for report.md."""
    lines = [f"## {table.title}", "", f"| {' | '.join(table.header)} |"]
    lines.append("|---" * len(table.header) + "|")
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, "", *table.notes, ""])


def html(table: Table) -> str:
    """Format a table as a section of report.html."""
    notes = "".join(map(report.paragraph, table.notes))
    return report.section(table.title, report.table(table.header, table.rows), notes, *table.plots)
