"""The time and the name of each frame, from the file to every output."""

import csv
import dataclasses
import hashlib
import json
import math
import types

import av
import made_projects
import numpy as np
import pyarrow.parquet
import pytest

from data_pipelines import media
from data_pipelines.clips import Clip, DataError, part
from data_pipelines.video import Video
from ttp_jax import exports, skeletons, smooth
from ttp_jax.runs import overlay, results, user_labels
from ttp_jax.runs.outcome import Outcome
from ttp_jax.skeletons import PENN13

SIZE = (48, 64)
UNEVEN = np.array([0.0, 0.02, 0.5, 0.53, 0.563, 0.663, 1.563, 1.573])
COUNT = len(UNEVEN)
RATE = (COUNT - 1) / UNEVEN[-1]


def clip_of(**more):
    pictures = np.random.default_rng(0).integers(0, 255, (COUNT, *SIZE, 3), np.uint8)
    boxes = np.tile(np.float32([0, 0, 20, 20]), (COUNT, 1))
    return Clip("a", "a", "test", COUNT, lambda i: pictures[i], boxes, **more)


def joints_of(count=COUNT):
    return np.random.default_rng(1).uniform(0, 40, (count, PENN13.size, 2))


def track(**more):
    joints = joints_of()
    given = exports.Track("a", joints, np.ones(joints.shape[:2]), PENN13, RATE, 0, (64, 48))
    return given._replace(**more)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Tables


def write(folder, clip):
    joints = joints_of(clip.num_frames).astype(np.float32)
    result = types.SimpleNamespace(joints=joints, confidence=joints[..., 0] / 40, inputs="x")
    results.write_result(folder, clip, result, PENN13)
    return joints, read_csv(folder / "a.csv"), np.load(folder / "a.npz")


def test_the_table_has_each_frame_s_time(tmp_path):
    joints, rows, arrays = write(tmp_path, clip_of(times=UNEVEN, frames_per_second=RATE))
    assert list(rows[0])[:3] == ["frame", "time", "head_x"]
    np.testing.assert_allclose([float(row["time"]) for row in rows], UNEVEN, atol=1e-6)
    np.testing.assert_allclose([float(row["head_y"]) for row in rows], joints[:, 0, 1], atol=1e-4)
    np.testing.assert_array_equal(arrays["times"], UNEVEN)


def test_the_table_of_a_folder_has_each_picture_s_name(tmp_path):
    names = tuple(f'img{i}, "of me" é.png' for i in range(COUNT))
    joints, rows, arrays = write(tmp_path, part(clip_of(frame_names=names), "2-", 2))
    assert list(rows[0])[:3] == ["frame", "picture", "head_x"]
    assert [row["picture"] for row in rows] == list(names[2::2])
    assert [row["frame"] for row in rows] == ["2", "4", "6"]
    assert arrays["pictures"].tolist() == list(names[2::2])
    np.testing.assert_allclose([float(row["head_x"]) for row in rows], joints[:, 0, 0], atol=1e-4)


def test_a_clip_that_knows_neither_has_neither(tmp_path):
    _, rows, arrays = write(tmp_path, clip_of())
    assert list(rows[0])[:2] == ["frame", "head_x"]
    assert set(arrays.files) == {"joints", "confidence", "frames", "inputs", "origin"}


# Exports


def test_formats_with_times_have_each_frame_s_own(tmp_path):
    names = [f"img{i}.png" for i in range(COUNT)]
    uneven = track(times=UNEVEN, pictures=names)
    trc, npz, parquet = exports.write(uneven, tmp_path, ["trc", "npz", "parquet"])
    lines = [line.split("\t") for line in trc.read_text().splitlines()]
    np.testing.assert_allclose([float(line[1]) for line in lines[6:]], UNEVEN, atol=1e-6)
    assert float(lines[2][0]) == pytest.approx(RATE, rel=1e-7)
    with np.load(npz) as arrays:
        np.testing.assert_array_equal(arrays["times"], UNEVEN)
        assert arrays["pictures"].tolist() == names
        assert arrays["fps"] == RATE
    table = pyarrow.parquet.read_table(parquet).to_pandas()
    assert table.columns.tolist() == [
        *("frame", "keypoint", "time", "picture", "x", "y", "confidence")
    ]
    heads = table.query("keypoint == 'head'")
    np.testing.assert_array_equal(heads.time, UNEVEN)
    assert heads.picture.tolist() == names


