"""SLEAP projects: .slp files, with videos at their stored paths, beside them, or inside.

They are read by sleap-io, which puts pixel centres at integers for files of all versions. As in
SLEAP, nodes that are marked as not visible count as unlabelled. A .pkg.slp contains its images.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.clips import DataError, FrameError
from data_pipelines.projects import assemble, files, names
from data_pipelines.projects.records import (
    EXTRA,
    Options,
    Picture,
    Project,
    Recording,
    Row,
    Sheet,
    chosen,
)

Find = Callable[[Row], Picture | None]
_Key = tuple[int, tuple[str, ...] | None]


class _Video(NamedTuple):
    """A video, or the pictures of one folder; SLEAP may list several folders as one video.

    Attributes:
      video: sleap-io's record of the video or the whole list.
      title: unique name.
      subject: name of the folder, which other lists may have, too; "" for a video.
      frames: the number of each labelled frame by name of the picture.
    """

    video: Any
    title: str
    subject: str
    frames: dict[str, int]


def sheet(path: Path, *, predictions: bool = False, individuals: Sequence[str] = ()) -> Sheet:
    """Read the labels of all videos; frames are named "VIDEO/NUMBER" or "FOLDER/FILE".

    VIDEO is the path of the video without suffix, because several may have the same name.

    Args:
      path: path of the `.slp` file.
      predictions: whether to use predicted instances, too.
      individuals: names of the tracks to read; empty for all.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    whole, videos = _load(path, predictions, individuals)
    places = {picture: _place(each, path) for each in videos for picture in each.frames}
    pictures = [f"{places[row.picture]}/{names.file(row.picture)}" for row in whole.rows]
    rows = [row._replace(picture=own) for row, own in zip(whole.rows, pictures, strict=True)]
    return whole._replace(rows=rows)


def _place(video: _Video, path: Path) -> str:
    """Return the path of a video without suffix, or of a folder of pictures, as in the file."""
    source = video.video if video.video.source_video is None else video.video.source_video
    if isinstance(source.filename, list):
        return "/".join(names.folders(source.filename[next(iter(video.frames.values()))]))
    if Path(source.filename) == path:  # pictures inside the file, which doesn't say whose they are
        return video.title
    return "/".join([*names.folders(source.filename), names.stem(source.filename)])


