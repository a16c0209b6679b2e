"""A person's own videos and pictures: every video or folder of pictures is one subject.

Nothing here is labelled, so that the clips serve personalization and prediction only. Frames come
upright: the rotation of a phone's video and the EXIF orientation of a photo are applied. Pixel
centres lie at integers, so the whole of a W x H picture is the box -0.5, -0.5, W - 0.5, H - 0.5.

A file of boxes is CSV with a header line, or JSON with a list of objects. Columns (keys):
  subject: name of the clip; may be left out when there is one subject only.
  frame: counts from 0.
  x1, y1, x2, y2: box in pixels of the upright picture.
Other columns are ignored. Frames without a row get a box by linear interpolation between the
neighbouring rows, before the first and after the last row the nearest one.
"""

import contextlib
import csv
import dataclasses
import glob
import hashlib
import os
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from data_pipelines import locate
from data_pipelines.clips import Clip, DataError, FrameError, LastUsed, read_text
from ttp_jax import geometry
from ttp_jax.files import Damaged, parse_json

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")
VIDEOS += (".3gp", ".ts", ".mts", ".m2ts", ".ogv")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
COLUMNS = ("frame", "x1", "y1", "x2", "y2")
OPEN_VIDEOS = 64  # as many as run side by side on a large device
STAMP = 1 << 16  # bytes of a file's beginning and end that tell it from others


def clips(
    inputs: str | os.PathLike | Sequence[str | os.PathLike], *, boxes: str | os.PathLike = "whole"
) -> list[Clip]:
    """Open own media as clips without labels, split "test", one a subject.

    Videos are decoded once to count their frames (see `Video`); pictures are opened when read.

    Args:
      inputs: path, pattern ("holiday/*.mp4") or several of them. A video is a subject; a folder
        of pictures is one, too, in natural order (frame2 before frame10); any other folder stands
        for the videos and the folders of pictures in it. Subjects are named after file or folder,
        after parent_file where two would share a name.
      boxes: where the person is. "whole": the whole frame. "x1,y1,x2,y2": that region of every
        frame, in pixels. Else the path of a CSV or JSON file, see the module's first lines.

    Raises:
      DataError: an input isn't there, isn't media or has no frame, or a box can't be used. Of
        several, files that can't be used are left out with a warning.
    """
    rule = _box_rule(boxes)  # first: a wrong path shows at once, counting frames takes its time
    paths = _find(inputs)
    sources = _open_all(paths)
    return [
        Clip(
            source.name,
            source.name,
            "test",
            len(rows),
            source.read,
            rows.astype(np.float32),
            frames_per_second=source.rate,
            sizes=source.sizes,
            origin=_fingerprint(source.files, rows),
        )
        for source, rows in zip(sources, rule(sources), strict=True)
    ]


# ---------------------------------------------------------------------------------------------
# Videos


