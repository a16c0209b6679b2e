"""Import of weights: torch state dicts, by one table of rules, and BlazePose's file.

The table has the names of the released program. Without the prefix `pose_net.`, its ResNet has
torchvision's names.
"""

import itertools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ttp_jax.models.encoders import blazepose
from ttp_jax.torch_file import read_torch

# (torch's module, ours); which leaf a tensor is follows from its name and shape.
RULES = (
    (r"^(?:pose_net\.)?(conv1|bn1)$", r"encoder/\1"),
    (r"^(?:pose_net\.)?layer(\d)\.(\d+)\.downsample\.0$", r"encoder/layer\1_\2/downsample_conv"),
    (r"^(?:pose_net\.)?layer(\d)\.(\d+)\.downsample\.1$", r"encoder/layer\1_\2/downsample_bn"),
    (r"^(?:pose_net\.)?layer(\d)\.(\d+)\.(conv\d|bn\d)$", r"encoder/layer\1_\2/\3"),
    (r"^(?:pose_net\.)?final_layer_unsup$", r"self_head"),
    (r"^(?:pose_net\.)?final_layer$", r"supervised_head"),
    (r"^pose_net\.sup_weight$", r"decoder/affinity"),
    (r"^pose_net\.sup_query$", r"decoder/queries"),
    (r"^pose_net\.mh_attn\.decoder\.norm$", r"decoder/norm"),
    (r"^pose_net\.mh_attn\.decoder\.layers\.(\d)\.norm(\d)$", r"decoder/layer\1/norm\2"),
    (r"^pose_net\.mh_attn\.decoder\.layers\.(\d)\.linear(\d)$", r"decoder/layer\1/ffn\2"),
    (
        r"^pose_net\.mh_attn\.decoder\.layers\.(\d)\.self_attn(\.out_proj)?$",
        r"decoder/layer\1/self_attention\2",
    ),
    (
        r"^pose_net\.mh_attn\.decoder\.layers\.(\d)\.multihead_attn(\.out_proj)?$",
        r"decoder/layer\1/cross_attention\2",
    ),
)
# torch numbers the members of sequential containers; those in MEMBERS make up one of our blocks.
CONTAINERS = {
    "image_encoder": "appearance",
    "pose_encoder": "keypoint_encoder",
    "image_renderer": "renderer",
}
MEMBERS = {"0": "conv0", "1": "bn0", "3": "conv1", "4": "bn1"}
TRUNK = re.compile(r"(params|batch_stats)/encoder/(conv1|bn1|layer\d)")  # the part in torchvision


