import math
import sys

import numpy as np
import pytest
from PIL import Image

from ttp_jax import palette, visualize
from ttp_jax.skeletons import BBC7, PENN13, Skeleton

GREY = np.full((64, 64, 3), 120, np.uint8)
POSE = np.array(
    [
        [32, 10], [38, 18], [26, 18], [44, 27], [19, 24], [47, 35], [12, 30],
        [36, 36], [28, 36], [38, 47], [25, 47], [40, 58], [22, 57],
    ],
    float,
)  # fmt: skip


def changed(before, after):
    """Return the (x, y) of pixels that differ."""
    return np.argwhere((before != after).any(-1))[:, ::-1]


def example(**extra):
    rng = np.random.default_rng(0)
    affinity = rng.dirichlet(np.full(30, 0.1), 13)
    points = rng.uniform(5, 58, (30, 2))
    row = {"image": GREY, "reconstruction": GREY, "points": points, "joints": POSE}
    return {**row, "affinity": affinity, **extra}


@pytest.mark.parametrize("scale", [1, 4])
def test_joints_have_their_colour_at_their_place(scale):
    image = np.full((256 // scale, 256 // scale, 3), 120, np.uint8)
    joints = POSE * 4 // scale
    drawn = visualize.draw_joints(image, joints, PENN13, scale=scale)
    assert drawn.shape == (256, 256, 3) and drawn.dtype == np.uint8
    x, y = np.round((joints + 0.5) * scale - 0.5).astype(int).T
    np.testing.assert_allclose(drawn[y, x], PENN13.colors, atol=2)


def test_dots_are_centred_on_pixel_centres():
    canvas = visualize._Canvas(np.zeros_like(GREY), 4)
    canvas.dot([20, 30], [255, 255, 255])
    weight = canvas.picture().sum(-1).astype(float)
    y, x = np.indices(weight.shape)
    center = [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()]
    np.testing.assert_allclose(center, [20.5 * 4 - 0.5, 30.5 * 4 - 0.5], atol=0.15)


def test_nothing_is_drawn_far_from_the_pose():
    drawn = visualize.draw_joints(GREY, POSE, PENN13)
    places = changed(GREY, drawn)
    steps = np.linspace(0, 1, 50)[:, None]
    near = np.concatenate(
        [POSE, *(POSE[a] * steps + POSE[b] * (1 - steps) for a, b in PENN13.limbs)]
    )
    distance = np.linalg.norm(places[:, None] - near, axis=-1).min(1)
    assert len(places) > 100 and distance.max() < 4


@pytest.mark.filterwarnings("error")
def test_invisible_and_nan_joints_are_left_out():
    wrist = 5
    visible = np.ones(13)
    visible[wrist] = 0
    hidden = visualize.draw_joints(GREY, POSE, PENN13, visible)
    joints = POSE.copy()
    joints[wrist] = np.nan
    np.testing.assert_array_equal(hidden, visualize.draw_joints(GREY, joints, PENN13))
    assert np.linalg.norm(changed(GREY, hidden) - POSE[wrist], axis=1).min() > 3
    assert not len(changed(GREY, visualize.draw_joints(GREY, 0 * POSE + np.nan, PENN13)))


def test_points_outside_the_picture_do_no_harm():
    assert visualize.draw_joints(GREY, POSE * 50 - 1000, PENN13).shape == GREY.shape


@pytest.mark.filterwarnings("error")
def test_contribution_is_the_column_sum_of_the_affinity():
    # Neither the largest entry nor the number of joints decides: 0.9 < 0.6 + 0.6.
    affinity = np.array([[0.9, 0.1, 0.0], [0.0, 0.4, 0.6], [0.0, 0.4, 0.6]])
    colors = visualize.contribution_colors(affinity).astype(int)
    warmth = colors[:, 0] - colors[:, 2]
    assert warmth[2] > warmth[0] and warmth[2] > warmth[1]
    np.testing.assert_array_equal(colors[0], colors[1])  # 0.9 both
    assert visualize.contribution_colors(np.zeros((2, 3))).shape == (3, 3)


@pytest.mark.parametrize("scale", [2, 4])
def test_figure5_has_a_row_an_example(scale):
    def size(rows, columns):
        cell, header = 64 * scale + visualize.GAP, visualize.TEXT + visualize.GAP
        return (rows * cell + visualize.GAP + header, columns * cell + visualize.GAP, 3)

    plain = visualize.figure5([example(), example()], PENN13, scale=scale)
    assert plain.shape == size(2, 4)
    truth = visualize.figure5([example(truth=POSE), example()], PENN13, scale=scale)
    assert truth.shape == size(2, 5)


def test_figure5_draws_arrows_above_the_threshold_only():
    joints = np.full((13, 2), np.nan)
    joints[0] = 50, 50
    affinity = np.zeros((13, 30))
    row = example(joints=joints, points=np.full((30, 2), 10.0))

    def between(value):
        affinity[0, 3] = value
        sheet = visualize.figure5([{**row, "affinity": affinity}], PENN13, scale=4)
        cell = 64 * 4 + visualize.GAP
        top = visualize.TEXT + 2 * visualize.GAP
        return sheet[top:, cell + visualize.GAP :][120, 120]

    assert np.ptp(between(0.10)) == 0  # the faded, grey picture
    assert np.ptp(between(0.11)) > 20


def test_overlay_shows_before_after_and_truth():
    drawn = visualize.overlay(GREY, POSE - 3, POSE + 3, PENN13, truth=POSE, scale=4)
    assert drawn.shape == (256, 256, 3)
    right_wrist = 6
    for pose, color in (
        (POSE - 3, palette.POSES["before"]["right"]),
        (POSE + 3, palette.POSES["after"]["right"]),
        (POSE, visualize.WHITE),
    ):
        x, y = np.round((pose[right_wrist] + 0.5) * 4 - 0.5).astype(int)
        np.testing.assert_allclose(drawn[y, x], color, atol=2)
    assert visualize.overlay(GREY, POSE, POSE, PENN13).shape == GREY.shape


def test_before_is_dashed_and_lies_under_after():
    """Along a leg: the colour of before comes and goes, that of after stays."""
    image = np.full((256, 256, 3), 120, np.uint8)
    knee, ankle = np.array([60.0, 60]), np.array([60.0, 200])
    legs = np.full((13, 2), np.nan)
    legs[9], legs[11] = knee, ankle
    nothing = legs * np.nan
    column = {}
    for pose in ("before", "after"):
        poses = {"before": nothing, "after": nothing, pose: legs}
        drawn = visualize.overlay(image, poses["before"], poses["after"], PENN13).astype(int)
        color = np.array(palette.POSES[pose]["left"])
        column[pose] = np.abs(drawn[75:190, 60] - color).max(-1) < 30
    assert column["after"].all()
    assert 0.3 < column["before"].mean() < 0.8 and np.abs(np.diff(column["before"])).sum() > 4
    both = visualize.overlay(image, legs, legs, PENN13)
    np.testing.assert_array_equal(
        both[75:190, 55:65], visualize.overlay(image, nothing, legs, PENN13)[75:190, 55:65]
    )


def test_joints_below_the_p_cutoff_are_hollow_and_have_no_limbs():
    sure = np.ones(13)
    sure[6] = 0.2  # the right wrist, an end of one limb
    place = np.round(POSE[6] * 4 + 1.5).astype(int)

    def drawn(pcutoff):
        nothing = POSE * np.nan
        return visualize.overlay(GREY, nothing, POSE, PENN13, scale=4, confidence=(sure, sure),
                                 pcutoff=pcutoff).astype(int)  # fmt: skip

    plain, cut = drawn(0.0), drawn(0.5)
    x, y = place
    assert np.ptp(cut[y, x]) == 0 and (plain[y, x] == palette.POSES["after"]["right"]).all()
    assert np.ptp(cut[y - 14 : y + 14, x - 14 : x + 14], axis=-1).max() > 100  # a ring around it
    elbow = np.round(POSE[4] * 4 + 1.5)
    x, y = np.round((place + elbow) / 2).astype(int)
    assert np.ptp(cut[y, x]) == 0 < np.ptp(plain[y, x])


def test_sides_are_told_by_names_of_many_kinds():
    names = ("left_knee", "knee_right", "LeftKnee", "R_knee", "kneeL", "nose", "RKnee", "r",
             "right2left", "LEFT_KNEE", "bright", "leftover")  # fmt: skip
    skeleton = Skeleton("any", names, (), ((0, 2), (0, 1), (0, 5), (5, 5)))
    assert palette.sides(skeleton) == (
        "left", "right", "left", "right", "left", "middle", "right", "middle",
        "middle", "left", "middle", "middle",
    )  # fmt: skip
    assert palette.limb_sides(skeleton) == ("left", "middle", "left", "middle")
    assert palette.colors(Skeleton("none", (), (), ()), "after").shape == (0, 3)


# Brettel, Vienot and Mollon's protanopia, deuteranopia and tritanopia, as matrices on linear RGB
# (Machado, Oliveira and Fernandes 2009, severity 1).
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BLINDNESS))
def test_before_and_after_differ_for_the_colour_blind(kind):
    def seen(color):
        linear = (np.array(color) / 255) ** 2.2
        return 255 * np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1) ** (1 / 2.2)

    for before in palette.POSES["before"].values():
        for after in palette.POSES["after"].values():
            assert np.linalg.norm(seen(before) - seen(after)) > 90


