"""Personalized models as small files: what was added to the parameters of a named base.

A file is a NumPy archive without pickles: the arrays of `pack`, and `about`, a JSON text that names
the base by its fingerprint.
"""

import json
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from ttp_jax.files import DAMAGED, move_aside, read_arrays, write_arrays
from ttp_jax.state import STATISTICS

FORMS = "full, fp16 or rankR, for example rank8"


class Person(NamedTuple):
    """A personalized model.

    Attributes:
      delta: what to add to the base's parameters, by path.
      about: "base" (fingerprint), "form" (see `pack`), and what the writer knew beside.
    """

    delta: dict[str, np.ndarray]
    about: dict[str, Any]


def pack(delta: dict[str, Any], form: str) -> dict[str, np.ndarray]:
    """Write a delta in a smaller form.

    Args:
      delta: arrays by path.
      form: "full" keeps every bit; "fp16" rounds to half precision; "rank8" keeps, in half
        precision, the 8 largest singular values of every kernel [..., C] as a matrix with C
        columns, where that takes fewer numbers than the kernel has. Changes of batch statistics
        keep every bit in all forms: a rounded one could make a variance negative.

    Raises:
      ValueError: an unknown form.
    """
    rank = re.fullmatch(r"rank([1-9]\d*)", form)
    if form not in ("full", "fp16") and not rank:
        raise ValueError(f"a personalized model is kept as {FORMS}, not as {form!r}.")
    packed = {}
    for path, leaf in delta.items():
        leaf = np.asarray(leaf)
        matrix = leaf.reshape(-1, leaf.shape[-1])
        if form == "full" or path.startswith(STATISTICS):
            packed[path] = leaf
        elif rank and leaf.ndim > 1 and int(rank[1]) * sum(matrix.shape) < leaf.size:
            left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
            root = np.sqrt(values[: int(rank[1])])  # in both factors: halves what fp16 must span
            packed[f"{path}|left"] = (left[:, : len(root)] * root).astype(np.float16)
            packed[f"{path}|right"] = (root[:, None] * right[: len(root)]).astype(np.float16)
            packed[f"{path}|shape"] = np.array(leaf.shape)
        else:
            packed[path] = leaf.astype(np.float16)
    return packed


def unpack(packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo `pack`; float32."""
    delta = {k: v.astype(np.float32) for k, v in packed.items() if "|" not in k}
    for path in (k.removesuffix("|shape") for k in packed if k.endswith("|shape")):
        left, right = (packed[f"{path}|{part}"].astype(np.float32) for part in ("left", "right"))
        delta[path] = (left @ right).reshape(packed[f"{path}|shape"])
    return delta


def is_of(person: Person, about: dict[str, Any]) -> bool:
    """Whether all that `about` says is said of the personalized model, too."""
    return all(person.about.get(key) == value for key, value in about.items())


def make_room(path: pathlib.Path, about: dict[str, Any]) -> pathlib.Path | None:
    """Move a whole model that isn't of `about` aside, to NAME.old1.npz, and return where it is."""
    try:
        if is_of(read(path), about):
            return None
    except (FileNotFoundError, ValueError):
        return None  # nobody, or nothing that could still be used
    return move_aside(path, path.suffix)


def write(path: pathlib.Path, delta: dict[str, Any], form: str, about: dict[str, Any]) -> None:
    """Write a personalized model; a crash leaves the old file or the new one."""
    text = np.array(json.dumps({**about, "form": form}))
    write_arrays(path, {**pack(delta, form), "about": text})


def read(path: pathlib.Path, base: str | None = None) -> Person:
    """Read a personalized model.

    Args:
      path: file that `write` made.
      base: fingerprint of the model that it is to be added to; None doesn't check.

    Raises:
      FileNotFoundError: there is none.
      ValueError: the file is damaged, or belongs to another base.
    """
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.npz"))) or "nobody"
        raise FileNotFoundError(f"{path} isn't there; {path.parent} keeps {known}.")
    try:
        packed = read_arrays(path)
        about = json.loads(str(packed.pop("about")))
        person = Person(unpack(packed), about)
    except DAMAGED as error:
        raise ValueError(
            f"{path} is no whole personalized model ({error}): personalize again."
        ) from error
    if base is not None and about.get("base") != base:
        raise ValueError(
            f"{path} was personalized from model {str(about.get('base'))[:12]}, this one is "
            f"{base[:12]}: a delta fits its own base only. Use the --workdir it was made in."
        )
    return person


def compare(one: Person, other: Person) -> list[tuple[str, float, float, float]]:
    """How two personalized models lie to each other, per part of the network and in all.

    Returns rows (part, length of one's delta, of the other's, cosine between them).

    Raises:
      ValueError: they belong to different bases.
    """
    if one.about.get("base") != other.about.get("base"):
        raise ValueError("the two were personalized from different models: nothing to compare.")
    paths = sorted(set(one.delta) | set(other.delta))
    rows = []
    for part in [*dict.fromkeys(path.split("/")[0] for path in paths), "all"]:
        chosen = [path for path in paths if part in ("all", path.split("/")[0])]
        a, b = (
            np.concatenate(
                [np.ravel(p.delta.get(path, 0.0 * q.delta.get(path, 0.0))) for path in chosen]
            )
            for p, q in ((one, other), (other, one))
        )
        lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        rows.append((part, *lengths, float(a @ b / max(lengths[0] * lengths[1], 1e-30))))
    return rows
