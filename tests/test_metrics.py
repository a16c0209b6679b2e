import dataclasses
import math

import numpy as np
import pandas
import pytest
import reference
import scipy.integrate
import scipy.stats
from pycocotools.cocoeval import COCOeval, Params

from ttp_jax import metrics, skeletons
from ttp_jax.skeletons import BBC7, H36M16, PENN13, SKELETONS

# Two shoulders and two hips, 10 pixels apart: the smallest skeleton that has all parts.
BOX4 = dataclasses.replace(
    PENN13,
    name="box4",
    joints=("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    flip_pairs=((0, 1), (2, 3)),
    limbs=((0, 2), (1, 3)),
    torso=((0, 1), (2, 3)),
)
BOX = np.array([[0, 0], [4, 0], [0, 10], [4, 10]], float)


def video(frames, skeleton=BOX4, seed=0):
    return np.random.default_rng(seed).uniform(0, 60, (frames, skeleton.size, 2))


# --- PCK and accuracy ----------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [PENN13, H36M16], ids=lambda s: s.name)
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_pck_equals_the_plain_loop(skeleton, threshold):
    rng = np.random.default_rng(1)
    joints = video(40, skeleton)
    predicted = joints + rng.normal(0, 6, joints.shape)
    predicted[3, 2], joints[5] = np.nan, 7.0
    visible = rng.random(joints.shape[:2]) < 0.7
    expected = reference.pck(
        predicted.tolist(), joints.tolist(), visible.tolist(), skeleton.torso, threshold
    )
    score = metrics.pck(predicted, joints, visible, skeleton, threshold)
    assert 0 < expected < 100
    assert score.mean == pytest.approx(expected)
    np.testing.assert_array_equal(score.total, visible.sum(0))


def test_pck_by_hand():
    predicted = np.stack([BOX, BOX])
    predicted[0] += [[2, 0], [2.01, 0], [0, 2], [0, -2.01]]  # the limit is 0.2 * 10, inclusive
    score = metrics.pck(predicted, np.stack([BOX, BOX]), np.ones((2, 4)), BOX4)
    np.testing.assert_array_equal(score.correct, [2, 1, 2, 1])
    np.testing.assert_array_equal(score.per_joint, [100, 50, 100, 50])
    assert score.mean == 75


def test_pck_leaves_out_invisible_joints_but_takes_the_torso_from_them():
    predicted = BOX[None] + [[[0, 0], [1, 0], [50, 0], [50, 0]]]
    score = metrics.pck(predicted, BOX[None], [[1, 1, 0, 0]], BOX4)
    assert score.mean == 100
    np.testing.assert_array_equal(score.per_joint, [100, 100, np.nan, np.nan])


@pytest.mark.filterwarnings("error")
def test_pck_counts_nan_and_zero_torso_as_wrong():
    flat = np.zeros((1, 4, 2))
    assert metrics.pck(flat, flat, np.ones((1, 4)), BOX4).mean == 0
    predicted = BOX[None].copy()
    predicted[0, 1, 0] = np.nan
    assert metrics.pck(predicted, BOX[None], np.ones((1, 4)), BOX4).mean == 75
    assert math.isnan(metrics.pck(flat, flat, np.zeros((1, 4)), BOX4).mean)


def test_accuracy_px_halves_the_distance():
    joints = np.zeros((1, 7, 2))
    predicted = joints.copy()
    predicted[0, :4, 0] = 6, 6.01, 12, 12.01
    visible = np.ones((1, 7))
    half = metrics.accuracy_px(predicted, joints, visible)
    np.testing.assert_array_equal(half.correct, [1, 1, 1, 0, 1, 1, 1])
    # The published program moves the points, not the threshold.
    moved = np.linalg.norm((0.5 * (predicted - 1) + 1) - (0.5 * (joints - 1) + 1), axis=-1) <= 6
    np.testing.assert_array_equal(half.correct, moved[0])


def test_micro_weighs_joints_by_how_often_they_are_seen_and_macro_does_not():
    correct, total = np.array([9, 0]), np.array([9, 1])
    assert metrics.Score(correct, total, "micro").mean == 90
    assert metrics.Score(correct, total, "macro").mean == 50
    unseen = metrics.Score(np.array([9, 0]), np.array([9, 0]), "macro")
    assert unseen.mean == 100


@pytest.mark.parametrize("metric", ["pck", "accuracy_px"])
def test_merged_scores_equal_the_score_of_all_frames(metric):
    rng = np.random.default_rng(2)
    joints = video(30)
    predicted, visible = joints + rng.normal(0, 5, joints.shape), rng.random((30, 4)) < 0.6
    args = (BOX4,) if metric == "pck" else ()

    def score(part):
        return getattr(metrics, metric)(predicted[part], joints[part], visible[part], *args)

    merged = metrics.merge([score(slice(0, 3)), score(slice(3, 20)), score(slice(20, 30))])
    assert merged.mean == pytest.approx(score(slice(None)).mean)
    assert merged.average == score(slice(None)).average


def test_scores_of_different_metrics_do_not_add_up():
    a = metrics.Score(np.ones(4, int), np.ones(4, int), "micro")
    with pytest.raises(ValueError, match="macro score of 7 joints"):
        a + metrics.Score(np.ones(7, int), np.ones(7, int), "macro")
    with pytest.raises(TypeError):
        a + 1
    with pytest.raises(ValueError, match="no scores"):
        metrics.merge([])


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"visible \(2, 4\)"):
        metrics.pck(video(3), video(3), np.ones((2, 4)), BOX4)
    with pytest.raises(ValueError, match="pixel distance"):
        metrics.pck(video(3, BBC7), video(3, BBC7), np.ones((3, 7)), BBC7)


