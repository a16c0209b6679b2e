"""Convolution and max-pooling for every layer, in a form that is fast on each device.

Results are the same as XLA's. On CPU, XLA falls back to naive loops for the kernel gradient inside
`scan` (100 times slower), for strided gradients, for grouped convolutions (which `vmap` over
per-subject kernels becomes) and for the gradient of a maximum. This module uses other forms there:
kernel gradients as matrix products, strides as channels, a loop over subjects, and a maximum of
shifted images. Depthwise convolutions are sums of shifted images. GPU and TPU use XLA's own forms,
except for depthwise convolutions.

The environment variable TTP_JAX_CONV=xla forces XLA's own forms everywhere, for comparison.
"""

import functools
import os

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

LAYOUT = ("NHWC", "HWIO", "NHWC")
CONV_OUTPUT = "conv_output"  # name of arrays that `jax.checkpoint` keeps: `steps.rematerialised`


def _plain(x, kernel, stride=1, padding=0):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT
    )


def _input_gradient(g, kernel):
    """Return the cotangent of the input: a convolution with full padding and a mirrored kernel."""
    mirrored = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return lax.conv_general_dilated(
        g, mirrored, (1, 1), [(k - 1, k - 1) for k in kernel.shape[:2]], dimension_numbers=LAYOUT
    )


def _kernel_gradient(x, g):
    """Return the cotangent of the kernel: one matrix product per row of taps.

    The taps of a row are stacked as channels on the side that has fewer channels: images shifted
    by one column each, or cotangents shifted the other way. A product of few columns is slow.
    """
    rows, columns = g.shape[1:3]
    down, across = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    inner, outer = x.shape[-1], g.shape[-1]
    if inner < outer:
        x = jnp.concatenate([x[:, :, j : j + columns] for j in range(across)], -1)
    else:
        edge = across - 1
        g = jnp.pad(g, ((0, 0), (0, 0), (edge, edge), (0, 0)))
        shifts = range(edge, -1, -1)
        g = jnp.concatenate([g[:, :, j : j + x.shape[2]] for j in shifts], -1)
    taps = [
        lax.dot_general(_matrix(x[:, i : i + rows]), _matrix(g), (((0,), (0,)), ((), ())))
        for i in range(down)
    ]
    if inner < outer:
        return jnp.stack(taps).reshape(down, across, inner, outer)
    return jnp.stack(taps).reshape(down, inner, across, outer).swapaxes(1, 2)


def _matrix(x):
    """[B, h, w, C] -> [B h w, C]."""
    return x.reshape(-1, x.shape[-1])


