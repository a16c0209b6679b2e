"""Run records and tables of `reproduce`: each record is made once, and the tables use it."""

import contextlib
import dataclasses
import json
import pathlib
import re
import sys
import types
import urllib.parse

import jax
import numpy as np
import pytest
import small_project
import small_run
from test_penn import write_video

from configs import bbc_pose, graded, h36m, lips, penn, rendered, tiny, tiny_penn, tongue
from configs import project as project_config
from data_pipelines import clips as clips_lib
from ttp_jax import checkpoint, files, state, steps, visualize
from ttp_jax.models.pose import METHODS
from ttp_jax.paper import (
    controls,
    pages,
    published,
    records,
    reproduction,
    running,
    statistics,
    tables,
)
from ttp_jax.paper.records import RunSpec
from ttp_jax.paper.selection import Grid
from ttp_jax.runs import experiment, identity, labelled, sources


def small(root, seeds=(0,)):
    """configs/rendered.py, made small enough for a test."""
    c = rendered.get_config()
    c.data.root = str(root)
    c.data.train, c.data.val, c.data.test = 6, 2, 3
    c.data.train_frames, c.data.eval_frames, c.data.image_size = 4, 9, 40
    small_run.shrink(c)
    c.train.batch_size = 4
    c.train.stages = ((2, 1e-3, 0.0, "constant"), (2, 1e-3, 1e-3, "constant"))
    c.train.log_every, c.train.checkpoint_every = 2, 2
    c.eval.probe_frames, c.eval.pictures = 8, 1
    c.reproduce.seeds = seeds
    c.reproduce.methods = ("baseline", "transformer")
    c.reproduce.lengths, c.reproduce.rates, c.reproduce.iterations = (3,), (1e-4,), (1,)
    c.transfer = tiny.get_config().data  # other rendered people stand for another data set
    c.transfer.root, c.transfer.seed, c.transfer.people = str(root), 5, ()
    c.transfer.train, c.transfer.val, c.transfer.test = 0, 0, 2
    c.transfer.eval_frames, c.transfer.image_size = 4, 40
    return c


def of(module, changes=None):
    """The experiment of a config, with other values of some fields."""
    return experiment.build(module.get_config()).changed(changes or {})


# --- Which runs ----------------------------------------------------------------------------------


def titles(made, what):
    return [cell.title for cell in tables.wanted(Grid.of(made.config), what)]


def test_table1_has_every_method_scenario_and_seed():
    found = titles(of(penn), "table1")
    assert found[:2] == ["transformer-seed0-mean-pose", "transformer-seed0-untrained"]
    assert {t for t in found if t.startswith("baseline")} == {
        f"baseline-seed{seed}-none" for seed in range(3)
    }
    for method in ("rotation", "shared", "transformer"):
        for scenario in ("none", "online", "offline"):
            assert {f"{method}-seed{seed}-{scenario}" for seed in range(3)} <= set(found)
    assert len(found) == 2 + 3 + 3 * 9


def test_a_change_that_changes_nothing_is_no_run_of_its_own():
    assert "transformer-seed0-online" in titles(of(penn), "table2")
    assert "transformer-seed0-online-iterations=4" in titles(of(penn), "table2")
    chosen = titles(of(rendered), "choice")
    assert "transformer-seed0-offline-val" in chosen
    assert "transformer-seed0-offline-learning_rate=0.0003-iterations=4-val" in chosen
    assert not titles(of(penn), "choice")  # no validation people


def test_settings_are_chosen_by_any_table_of_the_validation_people():
    made = of(rendered, {"reproduce.split": "val"})
    for what in ("adapt", "table1", "table7", "figure4", "ablations"):
        assert all(title.endswith("-val") for title in titles(made, what))
    assert "transformer-seed0-none-transfer" in titles(made, "table6")


def test_extra_frames_are_for_the_data_set_that_has_them():
    assert "transformer-seed1-online-extra=400" in titles(of(bbc_pose), "figure4")
    assert not [t for t in titles(of(h36m), "figure4") if "extra" in t]
    assert titles(of(h36m), "table6") == []


def test_a_model_is_trained_once_for_all_that_changes_at_test_time():
    made = of(rendered)
    plain = RunSpec("transformer", "online")
    name = records.model_name(made, plain)
    for other in (
        RunSpec("transformer", "offline", changes=(("ttp.iterations", 2),)),
        RunSpec("transformer", "none", split="val"),
        RunSpec("transformer", "online", transfer=True),
    ):
        assert records.model_name(made, other) == name
        assert records.record_name(made, other) != records.record_name(made, plain)
    for other in (dataclasses.replace(plain, seed=1), dataclasses.replace(plain, method="shared")):
        assert records.model_name(made, other) != name
    for change in ("data.grade", "varied"), ("ttp.method", "bn"), ("model.flip_average", True):
        other = dataclasses.replace(plain, changes=(change,))
        assert records.model_name(made, other) == name
        assert records.record_name(made, other) != records.record_name(made, plain)
    # Colours are the model's, test people and folders are not.
    swapped = dataclasses.replace(plain, changes=(("model.color_order", "bgr"),))
    assert records.model_name(made, swapped) != name
    made = made.changed({"data.test": 99, "data.root": "elsewhere"})
    assert records.model_name(made, plain) == name
    assert records.model_name(made.changed({"train.batch_size": 99}), plain) != name


def test_rotation_has_its_own_lambda_and_upright_pictures_at_test_time():
    own = records.experiment_of(of(penn), RunSpec("rotation", "online")).config
    assert {stage[2] for stage in own.train.stages} == {1e-4}
    assert own.ttp.online_rotation_prob == own.ttp.offline_rotation_prob == 0
    assert own.train.rotation_prob == 0.6  # training is the same for all methods


# --- What the tables say -------------------------------------------------------------------------


def scored(people, seed=0, second=50.0, **more):
    """A run record with these scores per person."""
    known = [each for each in people if each is not None]
    score = {"mean": float(np.mean(known)), "per_subject": list(people)}
    return {
        "scores": {"PCK@0.2": score, "PCK@0.5": {**score, "mean": second}},
        "smoothed": {"PCK@0.2": {**score, "mean": score["mean"] + 1}, "PCK@0.5": score},
        "seed": seed,
        "seconds_per_frame": 0.25,
        "memory_mib": 100.0,
        "frames": 30,
        "people": ["a", "b", "c"],
        **more,
    }


