"""The benchmarks at toy size: both sides do the same work, and the files are complete."""

import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
import torch
import torch_reference
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import answer, baseline, data, machine, ours, people, report, speed, workloads
from benchmarks import case as cases
from configs import h36m, tiny
from data_pipelines import clips as clips_lib
from data_pipelines import layouts, penn, pipeline, synthetic
from ttp_jax import geometry, ttp
from ttp_jax.models import pose
from ttp_jax.models.encoders import resnet
from ttp_jax.models.pose import PoseNet
from ttp_jax.paper.records import RunSpec
from ttp_jax.runs import base_model, experiment
from ttp_jax.runs.batch import Runner
from ttp_jax.skeletons import SKELETONS

ROOT = pathlib.Path(__file__).parents[1]
TOY = cases.Size(
    name="toy",
    title="for tests",
    network={
        "num_joints": 4,
        "num_maps": 6,
        "depth": 10,
        "width": 8,
        "feature_dim": 16,
        "upsamplings": 1,
        "heads": 2,
        "ffn_dim": 32,
        "appearance_widths": (8,),
        "keypoint_widths": (8,),
        "code_kernel": 3,
        "logit_scale": 2.0,
    },
    image_size=32,
    picture_size=40,
    levels=1,
    train_batch=3,
    ttp_batch=2,
    vgg_width=4,
)
AMOUNTS = workloads.Amounts(online=2, forms=True, offline=3, each=2, subjects=(2,), pairs=2)
GROUPS = tuple(name for name in workloads.NAMES if name != "offline")  # 10 s, in a slow test
PLAIN = {"channels_last": False, "compiles": False}


