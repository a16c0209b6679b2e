"""A user's own videos and pictures: what is found, named and left out."""

import os
import pathlib

import pytest
from media_files import number_of, write_picture, write_video

from data_pipelines import media
from data_pipelines.clips import DataError, FrameError


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
