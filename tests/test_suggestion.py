"""Which frames to label next."""

import cv2
import made_projects
import numpy as np
import pandas
import pytest
import small_project

from benchmarks import suggestion as benchmark
from configs import tiny
from data_pipelines import clips as clips_lib
from data_pipelines import media, pictures, projects
from ttp_jax import skeletons, state, visualize
from ttp_jax.checkpoint import fingerprint
from ttp_jax.runs import identity, provenance, results, suggestion
from ttp_jax.verbs import suggest

SKELETON = skeletons.build("mouse", small_project.JOINTS)


def track(frames=40):
    joints = np.stack([small_project.joints_at(0, frame) for frame in range(frames)])
    return joints, np.full((frames, 4), 0.9), np.full(frames, 64.0)


def test_doubt_is_largest_where_joints_are_unlikely_and_are_moved():
    joints, peaks, sides = track()
    after = joints.copy()
    joints[10, 2] += 20  # a jump
    peaks[10] = 0.2
    after[30] += 4  # personalization moves this frame, and more the one that jumps
    signs = suggestion.signs_of_doubt(joints, peaks, sides, after)
    assert tuple(signs) == suggestion.SIGNS
    found = suggestion.doubt(signs)
    assert found.argmax() == 10 and found.max() == pytest.approx(1)
    assert signs["change"].argsort()[-2:].tolist() in ([10, 30], [30, 10])
    assert signs["jump"].argmax() == 10
    alone = {name: signs[name] for name in ("confidence", "jump")}
    np.testing.assert_array_equal(
        suggestion.doubt(alone), suggestion.doubt({"confidence": alone["confidence"]})
    )


def test_a_model_that_did_not_adapt_leaves_the_order_to_the_confidence():
    """As BlazePose, whose joints after `personalize` are those before."""
    joints, peaks, sides = track()
    peaks[:8] = 0.3
    rounding = np.random.default_rng(0).normal(0, 1e-5, joints.shape)
    for after in (joints, joints + rounding):
        found = suggestion.doubt(suggestion.signs_of_doubt(joints, peaks, sides, after))
        assert suggestion.choose(found, 8, 1) == list(range(8))


def test_frames_that_could_not_be_read_are_never_chosen():
    joints, peaks, sides = track()
    joints[5], peaks[5] = np.nan, np.nan
    found = suggestion.doubt(suggestion.signs_of_doubt(joints, peaks, sides))
    assert np.isnan(found[5])
    assert 5 not in suggestion.choose(found, 40, 1)


def test_a_single_frame_has_no_jump():
    joints, peaks, sides = track(1)
    assert suggestion.signs_of_doubt(joints, peaks, sides)["jump"].tolist() == [0]


def test_chosen_frames_are_the_most_doubtful_ones_apart():
    doubtful = np.array([0.1, 0.9, 0.8, 0.2, 0.7, 0.3])
    assert suggestion.choose(doubtful, 2, 1) == [1, 2]
    assert suggestion.choose(doubtful, 2, 2) == [1, 4]
    assert suggestion.choose(doubtful, 9, 3) == [1, 4]


def test_the_folder_is_read_as_deeplabcut_s(tmp_path):
    root = small_project.write(tmp_path / "mice", subjects=1)
    (clip,) = media.clips([root / "videos" / "mouse0.avi"], boxes="whole")
    joints, _, _ = track(clip.num_frames)
    chosen = [3, 17]
    folder = suggestion.write_deeplabcut(tmp_path / "new", clip, chosen, joints, SKELETON, "anna")
    table = pandas.read_csv(
        folder / "CollectedData_anna.csv", header=[0, 1, 2], index_col=[0, 1, 2]
    )
    assert table.columns.get_level_values(1).unique().tolist() == list(SKELETON.joints)
    np.testing.assert_allclose(table.to_numpy().reshape(2, 4, 2), joints[chosen], atol=1e-3)
    again = projects.read(tmp_path / "new")
    (read,) = again.clips
    np.testing.assert_allclose(read.joints, joints[chosen], atol=1e-3)
    np.testing.assert_array_equal(read.frame_numbers, chosen)
    np.testing.assert_array_equal(read.read(1), clip.read(17))


