"""Videos: frames are read right in any order, from any container and despite damage."""

import http.server
import io
import os
import pathlib
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from media_files import (
    SIZE,
    WHOLE,
    at_variable_rate,
    boxed,
    damaged,
    encode,
    noisy,
    number_of,
    painted,
    turned,
    write_video,
)
from PIL import Image

from data_pipelines import media, windows
from data_pipelines.clips import DataError, FrameError, LastUsed, part
from data_pipelines.video import Video, camera, pipe_pictures


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
    assert not caught  # the stream ends cleanly


def test_cut_off_video_has_the_frames_that_are_left(tmp_path):
    path = write_video(tmp_path / "a.avi", 100, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="a.avi ends after .* frames .*: if the file is cut off"):
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
    for index in (39, 0):
        # Unlike a FrameError, it ends the subject, which is then not taken for done.
        with pytest.raises(DataError, match="a.avi was moved, changed or lost .* command again"):
            clip.read(index)


def test_video_that_is_lost_while_its_frames_are_decoded(tmp_path):
    """Its decoder finds no more frames, as at a damaged place."""
    large = np.random.default_rng(0).integers(0, 256, (10, 240, 320, 3), np.uint8)
    path = write_video(tmp_path / "a.avi", kind="MJPG", pictures=large)
    video = Video(path)
    video.read(0)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match="a.avi was moved, changed or lost"):
        for index in range(1, 10):
            video.read(index)


def test_few_videos_keep_a_decoder_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(Video, "_open_ones", LastUsed(2))
    videos = [Video(write_video(tmp_path / f"{name}.mp4")) for name in "abcd"]
    for _ in range(2):
        for video in videos:
            assert number_of(video.read(5)) == 5  # leaves earlier ones for other threads
    assert [video._container is not None for video in videos] == [False, False, True, True]
    assert not (videos[0]._held or videos[1]._held)


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
        (
            b"no video at all\n" * 100,
            "is not a video that FFmpeg can open.*copy it again, or convert",
        ),
        ("half", "is not a video that FFmpeg can open, or its end is missing"),
    ],
)
def test_file_that_is_no_video(tmp_path, content, message):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content
    )
    with pytest.raises(DataError, match=f"a.mp4 {message}"):
        media.clips(path)


def test_origin_tells_files_boxes_and_frames_apart(tmp_path):
    path = write_video(tmp_path / "a.mp4", 6)
    (whole,) = media.clips(path)
    (same,) = media.clips(path)
    (region,) = media.clips(path, boxes="0,0,20,20")
    some = [part(whole, frames).fingerprint for frames in ("0-2", "3-5")]
    path.write_bytes(path.read_bytes() + b"x")
    (changed,) = media.clips(path)
    assert whole.fingerprint == same.fingerprint == part(whole, "0-5").fingerprint
    assert len({whole.fingerprint, region.fingerprint, changed.fingerprint, *some}) == 5


@pytest.mark.parametrize("kind", ["bmp", "ppm", "avi"])
def test_a_change_in_the_middle_of_uncompressed_files_is_seen(tmp_path, kind):
    """They all have one size, and the same background at both ends."""
    found = []
    for x in (20, 40):
        picture = np.full((240, 320, 3), (90, 120, 100), np.uint8)
        picture[100:150, x : x + 60] = 0  # the person
        folder = tmp_path / str(x)
        path = folder / f"a.{kind}"
        if kind == "avi":
            encode(path, [picture] * 3, codec="rawvideo", pix="bgr24")
        else:
            folder.mkdir()
            Image.fromarray(picture).save(path)
        found.append((media.clips(path if kind == "avi" else folder)[0], path))
    (one, first), (other, second) = found
    assert first.stat().st_size == second.stat().st_size
    assert one.fingerprint != other.fingerprint


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


# Containers and codecs

