"""A fault in one subject leaves the others alone; records name failed inputs, version, commit."""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess

import cv2
import jax
import numpy as np
import pytest
import small_run

import ttp_jax
from data_pipelines import media
from data_pipelines.clips import DataError
from ttp_jax import state
from ttp_jax.runs import (
    base_model,
    experiment,
    personal_report,
    personalization,
    provenance,
    sources,
)
from ttp_jax.runs.batch import Runner, TooLarge
from ttp_jax.runs.outcome import Outcome
from ttp_jax.runs.results import Result


@pytest.fixture(scope="module")
def people(tmp_path_factory, shallow):
    """An experiment, a base, and three people of 4 frames."""
    folder = tmp_path_factory.mktemp("people")
    config = small_run.cut(small_run.get_config())
    small_run.prepare(folder, lengths=(4, 4, 4), config=config)
    config.data.root, config.data.oversample = str(folder / "people"), 2.0
    made = experiment.build(config)
    base, _ = base_model.load_base(made, folder / "work")
    return made, base, sources.load_clips(made.data, "test")


@pytest.mark.parametrize(("field", "value"), [("reset", "never"), ("normalisers", "carried")])
def test_nothing_is_carried_from_a_subject_that_ran_away(people, field, value):
    made, base, clips = people
    made = made.changed({f"ttp.{field}": value})
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), base)
    runner, other = Runner(made, base, "online"), Runner(made, base, "online")
    runner.one(clips[0])
    runner.use(broken)
    with pytest.raises(state.NotFinite):
        runner.one(clips[1])
    runner.use(base)
    other.one(clips[0])
    found, wanted = runner.one(clips[2]), other.one(clips[2])
    np.testing.assert_array_equal(found.joints, wanted.joints)
    np.testing.assert_array_equal(found.confidence, wanted.confidence)
    alone = Runner(made, base, "online").one(clips[2]).adaptation
    carried = found.adaptation.normalisers, alone.normalisers
    assert (carried[0] != carried[1]).any()  # from the first


def test_a_subject_too_large_for_the_device_is_named_and_the_others_go_on(people):
    made, base, clips = people
    runner, calls = Runner(made, base, "online"), []

    def small(name, *rest, compiled=runner._planner.program):
        calls.append(name)
        if len(calls) == 1:
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."
            )
        return compiled(name, *rest)

    runner._planner.program = small
    (clip, error), *others = runner.many(clips)
    assert isinstance(error, TooLarge) and str(error).startswith(f"{clip.name} alone doesn't fit")
    assert "config.ttp.batch_size (4) or config.ttp.memory" in str(error)
    assert len(others) == 2 and all(isinstance(result, Result) for _, result in others)


def test_the_commit_of_another_project_around_us_is_not_ours(tmp_path):
    assert provenance.commit_of(tmp_path) is None
    inside = tmp_path / ".venv/lib/site-packages"
    inside.mkdir(parents=True)
    (tmp_path / "a.txt").write_text("a")
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (["init", "-q"], ["add", "a.txt"], ["commit", "-qm", "A file"]):
        subprocess.run([*git, *words], check=True)
    commit = provenance.commit_of(tmp_path)
    assert commit is not None and len(commit) == 12
    assert provenance.commit_of(inside) is None
    (tmp_path / "a.txt").write_text("b")
    assert provenance.commit_of(tmp_path) == f"{commit}+"


def test_a_record_names_the_program_s_version():
    assert provenance.made_with()["ttp_jax"] == ttp_jax.__version__


@pytest.mark.parametrize("boxes", ["whole", "people"])
def test_pictures_that_can_t_be_read_fail_the_run_by_name(tmp_path, people, capsys, boxes):
    made, *_ = people
    folder = tmp_path / "people/anna"
    folder.mkdir(parents=True)
    for t in range(6):
        picture = cv2.resize(
            np.random.default_rng(t).integers(0, 256, (6, 6, 3), np.uint8), (60, 50)
        )
        cv2.imwrite(str(folder / f"{t}.png"), picture)
    (folder / "2.png").write_bytes(b"")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:200])
    own = made.changed({"data.root": str(folder), "data.boxes": boxes})
    work = pathlib.Path(made.data.root).parent / "work"
    results = tmp_path / "results"

    def run(**options):
        with pytest.warns(UserWarning) if options.pop("new", False) else contextlib.nullcontext():
            chosen = personalization.RunOptions(scenario="none", **options)
            return personalization.run(own, work, chosen, results)

    words = "2 of its 6 pictures can't be read (2.png, 4.png); the others are done."
    assert run(new=True) == 1
    assert f"FAILED anna: {words}" in capsys.readouterr().out
    record = json.loads((results / "run.json").read_text())
    assert record["failed"] == {"anna": words} and list(record["subjects"]) == ["anna"]
    assert run() == 1  # nothing is new, and they are missing still
    assert run(allow_missing=True) == 0


def test_a_picture_without_the_person_is_not_one_that_cannot_be_read(tmp_path):
    """Both have no joints."""
    for t in range(4):
        cv2.imwrite(str(tmp_path / f"{t}.png"), np.full((50, 60, 3), t, np.uint8))
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    (clip,) = media.clips([tmp_path])
    region = np.where([[True], [False], [True], [False]], clip.boxes, np.nan)
    joints = np.where(np.isnan(region[:, :1, None]), np.nan, np.full((4, 13, 2), 9.0))
    confidence = joints[..., 0], joints[..., 0]
    found = dataclasses.replace(clip, region=region)
    outcome = Outcome(found, clip.largest, joints, joints, confidence, {}, {})
    notes = personal_report.notes(outcome, None, base="", boxes="people", heatmap_size=16)
    assert "Frames without joints (NaN), because the person was not found: 1." in notes
    assert "Frames without joints (NaN), because they could not be read: 1." in notes


