"""A network small enough for CPU tests, with random weights that cost no compilation."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ttp_jax import state
from ttp_jax.models.encoders import resnet
from ttp_jax.models.pose import PoseNet
from ttp_jax.models.vgg import VGG16

SIZE = 64


def model(**options) -> PoseNet:
    """ResNet-18 of width 8 on 64 x 64 pictures, 16 x 16 maps.

    The fixture `shallow` cuts its trunk to two blocks, of total stride 8.
    """
    small = {
        "num_joints": 4,
        "num_maps": 6,
        "width": 8,
        "feature_dim": 16,
        "upsamplings": 1 if resnet.STAGES[18] == (1, 1, 0, 0) else 2,
        "last_stride": 1,
        "heads": 2,
        "ffn_dim": 32,
        "appearance_widths": (4, 8),
        "keypoint_widths": (4, 8),
    }
    return PoseNet(**{**small, **options})


def variables(net: PoseNet, seed: int = 0, size: int = SIZE) -> dict:
    """He-scaled weights, statistics near (0, 1), drawn with numpy in the order of the names."""
    picture = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), picture, picture)
    rng, flat = np.random.default_rng(seed), {}
    for path, leaf in sorted(traverse_util.flatten_dict(dict(shapes), sep="/").items()):
        name, noise = path.rsplit("/", 1)[1], rng.normal(size=leaf.shape)
        if name in ("scale", "var"):
            value = 1 + 0.1 * np.clip(noise, -3, 3)
        elif name in ("bias", "mean", "in_bias"):
            value = 0.1 * noise
        else:
            value = noise * np.sqrt(2 / np.prod(leaf.shape[:-1]))
            # Flat enough maps: a hard soft-argmax would have no gradient.
            value = 0.2 * value if "/self_head/" in path else value
        flat[path] = jnp.asarray(value, jnp.float32)
    return traverse_util.unflatten_dict(flat, sep="/")


def vgg(levels: int = 1, width: int = 4, seed: int = 1) -> VGG16:
    """Random features with few channels."""
    rng, layers, channels = np.random.default_rng(seed), [], 3
    for _ in range(levels):
        block = []
        for _ in range(2):
            kernel = rng.normal(size=(3, 3, channels, width)) * np.sqrt(2 / (9 * channels))
            bias = 0.1 * rng.normal(size=width)
            block.append((jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)))
            channels = width
        layers.append(tuple(block))
    return VGG16(tuple(layers), None, None, "random")


def base(net: PoseNet, levels: int = 1, seed: int = 0) -> state.Base:
    """A model to personalize."""
    drawn = variables(net, seed)
    return state.Base(drawn["params"], drawn["batch_stats"], jnp.ones(levels + 1))


def pictures(count: int, seed: int = 0, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Smooth random uint8 pictures [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, height // 8, width // 8, 3))
    return coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)
