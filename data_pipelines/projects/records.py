"""The records of labelled projects: rows of labels, recordings, a project of clips."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.clips import Clip, DataError
from ttp_jax.skeletons import Skeleton

EXTRA = "pip install sleap-io"


@dataclasses.dataclass(frozen=True)
class Options:
    """How to read a project; all fields are optional.

    Attributes:
      individuals: names of the animals or people to read if pictures show several; all if empty.
      scorer: whose labels to read if several people labelled the same pictures.
      view: the camera to read if a project has several.
      category: the COCO category to read if several have keypoints.
      subject: regular expression on a picture's "folder/file" (or "video/frame"). Its first group
        that matched, or the whole match, names the subject. If it doesn't match, or the match is
        empty, the folder or video is the subject.
      subject_field: field of COCO annotations that names the subject; if empty, track_id or
        person_id.
      exclude: subjects, folders or videos to leave out: patterns such as "*TESTSET*,File162".
      flip_pairs: "leftLip:rightLip,a:b", joints that swap in a mirrored picture; found by name if
        None, no pairs if empty.
      hidden: whether joints that are marked as hidden (COCO's v = 1) count as labelled.
      predictions: whether to use SLEAP's predicted instances if the user labelled none.
      boxes: "labels" (around the labelled joints), "annotated" (COCO's bbox), "whole" or a region
        "x1,y1,x2,y2".
      margin: margin of "labels", as a share of the box's longer side.
      media: folder of pictures or videos that aren't where the labels say.
    """

    individuals: Sequence[str] = ()
    scorer: str = ""
    view: str = ""
    category: str = ""
    subject: str = ""
    subject_field: str = ""
    exclude: str = ""
    flip_pairs: str | None = None
    hidden: bool = False
    predictions: bool = False
    boxes: str = "labels"
    margin: float = 0.3
    media: str = ""


class Row(NamedTuple):
    """One labelled individual in one picture.

    Attributes:
      where: file and place in it, for messages: "labels.csv, line 7".
      picture: the picture's name in the file, including folders, or its frame number.
      joints: float64 [k, 2] in the order of the sheet's names, NaN if not labelled.
      visible: bool [k]; a joint that has a position but is not visible is labelled as hidden.
      individual: name of the individual; "" if the file doesn't give one.
      size: height and width of the picture; None if unknown.
      box: [4] x1, y1, x2, y2 in picture pixels; None if the file has none.
    """

    where: str
    picture: str
    joints: np.ndarray
    visible: np.ndarray
    individual: str = ""
    size: tuple[int, int] | None = None
    box: np.ndarray | None = None


class Sheet(NamedTuple):
    """The content of one file of labels.

    Attributes:
      names: names of the keypoints [k].
      rows: the labels, in the file's order.
      limbs: pairs of names that the tool draws as lines.
      notes: sentences for the user about what was left out or assumed.
      blank: number of the file's rows without a labelled joint, which are not in `rows`.
      identity: whether a name means the same individual in all recordings.
      pairs: pairs of keypoints that the tool says swap in a mirrored picture.
      individuals: names of all individuals in a table, also of those that weren't read.
    """

    names: list[str]
    rows: list[Row]
    limbs: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    blank: int = 0
    identity: bool = False
    pairs: Sequence[Sequence[str]] = ()
    individuals: Sequence[str] = ()


class Picture(NamedTuple):
    """A labelled picture that exists.

    Attributes:
      read: function that returns it, uint8 RGB [H, W, 3].
      size: height and width.
      frame: its frame number in the recording; None if unknown.
      file: its own file; None for a frame of a video.
    """

    read: Callable[[], np.ndarray]
    size: tuple[int, int]
    frame: int | None = None
    file: Path | None = None


@dataclasses.dataclass(frozen=True)
class Recording:
    """Labels of one folder of pictures or one video.

    Attributes:
      name: name of the folder or video.
      sheet: its labels.
      find: function from a row to its picture, or to None if that doesn't exist; raises FrameError
        if it can't be read.
      subject: the subject, if the tool names it; if empty, the recording's name is used.
      unlabelled: number of pictures without labels beside the labelled ones.
      aliases: other names that its video may have.
      video: its video, if the tool names it; otherwise it is found by name.
      continuous: whether its pictures are frames of one video, so that an unnamed individual in one
        picture may be in others, too.
    """

    name: str
    sheet: Sheet
    find: Callable[[Row], Picture | None]
    subject: str = ""
    unlabelled: int = 0
    aliases: Sequence[str] = ()
    video: Path | None = None
    continuous: bool = True


class Footage(NamedTuple):
    """A whole video of a project, for its unlabelled frames.

    Attributes:
      path: path of the video.
      recording: name of its labelled recording; "" if it has no labels.
      subjects: the subjects in it, from the labels; its own name if nothing is labelled.
      crop: the region x1, x2, y1, y2 of its frames that the labelled pictures show; None for all.
    """

    path: Path
    recording: str
    subjects: tuple[str, ...]
    crop: tuple[int, int, int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Project:
    """A labelled project.

    Attributes:
      path: what was read.
      tool: name of the tool, such as "DeepLabCut".
      skeleton: names, mirror pairs and limbs of the project.
      clips: one for each subject in each recording, with labelled frames only, in split "train".
      recordings: name of each clip's recording.
      shared: for each clip, keys of what it may share with others, above all its pictures. Random
        splits never separate clips that share a key.
      footage: the project's videos, found by name.
      left_out: for each reason why something was not read, a sentence with a count.
      notes: assumptions that were made.
    """

    path: Path
    tool: str
    skeleton: Skeleton
    clips: tuple[Clip, ...]
    recordings: tuple[str, ...]
    shared: tuple[frozenset[str], ...]
    footage: tuple[Footage, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> dict[str, int]:
        """Numbers of labelled frames, by subject."""
        counts: dict[str, int] = {}
        for clip in self.clips:
            counts[clip.subject] = counts.get(clip.subject, 0) + clip.num_frames
        return counts

    @property
    def num_frames(self) -> int:
        """Number of labelled frames; a frame that shows two subjects counts twice."""
        return sum(clip.num_frames for clip in self.clips)

    def describe(self) -> list[str]:
        """Describe in a few lines what was read, what was left out, and why."""
        skeleton, counts = self.skeleton, self.subjects
        labelled = sum(int(clip.visible.sum()) for clip in self.clips if clip.visible is not None)
        pairs = [f"{skeleton.joints[a]}/{skeleton.joints[b]}" for a, b in skeleton.flip_pairs]
        names = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:8])
        more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
        unlabelled = sum(not film.recording for film in self.footage)
        recordings = len(set(self.recordings))
        return [
            f"{self.tool} project {self.path}: {len(counts)} subject{'s' * (len(counts) != 1)}, "
            f"{self.num_frames} labelled frames in {recordings} recording"
            f"{'s' * (recordings != 1)}, {labelled} labelled joints.",
            f"Subjects (frames): {names}{more}.",
            f"{skeleton.size} joint{'s' * (skeleton.size != 1)}: {', '.join(skeleton.joints)}.",
            f"Mirror pairs: {', '.join(pairs) or 'none'}; limbs: {len(skeleton.limbs)}.",
            f"Videos: {len(self.footage)}, {unlabelled} without labels.",
            *(f"Left out: {sentence}" for sentence in self.left_out),
            *(f"Note: {sentence}" for sentence in self.notes),
        ]


def chosen(rows: Sequence[Row], individuals: Sequence[str], path: Path) -> list[Row]:
    """Return the rows of the wanted individuals.

    Args:
      rows: rows of all individuals.
      individuals: names; empty for all.
      path: path of the labels, for the error.

    Raises:
      DataError: one of the names has no row.
    """
    check_individuals((row.individual for row in rows), individuals, path)
    return [row for row in rows if not individuals or row.individual in individuals]


def check_individuals(found: Iterable[str], wanted: Sequence[str], path: Path) -> None:
    """Check that a project's labels have the wanted individuals.

    Args:
      found: names of the individuals in the labels; "" for labels without one.
      wanted: names to look for; empty for all.
      path: path of the labels, for the error.

    Raises:
      DataError: one of the names is missing.
    """
    known = sorted(set(found) - {""})
    if missing := [name for name in wanted if name not in known]:
        hint = f"expected some of {', '.join(known)}" if known else "its labels name no individuals"
        raise DataError(f"{path} has no individual {', '.join(missing)}: {hint}.")
