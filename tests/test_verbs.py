"""The commands of main.py, from data on disk to tables, with a tiny network."""

import dataclasses
import importlib
import itertools
import json
import logging
import pathlib
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import reference
import small_run
from PIL import Image

from data_pipelines import clips as clips_lib
from data_pipelines import locate, synthetic
from ttp_jax import losses, ranges, visualize
from ttp_jax.checkpoint import Checkpoints
from ttp_jax.files import only_one
from ttp_jax.models.encoders import resnet
from ttp_jax.runs import (
    base_model,
    boxes,
    diagnostics,
    experiment,
    identity,
    results,
    sources,
    training,
)
from ttp_jax.runs.batch import Runner
from ttp_jax.state import NotFinite, Stage
from ttp_jax.verbs import evaluate, info, personalize, predict

ROOT = pathlib.Path(__file__).parents[1]
RESNET18 = resnet.STAGES[18]


# The command line's flags.
MADE = {"formats": None, "smooth": None, "keypoints": None, "labels": None, "labels_first": 0}
MANY = {"overwrite": False, "joints_only": True, "strategy": None, "devices": None, **MADE}
PREDICT = predict.Options(person=None, **MANY)


def personalized(config, workdir, scenario="online") -> int:
    """Run `personalize`; return its exit code."""
    options = personalize.Options(scenario=scenario, keep=None, camera=None, stdin=False, **MANY)
    return personalize.run(experiment.build(config), workdir, options)


def train(config, workdir):
    """Train to the end; return the last state."""
    return training.train(experiment.build(config), workdir)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Folder of the rendered people, shared by the tests of this file."""
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture
def whole_trunk(monkeypatch):
    """ResNet-18 as it is, whatever `shallow` made of it for the other tests of this file."""
    monkeypatch.setitem(resnet.STAGES, 18, RESNET18)


@pytest.fixture
def config(rendered, shallow):
    """configs/tiny.py, made small enough for a test; levels=0 needs no VGG convolutions."""
    c = importlib.import_module("configs.tiny").get_config()
    c.data.root = str(rendered)
    c.data.train, c.data.val, c.data.test = 6, 1, 2
    c.data.train_frames, c.data.eval_frames, c.data.image_size = 4, 10, 40
    small_run.shrink(c)
    small_run.cut(c)
    c.train.batch_size = 4
    c.train.stages = ((4, 1e-3, 0.0, "cosine"), (4, 1e-3, 1e-3, "constant"))
    c.train.log_every, c.train.checkpoint_every = 2, 4
    c.eval.probe_frames, c.eval.pictures = 8, 1
    return c


@pytest.fixture(scope="module")
def trained(rendered, shallow, tmp_path_factory):
    """Workdir of one finished training, not to be changed."""
    workdir = tmp_path_factory.mktemp("trained")
    training.train(experiment.build(config.__wrapped__(rendered, shallow)), workdir)
    return workdir


def copy_of(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "work"))


def loaded(config, workdir):
    """The experiment of a config, its model, its test people."""
    made = experiment.build(config)
    base, _ = base_model.load_base(made, workdir)
    return made, base, sources.load_clips(made.data, "test")


def leaves_equal(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_the_whole_path_from_training_to_the_table(config, trained, tmp_path, capsys):
    workdir, made = copy_of(trained, tmp_path), experiment.build(config)
    for scenario in ("online", "offline"):
        assert personalized(config, workdir, scenario) == 0
    assert predict.run(made, workdir, PREDICT) == 0
    assert evaluate.run(made, workdir, None) == 0
    report = json.loads((workdir / "evaluation.json").read_text())
    assert list(report["rows"]) == [
        "mean training pose", "untrained network", "without TTP", "TTP online", "TTP offline",
    ]  # fmt: skip
    assert {"test", "training"} == set(report["bottleneck"]) == set(report["verdict"])
    for name, folder in (("TTP online", "online"), ("TTP offline", "offline")):
        assert report["rows"][name]["PCK@0.2"]["per_subject"] == pytest.approx(
            scored_by_hand(made, workdir / "results" / folder)
        )
    assert all({"own", "other", "copy"} == set(e) for e in report["bottleneck"].values())
    printed = capsys.readouterr().out
    assert "PCK@0.2" in printed and "ottleneck" in printed
    lines = (workdir / "results/online/test-00000.csv").read_text().splitlines()
    assert len(lines) == 1 + config.data.eval_frames
    for name in ("test-00000.png", "test-00000_overlay.png"):
        assert (workdir / "results/online" / name).exists()
    assert (workdir / "history.png").exists()
    assert list((workdir / "tensorboard").iterdir())


def scored_by_hand(made, folder):
    """PCK@0.2 of each person's table."""
    skeleton, scores = made.skeleton, []
    for clip in sources.load_clips(made.data, "test"):
        table = np.genfromtxt(folder / f"{clip.name}.csv", delimiter=",", names=True)
        joints = np.stack([[table[f"{j}_x"], table[f"{j}_y"]] for j in skeleton.joints])
        found = np.moveaxis(joints, -1, 0)
        scores.append(reference.pck(found, clip.joints, clip.visible, skeleton.torso, 0.2))
    return scores


