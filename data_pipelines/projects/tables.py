"""DeepLabCut's tables of labels, which Lightning Pose and others write as well: .csv and .h5.

Three or four header rows (scorer, individuals, bodyparts, coords) are followed by a row for each
picture. The picture's name, a Windows or POSIX path, is in one column, or split into three. A joint
has columns x and y, and in Lightning Pose's files visible: 0 not labelled, 1 hidden, 2 visible.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.clips import DataError, read_text
from data_pipelines.projects import hdf5
from data_pipelines.projects import names as named
from data_pipelines.projects.records import Row, Sheet

HEADERS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
COORDS = ("x", "y", "visible", "likelihood")
# Cells that pandas reads as missing numbers, as other programs write them.
EMPTY = ("", "na", "n/a", "#n/a", "<na>", "#na", "nan", "-nan", "none", "null")
SHOWN = 20  # number of characters of a damaged cell that a message shows
UNIQUE = "single"  # DeepLabCut's individual for body parts that exist only once


class _Table(NamedTuple):
    """The content of a file.

    Attributes:
      header: the cells [c] of each header row, by its title.
      index: names [n] of the pictures.
      values: float64 [n, c].
      where: positions [n] of the rows, for messages.
    """

    header: dict[str, list[str]]
    index: list[str]
    values: np.ndarray
    where: list[str]


def scorers(path: Path) -> list[str]:
    """Return the scorers whose columns a .csv or .h5 file has.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    return sorted(set(_table(path).header["scorer"]))


def sheet(
    path: Path, *, scorer: str = "", usual: str = "", individuals: Sequence[str] = ()
) -> Sheet:
    """Read a table; rows without a labelled joint are left out and counted.

    Args:
      path: .csv or .h5 file.
      scorer: scorer whose columns to read, if there are several.
      usual: the same, but ignored if there is only one, or several others.
      individuals: individuals to read, as far as the file has them; if empty, all except UNIQUE.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    table = _table(path)
    there = sorted(set(table.header["scorer"]))
    if scorer not in ("", *there):
        raise DataError(f"{path} has no scorer {scorer}: expected {' or '.join(there)}.")
    if len(there) > 1 and usual in there:
        scorer = scorer or usual
    if len(there) > 1 and not scorer:
        raise DataError(
            f"{path} has labels of {len(there)} scorers ({', '.join(there)}): choose one with "
            "--config.data.scorer, or keep one scorer's columns."
        )
    columns = _columns(table.header, scorer, path)
    wanted, notes = _wanted(list(columns), individuals)
    names = list(dict.fromkeys(part for who in wanted for part in columns[who]))
    rows, blank, taken = [], 0, {}
    for number, picture in enumerate(table.index):
        parts = tuple(named.parts(picture))  # equal for Windows and POSIX paths of one picture
        if parts in taken:
            raise DataError(
                f"{table.where[number]}: a second row of {picture}, after {taken[parts]}: keep "
                "one of them."
            )
        taken[parts] = table.where[number]
        found = [_row(table, number, who, columns[who], names) for who in wanted]
        labelled = [row for row in found if not np.isnan(row.joints).all()]
        rows += labelled
        blank += not labelled
    if "likelihood" in table.header["coords"]:
        notes.append("the file has a likelihood column: its predictions are used as labels.")
    return Sheet(names, rows, notes=notes, blank=blank, individuals=tuple(columns))


def _wanted(everyone: list[str], individuals: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the individuals to read, and notes on those left out."""
    if individuals:
        return [who for who in individuals if who in everyone], []
    if UNIQUE in everyone and len(everyone) > 1:
        note = (
            "bodyparts that belong to no individual are left out: "
            f"--config.data.individuals={UNIQUE} reads them."
        )
        return [who for who in everyone if who != UNIQUE], [note]
    return everyone, []


def _row(
    table: _Table, number: int, who: str, places: dict[str, dict[str, int]], names: list[str]
) -> Row:
    """Make one individual's row; joints that it lacks or that aren't labelled are NaN."""
    values, where = table.values[number], table.where[number]
    joints, visible = np.full((len(names), 2), np.nan), np.zeros(len(names), bool)
    for name, at in places.items():
        place = values[at["x"]], values[at["y"]]
        seen = not np.isnan(place).any()
        flag = values[at["visible"]] if "visible" in at else np.nan
        flag = (2 if seen else 1) if np.isnan(flag) else flag
        if flag not in (0, 1, 2):
            raise DataError(
                f"{where}: visible of {name} is {flag:g}, expected 0 (not labelled), 1 (hidden) or "
                "2 (visible)."
            )
        if flag:
            joints[names.index(name)] = place
            visible[names.index(name)] = seen and flag == 2
    return Row(where, table.index[number], joints, visible, who)


