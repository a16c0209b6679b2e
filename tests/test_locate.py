"""Boxes of one person: found, followed, and derived from joints."""

import cv2
import numpy as np

from data_pipelines import locate
from data_pipelines.clips import Clip, FrameError


def clip_of(pictures, unreadable=(), rate=25.0):
    """A clip of pictures, some of which can't be read."""

    def read(index):
        if index in unreadable:
            raise FrameError(f"picture {index} is damaged")
        return pictures[index]

    height, width = pictures[0].shape[:2]
    whole = np.array([[-0.5, -0.5, width - 0.5, height - 0.5]] * len(pictures), np.float32)
    return Clip("a", "a", "test", len(pictures), read, whole, frames_per_second=rate)


def a_walk(count=40, size=(120, 200), speed=3, noise=4.0):
    """Pictures of something like a person who walks before a wall, and its boxes [T, 4]."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (*size, 3)).astype(np.float32), (0, 0), 6)
    wall = (128 + 8 * (wall - 128)).clip(0, 255)
    look = rng.uniform(0, 255, (60, 24, 3))
    pictures, boxes = [], []
    for i in range(count):
        picture, x = wall.copy(), 20 + round(speed * i)
        picture[40:100, x : x + 24] = look
        pictures.append((picture + rng.normal(0, noise, picture.shape)).clip(0, 255).astype("u1"))
        boxes.append([x - 0.5, 39.5, x + 23.5, 99.5])
    return pictures, np.array(boxes)


def test_who_walks_before_a_still_camera_is_found():
    pictures, truth = a_walk()
    for i, picture in enumerate(pictures):
        picture[:12, :12] = 255 * (i // 8 % 2)  # a lamp that goes on and off
    found = locate.find(clip_of(pictures), "moving")
    assert np.abs(found - truth)[4:-4].max() < 8


def test_damaged_parts_and_few_frames_are_bridged():
    pictures, truth = a_walk()
    found = locate.find(clip_of(pictures, unreadable=range(14, 26)), "moving")
    assert np.abs(found - truth)[4:-4].max() < 12
    found = locate.find(clip_of(pictures[:30:8]), "moving")  # four, far from each other
    assert np.abs(found - truth[:30:8]).max() < 30
    for clip in (clip_of(pictures[:1]), clip_of(pictures[:2]), clip_of(pictures, range(40))):
        assert locate.find(clip, "moving") is None


def test_pictures_of_several_sizes_are_not_compared():
    pictures, _ = a_walk()
    mixed = [p[: 120 - 10 * (i // 4 % 2)] for i, p in enumerate(pictures)]
    assert locate.find(clip_of(mixed), "moving") is None


def test_where_nothing_moves_nobody_is_found():
    still = [np.zeros((48, 64, 3), np.uint8)] * 12
    assert locate.find(clip_of(still), "moving") is None


def test_a_moving_camera_leaves_the_whole_frame():
    pictures, _ = a_walk(noise=0)
    panned = [np.roll(picture, 10 * i, 1) for i, picture in enumerate(pictures)]
    clip = clip_of(panned)
    np.testing.assert_allclose(locate.find(clip, "moving"), clip.boxes, atol=1)


def test_boxes_enclose_the_moving_pixels_without_specks():
    moves = np.zeros((60, 80), bool)
    moves[10:40, 20:30] = True
    moves[59, 79] = True  # noise
    np.testing.assert_array_equal(locate._enclose(moves), [20, 10, 30, 40])


def test_people_detector_finds_nobody_on_a_wall():
    assert locate.find(clip_of([np.full((240, 320, 3), 80, np.uint8)] * 12), "people") is None
    assert locate.find(clip_of([np.full((9, 200, 3), 80, np.uint8)] * 3), "people") is None


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
    assert list(given) == ["the box", *(f"{size:g} times the box" for size in locate.SIZES[1:])]
    tried = locate.placements(boxes, whole, found=True)
    np.testing.assert_array_equal(tried["2 times the box"], [[-5, -10, 15, 30], [5, -10, 25, 30]])
    np.testing.assert_array_equal(tried["the region of all boxes"], [[0, 0, 20, 20]] * 2)
    np.testing.assert_array_equal(tried["the picture"], [[-0.5, -0.5, 99.5, 49.5]] * 2)
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