def rows_of(made, what, found):
    table = tables.TABLES[what][1](Grid.of(made.config), lambda spec: found.get(spec.title))
    return {row[:2]: row for row in table.rows}, table


def test_table1_gives_gains_over_people_beside_the_papers_numbers():
    made = of(penn)
    found = {
        f"transformer-seed{seed}-{scenario}": scored(people, seed)
        for seed, scenario, people in (
            (0, "none", (10, 20, 30)),
            (1, "none", (20, 30, 40)),
            (0, "offline", (14, 24, 28)),
            (1, "offline", (24, 34, 38)),
        )
    }
    rows, table = rows_of(made, "table1", found)
    row = rows["Transformer (keypoint) (2 of 3 seeds)", "offline"]
    head = dict(zip(table.header, row, strict=True))
    assert head["PCK@0.2"] == "27.00 +- 7.07" and head["PCK@0.5"] == "50.00"
    assert head["gain in PCK@0.2 (95 %)"].startswith("+2.00 (")  # +4, +4, -2
    assert head["gain in PCK@0.5 (95 %)"].startswith("+2.00 (")
    assert head["worse off"] == "33 %" and head["paper"] == "88.98"
    assert head["s a frame"] == "0.250" and head["MiB"] == "100"
    assert rows["Transformer (keypoint)", "online"][2] == "missing"
    assert rows["Baseline", "w/o TTP"][-1] == "85.23"
    assert "| Transformer (keypoint) | online | missing |" in pages.markdown(table)
    assert "missing" in pages.html(table)


def test_every_way_to_adapt_is_compared_with_not_adapting():
    made = of(rendered, {"reproduce.seeds": (0,)})
    assert {
        "transformer-seed0-none-flip_average=True",
        "transformer-seed0-online-method=bn",
    } <= set(titles(made, "adapt"))
    control = {"cross_subject_control": scored((11, 21, 31))["scores"]}
    found = {
        "transformer-seed0-none": scored((10, 20, 30)),
        "transformer-seed0-none-flip_average=True": scored((11, 19, 33)),
        "transformer-seed0-offline": scored((16, 26, 36), **control),
        "transformer-seed0-online-method=teacher": scored((10, 21, 29)),
    }
    _, table = rows_of(made, "adapt", found)
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert rows["no adaptation"]["gain in PCK@0.2 (95 %)"] == ""
    flipped = rows["no adaptation, averaged with the mirrored crop"]
    assert flipped["PCK@0.2"] == "21.00" and flipped["worse off"] == "33 %"
    assert rows["TTP offline"]["gain in PCK@0.2 (95 %)"] == "+6.00 (+6.00 to +6.00)"
    control = rows["TTP offline to another subject (control)"]
    assert control["gain in PCK@0.2 (95 %)"] == "+1.00 (+1.00 to +1.00)"
    assert rows["mean teacher online"]["gain in PCK@0.2 (95 %)"].startswith("+0.00 (-1.00")
    assert rows["batch statistics offline"]["PCK@0.2"] == "missing"
    alone = of(rendered, {"reproduce.seeds": (0,), "reproduce.methods": ("baseline",)})
    assert {t.split("=")[-1] for t in titles(alone, "adapt") if "method" in t} == {
        "bn", "entropy", "teacher",
    }  # fmt: skip
    # Without mirrored pictures in training, and without batch normalisation.
    other = of(rendered, {"train.flip_prob": 0.0, "model.encoder": "blazepose"})
    assert not [t for t in titles(other, "adapt") if "flip" in t or "bn" in t or "entropy" in t]


def test_ways_to_adapt_to_people_of_a_grade_are_compared_with_not_adapting_to_them():
    grades = (("shifted", "new colours"), ("plain", "training look"))
    made = of(rendered, {"reproduce.seeds": (0,), "reproduce.grades": grades})
    found = {
        "transformer-seed0-none": scored((10, 20, 30)),
        "transformer-seed0-none-grade=plain": scored((40, 50, 60)),
        "transformer-seed0-offline-method=bn": scored((15, 25, 35)),
        "transformer-seed0-offline-grade=plain-method=bn": scored((39, 49, 59)),
    }
    assert set(found) <= set(titles(made, "adapt"))
    _, table = rows_of(made, "adapt", found)
    gains = {row[0]: row[3] for row in table.rows}
    assert gains["new colours: batch statistics offline"] == "+5.00 (+5.00 to +5.00)"
    assert gains["training look: batch statistics offline"] == "-1.00 (-1.00 to -1.00)"
    assert gains["training look: no adaptation"] == ""


def test_who_gains_is_each_subject_from_the_worst_to_the_best():
    made = of(rendered, {"reproduce.seeds": (0, 1)})
    found = {
        f"transformer-seed{seed}-{scenario}": scored(np.add(people, 2 * seed), seed)
        for seed in (0, 1)
        for scenario, people in (
            ("none", (30, 10, 20)), ("online", (31, 10, 19)), ("offline", (30, 16, 23))
        )
    }  # fmt: skip
    _, table = rows_of(made, "subjects", found)
    assert table.rows == [
        ("b", "11.0", "+0.0", "+6.0"), ("c", "21.0", "-1.0", "+3.0"), ("a", "31.0", "+1.0", "+0.0")
    ]  # fmt: skip
    assert "online +0.50, offline -1.00" in table.notes[0] and "<svg" in table.plots[0]


def test_a_single_subject_has_no_correlation():
    made = of(rendered, {"reproduce.seeds": (0,)})
    found = {
        f"transformer-seed0-{scenario}": scored((30 + gain,))
        for gain, scenario in enumerate(("none", "online", "offline"))
    }
    _, table = rows_of(made, "subjects", found)
    assert table.rows == [("a", "30.0", "+1.0", "+2.0")]
    assert "Correlation" not in table.notes[0]


def test_gains_by_the_distance_of_people_from_training():
    made = of(graded, {"reproduce.seeds": (0,)})
    wanted = titles(made, "table7")
    assert {"transformer-seed0-none", "transformer-seed0-none-grade=shifted"} <= set(wanted)
    found = {title: scored((10, 20, 30)) for title in wanted if "none" in title}
    found |= {title: scored((11, 21, 31)) for title in wanted if "none" not in title}
    _, table = rows_of(made, "table7", found)
    assert [row[0] for row in table.rows if row[0]] == [
        about for _, about in Grid.of(made.config).grades
    ]
    assert {row[4] for row in table.rows if row[1] == "online"} == {"+1.00 (+1.00 to +1.00)"}
    assert "<svg" in table.plots[0]


