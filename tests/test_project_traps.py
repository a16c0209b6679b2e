"""Untidy projects of new users: read, with what is left out reported, or refused."""

import json
import shutil

import made_projects as made
import numpy as np
import pandas
import pytest
from made_projects import JOINTS
from PIL import Image

from data_pipelines import projects
from data_pipelines.clips import DataError
from data_pipelines.projects import Options, splits


def read(path, **options):
    return projects.read(path, Options(**options))


@pytest.mark.parametrize("named", ["", "labeled-data", "config.yaml"])
def test_a_project_is_named_by_its_folder_its_config_or_its_labels(tmp_path, named):
    made.deeplabcut(tmp_path, config="scorer: me\n")
    assert read(tmp_path / named).subjects == {"a": 3, "b": 3}


def test_the_folder_around_a_project_names_it(tmp_path):
    made.deeplabcut(tmp_path / "deep/mice")
    with pytest.raises(DataError, match=r"has no labelled project.*Name the one in it: .*/mice\."):
        read(tmp_path)


def test_the_folder_around_annotations_names_them(tmp_path):
    path, _ = made.coco(tmp_path / "images", pictures=("img0.png", "img1.png"))
    (tmp_path / "annotations").mkdir()
    path.rename(tmp_path / "annotations/train.json")
    with pytest.raises(DataError, match=r"Name the one in it: .*annotations/train.json\."):
        read(tmp_path)
    assert read(tmp_path / "annotations/train.json").num_frames == 2


def test_annotations_with_a_byte_order_mark_are_found_in_their_folder(tmp_path):
    path, content = made.coco(tmp_path)
    path.write_text(json.dumps(content), "utf-8-sig")
    assert read(tmp_path).num_frames == read(path).num_frames == 3


def test_a_pattern_tells_apart_individuals_of_one_name(tmp_path):
    """As in cages whose animals are all called left and right, whatever `identity` says."""
    cages = ("cage1_day1", "cage1_day2", "cage2_day1")
    made.deeplabcut(tmp_path, cages, config="identity: true", individuals=["left", "right"])
    assert read(tmp_path).subjects == {"left": 9, "right": 9}
    wanted = {"cage1_left": 6, "cage1_right": 6, "cage2_left": 3, "cage2_right": 3}
    assert read(tmp_path, subject=r"(cage\d+)_").subjects == wanted


def test_pictures_named_by_dates_to_the_microsecond_are_in_their_order(tmp_path):
    """Such a number fits into no array: results with it could be written, but not be read."""
    names = [f"a/20231130101{minute}12123456.png" for minute in (3, 1, 2)]
    path, _ = made.coco(tmp_path, names)
    (clip,) = read(path).clips
    assert clip.frame_names == tuple(name[2:] for name in sorted(names))
    assert clip.frame_numbers.dtype.kind == "i" and clip.frame_numbers.tolist() == [0, 1, 2]


def test_joints_that_are_labelled_nowhere_are_left_out(tmp_path):
    tables = made.deeplabcut(tmp_path)
    for name, table in tables.items():
        table.loc[:, (slice(None), "ear_left")] = np.nan
        table.to_csv(tmp_path / "labeled-data" / name / "CollectedData_me.csv")
    project = read(tmp_path)
    assert project.skeleton.joints == ("nose", "ear_right", "tail")
    assert project.skeleton.flip_pairs == ()
    assert "1 joint without a label anywhere: ear_left." in project.left_out
    wanted = tables["b"].to_numpy().reshape(3, 4, 2)[:, [0, 2, 3]]
    np.testing.assert_allclose(project.clips[1].joints, wanted, rtol=1e-6)


def test_copies_with_drawn_labels_are_no_other_animals(tmp_path):
    made.deeplabcut(tmp_path)
    shutil.copytree(tmp_path / "labeled-data/a", tmp_path / "labeled-data/a_labeled")
    project = read(tmp_path)
    assert set(project.subjects) == {"a", "b"}
    assert "a_labeled: a copy of another folder with its labels drawn." in project.left_out


