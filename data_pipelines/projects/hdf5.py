"""Reading a pandas table of numbers from an HDF5 file, without pandas and without unpickling.

pandas and PyTables unpickle parts of a file when they read it, always including the column names of
the "table" format, so a file from elsewhere could run code. Here h5py reads the arrays, and pickled
names are decoded from their opcodes, only if they are lists of strings and numbers. Nothing is ever
called.

Both formats that DeepLabCut has written are read: "fixed" (axis0, axis1, block0_values) and
"table".
"""

import io
import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from data_pipelines.clips import DataError, first_few

USUAL_KEYS = ("df_with_missing", "keypoints")  # DeepLabCut's key, and that of its labelling widgets
MOST_CELLS = 1 << 26
REMEDY = "Read the .csv beside it instead, or save it again"


class Frame(NamedTuple):
    """A table of numbers.

    Attributes:
      columns: [c], each a tuple of strings, from the header's first row to its last.
      index: [n] names of the rows; if they have several columns, these are joined by "/".
      values: float64 [n, c].
    """

    columns: list[tuple[str, ...]]
    index: list[str]
    values: np.ndarray


def read(path: Path) -> Frame:
    """Read the only table of a file, or the one under DeepLabCut's usual keys.

    Raises:
      DataError: the file is missing or damaged, it has no such table, or the table is pickled.
    """
    if not path.is_file():
        raise DataError(f"{path} can't be read: no such file.")
    try:
        with h5py.File(path, "r") as file:
            group = _table(file, path)
            kind = _text(group.attrs["pandas_type"])
            frame = (_fixed if kind == "frame" else _appendable)(group)
    except DataError:
        raise
    except Exception as error:  # the kind of error depends on where the damage is
        raise DataError(
            f"{path} can't be read as a table that pandas wrote ({_short(error)}). {REMEDY}."
        ) from error
    rows, columns = frame.values.shape
    if (len(frame.index), len(frame.columns)) != (rows, columns):
        raise DataError(
            f"{path}: {rows} x {columns} values, but {len(frame.index)} names of rows and "
            f"{len(frame.columns)} of columns: the file is damaged. {REMEDY}."
        )
    return frame


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _table(file: h5py.File, path: Path) -> Any:
    """Return the group of the table."""
    kinds = ("frame", "frame_table")
    found = [
        name
        for name, group in file.items()
        if isinstance(group, h5py.Group) and _text(group.attrs.get("pandas_type", b"")) in kinds
    ]
    chosen = [name for name in USUAL_KEYS if name in found] or found
    if not found or (len(chosen) > 1 and not set(chosen) <= set(USUAL_KEYS)):
        inside = first_few(list(file)) or "nothing"
        raise DataError(
            f"{path} holds {inside}, expected one table that pandas wrote, DeepLabCut's "
            f"{' or '.join(USUAL_KEYS)}."
        )
    return file[chosen[0]]


# --- The two formats -----------------------------------------------------------------------------


def _fixed(group: Any) -> Frame:
    """Read pandas' "fixed" format: names of columns and rows, and blocks of columns of one type."""
    columns, index = _axis(group, "axis0"), _axis(group, "axis1")
    names, blocks = [], []
    for number in range(int(group.attrs["nblocks"])):
        names += _axis(group, f"block{number}_items")
        blocks.append(_numbers(group[f"block{number}_values"]))
    values = np.concatenate(blocks, 1) if blocks else np.empty((len(index), 0))
    if len(set(names)) < len(names) or set(names) != set(columns):
        raise ValueError("names of columns that come twice or have no values")
    order = [names.index(column) for column in columns]
    return Frame(columns, ["/".join(row) for row in index], values[:, order])


