import os

import cv2
import numpy as np
import pytest
import scipy.io

from data_pipelines import bbc_pose
from data_pipelines.clips import DataError, FrameError
from ttp_jax import geometry, metrics
from ttp_jax.skeletons import BBC7

FIELDS = (
    "videoName", "type", "source", "train_frames", "train_joints", "test_frames", "test_joints"
)  # fmt: skip
TEST_FRAMES = (14, 20, 30)
SEMI_FRAMES = tuple(range(4, 41, 2))  # of test videos
TRAIN_FRAMES = (3, 4, 7)


def joints_of(frames):
    """Labels (2, 7, N) as MATLAB holds them: x = 100 + 10 k + f, y = 200 + 5 k + f."""
    f, k = np.array(frames, float), np.arange(7.0)[:, None]
    return np.stack([100 + 10 * k + f, 200 + 5 * k + f])


def write_mat(path, count=92, **changes):
    """Write the struct array as MATLAB saved it; `changes` replace fields of a video ("v11")."""
    rows = np.zeros((1, count), [(name, object) for name in FIELDS])
    for i in range(count):
        train = i < 10
        kind = "train" if train else "val" if i < 15 else "test"
        frames = TRAIN_FRAMES if train else SEMI_FRAMES
        manual = () if train else TEST_FRAMES
        row = {
            "videoName": f"p{i}",
            "type": kind,
            "source": "buehler11",
            "train_frames": np.array(frames, float)[None],
            "train_joints": joints_of(frames),
            "test_frames": np.array(manual, float).reshape(1, -1),
            "test_joints": joints_of(manual) if manual else np.zeros((0, 0)),
        }
        for name, value in (row | changes.get(f"v{i + 1}", {})).items():
            rows[name][0, i] = value
    scipy.io.savemat(path, {"bbcpose": rows})


def write_pictures(root, number, frames):
    """Write pictures whose colour is (10 * video, frame, 200) in RGB."""
    folder = root / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        picture = np.empty((16, 24, 3), np.uint8)
        picture[:] = (200, frame, 10 * number)  # cv2 writes BGR
        (folder / f"{frame}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "BBC Pose é"
    folder.mkdir()
    write_mat(folder / "bbcpose.mat")
    for number in range(1, 11):
        write_pictures(folder, number, TRAIN_FRAMES)
    for number in range(11, 21):
        write_pictures(folder, number, SEMI_FRAMES)
    return folder


def test_videos_and_splits(root):
    clips = bbc_pose.clips(root)
    assert [c.name for c in clips] == [f"{n:02d}" for n in range(1, 21)]
    assert [c.subject for c in clips] == [c.name for c in clips]
    assert [c.split for c in clips] == 10 * ["train"] + 10 * ["test"]
    assert [c.num_frames for c in clips] == 20 * [3]
    assert [c.name for c in bbc_pose.clips(root, "train")] == [f"{n:02d}" for n in range(1, 11)]
    assert [c.name for c in bbc_pose.clips(root, "test")] == [f"{n:02d}" for n in range(11, 21)]
    with pytest.raises(DataError, match="train and test"):
        bbc_pose.clips(root, "val")


def test_clip_holds_labels_and_pictures(root):
    train, test = (bbc_pose.clips(root)[i] for i in (2, 12))
    # Frame 7 is row 2 of a training video, frame 20 row 1 of a test video; labels are 1-based.
    head, left_shoulder = BBC7.joints.index("head"), BBC7.joints.index("left_shoulder")
    np.testing.assert_array_equal(train.joints[2, head], [106, 206])
    np.testing.assert_array_equal(test.joints[1, left_shoulder], [100 + 60 + 20 - 1, 249])
    assert test.joints.shape == (3, 7, 2) and test.joints.dtype == np.float32
    assert test.visible.shape == (3, 7) and test.visible.all()
    picture = test.read(1)
    assert picture.shape == (16, 24, 3) and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - (130, 20, 200)).max() <= 3  # JPEG; RGB; video 13, frame 20
    assert np.abs(train.read(2).astype(int) - (30, 7, 200)).max() <= 3


def test_box_gives_the_published_crop(root):
    # Frame 3: x 103..163, y 203..233; 60 around: x 43..223, y 143..293; w 181, h 151,
    # s = 181 / 200; c = (133, 218); c_y += 15 s -> 231.575; s *= 1.25; c -= 1.
    crops = geometry.box_to_crop(bbc_pose.clips(root, "train")[0].boxes.astype(np.float64))
    np.testing.assert_allclose(crops[0], [132, 230.575, 226.25], rtol=1e-6)


