"""`Clip`, the record that every data source yields."""

import collections
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import numpy as np

from ttp_jax import deprecation, files, geometry


class Closable(Protocol):
    """A resource that can be closed and that reopens itself when it is used."""

    def close(self) -> None:
        """Release the resource."""


class LastUsed:
    """Keeper of resources such as video decoders: closes all but the `count` last used ones."""

    def __init__(self, count: int):
        self._count, self._lock = count, threading.Lock()
        self._used: collections.OrderedDict[Closable, None] = collections.OrderedDict()

    def note(self, thing: Closable) -> None:
        """Note that `thing` was used; call this without its lock, because it may close another."""
        with self._lock:
            self._used[thing] = None
            self._used.move_to_end(thing)
            many = len(self._used) > self._count
            stale = self._used.popitem(last=False)[0] if many else None
        if stale is not None:
            stale.close()


ROUNDED = 1.1e-3  # seconds to which containers round times
UNLABELLED = "_unlabelled"  # suffix of clips with the unlabelled frames of a labelled clip


@deprecation.fields(origin="fingerprint")
@dataclasses.dataclass(frozen=True)
class Clip:
    """Frames of ONE person, in order. Augmentation and batching see only this record.

    Attributes:
      name: a name that is unique within the source and can be a file name ("0003").
      subject: the person. Test-time personalization resets between subjects.
      split: "train", "val" or "test".
      num_frames: T.
      read: frame index -> uint8 RGB [H, W, 3]; raises `FrameError` for a file that can't be read.
      boxes: float32 [T, 4] person boxes x1, y1, x2, y2 in picture pixels (see `geometry`).
      joints: float32 [T, K, 2] in picture pixels, pixel centres at integers; None without labels.
      visible: bool [T, K]; None without labels.
      file: frame index -> the picture's own file, if frames are files; otherwise None.
      source: path of the video or folder of pictures that frames are read from; "" if none.
      frame_names: file names [T] of a user's pictures ("img005.png"); None if frames have none.
      frames_per_second: the mean rate; None if unknown.
      times: float64 [T], seconds since the video's first frame; None if unknown.
      numbers: int [T], numbers of the frames in the whole video; None if they count from 0.
      sizes: int [T, 2], heights and widths of the pictures; None if the source doesn't know.
      stored_size: height and width of the frames in the video file, if they were stretched because
        their pixels are not square; None otherwise.
      region: float64 [T, 4] boxes in which the person was found, NaN in frames without the person;
        None if nobody searched.
      crops: float32 [T, 4] crops that the network sees, with degrees (`geometry.crop_affine`), if a
        finder knows how the person is turned; None for the squares around the boxes.
      present: bool [T], whether the person is in the frame; None if in every frame.
      notes: sentences for the reader of results.
      fingerprint: fingerprint of files, boxes and chosen frames, to recognise results of this clip;
        "" if the source provides none. `by_subject` then makes one from boxes and labels.
      key: seed of the subject's random draws: a fingerprint of the content of its files, but not of
        their names; "" to use the subject's name.
      recordings: the clips that this one joins, in order, see `together`; empty otherwise.
    """

    name: str
    subject: str
    split: str
    num_frames: int
    read: Callable[[int], np.ndarray]
    boxes: np.ndarray
    joints: np.ndarray | None = None
    visible: np.ndarray | None = None
    file: Callable[[int], str | os.PathLike] | None = None
    source: str = ""
    frame_names: tuple[str, ...] | None = None
    frames_per_second: float | None = None
    times: np.ndarray | None = None
    numbers: np.ndarray | None = None
    sizes: np.ndarray | None = None
    stored_size: tuple[int, int] | None = None
    region: np.ndarray | None = None
    crops: np.ndarray | None = None
    present: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    key: str = ""
    recordings: tuple["Clip", ...] = ()

    def __post_init__(self):
        for field in ("name", "subject"):  # results are files with these names
            files.plain_name(getattr(self, field), f"the {field} of a clip")
        ranks = {"boxes": 2, "joints": 3, "visible": 2, "times": 1, "numbers": 1, "sizes": 2}
        ranks |= {"region": 2, "crops": 2, "present": 1}
        for field, rank in ranks.items():
            value = getattr(self, field)
            if value is not None and (value.ndim != rank or len(value) != self.num_frames):
                raise ValueError(
                    f"clip {self.name}: {field} has shape {value.shape}, expected {rank} axes "
                    f"and {self.num_frames} rows, one per frame."
                )
        if self.frame_names is not None and len(self.frame_names) != self.num_frames:
            raise ValueError(
                f"clip {self.name}: {len(self.frame_names)} frame_names, expected one per frame."
            )
        if not np.isfinite(self.boxes).all():
            bad = np.flatnonzero(~np.isfinite(self.boxes).all(-1))
            raise ValueError(f"clip {self.name}: box of frame {bad[0]} is not finite.")
        size = self.boxes[:, 2:] - self.boxes[:, :2]
        if (size <= 0).any():
            bad = np.flatnonzero((size <= 0).any(-1))
            raise ValueError(
                f"clip {self.name}: box of frame {bad[0]} is empty: x1 >= x2 or y1 >= y2."
            )

    @property
    def frame_numbers(self) -> np.ndarray:
        """The numbers int [T] of the frames in the whole video, counted from 0."""
        return np.arange(self.num_frames) if self.numbers is None else self.numbers

    @property
    def whole(self) -> np.ndarray:
        """The whole pictures as boxes float32 [T, 4]."""
        sizes = np.tile(self.largest, (self.num_frames, 1)) if self.sizes is None else self.sizes
        return geometry.whole_box(sizes).astype(np.float32)

    @property
    def network_crops(self) -> np.ndarray:
        """The crops that the network sees, float32 [T, 3] or [T, 4] (`geometry.crop_affine`)."""
        if self.crops is not None:
            return self.crops.astype(np.float32)
        return geometry.box_to_crop(self.boxes.astype(np.float64)).astype(np.float32)

    def in_boxes(self, boxes: np.ndarray) -> "Clip":
        """Return the same frames in other boxes float32 [T, 4]; the network sees their squares."""
        return dataclasses.replace(self, boxes=boxes, crops=None)

    @property
    def largest(self) -> tuple[int, int]:
        """The height and width of the largest frame.

        If the source doesn't know the sizes, it is the size of the first readable frame.

        Raises:
          FrameError: no frame can be read.
        """
        if self.sizes is not None:
            return int(self.sizes[:, 0].max()), int(self.sizes[:, 1].max())
        for index in range(self.num_frames):
            with contextlib.suppress(FrameError):
                height, width = self.read(index).shape[:2]
                return height, width
        raise FrameError(f"{self.name}: no frame can be read.")

    def read_or_none(self, index: int) -> np.ndarray | None:
        """Return a frame, or None if it can't be read."""
        try:
            return self.read(index)
        except FrameError:
            return None

    def without_labels(self) -> "Clip":
        """Return the same frames and boxes without labels, as personalization sees them."""
        return dataclasses.replace(self, joints=None, visible=None)