@pytest.mark.parametrize("seed", [None, 1], ids=["no record", "another seed"])
@pytest.mark.parametrize("what", ["adapt", "table7"])
def test_there_is_no_gain_without_a_record_to_compare_with(what, seed):
    """It isn't compared with the next row instead."""
    made = of(rendered, {"reproduce.seeds": (0, 1), "reproduce.grades": (("shifted", "new"),)})
    found = {
        "transformer-seed0-none-flip_average=True": scored((9, 19, 29)),
        "transformer-seed0-online": scored((11, 21, 31)),
        "transformer-seed0-offline": scored((16, 26, 36)),
    }
    if seed:
        found[f"transformer-seed{seed}-none"] = scored((10, 20, 30), seed)
    _, table = rows_of(made, what, found)
    place = table.header.index("gain in PCK@0.2 (95 %)")
    gains = [row[place] for row in table.rows if "(1 of 2 seeds)" in "".join(row)]
    assert len(gains) == len(found) - (what == "table7") and set(gains) <= {"", "-"}


def test_frames_of_own_videos_are_added_for_projects():
    made = of(
        rendered, {"data.source": "project", "reproduce.seeds": (0,), "reproduce.extra": (9,)}
    )
    assert "transformer-seed0-offline-extra=9" in titles(made, "videos")
    assert not [title for title in titles(made, "figure4") if "extra" in title]
    assert "transformer-seed0-online-val" in titles(made, "choice")
    few, more = {"by_frame": [[1.0]] * 3}, {"by_frame": [[None, 1.0], [1.0], [None, 1.0]]}
    found = {
        "transformer-seed0-none": scored((10, 20, 30), **few),
        "transformer-seed0-online": scored((11, 21, 31), **few),
        "transformer-seed0-online-extra=9": scored((13, 23, 33), **more),
    }
    rows, table = rows_of(made, "videos", found)
    assert rows["the labelled frames", "online"][2] == "+1.00 (+1.00 to +1.00)"
    assert rows["9 more frames of own videos", "online"][2] == "+3.00 (+3.00 to +3.00)"
    assert rows["9 more frames of own videos", "offline"][2] == "missing"
    assert table.notes == ("2 of 3 subjects have videos of their own.",)
    # If the config adds frames itself, the labelled frames alone are the change.
    adding = made.changed({"data.extra": 9})
    assert "transformer-seed0-offline-extra=0" in titles(adding, "videos")
    assert "transformer-seed0-offline" in titles(adding, "videos")


def test_a_threshold_that_is_given_twice_is_one_measure():
    assert Grid.of(of(rendered, {"eval.thresholds": (0.1, 0.1)}).config).measures == ("PCK@0.1",)


def test_a_labelled_project_has_no_published_numbers_and_no_grades():
    """Even if its folder has the name of one of the paper's data sets."""
    changes = {"data.source": "project", "name": "penn", "reproduce.grades": (("plain", "look"),)}
    made = of(rendered, changes)
    _, table = rows_of(made, "table1", {})
    assert {row[table.header.index("paper")] for row in table.rows} <= {"", "-"}
    assert not titles(made, "table3") and not titles(made, "table7")


@pytest.mark.parametrize("what", ["errors", "videos"])
def test_rows_of_fewer_seeds_than_others_say_so(what):
    """Seeds differ more than the ways to adapt, so such rows can't be compared."""
    made = of(rendered, {"data.source": "project", "reproduce.seeds": (0, 1)})
    parts = {"errors": {"mean error %": {"mean": 5.0, "per_subject": [5.0] * 3}}}
    parts |= {"by_frame": [[1.0]] * 3}
    found = {
        f"transformer-seed{seed}-{scenario}": scored((10, 20, 30), seed, **parts)
        for seed in (0, 1)
        for scenario in ("none", "online", *["offline"] * seed)
    }
    _, table = rows_of(made, what, found)
    names = {row[1]: row[0] for row in table.rows if row[2] != "missing"}
    assert names["offline"].endswith(" (1 of 2 seeds)") and "seeds" not in names["online"]


def test_claims_are_differences_between_runs_of_a_seed():
    made = of(penn)
    found = {
        f"{method}-seed{seed}-{scenario}": scored(np.add(people, seed), seed)
        for method, scenario, people in (
            ("transformer", "none", (10, 20, 30)),
            ("transformer", "offline", (16, 26, 36)),
            ("shared", "none", (10, 20, 30)),
            ("shared", "offline", (11, 21, 37)),
        )
        for seed in (0, 1)
    }
    rows, _ = rows_of(made, "claims", found)
    said = {claim: row for (claim, _), row in rows.items()}
    assert said["TTP offline helps"][1:] == ("+6.00 (+6.00 to +6.00)", "0 %", "+6.00, +6.00")
    assert said["offline, more than the cross-subject control"][1] == "missing"  # it isn't in there
    found |= {
        f"transformer-seed{seed}-offline": scored(
            (16, 26, 36), seed, cross_subject_control=scored((12, 25, 35))["scores"]
        )
        for seed in (0, 1)
    }
    rows, _ = rows_of(made, "claims", found)
    row = rows["offline, more than the cross-subject control", "+2.00 (+1.00 to +4.00)"]
    assert row[2:] == ("0 %", "+2.00, +2.00")
    row = said["the Transformer gains more offline than feature sharing"]
    assert row[1].startswith("+3.00 (") and row[2:] == ("33 %", "+3.00, +3.00")  # +5, +5, -1
    assert said["TTP online helps"][1] == "missing"