# --- Before and after ----------------------------------------------------------------------------


def test_subject_table_by_hand():
    table = metrics.subject_table([50, 60, 70, np.nan], [54, 58, 76, 10])
    np.testing.assert_array_equal(table.deltas, [4, -2, 6, np.nan])
    assert table.mean == pytest.approx(8 / 3)
    assert table.standard_error == pytest.approx(scipy.stats.sem([4, -2, 6]))
    assert table.worse == pytest.approx(1 / 3)
    assert table.interval[0] < table.mean < table.interval[1]


@pytest.mark.filterwarnings("error")
def test_subject_table_of_one_or_no_video():
    one = metrics.subject_table([50], [52])
    assert one.mean == 2 and math.isnan(one.standard_error) and one.interval == (2, 2)
    none = metrics.subject_table([], [])
    assert math.isnan(none.mean) and math.isnan(none.interval[0])
    with pytest.raises(ValueError, match="same order"):
        metrics.subject_table([1, 2], [1])


def test_bootstrap_interval_agrees_with_scipy():
    deltas = np.random.default_rng(3).gamma(2, 3, 40)
    expected = scipy.stats.bootstrap(
        (deltas,), np.mean, method="percentile", n_resamples=10_000, rng=0
    ).confidence_interval
    low, high = metrics.bootstrap_interval(deltas)
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.05 * width)
    assert high == pytest.approx(expected.high, abs=0.05 * width)
    one_training = metrics.bootstrap_interval(deltas[None])
    assert one_training == (low, high)
    two = metrics.bootstrap_interval([[1.0] * 9, [3.0] * 9])  # all that differs is the training
    assert two == (1.0, 3.0)
    assert metrics.bootstrap_interval(deltas, seed=1, samples=50) == metrics.bootstrap_interval(
        deltas, seed=1, samples=50
    )


# --- Without labels ------------------------------------------------------------------------------


def walk(frames=20):
    """Move the box of joints steadily, without a change of shape."""
    return BOX + np.arange(frames)[:, None, None] * [1.0, 0.5]


def test_jitter_is_acceleration_in_limb_lengths():
    steady = walk()
    assert metrics.jitter(steady, BOX4) == pytest.approx(0, abs=1e-12)
    shaken = steady.copy()
    shaken[::2, :, 0] += 1  # accelerates by 2 a frame; limbs are 10 long
    assert metrics.jitter(shaken, BOX4) == pytest.approx(0.2)
    assert metrics.jitter(7 * shaken, BOX4) == pytest.approx(0.2)


def test_limb_spread_of_breathing_limbs():
    assert metrics.limb_spread(walk(), BOX4) == pytest.approx(0, abs=1e-12)
    joints = walk()
    joints[::2, 2, 1] += 5  # one of the two limbs is 15 and 10 long in turns
    assert metrics.limb_spread(joints, BOX4) == pytest.approx(2.5 / 12.5 / 2)


