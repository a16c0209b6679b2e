"""Labelled projects of pose tools, read as clips: for training, validation, test and scoring.

    tool             path
    DeepLabCut       the project's folder, or one labeled-data/NAME
    Lightning Pose   the project's folder, or a file of its labels (.csv)
    SLEAP            a .slp file, or a folder with one
    COCO keypoints   a .json file, or a folder with one

To add a format, add a module with `read(path, options)`, an entry in `_reader` and a test.
"""

from collections.abc import Callable
from pathlib import Path

from data_pipelines.clips import DataError, first_few
from data_pipelines.projects import coco, deeplabcut, files, lightning_pose, sleap
from data_pipelines.projects.records import Footage, Options, Project

__all__ = ["Footage", "Options", "Project", "read"]

NAMED = 3  # largest number of projects that a message names
Reader = Callable[[Path, Options], Project]
EXPECTED = "expected a DeepLabCut or Lightning Pose project's folder, SLEAP's .slp or COCO's .json"


def read(path: str | Path, options: Options | None = None) -> Project:
    """Read a labelled project.

    Args:
      path: folder or file, see the module docstring; "~" is the home folder.
      options: what to read and how, see `Options`.

    Returns:
      The project; its `describe` says what was read, what was left out, and why.

    Raises:
      DataError: nothing can be read, or a file is damaged; the message names file, row and remedy.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.")
    path, reader = _reader(path)
    return reader(path, options or Options())


def _reader(path: Path) -> tuple[Path, Reader]:
    """Return the file or folder to read, and its reader."""
    if path.is_file():
        if path.name == "config.yaml":  # DeepLabCut identifies a project by this file
            return _reader(path.parent)
        suffix = path.suffix.lower()
        readers = {".slp": sleap.read, ".json": coco.read, ".csv": lightning_pose.read}
        readers[".h5"] = lightning_pose.read
        if suffix == ".mat":
            raise DataError(f"{path}: LEAP's files can't be read: save it as .slp in SLEAP.")
        if suffix not in readers:
            raise DataError(f"{path} is not a labelled project: {EXPECTED}.")
        return path, readers[suffix]
    if deeplabcut.is_one(path):
        return path, deeplabcut.read
    if lightning_pose.is_one(path):
        return path, lightning_pose.read
    if path.name == deeplabcut.FOLDER and path.is_dir():  # the project is one folder up
        root = path.parent
        if deeplabcut.is_one(root) or lightning_pose.is_one(root):
            return _reader(root)
    inside = [each for each in files.entries(path) if each.suffix.lower() in (".slp", ".json")]
    slp = [each for each in inside if each.suffix.lower() == ".slp"]
    annotations = [] if slp else [each for each in inside if coco.is_one(each)]
    if len(slp + annotations) > 1:
        shown = first_few([each.name for each in slp + annotations])
        raise DataError(f"{path} has several files of labels ({shown}): name one of them.")
    if slp + annotations:
        return _reader((slp + annotations)[0])
    near = _below(path)
    hint = f" Name the one in it: {', '.join(map(str, near))}." if near else ""
    raise DataError(f"{path} has no labelled project: {EXPECTED}.{hint}")


def _below(path: Path, depth: int = 2) -> list[Path]:
    """Return projects in subfolders, at most as many as a message names."""
    found: list[Path] = []
    for each in files.entries(path):
        if len(found) == NAMED:
            break
        if not each.is_dir():
            deeper = depth == 1 and each.suffix.lower() in (".slp", ".json")
            found += [each] * (deeper and (each.suffix.lower() == ".slp" or coco.is_one(each)))
        elif deeplabcut.is_one(each) or lightning_pose.is_one(each):
            found.append(each)
        elif depth > 1:
            found += _below(each, depth - 1)
    return found[:NAMED]
