"""Encoders, behind one interface: pictures [B, H, W, 3] -> features [B, h, w, F].

An encoder is a module that is called with pictures in the network's colours and `train`; its
`features` is F. A new one is a module beside these and a case in each function here.
"""

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
    raise _unknown(kind)


def total_stride(kind: str, last_stride: int) -> int:
    """What the side of an encoder's pictures must be a multiple of.

    Args:
      kind: name of the encoder.
      last_stride: of `resnet.Encoder`.

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