def load_resnet(path: str | pathlib.Path, variables: Mapping) -> dict:
    """Load a torchvision ResNet file into the trunk of `variables` (params and batch_stats).

    This is strict: the file must have every parameter and statistic of the trunk, in its shape, and
    nothing else but the classifier `fc`.

    Raises FileNotFoundError with the remedy, or ValueError naming the first mismatch.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"ImageNet weights not found: {path}. Put torchvision's file there (for example "
            "resnet50-19c8e357.pth, resnet18-5c106cde.pth), or train from random weights with "
            "--config.model.init=random."
        )
    state = {k: v for k, v in read_torch(path).items() if not k.startswith("fc.")}
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    trunk = {k: v for k, v in flat.items() if TRUNK.match(k)}
    loaded = from_torch(state, traverse_util.unflatten_dict(trunk, sep="/"), source=str(path))
    filled = {**flat, **traverse_util.flatten_dict(loaded, sep="/")}
    return traverse_util.unflatten_dict(filled, sep="/")


def load_model(path: str | pathlib.Path, variables: Mapping) -> dict:
    """Read a model of the released program (its state dict) in the form of `variables`.

    This is strict: everything comes from the file, and everything in the file is used. The released
    program reads images as BGR, and its joints are 1-based on Penn Action and BBC Pose: one pixel
    more than here.

    Raises FileNotFoundError, ImportError without torch, or ValueError naming the first mismatch.
    """
    return from_torch(read_torch(path), variables, source=str(path))


def read_blazepose(path: str | pathlib.Path) -> dict:
    """Read MediaPipe's `pose_landmark_full.tflite`: params of its encoder and supervised head.

    This is strict: the operators that lead to the heatmaps must be `blazepose.HEATMAPS`, with the
    shapes of their weights. The first 33 of the 39 maps are joints; the others locate the body as a
    whole.

    Raises FileNotFoundError, ImportError without the package `tflite`, or ValueError for a file
    that is damaged or of another network.
    """
    from ttp_jax import tflite  # imported late, because it needs an extra package

    shape = (1, 64, 64, blazepose.MAPS)
    names = [name for name, found in tflite.outputs(path).items() if found == shape]
    if len(names) != 1:
        raise ValueError(
            f'{path} has no heatmaps {list(shape)}, so it is not BlazePose\'s "full" network: name '
            "pose_landmarker_full.task."
        )
    found = tflite.read(path, names[0])
    expected = blazepose.HEATMAPS.nodes
    params = {}
    for node, own in itertools.zip_longest(found.graph.nodes, expected):
        if node is None or own is None or node._replace(name="") != own._replace(name=""):
            raise ValueError(f'{path}: expected {own} of BlazePose "full", got {node}.')
        if own.name:
            params[own.name] = found.params[node.name]
    head = params.pop("heatmaps")
    joints = {name: value[..., : blazepose.JOINTS] for name, value in head.items()}
    return {"encoder": params, "supervised_head": joints}


def put_encoder(encoder: Mapping, variables: Mapping, source: str) -> dict:
    """Return `variables` with the leaves of the encoder taken from another model's variables.

    Raises ValueError naming the first leaf that is missing in one of the two, or differs in shape.
    """
    flat: Any = traverse_util.flatten_dict(dict(variables), sep="/")
    there: Any = traverse_util.flatten_dict(dict(encoder), sep="/")
    given, needed = (
        {path: leaf for path, leaf in leaves.items() if path.split("/")[1] == "encoder"}
        for leaves in (there, flat)
    )
    for path in sorted({*given, *needed}):
        there, here = (
            np.shape(leaves[path]) if path in leaves else "missing" for leaves in (given, needed)
        )
        if there != here:
            raise ValueError(
                f"{path} is {there} in {source}, but {here} in this network: use a file of the "
                "same "
                "encoder, or change config.model.encoder."
            )
    taken = {path: jnp.asarray(given[path], flat[path].dtype) for path in needed}
    filled = traverse_util.unflatten_dict({**flat, **taken}, sep="/")
    return {kind: filled.get(kind, {}) for kind in variables}  # there may be no batch statistics


def from_torch(
    state: Mapping[str, np.ndarray],
    variables: Mapping,
    *,
    needed: re.Pattern = re.compile(""),
    source: str = "the state dict",
) -> dict:
    """Return `variables` with the leaves that `needed` matches taken from a torch state dict.

    Args:
      state: arrays by torch name.
      variables: template {"params": ..., "batch_stats": ...} with names, shapes and dtypes.
      needed: pattern of paths ("params/encoder/conv1/kernel") that the state dict must contain.
      source: name of the state dict in errors.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    filled = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        path, array = _translate(name, value)
        if path is None or path not in flat:
            raise ValueError(
                f"{source}: this network has no parameter for {name}: use a file of the same "
                "encoder."
            )
        if path in filled:
            raise ValueError(
                f"{source}: {name} is a second tensor for {path}: the file is damaged, fetch it "
                "again."
            )
        if array.shape != flat[path].shape:
            raise ValueError(
                f"{source}: {name} has shape {value.shape}, which makes {array.shape}; {path} "
                f"has {flat[path].shape}. Check that the network has the same depth."
            )
        filled[path] = jnp.asarray(array, flat[path].dtype)
    missing = [path for path in flat if needed.search(path) and path not in filled]
    if missing:
        raise ValueError(
            f"{source}: {len(missing)} parameters are missing, first {missing[0]}: use a file "
            "of the same encoder."
        )
    return traverse_util.unflatten_dict({**flat, **filled}, sep="/")


def _translate(name: str, value: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Return our path of a torch tensor, None if the table has none, and its axes in our order."""
    packed = re.match(r"(.*)\.in_proj_(weight|bias)$", name)
    if packed:
        leaf = {"weight": "in_kernel", "bias": "in_bias"}[packed[2]]
        return f"params/{_module(packed[1])}/{leaf}", value.T
    module, _, leaf = name.rpartition(".")
    if leaf in ("running_mean", "running_var"):
        return f"batch_stats/{_module(module)}/{leaf.removeprefix('running_')}", value
    place = _module(module)
    if place is None:
        return None, value
    if place == "decoder/queries":
        return f"params/{place}", value.T
    if leaf == "bias":
        return f"params/{place}/bias", value
    if value.ndim == 1:
        return f"params/{place}/scale", value
    if value.ndim == 2:
        return f"params/{place}/kernel", value.T
    if value.ndim != 4:
        return None, value
    # torch's convolutions are [out, in, kh, kw], transposed ones [in, out, kh, kw].
    axes = (2, 3, 0, 1) if "/deconv" in place else (2, 3, 1, 0)
    return f"params/{place}/kernel", value.transpose(axes)


def _module(name: str) -> str | None:
    for rule, place in RULES:
        if match := re.match(rule, name):
            return match.expand(place).replace(".out_proj", "/out")
    if match := re.match(r"^(?:pose_net\.)?deconv_layers\.(\d{1,3})$", name):
        number, member = divmod(int(match[1]), 3)
        return f"encoder/deconv{'_bn' if member else ''}{number}"
    if match := re.match(r"^(\w+)\.layer(\d{1,3})\.(\d+)$", name):
        if match[1] not in CONTAINERS or match[3] not in (*MEMBERS, "6"):
            return None
        if match[3] == "6":
            return f"{CONTAINERS[match[1]]}/output"
        return f"{CONTAINERS[match[1]]}/block{int(match[2]) - 1}/{MEMBERS[match[3]]}"
    return None
