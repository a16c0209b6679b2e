"""The random transforms of personalization; test_pipeline.py tests those of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttp_jax import augment

COUNT = 4000
photometric = jax.jit(augment.photometric, static_argnums=2)


def drawn(**ranges):
    return [np.asarray(x) for x in augment.draw(jax.random.key(0), COUNT, augment.Ranges(**ranges))]


def test_draws_have_the_stated_spread():
    scale, degrees, flip = drawn()
    assert scale.min() >= 0.75 and scale.max() <= 1.25 and abs(scale.mean() - 1) < 0.02
    # A normal draw is beyond one standard deviation, that is at the limits, in 31.7 % of the rows.
    assert abs(np.mean(np.abs(scale - 1) > 0.2499) - 0.317) < 0.03
    turned = degrees != 0
    assert abs(turned.mean() - 0.6) < 0.03 and np.abs(degrees).max() <= 60
    assert abs(degrees[turned].std() - 28.8) < 1.5  # of a normal cut off at 2 standard deviations
    assert abs(flip.mean() - 0.5) < 0.03
    for one, other in ((scale, degrees), (scale, flip), (degrees, flip)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.06


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_none_or_all_is_none_or_all(share):
    _, degrees, flip = drawn(rotation_prob=share, flip_prob=share)
    assert np.mean(degrees != 0) == np.mean(flip) == share


def test_masking_hides_a_share_of_whole_blocks():
    pictures = jnp.ones((64, 40, 48, 3))  # the last row of blocks is half as high
    seen = np.asarray(augment.mask_blocks(jax.random.key(0), pictures, 0.8))
    blocks = np.stack([seen[:, y : y + 16, x : x + 16].mean((1, 2, 3))
                       for y in (0, 16, 32) for x in (0, 16, 32)])  # fmt: skip
    assert set(np.unique(blocks)) == {0, 1} and abs(blocks.mean() - 0.2) < 0.05
    assert len(np.unique(blocks, axis=1).T) > 25  # each picture has a mask of its own
    np.testing.assert_array_equal(augment.mask_blocks(jax.random.key(0), pictures, 0.0), pictures)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
    return small.repeat(4, 1).repeat(4, 2)


def test_photometric_changes_follow_from_the_key(pictures):
    one = photometric(jax.random.key(1), pictures)
    again = photometric(jax.random.key(1), pictures)
    other = photometric(jax.random.key(2), pictures)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).mean() > 5
    assert one.shape == pictures.shape and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 255


def test_photometric_strength_zero_is_the_picture(pictures):
    same = photometric(jax.random.key(1), pictures, 1e-6)
    rest = np.abs(np.asarray(same) - pictures).max((1, 2, 3))
    # Blur has a least width and cut-out is of no size: a picture that is blurred differs a little.
    assert np.median(rest) < 0.1


def test_two_pictures_of_a_pair_change_alike(pictures):
    """What is the same in both stays the same: the source's light is the target's."""
    target = pictures.copy()
    target[:, :16] = 255 - target[:, :16]
    key = jax.random.key(3)
    changed = [np.asarray(photometric(key, each)) for each in (pictures, target)]
    still = np.abs(changed[0] - changed[1])[:, 20:]  # beyond the blur's reach
    moved = np.abs(changed[0] - changed[1])[:, :16]
    # Contrast turns about each picture's own mean, so alike up to that.
    assert np.median(still) < 0.15 * np.median(moved)


def test_each_photometric_change_is_what_it_is_called(pictures):
    values = jnp.asarray(pictures, jnp.float32) / 255
    key = jax.random.key(5)

    def roughness(changed):
        return np.abs(np.diff(np.asarray(changed), axis=1)).mean((1, 2, 3))

    plain = roughness(values)
    assert (roughness(augment._blur(key, values, 1.0)) < 0.99 * plain).sum() in range(1, 12)
    grey = np.full_like(values, 0.5)
    noisy = np.asarray(augment._noise(key, grey, 1.0)).std((1, 2, 3))
    assert 0 < noisy.max() < 0.08 and (noisy == 0).any()
    cut = np.asarray(augment._cut_out(key, values, 1.0)) == 0.5
    share = cut.all(-1).mean((1, 2))
    assert 0 < share.max() <= (1 / 3 + 0.05) ** 2


def test_jpeg_keeps_a_picture_whose_waves_are_whole_steps(pictures):
    values = jnp.asarray(pictures, jnp.float32) / 255
    fine = augment._jpeg(jax.random.key(0), values, 1e-3)
    np.testing.assert_allclose(fine, values, atol=1e-3)  # its transform undoes itself
    coarse = np.asarray(augment._jpeg(jax.random.key(0), values, 3.0))
    changed = np.abs(coarse - values).max((1, 2, 3)) > 1e-4
    assert changed.any() and not changed.all()
    blocks = values.reshape(16, 4, 8, 4, 8, 3).mean((2, 4))  # a block's mean is its first wave
    kept = coarse.reshape(16, 4, 8, 4, 8, 3).mean((2, 4))
    assert np.abs(blocks - kept).max() < 3 * 0.02 / 8