KINDS = {
    "h264.mp4": {"codec": "libx264"},
    "fragments.mp4": {"codec": "libx264", "container": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "x265__params": "log-level=none"},
    "prores.mov": {"codec": "prores_ks", "pix": "yuv422p10le"},
    "open.mkv": {"codec": "libx264", "g": 10, "x264__params": "open-gop=1"},
    "refresh.mkv": {"codec": "libx264", "g": 10, "x264__params": "intra-refresh=1"},
    "vp8.webm": {"codec": "libvpx", "auto__alt__ref": 1, "lag__in__frames": 16, "b": "300k"},
    "vp9.webm": {"codec": "libvpx-vp9", "cpu__used": 8, "b": "300k"},
    "h264.avi": {"codec": "libx264"},  # without time stamps of its own
    "mpeg4.avi": {"codec": "mpeg4", "bf": 2, "b": "4M"},
    "a.wmv": {"codec": "wmv2"},
    "h264.flv": {"codec": "libx264"},
    "h264.ts": {"codec": "libx264", "g": 12},
    "mpeg2.ts": {"codec": "mpeg2video", "bf": 2, "b": "4M"},
    "a.mpg": {"codec": "mpeg2video", "bf": 2, "b": "4M"},
    "a.m2v": {"codec": "mpeg2video"},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_holds_its_frames_in_any_order(tmp_path, name):
    """Against OpenCV, which decodes from the start: the same frames, 8-bit ones to the last bit."""
    path = encode(tmp_path / name, noisy(60), **KINDS[name])
    capture, expected = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (taken := capture.read())[0]:
        expected.append(taken[1][..., ::-1])
    video = Video(path)
    assert len(video) == len(expected) == 60
    assert video.rate == pytest.approx(30, rel=1e-9)
    np.testing.assert_allclose(video.times, np.arange(60) / 30, atol=1e-9)
    found = [video.read(i) for i in range(60)]
    assert [number_of(picture) for picture in found] == list(range(60))
    if "prores" not in name:
        np.testing.assert_array_equal(found, expected)
    for i in (59, 0, 31, 30, 29, 58, *np.random.default_rng(0).permutation(60)):
        np.testing.assert_array_equal(video.read(int(i)), found[i])


@pytest.mark.parametrize("rate", [24, Fraction(30000, 1001), 30, 60, 120])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.flv", "flv"), ("a.wmv", "wmv2")],
)
def test_containers_that_round_times_do_not_change_the_rate(tmp_path, name, codec, rate):
    count = 150 if name == "a.wmv" else 9  # it says no rate: the times must
    path = encode(tmp_path / name, [painted(i) for i in range(count)], rate, codec)
    (clip,) = media.clips(path)
    assert clip.frames_per_second == pytest.approx(float(rate), rel=1e-6)
    np.testing.assert_allclose(clip.times, np.arange(count) / float(rate), atol=1e-7)


@pytest.mark.parametrize(
    ("name", "codec", "unit"),
    [
        ("a.mp4", "libx264", Fraction(1, 90_000)),
        ("a.mkv", "libx264", Fraction(1, 1000)),
        ("a.webm", "libvpx-vp9", Fraction(1, 1000)),
    ],
)
def test_each_frame_of_a_variable_rate_has_its_own_time(tmp_path, name, codec, unit):
    seconds = np.cumsum([0.5, *np.random.default_rng(0).choice([0.016, 0.02, 0.033, 0.4], 39)])
    stamps = np.round(seconds / float(unit))
    path = encode(tmp_path / name, [painted(i) for i in range(40)], 30, codec, stamps, unit)
    (clip,) = media.clips(path)
    truth = (stamps - stamps[0]) * float(unit)
    np.testing.assert_allclose(clip.times, truth, atol=1e-6)
    assert clip.frames_per_second == pytest.approx(39 / truth[-1], rel=1e-6)
    some = part(clip, "5-30", 5)
    np.testing.assert_allclose(some.times, truth[5:31:5], atol=1e-6)
    assert some.frames_per_second == pytest.approx(5 / (truth[30] - truth[5]), rel=1e-6)


