import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ttp_jax import heatmaps


def gaussian(x, y, height=32, width=32, sigma=2.0, peak=1.0):
    """A map drawn without the code under test."""
    ys, xs = np.mgrid[:height, :width]
    return peak * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("true, read", [(2, 3.15), (8, 8.61), (29, 27.85)])
def test_soft_argmax_of_one_gaussian_is_pulled_to_the_centre(true, read):
    # Numbers measured with the published program: sums of rows and columns, not means. Its
    # target Gaussians end 3 sigma from the peak.
    ys, xs = np.mgrid[:32, :32]
    near = (abs(xs - true) <= 6) & (abs(ys - 16) <= 6)
    maps = jnp.array((gaussian(true, 16) * near)[None, ..., None], jnp.float32)
    assert float(heatmaps.soft_argmax(maps)[0, 0, 0]) == pytest.approx(read, abs=0.005)
    assert float(heatmaps.soft_argmax(maps.swapaxes(1, 2))[0, 0, 1]) == pytest.approx(
        read, abs=0.005
    )


def test_soft_argmax_of_a_high_peak_is_the_peak():
    # 4 rather than 8: the narrower tail of the softmax still leaves a few hundredths at peak 3.
    maps = jnp.array(gaussian(8, 21, peak=4.0)[None, ..., None], jnp.float32)
    np.testing.assert_allclose(heatmaps.soft_argmax(maps)[0, 0], [8, 21], atol=0.01)


def test_soft_argmax_equals_a_plain_loop_on_oblong_maps_and_ignores_a_constant():
    maps = np.random.default_rng(0).normal(0, 0.5, (2, 6, 9, 3))
    points = np.asarray(heatmaps.soft_argmax(jnp.array(maps, jnp.float32)))
    for b in range(2):
        for m in range(3):
            expected = reference.soft_argmax(maps[b, :, :, m].tolist())
            np.testing.assert_allclose(points[b, m], expected, atol=1e-5)
    shifted = heatmaps.soft_argmax(jnp.array(maps + 3.0, jnp.float32))
    np.testing.assert_allclose(shifted, points, atol=1e-4)


def test_gaussian_maps_have_peak_one_at_the_point():
    points = np.array([[[3.0, 5.0], [7.25, 1.5]]])
    maps = np.asarray(heatmaps.gaussian_maps(jnp.array(points, jnp.float32), 10, 12, 1.7))
    assert maps.shape == (1, 10, 12, 2)
    assert maps[0, 5, 3, 0] == 1.0
    for m, (x, y) in enumerate(points[0]):
        np.testing.assert_allclose(maps[0, :, :, m], gaussian(x, y, 10, 12, 1.7), atol=1e-6)


def test_gaussian_maps_carry_the_gradient_of_the_points():
    points = jnp.array([[[3.0, 5.0]]])
    slope = jax.grad(lambda p: heatmaps.gaussian_maps(p, 10, 12, 2.0)[0, 5, 5, 0])(points)
    expected = math.exp(-0.5) * 2 / 4  # the pixel lies 2 to the right, sigma 2
    np.testing.assert_allclose(slope[0, 0], [expected, 0.0], atol=1e-6)


@pytest.mark.parametrize("kind", ["noise", "coarse", "negative"])
def test_decode_equals_the_plain_loop(kind):
    rng = np.random.default_rng(3)
    maps = rng.normal(size=(6, 8, 11, 7)).astype(np.float32)
    if kind == "coarse":  # ties for the peak and between its neighbours
        maps = np.round(maps)
    if kind == "negative":
        maps = maps - 2.5
    points, peaks = heatmaps.decode(jnp.array(maps))
    for b in range(maps.shape[0]):
        for k in range(maps.shape[-1]):
            expected, peak = reference.decode(maps[b, :, :, k].tolist())
            assert tuple(np.asarray(points[b, k])) == expected
            assert float(peaks[b, k]) == peak


def test_decode_by_hand_at_the_rule_s_edges():
    maps = np.zeros((1, 8, 8, 5), np.float32)
    maps[0, 4, 5, 0], maps[0, 4, 6, 0], maps[0, 3, 5, 0] = 1.0, 0.5, 0.2  # towards right and top
    maps[0, 1, 4, 1], maps[0, 1, 5, 1] = 1.0, 0.5  # index 1 counts as border
    maps[0, 6, 6, 2], maps[0, 6, 5, 2] = 1.0, 0.5  # size - 2 does not
    maps[0, :, :, 3] = -1.0  # nothing positive
    maps[0, 2, 3, 4] = maps[0, 5, 5, 4] = 1.0  # a tie: the first in row-major order
    points, peaks = heatmaps.decode(jnp.array(maps))
    expected = [[5.25, 3.75], [4, 1], [5.75, 6], [0, 0], [3, 2]]
    np.testing.assert_array_equal(points[0], expected)
    np.testing.assert_array_equal(peaks[0], [1, 1, 1, -1, 1])