def test_personalization_never_sees_a_label(config, trained, tmp_path, monkeypatch):
    def results(name, strip):
        workdir = copy_of(trained, tmp_path / name)
        if strip:
            load = sources.load_clips
            monkeypatch.setattr(
                sources,
                "load_clips",
                lambda *args: [clip.without_labels() for clip in load(*args)],
            )
        for scenario in ("online", "offline"):
            assert personalized(config, workdir, scenario) == 0
        return [p.read_bytes() for p in sorted(workdir.glob("results/*/*.csv"))]

    with_labels, without = results("with", False), results("without", True)
    assert len(with_labels) == 4
    assert with_labels == without


@pytest.mark.slow
def test_a_stopped_and_resumed_training_equals_an_uninterrupted_one(
    config, trained, tmp_path, monkeypatch
):
    class Stop(Exception):
        pass

    save = Checkpoints.save

    def save_then_stop(self, state):
        save(self, state)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_then_stop)
        with pytest.raises(Stop):
            train(config, tmp_path)
    resumed = train(config, tmp_path)
    whole = training.train(
        experiment.build(config), trained
    )  # finished: restores the last checkpoint
    assert int(resumed.step) == int(whole.step) == 8
    assert leaves_equal(resumed, whole)
    histories = [json.loads((place / "history.json").read_text()) for place in (tmp_path, trained)]
    for record in itertools.chain(*histories):
        record.pop("pictures_per_second", None)
    assert histories[0] == histories[1]
    assert [record["step"] for record in histories[0] if "loss" in record][-1] == 8


@pytest.mark.slow
def test_a_finished_training_is_extended(config, trained, tmp_path):
    workdir = copy_of(trained, tmp_path)
    config.train.stages = (*config.train.stages, (2, 5e-4, 1e-3, "constant"))
    with pytest.raises(ValueError, match="training with other settings .*use --extend"):
        train(config, workdir)
    state = training.train(experiment.build(config), workdir, extend=True)
    assert int(state.step) == 10
    history = json.loads((workdir / "history.json").read_text())
    rates = {record["step"]: record["learning_rate"] for record in history if "loss" in record}
    assert list(rates) == [2, 4, 6, 8, 10] and rates[10] == pytest.approx(5e-4)
    assert all(record["pictures_per_second"] > 0 for record in history if "loss" in record)
    assert [r["step"] for r in history if "val_score" in r] == [4, 8, 10]
    assert (workdir / "figure5.png").exists()
    config.train.stages = ((4, 2e-3, 0.0, "cosine"), *config.train.stages[1:])
    with pytest.raises(ValueError, match="--extend: .* change update 1, but"):
        training.train(experiment.build(config), workdir, extend=True)