def test_a_rate_that_no_standard_knows_is_that_of_the_times(tmp_path):
    stamps = np.round(np.arange(200) * 1000 / 37.3)
    path = encode(tmp_path / "a.mkv", noisy(200), 30, "ffv1", stamps, Fraction(1, 1000))
    assert Video(path).rate == pytest.approx(37.3, rel=1e-4)


def test_joined_transport_streams_keep_the_order_of_the_file(tmp_path):
    """The clock of the second begins anew, between two ticks of the first."""
    parts = []
    for number, late in enumerate((0, 370)):
        stamps = 90_000 + 3000 * np.arange(8) + late
        path = encode(
            tmp_path / f"{number}.ts",
            [painted(8 * number + i) for i in range(8)],
            stamps=stamps,
            unit=Fraction(1, 90_000),
            container={"mpegts_copyts": "1"},
            bf=0,
        )
        parts.append(path.read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    video = Video(tmp_path / "a.ts")
    assert [number_of(video.read(i)) for i in range(len(video))] == list(range(16))
    assert video.rate == 30


@pytest.mark.parametrize("shape", ["4/3", "8/9"])
@pytest.mark.parametrize("degrees", [0, 90])
def test_pixels_are_made_square(tmp_path, shape, degrees):
    half = painted(7, (48, 48))
    half[:, :24] = 200
    path = tmp_path / "a.mp4"
    options = {"x264__params": f"sar={shape}", "crf": 1}
    encode(path, [half] * 3, **options)
    if degrees:
        turned(path, degrees)
    (clip,) = media.clips(path)
    width = round(48 * Fraction(shape))
    upright = (width, 48) if degrees else (48, width)
    picture = clip.read(1)
    assert picture.shape[:2] == upright and clip.sizes.tolist() == [[*upright]] * 3
    grey = picture[width // 8, :, 1] if degrees else picture[:, width // 8, 1]
    assert np.abs(grey.astype(int) - 200).max() < 12
    stored = Video(path, square=False)
    assert stored.size == stored.read(0).shape[:2] == (48, 48) and stored.index.note == ""
    (note,) = clip.notes
    assert f"aspect {shape}" in note and f"from 48 x 48 to {width} x 48 pixels" in note


def test_nearly_square_pixels_are_left_alone(tmp_path):
    path = encode(tmp_path / "a.mp4", [painted(7)] * 3, x264__params="sar=405/404")
    (clip,) = media.clips(path)
    assert clip.read(0).shape[:2] == SIZE and clip.notes == ()


@pytest.mark.parametrize("matrix", range(8))
def test_mirrored_and_turned_frames_come_upright(tmp_path, matrix):
    """All eight ways in which a camera can be held, against the matrix itself."""
    a, b, c, d = [
        (1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1),
        (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0),
    ][matrix]  # fmt: skip
    stored = painted(7)
    stored[:24, :32], stored[24:, :32] = 230, 20
    path = write_video(tmp_path / "a.mp4", pictures=[stored] * 2)
    plain = Video(path).read(0)
    noted = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    change = lambda body: body[:40] + noted + body[76:]  # noqa: E731
    path.write_bytes(boxed(path.read_bytes(), [b"moov", b"trak", b"tkhd"], change))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    places = np.stack([b * x + d * y, a * x + c * y])  # rows, columns of each stored pixel
    places -= places.min((1, 2), keepdims=True)
    expected = np.zeros((*places.max((1, 2)) + 1, 3), np.uint8)
    expected[places[0], places[1]] = plain
    np.testing.assert_array_equal(Video(path).read(0), expected)


@pytest.mark.parametrize(("pix", "bits"), [("yuv420p10le", 10), ("yuv422p12le", 12)])
@pytest.mark.parametrize("space", [1, 5])
def test_deep_colours_are_those_of_the_standard(tmp_path, pix, bits, space):
    """Flat colours by ITU-R BT.601 and BT.709, computed here; 8 bits of the result."""
    red, blue = {1: (0.2126, 0.0722), 5: (0.299, 0.114)}[space]
    y, u, v = (value << (bits - 8) for value in (120, 90, 170))
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pix
        stream.codec_context.colorspace = space
        frame = av.VideoFrame(48, 32, pix)
        for plane, value in zip(frame.planes, (y, u, v), strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
        frame.colorspace = space
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    light, b, r = (120 - 16) / 219, (90 - 128) / 224, (170 - 128) / 224
    green = 1 - red - blue
    colour = [
        light + 2 * (1 - red) * r,
        light - (2 * (1 - blue) * blue * b + 2 * (1 - red) * red * r) / green,
        light + 2 * (1 - blue) * b,
    ]
    picture = Video(path).read(0)
    np.testing.assert_allclose(picture[16, 24], 255 * np.array(colour), atol=1)


# Damage


@pytest.mark.parametrize("kind", ["mp4", "mkv", "flv", "ts", "webm"])
def test_a_cut_off_video_ends_with_its_last_whole_frame(tmp_path, kind):
    options = {"container": {"movflags": "faststart"}} if kind == "mp4" else {}
    codec = "libvpx" if kind == "webm" else "libx264"
    path = encode(tmp_path / f"a.{kind}", noisy(60), codec=codec, bf=0, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        video = Video(path)
    if kind != "ts":  # a stream without a header that says how long it is
        assert f"ends after {len(video)} frames" in str(caught[0].message)
    assert 5 < len(video) < 50
    assert [number_of(video.read(i)) for i in range(len(video) - 1)] == list(range(len(video) - 1))


def test_frames_before_the_first_key_frame_are_not_counted(tmp_path):
    """As of a recording that begins in the middle: a decoder gives nothing of them."""
    path = encode(tmp_path / "a.ts", noisy(60), g=20, bf=0)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 5 // 188 * 188 :])
    video = Video(path)
    first = number_of(video.read(0))
    assert 0 < first <= 20 and len(video) == 60 - first
    assert [number_of(video.read(i)) for i in range(len(video))] == list(range(first, 60))
    assert number_of(video.read(5)) == first + 5


def test_damage_in_the_middle_costs_few_frames(tmp_path):
    path = encode(tmp_path / "a.mkv", noisy(80), codec="mjpeg", pix="yuvj420p")
    with av.open(str(path)) as file:
        frame = bytes([packet for packet in file.demux(video=0) if packet.size][40])
    data, third = bytearray(path.read_bytes()), len(frame) // 3
    start = data.find(frame) + third
    data[start : start + third] = bytes(third)
    path.write_bytes(data)
    (clip,) = media.clips(path)
    assert clip.num_frames >= 79
    read = {i: clip.read_or_none(i) for i in range(clip.num_frames)}
    assert sum(picture is not None for picture in read.values()) >= 78
    for i, picture in read.items():  # which frame it is follows from its time
        frame = round(30 * clip.times[i])
        assert picture is None or frame == 40 or number_of(picture) == frame


def test_what_is_no_video_does_not_hang_and_opens_nothing_else(tmp_path):
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    with pytest.raises(DataError, match=r"fifo.mp4 is not a file"):
        Video(fifo)
    secret = encode(tmp_path / "secret.mp4", noisy(3))
    for text in (
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n{secret}",
    ):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(DataError, match="list.mp4 is not a video that FFmpeg can open"):
            Video(tmp_path / "list.mp4")


def test_sound_alone_and_a_cover_are_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        file.mux(sound.encode(frame))
        file.mux(sound.encode())
    with pytest.raises(DataError, match=r"song.mp4 has no video"):
        Video(path)


def test_a_header_that_claims_too_much_takes_no_memory(tmp_path):
    """60,000 x 60,000 pixels would be 10 GB: refused, with 3 GB of address space at hand."""
    path = write_video(tmp_path / "a.avi", 3, "MJPG")
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 8
    struct.pack_into("<2i", data, at + 4, 60_000, 60_000)
    inside = bytearray(data)
    start = 0
    while (start := inside.find(b"\xff\xc0", start + 1)) > 0:  # of each JPEG picture
        struct.pack_into(">2H", inside, start + 5, 60_000, 60_000)
    for number, content in enumerate((data, inside)):
        (tmp_path / f"{number}.avi").write_bytes(content)
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from data_pipelines.clips import DataError
from data_pipelines.video import Video, camera, pipe_pictures
for path in sys.argv[1:]:
    try:
        video = Video(path)
        print(video.size, [video.read(i).shape for i in range(len(video))])
    except DataError as error:
        print("DataError", error)
"""
    paths = [str(tmp_path / f"{number}.avi") for number in range(2)]
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2 and "MemoryError" not in done.stdout
    assert done.stdout.splitlines()[1].startswith("DataError")


def test_frames_of_another_size_are_given_that_of_the_first(tmp_path):
    path = tmp_path / "a.ts"
    small, large = noisy(10), noisy(10, (96, 128))
    encode(tmp_path / "1.ts", small, bf=0)
    encode(tmp_path / "2.ts", large, bf=0)
    path.write_bytes((tmp_path / "1.ts").read_bytes() + (tmp_path / "2.ts").read_bytes())
    video = Video(path)
    for i in range(len(video)):
        picture = video.read(i)
        assert picture.shape == (*SIZE, 3) and number_of(picture) == i % 10


@pytest.mark.parametrize("name", ["h264.mp4", "vp8.webm", "mpeg4.avi", "mpeg2.ts", "a.wmv"])
def test_mutated_files_end_in_frames_or_in_an_error_of_ours(tmp_path, name):
    """Bits flipped, parts zeroed, doubled and cut out: bounded in time, no other error."""
    whole = encode(tmp_path / "whole" / name, noisy(40), **KINDS[name]).read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / name
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            start, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
            what = rng.integers(4)
            if what == 0:
                data[start] ^= 1 << int(rng.integers(8))
            elif what == 1:
                data[start : start + length] = bytes(len(data[start : start + length]))
            elif what == 2:
                data[start:start] = data[start : start + length]
            else:
                del data[start : start + length]
        path.write_bytes(data)
        began = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                (clip,) = media.clips(path)
            except DataError as error:
                assert name in str(error)
                continue
            places = [*range(clip.num_frames)][:80]
            for i in (*places, *places[::-7]):
                clip.read_or_none(i)
        assert time.monotonic() - began < 60  # half a second, on a machine that is free


# Pictures as they come


def as_bytes(picture, kind):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PPM", "PNG", "BMP", "JPEG"])
def test_pictures_of_a_pipe_come_at_once(kind):
    """Each is there before the next is sent."""
    reader, writer = os.pipe()
    sent, taken = threading.Semaphore(0), []

    def send():
        with os.fdopen(writer, "wb", buffering=0) as stream:
            for i in range(8):
                stream.write(as_bytes(painted(i), kind))
                if i and not sent.acquire(timeout=20):  # the first two tell what comes
                    return

    thread = threading.Thread(target=send)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        for picture in pipe_pictures(stream):
            taken.append(number_of(picture))
            sent.release()
    thread.join()
    assert taken == list(range(8))


@pytest.mark.parametrize("kind", ["PPM", "PNG"])
def test_pictures_of_a_pipe_are_those_that_were_sent(kind):
    pictures = noisy(5)
    found = list(pipe_pictures(io.BytesIO(b"".join(as_bytes(p, kind) for p in pictures))))
    np.testing.assert_array_equal(found, pictures)
    if kind == "PPM":  # with a comment, as a person writes it
        data = as_bytes(pictures[0], kind).replace(b"P6\n", b"P6\n# by hand\n", 1)
        np.testing.assert_array_equal(list(pipe_pictures(io.BytesIO(data))), pictures[:1])


def test_a_stream_that_changes_its_size_keeps_the_first_one_s():
    """A caller has compiled for it. Nothing is stretched; the rest is black."""
    sizes = [(48, 64), (96, 128), (64, 48), (24, 32)]
    data = b"".join(as_bytes(painted(7, size), "PPM") for size in sizes)
    found = list(pipe_pictures(io.BytesIO(data)))
    assert [picture.shape for picture in found] == [(48, 64, 3)] * 4
    for i in (0, 1, 3):
        assert number_of(found[i]) == 7
    assert number_of(found[2][:48, :36]) == 7 and not found[2][:, 36:].any()


def test_a_damaged_picture_of_a_stream_is_left_out_and_named():
    pictures = [as_bytes(painted(i), "PNG") for i in range(5)]
    pictures[2] = pictures[2][:50] + bytes(len(pictures[2]) - 62) + pictures[2][-12:]
    with pytest.warns(UserWarning, match="picture 2 on standard input can't be decoded"):
        found = list(pipe_pictures(io.BytesIO(b"".join(pictures))))
    assert [number_of(picture) for picture in found] == [0, 1, 3, 4]


@pytest.mark.parametrize("kind", ["PPM", "PNG", "BMP", "JPEG"])
def test_an_unfinished_last_picture_is_left_out(kind):
    pictures = [as_bytes(painted(i), kind) for i in range(3)]
    unfinished = b"".join(pictures)[: -len(pictures[2]) // 3]  # the sender stopped
    assert [number_of(p) for p in pipe_pictures(io.BytesIO(unfinished))] == [0, 1]


def test_a_stream_in_any_pieces_gives_the_same_pictures():
    """Headers that are cut in two, too."""
    pictures = noisy(3, (6, 5))
    data = b"".join(as_bytes(picture, "PPM") for picture in pictures)

    class Pieces(io.BytesIO):
        step = 1

        def read1(self, count=-1):
            return super().read(min(count, self.step))

    for Pieces.step in (1, 2, 3, 7, 50, 101, 102, 103, 104, 110):
        np.testing.assert_array_equal(list(pipe_pictures(Pieces(data))), pictures)
    with pytest.raises(
        FrameError, match=r"picture 3 on standard input is not a PPM picture: pipe .*ffmpeg"
    ):
        list(pipe_pictures(io.BytesIO(data + b"something else" * 100)))
    with pytest.raises(FrameError, match="picture 0 on standard input claims 60000 x 60000 pixels"):
        list(pipe_pictures(io.BytesIO(b"P6 60000 60000 255\n")))


@pytest.mark.parametrize("data", [b"no picture at all" * 99, b"P", b"GIF89a"])
def test_a_stream_without_pictures_says_what_to_do(data):
    with pytest.raises(FrameError, match="no readable picture on standard input.*ffmpeg -i INPUT"):
        list(pipe_pictures(io.BytesIO(data)))
    assert list(pipe_pictures(io.BytesIO(b""))) == []


def test_a_camera_that_is_not_there_says_what_to_check():
    for place in ("/no/camera", "77", "rtsp://127.0.0.1:1/none"):
        with pytest.raises(DataError, match=f"camera '{place}' can't be opened.*connected"):
            next(camera(place))


def test_a_camera_with_an_address_gives_its_pictures(tmp_path):
    """Motion JPEG by HTTP, as network cameras send it, on this machine."""
    pictures = [as_bytes(painted(i), "JPEG") for i in range(6)]

    class Sender(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for picture in pictures:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}"
                self.wfile.write(head.encode() + b"\r\n\r\n" + picture + b"\r\n")

        def log_message(self, *words):
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Sender) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        found = list(camera(f"http://127.0.0.1:{server.server_port}/"))
        thread.join(timeout=20)
    assert [number_of(picture) for picture in found] == [*range(6)]


@pytest.mark.parametrize("name", ["h264.flv", "h264.mp4", "mpeg4.avi"])
def test_a_camera_of_moving_pictures_loses_no_key_frame(tmp_path, name):
    """What is read to find out the codec is not missing from the frames, nor are they grey."""
    path = encode(tmp_path / name, noisy(60), **KINDS[name])
    found = list(camera(str(path)))
    assert [number_of(picture) for picture in found] == list(range(60))
