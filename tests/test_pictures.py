"""Image files of every kind, intact and damaged."""

import io
import pathlib
import struct
import subprocess
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from media_files import SIZE, WHOLE, number_of, painted, write_picture
from PIL import Image, ImageOps, TiffImagePlugin, features

from data_pipelines import media, pictures, windows
from data_pipelines.clips import DataError, FrameError


def test_natural_order_and_mixed_sizes(tmp_path):
    names = ["frame1.png", "Frame2.PNG", "frame10.jpeg", "frame100.webp", "frame101.bmp"]
    for number, name in enumerate([*names, "frame102.tif", "frame103.tiff", "frame104.JPG"]):
        write_picture(tmp_path / "me" / name, number, (48 + number, 64))
    (tmp_path / "me" / ".hidden.png").write_bytes(b"")
    (tmp_path / "me" / "notes.txt").write_text("not a picture")
    (clip,) = media.clips(tmp_path / "me")
    assert (clip.name, clip.split, clip.num_frames) == ("me", "test", 8)
    assert [number_of(clip.read(i)) for i in range(8)] == list(range(8))
    assert [clip.read(i).shape for i in range(8)] == [(48 + i, 64, 3) for i in range(8)]
    np.testing.assert_array_equal(clip.boxes, [[-0.5, -0.5, 63.5, 47.5 + i] for i in range(8)])
    cut = windows.SubjectFrames(clip, image_size=32).read(range(8))
    assert cut.pictures.shape == (8, 64, 64, 3) and cut.valid.all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["grey", "grey16", "colour16", "alpha", "alpha16"])
def test_kinds_of_pixels(tmp_path, suffix, kind):
    rng = np.random.default_rng(0)
    deep = kind.endswith("16")
    shape = {"grey": SIZE, "colour": (*SIZE, 3), "alpha": (*SIZE, 4)}[kind.removesuffix("16")]
    pixels = rng.integers(0, 65536 if deep else 256, shape).astype("uint16" if deep else "uint8")
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), pixels)
    expected = pixels >> 8 if deep else pixels
    if len(shape) == 2:
        expected = np.dstack([expected] * 3)
    elif kind.startswith("alpha"):
        expected = expected[..., :3] * (expected[..., 3:] / 255)
    expected = expected if len(shape) == 2 else expected[..., ::-1]  # cv2 writes BGR
    found = pictures.read(path)
    assert found.dtype == np.uint8
    # 1 for the rounding where alpha is applied.
    assert np.abs(found - expected.astype(float)).max() <= kind.startswith("alpha")


def test_palettes_and_two_colours(tmp_path):
    grey = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (4, 4)))
    for name, picture in {
        "one": grey.convert("1"),
        "palette": grey.convert("P"),
        "cmyk": grey.convert("CMYK"),
    }.items():
        path = tmp_path / (f"{name}.tif")
        picture.save(path)
        np.testing.assert_array_equal(pictures.read(path), np.array(grey.convert("RGB")))