def test_a_run_that_adapts_nothing_is_not_described_as_one_that_does(people):
    made, _, clips = people
    joints = np.full((4, 13, 2), 9.0)
    outcome = Outcome(
        clips[0], (50, 60), joints, joints, (joints[..., 0],) * 2, {}, {"frames": 4, "updates": 0}
    )
    about = {"model": "blazepose", "data": made.data, "ttp": made.config.ttp}
    settings = personal_report.settings_of(outcome, "online", None, **about)
    assert settings["scenario"].startswith("no adaptation: ") and "updates" not in settings
    assert "kept model of ana" in str(
        personal_report.settings_of(outcome, "person-ana", None, **about)["scenario"]
    )
    notes = personal_report.notes(outcome, None, base="", boxes="whole", heatmap_size=16)
    assert "The model did not adapt, so before and after are the same." in notes
    moved = dataclasses.replace(outcome, after=joints + 1)
    assert len(personal_report.notes(moved, None, base="", boxes="whole", heatmap_size=16)) == 1
    plain = made.changed({"ttp.method": "none", "ttp.held_out": 10}).config
    line = provenance.protocol_line(plain.data, plain.ttp, "online")
    assert line == "no personalization; boxes: whole"


def test_an_input_that_is_lost_during_the_run_is_not_done(tmp_path, people, monkeypatch, capsys):
    made, base, _ = people
    source, folder, results = (
        pathlib.Path(made.data.root),
        tmp_path / "people",
        tmp_path / "results",
    )
    shutil.copytree(source, folder)
    own = made.changed({"data.root": str(folder), "ttp.together": 3})  # side by side
    open_own = sources.open_own
    options, work = personalization.RunOptions(scenario="none"), source.parent / "work"

    def unplugged(data):
        """The disk of person1 is removed before frame 2 is read."""
        opened = open_own(data)
        clip = opened.clips[1]

        def read(index):
            if index == 2:
                (folder / "person1").rename(tmp_path / "gone")
            return clip.read(index)

        opened.clips[1] = dataclasses.replace(clip, read=read)
        return opened

    with monkeypatch.context() as patched:
        patched.setattr(sources, "open_own", unplugged)
        assert personalization.run(own, work, options, results) == 1
    assert re.search(
        r"FAILED person1: .*person1/000.\.png was moved or lost", capsys.readouterr().out
    )
    assert {path.name for path in results.glob("*.npz")} == {"person0.npz", "person2.npz"}
    for clip in open_own(made.data).clips[::2]:
        expected, found = (
            Runner(made, base, "none").one(clip),
            np.load(results / f"{clip.name}.npz"),
        )
        np.testing.assert_allclose(found["joints"], expected.joints, atol=1e-3)
        assert str(found["inputs"]) == expected.inputs
    (tmp_path / "gone").rename(folder / "person1")
    assert personalization.run(own, work, options, results) == 0
    assert "2 of 3 subjects are done already" in capsys.readouterr().out
    assert np.isfinite(np.load(results / "person1.npz")["joints"]).all()


def test_a_video_without_the_chosen_frames_does_not_stop_the_others(tmp_path, people, capsys):
    made, *_ = people
    source, results = pathlib.Path(made.data.root) / "person0", tmp_path / "results"
    for name in ("anna", "bert"):
        shutil.copytree(source, tmp_path / "people" / name)
    for path in sorted((tmp_path / "people/bert").iterdir())[2:]:
        path.unlink()
    own = made.changed({"data.root": str(tmp_path / "people"), "data.frames": "2-"})
    options, work = personalization.RunOptions(scenario="none"), source.parents[1] / "work"
    assert personalization.run(own, work, options, results) == 1
    assert 'bert: bert has 2 frames: none is in "2-".' in capsys.readouterr().out
    assert (results / "anna.npz").is_file() and not (results / "bert.npz").exists()
    for frames, words in (("9-", "none of the 2 inputs can be used"), ("x", '^frames are "x"')):
        with pytest.raises(DataError, match=words):
            sources.open_own(own.changed({"data.frames": frames}).data)


def test_an_input_that_was_mended_is_no_longer_on_record_as_failed(tmp_path, people):
    made, *_ = people
    source = pathlib.Path(made.data.root) / "person0"
    folder, results = tmp_path / "people", tmp_path / "results"
    shutil.copytree(source, folder / "anna")
    shutil.copytree(source, folder / "bert")
    for path in (folder / "bert").iterdir():
        path.write_bytes(b"")
    own = made.changed({"data.root": str(folder)})
    options, work = personalization.RunOptions(scenario="none"), source.parents[1] / "work"
    assert personalization.run(own, work, options, results) == 1
    record = json.loads((results / "run.json").read_text())
    assert list(record["failed"]) == [str(folder / "bert")]
    shutil.copytree(source, folder / "bert", dirs_exist_ok=True)
    assert personalization.run(own, work, options, results) == 0
    record = json.loads((results / "run.json").read_text())
    assert record["failed"] == {} and list(record["subjects"]) == ["anna", "bert"]
