"""Convolutional networks as data: graphs of TensorFlow Lite's operators, and functions to run them.

`ttp_jax.tflite` reads a `Graph` from a file and `blazepose` defines one, so the two can be
compared. A graph has no weights: these are parameters of the layers that `evaluate` makes. Arrays
are [B, h, w, C]; without RESHAPE, a graph runs on images of any size that its strides divide.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ttp_jax.conv import conv, depthwise, max_pool, pointwise
from ttp_jax.models.layers import torch_default

ACTIVATIONS = {"none": lambda x: x, "relu": nn.relu, "relu6": nn.relu6}
PADDINGS = ("SAME", "VALID")


# A frozen dataclass of an operator's options. It is called with the node's inputs, the `name` of
# the layer that holds its parameters, and the dtype to compute in.
Operator = Callable[..., jax.Array]


class Node(NamedTuple):
    """One operator of a graph.

    Attributes:
      operator: the operator.
      inputs: what it reads: 0 is the graph's input, n the result of node n, counted from 1.
      name: name of its parameters; empty if it has none.
    """

    operator: Operator
    inputs: tuple[int, ...]
    name: str = ""


class Graph(NamedTuple):
    """Nodes, each after those that it reads, and the numbers of the output nodes; hashable."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]


def evaluate(graph: Graph, x: jax.Array, dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, ...]:
    """Run a graph inside a compact method of a module, and return all outputs.

    Args:
      graph: the operators.
      x: [B, H, W, C].
      dtype: type of the computation.
    """
    values = [x.astype(dtype)]
    for operator, inputs, name in graph.nodes:
        values.append(operator(*(values[i] for i in inputs), name=name, dtype=dtype))
    return tuple(values[i] for i in graph.outputs)


class Network(nn.Module):
    """A graph as a network of its own: images in the colours that it expects -> its outputs."""

    graph: Graph
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        return evaluate(self.graph, x, self.dtype)


def reachable(graph: Graph) -> Graph:
    """Return the part of a graph that its outputs need, in the order of a walk back from them.

    So two files of the same network give equal graphs, whatever their order and other contents.
    """
    places, nodes, walk = {0: 0}, [], list(reversed(graph.outputs))
    while walk:
        number = walk[-1]
        missing = [i for i in _inputs(graph, number) if i not in places]
        if missing:
            walk.append(missing[0])
            continue
        walk.pop()
        if number not in places:
            node = graph.nodes[number - 1]
            nodes.append(node._replace(inputs=tuple(places[i] for i in node.inputs)))
            places[number] = len(nodes)
    return Graph(tuple(nodes), tuple(places[i] for i in graph.outputs))


def _inputs(graph, number):
    return graph.nodes[number - 1].inputs if number else ()


# --- Operators -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Conv:
    """CONV_2D with a bias; kernel [size, size, C, features]."""

    features: int
    size: int
    stride: int = 1
    padding: str = "SAME"
    activation: str = "none"

    def __call__(self, x, *, name, dtype):
        shape = (self.size, self.size, x.shape[-1], self.features)
        x = _padded(x, self.size, self.stride, self.padding)
        kernel, bias = _Weights(shape, self.features, name=name)()
        kernel = kernel.astype(dtype)
        y = pointwise(x, kernel) if self.size == self.stride == 1 else conv(x, kernel, self.stride)
        y += bias.astype(dtype)
        return ACTIVATIONS[self.activation](y)


@dataclasses.dataclass(frozen=True)
class Depthwise:
    """DEPTHWISE_CONV_2D with a bias and multiplier 1; kernel [size, size, C]."""

    size: int
    stride: int = 1
    padding: str = "SAME"
    activation: str = "none"

    def __call__(self, x, *, name, dtype):
        channels = x.shape[-1]
        x = _padded(x, self.size, self.stride, self.padding)
        kernel, bias = _Weights((self.size, self.size, channels), channels, name=name)()
        y = depthwise(x, kernel.astype(dtype), self.stride) + bias.astype(dtype)
        return ACTIVATIONS[self.activation](y)


class _Weights(nn.Module):
    """Kernel and bias of a layer."""

    shape: tuple[int, ...]
    features: int

    @nn.compact
    def __call__(self):
        def draw(key, shape):  # fan-in: an output of a depthwise kernel has one input channel
            full = shape if len(shape) == 4 else (*shape[:2], 1, shape[2])
            return torch_default(key, full).reshape(shape)

        kernel = self.param("kernel", draw, self.shape)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """MAX_POOL_2D."""

    size: int
    stride: int
    padding: str = "SAME"

    def __call__(self, x, *, name, dtype):
        x = _padded(x, self.size, self.stride, self.padding, -jnp.inf)
        return max_pool(x, self.size, self.stride)


@dataclasses.dataclass(frozen=True)
class Add:
    """ADD of two arrays of one shape."""

    activation: str = "none"

    def __call__(self, x, y, *, name, dtype):
        return ACTIVATIONS[self.activation](x + y)


@dataclasses.dataclass(frozen=True)
class Pad:
    """PAD with zeros, (before, after) for height and width."""

    height: tuple[int, int]
    width: tuple[int, int]

    def __call__(self, x, *, name, dtype):
        return jnp.pad(x, ((0, 0), self.height, self.width, (0, 0)))


@dataclasses.dataclass(frozen=True)
class Resize:
    """RESIZE_BILINEAR with half-pixel centres, to a multiple of height and width."""

    factor: int

    def __call__(self, x, *, name, dtype):
        batch, height, width, channels = x.shape
        shape = (batch, self.factor * height, self.factor * width, channels)
        return jax.image.resize(x, shape, "bilinear")


@dataclasses.dataclass(frozen=True)
class DepthToSpace:
    """DEPTH_TO_SPACE: blocks of channels become blocks of pixels."""

    block: int

    def __call__(self, x, *, name, dtype):
        batch, height, width, channels = x.shape
        n = self.block
        x = x.reshape(batch, height, width, n, n, channels // n**2)
        return x.swapaxes(2, 3).reshape(batch, n * height, n * width, channels // n**2)


@dataclasses.dataclass(frozen=True)
class Logistic:
    """LOGISTIC."""

    def __call__(self, x, *, name, dtype):
        return nn.sigmoid(x)


@dataclasses.dataclass(frozen=True)
class Reshape:
    """RESHAPE to [B, *shape]."""

    shape: tuple[int, ...]

    def __call__(self, x, *, name, dtype):
        return x.reshape(x.shape[0], *self.shape)


@dataclasses.dataclass(frozen=True)
class Concatenation:
    """CONCATENATION."""

    axis: int

    def __call__(self, *inputs, name, dtype):
        return jnp.concatenate(inputs, self.axis)


def _padded(x, size: int, stride: int, padding: str, value: float = 0.0):
    """Pad as TensorFlow's SAME: ceil(n / stride) outputs, and an odd pixel goes to the end."""
    if padding == "VALID" or size == 1:
        return x
    around = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:3]]
    pads = [(n // 2, n - n // 2) for n in around]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)
