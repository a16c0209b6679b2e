"""Whose labels are they? The subject of each labelled row, from the tool's names or a pattern."""

import collections
import re
from collections.abc import Sequence
from pathlib import Path

from data_pipelines import media
from data_pipelines.clips import DataError
from data_pipelines.projects import names
from data_pipelines.projects.records import Options, Recording, Row


def of_rows(recordings: Sequence[Recording], options: Options) -> list[list[tuple[str, bool]]]:
    """Return for each recording the subject of each row, and whether the individual is unknown.

    A recording is one subject, unless a pattern says otherwise. Each named individual is a subject,
    except where a pattern names the subjects of a project whose pictures show one each: tools give
    an animal another track in every video. In other projects, a pattern tells apart individuals of
    one name. If pictures show several individuals, every unnamed
    label is a subject of its own, because nothing connects it to the labels in other pictures.

    Args:
      recordings: all recordings of a project.
      options: `subject` is used.
    """
    lone = all(_one_each(recording.sheet.rows) for recording in recordings)
    return [_in_one(recording, options, lone) for recording in recordings]


def _one_each(rows: Sequence[Row]) -> bool:
    return len({row.picture for row in rows}) == len(rows)


def _in_one(recording: Recording, options: Options, lone: bool) -> list[tuple[str, bool]]:
    """Return one recording's part of `of_rows`; `lone`: all pictures show one individual."""
    rows = recording.sheet.rows
    alone = _one_each(rows) and not any(row.individual for row in rows)
    subjects, seen = [], collections.Counter()
    for row in rows:
        by_pattern = _by_pattern(options.subject, recording, row) if options.subject else ""
        subject = by_pattern or recording.subject or recording.name
        if by_pattern and lone:
            subjects.append((subject, False))
            continue
        if row.individual:
            everywhere = recording.sheet.identity and not by_pattern
            subject = row.individual if everywhere else f"{subject}_{row.individual}"
        elif not alone:
            seen[row.picture] += 1
            subject = f"{subject}_{names.stem(row.picture)}_{seen[row.picture]}"
        subjects.append((subject, not (row.individual or alone)))
    return subjects


def notes(path: Path, recordings: Sequence[Recording], options: Options) -> list[str]:
    """Return sentences about labels whose subject isn't certain.

    Args:
      path: what was read, for messages.
      recordings: all recordings of a project.
      options: `subject` is used.

    Raises:
      DataError: the subject pattern matches no label.
    """
    return [*_unmatched(path, recordings, options), *_same_name(recordings, options)]


def _same_name(recordings: Sequence[Recording], options: Options) -> list[str]:
    """Report subjects that are merged because their names give the same file name."""
    found: dict[str, dict[str, None]] = {}
    for subjects in of_rows(recordings, options):
        for raw, _ in subjects:
            found.setdefault(media.fit_name(raw), {})[raw] = None
    return [
        f"{' and '.join(raws)} count as one subject, {name}: rename one to separate them."
        for name, raws in found.items()
        if len(raws) > 1
    ]


def _unmatched(path: Path, recordings: Sequence[Recording], options: Options) -> list[str]:
    """Report labels that the subject pattern doesn't match; raise DataError if it matches none."""
    if not options.subject:
        return []
    rows = [(recording, row) for recording in recordings for row in recording.sheet.rows]
    missing = [row for r, row in rows if not _by_pattern(options.subject, r, row)]
    if len(missing) == len(rows):
        raise DataError(
            f"{path}: the subject pattern {options.subject!r} matches none of the pictures, such "
            f"as {rows[0][0].name}/{names.file(rows[0][1].picture)}."
        )
    first = f" (the first: {missing[0].picture})" if missing else ""
    what = "labels don't match the subject pattern: their folder or video is the subject"
    return [f"{len(missing)} {what}{first}."] if missing else []


def _by_pattern(pattern: str, recording: Recording, row: Row) -> str:
    """Return the subject that a pattern finds in a picture's folder and file, or ""."""
    try:
        found = re.search(pattern, f"{recording.name}/{names.file(row.picture)}")
    except re.error as error:
        raise DataError(f"subject pattern {pattern!r}: {error}.") from error
    return next((group for group in found.groups() if group), found[0]) if found else ""
