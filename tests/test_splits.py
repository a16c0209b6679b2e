"""Splits never divide a subject, or an image of several subjects; unlabelled frames; names."""

import dataclasses

import made_projects as made
import numpy as np
import pytest

from data_pipelines import projects
from data_pipelines.clips import DataError
from data_pipelines.projects import Options, footage, names, splits


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Ten subjects of two recordings each."""
    root = tmp_path_factory.mktemp("ten")
    folders = [f"mouse{i}_{day}" for i in range(10) for day in "ab"]
    made.deeplabcut(root, folders, frames=(1, 2))
    return projects.read(root, Options(subject=r"^(\w+)_[ab]/"))


@pytest.fixture(scope="module")
def cages(tmp_path_factory):
    """Three videos with two named animals each, one of which is in two videos."""
    root = tmp_path_factory.mktemp("cages")
    made.deeplabcut(root, ("a", "b", "c"), individuals=["x", "y"])
    return projects.read(root, Options())


def kinds(project):
    found = {}
    for clip in project.clips:
        found.setdefault(clip.subject, set()).add(clip.split)
    assert all(len(splits_of) == 1 for splits_of in found.values())
    return {subject: splits_of.pop() for subject, splits_of in found.items()}


def test_named_patterns(ten):
    split = kinds(splits.by_name(ten, test="mouse[0-2]", val="mouse3, *9"))
    assert [s for s, kind in split.items() if kind == "test"] == ["mouse0", "mouse1", "mouse2"]
    assert [s for s, kind in split.items() if kind == "val"] == ["mouse3", "mouse9"]
    with pytest.raises(DataError, match="no subject is called rat.* .--val.: .*mouse0, mouse1"):
        splits.by_name(ten, val="rat*")
    with pytest.raises(DataError, match="mouse1 would be in two splits, test and val"):
        splits.by_name(ten, test="mouse[01]", val="mouse[12]")
    with pytest.raises(DataError, match="no training subjects are left"):
        splits.by_name(ten, test="*")


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_subjects(ten, seed):
    split = kinds(splits.by_share(ten, test=0.3, val=0.2, seed=seed))
    counts = {kind: list(split.values()).count(kind) for kind in ("train", "val", "test")}
    assert counts == {"train": 5, "val": 2, "test": 3}
    assert split == kinds(splits.by_share(ten, test=0.3, val=0.2, seed=seed))
    assert split != kinds(splits.by_share(ten, test=0.3, val=0.2, seed=seed + 1))
    assert "val" not in kinds(splits.by_share(ten, val=0)).values()
    with pytest.raises(DataError, match="expected 0 or more, less than 1 together"):
        splits.by_share(ten, test=0.7, val=0.3)


def test_each_subject_is_tested_once_in_folds(ten):
    found = [kinds(fold) for fold in splits.folds(ten, 4)]
    tested = [subject for fold in found for subject, kind in fold.items() if kind == "test"]
    assert sorted(tested) == sorted(ten.subjects)
    assert all({"train", "val", "test"} == set(fold.values()) for fold in found)
    with pytest.raises(DataError, match="folds is 11, expected 2 to 10: there are 10 subjects"):
        splits.folds(ten, 11)
    assert len(splits.folds(ten, 10, val=0)) == 10


def test_two_subjects_in_two_folds_have_no_validation(tmp_path):
    made.deeplabcut(tmp_path)
    found = splits.folds(projects.read(tmp_path), 2)
    assert [sorted(kinds(fold).values()) for fold in found] == [["test", "train"]] * 2
    assert found[0].notes == ("2 subjects in 2 folds leave none for validation.",)


def test_a_video_in_two_containers_is_used_once_and_the_one_that_fits(tmp_path):
    made.deeplabcut(tmp_path)
    made.video(tmp_path / "videos/a.avi", count=30, size=(96, 128))  # of another size
    made.video(tmp_path / "videos/a.mkv", count=30)
    made.video(tmp_path / "videos/b.avi", count=30)
    made.video(tmp_path / "videos/b.mp4", count=30)
    found, left_out = footage.unlabelled(projects.read(tmp_path), 4)
    assert [(clip.subject, clip.num_frames) for clip in found] == [("a", 4), ("b", 4)]
    assert [line.split(":")[0] for line in left_out] == ["a.avi", "b.mp4"]


def test_animals_in_one_picture_stay_together(cages):
    for seed in range(4):
        split = kinds(splits.by_share(cages, test=0.34, val=0, seed=seed))
        assert all(split[f"{video}_x"] == split[f"{video}_y"] for video in "abc")
    with pytest.raises(DataError, match="expected 2 to 3: there are 6 subjects in 3 groups"):
        splits.folds(cages, 4)
    named = splits.by_name(cages, test="a_x")  # as the user says
    assert kinds(named)["a_y"] == "train"
    assert "3 pictures show subjects of two splits" in named.notes[-1]


def test_one_subject_can_not_be_split(tmp_path):
    made.deeplabcut(tmp_path, ("a",))
    project = projects.read(tmp_path)
    with pytest.raises(DataError, match="1 subject can't be split into 2 parts: label more"):
        splits.by_share(project, val=0)


def test_as_many_splits_as_there_are_subjects_for(ten, tmp_path):
    assert splits.possible(ten, test=0.2, val=0.2) == ({"test": 0.2, "val": 0.2}, "")
    made.deeplabcut(tmp_path / "two", ("a", "b"))
    shares, note = splits.possible(projects.read(tmp_path / "two"), test=0.2, val=0.2)
    assert shares == {"test": 0.2, "val": 0} and "2 subjects are too few for three splits" in note
    made.deeplabcut(tmp_path / "one", ("a",))
    shares, note = splits.possible(projects.read(tmp_path / "one"), test=0.2, val=0.2)
    assert shares == {"test": 0, "val": 0}
    assert "no subject can be held out" in note and "--subject" in note


def test_animals_without_names_stay_with_their_video(tmp_path):
    import sleap_io as sio

    for name in ("one", "two"):
        made.video(tmp_path / f"{name}.mp4")
    labels = made.sleap(tmp_path / "l.slp", [tmp_path / "one.mp4", tmp_path / "two.mp4"])
    for frame in labels:
        points = frame.instances[0].numpy() + 1
        frame.instances.append(sio.Instance.from_numpy(points, skeleton=labels.skeleton))
    labels.save(str(tmp_path / "l.slp"))
    project = projects.read(tmp_path / "l.slp")
    assert len(project.subjects) == 12
    split = kinds(splits.by_share(project, test=0.5, val=0))
    assert len({kind for subject, kind in split.items() if subject.startswith("one")}) == 1


def test_a_subject_in_two_splits_is_an_error(ten):
    clips = list(ten.clips)
    clips[1] = dataclasses.replace(clips[1], split="test")
    with pytest.raises(DataError, match="subject mouse0 is in two splits, train and test"):
        splits.check(clips)
    with pytest.raises(DataError, match="expected one of .'train', 'val', 'test'"):
        splits.check([dataclasses.replace(clips[0], split="dev")])


# --- Unlabelled frames ---------------------------------------------------------------------------


def test_unlabelled_frames_are_spread_over_the_video(tmp_path):
    made.deeplabcut(tmp_path, ("a", "b"), frames=(0, 4))
    frames = made.video(tmp_path / "videos" / "a.mp4", count=12)
    made.video(tmp_path / "videos" / "c.mp4")
    project = splits.by_name(projects.read(tmp_path), test="b")
    (clip,), left_out = footage.unlabelled(project, 4)
    assert clip.subject == "a" and clip.split == "train" and clip.joints is None
    assert clip.frame_numbers.tolist() == [1, 5, 8, 11]  # not 0 and 4, which are labelled
    assert np.abs(clip.read(3).astype(int) - frames[11]).mean() < 3
    labelled = next(each for each in project.clips if each.subject == "a")
    assert (clip.boxes[:, :2] <= labelled.boxes[:, :2].min(0)).all()
    assert left_out == ["c.mp4: none or several of the project's subjects are labelled in it."]
    (all_frames,), _ = footage.unlabelled(project, 100, boxes="whole")
    assert all_frames.num_frames == 10 and all_frames.boxes[0].tolist() == [-0.5, -0.5, 63.5, 47.5]
    (region,), _ = footage.unlabelled(project, 1, boxes="1,2,30,40")
    assert region.boxes.tolist() == [[1, 2, 30, 40]]


def test_videos_are_cropped_as_the_pictures_were(tmp_path):
    config = "video_sets:\n  C:\\x\\a.mp4:\n    crop: 10, 74, 6, 54\n"
    made.deeplabcut(tmp_path, ("a",), frames=(0,), config=config)
    frames = made.video(tmp_path / "videos" / "a.mp4", size=(64, 96))
    (clip,), _ = footage.unlabelled(projects.read(tmp_path), 2)
    np.testing.assert_allclose(clip.read(1), frames[5][6:54, 10:74], atol=6)
    assert clip.largest == made.SIZE
    (tmp_path / "config.yaml").unlink()
    found, left_out = footage.unlabelled(projects.read(tmp_path), 2)
    assert (
        not found and "its frames have 96 x 64 pixels, the labelled pictures 64 x 48" in left_out[0]
    )


def test_pixels_that_are_not_square_stay_as_they_were_labelled(tmp_path):
    made.deeplabcut(tmp_path, ("a",), frames=(0,))
    made.video(tmp_path / "videos" / "a.mp4", aspect=(2, 1))
    (clip,), _ = footage.unlabelled(projects.read(tmp_path), 2)
    assert clip.read(1).shape[:2] == clip.largest == made.SIZE


def test_a_video_of_several_subjects_is_left_out(tmp_path):
    made.deeplabcut(tmp_path, ("a",), individuals=["x", "y"])
    made.video(tmp_path / "videos" / "a.mp4")
    found, left_out = footage.unlabelled(projects.read(tmp_path), 4)
    assert not found and len(left_out) == 1
    (tmp_path / "videos" / "a.mp4").write_bytes(b"damaged")
    found, left_out = footage.unlabelled(projects.read(tmp_path, Options(individuals=["x"])), 4)
    assert not found and "a.mp4" in left_out[0]


# --- Names of pictures ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "frames"),
    [
        (["frame_0004_cam1.png"], [4]),
        (["0004_cam1.png"], [4]),
        (["0004_cam1.png", "0009_cam1.png"], [4, 9]),
        (["0042_1.png", "0050_1.png"], [42, 50]),
        (["img0042_1.png", "img0050_2.png"], [42, 50]),
        (["cam3_00042.png"], [42]),
        (["3f2a9b10-frame_42.jpg"], [42]),
        (["mouse1_day2_img15.png"], [15]),
        (["07me-img055.png", "12me-img056.png"], [55, 56]),
        (["labeled-data\\a 7\\img010.png"], [10]),
        (["42", "7.0", "-3", "1.5"], [42, 7, -3, None]),
        (["first.png"], [None]),
        (["clip_42_png.rf.3f8a77de01.jpg"], [42]),
        (["9" * 5000 + ".png"], [int("9" * 100)]),
    ],
)
def test_the_number_of_the_frame_in_a_pictures_name(pictures, frames):
    assert names.frame_numbers(pictures) == frames
