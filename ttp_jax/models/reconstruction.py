"""Appearance extractor, keypoint encoder and renderer (paper section 3.1.1)."""

import flax.linen as nn
import jax.numpy as jnp

from ttp_jax.models.layers import Conv, ConvBlock, torch_default_bias


class CodeEncoder(nn.Module):
    """[B, H, W, C] -> [B, H / 2^(n-1), ., widths[-1]]: the first block keeps the size.

    Used on images (appearance phi_app) and on Gaussian maps (keypoint encoder).
    """

    widths: tuple[int, ...]
    first_kernel: int = 7
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        for i, width in enumerate(self.widths):
            x = ConvBlock(
                width,
                stride=1 if i == 0 else 2,
                first_size=self.first_kernel if i == 0 else 3,
                dtype=self.dtype,
                name=f"block{i}",
            )(x, train)
        return x


class Renderer(nn.Module):
    """Codes of source appearance and target keypoints [B, h, w, C] -> image [B, H, W, 3].

    There is no output activation: the image is in the normalised colours of the network's input.
    """

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        for i, width in enumerate(self.widths):
            if i:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
            x = ConvBlock(width, dtype=self.dtype, name=f"block{i}")(x, train)
        bias_init = torch_default_bias(9 * self.widths[-1])
        return Conv(3, 3, bias_init=bias_init, dtype=self.dtype, name="output")(x)