@pytest.fixture(scope="module", autouse=True)
def small():
    """A trunk of one block on both sides; torch on one thread, which suits the size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGES, 10, (1, 0, 0, 0))
        block, _ = torch_reference.RESNET_STAGES[10]
        patch.setitem(torch_reference.RESNET_STAGES, 10, (block, (1, 0, 0, 0)))
        yield
    torch.set_num_threads(threads)


def options(**changes):
    return {
        "seed": 0,
        "minutes": 5,
        "most": 2,
        "compiles": False,
        "peak_sizes": (64,),
        "path": None,
        "command": "python -m benchmarks.speed",
        **changes,
    }


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """A run at toy size, without pauses: the report, the file, the printed text."""
    path = tmp_path_factory.mktemp("speed") / "speed.json"
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "PAUSE", 0.0)
        # The other strategy differs by a word and takes 10 s to compile; test_ttp.py compares it.
        patch.setattr(workloads, "STRATEGIES", ("map",))
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(words)))
        result = speed.run({"toy": (TOY, AMOUNTS)}, GROUPS, ("float32",), **options(path=path))
    return result, path, "\n".join(lines)


def test_importing_it_loads_no_tensorflow():
    heavy = ("tensorflow", "clu", "ml_collections", "data_pipelines", "cv2", "matplotlib")
    code = f"import sys, benchmarks.speed; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=120, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("size, config", [(cases.TINY, tiny), (cases.R18, h36m)])
def test_the_sizes_are_the_configs(size, config):
    c = config.get_config()
    joints = SKELETONS[c.data.skeleton].size
    assert PoseNet(**size.network) == pose.from_config(c.model, joints)
    assert (size.image_size, size.levels) == (c.model.image_size, c.loss.levels)
    assert (size.train_batch, size.ttp_batch) == (c.train.batch_size, c.ttp.batch_size)
    assert size.vgg_width == 64


@pytest.mark.slow
def test_both_sides_do_the_same_work(finished):
    result, _, _ = finished
    rows = {(row["work"], row["side"]): row for row in result["rows"]}
    assert all(row["missing"] is None for row in result["rows"])
    # The losses' first values, after two or three updates but for the first line; a training
    # step's is the reconstruction, as the other loss depends on dropout.
    pairs = [
        (("train", "ours"), ("train", workloads.EAGER), 1e-4),
        (("train", "ours"), ("train", f"{workloads.EAGER}, NHWC"), 1e-4),
        (("online", "ours"), ("online", workloads.EAGER), 1e-3),
        (("subjects", workloads.SOLO), ("subjects", workloads.EAGER), 1e-3),
        (("subjects", workloads.SOLO), ("subjects", "ours, map over 2"), 1e-3),
        (("inference", "ours"), ("inference", workloads.EAGER), 1e-4),
    ]
    for one, other, tolerance in pairs:
        values = [rows[key]["first_figure"] for key in (one, other)]
        print(one, other, values, values[1] / values[0] - 1)
        assert values[1] == pytest.approx(values[0], rel=tolerance), (one, other)
    assert rows["online", workloads.PUBLISHED]["first_figure"] is None
    # The published list has three passes where ours has one, and more losses.
    published = rows["online", workloads.PUBLISHED]["flops_per_part"]
    assert 1.3 < published / rows["online", workloads.EAGER]["flops_per_part"] < 3


@pytest.mark.slow
def test_pairs_and_predictions_are_those_of_ttp():
    case = cases.prepare(TOY, "float32", 1, 3)
    draws = cases.torch_draws(case, "online")
    network = baseline.Network(case, adapts=True, **PLAIN)
    tools, key = case.tools("online"), jax.random.key(0)
    for draw in draws:
        places = (jnp.asarray(place.numpy()) for place in (draw.targets, draw.sources))
        affines = geometry.invert_affine(jnp.asarray(draw.to_picture.numpy()))
        for place, torchs in zip(places, network.pair(draw), strict=True):
            mine = ttp.cut(case.video, place, affines, tools.settings)
            np.testing.assert_allclose(mine, torchs.permute(0, 2, 3, 1), atol=2e-3)
    begin = ttp.start(case.base, key, tools=tools, capacity=1, shape=case.video.pictures.shape[1:3])
    _, (joints, peaks) = ttp.predict_frames(begin, case.base, case.video, tools=tools)
    baseline_joints, baseline_peaks = network.predict(network.pair(draws[0])[0][:1])
    np.testing.assert_allclose(peaks[0], baseline_peaks[0], rtol=1e-4)
    # Heatmap to crop to picture; ours adds a quarter of a heatmap pixel, that is 1.1 here.
    affine = draws[0].to_picture[0].numpy()
    positions = baseline_joints[0].numpy() * 2 @ affine[:, :2].T + affine[:, 2]
    assert np.abs(joints[0] - positions).max() < 1.7


@pytest.mark.slow
def test_every_line_is_whole(finished):
    result, path, printed = finished
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert result["complete"] and result["features"] == {"toy": "random weights of VGG-16's shapes"}
    assert set(result["machine"]["versions"]) >= {"jax", "torch", "python"}
    assert {row["work"] for row in result["rows"]} == set(GROUPS)
    for row in result["rows"]:
        assert len(row["seconds"]) == len(row["cpu_seconds"]) == 2
        assert row["flops_per_part"] > 0
        found = report.rates(row, result["rows"], result["peaks"])
        assert found["low"] <= found["median"] <= found["high"]
        assert found["relative"] > 0 and found["share"] > 0
        own = row["side"].startswith("ours")
        assert (row["compile_seconds"] is not None) == own == (row["planned_bytes"] is not None)
        assert f"| {row['side']} " in printed
    baselines = [row for row in result["rows"] if row["side"] == row["baseline"]]
    assert len(baselines) == 5
    for row in baselines:
        assert report.rates(row, result["rows"], result["peaks"])["relative"] == pytest.approx(1)


@pytest.mark.slow
def test_the_page_and_the_plot(finished, tmp_path):
    result, _, _ = finished
    page = report.page(result)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == len(result["rows"]) + 2
    assert {line.count("|") for line in table} == {len(report.COLUMNS) + 1}
    assert "INTERRUPTED" not in page and "seed 0" in page
    assert "nan" not in page and "None" not in page
    assert "INTERRUPTED" in report.page({**result, "complete": False})
    report.plot(result, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


# --- What can't be run ---------------------------------------------------------------------------


def fake_entries(*runs):
    return [
        workloads.Entry(f"side {i}", parts, lambda run=run: cases.Side(run))
        for i, (parts, run) in enumerate(runs)
    ]


def measured(monkeypatch, *runs, minutes=1.0):
    monkeypatch.setattr(speed, "PAUSE", 0.0)
    case = type("Case", (), {"size": TOY, "precision": "float32"})
    work = workloads.Workload(
        "train", "work", "ms/step", "side 0", lambda case: fake_entries(*runs)
    )
    return speed.measure(case, work, speed.Clock(minutes), 0.0, 3)


def test_a_side_that_fails_is_listed_with_its_reason(monkeypatch):
    def broken():
        raise RuntimeError("no\ncompiler")

    good, bad = measured(monkeypatch, (1, lambda: 1.0), (1, broken))
    assert good["missing"] is None and len(good["seconds"]) == 2
    assert bad["missing"] == "no compiler" and not bad["seconds"]
    printed = report.line(bad, [good, bad], {}, first=True)
    assert "not available: no compiler" in printed
    assert printed.count("|") == len(report.COLUMNS) + 1


def test_a_side_that_fails_later_has_no_timings(monkeypatch):
    left = [1.0, 1.0]
    good, bad = measured(monkeypatch, (1, lambda: 1.0), (1, left.pop))
    assert len(good["seconds"]) == 2 and not bad["seconds"]
    assert bad["missing"] == "pop from empty list"


def test_what_takes_too_long_is_not_started(monkeypatch):
    started = []

    def quick():
        time.sleep(0.05)
        return 1.0

    def many():
        started.append(1)
        return 1.0

    rows = measured(monkeypatch, (1, quick), (1000, many), minutes=0.02)
    assert not started and rows[1]["missing"].startswith("would take about")
    assert rows[0]["seconds"]
    late = measured(monkeypatch, (1, lambda: 1.0), minutes=0.0)
    assert late[0]["missing"] == "no time left (--minutes)"


def test_a_program_that_needs_more_memory_than_there_is_is_not_run(monkeypatch):
    case = type("Case", (), {"precision": "float32"})
    monkeypatch.setattr(machine, "free_bytes", lambda: 10)
    with pytest.raises(ours.DoesNotFit, match=r"needs 0\.0 GiB"):
        ours.compiled(case, lambda x: x + 1, jax.numpy.ones(100))


def test_an_interrupted_run_keeps_what_is_done(monkeypatch, tmp_path, capsys):
    done = []

    def measure(case, work, clock, seconds, most):
        if done:
            raise KeyboardInterrupt
        done.append(work)
        return [speed.blank_row(case, work, workloads.Entry("ours", 1, lambda: None))]

    monkeypatch.setattr(speed, "measure", measure)
    case = type("Case", (), {"size": TOY, "precision": "float32", "features": "none"})
    monkeypatch.setattr(speed, "prepare", lambda *_: case)
    path = tmp_path / "speed.json"
    speed.run({"toy": (TOY, AMOUNTS)}, ("train", "online"), ("float32",), **options(path=path))
    kept = json.loads(path.read_text())
    assert len(kept["rows"]) == 1 and not kept["complete"]
    assert "INTERRUPTED" in capsys.readouterr().out


def test_the_command_line():
    chosen = speed.arguments(["--quick", "--only", "train,online", "--subjects", "4,16"])
    assert chosen.quick and chosen.only == ("train", "online") and chosen.subjects == (4, 16)
    with pytest.raises(SystemExit):
        speed.arguments(["--only", "training"])


# --- What is counted -----------------------------------------------------------------------------


def test_operations_are_those_of_the_convolutions():
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    with FlopCounterMode(display=False) as counter:
        conv(torch.ones(2, 3, 8, 8, requires_grad=True)).sum().backward()
    # Forward, and backward to the pictures and to the kernel; a multiplication and an addition.
    assert counter.get_total_flops() == 3 * 2 * (2 * 8 * 8) * 5 * (3 * 9)


def test_memory_of_a_call_is_its_peak():
    with machine.MemoryOfCall(ours=False) as memory:
        np.ones(30_000_000).sum()
    if memory.bytes is None:
        pytest.skip("the kernel doesn't tell")
    assert math.isclose(memory.bytes, 240e6, rel_tol=0.2)


@pytest.mark.slow
def test_torch_compile_does_the_same_work():
    case = cases.prepare(TOY, "float32", 0, 2)
    plain = baseline.online(case, **PLAIN)
    compiled = baseline.online(case, channels_last=False, compiles=True)
    assert compiled.run() == pytest.approx(plain.run(), rel=1e-3)


@pytest.mark.slow
def test_both_sides_do_the_same_offline_work():
    case = cases.prepare(TOY, "float32", 0, 3)
    assert ours.offline(case).run() == pytest.approx(
        baseline.offline(case, **PLAIN).run(), rel=1e-3
    )


# --- The data pipeline ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered_clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("people") / "penn"
    spec = synthetic.Spec(image_size=64, train=2, val=0, test=0, train_frames=4, preset="plain")
    layouts.write_penn(root, spec)
    return penn.clips(root)


def test_both_streams_do_the_same_work(rendered_clips):
    ours = next(iter(data.our_batches(rendered_clips, 1)))
    theirs = next(data.their_batches(rendered_clips, 1, workers=0))
    for mine, other in zip(ours.values(), theirs, strict=True):
        assert mine.shape == tuple(other.shape)
        assert str(mine.dtype) == str(other.dtype).removeprefix("torch.")
    # The targets of the loop with patches are those of the stream.
    rng = np.random.default_rng(0)
    joints, visible = rng.uniform(-40, 170, (13, 2)), rng.random(13) > 0.2
    maps, weights = data.Pairs._targets(joints, visible)
    sizes = {"image_size": data.SIZE, "heatmap_size": data.MAPS, "sigma": data.SIGMA}
    wanted_maps, wanted_weights = pipeline.heatmaps_of(joints, visible, **sizes)
    np.testing.assert_allclose(maps, wanted_maps, atol=1e-6)
    np.testing.assert_array_equal(weights, wanted_weights)
    assert 0 < weights.sum() < 13


def test_rates_of_both_streams_are_a_table(rendered_clips):
    rates = data.measure(rendered_clips, batches=2, repeats=2, workers=[0])
    assert list(rates) == [data.OURS, "DataLoader, 0 workers"]
    assert all(len(values) == 2 and min(values) > 0 for values in rates.values())
    about = machine.describe() | {"what": "test", "frames": 8, "pixels": "64x64"}
    lines = data.table({data.OURS: [300.0, 100.0, 200.0], "DataLoader, 0 workers": [100.0]}, about)
    assert "| ours (tf.data) | 200 (100 to 300) | 2.00 |" in lines


@pytest.mark.slow  # it compiles a network
def test_each_person_is_scored_with_a_model_of_its_own():
    made = experiment.build(small_run.get_config())
    pictures = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8)
    boxes = np.tile(np.float32([0, 0, 40, 40]), (4, 1))
    clip = clips_lib.Clip("a", "a", "test", 4, lambda i: pictures[i], boxes)
    one = base_model.untrained(made, np.ones(1, np.float32))
    two = base_model.untrained(made.changed({"seed": 1}), np.ones(1, np.float32))
    right = Runner(made, one, "none").one(clip).joints
    labelled = dataclasses.replace(clip, joints=right, visible=np.ones(right.shape[:2], bool))
    found = people.scores(made, [one, two], [labelled, labelled])
    own, other = (score.mean for score in found["PCK@0.2"])
    assert own == 100 > other


def test_the_page_that_answers_whether_to_adapt_says_what_the_records_say():
    docs = ROOT / "docs"
    finders = {data.folder: answer.finder(docs / "results" / data.folder) for data in answer.SETS}
    page = (docs / "benchmark.md").read_text()
    again = answer.with_tables(page, lambda data: finders[data.folder])
    assert page == again, "python -m benchmarks.answer docs"


def test_a_cell_of_other_seeds_than_the_networks_names_them(tmp_path):
    """Also that of the network trained on labels alone."""
    cells = ROOT / "docs/results/cells"
    for name in (f"{run}-????????" for run in ("transformer-*-none", "baseline-seed[01]-none")):
        for record in cells.glob(f"{name}.json"):
            (tmp_path / record.name).write_bytes(record.read_bytes())
    for record in cells.glob("transformer-seed[12]-online-????????.json"):
        (tmp_path / record.name).write_bytes(record.read_bytes())
    (data,) = (each for each in answer.SETS if each.folder == "cells")
    row = answer.row(data, lambda _: answer.finder(tmp_path))
    assert row is not None and row[1].endswith("; seeds 0, 1") and "seed" not in row[2]
    assert row[3 + [name for name, _, _ in answer.WAYS].index("TTP online")].endswith(
        "; seeds 1, 2"
    )


def test_two_records_of_one_run_are_not_chosen_from(tmp_path):
    docs = ROOT / "docs"
    (record,) = (docs / "results/cells").glob("transformer-seed0-none-????????.json")
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_bytes(record.read_bytes())
    find = answer.finder(tmp_path)
    assert find(RunSpec("transformer", "online")) is None
    with pytest.raises(ValueError, match="several records of transformer-seed0-none: keep one"):
        find(RunSpec("transformer", "none"))