@pytest.mark.slow
def test_nan_stops_the_run_names_the_step_and_keeps_the_checkpoint(config, tmp_path):
    made, good = experiment.build(config), Stage(4, 1e-3, 0.0, "constant")

    def run_away(steps):
        stages = good, Stage(steps, float("nan"), 0.0, "constant")  # which no config may have
        return training.train(dataclasses.replace(made, stages=stages), tmp_path)

    with pytest.raises(NotFinite, match="step 6 is nan"):  # step 5 writes NaN, step 6 sees it
        run_away(4)
    assert Checkpoints(tmp_path / "checkpoints").latest_step() == 4
    # The last update of all: no later loss would tell of it.
    with pytest.raises(NotFinite, match="weights after step 5"):
        run_away(1)
    assert Checkpoints(tmp_path / "checkpoints").latest_step() == 4


def test_personalization_that_runs_away_is_no_result(
    config, trained, tmp_path, monkeypatch, capsys
):
    # A rate that no user can give: those that they can don't run away in a few updates.
    monkeypatch.setitem(ranges.TABLE["ttp"], "learning_rate", ranges.number(0, 1e38))
    workdir, config.ttp.learning_rate = copy_of(trained, tmp_path), 1e30
    assert personalized(config, workdir) == 1
    said = capsys.readouterr().out
    assert "FAILED test-00000: personalization diverged to NaN" in said and "test-00001" in said
    assert not list(workdir.glob("results/online/*.npz"))


def test_finished_subjects_are_skipped(config, trained, tmp_path, capsys):
    workdir = copy_of(trained, tmp_path)
    personalized(config, workdir)
    first = workdir / "results/online/test-00000.npz"
    (workdir / "results/online/test-00001.npz").unlink()
    before = first.stat().st_mtime_ns
    personalized(config, workdir)
    assert "1 of 2 subjects are done already" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == before
    assert (workdir / "results/online/test-00001.npz").exists()


@pytest.mark.slow
def test_results_of_other_settings_are_not_mixed_in(config, trained, tmp_path, capsys):
    workdir = copy_of(trained, tmp_path)
    personalized(config, workdir)
    first = workdir / "results/online/test-00000.csv"
    before = first.read_bytes()
    config.ttp.learning_rate = 1e-2
    evaluate.run(experiment.build(config), workdir, None)
    printed = capsys.readouterr().out
    assert "left out" in printed and "TTP online" not in printed
    personalized(config, workdir)
    assert "done already" not in capsys.readouterr().out
    assert first.read_bytes() != before
    assert (workdir / "results/online.old1/test-00000.csv").read_bytes() == before


def test_a_bad_subject_is_named_and_the_others_finish(
    config, trained, tmp_path, monkeypatch, capsys
):
    workdir, load = copy_of(trained, tmp_path), sources.load_clips

    def unreadable(index):
        raise clips_lib.FrameError(f"frame {index} of the bad video can't be read")

    def broken(*args):
        clips = load(*args)
        return [dataclasses.replace(clips[0], read=unreadable), *clips[1:]]

    monkeypatch.setattr(sources, "load_clips", broken)
    assert personalized(config, workdir) == 1
    printed = capsys.readouterr().out
    assert "FAILED test-00000" in printed and "bad video" in printed
    assert (workdir / "results/online/test-00001.npz").exists()


@pytest.mark.slow
def test_each_program_is_compiled_once(config, trained, caplog):
    config.ttp.learning_rate = 2e-4  # no other test has compiled these
    made, base, clips = loaded(config, trained)  # of more than one chunk of frames each
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for scenario in ("online", "offline"):
            runner = Runner(made, base, scenario)
            for clip in clips:
                runner.one(clip)
    compiled = [m for m in caplog.messages if m.startswith("Finished XLA compilation")]
    # Online; watch, adapt and predict of offline; each lifted to many subjects.
    assert sum("jit(lifted)" in m for m in compiled) == 4, compiled