def test_two_scorers_everywhere_are_one_note(tmp_path):
    made.deeplabcut(tmp_path, config="scorer: me\n")
    for name in "ab":
        path = tmp_path / "labeled-data" / name / "CollectedData_me.csv"
        text = path.read_text().replace(",me", ",anna")
        path.with_name("CollectedData_anna.csv").write_text(text)
    assert read(tmp_path).notes == ("labels by anna are left out where there are me's.",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: "", "is empty: export it again, or delete it"),
        (lambda text: text.replace(",", ";"), "separated by semicolons: save it with commas"),
        (lambda text: text.replace(",", "\t"), "separated by tabs: save it with commas"),
    ],
)
def test_tables_of_other_programs_are_refused_with_a_remedy(tmp_path, change, told):
    made.deeplabcut(tmp_path)
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=told) as error:
        read(tmp_path)
    assert str(path) in str(error.value) and len(str(error.value)) < 400 + len(str(path))


def test_decimal_commas_are_named(tmp_path):
    (table, _) = made.deeplabcut(tmp_path).values()
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    table.to_csv(path, decimal=",")
    with pytest.raises(DataError, match=r"a/CollectedData_me.csv, line 4: .*with decimal points"):
        read(tmp_path)


def test_one_animal_is_told_how_to_train_all_the_same(tmp_path):
    made.deeplabcut(tmp_path, ("only",))
    project = read(tmp_path)
    with pytest.raises(DataError, match=r"1 subject can't .*--config.data.test_share=0"):
        splits.by_share(project)
    (clip,) = splits.by_share(project, test=0, val=0).clips
    assert clip.split == "train"


def test_animals_that_are_always_together_can_be_parted_by_name(tmp_path):
    made.deeplabcut(tmp_path, individuals=["one", "two"], config="identity: true\n")
    project = read(tmp_path)
    with pytest.raises(DataError, match="2 subjects in 1 group that share pictures .*--test"):
        splits.by_share(project)
    named = splits.by_name(project, test="one", val="")
    assert {clip.subject: clip.split for clip in named.clips} == {"one": "test", "two": "train"}


def test_sessions_of_other_days_are_one_subject_by_pattern(tmp_path):
    made.deeplabcut(tmp_path, ("m1_day1", "m1_day2", "m2_day1"))
    assert read(tmp_path, subject=r"(m\d+)_").subjects == {"m1": 6, "m2": 3}


def test_names_that_files_can_not_have_become_one_subject_with_a_note(tmp_path):
    made.deeplabcut(tmp_path, ("a?b", "a:b", "c"))
    project = read(tmp_path)
    assert project.subjects == {"a_b": 6, "c": 3}
    assert project.notes == ("a:b and a?b count as one subject, a_b: rename one to separate them.",)


def test_patterns_mean_the_subject_of_exactly_this_name(tmp_path):
    made.deeplabcut(tmp_path, ("mouse[1]", "mouse1", "mouse2"))
    split = splits.by_name(read(tmp_path), test="mouse[1]")
    assert [clip.subject for clip in split.clips if clip.split == "test"] == ["mouse[1]"]
    assert set(read(tmp_path, exclude="mouse2, mouse1").subjects) == {"mouse[1]"}
    (tmp_path / "labeled-data/mouse1").rename(tmp_path / "labeled-data/mouse3")
    assert "mouse[1]" not in read(tmp_path, exclude="mouse[1]").subjects


def test_a_pattern_that_leaves_nothing_out_is_noted(tmp_path):
    made.deeplabcut(tmp_path, ("m1", "m2"))
    made.video(tmp_path / "videos/m3.mp4")
    project = read(tmp_path, exclude="m1,m3,M2")
    assert set(project.subjects) == {"m2"}
    assert project.notes == ("--exclude=M2 matches no labelled subject, folder or video.",)