class Video:
    """The frames of one video file by index, for any number of threads.

    Headers lie about the number of frames, and players of cut, damaged or variable-rate files
    disagree with them; here frames are what the decoder gives. They are counted by decoding the
    file once, without converting a picture, and each frame's time is noted. So a frame found by a
    jump is known for sure, and the order of reading doesn't change what is read. A frame that fails
    to decode between others keeps its index; failing ones at the end aren't counted.

    Reading forward decodes on from where it is; other reads jump. Only the `OPEN_VIDEOS` last used
    videos keep a decoder and a few pictures, until their last frame is read.

    Attributes:
      size: height and width of the upright pictures.
    """

    # A jump goes back to a key frame and discards 16 frames more: below this it isn't worth it.
    _JUMP = 60
    # Failures in a row that mean the end. The decoder doesn't tell a bad frame from the end.
    _END = 100
    # Threads of a default pool: none asks for a frame further behind the foremost than this.
    _KEEP = min(32, (os.cpu_count() or 1) + 4)
    _open_ones = LastUsed(OPEN_VIDEOS)

    def __init__(self, path: str | os.PathLike):
        """Open the file and count its frames; a progress bar shows if it takes long.

        Raises:
          DataError: no video, or not one frame can be decoded.
        """
        self._path = Path(os.path.abspath(path))  # ffmpeg takes "a:b.mp4" for a protocol
        self._lock = threading.Lock()
        self._capture = cv2.VideoCapture()
        self._next = 0  # index of the frame that the capture decodes next
        self._passed: dict[int, np.ndarray] = {}  # decoded, BGR, not yet asked for
        self._times, self.size = self._count()

    def __len__(self) -> int:
        return len(self._times)

    def read(self, index: int) -> np.ndarray:
        """Return frame `index` as uint8 RGB [H, W, 3].

        Raises:
          FrameError: it can't be decoded, or the file has changed since it was opened.
          IndexError: there is no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self._path} has {len(self)} frames, but no frame {index}.")
        with self._lock:
            decodable = np.isfinite(self._times[index])
            if decodable and index not in self._passed:
                if not self._capture.isOpened():
                    self._rewind()
                near = 0 <= index - self._next <= self._JUMP
                if not ((near or self._jump(index)) and self._advance(index)):
                    self._rewind()
                    self._advance(index)
            picture = self._passed.pop(index, None)
            if index == len(self) - 1:
                self._capture.release()  # a decoder holds many frames; now comes the next subject
        self._open_ones.note(self)
        if picture is None:
            reason = "the file was moved or changed" if decodable else "the file is damaged there"
            raise FrameError(
                f"frame {index} of {self._path} can't be decoded: {reason}. Copy the video again."
            )
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)

    @property
    def rate(self) -> float | None:
        """Frames a second, from the times of the frames; None where they tell nothing."""
        steps = np.diff(self._times)
        steps = steps[np.isfinite(steps) & (steps > 0)]
        return float(1000 / np.median(steps)) if len(steps) else None

    def close(self) -> None:
        """Give decoder and pictures back; the next read opens the file again."""
        with self._lock:
            self._capture.release()
            self._passed.clear()

    def _count(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode the file once -> times in ms [T], NaN for bad frames, and the pictures' size."""
        _check_file(self._path)
        capture, size = self._open(), None
        if not capture.isOpened():
            raise DataError(
                f"{self._path} is no video that OpenCV can open, or its end is missing: copy it "
                "again, or convert it to mp4."
            )
        announced = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        times, failures = [], 0
        label = f"counting frames of {self._path.name}"
        with tqdm(total=announced or None, desc=label, unit="frame", delay=locate.BAR_DELAY) as bar:
            while failures < self._END:
                good = capture.grab()
                times.append(capture.get(cv2.CAP_PROP_POS_MSEC) if good else np.nan)
                failures = 0 if good else failures + 1
                if good and size is None and (first := capture.retrieve()[1]) is not None:
                    size = first.shape[:2]
                bar.update(good)
        if size is None:
            raise DataError(f"{self._path} has no frame that can be decoded: copy it again.")
        times = np.array(times[:-failures])
        if announced - len(times) > max(1, 0.01 * announced):
            warnings.warn(
                f"{self._path} ends after {len(times)} frames, its header announces {announced}: "
                "if the file is cut off, copy it again.",
                stacklevel=4,
            )
        return times, size

    def _open(self) -> cv2.VideoCapture:
        # Another backend could take "walk_001.mp4" for the first picture of a numbered series.
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture

    def _rewind(self) -> None:
        self._capture, self._next = self._open(), 0

    def _jump(self, index: int) -> bool:
        """Move the decoder to shortly before `index`; False if it isn't clear where it is."""
        for back in (50, 1000):  # ms; with a variable rate OpenCV may come out later than asked
            self._capture.set(cv2.CAP_PROP_POS_MSEC, max(self._times[index] - back, 0))
            good = any(self._capture.grab() for _ in range(self._END))
            places = np.flatnonzero(self._times == self._capture.get(cv2.CAP_PROP_POS_MSEC))
            if good and len(places) == 1 and places[0] <= index:
                place = int(places[0])
                self._next = place + 1
                self._keep(place, index)
                return True
        return False

    def _advance(self, index: int) -> bool:
        """Decode on up to frame `index`; False if the frames aren't those that were counted."""
        while self._next <= index:
            good, time = self._capture.grab(), self._times[self._next]
            if good != np.isfinite(time):
                return False
            if good and self._capture.get(cv2.CAP_PROP_POS_MSEC) != time:
                return False
            if good:
                self._keep(self._next, index)
            self._next += 1
        return True

    def _keep(self, place: int, index: int) -> None:
        """Keep the frame just decoded if it is `index` or another thread may ask for it soon."""
        if index - place >= self._KEEP:
            return
        good, picture = self._capture.retrieve()
        if good:
            self._passed[place] = picture
        while len(self._passed) > self._KEEP:
            del self._passed[next(iter(self._passed))]


