"""True joints of some frames of the user's video, from the files of labelling tools.

    file            written by                                  unlabelled joint
    .json           COCO keypoints (CVAT, Label Studio, ...)    v = 0
    .csv, .h5       DeepLabCut, Lightning Pose                  empty cells, NaN
    a folder        DeepLabCut's labeled-data/NAME              the same
    .slp            SLEAP                                       NaN, or not visible
    .mat            Penn Action, one label file                 NaN

Coordinates are pixels of the upright picture, with pixel centres at integers; Penn Action's 1-based
pixels are shifted. Labels of tools that put the first pixel's centre at 0.5 are half a pixel off.
If a video's pixels are not square, DeepLabCut and SLEAP show its frames as stored. Labels are then
read in pixels of the size at which they were made: the one in the file, or that of the image beside
it, or else that of the stored frames; rows of bare frame numbers, as in this program's tables, are
in pixels of the stretched frames.

Labels of a folder of images belong to the images with the same file names. Labels of a video belong
to frames, counted from 0, or from `first` if that is given. A bare number, a row of a .mat file and
SLEAP's frame index are frame numbers, of which the last two always count from 0. In an image's
name, `projects.names.frame_numbers` finds the frame number. COCO images without numbers are counted
in the order of the file.

Keypoints are matched to the skeleton's joints by name. Case, "-", "_", "." and spaces don't matter,
and left and right may be l and r, before or after the part ("LWrist", "wrist-left"). Nothing else
is guessed: COCO's nose is not the head.
"""

import collections
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import penn
from data_pipelines.clips import DataError, FrameError, first_few
from data_pipelines.projects import coco, deeplabcut, files, sleap, tables
from data_pipelines.projects import names as naming
from data_pipelines.projects.records import Options, Row, Sheet
from ttp_jax import geometry
from ttp_jax.skeletons import PENN13, Skeleton, spellings, squeezed

INDICES = (".slp", ".mat")  # formats whose bare frame numbers always count from 0
MOST_FRAMES = 2**31  # limit if the video's length is unknown; larger numbers are dates or hashes


class Labels(NamedTuple):
    """Labelled frames of one video; frames without a labelled joint are left out.

    Attributes:
      frames: int64 [n], numbers counted from 0, ascending.
      joints: float32 [n, K, 2] in picture pixels (module docstring); NaN if not labelled.
      visible: bool [n, K]; a labelled joint that the file marks as hidden (COCO's v = 1, Penn
        Action's visibility = 0) has coordinates but is not visible.
      notes: sentences for the user: what was left out, renamed or assumed.
    """

    frames: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    notes: tuple[str, ...]


def read(
    path: str | os.PathLike,
    skeleton: Skeleton,
    clip_name: str | None = None,
    size: tuple[int, int] | Mapping[int, tuple[int, int]] | None = None,
    *,
    stored: tuple[int, int] | None = None,
    count: int | None = None,
    first: int = 0,
    names: Mapping[str, int] | None = None,
    source: str | os.PathLike = "",
) -> Labels:
    """Read the labels of one video or folder of pictures.

    Args:
      path: file or folder, see the module docstring; "~" is the home folder.
      skeleton: skeleton whose joints to read.
      clip_name: the video's name. If a file has pictures of several folders, those in the folder of
        this name are used.
      size: height and width of the upright pictures, or of each by its number; others are refused.
      stored: height and width of the frames in the video file, if they were stretched to `size`.
      count: number of the video's frames; labels of later frames are refused.
      first: number of the video's first frame in the labels: 1 for "0001.png", or for rows that
        count from 1. SLEAP's frame indices and Penn Action's rows always count from 0.
      names: for a folder of pictures, file name -> frame number; labels are matched by name.
      source: path of the video or folder. If a file has labels of several of this name, those whose
        folders agree with more of this path are used.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    path = Path(path).expanduser()
    joint_names, rows, _, notes, *_ = _sheet(path)
    joints_of, notes_on_names = _match(joint_names, skeleton, path)
    columns, targets = list(joints_of), list(joints_of.values())
    rows = [row for row in rows if not np.isnan(row.joints[columns]).all()]
    if not rows:
        raise DataError(
            f"{path}: none of {', '.join(joint_names[column] for column in columns)} is labelled "
            "in any frame: label some frames, or export again."
        )
    rows, note_on_clip = _of_clip(rows, clip_name, source, path)
    rows, note_on_pixels = _sized(rows, size, stored, path)
    if names is None or all(naming.is_bare(row.picture) for row in rows):
        rows, notes_on_frames = _numbered(rows, path)
        frames = _frame_numbers(rows, 0 if notes_on_frames else first, count, path)
    else:
        rows, frames, notes_on_frames = _by_name(rows, names, path)

    joints = np.full((len(rows), skeleton.size, 2), np.nan, np.float32)
    visible = np.zeros(joints.shape[:2], bool)
    joints[:, targets] = np.stack([row.joints[columns] for row in rows])
    visible[:, targets] = np.stack([row.visible[columns] for row in rows])
    sizes = [size.get(i) if isinstance(size, Mapping) else size for i in frames.tolist()]
    _check(joints, rows, sizes, skeleton, path)

    notes = [*notes_on_frames, *note_on_pixels, *notes, *notes_on_names, *note_on_clip]
    notes += _note_on_hidden(joints, visible, path)
    order = np.argsort(frames)
    return Labels(frames[order], joints[order], visible[order], tuple(notes))


def _note_on_hidden(joints: np.ndarray, visible: np.ndarray, path: Path) -> list[str]:
    """Return the note on joints that have positions but no scores; refuse labels of no others."""
    hidden = int((~np.isnan(joints[..., 0]) & ~visible).sum())
    if not visible.any():
        raise DataError(f"{path}: all {hidden} labelled joints are hidden. Export visible ones.")
    if not hidden:
        return []
    return [f"{hidden} labelled joints are marked as hidden: they have positions but no scores."]


def files_of(path: Path) -> list[Path]:
    """Return the files to read labels from: the file itself, or those in DeepLabCut's folder."""
    if not path.is_dir():
        return [path]
    return [file for kinds in deeplabcut.labels_in(path).values() for file in kinds.values()]


