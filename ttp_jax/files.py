"""Atomic writes, one reader for each container, names that stay inside a folder, and locks.

Readers trust nothing. Declared sizes are checked against the file's size before memory is
allocated, pickles are never loaded, and every fault raises `Damaged`, which names the file.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import pathlib
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

AGAIN = "delete it, or move it away, and run again"  # the remedy for most damaged files
PACKED = 64  # an archive may unpack to this many times its own size ...
MOST_BYTES = 2**29  # ... and to this much in any case, because constant values compress a lot
MOST_NESTED = 100  # largest depth of a JSON file
BLOCK = 2**20  # bytes read at a time
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # error numbers of a full disk


class Damaged(ValueError):
    """A file is cut off, corrupted or of another kind; the message names it and a remedy.

    Attributes:
      reason: what is wrong with it, for callers that write their own message.
    """

    def __init__(self, where: str | os.PathLike, reason: str, remedy: str = AGAIN):
        self.reason = reason
        super().__init__(f"{where} is damaged ({reason}): {remedy}.")


# Errors from reading one of our files and taking the expected content out of it.
DAMAGED = (KeyError, OSError, ValueError)


class Busy(ValueError):
    """Another process holds the lock of a file or folder, see `only_one`."""


def sha256(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- Writing -------------------------------------------------------------------------------------


def write_atomically(
    path: str | os.PathLike, write: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """Call `write(temporary path)`, then put the file in place; a crash leaves `path` untouched.

    Missing folders are created. A symbolic link at `path` is replaced, and its target stays as it
    is. Returns `path`. Errors of `write` are passed on; an OSError, for example on a full disk,
    names `path`.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        # Exclusive, so that a symbolic link planted under this guessable name is not followed.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise named(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_csv(path: str | os.PathLike, rows: Iterable[Iterable]) -> None:
    """Write the rows as a CSV file at once; cells with commas or quotes are quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue(), "utf-8"))


def named(error: OSError, path: pathlib.Path) -> OSError:
    """Return the error with the file's name, and a remedy if the disk is full.

    Python doesn't name the file if a write to an open file fails.
    """
    own = (None, str(path), f"{path}.{os.getpid()}.tmp")
    if error.errno is None or error.filename not in own:
        return error
    remedy = ": make room, and run the same command again" if error.errno in FULL else ""
    return OSError(error.errno, f"{os.strerror(error.errno)}{remedy}", str(path))


def write_arrays(path: pathlib.Path, arrays: dict[str, Any], *, compress: bool = True) -> None:
    """Write a NumPy archive so that a crash leaves the old file or the new one."""
    save = np.savez_compressed if compress else np.savez

    def write(temporary):
        with temporary.open("wb") as file:  # given a path, NumPy would add a suffix
            save(file, **arrays)

    write_atomically(path, write)


def write_json(path: str | pathlib.Path, value) -> None:
    """Write `value` so that a crash leaves the old file or the new one, never half of it."""
    text = json.dumps(value, indent=1, allow_nan=True)
    write_atomically(path, lambda temporary: temporary.write_text(text))


def move_aside(path: pathlib.Path, suffix: str = "") -> pathlib.Path:
    """Rename a file or folder to the first free name of NAME.old1, NAME.old2, ...; return the path.

    `suffix` is the end of the name that stays last: NAME.old1.npz.
    """
    return path.rename(unused(path, suffix))


def unused(path: pathlib.Path, suffix: str = "") -> pathlib.Path:
    """Return the first free name of NAME.old1, NAME.old2, ..., see `move_aside`."""
    name, number = path.name.removesuffix(suffix), 1
    while os.path.lexists(aside := path.with_name(f"{name}.old{number}{suffix}")):
        number += 1
    return aside


# --- NumPy and HDF5 ------------------------------------------------------------------------------


def read_arrays(
    path: str | os.PathLike,
    like: Mapping[str, tuple[str, int]] | None = None,
    remedy: str = AGAIN,
    renamed: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Return all arrays of a NumPy archive (.npz), after checking them against its checksums.

    Args:
      path: the archive.
      like: the arrays that it must have: name -> (kinds, axes), for example ("f", 3) for floats
        [., ., .]; kinds as in `numpy.dtype.kind`.
      remedy: what the message of Damaged tells the user to do.
      renamed: old name -> new name of arrays that earlier versions wrote.

    Raises FileNotFoundError or another OSError if the file can't be opened, Damaged otherwise.
    """
    path = pathlib.Path(path)
    with path.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        try:
            with zipfile.ZipFile(raw) as archive:
                _check_members(archive, size)
                names = archive.infolist()
                found = {m.filename.removesuffix(".npy"): _member(archive, m) for m in names}
                found = {(renamed or {}).get(name, name): array for name, array in found.items()}
                _check_arrays(found, like or {})
                return found
        # What zipfile, zlib and NumPy raise depends on where the damage is.
        except Exception as error:
            raise _damaged(path, error, remedy) from error


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that claims to hold more than is possible with its `size` in bytes."""
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two arrays have the same name")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("its arrays overlap")
    _check_size(sum(member.file_size for member in members), size)


def _check_size(claimed: int, size: int) -> None:
    if claimed > max(MOST_BYTES, PACKED * size):
        raise ValueError(f"it claims to hold {claimed:,} bytes, but has {size:,}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read one array, after checking that its header matches the number of bytes."""
    name = member.filename.removesuffix(".npy")
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with archive.open(member) as file:
        shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are never loaded")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or file.tell() + size != member.file_size:
            raise ValueError(f"{name} can't be of shape {shape}")
        data = bytearray(size)
        view, place = memoryview(data), 0
        while place < size:
            count = file.readinto(view[place : place + BLOCK])
            if not count:
                raise EOFError(f"{name} is cut off")
            place += count
        file.read(1)  # zipfile checks the checksum when it reads past the last byte
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def _check_arrays(found: dict[str, np.ndarray], like: Mapping[str, tuple[str, int]]) -> None:
    for name, (kinds, axes) in like.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        array = found[name]
        if array.dtype.kind not in kinds or array.ndim != axes:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")


