"""Picture files of every kind, whole and damaged."""

import warnings

import cv2
import numpy as np
import pytest
from media_files import SIZE, WHOLE, number_of, painted, write_picture
from PIL import Image

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
@pytest.mark.parametrize("damage", ["empty", "text", "cut in the header", "cut off", "missing"])
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
        if damage == "missing":
            path.unlink()
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
