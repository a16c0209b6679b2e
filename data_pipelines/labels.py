"""True joints of some frames of an own video, from the files that labelling tools write.

    suffix  written by                                    a joint that isn't labelled
    .json   COCO keypoints (CVAT, Label Studio, ...)      v = 0
    .csv    DeepLabCut (CollectedData_*.csv)              empty cells
    .mat    Penn Action, one label file                   NaN

Places are pixels of the upright picture, pixel centres at integers, in all three; Penn Action's
1-based pixels are shifted. Tools that put the first pixel's centre at 0.5 are half a pixel off.

Frames are counted from 0. A bare number in DeepLabCut's first column and a row of a .mat file are
frames; of a picture's name the last number is ("labeled-data/video/img0042.png" is frame 42), which
is right for pictures numbered from 0. COCO pictures without numbers count in the order of the file.

Keypoints are matched to the skeleton's joints by name: case, "-", "_", "." and spaces don't matter,
and left and right may be l and r, before or after the part ("LWrist", "wrist-left"). Nothing is
guessed beyond that: COCO's nose is no head.
"""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import penn
from data_pipelines.clips import DataError, read_text
from ttp_jax.files import Damaged, parse_json
from ttp_jax.skeletons import PENN13, Skeleton

DLC_HEADERS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
MOST_FRAMES = 2**31  # of a video of unknown length: larger numbers are dates or hashes


class Labels(NamedTuple):
    """Labelled frames of one video, those without a labelled joint left out.

    Attributes:
      frames: int64 [n], numbers counted from 0, ascending.
      joints: float32 [n, K, 2] in picture pixels (module docstring); NaN where not labelled.
      visible: bool [n, K]; a labelled joint that the file calls hidden (COCO's v = 1, Penn Action's
        visibility = 0) has a place and is not visible.
      notes: sentences for the user: what was left out, renamed or taken for granted.
    """

    frames: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    notes: tuple[str, ...]


class _Row(NamedTuple):
    """One picture of a file.

    Attributes:
      picture: its name, or the number of its frame.
      size: its height and width, None where the file doesn't say.
      joints: float64 [k, 2] of the file's keypoints; NaN where not labelled.
      visible: bool [k].
    """

    picture: str
    size: tuple[int, int] | None
    joints: np.ndarray
    visible: np.ndarray


class _Sheet(NamedTuple):
    """What one file holds: names of its keypoints [k], its pictures, notes."""

    names: list[str]
    rows: list[_Row]
    notes: list[str]