def _axis(group: Any, name: str) -> list[tuple[str, ...]]:
    """Return the names along an axis as tuples; names of several levels are stored as indices."""
    if _text(group.attrs[f"{name}_variety"]) == "regular":
        return [(word,) for word in _words(group[name])]
    levels = []
    for level in range(int(group.attrs[f"{name}_nlevels"])):
        words = _words(group[f"{name}_level{level}"])
        places = _array(group[f"{name}_label{level}"])
        if places.dtype.kind not in "iu" or not (places >= 0).all():
            raise ValueError(f"{name}_label{level} has no indices")
        levels.append([words[place] for place in places])
    return list(zip(*levels, strict=True))


def _appendable(group: Any) -> Frame:
    """Read pandas' "table" format: index rows and blocks of values; column names are pickled."""
    table = _array(group["table"])
    attributes = group["table"].attrs
    columns, blocks = [], []
    for name in table.dtype.names or ():
        if name.startswith("values_block_"):
            columns += _pickled_names(bytes(attributes[f"{name}_kind"]))
            blocks.append(_numbers(table[name]))
    values = np.concatenate(blocks, 1) if blocks else np.empty((len(table), 0))
    return Frame(columns, _words(table["index"]), values)


def _array(data: Any) -> np.ndarray:
    """Read a data set as an array; raise for Python objects and impossible sizes."""
    if h5py.check_vlen_dtype(data.dtype) is not None or data.dtype.hasobject:
        raise ValueError(f"{data.name} holds pickled Python objects, which are never opened")
    if data.external or data.is_virtual:
        raise ValueError(f"{data.name} lies in another file")
    if data.size is None or data.size > MOST_CELLS:
        raise ValueError(f"{data.name} claims {data.size} cells")
    return data[()]


def _numbers(data: Any) -> np.ndarray:
    """Read values as float64 [n, c]."""
    array = _array(data) if isinstance(data, h5py.Dataset) else data
    if array.dtype.kind not in "fiu":
        raise ValueError(f"values of type {array.dtype}, expected numbers")
    return array.astype(np.float64).reshape(len(array), -1)


def _words(data: Any) -> list[str]:
    """Read names as strings, also if they are numbers."""
    array = _array(data) if isinstance(data, h5py.Dataset) else data
    if array.dtype.kind == "S":
        return [word.decode("utf-8") for word in array.tolist()]
    if array.dtype.kind not in "iuf":
        raise ValueError(f"names of type {array.dtype}, expected words")
    return [f"{number:g}" if array.dtype.kind == "f" else str(number) for number in array.tolist()]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


# --- Pickled names -------------------------------------------------------------------------------

_MARK = object()
_PUSHED = ("INT", "BININT", "BININT1", "BININT2", "LONG1", "UNICODE", "BINUNICODE", "STRING")
_PUSHED += ("SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
_STORED = ("PUT", "BINPUT", "LONG_BINPUT")
_FETCHED = ("GET", "BINGET", "LONG_BINGET")


def _pickled_names(data: bytes) -> list[tuple[str, ...]]:
    """Decode a pickled list of tuples of strings.

    Raises ValueError for a pickle of anything else, such as calls, classes or other types.
    """
    names = _literal(data)
    if not isinstance(names, list) or not all(
        isinstance(name, tuple) and 1 <= len(name) <= 4 and all(isinstance(w, str) for w in name)
        for name in names
    ):
        raise ValueError("the names of its columns are not text")
    return names


def _literal(data: bytes) -> Any:
    """Decode a pickle of lists, tuples, strings and integers from its opcodes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def cut() -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        start = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[start + 1 :]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        name = opcode.name
        if name in _PUSHED:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("LIST", "TUPLE"):
            items = cut()
            stack.append(items if name == "LIST" else tuple(items))
        elif name in ("EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append([] if name == "EMPTY_LIST" else ())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = cut()
            stack[-1].extend(items)
        elif name in (*_STORED, "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif name in _FETCHED:
            stack.append(memo[int(argument or 0)])
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"a pickle that is more than a list of names ({name})")
    raise ValueError("a pickle that is cut off")
