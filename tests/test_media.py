import json
import os
import pathlib
import struct
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipelines import media, pictures, pipeline, video
from data_pipelines.clips import DataError, FrameError, LastUsed, part

SIZE = (48, 64)  # height and width of the test's pictures
WHOLE = [-0.5, -0.5, 63.5, 47.5]


def painted(number, size=SIZE):
    """A picture, RGB, whose colour says its number: base 8, red, green, blue."""
    digits = [number % 8, number // 8 % 8, number // 64 % 8]
    return np.full((*size, 3), [32 * digit + 16 for digit in digits], np.uint8)


def number_of(picture):
    """The number of a painted picture, after lossy compression, too."""
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    mean = picture.reshape(-1, 3).mean(0)
    assert np.abs(mean % 32 - 16).max() < 12, f"no painted colour: {mean}"
    return int((mean // 32) @ [1, 8, 64])


def write_video(path, frames=12, kind="mp4v", pictures=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = map(painted, range(frames)) if pictures is None else pictures
    writer = None
    for picture in pictures:
        if writer is None:
            size = picture.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*kind)
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 25, size)
            assert writer.isOpened()
        writer.write(picture[..., ::-1])
    writer.release()
    return path


def write_picture(path, number=0, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(painted(number, size)).save(path, **options)
    return path


def boxed(data, path, change):
    """Rewrite the innermost MP4 box on `path` (a list of names) and all sizes around it."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + size]
        if name == path[0]:
            body = boxed(body, path[1:], change) if path[1:] else change(body)
        out, at = out + struct.pack(">I4s", len(body) + 8, name) + body, at + size
    return out


def turned(path, degrees):
    """Note a clockwise rotation in an MP4 file, as phones do."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    header = [b"moov", b"trak", b"tkhd"]
    path.write_bytes(boxed(path.read_bytes(), header, lambda b: b[:40] + matrix + b[76:]))


def at_variable_rate(path, durations):
    """Give each frame of an MP4 file its own duration, as multiples of the first rate's."""

    def change(body):
        (unit,) = struct.unpack(">I", body[12:16])
        runs = b"".join(struct.pack(">2I", 1, unit * n) for n in durations)
        return body[:4] + struct.pack(">I", len(durations)) + runs

    times = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"]
    # The list of edits holds the old length, beyond which players show nothing.
    path.write_bytes(boxed(path.read_bytes(), times, change).replace(b"edts", b"free"))


def damaged(path, frames):
    """Zero these frames' data in a MJPG AVI file."""
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"00dc" and data[i + 8] == 0xFF]
    for frame in frames:
        start = starts[frame] + 8
        (size,) = struct.unpack("<I", data[start - 4 : start])
        data[start : start + size] = bytes(size)
    path.write_bytes(data)


# Videos


@pytest.mark.parametrize(
    ("name", "kind"), [("a.mp4", "mp4v"), ("b.avi", "MJPG"), ("c.MKV", "FFV1")]
)
def test_clip_holds_the_video(tmp_path, name, kind):
    (clip,) = media.clips(write_video(tmp_path / name, 20, kind))
    assert (clip.name, clip.subject, clip.split) == (name[0], name[0], "test")
    assert clip.num_frames == 20 and clip.joints is None and clip.visible is None
    assert clip.boxes.dtype == np.float32
    np.testing.assert_array_equal(clip.boxes, [WHOLE] * 20)
    assert clip.read(0).shape == (*SIZE, 3)
    assert [number_of(clip.read(i)) for i in range(20)] == list(range(20))
    with pytest.raises(
        IndexError, match="a.mp4 has 20 frames, but no frame 20" if kind == "mp4v" else "20"
    ):
        clip.read(20)


@pytest.mark.parametrize("rate", ["constant", "variable", "no times"])
def test_order_of_reading_does_not_matter(tmp_path, rate):
    rng = np.random.default_rng(0)
    # Noise on top, so that every frame differs from its neighbours in all its bytes.
    pictures = [painted(i) + rng.integers(0, 9, (*SIZE, 3), np.uint8) for i in range(300)]
    path = write_video(tmp_path / "a.mp4", pictures=pictures)
    if rate == "variable":
        at_variable_rate(path, rng.choice([1, 1, 1, 2, 5, 40], 300))
    elif rate == "no times":
        at_variable_rate(path, [0] * 300)
    video = video.Video(path)
    assert len(video) == 300 and video.size == SIZE
    in_order = [video.read(i) for i in range(300)]
    assert [number_of(picture) for picture in in_order] == list(range(300))
    jumps = [299, 0, 298, 150, 149, 148, 151, 90, 299, *rng.integers(0, 300, 60)]
    for i in jumps:
        np.testing.assert_array_equal(video.read(int(i)), in_order[i])
    for i in range(299, 250, -1):
        np.testing.assert_array_equal(video.read(i), in_order[i])


def test_threads_read_the_same_frames(tmp_path):
    video = video.Video(write_video(tmp_path / "a.mp4", 200))
    order = np.random.default_rng(0).permutation(200)[:50]
    with ThreadPoolExecutor(8) as pool:
        assert [number_of(p) for p in pool.map(video.read, range(200))] == list(range(200))
        assert [number_of(p) for p in pool.map(video.read, map(int, order))] == list(order)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path, degrees):
    half = painted(7)
    half[:, 32:] = 200  # red left, grey right
    path = write_video(tmp_path / "a.mp4", pictures=[half] * 3)
    plain = video.Video(path).read(1)
    turned(path, degrees)
    (clip,) = media.clips(path)
    times = -degrees // 90  # numpy turns the other way
    np.testing.assert_array_equal(clip.read(1), np.rot90(plain, times))
    height, width = clip.read(2).shape[:2]
    np.testing.assert_array_equal(clip.boxes[0], [-0.5, -0.5, width - 0.5, height - 0.5])


@pytest.mark.parametrize("announced", [5, 500])
def test_a_wrong_count_in_the_header_is_not_believed(tmp_path, announced):
    path = write_video(tmp_path / "a.avi", 20, "MJPG")
    data = bytearray(path.read_bytes())
    header, stream = data.index(b"avih") + 8, data.index(b"strh") + 8
    for place in (header + 16, stream + 32):
        assert struct.unpack_from("<I", data, place) == (20,)
        struct.pack_into("<I", data, place, announced)
    path.write_bytes(data)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == announced
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (clip,) = media.clips(path)
    assert [number_of(clip.read(i)) for i in range(clip.num_frames)] == list(range(20))
    messages = [str(w.message) for w in caught]
    if announced > 20:
        assert len(messages) == 1
        assert "a.avi ends after 20 frames, its header announces 500" in messages[0]
    else:
        assert not messages


def test_cut_off_video_has_the_frames_that_are_left(tmp_path):
    path = write_video(tmp_path / "a.avi", 100, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(
        UserWarning, match="a.avi ends after .* announces 100: if the file is cut off"
    ):
        (clip,) = media.clips(path)
    assert 5 < clip.num_frames < 95
    assert number_of(clip.read(clip.num_frames - 1)) == clip.num_frames - 1


def test_damaged_frames_keep_their_rows(tmp_path):
    path = write_video(tmp_path / "a.avi", 40, "MJPG")
    bad = [0, 20, 21, 30]
    damaged(path, bad)
    (clip,) = media.clips(path)
    assert clip.num_frames == 40
    for i in (*range(40), *np.random.default_rng(0).permutation(40)):
        if i in bad:
            with pytest.raises(FrameError, match=f"frame {i} of .*a.avi.*damaged there. Copy"):
                clip.read(i)
        else:
            assert number_of(clip.read(i)) == i
    unreadable = pytest.warns(UserWarning, match="4 of 40 frames can't be read")
    with unreadable, ThreadPoolExecutor(4) as pool:
        frames = pipeline.SubjectFrames(clip, image_size=32)
        valid = np.concatenate([chunk.valid for chunk in frames.chunks(8, pool)])
    np.testing.assert_array_equal(np.flatnonzero(~valid), bad)


@pytest.mark.parametrize("change", ["deleted", "another video", "cut off"])
def test_video_that_changes_after_it_was_opened(tmp_path, change):
    path = write_video(tmp_path / "a.avi", 40, "MJPG")
    (clip,) = media.clips(path)
    if change == "deleted":
        path.unlink()
    elif change == "cut off":
        path.write_bytes(path.read_bytes()[:6000])
    else:
        write_video(path, 10, "MJPG")
    with pytest.raises(FrameError, match="frame 39 of .*a.avi can't be decoded.*moved or changed"):
        clip.read(39)
    if change == "cut off":
        assert number_of(clip.read(0)) == 0


def test_few_videos_keep_a_decoder_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(video.Video, "_open_ones", LastUsed(2))
    videos = [video.Video(write_video(tmp_path / f"{name}.mp4")) for name in "abcd"]
    for _ in range(2):
        for video in videos:
            assert number_of(video.read(5)) == 5  # leaves earlier ones for other threads
    assert [video._capture.isOpened() for video in videos] == [False, False, True, True]
    assert not (videos[0]._passed or videos[1]._passed)


def test_memory_stays_flat(tmp_path):
    frames, size = 2000, (120, 160)
    path = write_video(tmp_path / "a.mp4", pictures=(painted(i, size) for i in range(frames)))
    picture_bytes = 3 * size[0] * size[1]
    tracemalloc.start()
    try:
        (clip,) = media.clips(path)
        for i in range(frames):
            assert number_of(clip.read(i)) == i % 512
        for i in np.random.default_rng(0).integers(0, frames, 50):
            clip.read(int(i))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All frames would be 2000 pictures; those held for other threads are at most 32.
    assert peak < 50 * picture_bytes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty .0 bytes.: copy it again"),
        (b"no video at all\n" * 100, "is no video that OpenCV can open.*copy it again, or convert"),
        ("half", "is no video that OpenCV can open, or its end is missing"),
    ],
)
def test_file_that_is_no_video(tmp_path, content, message):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content
    )
    with pytest.raises(DataError, match=f"a.mp4 {message}"):
        media.clips(path)