def read(path: Path, options: Options) -> Project:
    """Read a file of labels, and find its videos.

    Args:
      path: path of the `.slp` file.
      options: what to read and how.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    whole, videos = _load(path, options.predictions, options.individuals)
    recordings, left_out = [], []
    places = _places(videos, path, options)
    for each in videos:
        rows = [row for row in whole.rows if row.picture in each.frames]
        if not rows:
            continue
        try:
            find, film = _source(each, path, places)
        except DataError as error:
            left_out.append(f"{len(rows)} labels in {each.title}: {error}")
            continue
        sheet = whole._replace(rows=rows)
        recordings.append(Recording(each.title, sheet, find, subject=each.subject, video=film))
    return assemble.project(path, "SLEAP", recordings, options, left_out=left_out)


# --- Labels --------------------------------------------------------------------------------------


def _load(path: Path, predictions: bool, individuals: Sequence[str]) -> tuple[Sheet, list[_Video]]:
    labels = _open(path)
    try:
        listings: dict[Any, int] = {}
        listed = {
            id(video): listings.setdefault(_listing(video, path), len(listings))
            for video in labels.videos
        }
        videos = _videos(labels, listed)
        found, predicted = _instances(labels, predictions)
        skeleton = _skeleton([instance for _, instance in found], path)
        rows = [
            _row(frame, instance, videos[_key(frame, listed)], path) for frame, instance in found
        ]
        limbs = [(edge.source.name, edge.destination.name) for edge in skeleton.edges]
        pairs = [tuple(map(str, pair)) for pair in skeleton.symmetry_names]
        node_names = [str(node.name) for node in skeleton.nodes]
    except DataError:
        raise
    except Exception as error:  # the kind of error depends on where the damage is
        raise DataError(_damaged(path, error)) from error
    notes = [f"{predicted} predicted instances are left out."] if predicted else []
    rows = [row for row in rows if not np.isnan(row.joints).all()]
    rows = chosen(rows, individuals, path)
    return Sheet(node_names, rows, limbs, notes, pairs=pairs), list(videos.values())


def _open(path: Path) -> Any:
    """Open a file with sleap-io."""
    try:
        import sleap_io
    except ImportError as error:
        raise DataError(f"{path}: SLEAP's files need sleap-io: {EXTRA} ({error}).") from error
    if not path.is_file():
        raise DataError(f"{path} can't be read: no such file.")
    try:
        return sleap_io.load_slp(str(path), open_videos=False)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # the kind of error depends on where the damage is
        raise DataError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    said = " ".join(str(error).split())[:200]
    return f"{path} can't be read ({type(error).__name__}: {said}): save it again in SLEAP."


def _instances(labels: Any, predictions: bool) -> tuple[list[tuple[Any, Any]], int]:
    """Return pairs of labelled frame and instance, and how many predicted ones were left out."""
    found, predicted = [], 0
    for frame in labels.labeled_frames:
        own = frame.user_instances
        others = frame.predicted_instances
        taken = own if own or not predictions else others
        found += [(frame, instance) for instance in taken]
        predicted += len(others) if taken is own else 0
    return found, predicted


def _skeleton(instances: Sequence[Any], path: Path) -> Any:
    """Return the skeleton that all instances share."""
    if not instances:
        raise DataError(
            f"{path} has no labels by a user: label frames in SLEAP, or take its predicted "
            "instances for labels with --config.data.predictions=True."
        )
    kinds = {tuple(instance.skeleton.node_names): instance.skeleton for instance in instances}
    if len(kinds) > 1:
        shown = "; ".join(", ".join(kind) for kind in kinds)
        raise DataError(
            f"{path} has labels of {len(kinds)} skeletons ({shown}), expected one: save the "
            "labels of each skeleton as a file of its own in SLEAP."
        )
    return next(iter(kinds.values()))


def _row(frame: Any, instance: Any, video: _Video, path: Path) -> Row:
    number, listed = int(frame.frame_idx), video.video.filename
    own = names.file(listed[number]) if isinstance(listed, list) else str(number)
    picture = f"{video.title}/{own}"
    video.frames[picture] = number
    joints = np.array(instance.numpy(), np.float64)
    track = str(instance.track.name) if instance.track is not None else ""
    where = f"{path}, frame {number} of {video.title}"
    visible = np.array(~np.isnan(joints).any(-1))
    return Row(where, picture, joints, visible, track, _size(video.video, path))


def _videos(labels: Any, listed: dict[int, int]) -> dict[_Key, _Video]:
    """Return the file's videos and folders of pictures by `_key`.

    `listed` has the number of each video by the id of its record; records of one video share it.
    """
    found = {}
    for video in labels.videos:
        pictures = _pictures(video)
        for folder in dict.fromkeys(map(names.folders, pictures)) if pictures else (None,):
            found.setdefault((listed[id(video)], folder), video)
    apart = names.apart(folder for _, folder in found if folder)
    titles = []
    for (_, folder), video in found.items():
        source = (video if video.source_video is None else video.source_video).filename
        first = source[0] if isinstance(source, list) else source
        titles.append(apart[folder] if folder else names.stem(first))
    each = zip(found.items(), titles, _unique(titles), strict=True)
    return {
        key: _Video(video, unique, title if key[1] else "", {})
        for (key, video), title, unique in each
    }


def _key(frame: Any, listed: dict[int, int]) -> _Key:
    """Return the number of a frame's video, and the folder of its picture; None for a film."""
    pictures, number = _pictures(frame.video), int(frame.frame_idx)
    folder = names.folders(pictures[min(number, len(pictures) - 1)]) if pictures else None
    return listed[id(frame.video)], folder


def _pictures(video: Any) -> list[str]:
    """Return the paths of a list of pictures, also if the file contains them; [] for a video."""
    for each in (video, video.source_video):
        if each is not None and isinstance(each.filename, list):
            return each.filename
    return []


