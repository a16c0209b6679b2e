"""Files that are there whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None


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


@contextlib.contextmanager
def only_one(folder: pathlib.Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder out while this one writes there.

    Does nothing where the system has no such locks. Raises ValueError where another one is at work.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another command is writing {folder}: wait for it, or give one of the two a "
                    "--workdir of its own."
                ) from None
            except OSError:
                pass  # some network file systems have no locks
        yield