def test_swaps_counts_exchanged_pairs():
    joints = walk(21)
    assert metrics.swaps(joints, BOX4) == 0
    joints[10:, [0, 1]] = joints[10:, [1, 0]]  # shoulders change sides once, for good
    assert metrics.swaps(joints, BOX4) == pytest.approx(1 / 40)
    joints[15, [2, 3]] = joints[15, [3, 2]]  # hips for one frame: there and back
    assert metrics.swaps(joints, BOX4) == pytest.approx(3 / 40)
    assert metrics.swaps(np.zeros((5, 4, 2)), BOX4) == 0  # a tie is no swap


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["jitter", "limb_spread", "swaps"])
def test_signs_of_quality_ignore_nan_frames(name):
    measure = getattr(metrics, name)
    joints = walk()
    joints[8] = np.nan
    assert measure(joints, BOX4) == pytest.approx(0, abs=1e-12)
    assert math.isnan(measure(np.full((5, 4, 2), np.nan), BOX4))
    assert math.isnan(measure(walk(1), BOX4))
    for skeleton in SKELETONS.values():
        assert measure(video(6, skeleton), skeleton) >= 0


# --- The bottleneck ------------------------------------------------------------------------------


def people(count, relation, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (count, 30, 2))
    joints = (points.reshape(count, -1) @ relation + 0.3).reshape(count, 13, 2)
    return points, joints + rng.normal(0, noise, joints.shape) if noise else joints


RELATION = np.random.default_rng(9).normal(0, 0.1, (60, 26))


def test_linear_readout_recovers_an_exact_relation():
    fit, test = people(200, RELATION), people(100, RELATION, seed=1)
    readout = metrics.linear_readout(*fit, *test, ridge=1e-9)
    assert readout.error < 1e-6 < 0.1 < readout.mean_pose_error
    default = metrics.linear_readout(*fit, *test)
    assert default.error < 0.02 * default.mean_pose_error


def test_linear_readout_of_noise_is_no_better_than_the_mean_pose():
    points, _ = people(400, RELATION)
    joints = np.random.default_rng(5).normal(0, 1, (400, 13, 2))
    readout = metrics.linear_readout(points[:300], joints[:300], points[300:], joints[300:])
    assert readout.error > readout.mean_pose_error


def test_linear_readout_does_not_depend_on_the_unit_of_points():
    fit, test = people(200, RELATION, 0.1), people(100, RELATION, 0.1, seed=1)
    one = metrics.linear_readout(*fit, *test)
    other = metrics.linear_readout(32 * fit[0], fit[1], 32 * test[0], test[1])
    assert one == pytest.approx(other)


@pytest.mark.filterwarnings("error")
def test_linear_readout_leaves_out_invisible_joints():
    fit, test = people(300, RELATION), people(100, RELATION, seed=1)
    rng = np.random.default_rng(6)
    seen_fit, seen_test = rng.random((300, 13)) < 0.7, rng.random((100, 13)) < 0.7
    seen_fit[:, 4] = False  # a joint that can't be fitted is not scored either
    fit[1][~seen_fit], test[1][~seen_test] = np.nan, 1e6
    readout = metrics.linear_readout(*fit, *test, seen_fit, seen_test, ridge=1e-9)
    assert readout.error < 1e-6 < readout.mean_pose_error < 2


@pytest.mark.filterwarnings("error")
def test_linear_readout_of_points_that_never_move_is_the_mean_pose():
    _, joints = people(20, RELATION)
    points = np.ones((20, 30, 2))
    readout = metrics.linear_readout(points, joints, points, joints)
    assert readout.error == pytest.approx(readout.mean_pose_error)