@pytest.mark.parametrize("scenario", ["online", pytest.param("offline", marks=pytest.mark.slow)])
def test_frames_that_are_held_out_are_predicted_and_not_learned_from(config, trained, scenario):
    config.ttp.held_out = 3
    made, base, (clip, *_) = loaded(config, trained)

    def read(index):
        return 255 - clip.read(index) if index % 3 == 2 else clip.read(index)

    runner = Runner(made, base, scenario)
    one, other = runner.one(clip), runner.one(dataclasses.replace(clip, read=read))
    jax.tree.map(np.testing.assert_array_equal, one.adaptation.delta, other.adaptation.delta)
    learned = np.arange(clip.num_frames) % 3 != 2
    np.testing.assert_array_equal(one.joints[learned], other.joints[learned])
    assert np.isfinite(one.joints).all() and (one.joints[~learned] != other.joints[~learned]).any()
    assert int(one.adaptation.step) == learned.sum()
    found = runner.variables(one), one.joints
    told = diagnostics.before_and_after(made, base, one.frames, found)
    assert set(told) >= {"held-out reconstruction"} and "reconstruction" not in told


def test_results_do_not_depend_on_who_else_is_personalized(config, trained, tmp_path):
    made, base, clips = loaded(config, copy_of(trained, tmp_path))
    together = Runner(made, base, "online")
    together.one(clips[0])
    alone = Runner(made, base, "online")
    np.testing.assert_array_equal(together.one(clips[1]).joints, alone.one(clips[1]).joints)


@pytest.mark.slow
def test_subjects_side_by_side_get_what_they_get_alone(config, trained):
    """Two lengths and a broken subject, in pairs: the same joints, every subject once."""
    config.data.test, config.data.eval_frames = 5, 8
    made, base, clips = loaded(config, trained)
    clips[1] = dataclasses.replace(clips[1], num_frames=7, **first_rows(clips[1], 7))
    clips[2] = dataclasses.replace(clips[2], read=broken)
    pairs, solo = (made.changed({"ttp.together": count}) for count in (2, 1))
    for scenario in ("online", "none"):
        found = {c.name: result for c, result in Runner(pairs, base, scenario).many(clips)}
        assert set(found) == {clip.name for clip in clips}
        assert isinstance(found.pop(clips[2].name), clips_lib.FrameError)
        alone = Runner(solo, base, scenario)
        for clip in clips:
            if clip.name in found:
                joints, one = found[clip.name].joints, alone.one(clip)
                assert joints.shape == (clip.num_frames, 13, 2)
                np.testing.assert_allclose(
                    found[clip.name].confidence, one.confidence, rtol=0.01, atol=1e-5
                )
                # Where a peak's two neighbours are alike, the last bit says to which side of it
                # the joint lies: 1 of 208 numbers was seen to change sides.
                same = np.isclose(joints, one.joints, atol=0.05)
                assert same.mean() > 0.98


def test_groups_that_do_not_fit_into_the_memory_are_halved(config, trained, monkeypatch, capsys):
    config.data.test, config.ttp.together = 3, 4
    made, base, clips = loaded(config, trained)
    runner, sizes = Runner(made, base, "none"), []

    def small(name, subjects, *rest, compiled=runner._planner.program):
        def fail(base, vgg, subjects, frames):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

        side_by_side = len(subjects.frame) > 1
        return fail if side_by_side else compiled(name, subjects, *rest)

    def run(group, *rest, run=runner._run):
        sizes.append(len(group))
        return run(group, *rest)

    monkeypatch.setattr(runner._planner, "program", small)  # fails when the frames have been read
    monkeypatch.setattr(runner, "_run", run)
    found = {clip.name: result for clip, result in runner.many(clips)}
    assert sizes == [3, 1, 2, 1, 1]
    assert "don't fit into the memory" in capsys.readouterr().out
    for clip, alone in Runner(made.changed({"ttp.together": 1}), base, "none").many(clips):
        np.testing.assert_array_equal(found[clip.name].joints, alone.joints)
        assert found[clip.name].inputs == alone.inputs  # each frame counts once