# ---------------------------------------------------------------------------------------------
# Pictures


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Decode one picture file, turned upright -> uint8 RGB [H, W, 3].

    16-bit pictures keep their upper 8 bits, transparent ones are laid over black.

    Raises:
      FrameError: the file is missing, cut off or no picture.
    """
    try:
        with Image.open(path) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode == "F":
                raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
            if picture.mode.startswith("I"):  # 16-bit grey, which Pillow's convert would clip
                grey = (np.clip(np.asarray(picture), 0, 0xFFFF) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if picture.has_transparency_data:
                black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
                opaque = Image.alpha_composite(black, picture.convert("RGBA"))
                return np.array(opaque.convert("RGB"))
            return np.array(picture.convert("RGB"))
    except Exception as error:  # what Pillow raises depends on where the damage is
        reason = getattr(error, "strerror", None) or error
        raise FrameError(
            f"{path} can't be read: {reason}. Copy the picture again or move it away."
        ) from error


def _read_numbered(paths: Sequence[Path], index: int) -> np.ndarray:
    try:
        return read_picture(paths[index])
    except FrameError as error:
        raise FrameError(f"frame {index}: {error}") from error


def _picture_size(path: Path) -> tuple[int, int] | None:
    """Height and width of the upright picture from the file's header; None if it has none."""
    try:
        with Image.open(path) as picture:
            # Not picture.getexif(), which decodes all of a PNG. TIFF turns its size by itself.
            exif = Image.Image.getexif(picture) if picture.format != "TIFF" else {}
            turned = exif.get(ExifTags.Base.Orientation, 1) >= 5
            width, height = picture.size
            return (width, height) if turned else (height, width)
    except Exception:  # reading the frame says what is wrong
        return None


def _picture_sizes(folder: Path, paths: Sequence[Path]) -> np.ndarray:
    """Heights and widths int [T, 2]; an unreadable picture gets that of one before."""
    label = f"looking at pictures of {folder.name}"
    with ThreadPoolExecutor() as pool:
        found = pool.map(_picture_size, paths)
        sizes = list(tqdm(found, total=len(paths), desc=label, delay=locate.BAR_DELAY))
    known = [i for i, size in enumerate(sizes) if size is not None]
    if not known:
        try:
            read_picture(paths[0])
        except FrameError as error:
            raise DataError(
                f"none of the {len(paths)} pictures in {folder} can be read. {error}"
            ) from error
    last = sizes[known[0]]
    return np.array([last := size or last for size in sizes])


# ---------------------------------------------------------------------------------------------
# Inputs


