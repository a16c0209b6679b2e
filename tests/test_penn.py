import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import scipy.io

from configs import penn as penn_config
from data_pipelines import penn, pictures
from data_pipelines.clips import DataError, FrameError
from ttp_jax import geometry
from ttp_jax.runs import sources
from ttp_jax.skeletons import PENN13


def write_label(path, frames=3, **changes):
    """Write a label as MATLAB saved them; `changes` replace fields, None drops one."""
    steps = np.arange(frames)[:, None] + np.arange(13)
    fields = {
        "action": "bowl",
        "pose": "back",
        "x": 20.0 + steps,
        "y": 30.0 + steps,
        "visibility": np.ones((frames, 13), np.uint8),
        "train": np.int32(1),
        "bbox": np.tile([11.0, 21, 40, 80], (frames, 1)),
        "dimensions": np.array([[90, 120, frames]], np.uint16),
        "nframes": np.uint16(frames) if frames > 255 else np.uint8(frames),
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: value for name, value in fields.items() if value is not None})
    return path


def write_video(root, name="0001", frames=3, pictures=None, **changes):
    """Write a label and `pictures` frames whose colour is (10 * number, 0, 200) in RGB."""
    label = write_label(root / "labels" / f"{name}.mat", frames, **changes)
    folder = root / "frames" / name
    folder.mkdir(parents=True)
    for number in range(1, (frames if pictures is None else pictures) + 1):
        picture = np.empty((90, 120, 3), np.uint8)
        picture[:] = (200, 0, 10 * number)  # cv2 writes BGR
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), picture)
    return label


def test_clip_holds_the_video(tmp_path):
    write_video(tmp_path, "0007", frames=3, visibility=np.eye(3, 13, dtype=np.uint8))
    (clip,) = penn.clips(tmp_path)
    assert (clip.name, clip.subject, clip.split, clip.num_frames) == ("0007", "0007", "train", 3)
    np.testing.assert_array_equal(clip.joints[1, :, 0], 20 + np.arange(13))  # 1 + 20 + k, 1-based
    np.testing.assert_array_equal(clip.joints[1, :, 1], 30 + np.arange(13))
    np.testing.assert_array_equal(clip.visible, np.eye(3, 13, dtype=bool))
    picture = clip.read(2)
    assert picture.shape == (90, 120, 3) and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - (30, 0, 200)).max() <= 3  # JPEG; RGB, third frame


def test_hidden_files_are_no_frames(tmp_path):
    write_video(tmp_path)
    (tmp_path / "frames/0001/._000001.jpg").write_bytes(b"of the system")
    assert penn.clips(tmp_path)[0].num_frames == 3


def test_box_gives_the_published_crop(tmp_path):
    # x 11..40 and y 21..80, 1-based: w 30, h 60, s = 60 / 200 = 0.3;
    # c = ((11 + 40 - 1) / 2, (21 + 80 - 1) / 2) = (25, 50); c_y += 15 s -> 54.5; c -= 1.
    label = penn.read_label(write_label(tmp_path / "1.mat"))
    np.testing.assert_array_equal(label.boxes, np.tile([9, 19, 39, 79], (3, 1)))
    crops = geometry.box_to_crop(label.boxes.astype(np.float64))
    np.testing.assert_allclose(crops, np.tile([24, 53.5, 200 * 0.3 * 1.25], (3, 1)), rtol=1e-12)


def test_one_pixel_box_keeps_the_published_formula(tmp_path):
    label = penn.read_label(write_label(tmp_path / "1.mat", bbox=np.ones((3, 4))))
    crops = geometry.box_to_crop(label.boxes.astype(np.float64))
    np.testing.assert_allclose(crops[0], [-0.5, -0.425, 1.25])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_unsigned_labels_do_not_wrap_around(tmp_path, dtype):
    x = np.full((3, 13), 0, dtype)
    x[1] = 200
    bbox = np.array([[200, 3, 250, 200]] * 3, dtype)  # x1 + x2 exceeds 255
    label = penn.read_label(write_label(tmp_path / "1.mat", x=x, y=x, bbox=bbox))
    np.testing.assert_array_equal(label.joints[:2, 0], [[-1, -1], [199, 199]])
    np.testing.assert_array_equal(label.boxes[0], [198, 1, 249, 199])


