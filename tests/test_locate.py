"""Boxes of one person: from joints, and followed through what a finder found."""

import numpy as np

from data_pipelines import locate


def test_one_person_is_followed():
    boxes, candidates = [], []
    for i in range(0, 96, 5):
        box = np.array([10 + i, 20, 30 + i, 60.0])
        seen = [] if 38 < i < 52 else [(box, 40.0)]  # hidden, then back
        if i > 20:
            seen.append(([150, 70, 170, 105], 35.0))  # somebody else, smaller
        if i == 90:
            seen.append(([0, 0, 16, 16], 16.0))  # a false alarm
        boxes.append(box)
        candidates.append(tuple(map(np.array, zip(*seen, strict=True))) if seen else locate.NOBODY)
    places = list(range(0, 96, 5))
    found = locate.follow(candidates, places, 96)
    # Where the person is hidden the box goes on; the median cuts the motion short at the ends.
    np.testing.assert_allclose(found[places][2:-2], boxes[2:-2], atol=3)
    assert locate.follow([locate.NOBODY] * 3, [0, 5, 10], 12) is None


def test_places_to_look_for_a_person():
    boxes = np.array([[0, 0, 10, 20], [10, 0, 20, 20]], np.float32)
    whole = np.array([[-0.5, -0.5, 99.5, 49.5]] * 2)
    given = locate.placements(boxes, whole, found=False)
    assert list(given) == [f"{size:g} times the box" for size in locate.SIZES]
    tried = locate.placements(boxes, whole, found=True)
    np.testing.assert_array_equal(tried["2 times the box"], [[-5, -10, 15, 30], [5, -10, 25, 30]])
    np.testing.assert_array_equal(tried["1 times the region of all boxes"], [[0, 0, 20, 20]] * 2)
    np.testing.assert_array_equal(tried["1 times the picture"], [[-0.5, -0.5, 99.5, 49.5]] * 2)
    assert "1.25 times the picture" in tried and "1.5 times the picture" not in tried


def person(frames, centre=(100, 80), size=(20, 60)):
    """Joints [T, 13, 2] whose box has this centre and size."""
    rng = np.random.default_rng(0)
    shape = rng.uniform(-0.5, 0.5, (13, 2))
    shape[:4] = [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]
    return np.tile(shape * size + centre, (frames, 1, 1))


def test_box_of_joints_is_the_training_box():
    # Penn Action's boxes: a tenth of the joints' width and height more at each side.
    boxes = locate.boxes_from_joints(person(30), (200, 300))
    assert boxes.shape == (30, 4) and boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[88, 44, 112, 116]] * 30, atol=1e-4)
    at_rim = locate.boxes_from_joints(person(5, centre=(5, 80)), (200, 300))
    np.testing.assert_allclose(at_rim, [[-0.5, 44, 17, 116]] * 5, atol=1e-4)


def test_missing_joints_and_outliers():
    joints = person(40) + np.arange(40)[:, None, None]
    clean = locate.boxes_from_joints(joints, (400, 600))
    joints[10:14] = np.nan
    joints[20, 6:] = np.nan  # 7 of 13 missing
    joints[5, 3:, 1] = np.nan  # 10 of 13 missing, in one coordinate only
    joints[30] *= 3
    joints[:, 12] = np.nan  # one joint never seen
    boxes = locate.boxes_from_joints(joints, (400, 600))
    assert np.isfinite(boxes).all()
    assert np.abs(boxes - clean).max() < 1.5


def test_boxes_are_smooth_in_time():
    rng = np.random.default_rng(0)
    jitter = rng.normal(0, 4, (60, 1, 2))
    boxes = locate.boxes_from_joints(person(60) + jitter, (200, 300))
    raw = locate.boxes_from_joints(person(60) + jitter, (200, 300), smooth=0)
    np.testing.assert_allclose((raw[:, :2] + raw[:, 2:]) / 2, [[100, 80]] + jitter[:, 0], atol=1e-4)
    assert np.diff(boxes, axis=0).std() < 0.25 * np.diff(raw, axis=0).std()


def test_boxes_without_enough_joints():
    nothing = np.full((3, 13, 2), np.nan)
    whole = [[-0.5, -0.5, 299.5, 199.5]] * 3
    np.testing.assert_array_equal(locate.boxes_from_joints(nothing, (200, 300)), whole)
    before = np.array([[1.0, 2, 30, 40]] * 3)
    np.testing.assert_array_equal(locate.boxes_from_joints(nothing, (200, 300), before), before)


def test_collapsed_joints_do_not_lose_the_person():
    point = np.full((4, 13, 2), 50.0)
    boxes = locate.boxes_from_joints(point, (200, 300))
    np.testing.assert_allclose(boxes, [[42.5, 42.5, 57.5, 57.5]] * 4)  # 0.05 * 300 wide
    before = np.array([[0.0, 0, 90, 150]] * 4)
    boxes = locate.boxes_from_joints(point, (200, 300), before)
    np.testing.assert_allclose(boxes, [[25, 25, 75, 75]] * 4)  # a third of 150
    outside = locate.boxes_from_joints(np.full((4, 13, 2), 1e4), (200, 300))
    assert (outside[:, :2] < [299.5, 199.5]).all() and (outside[:, 2:] > outside[:, :2]).all()


def test_sizes_may_differ_by_frame():
    sizes = np.array([[200, 300], [100, 120]])
    boxes = locate.boxes_from_joints(person(2), sizes, smooth=0)
    np.testing.assert_allclose(boxes, [[88, 44, 112, 116], [88, 44, 112, 99.5]], atol=1e-4)
