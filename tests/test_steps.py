"""The joint training step, beyond the parity of one plain step (test_parity.py)."""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net
from flax import traverse_util

from ttp_jax import heatmaps, losses, state, steps
from ttp_jax.models.pose import normalize

pytestmark = pytest.mark.usefixtures("shallow")

HALVES = ("appearance", "keypoint_encoder", "renderer")


def batch(seed=0, count=2):
    rng = np.random.default_rng(seed)
    points = jnp.array(rng.uniform(2, 13, (count, 4, 2)), jnp.float32)
    return {
        "target": jnp.array(small_net.pictures(count, seed)),
        "source": jnp.array(small_net.pictures(count, seed + 50)),
        "heatmaps": heatmaps.gaussian_maps(points, 16, 16, 2.0),
        "weights": jnp.array(rng.random((count, 4)) < 0.8, jnp.float32),
    }


def start(net):
    drawn, tx = small_net.variables(net), state.adam(1e-3)
    return state.TrainState(
        jnp.zeros((), jnp.int32),
        drawn["params"],
        drawn["batch_stats"],
        tx.init(drawn["params"]),
        jnp.array([1.0, 2.0]),
    )


@functools.cache
def program(dropout=0.0, dtype=jnp.float32, donate=False, method="transformer", **options):
    """A compiled training step with random features of one level and lambda 0.1."""
    net = small_net.model(dropout=dropout, dtype=dtype, method=method)
    step = functools.partial(steps.train_step, model=net, tx=state.adam(1e-3), **options)
    run = jax.jit(step, donate_argnums=0 if donate else ())
    return lambda begin, batch, key: run(begin, batch, key, small_net.vgg(), 0.1)


KEY = jax.random.key(3)


def moments(after):
    """Adam's first moment: a tenth of the first gradient."""
    return after.opt_state[0].mu


def assert_trees_close(a, b, rtol=1e-5, atol=1e-7):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.mark.slow
def test_accumulation_averages_gradients_and_hands_statistics_on():
    net = small_net.model(dropout=0.0)
    first, second = batch(0), batch(1)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    together, metrics = program(accumulate=2)(start(net), both, KEY)

    one, first_metrics = program()(start(net), first, KEY)
    # The second part meets the first's running means, with the parameters still unchanged.
    begin = start(net).replace(batch_stats=one.batch_stats, normalisers=one.normalisers)
    two, second_metrics = program()(begin, second, KEY)
    expected = jax.tree.map(lambda a, b: (a + b) / 2, moments(one), moments(two))
    scale = max(float(jnp.abs(v).max()) for v in jax.tree.leaves(expected))
    # Single entries of a gradient are sums of thousands of terms that mostly cancel.
    assert_trees_close(moments(together), expected, rtol=1e-3, atol=1e-5 * scale)
    assert_trees_close(together.batch_stats, two.batch_stats, atol=1e-5)
    assert_trees_close(together.normalisers, two.normalisers)
    assert int(together.step) == 1
    for name, value in metrics.items():
        mean = (first_metrics[name] + second_metrics[name]) / 2
        assert float(value) == pytest.approx(float(mean), rel=1e-4), name


def test_training_lowers_both_losses_on_one_batch():
    run, current = program(), start(small_net.model(dropout=0.0))
    history = []
    for _ in range(12):
        current, metrics = run(current, batch(), KEY)
        history.append(metrics)
    assert int(current.step) == 12
    for name in ("supervised", "pixel_error"):
        assert history[-1][name] < 0.8 * history[0][name], name
    # L = L_sup + lambda L_self
    for metrics in history:
        total = metrics["supervised"] + 0.1 * metrics["self"]
        assert float(metrics["loss"]) == pytest.approx(float(total), rel=1e-6)


def test_what_is_hidden_of_the_source_is_not_seen_in_training():
    """With all of it hidden any source gives the same update."""
    other = {**batch(), "source": batch(9)["source"]}
    for run, alike in ((program(source_masking=1.0), True), (program(), False)):
        one, two = (run(start(small_net.model(dropout=0.0)), b, KEY)[1] for b in (batch(), other))
        assert (float(one["self"]) == float(two["self"])) == alike