def test_mean_pose_leaves_out_invisible_joints():
    joints = np.array([[[0, 0], [2, 2]], [[4, 8], [9, 9]]], float)
    np.testing.assert_array_equal(metrics.mean_pose(joints), [[2, 4], [5.5, 5.5]])
    pose = metrics.mean_pose(joints, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(pose, [[2, 4], [np.nan, np.nan]])
    with pytest.raises(ValueError, match="expected"):
        metrics.mean_pose(joints, [1, 0])


@pytest.mark.parametrize(
    ("own", "other", "copy", "start", "no_better"),
    [
        (0.0096, 0.0122, 0.0144, "Bottleneck alive", False),
        (0.0143, 0.0154, 0.0151, "Bottleneck dead", False),
        (0.0107, 0.0122, 0.0144, "Bottleneck weak", False),
        (0.0096, 0.0122, 0.0090, "Bottleneck alive", True),
        (0.0, 0.0, 0.0, "Bottleneck dead", True),
        (math.nan, 0.0122, 0.0144, "Bottleneck unknown", False),
    ],
)
def test_bottleneck_verdict(own, other, copy, start, no_better):
    verdict = metrics.bottleneck_verdict(own, other, copy)
    assert verdict.startswith(start)
    assert ("no better than copying" in verdict) == no_better
    assert ("hardly matter" in verdict) == (start == "Bottleneck dead")


# --- Some labelled frames ------------------------------------------------------------------------


def test_rmse_by_hand():
    joints = np.stack([BOX, BOX])
    predicted = joints.copy()
    predicted[0, 0] += [3, 4]  # 5 pixels away, and exact in the other frame
    predicted[:, 1] += [0, 2]
    predicted[1, 2] += [100, 0]  # not visible
    visible = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    error = metrics.rmse(predicted, joints, visible)
    np.testing.assert_allclose(error.per_joint, [np.sqrt(25 / 2), 2, 0, np.nan])
    assert error.mean == pytest.approx(np.sqrt((25 + 0 + 4 + 4 + 0) / 5))
    assert error.missing == 0


@pytest.mark.filterwarnings("error")
def test_rmse_counts_missing_predictions_beside():
    predicted = np.stack([BOX + np.array([3, 4]), BOX])
    predicted[1] = np.nan
    error = metrics.rmse(predicted, np.stack([BOX, BOX]), np.ones((2, 4)))
    np.testing.assert_allclose(error.per_joint, 5)
    assert error.mean == pytest.approx(5) and error.missing == 4
    nothing = metrics.rmse(predicted, np.stack([BOX, BOX]), np.zeros((2, 4)))
    assert math.isnan(nothing.mean) and np.isnan(nothing.per_joint).all() and nothing.missing == 0


def test_rmse_agrees_with_scipy():
    joints = video(30)
    predicted = joints + np.random.default_rng(4).normal(0, 3, joints.shape)
    error = metrics.rmse(predicted, joints, np.ones((30, 4)))
    expected = [scipy.stats.pmean(np.hypot(*(predicted - joints)[:, k].T), 2) for k in range(4)]
    np.testing.assert_allclose(error.per_joint, expected)


@pytest.mark.filterwarnings("error")
def test_labelled_frames_without_a_torso_count_in_rmse_only():
    joints = np.stack([BOX, BOX, BOX])
    predicted = joints + np.array([0.0, 1.0])
    joints[1, 3] = np.nan  # a hip of the second frame has no label
    predicted[1, 0] += [30, 0]  # far off, but without a torso nobody knows how far
    predicted[2, 1] = np.nan
    found = metrics.score_labels(predicted, joints, np.ones((3, 4)), BOX4)
    assert (found["frames"], found["joints"]) == (3, 11)
    assert found["PCK@0.2"]["mean"] == found["PCK@0.5"]["mean"] == pytest.approx(100 * 7 / 8)
    assert found["PCK@0.2"]["per_joint"]["right_shoulder"] == 50
    assert found["RMSE px"]["mean"] == pytest.approx(np.sqrt((9 + 901) / 10))
    assert found["RMSE px"]["per_joint"]["left_shoulder"] == pytest.approx(np.sqrt(903 / 3))
    assert found["notes"][0].startswith("1 of 3 labelled frames don't count in PCK")
    assert found["notes"][1].startswith("1 labelled joints have no prediction")


@pytest.mark.filterwarnings("error")
def test_pck_of_labels_equals_pck_and_is_left_out_where_the_torso_is_not_labelled():
    rng = np.random.default_rng(7)
    joints = video(20, PENN13)
    predicted, visible = joints + rng.normal(0, 6, joints.shape), rng.random((20, 13)) < 0.7
    found = metrics.score_labels(predicted, joints, visible, PENN13)
    for threshold in (0.2, 0.5):
        score = metrics.pck(predicted, joints, visible, PENN13, threshold)
        assert found[f"PCK@{threshold}"]["mean"] == score.mean
    assert found["notes"] == []
    joints[:, 1] = np.nan
    found = metrics.score_labels(predicted, joints, visible, PENN13)
    assert not any(name.startswith("PCK") for name in found) and "left_hip" in found["notes"][0]


# --- Any skeleton --------------------------------------------------------------------------------

LIPS = skeletons.build("lips", ["leftLip", "rightLip", "top", "bottom"])
COCO17 = skeletons.build(
    "coco17",
    [
        "nose",
        *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee",
                                        "ankle") for side in ("left", "right")),
    ],
)  # fmt: skip


