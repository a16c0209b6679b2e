import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from ttp_jax import state
from ttp_jax.models import layers
from ttp_jax.models.pose import METHODS, PoseNet


def shapes(**options):
    """Parameter shapes of a network at the paper's size, without computing anything."""
    model = PoseNet(**options)
    picture = jnp.zeros((1, 128, 128, 3))
    return jax.eval_shape(model.init, jax.random.key(0), picture, picture)["params"]


def count(tree):
    return sum(a.size for a in jax.tree.leaves(tree))


# Numbers of the published program, counted in it.
@pytest.mark.parametrize(
    "options, total, trainable",
    [
        ({"depth": 50, "num_joints": 13}, 39_817_343, 38_691_937),
        ({"depth": 18, "num_joints": 16}, 21_195_135, 20_112_481),
        ({"depth": 18, "num_joints": 7}, 21_192_831, 20_112_481),
    ],
    ids=["penn", "h36m", "bbc"],
)
def test_parameter_counts_in_total_and_trainable_at_test_time(options, total, trainable):
    params = shapes(**options)
    train, frozen = state.split(params, state.RULES["reference"])
    assert count(params) == total
    assert count(train) == trainable
    assert count(frozen) == total - trainable


@pytest.mark.parametrize(
    "depth, joints, method, total",
    [
        (50, 13, "baseline", 33_998_669),
        (18, 16, "baseline", 15_376_464),
        (18, 7, "baseline", 15_374_151),
        (50, 13, "shared", 38_755_694),
        (18, 16, "shared", 20_133_489),
    ],
)
def test_parameter_counts_of_the_ablations(depth, joints, method, total):
    assert count(shapes(depth=depth, num_joints=joints, method=method)) == total


def test_the_rule_of_the_norms_trains_every_scale_and_shift_but_the_decoder_s():
    params = shapes(depth=18, num_joints=16)
    train, _ = state.split(params, state.RULES["norms"])
    paths = traverse_util.flatten_dict(params, sep="/")
    scaled = {p.rsplit("/", 1)[0] for p in paths if p.endswith("/scale")}
    wanted = {p for p in paths if p.rsplit("/", 1)[0] in scaled and not p.startswith("decoder/")}
    assert set(train) == wanted and len(wanted) > 60


def test_reference_rule_trains_every_convolution_and_nothing_else():
    train, frozen = state.split(shapes(depth=18, num_joints=16), state.RULES["reference"])
    assert len(train) == 51  # of 168 tensors, as the published program
    # Our packed attention projections are two tensors as torch's are.
    assert len(frozen) == 117
    assert all(p.endswith("/kernel") or p in BIASES for p in train)
    assert all(p.startswith("decoder/") or p.endswith(("scale", "bias")) for p in frozen)


BIASES = {"self_head/bias", "renderer/output/bias"}


def test_paper_rule_trains_encoder_and_self_head_only():
    params = shapes(depth=18, num_joints=16)
    train, frozen = state.split(params, state.RULES["paper"])
    reference, _ = state.split(params, state.RULES["reference"])
    own = {p for p in reference if p.startswith(("encoder/", "self_head/"))}
    assert set(train) == own
    renderer = sum(count(v) for k, v in frozen.items() if k.startswith("renderer/"))
    assert renderer == 2_352_867


def test_shared_method_freezes_its_supervised_head():
    params = shapes(depth=18, num_joints=16, method="shared")
    for rules in ("reference", "paper"):
        _, frozen = state.split(params, state.RULES[rules])
        assert {"supervised_head/kernel", "supervised_head/bias"} <= set(frozen)


def test_all_rule_freezes_nothing():
    params = shapes(depth=18, num_joints=16)
    assert state.split(params, ((r"", True),))[1] == {}


