"""The wheel: its contents, and that the installed command works outside the checkout."""

import fnmatch
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from setuptools import find_packages

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
PACKAGES = find_packages(str(ROOT), include=SETUPTOOLS["packages"]["find"]["include"])
TOPS = sorted({package.split(".")[0] for package in PACKAGES})


def run(*words, **options):
    """Run Python without the checkout on its path; return what it printed and its exit code."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment.update(options.pop("env", {}))
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_every_package_goes_into_the_wheel():
    found = {
        str(path.parent.relative_to(ROOT)).replace(os.sep, ".")
        for top in TOPS
        for path in (ROOT / top).rglob("*.py")
    }
    assert found == set(PACKAGES) and {"ttp_jax", "data_pipelines", "configs"} <= found


def test_every_file_beside_the_code_goes_into_the_wheel():
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, each in SETUPTOOLS["package-data"].items()
        for pattern in each
    ]
    for top in TOPS:
        for path in (ROOT / top).rglob("*"):
            if path.is_dir() or path.suffix == ".py" or "__pycache__" in path.parts:
                continue
            name = path.relative_to(ROOT).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_the_extras_ask_jax_for_what_it_has():
    extras = PROJECT["project"]["optional-dependencies"]
    assert {"gpu", "exports", "projects", "notebooks", "docs"} <= set(extras)
    offered = set(importlib.metadata.metadata("jax").get_all("Provides-Extra") or [])
    asked = {extra for line in extras["gpu"] for extra in Requirement(line).extras}
    assert asked and asked <= offered


def test_importing_the_package_is_light():
    heavy = {"jax", "flax", "tensorflow", "torch", "cv2", "matplotlib"}
    done = run("-c", "import sys, ttp_jax; print(*sys.modules)", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not heavy & set(done.stdout.split())


def test_the_container_gets_what_the_wheel_is_made_of():
    needed = {"pyproject.toml", PROJECT["project"]["readme"], "requirements.txt", "LICENSE"}
    needed |= {f"{name}.py" for name in SETUPTOOLS["py-modules"]} | {f"{top}/" for top in TOPS}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert needed <= {line[1:] for line in lines if line.startswith("!")}
    assert SETUPTOOLS["dynamic"]["dependencies"]["file"] == ["requirements.txt"]


@pytest.mark.slow
def test_the_installed_command_works_from_another_folder(tmp_path):
    # Built from a copy: building leaves folders beside the sources.
    source, wheels, place, elsewhere = (tmp_path / n for n in ("source", "wheels", "place", "own"))
    source.mkdir()
    for name in ("main.py", "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    for top in TOPS:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-deps", "--no-index")
    built = run(
        "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", wheels, ".", cwd=source
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("ttp_jax-*.whl")
    installed = run("-m", "pip", "install", *offline, "--target", place, wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr

    def ttp(*words):
        return run(place / "bin" / "ttp", *words, cwd=elsewhere, env={"PYTHONPATH": str(place)})

    elsewhere.mkdir()
    info = ttp("info", "--config=configs/tiny.py", "--config.model.depth=18")
    assert info.returncode == 0, info.stderr
    assert info.stdout.startswith("tiny: method transformer, ResNet-18")
    doctor = ttp("doctor")
    assert f"none in {place}" in doctor.stdout or f" in {place}" in doctor.stdout
    assert "as required" in doctor.stdout, doctor.stdout + doctor.stderr
    for name in ("report/report.css", "report/report.js"):
        assert (place / "ttp_jax" / name).exists() == (ROOT / "ttp_jax" / name).exists()
    assert (place / "data_pipelines" / "rendered" / "motions.npz").is_file()

    # A config in the folder at hand goes before the installed one of the same name.
    (elsewhere / "configs").mkdir()
    text = (ROOT / "configs" / "tiny.py").read_text().replace('c.name = "tiny"', 'c.name = "mine"')
    (elsewhere / "configs" / "tiny.py").write_text(text)
    assert ttp("info", "--config=configs/tiny.py").stdout.startswith("mine: method")
