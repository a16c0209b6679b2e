"""The user's own videos and images: each video or folder of images is one subject.

They have no labels, so the clips are for personalization and prediction only. Frames are upright
and have square pixels. Pixel centres are at integers, so a whole W x H frame is the box -0.5, -0.5,
W - 0.5, H - 0.5.
"""

import contextlib
import dataclasses
import glob
import hashlib
import mimetypes
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_pipelines import boxes as boxes_lib
from data_pipelines import locate, pictures
from data_pipelines.clips import Clip, DataError, FrameError
from data_pipelines.video import Video
from ttp_jax import geometry

VIDEOS = (".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v", ".vob")
VIDEOS += (".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ts", ".mts", ".m2ts", ".ogv", ".dv")
VIDEOS += (".mxf",)
PICTURES = pictures.SUFFIXES
# Unsupported media: formats of cameras, microscopes and other programs, raw streams, parts of
# playlists. `mimetypes` doesn't know all of them on every system.
FOREIGN = tuple(
    f".{name}"
    for name in (
        *("dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "pef", "srw", "jxl", "jp2"),
        *("j2k", "jpf", "psd", "exr", "hdr", "svg", "tga", "pcx", "pbm", "pnm", "pam", "pfm"),
        *("dds", "sgi", "xbm", "fits", "dcm", "czi", "lif", "nd2", "heics", "avifs", "braw"),
        *("r3d", "insv", "insp", "mlv", "rm", "rmvb", "seq", "fmf", "ufmf", "sbfmf", "y4m"),
        *("yuv", "h264", "264", "h265", "265", "hevc", "ivf", "nut", "ogm", "m1v", "divx", "wtv"),
        *("mjpeg", "mjpg", "mod", "tod", "trp", "amv", "gxf"),
    )
)
NAMED = 5  # largest number of inputs that a message names
STAMP = 1 << 16  # bytes at the beginning and end of a file that identify it
SAMPLES, SAMPLE = 32, 1 << 12  # number of samples in between, and bytes of each


class LeftOut(NamedTuple):
    """An input that can't be used, with the reason in a sentence."""

    path: Path
    reason: str


class Opened(NamedTuple):
    """The result of opening inputs.

    Attributes:
      clips: the subjects, all in the split "test" and without labels.
      left_out: all other inputs that look like a video or an image.
    """

    clips: list[Clip]
    left_out: list[LeftOut]


def clips(
    inputs: str | os.PathLike | Sequence[str | os.PathLike], *, boxes: str | os.PathLike = "whole"
) -> list[Clip]:
    """Return the clips of `open_inputs`, and warn about each input that can't be used.

    Args:
      inputs: as in `open_inputs`.
      boxes: as in `open_inputs`.
    """
    opened = open_inputs(inputs, boxes=boxes)
    for left_out in opened.left_out:
        warnings.warn(f"left out: {left_out.reason}", stacklevel=2)
    return opened.clips


def open_inputs(
    inputs: str | os.PathLike | Sequence[str | os.PathLike], *, boxes: str | os.PathLike = "whole"
) -> Opened:
    """Open the user's media as clips, one for each subject.

    Videos are scanned to count their frames (see `video_index`); images are opened when they are
    read.

    Args:
      inputs: a path, a pattern ("holiday/*.mp4"), or several of them. A video is a subject. So is a
        folder of images, in natural order (frame2 before frame10), or a file with several images
        (TIFF, GIF). Any other folder stands for the videos and folders of images in it. Subjects
        are named after the file or folder, or parent_file if two would have the same name.
      boxes: where the person is. "whole": the whole frame. "x1,y1,x2,y2": that region of every
        frame, in pixels. Otherwise the path of a CSV or JSON file, see `boxes`.

    Raises:
      DataError: an input is missing, none can be used, or the boxes fit none of them.
    """
    found, left_out = _find(inputs)
    if not found:
        raise nothing_usable(left_out)
    names, opened = _names(found), []
    # Check the boxes before frames are counted, so that a wrong path fails at once.
    rule = boxes_lib.rule(boxes, names)
    for name, path in zip(names, found, strict=True):
        try:
            clip, files = _open(name, path)
            rows = rule(name, clip.sizes).astype(np.float32)
            own = {"fingerprint": _fingerprint(files, rows), "key": _fingerprint(files)}
            opened.append(dataclasses.replace(clip, boxes=rows, **own))
        except DataError as error:
            left_out.append(LeftOut(path, str(error)))
    if not opened:
        raise nothing_usable(left_out)
    return Opened(opened, left_out)


def nothing_usable(left_out: Sequence[LeftOut]) -> DataError:
    """Return the error that explains why none of the inputs is a subject.

    Args:
      left_out: all inputs, with their reasons.
    """
    if not left_out:
        return DataError("no input: name a video, a folder of pictures or a pattern.")
    reasons = [reason for _, reason in left_out[:NAMED]]
    if len(left_out) > 1:
        reasons.insert(0, f"none of the {len(left_out)} inputs can be used.")
    if len(left_out) > NAMED:
        reasons.append(f"... and {len(left_out) - NAMED} more")
    return DataError("\n".join(reasons))


# ---------------------------------------------------------------------------------------------
# Subjects


def _open(name: str, path: Path) -> tuple[Clip, Sequence[Path]]:
    """Open a subject; return its clip, with whole frames as boxes, and its files."""
    if path.is_dir():
        return _pictures(name, path, [entry for entry in _entries(path) if _is(entry, PICTURES)])
    if _is(path, PICTURES):
        return _pictures(name, path, [path])
    video = Video(path)
    stored = video.index.stored_size
    sizes = np.broadcast_to(np.array(video.size), (len(video), 2))
    clip = _clip(
        name,
        sizes,
        video.read,
        source=str(path),
        frames_per_second=video.rate,
        times=video.times,
        stored_size=None if stored == video.size else stored,
        notes=(video.index.note,) if video.index.note else (),
    )
    return clip, [path]


def _pictures(name: str, path: Path, files: Sequence[Path]) -> tuple[Clip, Sequence[Path]]:
    """Open a subject that consists of image files; every page of a file is a frame."""
    label = f"looking at pictures of {path.name}"
    with ThreadPoolExecutor() as pool:
        found = pool.map(_look, files)
        looks = list(tqdm(found, total=len(files), desc=label, delay=locate.BAR_DELAY))
    known = [page for pages in looks for page in pages]
    if not known:
        try:
            pictures.read(files[0])
            reason = ""
        except FrameError as error:
            reason = f" {error}"
        raise DataError(f"none of the {len(files)} pictures in {path} can be read.{reason}")
    bits, size = max(page.bits for page in known), known[0].size
    readable = {file for file, pages in zip(files, looks, strict=True) if pages}
    frames, sizes, names = [], [], []
    for file, pages in zip(files, looks, strict=True):
        # A picture that can't be read is still a frame; reading it raises the error.
        for page in pages or [pictures.Page(0, size, bits)]:
            frames.append((file, page.number))
            sizes.append(size := page.size)
            names.append(file.name + f"#{page.number + 1}" * (len(pages) > 1))

    def read(index: int) -> np.ndarray:
        file, page = frames[index]
        try:
            return pictures.read(file, page, bits)
        except FrameError as error:
            if file in readable and not os.path.exists(file):
                raise DataError(
                    f"{file} was moved or lost with its disk while {path} was read: put it back, "
                    "and run the same command again."
                ) from error
            raise FrameError(f"frame {index}: {error}") from error

    lasts = np.array([page.lasts for page in known])
    more = {"source": str(path), "frame_names": tuple(names)}
    if len(files) == 1 and len(known) > 1 and (lasts > 0).all():  # an animation
        times = np.concatenate([[0.0], np.cumsum(lasts[:-1])])
        more |= {"times": times, "frames_per_second": (len(times) - 1) / times[-1]}
    return _clip(name, np.array(sizes), read, **more), files


def _clip(name: str, sizes: np.ndarray, read: Callable[[int], np.ndarray], **more) -> Clip:
    whole = geometry.whole_box(sizes).astype(np.float32)
    return Clip(name, name, "test", len(sizes), read, whole, sizes=sizes, **more)


def _look(path: Path) -> list[pictures.Page]:
    """Return the pages of a file; none if it can't be read."""
    try:
        return pictures.look(path)
    except FrameError:
        return []


def _fingerprint(files: Sequence[Path], boxes: np.ndarray | None = None) -> str:
    """Return a fingerprint of a subject's files and boxes, without reading all of a long video.

    Without boxes it depends on the content alone and not on the files' names. With boxes, samples
    from the middle are included: uncompressed files can have equal sizes and the same background at
    both ends.
    """
    digest = hashlib.sha256(b"" if boxes is None else boxes.astype(np.float32).tobytes())
    for each in files:
        # An error about the file is raised when its frame is read.
        with contextlib.suppress(OSError), each.open("rb") as file:
            start = file.read(STAMP)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - STAMP, 0))
            name = "" if boxes is None else each.name
            digest.update(f"{name} {size} ".encode() + start + file.read())
            # Not without boxes: that digest seeds random draws, which must stay as they were.
            if boxes is not None:
                for place in range(STAMP, size - STAMP, max(SAMPLE, size // SAMPLES)):
                    file.seek(place)
                    digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------------------------------
# Inputs


def _find(
    inputs: str | os.PathLike | Sequence[str | os.PathLike],
) -> tuple[list[Path], list[LeftOut]]:
    """Resolve inputs to videos and folders of images, each once; also return those left out."""
    several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    found: dict[Path, None] = {}
    left_out: dict[Path, str] = {}
    starts: list[Path] = []
    for item in several:
        try:
            starts += _expand(item)
        except DataError as error:
            left_out[Path(item)] = str(error)
    for start in starts:
        try:
            here, foreign = _subjects_at(start)
        except DataError as error:
            left_out[start] = str(error)
            continue
        left_out |= {path: _foreign(path) for path in foreign}
        for path in here:
            try:
                str(path).encode()
                found[path] = None
            except UnicodeEncodeError:  # no library can open a file with such a name
                shown = os.fsencode(path).decode(errors="replace")
                left_out[path] = f"{shown}: the name is not valid UTF-8: rename the file."
    return list(found), [LeftOut(path, reason) for path, reason in left_out.items()]


def _expand(item: str | os.PathLike) -> list[Path]:
    """Resolve one input to paths; a pattern skips files that aren't media."""
    text = os.path.expanduser(os.fspath(item))
    if os.path.exists(text):  # checked first, because file names may contain [ or *
        return [Path(os.path.abspath(text))]
    paths = [Path(os.path.abspath(name)) for name in glob.glob(text, recursive=True)]
    paths = [path for path in paths if path.is_dir() or _is_media(path)]
    if not paths:
        raise DataError(
            f"{text}: no such file or folder, and no file matches it as a pattern (looked in "
            f"{os.getcwd()})."
        )
    return sorted(paths, key=_natural)


def _subjects_at(path: Path) -> tuple[list[Path], list[Path]]:
    """List the subjects at a path, and the media of unsupported formats there.

    Raises DataError if there is no subject.
    """
    if not path.is_dir():
        _check_is_subject(path)
        return [path], []
    entries = _entries(path)
    found = [entry for entry in entries if _is(entry, PICTURES)]
    nested = [entry for entry in entries if _is(entry, VIDEOS) or _holds_pictures(entry)]
    foreign = [entry for entry in entries if _is_media(entry) and not _is(entry, VIDEOS + PICTURES)]
    if found and nested:
        raise DataError(
            f"{path} holds pictures ({found[0].name}) beside other subjects ({nested[0].name}): "
            "move the pictures to their own folder, as a folder of pictures is one subject."
        )
    if not (found or nested):
        but = f", but {foreign[0].name}" if foreign else ""
        raise DataError(
            f"{path} holds no video ({', '.join(VIDEOS)}), no picture ({', '.join(PICTURES)}) and "
            f"no folder of pictures{but}: name another folder, or convert the files."
        )
    return [path] if found else nested, foreign


def _check_is_subject(path: Path) -> None:
    """Raise DataError if a file is not a subject by itself."""
    if _is(path, PICTURES):
        try:
            if len(pictures.look(path)) > 1:
                return
        except FrameError as error:
            raise DataError(str(error)) from error
        raise DataError(f"{path} is a single picture: name its folder, which is one subject.")
    if not _is(path, VIDEOS):
        raise DataError(_foreign(path))


def _foreign(path: Path) -> str:
    if _is_media(path):
        return f"{path} has an unsupported format: convert it to mp4, or pictures to PNG."
    return (
        f"{path} does not have the suffix of a video: convert it, or rename it to end in one of "
        f"{', '.join(VIDEOS)}."
    )


def _entries(folder: Path) -> list[Path]:
    """List the entries of a folder in natural order, except hidden ones."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}.") from error
    return sorted(entries, key=_natural)


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(_is(entry, PICTURES) for entry in _entries(folder))


def _is(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes and not path.is_dir()


def _is_media(path: Path) -> bool:
    """Return whether a file's name is that of a video or an image, supported or not."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    named = kind.startswith(("image/", "video/")) and not kind.endswith("icon")
    return _is(path, VIDEOS + PICTURES + FOREIGN) or (named and not path.is_dir())


def _natural(path: Path) -> tuple:
    """Return a sort key that compares numbers in names as numbers: frame2 before frame10."""
    parts = re.split(r"([0-9]+)", str(path).casefold())  # odd parts are numbers
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return names for the subjects that are fit for file names and unique regardless of case."""
    plain = [fit_name(path.name if path.is_dir() else path.stem) for path in paths]
    full = [fit_name(f"{path.parent.name}_{path.name}") for path in paths]
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


def fit_name(name: str) -> str:
    """Make a name fit for a file on any system; letters of all alphabets are kept."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", unicodedata.normalize("NFC", name))
    # File names are limited to 255 bytes. Results add a suffix, and repeated names a number.
    return name.encode()[:200].decode(errors="ignore").strip(" .") or "subject"