NORM_LAYERS = (layers.BatchNorm, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def norm_layers(model, *inputs):
    """Shapes of a network's parameters, and the paths of its normalisation layers, by type."""
    found = set()

    def note(call, args, kwargs, context):
        if isinstance(context.module, NORM_LAYERS):
            found.add("/".join(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        params = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    return params, found


def of_norms(paths, norms):
    return {path for path in paths if path.rpartition("/")[0] in norms}


@pytest.mark.parametrize("depth", [10, 18, 50])
@pytest.mark.parametrize("method", METHODS)
def test_every_normalisation_layer_is_frozen_but_where_the_rule_trains_it(method, depth):
    picture = jnp.zeros((1, 128, 128, 3))
    model = PoseNet(num_joints=13, depth=depth, method=method)
    params, norms = norm_layers(model, picture, picture)
    assert len(norms) > 10
    for rules in ("reference", "paper"):
        trained, frozen = state.split(params, state.RULES[rules])
        assert not of_norms(trained, norms)
        assert len(of_norms(frozen, norms)) == 2 * len(norms)
    trained, _ = state.split(params, state.RULES["norms"])
    assert of_norms(trained, norms) == set(trained)


@pytest.mark.parametrize("method", METHODS)
def test_the_rule_of_the_norms_finds_what_names_found(method):
    """Files of earlier versions rely on it: the same parameters train as by the layers' names."""
    names = r"(^|/)(bn|norm|deconv_bn|downsample_bn)\w*/"
    params = shapes(depth=50, num_joints=13, method=method, decoder_layers=2)
    paths = traverse_util.flatten_dict(params, sep="/")
    assert {p for p in paths if state.norms(p, paths)} == {p for p in paths if re.search(names, p)}


class Unnamed(nn.Module):
    """Layers that flax names itself."""

    @nn.compact
    def __call__(self, x):
        x = layers.BatchNorm()(nn.Conv(4, (1, 1))(x), False)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.GroupNorm(num_groups=2)(nn.LayerNorm(use_scale=False)(x))
        return nn.Dense(2)(nn.LayerNorm(use_bias=False)(nn.RMSNorm()(x)))


def test_flax_s_own_names_do_not_escape_the_rule_of_the_norms():
    params, norms = norm_layers(Unnamed(), jnp.zeros((1, 8, 8, 3)))
    assert {"BatchNorm_0", "BatchNorm_1", "LayerNorm_0", "GroupNorm_0", "RMSNorm_0"} <= norms
    trained, frozen = state.split(params, state.RULES["reference"])
    assert set(trained) == {"Conv_0/kernel", "Conv_0/bias", "Dense_0/kernel", "Dense_0/bias"}
    assert of_norms(frozen, norms) == set(frozen)
    assert set(state.split(params, state.RULES["norms"])[0]) == set(frozen)


TREE = {"a": {"kernel": np.arange(3.0), "bias": np.zeros(2)}, "b": {"kernel": np.ones(4)}}


def test_split_takes_the_first_match():
    train, frozen = state.split(TREE, ((r"^a/bias$", False), (r"^a/", True), (r"", False)))
    assert set(train) == {"a/kernel"} and set(frozen) == {"a/bias", "b/kernel"}
    np.testing.assert_array_equal(train["a/kernel"], TREE["a"]["kernel"])


def test_a_delta_is_added_to_the_parameters_it_names():
    base = state.Base(jax.tree.map(jnp.array, TREE), {"statistics": 1}, jnp.ones(1))
    got = state.adapted(base, {"a/kernel": jnp.array([0.5, 0.0, -2.0])})
    assert got["batch_stats"] == base.batch_stats
    assert jax.tree.structure(got["params"]) == jax.tree.structure(TREE)
    np.testing.assert_array_equal(got["params"]["a"]["kernel"], [0.5, 1.0, 0.0])
    np.testing.assert_array_equal(got["params"]["b"]["kernel"], TREE["b"]["kernel"])


def test_a_delta_may_change_batch_statistics():
    statistics = {"a": {"bn": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}}
    base = state.Base(jax.tree.map(jnp.array, TREE), statistics, jnp.ones(1))
    delta = {"a/bias": jnp.ones(2), "batch_stats/a/bn/var": jnp.array([0.5, -0.5])}
    assert state.parts(delta) == ({"a/bias": delta["a/bias"]}, {k: delta[k] for k in [*delta][1:]})
    assert set(delta) <= set(state.by_path(base))
    now = state.adapted_base(base, delta)
    np.testing.assert_array_equal(now.batch_stats["a"]["bn"]["var"], [1.5, 0.5])
    np.testing.assert_array_equal(now.batch_stats["a"]["bn"]["mean"], [0, 0])
    np.testing.assert_array_equal(now.params["a"]["bias"], [1, 1])
    assert now.normalisers is base.normalisers
    for path, change in delta.items():
        difference = state.by_path(now)[path] - state.by_path(base)[path]
        np.testing.assert_array_equal(difference, change)


def test_a_parameter_without_rule_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"'b/kernel'.*end with"):
        state.split(TREE, ((r"^a/", True),))


def test_adaptation_starts_from_the_base_with_empty_moments():
    params = jax.tree.map(jnp.array, TREE)
    base = state.Base(params, {}, jnp.array([0.5, 2.0]))
    start = state.start_adaptation(base, ((r"^a/", True), (r"", False)), state.adam(1e-4))
    assert int(start.step) == 0 and np.isnan(start.loss)
    assert set(start.delta) == {"a/kernel", "a/bias"}
    assert not any(np.any(leaf) for leaf in start.delta.values())
    np.testing.assert_array_equal(start.normalisers, base.normalisers)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(start.opt_state))


STAGES = (
    state.Stage(3, 1e-3, 0.0),
    state.Stage(4, 2e-3, 1.0, "cosine"),
)


def test_stages_follow_each_other_and_the_last_one_stays():
    found = [state.stage_at(STAGES, step).self_weight for step in range(9)]
    assert found == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_schedule_is_constant_then_a_fresh_cosine_down_to_zero():
    rate = state.schedule(STAGES)
    cosine = [2e-3 * 0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(5)]
    np.testing.assert_allclose([float(rate(i)) for i in range(8)], [1e-3] * 3 + cosine, atol=1e-9)


def test_adam_moves_the_first_step_by_the_learning_rate_with_torch_s_epsilon():
    tx = state.adam(0.1)
    params = {"a": jnp.array([1.0, 1.0])}
    gradient = {"a": jnp.array([3.0, 1e-8])}
    updates, _ = tx.update(gradient, tx.init(params), params)
    # m / (sqrt(v) + eps) with both moments corrected: 1, and 1 / 2 where the gradient is eps.
    np.testing.assert_allclose(optax.apply_updates(params, updates)["a"], [0.9, 0.95], rtol=1e-5)


def test_an_unknown_decay_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'linear'.*'constant', 'cosine'"):
        state.schedule((state.Stage(3, 1e-3, 0.0, "linear"),))
