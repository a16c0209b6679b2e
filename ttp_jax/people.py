"""Personalized models as small files, which hold the difference to a base model.

A file is a NumPy archive without pickles: the arrays of `pack`, and `about`, a JSON text that
identifies the base model by its fingerprint.
"""

import json
import math
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from ttp_jax import claims
from ttp_jax.files import (
    MOST_BYTES,
    Damaged,
    move_aside,
    parse_json,
    read_arrays,
    unlike,
    write_arrays,
)
from ttp_jax.state import STATISTICS, Base, by_path

ABOUT = {"base": str, "form": str, "scenario?": str, "updates?": int}
REMEDY = "personalize again"
FORMS = "full, fp16 or rankR, for example rank8"


class Person(NamedTuple):
    """A personalized model.

    Attributes:
      delta: the difference to the base model, by path.
      about: "base" (fingerprint), "form" (see `pack`), and anything else that the writer noted.
    """

    delta: dict[str, np.ndarray]
    about: dict[str, Any]


def pack(delta: dict[str, Any], form: str) -> dict[str, np.ndarray]:
    """Return a delta in a smaller form.

    Args:
      delta: arrays by path.
      form: "full" keeps every bit; "fp16" rounds to half precision. "rank8" keeps, in half
        precision, the 8 largest singular values of each kernel [..., C] as a matrix with C columns,
        if that takes fewer numbers than the kernel has. Changes of batch statistics keep every bit
        in all forms, because rounding could make a variance negative.

    Raises:
      ValueError: the form is unknown.
    """
    rank = re.fullmatch(r"rank([1-9]\d*)", form)
    if form not in ("full", "fp16") and not rank:
        raise ValueError(f"a personalized model can be saved as {FORMS}, not as {form!r}.")
    packed = {}
    for path, leaf in delta.items():
        leaf = np.asarray(leaf)
        matrix = leaf.reshape(-1, leaf.shape[-1])
        if form == "full" or path.startswith(STATISTICS):
            packed[path] = leaf
        elif rank and leaf.ndim > 1 and int(rank[1]) * sum(matrix.shape) < leaf.size:
            left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
            root = np.sqrt(values[: int(rank[1])])  # in both factors, for fp16's small range
            packed[f"{path}|left"] = (left[:, : len(root)] * root).astype(np.float16)
            packed[f"{path}|right"] = (root[:, None] * right[: len(root)]).astype(np.float16)
            packed[f"{path}|shape"] = np.array(leaf.shape)
        else:
            packed[path] = leaf.astype(np.float16)
    return packed


def unpack(packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo `pack`; return float32 arrays.

    Raises ValueError for arrays that can't come from `pack`.
    """
    for name, array in packed.items():
        if array.dtype.kind != ("i" if name.endswith("|shape") else "f"):
            raise ValueError(f"{name} is {array.dtype}")
    delta = {k: v.astype(np.float32) for k, v in packed.items() if "|" not in k}
    for path in dict.fromkeys(k.partition("|")[0] for k in packed if "|" in k):
        left, right, shape = (packed.get(f"{path}|{part}") for part in ("left", "right", "shape"))
        if left is None or right is None or shape is None or (left.ndim, right.ndim) != (2, 2):
            raise ValueError(f"the low-rank form of {path} is incomplete")
        shape = tuple(map(int, shape.ravel()))
        if min(shape, default=0) < 1 or math.prod(shape) != len(left) * right.shape[1]:
            raise ValueError(f"{path} can't be of shape {shape}")
        numbers = math.prod(shape) + sum(known.size for known in delta.values())
        if 4 * numbers > MOST_BYTES:
            raise ValueError(f"it claims to hold {numbers:,} numbers")
        with np.errstate(over="ignore", invalid="ignore"):  # `check_numbers` finds infinities later
            delta[path] = (left.astype(np.float32) @ right.astype(np.float32)).reshape(shape)
    return delta


def is_of(person: Person, about: dict[str, Any]) -> bool:
    """Return whether a personalized model's `about` agrees with all fields of another.

    Args:
      person: the personalized model.
      about: names and values, as passed to `write`.
    """
    return all(person.about.get(key) == value for key, value in about.items())


def make_room(path: pathlib.Path, about: dict[str, Any]) -> pathlib.Path | None:
    """Move a model file aside to NAME.old1.npz if it doesn't agree with `about`.

    Return its new path, or None if nothing was moved. A damaged file is moved aside too, because
    its owner may be able to repair it.

    Args:
      path: the model file.
      about: see `write`.
    """
    try:
        if is_of(read(path), about):
            return None
    except FileNotFoundError:
        return None  # there is no such file
    except ValueError:
        pass
    return move_aside(path, path.suffix)


def write(
    path: str | pathlib.Path, delta: dict[str, Any], form: str, about: dict[str, Any]
) -> None:
    """Write a personalized model; a crash leaves the old file or the new one.

    Args:
      path: the file.
      delta: the difference to the base model, by path.
      form: "full", "fp16", or "rankN" for a low-rank approximation of rank N.
      about: facts to note: "base", the base model's `checkpoint.fingerprint`, and any others, such
        as subject and settings.

    Raises:
      ValueError: the form is unknown, or the base is missing.
    """
    packed = pack(delta, form)
    if wrong := unlike(about, {"base": str}, "about"):
        raise ValueError(f"{wrong}: give the base model's `checkpoint.fingerprint` as its base.")
    text = np.array(json.dumps({**about, "form": form}))
    write_arrays(pathlib.Path(path), {**packed, "about": text})


def read(path: str | pathlib.Path, base: str | None = None, model: Base | None = None) -> Person:
    """Read a personalized model.

    Args:
      path: a file written by `write`.
      base: fingerprint of the base model that it will be added to; None doesn't check it.
      model: the base model, whose shapes must match; None doesn't check them.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is cut off or of another kind. Damaged is a ValueError.
      ValueError: it belongs to another base.
    """
    path = pathlib.Path(path)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.npz"))) or "none"
        raise FileNotFoundError(f"{path} does not exist; models in {path.parent}: {known}.")
    packed = read_arrays(path, {"about": ("U", 0)}, REMEDY)
    about = parse_json(str(packed.pop("about")), f"{path}: about", ABOUT, REMEDY)
    try:
        delta = unpack(packed)
    except (TypeError, ValueError) as error:
        raise Damaged(path, str(error), REMEDY) from error
    claims.check_numbers(delta, path, REMEDY, differences=True)
    if base is not None and about["base"] != base:
        raise ValueError(
            f"{path} was personalized from model {about['base'][:12]}, but this model is "
            f"{base[:12]}: use the --workdir or --model that it was made with."
        )
    if model is not None:
        claims.check_delta(delta, by_path(model), path, REMEDY)
    return Person(delta, about)


def compare(one: Person, other: Person) -> list[tuple[str, float, float, float]]:
    """Compare two personalized models, for each part of the network and as a whole.

    Args:
      one: a personalized model.
      other: another one of the same base.

    Returns:
      Rows (part, norm of the first delta, norm of the second, cosine between them).

    Raises:
      ValueError: they belong to different bases.
    """
    if one.about.get("base") != other.about.get("base"):
        raise ValueError("the two were personalized from different models and can't be compared.")
    for path in set(one.delta) & set(other.delta):
        if one.delta[path].shape != other.delta[path].shape:
            raise ValueError(
                f"{path} differs in shape between the two: one of the files is damaged."
            )
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
