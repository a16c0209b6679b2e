"""Stopped and resumed runs give the same bytes as uninterrupted ones; their records are true."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import random
import shutil
import signal
import time

import cv2
import numpy as np
import pytest
import small_run

from ttp_jax import people as kept_models
from ttp_jax.checkpoint import Unfinished
from ttp_jax.runs import experiment, identity, personalization, sources
from ttp_jax.runs.personalization import RunOptions
from ttp_jax.runs.process import STOPPED
from ttp_jax.verbs import people, verify

KINDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, shallow):
    """Folder with people and a model."""
    folder = tmp_path_factory.mktemp("small")
    small_run.prepare(folder, config=small_run.cut(small_run.get_config()))
    return folder


@pytest.fixture(scope="module")
def long_ones(tmp_path_factory):
    """The same for commands, with videos that last for many kills; flags that name them."""
    folder = tmp_path_factory.mktemp("long")
    return folder, small_run.prepare(folder, lengths=(240, 180, 120))


def digests(results: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every table of keypoints."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in results.glob("*.csv")}


def progress(results: pathlib.Path) -> dict[str, int]:
    """Changes with every state and every result that is written."""
    files = (*results.glob("unfinished/*.npz"), *results.glob("*.npz"))
    found = {}
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            found[str(path)] = path.stat().st_mtime_ns
    return found


def kill_again_and_again(flags, results, kills, rng, log) -> int:
    """Start the command and kill it, until it ends by itself; return how often it was killed."""
    for killed in range(200):
        process = small_run.command("personalize", *flags)
        before, patience = progress(results), rng.randint(1, 2)
        while process.poll() is None and killed < kills:
            now = progress(results)
            if now != before:
                before, patience = now, patience - 1
                if patience == 0:
                    time.sleep(rng.uniform(0, 0.2))  # into work, or into the writing of a state
                    process.send_signal(rng.choice(KINDS))
                    break
            time.sleep(0.002)
        printed, _ = process.communicate(timeout=300)
        log.append((process.returncode, len(before)))
        if process.returncode == 0:
            return killed
        assert process.returncode in (-signal.SIGKILL, 143), printed[-3000:]
    raise AssertionError(f"never ended: {log}")


def check_kills(long_ones, tmp_path, scenario, kills):
    folder, flags = long_ones
    work = [*flags[:2], f"--scenario={scenario}"]
    if scenario == "offline":
        work.append("--joints-only")  # it costs more than the rest; kills of it are online's part
    results = []
    for name in ("killed", "whole"):
        shutil.copytree(folder / "work", tmp_path / name)
        results.append(tmp_path / name / "results" / scenario)
    small_run.done(small_run.command("personalize", *work, f"--workdir={tmp_path / 'whole'}"))
    log = []
    work.append(f"--workdir={tmp_path / 'killed'}")
    count = kill_again_and_again(work, results[0], kills, random.Random(kills), log)
    print(f"{scenario}: killed {count} times, at {log}")
    assert count >= kills
    assert len(digests(results[1])) == 3 and digests(results[0]) == digests(results[1])
    for path in results[1].glob("*.npz"):
        assert path.read_bytes() == (results[0] / path.name).read_bytes()
    assert not (results[0] / "unfinished").exists()


def test_a_stop_keeps_the_state_at_once(untouched, tmp_path, monkeypatch, capsys):
    """Also where states are kept once an hour only."""
    config, load = config_for(untouched / "people/person1"), sources.open_own
    config.ttp.save_minutes = 60.0
    for name in ("stopped", "whole"):
        shutil.copytree(untouched / "work", tmp_path / name)

    def load_and_stop(*args):
        opened = load(*args)
        (clip,) = opened.clips

        def read(index):
            if index == 20:
                signal.raise_signal(signal.SIGTERM)
            return clip.read(index)

        return opened._replace(clips=[dataclasses.replace(clip, read=read)])

    with monkeypatch.context() as patch:
        patch.setattr(sources, "open_own", load_and_stop)
        code = run(config, tmp_path / "stopped")
    assert code == STOPPED
    results = [tmp_path / name / "results/online" for name in ("stopped", "whole")]
    assert [path.name for path in (results[0] / "unfinished").iterdir()] == ["person1.npz"]
    for name in ("stopped", "whole"):
        assert run(config, tmp_path / name) == 0
    assert capsys.readouterr().out.count("person1: resuming, ") == 1
    assert digests(results[0]) == digests(results[1])


@pytest.mark.parametrize("scenario", ["online", pytest.param("offline", marks=pytest.mark.slow)])
def test_a_run_that_breaks_off_goes_on_to_the_same_bytes(
    untouched, tmp_path, monkeypatch, capsys, scenario
):
    config, save = config_for(untouched / "people/person1"), Unfinished.save
    for name in ("broken", "whole"):
        shutil.copytree(untouched / "work", tmp_path / name)
    states = 0

    def save_then_break(*args):
        nonlocal states
        save(*args)
        states += 1
        if states in (2, 4):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "save", save_then_break)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(config, tmp_path / "broken", scenario=scenario)
    for name in ("broken", "whole"):
        assert run(config, tmp_path / name, scenario=scenario) == 0
    assert capsys.readouterr().out.count("person1: resuming, ") == 2
    results = [tmp_path / name / "results" / scenario for name in ("broken", "whole")]
    assert len(digests(results[0])) == 1 and digests(results[0]) == digests(results[1])
    unfinished = results[0] / "unfinished"
    assert not unfinished.exists()

    # What a process leaves that is killed between the results and the end of its state, or in it.
    unfinished.mkdir()
    for name in ("person1.npz", "person1.npz.123.tmp"):
        (unfinished / name).write_bytes(b"")
    assert run(config, tmp_path / "broken", scenario=scenario) == 0
    assert not unfinished.exists()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["online", "offline"])
@pytest.mark.timeout(1200)
def test_six_kills_at_random_moments_change_no_byte(long_ones, tmp_path, scenario):
    check_kills(long_ones, tmp_path, scenario, 6)


def config_for(people):
    """The config as the command line would make it."""
    config = small_run.cut(small_run.get_config())
    config.data.root, config.data.oversample = str(people), 2.0
    return config


def run(config, workdir, **options) -> int:
    """Personalize (online) or predict with these `RunOptions`."""
    return personalization.run(experiment.build(config), workdir, RunOptions(**options))


@pytest.mark.slow
def test_a_record_is_verified_and_every_changed_byte_is_found(untouched, tmp_path, capsys):
    for name in ("work", "people"):
        shutil.copytree(untouched / name, tmp_path / name)
    (tmp_path / "people/person2").rename(tmp_path / "anna")
    config = config_for(tmp_path / "anna")
    assert run(config, tmp_path / "work", scenario="offline") == 0
    results = tmp_path / "work/results/offline"
    record = json.loads((results / "run.json").read_text())
    assert set(record["subjects"]) == {"anna"} and record["subjects"]["anna"]["frames"] == 33
    assert "sees all frames first" in record["protocol"] and record["seed"] == 0
    assert set(record["made_with"]) >= {"jax", "device", "python"}

    assert verify.run([str(results)]) == 0
    assert "verified" in capsys.readouterr().out

    table = results / "anna.csv"
    text = table.read_text()
    table.write_text(text.replace("3", "4", 1))
    assert verify.run([str(results)]) == 1
    assert "anna.csv was changed after the run" in capsys.readouterr().out
    table.write_text(text)

    picture = tmp_path / "anna/0007.png"
    pixels = cv2.imread(str(picture))
    pixels[25, 30, 1] ^= 1
    cv2.imwrite(str(picture), pixels)
    assert verify.run([str(results)]) == 1
    assert "anna: the frames or boxes differ from those of the run" in capsys.readouterr().out
    with pytest.raises(ValueError, match="is not a folder of results"):
        verify.run([str(tmp_path)])


def test_after_a_kill_before_the_record_it_tells_of_the_results_on_disk(untouched, tmp_path):
    for name in ("work", "people"):
        shutil.copytree(untouched / name, tmp_path / name)
    person, results = tmp_path / "people/person2", tmp_path / "work/results/none"
    path = results / "run.json"

    def subject(boxes, code=0):
        config = config_for(person)
        config.data.boxes, config.data.frames = boxes, "0-3"
        assert run(config, tmp_path / "work", scenario="none") == code
        return json.loads(path.read_text())["subjects"].get("person2")

    whole = subject("whole")
    of_the_first = path.read_text()
    region = subject("5,5,45,45")
    assert whole["data"]["boxes"] == "whole" and region["outputs"] != whole["outputs"]
    path.write_text(of_the_first)  # as a kill leaves it
    assert subject("5,5,45,45") == {**region, "seconds": None}

    # Results that can't be read, of a subject that fails now, are none.
    (results / "person2.npz").write_bytes(b"")
    for picture in person.glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:60])  # whole to whom reads its size only
    assert subject("5,5,45,45", code=1) is None
    assert list(json.loads(path.read_text())["failed"]) == ["person2"]


def test_an_old_record_has_the_defaults_of_younger_fields():
    stages = [[5, 1e-3, 0, "cosine"]]
    stored = {"name": "old", "ttp": {"iterations": 2}, "train": {"stages": stages}}
    config = identity.stored_config(stored)
    assert config.ttp.iterations == 2 and config.ttp.held_out == 0 and not config.data.fit
    assert config.train.stages == ((5, 1e-3, 0, "cosine"),)


def test_a_record_of_a_camera_cannot_be_verified(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"scenario": "live", "config": {}}))
    with pytest.raises(ValueError, match="frames are not stored"):
        verify.run([str(tmp_path)])


@pytest.mark.slow
def test_a_kept_model_of_other_settings_stays(untouched, tmp_path, capsys):
    shutil.copytree(untouched / "work", work := tmp_path / "work")
    config = config_for(untouched / "people/person2")
    config.data.frames = "0-3"
    for scenario in ("online", "offline"):
        assert run(config, work, scenario=scenario, keep="fp16") == 0
    assert capsys.readouterr().out.count("is now in") == 1
    run(config, work, scenario="offline", keep="fp16")
    run(config, work, scenario="offline", keep="fp16", overwrite=True)
    said = capsys.readouterr().out
    assert "done already" in said and "is now in" not in said
    kept = {path.stem: kept_models.read(path).about for path in (work / "people").iterdir()}
    scenarios = {name: about["scenario"] for name, about in kept.items()}
    assert scenarios == {"person2.old1": "online", "person2": "offline"}
    assert people.run(["list", str(work)]) == 0 and "person2.old1" in capsys.readouterr().out


def test_a_personalized_model_serves_another_video_of_the_person(untouched, tmp_path, capsys):
    shutil.copytree(untouched / "work", work := tmp_path / "work")
    first, second = (config_for(untouched / "people" / name) for name in ("person2", "person1"))
    run(first, work, keep="full")
    run(second, work, scenario="none", person="person2")
    run(second, work, scenario="none")

    def joints(name):
        return np.load(work / "results" / name / "person1.npz")["joints"]

    assert joints("person-person2").shape == joints("none").shape == (37, 13, 2)
    assert np.abs(joints("person-person2") - joints("none")).max() > 0.01
    capsys.readouterr()
    assert people.run(["list", str(work)]) == 0
    printed = capsys.readouterr().out
    assert "person2" in printed and "full" in printed and "33" in printed
    with pytest.raises(FileNotFoundError, match="nobody.npz does not exist; models in .*: person2"):
        run(second, work, scenario="none", person="nobody")
    with pytest.raises(ValueError, match="fp16 or rankR"):
        run(first, work, keep="small")
    assert people.run(["delete", str(work), "person2"]) == 0
    assert not (work / "people/person2.npz").exists()