# --- Formats -------------------------------------------------------------------------------------


def _sheet(path: Path) -> Sheet:
    """Return the labels of one individual, from any kind of file."""
    if path.is_dir():
        sheet = deeplabcut.sheet_of(path, Options())
        if sheet is None:
            raise DataError(
                f"{path} has no file of labels: expected DeepLabCut's {deeplabcut.LABELS}*.csv or "
                ".h5 beside the pictures."
            )
    elif (reader := READERS.get(path.suffix.lower())) is not None:
        sheet = reader(path)
    else:
        raise DataError(
            f"{path} is not a file of labels: expected COCO (.json), DeepLabCut (.csv, .h5 "
            "or a folder labeled-data/NAME), SLEAP (.slp) or Penn Action (.mat)."
        )
    if not sheet.rows:
        raise DataError(f"{path}: none of its {sheet.blank} rows has a label: label some frames.")
    people = sorted({row.individual for row in sheet.rows})
    if len(people) > 1:
        raise DataError(
            f"{path} has labels of {len(people)} individuals ({', '.join(people)}): keep the "
            "columns of the one in the video."
        )
    taken: dict[str, Row] = {}
    for row in sheet.rows:
        if row.picture in taken and not row.individual:
            raise DataError(
                f"{row.where} is a second person in {row.picture}: keep the keypoints of the one "
                "in the video."
            )
        taken[row.picture] = row
    return sheet


def _penn(path: Path) -> Sheet:
    """Read one label file of Penn Action; its rows are the video's frames."""
    label = penn.read_label(path)
    joints = label.joints.astype(np.float64)
    joints[~np.isfinite(joints).all(-1)] = np.nan
    rows = [
        Row(str(path), str(frame), joints[frame], label.visible[frame], size=label.size)
        for frame in range(label.num_frames)
    ]
    return Sheet(list(PENN13.joints), rows)


READERS: dict[str, Callable[[Path], Sheet]] = {
    ".json": coco.sheet,
    ".csv": tables.sheet,
    ".h5": tables.sheet,
    ".slp": sleap.sheet,
    ".mat": _penn,
}


def _sized(
    rows: list[Row], size: Any, stored: tuple[int, int] | None, path: Path
) -> tuple[list[Row], list[str]]:
    """Add the pictures' sizes, and move labels of stored frames to where `size` stretches them."""
    rows = [row._replace(size=row.size or _labelled_size(row, path)) for row in rows]
    if stored is None:
        return rows, []
    scale, found, moved = np.divide(size, stored)[::-1], [], False
    for row in rows:
        if row.size == stored or (row.size is None and not naming.is_bare(row.picture)):
            joints = geometry.rescale_points(row.joints, scale)
            row, moved = row._replace(joints=joints, size=size), True
        found.append(row)
    frames, (height, width) = ("stored", stored) if moved else ("stretched", size)
    note = f"The video's pixels are not square: labels are read in pixels of the {frames} frames"
    return found, [f"{note}, {width} x {height}."]


