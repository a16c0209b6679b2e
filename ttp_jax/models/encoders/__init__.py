"""Encoders with one interface: images [B, H, W, 3] -> features [B, h, w, F].

An encoder is a module that is called with images in the network's colours and `train`; its
`features` is F. To add one, add a module beside these and a case to each function here.
"""

from typing import Any

import jax.numpy as jnp

from ttp_jax.models.encoders import blazepose, resnet

ENCODERS = ("resnet", "blazepose")


def build(kind: str, dtype: jnp.dtype, **sizes: Any) -> Any:
    """Return the encoder of this name.

    Args:
      kind: name of the encoder.
      dtype: type of the computation.
      sizes: fields of `resnet.Encoder`; BlazePose ignores them.

    Raises ValueError for an unknown name.
    """
    match kind:
        case "resnet":
            return resnet.Encoder(**sizes, dtype=dtype)
        case "blazepose":
            return blazepose.BlazePose(dtype)
    raise _unknown(kind)


def total_stride(kind: str, last_stride: int) -> int:
    """Return the number that the side of an encoder's images must be a multiple of.

    Args:
      kind: name of the encoder.
      last_stride: see `resnet.Encoder`.

    Raises ValueError for an unknown name.
    """
    match kind:
        case "resnet":
            return 16 * last_stride
        case "blazepose":
            return blazepose.TOTAL_STRIDE
    raise _unknown(kind)


def _unknown(kind):
    return ValueError(f"model.encoder is {kind!r}, expected one of {', '.join(ENCODERS)}.")