def map_array(path: str | os.PathLike) -> np.ndarray:
    """Map a NumPy file (.npy) into memory: the array stays on disk until it is used.

    Raises FileNotFoundError, or Damaged.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # what NumPy raises depends on where the damage is
        raise _damaged(pathlib.Path(path), error, AGAIN) from error


def read_hdf5(path: str | os.PathLike, remedy: str = AGAIN) -> dict[str, np.ndarray]:
    """Return all numeric arrays in an HDF5 file by path; arrays kept in other files are refused.

    Raises FileNotFoundError or another OSError if the file can't be opened, Damaged otherwise.
    """
    import h5py  # imported late, because most users of this module don't need it

    path, found = pathlib.Path(path), {}
    size = path.stat().st_size

    def collect(name, item):
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiub":
            return
        if item.external or item.is_virtual:
            raise ValueError(f"{name} lies in another file")
        _check_size(item.nbytes + sum(array.nbytes for array in found.values()), size)
        found[name] = np.asarray(item)

    try:
        with path.open("rb"):
            pass
        with h5py.File(path) as file:
            file.visititems(collect)
    except PermissionError:
        raise
    except Exception as error:  # what h5py raises depends on where the damage is
        raise _damaged(path, error, remedy) from error
    return found


def reason_of(error: BaseException) -> str:
    """Return the message of an error of a library, on one line and shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:160]}..."


def _damaged(path: str | os.PathLike, error: Exception, remedy: str) -> Damaged:
    return Damaged(path, reason_of(error), remedy)


# --- JSON ----------------------------------------------------------------------------------------


def read_json(path: str | os.PathLike, like: Any = None) -> Any:
    """Return the content of a JSON file; None if there is no such file.

    Args:
      path: the file.
      like: the required content, a pattern of `unlike`.

    Raises Damaged, or OSError if the file can't be opened.
    """
    try:
        text = pathlib.Path(path).read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _damaged(path, error, AGAIN) from error
    return parse_json(text, path, like)