def _labelled_size(row: Row, path: Path) -> tuple[int, int] | None:
    """Return height and width of a row's picture if it is beside the labels and can be read."""
    folder = path if path.is_dir() else path.parent
    picture = files.locate(naming.file(row.picture), [folder])
    try:
        return None if picture is None else files.picture(picture, None, set()).size
    except FrameError:
        return None


# --- Names ---------------------------------------------------------------------------------------


def _match(
    labelled: Sequence[str], skeleton: Skeleton, path: Path
) -> tuple[dict[int, int], list[str]]:
    """Match names in the file to joints of the skeleton, and report those without a match."""
    forms = {form: k for k, joint in enumerate(skeleton.joints) for form in spellings(joint)}
    found = {i: forms[s] for i, name in enumerate(labelled) if (s := squeezed(name)) in forms}
    if not found:
        raise DataError(
            f"{path} has none of the model's joints: its keypoints are "
            f"{', '.join(labelled)}; expected some of {', '.join(skeleton.joints)}. Rename them."
        )
    for k, joint in enumerate(skeleton.joints):
        same = [labelled[i] for i, other in found.items() if other == k]
        if len(same) > 1:
            raise DataError(f"{path}: {' and '.join(same)} both mean {joint}: remove one.")
    parts = {
        "read under another name": [
            f"{labelled[i]} as {skeleton.joints[k]}"
            for i, k in found.items()
            if labelled[i] != skeleton.joints[k]
        ],
        "left out, because the model has no such joint": [
            name for i, name in enumerate(labelled) if i not in found
        ],
        "joints of the model without labels": [
            joint for k, joint in enumerate(skeleton.joints) if k not in found.values()
        ],
    }
    return found, [f"{what}: {', '.join(which)}." for what, which in parts.items() if which]


# --- Pictures and frames -------------------------------------------------------------------------


def _of_clip(
    rows: list[Row], clip_name: str | None, source: str | os.PathLike, path: Path
) -> tuple[list[Row], list[str]]:
    """Choose the images of one video by their folder; images without a folder match any video."""
    folders = sorted({_folder(row) for row in rows} - {""})
    clip_name = clip_name and naming.composed(clip_name)
    others = [folder for folder in folders if folder != clip_name]
    if len(folders) < 2:
        known = not clip_name or not others
        notes = [] if known else [f"its pictures are of {others[0]}, used for {clip_name}."]
        return _of_source(rows, clip_name, source, path), notes
    if clip_name not in folders:
        raise DataError(
            f"{path} has pictures of {len(folders)} folders ({first_few(folders)}), none of "
            f"them {clip_name}: name the video after its folder, or keep one folder's labels."
        )
    kept = [row for row in rows if _folder(row) in ("", clip_name)]
    kept = _of_source(kept, clip_name, source, path)
    return kept, [f"left out, pictures of folders other than {clip_name}: {', '.join(others)}."]


def _of_source(
    rows: list[Row], clip_name: str | None, source: str | os.PathLike, path: Path
) -> list[Row]:
    """Choose among several folders or videos of the clip's name, as day1/cam1 and day2/cam1."""
    titles = naming.apart(naming.folders(row.picture) for row in rows if _folder(row))
    several = sorted(set(titles.values()))
    own = clip_name or ""
    if len(several) < 2 or any(_folder(row) not in ("", own) for row in rows):
        return rows
    agreement = dict.fromkeys(several, 0)
    for folders, title in titles.items() if source else ():
        place = Path(os.path.abspath(source)).with_name(own)
        _, count = files.agreement("/".join(folders), place)
        agreement[title] = max(agreement[title], count)
    best = [title for title in several if agreement[title] == max(agreement.values())]
    if len(best) > 1:
        raise DataError(
            f"{path} has labels of {len(several)} videos or folders named {own} "
            f"({first_few(several)}): keep those of the one that you named."
        )
    return [row for row in rows if titles.get(naming.folders(row.picture)) in (best[0], None)]


def _folder(row: Row) -> str:
    return naming.composed(naming.folder(row.picture))