def test_pictures_of_several_sizes_in_one_folder_are_read(tmp_path):
    made.deeplabcut(tmp_path)
    made.picture(tmp_path / "labeled-data/a/img010.png", size=(90, 120))
    clip = read(tmp_path, boxes="whole").clips[0]
    assert clip.sizes.tolist() == [[48, 64], [90, 120], [48, 64]]
    np.testing.assert_allclose(clip.boxes[1], [-0.5, -0.5, 119.5, 89.5])


def test_predictions_are_no_labels_of_lightning_pose(tmp_path):
    made.lightning_pose(tmp_path)
    columns = [("net", name, part) for name in JOINTS for part in ("x", "y", "likelihood")]
    names = pandas.MultiIndex.from_tuples(columns, names=["scorer", "bodyparts", "coords"])
    path = tmp_path / "predictions.csv"
    pandas.DataFrame(np.full((5, 12), 9.0), columns=names).to_csv(path)
    with pytest.raises(DataError, match="predictions.csv: its rows are frame numbers"):
        read(path)


def test_predictions_beside_the_labels_are_left_out(tmp_path):
    table = made.lightning_pose(tmp_path)
    table.reset_index(drop=True).to_csv(tmp_path / "predictions.csv")
    table["set", "", ""] = "train"
    table.to_csv(tmp_path / "predictions_new.csv")
    project = read(tmp_path)
    assert project.num_frames == len(table)
    numbers, words = project.left_out
    assert "predictions.csv: its rows are frame numbers" in numbers
    assert "predictions_new.csv" in words
    with pytest.raises(DataError, match="predictions.csv: its rows are frame numbers"):
        read(tmp_path / "predictions.csv")


def test_moved_videos_are_all_named_with_one_remedy(tmp_path):
    videos = [tmp_path / "videos" / f"v{i}.mp4" for i in range(5)]
    for path in videos:
        made.video(path)
    made.sleap(tmp_path / "labels.slp", videos)
    shutil.move(tmp_path / "videos", tmp_path / "disk")
    with pytest.raises(DataError, match=r"v0.mp4 is missing: .*--config.data.media.* 2 more\."):
        read(tmp_path / "labels.slp")
    assert len(read(tmp_path / "labels.slp", media=str(tmp_path / "disk")).subjects) == 5


def test_a_skeleton_of_one_node_is_read(tmp_path):
    import sleap_io as sio

    made.video(tmp_path / "v.mp4")
    skeleton = sio.Skeleton(["nose"])
    point = sio.Instance.from_numpy(np.array([[9.0, 7.0]]), skeleton=skeleton)
    video = sio.load_video(str(tmp_path / "v.mp4"))
    frame = sio.LabeledFrame(video=video, frame_idx=2, instances=[point])
    sio.Labels([frame]).save(str(tmp_path / "l.slp"))
    (clip,) = read(tmp_path / "l.slp").clips
    np.testing.assert_allclose(clip.joints, [[[9, 7]]])


def test_pictures_found_in_another_folder_are_said(tmp_path):
    path, _ = made.coco(tmp_path / "one")
    made.coco(tmp_path / "two")  # another project with pictures of the same names
    for name in "ab":
        shutil.rmtree(tmp_path / "one" / name)
    (note,) = read(path).notes
    assert note == f"the pictures are read from {tmp_path / 'two'}, not from beside labels.json."
    assert not read(tmp_path / "two/labels.json").notes


def test_a_whole_body_has_133_joints(tmp_path):
    path, content = made.coco(tmp_path)
    content["categories"][0] |= {"keypoints": [f"k{i}" for i in range(133)], "skeleton": []}
    for number, label in enumerate(content["annotations"]):
        label["keypoints"] = [v for i in range(133) for v in (5 + i % 40, 5 + number, 2)]
    path.write_text(json.dumps(content))
    project = read(path)
    assert project.skeleton.size == 133
    np.testing.assert_array_equal(project.clips[0].joints[0, 41], [6, 5])


