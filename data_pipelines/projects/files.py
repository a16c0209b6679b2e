"""Find the pictures and videos of a project."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from data_pipelines import media, pictures, video
from data_pipelines.clips import DataError, FrameError
from data_pipelines.projects import names
from data_pipelines.projects.records import Picture, Row

FORMS = ("NFC", "NFD")  # of accents in names: one letter on most systems, two on older Macs


def locate(name: str, folders: Iterable[Path]) -> Path | None:
    """Find a file that labels name by its path on this or another machine.

    Looks for the path itself, then below each folder for the path and ever shorter ends of it, with
    accents as this or another system writes them.

    Args:
      name: path in the labels.
      folders: where to look.
    """
    if os.path.isabs(name) and os.path.isfile(name):
        return Path(name)
    folders = list(folders)
    for form in dict.fromkeys([name, *(unicodedata.normalize(kind, name) for kind in FORMS)]):
        parts = names.parts(form)
        if ".." in parts:
            parts = parts[len(parts) - parts[::-1].index("..") :]
        for folder in folders:
            for start in range(len(parts)):
                path = os.path.join(folder, *parts[start:])
                if os.path.isfile(path):
                    return Path(path)
    return None


def pictures_in(folder: Path) -> list[Path]:
    """Pictures directly in a folder, by name, hidden ones left out."""
    return _listed(folder, media.PICTURES)


def videos_in(folder: Path) -> list[Path]:
    """Videos directly in a folder, by name, hidden ones left out."""
    return _listed(folder, media.VIDEOS)


def _listed(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [path for path in entries(folder) if path.suffix.lower() in suffixes and path.is_file()]


def entries(folder: Path) -> list[Path]:
    """List a folder by name without hidden entries; empty if there is no folder.

    Raises:
      DataError: the folder can't be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}.") from error


def picture(path: Path, frame: int | None, bits: set[int]) -> Picture | None:
    """Return a picture from its own file; None if it can't be opened.

    Args:
      path: of the file.
      frame: number of its frame in the video, if known.
      bits: that pictures of its recording use. Those of this one are added, and all are read as
        the deepest, as in `media`: else one would be twice as bright as the next.
    """
    try:
        page, *_ = pictures.look(path)
    except (FrameError, ValueError):
        return None
    bits.add(page.bits)
    return Picture(lambda: pictures.read(path, page.number, max(bits)), page.size, frame, path)


def finder(
    rows: Sequence[Row], beside: Sequence[Path], below: Sequence[str | Path]
) -> Callable[[Row], Picture | None]:
    """Return the function from a row to its picture.

    Args:
      rows: all rows of the recording, for the numbers in the pictures' names.
      beside: folders in which the picture's bare name is looked for first.
      below: folders in which its whole name, or the end of it, is looked for; "" for none.
    """
    labelled = list(dict.fromkeys(row.picture for row in rows))
    frames = dict(zip(labelled, names.frame_numbers(labelled), strict=True))
    folders = [Path(folder).expanduser() for folder in below if folder]
    bits: set[int] = set()

    def find(row: Row) -> Picture | None:
        own = locate(names.file(row.picture), beside)
        path = own or locate(row.picture, folders)
        return path and picture(path, frames[row.picture], bits)

    return find


class Film:
    """A video of labelled frames.

    Frames are as stored, because they were labelled that way: pixels that aren't square stay so.
    """

    def __init__(self, path: Path):
        """Raises DataError where the video can't be opened."""
        self._video = video.Video(path, square=False)

    def picture(self, frame: int) -> Picture | None:
        """Return a frame, or None if the video has no such frame."""
        if not 0 <= frame < len(self._video):
            return None
        return Picture(lambda: self._video.read(frame), self._video.size, frame)
