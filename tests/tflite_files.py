"""TensorFlow Lite files for tests, made by TensorFlow, and its interpreter's outputs."""

import functools
import os

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

from ttp_jax.models.encoders import graph

ACTIVATIONS = {"none": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}


def convert(function, shape, *, half: bool = False) -> bytes:
    """A function of one float32 picture as a file; `half` keeps weights in float16."""
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def interpreted(content: bytes, picture: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs by name, of a picture [1, H, W, C]."""
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {each["name"]: interpreter.get_tensor(each["index"]) for each in details}


def evaluate(network: graph.Graph, params: dict, x) -> list:
    """A graph by TensorFlow's own operators, with weights as `graph.Network` has them."""
    values = [x]
    for operator, inputs, name in network.nodes:
        values.append(apply(operator, *(values[i] for i in inputs), **params.get(name, {})))
    return [values[i] for i in network.outputs]


@functools.singledispatch
def apply(operator, *inputs, **weights):
    """One operator."""
    raise NotImplementedError(operator)


@apply.register
def _(operator: graph.Conv, x, kernel, bias):
    y = tf.nn.conv2d(x, kernel, operator.stride, operator.padding) + bias
    return ACTIVATIONS[operator.activation](y)


@apply.register
def _(operator: graph.Depthwise, x, kernel, bias):
    strides = (1, operator.stride, operator.stride, 1)
    y = tf.nn.depthwise_conv2d(x, kernel[..., None], strides, operator.padding) + bias
    return ACTIVATIONS[operator.activation](y)


@apply.register
def _(operator: graph.Add, x, y):
    return ACTIVATIONS[operator.activation](x + y)


@apply.register
def _(operator: graph.Pad, x):
    return tf.pad(x, ((0, 0), operator.height, operator.width, (0, 0)))


@apply.register
def _(operator: graph.Resize, x):
    _, height, width, _ = x.shape
    return tf.image.resize(x, (operator.factor * height, operator.factor * width))


@apply.register
def _(operator: graph.MaxPool, x):
    return tf.nn.max_pool2d(x, operator.size, operator.stride, operator.padding)


@apply.register
def _(operator: graph.DepthToSpace, x):
    return tf.nn.depth_to_space(x, operator.block)


@apply.register
def _(operator: graph.Logistic, x):
    return tf.nn.sigmoid(x)


@apply.register
def _(operator: graph.Reshape, x):
    return tf.reshape(x, (1, *operator.shape))


@apply.register
def _(operator: graph.Concatenation, *inputs):
    return tf.concat(inputs, operator.axis)
