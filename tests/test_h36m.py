import json
import os
import pathlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import cdflib.cdfwrite
import cv2
import numpy as np
import pytest

from data_pipelines import clips as clips_lib
from data_pipelines import h36m, layouts, windows
from data_pipelines.clips import DataError, FrameError, LastUsed
from data_pipelines.video import Video
from ttp_jax import geometry
from ttp_jax.skeletons import H36M16

# Numbers of the joints among the official 32; both shoulders make the thorax.
OFFICIAL = {
    "pelvis": 0, "right_hip": 1, "right_knee": 2, "right_ankle": 3,
    "left_hip": 6, "left_knee": 7, "left_ankle": 8, "neck": 13, "head": 15,
    "left_shoulder": 17, "left_elbow": 18, "left_wrist": 19,
    "right_shoulder": 25, "right_elbow": 26, "right_wrist": 27,
}  # fmt: skip
# The same among mmpose's 17.
TOOLBOX = {
    "pelvis": 0, "right_hip": 1, "right_knee": 2, "right_ankle": 3,
    "left_hip": 4, "left_knee": 5, "left_ankle": 6, "neck": 8, "head": 10,
    "left_shoulder": 11, "left_elbow": 12, "left_wrist": 13,
    "right_shoulder": 14, "right_elbow": 15, "right_wrist": 16,
}  # fmt: skip
CAMERA = "54138969"  # focal lengths 1145.0494, 1143.7811, middle 512.5415, 515.4515
ROOT = "Human3.6M é"


# --- The official download -----------------------------------------------------------------------


def write_cdf(path, poses):
    """Write poses [frames, joints, axes], in place of a file that may be there."""
    path.unlink(missing_ok=True)
    layouts.write_poses(path, poses)


