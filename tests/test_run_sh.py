"""How run.sh treats the folder of its virtual environment."""

import os
import subprocess

import pytest
import small_run


@pytest.fixture
def setup(tmp_path):
    """Run `./run.sh setup` with a Python that can make no virtual environment."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = venv ] || exit 0\nmkdir -p "$3/bin"; exit 1\n')
    python.chmod(0o755)

    def run(venv):
        given = {**os.environ, "PYTHON": str(python), "VENV": str(venv)}
        command = [small_run.ROOT / "run.sh", "setup"]
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)

    return run


def test_a_half_made_environment_is_removed(setup, tmp_path):
    ran = setup(tmp_path / "venv")
    assert ran.returncode == 1 and "No virtual environment could be made" in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_was_there_is_left_alone(setup, tmp_path):
    kept = tmp_path / "venvs/other/file"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    ran = setup(tmp_path / "venvs")
    assert ran.returncode == 1 and "remove this one yourself" in ran.stderr
    assert [path for path in (tmp_path / "venvs").rglob("*") if path.is_file()] == [kept]
    assert not (tmp_path / "venvs/bin").exists()
