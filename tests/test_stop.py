"""A training that is stopped between two checkpoints loses no steps."""

import io
import json
import pathlib
import signal
import sys
import threading

import jax
import numpy as np
import pytest
import small_run

from ttp_jax.checkpoint import Checkpoints
from ttp_jax.paper import records, running
from ttp_jax.runs import experiment, training
from ttp_jax.runs.process import STOPPED, Stopped, say, stopping
from ttp_jax.verbs import train


@pytest.fixture
def config(tmp_path, shallow):
    """A training of 6 steps whose only checkpoint is the last one."""
    c = small_run.training(tmp_path / "data")
    c.train.log_every, c.train.checkpoint_every = 2, 100
    return c


def stop_at(step, monkeypatch, number=signal.SIGTERM):
    """Have this process asked to stop while it does a step."""
    add = training._Log.add

    def add_and_stop(log, now, metrics):
        add(log, now, metrics)
        if now == step:
            signal.raise_signal(number)

    monkeypatch.setattr(training._Log, "add", add_and_stop)


def losses(workdir: pathlib.Path) -> dict[int, float]:
    records = json.loads((workdir / "history.json").read_text())
    return {record["step"]: record["loss"] for record in records if "loss" in record}


@pytest.mark.slow
def test_a_stopped_training_goes_on_where_it_was(config, tmp_path, monkeypatch, capsys):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        assert train.run(experiment.build(config), stopped, train.Options(extend=False)) == STOPPED
    assert "stopped after step 3 of 6: the same command continues" in capsys.readouterr().out
    assert Checkpoints(stopped / "checkpoints").latest_step() == 3
    assert list(losses(stopped)) == [2, 3]
    states = [training.train(experiment.build(config), workdir) for workdir in (stopped, whole)]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(losses(stopped)) == [2, 3, 4, 6] and list(losses(whole)) == [2, 4, 6]
    assert losses(stopped)[6] == losses(whole)[6]


@pytest.mark.slow
def test_a_stopped_training_leaves_no_run_record(config, tmp_path, monkeypatch):
    spec, folder = records.RunSpec("transformer", "none", 0), tmp_path / "records"
    config.reproduce.given = ()
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell began this in the background
    with monkeypatch.context() as patch:
        stop_at(1, patch, signal.SIGINT)
        with pytest.raises(Stopped):
            running.train_model(experiment.build(config), spec, tmp_path, folder, 0.0)
    assert not folder.exists()
    (pieces,) = tmp_path.glob("models/*/pieces.json")
    assert json.loads(pieces.read_text())["pieces"][0]["to"] == 2
    assert signal.getsignal(signal.SIGINT) is before


class SlowTerminal(io.RawIOBase):
    """A terminal so slow that a signal arrives while a line is being written to it."""

    def writable(self):
        return True

    def write(self, data):
        signal.raise_signal(signal.SIGTERM)
        return len(data)


def test_a_signal_in_the_middle_of_a_print_is_heeded(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(SlowTerminal())))
    with stopping(stop := threading.Event()):
        say("training for hours")
    assert stop.is_set()


def test_a_batch_that_cannot_be_cut_is_refused_before_data_is_read(config, tmp_path):
    config.train.accumulate = 3
    with pytest.raises(ValueError, match="accumulate is 3: config.train.batch_size, 4, can't"):
        training.train(experiment.build(config), tmp_path / "work")
    assert not pathlib.Path(config.data.root).exists()
