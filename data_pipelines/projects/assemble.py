"""Building a project of clips from labelled recordings: skeleton, subjects, boxes, summary."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines import media, pictures
from data_pipelines.clips import Clip, DataError, FrameError
from data_pipelines.projects import boxes, files, names, subjects
from data_pipelines.projects.records import (
    Footage,
    Options,
    Picture,
    Project,
    Recording,
    Row,
)
from ttp_jax import skeletons

SHOWN = 3  # largest number of reasons in a message
NO_PICTURE = "labels without a picture"
REMEDY = "Put their pictures where the labels say, or name their folder with --config.data.media. "
MOST_FRAMES = 2**63 - 1  # largest frame number
BEYOND = 0.5  # pixels that labels may lie outside, because some tools count from the picture's edge


class _Label(NamedTuple):
    """A row with its picture, its subject, and its joints in the project's skeleton."""

    row: Row
    picture: Picture
    subject: str
    joints: np.ndarray
    visible: np.ndarray
    shared: frozenset[str]


class _LeftOut:
    """Counts of what was left out, by reason, with the first example of each."""

    def __init__(self):
        self._counts: collections.Counter[str] = collections.Counter()
        self._first: dict[str, str] = {}

    def add(self, what: str, example: str, count: int = 1) -> None:
        """Count `count` more labels that were left out for a reason."""
        self._counts[what] += count
        self._first.setdefault(what, example)

    def __contains__(self, what: str) -> bool:
        """Return whether labels were left out for this reason."""
        return what in self._counts

    def sentences(self) -> list[str]:
        """Return one sentence for each reason."""
        return [
            f"{_counted(count, what)} (the first: {self._first[what]})."
            for what, count in self._counts.items()
            if count
        ]


def _counted(count: int, what: str) -> str:
    """Return a count and a reason: "2 labels of ...", but "1 label of ..."."""
    return f"{count} {what if count > 1 else what.replace('s ', ' ', 1)}"


