"""Videos: what is read, whatever the order, the container and the damage."""

import struct
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from media_files import (
    SIZE,
    WHOLE,
    at_variable_rate,
    damaged,
    number_of,
    painted,
    turned,
    write_video,
)

from data_pipelines import media, windows
from data_pipelines.clips import DataError, FrameError, LastUsed, part
from data_pipelines.video import Video


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
    video = Video(path)
    assert len(video) == 300 and video.size == SIZE
    in_order = [video.read(i) for i in range(300)]
    assert [number_of(picture) for picture in in_order] == list(range(300))
    jumps = [299, 0, 298, 150, 149, 148, 151, 90, 299, *rng.integers(0, 300, 60)]
    for i in jumps:
        np.testing.assert_array_equal(video.read(int(i)), in_order[i])
    for i in range(299, 250, -1):
        np.testing.assert_array_equal(video.read(i), in_order[i])


def test_threads_read_the_same_frames(tmp_path):
    video = Video(write_video(tmp_path / "a.mp4", 200))
    order = np.random.default_rng(0).permutation(200)[:50]
    with ThreadPoolExecutor(8) as pool:
        assert [number_of(p) for p in pool.map(video.read, range(200))] == list(range(200))
        assert [number_of(p) for p in pool.map(video.read, map(int, order))] == list(order)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path, degrees):
    half = painted(7)
    half[:, 32:] = 200  # red left, grey right
    path = write_video(tmp_path / "a.mp4", pictures=[half] * 3)
    plain = Video(path).read(1)
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
        frames = windows.SubjectFrames(clip, image_size=32)
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
    monkeypatch.setattr(Video, "_open_ones", LastUsed(2))
    videos = [Video(write_video(tmp_path / f"{name}.mp4")) for name in "abcd"]
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