def test_rotation_trains_with_the_supervised_task_and_adapts_without_it():
    """Feat. shared (rotation), the paper's second ablation."""
    net = small_net.model(method="rotation")
    run, current = program(method="rotation"), start(net)
    darker = np.linspace(1, 0, small_net.SIZE)[:, None, None]  # below: one can tell what is up

    def upright(seed):
        return jnp.array((small_net.pictures(4, seed) * darker).astype(np.uint8))

    given = {**batch(count=4), "target": upright(0)}
    history = []
    for _ in range(80):
        current, metrics = run(current, given, KEY)
        history.append(metrics)
    for name in ("supervised", "self"):
        assert history[-1][name] < 0.8 * history[0][name], name
    for metrics in history:
        total = metrics["supervised"] + 0.1 * metrics["self"]
        assert float(metrics["loss"]) == pytest.approx(float(total), rel=1e-6)
    # The joints are judged on the pictures as they are, not on turned ones.
    alone = program(method="rotation", reconstruct=False)(current, given, KEY)[1]
    now = run(current, given, KEY)[1]
    assert float(now["accuracy"]) == float(alone["accuracy"]) > 0

    base = state.Base(current.params, current.batch_stats, current.normalisers)
    tx = state.adam(1e-3)
    pairs = tuple(normalize(upright(seed)) for seed in (7, 8))
    adapt = jax.jit(functools.partial(steps.adapt_step, model=net, tx=tx))
    now, losses_ = state.start_adaptation(base, state.RULES["reference"], tx), []
    for _ in range(8):
        now = adapt(now, base, pairs, None)
        losses_.append(float(now.loss))
    assert losses_[-1] < 0.8 * losses_[0]
    assert {path.split("/")[0] for path in now.delta} == {"encoder", "rotation_head"}


def test_without_reconstruction_the_other_half_stays_and_the_state_keeps_its_form():
    net = small_net.model()
    run = program(dropout=0.1, reconstruct=False, donate=True)
    before = start(net)  # a copy of its own: the step may overwrite what it is given
    after, metrics = run(start(net), batch(), KEY)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    shape = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
    assert shape(after) == shape(before)
    np.testing.assert_array_equal(after.normalisers, before.normalisers)
    assert float(metrics["self"]) == 0
    assert float(metrics["loss"]) == float(metrics["supervised"]) > 0
    for name in ("params", "batch_stats"):
        old = traverse_util.flatten_dict(getattr(before, name), sep="/")
        new = traverse_util.flatten_dict(getattr(after, name), sep="/")
        for path in old:
            same = np.array_equal(old[path], new[path])
            assert same == path.startswith(HALVES), path


@pytest.mark.slow
def test_rematerialisation_changes_the_memory_and_not_the_step():
    net = small_net.model(dropout=0.0)
    plain, metrics = program()(start(net), batch(), KEY)
    again, remat_metrics = program(remat=True)(start(net), batch(), KEY)
    assert_trees_close(moments(again), moments(plain), rtol=1e-3, atol=1e-6)
    assert_trees_close(again.batch_stats, plain.batch_stats, atol=1e-6)
    assert_trees_close(remat_metrics, metrics, rtol=1e-5)

    drawn, vgg = small_net.variables(net), small_net.vgg()
    target, source = (normalize(batch()[name]) for name in ("target", "source"))

    def loss(params):
        variables = {"params": params, "batch_stats": drawn["batch_stats"]}
        output, _ = net.apply(variables, target, source, train=True, mutable=["batch_stats"])
        return losses.reconstruction(vgg, output.reconstruction, target, jnp.ones(2))[0]

    def kept(fn):
        _, backward = jax.vjp(fn, drawn["params"])
        return sum(leaf.nbytes for leaf in jax.tree.leaves(backward))

    assert kept(steps.rematerialised(loss)) < 0.7 * kept(loss)


def test_dropout_follows_key_and_step_and_donated_states_go_on():
    net = small_net.model()
    run = program(dropout=0.1, reconstruct=False, donate=True)

    def loss(key, step):
        begin = start(net).replace(step=jnp.array(step, jnp.int32))
        return float(run(begin, batch(), key)[1]["loss"])

    assert loss(KEY, 0) == loss(KEY, 0)
    assert loss(KEY, 0) != loss(KEY, 1)
    assert loss(KEY, 0) != loss(jax.random.key(4), 0)
    current = start(net)
    for _ in range(3):
        current, metrics = run(current, batch(), KEY)
    assert int(current.step) == 3 and np.isfinite(metrics["loss"])


