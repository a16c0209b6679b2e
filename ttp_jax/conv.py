"""The convolution of every layer, in the form that is fast where it runs.

Same numbers as `lax.conv_general_dilated`; what differs is the form of the gradient and of the
batch of kernels that `vmap` over subjects makes. On CPU XLA falls back to naive loops for the
kernel gradient inside `scan` (100 times slower) and for grouped convolutions (what `vmap` over
kernels becomes). Written as ordinary convolutions in the canonical layout, or as matrix products
where the layer is wide, and with a loop over subjects, they stay fast. GPU and TPU take XLA's own.

The environment variable TTP_JAX_CONV=xla forces XLA's own forms everywhere, for comparison.
"""

import functools
import os

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Above this many channel pairs the kernel gradient is faster as one matrix product per tap than as
# a convolution (measured on 2 x86 cores: 256 x 256 is 3 times faster, 64 x 64 is 2 times slower).
WIDE = 96 * 96


def _plain(x, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT
    )


def _input_gradient(g, kernel, size, *, stride, padding):
    """Cotangent of the input [B, *size, C]: a convolution with the mirrored kernel."""
    mirrored = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    pads = []
    for n, k, out in zip(size, kernel.shape[:2], g.shape[1:3], strict=True):
        low = k - 1 - padding
        pads.append((low, n + k - 1 - (stride * (out - 1) + 1) - low))
    return lax.conv_general_dilated(
        g, mirrored, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=LAYOUT
    )


def _kernel_gradient(x, g, taps, *, stride, padding):
    """Cotangent of the kernel [*taps, C, O]."""
    if x.shape[-1] * g.shape[-1] >= WIDE or taps == (1, 1):
        return _kernel_gradient_products(x, g, taps, stride, padding)
    # Channels take the batch's place, the batch the channels', the cotangent is the kernel.
    full = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (1, 1),
        [(padding, padding)] * 2,
        rhs_dilation=(stride, stride),
        dimension_numbers=LAYOUT,
    )
    return full[:, : taps[0], : taps[1]].transpose(1, 2, 0, 3)


def _kernel_gradient_products(x, g, taps, stride, padding):
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (stride * (n - 1) + 1 for n in g.shape[1:3])
    products = [
        jnp.einsum(
            "bhwc,bhwo->co",
            padded[:, i : i + rows : stride, j : j + columns : stride],
            g,
            preferred_element_type=x.dtype,
        )
        for i in range(taps[0])
        for j in range(taps[1])
    ]
    return jnp.stack(products).reshape(*taps, x.shape[-1], g.shape[-1])


def _batch_of_subjects(op, batch_axes):
    """Give `op` a `vmap` rule that CPUs run fast: a loop over subjects, not grouped channels.

    `batch_axes` tells which arguments carry examples in axis 0. Where only those are batched and
    the result carries examples too, the subjects are simply more examples.
    """
    wrapped = jax.custom_batching.custom_vmap(op)

    @wrapped.def_vmap
    def rule(axis_size, in_batched, *args):
        shared = [arg for arg, batched in zip(args, in_batched, strict=True) if not batched]
        only_examples = [b == e for b, e in zip(in_batched, batch_axes, strict=True)]
        if all(only_examples) and not all(batch_axes):
            merged = [
                a.reshape(-1, *a.shape[2:]) if b else a
                for a, b in zip(args, in_batched, strict=True)
            ]
            out = wrapped(*merged)
            return out.reshape(axis_size, -1, *out.shape[1:]), True

        def one(batched_args):
            rest, own = iter(shared), iter(batched_args)
            return wrapped(*(next(own) if b else next(rest) for b in in_batched))

        own = [a for a, b in zip(args, in_batched, strict=True) if b]
        return lax.map(one, own), True

    return wrapped


@functools.cache
def _forms(stride, padding, size, taps):
    """The three products of one layer: forward, input gradient, kernel gradient."""
    static = {"stride": stride, "padding": padding}
    forward = _batch_of_subjects(lambda x, k: _plain(x, k, **static), (True, False))
    to_input = _batch_of_subjects(
        lambda g, k: _input_gradient(g, k, size, **static), (True, False)
    )
    to_kernel = _batch_of_subjects(
        lambda x, g: _kernel_gradient(x, g, taps, **static), (True, True)
    )
    return forward, to_input, to_kernel


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _fast(x, kernel, stride, padding):
    return _forms(stride, padding, x.shape[1:3], kernel.shape[:2])[0](x, kernel)


def _fast_forward(x, kernel, stride, padding):
    return _fast(x, kernel, stride, padding), (x, kernel)


def _fast_backward(stride, padding, residuals, g):
    x, kernel = residuals
    _, to_input, to_kernel = _forms(stride, padding, x.shape[1:3], kernel.shape[:2])
    return to_input(g, kernel), to_kernel(x, g)


_fast.defvjp(_fast_forward, _fast_backward)


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """Convolve x [B, H, W, C] with kernel [kh, kw, C, O], zero-padded alike on all four sides."""
    if os.environ.get("TTP_JAX_CONV") == "xla":
        return _plain(x, kernel, stride=stride, padding=padding)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, k: _fast(x, k, stride, padding),
        default=lambda x, k: _plain(x, k, stride=stride, padding=padding),
    )


def upconv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution, kernel [4, 4, C, O], stride 2, padding 1: [B, H, W, C] to twice H, W.

    Each of the four output phases sees 2 x 2 of the 4 x 4 taps: one 2 x 2 convolution that gives
    all four, then depth to space. No multiplication by the zeros between the input pixels.
    The kernel is laid out as torch's `ConvTranspose2d`, axes moved to [kh, kw, in, out].
    """
    batch, height, width, channels = x.shape
    if kernel.shape[:2] != (4, 4):
        raise ValueError(f"upconv needs a 4 x 4 kernel, got {kernel.shape[:2]}.")
    out = kernel.shape[-1]
    # taps[t, a]: output 2 m + a takes input m - 1 + a + t through row 3 - a - 2 t of the kernel.
    taps = jnp.array([[3 - a - 2 * t for a in (0, 1)] for t in (0, 1)])
    phases = kernel[taps[:, :, None, None], taps[None, None]]  # [t, a, s, b, C, O]
    phases = phases.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * out)
    every = conv(x, phases, padding=1).reshape(batch, height + 1, width + 1, 2, 2, out)
    rows = [
        jnp.stack([every[:, a : a + height, b : b + width, a, b] for b in (0, 1)], 3)
        for a in (0, 1)
    ]
    return jnp.stack(rows, 2).reshape(batch, 2 * height, 2 * width, out)