@dataclasses.dataclass(frozen=True)
class _Source:
    """An opened subject; `sizes` int [T, 2] are the pictures' heights and widths."""

    name: str
    path: Path
    files: Sequence[Path]  # the video, or the pictures
    sizes: np.ndarray
    read: Callable[[int], np.ndarray]
    rate: float | None = None  # frames a second

    @property
    def whole(self) -> np.ndarray:
        """Whole frames as boxes float64 [T, 4]."""
        return geometry.whole_box(self.sizes)

    def check(self, box: np.ndarray, frame: int, where: str) -> None:
        """Raise DataError for a box that can't be of this frame."""
        check_place(box, self.sizes[frame], f"frame {frame} of {self.name}", where)


def _open_all(paths: Sequence[Path]) -> list[_Source]:
    """Open the subjects; one bad file of many is left out with a warning."""
    sources = []
    for name, path in zip(_names(paths), paths, strict=True):
        try:
            sources.append(_open(name, path))
        except DataError as error:
            if len(paths) == 1:
                raise
            warnings.warn(f"left out: {error}", stacklevel=3)
    if not sources:
        raise DataError(f"none of the {len(paths)} inputs can be used, see the warnings.")
    return sources


def _open(name: str, path: Path) -> _Source:
    if not path.is_dir():
        video = Video(path)
        sizes = np.broadcast_to(np.array(video.size), (len(video), 2))
        return _Source(name, path, [path], sizes, video.read, video.rate)
    paths = [entry for entry in _entries(path) if _is(entry, PICTURES)]
    sizes = _picture_sizes(path, paths)
    return _Source(name, path, paths, sizes, lambda index: _read_numbered(paths, index))


def _find(inputs: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Resolve inputs to video files and folders of pictures, each once."""
    several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    found = [path for item in several for start in _expand(item) for path in _subjects_at(start)]
    if not found:
        raise DataError("no input: name a video, a folder of pictures or a pattern.")
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:  # OpenCV crashes on such a name
            shown = os.fsencode(path).decode(errors="replace")
            raise DataError(f"{shown}: the name is not valid UTF-8: rename the file.") from error
    return list(dict.fromkeys(found))


def _expand(item: str | os.PathLike) -> list[Path]:
    """Resolve one input to what it names; a pattern passes over files that aren't media."""
    text = os.path.expanduser(os.fspath(item))
    if os.path.exists(text):  # first, since the name itself may contain [ or *
        return [Path(os.path.abspath(text))]
    paths = [Path(os.path.abspath(name)) for name in glob.glob(text, recursive=True)]
    paths = [path for path in paths if path.is_dir() or _is(path, VIDEOS + PICTURES)]
    if not paths:
        raise DataError(
            f"{text}: no such file or folder, and no pattern that finds any (looked for in "
            f"{os.getcwd()})."
        )
    return sorted(paths, key=_natural)


def _subjects_at(path: Path) -> list[Path]:
    """List the videos and folders of pictures that a path stands for."""
    if not path.is_dir():
        if _is(path, PICTURES):
            raise DataError(f"{path} is one picture: name its folder, a folder is one subject.")
        if not _is(path, VIDEOS):
            raise DataError(
                f"{path} is no video by its name: convert it, or rename it to end in one of "
                f"{', '.join(VIDEOS)}."
            )
        return [path]
    entries = _entries(path)
    pictures = [entry for entry in entries if _is(entry, PICTURES)]
    nested = [entry for entry in entries if _is(entry, VIDEOS) or _holds_pictures(entry)]
    if pictures and nested:
        raise DataError(
            f"{path} holds pictures ({pictures[0].name}) beside other subjects ({nested[0].name}): "
            "move the pictures to a folder of their own, a folder of pictures is one subject."
        )
    if not (pictures or nested):
        raise DataError(
            f"{path} holds no video ({', '.join(VIDEOS)}), no picture ({', '.join(PICTURES)}) and "
            "no folder of pictures: name another folder, or convert the files."
        )
    return [path] if pictures else nested


def _entries(folder: Path) -> list[Path]:
    """List a folder in natural order, without hidden entries."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}.") from error
    return sorted(entries, key=_natural)


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(_is(entry, PICTURES) for entry in _entries(folder))


def _is(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes and not path.is_dir()


def _natural(path: Path) -> tuple:
    """Sort key: numbers in names count as numbers, so that frame2 comes before frame10."""
    parts = re.split(r"([0-9]+)", str(path).casefold())  # every second part is a number
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)


def _names(paths: Sequence[Path]) -> list[str]:
    """Name the subjects: unique, also where file systems ignore case, and fit for file names."""
    plain = [_fit(path.name if path.is_dir() else path.stem) for path in paths]
    full = [_fit(f"{path.parent.name}_{path.name}") for path in paths]
    folded = [name.casefold() for name in plain]
    names, used = [], set()
    for i, name in enumerate(plain):
        wanted = name = name if folded.count(folded[i]) == 1 else full[i]
        number = 2
        while name.casefold() in used:
            name, number = f"{wanted}-{number}", number + 1
        used.add(name.casefold())
        names.append(name)
    return names


def _fit(name: str) -> str:
    """Make a name fit for a file on any system; what letters it has stays."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", unicodedata.normalize("NFC", name))
    # File names end at 255 bytes; results add an ending, repeated names a number.
    return name.encode()[:200].decode(errors="ignore").strip(" .") or "subject"