def test_joints_outside_the_picture_are_kept(tmp_path):
    label = penn.read_label(write_label(tmp_path / "1.mat", x=np.full((3, 13), 500.0)))
    assert label.size == (90, 120)
    assert (label.joints[..., 0] == 499).all() and label.visible.all()


def test_joint_without_coordinates_is_invisible(tmp_path):
    x = np.full((3, 13), 5.0)
    x[0, 4] = np.nan
    label = penn.read_label(write_label(tmp_path / "1.mat", x=x))
    assert not label.visible[0, 4] and label.visible.sum() == 3 * 13 - 1


def test_missing_last_box_repeats_the_one_before(tmp_path):
    bbox = np.array([[1.0, 1, 10, 10], [3, 3, 30, 30]])
    label = penn.read_label(write_label(tmp_path / "1.mat", bbox=bbox))
    assert label.boxes.shape == (3, 4)
    np.testing.assert_array_equal(label.boxes[2], label.boxes[1])


def test_more_than_255_frames(tmp_path):
    assert penn.read_label(write_label(tmp_path / "1.mat", 300)).boxes.shape == (300, 4)


def test_splits(tmp_path):
    write_video(tmp_path, "0001", train=np.int32(1))
    write_video(tmp_path, "0002", train=np.int32(-1))
    write_video(tmp_path, "0010", train=np.int16(1))
    assert [(c.name, c.split) for c in penn.clips(tmp_path)] == [
        ("0001", "train"),
        ("0002", "test"),
        ("0010", "train"),
    ]
    assert [c.name for c in penn.clips(tmp_path, "train")] == ["0001", "0010"]
    assert [c.name for c in penn.clips(tmp_path, "test")] == ["0002"]
    with pytest.raises(DataError, match="train and test"):
        penn.clips(tmp_path, "val")


def test_one_split_is_usable_without_the_frames_of_the_other(tmp_path):
    write_video(tmp_path, "0001")
    write_label(tmp_path / "labels" / "0002.mat", train=np.int32(-1))
    assert len(penn.clips(tmp_path, "train")) == 1
    with pytest.raises(DataError, match="0002.mat has no folder"):
        penn.clips(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": None}, "has no person box"),
        ({"bbox": np.empty((0, 4))}, "has no person box"),
        ({"bbox": np.full((3, 4), np.nan)}, "3 frames have no usable person box.*frame 1"),
        ({"bbox": np.array([[1.0, 1, 9, 9], [9, 1, 1, 9], [1, 1, 9, 9]])}, "frame 2 with bbox"),
        ({"bbox": np.ones((1, 4))}, r"bbox has shape \(1, 4\), expected \(3, 4\)"),
        ({"x": None, "train": None}, "train, x missing"),
        ({"dimensions": np.uint16(10)}, "is not a label file of Penn Action"),
        ({"train": "yes"}, "is not a label file of Penn Action"),
        ({"y": np.ones((2, 13))}, r"y has shape \(2, 13\), expected \(3, 13\)"),
    ],
)
def test_unusable_label_names_file_and_fault(tmp_path, changes, message):
    path = write_label(tmp_path / "0042.mat", **changes)
    with pytest.raises(DataError, match=f"(?s)0042.mat.*{message}"):
        penn.read_label(path)


@pytest.mark.parametrize("damage", [b"", b"no MATLAB file", "half"])
def test_damaged_label_names_file_and_layout(tmp_path, damage):
    path = write_label(tmp_path / "0042.mat")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(DataError, match=r"(?s)0042.mat.*labels/.*--config.data.root=DIR"):
        penn.read_label(path)