def test_floating_point_pictures_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), np.ones(SIZE, np.float32))
    with pytest.raises(FrameError, match="a.tif can't be read: .*floating-point.* 8 or 16 bits"):
        pictures.read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, name, orientation):
    upright = painted(0, (32, 48))
    upright[:16] += 32  # brighter above,
    upright[:, :24] += 64  # and left
    stored = upright[:, ::-1] if orientation in (2, 4, 5, 7) else upright
    stored = np.rot90(stored, {3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}.get(orientation, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif, quality=95)
    (clip,) = media.clips(tmp_path)
    found = clip.read(0)
    assert found.shape == upright.shape
    assert np.abs(found[4:-4:23, 4:-4:39].astype(int) - upright[4:-4:23, 4:-4:39]).max() <= 6
    np.testing.assert_array_equal(clip.boxes, [[-0.5, -0.5, 47.5, 31.5]])


@pytest.mark.parametrize("name", ["b2.jpg", "b2.png", "b2.bmp", "b2.webp", "b2.tif"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut in the header", "cut off"])
def test_unreadable_picture_names_file_and_index(tmp_path, name, damage):
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    folder = tmp_path / "me"
    write_picture(folder / "b1.png", 1)
    write_picture(folder / "b3.png", 3)
    path = folder / name
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    cut = {"empty": 0, "text": 0, "cut in the header": 20, "cut off": len(whole) * 9 // 10}
    path.write_bytes(b"text" if damage == "text" else whole[: cut.get(damage)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about the damage
        (clip,) = media.clips(folder)
        with pytest.raises(
            FrameError, match=f"frame 1: .*me.{name} can't be read: .*Copy the pict"
        ):
            clip.read(1)
    np.testing.assert_array_equal(clip.boxes[1], WHOLE)
    assert [number_of(clip.read(i)) for i in (0, 2)] == [1, 3]


def test_folder_without_a_readable_picture(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of the 3 pictures in .* can be read. .*0.png"):
        media.clips(tmp_path)


# What cameras store in 16 bits


def write_deep(path, pixels):
    assert pixels.dtype == np.uint16 and cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_pictures_are_scaled_by_the_bits_that_they_use(tmp_path, suffix, channels, bits):
    rng = np.random.default_rng(0)
    shape = SIZE if channels == 1 else (*SIZE, channels)
    pixels = rng.integers(0, 1 << bits, shape).astype(np.uint16)
    pixels.flat[0] = (1 << bits) - 1
    if channels == 4:
        pixels[..., 3] = (1 << bits) - 1  # opaque
    path = write_deep(tmp_path / f"a{suffix}", pixels)
    expected = (pixels >> (bits - 8)).astype(int)
    expected = np.dstack([expected] * 3) if channels == 1 else expected[..., 2::-1]
    np.testing.assert_array_equal(pictures.read(path), expected)
    (page,) = pictures.look(path)
    assert page.bits == bits and page.size == SIZE


def test_all_pictures_of_a_folder_are_scaled_alike(tmp_path):
    """A dark one doesn't become as bright as the others."""
    for number, most in enumerate((4000, 700, 100)):
        pixels = np.linspace(0, most, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16)
        write_deep(tmp_path / f"{number}.png", pixels)
    (clip,) = media.clips(tmp_path)
    assert [int(clip.read(i).max()) for i in range(3)] == [250, 43, 6]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_pictures_come_upright(tmp_path, orientation, channels):
    rng = np.random.default_rng(0)
    shape = (20, 30) if channels == 1 else (20, 30, 3)
    pixels = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    path = write_deep(tmp_path / "a.png", pixels)
    plain = pictures.read(path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = path.read_bytes()
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    noted = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:33] + noted + data[33:])  # behind the header
    expected = ImageOps.exif_transpose(with_exif(Image.fromarray(plain), exif))
    np.testing.assert_array_equal(pictures.read(path), np.asarray(expected))
    assert pictures.look(path)[0].size == np.asarray(expected).shape[:2]


def with_exif(picture, exif):
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    return Image.open(file)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey", "grey16", "colour", "colour16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_pictures_come_upright_once(tmp_path, orientation, kind, compression):
    """Their decoders turn them, but Pillow garbles grey ones that it maps into memory."""
    rng = np.random.default_rng(0)
    colour, deep = kind.startswith("colour"), kind.endswith("16")
    pixels = rng.integers(0, 256, (20, 30, 3) if colour else (20, 30)).astype(np.uint8)
    path = tmp_path / "a.tif"
    stored = pixels.astype(np.uint16) * 257 if deep else pixels
    if colour and deep:
        if compression:
            pytest.skip("OpenCV writes them in one way")
        write_deep(path, stored)
        path.write_bytes(with_tag(path.read_bytes(), 274, orientation))
        stored = pixels[..., ::-1]
    else:
        Image.fromarray(stored).save(path, tiffinfo={274: orientation}, compression=compression)
        stored = pixels
    stored = stored if colour else np.dstack([stored] * 3)
    turn = pictures.TURNS.get(orientation)
    expected = Image.fromarray(stored)
    expected = np.asarray(expected if turn is None else expected.transpose(turn))
    np.testing.assert_array_equal(pictures.read(path), expected)
    assert pictures.look(path)[0].size == expected.shape[:2]


def with_tag(data, number, value):
    """A little-endian TIFF file with a tag in its first directory set, or added to it."""
    assert data[:4] == b"II*\0"
    (place,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[place : place + 2])
    rows = [data[place + 2 + 12 * i : place + 14 + 12 * i] for i in range(count)]
    rows = [row for row in rows if struct.unpack("<H", row[:2])[0] != number]
    rows.append(struct.pack("<HHIHH", number, 3, 1, value, 0))
    rows.sort(key=lambda row: struct.unpack("<H", row[:2])[0])
    table = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + table


def test_deep_tiff_pictures_whose_white_is_0(tmp_path):
    pixels = np.linspace(0, 65535, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(with_tag(data, 262, 0))
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.tif")[..., 0], 255 - (pixels >> 8))


# Files of several pictures


@pytest.mark.parametrize("name", ["stack.tif", "moving.gif", "moving.webp", "moving.png"])
def test_every_page_of_a_file_is_a_frame(tmp_path, name):
    pages = [Image.fromarray(painted(i)) for i in (1, 4, 2)]
    exact = {"lossless": True} if name.endswith("webp") else {}
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], **exact)
    write_picture(tmp_path / "z.png", 7)
    (clip,) = media.clips(tmp_path)
    assert [number_of(clip.read(i)) for i in (0, 1, 2, 3)] == [1, 4, 2, 7]
    assert number_of(clip.read(1)) == 4
    assert clip.frame_names == (f"{name}#1", f"{name}#2", f"{name}#3", "z.png")
    (alone,) = media.clips(tmp_path / name)  # one file is a subject if it holds several
    assert alone.num_frames == 3 and alone.name == name.partition(".")[0]


def test_the_picture_that_stands_in_for_an_animation_is_no_frame(tmp_path):
    first, *rest = (Image.fromarray(painted(i)) for i in (5, 1, 4, 2))
    more = {"append_images": rest, "duration": [40, 60, 40], "default_image": True}
    first.save(tmp_path / "a.png", save_all=True, **more)
    (clip,) = media.clips(tmp_path / "a.png")
    assert [number_of(clip.read(i)) for i in range(clip.num_frames)] == [1, 4, 2]
    np.testing.assert_allclose(clip.times, [0.0, 0.04, 0.10])


def test_deep_pages_are_read_by_their_number(tmp_path):
    pages = [np.full(SIZE, 1000 * i + 95, np.uint16) for i in range(1, 4)]
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), pages)
    colours = [np.dstack([page, page, page]) for page in pages]
    assert cv2.imwritemulti(str(tmp_path / "b.tif"), colours)
    for name in ("a.tif", "b.tif"):
        (clip,) = media.clips(tmp_path / name)
        assert [clip.read(i).max() for i in range(3)] == [1095 >> 4, 2095 >> 4, 3095 >> 4]


def test_what_phones_store_beside_a_picture_is_no_frame(tmp_path):
    """Depth and gain maps are further pages of a JPEG file (MPO); small copies, of a TIFF."""
    first, second = Image.fromarray(painted(3)), Image.fromarray(painted(5, (24, 32)))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    small = TiffImagePlugin.ImageFileDirectory_v2()
    small[254] = 1
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, new=True) as writer:
        first.save(writer, "TIFF")
        writer.newFrame()
        second.save(writer, "TIFF", tiffinfo=small)
    (tmp_path / "b.tif").write_bytes(file.getvalue())
    (clip,) = media.clips(tmp_path)
    assert clip.frame_names == ("a.jpg", "b.tif")
    assert [number_of(clip.read(i)) for i in range(2)] == [3, 3]


# HEIC and AVIF


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "sent.jpg"])
def test_heic_is_read_with_its_package(tmp_path, name):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install '.[heic]'")
    upright = painted(7)
    upright[:, :32] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stored = np.ascontiguousarray(np.rot90(upright))
    heif = pillow_heif.from_pillow(Image.fromarray(stored))
    heif.save(str(tmp_path / name), quality=95, exif=exif.tobytes())
    (clip,) = media.clips(tmp_path)
    picture = clip.read(0)
    assert picture.shape == upright.shape and clip.sizes.tolist() == [[*SIZE]]
    assert np.abs(picture[5:-5, 5:27].astype(int) - 200).max() < 12
    assert number_of(picture[:, 36:60]) == 7


