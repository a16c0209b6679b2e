"""Synthetic projects of each tool, written by pandas, sleap-io and json, read as clips."""

import itertools
import json
import shutil
import sys

import cv2
import made_projects as made
import numpy as np
import pandas
import pytest
from made_projects import JOINTS, SIZE
from PIL import Image

from data_pipelines import media, projects
from data_pipelines.clips import DataError, FrameError
from data_pipelines.projects import Options


def read(path, **options):
    return projects.read(path, Options(**options))


def by_subject(project):
    return {clip.subject: clip for clip in project.clips}


def values(frame):
    """A table's places [n, k, 2]."""
    return frame.to_numpy().reshape(len(frame), -1, 2)


def said(project):
    return " ".join(project.describe())


# --- DeepLabCut ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("csv",), ("h5",), ("csv", "h5")], ids="-".join)
@pytest.mark.parametrize("three", [False, True], ids=["one column", "three columns"])
def test_deeplabcut_holds_what_pandas_wrote(tmp_path, kinds, three):
    tables = made.deeplabcut(tmp_path, kinds=kinds, three=three)
    project = read(tmp_path)
    assert project.tool == "DeepLabCut" and project.skeleton.joints == tuple(JOINTS)
    assert project.skeleton.flip_pairs == ((1, 2),) and project.skeleton.limbs == ()
    assert project.subjects == {"a": 3, "b": 3} and project.recordings == ("a", "b")
    for name, table in tables.items():
        clip = by_subject(project)[name]
        np.testing.assert_array_equal(clip.joints, values(table).astype(np.float32))
        np.testing.assert_array_equal(clip.visible, np.isfinite(values(table)).all(-1))
        assert clip.frame_numbers.tolist() == [3, 10, 21] and clip.split == "train"
        assert clip.sizes.tolist() == [list(SIZE)] * 3
        path = tmp_path / "labeled-data" / name / "img010.png"
        assert clip.file(1) == path and clip.frame_names[1] == "img010.png"
        np.testing.assert_array_equal(clip.read(1), np.asarray(Image.open(path)))


def test_paths_of_windows_and_odd_names_are_found(tmp_path):
    name = "29_MER(FDE) ~x 20.5"
    (table,) = made.deeplabcut(tmp_path, (name,)).values()
    path = tmp_path / "labeled-data" / name / "CollectedData_me.csv"
    table.index = [row.replace("/", "\\") for row in table.index]
    table.to_csv(path)
    path.parent.rename(tmp_path / "labeled-data" / f"{name} TEST")  # as in speech_dlc
    project = read(tmp_path)
    assert project.subjects == {f"{name} TEST": 3}
    np.testing.assert_array_equal(project.clips[0].joints, values(table).astype(np.float32))


CONFIG = """
Task: mice
scorer: me
multianimalproject: false
video_sets:
  C:\\lab\\videos\\a.mp4:
    crop: 0, 640, 0, 480
bodyparts: [tail, nose, ear_left, ear_right, never]
skeleton:
- [nose, tail]
- [nose, ear_left, ear_right]
- [objectA, bodypart3]
"""


def test_the_config_gives_order_and_limbs(tmp_path):
    made.deeplabcut(tmp_path, config=CONFIG)
    skeleton = read(tmp_path).skeleton
    assert skeleton.joints == ("tail", "nose", "ear_left", "ear_right")
    named = [tuple(skeleton.joints[k] for k in limb) for limb in skeleton.limbs]
    assert named == [("nose", "tail"), ("nose", "ear_left"), ("ear_left", "ear_right")]


def test_words_of_the_config_are_names(tmp_path):
    """Even those that other YAML takes for false, a number, a date or nothing."""
    names = ["no", "1_2", "007", "2024-05-01", "null"]
    made.deeplabcut(tmp_path, names=names, config="bodyparts: [null, 2024-05-01, 007, 1_2, no]")
    assert read(tmp_path).skeleton.joints == tuple(reversed(names))


# Each list is ten times the one before: a few lines that would fill any memory.
BOMB = "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in itertools.pairwise("abcdefghijz")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scorer: [", "config.yaml is not valid YAML .*correct it, or move it away"),
        ("[" * 5000, "config.yaml is not valid YAML"),
        ("a: &a [*a]", "config.yaml is not valid YAML .with its references it has"),
        (f"a: &a [x, y]\n{BOMB}bodyparts: *z", "with its references it has more than 1,000,000"),
        ("- a\n- b", "has no named settings"),
        ("!!python/object/apply:os.mkdir [made]", "config.yaml is not valid YAML"),
    ],
)
def test_a_damaged_config_is_named(tmp_path, text, message):
    made.deeplabcut(tmp_path, config=text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["bodyparts: MULTI!", "skeleton: 3", "video_sets: [a]", "skeleton: [[nose], 4, [1, 2]]",
     "scorer: 5\nbodyparts: {a: b}\nvideo_sets: {x: {crop: a}, 3: 4}"],
)  # fmt: skip
def test_a_config_of_other_types_is_no_traceback(tmp_path, text):
    made.deeplabcut(tmp_path, config=text)
    assert read(tmp_path).skeleton.joints == tuple(JOINTS)


def test_one_folder_of_pictures_is_a_project(tmp_path):
    made.deeplabcut(tmp_path)
    assert read(tmp_path / "labeled-data" / "b").subjects == {"b": 3}