def write_video(path, frames):
    """Write a video in whose 160 x 32 pictures ten white or black squares spell the number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 50, (160, 32))
    for number in range(frames):
        bits = (number >> np.arange(10)) & 1
        row = np.repeat(bits * 255, 16).astype(np.uint8)
        picture = np.broadcast_to(row[:, None], (32, 160, 3)).copy()
        picture[..., 0] = 0  # cv2 writes BGR: no blue, so that white is yellow
        writer.write(picture)
    writer.release()


def number_in(picture):
    """Read the number off an RGB picture."""
    assert picture.shape == (32, 160, 3) and picture.dtype == np.uint8
    assert picture[..., 2].max() < 90  # no blue
    return int(((picture[16, 8::16, 0] > 127) << np.arange(10)).sum())


def flat_poses(frames):
    """Joint j of frame t at (500 + 3 j, 400 + 2 j + t)."""
    t, j = np.arange(frames)[:, None], np.arange(32)
    return np.stack([500.0 + 3 * j + 0 * t, 400.0 + 2 * j + t], -1)


def space_poses(points, depth=5000.0):
    """Camera-space poses in mm whose pelvis lies where the flat pelvis is labelled."""
    poses = np.zeros((len(points), 32, 3))
    poses[:, 0, 2] = depth
    poses[:, 0, 0] = (points[:, 0, 0] - 512.5415) / 1145.0494 * depth
    poses[:, 0, 1] = (points[:, 0, 1] - 515.4515) / 1143.7811 * depth
    return poses


def write_recording(root, subject, stem, frames=11, video=None, points=None, space=None):
    """Write a recording of the official download; `video` is its number of frames, if another."""
    labels = root / subject / "MyPoseFeatures"
    points = flat_poses(frames) if points is None else points
    write_cdf(labels / "D2_Positions" / f"{stem}.cdf", points)
    if space is not False:
        space = space_poses(points) if space is None else space
        write_cdf(labels / "D3_Positions_mono" / f"{stem}.cdf", space)
    write_video(root / subject / "Videos" / f"{stem}.mp4", frames if video is None else video)


@pytest.fixture
def official(tmp_path):
    """All people with one recording each, person 9 with two."""
    root = tmp_path / ROOT
    for number in (1, 5, 6, 7, 8, 9, 11):
        write_recording(root, f"S{number}", f"Walking 1.{CAMERA}")
    write_recording(root, "S9", f"WalkDog.{CAMERA}", frames=401)
    return root


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_recordings_and_splits(official):
    clips = h36m.clips(official)
    names = [f"S{n}_Walking_1.54138969" for n in (1, 5, 6, 7, 8)]
    # By the numbers of the actions: Walking is 14, WalkDog 15.
    tests = ["S9_Walking_1.54138969", "S9_WalkDog.54138969", "S11_Walking_1.54138969"]
    assert [c.name for c in clips] == names + tests
    assert [c.subject for c in clips] == ["S1", "S5", "S6", "S7", "S8", "S9", "S9", "S11"]
    assert [c.split for c in clips] == 5 * ["train"] + 3 * ["test"]
    assert [c.num_frames for c in clips] == [3, 3, 3, 3, 3, 1, 3, 1]  # of 11 or 401
    assert [c.name for c in h36m.clips(official, "train")] == names
    assert [c.name for c in h36m.clips(official, "test")] == tests
    with pytest.raises(DataError, match="train and test"):
        h36m.clips(official, "val")


def test_order_is_that_of_the_unpacked_pictures(tmp_path):
    names = ["S11_Eating.54138969", "S11_Eating_1.54138969", "S11_Eating_1.60457274"]
    write_annotation(tmp_path / "pictures", "test", dict.fromkeys(reversed(names), (1,)))
    write_pictures(tmp_path / "pictures", used(dict.fromkeys(names, (1,)), 200))
    for stem in ("Eating 1.60457274", "Eating 1.54138969", "Eating.54138969"):
        write_recording(tmp_path / "videos", "S11", stem)
    for folder in ("pictures", "videos"):
        with pytest.warns(UserWarning):
            assert [c.name for c in h36m.clips(tmp_path / folder, "test")] == names


def test_actions_come_in_the_order_of_their_numbers(tmp_path):
    names = ("Phoning", "Posing 2", "TakingPhoto", "Waiting", "Walking", "WalkingDog")
    for name in sorted(names):
        write_recording(tmp_path, "S11", f"{name}.{CAMERA}")
    with pytest.warns(UserWarning):
        found = h36m.clips(tmp_path, "test")
    wanted = [f"S11_{name.replace(' ', '_')}.{CAMERA}" for name in names]
    assert [c.name for c in found] == wanted


def test_clip_holds_every_5th_or_200th_frame(official):
    train, test = h36m.clips(official, "train")[0], h36m.clips(official, "test")[1]
    assert [number_in(train.read(i)) for i in range(3)] == [0, 5, 10]
    assert [number_in(test.read(i)) for i in range(3)] == [0, 200, 400]
    head = H36M16.joints.index("head")  # number 15 of 32
    np.testing.assert_array_equal(train.joints[:, head, 1], [430, 435, 440])
    np.testing.assert_array_equal(test.joints[:, head, 1], [430, 630, 830])
    assert train.joints.dtype == np.float32 and train.visible.all()
    assert train.visible.shape == (3, 16)


def test_joints_come_by_their_names(official):
    clip = h36m.clips(official, "train")[0]
    for k, name in enumerate(H36M16.joints):
        number = (17 + 25) / 2 if name == "thorax" else OFFICIAL[name]
        np.testing.assert_array_equal(clip.joints[0, k], [500 + 3 * number, 400 + 2 * number])


def test_box_is_2_metres_at_the_depth_of_the_pelvis(official):
    # Half of it 1000 mm * 1145.0494 / 5000 mm = 229.00988 wide, 1143.7811 / 5 = 228.75622 high,
    # around the pelvis at (500, 400 + t), t = 0, 5, 10; then 1.25 times, and 7.5 % lower.
    clip = h36m.clips(official, "train")[0]
    np.testing.assert_allclose(
        clip.boxes[1], [500 - 229.00988, 405 - 228.75622, 729.00988, 633.75622], rtol=1e-6
    )
    crop = geometry.box_to_crop(clip.boxes.astype(np.float64))[1]
    np.testing.assert_allclose(crop, [500, 405 + 0.075 * 458.01976, 572.5247], rtol=1e-6)


@pytest.mark.parametrize("why", ["no depth", "world coordinates", "behind", "unknown camera"])
def test_box_around_the_joints_without_depth(tmp_path, why):
    points = flat_poses(6)
    points[..., 0], points[..., 1] = 120, 100
    points[0, 13], points[0, 15] = (100, 50), (140, 150)
    space = space_poses(points)
    if why == "no depth":
        space = False
    elif why == "world coordinates":
        space[:, 0] = -91.7, 154.4, 907.3
    elif why == "behind":
        space[:, 0] *= -1  # projects onto the same point
    camera = "12345678" if why == "unknown camera" else CAMERA
    write_recording(tmp_path, "S9", f"Sitting.{camera}", points=points, space=space)
    write_recording(tmp_path, "S11", f"Sitting.{CAMERA}")
    with pytest.warns(UserWarning, match=rf"1 of 2 clips have no usable .* S9_Sitting.{camera}"):
        clip, other = h36m.clips(tmp_path, "test")
    # 40 x 100 around (120, 100): a square of 125.
    np.testing.assert_array_equal(clip.boxes[0], [57.5, 37.5, 182.5, 162.5])
    assert other.boxes[0, 2] - other.boxes[0, 0] == pytest.approx(458.01976)


def test_joint_without_coordinates_is_invisible(tmp_path):
    points = flat_poses(11)
    points[5, 25, 0] = np.nan  # the right shoulder of the second used frame
    write_recording(tmp_path, "S1", f"Eating.{CAMERA}", points=points, space=space_poses(points))
    with pytest.warns(UserWarning, match="no recordings of S5, S6, S7, S8"):
        (clip,) = h36m.clips(tmp_path, "train")
    hidden = [H36M16.joints[k] for k in np.flatnonzero(~clip.visible[1])]
    assert hidden == ["thorax", "right_shoulder"] and clip.visible[[0, 2]].all()
    assert np.isfinite(clip.boxes).all()
    points[5] = np.nan
    write_recording(tmp_path, "S1", f"Eating.{CAMERA}", points=points)
    with pytest.raises(DataError, match="row 1 of S1_Eating.* no box. Unpack"):
        h36m.clips(tmp_path, "train")


def test_people_may_be_missing_but_not_all(official):
    (official / "S5").rename(official / "not S5")
    with pytest.warns(UserWarning, match="no recordings of S5: the split is not the published"):
        assert len(h36m.clips(official, "train")) == 4
    assert len(h36m.clips(official, "test")) == 3
    for number in (9, 11):
        (official / f"S{number}").rename(official / f"not S{number}")
    with pytest.raises(DataError, match="(?s)no recordings of S9, S11.*--config.data.root=DIR"):
        h36m.clips(official, "test")


@pytest.mark.parametrize("video", ["missing", "damaged"])
def test_the_official_hole_is_skipped_and_reported(official, video):
    write_recording(official, "S11", f"Directions.{CAMERA}")
    path = official / "S11" / "Videos" / f"Directions.{CAMERA}.mp4"
    path.unlink() if video == "missing" else path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(UserWarning, match="skipped S11_Directions.54138969, whose video") as caught:
        clips = h36m.clips(official, "test")
    assert len(caught) == 1 and len(clips) == 3


def test_recordings_of_all_actions_are_left_out(official):
    write_video(official / "S9" / "Videos" / f"_ALL 1.{CAMERA}.mp4", 3)
    write_video(official / "S9" / "Videos" / f"_ALL.{CAMERA}.mp4", 3)
    assert len(h36m.clips(official, "test")) == 3


def test_missing_damaged_and_unlabelled_videos_are_named(official):
    path = official / "S9" / "Videos" / f"Walking 1.{CAMERA}.mp4"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match="S9/Videos/Walking 1.54138969.mp4 can't be read: No such"):
        h36m.clips(official, "test")
    for damage in (b"", b"no video", whole[:-200]):
        path.write_bytes(damage)
        wrong = "is (empty|not a video that FFmpeg can open).* Unpack that video again"
        with pytest.raises(DataError, match=f"Walking 1.54138969.mp4 {wrong}"):
            h36m.clips(official, "test")
    path.write_bytes(whole)
    (path.parent / "Walking 2.60457274.mp4").write_bytes(whole)
    with pytest.raises(DataError, match="1 files in .*Videos have no labels.* Walking 2.60457274"):
        h36m.clips(official, "test")


def test_video_and_labels_of_different_length(official):
    write_recording(official, "S9", f"Posing.{CAMERA}", frames=201, video=203)
    assert h36m.clips(official, "test")[0].num_frames == 2
    write_recording(official, "S9", f"Posing.{CAMERA}", frames=201, video=200)
    with pytest.raises(DataError, match="Posing.* holds 200 frames, but its labels describe 201"):
        h36m.clips(official, "test")
    write_recording(official, "S9", f"Posing.{CAMERA}", space=np.zeros((4, 32, 3)))
    with pytest.raises(
        DataError, match="D3_.*Posing.* 4 frames, but the labels in D2_Positions 11"
    ):
        h36m.clips(official, "test")


@pytest.mark.parametrize("damage", ["empty", "text", "half", "17 joints", "no frame", "no Pose"])
def test_unusable_labels_are_named(official, damage):
    path = official / "S9" / "MyPoseFeatures" / "D2_Positions" / f"Walking 1.{CAMERA}.cdf"
    whole = path.read_bytes()
    message = "can't be read as a CDF file of poses.*--config.data.root=DIR"
    if damage == "17 joints":
        write_cdf(path, np.ones((11, 17, 2)))
        message = r"poses have shape .1, 11, 34., expected .frames, 64.*again"
    elif damage == "no frame":
        path.unlink()
        file = cdflib.cdfwrite.CDF(path)
        spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True}
        file.write_var(spec | {"Dim_Sizes": [64]})
        file.close()
        message = "(can't be read as a CDF|at least one frame)"
    elif damage == "no Pose":
        path.write_bytes(whole.replace(b"Pose\0", b"Rose\0"))
    else:
        path.write_bytes(
            {"empty": b"", "text": b"no CDF", "half": whole[: len(whole) // 2]}[damage]
        )
    with pytest.raises(DataError, match=f"(?s)D2_Positions/Walking 1.54138969.cdf.*{message}"):
        h36m.clips(official, "test")


def test_missing_folders_show_the_layout(tmp_path, official):
    layout = r".*S1/\n      Videos/Directions 1.*images/S1/S1_Dir.*--config.data.root=DIR"
    with pytest.raises(DataError, match="(?s)nowhere can't be listed .No such file" + layout):
        h36m.clips(tmp_path / "nowhere")
    with pytest.raises(DataError, match="(?s)holds neither images/ nor S1/" + layout):
        h36m.clips(tmp_path)
    (official / "S9" / "MyPoseFeatures").rename(tmp_path / "labels")
    with pytest.raises(DataError, match="(?s)D2_Positions can't be listed .No such file" + layout):
        h36m.clips(official, "test")


def test_frames_in_any_order_from_many_threads(official):
    write_recording(official, "S1", f"Waiting.{CAMERA}", frames=300)
    clip = h36m.clips(official, "train")[0]
    order = np.random.default_rng(0).permutation(np.arange(120) % 60)
    with ThreadPoolExecutor(8) as pool:
        numbers = [number_in(p) for p in pool.map(clip.read, order)]
    assert numbers == (5 * order).tolist()


def test_few_decoders_stay_open(official, monkeypatch):
    monkeypatch.setattr(Video, "_open_ones", LastUsed(2))
    clips = h36m.clips(official, "train")

    def turn():
        assert [number_in(clip.read(i)) for i in (1, 0, 2) for clip in clips] == 5 * [5] + 5 * [
            0
        ] + 5 * [10]

    folder = pathlib.Path("/proc/self/fd")
    turn()
    assert len(Video._open_ones._used) == 2
    if folder.is_dir():
        targets = [os.path.realpath(p) for p in folder.iterdir()]
        here = os.path.realpath(official)
        assert sum(t.endswith(".mp4") and t.startswith(here) for t in targets) <= 2


def test_frames_that_cannot_be_decoded_are_named(official):
    path = official / "S9" / "Videos" / f"WalkDog.{CAMERA}.mp4"
    clip, whole = h36m.clips(official, "test")[1], path.read_bytes()
    path.unlink()
    with pytest.raises(
        FrameError, match="WalkDog.54138969.mp4 can't be read: No such file.*Unpack"
    ):
        clip.read(1)
    path.write_bytes(whole)
    assert number_in(clip.read(1)) == 200
    shorter = h36m.clips(official, "test")[1]
    write_video(path, 10)
    assert number_in(shorter.read(0)) == 0
    with pytest.raises(
        FrameError, match="WalkDog.54138969.mp4 has 10 frames, but no frame 200. Unpack"
    ):
        shorter.read(1)


def test_one_subject_is_all_recordings_of_a_person(official):
    nine, eleven = clips_lib.by_subject(h36m.clips(official, "test"))
    assert (nine.name, nine.num_frames, eleven.name) == ("S9", 4, "S11")
    cut = windows.SubjectFrames(nine, image_size=32).read(range(4))
    assert cut.valid.all()
    assert [number_in(f[:32, :160]) for f in cut.pictures] == [0, 0, 200, 400]


# --- mmpose's pictures ---------------------------------------------------------------------------


def toolbox_points(numbers):
    """Points [T, 17, 3]: joint j of picture n at (500 + 3 j, 400 + 2 j + n), all marked."""
    n, j = np.array(numbers)[:, None], np.arange(17)
    return np.stack([500.0 + 3 * j + 0 * n, 400.0 + 2 * j + n, 1.0 + 0 * (n + j)], -1)


def toolbox_space(points):
    """Camera-space joints [T, 17, 4] in metres and marks; the pelvis projects onto its label."""
    space = np.zeros((len(points), 17, 4))
    space[:, 0] = 0, 0, 5, 1
    space[:, 0, 0] = (points[:, 0, 0] - 512.5415) / 1145.0494 * 5
    space[:, 0, 1] = (points[:, 0, 1] - 515.4515) / 1143.7811 * 5
    return space


def file_name(recording, number):
    folder = recording.partition("_")[0]
    return f"{folder}/{recording}/{recording}_{number:06d}.jpg"


def write_pictures(root, files):
    """Write pictures whose colour is (number, 50, 200) in RGB."""
    for file in files:
        path = root / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.empty((16, 24, 3), np.uint8)
        picture[:] = (200, 50, int(path.stem[-6:]) % 256)
        path.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def write_annotation(root, split, recordings, kind="fps10", **changes):
    """Write an annotation file of {recording: picture numbers}; `changes` replace npz arrays."""
    files = [file_name(name, n) for name, numbers in recordings.items() for n in numbers]
    points = toolbox_points([n for numbers in recordings.values() for n in numbers])
    arrays = {"imgname": np.array(files), "part": points, "S": toolbox_space(points)} | changes
    if kind == "json":
        path = root / "annotation_body2d" / f"h36m_coco_{split}.json"
        rows = zip(arrays["part"], arrays["S"], strict=True)
        content = {
            "categories": [{"id": 1, "keypoints": []}],
            "images": [{"id": i + 7, "file_name": f} for i, f in reversed([*enumerate(files)])],
            "annotations": [
                {"id": 90 - i, "image_id": i + 7, "bbox": [0, 0, 1, 1]}
                | {"keypoints": p.ravel().tolist(), "keypoints_3d": s.ravel().tolist()}
                for i, (p, s) in enumerate(rows)
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    else:
        path = root / "annotation_body3d" / kind / f"h36m_{split}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        extent = np.ones(len(files))
        np.savez(path, center=np.ones((len(files), 2)), scale=extent, **arrays)
    return path


TRAIN = {f"S{n}_Directions_1.{CAMERA}": (1, 6, 11) for n in (1, 5, 6, 7, 8)}
TEST = {
    "S9_WalkDog.54138969": (1, 6, 201, 206, 401),
    "S9_Walking_1.60457274": (1, 6),
    "S11_Waiting.54138969": (1, 6, 201),
}


def used(recordings, stride):
    return [file_name(r, n) for r, ns in recordings.items() for n in ns if n % stride == 1]


@pytest.fixture(params=["fps10", "fps50", "json"])
def unpacked(tmp_path, request):
    """Pictures of both splits and one kind of annotation file."""
    root = tmp_path / ROOT
    write_annotation(root, "train", TRAIN, request.param)
    space = toolbox_space(toolbox_points([n for ns in TEST.values() for n in ns]))
    space[5:7] = 0, 0, 5, 1  # camera 60457274: the pelvis lies 12 and 115 pixels beside the label
    write_annotation(root, "test", TEST, request.param, S=space)
    write_pictures(root, used(TRAIN, 5) + used(TEST, 200))
    return root


def test_pictures_of_mmpose(unpacked):
    with pytest.warns(UserWarning, match=r"1 of 8 clips have no .* first is S9_Walking_1.60457274"):
        clips = h36m.clips(unpacked)
    walk_dog, walking, eleven = TEST
    assert [c.name for c in clips] == [*TRAIN, walking, walk_dog, eleven]
    assert [c.subject for c in clips] == ["S1", "S5", "S6", "S7", "S8", "S9", "S9", "S11"]
    assert [c.split for c in clips] == 5 * ["train"] + 3 * ["test"]
    assert [c.num_frames for c in clips] == [3, 3, 3, 3, 3, 1, 3, 2]
    train, test = clips[1], clips[6]
    for k, name in enumerate(H36M16.joints):
        number = (11 + 14) / 2 if name == "thorax" else TOOLBOX[name]
        np.testing.assert_array_equal(train.joints[0, k], [500 + 3 * number, 401 + 2 * number])
    head = H36M16.joints.index("head")
    np.testing.assert_array_equal(test.joints[:, head, 1], [421, 621, 821])
    assert [int(test.read(i)[0, 0, 0]) for i in range(3)] == pytest.approx([1, 201, 145], abs=3)
    np.testing.assert_allclose(
        test.boxes[1], [500 - 229.00988, 601 - 228.75622, 729.00988, 829.75622], rtol=1e-6
    )
    # 48 x 32 around (524, 417): a square of 60.
    np.testing.assert_array_equal(clips[5].boxes, [[494, 387, 554, 447]])


def test_one_split_needs_only_its_own_file(tmp_path):
    write_annotation(tmp_path, "train", TRAIN)
    write_pictures(tmp_path, used(TRAIN, 5))
    assert len(h36m.clips(tmp_path, "train")) == 5
    with pytest.raises(
        DataError, match=r"(?s)none of .*h36m_test.npz, .*coco_test.json exist.*DIR"
    ):
        h36m.clips(tmp_path)


def test_rows_of_others_and_without_a_mark(tmp_path):
    recordings = {f"S9_Eating.{CAMERA}": (201, 1), "S1_Eating.55011271": (1,)}
    recordings |= {f"S9__ALL_1.{CAMERA}": (1,), f"S11_Eating.{CAMERA}": (1,)}
    points = toolbox_points([201, 1, 1, 1, 1])
    points[1, 11] = 0  # x, y and mark of the left shoulder
    write_annotation(tmp_path, "test", recordings, part=points)
    write_pictures(tmp_path, used(recordings, 200))
    first, second = h36m.clips(tmp_path, "test")
    assert (first.name, second.name) == (f"S9_Eating.{CAMERA}", f"S11_Eating.{CAMERA}")
    assert [int(first.read(i)[0, 0, 0]) for i in range(2)] == pytest.approx([1, 201], abs=3)
    hidden = [H36M16.joints[k] for k in np.flatnonzero(~first.visible[0])]
    assert hidden == ["thorax", "left_shoulder"] and first.visible[1].all()


def test_missing_pictures(unpacked):
    picture = unpacked / "images" / file_name("S11_Waiting.54138969", 201)
    picture.unlink()
    with pytest.raises(DataError, match=r"Waiting.54138969 lacks 1 of the 2 .*54138969_000201.jpg"):
        h36m.clips(unpacked, "test")
    (picture.parent / "S11_Waiting.54138969_000001.jpg").unlink()
    picture.parent.rmdir()
    with pytest.raises(DataError, match="(?s)S11_Waiting.54138969 can't be listed .No such.*DIR"):
        h36m.clips(unpacked, "test")


def test_the_official_hole_among_pictures(tmp_path):
    recordings = TEST | {f"S11_Directions.{CAMERA}": (1, 6, 201)}
    write_annotation(tmp_path, "test", recordings)
    write_pictures(tmp_path, used(TEST, 200))
    with pytest.warns(UserWarning) as caught:
        assert len(h36m.clips(tmp_path, "test")) == 3
    assert "skipped S11_Directions.54138969" in str(caught[0].message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgname": np.array(["a"])}, "names 1 pictures for 10 poses.*run preprocess_h36m.py"),
        ({"imgname": np.array(10 * ["a.jpg"])}, "person and frame from picture name 'a.jpg'"),
        ({"part": np.ones((10, 16, 3))}, r"shape \(10, 16, 3\), expected \(pictures, 17, 3\)"),
        ({"S": np.ones(10)}, "can't be read as an annotation file.*--config.data.root=DIR"),
        (
            {"imgname": np.array(10 * [file_name(f"S9_Eating.{CAMERA}", 2)])},
            "no picture of S9, S11 whose number is 1 more than a multiple of 200",
        ),
    ],
)
def test_unusable_annotation_names_file_and_fault(tmp_path, changes, message):
    write_annotation(tmp_path, "test", TEST, **changes)
    write_pictures(tmp_path, used(TEST, 200))
    with pytest.raises(DataError, match=f"(?s)h36m_test.npz.*{message}"):
        h36m.clips(tmp_path, "test")


@pytest.mark.parametrize("kind", ["fps10", "json"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "other"])
def test_damaged_annotation_names_file_and_layout(tmp_path, kind, damage):
    path = write_annotation(tmp_path, "test", TEST, kind)
    whole = path.read_bytes()
    damaged = {"empty": b"", "text": b"no such file", "half": whole[: len(whole) // 2]}
    if damage == "other":
        path.write_text("{}") if kind == "json" else np.savez(path, center=np.ones(3))
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=f"(?s){path.name} can't be read as an annot.*root=DIR"):
        h36m.clips(tmp_path, "test")


def test_truncated_picture_names_file_and_remedy(tmp_path):
    write_annotation(tmp_path, "train", TRAIN)
    write_pictures(tmp_path, used(TRAIN, 5))
    clip = h36m.clips(tmp_path, "train")[0]
    path = tmp_path / "images" / file_name(clip.name, 6)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FrameError, match="54138969_000006.jpg is cut off.*Unpack"):
        clip.read(1)
    assert clip.read(2).shape == (16, 24, 3)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read it all")
def test_unreadable_files_are_named(official):
    folder = official / "S9"
    clip = h36m.clips(official, "test")[1]
    video = folder / "Videos" / f"Walking 1.{CAMERA}.mp4"
    video.chmod(0)
    with pytest.raises(FrameError, match="Walking 1.54138969.mp4 can't be read: Permission denied"):
        clip.read(0)
    with pytest.raises(DataError, match="Walking 1.54138969.mp4 can't be read: Permission denied"):
        h36m.clips(official, "test")
    video.chmod(0o600)
    (folder / "MyPoseFeatures" / "D2_Positions" / f"Walking 1.{CAMERA}.cdf").chmod(0)
    with pytest.raises(DataError, match="(?s)Walking 1.54138969.cdf can't be read.*Permission"):
        h36m.clips(official, "test")
    (folder / "Videos").chmod(0)
    with pytest.raises(DataError, match="Videos can't be listed .Permission denied"):
        h36m.clips(official, "test")
    (folder / "Videos").chmod(0o700)
