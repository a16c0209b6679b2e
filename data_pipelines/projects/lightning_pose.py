"""Lightning Pose projects: CollectedData.csv beside labeled-data/, or a file for each camera.

Names of pictures are relative to the project's folder. With several cameras, each has a file
CollectedData_CAMERA.csv or CAMERA.csv, and folders SESSION_CAMERA. A session is one subject, seen
by all its cameras. If all cameras share one picture, --view=top takes the joints whose names begin
with top_ or end in _top.
"""

import re
from pathlib import Path

import numpy as np

from data_pipelines.clips import DataError
from data_pipelines.projects import assemble, files, names, tables
from data_pipelines.projects.records import (
    Options,
    Project,
    Recording,
    Row,
    Sheet,
    check_individuals,
)

LABELS = "CollectedData"
FOLDER = "labeled-data"
VIDEOS = ("videos", "videos_test")


def is_one(path: Path) -> bool:
    """Return whether a folder is a Lightning Pose project."""
    return (path / FOLDER).is_dir() and bool(_tables(path))


def read(path: Path, options: Options) -> Project:
    """Read a project's folder, or one of its label files.

    Args:
      path: the project's folder or a CSV file.
      options: what to read and how.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    root = path if path.is_dir() else path.parent
    found = _tables(root) if path.is_dir() else {path.stem: path}
    named = [name for name in found if name.startswith(LABELS)]
    sheets, other = {}, []
    for name, table in found.items():
        try:
            sheets[name] = table, _sheet(table, options)
        except DataError as error:
            if not named or name in named:
                raise
            other.append(str(error))  # such as a file of predictions beside the labels
    everyone = (name for _, sheet in sheets.values() for name in sheet.individuals)
    check_individuals(everyone, options.individuals, path)
    chosen, left_out = _views(root, sheets, options)
    recordings = [
        recording
        for view, name in chosen.items()
        for recording in _recordings(root, sheets[name][1], view, options)
    ]
    return assemble.project(
        path,
        "Lightning Pose",
        recordings,
        options,
        videos=[file for name in VIDEOS for file in files.videos_in(root / name)],
        left_out=[*left_out, *other],
    )


def _sheet(table: Path, options: Options) -> Sheet:
    """Read one label file; raise DataError if it has predictions."""
    sheet = tables.sheet(table, scorer=options.scorer, individuals=options.individuals)
    if sheet.rows and all(names.is_bare(row.picture) for row in sheet.rows):
        raise DataError(
            f"{table}: its rows are frame numbers, as in a file of predictions: expected labels of "
            f"pictures, {LABELS}.csv."
        )
    return sheet


def _tables(root: Path) -> dict[str, Path]:
    """Return the label files in a project's folder, by name without suffix."""
    found = [path for path in files.entries(root) if path.suffix.lower() == ".csv"]
    return {path.stem: path for path in found if path.is_file() and _begins(path) == b"scorer"}


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(20).removeprefix(b"\xef\xbb\xbf").split(b",")[0]
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error


def _views(
    root: Path, sheets: dict[str, tuple[Path, Sheet]], options: Options
) -> tuple[dict[str, str], list[str]]:
    """Return the cameras to read with the names of their files, and what is left out.

    A project of one camera has CollectedData.csv or a single file; its camera is "".
    """
    views = {name.removeprefix(f"{LABELS}_"): name for name in sheets}
    views = {view: name for view, name in views.items() if _is_view(view, sheets[name][1])}
    single = LABELS if LABELS in sheets else next(iter(sheets)) if len(sheets) == 1 else ""
    if single and options.view not in views:
        chosen = {"": single}
        if options.view:
            path, sheet = sheets[single]
            sheets[single] = path, _part(sheet, options.view, path)
    elif options.view:
        if options.view not in views:
            hint = f"expected {', '.join(views)}" if views else "all its pictures are of one camera"
            raise DataError(f"{root} has no camera {options.view}: {hint}.")
        chosen = {options.view: views[options.view]}
    elif views:
        chosen = views
    else:
        raise DataError(
            f"{root} has {len(sheets)} files of labels ({', '.join(sheets)}): name one of them "
            "instead of the folder."
        )
    others = [path.name for name, (path, _) in sheets.items() if name not in chosen.values()]
    reason = "other label files; to read one, name it instead of the project folder"
    return chosen, [f"{', '.join(others)}: {reason}."] if others else []


def _is_view(view: str, sheet: Sheet) -> bool:
    """Return whether all pictures of a sheet are in folders SESSION_VIEW."""
    folders = [names.folder(row.picture) for row in sheet.rows]
    return bool(folders) and all(folder.endswith(f"_{view}") for folder in folders)


def _part(sheet: Sheet, view: str, path: Path) -> Sheet:
    """Return the sheet with only the joints whose names begin or end with the camera's name."""
    words = [re.split(r"[-_. ]", name) for name in sheet.names]
    at = [i for i, parts in enumerate(words) if view in (parts[0], parts[-1])]
    if not at:
        raise DataError(
            f"{path} has no joints of the camera {view}: expected names that end in _{view} among "
            f"{', '.join(sheet.names)}."
        )
    rows = [row._replace(joints=row.joints[at], visible=row.visible[at]) for row in sheet.rows]
    rows = [row for row in rows if not np.isnan(row.joints).all()]
    return sheet._replace(names=[sheet.names[i] for i in at], rows=rows)


def _recordings(root: Path, sheet: Sheet, view: str, options: Options) -> list[Recording]:
    """Return the labels of each folder of pictures; pictures without one get the project's name."""
    titles = names.apart(names.folders(row.picture) for row in sheet.rows)
    groups: dict[str, list[Row]] = {}
    for row in sheet.rows:
        folder = titles[names.folders(row.picture)]
        name = root.resolve().name if folder in ("", FOLDER) else folder
        groups.setdefault(name, []).append(row)
    recordings = []
    for name, rows in groups.items():
        find = files.finder(rows, [], [root, options.media])
        places = {row.picture: files.locate(row.picture, [root]) for row in rows}
        folders = {path.parent for path in places.values() if path}
        unlabelled = sum(len(files.pictures_in(folder)) for folder in folders) - len(places)
        recordings.append(
            Recording(
                name,
                sheet._replace(rows=rows),
                find,
                subject=name.removesuffix(f"_{view}") if view else "",
                unlabelled=max(unlabelled, 0),
            )
        )
    return recordings
