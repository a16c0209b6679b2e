"""Many subjects with every strategy, on one device and on four."""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttp_jax.conv import conv
from ttp_jax.parallel import over_subjects, pad_subjects

HERE = pathlib.Path(__file__).parent
STRATEGIES = ({"how": "map"}, {"how": "vmap"}, {"how": "chunks", "chunk": 2}, {"how": "auto"})


def descend(scale, pictures, valid, key):
    """Three descent steps on one subject's own 1 x 1 and 3 x 3 kernels; invalid frames are skipped.

    Small, but with what personalization has: kernels per subject, a scan, a cond, keys.
    """
    start = {
        "narrow": 0.3 * jax.random.normal(key, (1, 1, 3, 4)),
        "wide": 0.3 * jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 4, 3)),
    }

    def loss(kernels, picture):
        y = jax.nn.relu(conv(picture[None], kernels["narrow"]))
        return jnp.mean((conv(y, kernels["wide"], padding=1)[0] - scale * picture) ** 2)

    def step(kernels, t):
        def update(kernels):
            value, gradient = jax.value_and_grad(loss)(kernels, pictures[t])
            return jax.tree.map(lambda a, b: a - 0.1 * b, kernels, gradient), value

        return jax.lax.cond(valid[t], update, lambda kernels: (kernels, jnp.zeros(())), kernels)

    return jax.lax.scan(step, start, jnp.arange(3))


def people(count, seed=0):
    """Subjects of which some have frames that don't count."""
    rng = np.random.default_rng(seed)
    pictures = jnp.array(rng.normal(size=(count, 3, 8, 8, 3)), jnp.float32)
    valid = jnp.array(rng.random((count, 3)) < 0.7).at[:, 0].set(True)
    return pictures, valid, jax.random.split(jax.random.key(seed), count)


def assert_equals_solo(together, subjects, count):
    alone = jax.jit(descend)
    for i in range(count):
        one = alone(2.0, *jax.tree.map(lambda a, i=i: a[i], subjects))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),
            together,
            one,
        )


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["how"])
def test_every_strategy_equals_solo_runs(strategy):
    subjects = people(4)
    together = jax.jit(over_subjects(descend, shared=1, **strategy))(2.0, *subjects)
    assert_equals_solo(together, subjects, 4)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["how"])
def test_neighbours_order_and_padding_move_no_bit(strategy):
    run = jax.jit(over_subjects(descend, shared=1, **strategy))
    subjects = people(4)
    together = run(2.0, *subjects)
    others = jax.tree.map(lambda a, b: jnp.concatenate([a[:2], b[2:]]), subjects, people(4, 9))
    changed = run(2.0, *others)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b[:2]), changed, together)
    assert not np.array_equal(changed[1][2:], together[1][2:])
    turned = run(2.0, *jax.tree.map(lambda a: a[::-1], subjects))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[::-1], b), turned, together)
    padded = run(2.0, *pad_subjects(jax.tree.map(lambda a: a[:3], subjects), 4))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:3], b[:3]), padded, together)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(padded))


def test_padding_fills_with_nothing():
    pictures, valid, keys = pad_subjects(people(3), 4)
    assert len(pictures) == len(valid) == len(keys) == 4
    assert not valid[3].any() and not pictures[3].any()
    np.testing.assert_array_equal(jax.random.key_data(keys[3]), jax.random.key_data(keys[2]))
    assert len(pad_subjects(people(4), 4)[0]) == 4


def test_results_have_the_leading_axis_of_the_arguments():
    rows = jnp.arange(6.0).reshape(3, 2)
    for how in ("auto", "map", "vmap"):
        total, double = over_subjects(lambda a, b: (a.sum() + b, 2 * a), how=how)(rows, rows[:, 0])
        np.testing.assert_array_equal(total, rows.sum(1) + rows[:, 0])
        np.testing.assert_array_equal(double, 2 * rows)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'pmap', expected one of auto, map, vmap, chunks"):
        over_subjects(lambda a: a, how="pmap")
    with pytest.raises(ValueError, match="needs a chunk"):
        over_subjects(lambda a: a, how="chunks")
    with pytest.raises(
        ValueError, match="3 subjects per device are not a multiple of the chunk, 2"
    ):
        over_subjects(lambda a: a, how="chunks", chunk=2)(jnp.zeros(3))


FOUR_DEVICES = """
import jax
import numpy as np
import test_parallel as t
from ttp_jax.parallel import over_subjects, pad_subjects, subject_mesh, subject_of

assert jax.device_count() == 4
subjects = t.people(6)
padded = pad_subjects(subjects, 8)
for strategy in t.STRATEGIES:
    run = jax.jit(over_subjects(t.descend, shared=1, mesh=subject_mesh(), **strategy))
    together = run(2.0, *padded)
    assert len(together[1].sharding.device_set) == 4, together[1].sharding
    t.assert_equals_solo(together, subjects, 6)
    for index in range(6):
        for leaf, whole in zip(*map(jax.tree.leaves, (subject_of(together, index), together))):
            assert len(leaf.sharding.device_set) == 1, leaf.sharding
            np.testing.assert_array_equal(leaf, np.asarray(whole)[index])
print("equal")
"""


def test_four_devices_equal_solo_runs():
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": ":".join(sys.path),
        "PATH": "/usr/bin:/bin",
    }
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=300)
    done = run([sys.executable, "-c", FOUR_DEVICES], env=environment, cwd=HERE)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-3000:]
