"""Decoding of image files to uint8 RGB [H, W, 3]; no other module decodes them.

Users' images (`read`) are turned upright. Those of data sets (`read_jpeg`) stay as stored, because
their labels refer to the stored pixels.
"""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from data_pipelines.clips import FrameError

HEIF = (".heic", ".heif")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".webp", ".tif")
SUFFIXES += (".tiff", ".gif", ".avif", ".ppm", ".pgm", *HEIF)
DEPTHS = (8, 10, 12, 14, 16)  # bits of a colour that cameras use of 16 stored bits
SMALLER = 1  # bit of TIFF's NewSubfileType that marks a smaller copy of another page
# The transformation for each EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Page(NamedTuple):
    """Properties of one page of a file.

    Attributes:
      number: number of the page, counted from 0.
      size: height and width of the upright picture.
      bits: bits per colour that are really used in an image with 16 bits; 8 for other images.
      lasts: seconds for which it is shown in an animation (GIF, WebP, PNG); 0 in other images.
    """

    number: int
    size: tuple[int, int]
    bits: int
    lasts: float = 0.0


def look(path: str | os.PathLike) -> list[Page]:
    """List the pages of a file that are pictures in their own right; most files have one.

    Images with 16 bits are decoded to see which bits they use. Depth and gain maps of phones, and
    small copies in TIFF files, are not listed.

    Raises:
      FrameError: the file is missing, damaged or not an image.
    """
    try:
        with _open(path) as picture:
            found = []
            for number in range(_count(picture)):
                picture.seek(number)
                if _is_copy(picture) or _is_stand_in(picture):
                    continue
                deep = _stored_bits(picture, path) > 8
                bits = _used_bits(_deep(picture, path), picture) if deep else 8
                found.append(Page(number, _upright_size(picture), bits, _lasts(picture)))
            return found
    except Exception as error:  # the kind of error depends on where the damage is
        raise _unreadable(path, error) from error


def read(path: str | os.PathLike, page: int = 0, bits: int | None = None) -> np.ndarray:
    """Decode one image, turned upright by its EXIF orientation.

    Transparent images are laid over black.

    Args:
      path: the file.
      page: number of the page in a file with several, from 0 on.
      bits: bits per colour that an image with 16 bits uses; the upper 8 of these are kept. None to
        find out from this image. All images of one video need the same number.

    Raises:
      FrameError: the file is missing, cut off or not an image.
    """
    try:
        with _open(path) as picture:
            if page:
                picture.seek(page)
            if _stored_bits(picture, path) > 8:
                picture = _shallow(picture, path, bits)
            else:
                ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode == "F":
                raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
            if picture.has_transparency_data:
                black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
                picture = Image.alpha_composite(black, picture.convert("RGBA"))
            return np.array(picture.convert("RGB"))
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike, error: Exception) -> FrameError:
    if isinstance(error, FrameError):
        return error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return FrameError(f"{path} can't be read: {reason}. Copy the picture again or move it away.")


def _open(path: str | os.PathLike) -> Image.Image:
    """Open a file with Pillow, including those of iPhones."""
    with open(path, "rb") as file:
        head = file.read(12)
    # Decided by content, because a HEIC picture may have been sent as .jpg.
    if head[4:8] == b"ftyp" and head[8:10] in (b"he", b"mi", b"ms") and not _knows_heif():
        raise FrameError(
            f"{path} can't be read: it is a HEIC picture, which needs another package: "
            "pip install '.[heic]'"
        )
    picture = Image.open(path)
    # Without a file name, Pillow doesn't map the file into memory. Mapping garbles grey TIFF
    # pictures that have to be turned (Pillow 13.0).
    picture.filename = ""
    return picture


@functools.cache
def _knows_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _count(picture: Image.Image) -> int:
    """Return the number of pages; further images in a phone's JPEG file are not counted."""
    return 1 if picture.format in ("JPEG", "MPO") else getattr(picture, "n_frames", 1)


def _lasts(picture: Image.Image) -> float:
    if not getattr(picture, "is_animated", False):
        return 0.0
    if picture.format in ("WEBP", "AVIF"):
        picture.load()  # the duration is known only after loading
    return float(picture.info.get("duration") or 0.0) / 1000