def first_rows(clip, count):
    return {name: getattr(clip, name)[:count] for name in ("boxes", "joints", "visible")}


def broken(index):
    raise clips_lib.FrameError(f"picture {index} can't be read")


def test_one_frame_is_only_predicted_and_said_so(config, trained, capsys):
    made, base, (clip, *_) = loaded(config, trained)
    clip = dataclasses.replace(clip, num_frames=1, **first_rows(clip, 1))
    joints = [Runner(made, base, scenario).one(clip).joints for scenario in ("online", "none")]
    assert (
        "has one frame, but personalization needs two: predicted without it"
        in capsys.readouterr().out
    )
    np.testing.assert_array_equal(*joints)


def test_carried_state_makes_the_order_matter(config, trained, tmp_path):
    config.ttp.reset = "never"
    made, base, clips = loaded(config, copy_of(trained, tmp_path))
    runner = Runner(made, base, "online")
    steps = [int(runner.one(clip).adaptation.step) for clip in clips]
    assert steps == [10, 20]


@pytest.mark.slow
def test_carried_normalisers_are_those_of_the_person_before(config, trained, tmp_path):
    made, base, clips = loaded(config, copy_of(trained, tmp_path))

    def normalisers(how):
        runner = Runner(made.changed({"ttp.normalisers": how}), base, "online")
        return [np.asarray(runner.one(clip).adaptation.normalisers) for clip in clips]

    (first, second), (same, other) = normalisers("reset"), normalisers("carried")
    np.testing.assert_array_equal(first, same)
    # Running means: what the second person began with is still a part of what they are at the end.
    # Another start changes the updates a little, and the errors with them: hence the tolerance.
    left = (1 - losses.MOMENTUM) ** clips[1].num_frames
    np.testing.assert_allclose(other - second, left * (first - base.normalisers), rtol=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.init": ""}, "config.model.init"),
        ({"model.init": "missing.pth"}, "--config.model.init=random"),
        ({"loss.features": "missing.pth"}, "--config.loss.features=hed"),
        ({"data.source": "penn", "data.root": "nowhere"}, "--config.data.root"),
        ({"data.source": "nothing"}, "penn, h36m, bbc_pose"),
        ({"model.method": "magic"}, "transformer"),
        ({"data.preset": "magic"}, "shifted"),
    ],
)
def test_bad_configs_say_what_to_do(config, tmp_path, change, words):
    config.update_from_flattened_dict(change)
    with pytest.raises((ValueError, OSError)) as error:
        train(config, tmp_path)
    assert words in str(error.value)


def test_a_training_of_other_settings_is_not_gone_on_with(config, trained, tmp_path):
    workdir = copy_of(trained, tmp_path)
    config.seed += 1
    with pytest.raises(ValueError, match="training with other settings .seed: 0 -> 1.: choose"):
        train(config, workdir)
    (workdir / "config.json").unlink()
    assert int(train(config, workdir).step) == 8


def test_one_command_at_a_time_writes_a_folder(config, trained, tmp_path):
    workdir = copy_of(trained, tmp_path)
    with (
        only_one(workdir / "results/online"),
        pytest.raises(ValueError, match="another command is writing .*results/online: wait"),
    ):
        personalized(config, workdir)


def test_other_people_and_settings_of_the_same_name_are_not_done(config, trained, tmp_path, capsys):
    """A data set names its people alike, whatever they look like."""
    made, base, _ = loaded(config, trained)

    def clips():
        return clips_lib.by_subject(sources.load_clips(config.data, "test"))

    own, (clip, *_) = identity.protocol(made.config, base, "online"), clips()
    result = Runner(made, base, "none").one(clip)
    results.write_result(tmp_path, clip, result, made.skeleton)
    path = tmp_path / f"{clip.name}.npz"
    assert results.is_of(path, clip) and results.is_of(path, clips()[0])
    config.data.seed += 1
    assert clips()[0].name == clip.name and not results.is_of(path, clips()[0])
    for field, value in (("train.precision", "bfloat16"), ("model.logit_scale", 2.0)):
        part, name = field.split(".")
        config[part][name] = value
        assert identity.protocol(config, base, "online") != own, field
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"test-00000.npz can't be read"):
        results.read_results(tmp_path, [clip])


