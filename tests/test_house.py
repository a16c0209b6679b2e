"""Modules, classes and functions stay short, and docs/design.md lists every module."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("ttp_jax", "data_pipelines", "configs", "benchmarks")
FILES = [
    ROOT / "main.py",
    *sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")),
]
MODULE, CLASS, FUNCTION = 450, 200, 60  # lines at most


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def too_large(path):
    """What is too large in a file: its name -> lines."""
    text, found = path.read_text(), {}
    if (lines := len(text.splitlines())) > MODULE:
        found[name_of(path)] = lines
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            most = CLASS
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if path.parent.name == "configs":  # plain data
                continue
            most = FUNCTION
        else:
            continue
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > most:
            found[f"{name_of(path)} {node.name}"] = lines
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_classes_and_functions_can_be_read_in_one_go(path):
    larger = too_large(path)
    assert not larger, f"split these (lines, docstrings included): {larger}"


# --- docs/design.md ------------------------------------------------------------------------------


def modules():
    """Every module that the table of docs/design.md must name: "ttp_jax/runs/batch.py"."""
    return {
        name_of(path)
        for package in ("ttp_jax", "data_pipelines")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }


def named():
    """The files and folders that the table "What lives where" names, as paths."""
    text = (ROOT / "docs" / "design.md").read_text().split("## What lives where\n")[1]
    found = []
    for places, role in re.findall(r"^\| (`.+?`) \| (.*) \|$", text.split("\n## ")[0], re.M):
        folder = ""
        for name in re.findall(r"`([^`]+)`", places):
            # "`ttp_jax/state.py`, `steps.py`": those after the first lie beside it.
            path = name if "/" in name or not folder else folder + name
            folder = path[: path.rfind("/") + 1]
            found.append(path)
        if places.endswith("/`"):  # a folder, whose modules its role names
            found += [folder + name for name in re.findall(r"`(\w+\.py)`", role)]
    return found


def test_the_design_page_has_a_row_for_every_module_and_none_for_another():
    rows = named()
    assert len(rows) > 50
    assert len(set(rows)) == len(rows), "twice in the table"
    gone = [row for row in rows if not (ROOT / row).exists()]
    assert not gone, f"docs/design.md has rows of files that don't exist: {gone}"
    missing = modules() - set(rows)
    assert not missing, f"docs/design.md lacks rows of: {sorted(missing)}"
