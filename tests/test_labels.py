"""Labels agree with pycocotools, with pandas and with the arrays that were written."""

import csv
import json

import made_projects
import numpy as np
import pandas
import pytest
import scipy.io
from pycocotools.coco import COCO

from data_pipelines import labels, penn
from data_pipelines.clips import DataError
from ttp_jax import exports, metrics, skeletons
from ttp_jax.skeletons import BBC7, H36M16, PENN13, SKELETONS, spellings

HEIGHT, WIDTH = 240, 320
COCO17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
ARMS = ["left_wrist", "right_wrist"]


def places(frames, joints, seed=0):
    """Random places [T, K, 2] in the picture, on hundredths."""
    values = np.random.default_rng(seed).uniform(0, (WIDTH - 1, HEIGHT - 1), (frames, joints, 2))
    return values.round(2)


def column(name, skeleton=PENN13):
    return skeleton.joints.index(name)


# --- COCO ----------------------------------------------------------------------------------------


def coco(names=COCO17, pictures=("f_0007.jpg", "f_0002.jpg", "f_0030.jpg"), seed=0):
    """Annotations of one person in each picture; flags 0, 1 and 2 occur."""
    rng = np.random.default_rng(seed)
    xy = places(len(pictures), len(names), seed)
    flags = rng.integers(0, 3, xy.shape[:2])
    flags[:, -1] = 2
    table = np.concatenate([xy * (flags > 0)[..., None], flags[..., None]], -1)
    return {
        "images": [
            {"id": 100 - i, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for i, name in enumerate(pictures)
        ],
        "annotations": [
            {
                "id": 1 + i,
                "image_id": 100 - i,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": row.ravel().tolist(),
                "num_keypoints": int((row[:, 2] > 0).sum()),
            }
            for i, row in enumerate(table)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(names), "skeleton": []}],
    }


def write_json(folder, content):
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_coco_holds_what_pycocotools_reads(tmp_path, skeleton, capsys):
    path = write_json(tmp_path, coco())
    found = labels.read(path, skeleton, size=(HEIGHT, WIDTH), count=31)
    reader = COCO(str(path))
    (category,) = reader.loadCats(reader.getCatIds())
    frames = {int(image["file_name"][2:6]): key for key, image in reader.imgs.items()}
    assert found.frames.tolist() == sorted(frames) == [2, 7, 30]
    assert found.joints.dtype == np.float32 and found.visible.dtype == bool
    for frame, joints, visible in zip(*found[:3], strict=True):
        (person,) = reader.loadAnns(reader.getAnnIds(imgIds=frames[frame]))
        truth = dict(
            zip(category["keypoints"], np.reshape(person["keypoints"], (-1, 3)), strict=True)
        )
        for name, place, seen in zip(skeleton.joints, joints, visible, strict=True):
            x, y, flag = truth.get(name, (0, 0, 0))
            assert seen == (flag == 2)
            expected = (x, y) if flag > 0 else (np.nan, np.nan)
            np.testing.assert_allclose(place, expected, rtol=1e-6)


def test_coco_notes_name_what_was_left_out(tmp_path):
    found = labels.read(write_json(tmp_path, coco()), PENN13)
    notes = " ".join(found.notes)
    assert "no such joint: nose, left_eye, right_eye, left_ear, right_ear." in notes
    assert "the model without labels: head." in notes  # the nose is not taken for it
    assert np.isnan(found.joints[:, column("head")]).all()
    hidden = (np.isfinite(found.joints[..., 0]) & ~found.visible).sum()
    assert hidden and f"{hidden} labelled joints are marked as hidden" in notes


def test_pictures_without_numbers_count_in_order(tmp_path):
    content = coco(pictures=("run/a.png", "run/b.png", "run/c.png"))
    del content["annotations"][1]  # b has no label, and still counts
    found = labels.read(write_json(tmp_path, content), PENN13)
    assert found.frames.tolist() == [0, 2]
    assert "in order" in found.notes[0]
    content["images"][2]["file_name"] = "run/c9.png"  # some have a number: no guess for the others
    with pytest.raises(DataError, match=r"run/a.png contains no whole frame number. Rename"):
        labels.read(write_json(tmp_path, content), PENN13)


