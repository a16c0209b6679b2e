"""Ways to damage a file, which test_damage.py applies to each kind of file.

Each function yields (what was done, new bytes) without end; equal generators yield equal damage.
"""

import io
import itertools
import json
import pickle
import zipfile
from collections.abc import Iterator

import numpy as np

Mutations = Iterator[tuple[str, bytes]]
CHANGED = "bytes: "  # how the names of what checksums can find begin
BLOCK = 64
# What a value in a JSON text is changed into.
ODD = (
    *(None, True, [], {}, "", "x", -1, 0, 1, 2.5, 10**30, [1], {"a": 1}, "../../x", "\x00"),
    *(float("nan"), float("inf"), [[[]]], {"": None}, "9" * 400),
)


def alternately(*kinds: Mutations) -> Mutations:
    """One of each kind after the other."""
    for each in zip(*kinds, strict=False):
        yield from each


def of_bytes(data: bytes, rng: np.random.Generator) -> Mutations:
    """What disks, copies and editors do to any file."""
    for what, changed in _of_bytes(data, rng):
        yield f"{CHANGED}{what}", changed


def _of_bytes(data: bytes, rng: np.random.Generator) -> Mutations:
    yield "empty", b""
    while True:
        size = max(len(data), 1)
        place = int(rng.integers(size))
        end = min(place + BLOCK, len(data))
        block = bytearray(data)
        yield "truncated", data[:place]
        for _ in range(3):  # what is hardest to notice, so more often
            bit = int(rng.integers(8 * size))
            flipped = bytearray(data)
            if flipped:
                flipped[bit // 8] ^= 1 << bit % 8
            yield "a bit flipped", bytes(flipped)
        block[place:end] = bytes(end - place)
        yield "a block of zeros", bytes(block)
        block[place:end] = rng.bytes(end - place)
        yield "a block of noise", bytes(block)
        yield "a block missing", data[:place] + data[end:]
        yield "a block twice", data[:end] + data[place:end] + data[end:]
        yield "more behind it", data + rng.bytes(BLOCK)
        yield "noise", rng.bytes(min(size, 2000))


def of_json(text: str, rng: np.random.Generator) -> Mutations:
    """Texts that are JSON, or nearly, of something else."""
    nested = 100_000
    for odd in ("[1]", "[]", "{}", "null", "true", "3", '"x"', "NaN", "1e999", "1" * 5000):
        yield "another top", odd.encode()
    yield "nested deeply", (nested * "[" + nested * "]").encode()
    yield "nested deeply", (nested * '{"a":' + "1" + nested * "}").encode()
    yield "nested within", (120 * "[" + text + 120 * "]").encode()
    yield "UTF-16", text.encode("utf-16")
    yield "with a mark", text.encode("utf-8-sig")
    while True:
        value = json.loads(text)
        places = list(_places(value))
        parent, key = places[int(rng.integers(len(places)))] if places else ([value], 0)
        match int(rng.integers(4)):
            case 0:
                del parent[key]
                yield "a part missing", json.dumps(value).encode()
            case 1 if isinstance(parent, dict):
                parent[f"{key}~"] = parent.pop(key)
                yield "another key", json.dumps(value).encode()
            case 2 if isinstance(parent, dict):
                twice = json.dumps(value).replace(f'"{key}": ', f'"{key}": 0, "{key}": ', 1)
                yield "a key twice", twice.encode()
            case _:
                parent[key] = ODD[int(rng.integers(len(ODD)))]
                yield "another type", json.dumps(value).encode()


def _places(value) -> Iterator[tuple]:
    """(container, key) of all that is in a value of JSON, at any depth."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def of_archive(data: bytes, rng: np.random.Generator) -> Mutations:
    """NumPy archives whose checksums are right and whose contents are not."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    names = list(arrays)
    texts = [n for n in names if arrays[n].dtype.kind == "U" and arrays[n].ndim == 0]
    numbers = [n for n in names if arrays[n].dtype.kind in "fiu"]
    inner = {name: of_json(_json_of(arrays[name]), rng) for name in texts}

    def archive(**changes) -> bytes:
        file, kept = io.BytesIO(), {k: v for k, v in {**arrays, **changes}.items() if v is not None}
        np.savez(file, **kept)
        return file.getvalue()

    yield "none in it", archive(**dict.fromkeys(arrays))
    yield "a pickle", pickle.dumps(arrays)
    for turn in itertools.count():
        if turn == 40:  # takes seconds to make
            yield "a bomb", _bomb(archive(), names[0])
        name = names[int(rng.integers(len(names)))]
        number = numbers[int(rng.integers(len(numbers)))] if numbers else name
        value = arrays[number]
        match turn % 8:
            case 0:
                yield "an array missing", archive(**{name: None})
            case 1:
                yield "an array more", archive(**{f"{name}~": arrays[name]})
            case 2:
                shape = (2**40,) if rng.random() < 0.5 else (2**20, 2**20, 3)
                yield "a huge header", _with_header(archive(), name, {"shape": shape})
            case 3:
                yield "Python objects", archive(**{name: np.array([{}, None], object)})
            case 4:
                odd = np.asarray(value, np.float64) if value.dtype.kind == "f" else value
                broken = odd * np.nan if odd.dtype.kind == "f" else odd
                yield "NaN", archive(**{number: broken.astype(value.dtype)})
            case 5:
                other = [value[None], value.ravel()[:1], value.astype("U8"), value.astype(complex)]
                chosen = other[int(rng.integers(4))]
                yield "another shape or type", archive(**{number: chosen})
            case 6:
                descr = ("<U999999999", "V99999999999", "O", "<f3", "(" * 3000)[rng.integers(5)]
                yield "an odd header", _with_header(archive(), name, {"descr": descr})
            case 7 if texts:
                text = texts[int(rng.integers(len(texts)))]
                what, changed = next(inner[text])
                replaced = changed.decode("utf-8", "replace").replace("\x00", " ")
                yield f"its text: {what}", archive(**{text: np.array(replaced)})


def _json_of(array: np.ndarray) -> str:
    try:
        return json.dumps(json.loads(str(array)))
    except ValueError:
        return json.dumps(str(array))


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


def _with_header(data: bytes, name: str, changes: dict) -> bytes:
    """The archive with other words in the header of an array, whose numbers stay."""
    members = _members(data)
    file = io.BytesIO(members[f"{name}.npy"])
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    header = {"descr": dtype.str, "fortran_order": fortran, "shape": shape, **changes}
    written = repr(header).encode().ljust(117) + b"\n"
    start = np.lib.format.magic(1, 0) + len(written).to_bytes(2, "little")
    members[f"{name}.npy"] = start + written + file.read()
    return _zipped(members)


def _bomb(data: bytes, name: str) -> bytes:
    """The archive with an array of a gibibyte of zeros, which takes a mebibyte in the file."""
    members, size = _members(data), 2**30
    header = io.BytesIO()
    words = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(header, words)
    del members[f"{name}.npy"]
    packed = io.BytesIO(_zipped(members))
    with (
        zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as written,
        written.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
    return packed.getvalue()


def of_table(text: str, rng: np.random.Generator) -> Mutations:
    """Tables (CSV) with another cell, line or encoding."""
    odd = (
        "",
        "nan",
        "inf",
        "1e999",
        "-1",
        "x",
        '"',
        "1" * 400,
        "\u0660",
        "0x10",
        "1,1",
        "1e400",
        "-0.1",
    )
    yield "UTF-16", text.encode("utf-16")
    yield "with a mark", text.encode("utf-8-sig")
    yield "a long line", text.encode() + b"1," * 100_000
    while True:
        lines = [line.split(",") for line in text.split("\n")]
        line = int(rng.integers(len(lines)))
        cell = int(rng.integers(len(lines[line])))
        match int(rng.integers(4)):
            case 0:
                del lines[line]
                what = "a line missing"
            case 1:
                del lines[line][cell]
                what = "a cell missing"
            case 2:
                lines.insert(line, lines[line])
                what = "a line twice"
            case _:
                lines[line][cell] = odd[int(rng.integers(len(odd)))]
                what = "another cell"
        yield what, "\n".join(",".join(cells) for cells in lines).encode()