def test_pictures_keep_the_names_by_which_the_user_knows_them(tmp_path):
    """A number in the list would be mistaken for another picture of a folder of labeled-data."""
    folder, names = tmp_path / "mouse5", ["img0123.png", "img0400.png", "Maus, 900.jpg"]
    folder.mkdir()
    for number, name in enumerate(names):
        visualize.save(folder / name, np.full((48, 64, 3), 60 * number, np.uint8))
    (clip,) = media.clips([folder])
    joints, _, _ = track(3)
    suggestion.write_deeplabcut(tmp_path, clip, [0, 2], joints, SKELETON, "anna")
    written = tmp_path / "labeled-data" / "mouse5"
    assert sorted(path.name for path in written.glob("*.png")) == [
        "Maus, 900.jpg.png",
        "img0123.png",
    ]
    np.testing.assert_array_equal(pictures.read(written / "img0123.png"), clip.read(0))
    (read,) = projects.read(tmp_path).clips
    np.testing.assert_allclose(read.joints, joints[[0, 2]], atol=1e-3)
    suggest._write_table(tmp_path / "doubt.csv", clip, {"doubt": np.zeros(3)}, [0, 2])
    table = pandas.read_csv(tmp_path / "doubt.csv")
    assert table["picture"].tolist() == names and table["chosen"].tolist() == [1, 0, 1]


def test_a_frame_has_one_file_name_whatever_part_of_the_video_was_asked_for(tmp_path):
    """That of DeepLabCut, with as many digits as the whole video's last frame needs."""
    made_projects.video(tmp_path / "v.avi", 120)
    (whole,) = media.clips([tmp_path / "v.avi"], boxes="whole")
    joints, _, _ = track(120)
    for number, clip in enumerate((whole, clips_lib.part(whole, "0-19"))):
        root = tmp_path / str(number)
        suggestion.write_deeplabcut(root, clip, [7], joints[: clip.num_frames], SKELETON, "anna")
        assert [path.name for path in root.rglob("*.png")] == ["img007.png"]