@pytest.mark.parametrize(
    ("picture", "frame"),
    [
        ("frame_000042.PNG", 42),
        ("2024-05-01/cam3_00042.mp4", 42),  # neither the folder's number nor the suffix's
        ("3f2a9b10-frame_42.jpg", 42),
        (r"C:\labels\clip7\img0042.png", 42),
        ("clip_42_png.rf.3f8a77de01.jpg", 42),  # Roboflow's hash
    ],
)
def test_frame_is_the_last_number_of_the_name(tmp_path, picture, frame):
    found = labels.read(write_json(tmp_path, coco(pictures=(picture,))), PENN13)
    assert found.frames.tolist() == [frame]


def test_first_shifts_names_that_count_from_one(tmp_path):
    path = write_json(tmp_path, coco(pictures=("0001.png", "0010.png")))
    assert labels.read(path, PENN13, count=10, first=1).frames.tolist() == [0, 9]
    with pytest.raises(DataError, match=r"0010.png would be frame 10.*video's 10, counted from 0"):
        labels.read(path, PENN13, count=10)
    with pytest.raises(DataError, match="0001.png would be frame -1"):
        labels.read(path, PENN13, first=2)


def test_first_shifts_rows_that_count_from_one(tmp_path):
    path = write_csv(tmp_path, table(ARMS, INDICES["numbers"]))
    assert labels.read(path, PENN13, count=100, first=1).frames.tolist() == [6, 41, 99]
    assert labels.read(path, PENN13, names=NAMES, first=1).frames.tolist() == [6, 41, 99]
    with pytest.raises(DataError, match="100 would be frame 100, .*; --labels_first=1 if they"):
        labels.read(path, PENN13, count=100)
    with pytest.raises(DataError, match="42 would be frame -58, .*count from 100 .--labels_first"):
        labels.read(path, PENN13, count=100, first=100)


def test_what_counts_from_zero_is_not_shifted(tmp_path):
    ordered = write_json(tmp_path, coco(pictures=("run/a.png", "run/b.png", "run/c.png")))
    for path in (ordered, write_penn(tmp_path)[0]):
        shifted, plain = (labels.read(path, PENN13, first=first).frames for first in (1, 0))
        np.testing.assert_array_equal(shifted, plain)
    with pytest.raises(DataError, match="counted from 0. Check that the labels belong .*video.$"):
        labels.read(path, PENN13, count=2)


def test_pictures_are_chosen_by_the_clips_folder(tmp_path):
    content = coco(pictures=("walk/1.png", "jump/1.png", "walk/3.png"))
    path = write_json(tmp_path, content)
    found = labels.read(path, PENN13, "walk")
    assert found.frames.tolist() == [1, 3]
    x = content["annotations"][2]["keypoints"][3 * COCO17.index("right_ankle")]
    assert found.joints[1, column("right_ankle"), 0] == np.float32(x)
    assert "folders other than walk: jump" in " ".join(found.notes)
    for name in (None, "swim"):
        with pytest.raises(DataError, match=r"2 folders \(jump, walk\), none of them"):
            labels.read(path, PENN13, name)
    loose = write_json(tmp_path, coco(pictures=("walk/1.png", "jump/1.png", "7.png")))
    assert labels.read(loose, PENN13, "walk").frames.tolist() == [1, 7]  # no folder: of any clip
    one = write_json(tmp_path, coco(pictures=("walk/1.png",)))
    assert "of walk, used for swim" in " ".join(labels.read(one, PENN13, "swim").notes)


def test_boxes_and_unlabelled_people_are_no_second_person(tmp_path):
    content = coco()
    content["annotations"] += [
        {"id": 8, "image_id": 100, "category_id": 1, "keypoints": [0] * 51},
        {"id": 9, "image_id": 100, "category_id": 2, "bbox": [1, 2, 3, 4]},
    ]
    content["categories"].append({"id": 2, "name": "ball"})
    assert len(labels.read(write_json(tmp_path, content), PENN13).frames) == 3


