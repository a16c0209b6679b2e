"""Checks of what a model file claims about itself, before anything is built from it.

`ranges` checks the settings. Names, shapes and numbers of the arrays are then checked against the
network that these settings describe. That network is only traced, so it takes no memory.
"""

import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ttp_jax import ranges, skeletons
from ttp_jax.files import Damaged, reason_of, unlike
from ttp_jax.models import pose

REMEDY = "get the file again, or write it anew with `export`"
# Fields that a model can't be used without, and their types; other fields have defaults.
NEEDED = {
    "data": {"skeleton": str},
    "skeleton?": dict,
    "model": {"method": str, "image_size": int, "color_order": str},
    "loss": {"features": str, "levels": int},
    "ttp": dict.fromkeys(
        (
            *("iterations", "batch_size", "learning_rate", "rules", "reset", "memory"),
            *("normalisers", "rotation", "online_rotation_prob", "offline_rotation_prob"),
            *("scale", "flip_prob"),
        ),
        (str, float),  # `ranges` checks the values
    ),
    "train": {"precision": str},
}
ABOUT = {"step?": int, "config?": str, "training_subjects?": [str], "trained?": {"data?": dict}}
Flat = Mapping[str, Any]  # arrays, or their shapes, by path


def check_settings(config: Any, about: Any, where: str | os.PathLike) -> None:
    """Check the settings in a model file.

    Args:
      config: as in `checkpoint.ModelFile`, from the file's JSON.
      about: likewise.
      where: the file, for messages.

    Raises Damaged (a ValueError) if a part is missing or has the wrong type, ValueError if a value
    is out of its range; both name the file and the field.
    """
    for value, like, name in ((config, NEEDED, "config"), (about, ABOUT, "about")):
        if wrong := unlike(value, like, name):
            raise Damaged(where, wrong, REMEDY)
    ranges.check(config, f"{where}: config")
    try:
        skeletons.of_config(config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def check_arrays(
    params: Flat, stats: Flat, normalisers: np.ndarray, config: Mapping, where: str | os.PathLike
) -> None:
    """Check a model's arrays against its settings, which must have been checked.

    Raises Damaged naming the file and the first array that is missing, superfluous, of another
    shape or not finite.
    """
    fields = json.dumps([config["model"], skeletons.of_config(config).size, config["loss"]])
    try:
        wanted = {**shapes_of(fields), "normalisers": (config["loss"]["levels"] + 1,)}
    except (KeyError, TypeError, ValueError) as error:  # fields that don't go together
        raise Damaged(
            where, f"its settings describe no valid network: {reason_of(error)}", REMEDY
        ) from error
    found = {f"params/{path}": value for path, value in params.items()}
    found |= {f"batch_stats/{path}": value for path, value in stats.items()}
    found["normalisers"] = normalisers
    _check_shapes(found, wanted, where, REMEDY)
    check_numbers(found, where, REMEDY)


def check_delta(delta: Flat, own: Flat, where: str | os.PathLike, remedy: str) -> None:
    """Check the delta of a personalized model's file against its base's arrays (`state.by_path`).

    Raises Damaged naming the file and the first array that is unknown or has another shape.
    """
    wanted = {path: np.shape(own[path]) for path in delta if path in own}
    _check_shapes(delta, wanted, where, remedy)


def check_numbers(
    found: Flat, where: str | os.PathLike, remedy: str, *, differences: bool = False
) -> None:
    """Raise Damaged naming the first array that can't be a model's: NaN, infinity, text.

    With `differences`, the arrays are differences to a model, so a variance may be negative.
    """
    for path, value in found.items():
        wrong = None
        if value.dtype.kind != "f":
            wrong = f"{path} is {value.dtype}"
        elif not np.isfinite(value).all():
            wrong = f"{path} holds NaN or infinity"
        elif not differences and path.endswith("/var") and np.min(value, initial=0) < 0:
            wrong = f"{path} holds negative variances"
        if wrong:
            raise Damaged(where, wrong, remedy)


def _check_shapes(
    found: Flat, wanted: Mapping[str, tuple], where: str | os.PathLike, remedy: str
) -> None:
    for path in (*wanted, *found):
        if path not in found:
            wrong = f"{path} is missing"
        elif path not in wanted:
            wrong = f"the network has no {path}"
        elif (has := np.shape(found[path])) != wanted[path]:
            wrong = f"{path} is {has}, the network's is {wanted[path]}"
        else:
            continue
        raise Damaged(where, wrong, remedy)


@functools.lru_cache(maxsize=8)
def shapes_of(fields: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters and batch statistics.

    Keys are paths such as "params/encoder/conv1/kernel". `fields` is the JSON of [fields of
    config.model, number of joints, fields of config.loss], which the cache can use as a key.
    """
    model, joints, loss = json.loads(fields)
    net = pose.from_config(model, joints, loss=loss)
    picture = jax.ShapeDtypeStruct((1, model["image_size"], model["image_size"], 3), jnp.float32)

    def init(target, source):
        return net.init(jax.random.key(0), target, source)

    shapes = jax.eval_shape(init, picture, picture)
    flat: dict[str, Any] = traverse_util.flatten_dict(dict(shapes), sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}
