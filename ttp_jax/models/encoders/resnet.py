"""The shared encoder phi: a ResNet trunk, then transposed convolutions up to the heatmaps' size."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from ttp_jax.conv import max_pool
from ttp_jax.models.layers import BatchNorm, Conv, UpConv, he_fan_out

# Depth -> blocks per stage. 18 and 50 are the paper's; 10 is the usual smaller version of 18.
STAGES = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Residual block of ResNet-10 and -18: two 3 x 3 convolutions."""

    features: int
    stride: int
    dtype: jnp.dtype
    expansion = 1

    @nn.compact
    def __call__(self, x, train: bool):
        layer = functools.partial(Conv, self.features, kernel_init=he_fan_out, dtype=self.dtype)
        y = nn.relu(BatchNorm(name="bn1")(layer(3, self.stride, name="conv1")(x), train))
        y = BatchNorm(name="bn2")(layer(3, name="conv2")(y), train)
        return nn.relu(y + _shortcut(x, self.features, self.stride, train, self.dtype))


class Bottleneck(nn.Module):
    """Residual block of ResNet-50: 1 x 1, 3 x 3 (with the stride, as in torchvision), 1 x 1."""

    features: int
    stride: int
    dtype: jnp.dtype
    expansion = 4

    @nn.compact
    def __call__(self, x, train: bool):
        layer = functools.partial(Conv, kernel_init=he_fan_out, dtype=self.dtype)
        out = self.features * self.expansion
        y = nn.relu(BatchNorm(name="bn1")(layer(self.features, 1, name="conv1")(x), train))
        y = layer(self.features, 3, self.stride, name="conv2")(y)
        y = nn.relu(BatchNorm(name="bn2")(y, train))
        y = BatchNorm(name="bn3")(layer(out, 1, name="conv3")(y), train)
        return nn.relu(y + _shortcut(x, out, self.stride, train, self.dtype))


def _shortcut(x, features, stride, train, dtype):
    """Return the input itself, or its 1 x 1 projection if the shape changes."""
    if x.shape[-1] == features and stride == 1:
        return x
    project = Conv(features, 1, stride, kernel_init=he_fan_out, dtype=dtype, name="downsample_conv")
    return BatchNorm(name="downsample_bn")(project(x), train)


class Encoder(nn.Module):
    """Images [B, H, W, 3] -> features F [B, h, w, D].

    The trunk has a total stride of 32 (16 with `last_stride` 1); `upsamplings` doublings follow.
    """

    depth: int = 18
    width: int = 64
    feature_dim: int = 256
    upsamplings: int = 3
    last_stride: int = 2
    dtype: jnp.dtype = jnp.float32

    @property
    def features(self) -> int:
        """Channels D of the features."""
        return self.feature_dim

    @nn.compact
    def __call__(self, x, train: bool):
        block = Bottleneck if self.depth >= 50 else BasicBlock
        stem = Conv(self.width, 7, 2, kernel_init=he_fan_out, dtype=self.dtype, name="conv1")
        x = nn.relu(BatchNorm(name="bn1")(stem(x), train))
        x = max_pool(x, 3, 2, 1)
        for stage, count in enumerate(STAGES[self.depth]):
            stride = (1, 2, 2, self.last_stride)[stage]
            for i in range(count):
                x = block(
                    features=self.width * 2**stage,
                    stride=stride if i == 0 else 1,
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{i}",
                )(x, train)
        for i in range(self.upsamplings):
            x = UpConv(self.feature_dim, dtype=self.dtype, name=f"deconv{i}")(x)
            x = nn.relu(BatchNorm(name=f"deconv_bn{i}")(x, train))
        return x