def test_evenly_spaced_rows_are_timed_by_the_rate(tmp_path):
    (path,) = exports.write(track(frames_per_second=12.5, first_frame=4, step=2), tmp_path, ["trc"])
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    expected = (4 + 2 * np.arange(COUNT)) / 25
    np.testing.assert_allclose([float(line[1]) for line in lines[6:]], expected, atol=1e-6)


def test_formats_that_count_frames_say_that_times_are_uneven():
    formats = ["dlc-csv", "npz", "sleap", "deeplabcut"]
    (note,) = exports.note_on_times(UNEVEN, formats, "a.csv")
    assert "10 to 900 ms apart" in note and f"{RATE:.4g} per second on average" in note
    assert "dlc-csv, sleap, deeplabcut can't store this" in note and "column time of a.csv" in note
    assert exports.note_on_times(UNEVEN, ["npz", "trc", "parquet"], "a.csv") == []
    even = np.round(np.arange(90) / 137.3, 3)  # as a container rounds
    for times in (None, even, np.arange(9) / 30, UNEVEN[:2]):
        assert exports.note_on_times(times, formats, "a.csv") == []


def test_times_and_pictures_that_are_not_one_a_row_are_refused(tmp_path):
    for wrong in ({"times": UNEVEN[1:]}, {"pictures": ["a.png"]}):
        with pytest.raises(ValueError, match=r"a: expected one time or picture per row, 8"):
            exports.write(track(**wrong), tmp_path, ["npz"])


# Smoothing


def plain_one_euro(values, times, cutoff=1.0, beta=0.05, speed_cutoff=1.0):
    """As in the article's appendix, with the time since the last value."""

    def alpha(frequency, step):
        return 1 / (1 + 1 / (2 * math.pi * frequency * step))

    held, slope, out = values[0], 0.0, [values[0]]
    for value, step in zip(values[1:], np.diff(times), strict=True):
        a = alpha(speed_cutoff, step)
        slope = a * (value - held) / step + (1 - a) * slope
        a = alpha(cutoff + beta * abs(slope), step)
        held = a * value + (1 - a) * held
        out.append(held)
    return out


def test_one_euro_follows_uneven_times():
    joints = joints_of()
    found = smooth.smooth(joints, "one-euro", RATE, UNEVEN)
    np.testing.assert_allclose(found[:, 2, 1], plain_one_euro(joints[:, 2, 1], UNEVEN))
    even = smooth.smooth(joints, "one-euro", 25.0, np.arange(COUNT) / 25)
    np.testing.assert_allclose(even, smooth.smooth(joints, "one-euro", 25.0))
    gap = joints.copy()
    gap[3] = np.nan  # what follows begins anew, at its own times
    found = smooth.smooth(gap, "one-euro", RATE, UNEVEN)
    np.testing.assert_allclose(found[4:, 0, 0], plain_one_euro(joints[4:, 0, 0], UNEVEN[4:]))


# The overlay


def overlaid(folder, clip, rate):
    joints = joints_of()
    poses = {"before": joints, "after": joints + 1}
    outcome = Outcome(clip, SIZE, joints, joints + 1, (np.ones((COUNT, 13)),) * 2, {}, {})
    return overlay.overlay_video(folder / "o.mp4", outcome, poses, PENN13, rate)


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        (None, 25.0),
        (np.arange(COUNT) * 1001 / 30000, 30000 / 1001),
        (np.arange(COUNT) / 120, 120.0),
        (UNEVEN, RATE),
        (UNEVEN + 2, RATE),  # of a part of a video
    ],
)
def test_the_overlay_lasts_as_long_as_the_video(tmp_path, times, rate):
    path = overlaid(tmp_path, clip_of(times=times, frames_per_second=rate), rate)
    expected = np.arange(COUNT) / rate if times is None else times - times[0]
    video = Video(path)
    np.testing.assert_allclose(video.times, expected, atol=1e-5)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        lasts = float(stream.duration * stream.time_base)
    assert lasts == pytest.approx(expected[-1] + 1 / rate, abs=2e-5)


# Labels


def label_csv(path, rows):
    head = ["scorer,me,me", "bodyparts,head,head", "coords,x,y"]
    path.write_text("\n".join([*head, *(f"{name},{x},{y}" for name, x, y in rows)]))
    return str(path)