def test_individuals_are_subjects(tmp_path):
    (table,) = made.deeplabcut(tmp_path, ("a",), individuals=["one", "two"]).values()
    project = read(tmp_path)
    assert project.subjects == {"a_one": 3, "a_two": 3}
    assert [clip.name for clip in project.clips] == ["a_one", "a_two"]
    np.testing.assert_array_equal(
        by_subject(project)["a_two"].joints, values(table["me"]["two"]).astype(np.float32)
    )
    assert read(tmp_path, individuals=["two"]).subjects == {"a_two": 3}
    with pytest.raises(DataError, match=r"no individual three: expected some of one, two"):
        read(tmp_path, individuals=["three"])
    for word in ("true", "yes"):
        (tmp_path / "config.yaml").write_text(f"identity: {word}")
        assert read(tmp_path).subjects == {"one": 3, "two": 3}  # the same two in all videos


def test_recordings_may_lack_an_individual_that_others_have(tmp_path):
    """As those that were labelled before it was added to config.yaml."""
    made.deeplabcut(tmp_path, ("a",), individuals=["one"])
    (table,) = made.deeplabcut(tmp_path, ("b",), individuals=["one", "two"]).values()
    project = read(tmp_path, individuals=["two"])
    (clip,) = project.clips
    assert project.subjects == {"b_two": 3}
    np.testing.assert_array_equal(clip.joints, values(table["me"]["two"]).astype(np.float32))
    assert read(tmp_path, individuals=["one", "two"]).subjects == {
        "a_one": 3,
        "b_one": 3,
        "b_two": 3,
    }
    with pytest.raises(DataError, match=r"no individual three: expected some of one, two\."):
        read(tmp_path, individuals=["two", "three"])


def test_things_of_which_there_is_one_are_no_animal(tmp_path):
    (table,) = made.deeplabcut(tmp_path, ("a",), individuals=["one", "single"]).values()
    absent = [("me", "single", "nose"), ("me", "one", "tail")]
    table = table[[column for column in table.columns if column[:3] not in absent]]
    table.to_csv(tmp_path / "labeled-data" / "a" / "CollectedData_me.csv")
    project = read(tmp_path)
    assert project.subjects == {"a_one": 3} and project.skeleton.joints == tuple(JOINTS[:3])
    assert "--config.data.individuals=single reads them" in said(project)
    single = read(tmp_path, individuals=["single"])
    assert single.skeleton.joints == tuple(JOINTS[1:])
    np.testing.assert_array_equal(
        single.clips[0].joints, values(table["me"]["single"]).astype(np.float32)
    )


def test_clips_have_names_of_their_own(tmp_path):
    made.deeplabcut(tmp_path, ("a",), individuals=["x", "y"])
    made.deeplabcut(tmp_path, ("a_x",))
    project = read(tmp_path)
    assert [clip.name for clip in project.clips] == ["a_x", "a_y", "a_x-2"]
    assert project.subjects == {"a_x": 6, "a_y": 3}  # as the names say


def test_an_individual_who_is_not_labelled_is_no_subject(tmp_path):
    (table,) = made.deeplabcut(tmp_path, ("a",), individuals=["one", "two"]).values()
    table.loc[:, ("me", "two")] = np.nan
    table.to_csv(tmp_path / "labeled-data" / "a" / "CollectedData_me.csv")
    assert read(tmp_path).subjects == {"a_one": 3}


def test_labels_and_pictures_without_each_other_are_counted(tmp_path):
    tables = made.deeplabcut(tmp_path)
    (tmp_path / "labeled-data/a/img010.png").unlink()
    made.picture(tmp_path / "labeled-data/b/img099.png")
    tables["b"].iloc[1] = np.nan
    tables["b"].to_csv(tmp_path / "labeled-data/b/CollectedData_me.csv")
    made.picture(tmp_path / "labeled-data/c/img000.png")  # no labels
    shutil.copytree(tmp_path / "labeled-data/a", tmp_path / "labeled-data/a_labeled")
    (tmp_path / "labeled-data/a_labeled/CollectedData_me.csv").unlink()  # drawn by DeepLabCut
    project = read(tmp_path)
    assert project.subjects == {"a": 2, "b": 2}
    assert [clip.frame_numbers.tolist() for clip in project.clips] == [[3, 21], [3, 21]]
    assert project.left_out == (
        "1 pictures of c: no file of labels.",
        "1 label without a picture (the first: labeled-data/a/img010.png).",
        "2 pictures without labels (the first: b).",
    )


def test_pictures_with_a_suffix_in_upper_case_have_their_labels(tmp_path):
    made.deeplabcut(tmp_path, ("a",))
    for path in tmp_path.rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    project = read(tmp_path)
    assert project.subjects == {"a": 3} and project.left_out == ()