@pytest.mark.parametrize(
    "differs", [{"base": "other"}, {"people": ["a", "b", "d"]}], ids=["training", "people"]
)
def test_records_of_two_trainings_or_of_other_people_are_not_compared(tmp_path, differs):
    made = of(penn)
    ran = {"commit": "c", "date": "d", "seconds": 1.0, "machine": {"device": "cpu", "cores": 2}}
    for scenario, more in (("none", {}), ("online", {}), ("offline", differs)):
        spec = RunSpec("transformer", scenario)
        record = scored((10, 20, 30), by_frame=[[1.0]] * 3, run=spec.title, **ran, base="one")
        name = records.record_name(made, spec)
        records.write(tmp_path / "records", name, {**record, **more})
    reproduction.write_report(made, tmp_path, tmp_path / "records")
    text = (tmp_path / "report.md").read_text()
    assert f"because they belong to another training or other people: {name}." in text
    assert "| Transformer (keypoint) (1 of 3 seeds) | online | 20.00 |" in text
    assert "| Transformer (keypoint) | offline | missing |" in text


def test_pictures_of_subjects_with_blanks_in_their_names_are_shown(tmp_path):
    made = of(rendered)
    folder = reproduction._figures(made, tmp_path)
    visualize.save(folder / "ann lee.png", np.zeros((4, 4, 3), np.uint8))
    reproduction.write_report(made, tmp_path, tmp_path / "records")
    (shown,) = re.findall(r"!\[ann lee\]\((\S+)\)", (tmp_path / "report.md").read_text())
    assert (tmp_path / urllib.parse.unquote(shown)).is_file()


def zeros_at(step, own, folder):
    """Leave the checkpoint of a training at this step, with weights of 0."""
    made = own.net, own.tx, jax.random.key(0), own.image_size, np.ones(1)
    shapes = jax.eval_shape(lambda: steps.init_state(*made))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    with contextlib.closing(checkpoint.Checkpoints(folder / "checkpoints")) as saved:
        saved.save(state.replace(step=np.int32(step)))
    identity.save_config(own.config, folder)


def test_pictures_are_of_the_split_that_is_asked_for(tmp_path):
    """Those of its people are there; nobody else is drawn, and the report names the split."""
    made = experiment.build(small(tmp_path / "people"))
    made = made.changed({"reproduce.split": "val", "eval.pictures": 2})
    spec = RunSpec("transformer", "offline")
    own = records.experiment_of(made, spec)
    zeros_at(own.last_step, own, tmp_path / "models" / records.model_name(made, spec))
    names = {clip.subject for clip in sources.load_clips(made.data, "val")}
    for name in names:
        place = reproduction._figures(made, tmp_path) / f"{name}.png"
        visualize.save(place, np.zeros((4, 4, 3), np.uint8))
    assert len(names) == 2 and reproduction.run(made, tmp_path, "figure5") == 0
    assert {path.stem for path in tmp_path.glob("figures/*/*.png")} == names
    assert "Subjects: those of the split val" in (tmp_path / "report.md").read_text()


def test_pictures_wait_for_the_end_of_the_training(tmp_path, capsys):
    """Those of half a training would stay: a picture that is there isn't drawn again."""
    made = experiment.build(small(tmp_path / "people"))
    spec = RunSpec("transformer", "offline")
    own = records.experiment_of(made, spec)
    zeros_at(own.last_step - 1, own, tmp_path / "models" / records.model_name(made, spec))
    assert reproduction.run(made, tmp_path, "figure5") == 0
    assert "no pictures: the Transformer is still in training" in capsys.readouterr().out
    assert not list(tmp_path.glob("figures/*/*.png"))


def test_smoothing_and_the_control_have_their_own_scores():
    made = of(penn, {"reproduce.seeds": (0,)})
    others = scored((5, 15, 25))["scores"]
    found = {
        "transformer-seed0-none": scored((10, 20, 30)),
        "transformer-seed0-offline": scored((11, 21, 31), cross_subject_control=others),
    }
    rows, _ = rows_of(made, "table5", found)
    found_row = rows["Transformer (keypoint)", "offline"]
    gain = "+1.00 (+1.00 to +1.00)"  # of smoothed over smoothed
    assert found_row[2:] == ("21.00", "22.00", gain, "0 %", "0.250", "100", "89.51")
    rows, _ = rows_of(made, "table1", found)
    control = rows["Transformer (keypoint)", "offline, cross-subject control"]
    assert control[2:4] == ("15.00", "50.00") and control[4].startswith("-5.00")


def test_a_subject_without_scored_labels_is_left_out():
    made = of(rendered, {"reproduce.seeds": (0,)})
    found = {
        f"transformer-seed0-{scenario}": scored((10, 30, None, 20 + gain))
        for scenario, gain in (("none", 0), ("online", 1), ("offline", 2))
    }
    for record in found.values():
        record["people"] = ["a", "b", "c", "d"]
    _, table = rows_of(made, "subjects", found)
    assert [row[0] for row in table.rows] == ["a", "d", "b"]
    assert "nan" not in "".join(table.notes) and table.notes[1].endswith(" c.")
    validated = {f"{title}-val": record for title, record in found.items()}
    _, table = rows_of(made, "choice", validated)
    assert "+0.33</td>" in table.plots[0] and "+0.67</td>" in table.plots[1]


def test_rows_of_table2_are_of_the_same_seeds():
    made = of(penn)
    found = {
        "transformer-seed0-none": scored((10, 20, 30)),
        "transformer-seed1-none": scored((10, 20, 30), 1),
        "transformer-seed0-online": scored((12, 22, 32)),
        "transformer-seed1-online": scored((90, 90, 90), 1),
        "transformer-seed0-online-iterations=2": scored((13, 23, 33)),
    }
    _, table = rows_of(made, "table2", found)
    assert [row[1] for row in table.rows] == ["22.00", "23.00", "missing", "missing"]
    assert table.rows[0][2] == "+2.00 (+2.00 to +2.00)"
    assert table.notes == ("Seeds: 0.",)


def test_seeds_that_cancel_each_other_make_nobody_worse_off():
    share = [100 * correct / 39 for correct in range(40)]
    # One seed gets three more joints right, the other one three fewer.
    gains = np.array([[share[a + 3] - share[a], share[0] - share[3]] for a in range(37)]).T
    assert (gains.mean(0) < 0).any()  # because of rounding
    assert statistics.share_worse(gains) == "0 %"
    assert statistics.share_worse(gains - 0.01) == "100 %"


def test_two_people_span_no_interval():
    made = of(penn, {"reproduce.seeds": (0,)})
    found = {
        "transformer-seed0-none-transfer": scored((10, 20)),
        "transformer-seed0-offline-transfer": scored((12, 24)),
    }
    rows, _ = rows_of(made, "table6", found)
    assert rows["Transformer (keypoint)", "offline"][4:7:2] == ("+3.00 (each: +2.00, +4.00)", "0 %")