def _listing(video: Any, path: Path) -> Any:
    """Return a video's identity; after projects were merged, a file may list a video twice."""
    name = video.filename
    if isinstance(name, list):
        return tuple(name)
    return id(video) if Path(name) == path else name


def _size(video: Any, path: Path) -> tuple[int, int] | None:
    """Return the height and width at which a video was labelled, if SLEAP has stored them."""
    shape = video.backend_metadata.get("shape")
    is_file = not isinstance(video.filename, list) and Path(video.filename) != path
    if not is_file or not isinstance(shape, list | tuple) or len(shape) != 4:
        return None
    return (int(shape[1]), int(shape[2])) if shape[1] and shape[2] else None


def _unique(titles: Sequence[str]) -> list[str]:
    """Return the titles, with numbers from 2 behind those that are taken."""
    found: list[str] = []
    for title in titles:
        name, count = title, 1
        while name in found or (count > 1 and name in titles):
            count += 1
            name = f"{title}-{count}"
        found.append(name)
    return found


# --- Pictures ------------------------------------------------------------------------------------


def _places(videos: Sequence[_Video], path: Path, options: Options) -> dict[str, Path | None]:
    """Find the labelled videos and pictures; return their paths by name in the file."""
    folders = [path.parent, path.parent / "videos", path.parent.parent]
    folders += [Path(options.media).expanduser()] if options.media else []
    listed: list[str] = []
    for video in videos:
        name = video.video.filename
        if video.frames and isinstance(name, list):
            listed += [name[number] for number in video.frames.values()]
        elif video.frames and Path(name) != path:
            listed.append(name)
    return files.distinct(listed, lambda name: files.locate(name, folders))


def _source(video: _Video, path: Path, found: dict[str, Path | None]) -> tuple[Find, Path | None]:
    """Return the function from a row to its picture, and the whole video if there is one.

    Raises DataError if the video is missing or can't be opened.
    """
    listed = video.video.filename
    remedy = f"is missing: put it beside {path.name}, or name its folder with --config.data.media."
    if isinstance(listed, list):
        places = {picture: found[listed[number]] for picture, number in video.frames.items()}
        if not any(places.values()):
            raise DataError(f"{listed[0]} (and {len(listed) - 1} more) {remedy}")
        bits: set[int] = set()

        def find_file(row: Row) -> Picture | None:
            place = places[row.picture]
            return place and files.picture(place, video.frames[row.picture], bits)

        return find_file, None
    if Path(listed) == path:
        inside = _Inside(video.video, path)
        return lambda row: inside.picture(video.frames[row.picture]), None
    place = found[listed]
    if place is None:
        raise DataError(f"{listed} {remedy}")
    film = files.Film(place)
    return lambda row: film.picture(video.frames[row.picture]), place


class _Inside:
    """Pictures that are stored in the label file."""

    def __init__(self, video: Any, path: Path):
        self._video, self._path, self._lock = video, path, threading.Lock()
        try:
            video.open()
            self._frames = {int(frame) for frame in video.backend.frame_map}
            height, width = (int(length) for length in video.shape[1:3])
        except Exception as error:  # the kind of error depends on where the damage is
            raise DataError(_damaged(path, error)) from error
        self._size = height, width

    def picture(self, frame: int) -> Picture | None:
        """Return a frame; None if the file doesn't contain it."""
        return (
            Picture(lambda: self._read(frame), self._size, frame) if frame in self._frames else None
        )

    def _read(self, frame: int) -> np.ndarray:
        try:
            with self._lock:
                picture = np.asarray(self._video[frame])
            if picture.dtype != np.uint8 or picture.ndim != 3:
                raise ValueError(f"a picture {picture.shape} of {picture.dtype}")
        except Exception as error:  # the kind of error depends on where the damage is
            raise FrameError(f"frame {frame}: {_damaged(self._path, error)}") from error
        return np.repeat(picture[..., :1], 3, -1) if picture.shape[-1] < 3 else picture[..., :3]
