"""BlazePose's heatmap branch as an encoder: MediaPipe's pose network, 1.6 M parameters.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020. An inverted-residual
trunk of total stride 32, whose maps are brought back to a quarter of the image's size: each is
doubled in size and added to the one before it. Batch normalization is folded into kernels and
biases, so there are no statistics, and training and evaluation don't differ. `python main.py fetch
blazepose` downloads the weights (Apache-2.0), and `ttp_jax.convert` reads them.
"""

import flax.linen as nn
import jax.numpy as jnp

from ttp_jax.models.colors import to_unit
from ttp_jax.models.encoders.graph import (
    Add,
    Conv,
    Depthwise,
    Graph,
    Node,
    Operator,
    Pad,
    Resize,
    evaluate,
    reachable,
)

TOTAL_STRIDE = 32  # the sides of images are multiples of it
FEATURES = 48
MAPS = 39  # its own heatmaps, of which the first 33 are joints
JOINTS = 33
# Inverted residual blocks: channels inside, channels out, kernel size, stride.
BLOCKS = (
    (64, 24, 3, 2),
    (144, 24, 3, 1),
    (144, 32, 5, 2),
    (192, 32, 5, 1),
    (192, 64, 3, 2),
    (384, 64, 3, 1),
    (384, 64, 3, 1),
    (384, 88, 5, 1),
    (528, 88, 5, 1),
    (528, 88, 5, 1),
    (528, 144, 5, 2),
    (864, 144, 5, 1),
    (864, 144, 5, 1),
    (864, 144, 5, 1),
)
LATERAL = (2, 4, 10)  # the maps after these blocks also go to the features: strides 4, 8, 16


class BlazePose(nn.Module):
    """Images [B, H, W, 3] in normalised colours -> features [B, H / 4, W / 4, 48]."""

    dtype: jnp.dtype = jnp.float32
    features = FEATURES

    @nn.compact
    def __call__(self, x, train: bool):
        del train
        return evaluate(TRUNK, to_unit(x), self.dtype)[0]


def _trunk() -> Graph:
    """Return the network up to the features, as in the TensorFlow Lite file."""
    nodes: list[Node] = []

    def add(operator: Operator, *inputs: int, name: str = "") -> int:
        nodes.append(Node(operator, inputs, name))
        return len(nodes)

    def depthwise(x, name, size=3, stride=1):
        padding = "SAME"
        if stride > 1:
            edge = (size // 2, size // 2)
            x, padding = add(Pad(edge, edge), x), "VALID"
        return add(Depthwise(size, stride, padding, "relu6"), x, name=f"{name}_depthwise")

    def lateral(x, name):
        return add(Conv(FEATURES, 1, activation="relu6"), depthwise(x, name), name=name)

    x = add(Pad((1, 1), (1, 1)), 0)
    x = add(Conv(24, 3, 2, "VALID", "relu6"), x, name="stem")
    x = depthwise(x, "stem")
    x, channels, sides = add(Conv(16, 1), x, name="stem_project"), 16, []
    for number, (wide, out, size, stride) in enumerate(BLOCKS):
        name, start = f"block{number}", x
        x = add(Conv(wide, 1, activation="relu6"), x, name=f"{name}_expand")
        x = depthwise(x, name, size, stride)
        x = add(Conv(out, 1), x, name=f"{name}_project")
        if (out, stride) == (channels, 1):
            x = add(Add(), x, start)
        channels = out
        if number + 1 in LATERAL:
            sides.append(lateral(x, f"lateral{len(sides)}"))
    x = add(Conv(864, 1, activation="relu6"), x, name="last_expand")
    x = lateral(depthwise(x, "last"), "top")
    for side in reversed(sides):
        x = add(Add(), add(Resize(2), x), side)
    return reachable(Graph(tuple(nodes), (x,)))


TRUNK = _trunk()
_LAST = len(TRUNK.nodes)
# The network with its own heatmaps, which are logits; their convolution becomes `PoseNet`'s
# supervised head.
HEATMAPS = Graph((*TRUNK.nodes, Node(Conv(MAPS, 1), (_LAST,), "heatmaps")), (_LAST + 1,))
