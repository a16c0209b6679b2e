"""Every form of the convolution against PyTorch in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net
import torch
import torch.nn.functional as F

from ttp_jax import conv as conv_lib
from ttp_jax import state, steps
from ttp_jax.conv import conv, depthwise, max_pool, pointwise, upconv

# kernel size, stride, padding, channels in and out, height, width
SHAPES = {
    "stem 7/2": (7, 2, 3, 3, 8, 18, 22),
    "stem 7/2 odd": (7, 2, 3, 3, 8, 17, 21),
    "7/1": (7, 1, 3, 5, 4, 9, 12),
    "3/1": (3, 1, 1, 8, 6, 9, 12),
    "3/2": (3, 2, 1, 8, 6, 10, 12),
    "3/2 odd": (3, 2, 1, 8, 6, 9, 11),
    "1/1": (1, 1, 0, 8, 6, 7, 8),
    "1/2": (1, 2, 0, 8, 6, 8, 10),
    "1/2 odd": (1, 2, 0, 8, 6, 7, 9),
    "wide 3/1": (3, 1, 1, 128, 128, 6, 8),
    "wide 3/2": (3, 2, 1, 128, 128, 8, 6),
    "3/1 to more channels": (3, 1, 1, 5, 32, 9, 12),
    "3/1 to fewer channels": (3, 1, 1, 32, 5, 9, 12),
}
MANY = ["stem 7/2", "3/2 odd", "1/2", "wide 3/1"]
# Forward and gradients in float32 against float64: sums of at most 1,152 products.
TOLERANCE = 1e-5


def draw(shape, *lead, kernel_lead=()):
    """Pictures, kernel and cotangent in float32 with leading axes."""
    size, stride, padding, inner, outer, height, width = shape
    rng = np.random.default_rng(0)
    out = [(n + 2 * padding - size) // stride + 1 for n in (height, width)]
    x = rng.normal(size=(*lead, 2, height, width, inner))
    kernel = rng.normal(size=(*kernel_lead, size, size, inner, outer)) / size
    g = rng.normal(size=(*lead, 2, *out, outer))
    return [a.astype(np.float32) for a in (x, kernel, g)]


def in_torch(x, kernel, g, function, axes=(3, 2, 0, 1)):
    """Result and gradients of a torch convolution in float64, in our axis order."""
    x = torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2).requires_grad_()
    kernel = torch.tensor(kernel, dtype=torch.float64).permute(axes).requires_grad_()
    y = function(x, kernel)
    y.backward(torch.tensor(g, dtype=torch.float64).permute(0, 3, 1, 2))
    back = np.argsort(axes).tolist()
    places = [y.detach().permute(0, 2, 3, 1), x.grad.permute(0, 2, 3, 1), kernel.grad.permute(back)]
    return [a.numpy() for a in places]


def expected(shape, x, kernel, g):
    _, stride, padding, *_ = shape
    return in_torch(x, kernel, g, lambda a, k: F.conv2d(a, k, stride=stride, padding=padding))


def with_gradients(function):
    """(x, kernel, g) -> result, gradient of x, gradient of the kernel."""

    def run(x, kernel, g):
        y, pull = jax.vjp(function, x, kernel)
        return (y, *pull(g))

    return run


def ours(shape):
    _, stride, padding, *_ = shape
    return with_gradients(lambda x, k: conv(x, k, stride, padding))


def assert_close(got, wanted, tolerance=TOLERANCE):
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(np.asarray(a) - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("how", ["fast", "xla"])
@pytest.mark.parametrize("name", SHAPES)
def test_conv_and_its_gradients(name, how, monkeypatch):
    monkeypatch.setenv("TTP_JAX_CONV", "xla" if how == "xla" else "")
    arrays = draw(SHAPES[name])
    assert_close(jax.jit(ours(SHAPES[name]))(*arrays), expected(SHAPES[name], *arrays))


@pytest.mark.parametrize("name", MANY)
def test_vmap_over_subjects_that_each_have_their_kernel(name):
    arrays = draw(SHAPES[name], 3, kernel_lead=(3,))
    got = jax.jit(jax.vmap(ours(SHAPES[name])))(*arrays)
    for i in range(3):
        assert_close([a[i] for a in got], expected(SHAPES[name], *(a[i] for a in arrays)))


@pytest.mark.parametrize("name", MANY)
def test_vmap_over_subjects_that_share_a_kernel(name):
    arrays = draw(SHAPES[name], 3)
    got = jax.jit(jax.vmap(ours(SHAPES[name]), in_axes=(0, None, 0)))(*arrays)
    for i in range(3):
        one = arrays[0][i], arrays[1], arrays[2][i]
        assert_close([a[i] for a in got], expected(SHAPES[name], *one))


def test_vmap_over_kernels_of_one_picture():
    shape = SHAPES["3/1"]
    x, kernels, g = draw(shape, kernel_lead=(3,))
    got = jax.jit(jax.vmap(ours(shape), in_axes=(None, 0, None)))(x, kernels, g)
    for i in range(3):
        assert_close([a[i] for a in got], expected(shape, x, kernels[i], g))


@pytest.mark.parametrize("name", MANY)
def test_inside_scan(name):
    arrays = draw(SHAPES[name], 3, kernel_lead=(3,))
    run = ours(SHAPES[name])
    got = jax.jit(lambda *a: jax.lax.scan(lambda c, one: (c, run(*one)), 0, a)[1])(*arrays)
    for i in range(3):
        assert_close([a[i] for a in got], expected(SHAPES[name], *(a[i] for a in arrays)))


# kernel size, stride, height, width, of pictures that are padded already
DEPTHWISE = {
    "3/1": (3, 1, 9, 12),
    "3/2": (3, 2, 10, 13),
    "5/1": (5, 1, 9, 8),
    "5/2": (5, 2, 12, 11),
}


def depthwise_case(name, *lead):
    """Pictures, kernel, cotangent, with leading axes; torch's result and gradients."""
    size, stride, height, width = DEPTHWISE[name]
    rng, out = np.random.default_rng(0), [(n - size) // stride + 1 for n in (height, width)]
    shapes = (2, height, width, 6), (size, size, 6), (2, *out, 6)
    arrays = [rng.normal(size=(*lead, *shape)).astype(np.float32) for shape in shapes]

    def wanted(x, kernel, g):
        own = in_torch(
            x, kernel[:, :, None], g, lambda a, k: F.conv2d(a, k, stride=stride, groups=6)
        )
        return [*own[:2], own[2][:, :, 0]]

    return arrays, wanted, with_gradients(lambda x, k: depthwise(x, k, stride))


@pytest.mark.parametrize("how", ["fast", "xla"])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_and_its_gradients(name, how, monkeypatch):
    monkeypatch.setenv("TTP_JAX_CONV", "xla" if how == "xla" else "")
    arrays, wanted, run = depthwise_case(name)
    assert_close(jax.jit(run)(*arrays), wanted(*arrays))


@pytest.mark.parametrize("how", ["vmap", "scan"])
def test_depthwise_of_subjects_that_each_have_their_kernel(how):
    arrays, wanted, run = depthwise_case("5/2", 3)
    lifted = jax.vmap(run)
    if how == "scan":
        lifted = lambda *a: jax.lax.scan(lambda c, one: (c, run(*one)), 0, a)[1]  # noqa: E731
    got = jax.jit(lifted)(*arrays)
    for i in range(3):
        assert_close([a[i] for a in got], wanted(*(a[i] for a in arrays)))


def test_the_two_sums_of_a_depthwise_kernel_s_gradient_are_one():
    """The one that accelerators take, and the one that CPUs take."""
    (x, kernel, g), wanted, _ = depthwise_case("5/2")
    for form in (conv_lib._at_once, conv_lib._rowwise):
        assert_close([form(2, x, g, jnp.asarray(kernel))], wanted(x, kernel, g)[2:])


def test_a_depthwise_gradient_in_half_precision_is_summed_in_full():
    (x, kernel, g), wanted, run = depthwise_case("3/1")
    half = [jnp.asarray(a, jnp.bfloat16) for a in (x, kernel, g)]
    got = jax.jit(run)(*half)
    assert got[2].dtype == jnp.bfloat16
    exact = wanted(*(np.asarray(a, np.float32) for a in half))
    assert_close([got[2].astype(jnp.float32)], exact[2:], 2**-6)


@pytest.mark.parametrize("subjects", [None, 2], ids=["one", "vmap"])
def test_pointwise_is_a_convolution(subjects):
    lead = () if subjects is None else (subjects,)
    arrays = draw(SHAPES["1/1"], *lead, kernel_lead=lead)
    run = with_gradients(pointwise)
    got = jax.jit(run if subjects is None else jax.vmap(run))(*arrays)
    for i in range(subjects or 1):
        parts = (got, arrays) if subjects is None else ([a[i] for a in b] for b in (got, arrays))
        one, drawn = parts
        assert_close(one, expected(SHAPES["1/1"], *drawn))


@pytest.mark.parametrize("subjects", [None, 2], ids=["one", "vmap"])
def test_upconv_is_torch_s_transposed_convolution(subjects):
    lead = () if subjects is None else (subjects,)
    rng = np.random.default_rng(0)
    shapes = (2, 5, 3, 12), (4, 4, 12, 7), (2, 10, 6, 7)
    arrays = [rng.normal(size=(*lead, *s)).astype(np.float32) for s in shapes]
    run = with_gradients(upconv)
    got = jax.jit(run if subjects is None else jax.vmap(run))(*arrays)

    def check(got, arrays):
        wanted = in_torch(
            *arrays, lambda x, k: F.conv_transpose2d(x, k, stride=2, padding=1), (2, 3, 0, 1)
        )
        assert_close(got, wanted)

    if subjects is None:
        check(got, arrays)
    else:
        for i in range(subjects):
            check([a[i] for a in got], [a[i] for a in arrays])


def test_upconv_refuses_other_kernels():
    with pytest.raises(ValueError, match="4 x 4"):
        upconv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2)))


