"""Convolution and max-pooling of every layer, in the form that is fast where it runs.

Same numbers as XLA's own; what differs is the form of the gradients and of the batch of kernels
that `vmap` over subjects makes. On CPU XLA falls back to naive loops for the kernel gradient inside
`scan` (100 times slower), for strided gradients, for grouped convolutions (what `vmap` over
kernels becomes) and for the gradient of a maximum. Kernel gradients as matrix products, strides as
channels, a loop over subjects, a maximum of shifted pictures and depthwise convolutions as sums of
shifted pictures stay fast. GPU and TPU take XLA's, but for the last.

The environment variable TTP_JAX_CONV=xla forces XLA's own forms everywhere, for comparison.
"""

import functools
import os

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

LAYOUT = ("NHWC", "HWIO", "NHWC")
CONV_OUTPUT = "conv_output"  # what `jax.checkpoint` may keep, see `steps.train_step`


def _plain(x, kernel, stride=1, padding=0):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT
    )


def _input_gradient(g, kernel):
    """Cotangent of the input: every output meets every tap, so a convolution padded in full."""
    mirrored = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return lax.conv_general_dilated(
        g, mirrored, (1, 1), [(k - 1, k - 1) for k in kernel.shape[:2]], dimension_numbers=LAYOUT
    )


def _kernel_gradient(x, g):
    """Cotangent of the kernel: one matrix product per row of taps.

    A row's taps lie beside each other as channels, on the side that has fewer: pictures shifted
    by a column each, or cotangents shifted the other way. A product of few columns is slow.
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


_forward = _batch_of_subjects(lambda x, kernel: _plain(x, kernel), (True, False))
_to_input = _batch_of_subjects(_input_gradient, (True, False))
_to_kernel = _batch_of_subjects(_kernel_gradient, (True, True))


@jax.custom_vjp
def _valid(x, kernel):
    """Convolution with stride 1 and no padding, from which all others are made."""
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
        # Strided gradients take XLA's naive loops, so a stride becomes channels: blocks of
        # stride x stride pixels, and a kernel whose taps are grouped alike, zeros filled in.
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
    """Convolve x [B, H, W, C] with kernel [k, k, C, O], zero-padded alike on all four sides.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, O].
      stride: of both axes.
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
    """Convolve x [B, H, W, C] with kernel [1, 1, C, O], as one matrix product.

    A product is as fast inside `scan`, and with a kernel per subject, as it is alone.

    Args:
      x: [B, H, W, C].
      kernel: [1, 1, C, O].
    """
    y = _matrix(x) @ kernel[0, 0]
    return checkpoint_name(y.reshape(*x.shape[:-1], -1), CONV_OUTPUT)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve each channel of x [B, H, W, C] with its own kernel [k, k, C], without padding.

    Shifted pictures times their taps, added up: XLA's grouped convolution is 10 to 50 times slower
    on CPU, its gradients too.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C].
      stride: of both axes.
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
    """Yield the part of x [..., H, W, C] that each tap meets, row by row, and the tap [C]."""
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
    # Every output meets every tap: zeros between the outputs of a stride, and around them.
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
    """Cotangent of a depthwise kernel: the sum over all pixels for each tap."""
    wide = jnp.promote_types(jnp.float32, kernel.dtype)
    sums = [jnp.sum(part * g, (0, 1, 2), wide) for part, _ in _taps(x, kernel, stride)]
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _rowwise(stride, x, g, kernel):
    """The same row by row, which stays in a CPU's cache: up to 8 times faster."""
    size, wide = kernel.shape[0], kernel.astype(jnp.promote_types(jnp.float32, kernel.dtype))

    def add(total, row):
        rows = lax.dynamic_slice_in_dim(x, row * stride, size, 1)
        return total + _at_once(stride, rows, lax.dynamic_slice_in_dim(g, row, 1, 1), wide), None

    total, _ = lax.scan(add, jnp.zeros_like(wide), jnp.arange(g.shape[1]))
    return total.astype(kernel.dtype)


def upconv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution, kernel [4, 4, C, O], stride 2, padding 1: [B, H, W, C] to twice H, W.

    Each of the four output phases sees 2 x 2 of the 4 x 4 taps: one 2 x 2 convolution that gives
    all four, then depth to space. No multiplication by the zeros between the input pixels.
    The kernel is laid out as torch's `ConvTranspose2d`, axes moved to [kh, kw, in, out].

    Args:
      x: [B, H, W, C].
      kernel: [4, 4, C, O].

    Raises:
      ValueError: a kernel of another size.
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


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over windows of x [B, H, W, C], symmetric padding by -inf.

    The gradient goes to a window's first maximum in reading order, as in torch and XLA.

    Args:
      x: [B, H, W, C].
      size: of the windows.
      stride: of both axes.
      padding: cells on each side that never win.
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
    """The windows' first pixels, their second ones, ...: size * size of [B, h, w, C]."""
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
        # Back to where the pixel came from: stride - 1 zeros between, the rest around.
        borders = [
            (at, n - at - (count - 1) * stride - 1, stride - 1)
            for at, n, count in zip(divmod(number, size), sizes, y.shape[1:3], strict=True)
        ]
        part = jnp.where(first, g, 0)
        total += lax.pad(part, jnp.zeros((), g.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    end = [n - padding for n in sizes]
    return (total[:, padding : end[0], padding : end[1]],)


_pool.defvjp(_pool_forward, _pool_backward)