def test_figure3_is_the_mean_gain_at_each_index():
    made = of(penn, {"reproduce.seeds": (0,)})
    late = [10.0, 10.0, *range(12, 18)]
    found = {  # the second person's video ends after two frames, one of them without labels
        "transformer-seed0-none": scored((1, 1), by_frame=[[10.0] * 8, [None, 20.0]]),
        "transformer-seed0-online": scored((1, 1), by_frame=[late, [None, 24.0]]),
    }
    _, table = rows_of(made, "figure3", found)
    gains = [float(row[1].split()[0]) for row in table.rows]
    # A quarter of the nine labelled frames each: 0; 1 and 2; 3 and 4; the rest.
    assert gains == [0.0, 2.5, 3.5, 6.0]
    assert [row[2] for row in table.rows] == ["1", "2", "1", "1"]
    assert "<svg" in table.plots[0]


def test_keypoints_before_and_after_personalization():
    made = of(penn)  # no validation people

    def errors(own, other):
        return {"own": own, "other": other, "copy": 0.5}

    read = {"error": 0.05, "mean_pose_error": 0.09}
    found = {
        "transformer-seed0-points": {
            "seed": 0, "bottleneck": {"training": errors(0.1, 0.2)}, "readout": {"training": read},
        },
        "transformer-seed0-offline": scored(
            (1,),
            bottleneck={
                "before": errors(0.3, 0.3), "after": errors(0.2, 0.4),
                "cross_subject_control": errors(0.3, 0.4),
            },
        ),
    }  # fmt: skip
    table = tables.TABLES["points"][1](Grid.of(made.config), lambda spec: found.get(spec.title))
    rows = {row[1]: row[2:] for row in table.rows if row[0] == "Transformer (keypoint)"}
    name = "test people, after offline TTP"
    assert list(rows) == [
        "training people", "test people, without TTP", name,
        "test people, cross-subject control",
    ]  # fmt: skip
    assert rows["training people"][:4] == ("0.1000", "0.2000", "0.5000", "0.500")
    assert rows["training people"][4:] == ("0.050 (0.090)", "1")
    assert [row[3] for row in rows.values()] == ["0.500", "1.000", "0.500", "0.750"]
    assert {row[2] for row in table.rows if row[0] == "Feat. shared (keypoint)"} == {"missing"}


def test_the_control_is_the_person_before(monkeypatch):
    """Each person by the changes of the one before, the first by those of the last."""
    seen = []

    class Predictor:
        def __init__(self, *_):
            self.model = None

        def use(self, base):
            self.model = base.params["w"]

        def one(self, clip):
            return types.SimpleNamespace(joints=(clip.name, self.model))

    def probe(clip, deltas):
        seen.append((clip.name, [delta.get("w") for delta in deltas]))
        return [{"own": 1.0} for _ in deltas]

    monkeypatch.setattr(controls, "Runner", Predictor)
    monkeypatch.setattr(controls.diagnostics, "prober", lambda *_: probe)
    base = state.Base({"w": 0}, {}, np.ones(2))
    made, people = of(rendered), [types.SimpleNamespace(name=n) for n in "abc"]
    found = controls.Controls(made, base, 3)
    for clip, change in zip(people, (1, 2, 3), strict=True):
        found.add(clip, {"w": change})
    found.finish()
    assert found.joints == {"a": ("a", 3), "b": ("b", 1), "c": ("c", 2)}
    assert sorted(seen) == [("a", [None, 1, 3]), ("b", [None, 2, 1]), ("c", [None, 3, 2])]
    alone = controls.Controls(made, base, 1)
    alone.add(people[0], {"w": 1})
    alone.finish()
    assert not alone.joints and set(alone.errors) == {"before", "after"}


def test_every_table_says_what_is_missing():
    for module in (penn, h36m, bbc_pose, rendered):
        grid = Grid.of(of(module).config)
        for what, (_, make) in tables.TABLES.items():
            table = make(grid, lambda spec: None)
            assert pages.markdown(table) and pages.html(table)
            if tables.wanted(grid, what):
                assert "missing" in pages.markdown(table), what


def test_a_method_of_ones_own_is_in_the_tables_by_its_name(monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["transformer"])
    grid = Grid.of(of(rendered).config)._replace(methods=("baseline", "mine"))
    table = tables.TABLES["table1"][1](grid, lambda spec: None)
    assert ("mine", "offline", "missing") in [row[:3] for row in table.rows]


def test_published_numbers_belong_to_configs():
    for table in (published.TABLE1, published.TABLE2, published.TABLE5, published.TABLE6):
        assert set(table) <= {"penn", "h36m", "bbc_pose"}
    assert published.TABLE1["penn"]["transformer", "offline"] == 88.98


# --- Running -------------------------------------------------------------------------------------


def test_fields_that_reproduce_sets_itself_are_refused(tmp_path):
    wrong = {"ttp.method": "teacher", "ttp.reset": "16", "seed": 5}
    for field, value in wrong.items():
        with pytest.raises(ValueError, match=f"config.{field} is {value!r}: reproduce "):
            reproduction.run(of(rendered, {field: value}), tmp_path, "table1")


def test_the_choice_of_the_checkpoint_belongs_to_a_record():
    made, spec = of(rendered), RunSpec("transformer", "offline")
    best = made.changed({"train.best": True})
    assert records.record_name(made, spec) != records.record_name(best, spec)
    assert records.model_name(made, spec) == records.model_name(best, spec)
    plain = RunSpec("transformer", "mean pose")
    assert records.record_name(made, plain) == records.record_name(best, plain)


def test_wrong_measures_fail_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "train_model", lambda *_: pytest.fail("trained"))
    for field, names in (("scale_joints", "left_hip,rihgt_hip"), ("opening", "head,rihgt_hip")):
        made = experiment.build(small(tmp_path / "people")).changed({f"eval.{field}": names})
        failed, spec = {}, RunSpec("transformer", "none")
        assert reproduction._run_all(made, [spec], tmp_path, tmp_path / "records", 0.0, failed)
        assert "rihgt_hip" in failed[spec.title]
        assert "some runs can't be made: " in capsys.readouterr().out