def test_box_ends_at_the_published_limits(root):
    joints = np.empty((2, 7, 3))
    joints[0], joints[1] = np.linspace(30, 700, 7)[:, None], np.linspace(20, 470, 7)[:, None]
    write_mat(root / "bbcpose.mat", v1={"train_joints": joints})
    # x -30..760 -> 0..720, y -40..530 -> 0..480; one pixel more in size; centre (360, 240) - 1.
    np.testing.assert_array_equal(
        bbc_pose.clips(root, "train")[0].boxes[0], [359 - 360.5, 239 - 240.5, 719.5, 479.5]
    )


def test_integer_labels_do_not_wrap_around(root):
    joints = np.full((2, 7, 3), 20, np.uint8)
    joints[:, 3] = 250
    write_mat(
        root / "bbcpose.mat",
        v1={"train_joints": joints, "train_frames": np.array([TRAIN_FRAMES], np.uint16)},
    )
    clip = bbc_pose.clips(root, "train")[0]
    np.testing.assert_array_equal(clip.joints[0, 2:4], [[19, 19], [249, 249]])
    # 20 - 60 -> 0 and 250 + 60 = 310: 311 wide, centre 154.
    np.testing.assert_array_equal(clip.boxes[0], [-1.5, -1.5, 309.5, 309.5])


def test_one_frame_and_frames_out_of_order(root):
    shuffled = (7, 3, 4)
    write_mat(
        root / "bbcpose.mat",
        v1={"train_frames": np.array([[7.0]]), "train_joints": joints_of([7])[..., 0]},
        v2={"train_frames": np.array([[7.0, 3, 4]]), "train_joints": joints_of(shuffled)},
    )
    one, sorted_ = bbc_pose.clips(root, "train")[:2]
    np.testing.assert_array_equal(one.joints[0, :, 0], 106 + 10 * np.arange(7))
    np.testing.assert_array_equal(sorted_.joints[:, 0, 0], [102, 103, 106])
    assert np.abs(sorted_.read(2)[..., 1].astype(int) - 7).max() <= 3


def test_joint_without_coordinates_is_invisible_and_outside_the_box(root):
    joints = joints_of(TRAIN_FRAMES)
    joints[0, 6, 0] = np.nan
    write_mat(root / "bbcpose.mat", v1={"train_joints": joints})
    clip = bbc_pose.clips(root, "train")[0]
    assert not clip.visible[0, 6] and clip.visible.sum() == 3 * 7 - 1
    # x 103..153 and y 203..228 without the last joint: 171 x 146 around (128, 215.5) - 1.
    np.testing.assert_array_equal(clip.boxes[0], [127 - 85.5, 214.5 - 73, 212.5, 287.5])


def test_extra_frames_are_unlabelled_and_in_order(root):
    clips = bbc_pose.clips(root, extra=5)
    assert [c.num_frames for c in clips] == 10 * [3] + 10 * [8]
    clip = clips[10]
    numbers = [int(clip.read(i)[..., 1].mean().round()) for i in range(8)]
    assert numbers == sorted(set(numbers)) and set(TEST_FRAMES) < set(numbers)
    assert numbers[0] >= 12 and numbers[-1] <= 32  # 5 // 2 around 14..30
    scored = np.isin(numbers, TEST_FRAMES)
    np.testing.assert_array_equal(clip.visible, np.repeat(scored[:, None], 7, 1))
    assert (clip.joints[~scored] == 0).all()
    # Frame f: x 40 + f .. 220 + f, y 140 + f .. 290 + f, 181 x 151 around (130 + f, 215 + f) - 1.
    first = np.array([129 - 90.5, 214 - 75.5, 219.5, 289.5])
    np.testing.assert_array_equal(clip.boxes, first + np.array(numbers)[:, None])
    for a, b in zip(clips, bbc_pose.clips(root, extra=5), strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)


def test_extra_frames_are_never_scored(root):
    plain, longer = (bbc_pose.clips(root, "test", extra=n)[0] for n in (0, 5))
    scored = longer.visible.any(1)
    np.testing.assert_array_equal(longer.joints[scored], plain.joints)
    predicted = longer.joints + np.array([3, 0])
    predicted[scored] += np.array([[0], [0], [20]])[..., None]
    predicted[~scored] = np.nan
    scores = [
        metrics.accuracy_px(p, clip.joints, clip.visible)
        for p, clip in ((predicted[scored], plain), (predicted, longer))
    ]
    assert scores[0].mean == scores[1].mean == pytest.approx(200 / 3)
    np.testing.assert_array_equal(scores[0].total, scores[1].total)