def test_bfloat16_prediction_is_close_and_comes_in_float32():
    net, narrow = small_net.model(), small_net.model(dtype=jnp.bfloat16)
    drawn = small_net.variables(net)
    inputs = [normalize(batch()[k]) for k in ("target", "source")]
    wanted, got = (jax.jit(m.apply)(drawn, *inputs) for m in (net, narrow))
    for name in ("heatmaps", "self_heatmaps", "points", "affinity", "reconstruction"):
        a, b = getattr(got, name), getattr(wanted, name)
        assert a.dtype == jnp.float32, name
        # bfloat16 has 8 bits, 0.4 % per operation; some 20 layers.
        error = jnp.linalg.norm(a - b) / jnp.linalg.norm(b)
        assert 1e-5 < error < 0.05, name


@pytest.mark.slow
def test_bfloat16_training_is_close_and_keeps_float32_states():
    begin = start(small_net.model(dropout=0.0))
    wide, wide_metrics = program()(begin, batch(), KEY)
    narrow, metrics = program(dtype=jnp.bfloat16)(begin, batch(), KEY)
    assert {a.dtype for a in jax.tree.leaves((narrow.params, narrow.batch_stats))} == {
        jnp.dtype("float32")
    }
    # bfloat16 has 8 bits: 0.4 % per operation.
    for name in ("supervised", "self", "pixel_error"):
        assert float(metrics[name]) == pytest.approx(float(wide_metrics[name]), rel=0.05), name
    assert_trees_close(narrow.batch_stats, wide.batch_stats, rtol=0.05, atol=0.05)
    a, b = (
        np.concatenate([v.ravel() for v in jax.tree.leaves(moments(s))]) for s in (narrow, wide)
    )
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.9


def test_accuracy_counts_visible_joints_within_five_percent():
    points = jnp.array([[[8.0, 8.0], [4.0, 4.0], [12.0, 3.0]]])
    truth = heatmaps.gaussian_maps(points, 32, 32, 2.0)
    # 5 % of 32 are 1.6 cells: one joint is off by 1, one by 2.
    moved = heatmaps.gaussian_maps(points + jnp.array([[[1.0, 0], [0, 2], [0, 0]]]), 32, 32, 2.0)
    weights = [([1, 1, 1], 2 / 3), ([1, 1, 0], 1 / 2), ([0, 1, 0], 0.0), ([0, 0, 0], 0.0)]
    for seen, expected in weights:
        got = steps._map_accuracy(moved, truth, jnp.array([seen], jnp.float32))
        assert float(got) == pytest.approx(expected)


DATA_PARALLEL = """
import jax, numpy as np
import test_steps
from ttp_jax.models.encoders import resnet
from ttp_jax.parallel import data_mesh, everywhere, split_batch

resnet.STAGES[18] = (1, 1, 0, 0)
assert jax.device_count() == 4
net = test_steps.small_net.model(dropout=0.0)
begin, batch = test_steps.start(net), test_steps.batch(count=8)
one, metrics = test_steps.program()(begin, batch, test_steps.KEY)
mesh = data_mesh()
spread = jax.device_put(batch, split_batch(mesh))
copied = jax.device_put(begin, everywhere(mesh))
key = jax.device_put(test_steps.KEY, everywhere(mesh))
four, parallel = test_steps.program(accumulate=1)(copied, spread, key)
assert len(spread["target"].sharding.device_set) == 4
assert [len(s.data) for s in spread["target"].addressable_shards] == [2] * 4
test_steps.assert_trees_close(four.batch_stats, one.batch_stats, rtol=1e-4, atol=1e-5)
test_steps.assert_trees_close(parallel, metrics, rtol=1e-4)
a, b = (
    np.concatenate([v.ravel() for v in jax.tree.leaves(test_steps.moments(s))]) for s in (four, one)
)
# Sums in another order, and a ReLU's kink here and there, move single entries by rounding.
error = np.linalg.norm(a - b) / np.linalg.norm(b)
assert error < 1e-3, error
print("equal")
"""


@pytest.mark.slow
def test_four_devices_equal_one():
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": ":".join(sys.path),
        "PATH": "/usr/bin:/bin",
    }
    here = pathlib.Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", DATA_PARALLEL],
        env=environment,
        cwd=here,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-3000:]
