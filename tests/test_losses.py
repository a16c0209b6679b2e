import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import torch

from ttp_jax import losses
from ttp_jax.models.vgg import VGG16

RNG = np.random.default_rng(0)


def small_vgg(levels=2):
    """Features with few channels: the loss does not care how wide they are."""
    layers, channels = [], 3
    for width in (4, 6)[:levels]:
        block = []
        for _ in range(2):
            kernel = RNG.normal(0, 0.3, (3, 3, channels, width))
            block.append((jnp.array(kernel, jnp.float32), jnp.array(RNG.normal(size=width))))
            channels = width
        layers.append(tuple(block))
    return VGG16(tuple(layers), None, None, "test")


def pictures(count=2):
    return [jnp.array(RNG.normal(size=(2, 16, 16, 3)), jnp.float32) for _ in range(count)]


def test_rotation_loss_equals_torch_on_pictures_turned_by_torch():
    own = pictures(1)[0].repeat(3, 0)  # 6 pictures: the turns start over
    turned, turns = losses.quarter_turns(own)
    theirs = torch.from_numpy(np.array(own)).permute(0, 3, 1, 2)
    for i, picture in enumerate(np.asarray(turned)):
        expected = torch.rot90(theirs[i], i % 4, (1, 2)).permute(1, 2, 0)
        np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(turns, [0, 1, 2, 3, 0, 1])
    logits = RNG.normal(size=(6, 4)).astype(np.float32)
    wanted = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(np.array(turns)).long()
    )
    np.testing.assert_allclose(losses.rotation(jnp.array(logits), turns), wanted, rtol=1e-6)


def test_joints_mse_equals_the_plain_loop_and_counts_invisible_joints():
    maps, truth = RNG.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    weights = (RNG.random((3, 6)) < 0.5).astype(np.float32)
    expected = reference.joints_mse(maps.tolist(), truth.tolist(), weights.tolist())
    ours = losses.joints_mse(*map(jnp.array, (maps, truth, weights)))
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    # By hand: one of two joints visible, off by 2 everywhere: 0.5 * 4 / 2.
    ones = jnp.ones((1, 4, 4, 2))
    np.testing.assert_allclose(losses.joints_mse(3 * ones, ones, jnp.array([[1.0, 0.0]])), 1.0)


def test_an_invisible_joint_gets_no_gradient():
    maps, truth = jnp.array(RNG.normal(size=(2, 1, 4, 4, 2)), jnp.float32)
    gradient = jax.grad(losses.joints_mse)(maps, truth, jnp.array([[1.0, 0.0]]))
    assert np.abs(gradient[..., 0]).max() > 0 and np.abs(gradient[..., 1]).max() == 0


def test_feature_errors_are_the_picture_first_then_each_level():
    vgg, (a, b) = small_vgg(), pictures()
    errors = losses.feature_errors(vgg, a, b)
    features = zip([a, *vgg(a)], [b, *vgg(b)], strict=True)
    expected = [np.mean((np.asarray(x) - np.asarray(y)) ** 2) for x, y in features]
    assert errors.shape == (3,)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_normaliser_rule_equals_the_plain_loop_over_several_calls():
    vgg, means = small_vgg(), [0.5, 3.0, 40.0]
    running = jnp.array(means)
    for _ in range(4):
        a, b = pictures()
        errors = np.asarray(losses.feature_errors(vgg, a, b), float)
        expected, means = reference.normalised_sum(errors.tolist(), means)
        loss, running = losses.reconstruction(vgg, a, b, running)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(running, means, rtol=1e-5)


def test_no_gradient_goes_to_the_target_or_through_the_normalisers():
    vgg, (a, b) = small_vgg(), pictures()
    start = jnp.array([0.5, 3.0, 40.0])

    def loss(picture, target):
        return losses.reconstruction(vgg, picture, target, start)[0]

    own, other = jax.grad(loss, (0, 1))(a, b)
    assert np.abs(other).max() == 0
    fixed = losses.reconstruction(vgg, a, b, start)[1]
    expected = jax.grad(lambda p: jnp.sum(losses.feature_errors(vgg, p, b) / fixed))(a)
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-9)


def test_without_levels_the_loss_is_the_picture_s_error_over_its_mean():
    (a, b), empty = pictures(), VGG16((), None, None, "none")
    loss, means = losses.reconstruction(empty, a, b, jnp.array([1.0]))
    error = float(jnp.mean((a - b) ** 2))
    np.testing.assert_allclose(means, [1 + 0.01 * (error - 1)], rtol=1e-6)
    np.testing.assert_allclose(loss, error / means[0], rtol=1e-6)


def test_cross_entropy_is_that_of_softmax_and_gaussian():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 6, 3))
    points = rng.uniform(0, 5, (2, 3, 2))
    weights = np.array([[1, 0, 1], [1, 1, 0]])
    points[1, 2] = np.nan  # not labelled
    total = 0.0
    for b, k in zip(*np.nonzero(weights), strict=True):
        x, y = np.meshgrid(np.arange(6), np.arange(5))
        px, py = points[b, k].clip(0, [5, 4])
        truth = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.3**2))
        shares = np.exp(logits[b, ..., k]) / np.exp(logits[b, ..., k]).sum()
        total -= (truth / truth.sum() * np.log(shares)).sum()
    found = losses.joints_cross_entropy(*map(jnp.asarray, (logits, points, weights)), 1.3)
    assert float(found) == pytest.approx(total / 4, rel=1e-5)


def test_cross_entropy_of_nothing_labelled_moves_nothing():
    logits, points = jnp.ones((2, 4, 4, 3)), jnp.full((2, 3, 2), jnp.nan)

    def loss(logits):
        return losses.joints_cross_entropy(logits, points, jnp.zeros((2, 3)), 1.0)

    value, gradient = jax.value_and_grad(loss)(logits)
    assert value == 0 and not np.any(gradient)
