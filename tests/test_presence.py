"""Whether a person was found: people who move, and skeletons that only look steady."""

import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_pipelines import locate
from ttp_jax import presence


def at(joints, x, y):
    """Return joints moved by x and y."""
    return joints + np.array([x, y])


def region_of(joints, room=4):
    """Return what moves: the box of the joints [T, 4], a little wider."""
    return np.concatenate([joints.min(1) - room, joints.max(1) + room], -1)


FRAMES, SIZE = 60, (240, 320)
TIME = np.arange(FRAMES)[:, None, None]
RNG = np.random.default_rng(0)
BODY = RNG.uniform((-20, -50), (20, 50), (13, 2))  # joints around a body's middle
SWING = RNG.uniform(-8, 8, (13, 2)) * np.sin(2 * np.pi * TIME / 25)  # of limbs, on the spot


WALKER = at(BODY, 60, 120) + np.array([3.0, 0]) * TIME + SWING
ON_THE_SPOT = at(BODY, 160, 120) + 2 * SWING


def test_somebody_who_walks_or_swings_is_found():
    noisy = WALKER + RNG.normal(0, 6, WALKER.shape)
    for joints, person in ((WALKER, WALKER), (ON_THE_SPOT, ON_THE_SPOT), (noisy, WALKER)):
        found = presence.measure(joints, region_of(person), picture_size=SIZE)
        assert found.found is True and found.inside > 0.9 and 0.6 < found.motion < 2
        assert found.words.startswith("Person found: ") and found.frames == FRAMES


@pytest.mark.parametrize("jitter", [0, 5])
@pytest.mark.parametrize(
    ("skeleton", "region"),
    [
        (at(BODY, 60, 60), region_of(at(WALKER, 60, 60))),  # beside the person
        (at(BODY, 150, 120), region_of(WALKER)),  # whom the person walks past
        (at(BODY, 160, 120), region_of(ON_THE_SPOT)),  # in front of somebody who stays
    ],
)
def test_a_skeleton_that_stands_still_is_nobody(skeleton, region, jitter):
    """However steady, its limbs as long as ever and its sides never swapped."""
    still = skeleton + jitter * np.random.default_rng(1).normal(0, 1, (FRAMES, 13, 2))
    found = presence.measure(still, region, picture_size=SIZE)
    assert found.found is False and found.words.startswith("No person found: ")
    assert not found.motion > 0.15 or found.inside < 0.4


def test_a_skeleton_that_walks_elsewhere_is_nobody():
    found = presence.measure(at(WALKER, 0, 110), region_of(WALKER), picture_size=SIZE)
    assert found.found is False and found.inside < 0.2
    # A detector or the user has seen a person there, so the words don't say that there is none.
    sure = presence.measure(at(WALKER, 0, 110), region_of(WALKER), name="detected box", given=True)
    assert sure.words.startswith("The pose misses the person: 10% of the joints lie inside the det")


def test_somebody_who_moves_an_arm_only_is_found():
    """The moving region is the arm's; most joints lie outside of it, and stand still."""
    joints = np.tile(at(BODY, 160, 120), (FRAMES, 1, 1))
    joints[:, 0] = (175, 110) + np.array([15.0, 25.0]) * np.sin(2 * np.pi * TIME[:, 0] / 40)
    joints[:, 1] = joints[:, 0] + (4, 6)
    region = region_of(joints[:, :2], room=6)
    found = presence.measure(joints, region, picture_size=SIZE)
    assert found.inside < presence.LEAST_INSIDE and found.found is True


def test_what_tells_no_place_is_not_judged():
    nowhere, whole = np.full((FRAMES, 4), np.nan), np.tile([0, 0, 319, 239.0], (FRAMES, 1))
    for region in (nowhere, whole):
        found = presence.measure(WALKER, region, picture_size=SIZE)
        assert found.found is None and "could not be checked" in found.words
    assert presence.measure(WALKER * np.nan, region_of(WALKER)).found is None


def test_a_given_box_is_trusted_to_hold_the_person():
    box = [40, 50, 280, 190]
    for joints, inside in ((WALKER, True), (at(WALKER, 0, 200), False)):
        found = presence.measure(joints, box, picture_size=SIZE, given=True)
        assert found.found is inside and "the given box, which moves too little" in found.words


def test_missing_joints_and_frames_are_left_out():
    joints, region = WALKER.copy(), region_of(WALKER)
    joints[RNG.random(joints.shape[:2]) < 0.3] = np.nan
    joints[10:15], region[30:40] = np.nan, np.nan
    found = presence.measure(joints, region, picture_size=SIZE)
    assert found.found is True and found.frames == FRAMES - 15
    lone = presence.measure(WALKER[:1], region_of(WALKER[:1]))
    assert lone.found is True and np.isnan(lone.motion)
    many = np.tile(WALKER, (1, 16, 1))[:, :200]
    assert presence.measure(many, region_of(WALKER)).found is True


def test_what_is_kept_of_it_is_strict_json():
    for region in (region_of(WALKER), np.full((FRAMES, 4), np.nan)):
        found = presence.measure(WALKER, region)
        kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert kept["found"] is found.found and kept["words"] == found.words


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"region \(59, 4\), expected \[T, K, 2\] and \[T, 4\]"):
        presence.measure(WALKER, region_of(WALKER)[1:])


@pytest.mark.parametrize("name", ["0001", "0002", "0003"])
def test_a_real_man_is_found_and_his_frozen_pose_is_not(shared_data, name):
    paths = sorted(shared_data("penn_real", "frames", name).iterdir())
    labels = scipy.io.loadmat(str(shared_data("penn_real", "labels", f"{name}.mat")))
    joints = np.stack([labels["x"], labels["y"]], -1).astype(float) - 1
    places = list(range(0, len(joints), 5))
    pictures = [np.asarray(Image.open(paths[i]).convert("RGB")) for i in places]
    region = locate.follow(list(locate.moving(pictures)), places, len(joints))
    size = pictures[0].shape[:2]
    found = presence.measure(joints, region, picture_size=size)
    assert found.found is True and found.inside > 0.9 and found.motion > 0.7
    for away in (0, 0.4 * size[1]):
        still = np.broadcast_to(joints[len(joints) // 2] + (away, 0), joints.shape)
        still = still + np.random.default_rng(0).normal(0, 4, joints.shape)
        assert presence.measure(still, region, picture_size=size).found is False