class FrameError(ValueError):
    """A frame that can't be read; the message names the file and the remedy."""


class DataError(ValueError):
    """Data that is missing or not as expected; the message says what to do."""


def first_few(names: Collection[str], most: int = 5) -> str:
    """Return a list of the first names for a message.

    Args:
      names: names or paths.
      most: largest number of names to list; if there are more, "..." follows.
    """
    return ", ".join([*names][:most]) + ", ..." * (len(names) > most)


def nothing_readable(name: str, count: int, error: FrameError) -> str:
    """Return the error message for a clip without a readable frame.

    Args:
      name: name of the clip.
      count: number of its frames.
      error: error of the first frame.
    """
    return f"clip {name}: none of its {count} frames can be read. {error}"


def part(clip: Clip, frames: str = "", every: int = 1) -> Clip:
    """Return the clip with only some of its frames.

    Args:
      clip: the whole clip.
      frames: "100-199", counted from 0, including the last one; "" for all.
      every: take every nth of these.

    Raises:
      DataError: `frames` can't be understood, or no frame is left.
    """
    first, last = span(frames)
    last = clip.num_frames - 1 if last is None else min(last, clip.num_frames - 1)
    places = range(first, last + 1, every)
    if not places:
        raise DataError(f'{clip.name} has {clip.num_frames} frames: none is in "{frames}".')
    if len(places) == clip.num_frames:
        return clip
    chosen = at(clip, places)
    return dataclasses.replace(
        chosen,
        frames_per_second=_rate(clip, chosen, every),
        fingerprint=clip.fingerprint
        and f"{clip.fingerprint}, frames {first} to {last}, every {every}",
    )


def span(frames: str) -> tuple[int, int | None]:
    """Return the first and the last frame of "100-199"; None as the last one for "100-".

    Raises DataError if the text can't be understood.
    """
    ends = re.fullmatch(r"(\d*)-(\d*)", frames or "-")
    if not ends:
        raise DataError(f'frames are "{frames}", expected for example 100-199, 100- or -199.')
    return int(ends[1] or 0), int(ends[2]) if ends[2] else None


def _rate(clip: Clip, chosen: Clip, every: int) -> float | None:
    """Return the mean frames per second of `chosen`, every nth frame of a part of `clip`."""
    rate, times = clip.frames_per_second and clip.frames_per_second / every, chosen.times
    if clip.times is None or times is None or len(times) < 2:
        return rate
    steps, lasts = len(times) - 1, float(times[-1] - times[0])
    # A part with a steady rate can have another rate than the whole, as phones change theirs.
    other = not rate or abs(lasts - steps / rate) > ROUNDED
    if not _is_steady(times) or (other and not _is_steady(clip.times)):
        return steps / lasts
    return rate