def test_individuals_may_be_named_by_words(tmp_path):
    path, _ = made.coco(tmp_path, people=2, track_id=["anna b", "bob/x"])
    assert set(read(path).subjects) == {"a_anna b", "a_bob_x", "b_anna b", "b_bob_x"}


# --- One thing written in several ways -----------------------------------------------------------


@pytest.mark.parametrize("word", ["NA", "N/A", "null", "None", "#N/A", " ", "NaN"])
def test_words_for_nothing_are_cells_without_a_label(tmp_path, word):
    table = made.deeplabcut(tmp_path)["a"]
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    table.to_csv(path, na_rep=word)
    assert np.isnan(table.to_numpy()).sum() == 2
    np.testing.assert_array_equal(
        np.isnan(read(tmp_path).clips[0].joints).ravel(), np.isnan(table.to_numpy()).ravel()
    )


def test_labels_in_the_corner_are_noted(tmp_path):
    table = made.deeplabcut(tmp_path)["b"]
    assert not read(tmp_path).notes
    table.iloc[1:, 4:6] = 0
    table.to_csv(tmp_path / "labeled-data/b/CollectedData_me.csv")
    (note,) = read(tmp_path).notes
    assert note.startswith("2 joints are labelled at exactly (0, 0)") and "line 5" in note


def test_empty_columns_that_spreadsheets_add_are_cut_off(tmp_path):
    table = made.deeplabcut(tmp_path)["a"]
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    path.write_text("".join(f"{line},,\n" for line in path.read_text().splitlines()) + ",,,\n")
    clip = read(tmp_path).clips[0]
    np.testing.assert_allclose(clip.joints.ravel(), table.to_numpy().ravel(), rtol=1e-6)


def test_one_picture_in_windows_and_posix_spelling_is_labelled_twice(tmp_path):
    made.deeplabcut(tmp_path)
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1].replace("/", "\\")]) + "\n")
    with pytest.raises(DataError, match=r"line 7: a second row of .*, after .*line 6: keep one"):
        read(tmp_path)


def test_ids_of_coco_may_be_words_here_and_numbers_there(tmp_path):
    path, content = made.coco(tmp_path)
    content["images"][0]["id"], content["annotations"][1]["image_id"] = "0", 1.0
    content["annotations"][2]["category_id"] = "1"
    path.write_text(json.dumps(content))
    wanted = np.array([label["keypoints"] for label in content["annotations"]]).reshape(3, 4, 3)
    found = np.concatenate([clip.joints for clip in read(path).clips])
    np.testing.assert_allclose(found, wanted[..., :2], rtol=1e-6)


def test_labels_of_a_category_that_is_not_listed_are_counted(tmp_path):
    path, content = made.coco(tmp_path)
    content["annotations"][2]["category_id"] = 7
    path.write_text(json.dumps(content))
    project = read(path)
    assert project.num_frames == 2
    assert "left out, labels of categories without keypoint names: 1." in project.notes


@pytest.mark.parametrize(
    ("keypoints", "told"),
    [
        ([["nose", "nose", "a", "b"]], "category mouse has the keypoint nose twice: rename one"),
        ([JOINTS, list("abcd")], "two categories have the id 1 but different keypoints"),
    ],
)
def test_categories_of_coco_tell_their_keypoints_apart(tmp_path, keypoints, told):
    path, content = made.coco(tmp_path)
    (kind,) = content["categories"]
    content["categories"] = [{**kind, "keypoints": names} for names in keypoints]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        read(path)


@pytest.mark.parametrize("what", ["annotation", "picture", "picture under another id"])
def test_what_coco_files_say_twice_after_a_merge_is_read_once(tmp_path, what):
    path, content = made.coco(tmp_path)
    image, label = dict(content["images"][0]), dict(content["annotations"][0])
    content["annotations"].append(label)
    if what != "annotation":
        content["images"].append(image)
    if what == "picture under another id":
        image["id"] = label["image_id"] = 99
    path.write_text(json.dumps(content))
    project = read(path)
    assert project.subjects == {"a": 2, "b": 1}
    assert "left out, duplicate annotations: 1." in project.notes


