"""Self-supervised tasks: the parts of the network that each needs, and rotation equivariance."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net

from ttp_jax import geometry, heatmaps, losses, state, steps, tasks
from ttp_jax.models.pose import normalize
from ttp_jax.ttp import Settings, check_method

pytestmark = pytest.mark.usefixtures("shallow")

RNG = np.random.default_rng(0)
KEYPOINTS = {"self_head", "appearance", "keypoint_encoder", "renderer"}
HEADS = {  # parameter paths that files of earlier versions rely on
    "transformer": KEYPOINTS | {"decoder"},
    "shared": KEYPOINTS | {"supervised_head"},
    "rotation": {"rotation_head", "supervised_head"},
    "baseline": {"supervised_head"},
}


@pytest.mark.parametrize("method", HEADS)
def test_a_network_has_the_heads_of_its_method(method):
    net = small_net.model(method=method)
    picture = jnp.zeros((1, 64, 64, 3))
    params = jax.eval_shape(net.init, jax.random.key(0), picture, picture)["params"]
    assert set(params) == {"encoder"} | HEADS[method]


def test_tasks_say_what_they_need():
    needs = {m: (tasks.of(m).needs_source, tasks.of(m).needs_features) for m in HEADS}
    nothing, all_of_it = (False, False), (True, True)
    assert needs == {
        "transformer": all_of_it, "shared": all_of_it, "rotation": nothing, "baseline": nothing,
    }  # fmt: skip
    both = tasks.of("transformer", 0.1)
    assert both.needs_source and both.needs_features
    assert both.probe is tasks.of("transformer").probe is not None
    assert tasks.of("rotation").probe is None


@pytest.mark.parametrize("method", ["baseline", "rotation"])
def test_a_network_without_self_supervised_maps_has_none_to_turn(method):
    upright = Settings().ranges._replace(rotation_prob=0)
    with pytest.raises(
        ValueError, match="config.loss.equivariance is 0.1.*no self-supervised maps"
    ):
        check_method(method, Settings(equivariance=0.1, ranges=upright))


# --- Equivariance --------------------------------------------------------------------------------


def test_arrays_turn_about_the_crop_s_centre_as_opencv_turns_them():
    """What the coordinate rule calls a turn of the crop by 90 degrees, without interpolation."""
    size = 12
    arrays = RNG.random((4, size, size, 2)).astype(np.float32)
    turned = heatmaps.turn(jnp.array(arrays), jnp.arange(4))
    centre = np.array([size / 2, size / 2, size])
    for quarters in range(4):
        # The region turns clockwise, so what it shows turns the other way, as np.rot90 does.
        affine = geometry.crop_affine(centre, size, degrees=90 * quarters)
        wanted = cv2.warpAffine(arrays[quarters], affine, (size, size))
        np.testing.assert_allclose(turned[quarters, 1:, 1:], wanted[1:, 1:], atol=1e-4)


def cells(pictures, stride, half_pixel):
    """A network whose maps are what the picture shows at the places that their cells stand for."""
    if not half_pixel:
        return pictures[:, ::stride, ::stride]
    count, size = len(pictures), pictures.shape[1] // stride
    return pictures.reshape(count, size, stride, size, stride, 3).mean((2, 4))


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("stride", [2, 4])
def test_maps_that_follow_the_picture_exactly_have_no_error(stride, half_pixel):
    """Cells stand for certain pixels: no map may be off by a part of a cell."""
    pictures = jnp.array(RNG.normal(size=(3, 32, 32, 3)), jnp.float32)
    quarters = jnp.array([1, 2, 3])
    both = pictures, heatmaps.turn(pictures, quarters, half_pixel)
    upright, turned = (cells(x, stride, half_pixel) for x in both)
    error = functools.partial(losses.equivariance, half_pixel=half_pixel)
    assert float(error(turned, upright, quarters)) < 1e-12
    assert float(error(turned, upright, quarters[::-1])) > 0.02
    # A map that lies one cell beside has an error.
    assert float(error(jnp.roll(turned, 1, 1), upright, quarters)) > 0.02
    # So has one of the other convention.
    other = cells(heatmaps.turn(pictures, quarters, not half_pixel), stride, half_pixel)
    assert float(error(other, upright, quarters)) > 0.02


def test_the_error_is_the_plain_mean_and_moves_the_turned_side_only():
    maps, upright = (jnp.array(RNG.normal(size=(3, 8, 8, 2)), jnp.float32) for _ in range(2))
    quarters = jnp.array([1, 2, 3])
    plain = []
    for b, k in enumerate((1, 2, 3)):
        for y in range(1, 8):
            for x in range(1, 8):
                # A quarter against the clock takes (x, y) about 4 from (8 - y, x).
                at = {1: (x, 8 - y), 2: (8 - y, 8 - x), 3: (8 - x, y)}[k]
                plain.append(np.square(maps[b, y, x] - upright[b, at[0], at[1]]))
    loss = functools.partial(losses.equivariance, quarters=quarters)
    assert float(loss(maps, upright)) == pytest.approx(np.mean(plain), rel=1e-5)
    own, other = jax.grad(loss, (0, 1))(maps, upright)
    assert np.abs(own).max() > 0 and np.abs(other).max() == 0


def batch(count=3):
    points = jnp.array(RNG.uniform(2, 13, (count, 4, 2)), jnp.float32)
    return {
        "target": jnp.array(small_net.pictures(count, 0)),
        "source": jnp.array(small_net.pictures(count, 50)),
        "heatmaps": heatmaps.gaussian_maps(points, 16, 16, 2.0),
        "weights": jnp.ones((count, 4)),
    }


def error(net, variables, pictures):
    """Equivariance error in evaluation mode, from its definition."""
    turned = heatmaps.turn(pictures, jnp.array([1, 2, 3]))
    see = jax.jit(net.apply)
    maps = [see(variables, p).self_heatmaps for p in (turned, pictures)]
    return float(losses.equivariance(maps[0], maps[1], jnp.array([1, 2, 3])))


@pytest.fixture(scope="module")
def trained(shallow):
    """A network trained with equivariance beside reconstruction; its metrics, step by step."""
    net, tx, weight = small_net.model(dropout=0.0), state.adam(1e-3), 2.0
    drawn, given, history = small_net.variables(net), batch(), []
    current = state.TrainState(
        jnp.zeros((), jnp.int32),
        drawn["params"],
        drawn["batch_stats"],
        tx.init(drawn["params"]),
        jnp.ones(2),
    )
    step = jax.jit(
        functools.partial(steps.train_step, model=net, tx=tx, task=tasks.of(net.method, weight))
    )
    for _ in range(12):
        current, metrics = step(current, given, jax.random.key(3), small_net.vgg(), 0.1)
        history.append(metrics)
    return net, current, history, normalize(given["target"])


def test_training_lowers_the_sum_of_both_losses(trained):
    _, current, history, _ = trained
    for metrics in history:
        total = metrics["supervised"] + 0.1 * metrics["self"]
        assert float(metrics["loss"]) == pytest.approx(float(total), rel=1e-6)
    for name in ("supervised", "self", "pixel_error"):
        assert history[-1][name] < 0.9 * history[0][name], name
    assert not np.array_equal(current.normalisers, np.ones(2))  # the reconstruction's part


def test_at_test_time_the_sum_is_both_losses_and_equivariance_alone_lowers_its_error(trained):
    net, current, _, pictures = trained
    base = state.Base(current.params, current.batch_stats, current.normalisers)
    tx = state.adam(1e-3)

    step = jax.jit(functools.partial(steps.adapt_step, model=net, tx=tx, task=tasks.EQUIVARIANCE))
    now = state.start_adaptation(base, state.RULES["reference"], tx)
    for _ in range(8):
        now = step(now, base, (pictures, pictures[::-1]), None)  # needs no features
    deltas = {}, now.delta
    before, after = (error(net, state.adapted(base, delta), pictures) for delta in deltas)
    assert after < 0.8 * before
    np.testing.assert_array_equal(now.normalisers, base.normalisers)

    @functools.partial(jax.jit, static_argnums=0)
    def loss(weight):
        seen = tasks.Inputs(pictures, pictures[::-1], small_net.vgg(), base.normalisers, False)
        task = tasks.of(net.method, weight)
        return task.test_loss(net, state.adapted(base, {}), seen)

    (own, wanted), (both, normalisers) = loss(0.0), loss(2.0)
    assert float(both) == pytest.approx(float(own) + 2.0 * before, rel=1e-4)
    np.testing.assert_allclose(normalisers, wanted, rtol=1e-6)