def test_labels_of_a_folder_find_their_pictures_by_name(tmp_path):
    """One that was deleted shifts no other; those that aren't there are named."""
    names = tuple(f"img{i:03d}.png" for i in (0, 1, 3, 4, 5, 6, 7, 9))
    clip = clip_of(frame_names=names, sizes=np.tile(SIZE, (COUNT, 1)))
    path = label_csv(
        tmp_path / "l.csv",
        [
            (r"labeled-data\a\img005.png", 5, 6),
            ("labeled-data/a/img009.png", 9, 6),
            ("labeled-data/a/img002.png", 2, 6),
        ],
    )
    found = user_labels.read(path, 0, PENN13, clip)
    assert found.frames.tolist() == [4, 7] and found.joints[:, 0, 0].tolist() == [5, 9]
    assert any("img002.png" in note for note in found.notes)
    chosen = part(clip, "3-5")
    found = user_labels.read(path, 0, PENN13, chosen)
    assert found.frames.tolist() == [4] and found.joints[0, 0].tolist() == [5, 6]
    with pytest.raises(ValueError, match="o.csv.*other1.png"):
        user_labels.read(label_csv(tmp_path / "o.csv", [("other1.png", 1, 1)]), 0, PENN13, clip)
    numbered = label_csv(tmp_path / "n.csv", [("2", 3, 4)])  # bare numbers stay numbers
    assert user_labels.read(numbered, 0, PENN13, clip).frames.tolist() == [2]


def test_names_without_numbers_find_their_pictures(tmp_path):
    names = ("anna.png", "bert.png", *(f"c{i}.png" for i in range(COUNT - 2)))
    content = {
        "images": [{"id": 7, "file_name": "bert.jpg", "height": 48, "width": 64}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "keypoints": [3, 4, 2]}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["head"]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    clip = clip_of(frame_names=names, sizes=np.tile(SIZE, (COUNT, 1)))
    found = user_labels.read(str(tmp_path / "coco.json"), 0, PENN13, clip)
    assert found.frames.tolist() == [1] and found.joints[0, 0].tolist() == [3, 4]


def test_pictures_of_several_sizes_are_compared_with_their_labels_one_by_one(tmp_path):
    sizes = np.array([(48, 64), (64, 48)])
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": int(height), "width": int(width)}
            for i, (height, width) in enumerate(sizes)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "keypoints": [3, 60 if i else 4, 2]}
            for i in range(2)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": ["head"]}],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    boxes = np.tile(np.float32([0, 0, 20, 20]), (2, 1))
    clip = Clip("a", "a", "test", 2, lambda i: np.zeros((*sizes[i], 3), np.uint8), boxes)
    clip = dataclasses.replace(clip, sizes=sizes, frame_names=("0.png", "1.png"))
    assert user_labels.read(str(path), 0, PENN13, clip).frames.tolist() == [0, 1]
    content["images"][1] |= {"height": 48, "width": 64}  # as the other one
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="1.png was labelled at 64 x 48 .*has 48 x 64"):
        user_labels.read(str(path), 0, PENN13, clip)


def test_labels_may_be_a_folder_of_deeplabcut(tmp_path):
    """They are recognised by their content, so that other labels are scored again."""
    folder = tmp_path / "labeled-data/walk"
    folder.mkdir(parents=True)
    file = folder / "CollectedData_me.csv"
    label_csv(file, [("labeled-data/walk/img005.png", 5, 6)])
    once = user_labels.digest(str(folder))
    assert user_labels.digest(str(file)) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert user_labels.read(str(folder), 0, PENN13, clip_of()).frames.tolist() == [5]
    assert once == user_labels.digest(str(folder))
    label_csv(file, [("labeled-data/walk/img005.png", 5, 7)])
    assert once != user_labels.digest(str(folder))


def test_labels_are_those_of_the_given_one_of_two_videos_of_a_name(tmp_path):
    skeleton, videos = skeletons.build("mouse", made_projects.JOINTS), []
    for number, day in enumerate(("day1", "day2")):
        videos.append(tmp_path / day / "cam.mp4")
        made_projects.video(videos[-1])
        made_projects.picture(tmp_path / day / "cam" / f"img{number}.png")
    labels = made_projects.sleap(tmp_path / "labels.slp", videos, frames=(1, 4))
    pictures = ("day1/cam/img0.png", "day2/cam/img1.png")
    _, content = made_projects.coco(tmp_path, pictures)
    for number, video in enumerate(videos):
        (clip,) = media.clips([video])
        known = user_labels.read(str(tmp_path / "labels.slp"), 0, skeleton, clip)
        wanted = [frame.instances[0].numpy() for frame in labels[2 * number : 2 * number + 2]]
        np.testing.assert_allclose(known.joints, wanted, rtol=1e-6)
        known = user_labels.read(str(tmp_path / "labels.json"), 0, skeleton, clip)
        places = content["annotations"][number]["keypoints"]
        np.testing.assert_allclose(known.joints[0], np.reshape(places, (4, 3))[:, :2], rtol=1e-6)
        assert known.frames.tolist() == [number]
    made_projects.video(tmp_path / "copy" / "cam.mp4")
    (clip,) = media.clips([tmp_path / "copy" / "cam.mp4"])
    for file in ("labels.slp", "labels.json"):
        with pytest.raises(DataError, match="2 videos or folders named cam .*day1_cam, day2_cam"):
            user_labels.read(str(tmp_path / file), 0, skeleton, clip)


