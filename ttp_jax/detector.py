"""BlazePose's two networks for finding people: the detector, and landmarks with a presence score.

They come from `pose_detection.tflite` and `pose_landmark_full.tflite` (`python main.py fetch
blazepose`); `data_pipelines.people` interprets their outputs. The landmark network is the one that
`--model=blazepose` adapts, with a second head that tells whether anybody is in the crop.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax import fetch, geometry, heatmaps
from ttp_jax.models.encoders import graph

MAPS, PRESENCE = "Identity_3", "Identity_1"  # outputs of the landmark network
See = Callable[[Any], tuple[jax.Array, jax.Array]]


class Landmarks(NamedTuple):
    """The landmark network's outputs for n crops.

    Attributes:
      points: float32 [n, 39, 2] in pixels of the crops: 33 joints, then auxiliary points.
      confidence: float32 [n, 39], 0 to 1.
      presence: float32 [n], 0 to 1, score that somebody is in the crop.
    """

    points: np.ndarray
    confidence: np.ndarray
    presence: np.ndarray


Look = Callable[[np.ndarray], Landmarks]  # crops uint8 RGB [n, 256, 256, 3]


def path() -> pathlib.Path:
    """Return where `fetch blazepose` puts the detector."""
    return fetch.folder() / "blazepose" / fetch.DETECTOR.name


def landmarks_path() -> pathlib.Path:
    """Return where `fetch blazepose` puts the landmark network."""
    return path().with_name(fetch.LANDMARKS.name)


def is_here() -> bool:
    """Return whether both networks were fetched, and the package that reads them is installed."""
    return path().is_file() and landmarks_path().is_file() and fetch.can_read()


def load(file: pathlib.Path | None = None) -> See:
    """Return the detector as a function (images uint8 RGB [n, 224, 224, 3]) -> values, logits.

    `values` [n, 2254, 12] are in input pixels relative to the anchors, `logits` are [n, 2254].

    Raises FileNotFoundError if it wasn't fetched, ValueError if the file is damaged.
    """
    return _detector(path() if file is None else file)


@functools.lru_cache(maxsize=1)
def _detector(file: pathlib.Path) -> See:
    module, params = _read(file)

    @jax.jit
    def see(params, pictures):
        found: Any = module.apply({"params": params}, pictures.astype(jnp.float32) / 127.5 - 1)
        values, logits = sorted(found, key=lambda array: -array.shape[-1])
        return values, logits[..., 0]

    return lambda pictures: see(params, pictures)


def load_landmarks() -> Look:
    """Return the landmark network as a function of crops; raises as `load` does."""
    return _landmarks(landmarks_path())


@functools.lru_cache(maxsize=1)
def _landmarks(file: pathlib.Path) -> Look:
    module, params = _read(file, MAPS, PRESENCE)

    @jax.jit
    def see(params, crops):
        found: Any = module.apply({"params": params}, crops.astype(jnp.float32) / 255)
        maps, presence = found
        points, confidence = heatmaps.decode(maps, "centroid")
        stride = crops.shape[1] / maps.shape[1]
        points = geometry.map_to_crop(points, stride, geometry.EDGE)
        return points, confidence, presence.reshape(len(crops))

    def look(crops: np.ndarray) -> Landmarks:
        # One crop per call, because each number of people would need its own compiled program.
        rows = [jax.device_get(see(params, crop[None])) for crop in crops]
        return Landmarks(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    return look


def _read(file: pathlib.Path, *outputs: str) -> tuple[graph.Network, Any]:
    from ttp_jax import tflite  # imported late, because it needs an extra package

    network = tflite.read(file, *outputs)
    return graph.Network(network.graph), jax.device_put(network.params)