def test_more_extra_frames_than_there_are(root):
    # 5 around 14..30 leaves 10..34, less the three scored ones.
    assert bbc_pose.clips(root, "test", extra=10)[0].num_frames == 13
    with pytest.raises(DataError, match="video 11: only 10 extra frames .* 11 are wanted"):
        bbc_pose.clips(root, "test", extra=11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_joints": joints_of([3, 4])}, r"3 frame numbers come with joints \(2, 7, 2\)"),
        ({"train_joints": np.zeros((3, 5))}, r"joints \(3, 5\), expected \(2, 7, frames\)"),
        ({"train_frames": np.zeros((1, 0))}, "0 frame numbers"),
        ({"train_joints": np.full((2, 7, 3), np.nan)}, "no joint of frame 3 has coordinates"),
        ({"train_joints": np.full((2, 7, 3), 5000.0)}, "joints of frame 3 lie outside"),
        ({"train_frames": np.array([[3, 4, 8.0]])}, "1 of the 3 pictures .* among them 8.jpg"),
    ],
)
def test_unusable_labels_name_video_and_fault(root, changes, message):
    write_mat(root / "bbcpose.mat", v2=changes)
    with pytest.raises(DataError, match=rf"(?s)(video 2|é.2 lacks).*{message}.*npack"):
        bbc_pose.clips(root, "train")


def test_missing_folders_show_the_layout(tmp_path, root):
    layout = r".*bbcpose.mat\n    1/\n      1.jpg.*--config.data.root=DIR"
    for folder in (tmp_path / "nowhere", root / "1"):  # the latter holds pictures only
        with pytest.raises(
            DataError, match="(?s)bbcpose.mat can't be read .*.No such file.*unpack" + layout
        ):
            bbc_pose.clips(folder)
    (root / "20").rename(tmp_path / "20")
    assert len(bbc_pose.clips(root, "train")) == 10
    with pytest.raises(DataError, match="(?s)20 can't be listed .No such file.*unpack it" + layout):
        bbc_pose.clips(root)
    (root / "20").mkdir()
    with pytest.raises(DataError, match="20 lacks 3 of the 3 pictures.* 14.jpg: unpack that video"):
        bbc_pose.clips(root)


@pytest.mark.parametrize("damage", [b"", b"no MATLAB file", "half"])
def test_damaged_labels_name_file_and_layout(root, damage):
    path = root / "bbcpose.mat"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(DataError, match=r"(?s)bbcpose.mat.*unpack it again.*--config.data.root"):
        bbc_pose.clips(root)


def test_other_matlab_files_are_refused(root):
    write_mat(root / "bbcpose.mat", count=19)
    with pytest.raises(DataError, match="holds 19 videos of 7 fields, expected 92 of 7"):
        bbc_pose.clips(root)
    scipy.io.savemat(root / "bbcpose.mat", {"bbcpose": np.zeros((1, 92))})
    with pytest.raises(DataError, match="holds 92 videos of 0 fields"):
        bbc_pose.clips(root)
    scipy.io.savemat(root / "bbcpose.mat", {"results": np.zeros((1, 92))})
    with pytest.raises(DataError, match="bbcpose.mat.*'bbcpose'.*unpack it again"):
        bbc_pose.clips(root)


def test_truncated_picture_names_file_and_remedy(root):
    path = root / "11" / "20.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    clip = bbc_pose.clips(root, "test")[0]
    with pytest.raises(FrameError, match=r"11.20.jpg is cut off.*Unpack"):
        clip.read(1)
    assert clip.read(0).shape == clip.read(2).shape == (16, 24, 3)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read it all")
def test_unreadable_files_are_named(root):
    clip = bbc_pose.clips(root, "test")[0]
    (root / "11" / "14.jpg").chmod(0)
    with pytest.raises(FrameError, match=r"11.14.jpg can't be read: Permission denied"):
        clip.read(0)
    (root / "11").chmod(0)
    with pytest.raises(DataError, match=r"11 can't be listed .Permission denied.*permissions"):
        bbc_pose.clips(root, "test")
    (root / "11").chmod(0o700)
    (root / "bbcpose.mat").chmod(0)
    with pytest.raises(DataError, match=r"bbcpose.mat can't be read .*.Permission denied"):
        bbc_pose.clips(root)
