"""Skeletons from any names: mirror pairs, storage, drawing and exports of 1 to 200 joints."""

import copy
import json

import h5py
import numpy as np
import pandas
import pytest

from ttp_jax import exports, skeletons, visualize
from ttp_jax.skeletons import SKELETONS, Skeleton

# --- Mirror pairs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair",
    [
        "left_ear right_ear", "ear_left ear_right", "LeftEar RightEar", "earLeft earRight",
        "l_ear r_ear", "ear_l ear_r", "ear-L ear-R", "LEar REar", "earL earR", "Lear Rear",
        "topleftinner toprightinner", "forelegL4 forelegR4", "leg_l_1 leg_r_1", "L.ear R.ear",
        "LF_paw RF_paw", "paw_LH paw_RH", "FL_paw FR_paw", "LeftPaw2 RightPaw2", "leftLip rightLip",
    ],
)  # fmt: skip
def test_usual_spellings_of_left_and_right_are_pairs(pair):
    left, right = pair.split()
    for order in ([left, "tail", right], [right, "tail", left]):
        assert skeletons.mirror_pairs(order) == [(left, right)]
        assert skeletons.build("animal", order).flip_pairs == (
            (order.index(left), order.index(right)),
        )


@pytest.mark.parametrize("name", ["{}_eye_{}_corner", "{}Eye{}Corner", "x{}eye{}"])
@pytest.mark.parametrize("sides", [("left", "right"), ("Left", "Right")])
def test_of_several_sides_in_a_name_all_swap(name, sides):
    joints = [name.format(a, b) for a in sides for b in sides]
    assert skeletons.mirror_pairs(joints) == [(joints[0], joints[3]), (joints[1], joints[2])]
    # Otherwise one: the other is part of the joint's name.
    assert skeletons.mirror_pairs([joints[0], joints[2]]) == [(joints[0], joints[2])]


@pytest.mark.parametrize(
    "joints",
    [["left_ear", "right_eye"], ["tail", "tair2"], ["ear1", "ear2"], ["left"], ["l", "L1"]],
)
def test_names_without_a_partner_are_no_pair(joints):
    assert skeletons.mirror_pairs(joints) == []


def test_pairs_of_the_papers_skeletons_follow_from_their_names():
    for skeleton in SKELETONS.values():
        built = skeletons.build(skeleton.name, skeleton.joints)
        assert {frozenset(pair) for pair in built.flip_pairs} == {
            frozenset(pair) for pair in skeleton.flip_pairs
        }
        np.testing.assert_array_equal(built.flip_order, skeleton.flip_order)


def test_the_torso_is_found_by_shoulders_and_hips():
    assert skeletons.build("a", SKELETONS["penn13"].joints).torso == SKELETONS["penn13"].torso
    assert skeletons.build("b", ["LShoulder", "RShoulder", "hip_l"]).torso == ()


# --- Storage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_json_holds_the_whole_skeleton(skeleton):
    assert skeletons.from_json(json.loads(json.dumps(skeleton.to_json()))) == skeleton


GOOD = skeletons.build("fly", ["wingL", "wingR", "head"], limbs=[["wingL", "head"]]).to_json()
BAD = {
    "no object": ([1], "no skeleton"),
    "no joints": ({"joints": []}, "has 0 joints, expected 1 to 200"),
    "too many": ({"joints": [f"j{i}" for i in range(201)]}, "has 201 joints"),
    "twice": ({"joints": ["head", "wingL", "wingR", "head"]}, "has head twice"),
    "a number": ({"joints": ["head", 3]}, "a joint without a name"),
    "blank": ({"joints": ["head", " "]}, "a joint without a name"),
    "text": ({"joints": "head"}, "no skeleton: expected an object"),
    "unknown": ({"flip_pairs": [["wingL", "legR"]]}, "no joint legR, expected some of wingL"),
    "itself": ({"flip_pairs": [["head", "head"]]}, "expected two different joints"),
    "two partners": (
        {"flip_pairs": [["wingL", "wingR"], ["wingL", "head"]]},
        "wingL in two mirror pairs",
    ),
    "three": ({"limbs": [["wingL", "wingR", "head"]]}, "expected two names of joints"),
    "list in a limb": ({"limbs": [[["wingL"], "head"]]}, "expected two names of joints"),
    "limb of text": ({"limbs": ["wingL"]}, "expected two names of joints"),
    "torso": ({"torso": [["wingL"]]}, "expected none or two groups"),
    "torso of numbers": ({"torso": [[1], [2]]}, "expected two names"),
    "torso of strangers": ({"torso": [["wingL"], ["hip"]]}, "no joint hip"),
    "no name": ({"name": None}, "no skeleton"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_skeleton_is_refused(case):
    change, message = BAD[case]
    content = copy.deepcopy(GOOD) | change if isinstance(change, dict) else change
    with pytest.raises(ValueError, match=message):
        skeletons.from_json(content)


def test_a_skeleton_of_damaged_names_is_refused():
    with pytest.raises(ValueError, match="no joint ear"):
        skeletons.build("a", ["eye"], flip_pairs=[("ear", "eye")])
    with pytest.raises(ValueError, match="has eye twice"):
        skeletons.build("a", ["eye", "eye"])


# --- 1 to 200 joints -----------------------------------------------------------------------------


def many(count) -> Skeleton:
    return skeletons.build("many", [f"point {i}" for i in range(count)])


def test_left_and_right_have_colours_of_their_own():
    colors = skeletons.build("fly", ["wingL", "wingR", "head"]).colors.astype(int)
    assert colors[0, 0] > colors[0, 2] and colors[1, 2] > colors[1, 0]  # warm and cool
    assert (colors[2] == 255).all()


@pytest.mark.parametrize("count", [1, 2, 14, 200])
def test_drawing_shows_each_joint_in_a_colour_of_its_own(count):
    skeleton = many(count)
    assert len(np.unique(skeleton.colors, axis=0)) >= min(count, 100)
    side = 16 * int(np.ceil(np.sqrt(count)))
    place = np.arange(count)
    joints = np.stack([place * 16 % side + 8, place * 16 // side * 16 + 8], -1)
    drawn = visualize.draw_joints(np.zeros((side, side, 3), np.uint8), joints, skeleton)
    x, y = joints.T
    np.testing.assert_allclose(drawn[y, x], skeleton.colors, atol=2)
    visualize.overlay(drawn, joints, joints + 1, skeleton, truth=joints)


@pytest.mark.parametrize("count", [1, 2, 200])
def test_exports_hold_any_number_of_joints(tmp_path, count):
    skeleton = many(count)
    joints = np.random.default_rng(0).uniform(0, 99, (4, count, 2))
    joints[1] = np.nan
    track = exports.Track("run", joints, np.ones(joints.shape[:2]), skeleton)
    files = {path.name: path for path in exports.write(track, tmp_path, list(exports.FORMATS))}
    table = pandas.read_csv(files["run.csv"], header=[0, 1, 2], index_col=0)
    written = table.to_numpy().reshape(4, count, 3)[..., :2]
    np.testing.assert_allclose(written, joints, atol=1e-4)
    with h5py.File(files["run.analysis.h5"]) as file:
        np.testing.assert_array_equal(np.transpose(file["tracks"][0], (2, 1, 0)), joints)
        assert file["edge_inds"].shape == file["edge_names"].shape == (0, 2)
        assert [name.decode() for name in file["node_names"][:]] == list(skeleton.joints)
    results = json.loads(files["run.json"].read_text())
    assert [len(result["keypoints"]) for result in results] == [3 * count] * 3
