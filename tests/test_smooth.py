"""Smoothing between gaps, against scipy and a plain one-euro filter."""

import math

import numpy as np
import pytest
import scipy.signal

from ttp_jax import smooth

RNG = np.random.default_rng(0)
TRUTH = np.stack([np.sin(np.arange(60) / 8), np.cos(np.arange(60) / 9)], -1)[:, None] * 40
NOISY = TRUTH + RNG.normal(0, 3, TRUTH.shape)


def test_savgol_is_scipy_s_on_every_stretch_between_gaps():
    broken = NOISY.copy()
    broken[20] = np.nan
    found = smooth.smooth(broken, "savgol")
    assert np.isnan(found[20]).all()
    for part in (slice(0, 20), slice(21, 60)):
        expected = scipy.signal.savgol_filter(NOISY[part], 7, 2, axis=0)
        np.testing.assert_allclose(found[part], expected)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_short_stretches_pass(count):
    found = smooth.savgol(NOISY[:count])
    assert found.shape == (count, 1, 2) and np.isfinite(found).all()
    if count < 3:
        np.testing.assert_array_equal(found, NOISY[:count])


def plain_one_euro(values, rate, cutoff=1.0, beta=0.05, speed_cutoff=1.0):
    """As in the article's appendix, by exponential smoothing."""

    def alpha(frequency):
        tau = 1 / (2 * math.pi * frequency)
        return 1 / (1 + tau * rate)

    held, slope, out = None, 0.0, []
    for value in values:
        if held is None:
            held = value
        else:
            a = alpha(speed_cutoff)
            slope = a * (value - held) * rate + (1 - a) * slope
            a = alpha(cutoff + beta * abs(slope))
            held = a * value + (1 - a) * held
        out.append(held)
    return out


def test_one_euro_is_the_article_s():
    found = smooth.one_euro(NOISY, 25.0)
    for axis in range(2):
        np.testing.assert_allclose(found[:, 0, axis], plain_one_euro(NOISY[:, 0, axis], 25.0))


@pytest.mark.parametrize("how", smooth.FILTERS)
def test_noise_goes_and_the_input_stays(how):
    before = NOISY.copy()
    found = smooth.smooth(NOISY, how)
    np.testing.assert_array_equal(NOISY, before)
    roughness = [np.abs(np.diff(j, 2, axis=0)).mean() for j in (found, NOISY)]
    assert roughness[0] < 0.5 * roughness[1]


def test_an_unknown_filter_names_the_known_ones():
    with pytest.raises(ValueError, match="savgol, one-euro"):
        smooth.smooth(NOISY, "median")
