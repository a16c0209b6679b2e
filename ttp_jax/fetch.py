"""Download weights that are not included: BlazePose and torchvision's ImageNet networks.

Nothing is downloaded unless you run `python main.py fetch`. Files are checked by their SHA-256 and
kept in `folder()`. An interrupted download resumes where it stopped.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

from ttp_jax.files import move_aside, sha256, write_atomically

FOLDER = "TTP_JAX_WEIGHTS"  # environment variable that names another folder
MEDIAPIPE = "mediapipe==0.10.21"
# All of its wheels hold the same networks, so one serves every Python and system.
WHEEL = ("--only-binary=:all:", "--python-version=3.12", "--platform=manylinux_2_28_x86_64")
LICENCE = """BlazePose (pose_landmark_full.tflite, pose_detection.tflite) is part of MediaPipe.
Copyright The MediaPipe Authors. Licensed under the Apache License, Version 2.0:
https://www.apache.org/licenses/LICENSE-2.0
"""
TORCHVISION = "https://download.pytorch.org/models/"
# File names that end in the first digits of the file's SHA-256.
PUBLISHED = {
    "resnet18": "resnet18-5c106cde.pth",
    "resnet50": "resnet50-19c8e357.pth",
    "vgg16": "vgg16-397923af.pth",
}
MOST_BYTES = 2**27  # largest file in an archive, several times what is expected
PATIENCE = 60  # seconds without a byte before a download fails


class Part(NamedTuple):
    """A file of BlazePose.

    Attributes:
      name: name under which it is kept.
      ends: how its name ends inside a wheel and inside a `.task` file of MediaPipe.
      sha256: SHA-256 of the file in the pinned version.
    """

    name: str
    ends: tuple[str, str]
    sha256: str


LANDMARKS = Part(
    "pose_landmark_full.tflite",
    ("/pose_landmark/pose_landmark_full.tflite", "pose_landmarks_detector.tflite"),
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
DETECTOR = Part(
    "pose_detection.tflite",
    ("/pose_detection/pose_detection.tflite", "pose_detector.tflite"),
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
BLAZEPOSE = (LANDMARKS, DETECTOR)


def folder() -> pathlib.Path:
    """Return where weights are kept: TTP_JAX_WEIGHTS, or a folder in the user's cache."""
    return pathlib.Path(os.environ.get(FOLDER) or "~/.cache/ttp_jax/weights").expanduser()


# --- BlazePose -----------------------------------------------------------------------------------


def blazepose(place: pathlib.Path, given: str | os.PathLike | None = None) -> list[str]:
    """Put BlazePose's two networks and their licence into a folder; return what was done, in words.

    If the folder already has intact files, nothing is downloaded.

    Args:
      place: the folder.
      given: a local file to take them from: a wheel of mediapipe, a `.task` file of MediaPipe's
        pose landmarker ("full"), or the landmark network as `.tflite`. Versions other than the
        pinned one are accepted.

    Raises:
      OSError: the files can't be downloaded or written.
      ValueError: the download is not the pinned version, or `given` doesn't contain BlazePose.
    """
    if given is not None:
        return _taken_from(pathlib.Path(given).expanduser(), place)
    if all(_is_pinned(place / part.name, part) for part in BLAZEPOSE):
        return [f"{part.name} is already in {place}" for part in BLAZEPOSE]
    partial = place / "partial"
    wheel = next(partial.glob("*.whl"), None) or _downloaded(partial)
    try:
        found = parts_of(wheel)
        for part in BLAZEPOSE:
            if _digest(found.get(part.name, b"")) != part.sha256:
                raise ValueError(
                    f"{part.name} in {wheel} differs from that of {MEDIAPIPE}: delete the wheel "
                    "and try again."
                )
        return _kept(found, place)
    finally:  # the wheel is no longer needed, whether it was good or not
        shutil.rmtree(partial, ignore_errors=True)


