"""Encoders, behind one interface: pictures [B, H, W, 3] -> features [B, h, w, F].

An encoder is a module that is called with pictures in the network's colours and `train`; its
`features` is F. A new one is a module beside these and a case in each function here.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ttp_jax.models.encoders import blazepose, resnet

ENCODERS = ("resnet", "blazepose")


def build(kind: str, dtype: jnp.dtype, **sizes: Any) -> Any:
    """The encoder of this name; `sizes` are those of `resnet.Encoder`.

    Args:
      kind: name of the encoder.
      dtype: of the computation.
      sizes: fields of `resnet.Encoder`.

    Raises ValueError for an unknown name.
    """
    match kind:
        case "resnet":
            return resnet.Encoder(**sizes, dtype=dtype)
        case "blazepose":
            return blazepose.BlazePose(dtype)
    raise ValueError(f"model.encoder is {kind!r}, expected one of {', '.join(ENCODERS)}.")


def map_size(fields: Mapping[str, Any]) -> int:
    """Side of the features, and so of the heatmaps, by the fields of `config.model`.

    Raises ValueError where the pictures' side is no multiple of the total stride.
    """
    if fields["encoder"] == "blazepose":
        total, stride = blazepose.TOTAL_STRIDE, blazepose.STRIDE
    else:  # the trunk divides by 32 (16 with last_stride 1), then come doublings
        total = 16 * fields["last_stride"]
        stride = total / 2 ** fields["upsamplings"]
    size = fields["image_size"]
    if size % total:
        raise ValueError(f"config.model.image_size is {size}, expected a multiple of {total}.")
    return int(size / stride)
