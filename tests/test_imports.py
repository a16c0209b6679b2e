"""Which module may import which, checked on the sources."""

import ast
import functools
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TTP_JAX, PIPELINES = ROOT / "ttp_jax", list((ROOT / "data_pipelines").rglob("*.py"))
# Above the core; what the words say is in `MAY_IMPORT`.
UPSTAIRS = ("runs", "paper", "verbs", "command_line", "launch")
# The way imports point in the core: a module may only import from those before it.
ORDER = (
    "deprecation",
    "files", "frames", "skeletons", "joint_maps", "palette", "geometry", "heatmaps", "augment",
    "smooth", "metrics", "presence", "warning_signs", "fetch", "torch_file", "conv", "models",
    "losses",
    "tflite_file", "tflite", "detector", "convert", "visualize", "track", "hdf5_exports",
    "exports", "dlc_analysis", "report", "state", "settings",
    "tasks", "steps", "memory", "crops", "methods", "ranges", "claims", "ttp", "parallel",
    "checkpoint", "people", "driver", "inputs", "api",
)  # fmt: skip
CORE = {*ORDER} - {"inputs", "api"}  # which are for programs of others
# What each floor may import of the project's own, beside itself.
MAY_IMPORT = {
    "runs": {*CORE, "data_pipelines", "configs"},
    "paper": {*CORE, "data_pipelines", "runs"},
    "verbs": {*CORE, "data_pipelines", "configs", "runs", "paper"},
    "command_line": set(),
    "launch": {*CORE, "runs", "command_line"},
}
OWN = {path.name.removesuffix(".py") for path in ROOT.iterdir()} & {
    *("ttp_jax", "data_pipelines", "configs", "benchmarks", "main", "tests"),
}


@functools.cache
def imported(path, *, anywhere=True):
    tree, found = ast.parse(path.read_text()), []
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path} imports by a relative path"
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def roots(names):
    return {name.split(".")[0] for name in names}


def parts(names):
    """The modules and folders of the project: of "ttp_jax.runs.batch" "runs"."""
    found = {name.split(".")[1] for name in names if name.startswith("ttp_jax.")}
    modules = {name for name in found if name.islower() and not name.startswith("_")}
    return modules | (roots(names) & OWN - {"ttp_jax"})


def part_of(path):
    """The module or folder of ttp_jax that a file is."""
    return path.relative_to(TTP_JAX).parts[0].removesuffix(".py")


FILES = [path for path in sorted(TTP_JAX.rglob("*.py")) if path != TTP_JAX / "__init__.py"]
LIBRARY = [path for path in FILES if part_of(path) not in UPSTAIRS]
ABOVE = [path for path in FILES if part_of(path) in UPSTAIRS]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


# --- The core ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_runs_without_tensorflow_cv2_or_the_pipelines(path):
    forbidden = {"tensorflow", "cv2", "data_pipelines", "torch", "configs", "main"}
    # Inside functions only: the reader of torch files, and what cuts the windows of arrays.
    allowed = {"torch_file.py": {"torch"}, "inputs.py": {"data_pipelines"}}.get(path.name, set())
    assert not roots(imported(path)) & (forbidden - allowed)
    assert not roots(imported(path, anywhere=False)) & forbidden


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_knows_no_floor_above_it(path):
    assert not parts(imported(path)) & {*UPSTAIRS}


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_imports_point_one_way(path):
    part = part_of(path)
    own = parts(imported(path)) - {"data_pipelines"}
    new = {part, *own} - {*ORDER}
    assert not new, (
        f"{name_of(path)} is or imports {new}, which ORDER in this file lacks: put it before every "
        "module that imports it and after every module that it imports"
    )
    later = {name for name in own if ORDER.index(name) > ORDER.index(part)}
    assert not later, f"{part} imports {later}, which come after it"


# --- The floors above ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ABOVE, ids=name_of)
def test_a_floor_imports_only_those_below(path):
    floor = part_of(path)
    others = parts(imported(path)) - MAY_IMPORT[floor] - {floor}
    assert not others, f"{name_of(path)} imports {others}"


@pytest.mark.parametrize("path", [p for p in ABOVE if part_of(p) == "verbs"], ids=name_of)
def test_a_command_imports_no_other_command(path):
    names = {name for name in imported(path) if name.startswith("ttp_jax.verbs")}
    assert not names


def test_commands_are_imported_by_the_launcher_only():
    """Which names them by what was typed."""
    for path in (*FILES, *PIPELINES, *ROOT.glob("benchmarks/*.py"), *ROOT.glob("configs/*.py")):
        assert "verbs" not in parts(imported(path)), name_of(path)
        named = "ttp_jax.verbs." in path.read_text() and path.name != "doctor.py"  # its own entry
        assert not named or path == TTP_JAX / "launch.py", name_of(path)


def test_the_command_line_is_for_main_and_the_pages():
    for path in (*FILES, *PIPELINES, *ROOT.glob("benchmarks/*.py"), *ROOT.glob("configs/*.py")):
        told = parts(imported(path)) & {"command_line", "launch"}
        assert not told or path == TTP_JAX / "launch.py", name_of(path)
    assert parts(imported(ROOT / "main.py")) == {"command_line", "launch"}


@pytest.mark.parametrize("package", ["ttp_jax.runs", "ttp_jax.paper", "data_pipelines"])
def test_no_two_modules_import_each_other(package):
    folder = ROOT / package.replace(".", "/")
    paths = {f"{package}.{path.stem}": path for path in folder.glob("*.py")}
    graph = {name: {*imported(path)} & {*paths} - {name} for name, path in paths.items()}
    order = [*graphlib.TopologicalSorter(graph).static_order()]  # raises CycleError with the circle
    assert len(order) == len(paths) > 5


# --- Data and configs ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PIPELINES, ids=name_of)
def test_the_pipelines_never_import_flax(path):
    names = set(imported(path))
    assert "flax" not in roots(names)
    own = {name.split(".")[1] for name in names if name.startswith("ttp_jax.")}
    assert own <= {
        *("files", "frames", "skeletons", "geometry", "heatmaps", "augment", "deprecation")
    }
    assert not roots(names) & {"configs", "benchmarks", "main"}


def test_importing_the_pipelines_loads_no_flax():
    code = (
        "import sys, data_pipelines.pipeline, data_pipelines.penn, data_pipelines.synthetic; "
        "sys.exit('flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=name_of)
def test_a_config_is_plain_data(path):
    known = {*sys.stdlib_module_names, "ml_collections", "configs"}
    assert roots(imported(path)) <= known