def test_missing_folders_show_the_layout(tmp_path):
    layout = r".*frames/.*0001/000001.jpg.*labels/.*0001.mat.*--config.data.root=DIR"
    with pytest.raises(DataError, match="(?s)nowhere" + layout):
        penn.clips(tmp_path / "nowhere")
    write_label(tmp_path / "labels" / "0001.mat")
    with pytest.raises(DataError, match="(?s)no folder .*frames" + layout):
        penn.clips(tmp_path)
    (tmp_path / "frames" / "0001").mkdir(parents=True)
    (tmp_path / "labels" / "0001.mat").unlink()
    with pytest.raises(DataError, match="(?s)no label files" + layout):
        penn.clips(tmp_path)


def test_folder_without_label_is_named(tmp_path):
    write_video(tmp_path, "0001")
    (tmp_path / "frames" / "0009").mkdir()
    with pytest.raises(DataError, match="first is 0009"):
        penn.clips(tmp_path)


def test_frame_count_mismatch_names_both_counts(tmp_path):
    write_video(tmp_path, "0001", frames=3, pictures=2)
    with pytest.raises(DataError, match=r"holds 2 pictures.*describes 3 frames. Unpack"):
        penn.clips(tmp_path)


def test_gap_in_the_numbers_is_named(tmp_path):
    write_video(tmp_path, "0001")
    folder = tmp_path / "frames" / "0001"
    (folder / "000002.jpg").rename(folder / "000004.jpg")
    with pytest.raises(DataError, match="lacks 000002.jpg"):
        penn.clips(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut in the header", "cut off"])
def test_unreadable_frame_names_file_and_remedy(tmp_path, damage):
    write_video(tmp_path, "0001")
    path = tmp_path / "frames" / "0001" / "000002.jpg"
    whole = path.read_bytes()
    (clip,) = penn.clips(tmp_path)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"not a picture",
                "cut in the header": whole[:100],
                "cut off": whole[:-20],
            }[damage]
        )
    with pytest.raises(FrameError, match=r"0001.000002.jpg.*Unpack this video's frames again"):
        clip.read(1)
    assert clip.read(0).shape == clip.read(2).shape == (90, 120, 3)


def test_orientation_tag_is_ignored(tmp_path):
    write_video(tmp_path, "0001")
    path = tmp_path / "frames" / "0001" / "000001.jpg"
    whole = path.read_bytes()
    exif = bytes.fromhex(  # one entry: orientation 6, "turn by 90 degrees"
        "ffe1002245786966000049492a00080000000100120103000100000006000000" + "00000000"
    )
    path.write_bytes(whole[:2] + exif + whole[2:])
    assert cv2.imread(str(path)).shape == (120, 90, 3)
    assert pictures.read_jpeg(path).shape == (90, 120, 3)


