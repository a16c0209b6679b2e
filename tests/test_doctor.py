"""`doctor` on this machine, on a bare Python, and with broken parts."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import pytest

from data_pipelines import video
from ttp_jax.checkpoint import SHIPPED
from ttp_jax.verbs import doctor

ROOT = pathlib.Path(__file__).parents[1]


def run(*command, home):
    """Run a command in the checkout with a home folder of its own."""
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def findings(printed):
    """Mark and text of each line of checks."""
    lines = printed.split("\n\n")[0].splitlines()
    matches = [re.fullmatch(r"(ok|note|PROBLEM) +(.{18}) (.+)", line) for line in lines]
    assert all(matches), printed
    return {match[2].strip(): (match[1], match[3]) for match in matches if match}


@pytest.mark.slow
def test_here_all_that_the_tests_use_is_in_order(tmp_path):
    done = run(sys.executable, "main.py", "doctor", home=tmp_path)
    found = findings(done.stdout)
    for name in ("Python", "packages", "VGG features", "video"):
        assert found[name][0] == "ok", found[name]
    assert found["compiled programs"] == ("ok", f"are kept in {tmp_path}/.cache/ttp_jax/xla")
    assert jax.__version__ in found["device"][1]
    assert found["TensorFlow"][0] != "PROBLEM", found["TensorFlow"]
    wrong = [name for name, (mark, _) in found.items() if mark == "PROBLEM"]
    assert done.returncode == bool(wrong), done.stdout


def test_a_bare_python_gets_told_what_to_install(tmp_path):
    bare = getattr(sys, "_base_executable", sys.executable)  # not the environment's
    done = run(bare, "-S", "-m", "ttp_jax.verbs.doctor", home=tmp_path)  # -S: no site-packages
    found = findings(done.stdout)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    for name in ("packages", "device", "VGG features", "video"):
        mark, text = found[name]
        assert mark == "PROBLEM" and "pip install -r requirements.txt" in text
    assert found["Python"][0] == "ok"


def test_wrong_and_missing_versions_are_named(tmp_path, monkeypatch):
    path = tmp_path / "requirements.txt"
    path.write_text("numpy>=999  # a reason\nno-such-package-at-all\npillow>=1\n\n")
    monkeypatch.setattr(doctor, "REQUIREMENTS", path)
    mark, text = doctor.packages()
    assert mark == "PROBLEM"
    assert "expected >=999" in text and "no-such-package-at-all is missing" in text
    assert "pillow" not in text
    path.write_text("pillow>=1\n")
    assert doctor.packages() == ("ok", "all 1 as required")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="jax has the GPU")
def test_a_gpu_that_jax_does_not_use_is_named(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Test 1'\necho 'NVIDIA Test 2'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    mark, text = doctor.device()
    assert mark == "note" and "nvidia-smi lists NVIDIA Test 1, NVIDIA Test 2" in text
    assert "[gpu]" in text
    tool.write_text("#!/bin/sh\necho 'no driver'; exit 9\n")
    assert "nvidia-smi" not in doctor.device()[1]


def test_the_features_are_found_and_read():
    assert doctor.features() == ("ok", "5 levels of hed")


def test_a_video_that_cannot_be_read_back_is_a_problem(monkeypatch):
    assert doctor.video()[0] == "ok"
    opened = video.Video
    monkeypatch.setattr(video, "Video", lambda path: opened(f"{path}.missing"))
    mark, text = doctor.video()
    assert mark == "PROBLEM" and "0 of 5 frames" in text


def test_a_home_that_cannot_be_written_is_a_note(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        mark, text = doctor.compilation_cache()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert mark == "note" and "every run recompiles" in text


def test_models_that_come_along_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PRETRAINED", tmp_path)
    assert doctor.pretrained()[0] == "note"
    shutil.copy(SHIPPED, tmp_path / "people.npz")
    (tmp_path / "__init__.py").touch()
    assert doctor.pretrained() == ("ok", f"people.npz in {tmp_path}")
    (tmp_path / "people.npz").write_bytes(SHIPPED.read_bytes()[:1000])
    mark, text = doctor.pretrained()
    assert mark == "PROBLEM" and "people.npz is damaged" in text


def test_blazepose_is_told_where_it_was_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TTP_JAX_WEIGHTS", str(tmp_path))
    mark, text = doctor.blazepose()
    assert mark == "note" and "python main.py fetch blazepose" in text
    path = tmp_path / "blazepose" / "blazepose.npz"
    path.parent.mkdir()
    shutil.copy(SHIPPED, path)
    mark, text = doctor.blazepose()
    assert mark == "note" and "not the person detector" in text
    for name in ("pose_detection.tflite", "pose_landmark_full.tflite"):
        path.with_name(name).write_bytes(b"damaged")
    mark, text = doctor.checked(doctor.blazepose)
    assert mark == "PROBLEM" and "pose_detection.tflite" in text
    path.write_bytes(SHIPPED.read_bytes()[:1000])
    assert doctor.checked(doctor.blazepose)[0] == "PROBLEM"


def test_blazepose_as_fetched_is_whole(blazepose_here):
    mark, text = doctor.blazepose()
    assert mark == "ok" and "and the person detector" in text


def test_little_memory_or_disk_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 2**60)
    monkeypatch.setattr(doctor, "LEAST_DISK", 2**60)
    assert doctor.memory()[0] == doctor.disk()[0] == "PROBLEM"


def test_whatever_a_broken_package_raises_becomes_one_line():
    def broken():
        raise RuntimeError("undefined symbol\nin a library")

    assert doctor.checked(broken) == ("PROBLEM", "RuntimeError: undefined symbol in a library")


def feeding(code):
    """A process in the place of the one that imports TensorFlow."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)


def test_what_tensorflow_does_is_told(monkeypatch):
    assert doctor.tensorflow(feeding("print('2.99.0', 6)")) == ("ok", "2.99.0")
    mark, text = doctor.tensorflow(feeding("raise ImportError('libwrong.so: not found')"))
    assert mark == "PROBLEM" and "libwrong.so: not found" in text and "pip install" in text
    mark, text = doctor.tensorflow(feeding("import os; os.kill(os.getpid(), 4)"))  # SIGILL
    assert mark == "PROBLEM" and "ended with -4" in text
    monkeypatch.setattr(doctor, "PATIENCE", 0.1)  # a busy machine is no broken TensorFlow
    assert doctor.tensorflow(feeding("import time; time.sleep(60)"))[0] == "note"


def test_words_are_refused():
    with pytest.raises(ValueError, match="takes no arguments"):
        doctor.run(["--config=configs/tiny.py"])