def labelled(frames, skeleton, seed=0, spread=5.0):
    """Labels with gaps, predictions near them, and how sure these are."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(20, 200, (frames, skeleton.size, 2))
    predicted = joints + rng.normal(0, spread, joints.shape)
    visible = rng.random(joints.shape[:2]) < 0.8
    joints[rng.random(joints.shape[:2]) < 0.1] = np.nan
    return predicted, joints, visible, rng.random(joints.shape[:2])


def test_shares_of_a_length_equal_plain_loops():
    predicted, joints, visible, _ = labelled(30, LIPS)
    found = metrics.score_labels(
        predicted, joints, visible, LIPS, scale_joints=("leftLip", "rightLip"), thresholds=(0.05,)
    )
    relative = []
    for p, j, v in zip(predicted, joints, visible, strict=True):
        width = math.dist(j[0], j[1])
        relative += [
            math.dist(p[k], j[k]) / width
            for k in range(LIPS.size)
            if v[k] and math.isfinite(width) and not np.isnan(j[k]).any()
        ]
    relative = np.array(relative)
    assert found["length"] == "leftLip to rightLip"
    assert 0 < found["PCK@0.05"]["mean"] < 100
    assert found["PCK@0.05"]["mean"] == pytest.approx(100 * (relative <= 0.05).mean())
    assert found["mean error %"]["mean"] == pytest.approx(100 * relative.mean())
    curve = [(relative <= t).mean() for t in np.linspace(0, 0.2, 200_001)]
    area = scipy.integrate.trapezoid(curve, dx=100 / 200_000)
    assert found["PCK area@0.2"]["mean"] == pytest.approx(area, abs=1e-3)


def test_a_line_of_joints_is_as_long_as_its_pieces():
    _, joints, _, _ = labelled(30, LIPS)
    line = ("leftLip", "top", "rightLip")
    found = metrics.lengths(joints, LIPS, scale_joints=line)
    places = [LIPS.joints.index(name) for name in line]
    for frame, length in zip(joints, found.values, strict=True):
        a, b, c = frame[places]
        expected = math.dist(a, b) + math.dist(b, c)
        if np.isnan(b).any():
            expected = math.dist(a, c)
        assert length == pytest.approx(expected, nan_ok=True)
    assert found.name == "leftLip to rightLip along 3 joints"
    assert found.needs == ("leftLip", "rightLip")


@pytest.mark.parametrize(("missing", "length"), [(None, 7), (1, 5), (0, np.nan), (2, np.nan)])
def test_a_line_needs_its_ends_alone(missing, length):
    joints = np.full((1, len(LIPS.joints), 2), np.nan)
    line = ("leftLip", "top", "rightLip")
    joints[0, [LIPS.joints.index(name) for name in line]] = [[0, 0], [3, 0], [3, 4]]
    if missing is not None:
        joints[0, LIPS.joints.index(line[missing])] = np.nan
    found = metrics.lengths(joints, LIPS, scale_joints=line)
    assert found.values[0] == pytest.approx(length, nan_ok=True)


def test_deeplabcuts_numbers_equal_pandas():
    """deeplabcut's pairwisedistances: distances by bodypart, then the mean of all there are."""
    predicted, joints, visible, likelihood = labelled(40, LIPS)
    joints[~visible] = np.nan
    distance = pandas.DataFrame(np.linalg.norm(predicted - joints, axis=-1))
    found = metrics.score_labels(predicted, joints, visible, LIPS, confidence=likelihood)
    assert found["mean error px"]["mean"] == pytest.approx(np.nanmean(distance))
    cut = distance[pandas.DataFrame(likelihood >= 0.6)]
    assert found["mean error px, p >= 0.6"]["mean"] == pytest.approx(np.nanmean(cut))
    by_joint = list(found["mean error px, p >= 0.6"]["per_joint"].values())
    np.testing.assert_allclose(by_joint, cut.mean())
    squares = np.sqrt(np.nanmean(cut.to_numpy() ** 2))
    assert found["RMSE px, p >= 0.6"]["mean"] == pytest.approx(squares)