@pytest.mark.parametrize("how", ["fast", "xla"])
@pytest.mark.parametrize("subjects", [None, 2], ids=["one", "vmap"])
@pytest.mark.parametrize("size, stride, padding", [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_max_pool_sends_the_gradient_where_torch_does(
    size, stride, padding, subjects, how, monkeypatch
):
    monkeypatch.setenv("TTP_JAX_CONV", "xla" if how == "xla" else "")
    rng = np.random.default_rng(0)
    lead = () if subjects is None else (subjects,)
    # Whole numbers, negative ones too, make ties and windows below the padding's zero.
    x = rng.integers(-4, 2, (*lead, 2, 9, 12, 3)).astype(np.float32)
    there = torch.tensor(x.reshape(-1, 9, 12, 3)).permute(0, 3, 1, 2).requires_grad_()
    y = F.max_pool2d(there, size, stride, padding)
    g = rng.normal(size=y.shape).astype(np.float32)
    y.backward(torch.tensor(g))
    g = g.transpose(0, 2, 3, 1).reshape(*lead, 2, *y.shape[2:], 3)

    def run(x, g):
        y, pull = jax.vjp(lambda x: max_pool(x, size, stride, padding), x)
        return y, pull(g)[0]

    got = jax.jit(run if subjects is None else jax.vmap(run))(x, g)
    for mine, torchs in zip(got, (y.detach(), there.grad), strict=True):
        wanted = torchs.permute(0, 2, 3, 1).numpy().reshape(mine.shape)
        np.testing.assert_allclose(mine, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_whole_steps_lower_for_accelerators_with_xla_s_own_convolutions(platform, shallow):
    net, vgg, tx = small_net.model(), small_net.vgg(), state.adam(1e-4)
    base = small_net.base(net)
    pair = (jnp.zeros((2, 64, 64, 3)),) * 2
    start = state.start_adaptation(base, state.RULES["reference"], tx)

    def adapt(adaptation, pairs):
        return steps.adapt_step(adaptation, base, pairs, vgg, model=net, tx=tx).delta

    def train(params, batch):
        begin = state.TrainState(
            jnp.zeros((), jnp.int32), params, base.batch_stats, tx.init(params), base.normalisers
        )
        key = jax.random.key(0)
        return steps.train_step(begin, batch, key, vgg, 1e-3, model=net, tx=tx)[0].params

    batch = {
        "target": jnp.zeros((2, 64, 64, 3), jnp.uint8),
        "source": jnp.zeros((2, 64, 64, 3), jnp.uint8),
        "heatmaps": jnp.zeros((2, 16, 16, 4)),
        "weights": jnp.ones((2, 4)),
    }
    for function, arguments in ((adapt, (start, pair)), (train, (base.params, batch))):
        lowered = jax.export.export(jax.jit(function), platforms=[platform])(*arguments)
        assert lowered.platforms == (platform,)
        # The stem keeps its stride: the CPU form, which has none, is not in the program.
        assert "stride = [2, 2]" in lowered.mlir_module()
