"""Subjects get the same results on four devices, with every strategy, as on one."""

import os
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import small_net
import small_run

import main
from data_pipelines.clips import Clip, FrameError
from ttp_jax.checkpoint import ModelFile, write_model
from ttp_jax.models.encoders import resnet
from ttp_jax.runs import strategy
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import build
from ttp_jax.runs.strategy import Strategy
from ttp_jax.verbs import export

DEVICES = 4
LENGTHS = (9, 12, 10, 14, 11, 9)  # of the subjects: more than the devices, and no multiple
PEOPLE = 5  # of the commands: one more than the devices
# Two chunks of frames each; all subjects remember as many, or they were in groups of their own.
MEMORY = 8
RATE = 1e-3


def made(together):
    """A network whose heatmaps have clear peaks, and so many subjects a device in a call."""
    config = small_run.get_config()
    small_run.cut(config)
    config.ttp.memory, config.ttp.together, config.ttp.learning_rate = MEMORY, together, RATE
    return build(config)


def people():
    """Subjects of several lengths, one of which has a frame that can't be read."""
    clips = []
    for number, length in enumerate(LENGTHS):
        pictures = small_net.pictures(length, seed=number, height=40, width=48)

        def read(index, pictures=pictures, lost=5 if number == 2 else None):
            if index == lost:
                raise FrameError(f"frame {index} can't be read")
            return pictures[index]

        boxes = np.tile(np.float32([3, 2, 40, 36]), (length, 1))
        clips.append(Clip(f"p{number}", f"p{number}", "test", length, read, boxes))
    return clips


def run_all(scenario):
    """In a process with four devices: compare every strategy on all of them with solo runs."""
    assert jax.local_device_count() == DEVICES
    resnet.STAGES[18] = (1, 1, 0, 0)
    base = small_net.base(made(1).net, levels=0)
    solo = Runner(made(1), base, scenario)
    alone = {clip.name: solo.one(clip) for clip in people()}
    for how in ("map", "vmap", "chunks"):
        runner = Runner(made(2), base, scenario, strategy=Strategy(how, DEVICES))
        groups, run = [], runner._run

        def note(group, *rest, groups=groups, run=run):
            groups.append(len(group))
            return run(group, *rest)

        runner._run = note
        found = {clip.name: result for clip, result in runner.many(people())}
        assert groups == [len(LENGTHS)], groups  # all at the same time
        for name, one in alone.items():
            compare(found[name], one, f"{scenario}, {how}, {name}")
        print(f"{how} on {DEVICES} devices equals one", flush=True)


def compare(found, one, what):
    assert not isinstance(found, Exception), f"{what}: {found}"
    assert found.inputs == one.inputs and int(found.adaptation.step) == int(one.adaptation.step)
    np.testing.assert_array_equal(np.isnan(found.joints), np.isnan(one.joints), err_msg=what)
    # Of two peaks of the same height rounding chooses one: a joint in a hundred may jump.
    apart = np.abs(found.joints - one.joints).max(-1) > 1e-2
    assert apart.mean() <= 0.01, f"{what}: {apart.sum()} of {apart.size} joints differ"
    # The gradient of a bias before a softmax is rounding, which Adam makes whole steps of.
    noise = 2 * len(found.frames) * RATE
    np.testing.assert_allclose(found.confidence, one.confidence, atol=noise, err_msg=what)
    for path, change in one.adaptation.delta.items():
        atol = noise if path == "self_head/bias" else 1e-4
        mine = np.asarray(found.adaptation.delta[path])
        np.testing.assert_allclose(mine, change, atol=atol, err_msg=f"{what}, {path}")


def in_four_devices(code):
    """What a process with four devices prints."""
    flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(["tests", *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import test_devices; {code}"],
        cwd=small_run.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["none", "online", "offline"])
def test_four_devices_by_every_strategy_equal_one(scenario):
    printed = in_four_devices(f"test_devices.run_all({scenario!r})")
    assert printed.count("on 4 devices equals one") == 3


def run_command(words):
    """In a process with four devices: what `python main.py WORDS` does, with the small trunk."""
    resnet.STAGES[18] = (1, 1, 0, 0)
    sys.argv = ["main.py", *words]
    sys.exit(main.main(sys.argv))


@pytest.mark.slow
def test_the_commands_on_four_devices_write_what_they_write_on_one(tmp_path, shallow):
    experiment, model = made(1), tmp_path / "tiny.npz"
    base = small_net.base(experiment.net, levels=0)
    write_model(model, ModelFile(base, export.needed(experiment.config), {"step": 0}))
    for number, length in enumerate(LENGTHS[:PEOPLE]):
        place = tmp_path / "people" / f"p{number}"
        place.mkdir(parents=True)
        for t, picture in enumerate(small_net.pictures(length, seed=number, height=40, width=48)):
            cv2.imwrite(str(place / f"{t:03}.png"), picture)
    for devices in ("1", str(DEVICES)):
        for verb in (["personalize", "--scenario=online", "--keep=full"], ["predict"]):
            words = [
                *verb, f"--inputs={tmp_path / 'people'}", f"--model={model}", "--joints_only",
                "--config.data.boxes=whole", f"--config.ttp.memory={MEMORY}",
                f"--devices={devices}", f"--workdir={tmp_path / devices}",
            ]  # fmt: skip
            in_four_devices(f"test_devices.run_command({words!r})")
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("p*.npz"))
    assert len(files) == 3 * PEOPLE
    for file in files:
        one, four = (np.load(tmp_path / devices / file) for devices in ("1", str(DEVICES)))
        assert set(one.files) == set(four.files)
        for name in {*one.files} - {"about"}:
            if one[name].dtype.kind != "f":
                np.testing.assert_array_equal(four[name], one[name], err_msg=f"{file} {name}")
                continue
            loose = name == "confidence" or "self_head/bias" in name
            atol = 2 * max(LENGTHS) * RATE if loose else 1e-2 if name == "joints" else 1e-4
            np.testing.assert_allclose(four[name], one[name], atol=atol, err_msg=f"{file} {name}")


def test_as_many_devices_as_there_are_can_be_asked_for():
    there = jax.local_device_count()
    assert strategy.strategy(None, None) == Strategy("auto", 1)
    assert strategy.strategy("vmap", "all") == Strategy("vmap", there)
    for wrong in ("0", "-1", "some", str(there + 1)):
        with pytest.raises(ValueError, match=f"--devices={wrong}: this machine has {there}"):
            strategy.strategy(None, wrong)