def test_left_is_darker_than_right():
    for shades in palette.POSES.values():
        left, right = (np.dot(shades[side], (0.2126, 0.7152, 0.0722)) for side in ("left", "right"))
        assert left < right - 25


def test_grid_places_pictures_row_by_row():
    colors = [(i * 40, 0, 0) for i in range(5)]
    images = [np.full((20, 30, 3), c, np.uint8) for c in colors]
    gap = visualize.GAP
    sheet = visualize.grid(images, 3)
    assert sheet.shape == (2 * 20 + 3 * gap, 3 * 30 + 4 * gap, 3)
    for i, color in enumerate(colors):
        y, x = gap + (i // 3) * (20 + gap), gap + (i % 3) * (30 + gap)
        assert (sheet[y : y + 20, x : x + 30] == color).all()
    assert (sheet[-20:, -30:] == 255).all()
    labelled = visualize.grid(images, 3, ["a", "", "", "", ""])
    assert labelled.shape[0] == sheet.shape[0] + visualize.TEXT + gap  # one row has labels
    with pytest.raises(ValueError, match="2 labels for 5 pictures"):
        visualize.grid(images, 3, ["a", "b"])
    with pytest.raises(ValueError, match="no pictures"):
        visualize.grid([], 3)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="float64, expected uint8"):
        visualize.draw_joints(GREY / 255, POSE, PENN13)
    with pytest.raises(ValueError, match=r"\(7, 2\) for bbc7"):
        visualize.draw_joints(GREY, POSE, BBC7)


def test_save_makes_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "a.png"
    visualize.save(path, GREY)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), GREY)


@pytest.mark.filterwarnings("error")
def test_plot_history_writes_a_panel_a_key(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    records = [{"step": i, "loss": 1 / (i + 1)} for i in range(5)] + [{"step": 5, "pck": 40}]
    for count, keys in ((1, ["loss"]), (4, ["loss", "pck", "never", "step"])):
        path = tmp_path / "plots" / f"{count}.png"
        visualize.plot_history(path, records, keys)
        with Image.open(path) as picture:
            width, height = picture.size
        assert height / 110 == pytest.approx(2.8 * math.ceil(count / 3), abs=0.1)
        assert width / 110 == pytest.approx(4.2 * min(3, count), abs=0.1)