def test_labels_of_cropped_pictures_are_refused_for_the_whole_video(tmp_path):
    """DeepLabCut can crop frames when it extracts them; their labels lie elsewhere in the video."""
    folder, clip = tmp_path / "labeled-data/walk", clip_of(sizes=np.tile(SIZE, (COUNT, 1)))
    made_projects.picture(folder / "img005.png", size=(40, 40))
    file = label_csv(folder / "CollectedData_me.csv", [("labeled-data/walk/img005.png", 5, 6)])
    for path in (str(folder), file):
        with pytest.raises(DataError, match="img005.png was labelled at 40 x 40 .* has 64 x 48"):
            user_labels.read(path, 0, PENN13, clip)
    made_projects.picture(folder / "img005.png", size=SIZE)
    assert user_labels.read(file, 0, PENN13, clip).frames.tolist() == [5]


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (["frame_0004_cam1.png"], [4]),
        (["frame_0004_cam1.png", "frame_0007_cam1.png"], [4, 7]),
        (["0002_cam1.png", "0005_cam1.png"], [2, 5]),  # what differs
        (["cam2_0003.png"], [3]),
        (["0003_cam2.png"], [3]),
        (["07me-img005.png"], [5]),
        (["walk_20260512_0006.png"], [6]),
        (["Frame 3 (copy 2).png"], [3]),
        (["img0001.png", "img0003_2.png"], [1, 3]),
    ],
)
def test_the_number_of_the_frame_is_told_from_others(tmp_path, names, frames):
    path = label_csv(tmp_path / "l.csv", [(f"labeled-data/a/{name}", 1, 2) for name in names])
    clip = clip_of(sizes=np.tile(SIZE, (COUNT, 1)))
    assert user_labels.read(path, 0, PENN13, clip).frames.tolist() == frames


def test_labels_of_a_video_whose_pixels_are_not_square_lie_on_its_stretched_frames(tmp_path):
    """DeepLabCut and SLEAP label its stored frames; pictures may be of either kind."""
    made_projects.video(tmp_path / "hdv.mp4", aspect=(2, 1))
    (clip,) = media.clips([tmp_path / "hdv.mp4"])
    (height, width), stored = clip.largest, made_projects.SIZE
    assert (height, width) == (stored[0], 2 * stored[1])

    def read(path):
        known = user_labels.read(str(path), 0, skeletons.build("mouse", ["head", "nose"]), clip)
        assert "pixels are not square" in known.notes[0]
        return known.joints[0][known.visible[0]][0].tolist()

    corner = width - 0.5, height - 0.5  # of the whole frame, at its lower right
    rows = [("labeled-data/hdv/img02.png", stored[1] - 0.5, stored[0] - 0.5)]
    folder = tmp_path / "labeled-data/hdv"
    made_projects.picture(folder / "img02.png", size=stored)
    for place in (tmp_path / "alone.csv", folder / "CollectedData_me.csv"):
        assert read(label_csv(place, rows)) == [*corner]
    made_projects.picture(folder / "img02.png", size=(height, width))  # once of `suggest`
    stretched = [(rows[0][0], *corner)]
    assert read(label_csv(folder / "CollectedData_me.csv", stretched)) == [*corner]
    assert read(folder) == [*corner]
    assert read(label_csv(tmp_path / "numbers.csv", [("2", *corner)])) == [*corner]
    labels = made_projects.sleap(tmp_path / "labels.slp", [tmp_path / "hdv.mp4"])
    x, y = labels[0].user_instances[0].numpy()[0]
    np.testing.assert_allclose(read(tmp_path / "labels.slp"), [2 * x + 0.5, y], rtol=1e-6)
    for size, place in ((stored, rows[0][1:]), ((height, width), corner)):
        content = {
            "images": [{"id": 1, "file_name": "2.png", "height": size[0], "width": size[1]}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [*place, 2]}],
            "categories": [{"id": 1, "name": "mouse", "keypoints": ["nose"]}],
        }
        (tmp_path / "coco.json").write_text(json.dumps(content))
        assert read(tmp_path / "coco.json") == [*corner]
