"""The random transforms of personalization; test_pipeline.py has those of training."""

import jax
import numpy as np
import pytest

from ttp_jax import augment

COUNT = 4000


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
