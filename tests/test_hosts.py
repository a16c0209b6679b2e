"""Several processes on one machine: training equals that of one; each subject is done once."""

import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import small_run

from data_pipelines import clips as clips_lib
from data_pipelines import frame_cache
from ttp_jax import parallel
from ttp_jax.checkpoint import Checkpoints
from ttp_jax.runs import base_model, experiment


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("localhost", 0))
        return place.getsockname()[1]


def two(*words):
    """Start a command as two processes that work together."""
    port = free_port()
    return [small_run.command(*words, f"--hosts=localhost:{port},2,{i}") for i in range(2)]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    return folder, small_run.prepare(folder, lengths=(30, 24, 40, 16))


def results_of(workdir):
    files = (workdir / "results/online").glob("*.npz")
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.slow
def test_every_subject_is_done_once_and_a_killed_process_s_on_restart(people, tmp_path):
    folder, flags = people
    for name in ("one", "two"):
        shutil.copytree(folder / "work", tmp_path / name)
    small_run.done(small_run.command("personalize", *flags[:2], f"--workdir={tmp_path / 'one'}"))
    words = ["personalize", *flags[:2], f"--workdir={tmp_path / 'two'}"]
    first, second = two(*words)
    states = tmp_path / "two/results/online/unfinished"
    deadline = time.monotonic() + 120
    while not (states / "person1.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    # The other one goes on; only its own subjects are done.
    while len(results_of(tmp_path / "two")) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert set(results_of(tmp_path / "two")) == {"person0.npz", "person2.npz"}
    first.kill()
    first.communicate()
    printed = [small_run.done(process) for process in two(*words)]
    assert "2 of 2 subjects are done already" in printed[0]
    assert "person1: resuming, " in printed[1] and "0 subjects" not in printed[1]
    assert results_of(tmp_path / "two") == results_of(tmp_path / "one")


@pytest.mark.slow
def test_training_by_two_processes_equals_training_by_one(tmp_path):
    words = [
        "--config=tests/small_run.py",
        "--config.data.source=synthetic",
        f"--config.data.root={tmp_path / 'people'}",
        "--config.data.image_size=40",
        "--config.data.train=4",
        "--config.data.val=0",
        "--config.data.test=1",
        "--config.data.train_frames=4",
        "--config.data.eval_frames=8",
        "--config.train.batch_size=8",
        "--config.train.stages=((3, 1e-3, 0.0, 'constant'), (4, 1e-3, 1e-2, 'constant'))",
        "--config.train.checkpoint_every=4",
    ]
    for name in ("one", "two"):
        processes = two if name == "two" else lambda *w: [small_run.command(*w)]
        for process in processes("train", *words, f"--workdir={tmp_path / name}"):
            small_run.done(process)
    made = experiment.build(small_run.get_config())
    template = base_model.random_state(made, np.ones(1, np.float32))
    template = jax.tree.map(np.asarray, template)
    states = []
    for name in ("one", "two"):
        checkpoints = Checkpoints(tmp_path / name / "checkpoints")
        states.append(checkpoints.restore(template))
        checkpoints.close()
    one, two_ = states
    assert int(one.step) == int(two_.step) == 7
    # The sums over a batch are taken in another order; Adam makes steps of the same length of
    # gradients that are rounding noise, hence not bit by bit. Measured for the weights: 0.01 to
    # 0.09 between two processes and one, 1.08 between batches of 8 and of 4; for the running means,
    # which follow the weights: 0.002, and 0.10.
    for part, most in (("params", 0.2), ("batch_stats", 0.02)):
        start, *ends = (
            np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(getattr(each, part))])
            for each in (template, one, two_)
        )
        changes = [end - start for end in ends]
        apart = np.linalg.norm(changes[0] - changes[1]) / np.linalg.norm(changes[0])
        assert apart < most, part


def test_who_takes_part_is_said_in_three_parts():
    for wrong in ("", "localhost:1", "localhost:1,two,0", "a,1,2,3"):
        with pytest.raises(ValueError, match=r"HOST:PORT,COUNT,INDEX"):
            parallel.join_hosts(wrong)


def test_frames_are_decoded_into_the_shared_folder_once(tmp_path):
    reads = []

    def read(index):
        reads.append(index)
        time.sleep(0.01)
        return np.full((8, 8, 3), 20 * index, np.uint8)

    boxes = np.tile(np.float32([0, 0, 8, 8]), (9, 1))
    clip = clips_lib.Clip("a", "a", "train", 9, read, boxes, None, None)
    with ThreadPoolExecutor(2) as both:  # each locks the folder as a process does
        found = list(both.map(lambda _: frame_cache.cached(clip, tmp_path), range(2)))
    assert [reads.count(index) for index in range(1, 9)] == [1] * 8  # the first one tells the size
    assert [each.read(5).mean() for each in found] == [100, 100]
