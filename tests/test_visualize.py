import math
import sys

import numpy as np
import pytest
from PIL import Image

from ttp_jax import visualize
from ttp_jax.skeletons import BBC7, PENN13

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
    poses = ((POSE - 3, visualize.RED), (POSE + 3, visualize.GREEN), (POSE, visualize.WHITE))
    for pose, color in poses:
        x, y = np.round((pose[6] + 0.5) * 4 - 0.5).astype(int)
        np.testing.assert_allclose(drawn[y, x], color, atol=2)
    assert visualize.overlay(GREY, POSE, POSE, PENN13).shape == GREY.shape


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
