"""Fixtures shared by all tests."""

import gc
import os
import pathlib
import shutil
import tarfile
import tempfile

# Tests compile many programs and run each a few times. Must be set before jax starts its backend;
# convolutions and matrix products are library calls that it leaves alone. Without the emitters of
# fusions a training step compiles in a third of the time.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import jax
import pytest

from ttp_jax import checkpoint, detector, fetch
from ttp_jax.models.encoders import resnet

# Equal programs are compiled once in a session: its processes share a folder, named by the first.
if "TTP_JAX_TEST_CACHE" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="ttp_jax_tests_")
    os.environ["TTP_JAX_TEST_CACHE"] = _CACHE.name
jax.config.update("jax_compilation_cache_dir", os.environ["TTP_JAX_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

# Commands take what the user fetched, where there is something: tests, and what they start, take
# nothing unless they ask for `blazepose_here`, so that they do the same on every machine.
_FETCHED = os.environ.setdefault("TTP_JAX_TEST_WEIGHTS", str(fetch.folder()))
_NOTHING = tempfile.TemporaryDirectory(prefix="ttp_jax_nothing_fetched_")
os.environ[fetch.FOLDER] = _NOTHING.name


@pytest.fixture
def blazepose_here(monkeypatch):
    """BlazePose as this machine's user fetched it; skips where it isn't there."""
    monkeypatch.setenv(fetch.FOLDER, _FETCHED)
    if not (detector.is_here() and checkpoint.blazepose_path().is_file()):
        pytest.skip(f"BlazePose isn't in {_FETCHED}: python main.py fetch blazepose")


# Each compilation makes many small objects. Looking for garbage among them as often as Python does
# by itself takes a twelfth of the time.
gc.set_threshold(50_000, 20, 20)

# Files of ten seconds to two minutes, the longest first. They begin the run, so that no process is
# left with one of them at the end.
LONG = (
    *("verbs", "ttp", "methods", "parity", "steps", "resume", "stop", "warning_signs", "reproduce"),
    *("same_subject", "backdrop", "synthetic", "tasks", "blazepose", "personal_runs", "outputs"),
    *("live", "layouts", "api", "devices", "experiment", "checkpoint", "report", "benchmarks"),
    *("people_finder", "builders", "damage", "pipeline", "notebooks", "docs", "hosts"),
)


def pytest_collection_modifyitems(items):
    """Put the long files first; --no-loadscope-reorder leaves the order to this."""

    def rank(item):
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=rank)


@pytest.fixture
def x64():
    """Float64 in jax for the length of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def shallow():
    """A trunk of two residual blocks for one module: half the compile time of ResNet-18."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGES, 18, (1, 1, 0, 0))
        yield


@pytest.fixture(scope="session")
def shared_data():
    """Paths of data too large for the repository, in TTP_SHARED_DATA or ../shared/data.

    A test that asks for one that isn't there skips.
    """
    root = pathlib.Path(os.environ.get("TTP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

    def path(*parts) -> pathlib.Path:
        if not (found := root.joinpath(*parts)).exists():
            pytest.skip(f"no data at {found}: set TTP_SHARED_DATA to the folder that holds it")
        return found

    return path


@pytest.fixture(scope="session")
def published_labels(shared_data, tmp_path_factory):
    """Penn Action's label files, in the order of their names."""
    folder = tmp_path_factory.mktemp("labels")
    with tarfile.open(shared_data("penn_action_labels", "labels.tar.gz")) as tar:
        # Python 3.11 has the filter from its fourth update on; this archive is ours.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(folder, **safe)
    return sorted(folder.rglob("*.mat"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window; a test that wants it skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if not all(programs.values()):
        pytest.skip("no Chromium: apt-get install chromium chromium-driver (Debian's packages)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--window-size=1000,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(argument)
    # The path given: selenium must not fetch a driver.
    service = webdriver.ChromeService(programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