def test_the_parabola_finds_the_middle_of_a_gaussian():
    """Of every place in the map, where a quarter step can be a quarter pixel off."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0.51, 14.49, (4, 9, 2)).astype(np.float32)
    maps = 0.7 * heatmaps.gaussian_maps(jnp.array(places), 16, 16, 1.2)
    points, peaks = heatmaps.decode(maps, "parabola")
    np.testing.assert_allclose(points, places, atol=1e-3)
    np.testing.assert_array_equal(peaks, maps.max((1, 2)))
    quarter, _ = heatmaps.decode(maps)
    assert np.abs(quarter - places).max() > 0.2


def test_the_parabola_stays_within_half_a_pixel_of_the_peak():
    rng = np.random.default_rng(1)
    maps = jnp.array(np.round(rng.normal(size=(3, 8, 9, 5)), 1), jnp.float32)
    maps = maps.at[0, :, :, 0].set(-1.0).at[1, :, :, 1].set(0.0).at[1, 0, 4, 1].set(1.0)
    points, _ = heatmaps.decode(maps, "parabola")
    flat = np.asarray(maps).reshape(3, 72, 5).argmax(1)
    peaks = np.stack([flat % 9, flat // 9], -1)
    assert np.isfinite(points).all() and np.abs(points - peaks).max() <= 0.5
    np.testing.assert_array_equal(points[0, 0], [0, 0])  # nothing positive
    np.testing.assert_array_equal(points[1, 1], [4, 0])  # at the border, even at both sides
    with pytest.raises(ValueError, match="expected one of quarter, parabola"):
        heatmaps.decode(maps, "argmax")


def test_the_mean_is_the_expected_place():
    """Of a map that holds two places likely, where the parabola takes the likelier one."""
    one, two = (heatmaps.gaussian_maps(jnp.array([[[x, 9.3]]]), 20, 24, 0.6) for x in (11.0, 13.0))
    found, peaks = heatmaps.decode(0.6 * one + 0.4 * two, "mean")
    np.testing.assert_allclose(found[0, 0], [11.8, 9.3], atol=0.02)
    np.testing.assert_allclose(peaks, (0.6 * one + 0.4 * two).max((1, 2)))
    assert abs(heatmaps.decode(0.6 * one + 0.4 * two, "parabola")[0][0, 0, 0] - 11) < 0.3
    # In every place of a Gaussian it is its middle, and at the rim within half a cell of it.
    places = np.random.default_rng(0).uniform(0, 15, (4, 9, 2)).astype(np.float32)
    found, _ = heatmaps.decode(heatmaps.gaussian_maps(jnp.array(places), 16, 16, 1.0), "mean")
    inside = ((places > 3) & (places < 12)).all(-1)
    np.testing.assert_allclose(found[inside], places[inside], atol=0.02)
    assert np.abs(found - places).max() <= 0.51
    # What is far away, or less than nothing, doesn't count.
    far = 0.6 * one - 0.1 + 0.5 * heatmaps.gaussian_maps(jnp.array([[[20.0, 2.0]]]), 20, 24, 0.6)
    np.testing.assert_allclose(heatmaps.decode(far, "mean")[0][0, 0], [11, 9.3], atol=0.1)
    nothing, _ = heatmaps.decode(jnp.zeros((1, 8, 8, 1)), "mean")
    np.testing.assert_array_equal(nothing, 0)


def test_confidences_of_a_trained_map_are_its_gaussian():
    """At its optimum cross-entropy gives the Gaussian's logarithm: decoding finds its top."""
    points = jnp.array([[[10.3, 12.6], [15.0, 20.2]]])
    gaussians = heatmaps.gaussian_maps(points, 32, 32, 1.5)
    maps = heatmaps.confidences(jnp.log(gaussians + 1e-12) + 7.0, 1.5)
    np.testing.assert_allclose(maps, gaussians, atol=1e-3)
    found, peaks = heatmaps.decode(maps, "parabola")
    np.testing.assert_allclose(found, points, atol=0.01)
    assert (np.asarray(peaks) > 0.9).all()