def test_without_a_torso_the_boxs_diagonal_counts():
    predicted, joints, visible, _ = labelled(20, LIPS)
    boxes = np.tile([10.0, 20, 40, 60], (20, 1))  # a diagonal of 50
    found = metrics.score_labels(predicted, joints, visible, LIPS, boxes=boxes)
    error = np.linalg.norm(predicted - joints, axis=-1)[visible & np.isfinite(joints).all(-1)]
    assert found["PCK@0.2"]["mean"] == pytest.approx(100 * (error <= 10).mean())
    tight = metrics.score_labels(predicted, joints, visible, LIPS)
    assert tight["length"] == "diagonal of the labelled joints' box"
    low, high = np.nanmin(joints, 1), np.nanmax(joints, 1)
    expected = metrics.pck_of(
        predicted, joints, visible & np.isfinite(joints).all(-1),
        np.linalg.norm(high - low, axis=-1), 0.2,
    )  # fmt: skip
    assert tight["PCK@0.2"]["mean"] == expected.mean
    unknown = r"scale joints are leftLip, mid: expected two different ones"
    with pytest.raises(ValueError, match=unknown):
        metrics.score_labels(predicted, joints, visible, LIPS, scale_joints=("leftLip", "mid"))


def test_oks_equals_pycocotools(capsys):
    predicted, joints, visible, _ = labelled(25, COCO17, spread=12)
    visible &= np.isfinite(joints).all(-1)
    visible[3] = False
    areas = np.random.default_rng(1).uniform(500, 20_000, 25)
    sigma = metrics.sigmas(COCO17)
    np.testing.assert_allclose(sigma, Params("keypoints").kpt_oks_sigmas, rtol=1e-15)
    found = metrics.oks(predicted, joints, visible, areas, sigma)
    evaluation = COCOeval(iouType="keypoints")
    for t in range(25):
        truth = np.concatenate([np.nan_to_num(joints[t]), 2.0 * visible[t][:, None]], -1)
        result = np.concatenate([predicted[t], np.ones((17, 1))], -1)
        person = {"keypoints": truth.ravel().tolist(), "area": areas[t], "bbox": [0, 0, 1, 1]}
        evaluation._gts[0, 0] = [person]
        evaluation._dts[0, 0] = [{"keypoints": result.ravel().tolist(), "score": 1.0}]
        evaluation.params.maxDets = [20]
        if visible[t].any():
            assert found[t] == pytest.approx(evaluation.computeOks(0, 0).item(), rel=1e-12)
        else:
            assert math.isnan(found[t])  # COCO then scores by the box
    boxes = np.tile([0.0, 0, 100, 200], (25, 1))
    report = metrics.score_labels(predicted, joints, visible, COCO17, boxes=boxes)
    expected = metrics.oks(predicted, joints, visible, np.full(25, 0.53 * 20_000), sigma)
    assert report["OKS"]["mean"] == pytest.approx(np.nanmean(expected))
    assert metrics.sigmas(LIPS) is None and metrics.sigmas(PENN13) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2, 200])
def test_scores_work_for_any_number_of_joints(count):
    skeleton = skeletons.build("things", [f"joint{i}" for i in range(count)])
    predicted, joints, visible, likelihood = labelled(12, skeleton)
    found = metrics.score_labels(predicted, joints, visible, skeleton, confidence=likelihood)
    assert found["RMSE px"]["mean"] > 0 and len(found["RMSE px"]["per_joint"]) == count
    assert ("PCK@0.2" in found) == (count > 1)
    moving = np.cumsum(labelled(12, skeleton)[0], 0)
    assert math.isnan(metrics.jitter(moving, skeleton)) == (count == 1)
    assert metrics.jitter(10 * moving, skeleton) == pytest.approx(
        metrics.jitter(moving, skeleton), nan_ok=True
    )
    assert math.isnan(metrics.limb_spread(moving, skeleton))
    assert math.isnan(metrics.swaps(moving, skeleton))
    assert metrics.jitter_unit(skeleton) == "pose diagonals"