def test_many_labels_show_progress(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(penn, "CACHE_ABOVE", 1)
    monkeypatch.setattr(penn, "LABEL_CACHE", tmp_path / "cache")
    write_video(tmp_path, "0001")
    penn.clips(tmp_path)
    assert capsys.readouterr().err == ""
    write_video(tmp_path, "0002")
    penn.clips(tmp_path)
    captured = capsys.readouterr()
    assert "2/2" in captured.err and captured.out == ""


def test_every_published_label(published_labels):
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("error")  # an overflow would only warn
        labels = list(pool.map(penn.read_label, published_labels))
        fields = ("x", "y", "bbox")
        raw = [scipy.io.loadmat(path, variable_names=fields) for path in published_labels]

    assert len(labels) == 2326
    assert len({label.action for label in labels}) == 15
    splits = [label.split for label in labels]
    assert (splits.count("train"), splits.count("test")) == (1258, 1068)
    kinds = [mat["x"].dtype.name for mat in raw]
    assert [kinds.count(kind) for kind in ("uint8", "uint16", "float64")] == [41, 90, 2195]
    short = [
        label.video
        for label, mat in zip(labels, raw, strict=True)
        if len(mat["bbox"]) != label.num_frames
    ]
    assert short == ["1154", "1865"]
    for label, mat in zip(labels, raw, strict=True):
        x, y = np.float64(mat["x"]), np.float64(mat["y"])
        np.testing.assert_allclose(label.joints, np.stack([x, y], -1) - 1, atol=1e-4)

    # Outside: beyond the first or last pixel's centre in x or y, that is not in 1..w, 1..h.
    def outside(label):
        last = np.array(label.size[::-1]) - 1
        return ((label.joints < 0) | (label.joints > last)).any(-1) & label.visible

    assert sum(outside(label).sum() for label in labels) == 1012


def test_real_frames_are_in_the_layout(shared_data):
    clips = penn.clips(shared_data("penn_real"))
    assert [(c.name, c.split, c.num_frames) for c in clips] == [
        ("0001", "train", 97),
        ("0002", "train", 97),
        ("0003", "test", 97),
    ]
    left, right = (PENN13.joints.index(f"{side}_shoulder") for side in ("left", "right"))
    for clip, facing_camera in zip(clips, (True, True, False), strict=True):
        height, width, _ = clip.read(0).shape
        assert (clip.joints[0] > 0).all() and (clip.joints[0] < (width, height)).all()
        # Left is the person's own: on the right of the picture when the person faces the camera.
        assert (clip.joints[0, left, 0] > clip.joints[0, right, 0]) == facing_camera


# --- Label cache ---------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Three label files of unequal length, which count as many."""
    monkeypatch.setattr(penn, "CACHE_ABOVE", 2)
    monkeypatch.setattr(penn, "LABEL_CACHE", tmp_path / "cache")
    return [write_label(tmp_path / f"{i}.mat", frames=i, action=f"act{i}") for i in (1, 2, 4)]


def assert_same_labels(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        for field in dataclasses.fields(penn.Label):
            one, other = getattr(a, field.name), getattr(b, field.name)
            np.testing.assert_array_equal(one, other)
            assert type(one) is type(other) and getattr(one, "dtype", 0) == getattr(
                other, "dtype", 0
            )


def test_many_labels_are_parsed_once(many, tmp_path, monkeypatch):
    plain = [penn.read_label(path) for path in many]
    assert_same_labels(penn.read_labels(many), plain)
    with monkeypatch.context() as patch:
        patch.setattr(penn, "read_label", None)
        assert_same_labels(penn.read_labels(many), plain)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_changed_labels_and_damaged_caches_are_parsed_again(many, tmp_path):
    before = penn.read_labels(many)
    write_label(many[1], frames=2, action="another")
    assert [label.action for label in penn.read_labels(many)] == ["act1", "another", "act4"]
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    write_label(many[1], frames=2, action="act2")
    assert_same_labels(penn.read_labels(many), before)


def test_without_a_place_for_the_cache_labels_are_still_read(many, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    with pytest.warns(UserWarning, match="can't be written"):
        labels = penn.read_labels(many)
    assert [label.num_frames for label in labels] == [1, 2, 4]


def test_training_videos_are_held_out_for_validation(tmp_path):
    names = [f"{number:04}" for number in range(1, 11)]
    for name in names:
        write_video(tmp_path, name, train=np.int32(-1 if name > "0008" else 1))
    config = penn_config.get_config()
    assert 0 < config.data.validation < 0.1  # the paper's training loses few
    config.data.root, config.data.validation = str(tmp_path), 0.25

    def split(name):
        return {clip.name for clip in sources.load_clips(config.data, name)}

    assert len(split("val")) == 2 and len(split("train")) == 6
    assert split("val") | split("train") == set(names[:8]) and split("test") == set(names[8:])
    assert split("val") == split("val")  # which ones follows from their names
    config.data.validation = 0.0
    assert len(split("train")) == 8