def _batch_of_subjects(op, batch_axes):
    """Give `op` a `vmap` rule that is fast on CPU: a loop over subjects, not grouped channels.

    `batch_axes` tells which arguments have examples along axis 0. If only those are batched, and
    the result has examples too, the subjects are merged into the examples.
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


_forward = _batch_of_subjects(lambda x, kernel: _plain(x, kernel), (True, False))
_to_input = _batch_of_subjects(_input_gradient, (True, False))
_to_kernel = _batch_of_subjects(_kernel_gradient, (True, True))


@jax.custom_vjp
def _valid(x, kernel):
    """Convolve with stride 1 and no padding; all other convolutions are made from this one."""
    return _forward(x, kernel)


_valid.defvjp(
    lambda x, kernel: (_forward(x, kernel), (x, kernel)),
    lambda saved, g: (_to_input(g, saved[1]), _to_kernel(saved[0], g)),
)


def _fast(x, kernel, stride, padding):
    if stride > 1 and kernel.shape[:2] == (1, 1) and not padding:
        return _valid(x[:, ::stride, ::stride], kernel)
    pads = [(padding, padding)] * 2
    if stride > 1:
        # XLA runs strided gradients as naive loops, so turn the stride into channels: blocks of
        # stride x stride pixels, and a zero-padded kernel whose taps are grouped alike.
        taps = kernel.shape[0]
        outputs = [(n + 2 * padding - taps) // stride + 1 for n in x.shape[1:3]]
        blocks = -(-taps // stride)
        sizes = [(n + blocks - 1) * stride for n in outputs]
        pads = [(padding, s - n - padding) for s, n in zip(sizes, x.shape[1:3], strict=True)]
        fill = blocks * stride - taps
        kernel = _blocks(jnp.pad(kernel, ((0, fill), (0, fill), (0, 0), (0, 0)))[None], stride)
        kernel = kernel.reshape(blocks, blocks, -1, kernel.shape[-1])
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)])
    if stride > 1:
        x = _blocks(x[..., None], stride)[..., 0]
    return _valid(x, kernel)


def _blocks(x, size):
    """[B, H, W, C, E] -> [B, H / size, W / size, size * size * C, E]."""
    batch, height, width, channels, extra = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels, extra)
    x = x.transpose(0, 1, 3, 2, 4, 5, 6)
    return x.reshape(batch, height // size, width // size, size * size * channels, extra)


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """Convolve x with a kernel, with the same zero padding on all four sides.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, O].
      stride: stride along both axes.
      padding: zeros on each side.
    """
    if os.environ.get("TTP_JAX_CONV") == "xla":
        y = _plain(x, kernel, stride, padding)
    else:
        y = lax.platform_dependent(
            x,
            kernel,
            cpu=lambda x, k: _fast(x, k, stride, padding),
            default=lambda x, k: _plain(x, k, stride, padding),
        )
    return checkpoint_name(y, CONV_OUTPUT)


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve x with a 1 x 1 kernel, as one matrix product.

    A matrix product stays fast inside `scan` and with per-subject kernels.

    Args:
      x: [B, H, W, C].
      kernel: [1, 1, C, O].
    """
    y = _matrix(x) @ kernel[0, 0]
    return checkpoint_name(y.reshape(*x.shape[:-1], -1), CONV_OUTPUT)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve each channel of x with its own kernel, without padding.

    The result is a sum of shifted images times their taps. On CPU, XLA's grouped convolution and
    its gradients are 10 to 50 times slower.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C].
      stride: stride along both axes.
    """
    if os.environ.get("TTP_JAX_CONV") == "xla":
        y = lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (stride, stride),
            "VALID",
            dimension_numbers=LAYOUT,
            feature_group_count=x.shape[-1],
        )
    else:
        y = _depthwise(x, kernel, stride)
    return checkpoint_name(y, CONV_OUTPUT)


def _taps(x, kernel, stride):
    """Yield, row by row, the part of x [..., H, W, C] that each tap multiplies, and the tap [C]."""
    size = kernel.shape[0]
    ends = [((n - size) // stride) * stride + 1 for n in x.shape[-3:-1]]
    for i in range(size):
        for j in range(size):
            part = x[..., i : i + ends[0] : stride, j : j + ends[1] : stride, :]
            yield part, kernel[i, j]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x, kernel, stride):
    return functools.reduce(jnp.add, (part * tap for part, tap in _taps(x, kernel, stride)))


def _depthwise_backward(stride, saved, g):
    x, kernel = saved
    edge = kernel.shape[0] - 1
    # Transposed convolution: put zeros between strided outputs, and pad them in full.
    ends = [(n - 1) * stride + 1 for n in g.shape[1:3]]
    pads = [(edge, n - end, stride - 1) for n, end in zip(x.shape[1:3], ends, strict=True)]
    spread = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    to_input = _depthwise(spread, jnp.flip(kernel, (0, 1)), 1)
    to_kernel = lax.platform_dependent(
        x,
        g,
        kernel,
        cpu=functools.partial(_rowwise, stride),
        default=functools.partial(_at_once, stride),
    )
    return to_input, to_kernel


_depthwise.defvjp(lambda x, k, stride: (_depthwise(x, k, stride), (x, k)), _depthwise_backward)


def _at_once(stride, x, g, kernel):
    """Return the cotangent of a depthwise kernel: for each tap, a sum over all pixels."""
    wide = jnp.promote_types(jnp.float32, kernel.dtype)
    sums = [jnp.sum(part * g, (0, 1, 2), wide) for part, _ in _taps(x, kernel, stride)]
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _rowwise(stride, x, g, kernel):
    """Do the same row by row, which fits into a CPU's cache and is up to 8 times faster there."""
    size, wide = kernel.shape[0], kernel.astype(jnp.promote_types(jnp.float32, kernel.dtype))

    def add(total, row):
        rows = lax.dynamic_slice_in_dim(x, row * stride, size, 1)
        return total + _at_once(stride, rows, lax.dynamic_slice_in_dim(g, row, 1, 1), wide), None

    total, _ = lax.scan(add, jnp.zeros_like(wide), jnp.arange(g.shape[1]))
    return total.astype(kernel.dtype)