def parse_json(text: str, where: str | os.PathLike, like: Any = None, remedy: str = AGAIN) -> Any:
    """Parse a JSON text; `where` is its name in the message of Damaged.

    Duplicate keys, whole numbers beyond 64 bits and deep nesting are refused.
    """
    try:
        value = json.loads(text, parse_int=_whole_number, object_pairs_hook=_without_doubles)
        _check_depth(value)
    except RecursionError as error:
        raise Damaged(where, "nested too deeply", remedy) from error
    except ValueError as error:
        raise _damaged(where, error, remedy) from error
    if like is not None and (wrong := unlike(value, like)):
        raise Damaged(where, wrong, remedy)
    return value


def unlike(value: Any, like: Any, place: str = "it") -> str:
    """Describe how a value differs from a pattern; "" if it matches.

    A pattern is a type (float: any number; None: null), a tuple of patterns of which one must match
    (the description is about the last), [pattern] for a list whose values all match, {str: pattern}
    for an object whose values all match, or {"key": pattern} for an object that has these keys, and
    maybe others; "key?" may be absent.
    """
    if isinstance(like, tuple):
        wrong = [unlike(value, each, place) for each in like]
        return "" if "" in wrong else wrong[-1]
    if isinstance(like, list):
        if not isinstance(value, list):
            return _not_so(value, place)
        inner = ((each, like[0], f"{place}[{i}]") for i, each in enumerate(value))
    elif isinstance(like, dict):
        if not isinstance(value, dict):
            return _not_so(value, place)
        if str in like:
            inner = ((each, like[str], f"{place}.{key}") for key, each in value.items())
        else:
            named = {key.removesuffix("?"): pattern for key, pattern in like.items()}
            missing = [key for key in named if key not in value and f"{key}?" not in like]
            if missing:
                return f"{place} has no {missing[0]}"
            inner = ((value[key], p, f"{place}.{key}") for key, p in named.items() if key in value)
    else:
        return "" if _is_a(value, like) else _not_so(value, place)
    return next((wrong for each in inner if (wrong := unlike(*each))), "")


def _is_a(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if isinstance(value, bool):  # a bool is a number in Python
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _not_so(value: Any, place: str) -> str:
    shown = repr(value)
    return f"{place} is {shown[:60]}{'...' * (len(shown) > 60)}"


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"the number {digits[:20]}... is too large")
    return int(digits)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} comes twice")
    return found


def _check_depth(value: Any) -> None:
    """Refuse deep nesting; without recursion, which deep nesting would break."""
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > MOST_NESTED:
            raise ValueError("nested too deeply")
        level = [e for each in level for e in (each.values() if isinstance(each, dict) else each)]


# --- Folders -------------------------------------------------------------------------------------


def plain_name(name: str, what: str = "a name") -> str:
    """Return `name` if it is the plain name of a file in a folder, not a path.

    Raises ValueError, whose message calls it `what`, otherwise.
    """
    if name in ("", "..") or "\0" in name or pathlib.PurePath(name).name != name:
        raise ValueError(f"{what} is {name!r}, expected a plain name, without folders.")
    return name


def inside(folder: str | os.PathLike, name: str) -> pathlib.Path:
    """Return `folder / name` for a name, or a relative path, that comes from a user or a file.

    Raises ValueError if it could lead out of the folder: "../x", "/x".
    """
    parts = pathlib.PurePath(name).parts
    try:
        return pathlib.Path(folder).joinpath(*map(plain_name, parts or ("",)))
    except ValueError:
        raise ValueError(f"{name!r} points outside {folder}: give a name within it.") from None


@contextlib.contextmanager
def only_one(path: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
    """Lock `path` against other processes while this one writes there.

    If another process holds the lock, wait for it or raise Busy. Does nothing on systems without
    such locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(_open_lock(path.parent / f".{path.name}.lock"), "r+b") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise Busy(
                    f"another command is writing {path}: wait for it, or give one of the two a "
                    "--workdir of its own."
                ) from None
            except OSError:
                pass  # some network file systems have no locks
        yield


def _open_lock(path: pathlib.Path) -> int:
    """Open a lock file without changing it; links that somebody put there are not followed."""
    # Not all systems have these two flags.
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | careful, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"{path} is a symbolic link, expected a lock file: delete it.") from None
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise ValueError(f"{path} is not a plain file, expected a lock file: delete it.")
    return lock