def test_the_default_network_of_labelled_projects_has_a_report(tmp_path):
    """Its encoder can't be trained on BGR colours, so that ablation isn't among its tables."""
    config = project_config.get_config(str(small_project.write(tmp_path / "mice")))
    labelled.fill(config)
    (tmp_path / "records").mkdir()
    assert reproduction.run(experiment.build(config), tmp_path, "report") == 0
    assert (tmp_path / "report.html").is_file()
    assert any("bgr" in title for title in titles(of(penn), "ablations"))


def test_missing_own_videos_fail_before_any_training(tmp_path):
    root = small_project.write(tmp_path)
    config = project_config.get_config(str(root))
    config.data.test_subjects, config.data.own_videos = "mouse3", "mouse3=videos/none.avi"
    labelled.fill(config)
    made, spec = experiment.build(config), RunSpec("transformer", "online")
    running.check_people(made, spec, tmp_path)
    more = dataclasses.replace(spec, changes=(("data.extra", 2),))
    with pytest.raises(clips_lib.DataError, match="none.avi doesn't exist"):
        running.check_people(made, more, tmp_path)


def test_a_given_model_that_no_run_uses_is_named(tmp_path, capsys):
    made = of(rendered, {"reproduce.given": (("transformer-seed0-typo", "shipped"),)})
    (tmp_path / "records").mkdir()
    reproduction.run(made, tmp_path, "report")
    assert "given names transformer-seed0-typo, which no run" in capsys.readouterr().out


def test_an_unknown_table_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="table9: expected some of adapt, table1.*, all, report"):
        reproduction.run(of(rendered), tmp_path, "table9", str(tmp_path))


def test_names_of_tables_may_have_blanks_and_the_report_among_them(tmp_path, capsys):
    """As the help says, "all" and "report" are names like the others."""
    made = of(rendered, {"reproduce.methods": ("baseline",), "reproduce.seeds": (0,)})
    ran = {"commit": "c", "date": "d", "seconds": 1.0, "machine": {"device": "cpu", "cores": 2}}
    for spec in tables.wanted(Grid.of(made.config), "table1"):
        record = scored((10, 20, 30), by_frame=[[1.0]] * 3, run=spec.title, **ran)
        records.write(tmp_path / "records", records.record_name(made, spec), record)
    assert reproduction.run(made, tmp_path, "report, table1, claims") == 0
    assert "0 runs to do" in capsys.readouterr().out


def test_a_seed_that_is_given_twice_is_one_training():
    twice = Grid.of(of(rendered, {"reproduce.seeds": (0, 0, 1)}).config)
    assert twice.seeds == (0, 1)
    found = {"transformer-seed0-none": scored((10, 20, 30))}
    made = of(rendered, {"reproduce.seeds": (0, 0)})
    rows, _ = rows_of(made, "table1", found)
    assert rows["Transformer (keypoint)", "w/o TTP"][2] == "20.00"  # not +- 0.00


@pytest.mark.parametrize("field", ["seeds", "methods"])
def test_tables_need_a_seed_and_a_method(field):
    with pytest.raises(ValueError, match=f"reproduce.{field} is .., expected 1 to"):
        of(rendered, {f"reproduce.{field}": ()})


def test_a_model_that_comes_along_needs_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(running.training, "train", lambda *_: pytest.fail("trained"))
    made = of(graded)
    spec = RunSpec("transformer", "online")
    # The model of this very training, and of no other.
    ((name, _),) = made.config.reproduce.given
    assert records.model_name(made, spec) == name
    assert running.train_model(made, spec, tmp_path, tmp_path, 1.0)
    shipped = checkpoint.read_model(checkpoint.model_path("shipped")).base
    base = running.base_of(made, spec, tmp_path)
    assert checkpoint.fingerprint(base) == checkpoint.fingerprint(shipped)
    with pytest.raises(FileNotFoundError, match="no trained model"):
        running.base_of(made.changed({"train.batch_size": 99}), spec, tmp_path)


def test_the_best_checkpoint_is_used_also_of_a_training_that_ended_early(tmp_path, monkeypatch):
    made = experiment.build(small(tmp_path / "people")).changed({"train.best": True})
    spec = RunSpec("baseline", "none")
    own = records.experiment_of(made, spec)
    fresh = jax.eval_shape(
        lambda: steps.init_state(own.net, own.tx, jax.random.key(0), own.image_size, np.ones(1))
    )
    last = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), fresh)
    last = last.replace(step=np.int32(own.last_step - 1))
    best = jax.tree.map(np.ones_like, last).replace(step=np.int32(own.last_step - 2))

    def trained(config, folder, minutes):
        """Leave the files of a training that `config.train.patience` has ended."""
        with contextlib.closing(checkpoint.Checkpoints(folder / "checkpoints")) as saved:
            saved.save(last)
        checkpoint.Best(folder / "checkpoints").save(best, 50.0)
        identity.save_config(own.config, folder)

    monkeypatch.setattr(running.training, "train", trained)
    assert running.train_model(made, spec, tmp_path, tmp_path / "records", 0.0)
    name = f"training-{records.model_name(made, spec)}"
    record = records.read(tmp_path / "records", name)
    assert record is not None and record["steps"] == int(last.step)
    found = running.base_of(made, spec, tmp_path)
    assert checkpoint.fingerprint(found) == checkpoint.fingerprint(checkpoint.base_of(best))
    monkeypatch.setattr(running.training, "train", lambda *_: pytest.fail("trained again"))
    assert running.train_model(made, spec, tmp_path, tmp_path / "records", 0.0)


MADE = {
    "seconds": 1.0,
    "date": "2026-11-22",
    "commit": None,
    "machine": {"device": "cpu: cpu", "cores": 2},
}


def test_minutes_of_a_training_of_which_a_part_was_killed_are_a_lower_bound():
    """A killed call notes no piece, though its checkpoints are used."""
    first, second = {**MADE, "from": 0, "to": 2}, {**MADE, "from": 2, "to": 4}
    found = {
        name: {"seconds": 120.0, "steps": 4, "pieces": pieces}
        for name, pieces in {"whole": [first, second], "began": [second], "ended": [first]}.items()
    }
    old = {key: value for key, value in found["began"].items() if key != "steps"}
    minutes = {row[0]: row[1] for row in pages.trainings({**found, "old": old}).rows}
    assert minutes == {"whole": "2"} | dict.fromkeys(("began", "ended", "old"), "more than 2")