def test_without_any_picture_the_error_says_what_to_do(tmp_path):
    made.deeplabcut(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of its labels can be used. Put their pictures .*6"):
        read(tmp_path)


def test_pictures_elsewhere_are_found_in_media(tmp_path):
    made.deeplabcut(tmp_path / "p")
    for name in "ab":
        (tmp_path / "disk" / name).mkdir(parents=True)
        for path in (tmp_path / "p/labeled-data" / name).glob("*.png"):
            path.rename(tmp_path / "disk" / name / path.name)
    project = read(tmp_path / "p", media=str(tmp_path / "disk"))
    assert project.subjects == {"a": 3, "b": 3}
    assert project.clips[1].file(0) == tmp_path / "disk/b/img003.png"


def test_several_scorers_are_refused_or_chosen(tmp_path):
    made.deeplabcut(tmp_path)
    folder = tmp_path / "labeled-data/a"
    other = made.table([f"labeled-data/a/img{i:03d}.png" for i in (3, 10)], scorer="you", seed=9)
    other.to_csv(folder / "CollectedData_you.csv")
    with pytest.raises(
        DataError, match=r"labels of 2 scorers \(me, you\): choose one with --config.data.sc"
    ):
        read(tmp_path)
    chosen = read(tmp_path, scorer="you")
    assert chosen.subjects == {"a": 2}
    assert "3 pictures of b: no labels by you" in said(chosen)
    np.testing.assert_array_equal(chosen.clips[0].joints, values(other).astype(np.float32))
    (tmp_path / "config.yaml").write_text("scorer: me")
    project = read(tmp_path)
    assert project.subjects == {"a": 3, "b": 3} and "labels by you are left out" in said(project)


def test_a_combined_folder_names_the_subjects_in_its_files(tmp_path):
    made.deeplabcut(tmp_path, ("solo",))
    folder = tmp_path / "labeled-data/COMBINED"
    names = ["07me-img005.png", "07me-img002.png", "12me-img005.png"]
    for name in names:
        made.picture(folder / name)
    table = made.table([f"labeled-data/COMBINED/{name}" for name in names])
    table.to_csv(folder / "CollectedData_me.csv")
    project = read(tmp_path, subject=r"(\w+)-img")
    assert project.subjects == {"07me": 2, "12me": 1, "solo": 3}
    clip = by_subject(project)["07me"]
    assert clip.name == "COMBINED_07me" and clip.frame_numbers.tolist() == [2, 5]
    np.testing.assert_array_equal(clip.joints, values(table)[[1, 0]].astype(np.float32))
    assert "3 labels don't match the subject pattern: their folder" in said(project)
    with pytest.raises(DataError, match=r"'rat' matches none of the pictures, such as COMBINED/07"):
        read(tmp_path, subject="rat")
    with pytest.raises(DataError, match=r"subject pattern '\('"):
        read(tmp_path, subject="(")
    assert read(tmp_path, exclude="COM*").subjects == {"solo": 3}
    assert read(tmp_path, subject=r"(\w+)-img", exclude="12*").subjects == {"07me": 2, "solo": 3}


def test_joints_that_some_recordings_lack_are_not_labelled_there(tmp_path):
    made.deeplabcut(tmp_path, ("a",))
    folder = tmp_path / "labeled-data/b"
    made.picture(folder / "img1.png")
    table = made.table(["labeled-data/b/img1.png"] * 1, names=["whisker", "tail"])
    table.iloc[0, :2] = 7.0, 9.0
    table.to_csv(folder / "CollectedData_me.csv")
    project = read(tmp_path)
    assert project.skeleton.joints == (*JOINTS, "whisker")
    clip = by_subject(project)["b"]
    assert clip.visible.tolist() == [[False, False, False, True, True]]
    np.testing.assert_allclose(clip.joints[0, 3], values(table)[0, 1])


def test_h5_and_csv_that_differ_are_said(tmp_path):
    tables = made.deeplabcut(tmp_path, kinds=("csv", "h5"))
    assert not read(tmp_path).notes
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    (tables["a"] + 2.0).to_csv(path)
    project = read(tmp_path)
    assert "CollectedData_me.h5 and the .csv beside it differ in 3 rows: the .h5 is" in said(
        project
    )
    np.testing.assert_array_equal(
        by_subject(project)["a"].joints, values(tables["a"]).astype(np.float32)
    )
    path.with_suffix(".h5").write_bytes(b"damaged")
    project = read(tmp_path)
    assert "The .csv is read instead" in said(project)
    expected = values(tables["a"] + 2.0).astype(np.float32)
    np.testing.assert_array_equal(by_subject(project)["a"].joints, expected)


def test_videos_are_found_by_name(tmp_path):
    made.deeplabcut(tmp_path)
    for name in ("a", "b", "other"):
        made.video(tmp_path / "videos" / f"{name}.mp4")
    found = {film.path.stem: film for film in read(tmp_path).footage}
    assert {name: film.recording for name, film in found.items()} == {
        "a": "a", "b": "b", "other": "",
    }  # fmt: skip
    assert found["b"].subjects == ("b",) and found["other"].subjects == ("other",)
    assert [film.path.stem for film in read(tmp_path, exclude="b").footage] == ["a", "other"]


# --- Bad labels ----------------------------------------------------------------------------------


def edit(path, change):
    """Change the lines of a CSV file."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def put(row, column, value):
    def change(lines):
        lines[row][column] = value

    return change


BAD_TABLES = {
    "text": (put(4, 1, "here"), r"line 5: could not convert"),
    "half": (put(4, 1, ""), r"line 5: nose of labeled-data/a/img010.png lies at \[nan"),
    "infinite": (put(4, 1, "inf"), r"line 5: nose .* lies at \[inf"),
    "twice": (
        lambda lines: lines.append(lines[4]),
        r"line 7: a second row of labeled-data/a/img010.png, after .*line 5",
    ),
    "two names": (put(1, 3, "nose"), r"two columns x of nose"),
    "no y": (put(2, 2, "likelihood"), r"nose has columns x, likelihood, expected x and y"),
    "cut off": (lambda lines: lines[5].pop(), r"line 6: expected 9 cells"),
    "no header": (lambda lines: lines.pop(0), r"lines begin with bodyparts, coords"),
    "nothing": (lambda lines: lines.clear(), r"is empty: export it again, or delete it"),
    "two scorers": (
        lambda lines: lines[0].__setitem__(slice(5, 9), ["you"] * 4),
        r"labels of 2 scorers \(me, you\)",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_named(tmp_path, case):
    made.deeplabcut(tmp_path)
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    change, message = BAD_TABLES[case]
    edit(path, change)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_joints_outside_their_picture_are_left_out_and_counted(tmp_path):
    made.deeplabcut(tmp_path)
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    edit(path, put(4, 1, "-3"))
    edit(path, put(5, 1, "1e300"))
    edit(path, put(4, 3, "63.9"))
    project = read(tmp_path)
    clip = by_subject(project)["a"]
    assert np.isnan(clip.joints[1, 0]).all() and not clip.visible[1, 0]
    assert clip.visible[1, 1] and np.isfinite(clip.boxes).all()
    assert f"2 joints labelled outside the picture (the first: nose in {path}, line 5)" in said(
        project
    )


def test_a_picture_that_is_no_picture_is_left_out(tmp_path):
    made.deeplabcut(tmp_path)
    (tmp_path / "labeled-data/a/img010.png").write_bytes(b"damaged")
    project = read(tmp_path)
    assert project.subjects == {"a": 2, "b": 3}
    assert "1 label whose picture can't be read (the first: " in said(project)
    path = tmp_path / "labeled-data/b/img010.png"
    path.write_bytes(path.read_bytes()[:200])  # its header tells its size still
    clip = by_subject(read(tmp_path))["b"]
    with pytest.raises(FrameError, match=r"img010.png can't be read"):
        clip.read(1)


def test_pictures_that_are_there_but_can_not_be_read_are_not_called_missing(tmp_path):
    path, _ = made.coco(tmp_path, pictures=("a/img1.tif", "a/img2.tif", "b/img3.tif"))
    for file in tmp_path.rglob("*.tif"):
        Image.fromarray(np.full(made.SIZE, 0.5, np.float32)).save(file)
    with pytest.raises(
        DataError, match=r"3 labels whose picture.*img1.tif.*save it with 8"
    ) as found:
        read(path)
    assert "--config.data.media" not in str(found.value)


def test_labels_that_point_outside_the_project_find_nothing(tmp_path):
    made.picture(tmp_path / "secret.png")
    made.deeplabcut(tmp_path / "p", ("a",))
    path = tmp_path / "p/labeled-data/a/CollectedData_me.csv"
    edit(path, put(4, 0, "../../../secret.png"))
    assert read(tmp_path / "p").subjects == {"a": 2}


def test_what_is_no_project(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "gone")
    with pytest.raises(DataError, match="has no labelled project: expected a DeepLabCut"):
        read(tmp_path)
    for name in ("a.txt", "b.mat"):
        (tmp_path / name).write_text("x")
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)
    (table,) = made.deeplabcut(tmp_path / "p", ("a",)).values()
    (table * np.nan).to_csv(tmp_path / "p/labeled-data/a/CollectedData_me.csv")
    with pytest.raises(DataError, match="no labelled picture that can be used"):
        read(tmp_path / "p")
    made.deeplabcut(tmp_path / "q", ("a",), names=[f"j{i}" for i in range(201)])
    with pytest.raises(DataError, match="has 201 joints, expected 1 to 200"):
        read(tmp_path / "q")


def test_flip_pairs_are_as_the_user_says(tmp_path):
    made.deeplabcut(tmp_path)
    assert read(tmp_path, flip_pairs="").skeleton.flip_pairs == ()
    assert read(tmp_path, flip_pairs="nose:tail, ear_left:ear_right").skeleton.flip_pairs == (
        (0, 3), (1, 2),
    )  # fmt: skip
    with pytest.raises(DataError, match="no joint paw"):
        read(tmp_path, flip_pairs="nose:paw")
    with pytest.raises(DataError, match="flip pair nose: expected leftLip:rightLip"):
        read(tmp_path, flip_pairs="nose")


# --- Lightning Pose ------------------------------------------------------------------------------


def test_lightning_pose_holds_what_pandas_wrote(tmp_path):
    table = made.lightning_pose(tmp_path)
    made.video(tmp_path / "videos" / "b.mp4")
    project = read(tmp_path)
    assert project.tool == "Lightning Pose" and project.subjects == {"a": 3, "b": 3}
    found = np.concatenate([clip.joints for clip in project.clips])
    np.testing.assert_array_equal(found, values(table).astype(np.float32))
    assert [film.recording for film in project.footage] == ["b"]
    file = read(tmp_path / "CollectedData.csv")
    assert file.subjects == project.subjects


def test_pictures_without_a_folder_are_of_the_project(tmp_path):
    root = tmp_path / "mouse"
    made.lightning_pose(root)
    for path in sorted((root / "labeled-data/a").glob("*.png")):
        path.rename(root / "labeled-data" / path.name)
    table = made.table([f"labeled-data/img{i:03d}.png" for i in (3, 10, 21)])
    table.to_csv(root / "CollectedData.csv")
    assert read(root).subjects == {"mouse": 3}


def test_the_column_visible_says_what_is_labelled(tmp_path):
    table = made.lightning_pose(tmp_path, ("a",))
    flags = np.full((3, len(JOINTS)), 2.0)
    flags[0, 0], flags[1, 0], flags[2, 1], flags[2, 2] = 0, 0, 1, np.nan
    for k, name in enumerate(JOINTS):
        table["me", name, "visible"] = flags[:, k]
    table = table[[("me", name, part) for name in JOINTS for part in ("x", "y", "visible")]]
    table.to_csv(tmp_path / "CollectedData.csv")
    project = read(tmp_path)
    (clip,) = project.clips
    expected = np.ones((3, 4), bool)
    expected[0, 0], expected[1, 0], expected[2, 1] = False, False, False
    np.testing.assert_array_equal(clip.visible, expected)
    assert np.isnan(clip.joints[1, 0]).all() and np.isfinite(clip.joints[2, 1]).all()
    assert "1 joint labelled as hidden and not counted" in said(project)
    (counted,) = read(tmp_path, hidden=True).clips
    assert counted.visible[2, 1] and counted.visible.sum() == expected.sum() + 1
    table["me", "nose", "visible"] = 3
    table.to_csv(tmp_path / "CollectedData.csv")
    with pytest.raises(DataError, match=r"line 4: visible of nose is 3, expected 0"):
        read(tmp_path)


def test_cameras_are_recordings_of_one_subject(tmp_path):
    for view in ("top", "side"):
        folders = [f"{mouse}_{view}" for mouse in ("mouse1", "mouse2")]
        made.lightning_pose(tmp_path, folders, name=f"CollectedData_{view}.csv", seed=len(view))
    made.lightning_pose(tmp_path, ("extra",), name="notes_on_labels.csv")
    project = read(tmp_path)
    assert project.subjects == {"mouse1": 6, "mouse2": 6}
    assert set(project.recordings) == {
        f"{m}_{v}" for m in ("mouse1", "mouse2") for v in ("top", "side")
    }
    assert "notes_on_labels.csv: other label files" in said(project)
    top = read(tmp_path, view="top")
    assert top.recordings == ("mouse1_top", "mouse2_top")
    with pytest.raises(DataError, match=r"no camera bottom: expected side, top"):
        read(tmp_path, view="bottom")


def test_cameras_that_share_a_picture_are_parts_of_the_joints(tmp_path):
    made.lightning_pose(tmp_path, ("a",))
    names = ["paw_top", "tail_top", "paw_bot"]
    table = made.table([f"labeled-data/a/img{i:03d}.png" for i in (3, 10, 21)], names=names)
    table.to_csv(tmp_path / "CollectedData.csv")
    assert read(tmp_path, view="top").skeleton.joints == ("paw_top", "tail_top")
    project = read(tmp_path, view="bot")
    np.testing.assert_array_equal(project.clips[0].joints[:, 0], values(table)[:, 2].astype("f4"))
    with pytest.raises(DataError, match=r"no joints of the camera side: .* end in _side"):
        read(tmp_path, view="side")


# --- SLEAP ---------------------------------------------------------------------------------------


def test_sleap_holds_what_sleap_io_wrote(tmp_path):
    frames = made.video(tmp_path / "mouse.mp4")
    labels = made.sleap(tmp_path / "labels.slp", [tmp_path / "mouse.mp4"], predicted=1)
    project = read(tmp_path)  # the only .slp of the folder
    assert project.tool == "SLEAP" and project.subjects == {"mouse": 3}
    assert project.skeleton.limbs == ((0, 3),) and project.skeleton.flip_pairs == ((1, 2),)
    assert "3 predicted instances are left out" in said(project)
    (clip,) = project.clips
    expected = np.array([frame.user_instances[0].numpy() for frame in labels])
    np.testing.assert_allclose(clip.joints, expected, rtol=1e-6)
    np.testing.assert_array_equal(clip.visible, np.isfinite(expected).all(-1))
    assert clip.frame_numbers.tolist() == [0, 2, 5] and clip.file is None
    for index, number in enumerate([0, 2, 5]):
        assert np.abs(clip.read(index).astype(int) - frames[number]).mean() < 3
    assert [film.path.name for film in project.footage] == ["mouse.mp4"]


def test_tracks_are_subjects_in_each_video(tmp_path):
    videos = [tmp_path / "one" / "cage.mp4", tmp_path / "two" / "cage.mp4"]
    for path in videos:
        made.video(path)
    labels = made.sleap(tmp_path / "labels.slp", videos, tracks=("anna", "bert"))
    project = read(tmp_path / "labels.slp")
    assert list(project.subjects) == ["cage_anna", "cage_bert", "cage-2_anna", "cage-2_bert"]
    expected = np.array([frame.user_instances[1].numpy() for frame in labels[3:]])
    clip = by_subject(project)["cage-2_bert"]
    np.testing.assert_allclose(clip.joints, expected, rtol=1e-6)
    only = read(tmp_path / "labels.slp", individuals=["bert"])
    assert list(only.subjects) == ["cage_bert", "cage-2_bert"]
    with pytest.raises(DataError, match="no individual carl: expected some of anna, bert"):
        read(tmp_path / "labels.slp", individuals=["carl"])


def test_pictures_inside_the_file_need_no_video(tmp_path, capsys):
    frames = made.video(tmp_path / "mouse.mp4")
    made.sleap(tmp_path / "labels.pkg.slp", [tmp_path / "mouse.mp4"], embed=True)
    (tmp_path / "mouse.mp4").unlink()
    project = read(tmp_path / "labels.pkg.slp")
    (clip,) = project.clips
    assert clip.subject == "mouse" and clip.frame_numbers.tolist() == [0, 2, 5]
    for index, number in enumerate([0, 2, 5]):
        assert np.abs(clip.read(index).astype(int) - frames[number]).mean() < 3


def test_a_video_that_is_not_there_is_named(tmp_path):
    made.video(tmp_path / "mouse.mp4")
    made.sleap(tmp_path / "labels.slp", [tmp_path / "mouse.mp4"])
    (tmp_path / "disk").mkdir()
    shutil.move(tmp_path / "mouse.mp4", tmp_path / "disk" / "mouse.mp4")
    with pytest.raises(
        DataError, match=r"3 labels in mouse: .*mouse.mp4 is missing: put it beside"
    ):
        read(tmp_path / "labels.slp")
    assert read(tmp_path / "labels.slp", media=str(tmp_path / "disk")).subjects == {"mouse": 3}
    (tmp_path / "mouse.mp4").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"3 labels in mouse: .*mouse.mp4"):
        read(tmp_path / "labels.slp")
    made.video(tmp_path / "mouse.mp4", count=4)
    project = read(tmp_path / "labels.slp")
    assert project.subjects == {"mouse": 2} and "1 label without a picture" in said(project)


def test_a_sequence_of_pictures_is_a_recording(tmp_path):
    import sleap_io as sio

    paths = [tmp_path / "walk" / f"img{i:02d}.png" for i in range(4)]
    for i, path in enumerate(paths):
        made.picture(path, seed=i)
    skeleton = sio.Skeleton(list(JOINTS))
    video = sio.Video.from_filename([str(path) for path in paths])
    point = made.places(len(JOINTS))
    frame = sio.LabeledFrame(
        video=video, frame_idx=2, instances=[sio.Instance.from_numpy(point, skeleton=skeleton)]
    )
    sio.Labels([frame]).save(str(tmp_path / "labels.slp"))
    (clip,) = read(tmp_path / "labels.slp").clips
    assert clip.subject == "walk" and clip.file(0) == paths[2]
    np.testing.assert_allclose(clip.joints[0], point, rtol=1e-6)


def test_only_predictions_are_no_labels_unless_asked_for(tmp_path):
    import sleap_io as sio

    made.video(tmp_path / "mouse.mp4")
    labels = made.sleap(tmp_path / "labels.slp", [tmp_path / "mouse.mp4"], predicted=1)
    for frame in labels:
        frame.instances = frame.predicted_instances
    labels.save(str(tmp_path / "predicted.slp"))
    with pytest.raises(DataError, match="no labels by a user: .* --config.data.predictions"):
        read(tmp_path / "predicted.slp")
    (clip,) = read(tmp_path / "predicted.slp", predictions=True).clips
    expected = [frame.predicted_instances[0].numpy() for frame in sio.load_slp(
        str(tmp_path / "predicted.slp"), open_videos=False
    )]  # fmt: skip
    np.testing.assert_allclose(clip.joints, expected, rtol=1e-6)
    with pytest.raises(DataError, match="has several files of labels"):
        read(tmp_path)


def test_damaged_sleap_files_are_named(tmp_path):
    made.video(tmp_path / "mouse.mp4")
    path = tmp_path / "labels.slp"
    made.sleap(path, [tmp_path / "mouse.mp4"], tracks=("anna",))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cuts = [whole[: int(len(whole) * share)] for share in (0, 0.1, 0.5, 0.9)]
    flips = []
    for place in rng.integers(0, len(whole), 60):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        flips.append(bytes(data))
    for data in (b"no HDF5", *cuts, *flips):
        path.write_bytes(data)
        try:
            read(path)
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_without_sleap_io_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    (tmp_path / "labels.slp").write_bytes(b"x")
    with pytest.raises(DataError, match=r"need sleap-io: pip install sleap-io"):
        read(tmp_path / "labels.slp")


def test_pictures_of_16_bits_are_as_bright_as_each_other(tmp_path):
    """All of a recording by the bits that its brightest uses, as a folder of new ones is read."""
    made.deeplabcut(tmp_path, ("a",))
    folder = tmp_path / "labeled-data" / "a"
    dark = np.full(made.SIZE, 900, np.uint16)  # 10 bits
    for number, path in enumerate(sorted(folder.glob("*.png"))):
        picture = dark.copy()
        picture[0, 0] = 3000 if number == 2 else 1000  # 12 bits, and 10
        cv2.imwrite(str(path), picture)
    (clip,) = read(tmp_path).clips
    (same,) = media.clips([folder], boxes="whole")
    for frame in range(3):
        assert clip.read(frame)[5, 5].tolist() == [900 >> 4] * 3
        np.testing.assert_array_equal(clip.read(frame), same.read(frame))


# --- COCO ----------------------------------------------------------------------------------------


def test_coco_holds_what_was_written(tmp_path):
    path, content = made.coco(tmp_path)
    project = read(path)
    assert project.tool == "COCO" and project.subjects == {"a": 2, "b": 1}
    assert project.skeleton.limbs == ((0, 3),)
    truth = np.array([row["keypoints"] for row in content["annotations"]]).reshape(3, 4, 3)
    found = np.concatenate([clip.joints for clip in project.clips])
    np.testing.assert_allclose(found, truth[..., :2], rtol=1e-6)
    assert by_subject(project)["a"].frame_numbers.tolist() == [3, 10]
    boxes = read(path, boxes="annotated").clips[0].boxes
    np.testing.assert_array_equal(boxes, np.tile([2.0, 2, 42, 32], (2, 1)))
    assert read(tmp_path).subjects == project.subjects  # the folder's only annotations


def test_a_box_of_joints_in_a_line_is_used(tmp_path):
    path, content = made.coco(tmp_path)
    content["annotations"][0]["bbox"] = [2, 10, 40, 1]
    path.write_text(json.dumps(content))
    boxes = read(path, boxes="annotated").clips[0].boxes
    np.testing.assert_array_equal(boxes[0], [2, 9, 42, 12])  # the longer side makes the crop
    content["annotations"][0]["bbox"] = [2, 10, 0, 0]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="has no area"):
        read(path, boxes="annotated")


def test_several_people_without_names_are_subjects_each(tmp_path):
    path, _ = made.coco(tmp_path, people=2)
    assert list(read(path).subjects.items())[:3] == [
        ("a_img03_1", 1), ("a_img03_2", 1), ("a_img10_1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["track_id", "person_id", "name"])
def test_fields_name_the_subjects(tmp_path, field):
    path, content = made.coco(tmp_path, people=2, **{field: ["x", "y"]})
    options = {"subject_field": "name"} if field == "name" else {}
    expected = {"a_x": 2, "a_y": 2, "b_x": 1, "b_y": 1} if field == "track_id" else {"x": 3, "y": 3}
    assert read(path, **options).subjects == expected
    for person in content["annotations"]:  # as CVAT writes it
        person["attributes"] = {field: person.pop(field)}
    path.write_text(json.dumps(content))
    assert read(path, **options).subjects == expected
    del content["annotations"][3]["attributes"][field]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"annotation 3 has no field {field}"):
        read(path, **options)


def test_a_pattern_names_the_subjects_of_coco(tmp_path):
    path, _ = made.coco(tmp_path, pictures=("anna_01.png", "anna_02.png", "bert_01.png"))
    assert read(path, subject=r"(\w+?)_\d").subjects == {"anna": 2, "bert": 1}


def test_flags_crowds_and_unlabelled_people_count_as_coco_says(tmp_path):
    path, content = made.coco(tmp_path)
    one, two, three = content["annotations"]
    one["keypoints"][2], one["keypoints"][5] = 0, 1
    two["iscrowd"] = 1
    content["annotations"].append(three | {"id": 7, "keypoints": [0] * 12})
    path.write_text(json.dumps(content))
    project = read(path)
    assert project.subjects == {"a": 1, "b": 1}
    clip = by_subject(project)["a"]
    assert clip.visible.tolist() == [[False, False, True, True]]
    assert np.isnan(clip.joints[0, 0]).all() and np.isfinite(clip.joints[0, 1]).all()
    assert "crowds (iscrowd = 1): 1." in said(project)
    assert "people without a labelled keypoint: 1." in said(project)
    assert "1 joint labelled as hidden" in said(project)
    for person in content["annotations"]:
        flags = np.array(person["keypoints"][2::3])
        person["keypoints"][2::3] = np.minimum(flags, 1).tolist()
    path.write_text(json.dumps(content))
    binary = read(path)
    assert by_subject(binary)["a"].visible.tolist() == [[False, True, True, True]]
    assert "no keypoint has v = 2, so v = 1 counts as visible" in said(binary)


def test_several_categories_are_chosen_by_name(tmp_path):
    path, content = made.coco(tmp_path)
    content["categories"].append({"id": 2, "name": "hand", "keypoints": ["thumb"]})
    content["annotations"][0] |= {"category_id": 2, "keypoints": [5, 6, 2]}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"2 categories have labelled keypoints \(hand, mouse\)"):
        read(path)
    assert read(path, category="hand").skeleton.joints == ("thumb",)
    project = read(path, category="mouse")
    assert project.subjects == {"a": 1, "b": 1} and "people of other categories: 1." in said(
        project
    )
    with pytest.raises(
        DataError, match="no category foot with keypoints: expected one of mouse, h"
    ):
        read(path, category="foot")


def test_pictures_of_coco_are_found_beside_the_annotations(tmp_path):
    path, _ = made.coco(tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    path = path.rename(tmp_path / "annotations" / "labels.json")
    assert read(path).subjects == {"a": 2, "b": 1}
    shutil.move(tmp_path / "images", tmp_path / "away")
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "annotations", tmp_path / "other" / "annotations")
    path = tmp_path / "other" / "annotations" / "labels.json"
    with pytest.raises(
        DataError,
        match=r"none of its 3 pictures \(a/img03.png, ...\) was found in .*--config.data.m",
    ):
        read(path)
    assert read(path, media=str(tmp_path / "away")).subjects == {"a": 2, "b": 1}


def change(content, **parts):
    return content | parts


BAD_COCO = {
    "deep": lambda c: "[" * 100_000,
    "a list": lambda c: [1],
    "null": lambda c: None,
    "text": lambda c: "labels",
    "images of numbers": lambda c: change(c, images=[1, 2]),
    "ids of lists": lambda c: change(c, images=[{"id": [1], "file_name": "a"}]),
    "annotations null": lambda c: change(c, annotations=None),
    "people of text": lambda c: change(c, annotations=["a"]),
    "keypoints of text": lambda c: change(c, categories=[{"id": 1, "keypoints": 5}]),
    "skeleton of text": lambda c: change(
        c, categories=[c["categories"][0] | {"skeleton": [["a"], 3]}]
    ),
    "huge numbers": lambda c: change(
        c, annotations=[c["annotations"][0] | {"keypoints": [10**400, 1, 2] * 4}]
    ),
    "too many digits": lambda c: json.dumps(c).replace("48", "4" * 5000),
    "infinite": lambda c: change(
        c, annotations=[c["annotations"][0] | {"keypoints": [float("inf"), 1, 2] * 4}]
    ),
    "an object": lambda c: change(c, annotations=[c["annotations"][0] | {"keypoints": {"a": 1}}]),
    "box": lambda c: change(c, annotations=[c["annotations"][0] | {"bbox": ["a", 1]}]),
    "huge size": lambda c: change(c, images=[i | {"height": 1e999} for i in c["images"]]),
    "names": lambda c: change(c, images=[i | {"file_name": "\0" * 300} for i in c["images"]]),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_hostile_annotations_are_an_error_in_words(tmp_path, case):
    path, content = made.coco(tmp_path)
    bad = BAD_COCO[case](content)
    path.write_text(bad if isinstance(bad, str) and bad[0] in "[{" else json.dumps(bad))
    if case == "skeleton of text":
        assert "no limbs" in said(read(path))
        return
    with pytest.raises(DataError) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


# --- Boxes ---------------------------------------------------------------------------------------


def test_boxes_lie_around_the_labels_with_a_margin(tmp_path):
    made.deeplabcut(tmp_path)
    (clip, _) = read(tmp_path, margin=0.5).clips
    for joints, box in zip(clip.joints, clip.boxes, strict=True):
        low, high = np.nanmin(joints, 0), np.nanmax(joints, 0)
        side = max(max(high - low), 0)
        extra = np.maximum(high - low, side / 4) / 2 + 0.5 * side
        np.testing.assert_allclose(box[:2], (low + high) / 2 - extra, rtol=1e-5)
        np.testing.assert_allclose(box[2:], (low + high) / 2 + extra, rtol=1e-5)
    whole = read(tmp_path, boxes="whole").clips[0].boxes
    np.testing.assert_array_equal(whole, np.tile([-0.5, -0.5, 63.5, 47.5], (3, 1)))
    region = read(tmp_path, boxes="1,2,30,40").clips[0].boxes
    np.testing.assert_array_equal(region, np.tile([1.0, 2, 30, 40], (3, 1)))
    with pytest.raises(DataError, match="lies outside"):
        read(tmp_path, boxes="100,2,300,40")
    with pytest.raises(DataError, match="3 of 3 labels have no box of their own"):
        read(tmp_path, boxes="annotated")
    with pytest.raises(DataError, match='boxes is "around": expected labels, annotated, whole or'):
        read(tmp_path, boxes="around")


def test_a_single_joint_has_a_box_with_an_extent(tmp_path):
    made.deeplabcut(tmp_path, names=["tongue tip"])
    for path in (tmp_path / "labeled-data").rglob("*.csv"):
        edit(path, put(3, 1, "7"))
        edit(path, put(3, 2, "8"))
    project = read(tmp_path)
    assert project.skeleton.size == 1
    for clip in project.clips:
        side = SIZE[0] / 2 * 1.6  # half the shorter side, and the margin
        np.testing.assert_allclose(clip.boxes[:, 2:] - clip.boxes[:, :2], side, rtol=1e-5)
        np.testing.assert_allclose(
            (clip.boxes[:, 2:] + clip.boxes[:, :2]) / 2, clip.joints[:, 0], rtol=1e-5
        )


def test_pandas_and_this_project_agree_on_a_table_of_one_line(tmp_path):
    """pandas itself takes a first row of empty cells for a header."""
    made.deeplabcut(tmp_path, ("a",), frames=(4,))
    path = tmp_path / "labeled-data/a/CollectedData_me.csv"
    truth = pandas.read_csv(path, header=[0, 1, 2], index_col=0)
    project = read(tmp_path)
    assert project.skeleton.joints == tuple(JOINTS[1:])  # the first one is labelled nowhere
    np.testing.assert_allclose(project.clips[0].joints[0], values(truth)[0][1:], rtol=1e-6)
