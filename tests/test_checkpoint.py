"""Checkpoints that are damaged, and disks that are full while they are written."""

import itertools
import os
import pathlib
import resource
import shutil
import warnings

import damage
import jax
import numpy as np
import pytest
import small_net
import small_run

from ttp_jax.checkpoint import Checkpoints
from ttp_jax.runs import experiment, training
from ttp_jax.state import TrainState

STEPS = (2, 4, 5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of three checkpoints, and the states that are in them, by step."""
    folder, config = tmp_path_factory.mktemp("training"), small_run.get_config()
    built = experiment.build(config)
    drawn = small_net.variables(built.net, size=built.image_size)
    checkpoints, states = Checkpoints(folder / "checkpoints"), {}
    for step in STEPS:
        params = jax.tree.map(lambda leaf: np.asarray(leaf + step), drawn["params"])  # noqa: B023
        moments = built.tx.init(params)
        fields = params, jax.device_get(drawn["batch_stats"]), jax.device_get(moments)
        states[step] = TrainState(np.int32(step), *fields, np.ones(1, np.float32))
        checkpoints.save(states[step])
    checkpoints.close()
    return folder, states


def restored(folder, states):
    """What a copy's newest whole checkpoint is; asserts that it is just what was saved."""
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        found = checkpoints.restore(jax.tree.map(np.zeros_like, states[5]))
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(states[int(found.step)]), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
        return int(found.step), checkpoints.latest_step()
    finally:
        checkpoints.close()


def newest(folder) -> pathlib.Path:
    return folder / "checkpoints/last/5"


def largest(folder) -> pathlib.Path:
    """The file that holds most of the newest checkpoint's numbers."""
    chunks = newest(folder).glob("default/ocdbt.process_0/d/*")
    return max(chunks, key=lambda path: path.stat().st_size)


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(trained, tmp_path, capfd):
    folder = pathlib.Path(shutil.copytree(trained[0], tmp_path / "work"))
    os.truncate(largest(folder), 1000)  # a full disk, a copy that broke off
    with pytest.warns(UserWarning, match=r"last/5 is damaged: continuing from step 4.*5\.old1"):
        assert restored(folder, trained[1]) == (4, 4)
    assert (newest(folder).with_name("5.old1") / "default").is_dir()  # kept for whoever mends it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert restored(folder, trained[1]) == (4, 4)
        checkpoints = Checkpoints(folder / "checkpoints")  # training goes on there
        checkpoints.restore(jax.tree.map(np.zeros_like, trained[1][5]))
        checkpoints.save(trained[1][5])
        checkpoints.close()
        assert restored(folder, trained[1]) == (5, 5)
    assert "Traceback" not in capfd.readouterr().err


def test_a_bit_that_compression_does_not_notice_is_noticed(trained, tmp_path):
    """Of the numbers themselves, where another one is as good a number."""
    data, found = largest(trained[0]).read_bytes(), set()
    for number, bit in enumerate(range(0, 8 * len(data), len(data))):
        folder = pathlib.Path(shutil.copytree(trained[0], tmp_path / str(number)))
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        largest(folder).write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.add(restored(folder, trained[1])[0])
    assert found <= {4, 5} and 4 in found


def test_without_a_whole_checkpoint_all_are_named(trained, tmp_path):
    folder = pathlib.Path(shutil.copytree(trained[0], tmp_path / "work"))
    for step in STEPS:
        shutil.rmtree(folder / f"checkpoints/last/{step}/default")
    with pytest.raises(
        ValueError, match=r"every checkpoint in .*last is damaged \(step 5: .*step 2: "
    ):
        restored(folder, trained[1])
    assert sorted(p.name for p in (folder / "checkpoints/last").iterdir()) == ["2", "4", "5"]


def test_metadata_with_a_damaged_word_cost_no_checkpoint(trained, tmp_path):
    folder = pathlib.Path(shutil.copytree(trained[0], tmp_path / "work"))
    path = newest(folder) / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace("performance_metrics", "performa.ce_metrics"))
    with pytest.warns(UserWarning, match="the damaged .*_CHECKPOINT_METADATA is now "):
        assert restored(folder, trained[1]) == (5, 5)
    assert not path.exists() and len(list(path.parent.glob("*_CHECKPOINT_METADATA*"))) == 1


def test_a_checkpoint_of_another_network_is_not_called_damaged(trained):
    folder, states = trained
    wanted = states[5].replace(normalisers=np.ones(6, np.float32))
    with pytest.raises(
        ValueError,
        match=r"last/5 is not of the network .*normalisers is .*, expected \(6,\).*config\.json",
    ):
        Checkpoints(folder / "checkpoints").restore(wanted)


def test_a_full_disk_is_one_error_that_names_the_folder(trained, tmp_path, capfd):
    folder = pathlib.Path(shutil.copytree(trained[0], tmp_path / "work"))
    checkpoints = Checkpoints(folder / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # as of a full disk, but of ours only
    try:
        with pytest.raises(OSError, match="make room, and run the same command again") as error:
            checkpoints.save(trained[1][5].replace(step=np.int32(6)))
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    checkpoints.close()
    assert error.value.filename == str(folder / "checkpoints/last")
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err and len(printed.err) < 500
    assert restored(folder, trained[1]) == (5, 5)
    again = Checkpoints(folder / "checkpoints")
    again.save(trained[1][5].replace(step=np.int32(6)))
    again.close()
    assert again.latest_step() == 6
    again.close()


def test_a_full_disk_is_one_error_for_tensorboard_too(tmp_path):
    log = training._Log(tmp_path, 4, lambda step: 1e-3, 0, 9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError) as error:
            for step in range(2000):
                log.scalars(step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.close()
    assert error.value.filename == str(tmp_path / "tensorboard")


def break_files(trained, tmp_path, count) -> dict[int, int]:
    """Break files of the newest checkpoint `count` times; how often each step came back."""
    folder, states = trained
    rng, tally = np.random.default_rng(0), {}
    paths = sorted(p.relative_to(folder) for p in newest(folder).rglob("*") if p.is_file())
    ways = {path: damage.of_bytes((folder / path).read_bytes(), rng) for path in paths}
    for number, path in zip(range(count), itertools.cycle(paths), strict=False):
        place = pathlib.Path(shutil.copytree(folder, tmp_path / str(number)))
        what, changed = next(ways[path])
        (place / path).write_bytes(changed)
        if rng.random() < 0.1:
            what, _ = "file missing", (place / path).unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                step, _ = restored(place, states)
            except Exception as error:
                raise AssertionError(f"{path}, {what} ({place}): {error!r}") from error
        tally[step] = tally.get(step, 0) + 1
        shutil.rmtree(place)
    return tally


def test_damaged_files_of_a_checkpoint_cost_that_checkpoint_at_most(trained, tmp_path, capfd):
    tally = break_files(trained, tmp_path, 10)
    assert set(tally) <= {4, 5} and tally[4] > 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_damaged_files_of_checkpoints(trained, tmp_path, capfd):
    tally = break_files(trained, tmp_path, 300)
    assert set(tally) <= {4, 5} and "Traceback" not in capfd.readouterr().err
    with capfd.disabled():
        kept, older = tally.get(5, 0), tally[4]
        print(f"\n{'checkpoints':18}   300 broken{kept:6} read{older:6} the one before, 0 faults")
