"""Boxes given by the user: a region, or a file of boxes.

A file of boxes is CSV with a header line, or JSON with a list of objects. Columns (keys):
  subject: name of the clip; optional if there is only one subject.
  frame: counts from 0.
  x1, y1, x2, y2: box in pixels of the upright picture.
Other columns are ignored. Frames without a row get a box by linear interpolation between the
neighbouring rows; before the first and after the last row the nearest one is used.

A file may name other subjects as well. An error in the boxes of one subject affects only that
subject.
"""

import csv
import dataclasses
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import locate
from data_pipelines.clips import DataError, first_few, read_text
from ttp_jax import geometry
from ttp_jax.files import Damaged, parse_json

COLUMNS = ("frame", "x1", "y1", "x2", "y2")

# Name of a subject, heights and widths of its pictures int [T, 2] -> its boxes float64 [T, 4].
# Raises DataError if the boxes don't fit the subject.
Rule = Callable[[str, Any], np.ndarray]


def rule(boxes: str | os.PathLike, subjects: Sequence[str]) -> Rule:
    """Return the function from a subject to its boxes.

    Args:
      boxes: "whole", a region "x1,y1,x2,y2", or the path of a file of boxes.
      subjects: names of all subjects.

    Raises:
      DataError: the boxes can't be used for any subject.
    """
    if boxes == "whole":
        return lambda name, sizes: geometry.whole_box(sizes)
    box = region(os.fspath(boxes))
    if box is not None:
        return lambda name, sizes: _fixed(box, name, sizes)
    path = Path(boxes).expanduser()
    if path.suffix.lower() not in (".csv", ".json"):
        raise DataError(
            f'boxes is "{boxes}": expected "whole", a region "x1,y1,x2,y2" or the path of a '
            'file of boxes (.csv or .json); "moving" and "people" look for the person.'
        )
    rows = _by_subject(_read_rows(path), subjects)
    return lambda name, sizes: _from_rows(path, rows, name, sizes)


def region(text: str) -> np.ndarray | None:
    """Return the box [4] of a region "x1,y1,x2,y2", or None for any other text.

    Raises DataError for a box without an area.
    """
    try:
        box = np.array([float(part) for part in text.split(",")])
    except ValueError:
        return None
    if box.shape != (4,):
        return None
    _check_area(box, f'boxes "{text}"')
    return box


def check_place(box: np.ndarray, size: Sequence[int] | np.ndarray, of: str, where: str) -> None:
    """Raise DataError for a box that doesn't fit into a picture of this size (height, width)."""
    if wrong := geometry.misplaced(box, size, of):
        raise DataError(f"{where}: the box {box.tolist()} {wrong}")


def _fixed(box: np.ndarray, name: str, sizes: np.ndarray) -> np.ndarray:
    """Return the same box for every frame, float64 [T, 4]."""
    shown = ",".join(f"{value:g}" for value in box)
    for frame in np.unique(sizes, axis=0, return_index=True)[1]:
        check_place(box, sizes[frame], f"frame {frame} of {name}", f'boxes "{shown}"')
    return np.tile(box, (len(sizes), 1))


def _check_area(box: np.ndarray, where: str) -> None:
    if not (np.isfinite(box).all() and (box[:2] < box[2:]).all()):
        raise DataError(
            f"{where}: the box {box.tolist()} has no area: expected finite x1 < x2 and y1 < y2."
        )


# ---------------------------------------------------------------------------------------------
# Files


@dataclasses.dataclass(frozen=True)
class _Row:
    """One row of a file of boxes.

    Attributes:
      where: the file and the line, for messages.
      subject: name of the subject, or None.
      entry: the cells by column name, as read.
    """

    where: str
    subject: str | None
    entry: dict[str, Any]

    def box(self) -> tuple[int, np.ndarray]:
        """Return the frame and its box [4]; raise DataError if the row has none."""
        try:
            frame, *box = (float(self.entry[name]) for name in COLUMNS)
        except (KeyError, TypeError, ValueError) as error:
            got = ", ".join(f"{name} {self.entry.get(name)!r}" for name in COLUMNS)
            raise DataError(f"{self.where}: expected five numbers, got {got}.") from error
        if not frame.is_integer():
            raise DataError(f"{self.where}: frame is {frame}, expected a whole number from 0 on.")
        _check_area(np.array(box), self.where)
        return int(frame), np.array(box)


def _read_rows(path: Path) -> list[_Row]:
    text = read_text(path)
    read = _json_entries if path.suffix.lower() == ".json" else _csv_lines
    rows = []
    for where, entry in read(path, text):
        subject = entry.get("subject")
        name = None if subject in (None, "") else unicodedata.normalize("NFC", str(subject))
        rows.append(_Row(where, name, entry))
    if not rows:
        raise DataError(f"{path} has no boxes: expected columns {', '.join(COLUMNS)}.")
    return rows


def _csv_lines(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)} in its first line: expected a header with "
            f"{', '.join(COLUMNS)} and maybe subject, separated by commas."
        )
    try:
        return [(f"{path}, line {reader.line_num}", line) for line in reader]
    except csv.Error as error:
        raise DataError(f"{path}: {error}. Is there a quote without its partner?") from error


def _json_entries(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        entries = parse_json(text, path)
    except Damaged as error:
        raise DataError(f"{path} is not valid JSON ({error.reason}): correct it.") from error
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise DataError(f"{path}: expected a list of objects with {', '.join(COLUMNS)}.")
    return [(f"{path}, entry {number}", entry) for number, entry in enumerate(entries, start=1)]


def _by_subject(rows: Sequence[_Row], subjects: Sequence[str]) -> dict[str, list[_Row]]:
    """Group the rows by subject."""
    found: dict[str, list[_Row]] = {}
    for row in rows:
        if row.subject is None and len(subjects) != 1:
            raise DataError(
                f"{row.where} names no subject, but there are {len(subjects)}: fill a column "
                f"subject with {first_few(subjects)}."
            )
        found.setdefault(row.subject or subjects[0], []).append(row)
    return found


def _from_rows(path: Path, rows: dict[str, list[_Row]], name: str, sizes: np.ndarray) -> np.ndarray:
    """Return the boxes float64 [T, 4] of one subject from its rows."""
    boxes: dict[int, np.ndarray] = {}
    for row in rows.get(name, []):
        frame, box = row.box()
        if not 0 <= frame < len(sizes):
            raise DataError(
                f"{row.where}: {name} has no frame {frame}: its {len(sizes)} frames count from 0."
            )
        if frame in boxes:
            raise DataError(f"{row.where}: a second box for frame {frame} of {name}: keep one.")
        check_place(box, sizes[frame], f"frame {frame} of {name}", row.where)
        boxes[frame] = box
    if not boxes:
        raise DataError(
            f"{path} has no box for {name}, only for {first_few(rows)}: add at least one row."
        )
    places = sorted(boxes)
    return locate.between(places, np.array([boxes[frame] for frame in places]), len(sizes))