def whole_record(people, by_frame):
    """All that a run record must hold."""
    scores = {"PCK@0.2": {"mean": 1.0, "per_subject": [1.0] * len(people)}}
    cost = {"frames": 1, "seconds_per_frame": 1.0, "memory_mib": 1.0}
    names = {"run": "transformer-seed0-none", "seed": 0, "people": people, "by_frame": by_frame}
    return {**MADE, **names, **cost, "scores": scores, "smoothed": scores}


def test_a_training_whose_model_is_elsewhere_is_not_run_anew_among_its_records(tmp_path):
    made, spec = of(rendered), RunSpec("baseline", "none")
    name = f"training-{records.model_name(made, spec)}"
    piece = {"from": 0, "to": 12000, **MADE}
    records.write(tmp_path, name, {"run": name, "pieces": [piece], "seconds": 1.0})
    with pytest.raises(
        ValueError, match=f"a record of the training {name.removeprefix('training-')}"
    ):
        running.train_model(made, spec, tmp_path / "work", tmp_path, 0.0)


def test_a_run_that_fails_is_named_and_the_others_are_done(tmp_path, capsys):
    config = small(tmp_path / "people")
    config.transfer.source, config.transfer.root = "penn", str(tmp_path / "absent")
    made = experiment.build(config)
    wanted = [RunSpec("transformer", "mean pose", transfer=transfer) for transfer in (True, False)]
    failed = {}
    assert reproduction._run_all(made, wanted, tmp_path, tmp_path / "records", 0.0, failed)
    assert list(failed) == ["transformer-seed0-mean-pose-transfer"]
    assert "absent" in failed["transformer-seed0-mean-pose-transfer"]
    assert not records.missing(made, wanted[1:], tmp_path / "records")
    # Records of other people stop a run.
    kept = (
        tmp_path / "records" / f"{records.record_name(made, RunSpec('transformer', 'none'))}.json"
    )
    kept.write_text(json.dumps(whole_record(["somebody"], [[1.0]])))
    with pytest.raises(ValueError, match=r"records of 1 subjects with 1 frames.* \(3 with 27\)"):
        running.check_people(made, RunSpec("transformer", "online"), tmp_path / "records")


def test_a_model_that_another_process_trains_is_left_to_it(tmp_path, capsys):
    """Its runs have not failed, and the same command makes them later."""
    made = experiment.build(small(tmp_path / "people"))
    wanted = [RunSpec("transformer", "mean pose")]
    wanted += [RunSpec("baseline", "none", split=split) for split in ("test", "val")]
    folder = tmp_path / "models" / records.model_name(made, wanted[1])
    failed = {}
    with files.only_one(folder / "checkpoints"):
        given = made, wanted, tmp_path, tmp_path / "records", 0.0, failed
        assert not reproduction._run_all(*given)
    said = capsys.readouterr().out
    assert not failed and "FAILED" not in said
    for spec in wanted[1:]:
        assert f"{spec.title}: another process is training its model in {tmp_path}" in said
    assert "another process is training their models: 2. When" in said
    assert records.missing(made, wanted, tmp_path / "records") == wanted[1:]


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path, capsys):
    made = experiment.build(small(tmp_path / "people"))
    spec, folder, failed = RunSpec("transformer", "mean pose"), tmp_path / "records", {}
    with files.only_one(folder / f"{records.record_name(made, spec)}.json"):
        assert not reproduction._run_all(made, [spec], tmp_path, folder, 0.0, failed)
    assert not failed and "another process is making them: 1. When" in capsys.readouterr().out
    assert reproduction._run_all(made, [spec], tmp_path, folder, 0.0, failed)
    assert not records.missing(made, [spec], folder)


def test_records_of_another_data_set_with_the_same_names_stop_a_run(tmp_path):
    for name, frames in (("one", 3), ("other", 4)):
        write_video(tmp_path / name, frames=frames, train=np.int32(-1))
    made = of(tiny_penn, {"data.root": str(tmp_path / "one")})
    spec = RunSpec("transformer", "online")
    record = {**whole_record(["0001"], [[1.0] * 3]), "frames": 3}
    records.write(tmp_path, records.record_name(made, RunSpec("transformer", "none")), record)
    running.check_people(made, spec, tmp_path)
    made = made.changed({"data.root": str(tmp_path / "other")})
    for each in (spec, dataclasses.replace(spec, changes=(("data.extra", 2),))):
        with pytest.raises(ValueError, match="with 3 frames, but .* others .1 with 4.: name an"):
            running.check_people(made, each, tmp_path)


def test_a_record_is_read_as_written_and_has_a_list_of_numbers_on_a_line(tmp_path):
    record = {**whole_record(["a [1   2]", "b"], [[1.5, None], [2, 3]]), "none": []}
    records.write(tmp_path, "some", record)
    assert records.read(tmp_path, "some") == record
    lines = [line.strip() for line in (tmp_path / "some.json").read_text().splitlines()]
    assert "[ 1.5, null ]," in lines and "[ 2, 3 ]" in lines and '"a [1   2]",' in lines


def test_records_of_the_version_before_have_todays_keys_and_stay_as_they_are(tmp_path):
    kept = pathlib.Path(__file__).parents[1] / "docs" / "results" / "cells"
    path = kept / "shared-seed0-offline-d890d051.json"
    stored = json.loads(path.read_text())
    record = records.read(kept, path.stem)
    assert record and record["run"] == stored["cell"] == "shared-seed0-offline"
    assert record["cross_subject_control"] == stored["stranger"]
    assert record["bottleneck"]["cross_subject_control"] == stored["bottleneck"]["stranger"]
    assert not {"cell", "stranger"} & (record.keys() | record["bottleneck"].keys())
    # A workdir of that version goes on with the records that it has.
    (tmp_path / "cells").mkdir()
    assert reproduction._records_folder(tmp_path) == tmp_path / "cells"
    (tmp_path / "records").mkdir()
    assert reproduction._records_folder(tmp_path) == tmp_path / "records"


def test_a_file_of_weights_counts_by_its_name_not_by_its_folder():
    made, spec, names = of(penn), RunSpec("transformer", "none"), set()
    for path in ("/data/resnet50-19c8e357.pth", "resnet50-19c8e357.pth", "resnet50-11ad3fa6.pth"):
        names.add(records.model_name(made.changed({"model.init": path}), spec))
    assert len(names) == 2