def test_a_bad_file_among_several_is_left_out_and_named(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    (tmp_path / "b.mp4").touch()
    with pytest.warns(UserWarning, match="left out: .*b.mp4 is empty"):
        (clip,) = media.clips(tmp_path)
    assert clip.name == "a"
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.warns(UserWarning), pytest.raises(DataError, match="none of the 2 inputs"):
        media.clips(tmp_path)


def test_origin_tells_files_boxes_and_frames_apart(tmp_path):
    path = write_video(tmp_path / "a.mp4", 6)
    (whole,) = media.clips(path)
    (same,) = media.clips(path)
    (region,) = media.clips(path, boxes="0,0,20,20")
    some = [part(whole, frames).origin for frames in ("0-2", "3-5")]
    path.write_bytes(path.read_bytes() + b"x")
    (changed,) = media.clips(path)
    assert whole.origin == same.origin == part(whole, "0-5").origin
    assert len({whole.origin, region.origin, changed.origin, *some}) == 5


def test_video_without_frames(tmp_path):
    path = write_video(tmp_path / "a.avi", 3, "MJPG")
    damaged(path, range(3))
    with pytest.raises(DataError, match="a.avi has no frame that can be decoded: copy it again"):
        media.clips(path)
    code = cv2.VideoWriter_fourcc(*"MJPG")
    cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 25, SIZE[::-1]).release()
    assert path.stat().st_size > 0
    with pytest.raises(DataError, match="a.avi has no frame that can be decoded: copy it again"):
        media.clips(path)


