"""Fixtures of all tests; tests marked slow run with `-m slow` only."""

import os
import pathlib

import jax
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than some 25 s; run with -m slow")
    if not config.option.markexpr:
        config.option.markexpr = "not slow"


@pytest.fixture
def x64():
    """Float64 in jax for the length of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Folder of data too large for the repository: TTP_SHARED_DATA or ../shared/data."""
    path = pathlib.Path(os.environ.get("TTP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data at {path}: set TTP_SHARED_DATA")
    return path