def _fingerprint(files: Sequence[Path], boxes: np.ndarray) -> str:
    """Tell a subject's files and boxes from others, without reading long videos as a whole."""
    digest = hashlib.sha256(boxes.astype(np.float32).tobytes())
    for each in files:
        # Who reads the frame says what is wrong with its file.
        with contextlib.suppress(OSError), each.open("rb") as file:
            start = file.read(STAMP)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - STAMP, 0))
            digest.update(f"{each.name} {size} ".encode() + start + file.read())
    return digest.hexdigest()[:16]


def _check_file(path: Path) -> None:
    """Refuse a file that can't be read or is empty, with the system's reason."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    if empty:
        raise DataError(f"{path} is empty (0 bytes): copy it again.")


# ---------------------------------------------------------------------------------------------
# Boxes


BoxRule = Callable[[Sequence[_Source]], list[np.ndarray]]


def _box_rule(boxes: str | os.PathLike) -> BoxRule:
    """Turn the argument `boxes` into a function from the subjects to their boxes [T, 4]."""
    if boxes == "whole":
        return lambda sources: [source.whole for source in sources]
    box = region(str(boxes))
    if box is not None:
        return lambda sources: [_fixed(source, box) for source in sources]
    path = Path(os.path.expanduser(boxes))
    if path.suffix.lower() not in (".csv", ".json"):
        raise DataError(
            f'boxes is "{boxes}": expected "whole", a region "x1,y1,x2,y2" or the path of a '
            'file of boxes (.csv or .json); "moving" and "people" look for the person.'
        )
    rows = _read_rows(path)
    return lambda sources: _from_rows(path, rows, sources)


def region(text: str) -> np.ndarray | None:
    """The box [4] that "x1,y1,x2,y2" names, None for other words.

    Raises DataError for a box without an area.
    """
    try:
        box = np.array([float(part) for part in text.split(",")])
    except ValueError:
        return None
    if box.shape != (4,):
        return None
    _check_box(box, f'boxes "{text}"')
    return box


def _fixed(source: _Source, box: np.ndarray) -> np.ndarray:
    """The same box in every frame, float64 [T, 4]."""
    shown = ",".join(f"{value:g}" for value in box)
    for frame in np.unique(source.sizes, axis=0, return_index=True)[1]:
        source.check(box, frame, f'boxes "{shown}"')
    return np.tile(box, (len(source.sizes), 1))


def _check_box(box: np.ndarray, where: str) -> None:
    if not (np.isfinite(box).all() and (box[:2] < box[2:]).all()):
        raise DataError(
            f"{where}: the box {box.tolist()} has no area: expected finite x1 < x2 and y1 < y2."
        )


def check_place(box: np.ndarray, size: Sequence[int] | np.ndarray, of: str, where: str) -> None:
    """Raise DataError for a box that can't be of a picture of this size (height, width)."""
    if wrong := geometry.misplaced(box, size, of):
        raise DataError(f"{where}: the box {box.tolist()} {wrong}")


