"""BlazePose's person detector: pictures of 224 x 224 -> raw boxes, points and scores.

The network of `pose_detection.tflite` (`python main.py fetch blazepose`); what its numbers mean is
in `data_pipelines.people.detections`.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ttp_jax import fetch
from ttp_jax.models.encoders import graph

SIZE = 224  # pixels of the (square) input
See = Callable[[Any], tuple[jax.Array, jax.Array]]


def path() -> pathlib.Path:
    """Where `fetch blazepose` puts the detector."""
    return fetch.folder() / "blazepose" / fetch.DETECTOR.name


def is_here() -> bool:
    """Whether it was fetched, and the package that reads it is installed."""
    return path().is_file() and fetch.can_read()


@functools.lru_cache(maxsize=1)
def load(file: pathlib.Path | None = None) -> See:
    """The detector as a function (pictures uint8 RGB [n, 224, 224, 3]) -> values, logits.

    `values` are [n, 2254, 12] in input pixels beside the anchors, `logits` [n, 2254].

    Raises FileNotFoundError where it wasn't fetched, ValueError where the file is damaged.
    """
    from ttp_jax import tflite  # on use only: it needs an extra package

    network = tflite.read(path() if file is None else file)
    module = graph.Network(network.graph)
    params = jax.device_put(network.params)

    @jax.jit
    def see(params, pictures):
        found: Any = module.apply({"params": params}, pictures.astype(jnp.float32) / 127.5 - 1)
        values, logits = sorted(found, key=lambda array: -array.shape[-1])
        return values, logits[..., 0]

    return lambda pictures: see(params, pictures)
