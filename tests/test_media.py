"""A user's videos and images: which are found, how they are named, and what is left out."""

import os
import pathlib

import pytest
from media_files import number_of, write_picture, write_video

from data_pipelines import media
from data_pipelines.clips import DataError, FrameError, part
from data_pipelines.video import Video


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
        ("nowhere.mp4", "nowhere.mp4: no such file or folder, and no file matches"),
        ("*.mov", r"\*.mov: no such file or folder, and no file matches"),
        ("notes.txt", "notes.txt does not have the suffix of a video: convert it, or rename"),
        ("both/1.png", "1.png is a single picture: name its folder"),
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


def test_a_bad_file_among_several_is_left_out_and_named(tmp_path):
    good, empty = write_video(tmp_path / "a.mp4", 3), tmp_path / "b.mp4"
    empty.touch()
    with pytest.warns(UserWarning, match="left out: .*b.mp4 is empty"):
        (clip,) = media.clips(tmp_path)
    assert clip.name == "a"
    found, left_out = media.open_inputs(tmp_path)
    assert [clip.name for clip in found] == ["a"] and [one.path for one in left_out] == [empty]
    assert "b.mp4 is empty (0 bytes): copy it again" in left_out[0].reason
    good.write_bytes(b"nothing")
    with pytest.raises(
        DataError, match="(?s)none of the 2 inputs.*a.mp4 is not a video.*b.mp4 is em"
    ):
        media.open_inputs(tmp_path)


def test_everything_that_looks_like_media_is_a_subject_or_left_out(tmp_path):
    """By name, by pattern and in folders: nothing is passed over in silence."""
    write_video(tmp_path / "good.mp4", 3)
    write_picture(tmp_path / "one.png")
    write_picture(tmp_path / "mixed" / "1.png")
    write_video(tmp_path / "mixed" / "a.mp4", 2)
    (tmp_path / "empty folder").mkdir()
    for name in ("raw.CR3", "film.braw", "notes.txt", "table.csv", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"something")
    named = ["good.mp4", "one.png", "mixed", "empty folder", "raw.CR3", "notes.txt", "gone.mp4"]
    found, left_out = media.open_inputs([tmp_path / name for name in named])
    assert [clip.name for clip in found] == ["good"]
    assert {one.path.name for one in left_out} == set(named) - {"good.mp4"}
    reasons = {one.path.name: one.reason for one in left_out}
    assert "is a single picture: name its folder" in reasons["one.png"]
    assert "holds pictures (1.png) beside other subjects" in reasons["mixed"]
    assert "holds no video" in reasons["empty folder"]
    assert "has an unsupported format: convert it" in reasons["raw.CR3"]
    assert "gone.mp4: no such file or folder" in reasons["gone.mp4"]
    assert "notes.txt does not have the suffix of a video" in reasons["notes.txt"]
    found, left_out = media.open_inputs(str(tmp_path / "*.*"))  # text and tables are no media
    assert {one.path.name for one in left_out} == {"one.png", "raw.CR3", "film.braw"}
    (tmp_path / "one.png").unlink()
    (tmp_path / "mixed/a.mp4").unlink()
    found, left_out = media.open_inputs(tmp_path)
    assert [clip.name for clip in found] == ["good", "mixed"]
    assert {one.path.name for one in left_out} == {"raw.CR3", "film.braw"}
    found, left_out = media.open_inputs(tmp_path / "mixed")
    assert len(found) == 1 and not left_out
    (tmp_path / "mixed" / "2.tga").write_bytes(b"something")  # which Python has no name for
    found, left_out = media.open_inputs(tmp_path / "mixed")
    assert len(found) == 1 and [one.path.name for one in left_out] == ["2.tga"]


def test_frames_of_pictures_keep_their_files_names(tmp_path):
    for number in (1, 3, 10, 12):
        write_picture(tmp_path / f"img{number}.png", number)
    (clip,) = media.clips(tmp_path)
    assert clip.frame_names == ("img1.png", "img3.png", "img10.png", "img12.png")
    assert clip.times is None and clip.frames_per_second is None
    some = part(clip, "1-", 2)
    assert some.frame_names == ("img3.png", "img12.png")
    assert [number_of(some.read(i)) for i in range(2)] == [3, 12]


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_video(tmp_path / "a.mp4", 2)
    (tmp_path / "boxes.csv").write_text("frame,x1,y1,x2,y2\n0,1,2,30,40\n")
    (clip,) = media.clips("~/a.mp4", boxes="~/boxes.csv")
    assert clip.num_frames == 2 and clip.boxes[0].tolist() == [1, 2, 30, 40]
    assert len(Video("~/a.mp4")) == 2