@dataclasses.dataclass(frozen=True)
class _Row:
    """One row of a file of boxes; `where` is the file and the row's place in it."""

    where: str
    subject: str | None
    frame: int
    box: np.ndarray


def _read_rows(path: Path) -> list[_Row]:
    """Read a file of boxes; what needs the subjects is checked later."""
    text = read_text(path)
    read = _json_entries if path.suffix.lower() == ".json" else _csv_lines
    rows = [_row(where, entry) for where, entry in read(path, text)]
    if not rows:
        raise DataError(f"{path} holds no box: expected columns {', '.join(COLUMNS)}.")
    for row in rows:
        _check_box(row.box, row.where)
    return rows


def _csv_lines(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)} in its first line: expected a header with "
            f"{', '.join(COLUMNS)} and maybe subject, separated by commas."
        )
    try:
        return [(f"{path}, line {reader.line_num}", line) for line in reader]
    except csv.Error as error:
        raise DataError(f"{path}: {error}. Is there a quote without its partner?") from error


def _json_entries(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        entries = parse_json(text, path)
    except Damaged as error:
        raise DataError(f"{path} is no JSON: {error.reason}.") from error
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise DataError(f"{path}: expected a list of objects with {', '.join(COLUMNS)}.")
    return [(f"{path}, entry {number}", entry) for number, entry in enumerate(entries, start=1)]


def _row(where: str, entry: dict[str, Any]) -> _Row:
    try:
        frame, *box = (float(entry[name]) for name in COLUMNS)
    except (KeyError, TypeError, ValueError) as error:
        got = ", ".join(f"{name} {entry.get(name)!r}" for name in COLUMNS)
        raise DataError(f"{where}: expected five numbers, got {got}.") from error
    if not frame.is_integer():
        raise DataError(f"{where}: frame is {frame}, expected a whole number from 0 on.")
    subject = entry.get("subject")
    name = None if subject in (None, "") else unicodedata.normalize("NFC", str(subject))
    return _Row(where, name, int(frame), np.array(box))


def _from_rows(path: Path, rows: list[_Row], sources: Sequence[_Source]) -> list[np.ndarray]:
    """Boxes float64 [T, 4] of every subject from a file's rows."""
    known = {source.name: source for source in sources}
    placed: dict[str, dict[int, np.ndarray]] = {name: {} for name in known}
    for row in rows:
        if row.subject is None and len(sources) > 1:
            raise DataError(
                f"{row.where} names no subject, but there are {len(sources)}: fill a column "
                f"subject with {_some(known)}."
            )
        name = row.subject or sources[0].name
        if name not in known:
            raise DataError(f"{row.where}: no subject {name}: expected {_some(known)}.")
        source, own = known[name], placed[name]
        if not 0 <= row.frame < len(source.sizes):
            raise DataError(
                f"{row.where}: {name} has no frame {row.frame}: its {len(source.sizes)} frames "
                "count from 0."
            )
        if row.frame in own:
            raise DataError(f"{row.where}: a second box for frame {row.frame} of {name}.")
        source.check(row.box, row.frame, row.where)
        own[row.frame] = row.box
    for name, own in placed.items():
        if not own:
            raise DataError(f"{path} holds no box of {name}: add one row at least.")
    return [
        locate.between(
            sorted(own), np.array([own[frame] for frame in sorted(own)]), len(known[name].sizes)
        )
        for name, own in placed.items()
    ]


def _some(names: dict[str, Any]) -> str:
    """The first few names, for a message."""
    return ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