def test_a_checkpoint_of_other_shapes_is_refused(config, trained, tmp_path):
    config.model.feature_dim, workdir = 16, copy_of(trained, tmp_path)
    (workdir / "config.json").unlink()
    with pytest.raises(ValueError, match="Give the settings it was trained"):
        base_model.load_base(experiment.build(config), workdir)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("model", "logit_scale", 2.0), ("model", "color_order", "bgr"), ("loss", "features", "x.h5")],
)
def test_a_model_is_used_as_it_was_trained(config, trained, part, field, value):
    """All these have the shapes of the trained one."""
    config[part][field] = value
    with pytest.raises(
        ValueError, match=rf"config.{part}.{field} is {value}, but the model in .* has"
    ):
        base_model.load_base(experiment.build(config), trained)


def test_no_checkpoint_is_an_error_with_the_command(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python main\.py"):
        base_model.load_base(experiment.build(config), tmp_path)


@pytest.mark.parametrize(
    ("name", "count"),
    [("penn", 39_817_343), ("h36m", 21_195_135), ("bbc_pose", 21_192_831)],
)
def test_info_counts_the_papers_parameters(name, count, capsys, whole_trunk):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert info.run(experiment.build(config), pathlib.Path(), info.Options(data=False)) == 0
    assert f"{count:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "count"),
    [("penn", 33_998_669), ("h36m", 15_376_464), ("bbc_pose", 15_374_151)],
)
def test_info_counts_the_baselines_parameters(name, count, capsys, whole_trunk):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.model.method = "baseline"
    info.run(experiment.build(config), pathlib.Path(), info.Options(data=False))
    assert f"{count:,}" in capsys.readouterr().out


def test_tiny_is_small(capsys):
    config = importlib.import_module("configs.tiny").get_config()
    model = experiment.build(config).net
    picture = np.zeros((1, 64, 64, 3), np.float32)
    tree = jax.eval_shape(lambda: model.init(jax.random.key(0), picture, picture))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) < 3_000_000


def main_py(*args):
    command = [sys.executable, "main.py", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_info_of_data_counts_it_and_draws_training_pairs(config, tmp_path, capsys):
    assert info.run(experiment.build(config), tmp_path, info.Options(data=True)) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:4] for line in printed.splitlines() if line}
    assert rows["train"] == ["6", "6", "24"]
    assert rows["test"] == ["2", "2", "20"]
    with Image.open(tmp_path / "training_pairs.png") as sheet:
        assert min(sheet.size) > 3 * config.model.image_size


