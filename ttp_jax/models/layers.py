"""The few layers every network here is made of, with torch's numerical conventions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ttp_jax.conv import conv, upconv

# torch's default for convolutions and linear layers: U(+-1 / sqrt(fan_in)), weight and bias.
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# torchvision's ResNet: normal, variance 2 / fan_out.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
tiny_normal = nn.initializers.normal(0.001)


def torch_default_bias(fan_in: int):
    """Return torch's initializer of biases, U(+-1 / sqrt(fan_in))."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -1.0, 1.0) / fan_in**0.5

    return init


class Conv(nn.Module):
    """Square convolution with torch's symmetric padding k // 2."""

    features: int
    size: int
    stride: int = 1
    bias_init: nn.initializers.Initializer | None = None
    kernel_init: nn.initializers.Initializer = torch_default
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.size // 2)
        if self.bias_init is not None:
            y += self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)
        return y


class UpConv(nn.Module):
    """Transposed convolution 4 x 4, stride 2, without bias: twice the height and width."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", tiny_normal, (4, 4, x.shape[-1], self.features))
        return upconv(x.astype(self.dtype), kernel.astype(self.dtype))


class Linear(nn.Module):
    """Affine map of the last axis."""

    features: int
    kernel_init: nn.initializers.Initializer = tiny_normal
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last, with torch's running statistics.

    The running variance uses the unbiased batch variance, unlike `nn.BatchNorm`. Statistics are
    float32, whatever the type of the input.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, train: bool):
        features = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        var = self.variable("batch_stats", "var", jnp.ones, (features,))
        scale = self.param("scale", nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        if train:
            wide = x.astype(jnp.promote_types(jnp.float32, x.dtype))
            axes = tuple(range(x.ndim - 1))
            batch_mean = wide.mean(axes)
            batch_var = jnp.square(wide - batch_mean).mean(axes)
            if not self.is_initializing():
                count = x.size // features
                keep = self.momentum
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                unbiased = batch_var * (count / max(count - 1, 1))
                var.value = keep * var.value + (1 - keep) * unbiased
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = scale * jax.lax.rsqrt(batch_var + self.epsilon)
        return x * factor.astype(x.dtype) + (bias - batch_mean * factor).astype(x.dtype)


class ConvBlock(nn.Module):
    """Two bias-free convolutions, each with batch normalization and ReLU."""

    features: int
    stride: int = 1
    first_size: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        layer = functools.partial(Conv, self.features, dtype=self.dtype)
        x = layer(size=self.first_size, stride=self.stride, name="conv0")(x)
        x = nn.relu(BatchNorm(name="bn0")(x, train))
        x = layer(size=3, name="conv1")(x)
        return nn.relu(BatchNorm(name="bn1")(x, train))
