"""Poses drawn into the frames of a video."""

import numpy as np
import pytest

from ttp_jax import palette
from ttp_jax.runs import drawing
from ttp_jax.skeletons import PENN13, Skeleton

LEG = Skeleton("leg", ("left_knee", "left_ankle", "nose"), (), ((0, 1),))
POINTS = np.array([[50.0, 20], [50, 180], [150, 100]])


def drawn(pose, **more):
    """Return a picture int [200, 200, 3] with one pose."""
    picture = np.full((200, 200, 3), 120, np.uint8)
    drawing.draw_pose(picture, more.pop("points", POINTS), LEG, pose, 3, **more)
    return picture.astype(int)


def where(picture, color):
    return np.abs(picture - color).max(-1) < 30


@pytest.mark.parametrize("pose", ["before", "after"])
def test_joints_and_limbs_have_the_colour_of_their_side(pose):
    picture, shades = drawn(pose), palette.POSES[pose]
    assert where(picture, shades["left"])[20, 50] and where(picture, shades["left"])[180, 50]
    assert where(picture, shades["middle"])[100, 150]
    places = np.argwhere((picture != 120).any(-1))[:, ::-1]
    near = np.abs(places - POINTS[2]).max(-1) < 8
    assert (near | (np.abs(places[:, 0] - 50) < 8)).all()


def test_before_is_dashed_and_thinner():
    dashed = {}
    for pose in ("before", "after"):
        line = drawn(pose)[30:170, 40:60]
        dashed[pose] = where(line, palette.POSES[pose]["left"])[:, 10]
        dashed[pose + " width"] = (line != 120).any(-1).sum(1).max()
    assert dashed["after"].all() and 0.3 < dashed["before"].mean() < 0.8
    assert dashed["before width"] < dashed["after width"]


def test_joints_below_the_p_cutoff_are_hollow_without_limbs():
    picture = drawn("after", confidence=[0.9, 0.3, 0.9], pcutoff=0.5)
    color = palette.POSES["after"]["left"]
    assert where(picture, color)[20, 50] and not where(picture, color)[180, 50]
    assert (picture[180, 50] == 120).all() and where(picture, color)[170:190, 40:60].any()
    assert (picture[60:140, 40:60] == 120).all()
    np.testing.assert_array_equal(drawn("after", confidence=[0, 0, 0]), drawn("after"))


def test_what_is_unknown_or_far_away_is_left_out():
    points = POINTS.copy()
    points[0], points[1] = np.nan, (50, 1e12)
    picture = drawn("after", points=points)
    assert (picture[:, :140] == 120).all() and (picture != 120).any()


def test_the_legend_explains_lines_sides_and_hollow_joints():
    def height(skeleton, pcutoff=0.0):
        picture = np.full((300, 500, 3), 120, np.uint8)
        drawing.write_legend(picture, "frame 7", skeleton, pcutoff)
        return picture, np.argwhere((picture != 120).any(-1))[:, 0].max()

    picture, plain = height(PENN13)
    for shades in palette.POSES.values():
        for side in ("left", "right"):
            assert where(picture.astype(int), shades[side]).any()
    assert height(PENN13, 0.6)[1] > plain + 10
    lone = Skeleton("lone", ("nose",), (), ())
    picture, _ = height(lone)
    assert not where(picture.astype(int), palette.POSES["after"]["left"]).any()
