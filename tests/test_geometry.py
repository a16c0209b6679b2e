import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttp_jax import geometry

RNG = np.random.default_rng(0)
CROP = np.array([70.3, 55.8, 90.0])
CASES = [
    pytest.param(1.0, 0.0, False, id="plain"),
    pytest.param(0.8, 0.0, True, id="mirrored"),
    pytest.param(1.2, 35.0, False, id="rotated"),
    pytest.param(1.1, -50.0, True, id="rotated and mirrored"),
]


def test_crop_is_the_box_widened_by_a_quarter_and_moved_down():
    # Published program: s = longer side / 200, c_y += 15 s, s *= 1.25.
    boxes = np.array([[10.0, 20.0, 50.0, 100.0], [0.0, 0.0, 60.0, 30.0]])
    expected = [[30.0, 60.0 + 15 * 80 / 200, 100.0], [30.0, 15.0 + 15 * 60 / 200, 75.0]]
    np.testing.assert_allclose(geometry.box_to_crop(boxes), expected)
    np.testing.assert_allclose(geometry.box_to_crop(jnp.array(boxes)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "box, words",
    [
        ([2, 3, 40, 60], None),
        ([-30, -20, 3, 60], None),  # a person at the rim
        ([-0.5, -0.5, 63.5, 47.5], None),
        ([64, 0, 80, 40], "lies outside the frame, which is 64 x 48 pixels"),
        ([0, -9, 20, -1], "lies outside"),
        ([0.2, 0.1, 0.6, 0.9], "less than 3 pixels wide or high in the frame"),
        ([0, 0, 20, 1], "less than 3 pixels"),
        ([0, 0, 2000, 40], "is far larger than"),
    ],
)
def test_misplaced_boxes_are_told(box, words):
    wrong = geometry.misplaced(np.array(box, float), (48, 64), "the frame")
    assert wrong is None if words is None else words in (wrong or "")


def test_unrotated_crop_follows_the_published_formula_by_hand():
    # (128 / side) (p - c) + 64
    affine = geometry.crop_affine(np.array([30.0, 66.0, 100.0]), 128)
    points = np.array([[30.0, 66.0], [80.0, 116.0], [-20.0, 16.0], [55.0, 66.0]])
    expected = [[64.0, 64.0], [128.0, 128.0], [0.0, 0.0], [96.0, 64.0]]
    np.testing.assert_allclose(geometry.transform_points(affine, points), expected, atol=1e-12)


@pytest.mark.parametrize("scale, degrees, flip", CASES)
def test_affine_equals_the_published_formula(scale, degrees, flip):
    # x_in = size / (side scale) R(-degrees) (p - c) + size / 2, R the rotation with y down;
    # mirrored pictures are mirrored about the crop's centre first.
    affine = geometry.crop_affine(CROP, 64, scale, degrees, flip)
    for point in RNG.uniform(0, 120, (5, 2)):
        x, y = point - CROP[:2]
        x = -x if flip else x
        a = np.deg2rad(-degrees)
        turned = np.array([np.cos(a) * x - np.sin(a) * y, np.sin(a) * x + np.cos(a) * y])
        expected = 64 / (CROP[2] * scale) * turned + 32
        np.testing.assert_allclose(
            geometry.transform_points(affine, point[None])[0], expected, atol=1e-9
        )


def test_positive_degrees_turn_the_picture_against_the_clock():
    # The region turns clockwise on the screen, so what lay to the right of the centre moves up.
    affine = geometry.crop_affine(np.array([50.0, 50.0, 64.0]), 64, degrees=90.0)
    np.testing.assert_allclose(
        geometry.transform_points(affine, np.array([[60.0, 50.0]])), [[32.0, 22.0]], atol=1e-9
    )


@pytest.mark.parametrize("scale, degrees, flip", CASES)
def test_inverse_undoes_the_affine(scale, degrees, flip):
    affine = geometry.crop_affine(CROP, 64, scale, degrees, flip)
    inverse = geometry.invert_affine(affine)
    points = RNG.uniform(-50, 200, (7, 2))
    there = geometry.transform_points(affine, points)
    np.testing.assert_allclose(geometry.transform_points(inverse, there), points, atol=1e-9)
    np.testing.assert_allclose(geometry.invert_affine(inverse), affine, atol=1e-9)


def test_numpy_and_jax_give_the_same_numbers_each_in_its_own_kind():
    crops = np.stack([CROP, CROP + 7]).astype(np.float32)
    arguments = (
        np.array([0.9, 1.2], np.float32),
        np.array([20.0, -40.0], np.float32),
        np.array([True, False]),
    )
    points = RNG.uniform(0, 100, (2, 4, 2)).astype(np.float32)
    ours = geometry.crop_affine(crops, 64, *arguments)
    theirs = geometry.crop_affine(jnp.array(crops), 64, *map(jnp.array, arguments))
    assert isinstance(ours, np.ndarray) and isinstance(theirs, jax.Array)
    for function in (lambda a: a, geometry.invert_affine):
        a, b = function(ours), function(theirs)
        assert isinstance(a, np.ndarray) and isinstance(b, jax.Array)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    a, b = (geometry.transform_points(m, points) for m in (ours, theirs))
    assert isinstance(a, np.ndarray) and isinstance(b, jax.Array)
    np.testing.assert_allclose(a, b, atol=1e-4)
    # Crops in a batch equal crops one by one.
    for i in range(2):
        single = geometry.crop_affine(crops[i], 64, *(a[i] for a in arguments))
        np.testing.assert_allclose(single, ours[i], rtol=1e-6)


@pytest.mark.parametrize("scale, degrees, flip", CASES)
def test_warp_equals_opencv(scale, degrees, flip):
    coarse = RNG.uniform(0, 255, (10, 13, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (130, 100), interpolation=cv2.INTER_CUBIC)
    affine = geometry.crop_affine(CROP, 64, scale, degrees, flip)
    ours = np.asarray(geometry.warp(jnp.array(picture), jnp.array(affine, jnp.float32), 64))
    theirs = cv2.warpAffine(picture, affine, (64, 64), flags=cv2.INTER_LINEAR)
    assert ours.dtype == np.float32
    # OpenCV rounds positions to 1/32 pixel; neighbours of this picture differ by some 20 levels,
    # at its border by up to 255.
    inside = cv2.warpAffine(np.ones((100, 130), np.float32), affine, (64, 64)) == 1
    core = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0
    assert core.sum() > 1000
    step = max(np.abs(np.diff(picture, axis=axis)).max() for axis in (0, 1))
    assert np.abs(ours - theirs)[core].max() < 2 * step / 64 + 0.05
    assert np.abs(ours - theirs).max() < 2 * 255 / 64 + 0.05 + 2 * step / 64


def test_warp_is_exact_at_whole_pixels_and_zero_outside():
    picture = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    affine = jnp.array([[1.0, 0.0, 4.0], [0.0, 1.0, -3.0]])
    out = np.asarray(geometry.warp(jnp.array(picture), affine, 40))
    expected = np.zeros((40, 40, 3))
    expected[:17, 4:34] = picture[3:]
    np.testing.assert_array_equal(out, expected)


def test_heatmap_index_is_crop_pixel_over_stride_and_predictions_come_back():
    # Published program: p = (h - 16) side / 32 + c, on a 32 x 32 map of a 128 px crop.
    affine = geometry.crop_affine(CROP, 128)
    maps = np.array([[16.0, 16.0], [0.0, 31.0], [10.25, 3.75]])
    back = geometry.transform_points(geometry.invert_affine(affine), 4 * maps)
    np.testing.assert_allclose(back, (maps - 16) * CROP[2] / 32 + CROP[:2], atol=1e-9)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_cells_with_half_pixels_lie_in_the_middle_of_what_they_cover(stride):
    cells = np.arange(5.0)[:, None].repeat(2, 1)
    covered = np.arange(5 * stride).reshape(5, stride).mean(1)
    found = geometry.map_to_crop(cells, stride, True)
    np.testing.assert_array_equal(found, covered[:, None].repeat(2, 1))
    np.testing.assert_array_equal(geometry.map_to_crop(cells, stride), stride * cells)
    edges = geometry.map_to_crop(cells, stride, geometry.EDGE)
    np.testing.assert_array_equal(edges, stride * cells - 0.5)
    for half_pixel in (False, True, geometry.EDGE):
        there = geometry.map_to_crop(cells, stride, half_pixel)
        np.testing.assert_array_equal(geometry.crop_to_map(there, stride, half_pixel), cells)
    # A mirrored crop's map is the mirrored map.
    mirrored = 5 * stride - 1 - found
    np.testing.assert_array_equal(geometry.crop_to_map(mirrored, stride, True), 4 - cells)


@pytest.mark.parametrize(("scale", "degrees", "flip"), CASES)
def test_a_crop_with_degrees_is_turned_by_them_before_anything_else(scale, degrees, flip):
    turned = np.append(CROP, 25.0)
    upright = geometry.crop_affine(turned, 64)
    np.testing.assert_allclose(upright, geometry.crop_affine(CROP, 64, 1.0, 25.0))
    # What is drawn at random moves the upright person, as it does one who stands upright anyway.
    still = np.array([32.0, 32.0, 64.0])
    moved = geometry.crop_affine(still, 64, scale, degrees, flip)
    expected = geometry.compose_affines(moved, upright)
    found = geometry.crop_affine(turned, 64, scale, degrees, flip)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(
        geometry.crop_affine(jnp.array(turned), 64, scale, degrees, flip), expected, atol=1e-4
    )