@pytest.mark.parametrize(("said", "count"), [("0", 3), (False, 3), (None, 3), ("1", 2), (True, 2)])
def test_crowds_are_told_by_numbers_and_words(tmp_path, said, count):
    path, content = made.coco(tmp_path)
    content["annotations"][0]["iscrowd"] = said
    path.write_text(json.dumps(content))
    assert read(path).num_frames == count


def test_pictures_may_be_named_by_their_address(tmp_path):
    path, content = made.coco(tmp_path, pictures=("a/one mouse.png", "a/100%20.png"))
    content["images"][0]["file_name"] = "https://labels.org/data/a/one%20mouse.png?t=1"
    path.write_text(json.dumps(content))
    assert read(path).subjects == {"a": 2}


def test_sizes_of_pictures_that_exif_turns_are_explained(tmp_path):
    path, content = made.coco(tmp_path)
    file = tmp_path / content["images"][0]["file_name"]
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = Image.open(file)
    picture.load()
    picture.save(file, exif=turned)
    with pytest.raises(DataError, match=r"labelled at 64 x 48 .* EXIF data say: remove the orient"):
        read(path)


# --- Two things of one name ----------------------------------------------------------------------


def test_a_video_is_never_that_of_two_recordings(tmp_path):
    videos = [tmp_path / "one/cam.mp4", tmp_path / "two/cam.mp4"]
    for path in videos:
        made.video(path)
    made.sleap(tmp_path / "labels.slp", videos)
    shutil.move(tmp_path / "one/cam.mp4", tmp_path / "cam.mp4")
    shutil.move(tmp_path / "two", tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"one/cam.mp4 and .*two/cam.mp4 would both be .*/cam.mp4:"):
        read(tmp_path / "labels.slp")


def test_videos_of_one_name_show_their_own_subjects(tmp_path):
    videos = [tmp_path / "one/cam.mp4", tmp_path / "two/cam.mp4"]
    for path in videos:
        made.video(path)
    made.sleap(tmp_path / "labels.slp", videos)
    films = read(tmp_path / "labels.slp").footage
    assert [(film.path, film.subjects) for film in films] == [
        (videos[0], ("cam",)),
        (videos[1], ("cam-2",)),
    ]


def test_a_video_that_a_merged_file_lists_twice_is_one_subject(tmp_path):
    import sleap_io as sio

    made.video(tmp_path / "v.mp4")
    skeleton, frames = sio.Skeleton(["nose", "tail"]), []
    for number in (1, 4):
        video = sio.Video.from_filename(str(tmp_path / "v.mp4"))
        points = sio.Instance.from_numpy(made.places(2, seed=number), skeleton=skeleton)
        frames.append(sio.LabeledFrame(video=video, frame_idx=number, instances=[points]))
    sio.Labels(frames).save(str(tmp_path / "l.slp"), embed=False)
    assert len(sio.load_slp(str(tmp_path / "l.slp")).videos) == 2
    project = read(tmp_path / "l.slp")
    assert project.subjects == {"v": 2} and len(project.footage) == 1
    np.testing.assert_allclose(project.clips[0].joints[1], made.places(2, seed=4), rtol=1e-6)


def test_a_video_of_another_size_than_the_labelled_one_is_refused(tmp_path):
    made.video(tmp_path / "v.mp4")
    made.sleap(tmp_path / "l.slp", [tmp_path / "v.mp4"])
    made.video(tmp_path / "v.mp4", size=(96, 128))
    with pytest.raises(DataError, match=r"v/0 was labelled at 64 x 48 pixels, but has 128 x 96"):
        read(tmp_path / "l.slp")