def _is_copy(picture: Any) -> bool:
    return picture.format == "TIFF" and bool(picture.tag_v2.get(254, 0) & SMALLER)


def _is_stand_in(picture: Any) -> bool:
    """Return whether this page of an animated PNG is only for readers without animation support."""
    return bool(getattr(picture, "default_image", False)) and picture.tell() == 0


def _orientation(picture: Image.Image) -> int:
    # Not picture.getexif(), which decodes the whole PNG.
    return Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)


def is_turned(path: str | os.PathLike) -> bool:
    """Return whether EXIF's orientation swaps height and width of a readable image."""
    with _open(path) as picture:
        return _orientation(picture) >= 5


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return the upright height and width from the header."""
    width, height = picture.size
    # For TIFF, Pillow already returns the upright size.
    turned = picture.format != "TIFF" and _orientation(picture) >= 5
    return (width, height) if turned else (height, width)


# ---------------------------------------------------------------------------------------------
# Pictures with more than 8 bits a colour


def _stored_bits(picture: Any, path: str | os.PathLike) -> int:
    """Return the bits of a colour in the file."""
    if picture.format == "PNG":  # Pillow opens 16-bit colours as if they had 8 bits
        with open(path, "rb") as file:
            return file.read(25)[24]  # at a fixed place in the first chunk
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(258, (1,)))
    return 16 if picture.mode.startswith("I") else 8


def _deep(picture: Any, path: str | os.PathLike) -> np.ndarray:
    """Return the pixels with all stored bits: uint16 [H, W], or [H, W, 3 or 4] RGB(A)."""
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        picture.load()
        pixels = np.clip(np.asarray(picture), 0, 0xFFFF).astype(np.uint16)
        white_is_0 = picture.format == "TIFF" and picture.tag_v2.get(262) == 0
        return 0xFFFF - pixels if white_is_0 else pixels
    data, page = np.fromfile(path, np.uint8), picture.tell()
    if page:
        found = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page, page + 1))[1]
        pixels = found[0] if found else None
    else:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("its colours can't be decoded; save it with 8 bits")
    if pixels.ndim == 2:
        return pixels
    return pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]


def _used_bits(pixels: np.ndarray, picture: Any) -> int:
    """Return the bits that the brightest pixel needs, one of `DEPTHS`, at most the file's own."""
    declared = max(picture.tag_v2.get(258, (16,))) if picture.format == "TIFF" else 16
    if declared < 16:
        return declared
    needed = int(pixels[..., :3].max() if pixels.ndim == 3 else pixels.max()).bit_length()
    return next(bits for bits in DEPTHS if bits >= needed)


def _shallow(picture: Any, path: str | os.PathLike, bits: int | None) -> Image.Image:
    """Convert an image with more bits to an upright one of 8 bits."""
    # TIFF decoders have already turned the image.
    orientation = 1 if picture.format == "TIFF" else _orientation(picture)
    pixels = _deep(picture, path)
    bits = _used_bits(pixels, picture) if bits is None else bits
    pixels = np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)
    shallow = Image.fromarray(pixels)
    return shallow.transpose(TURNS[orientation]) if orientation in TURNS else shallow


# ---------------------------------------------------------------------------------------------
# Pictures of data sets


def read_jpeg(path: str | os.PathLike) -> np.ndarray:
    """Decode one JPEG file of a data set, ignoring EXIF's orientation.

    Raises:
      FrameError: the file is missing, cut off or not a JPEG.
    """
    path = Path(path)
    remedy = "Unpack this video's frames again."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path} can't be read: {error.strerror}. {remedy}") from error
    # Some versions of OpenCV silently fill the missing rows of a truncated file with grey. Neither
    # marker can occur in picture data, so an end marker must follow the start of the last scan.
    complete = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    picture = decode(data) if complete else None
    if picture is None:
        raise FrameError(
            f"{path} is cut off or not a JPEG picture: {len(data)} bytes can't be decoded. {remedy}"
        )
    return picture


def decode(data: bytes) -> np.ndarray | None:
    """Decode the bytes of an image, ignoring EXIF's orientation; None if they can't be decoded.

    Returns uint8 RGB [H, W, 3].
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # raised if the header claims a picture that is too large
        return None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)