def project(
    path: Path,
    tool: str,
    recordings: Sequence[Recording],
    options: Options,
    *,
    joint_names: Sequence[str] = (),
    videos: Sequence[Path] = (),
    crops: Mapping[str, tuple[int, int, int, int]] | None = None,
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Project:
    """Build a project from the labels of its recordings.

    Args:
      path: what was read, for messages.
      tool: name of the tool.
      recordings: labels, and how to find their pictures.
      options: see `Options`.
      joint_names: the order of the joints, as far as the tool specifies it.
      videos: the project's videos, each once, except those that recordings name.
      crops: by name of the video, the region x1, x2, y1, y2 of its frames that pictures show.
      left_out: sentences about what the reader has already left out.
      notes: assumptions that the reader made.

    Raises:
      DataError: nothing can be read, or a label is impossible; the message names file and row.
    """
    if not any(recording.sheet.rows for recording in recordings):
        remedy = "" if left_out else ": label some frames"
        shown = [*left_out[:SHOWN], *[f"{len(left_out) - SHOWN} more."] * (len(left_out) > SHOWN)]
        raise DataError(
            f"{path} has no labelled picture that can be used{remedy}. {' '.join(shown)}".strip()
        )
    counts = _LeftOut()
    recordings, nowhere = _without_unlabelled(recordings, options)
    skeleton = _skeleton(path, recordings, joint_names, options)
    groups = _groups(recordings, skeleton, options, counts)
    if not groups:
        raise DataError(
            f"{path}: none of its labels can be used. {REMEDY if NO_PICTURE in counts else ''}"
            + " ".join([*left_out, *counts.sentences()])
        )
    for recording in recordings:
        if recording.unlabelled:
            counts.add("pictures without labels", recording.name, recording.unlabelled)
    said = [*notes, *subjects.notes(path, recordings, options)]
    said += _unmatched(recordings, videos, options)
    said += [*(note for r in recordings for note in r.sheet.notes), *_in_the_corner(groups)]
    return Project(
        path,
        tool,
        skeleton,
        tuple(_clips(groups, options)),
        tuple(name for name, _ in groups),
        tuple(frozenset().union(*(label.shared for label in group)) for group in groups.values()),
        _footage(videos, crops or {}, recordings, groups, options),
        (*left_out, *nowhere, *counts.sentences()),
        tuple(dict.fromkeys(said)),
    )


def _without_unlabelled(
    recordings: Sequence[Recording], options: Options
) -> tuple[list[Recording], list[str]]:
    """Drop joints that are never labelled; return the recordings, and a sentence about them.

    Such a joint can't be learned, and its predictions would mean nothing.
    """
    joints = dict.fromkeys(name for r in recordings for name in r.sheet.names)
    seen = {
        name
        for r in recordings
        if not _excluded(r.name, options)
        for row in r.sheet.rows
        for name in np.array(r.sheet.names)[~np.isnan(row.joints).any(-1)].tolist()
    }
    unseen = [name for name in joints if name not in seen]
    if not unseen or not seen:
        return list(recordings), []
    kept = []
    for recording in recordings:
        sheet = recording.sheet
        at = [i for i, name in enumerate(sheet.names) if name in seen]
        rows = [row._replace(joints=row.joints[at], visible=row.visible[at]) for row in sheet.rows]
        sheet = sheet._replace(names=[sheet.names[i] for i in at], rows=rows)
        kept.append(dataclasses.replace(recording, sheet=sheet))
    plural = "s" * (len(unseen) > 1)
    return kept, [f"{len(unseen)} joint{plural} without a label anywhere: {', '.join(unseen)}."]


# --- Skeleton ------------------------------------------------------------------------------------


def _skeleton(
    path: Path, recordings: Sequence[Recording], wanted: Sequence[str], options: Options
) -> skeletons.Skeleton:
    """Build the skeleton of all recordings: joints in the tool's order, then in the labels'."""
    found = dict.fromkeys(name for r in recordings for name in r.sheet.names)
    joints = [name for name in wanted if name in found]
    joints += [name for name in found if name not in joints]
    limbs = dict.fromkeys(tuple(limb) for r in recordings for limb in r.sheet.limbs)
    kept = [limb for limb in limbs if set(limb) <= found.keys() and limb[0] != limb[1]]
    pairs = _pairs(options)
    if pairs is None:
        pairs = _mirrored(recordings, joints)
    try:
        return skeletons.build(path.stem, joints, flip_pairs=pairs, limbs=kept)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _mirrored(recordings: Sequence[Recording], joints: Sequence[str]) -> list[list[str]]:
    """Return the pairs that the tool names, and pairs of other joints by their names."""
    stated = {frozenset(p): p for r in recordings for p in r.sheet.pairs if set(p) <= set(joints)}
    taken = frozenset().union(*stated)
    rest = [joint for joint in joints if joint not in taken]
    pairs = [*stated.values(), *skeletons.mirror_pairs(rest)]
    return sorted(map(list, pairs), key=lambda pair: joints.index(pair[0]))


def _pairs(options: Options) -> list[list[str]] | None:
    """Return the pairs of --flip-pairs; None to find them elsewhere."""
    if options.flip_pairs is None:
        return None
    pairs = [part.split(":") for part in options.flip_pairs.split(",") if part]
    if wrong := [":".join(pair) for pair in pairs if len(pair) != 2]:
        raise DataError(f"flip pair {wrong[0]}: expected leftLip:rightLip, pairs with commas.")
    return [[name.strip() for name in pair] for pair in pairs]


# --- Labels --------------------------------------------------------------------------------------

Groups = dict[tuple[str, str], list[_Label]]


def _groups(
    recordings: Sequence[Recording],
    skeleton: skeletons.Skeleton,
    options: Options,
    counts: _LeftOut,
) -> Groups:
    """Return the usable labels by recording and subject."""
    groups: Groups = {}
    for recording, whose in zip(recordings, subjects.of_rows(recordings, options), strict=True):
        for label in _labels(recording, whose, skeleton, options, counts):
            groups.setdefault((recording.name, label.subject), []).append(label)
    _check_files(label for labels in groups.values() for label in labels)
    return groups


def _in_the_corner(groups: Groups) -> list[str]:
    """Report labels at exactly (0, 0), which are rarely intended."""
    labels = [label for group in groups.values() for label in group]
    counts = [int((label.visible & (label.joints == 0).all(-1)).sum()) for label in labels]
    if not any(counts):
        return []
    first = next(label.row.where for label, count in zip(labels, counts, strict=True) if count)
    return [
        f"{sum(counts)} joints are labelled at exactly (0, 0) (the first: {first}): if that stands "
        "for joints that aren't labelled, empty those cells."
    ]


def _check_files(labels: Iterable[_Label]) -> None:
    """Raise DataError if one file was found for the labels of two pictures of different folders."""
    owners: dict[Path, _Label] = {}
    for label in labels:
        first = label.picture.file and owners.setdefault(label.picture.file, label)
        if first and names.parts(first.row.picture) != names.parts(label.row.picture):
            raise files.ambiguous(first.row.picture, label.row.picture, label.picture.file)


def _labels(
    recording: Recording,
    whose: Sequence[tuple[str, bool]],
    skeleton: skeletons.Skeleton,
    options: Options,
    counts: _LeftOut,
) -> list[_Label]:
    """Return a recording's labels whose pictures exist, in the order of their frames."""
    rows, taken, labels = recording.sheet.rows, {}, []
    if _excluded(recording.name, options):
        counts.add("labels of excluded recordings", recording.name, len(rows))
        return []
    somewhere = any(anonymous for _, anonymous in whose)
    for row, (raw, _) in zip(rows, whose, strict=True):
        subject = media.fit_name(raw)
        if before := taken.get((row.picture, subject)):
            raise DataError(
                f"{row.where}: a second label of {subject} in {row.picture}, after {before}: keep "
                "one of them."
            )
        taken[row.picture, subject] = row.where
        if _excluded(subject, options):
            counts.add("labels of excluded subjects", subject)
            continue
        try:
            picture = recording.find(row)
        except FrameError as error:
            counts.add("labels whose picture can't be read", str(error).rstrip("."))
            continue
        if picture is None:
            counts.add(NO_PICTURE, row.picture)
            continue
        joints, visible = _placed(row, picture, recording.sheet.names, options, counts)
        if not visible.any():
            counts.add("labels without a joint that counts", row.where)
            continue
        shared = {f"{recording.name}/{row.picture}"}
        if somewhere and recording.continuous:
            shared.add(recording.name)
        labels.append(_Label(row, picture, subject, joints, visible, frozenset(shared)))
    at = [skeleton.joints.index(name) for name in recording.sheet.names]
    labels = [_spread(label, at, skeleton.size) for label in labels]
    if all(label.picture.frame is not None for label in labels):
        labels.sort(key=lambda label: label.picture.frame or 0)
    return labels


def _spread(label: _Label, at: Sequence[int], size: int) -> _Label:
    """Return the label with all joints of the project; those that the file lacks are NaN."""
    joints, visible = np.full((size, 2), np.nan), np.zeros(size, bool)
    joints[at], visible[at] = label.joints, label.visible
    return label._replace(joints=joints, visible=visible)


def _excluded(name: str, options: Options) -> bool:
    return any(names.chosen([name], pattern) for pattern in _patterns(options))


def _patterns(options: Options) -> list[str]:
    return [part.strip() for part in options.exclude.split(",") if part.strip()]


def _unmatched(
    recordings: Sequence[Recording], videos: Sequence[Path], options: Options
) -> list[str]:
    """Report patterns of --exclude that leave nothing out, such as misspelled names."""
    known = {recording.name for recording in recordings} | {video.stem for video in videos}
    known |= {r.video.stem for r in recordings if r.video is not None}
    rows = (row for of_one in subjects.of_rows(recordings, options) for row in of_one)
    known |= {media.fit_name(raw) for raw, _ in rows}
    return [
        f"--exclude={pattern} matches no labelled subject, folder or video."
        for pattern in _patterns(options)
        if not names.chosen(known, pattern)
    ]


def _placed(
    row: Row, picture: Picture, joint_names: Sequence[str], options: Options, counts: _LeftOut
) -> tuple[np.ndarray, np.ndarray]:
    """Check a row's joints; return them [k, 2], and which of them count as labels [k]."""
    if row.size and row.size != picture.size:
        turned = picture.file is not None and pictures.is_turned(picture.file)
        remedy = (
            " once it is turned as its EXIF data say: remove the orientation from all pictures "
            "that were labelled unturned (exiftool -Orientation= DIR)."
            if turned and row.size == picture.size[::-1]
            else ": put the labelled picture back."
        )
        raise DataError(
            f"{row.where}: {row.picture} was labelled at {row.size[1]} x {row.size[0]} pixels, "
            f"but has {picture.size[1]} x {picture.size[0]}{remedy}"
        )
    joints, (height, width) = row.joints, picture.size
    known = np.array(~np.isnan(joints).all(-1))
    wrong = known & ~np.isfinite(joints).all(-1)
    if wrong.any():
        bad = np.flatnonzero(wrong).tolist()[0]
        raise DataError(
            f"{row.where}: {joint_names[bad]} of {row.picture} lies at {joints[bad].tolist()}, "
            "expected two numbers, or two empty cells where it isn't labelled."
        )
    limits = np.array([width, height]) - 1 + 2 * BEYOND
    outside = known & ~((joints >= -BEYOND) & (joints <= limits)).all(-1)
    for place in np.flatnonzero(outside).tolist():
        counts.add("joints labelled outside the picture", f"{joint_names[place]} in {row.where}")
    hidden = known & ~row.visible & ~outside
    if hidden.any() and not options.hidden:
        example = f"{joint_names[np.flatnonzero(hidden).tolist()[0]]} in {row.where}"
        counts.add("joints labelled as hidden and not counted", example, int(hidden.sum()))
    counting = known & ~outside & (row.visible | options.hidden)
    return np.where((known & ~outside)[:, None], joints, np.nan), counting


# --- Clips ---------------------------------------------------------------------------------------


def _clips(groups: Groups, options: Options) -> list[Clip]:
    """Make a clip of each subject in each recording; if it has several, name it after both."""
    many = collections.Counter(name for name, _ in groups)
    clips, used = [], collections.Counter()
    for (name, subject), labels in groups.items():
        if many[name] > 1:  # a subject's name often begins with the recording's
            name = subject if subject.startswith(name) else f"{name}_{subject}"
        name = media.fit_name(name)
        used[name] += 1
        clips.append(_clip(name if used[name] == 1 else f"{name}-{used[name]}", labels, options))
    return clips


def _clip(name: str, labels: list[_Label], options: Options) -> Clip:
    """Make the clip of the labelled frames of one subject in one recording."""
    joints = np.array([label.joints for label in labels], np.float32)
    sizes = np.array([label.picture.size for label in labels])
    pictures = [label.picture for label in labels]
    numbers = [picture.frame for picture in pictures]
    # Names may be dates down to the microsecond, which no array of numbers can hold.
    numbered = all(number is not None and number <= MOST_FRAMES for number in numbers)
    paths = [picture.file for picture in pictures if picture.file]
    are_files = len(paths) == len(pictures)
    return Clip(
        name=name,
        subject=labels[0].subject,
        split="train",
        num_frames=len(labels),
        read=lambda index: pictures[index].read(),
        boxes=boxes.boxes(
            options.boxes,
            joints=joints,
            sizes=sizes,
            annotated=[label.row.box for label in labels],
            margin=options.margin,
            name=name,
        ),
        joints=joints,
        visible=np.array([label.visible for label in labels]),
        file=paths.__getitem__ if are_files else None,
        frame_names=tuple(path.name for path in paths) if are_files else None,
        numbers=np.array(numbers) if numbered else None,
        sizes=sizes,
    )


def _footage(
    videos: Iterable[Path],
    crops: Mapping[str, tuple[int, int, int, int]],
    recordings: Sequence[Recording],
    groups: Groups,
    options: Options,
) -> tuple[Footage, ...]:
    """Return the videos, each with the recording and the subjects that its name matches."""
    owner = {alias: r.name for r in recordings for alias in r.aliases}
    owner |= {r.name: r.name for r in recordings}
    films = [(r.video, r.name) for r in recordings if r.video is not None]
    films += [(video, owner.get(video.stem, "")) for video in videos]
    found = []
    for video, recording in films:
        shown = tuple(subject for name, subject in groups if name == recording)
        if not _excluded(video.stem, options) and (shown or not recording):
            found.append(
                Footage(
                    video, recording, shown or (media.fit_name(video.stem),), crops.get(video.stem)
                )
            )
    return tuple(found)