def test_a_picture_is_never_that_of_two_names(tmp_path):
    path, _ = made.coco(tmp_path, pictures=("a/img0.png", "b/img0.png"))
    shutil.move(tmp_path / "a/img0.png", tmp_path / "img0.png")
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(DataError, match=r"a/img0.png and b/img0.png would both be .*/img0.png"):
        read(path)
    (tmp_path / "a/img0.png").write_bytes((tmp_path / "img0.png").read_bytes())
    assert set(read(path).subjects) == {"a", "b"}  # one in its own folder, one beside the file


def test_rows_of_another_folder_do_not_take_its_pictures(tmp_path):
    made.deeplabcut(tmp_path, frames=(1, 2))
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1].replace("/a/", "/c/")]) + "\n")
    project = read(tmp_path)
    assert project.subjects == {"a": 2, "b": 2}
    (said,) = project.left_out
    assert said.startswith("1 label without a picture") and "labeled-data/c/" in said


# --- Whose labels --------------------------------------------------------------------------------


def pictures_of_sleap(path, *lists):
    """Write a SLEAP file that labels every picture of lists of pictures; return the joints."""
    import sleap_io as sio

    skeleton = sio.Skeleton(list(JOINTS))
    joints, frames = {}, []
    for number, listed in enumerate(lists):
        for i, picture in enumerate(listed):
            made.picture(picture, seed=10 * number + i)
            joints[picture] = made.places(len(JOINTS), seed=10 * number + i)
        video = sio.Video.from_filename([str(picture) for picture in listed])
        frames += [
            sio.LabeledFrame(
                video=video,
                frame_idx=i,
                instances=[sio.Instance.from_numpy(joints[picture], skeleton=skeleton)],
            )
            for i, picture in enumerate(listed)
        ]
    sio.Labels(frames).save(str(path))
    return joints


def test_a_list_of_pictures_of_several_folders_is_a_recording_each(tmp_path):
    listed = [tmp_path / folder / f"img{i}.png" for folder in ("m1", "m2") for i in (1, 2)]
    joints = pictures_of_sleap(tmp_path / "labels.slp", listed)
    project = read(tmp_path / "labels.slp")
    assert project.subjects == {"m1": 2, "m2": 2}
    for clip in project.clips:
        for index in range(2):
            np.testing.assert_allclose(clip.joints[index], joints[clip.file(index)], rtol=1e-6)
    # SLEAP lists pictures of another size as another video.
    listed = [tmp_path / "m1/img1.png", tmp_path / "m2/img1.png"], [tmp_path / "m1/img2.png"]
    pictures_of_sleap(tmp_path / "labels.slp", *listed)
    assert read(tmp_path / "labels.slp").subjects == {"m1": 2, "m2": 1}


def test_three_videos_with_names_that_collide_are_three_subjects(tmp_path):
    videos = [tmp_path / name for name in ("d1/cam.mp4", "d1/cam-2.mp4", "d2/cam.mp4")]
    for path in videos:
        made.video(path)
    made.sleap(tmp_path / "labels.slp", videos, frames=(0,))
    assert read(tmp_path / "labels.slp").subjects == {"cam": 1, "cam-2": 1, "cam-3": 1}


@pytest.mark.parametrize("order", ["left/", "right/"])
def test_folders_of_one_name_are_told_apart_by_their_parents(tmp_path, order):
    names = [f"{who}/{side}/{i}.png" for who in ("anna", "bert") for side in ("left", "right")
             for i in range(2)]  # fmt: skip
    path, _ = made.coco(tmp_path, pictures=sorted(names, key=lambda name: order in name))
    sides = {f"{who}_{side}": 2 for who in ("anna", "bert") for side in ("left", "right")}
    assert dict(read(path).subjects) == sides
    assert read(path, subject="^([a-z]+)_").subjects == {"anna": 4, "bert": 4}
    made.lightning_pose(tmp_path / "lp", ("s1/top", "s2/top"))
    assert read(tmp_path / "lp").subjects == {"s1_top": 3, "s2_top": 3}