def _is_steady(times: np.ndarray) -> bool:
    """Return whether the frames are evenly spaced in time."""
    return len(times) < 3 or bool(np.ptp(np.diff(times)) < 1e-6)


def read_text(path: pathlib.Path) -> str:
    """Read one of the user's text files; raise DataError if it can't be read."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8.") from error


def at(clip: Clip, places: Sequence[int]) -> Clip:
    """Return the clip's frames at these indices, in the order given; indices may repeat.

    Args:
      clip: the whole clip.
      places: indices of its frames.
    """
    fields = ("boxes", "joints", "visible", "times", "sizes", "region", "crops", "present")
    given = {name: getattr(clip, name) for name in fields}
    rows = {k: None if v is None else v[list(places)] for k, v in given.items()}
    whole, file, names = clip.read, clip.file, clip.frame_names
    return dataclasses.replace(
        clip,
        num_frames=len(places),
        read=lambda index: whole(places[index]),
        file=None if file is None else lambda index: file(places[index]),
        frame_names=None if names is None else tuple(names[place] for place in places),
        numbers=clip.frame_numbers[list(places)],
        **rows,  # pyright: ignore[reportArgumentType]
    )


def select(clips: Sequence[Clip], split: str) -> list[Clip]:
    """Return the clips of one split, in order.

    Args:
      clips: clips of any splits.
      split: "train", "val" or "test".
    """
    return [clip for clip in clips if clip.split == split]


def by_subject(clips: Sequence[Clip]) -> list[Clip]:
    """Join the clips of each subject, in their order, into one clip named after the subject."""
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.subject, []).append(clip)
    joined = [_join(subject, group) for subject, group in groups.items()]
    return [
        clip if clip.fingerprint else dataclasses.replace(clip, fingerprint=_of(clip))
        for clip in joined
    ]


def together(clips: Sequence[Clip], subject: str) -> Clip:
    """Join recordings of one subject, in their order, into one clip named after the subject.

    The model adapts to all recordings, so each recording's results depend on the others, and its
    fingerprint covers all of them.

    Args:
      clips: clips with fingerprints and keys.
      subject: name of the subject, which must be fit for a file name.

    Raises ValueError if it isn't.
    """
    names = [clip.name for clip in clips]
    whole = _join(subject, list(clips))
    fingerprint, key = (
        hashlib.sha256("\n".join(getattr(clip, field) for clip in clips).encode()).hexdigest()[:16]
        for field in ("fingerprint", "key")
    )
    recordings = [
        dataclasses.replace(
            clip,
            subject=subject,
            fingerprint=f"{clip.fingerprint}, of {len(clips)} recordings {fingerprint}",
            notes=(*clip.notes, f"One model for the recordings of {subject}: {', '.join(names)}."),
        )
        for clip in clips
    ]
    whole = dataclasses.replace(whole, subject=subject, fingerprint=fingerprint, key=key)
    return rejoined(whole, recordings)


def rejoined(whole: Clip, recordings: Sequence[Clip]) -> Clip:
    """Join recordings whose boxes have changed, as `together` joined them.

    Args:
      whole: what `together` returned.
      recordings: its recordings, in their new boxes.
    """
    fields = ("boxes", "region", "crops", "sizes")
    rows = {field: _stacked(recordings, field) for field in fields}
    present = None
    if any(clip.present is not None for clip in recordings):
        present = np.concatenate(
            [
                np.ones(clip.num_frames, bool) if clip.present is None else clip.present
                for clip in recordings
            ]
        )
    return dataclasses.replace(
        whole,
        read=_reader(recordings),
        recordings=tuple(recordings),
        present=present,
        **rows,  # pyright: ignore[reportArgumentType]
    )


def _of(clip: Clip) -> str:
    """Return a fingerprint of a clip's boxes and labels."""
    rows = (clip.boxes, clip.joints, clip.visible)
    given = b"".join(np.ascontiguousarray(row).tobytes() for row in rows if row is not None)
    return hashlib.sha256(given).hexdigest()


def _join(subject: str, group: list[Clip]) -> Clip:
    if len(group) == 1:
        return dataclasses.replace(group[0], name=subject)
    rows, count = ("boxes", "joints", "visible", "sizes"), sum(clip.num_frames for clip in group)
    fields: dict[str, Any] = {field: _stacked(group, field) for field in rows}
    return Clip(subject, subject, group[0].split, count, _reader(group), **fields)


def _reader(clips: Sequence[Clip]) -> Callable[[int], np.ndarray]:
    """Return a function that reads the frames of clips one after the other."""
    places = [(clip, i) for clip in clips for i in range(clip.num_frames)]

    def read(index):
        clip, i = places[index]
        return clip.read(i)

    return read


def _stacked(clips: Sequence[Clip], field: str) -> np.ndarray | None:
    """Concatenate a field of all clips; None if any clip lacks it."""
    values = [getattr(clip, field) for clip in clips]
    return None if any(value is None for value in values) else np.concatenate(values)
