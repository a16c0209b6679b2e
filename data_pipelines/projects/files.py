"""Finding the pictures and videos of a project."""

import functools
import itertools
import os
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from data_pipelines import media, pictures, video
from data_pipelines.clips import DataError, FrameError
from data_pipelines.projects import names
from data_pipelines.projects.records import Picture, Row

# Unicode forms of accented letters in names: one character on most systems, two on older Macs.
FORMS = ("NFC", "NFD")


def locate(name: str, folders: Iterable[Path]) -> Path | None:
    """Find a file by its path in the labels, which may come from another machine.

    Tries the path itself, then, in each folder, the path and ever shorter ends of it. Accents may
    be in this or another system's form, and the suffix in lower or upper case. In a URL, "%20" may
    stand for a space.

    Args:
      name: path in the labels.
      folders: where to look.
    """
    if os.path.isabs(name) and os.path.isfile(name):
        return Path(name)
    folders = list(folders)
    spelled = [name, urllib.parse.unquote(name.partition("?")[0])]  # as a path, as a URL
    forms = [unicodedata.normalize(kind, each) for each in spelled for kind in FORMS]
    stems = [os.path.splitext(each) for each in [name, *forms]]
    endings = [stem + kind(end) for kind in (str.lower, str.upper) for stem, end in stems]
    for form in dict.fromkeys([name, *forms, *endings]):
        parts = names.parts(form)
        if ".." in parts:
            parts = parts[len(parts) - parts[::-1].index("..") :]
        for folder in folders:
            for start in range(len(parts)):
                path = os.path.join(folder, *parts[start:])
                if os.path.isfile(path):
                    return Path(path)
    return None


def distinct(listed: Iterable[str], find: Callable[[str], Path | None]) -> dict[str, Path | None]:
    """Find the files that labels name, with a different file for each name.

    If several names lead to one file, because folders are missing, it belongs to the name that
    agrees with more of its path, and the files of the others are missing.

    Args:
      listed: paths in the labels.
      find: function from such a path to the file, or to None if there is none.

    Raises:
      DataError: the names agree equally, so nothing says whose file it is.
    """
    found = {name: find(name) for name in listed}
    owners: dict[Path, list[str]] = {}
    for name, path in found.items():
        if path is not None:
            owners.setdefault(path, []).append(name)
    for path, named in owners.items():
        if len({tuple(names.parts(name)) for name in named}) == 1:
            continue
        shared = {name: agreement(name, path) for name in named}
        best = [name for name in named if shared[name] == max(shared.values())]
        if len({tuple(names.parts(name)) for name in best}) > 1:
            raise ambiguous(best[0], best[1], path)
        found |= dict.fromkeys(set(named) - set(best))
    return found


def ambiguous(name: str, other: str, path: Path | None) -> DataError:
    """Return the error that one file was found for two names in the labels.

    Args:
      name: path in the labels.
      other: another path in the labels.
      path: path of the file.
    """
    return DataError(
        f"{name} and {other} would both be {path}: put each into the folder that the labels name, "
        "or name both alike there if they are the same."
    )


def agreement(name: str, path: Path) -> tuple[bool, int]:
    """Return whether a path ends with the whole name, and how many parts agree at the end.

    Args:
      name: path in the labels.
      path: path of a file or folder here.
    """
    pairs = zip(reversed(names.parts(name)), reversed(path.parts), strict=False)
    same = itertools.takewhile(
        lambda pair: names.composed(pair[0]) == names.composed(pair[1]), pairs
    )
    count = sum(1 for _ in same)
    return count == len(names.parts(name)), count


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures directly in a folder by name, except hidden ones."""
    return _listed(folder, media.PICTURES)


def videos_in(folder: Path) -> list[Path]:
    """List the videos directly in a folder by name, except hidden ones."""
    return _listed(folder, media.VIDEOS)


def _listed(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [path for path in entries(folder) if path.suffix.lower() in suffixes and path.is_file()]


def entries(folder: Path) -> list[Path]:
    """List the entries of a folder by name, except hidden ones; empty if there is no folder.

    Raises:
      DataError: the folder can't be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}.") from error


def picture(path: Path, frame: int | None, bits: set[int]) -> Picture:
    """Return a picture from its own file.

    Args:
      path: path of the file.
      frame: number of its frame in the video, if known.
      bits: numbers of bits that the recording's pictures use; this picture's is added. All pictures
        are scaled by the largest, as in `media`, so that brightness doesn't jump between them.

    Raises:
      FrameError: it can't be read.
    """
    pages = pictures.look(path)
    if not pages:
        raise FrameError(f"{path} can't be read: it has nothing but small copies of a picture.")
    page = pages[0]
    bits.add(page.bits)
    return Picture(lambda: pictures.read(path, page.number, max(bits)), page.size, frame, path)


def finder(
    rows: Sequence[Row], beside: Sequence[Path], below: Sequence[str | Path]
) -> Callable[[Row], Picture | None]:
    """Return the function from a row to its picture.

    Args:
      rows: all rows of the recording, for the numbers in the pictures' names.
      beside: folders that are searched first, for the picture's file name.
      below: folders that are searched for its whole name or the end of it; "" for none.
    """
    labelled = list(dict.fromkeys(row.picture for row in rows))
    frames = dict(zip(labelled, names.frame_numbers(labelled), strict=True))
    folders = [Path(folder).expanduser() for folder in below if folder]
    bits: set[int] = set()

    @functools.cache
    def places() -> dict[str, Path | None]:
        return distinct(
            labelled, lambda name: locate(names.file(name), beside) or locate(name, folders)
        )

    def find(row: Row) -> Picture | None:
        path = places()[row.picture]
        return path and picture(path, frames[row.picture], bits)

    return find


class Film:
    """A video of labelled frames.

    Frames stay as stored, even if their pixels are not square, because they were labelled that way.
    """

    def __init__(self, path: Path):
        """Open the video; raise DataError if it can't be opened."""
        self._video = video.Video(path, square=False)

    def picture(self, frame: int) -> Picture | None:
        """Return a frame, or None if the video has no such frame."""
        if not 0 <= frame < len(self._video):
            return None
        return Picture(lambda: self._video.read(frame), self._video.size, frame)