@pytest.fixture
def own_pictures(tmp_path):
    """Folder of two subjects: ten pictures, one of them cut off, and a video of four frames."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (10, 48, 64, 3), np.uint8)
    for i, picture in enumerate(pictures):
        visualize.save(tmp_path / "own" / "Ana María" / f"{i}.png", picture)
    cut = tmp_path / "own" / "Ana María" / "3.png"
    cut.write_bytes(cut.read_bytes()[:500])
    video = cv2.VideoWriter(
        str(tmp_path / "own" / "run.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)
    )
    for picture in pictures[:4]:
        video.write(picture)
    video.release()
    return tmp_path / "own"


@pytest.mark.filterwarnings("ignore:clip Ana")  # the cut-off picture is reported
def test_own_videos_and_pictures_are_personalized(config, trained, own_pictures, tmp_path):
    workdir = copy_of(trained, tmp_path)
    config.data.source, config.data.root = "media", str(own_pictures)
    config.data.refine = 1
    assert personalized(config, workdir) == 1  # one picture can't be read
    folder = workdir / "results" / "online"
    for name, count, unread in (("Ana María", 10, [3]), ("run", 4, [])):
        with np.load(folder / f"{name}.npz") as stored:
            joints = stored["joints"]
        assert joints.shape == (count, 13, 2)
        assert np.flatnonzero(np.isnan(joints).all((1, 2))).tolist() == unread
        rows = (folder / f"{name}.csv").read_text().splitlines()
        assert len(rows) == 1 + count


@pytest.mark.filterwarnings("ignore:clip Ana")
def test_refining_moves_the_boxes_towards_what_is_predicted(config, trained, own_pictures):
    config.data.source, config.data.root = "media", str(own_pictures)
    made, base, clips = loaded(config, trained)
    predictor = Runner(made, base, "none")
    predicted = predictor.one(clips[1]).joints
    refined = boxes.resolve(clips[1], predictor, made.changed({"data.refine": 1}).data)
    wanted = locate.boxes_from_joints(predicted, (48, 64), clips[1].boxes)
    np.testing.assert_array_equal(refined.boxes, wanted)
    assert np.abs(refined.boxes - clips[1].boxes).max() > 1


@pytest.mark.slow
def test_a_small_person_somewhere_in_the_picture_is_found(tmp_path):
    # The included model, and a person of a third of the picture's height before a wall.
    spec = synthetic.Spec(seed=27, image_size=96, test=1, eval_frames=24)
    film = synthetic.film(spec, "test", 0, synthetic.PENN13.joints)
    wall = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    wall = cv2.resize(wall, (500, 300), interpolation=cv2.INTER_CUBIC)
    video = cv2.VideoWriter(
        str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 12, (500, 300)
    )
    for frame in film.frames:
        wall[150:294, 60:204] = cv2.resize(frame, (144, 144), interpolation=cv2.INTER_CUBIC)
        video.write(wall[..., ::-1])
    video.release()
    config = importlib.import_module("configs.own").get_config()
    experiment.take_model(config)
    config.data.source, config.data.root = "media", str(tmp_path / "a.avi")
    config.data.fit = True  # the moving parts, arms and legs, are smaller than the person
    made = experiment.build(config)
    (clip,), (base, _) = sources.load_clips(made.data), base_model.load_base(made, tmp_path)
    predictor = Runner(made, base, "none")

    def error(places):
        joints = predictor.one(dataclasses.replace(clip, boxes=places)).joints
        truth = (film.points + 0.5) * 1.5 - 0.5 + [60, 150]
        return np.median(np.linalg.norm(joints - truth, axis=-1))

    assert error(clip.whole) > 100
    assert error(boxes.resolve(clip, predictor, made.data).boxes) < 8


def test_inputs_are_media_of_ones_own(own_pictures, tmp_path):
    words = f"info --config=configs/tiny.py --data --workdir={tmp_path}"
    done = main_py(*words.split(), f"--inputs={own_pictures}")
    assert done.returncode == 0, done.stderr
    assert f"media in {own_pictures}" in done.stdout
    assert (tmp_path / "crops.png").exists() and "whole frames are drawn" not in done.stdout
    done = main_py(*words.split(), f"--inputs={own_pictures}", "--config.data.boxes=moving")
    assert "whole frames are drawn, because info does not look for" in done.stdout


def test_help_of_a_verb_exits_with_0():
    done = main_py("personalize", "--help")
    assert done.returncode == 0 and "--scenario" in done.stdout


def test_an_unknown_verb_lists_the_verbs():
    done = main_py("persnalize")
    assert done.returncode == 2 and "personalize" in done.stderr


def test_a_missing_config_is_one_line():
    done = main_py("train", "--workdir=x")
    assert done.returncode == 2 and "--config=configs/tiny.py" in done.stderr


def test_missing_data_is_one_line_naming_layout_and_flag(tmp_path):
    done = main_py(
        "--config=configs/penn.py",
        f"--workdir={tmp_path}",
        "--config.model.init=random",
        f"--config.data.root={tmp_path}/nowhere",
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "frames" in done.stderr and "--config.data.root" in done.stderr