def read(
    path: str | os.PathLike,
    skeleton: Skeleton,
    clip_name: str | None = None,
    size: tuple[int, int] | None = None,
    *,
    count: int | None = None,
    first: int = 0,
) -> Labels:
    """Read the labels of one video.

    Args:
      path: .json, .csv or .mat file, see the module's first lines.
      skeleton: whose joints are wanted.
      clip_name: the video's name. Chooses the pictures in the folder of that name where a file
        holds pictures of several folders.
      size: height and width of the video's upright pictures; labels of other pictures are refused.
      count: number of the video's frames; labels beyond are refused.
      first: number in the name of the picture that is the video's first frame, 1 for "0001.png".

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} is no file of labels: expected COCO keypoints (.json), DeepLabCut (.csv) or "
            "Penn Action (.mat)."
        )
    names, rows, notes = reader(path)
    joints_of, notes_on_names = _match(names, skeleton, path)
    columns, targets = list(joints_of), list(joints_of.values())
    rows = [row for row in rows if not np.isnan(row.joints[columns]).all()]
    if not rows:
        raise DataError(
            f"{path}: none of {', '.join(names[column] for column in columns)} is labelled in any "
            "frame: label some frames, or export again."
        )
    rows, note_on_clip = _of_clip(rows, clip_name, path)
    frames = _frame_numbers(rows, first, count, path)

    joints = np.full((len(rows), skeleton.size, 2), np.nan, np.float32)
    visible = np.zeros(joints.shape[:2], bool)
    joints[:, targets] = np.stack([row.joints[columns] for row in rows])
    visible[:, targets] = np.stack([row.visible[columns] for row in rows])
    _check_sizes(rows, size, path)
    if path.suffix.lower() != ".mat":  # Penn Action itself has joints outside the picture
        _check_places(joints, rows, size, skeleton, path)

    hidden = int((~np.isnan(joints[..., 0]) & ~visible).sum())
    notes = [*notes, *notes_on_names, *note_on_clip]
    if hidden:
        notes.append(f"{hidden} labelled joints are marked as hidden: they have a place, no score.")
    order = np.argsort(frames)
    return Labels(frames[order], joints[order], visible[order], tuple(notes))


# --- Formats -------------------------------------------------------------------------------------


def _coco(path: Path) -> _Sheet:
    """Read COCO's keypoint annotations of one person."""
    text = read_text(path)
    try:
        content = parse_json(text, path)
    except Damaged as error:
        raise DataError(
            f"{path} is no JSON, or cut off ({error.reason}): export it again."
        ) from error
    try:
        pictures, sizes = _coco_images(content["images"])
        named = {
            category["id"]: tuple(map(str, category["keypoints"]))
            for category in content["categories"]
            if category.get("keypoints")
        }
        people = [
            (
                f"{path}, annotation {person.get('id')}",
                person["image_id"],
                named[person["category_id"]],
                person["keypoints"],
            )
            for person in content["annotations"]
            if person["category_id"] in named and any((person.get("keypoints") or [])[2::3])
        ]
        strays = [f"{where} is of image {key}" for where, key, *_ in people if key not in pictures]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path} holds no COCO keypoint annotations ({error!r}): expected an object with "
            "images (id, file_name), annotations (image_id, category_id, keypoints) and categories "
            "(id, keypoints). Files of results have no names of keypoints and can't be read."
        ) from error
    if len(pictures) < len(content["images"]):
        raise DataError(f"{path}: two images have the same id: export it again.")
    if strays:
        raise DataError(f"{strays[0]}, which the file doesn't list: export it again.")
    skeletons = {names for _, _, names, _ in people}
    if len(skeletons) != 1:
        raise DataError(
            f"{path}: {len(skeletons)} categories have labelled keypoints, expected one: label one "
            "person, with one skeleton."
        )
    notes = []
    if all(_last_number(picture) is None for picture in pictures.values()):
        pictures = {key: str(place) for place, key in enumerate(pictures)}
        notes.append("no picture's name has a number: they count as frames 0, 1, ... in order.")
    rows: dict[Any, _Row] = {}
    for where, key, names, values in people:
        if key in rows:
            raise DataError(
                f"{where} is a second person in {pictures[key]}: keep the keypoints of the one "
                "whose video it is."
            )
        places, flags = _coco_keypoints(values, len(names), where)
        rows[key] = _Row(pictures[key], sizes.get(key), places, flags == 2)
    return _Sheet(list(skeletons.pop()), list(rows.values()), notes)


def _coco_images(images: list[dict]) -> tuple[dict[Any, str], dict[Any, tuple]]:
    """Return the name and, where the file says it, the (height, width) of each image id."""
    pictures = {image["id"]: str(image["file_name"]) for image in images}
    sizes = {
        image["id"]: (int(image["height"]), int(image["width"]))
        for image in images
        if image.get("height") and image.get("width")
    }
    return pictures, sizes


