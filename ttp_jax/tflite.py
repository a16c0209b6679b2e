"""TensorFlow Lite files as graphs and weights: convolutional networks whose outputs are maps.

    outputs("pose_landmark_full.tflite")                  # {"Identity_3": (1, 64, 64, 39), ...}
    network = read("pose_landmark_full.tflite", "Identity_3")
    module = graph.Network(network.graph)
    (maps,) = module.apply({"params": network.params}, pictures)

Weights may be float32 or float16 (with DEQUANTIZE), and sparse (with DENSIFY). A damaged or
malicious file raises a ValueError that names it. Importing this module needs the package `tflite`.
"""

import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax.models.encoders import graph
from ttp_jax.tflite_file import ACTIVATIONS, File, Unsupported

MOST_BYTES = 2**28  # largest file
MOST_PIXELS = 2**24  # largest input


class Network(NamedTuple):
    """The part of a file that computes some of its outputs.

    Attributes:
      graph: the operators.
      params: float32 weights for `graph.Network(graph)`, by layer.
      input_shape: [1, H, W, C].
    """

    graph: graph.Graph
    params: dict[str, dict[str, np.ndarray]]
    input_shape: tuple[int, ...]


def outputs(path: str | pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a file's outputs. Raises as `read` does."""
    return _about(path, lambda file: {file.name(t): file.shape(t) for t in file.outputs})


def read(path: str | pathlib.Path, *names: str) -> Network:
    """Read the part of a file that computes the named outputs, or all outputs without `names`.

    Layers are called layer1, layer2, ... in the order of `graph.reachable`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or has no such output, or an unsupported operator.
    """
    return _about(path, lambda file: _network(file, names))


def _about(path: str | pathlib.Path, use: Callable[[File], Any]) -> Any:
    """Open a file and use it; turn every error from its content into a ValueError naming it."""
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: name a TensorFlow Lite file.")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(
            f"{path} is larger than {MOST_BYTES // 2**20} MiB, too large for a pose network: name "
            "another file."
        )
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TensorFlow Lite file.")
    try:
        return use(File(data))
    except Unsupported as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # wrong indices and sizes in a damaged file can raise anything
        raise ValueError(f"{path} is damaged: download or export it again.") from error


class _Layer(NamedTuple):
    """An operator of the graph, the tensors that it reads, and its weights."""

    operator: graph.Operator
    reads: tuple[int, ...]
    weights: dict[str, np.ndarray] | None = None


def _network(file: File, names: tuple[str, ...]) -> Network:
    by_name = {file.name(tensor): tensor for tensor in file.outputs}
    for name in names:
        if name not in by_name:
            known = ", ".join(f"{n} {list(file.shape(t))}" for n, t in by_name.items())
            raise Unsupported(f"no output {name!r}, expected one of {known}.")
    wanted = [by_name[name] for name in names or by_name]
    if len(file.inputs) != 1 or len(file.shape(file.inputs[0])) != 4:
        raise Unsupported("expected a single input of shape [1, H, W, C].")
    places, nodes, weights = {file.inputs[0]: 0}, [], {}
    for number in _needed(file, wanted):
        layer = _TRANSLATORS[file.kind(number)](file, number)
        name = f"node{number}" if layer.weights else ""
        nodes.append(graph.Node(layer.operator, tuple(places[t] for t in layer.reads), name))
        weights[name] = layer.weights
        (made,) = file.operators[number].OutputsAsNumpy().tolist()
        places[made] = len(nodes)
    whole = graph.Graph(tuple(nodes), tuple(places[t] for t in wanted))
    network = _renamed(graph.reachable(whole), weights, file.shape(file.inputs[0]))
    _check_shapes(network, [file.shape(tensor) for tensor in wanted])
    return network


def _needed(file: File, wanted: list[int]) -> list[int]:
    """Return the operators from input to wanted tensors, except those that unpack constants."""
    found: set[int] = set()
    walk = list(wanted)
    while walk:
        tensor = walk.pop()
        if tensor in file.inputs:
            continue
        if file.is_constant(tensor):
            raise Unsupported(f"tensor {file.name(tensor)!r} is constant, expected a computed one.")
        if (number := file.makers[tensor]) not in found:
            found.add(number)
            walk += _data(file, number)
    return sorted(found)


def _data(file: File, number: int) -> tuple[int, ...]:
    """Return the tensors that an operator reads, without its constants."""
    kind = file.kind(number)
    if kind not in _TRANSLATORS:
        known = ", ".join(_TRANSLATORS)
        raise Unsupported(f"operator {kind} isn't supported, only {known}.")
    return file.tensors(number)[: 1 if kind in _WITH_CONSTANTS else None]


def _renamed(found: graph.Graph, weights: dict, input_shape: tuple[int, ...]) -> Network:
    """Number the layers that have weights in the order of the graph."""
    nodes, params = [], {}
    for node in found.nodes:
        name = f"layer{len(params) + 1}" if node.name else ""
        if name:
            params[name] = weights[node.name]
        nodes.append(node._replace(name=name))
    return Network(graph.Graph(tuple(nodes), found.outputs), params, input_shape)


def _check_shapes(network: Network, expected: list[tuple[int, ...]]) -> None:
    """Check that the graph's outputs have the file's shapes, and that all weights are finite."""
    if math.prod(network.input_shape) > MOST_PIXELS:
        raise Unsupported(f"input {list(network.input_shape)} is too large.")
    module = graph.Network(network.graph)
    picture = jax.ShapeDtypeStruct(network.input_shape, jnp.float32)
    found = jax.eval_shape(module.apply, {"params": network.params}, picture)
    if [array.shape for array in found] != expected:
        raise ValueError("other shapes")
    if not all(np.isfinite(w).all() for layer in network.params.values() for w in layer.values()):
        raise ValueError("weights that are not finite")