def test_a_records_command_names_no_place_of_this_machine(monkeypatch):
    words = "main.py reproduce --workdir /home/me/x --what=table1 --records=c --config.data.root /d"
    monkeypatch.setattr(sys, "argv", words.split())
    assert records.command() == "python main.py reproduce --what=table1 --config.data.root=DIR"


def test_the_command_on_the_page_has_the_fields_that_were_changed(tmp_path, monkeypatch):
    (tmp_path / "records").mkdir()
    words = "main.py reproduce --config=configs/rendered.py --config.ttp.iterations 4 --what=table1"
    monkeypatch.setattr(sys, "argv", [*words.split(), f"--workdir={tmp_path}"])
    assert reproduction.run(of(rendered, {"ttp.iterations": 4}), tmp_path, "report") == 0
    command = "reproduce --config=configs/rendered.py --config.ttp.iterations=4 --what=all\n"
    assert command in (tmp_path / "report.md").read_text()
    assert command.strip() in (tmp_path / "report.html").read_text()


def test_a_report_on_the_records_of_another_config_says_so(tmp_path):
    (record,) = (DOCS / "results/graded").glob("transformer-seed0-none-????????.json")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / record.name).write_bytes(record.read_bytes())
    assert reproduction.run(of(rendered), tmp_path, "report") == 0
    assert "is of this config and these settings" in (tmp_path / "report.md").read_text()


def test_tables_of_one_method_want_runs_of_that_method_only():
    grid = Grid.of(of(rendered, {"reproduce.methods": ("baseline",)}).config)
    for name in ("table1", "table2", "figure3", "figure4", "ablations", "choice", "points"):
        wanted = tables.wanted(grid, name)
        assert {c.method for c in wanted if c.scenario not in records.WITHOUT_MODEL} <= {"baseline"}


DOCS = pathlib.Path(__file__).parents[1] / "docs"


def assert_is_the_report(page, config, folder, tmp_path):
    reproduction.run(experiment.build(config), tmp_path, "report", str(DOCS / "results" / folder))
    made = (tmp_path / "report.md").read_text()
    assert (DOCS / page).read_text() == made, "make it again, as CONTRIBUTING.md says"


def test_the_page_of_the_benchmark_is_what_its_records_say(tmp_path):
    assert_is_the_report("benchmark_rendered.md", rendered.get_config(), "cells", tmp_path)


@pytest.mark.parametrize(("config", "folder"), [(lips, "Lips"), (tongue, "Ultrasound")])
def test_the_pages_of_real_speakers_are_what_their_records_say(
    config, folder, tmp_path, shared_data
):
    c = config.get_config("scratch")
    c.data.root = str(shared_data("speech_dlc", folder))
    labelled.fill(c)
    name = config.__name__.removeprefix("configs.")
    assert_is_the_report(f"benchmark_{name}.md", c, c.name, tmp_path)


def test_a_table_none_of_whose_own_runs_was_made_is_only_named(tmp_path):
    made = of(rendered)
    done = (
        RunSpec("transformer", "none"),
        RunSpec("transformer", "online", 0, (("ttp.iterations", 2),)),
    )
    ran = {"commit": "c", "date": "d", "seconds": 1.0, "machine": {"device": "cpu", "cores": 2}}
    for spec in done:
        record = scored((10, 20, 30), by_frame=[[1.0]] * 3, run=spec.title, **ran, base="one")
        records.write(tmp_path / "records", records.record_name(made, spec), record)
    reproduction.write_report(made, tmp_path, tmp_path / "records")
    text = (tmp_path / "report.md").read_text()
    assert "## Table 1" in text and "## Table 2" in text
    assert "## Ablations" not in text and re.search(r"Not begun: .*Ablations; .*ablations", text)


@pytest.mark.slow
def test_every_table_from_nothing_stopped_and_gone_on_with(tmp_path, capsys):
    made = experiment.build(small(tmp_path / "people"))
    folder = tmp_path / "records"
    # A time that is over at the first checkpoint.
    reproduction.run(made, tmp_path / "work", "table1", str(folder), minutes=1e-6)
    assert "the same command continues" in capsys.readouterr().out
    # Each run compiles its programs: these are some of all.
    some = "table1,table5,table6,figure3,figure4,figure5,points,choice"
    reproduction.run(made, tmp_path / "work", some, str(folder))
    text = (tmp_path / "work/report.md").read_text()
    (later,) = re.findall(r"Not begun: (.*)\. `", text)
    assert "Table 2" in later and "Ablations" in later
    assert "## Table 2" not in text and "## Ablations" not in text
    assert "## Table 5" in text and "## Learning rate" in text
    # The other ways to adapt, mirrored crops among them; what the paper claims of methods that
    # aren't run here; the BGR training.
    assert text.count("missing") == 2 * 4 + 1 + 6 + 1
    assert re.search(r"\| transformer, seed 0 \| \d+ \| \w+: ", text)  # its training
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    (training,) = folder.glob("training-transformer-seed0-*.json")
    record = json.loads(training.read_text())
    assert record["pieces"][-1]["to"] == 4 and "command" in record
    (path,) = folder.glob("transformer-seed0-offline-????????.json")
    record = json.loads(path.read_text())
    assert len(record["people"]) == 3 and record["frames"] == 27
    assert [len(person) for person in record["by_frame"]] == [9, 9, 9]
    assert {"PCK@0.2", "PCK@0.5"} == set(record["scores"]) == set(record["cross_subject_control"])
    assert {"before", "after", "cross_subject_control"} == set(record["bottleneck"])
    assert record["bottleneck"]["before"]["copy"] == record["bottleneck"]["after"]["copy"]
    assert record["bottleneck"]["before"]["own"] != record["bottleneck"]["after"]["own"]
    (path,) = folder.glob("transformer-seed0-points-????????.json")
    record = json.loads(path.read_text())
    assert {"training", "validation"} == set(record["bottleneck"]) == set(record["readout"])
    page = (tmp_path / "work/report.html").read_text()
    assert "Figures 5, 7, 8" in page and "data:image/png" in page
    capsys.readouterr()
    reproduction.run(made, tmp_path / "work", some, str(folder))
    assert "0 runs to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == files