def _by_name(
    rows: list[Row], names: Mapping[str, int], path: Path
) -> tuple[list[Row], np.ndarray, list[str]]:
    """Return the rows whose images exist, and their frames.

    Rows match by name. Otherwise they match by name without suffix and regardless of case, if only
    one image has that name.
    """

    def bare(name):
        return naming.composed(naming.stem(name)).casefold()

    own = {naming.composed(name): number for name, number in names.items()}
    stems = collections.Counter(map(bare, names))
    alike = {bare(name): number for name, number in names.items()}
    kept: dict[int, Row] = {}
    missing = []
    for row in rows:
        file, stem = naming.composed(naming.file(row.picture)), bare(row.picture)
        number = own.get(file, alike.get(stem) if stems[stem] == 1 else None)
        if number is None:
            missing.append(file)
        elif number in kept:
            raise DataError(
                f"{path}: {kept[number].picture} and {row.picture} are both {file}: keep one of "
                "them."
            )
        else:
            kept[number] = row
    if not kept:
        raise DataError(
            f"{path}: none of its {len(rows)} labelled pictures ({', '.join(missing[:3])}, ...) "
            f"has the name of a given picture ({', '.join(list(names)[:3])}, ...). Labels are "
            "matched by file name: give the pictures that were labelled, or rename them."
        )
    shown = first_few(missing, 3)
    note = f"left out, {len(missing)} labelled pictures that aren't among those given: {shown}."
    return list(kept.values()), np.array(list(kept), np.int64), [note] if missing else []


def _numbered(rows: list[Row], path: Path) -> tuple[list[Row], list[str]]:
    """Number COCO's images in the order of the file, if their names have no numbers."""
    listed = coco.pictures(path) if path.suffix.lower() == ".json" else []
    if not listed or any(number is not None for number in naming.frame_numbers(listed)):
        return rows, []
    places = {picture: str(place) for place, picture in enumerate(listed)}
    note = "no picture's name has a number: they count as frames 0, 1, ... in order."
    return [row._replace(picture=places[row.picture]) for row in rows], [note]


def _frame_numbers(rows: list[Row], first: int, count: int | None, path: Path) -> np.ndarray:
    """Return the frames [n] of the pictures, all different and within the video."""
    taken: dict[int, str] = {}
    pictures = [row.picture for row in rows]
    for picture, frame in zip(pictures, naming.frame_numbers(pictures), strict=True):
        if frame is None:
            raise DataError(
                f"{path}: {picture} contains no whole frame number. Rename the picture, for "
                "example to img0042.png."
            )
        index = path.suffix.lower() in INDICES and naming.is_bare(naming.file(picture))
        frame -= 0 if index else first
        if not 0 <= frame < (MOST_FRAMES if count is None else count):
            length = "of the video" if count is None else f"of the video's {count}"
            remedy = "Check that the labels belong to this video"
            if first and not index:
                remedy += f", and that they count from {first} (--labels_first)"
            elif not index:
                remedy += "; --labels_first=1 if they count from 1"
            raise DataError(
                f"{path}: {picture} would be frame {frame}, expected one {length}, counted from 0. "
                f"{remedy}."
            )
        if frame in taken:
            raise DataError(
                f"{path}: {taken[frame]} and {picture} are both frame {frame}: keep one of them."
            )
        taken[frame] = picture
    return np.array(list(taken), np.int64)


def _check(
    joints: np.ndarray,
    rows: list[Row],
    sizes: list[tuple[int, int] | None],
    skeleton: Skeleton,
    path: Path,
) -> None:
    """Raise DataError for rows that don't fit the sizes of their pictures."""
    for row, size in zip(rows, sizes, strict=True):
        if size and row.size and row.size != tuple(size):
            raise DataError(
                f"{path}: {row.picture} was labelled at {row.size[1]} x {row.size[0]} pixels, but "
                f"the video has {size[1]} x {size[0]}: give the video that these pictures show, "
                "cropped or scaled as they are, or label pictures of its own size."
            )
    if path.suffix.lower() != ".mat":  # Penn Action's own labels have joints outside the picture
        _check_places(joints, rows, sizes, skeleton, path)


def _check_places(
    joints: np.ndarray,
    rows: list[Row],
    sizes: list[tuple[int, int] | None],
    skeleton: Skeleton,
    path: Path,
) -> None:
    """Raise DataError for labelled joints [n, K, 2] outside the picture, such as -1, -1."""
    for row, places, size in zip(rows, joints, sizes, strict=True):
        height, width = size or row.size or (np.inf, np.inf)
        # Up to width, not width - 0.5, because some tools count from the picture's edge.
        inside = ((places >= -0.5) & (places <= (width, height))).all(-1)
        bad = np.flatnonzero(~np.isnan(places).all(-1) & ~(inside & np.isfinite(places).all(-1)))
        if bad.size:
            raise DataError(
                f"{path}: {skeleton.joints[bad[0]]} of {row.picture} lies at "
                f"{places[bad[0]].tolist()}, expected a point in the picture"
                + (f" of {width} x {height} pixels" if np.isfinite(width) else "")
                + ". Leave the cells of unlabelled joints empty (COCO: v = 0)."
            )
