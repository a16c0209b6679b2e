"""The checkpoint that scores best on validation subjects, and early stopping."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ttp_jax.checkpoint import Best
from ttp_jax.runs import training
from ttp_jax.state import Base, Stage, TrainState


def state(step, value=0.0):
    params = {"head": {"kernel": jnp.full((2, 3), float(value))}}
    return TrainState(jnp.asarray(step), params, {}, (), jnp.ones(2))


def chosen(folder, start, patience=0, best=True):
    fields = types.SimpleNamespace(patience=patience, best=best, checkpoint_every=10)
    stages = Stage(20, 1e-3, 0.0), Stage(80, 1e-3, 0.1)
    return training._Best(fields, stages, folder, start)


EMPTY = Base({"head": {"kernel": np.zeros((2, 3))}}, {}, np.zeros(2))


def test_the_best_of_the_last_stage_is_kept(tmp_path):
    best = chosen(tmp_path, state(0))
    for step, score in ((10, 99.0), (20, 98.0), (30, 50.0), (40, 70.0), (50, 60.0), (60, 70.0)):
        best.add(state(step, step), score)
    kept = Best(tmp_path).restore(EMPTY)
    assert kept is not None and kept[1:] == (40, 70.0)
    np.testing.assert_array_equal(kept[0].params["head"]["kernel"], 40)


def test_training_settles_after_so_many_checkpoints_that_are_no_better(tmp_path):
    best = chosen(tmp_path, state(0), patience=2)
    for step, score, settled in (
        (30, 50, False),
        (40, 49, False),
        (50, 51, False),
        (60, 51, False),
    ):
        best.add(state(step), score)
        assert best.settled is settled
    best.add(state(70), 40)
    assert best.settled


def test_a_resumed_training_knows_what_was_best(tmp_path):
    chosen(tmp_path, state(0)).add(state(30, 3.0), 80.0)
    again = chosen(tmp_path, state(50, 5.0), patience=3)
    again.add(state(60, 6.0), 79.0)
    assert again.settled  # 40 and 50 were no better, either
    kept = Best(tmp_path).restore(EMPTY)
    assert kept is not None and kept[1] == 30


def test_what_is_kept_of_a_training_that_begins_anew_is_forgotten(tmp_path):
    chosen(tmp_path, state(0)).add(state(90), 80.0)
    chosen(tmp_path, state(50)).add(state(60, 6.0), 10.0)
    kept = Best(tmp_path).restore(EMPTY)
    assert kept is not None and kept[1:] == (60, 10.0)


def test_a_kept_model_of_another_network_is_refused(tmp_path):
    chosen(tmp_path, state(0)).add(state(90), 80.0)
    other = Base({"head": {"kernel": np.zeros((2, 4))}}, {}, np.zeros(2))
    with pytest.raises(ValueError, match="belongs to another network"):
        Best(tmp_path).restore(other)
    (tmp_path / "best.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="train again"):
        Best(tmp_path).restore(EMPTY)
