"""Names of labelled pictures: folder, file and frame number."""

import collections
import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath

# "img0042", "frame_42", "f-42": words that precede the number of a frame.
_FRAME = re.compile(
    r"(?:frame|frm|image|img|(?<![a-z0-9])(?:pic|im|f))[-_ ]?(\d{1,100})", re.IGNORECASE
)
_ALONE = re.compile(r"(?<![a-z0-9])\d{1,100}", re.IGNORECASE)  # not as in cam1
_ANY = re.compile(r"\d{1,100}")


def parts(picture: str) -> list[str]:
    """Split a picture's name into folders and file, with the separators of any system."""
    return [part for part in re.split(r"[/\\]", picture) if part not in ("", ".")]


def file(picture: str) -> str:
    """Return a picture's name without its folders."""
    return (parts(picture) or [""])[-1]


def folder(picture: str) -> str:
    """Return the name of the folder that a picture is in; "" if the name has none."""
    return ["", *parts(picture)][-2]


def folders(picture: str) -> tuple[str, ...]:
    """Return the names of all folders that a picture is in, the outermost first."""
    return tuple(parts(picture)[:-1])


def apart(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Name folders after their last part, or after the fewest last parts that tell them apart.

    anna/left and bert/left become anna_left and bert_left; session/top alone stays top. A whole
    path at the end of another, as "a" of "https://labels.org/data/a", is the same folder.
    """
    every = set(paths)
    whole = {
        path: next(end for end in _endings(path) if end in every or end == path) for path in every
    }
    ends = collections.Counter(end for path in set(whole.values()) for end in _endings(path))
    return {
        path: "_".join(next((end for end in _endings(own) if ends[end] == 1), own))
        for path, own in whole.items()
    }


def _endings(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the last part, the last two, ..., and the whole path."""
    return [path[-count:] for count in range(1, len(path) + 1)] or [path]


def stem(picture: str) -> str:
    """Return a picture's name without folders, suffix, and the hash that Roboflow appends."""
    name = re.sub(r"\.[a-zA-Z]\w*$", "", file(picture))
    return re.sub(r"\.rf\.\w+$", "", name)


def chosen(names: Iterable[str], pattern: str) -> set[str]:
    """Return the name that equals a pattern, such as "mouse[1]", or else those that it matches.

    Args:
      names: names to choose from.
      pattern: a name, or a pattern in which "*" stands for any characters.
    """
    names = set(names)
    matching = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
    return {pattern} if pattern in names else matching


def composed(name: str) -> str:
    """Return a name with each accented letter as one character; some systems store two."""
    return unicodedata.normalize("NFC", name)


def key(file: str) -> str:
    """Return what names of one file have in common, whichever system wrote them.

    Accents may be in two forms, and the suffix in lower or upper case (`files.locate`).
    """
    path = PurePath(composed(file))
    return path.stem + path.suffix.lower()


def frame_numbers(pictures: Sequence[str]) -> list[int | None]:
    """Return the frame number of each picture; None for a name without one.

    A bare number is the frame number. Of several numbers, it is the one after "frame", "img" or the
    like, otherwise one that stands alone and not after letters, as in "cam1". If several still
    qualify, it is the only one that differs from picture to picture, otherwise the last.
    """
    found = [_candidates(stem(picture)) for picture in pictures]
    places = {count: _varying([f for f in found if len(f) == count]) for count in map(len, found)}
    return [
        _bare(picture) if is_bare(picture) else (f[places[len(f)]] if f else None)
        for picture, f in zip(pictures, found, strict=True)
    ]


def is_bare(picture: str) -> bool:
    """Return whether a picture's name is a bare frame number, not a file."""
    return bool(re.fullmatch(r"[+-]?\d{1,100}(\.\d{0,100})?", picture))


def _bare(picture: str) -> int | None:
    return int(float(picture)) if float(picture).is_integer() else None


def _candidates(name: str) -> list[int]:
    """Return the numbers of a name that may be the frame number."""
    for pattern in (_FRAME, _ALONE, _ANY):
        if found := pattern.findall(name):
            return [int(number) for number in found]
    return []


def _varying(numbers: list[list[int]]) -> int:
    """Return the only index at which lists of equal length differ; -1 if there isn't just one."""
    differing = [i for i, values in enumerate(zip(*numbers, strict=True)) if len(set(values)) > 1]
    return differing[0] if len(differing) == 1 else -1