def test_heic_without_its_package_is_one_plain_line(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install '.[heic]'")
    pillow_heif.from_pillow(Image.fromarray(painted(1))).save(str(tmp_path / "a.heic"))
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from data_pipelines import clips, media\n"
        "try: media.clips(sys.argv[1])\n"
        "except clips.DataError as error: print(error)"
    )
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip()
    assert "a.heic" in said and said.endswith("pip install '.[heic]'") and "\n" not in said


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read(tmp_path):
    Image.fromarray(painted(5)).save(tmp_path / "a.avif", quality=95)
    (clip,) = media.clips(tmp_path)
    assert number_of(clip.read(0)) == 5


# Damage


def test_a_header_that_claims_too_much_takes_no_memory(tmp_path):
    """A picture of 60,000 x 60,000 pixels, as PNG and as JPEG, with 3 GB of address space."""
    for name, at in (("1.png", 16), ("2.jpg", None), ("3.bmp", 18)):
        data = bytearray(write_picture(tmp_path / name).read_bytes())
        if name == "2.jpg":
            struct.pack_into(">2H", data, data.index(b"\xff\xc0") + 5, 60_000, 60_000)
        elif name == "1.png":
            struct.pack_into(">2I", data, at, 60_000, 60_000)
            struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
        else:
            struct.pack_into("<2i", data, at, 60_000, 60_000)
        (tmp_path / name).write_bytes(data)
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from data_pipelines import pictures
from data_pipelines.clips import FrameError
for path in sys.argv[1:]:
    for read in (pictures.look, pictures.read, pictures.read_jpeg):
        try:
            read(path)
        except FrameError as error:
            print("FrameError", error)