def test_a_pattern_joins_the_recordings_of_an_animal_with_a_track_in_each(tmp_path):
    import sleap_io as sio

    videos = [tmp_path / f"fly{n}_day{day}.mp4" for n, day in ((1, 1), (1, 2), (2, 1))]
    for path in videos:
        made.video(path)
    labels = made.sleap(tmp_path / "labels.slp", videos)
    tracks = [sio.Track(f"track_{number}") for number in range(3)]
    for number, frame in enumerate(labels):
        frame.instances[0].track = tracks[number // 3]
    labels.update()
    labels.save(str(tmp_path / "labels.slp"))
    assert read(tmp_path / "labels.slp", subject=r"(fly\d)_").subjects == {"fly1": 6, "fly2": 3}
    # Animals that share pictures stay apart.
    made.sleap(tmp_path / "labels.slp", videos, tracks=("one", "two"))
    several = read(tmp_path / "labels.slp", subject=r"(fly\d)_").subjects
    assert several == {"fly1_one": 6, "fly1_two": 6, "fly2_one": 3, "fly2_two": 3}


def test_a_video_of_named_and_unnamed_labels_is_in_one_split(tmp_path):
    videos = [tmp_path / f"{name}.mp4" for name in "uvw"]
    for path in videos:
        made.video(path)
    labels = made.sleap(tmp_path / "labels.slp", videos, tracks=("one",))
    for frame in labels[::2]:
        frame.instances[0].track = None
    labels.save(str(tmp_path / "labels.slp"))
    for seed in range(4):
        parts = {}
        for clip in splits.by_share(read(tmp_path / "labels.slp"), seed=seed).clips:
            parts.setdefault(clip.name[0], set()).add(clip.split)
        assert all(len(split) == 1 for split in parts.values())


def test_joints_that_sleap_says_swap_do_so_in_mirrored_pictures(tmp_path):
    made.video(tmp_path / "m.mp4")
    labels = made.sleap(tmp_path / "labels.slp", [tmp_path / "m.mp4"])
    labels.skeletons[0].add_symmetry("nose", "tail")
    labels.save(str(tmp_path / "labels.slp"))
    pairs = {"nose": "tail", "ear_left": "ear_right"}
    skeleton = read(tmp_path / "labels.slp").skeleton
    assert {skeleton.joints[a]: skeleton.joints[b] for a, b in skeleton.flip_pairs} == pairs
    assert read(tmp_path / "labels.slp", flip_pairs="").skeleton.flip_pairs == ()


def test_a_video_belongs_to_the_recording_of_its_name(tmp_path):
    made.deeplabcut(tmp_path, ("m1", "m2"))
    shutil.copytree(tmp_path / "labeled-data/m1", tmp_path / "labeled-data/m1_old")
    made.video(tmp_path / "videos/m1.mp4", count=30)
    (film,) = read(tmp_path).footage
    assert (film.path.name, film.recording, film.subjects) == ("m1.mp4", "m1", ("m1",))


def test_one_table_with_columns_of_two_scorers_is_read_by_scorer(tmp_path):
    made.deeplabcut(tmp_path, ("a",))
    mine = made.table([f"labeled-data/a/img{i:03d}.png" for i in (3, 10, 21)], scorer="me", seed=3)
    yours = made.table([*mine.index], scorer="you", seed=4)
    mine.index = yours.index
    both = pandas.concat([mine, yours], axis=1)
    both.to_csv(tmp_path / "labeled-data/a/CollectedData_me.csv")
    with pytest.raises(DataError, match=r"2 scorers \(me, you\): choose one with --config.data.sc"):
        read(tmp_path)
    for scorer, table in (("me", mine), ("you", yours)):
        joints = read(tmp_path, scorer=scorer).clips[0].joints
        np.testing.assert_allclose(joints, table.to_numpy().reshape(joints.shape), rtol=1e-6)
    with pytest.raises(DataError, match="no labels by carl"):
        read(tmp_path, scorer="carl")