# Pictures


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
    windows = pipeline.SubjectFrames(clip, image_size=32).read(range(8))
    assert windows.pictures.shape == (8, 64, 64, 3) and windows.valid.all()


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


# Inputs


def test_folder_of_subjects(tmp_path):
    write_video(tmp_path / "b.mp4", 3)
    write_video(tmp_path / "a10.avi", 2, "MJPG")
    write_picture(tmp_path / "a9" / "1.png")
    write_picture(tmp_path / "empty" / "notes" / "1.png")  # two folders down
    (tmp_path / "notes.txt").write_text("")
    found = media.clips(tmp_path)
    assert [(c.name, c.num_frames) for c in found] == [("a9", 1), ("a10", 2), ("b", 3)]
    found = media.clips([tmp_path / "b.mp4", str(tmp_path / "a*"), tmp_path])
    assert [c.name for c in found] == ["b", "a9", "a10"]  # each once, in the order of the inputs


def test_names_are_unique_and_fit_for_files(tmp_path):
    paths = [
        "one/clip.mp4",
        "two/Clip.mp4",
        "two/clip.avi",
        "x/two/clip.avi",
        "what: is*this?.mp4",
        " .mp4",
        "Åse läuft 跑步.mp4",
    ]
    media_names = media._names([tmp_path / path for path in paths])
    assert media_names == [
        "one_clip.mp4",
        "two_Clip.mp4",
        "two_clip.avi",
        "two_clip.avi-2",
        "what_ is_this_",
        "subject",
        "Åse läuft 跑步",
    ]
    (long,) = media._names([tmp_path / ("跑" * 80 + ".mp4")])
    assert set(long) == {"跑"} and len(long.encode()) <= 200


