"""A table, and tables as pages."""

from collections.abc import Sequence
from typing import NamedTuple

from ttp_jax import report

COST = ("s a frame", "MiB", "paper")


class Table(NamedTuple):
    """A table as text; `plots` are pieces of HTML below it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()


def machine(made: dict) -> str:
    """What ran a cell, or a piece of a training."""
    return f"{made['machine']['device']}, {made['machine']['cores']} cores"


def trainings(found: dict[str, dict | None]) -> Table:
    """What each training took."""
    rows = []
    for name, cell in found.items():
        if cell is None:
            rows.append((name, "missing", "-", "-"))
            continue
        if "given" in cell:
            rows.append((name, "-", f"not here: included ({cell['given']})", "-"))
            continue
        if not cell["pieces"]:
            rows.append((name, "-", "not told: its model was there", "-"))
            continue
        minutes = f"{cell['seconds'] / 60:.0f}"
        machines, commits = (
            "; ".join(dict.fromkeys(map(told, cell["pieces"])))
            for told in (machine, lambda piece: str(piece["commit"]))
        )
        rows.append((name, minutes, machines, commits))
    return Table("Trainings", ("training", "minutes", "machine", "commit"), rows)


def ran(found: Sequence[dict]) -> Table:
    """Which machine ran each cell, when and at which commit."""
    rows = [
        (
            cell["cell"],
            cell["date"],
            f"{cell['seconds'] / 60:.1f}",
            machine(cell),
            str(cell["commit"]),
        )
        for cell in found
    ]
    header = ("cell", "date", "minutes", "machine", "commit")
    return Table("Cells", header, rows, ("A + after a commit: the checkout had been changed.",))


def markdown(table: Table) -> str:
    """A table for report.md."""
    lines = [f"## {table.title}", "", f"| {' | '.join(table.header)} |"]
    lines.append("|---" * len(table.header) + "|")
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, "", *table.notes, ""])


def html(table: Table) -> str:
    """A table as a section of report.html."""
    notes = "".join(map(report.paragraph, table.notes))
    return report.section(table.title, report.table(table.header, table.rows), notes, *table.plots)
