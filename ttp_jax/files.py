"""Files that are there whole or not at all."""

import os
import pathlib
from collections.abc import Callable


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