@pytest.mark.parametrize("name", ["ein Läufer [1]", "跑步 *", "100% 50%d", "a:b", "-x"])
def test_unusual_paths(tmp_path, name, monkeypatch):
    write_video(tmp_path / name / f"{name}.mp4", 3)
    write_picture(tmp_path / name / "pictures" / f"{name}.png", 5)
    monkeypatch.chdir(tmp_path)
    for start in (name, tmp_path / name):
        pictures, video = sorted(media.clips(start), key=lambda clip: clip.num_frames)
        assert number_of(pictures.read(0)) == 5 and number_of(video.read(2)) == 2
        assert os.path.basename(video.name) == video.name
    monkeypatch.chdir(name)
    assert [clip.num_frames for clip in media.clips(["*.mp4", f"{name}.mp4"])] == [3]
    monkeypatch.chdir("/")
    assert number_of(video.read(1)) == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no input: name a video, a folder"),
        ("nowhere.mp4", "nowhere.mp4: no such file or folder, and no pattern"),
        ("*.mov", r"\*.mov: no such file or folder, and no pattern"),
        ("notes.txt", "notes.txt is no video by its name: convert it, or rename"),
        ("both/1.png", "1.png is one picture: name its folder"),
        ("both", r"both holds pictures \(1.png\) beside other subjects \(a.mp4\): move"),
        ("empty", "empty holds no video .* no picture .* and no folder of pictures"),
    ],
)
def test_unusable_input_names_it_and_the_remedy(tmp_path, monkeypatch, inputs, message):
    write_video(tmp_path / "both" / "a.mp4", 2)
    write_picture(tmp_path / "both" / "1.png")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("notes")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        media.clips(inputs)


def test_name_that_is_not_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/run\xff.mp4"
    try:
        pathlib.Path(os.fsdecode(path)).write_bytes(write_video(tmp_path / "a.mp4").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match="run.*mp4: the name is not valid UTF-8: rename the file"):
        media.clips(os.fsdecode(path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_without_permission(tmp_path):
    video = write_video(tmp_path / "a.mp4")
    pictures = [write_picture(tmp_path / "me" / f"{i}.png", i) for i in range(2)]
    video.chmod(0)
    pictures[1].chmod(0)
    with pytest.raises(DataError, match="a.mp4 can't be read: Permission denied"):
        media.clips(video)
    (clip,) = media.clips(tmp_path / "me")
    with pytest.raises(FrameError, match="frame 1: .*1.png can't be read: Permission denied"):
        clip.read(1)
    (tmp_path / "me").chmod(0)
    try:
        with pytest.raises(DataError, match="me can't be listed: Permission denied"):
            media.clips(tmp_path / "me")
    finally:
        (tmp_path / "me").chmod(0o700)


# Boxes


@pytest.fixture
def two(tmp_path):
    """A folder with the subjects "a", a video of 11 frames, and "b", two pictures."""
    folder = tmp_path / "media"
    write_video(folder / "a.mp4", 11)
    write_picture(folder / "b" / "1.png")
    write_picture(folder / "b" / "2.png", size=(20, 20))
    return folder


def test_fixed_region(two):
    for clip in media.clips(two, boxes="2, -4.5,10,12"):
        np.testing.assert_array_equal(clip.boxes, [[2, -4.5, 10, 12]] * clip.num_frames)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("10,2,10,12", r'boxes "10,2,10,12": the box \[10.0, 2.0, 10.0, 12.0\] has no area'),
        ("nan,2,10,12", 'boxes "nan,2,10,12": .* has no area'),
        ("0,0,99999,99999", "far larger than frame . of ., which is"),
        ("0.2,0.1,0.6,0.9", "less than 3 pixels wide or high in frame . of ., which is"),
        ("30,2,60,12", "outside frame 1 of b, which is 20 x 20 pixels: give pixels of the upright"),
        (
            "1,2,3",
            'boxes is "1,2,3": expected "whole", a region "x1,y1,x2,y2" or',
        ),
        ("everybody", 'boxes is "everybody": expected "whole"'),
        ("boxes.txt", 'boxes is "boxes.txt": expected "whole".*path of a file'),
        ("nowhere.csv", "nowhere.csv can't be read: No such file"),
    ],
)
def test_unusable_boxes(two, boxes, message):
    with pytest.raises(DataError, match=message):
        media.clips(two, boxes=boxes)


