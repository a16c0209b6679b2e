"""Files of earlier versions stay valid: run records of the benchmark, results, trainings."""

import ast
import json
import pathlib
import shlex
import shutil

import cv2
import numpy as np
import pytest
import small_run

from configs import common, rendered
from ttp_jax import ranges
from ttp_jax.paper import records, selection, tables
from ttp_jax.paper.records import RunSpec
from ttp_jax.runs import base_model, experiment, identity, personalization
from ttp_jax.runs.personalization import RunOptions
from ttp_jax.state import Base

ROOT = pathlib.Path(__file__).parents[1]
KEPT = ROOT / "docs" / "results" / "cells"
FIRST = ROOT / "tests" / "data" / "first_version"  # as 0.1.0 wrote them


# --- Run records ---------------------------------------------------------------------------------


def value_of(text):
    """A value on the command line."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def names_of(command):
    """Names of all records that a command of `reproduce` makes, with those of its trainings."""
    changes, what = {}, "all"
    for word in shlex.split(command):
        flag, _, text = word.partition("=")
        if flag.startswith("--config.") and not flag.endswith(".root"):
            changes[flag.removeprefix("--config.")] = value_of(text)
        elif flag == "--what":
            what = text
    made = experiment.build(rendered.get_config()).changed(changes)
    grid = selection.Grid.of(made.config)
    names = tables.TABLES if what == "all" else what.split(",")
    drawn = (name for name in names if name in tables.TABLES)  # figure5 is pictures
    wanted = [spec for name in drawn for spec in tables.wanted(grid, name)]
    trainings = {f"training-{records.model_name(made, spec)}" for spec in wanted}
    return trainings | {records.record_name(made, spec) for spec in wanted}


def test_every_kept_record_is_one_that_its_command_makes():
    kept = {path.stem: json.loads(path.read_text())["command"] for path in KEPT.glob("*.json")}
    assert len(kept) > 100
    made = {command: names_of(command) for command in set(kept.values())}
    orphans = [name for name, command in kept.items() if name not in made[command]]
    assert not orphans


def test_the_records_of_the_default_config_are_kept():
    made = experiment.build(rendered.get_config())
    for seed in made.config.reproduce.seeds:
        for scenario in ("none", "online", "offline"):
            name = records.record_name(made, RunSpec("transformer", scenario, seed))
            assert (KEPT / f"{name}.json").exists(), name


# --- Fields of later versions --------------------------------------------------------------------

ONLINE = RunSpec("transformer", "online")
NOBODY = Base({}, {}, np.ones(2))
# What another value of a field of a part of the config is another of.
ANOTHER = {
    "model": {"training", "record", "protocol"},
    "train": {"training", "record"},
    "loss": {"training", "record"},
    "data": {"training", "record"},
    "ttp": {"record", "protocol"},
    "eval": {"record"},
}


@pytest.fixture
def with_field(monkeypatch):
    """Add a field with a default to a part of every config."""

    def add(part, name, default):
        plain = common.get_config

        def get_config():
            config = plain()
            config[part][name] = default
            return config

        monkeypatch.setattr(common, "get_config", get_config)
        monkeypatch.setitem(ranges.TABLE[part], name, ranges.SHARE)
        identity._defaults.cache_clear()

    yield add
    monkeypatch.undo()
    identity._defaults.cache_clear()


def identities(**changes):
    made = experiment.build(rendered.get_config()).changed(changes)
    return {
        "training": records.model_name(made, ONLINE),
        "record": records.record_name(made, ONLINE),
        "transfer": records.record_name(made, RunSpec("transformer", "offline", transfer=True)),
        "protocol": identity.protocol(made.config, NOBODY, "online"),
    }


def test_a_new_field_of_the_network_identifies_by_another_value_only(with_field):
    """By itself: a network is built of the fields that it knows."""
    with_field("model", "a_later_field", 0.25)
    fields = common.get_config().model.to_dict()
    assert "a_later_field" not in identity.identifying("model", fields)
    assert identity.identifying("model", {**fields, "a_later_field": 0.5})["a_later_field"] == 0.5


@pytest.mark.parametrize("part", [part for part in ANOTHER if part != "model"])
def test_a_new_field_makes_nothing_another_until_its_value_is(with_field, part):
    before = identities()
    with_field(part, "a_later_field", 0.25)
    assert identities() == before
    after = identities(**{f"{part}.a_later_field": 0.5})
    assert {name for name in after if after[name] != before[name]} - {"transfer"} == ANOTHER[part]


# --- Results -------------------------------------------------------------------------------------


def write_pictures(folder):
    """The pictures of the person whose results `FIRST` holds, without compression."""
    folder.mkdir(parents=True)
    for t in range(4):
        rows, columns = np.mgrid[:40, :48]
        picture = np.stack([6 * rows, 5 * columns, rows * columns // 8 + 20 * t], -1) % 256
        assert cv2.imwrite(str(folder / f"{t}.bmp"), picture.astype(np.uint8))


def make_first_version(folder):
    """What `python main.py personalize` was run on by version 0.1.0 to make `FIRST`."""
    small_run.prepare(folder, lengths=())
    write_pictures(folder / "people" / "anna")


def read(path):
    return json.loads(path.read_text())


def test_results_of_the_first_version_are_done_and_stay(tmp_path, capsys):
    make_first_version(tmp_path)
    work, folder = tmp_path / "work", tmp_path / "work" / "results" / "online"
    shutil.copytree(FIRST / "online", folder)
    shutil.copy(FIRST / "config.json", work / "config.json")
    config = small_run.get_config()
    config.data.root, config.data.oversample = str(tmp_path / "people"), 2.0
    made = experiment.build(config)

    # The model is used, though its config lacks the fields of later versions.
    base, _ = base_model.load_base(made, work)
    then, record = read(folder / "protocol.json"), read(folder / "run.json")
    now = identity.protocol(made.config, base, "online")
    # Weights are drawn anew here, and may differ from the first ones in their last bits.
    assert {**then, "base": ""} == {**now, "base": ""}
    (folder / "protocol.json").write_text(json.dumps({**then, "base": now["base"]}))
    stored = identity.stored_config(record["config"])
    assert identity.protocol(experiment.build(stored).config, base, "online") == now
    trained = identity.training_config(work)
    assert identity.trained_on(trained) == identity.trained_on(made.config)

    results = [folder / "anna.csv", folder / "anna.npz"]
    before = [path.read_bytes() for path in results]
    assert personalization.run(made, work, RunOptions("online")) == 0
    assert "1 of 1 subjects are done already" in capsys.readouterr().out
    assert [path.read_bytes() for path in results] == before
    assert [path.name for path in (work / "results").iterdir() if path.is_dir()] == ["online"]
    assert read(folder / "run.json")["subjects"] == record["subjects"]
