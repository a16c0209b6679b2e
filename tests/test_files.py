"""Readers of containers, names within folders, locks, and a disk that is full."""

import errno
import json
import os
import pathlib
import resource

import cv2
import numpy as np
import pytest

from data_pipelines.clips import Clip
from ttp_jax import files, visualize

LIKE = {"a": int, "b?": [float], "c": {str: (str, None)}}


def test_archives_come_back_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "c": rng.normal(size=(3, 4)).astype(np.float32),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "half": rng.normal(size=5).astype(np.float16),
        "none": np.zeros((0, 3)),
        "scalar": np.array(7),
        "flags": np.array([True, False]),
        "text": np.array("ä ☃"),
        "big-endian": np.arange(4, dtype=">i8"),
    }
    for compress in (True, False):
        files.write_arrays(tmp_path / "a.npz", arrays, compress=compress)
        found = files.read_arrays(tmp_path / "a.npz", {"c": ("f", 2), "text": ("U", 0)})
        with np.load(tmp_path / "a.npz") as independent:
            for name in arrays:
                assert found[name].dtype == independent[name].dtype
                np.testing.assert_array_equal(found[name], independent[name])
        assert found["c"].flags.writeable


def test_every_flipped_bit_of_an_archive_is_found_or_changes_nothing(tmp_path):
    path, array = tmp_path / "a.npz", np.arange(20.0)
    files.write_arrays(path, {"x": array})
    whole, refused = path.read_bytes(), 0
    for bit in range(8 * len(whole)):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            found = files.read_arrays(path)
        except files.Damaged as error:
            assert str(error).startswith(f"{path} is damaged (") and "run again" in str(error)
            refused += 1
            continue
        assert [*map(np.ndarray.tolist, found.values())] == [array.tolist()]
    assert refused > 4 * len(whole)


def test_what_an_archive_must_hold_is_named(tmp_path):
    files.write_arrays(tmp_path / "a.npz", {"x": np.zeros(3)})
    for like, words in (({"y": ("f", 1)}, "y is missing"), ({"x": ("f", 2)}, r"x is float64 of")):
        with pytest.raises(files.Damaged, match=rf"a.npz is damaged \({words}.*: mend it\."):
            files.read_arrays(tmp_path / "a.npz", like, "mend it")
    with pytest.raises(FileNotFoundError):
        files.read_arrays(tmp_path / "b.npz")


def test_json_is_checked_for_depth_doubles_numbers_and_shape(tmp_path):
    path = tmp_path / "a.json"
    assert files.read_json(path) is None
    good = {"a": 1, "c": {"x": None, "y": "z"}, "more": [1]}
    files.write_json(path, good)
    assert files.read_json(path, LIKE) == good
    deep = 100_000
    for text, words in (
        ("[" * deep + "]" * deep, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ('{"a": 1, "a": 2, "c": {}}', "the key 'a' comes twice"),
        ('{"a": 123456789012345678901234567890, "c": {}}', "too large"),
        ("[1]", r"it is \[1\]"),
        ('{"a": 1}', "it has no c"),
        ('{"a": true, "c": {}}', "it.a is True"),
        ('{"a": 1, "b": [1, 2.5, "x"], "c": {}}', r"it.b\[2\] is 'x'"),
        ('{"a": 1, "c": {"x": 3}}', "it.c.x is 3"),
        ('{"a": 1', "Expecting"),
    ):
        path.write_text(text)
        with pytest.raises(files.Damaged, match=rf"a.json is damaged \(.*{words}"):
            files.read_json(path, LIKE)
    path.write_bytes("[]".encode("utf-16"))
    with pytest.raises(files.Damaged, match="a.json is damaged"):
        files.read_json(path)


def test_a_name_stays_within_its_folder(tmp_path):
    assert files.inside(tmp_path, "anna.npz") == tmp_path / "anna.npz"
    assert files.inside(tmp_path, "S1/0001.jpg") == tmp_path / "S1/0001.jpg"
    for name in ("../x", "a/../../x", "/etc/passwd", "..", "", ".", "a\0b"):
        with pytest.raises(ValueError, match="points outside"):
            files.inside(tmp_path, name)
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    for name in ("../x", "a/b", ""):
        with pytest.raises(ValueError, match="expected a plain name"):
            Clip(name, "s", "test", 1, lambda index: np.zeros((9, 9, 3), np.uint8), boxes)


def test_a_link_planted_at_the_lock_is_not_followed(tmp_path):
    victim, place = tmp_path / "victim", tmp_path / "work/run"
    victim.write_text("precious")
    place.parent.mkdir()
    lock = place.with_name(".run.lock")
    lock.symlink_to(victim)
    with (
        pytest.raises(ValueError, match=r"\.run\.lock is a symbolic link.*delete it"),
        files.only_one(place),
    ):
        pass
    assert victim.read_text() == "precious"
    lock.unlink()
    os.mkfifo(lock)  # which to open would otherwise wait for somebody at its other end
    with pytest.raises(ValueError, match="not a plain file"), files.only_one(place):
        pass
    lock.unlink()
    lock.write_text("kept")
    with files.only_one(place):
        with pytest.raises(ValueError, match="another command is writing"), files.only_one(place):
            pass
        assert lock.read_text() == "kept"


def test_links_planted_where_a_file_is_written_are_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "a.json"
    victim.write_text("precious")
    for link in (path, tmp_path / f"a.json.{os.getpid()}.tmp"):
        link.symlink_to(victim)
        files.write_json(path, [1])
        assert victim.read_text() == "precious" and json.loads(path.read_text()) == [1]
        assert not path.is_symlink()
        path.unlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["victim"]


@pytest.fixture
def small_disk():
    """No file may grow beyond 10,000 bytes: what a full disk does, to this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, small_disk):
    path = tmp_path / "a.npz"
    files.write_arrays(path, {"x": np.zeros(3)})
    large = np.random.default_rng(0).normal(size=9000)
    noise = np.frombuffer(large, np.uint8).reshape(-1, 100, 3)
    visualize.save(tmp_path / "a.png", noise[:2])
    for write in (
        lambda: files.write_arrays(path, {"x": large}),
        lambda: files.write_json(path, large.tolist()),
        lambda: files.write_atomically(path, lambda temporary: temporary.write_bytes(large)),
    ):
        with pytest.raises(OSError, match="make room, and run the same command again") as error:
            write()
        assert error.value.errno == errno.EFBIG and error.value.filename == str(path)
    assert files.read_arrays(path)["x"].tolist() == [0, 0, 0]
    with pytest.raises(OSError, match="make room") as error:
        visualize.save(tmp_path / "a.png", noise)
    assert error.value.filename == str(tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).shape == (2, 100, 3)
    assert {p.name for p in tmp_path.iterdir()} == {"a.npz", "a.png"}


def test_a_folder_that_can_t_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error:
        files.write_json(tmp_path / "file/a.json", 1)
    assert pathlib.Path(error.value.filename).is_relative_to(tmp_path)


def test_nothing_is_moved_onto_what_is_there(tmp_path):
    for number in range(2):
        (tmp_path / "a.npz").write_text(str(number))
        (tmp_path / f"a.old{number + 1}.npz").symlink_to("/nowhere")
    aside = files.move_aside(tmp_path / "a.npz", ".npz")
    assert aside.name == "a.old3.npz" and aside.read_text() == "1"
