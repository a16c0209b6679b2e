"""An experiment is built once: nothing writes into it, and equal programs are compiled once."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest
import small_run

from configs import rendered, tiny
from ttp_jax.runs import experiment, sources, training


def test_nobody_can_write_into_an_experiment():
    config = rendered.get_config()
    made = experiment.build(config)
    for write in (
        lambda: setattr(made.config, "seed", 1),
        lambda: setattr(made.config.ttp, "iterations", 2),
        lambda: setattr(made.data, "root", "elsewhere"),
        lambda: made.config.update_from_flattened_dict({"ttp.iterations": 2}),
    ):
        with pytest.raises((AttributeError, TypeError)):
            write()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.net = None
    # Nor by the config that it was made from.
    config.ttp.iterations, config.data.root = 7, "elsewhere"
    assert made.config.ttp.iterations == 1 and made.data.root == "data/benchmark"
    assert made.settings("online").iterations == 1


def test_a_changed_experiment_is_another_one():
    made = experiment.build(rendered.get_config())
    other = made.changed({"ttp.iterations": 3, "model.method": "shared"})
    assert other.settings("online").iterations == 3 and other.net.method == "shared"
    assert made.settings("online").iterations == 1 and made.net.method == "transformer"
    moved = made.with_data(tiny.get_config().data)
    assert moved.data.root == "data/rendered" and made.data.root == "data/benchmark"
    with pytest.raises(AttributeError):
        made.changed({"ttp.iteration": 3})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.skeleton": "dog20"}, "config.data.skeleton is 'dog20', expected one of"),
        ({"train.stages": ((0, 1e-3, 0.0, "constant"),)}, r"train\.stages is \(\(0, .*, expected"),
        ({"model.method": "magic"}, "magic"),
    ],
)
def test_a_config_that_describes_nothing_is_refused(changes, words):
    config = rendered.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=words):
        experiment.build(config)


def test_held_out_people_of_another_grade_are_others_and_the_training_people_are_not(tmp_path):
    small = {"data.train": 2, "data.val": 1, "data.test": 1, "data.root": str(tmp_path)}
    small |= {"data.train_frames": 2, "data.eval_frames": 2, "data.image_size": 16}
    plain = experiment.build(rendered.get_config()).changed(small)
    graded = plain.changed({"data.grade": "plain"})
    for split in ("train", "val", "test"):
        one, other = (sources.load_clips(made.data, split) for made in (plain, graded))
        assert [clip.name for clip in one] == [clip.name for clip in other]
        equal = np.array_equal(one[0].read(0), other[0].read(0))
        assert equal == (split == "train")


def test_scoring_test_people_renders_no_training_people(tmp_path):
    config = rendered.get_config()
    config.data.root = str(tmp_path)
    config.data.test, config.data.eval_frames, config.data.image_size = 1, 2, 16
    (clip,) = sources.load_clips(config.data, "test")
    assert clip.split == "test"
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"test"}


@pytest.mark.slow
def test_validation_compiles_its_program_once(tmp_path, monkeypatch, caplog, shallow):
    config = small_run.training(tmp_path / "people")
    config.data.train, config.data.val = 2, 1
    config.train.checkpoint_every = 2
    config.ttp.learning_rate = 3e-4  # no other test has compiled these
    validate, new = training._validate, []

    def compiled():
        return sum(m.startswith("Finished XLA compilation") for m in caplog.messages)

    def count(*args, **options):
        before = compiled()
        result = validate(*args, **options)
        new.append(compiled() - before)
        return result

    monkeypatch.setattr(training, "_validate", count)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        training.train(experiment.build(config), tmp_path / "work")
    history = json.loads((tmp_path / "work" / "history.json").read_text())
    assert sum("val_score" in record for record in history) == 3
    assert new[0] >= 1 and new[1:] == [0, 0]