def edited(**changes):
    """Example with the first annotation changed."""
    content = coco()
    content["annotations"][0] |= changes
    return content


def two_people():
    content = coco()
    first = content["annotations"][0]
    content["annotations"].append(first | {"id": 77, "keypoints": [1, 1, 2, *FULL[3:]]})
    return content


def two_skeletons():
    content = coco()
    content["categories"].append({"id": 2, "name": "hand", "keypoints": ["thumb"]})
    content["annotations"][0] |= {"category_id": 2, "keypoints": [1, 2, 2]}
    return content


def same_ids():
    content = coco()
    content["images"][1]["id"] = 100
    return content


def unlabelled():
    content = coco()
    for person in content["annotations"]:
        person["keypoints"] = [5.0, 6.0, 0] * 17
    return content


FULL = [10.0, 20.0, 2] * 17
BAD_COCO = {
    "cut off": (json.dumps(coco())[:-200], "not valid JSON, or cut off"),
    "empty": ("", "not valid JSON, or cut off"),
    "results": ([{"image_id": 1, "category_id": 1, "keypoints": FULL}], "Files of results"),
    "no categories": ({**coco(), "categories": []}, "no labelled keypoint .v > 0."),
    "nothing labelled": (unlabelled(), "no labelled keypoint .v > 0."),
    "no images": ({k: v for k, v in coco().items() if k != "images"}, "it has no images"),
    "a list": ([1], r"it is .1.\): expected an object with images"),
    "two people": (two_people(), "annotation 77 is a second person in f_0007.jpg"),
    "two skeletons": (two_skeletons(), "2 categories have labelled keypoints"),
    "unknown picture": (edited(image_id=5), "annotation 1 refers to image 5, which"),
    "too few values": (edited(keypoints=FULL[:-1]), "50 values in keypoints, expected 51"),
    "text": (edited(keypoints=[*FULL[:-3], "a", 1, 2]), "expected 51 numbers"),
    "nan": (edited(keypoints=[*FULL[:-3], float("nan"), 1, 2]), "at NaN: set its v to 0"),
    "infinite": (edited(keypoints=[*FULL[:-3], float("inf"), 1, 2]), "right_ankle of f_0007.jpg"),
    "flag": (edited(keypoints=[*FULL[:-1], 3]), "expected 0 .not labelled."),
    "negative": (edited(keypoints=[*FULL[:-3], -1, -1, 2]), r"\[-1.0, -1.0\], expected a point"),
    "outside": (edited(keypoints=[*FULL[:-3], 5, 241, 2]), r"\[5.0, 241.0\].* 320 x 240 pixels"),
    "same ids": (same_ids(), "two images have the same id"),
    "wrong types": (edited(image_id=[100]), "holds no COCO keypoint annotations"),
    "twice": (coco(pictures=("a_7.png", "b_07.png")), "a_7.png and b_07.png are both frame 7"),
    "date": (coco(pictures=("20240131125959123.png",)), "would be frame 20240131125959123"),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_bad_coco_files_are_named(tmp_path, case):
    content, message = BAD_COCO[case]
    path = write_json(tmp_path, content)
    with pytest.raises(DataError, match=message) as error:
        labels.read(path, PENN13)
    assert str(path) in str(error.value)


def test_labels_of_pictures_of_another_size_are_refused(tmp_path):
    path = write_json(tmp_path, coco())
    with pytest.raises(DataError, match=r"at 320 x 240 pixels, but the video has 640 x 480"):
        labels.read(path, PENN13, size=(480, 640))


# --- DeepLabCut ----------------------------------------------------------------------------------


def table(names, index, individuals=None, scorer="me"):
    """A table of DeepLabCut as pandas holds it; one joint and one whole row are not labelled."""
    levels = ["scorer", "bodyparts", "coords"]
    columns = [(scorer, name, axis) for name in names for axis in "xy"]
    if individuals:
        levels.insert(1, "individuals")
        columns = [(s, who, name, axis) for who in individuals for s, name, axis in columns]
    values = places(len(index), len(columns) // 2).reshape(len(index), -1)
    values[0, :2], values[-1] = np.nan, np.nan
    return pandas.DataFrame(
        values, index=index, columns=pandas.MultiIndex.from_tuples(columns, names=levels)
    )


def write_csv(folder, frame):
    path = folder / "CollectedData_me.csv"
    frame.to_csv(path)
    return path


PATHS = [f"labeled-data/walk/img{number:04d}.png" for number in (42, 7, 100, 8)]
INDICES = {
    "numbers": [42, 7, 100, 8],
    "paths": PATHS,
    "windows": [path.replace("/", "\\") for path in PATHS],
    "three columns": pandas.MultiIndex.from_tuples([tuple(path.split("/")) for path in PATHS]),
}


@pytest.mark.parametrize("individuals", [None, ["one"]], ids=["3 headers", "4 headers"])
@pytest.mark.parametrize("index", INDICES)
def test_deeplabcut_holds_what_pandas_reads(tmp_path, index, individuals):
    path = write_csv(tmp_path, table(PENN13.joints, INDICES[index], individuals))
    found = labels.read(path, PENN13, "walk", (HEIGHT, WIDTH), count=101)
    head = [0, 1, 2, 3] if individuals else [0, 1, 2]
    column = [0, 1, 2] if index == "three columns" else 0
    truth = pandas.read_csv(path, header=head, index_col=column).to_numpy().reshape(4, -1, 2)
    assert found.frames.tolist() == [7, 42, 100]  # 8 has no label
    np.testing.assert_array_equal(found.joints, truth[[1, 0, 2]].astype(np.float32))
    np.testing.assert_array_equal(found.visible, np.isfinite(truth[[1, 0, 2]]).all(-1))
    assert found.visible.sum() == 3 * PENN13.size - 1 and found.notes == ()


def test_an_individual_without_labels_does_not_count(tmp_path):
    frame = table(ARMS, INDICES["paths"], ["one", "two"])
    frame.loc[:, ("me", "one")] = np.nan
    found = labels.read(write_csv(tmp_path, frame), PENN13)
    expected = frame["me"]["two"].to_numpy().reshape(4, 2, 2)[[1, 0, 2]]
    np.testing.assert_allclose(found.joints[:, [column(name) for name in ARMS]], expected)
    with pytest.raises(DataError, match=r"2 individuals \(one, two\): keep the columns of the one"):
        labels.read(write_csv(tmp_path, table(ARMS, PATHS, ["one", "two"])), PENN13)


def test_own_predictions_are_read_back(tmp_path):
    joints = places(5, PENN13.size).astype(np.float32)
    joints[2] = np.nan
    joints[0, 3] = np.nan
    track = exports.Track("run", joints, np.ones(joints.shape[:2]), PENN13, first_frame=11)
    (path,) = exports.write(track, tmp_path, ["dlc-csv"])
    found = labels.read(path, PENN13)
    assert found.frames.tolist() == [11, 12, 14, 15]
    np.testing.assert_allclose(found.joints, joints[[0, 1, 3, 4]], atol=1e-4)
    assert "predictions are used as labels" in found.notes[0]


def cells(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def broken_csv(case, lines):
    """Lines of a good table, damaged."""
    if case == "cut off":
        lines[-1] = lines[-1][:3]
    elif case == "no coords":
        del lines[2]
    elif case == "text":
        lines[4][1] = "12,5"
    elif case == "half":
        lines[4][1] = ""
    elif case == "negative":
        lines[4][1:3] = "-1", "-1"
    elif case == "infinite":
        lines[4][1:3] = "inf", "3"
    elif case == "beyond the picture":
        lines[4][1] = "320.5"
    elif case == "negative frame":
        lines[4][0] = "-3"
    elif case == "half frame":
        lines[4][0] = "1.5"
    elif case == "beyond the video":
        lines[4][0] = "101"
    elif case == "twice":
        lines[4][0] = "img42.png"
    elif case == "no number":
        lines[4][0] = "labeled-data/walk/first.png"
    elif case == "nothing labelled":
        lines[3:] = [[line[0], *["NaN"] * (len(line) - 1)] for line in lines[3:]]
    elif case == "no rows":
        del lines[3:]
    elif case == "other bodyparts":
        lines[1][1:] = ["snout"] * 2 + ["tail"] * 2
    elif case == "same joint":
        lines[1][1:] = ["LWrist"] * 2 + ["left_wrist"] * 2
    elif case == "two scorers":
        lines[1][1:] = ["left_wrist"] * 4
    elif case == "no y":
        lines[2][2] = "likelihood"
    elif case == "boxes":
        lines[:] = [["frame", "x1", "y1", "x2", "y2"], ["0", "1", "2", "3", "4"]]
    elif case == "empty":
        lines.clear()
    return lines


BAD_CSV = {
    "cut off": "line 7: expected 5 cells",
    "no coords": "lines begin with scorer, bodyparts",
    "text": "line 5: .*'12,5'",
    "half": r"left_wrist of 7 lies at \[nan",
    "negative": r"left_wrist of 7 lies at \[-1.0, -1.0\].*Leave the cells of unlabelled",
    "infinite": r"left_wrist of 7 lies at \[inf, 3.0\]",
    "beyond the picture": r"\[320.5, .* 320 x 240 pixels",
    "negative frame": "-3 would be frame -3",
    "half frame": "1.5 contains no whole frame number",
    "beyond the video": "101 would be frame 101, expected one of the video's 101",
    "twice": "42 and img42.png are both frame 42",
    "no number": "labeled-data/walk/first.png contains no whole frame number",
    "nothing labelled": "none of its 4 rows has a label",
    "no rows": "none of its 0 rows has a label",
    "other bodyparts": "its keypoints are snout, tail; expected some of head, left_shoulder",
    "same joint": "LWrist and left_wrist both mean left_wrist",
    "two scorers": "two columns x of left_wrist",
    "no y": "left_wrist has columns x, likelihood, expected x and y",
    "boxes": "lines begin with frame, 0, expected scorer",
    "empty": "is empty: export it again, or delete it",
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_deeplabcut_files_are_named(tmp_path, case):
    path = write_csv(tmp_path, table(ARMS, INDICES["numbers"]))
    lines = broken_csv(case, cells(path))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    with pytest.raises(DataError, match=BAD_CSV[case]) as error:
        labels.read(path, PENN13, size=(HEIGHT, WIDTH), count=101)
    assert str(path) in str(error.value)


def test_only_other_bodyparts_are_labelled(tmp_path):
    frame = table([*ARMS, "nose"], INDICES["numbers"])
    frame.iloc[:, : 2 * len(ARMS)] = np.nan
    with pytest.raises(DataError, match="none of left_wrist, right_wrist is labelled"):
        labels.read(write_csv(tmp_path, frame), PENN13)


# --- Penn Action ---------------------------------------------------------------------------------


def write_penn(folder, frames=4, **changes):
    xy = places(frames, 13)
    fields = {
        "action": "bowl",
        "x": xy[..., 0] + 1,  # MATLAB counts from 1
        "y": xy[..., 1] + 1,
        "visibility": np.random.default_rng(1).integers(0, 2, (frames, 13)).astype(np.uint8),
        "train": np.int32(1),
        "bbox": np.tile([11.0, 21, 40, 80], (frames, 1)),
        "dimensions": np.array([[HEIGHT, WIDTH, frames]], np.uint16),
        "nframes": np.uint8(frames),
    } | changes
    path = folder / "0001.mat"
    scipy.io.savemat(path, fields)
    return path, xy, fields["visibility"] > 0


def test_penn_holds_what_was_saved(tmp_path):
    path, xy, visible = write_penn(tmp_path)
    found = labels.read(path, PENN13, "anything", (HEIGHT, WIDTH), count=4)
    assert found.frames.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.joints, xy, atol=1e-4)
    np.testing.assert_array_equal(found.visible, visible)
    bbc = labels.read(path, BBC7)
    for name in BBC7.joints:
        np.testing.assert_array_equal(
            bbc.joints[:, column(name, BBC7)], found.joints[:, column(name)]
        )


def test_penn_joints_without_a_place_are_not_labelled(tmp_path):
    x = places(4, 13)[..., 0] + 1
    x[0, 2], x[3] = np.nan, np.nan
    found = labels.read(write_penn(tmp_path, x=x)[0], PENN13)
    assert found.frames.tolist() == [0, 1, 2]
    assert np.isnan(found.joints[0, 2]).all() and not found.visible[0, 2]
    assert np.isnan(found.joints).sum() == 2


def test_bad_penn_files_are_named(tmp_path):
    path, _, _ = write_penn(tmp_path)
    with pytest.raises(DataError, match=r"0001.mat: 3 would be frame 3, expected one of the video"):
        labels.read(path, PENN13, count=3)
    with pytest.raises(DataError, match=r"0001.mat: 0 was labelled at 320 x 240 pixels"):
        labels.read(path, PENN13, size=(480, 640))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"0001.mat can't be read"):
        labels.read(path, PENN13)
    path, *_ = write_penn(tmp_path, x=np.ones((4, 12)))
    with pytest.raises(DataError, match=r"0001.mat: field x has shape \(4, 12\)"):
        labels.read(path, PENN13)
    path, *_ = write_penn(tmp_path, x=np.full((4, 13), np.nan))
    with pytest.raises(DataError, match=r"0001.mat: none of head, .* is labelled"):
        labels.read(path, PENN13)


def test_real_penn_labels_equal_those_of_the_data_set(published_labels):
    """Their joints may lie outside the picture, so no rule of the other formats may hit them."""
    for path in published_labels[:20]:
        truth = penn.read_label(path)
        found = labels.read(path, PENN13, size=truth.size, count=truth.num_frames)
        np.testing.assert_array_equal(found.joints, truth.joints[found.frames])
        np.testing.assert_array_equal(found.visible, truth.visible[found.frames])
        assert len(found.frames) == truth.num_frames


# --- Names and files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "joint"),
    [
        ("left_wrist", "left_wrist"),
        ("Left-Wrist", "left_wrist"),
        ("LEFT WRIST", "left_wrist"),
        ("leftWrist", "left_wrist"),
        ("left.wrist", "left_wrist"),
        ("l_wrist", "left_wrist"),
        ("LWrist", "left_wrist"),
        ("wrist_left", "left_wrist"),
        ("wrist-R", "right_wrist"),
        ("RAnkle", "right_ankle"),
        ("L Elbow", "left_elbow"),
        ("R_Hip", "right_hip"),
        ("Head", "head"),
    ],
)
def test_spellings_of_one_name(tmp_path, name, joint):
    path = write_csv(tmp_path, table(["nose", name], [0, 1, 2]))
    found = labels.read(path, PENN13)
    labelled = np.isfinite(found.joints).all(-1).any(0)
    assert [PENN13.joints[k] for k in np.flatnonzero(labelled)] == [joint]
    assert (f"read under another name: {name} as {joint}." in found.notes) == (name != joint)


@pytest.mark.parametrize("name", ["nose", "wrist", "wrist1", "left_hand", "wristle", "", "头"])
def test_other_names_are_not_guessed(tmp_path, name):
    path = write_csv(tmp_path, table([name or "?"], [0, 1, 2]))
    with pytest.raises(DataError, match="has none of the model.s joints") as error:
        labels.read(path, PENN13)
    assert (name or "?") in str(error.value) and "left_wrist" in str(error.value)


def test_no_two_joints_share_a_spelling():
    for skeleton in SKELETONS.values():
        forms = [form for joint in skeleton.joints for form in spellings(joint)]
        assert len(forms) == len(set(forms))


def test_files_that_are_no_labels(tmp_path):
    with pytest.raises(DataError, match=r"a.txt is not a file of labels: expected COCO .*\.json"):
        labels.read(tmp_path / "a.txt", PENN13)
    for name in ("gone.json", "gone.csv", "gone.h5", "gone.slp", "gone.mat"):
        with pytest.raises(DataError, match=f"^\\S*{name} can't be read"):
            labels.read(tmp_path / name, PENN13)
    (tmp_path / "utf16.csv").write_bytes("scorer".encode("utf-16"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        labels.read(tmp_path / "utf16.csv", PENN13)


def test_byte_order_mark_and_empty_lines_do_not_matter(tmp_path):
    path = write_csv(tmp_path, table(ARMS, INDICES["paths"]))
    plain = labels.read(path, PENN13)
    path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n") + "\r\n,,,,\r\n")
    found = labels.read(path, PENN13)
    for one, other in zip(plain[:3], found[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_are_scored_frame_by_frame(tmp_path):
    """As a verb does it: the predictions of the labelled frames against the labels."""
    found = labels.read(write_json(tmp_path, coco()), H36M16, count=40)
    joints = np.full((40, H36M16.size, 2), np.nan)
    joints[found.frames] = found.joints + np.array([3.0, 4.0])
    report = metrics.score_labels(joints[found.frames], found.joints, found.visible, H36M16)
    assert report["joints"] == found.visible.sum()
    assert report["RMSE px"]["mean"] == pytest.approx(5)
    assert "PCK@0.2" not in report  # COCO has no neck
    assert "labels of neck" in report["notes"][0]


# --- Pictures, .h5, .slp, folders ----------------------------------------------------------------


NAMES = {f"img{i:04d}.png": place for place, i in enumerate((7, 8, 42, 100))}


@pytest.mark.parametrize("index", ["paths", "windows", "three columns"])
def test_labels_of_pictures_go_by_their_names(tmp_path, index):
    """One deleted picture must not shift the others: img0042 is the third one here."""
    frame = table(ARMS, INDICES[index])
    found = labels.read(write_csv(tmp_path, frame), PENN13, "walk", count=4, names=NAMES)
    assert found.frames.tolist() == [0, 2, 3]  # 7, 42, 100; 8 has no label
    truth = frame.to_numpy().reshape(4, 2, 2)[[1, 0, 2]].astype(np.float32)
    np.testing.assert_array_equal(found.joints[:, [column(name) for name in ARMS]], truth)


@pytest.mark.parametrize(
    ("labelled", "given"),
    [
        ("la\u0308uft_7.png", "l\u00e4uft_7.png"),  # a Mac's two letters for one
        ("l\u00e4uft_7.png", "la\u0308uft_7.png"),
        ("IMG_7.PNG", "img_7.png"),
        ("img_7.JPG", "img_7.png"),
    ],
)
def test_names_of_pictures_may_be_written_by_another_system(tmp_path, labelled, given):
    path = write_json(tmp_path, coco(pictures=(labelled,)))
    assert labels.read(path, PENN13, names={"x.png": 0, given: 3}).frames.tolist() == [3]
    if labelled.casefold() == given.casefold():  # no guess between two
        with pytest.raises(DataError, match="none of its 1 labelled pictures"):
            labels.read(path, PENN13, names={given: 0, given.title(): 1, "i.png": 2})


def test_folders_may_be_written_by_another_system(tmp_path):
    path = write_json(tmp_path, coco(pictures=("la\u0308uft/7.png", "walk/8.png")))
    assert labels.read(path, PENN13, "l\u00e4uft").frames.tolist() == [7]


def test_pictures_that_are_not_there_are_said(tmp_path):
    path = write_csv(tmp_path, table(ARMS, INDICES["paths"]))
    found = labels.read(path, PENN13, names={"img0042.jpg": 5, "img0007.png": 6, "other.png": 7})
    assert found.frames.tolist() == [5, 6]  # the suffix may differ
    assert (
        "left out, 1 labelled pictures that aren't among those given: img0100.png." in found.notes
    )
    with pytest.raises(DataError, match=r"none of its 3 labelled pictures \(img0042.png, .*other"):
        labels.read(path, PENN13, names={"other.png": 0})
    both = {"img0042.jpg": 0, "img0042.tif": 1, "img0007.png": 2}
    assert labels.read(path, PENN13, names=both).frames.tolist() == [2]  # no guess between two


def test_coco_pictures_without_numbers_go_by_their_names(tmp_path):
    path = write_json(tmp_path, coco(pictures=("run/a.png", "run/b.png", "run/c.png")))
    found = labels.read(path, PENN13, names={"c.png": 0, "a.png": 1})
    assert found.frames.tolist() == [0, 1]
    assert not any("in order" in note for note in found.notes)


def test_numbers_of_frames_count_for_pictures_too(tmp_path):
    path = write_csv(tmp_path, table(ARMS, INDICES["numbers"]))
    assert labels.read(path, PENN13, names=NAMES, count=101).frames.tolist() == [7, 42, 100]


def test_a_number_behind_the_frames_is_not_taken_for_it(tmp_path):
    content = coco(pictures=("frame_0004_cam1.png", "frame_0009_cam1.png", "frame_0011_cam1.png"))
    assert labels.read(write_json(tmp_path, content), PENN13).frames.tolist() == [4, 9, 11]


@pytest.mark.parametrize("kind", ["fixed", "table"])
def test_h5_holds_what_the_csv_holds(tmp_path, kind):
    frame = table(PENN13.joints, PATHS)
    truth = labels.read(write_csv(tmp_path, frame), PENN13, "walk")
    path = tmp_path / "CollectedData_me.h5"
    frame.to_hdf(path, key="df_with_missing", format=kind)
    found = labels.read(path, PENN13, "walk", (HEIGHT, WIDTH), count=101)
    for one, other in zip(truth, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_deeplabcuts_own_folder_is_taken(tmp_path):
    folder = tmp_path / "labeled-data" / "walk"
    folder.mkdir(parents=True)
    truth = labels.read(write_csv(folder, table(ARMS, INDICES["paths"])), PENN13, "walk")
    found = labels.read(folder, PENN13, "walk")
    np.testing.assert_array_equal(found.joints, truth.joints)
    with pytest.raises(DataError, match="has no file of labels: expected DeepLabCut's CollectedDa"):
        labels.read(tmp_path, PENN13)
    write_csv(folder, table(ARMS, INDICES["paths"])).rename(folder / "CollectedData_you.csv")
    write_csv(folder, table(ARMS, INDICES["paths"]))
    with pytest.raises(DataError, match=r"labels of 2 scorers \(me, you\)"):
        labels.read(folder, PENN13)


def test_slp_holds_what_sleap_io_wrote(tmp_path):
    made_projects.video(tmp_path / "walk.mp4")
    path = tmp_path / "labels.slp"
    truth = made_projects.sleap(path, [tmp_path / "walk.mp4"])
    skeleton = skeletons.build("mouse", ["tail", "left_ear", "nose"])
    found = labels.read(path, skeleton, "walk", made_projects.SIZE, count=6)
    assert found.frames.tolist() == [0, 2, 5]
    assert labels.read(path, skeleton, "walk", first=1).frames.tolist() == [0, 2, 5]
    at = [made_projects.JOINTS.index(name) for name in ("tail", "ear_left", "nose")]
    expected = np.array([frame.user_instances[0].numpy()[at] for frame in truth])
    np.testing.assert_allclose(found.joints, expected, rtol=1e-6)
    with pytest.raises(DataError, match=r"walk/5 would be frame 5, expected one of the video's 5"):
        labels.read(path, skeleton, "walk", count=5)
    made_projects.sleap(path, [tmp_path / "walk.mp4"], tracks=("anna", "bert"))
    with pytest.raises(DataError, match=r"2 individuals \(anna, bert\)"):
        labels.read(path, skeleton, "walk")


def test_binary_flags_of_coco_are_visible(tmp_path):
    content = coco()
    for person in content["annotations"]:
        person["keypoints"][2::3] = np.minimum(person["keypoints"][2::3], 1).tolist()
    found = labels.read(write_json(tmp_path, content), PENN13)
    np.testing.assert_array_equal(found.visible, np.isfinite(found.joints).all(-1))
    assert any("v = 1 counts as visible" in note for note in found.notes)


def test_labels_that_are_all_hidden_are_refused(tmp_path):
    hidden = np.zeros((4, 13), np.uint8)
    path, *_ = write_penn(tmp_path, visibility=hidden)
    with pytest.raises(DataError, match="all 52 labelled joints are hidden. Export visible"):
        labels.read(path, PENN13)
