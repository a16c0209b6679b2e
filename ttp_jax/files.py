"""Files that are there whole or not at all, and folders that one command at a time writes."""

import contextlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

# What NumPy raises of an archive that is empty, cut off, another file or one without a key.
DAMAGED = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile)


def write_atomically(
    path: str | os.PathLike, write: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """Call `write(temporary path)`, then put the file in place; a crash leaves `path` untouched.

    Makes missing folders. Returns `path`. Raises what `write` raises, OSError of a full disk, say.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_arrays(path: pathlib.Path, arrays: dict[str, Any], *, compress: bool = True) -> None:
    """Write a NumPy archive so that a crash leaves the old file or the new one."""
    save = np.savez_compressed if compress else np.savez

    def write(temporary):
        with temporary.open("wb") as file:  # given a name, numpy would add a suffix to it
            save(file, **arrays)

    write_atomically(path, write)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a NumPy archive without pickles. Raises one of DAMAGED where it is none."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def move_aside(path: pathlib.Path, suffix: str = "") -> pathlib.Path:
    """Rename a file or folder to the first of NAME.old1, NAME.old2, ... that is free; return that.

    `suffix` is the end of the name that stays last: NAME.old1.npz.
    """
    return path.rename(unused(path, suffix))


def unused(path: pathlib.Path, suffix: str = "") -> pathlib.Path:
    """The first of NAME.old1, NAME.old2, ... that is free, see `move_aside`."""
    name, number = path.name.removesuffix(suffix), 1
    while (aside := path.with_name(f"{name}.old{number}{suffix}")).exists():
        number += 1
    return aside


def write_json(path: str | pathlib.Path, value) -> None:
    """Write `value` so that a crash leaves the old file or the new one, never half of it."""
    text = json.dumps(value, indent=1, allow_nan=True)
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds; None if there is none. Raises ValueError where it is damaged."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and run again.") from error


@contextlib.contextmanager
def only_one(path: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes that ask for the same path out while this one writes there.

    Does nothing where the system has no such locks. Where another one is at work this one waits, or
    raises ValueError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise ValueError(
                    f"another command is writing {path}: wait for it, or give one of the two a "
                    "--workdir of its own."
                ) from None
            except OSError:
                pass  # some network file systems have no locks
        yield