def _coco_keypoints(values: Any, count: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return places [k, 2], NaN where not labelled, and flags v [k] of one person."""
    try:
        table = np.array(values, np.float64).reshape(count, 3)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where} has {len(values)} values in keypoints, expected {3 * count} numbers: x, y, v "
            f"of {count} keypoints. Export it again."
        ) from error
    places, flags = table[:, :2], table[:, 2]
    if not np.isin(flags, (0, 1, 2)).all():
        raise DataError(
            f"{where} has v {flags.tolist()}, expected 0 (not labelled), 1 (hidden) or 2 (visible)."
        )
    if np.isnan(places[flags > 0]).any():
        raise DataError(f"{where} has a labelled keypoint (v > 0) at NaN: set its v to 0.")
    return np.where(flags[:, None] > 0, places, np.nan), flags


def _deeplabcut(path: Path) -> _Sheet:
    """Read DeepLabCut's table of one individual."""
    try:
        lines = list(enumerate(csv.reader(read_text(path).splitlines()), start=1))
    except csv.Error as error:
        raise DataError(f"{path} is no CSV ({error}): export it again.") from error
    lines = [(number, line) for number, line in lines if any(line)]
    titles = [line[0] for _, line in lines[:4]]
    titles = titles[: titles.index("coords") + 1] if "coords" in titles else titles
    if titles not in DLC_HEADERS:
        raise DataError(
            f"{path} is no DeepLabCut table: lines begin with {', '.join(titles) or 'nothing'}, "
            "expected scorer, (individuals,) bodyparts, coords. Export it again, with commas."
        )
    header = {title: line for title, (_, line) in zip(titles, lines, strict=False)}
    width, lines = len(header["coords"]), lines[len(titles) :]
    broken = [n for n, line in [*enumerate(header.values(), 1), *lines] if len(line) != width]
    if broken:
        raise DataError(
            f"{path}, line {broken[0]}: not {width} cells, as many as in the line coords: the file "
            "is cut off or damaged, export it again."
        )
    # Newer files have the picture's path in three columns, for which the header is empty.
    start = next((i for i, cell in enumerate(header["coords"]) if i and cell), width)
    places = _dlc_columns({title: line[start:] for title, line in header.items()}, path)
    values = np.array([_dlc_cells(line[start:], f"{path}, line {n}") for n, line in lines])
    values = values.reshape(len(lines), width - start)
    xy = {key: values[:, [at["x"], at["y"]]] for key, at in places.items()}
    people = {who for (who, _), place in xy.items() if not np.isnan(place).all()}
    if len(people) > 1:
        raise DataError(
            f"{path} has labels of {len(people)} individuals ({', '.join(sorted(people))}): keep "
            "the columns of the one whose video it is."
        )
    kept = {part: place for (who, part), place in xy.items() if who in people}
    if not kept:
        raise DataError(f"{path}: no cell of its {len(lines)} rows is labelled: label some frames.")
    joints = np.stack(list(kept.values()), 1)
    rows = [
        _Row("/".join(line[:start]), None, row, ~np.isnan(row).any(-1))
        for (_, line), row in zip(lines, joints, strict=True)
    ]
    notes = []
    if "likelihood" in header["coords"]:
        notes.append("the file has a column likelihood: predictions, taken for labels.")
    return _Sheet(list(kept), rows, notes)


def _dlc_columns(header: dict[str, list[str]], path: Path) -> dict[tuple[str, str], dict[str, int]]:
    """Find the columns of x and y of each (individual, bodypart)."""
    people = header.get("individuals", [""] * len(header["coords"]))
    places: dict[tuple[str, str], dict[str, int]] = {}
    for i, key in enumerate(zip(people, header["bodyparts"], strict=True)):
        if header["coords"][i] in places.setdefault(key, {}):
            raise DataError(
                f"{path}: two columns {header['coords'][i]} of {key[1]}: keep one scorer's columns."
            )
        places[key][header["coords"][i]] = i
    for (_, part), found in places.items():
        if not {"x", "y"} <= set(found):
            raise DataError(
                f"{path}: {part} has columns {', '.join(found)}, expected x and y: export it again."
            )
    return places


def _dlc_cells(cells: list[str], where: str) -> list[float]:
    try:
        return [float(cell or "nan") for cell in cells]
    except ValueError as error:
        raise DataError(f"{where}: {error}: expected numbers, or empty cells.") from error


def _penn(path: Path) -> _Sheet:
    """Read one label file of Penn Action; its rows are the video's frames."""
    label = penn.read_label(path)
    joints = label.joints.astype(np.float64)
    joints[~np.isfinite(joints).all(-1)] = np.nan
    rows = [
        _Row(str(frame), label.size, joints[frame], label.visible[frame])
        for frame in range(label.num_frames)
    ]
    return _Sheet(list(PENN13.joints), rows, [])


READERS = {".json": _coco, ".csv": _deeplabcut, ".mat": _penn}


# --- Names ---------------------------------------------------------------------------------------


def _match(
    names: Sequence[str], skeleton: Skeleton, path: Path
) -> tuple[dict[int, int], list[str]]:
    """Map places in the file to joints of the skeleton, by name; and say what has no partner."""
    spellings = {form: k for k, joint in enumerate(skeleton.joints) for form in _spellings(joint)}
    found = {i: spellings[s] for i, name in enumerate(names) if (s := _squeezed(name)) in spellings}
    if not found:
        raise DataError(
            f"{path} has none of the joints of {skeleton.name}: its keypoints are "
            f"{', '.join(names)}; expected some of {', '.join(skeleton.joints)}. Rename them."
        )
    for k, joint in enumerate(skeleton.joints):
        same = [names[i] for i, other in found.items() if other == k]
        if len(same) > 1:
            raise DataError(f"{path}: {' and '.join(same)} both mean {joint}: remove one.")
    parts = {
        "read as another name": [
            f"{names[i]} as {skeleton.joints[k]}"
            for i, k in found.items()
            if names[i] != skeleton.joints[k]
        ],
        f"left out, for {skeleton.name} has no such joint": [
            name for i, name in enumerate(names) if i not in found
        ],
        f"joints of {skeleton.name} that the file doesn't have": [
            joint for k, joint in enumerate(skeleton.joints) if k not in found.values()
        ],
    }
    return found, [f"{what}: {', '.join(which)}." for what, which in parts.items() if which]


def _spellings(joint: str) -> list[str]:
    """All squeezed names that mean a joint: leftwrist, lwrist, wristleft, wristl."""
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return [_squeezed(joint)]
    part = _squeezed(part)
    return [form for s in (side, side[0]) for form in (s + part, part + s)]


def _squeezed(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name.lower())


# --- Pictures and frames -------------------------------------------------------------------------


def _of_clip(rows: list[_Row], clip_name: str | None, path: Path) -> tuple[list[_Row], list[str]]:
    """Choose the pictures of one video by their folder; those without a folder are of any."""
    folders = sorted({_folder(row.picture) for row in rows} - {""})
    others = [folder for folder in folders if folder != clip_name]
    if len(folders) < 2:
        known = not clip_name or not others
        return rows, [] if known else [f"its pictures are of {others[0]}, taken for {clip_name}."]
    if clip_name not in folders:
        raise DataError(
            f"{path} has pictures of {len(folders)} folders ({', '.join(folders[:5])}), none of "
            f"them {clip_name}: name the video after its folder, or keep one folder's labels."
        )
    kept = [row for row in rows if _folder(row.picture) in ("", clip_name)]
    return kept, [f"left out, pictures of other folders than {clip_name}: {', '.join(others)}."]


def _folder(picture: str) -> str:
    return ["", *re.split(r"[/\\]", picture)][-2]


def _last_number(picture: str) -> int | None:
    """Return the last number of a picture's name, without folder and suffix."""
    name = re.sub(r"\.[a-zA-Z]\w*$", "", re.split(r"[/\\]", picture)[-1])
    name = re.sub(r"\.rf\.\w+$", "", name)  # Roboflow appends a hash
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else None


def _frame_numbers(rows: list[_Row], first: int, count: int | None, path: Path) -> np.ndarray:
    """Return the frames [n] of the pictures, all different and within the video."""
    taken: dict[int, str] = {}
    for picture, *_ in rows:
        frame = _frame_number(picture, first)
        if frame is None:
            raise DataError(
                f"{path}: no whole number in {picture}, expected the frame's, as in img0042.png: "
                "rename it."
            )
        if not 0 <= frame < (MOST_FRAMES if count is None else count):
            length = "of the video" if count is None else f"of the video's {count}"
            raise DataError(
                f"{path}: {picture} would be frame {frame}, expected one {length}, counted from 0. "
                "Is it another video's, or do the names of its pictures count from another number?"
            )
        if frame in taken:
            raise DataError(
                f"{path}: {taken[frame]} and {picture} are both frame {frame}: keep one of them."
            )
        taken[frame] = picture
    return np.array(list(taken), np.int64)


def _frame_number(picture: str, first: int) -> int | None:
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", picture):
        return int(float(picture)) if float(picture).is_integer() else None
    number = _last_number(picture)
    return None if number is None else number - first


def _check_sizes(rows: list[_Row], size: tuple[int, int] | None, path: Path) -> None:
    for row in rows:
        if size and row.size and row.size != tuple(size):
            raise DataError(
                f"{path}: {row.picture} was labelled at {row.size[1]} x {row.size[0]} pixels, but "
                f"the video has {size[1]} x {size[0]}: label pictures of the video's own size."
            )


def _check_places(
    joints: np.ndarray, rows: list[_Row], size: tuple[int, int] | None, skeleton, path: Path
) -> None:
    """Refuse labelled joints [n, K, 2] outside the picture; some tools mean "none" by -1, -1."""
    for row, places in zip(rows, joints, strict=True):
        height, width = size or row.size or (np.inf, np.inf)
        # To width, not width - 0.5: some tools count from the picture's edge.
        inside = ((places >= -0.5) & (places <= (width, height))).all(-1)
        bad = np.flatnonzero(~np.isnan(places).all(-1) & ~(inside & np.isfinite(places).all(-1)))
        if bad.size:
            raise DataError(
                f"{path}: {skeleton.joints[bad[0]]} of {row.picture} lies at "
                f"{places[bad[0]].tolist()}, expected a place in the picture"
                + (f" of {width} x {height} pixels" if np.isfinite(width) else "")
                + ". Where a joint isn't labelled leave its cells empty (COCO: v = 0)."
            )