def _activation(options: Any) -> str:
    code = options.FusedActivationFunction()
    if code not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS.values())
        raise Unsupported(f"activation number {code} isn't supported, only {known}.")
    return ACTIVATIONS[code]


def _steps(options: Any, size: int) -> tuple[int, str]:
    """Return stride and padding for windows of this size."""
    stride, across = options.StrideH(), options.StrideW()
    if stride != across or stride < 1:
        raise Unsupported(f"strides {stride} x {across} aren't supported, only equal ones.")
    # Single pixels need no padding, so files of the same network may have either kind.
    return stride, "SAME" if size == 1 else graph.PADDINGS[options.Padding()]


def _weights(file: File, number: int, options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel in the file's layout, [out, k, k, in] or [1, k, k, C], and the bias."""
    if (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
        raise Unsupported(f"{file.kind(number)} with dilation isn't supported.")
    _, kernel, *bias = file.tensors(number)
    kernel = file.constant(kernel)
    if kernel.ndim != 4 or kernel.shape[1] != kernel.shape[2]:
        raise Unsupported(f"a kernel {list(kernel.shape)} isn't supported, only square ones.")
    features = kernel.shape[3 if file.kind(number) == "DEPTHWISE_CONV_2D" else 0]
    if not bias or bias[0] < 0:
        return kernel, np.zeros(features, np.float32)
    return kernel, file.constant(bias[0])


def _conv(file: File, number: int) -> _Layer:
    options = file.options(number, "Conv2DOptions")
    kernel, bias = _weights(file, number, options)
    size, activation = kernel.shape[1], _activation(options)
    operator = graph.Conv(len(bias), size, *_steps(options, size), activation)
    weights = {"kernel": kernel.transpose(1, 2, 3, 0), "bias": bias}
    return _Layer(operator, file.tensors(number)[:1], weights)


def _depthwise(file: File, number: int) -> _Layer:
    options = file.options(number, "DepthwiseConv2DOptions")
    kernel, bias = _weights(file, number, options)
    size, activation = kernel.shape[1], _activation(options)
    if kernel.shape[0] != 1 or options.DepthMultiplier() != 1:
        raise Unsupported("DEPTHWISE_CONV_2D with a multiplier isn't supported.")
    operator = graph.Depthwise(size, *_steps(options, size), activation)
    return _Layer(operator, file.tensors(number)[:1], {"kernel": kernel[0], "bias": bias})


def _max_pool(file: File, number: int) -> _Layer:
    options = file.options(number, "Pool2DOptions")
    size = options.FilterHeight()
    if size != options.FilterWidth() or _activation(options) != "none":
        raise Unsupported("MAX_POOL_2D is supported with square windows and no activation only.")
    return _Layer(graph.MaxPool(size, *_steps(options, size)), file.tensors(number))


def _add(file: File, number: int) -> _Layer:
    options, reads = file.options(number, "AddOptions"), file.tensors(number)
    if len({file.shape(tensor) for tensor in reads}) > 1:
        raise Unsupported("ADD of arrays of different shapes isn't supported.")
    return _Layer(graph.Add(_activation(options)), reads)


def _pad(file: File, number: int) -> _Layer:
    x, pads = file.tensors(number)
    around = [tuple(pair) for pair in file.constant(pads).tolist()]
    if len(around) != 4 or around[0] != (0, 0) or around[3] != (0, 0):
        raise Unsupported("PAD is supported for height and width only.")
    return _Layer(graph.Pad(around[1], around[2]), (x,))


def _resize(file: File, number: int) -> _Layer:
    options = file.options(number, "ResizeBilinearOptions")
    if options.AlignCorners() or not options.HalfPixelCenters():
        raise Unsupported("RESIZE_BILINEAR is supported with half-pixel centres only.")
    x, size = file.tensors(number)
    before, after = file.shape(x)[1:3], tuple(file.constant(size).tolist())
    factor = after[0] // before[0]
    if factor < 1 or after != (factor * before[0], factor * before[1]):
        raise Unsupported(f"RESIZE_BILINEAR from {before} to {after}: expected a multiple.")
    return _Layer(graph.Resize(factor), (x,))


def _depth_to_space(file: File, number: int) -> _Layer:
    options = file.options(number, "DepthToSpaceOptions")
    return _Layer(graph.DepthToSpace(options.BlockSize()), file.tensors(number))


def _logistic(file: File, number: int) -> _Layer:
    return _Layer(graph.Logistic(), file.tensors(number))


def _reshape(file: File, number: int) -> _Layer:
    (made,) = file.operators[number].OutputsAsNumpy().tolist()
    return _Layer(graph.Reshape(file.shape(made)[1:]), file.tensors(number)[:1])


def _concatenation(file: File, number: int) -> _Layer:
    options, reads = file.options(number, "ConcatenationOptions"), file.tensors(number)
    axis = options.Axis() % len(file.shape(reads[0]))
    if axis == 0 or _activation(options) != "none":
        raise Unsupported("CONCATENATION along the batch, or with an activation, isn't supported.")
    return _Layer(graph.Concatenation(axis), reads)


_TRANSLATORS: dict[str, Callable[[File, int], _Layer]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "ADD": _add,
    "PAD": _pad,
    "RESIZE_BILINEAR": _resize,
    "MAX_POOL_2D": _max_pool,
    "DEPTH_TO_SPACE": _depth_to_space,
    "LOGISTIC": _logistic,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
}
_WITH_CONSTANTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "RESIZE_BILINEAR", "RESHAPE")
