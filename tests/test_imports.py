"""What may import what, read from the sources."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = [p for p in (ROOT / "ttp_jax").rglob("*.py") if "verbs" not in p.parts]
PIPELINES = list((ROOT / "data_pipelines").glob("*.py"))
# The way imports point: a module may only import from those before it.
ORDER = (
    "files", "skeletons", "geometry", "heatmaps", "augment", "smooth", "metrics", "conv", "models",
    "losses", "convert", "visualize", "exports", "report", "state", "ranges", "claims", "steps",
    "memory", "ttp", "parallel", "checkpoint", "people", "api",
)  # fmt: skip


def imported(path, *, anywhere=True):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(names):
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.name)
def test_the_library_runs_without_tensorflow_cv2_or_the_pipelines(path):
    forbidden = {"tensorflow", "cv2", "data_pipelines", "torch"}
    allowed = {"torch"} if path.name == "convert.py" else set()  # inside its reader only
    assert not roots(imported(path)) & (forbidden - allowed)
    assert not roots(imported(path, anywhere=False)) & forbidden


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.name)
def test_the_pipelines_never_import_flax(path):
    names = set(imported(path))
    assert "flax" not in roots(names)
    own = {name.split(".")[1] for name in names if name.startswith("ttp_jax.")}
    assert own <= {"files", "skeletons", "geometry", "heatmaps", "augment"}


def test_importing_the_pipelines_loads_no_flax():
    code = (
        "import sys, data_pipelines.pipeline, data_pipelines.penn, data_pipelines.synthetic; "
        "sys.exit('flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.name)
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT / "ttp_jax").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    names = (name.split(".") for name in imported(path, anywhere=False))
    own = {name[1] for name in names if name[0] == "ttp_jax" and len(name) > 1}
    later = {name for name in own if ORDER.index(name) > ORDER.index(part)}
    assert not later, f"{part} imports {later}, which come after it"