def upconv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Apply a transposed convolution with stride 2 and padding 1, which doubles height and width.

    Each of the four output phases uses 2 x 2 of the 4 x 4 taps, so one 2 x 2 convolution computes
    all four, followed by depth to space. This avoids multiplying by the zeros between input pixels.
    The kernel is that of torch's `ConvTranspose2d` with its axes moved to [kh, kw, in, out].

    Args:
      x: [B, H, W, C].
      kernel: [4, 4, C, O].

    Raises:
      ValueError: the kernel isn't 4 x 4.
    """
    batch, height, width, channels = x.shape
    if kernel.shape[:2] != (4, 4):
        raise ValueError(f"upconv needs a 4 x 4 kernel, got {kernel.shape[:2]}.")
    out = kernel.shape[-1]
    # taps[t, a]: output 2 m + a gets input m - 1 + a + t through row 3 - a - 2 t of the kernel.
    taps = jnp.array([[3 - a - 2 * t for a in (0, 1)] for t in (0, 1)])
    phases = kernel[taps[:, :, None, None], taps[None, None]]  # [t, a, s, b, C, O]
    phases = phases.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * out)
    every = conv(x, phases, padding=1).reshape(batch, height + 1, width + 1, 2, 2, out)
    rows = [
        jnp.stack([every[:, a : a + height, b : b + width, a, b] for b in (0, 1)], 3)
        for a in (0, 1)
    ]
    return jnp.stack(rows, 2).reshape(batch, 2 * height, 2 * width, out)


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Take the maximum over windows of x, with symmetric padding by -inf.

    The gradient goes to the first maximum of a window in reading order, as in torch and XLA.

    Args:
      x: [B, H, W, C].
      size: side of the windows.
      stride: stride along both axes.
      padding: cells of -inf on each side.
    """

    def plain(x):
        window, strides = (1, size, size, 1), (1, stride, stride, 1)
        pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)

    if os.environ.get("TTP_JAX_CONV") == "xla":
        return plain(x)
    return lax.platform_dependent(x, cpu=lambda x: _pool(x, size, stride, padding), default=plain)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pool(x, size, stride, padding):
    return functools.reduce(jnp.maximum, _shifted(x, size, stride, padding))


def _shifted(x, size, stride, padding):
    """Return the first pixel of all windows, the second, ...: size * size arrays [B, h, w, C]."""
    borders = [(0, 0, 0), (padding, padding, 0), (padding, padding, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), borders)
    ends = [n - size + 1 for n in x.shape[1:3]]
    return [
        x[:, i : i + ends[0] : stride, j : j + ends[1] : stride]
        for i in range(size)
        for j in range(size)
    ]


def _pool_forward(x, size, stride, padding):
    y = _pool(x, size, stride, padding)
    return y, (x, y)


def _pool_backward(size, stride, padding, saved, g):
    x, y = saved
    sizes = [n + 2 * padding for n in x.shape[1:3]]
    free, total = jnp.ones(y.shape, bool), jnp.zeros((), g.dtype)
    for number, value in enumerate(_shifted(x, size, stride, padding)):
        first = free & (value == y)
        free &= ~first
        # Put the gradient where the pixel came from: stride - 1 zeros between, the rest around.
        borders = [
            (at, n - at - (count - 1) * stride - 1, stride - 1)
            for at, n, count in zip(divmod(number, size), sizes, y.shape[1:3], strict=True)
        ]
        part = jnp.where(first, g, 0)
        total += lax.pad(part, jnp.zeros((), g.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    end = [n - padding for n in sizes]
    return (total[:, padding : end[0], padding : end[1]],)


_pool.defvjp(_pool_forward, _pool_backward)