def rows(*lines, header="subject,frame,x1,y1,x2,y2"):
    return "\n".join([header, *lines]) + "\n"


def entries(text):
    """The same boxes as JSON."""
    header, *lines = (line.split(",") for line in text.split())
    return json.dumps([dict(zip(header, line, strict=True)) for line in lines])


@pytest.mark.parametrize("suffix", [".csv", ".JSON"])
def test_file_of_boxes(two, tmp_path, suffix):
    text = rows("a,6,4,0,14,20", "a,2,0,0,10,20", "b,0,-5,-5,5.5,5", "a,8,4,8,14,28")
    path = tmp_path / f"boxes{suffix}"
    path.write_text(text if suffix == ".csv" else entries(text), "utf-8-sig")
    if suffix != ".csv":
        path.write_text(entries(text))
    a, b = media.clips(two, boxes=path)
    assert (a.name, b.name) == ("a", "b")
    np.testing.assert_array_equal(b.boxes, [[-5, -5, 5.5, 5]] * 2)
    x = [0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4]
    y = [0, 0, 0, 0, 0, 0, 0, 4, 8, 8, 8]
    np.testing.assert_array_equal(a.boxes, np.transpose([x, y, np.add(x, 10), np.add(y, 20)]))


def test_subject_and_further_columns_are_optional(two, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(rows("0.9, 3, 1, 2, 4, 6", header="score, frame, x1, y1, x2, y2"))
    (clip,) = media.clips(two / "a.mp4", boxes=path)
    np.testing.assert_array_equal(clip.boxes, [[1, 2, 4, 6]] * 11)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,11,0,0,9,9"], "line 2: a has no frame 11: its 11 frames count from 0"),
        (["a,0,0,0,9,9", "a,-1,0,0,9,9"], "line 3: a has no frame -1"),
        (["a,1.5,0,0,9,9"], "line 2: frame is 1.5, expected a whole number"),
        (["a,0,0,0,9,nan"], "line 2: the box .* has no area: expected finite"),
        (["a,0,9,0,0,9"], r"line 2: the box \[9.0, 0.0, 0.0, 9.0\] has no area"),
        (["a,0,9,0,9,9"], "line 2: the box .* has no area"),
        (
            ["a,0,0,,9,9"],
            "line 2: expected five numbers, got frame '0', x1 '0', y1 '', x2 '9', y2 '9'.",
        ),
        (["a,0,0"], "line 2: expected five numbers, got frame '0', x1 '0', y1 None"),
        (["a,0,64,0,80,9"], "line 2: .* outside frame 0 of a, which is 64 x 48 pixels"),
        (["a,0,0,0,9,9", "b,1,21,0,30,9"], "line 3: .* outside frame 1 of b.* 20 x 20"),
        (["a,0,0,0,9,9", "c,0,0,0,9,9"], "line 3: no subject c: expected a, b"),
        ([",0,0,0,9,9"], "line 2 names no subject, but there are 2: .*with a, b"),
        (["a,1,0,0,9,9", "a,1,0,0,9,9"], "line 3: a second box for frame 1 of a"),
        (["a,1,0,0,9,9"], "holds no box of b: add one row"),
        ([], "holds no box: expected columns frame"),
    ],
)
def test_unusable_row_names_file_and_row(two, tmp_path, lines, message):
    path = tmp_path / "boxes.csv"
    path.write_text(rows(*lines))
    with pytest.raises(DataError, match=f"boxes.csv,? {message}"):
        media.clips(two, boxes=path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", b"frame;x1;y1;x2;y2\n0;1;2;3;4\n", "no column frame, x1.*separated by commas"),
        ("b.csv", b"", "no column frame"),
        ("b.csv", b"\xff\xfe\x00", "b.csv is no text in UTF-8"),
        (
            "b.csv",
            b'subject,frame,x1,y1,x2,y2,note\na,0,0,0,9,9,"oops\na,1,0,0,9,9,\n',
            "b.csv: unexpected end of data. Is there a quote",
        ),
        ("b.json", b"[", "b.json is no JSON"),
        ("b.json", b'{"frame": 0}', "b.json: expected a list of objects"),
        (
            "b.json",
            b'[{"frame": 0, "x1": [1]}]',
            r"entry 1: expected five numbers, got frame 0, x1 \[1\]",
        ),
        ("b.json", b"[]", "b.json holds no box"),
    ],
)
def test_unusable_file_of_boxes(two, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        media.clips(two, boxes=tmp_path / name)