def test_frames_whose_pixels_are_not_square_are_written_as_deeplabcut_reads_them(tmp_path):
    file = tmp_path / "hdv.avi"
    made_projects.video(file, 6, aspect=(2, 1))
    (clip,) = media.clips([file], boxes="whole")
    clip = clips_lib.part(clip, "1-5", 2)  # the video's frames 1, 3, 5
    height, width = clip.largest
    joints = np.tile([[-0.5, -0.5], [width - 0.5, height - 0.5], [9.5, 7], [30, 20]], (3, 1, 1))
    folder = suggestion.write_deeplabcut(tmp_path, clip, [0, 2], joints, SKELETON, "anna")
    capture, frames = cv2.VideoCapture(str(file)), []  # as DeepLabCut extracts frames
    while (found := capture.read())[0]:
        frames.append(found[1].astype(int))
    for number in (1, 5):
        written = cv2.imread(str(folder / f"img{number}.png")).astype(int)
        assert written.shape == frames[number].shape == (height, width // 2, 3)
        assert np.abs(written - frames[number]).mean() < 2
    (read,) = projects.read(tmp_path).clips
    wanted = [[-0.5, -0.5], [width / 2 - 0.5, height - 0.5], [4.5, 7], [14.75, 20]]
    np.testing.assert_allclose(read.joints[0], wanted)


def test_the_folder_opens_in_deeplabcut_and_sleap(tmp_path):
    import sleap_io

    root = small_project.write(tmp_path / "mice", subjects=1)
    (clip,) = media.clips([root / "videos" / "mouse0.avi"], boxes="whole")
    joints, peaks, _ = track(clip.num_frames)
    joints[17, 1] = np.nan
    chosen = [3, 17]
    new = tmp_path / "new"
    folder = suggestion.write_deeplabcut(new, clip, chosen, joints, SKELETON, "anna")
    table = pandas.read_hdf(folder / "CollectedData_anna.h5", "df_with_missing")
    assert table.columns.names == ["scorer", "bodyparts", "coords"]
    assert table.index[1] == ("labeled-data", "mouse0", "img17.png")
    np.testing.assert_allclose(table.to_numpy().reshape(2, 4, 2), joints[chosen])
    assert not projects.read(new).notes  # .csv and .h5 agree
    imported = sleap_io.load_file(str(folder / "CollectedData_anna.csv"))
    assert len(imported) == 2 and set(imported.skeleton.node_names) == set(SKELETON.joints)
    nose = imported.skeleton.node_names.index("nose")
    np.testing.assert_allclose(imported[0].instances[0].numpy()[nose], joints[3, 2], atol=1e-3)

    path = suggestion.write_sleap(new, clip, chosen, joints, peaks, SKELETON)
    labels = sleap_io.load_file(str(path))
    assert [frame.frame_idx for frame in labels] == chosen
    np.testing.assert_allclose(labels[0].instances[0].numpy(), joints[3], atol=1e-4)
    assert labels.video.filename == clip.source


def test_earlier_suggestions_are_moved_aside_whole(tmp_path):
    """Their labels may have been corrected in the meantime."""
    mine = tmp_path / "labeled-data" / "a[1]"
    mine.mkdir(parents=True)
    (mine / "CollectedData_me.csv").write_text("corrected")
    (tmp_path / "a[1].predictions.slp").write_text("corrected")
    (tmp_path / "a.predictions.slp").write_text("of another video")
    assert suggestion.make_room(tmp_path, "b") is None
    for number in (1, 2):
        aside = suggestion.make_room(tmp_path, "a[1]")
        assert aside == tmp_path / f"a[1].old{number}"
        assert not mine.exists()
        mine.mkdir()
    first = tmp_path / "a[1].old1"
    assert (first / "labeled-data/a[1]/CollectedData_me.csv").read_text() == "corrected"
    assert (first / "a[1].predictions.slp").read_text() == "corrected"
    assert (tmp_path / "a.predictions.slp").read_text() == "of another video"


def test_doubt_is_compared_with_the_true_error():
    rng = np.random.default_rng(0)
    errors = rng.uniform(size=50)
    errors[3] = np.nan  # no label
    signs = {"confidence": np.nan_to_num(errors), "jump": rng.uniform(size=50)}
    found = benchmark.measure(errors, signs)
    assert found["frames"] == 49
    assert found["confidence"] == pytest.approx(1)
    assert abs(found["jump"]) < 0.35
    assert found["doubt"] == found["confidence"]  # jumps are not ranked by
    assert found["ranked"] > found["random"] == pytest.approx(np.nanmean(errors))
    few = benchmark.measure(errors[:2], {"confidence": errors[:2]})
    lines = benchmark.table({"a": found, "b": few})
    assert lines[2].startswith("| a | 49 |") and lines[3].count("| - ") == 6
    assert lines[-1].startswith("| mean (95 % over subjects) | 51 |")


def test_errors_are_shares_of_the_box():
    joints, _, _ = track(4)
    visible = np.ones((4, 4), bool)
    visible[2] = False
    boxes = np.tile(np.array([0, 0, 64, 48], np.float32), (4, 1))
    clip = clips_lib.Clip(
        "a", "a", "test", 4, lambda i: np.zeros((48, 64, 3), np.uint8), boxes, joints, visible
    )
    found = benchmark.true_errors(clip, joints + np.array([6.4, 0]))
    np.testing.assert_allclose(found, [0.1, 0.1, np.nan, 0.1], atol=1e-6)


def test_joints_of_a_model_that_was_trained_before_are_not_this_model_s(tmp_path):
    small_project.write(tmp_path / "mice", subjects=1)
    (clip,) = media.clips([tmp_path / "mice/videos/mouse0.avi"], boxes="whole")
    before, now = (state.Base({"weight": np.full(3, value)}, {}, np.ones(1)) for value in (1, 2))
    joints, confidence, _ = track(clip.num_frames)
    folder = tmp_path / "work/results/offline"
    provenance.prepare(folder, identity.protocol(tiny.get_config(), before, "offline"))
    result = results.Result(None, joints, confidence, None, "")
    results.write_result(folder, clip, result, SKELETON)
    found = suggest._personalized(tmp_path / "work", clip, fingerprint(before))
    np.testing.assert_array_equal(found, joints)
    assert suggest._personalized(tmp_path / "work", clip, fingerprint(now)) is None