def parts_of(path: pathlib.Path) -> dict[str, bytes]:
    """Return BlazePose's networks and licence in a wheel, `.task` or `.tflite` file, by name.

    Raises FileNotFoundError, or ValueError if the file is damaged or lacks the landmark network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: name a wheel, .task or .tflite file.")
    with path.open("rb") as file:
        start = file.read(8)
        if start[4:] == b"TFL3":
            return {LANDMARKS.name: _limited(start + file.read(MOST_BYTES), path.name)}
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():  # read in memory, never extracted to paths in the file
                ends = {end: part.name for part in BLAZEPOSE for end in part.ends}
                ends[".dist-info/LICENSE"] = "LICENSE"
                name = next((ends[end] for end in ends if info.filename.endswith(end)), None)
                if name and name not in found:
                    with archive.open(info) as member:
                        found[name] = _limited(member.read(MOST_BYTES + 1), info.filename)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or not a wheel, .task or .tflite file.") from error
    if LANDMARKS.name not in found:
        raise ValueError(
            f"{path} holds no {LANDMARKS.name}: give a wheel of mediapipe 0.10.9 to 0.10.21, a "
            "pose_landmarker_full.task or a landmark network as .tflite."
        )
    return found


def _limited(data: bytes, name: str) -> bytes:
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"{name} is larger than {MOST_BYTES // 2**20} MiB, too large for BlazePose."
        )
    return data


def _taken_from(path: pathlib.Path, place: pathlib.Path) -> list[str]:
    found = parts_of(path)
    done = _kept(found, place)
    for part in BLAZEPOSE:
        if part.name not in found:
            done.append(f"{path.name} holds no {part.name}")
        elif (digest := _digest(found[part.name])) != part.sha256:
            done.append(f"{part.name} differs from that of {MEDIAPIPE} (sha256 {digest})")
    return done


def _kept(found: dict[str, bytes], place: pathlib.Path) -> list[str]:
    """Write networks and licence; files that differ are moved aside."""
    licence = found.get("LICENSE", b"").decode("utf-8", "replace")
    files = {part.name: found[part.name] for part in BLAZEPOSE if part.name in found}
    for name, data in {**files, "LICENSE.txt": f"{LICENCE}\n{licence}".encode()}.items():
        path = place / name
        if path.is_file() and path.read_bytes() == data:
            continue
        if path.is_file() and name in files:
            move_aside(path, path.suffix)
        write_atomically(path, lambda temporary, data=data: temporary.write_bytes(data))
    return [f"wrote {place / name}" for name in files]


def _downloaded(partial: pathlib.Path) -> pathlib.Path:
    """Download the pinned wheel by pip, which has the user's index and proxy; return its path."""
    by_hand = f"pip download --no-deps {' '.join(WHEEL)} {MEDIAPIPE}"
    otherwise = f"or run `{by_hand}` elsewhere and pass its file: fetch blazepose --from FILE"
    if importlib.util.find_spec("pip") is None:
        raise OSError(f"this Python has no pip: run python -m ensurepip, {otherwise}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *WHEEL]
    command += ["--disable-pip-version-check", "--dest", str(partial), MEDIAPIPE]
    if tuple(map(int, importlib.metadata.version("pip").split(".")[:2])) >= (25, 1):
        command.append("--resume-retries=5")
    partial.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    wheel = next(partial.glob("*.whl"), None)
    if done.returncode or wheel is None:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or [done.stderr]
        raise OSError(f"pip can't get {MEDIAPIPE} ({lines[-1].strip()}): try again, {otherwise}")
    return wheel


def _is_pinned(path: pathlib.Path, part: Part) -> bool:
    return path.is_file() and sha256(path) == part.sha256


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- torchvision ---------------------------------------------------------------------------------


def torchvision(
    name: str,
    place: pathlib.Path,
    given: str | os.PathLike | None = None,
    *,
    address: str = TORCHVISION,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> pathlib.Path:
    """Put one of the `PUBLISHED` files into a folder and return its path.

    Args:
      name: "resnet18", "resnet50" or "vgg16".
      place: the folder. If it already has the intact file, nothing is downloaded.
      given: a local copy of the file to use instead.
      address: URL of the folder to download it from.
      progress: called with the bytes downloaded so far and in total (0 if unknown).

    Raises:
      OSError: the file can't be downloaded or written; a partial download is kept.
      ValueError: the SHA-256 of the content doesn't match the file's name.
    """
    path = place / PUBLISHED[name]
    if given is not None:
        given = pathlib.Path(given).expanduser()
        _check(given, path.name)
        return write_atomically(path, lambda temporary: shutil.copyfile(given, temporary))
    if path.is_file():
        _check(path)
        return path
    partial = path.with_name(f"{path.name}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        _continued(address + path.name, partial, progress)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise OSError(
            f"{address}{path.name} can't be reached ({getattr(error, 'reason', error)}): try again "
            "with an internet connection, or download the file elsewhere and pass it: "
            f"fetch {name} --from FILE"
        ) from error
    try:
        _check(partial)
    except ValueError:
        partial.unlink()
        raise
    return partial.rename(path)


def _continued(address: str, partial: pathlib.Path, progress: Callable[[int, int], object]) -> None:
    """Download the rest of a partial file."""
    there = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
            return
        raise
    with response:
        there = there if response.status == 206 else 0
        total = there + int(response.headers.get("Content-Length", 0))
        with partial.open("ab" if there else "wb") as file:
            while data := response.read(2**20):
                file.write(data)
                there += len(data)
                progress(there, total)
    if there < total:
        raise ConnectionError(f"the connection ended after {there} of {total} bytes")


def _check(path: pathlib.Path, name: str = "") -> None:
    """Raise ValueError if a file's SHA-256 doesn't begin with the digits in its (or this) name."""
    expected = (name or path.name).split(".")[0].split("-")[1]
    if not (digest := sha256(path)).startswith(expected):
        raise ValueError(
            f"{path} has the SHA-256 {digest[:8]}..., expected {expected}...: it is damaged or "
            "a different file. Delete it and fetch it again."
        )


def can_read() -> bool:
    """Return whether the package that reads TensorFlow Lite's files is installed."""
    return importlib.util.find_spec("tflite") is not None