def _table(path: Path) -> _Table:
    return (_from_h5 if path.suffix.lower() in (".h5", ".hdf5") else _from_csv)(path)


def _columns(
    header: dict[str, list[str]], scorer: str, path: Path
) -> dict[str, dict[str, dict[str, int]]]:
    """Find the columns of x, y and visible, by individual and bodypart."""
    people = header.get("individuals", [""] * len(header["coords"]))
    places: dict[str, dict[str, dict[str, int]]] = {}
    for i, (who, part) in enumerate(zip(people, header["bodyparts"], strict=True)):
        if scorer and header["scorer"][i] != scorer:
            continue
        found = places.setdefault(who, {}).setdefault(part, {})
        if header["coords"][i] in found:
            raise DataError(
                f"{path}: two columns {header['coords'][i]} of {part}: keep one of them."
            )
        found[header["coords"][i]] = i
    for part, found in (item for parts in places.values() for item in parts.items()):
        if not {"x", "y"} <= set(found):
            raise DataError(
                f"{path}: {part} has columns {', '.join(found)}, expected x and y: export it again."
            )
    return places


# --- Files ---------------------------------------------------------------------------------------


def _from_csv(path: Path) -> _Table:
    try:
        lines = list(enumerate(csv.reader(read_text(path).splitlines()), start=1))
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error}): export it again.") from error
    lines = [(number, line) for number, line in lines if any(map(str.strip, line))]
    titles = [line[0] for _, line in lines[:4]]
    titles = titles[: titles.index("coords") + 1] if "coords" in titles else titles
    if not lines:
        raise DataError(f"{path} is empty: export it again, or delete it.")
    if titles not in HEADERS:
        found = ", ".join(title[:SHOWN] for title in titles)
        raise DataError(
            f"{path} is not a DeepLabCut table: lines begin with {found}, expected scorer, "
            f"(individuals,) bodyparts, coords. {_remedy(titles)}"
        )
    lines = _without_empty_columns(lines)
    header = {title: line for title, (_, line) in zip(titles, lines, strict=False)}
    width = len(header["coords"])
    if len(set(header["scorer"][1:]) - {""}) == 1:  # a single scorer, missing above some columns
        header["scorer"] += header["scorer"][-1:] * (width - len(header["scorer"]))
    # Newer files have the picture's path in three columns with empty headers.
    start = next((i for i, cell in enumerate(header["coords"]) if i and cell), width)
    # Some tools write unlabelled rows with too few cells; the last row may be truncated.
    *before, last = lines[len(titles) :] or [None]
    lines = [
        (n, line if any(line[start:]) else line[:start] + [""] * (width - start))
        for n, line in filter(None, before)
    ]
    lines += [last] if last else []
    broken = [n for n, line in [*enumerate(header.values(), 1), *lines] if len(line) != width]
    if broken:
        raise DataError(
            f"{path}, line {broken[0]}: expected {width} cells, as in the line coords. The file is "
            "cut off or damaged: export it again."
        )
    where = [f"{path}, line {n}" for n, _ in lines]
    values = [_cells(line[start:], at) for at, (_, line) in zip(where, lines, strict=True)]
    return _Table(
        {title: line[start:] for title, line in header.items()},
        ["/".join(line[:start]) for _, line in lines],
        np.array(values).reshape(len(lines), width - start),
        where,
    )


def _without_empty_columns(lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Cut off columns at the end that are empty in all lines, which spreadsheets add."""
    used = max(max(i for i, cell in enumerate(line, 1) if cell.strip()) for _, line in lines)
    return [(number, line[:used]) for number, line in lines]


def _remedy(titles: list[str]) -> str:
    """Return what to do about a file that doesn't begin like a table."""
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if any(sign in title for title in titles):
            return f"Its cells are separated by {name}: save it with commas."
    return "Export it again, with commas."


def _cells(cells: list[str], where: str) -> list[float]:
    try:
        return [float("nan" if cell.strip().lower() in EMPTY else cell) for cell in cells]
    except ValueError as error:
        remedy = " with decimal points" * any("," in cell for cell in cells)
        raise DataError(f"{where}: {error}: expected numbers{remedy}, or empty cells.") from error


def _from_h5(path: Path) -> _Table:
    frame = hdf5.read(path)
    levels = {len(column) for column in frame.columns}
    titles = next((titles for titles in HEADERS if levels == {len(titles)}), None)
    words = list(zip(*frame.columns, strict=True)) if titles else []
    if titles is None or not set(words[-1]) <= set(COORDS):
        raise DataError(
            f"{path} is not a DeepLabCut table: expected columns of scorer, (individuals,) "
            "bodyparts "
            "and coords (x, y)."
        )
    header = {title: list(row) for title, row in zip(titles, words, strict=True)}
    where = [f"{path}, row {number}" for number in range(1, len(frame.index) + 1)]
    return _Table(header, frame.index, frame.values, where)
