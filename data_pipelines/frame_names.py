"""Which frame a picture's name means."""

import re
from collections.abc import Sequence

NUMBER = r"[+-]?\d+(\.\d*)?"  # of a frame, without a name
MARKED = r"(?i)(?:frame|image|img)[-_. ]*(\d+)"
CAMERA = r"(?i)(?:camera|cam|view|person|id|v)[-_. ]*\d+"  # numbers of something else


def base(picture: str) -> str:
    return re.split(r"[/\\]", picture)[-1]


def stem(picture: str) -> str:
    """A picture's name without folder, suffix and the hash that Roboflow appends."""
    name = re.sub(r"\.[a-zA-Z]\w*$", "", base(picture))
    return re.sub(r"\.rf\.\w+$", "", name)


def numbers(pictures: Sequence[str]) -> dict[str, str | None]:
    """Find the number of the frame in each picture's name; None where there is none.

    It is the one behind "frame" or "img"; else the only one that differs from name to name; else
    the last one, but for those that tell cameras apart ("0004_cam1").
    """
    stems = {picture: stem(picture) for picture in pictures}
    marked = {picture: re.findall(MARKED, stem) for picture, stem in stems.items()}
    if all(marked.values()):
        return {picture: numbers[-1] for picture, numbers in marked.items()}
    several = {picture: re.findall(r"\d+", stem) for picture, stem in stems.items()}
    if len(lengths := {len(numbers) for numbers in several.values()}) == 1:
        columns = [{row[i] for row in several.values()} for i in range(lengths.pop())]
        varying = [i for i, column in enumerate(columns) if len(column) > 1]
        if len(varying) == 1:
            return {picture: numbers[varying[0]] for picture, numbers in several.items()}
    plain = {picture: re.findall(r"\d+", re.sub(CAMERA, "", s)) for picture, s in stems.items()}
    return {picture: (plain[picture] or several[picture] or [None])[-1] for picture in pictures}