"""
    root = pathlib.Path(__file__).parents[1]
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 6 and "MemoryError" not in done.stdout


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "deep.png", "a.tif", "a.webp", "a.gif"])
def test_mutated_pictures_end_in_pixels_or_in_an_error_of_ours(tmp_path, name):
    rng, path = np.random.default_rng(0), tmp_path / name
    noise = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    if name == "deep.png":
        write_deep(path, noise.astype(np.uint16) * 257)
    else:
        Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            start, length = int(rng.integers(len(data))), int(rng.integers(1, 60))
            data[start : start + length] = rng.bytes(int(rng.integers(length + 1)))
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about the damage
            for read in (pictures.look, pictures.read):
                try:
                    read(path)
                except FrameError as error:
                    assert name in str(error)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png", "moving.avif"])
def test_an_animation_has_the_times_of_its_frames(tmp_path, name):
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    lasts = [40, 60, 40, 200, 40]
    first, *rest = (Image.new("RGB", (16, 12), (40 * i, 90, 200)) for i in range(5))
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=lasts)
    (clip,) = media.clips(tmp_path / name)
    np.testing.assert_allclose(clip.times, [0.0, 0.04, 0.10, 0.14, 0.34])
    assert clip.frames_per_second == pytest.approx(4 / 0.34)
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=0)
    (clip,) = media.clips(tmp_path / name)
    assert clip.times is None or name.endswith(("gif", "avif"))  # whose readers know no 0
