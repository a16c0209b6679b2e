"""The network, its losses and its updates against an independent PyTorch version.

All randomness comes from outside. The reference network's calibrated random weights keep rounding
errors from growing through the layers, so tolerances here are those of single operations.
"""

import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_reference
from flax import traverse_util

from configs import tiny
from ttp_jax import convert, losses, state, steps
from ttp_jax.checkpoint import read_model
from ttp_jax.models.encoders import resnet
from ttp_jax.models.pose import PoseNet, normalize
from ttp_jax.models.vgg import VGG16
from ttp_jax.runs import base_model, experiment
from ttp_jax.verbs import export

# A network that has all kinds of layers of the full one; it compiles in a fraction of the time.
# The fixture `short_trunk` goes with it.
SMALL = {
    "width": 16,
    "feature_dim": 32,
    "num_maps": 10,
    "ffn_dim": 64,
    "appearance_widths": (8, 16, 32),
    "keypoint_widths": (8, 16),
}
NORMALISERS = torch_reference.INITIAL_NORMALISERS


@pytest.fixture
def short_trunk(monkeypatch):
    """One residual block per stage, on both sides; torch on one thread, which suits its size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    block, _ = torch_reference.RESNET_STAGES[18]
    monkeypatch.setitem(torch_reference.RESNET_STAGES, 18, (block, (1, 1, 1, 1)))
    monkeypatch.setitem(resnet.STAGES, 18, (1, 1, 1, 1))
    yield
    torch.set_num_threads(threads)


def networks(depth, joints, *, size, small, double, method="transformer"):
    """The yardstick with calibrated random weights, and ours with the same."""
    options = dict(SMALL if small else {})
    dtype = jnp.float64 if double else jnp.float32
    ours = PoseNet(num_joints=joints, depth=depth, method=method, dtype=dtype, **options)
    if options:
        options["base_width"] = options.pop("width")
    if method == "baseline":
        kept = {k: v for k, v in options.items() if k in ("base_width", "feature_dim")}
        theirs = torch_reference.PoseResNet(depth, joints, **kept)
    else:
        theirs = torch_reference.TTPModel(depth, joints, method=method, **options)
    torch_reference.randomize_for_parity(theirs, 0, image_size=size, batch_size=4)
    theirs = theirs.double() if double else theirs
    return ours, theirs.eval(), to_jax(theirs, ours, dtype)


def to_jax(theirs, ours, dtype=jnp.float32):
    """Our variables from the yardstick's state dict; every leaf must come from there."""
    tensors = {k: v.numpy().copy() for k, v in theirs.state_dict().items()}
    return convert.from_torch(tensors, template(ours, dtype))


def template(ours, dtype):
    """Our variables, as numpy zeros."""
    picture = jax.ShapeDtypeStruct((1, 64, 64, 3), dtype)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), picture, picture)
    return jax.tree.map(lambda a: np.zeros(a.shape, dtype), dict(shapes))


def features(small, double):
    """VGG-16 with the same random weights for both; the small one has 3 narrow levels."""
    levels = 3 if small else 5
    theirs = torch_reference.VGG16Features(levels, 8 if small else 64)
    torch_reference.randomize_for_parity(theirs, 1)
    theirs = theirs.double() if double else theirs
    convs = iter(m for m in theirs.features if isinstance(m, torch.nn.Conv2d))

    def arrays(module):
        kernel = module.weight.numpy().transpose(2, 3, 1, 0)
        return jnp.asarray(kernel), jnp.asarray(module.bias.numpy())

    counts = (2, 2, 2) if small else (2, 2, 3, 3, 2)
    layers = [tuple(arrays(next(convs)) for _ in range(n)) for n in counts]
    return VGG16(tuple(layers), None, NORMALISERS[: levels + 1], "random"), theirs


def pictures(size, double, count=2, seed=0):
    dtype = np.float64 if double else np.float32
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(dtype)


def nchw(x):
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def nhwc(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


def relative(ours, theirs):
    """L2 of the difference over all leaves, relative to the yardstick's."""
    assert set(ours) == set(theirs)
    difference = sum(np.square(np.asarray(ours[k]) - np.asarray(theirs[k])).sum() for k in theirs)
    return (difference / sum(np.square(np.asarray(v)).sum() for v in theirs.values())) ** 0.5


def from_tensors(named, ours, dtype):
    """Some of the yardstick's tensors (gradients, ...) as flat arrays under our names."""
    tensors = {k: v.detach().numpy() for k, v in named}
    nothing = re.compile("(?!)")
    filled = convert.from_torch(tensors, template(ours, dtype), needed=nothing)["params"]
    return state.split(filled, state.RULES["reference"])[0]


def torchvision_vgg():
    """A state dict with the names and shapes of torchvision's VGG-16."""
    widths = (3, 64, 64, 128, 128, *[256] * 3, *[512] * 6)
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {}
    for place, (before, after) in zip(places, itertools.pairwise(widths), strict=True):
        state[f"features.{place}.weight"] = torch.zeros(after, before, 3, 3)
        state[f"features.{place}.bias"] = torch.zeros(after)
    return state


def test_a_model_of_the_released_program_becomes_a_file(short_trunk, tmp_path):
    _, theirs, wanted = networks(18, 13, size=64, small=True, double=False)
    wrapped = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    torch.save(wrapped, tmp_path / "final_state.pth")
    config = tiny.get_config()
    config.loss.features, config.loss.levels = str(tmp_path / "vgg16.pth"), 0
    torch.save(torchvision_vgg(), config.loss.features)
    config.model.depth, config.model.last_stride, config.model.upsamplings = 18, 2, 3
    config.model.heads, config.model.logit_scale, config.model.code_kernel = 4, 1.0, 7
    for field, value in SMALL.items():
        config.model[field] = value
    path = tmp_path / "released.npz"
    options = export.Options(model=str(path), torch=str(tmp_path / "final_state.pth"))
    assert export.run(experiment.build(config), tmp_path, options) == 0
    found = read_model(path)
    assert found.config["model"]["color_order"] == "bgr"
    assert found.base.normalisers.tolist() == pytest.approx(NORMALISERS[:1])
    assert found.about["converted from"] == "final_state.pth"
    kept = {"params": found.base.params, "batch_stats": found.base.batch_stats}
    jax.tree.map(  # half precision in the file
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), kept, wanted
    )
    config.model.color_order, config.base = "rgb", str(path)
    with pytest.raises(ValueError, match="config.model.color_order is rgb, but the model .* bgr"):
        base_model.load_base(experiment.build(config), tmp_path)
    config.model.color_order = "bgr"
    base_model.load_base(experiment.build(config), tmp_path)


# --- Forward -------------------------------------------------------------------------------------


def check_forward(depth, joints, *, size, small, double, method="transformer"):
    ours, theirs, variables = networks(
        depth, joints, size=size, small=small, double=double, method=method
    )
    target, source = (pictures(size, double, seed=seed) for seed in (1, 2))
    with torch.no_grad():
        if method == "baseline":
            wanted = {"heatmaps": theirs(nchw(target))}
        else:
            wanted = theirs(nchw(source), nchw(target))
    got = jax.jit(ours.apply)(variables, target, source)
    checked = []
    for name in ("self_heatmaps", "heatmaps", "affinity", "reconstruction", "points"):
        value = wanted.get(name)
        if value is None:
            assert getattr(got, name) is None
            continue
        value = nhwc(value) if value.ndim == 4 else value.numpy()
        assert getattr(got, name).dtype == (np.float64 if double else np.float32)
        error = np.abs(np.asarray(getattr(got, name)) - value).max() / np.abs(value).max()
        print(f"{name}: {error:.1e} of the output's largest value")
        # Sums in another order, through some 30 (R18) or 70 (R50) layers.
        assert error < (1e-6 if double else 1e-4), name
        checked.append(name)
    expected = {"baseline": 1, "shared": 4, "transformer": 5}
    assert len(checked) == expected[method]
    return got, wanted, target


@pytest.mark.slow
@pytest.mark.parametrize("depth, joints", [(18, 16), (50, 13)])
def test_forward_at_the_paper_s_size(depth, joints):
    got, wanted, target = check_forward(depth, joints, size=128, small=False, double=False)
    # The reconstruction loss of these pictures, each side's own.
    vgg, torch_vgg = features(False, False)
    start = torch.tensor(vgg.normalisers)
    with torch.no_grad():
        loss, means = torch_reference.perceptual_loss(
            wanted["reconstruction"], nchw(target), torch_vgg, start
        )
    ours, our_means = jax.jit(losses.reconstruction)(vgg, got.reconstruction, target, start.numpy())
    print(f"loss: {abs(float(ours) / loss.item() - 1):.1e}")
    assert float(ours) == pytest.approx(loss.item(), rel=1e-4)
    np.testing.assert_allclose(our_means, means.numpy(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("depth, joints", [(18, 16), (50, 13)])
def test_forward_at_the_paper_s_size_in_float64(depth, joints, x64):
    check_forward(depth, joints, size=128, small=False, double=True)


@pytest.mark.parametrize("method", ["transformer", "shared", "baseline"])
def test_forward_of_each_method_in_float64(method, x64, short_trunk):
    check_forward(18, 16, size=64, small=True, double=True, method=method)


# --- The reconstruction loss and its gradient ----------------------------------------------------


@pytest.mark.slow
def test_reconstruction_loss_and_gradient_at_the_paper_s_size():
    ours, theirs, variables = networks(18, 16, size=128, small=False, double=False)
    vgg, torch_vgg = features(False, False)
    target, source = (pictures(128, False, seed=seed) for seed in (1, 2))
    dtype = target.dtype
    normalisers = np.array(vgg.normalisers, dtype)

    torch_reference.freeze_for_ttp(theirs)
    outputs = theirs(nchw(source), nchw(target), supervised=False)
    wanted, wanted_means = torch_reference.perceptual_loss(
        outputs["reconstruction"], nchw(target), torch_vgg, torch.tensor(normalisers)
    )
    wanted.backward()

    trainable, frozen = state.split(variables["params"], state.RULES["reference"])

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(trainable, frozen, batch_stats, target, source, vgg):
        params = traverse_util.unflatten_dict({**trainable, **frozen}, sep="/")
        merged = {"params": params, "batch_stats": batch_stats}
        picture = ours.apply(merged, target, source, method="adaptation_view")
        return losses.reconstruction(vgg, picture, target, jnp.asarray(normalisers))

    (loss, means), gradient = run(trainable, frozen, variables["batch_stats"], target, source, vgg)
    loss_error = abs(float(loss) / wanted.item() - 1)
    means_error = np.abs(np.asarray(means) / wanted_means.numpy() - 1).max()
    named = [(k, p.grad) for k, p in theirs.named_parameters() if p.requires_grad]
    gradient_error = relative(gradient, from_tensors(named, ours, dtype))
    print(f"loss {loss_error:.1e}, normalisers {means_error:.1e}, gradient {gradient_error:.1e}")
    assert max(loss_error, means_error) < 1e-5
    # In float32 a few pre-activations lie within rounding of a ReLU's kink and take the other
    # side: that alone moves the gradient by 4e-4 to 9e-4, from machine to machine. The same
    # networks agree to 1e-14 in float64, see check_adaptation.
    assert gradient_error < 1e-3


# --- Joint training ------------------------------------------------------------------------------


def feed_masks(masks, rate):
    """Replace our dropout by given keep-masks, in call order."""
    rest = iter(masks)

    def interceptor(function, args, kwargs, context):
        if isinstance(context.module, nn.Dropout) and not kwargs.get("deterministic"):
            return args[0] * next(rest) / (1 - rate)
        return function(*args, **kwargs)

    return nn.intercept_methods(interceptor)


def test_joint_training_step_in_float64(x64, short_trunk):
    size, joints, weight, rate = 64, 16, 0.05, 1e-3
    ours, theirs, variables = networks(18, joints, size=size, small=True, double=True)
    vgg, torch_vgg = features(True, True)
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0, 255, (2, 3, 8, 8, 3)).repeat(8, 2).repeat(8, 3)
    batch = {
        "target": (coarse[0] + rng.uniform(-9, 9, coarse[0].shape)).clip(0, 255).astype(np.uint8),
        "source": coarse[1].astype(np.uint8),
        "heatmaps": rng.random((3, 16, 16, joints)),
        "weights": (rng.random((3, joints)) < 0.7).astype(float),
    }
    # Both get the same float32 pictures, up to how a compiler rounds the normalisation.
    target, source = (
        nchw(np.asarray(normalize(jnp.asarray(batch[k])), np.float64)) for k in ("target", "source")
    )
    shapes = torch_reference.dropout_shapes(theirs, source, target)
    masks = [rng.random(shape) < 0.9 for _, shape in shapes]
    assert len(masks) == 6

    before = {k: v.clone() for k, v in theirs.state_dict().items()}
    torch_batch = {
        "target": target,
        "source": source,
        "heatmaps": nchw(batch["heatmaps"]),
        "weight": torch.tensor(batch["weights"]),
    }
    optimizer = torch_reference.train_optimizer(theirs, rate)
    start = torch.tensor(vgg.normalisers, dtype=torch.float64)
    with torch_reference.feed_dropout_masks(masks):
        parts, wanted_means = torch_reference.train_step(
            theirs, torch_vgg, optimizer, start, torch_batch, weight
        )

    tx = state.adam(rate)
    begin = state.TrainState(
        jnp.zeros((), jnp.int32),
        variables["params"],
        variables["batch_stats"],
        tx.init(variables["params"]),
        jnp.array(vgg.normalisers),
    )
    run = functools.partial(steps.train_step, model=ours, tx=tx)
    with feed_masks(masks, 0.1):
        after, metrics = jax.jit(run)(begin, batch, jax.random.key(0), vgg, weight)

    assert int(after.step) == 1
    # 1e-6: the target's pictures and features are float32 on our side.
    for mine, torchs in (
        ("loss", "loss"),
        ("supervised", "supervised"),
        ("self", "self_supervised"),
    ):
        assert float(metrics[mine]) == pytest.approx(float(parts[torchs]), rel=1e-6)
    np.testing.assert_allclose(after.normalisers, wanted_means.numpy(), rtol=1e-6)

    changed = {k: v - before[k] for k, v in theirs.state_dict().items() if v.is_floating_point()}
    wanted = convert.from_torch(
        {k: v.numpy() for k, v in changed.items()}, template(ours, jnp.float64)
    )
    flatten = functools.partial(state.split, rules=((r"", True),))
    for name, now, old in (
        ("params", after.params, variables["params"]),
        ("batch_stats", after.batch_stats, variables["batch_stats"]),
    ):
        change = flatten(jax.tree.map(jnp.subtract, now, old))[0]
        theirs_change = flatten(wanted[name])[0]
        if name == "params":
            # Its true gradient is zero in the bottleneck, and so are the changes of the keys'
            # bias in an attention: Adam's first step is the sign of rounding noise there.
            noisy = [k for k in change if k.endswith("in_bias")]
            for k in noisy:
                keys = np.arange(change[k].size) // (change[k].size // 3) == 1
                change[k] = np.where(keys, 0, change[k])
                theirs_change[k] = np.where(keys, 0, theirs_change[k])
        error = relative(change, theirs_change)
        print(f"change of {name}: {error:.1e}")
        # Adam's first step is the gradient's sign: the change differs only where the gradient is
        # as small as the float32 noise of pictures and target features.
        assert error < (1e-3 if name == "params" else 1e-6)


# --- Personalization -----------------------------------------------------------------------------


@pytest.mark.parametrize("rules, count", [("reference", 51), ("paper", 25)])
def test_the_same_tensors_train(rules, count):
    theirs, ours = torch_reference.TTPModel(18, 16), PoseNet(num_joints=16)
    trained = torch_reference.freeze_for_ttp(theirs, rules)
    everything = [name for name, _ in theirs.named_parameters()]
    assert (len(everything), len(trained)) == (168, count)
    places = {name: convert._translate(name, np.zeros((1,) * 4))[0] for name in trained}
    variables = template(ours, jnp.float32)
    split = state.split(variables["params"], state.RULES[rules])[0]
    assert {f"params/{k}" for k in split} == set(places.values())


def check_adaptation(*, size, small, count, batch=2):
    ours, theirs, variables = networks(18, 16, size=size, small=small, double=True)
    vgg, torch_vgg = features(small, True)
    pairs = [[pictures(size, True, batch, 2 * i + j) for j in (0, 1)] for i in range(count)]

    trained = torch_reference.freeze_for_ttp(theirs)
    before = {k: v.clone() for k, v in theirs.state_dict().items()}
    optimizer = torch_reference.ttp_optimizer(theirs)
    means = torch.tensor(vgg.normalisers, dtype=torch.float64)
    first_gradient = {}
    for target, source in pairs:
        wanted_loss, means = torch_reference.adapt_step(
            theirs, torch_vgg, optimizer, means, nchw(source), nchw(target)
        )
        if not first_gradient:
            first_gradient = {
                k: p.grad.clone() for k, p in theirs.named_parameters() if k in trained
            }

    tx, rules = state.adam(1e-4), state.RULES["reference"]
    base = state.Base(variables["params"], variables["batch_stats"], jnp.array(vgg.normalisers))
    adaptation = state.start_adaptation(base, rules, tx)
    run = jax.jit(functools.partial(steps.adapt_step, model=ours, tx=tx))
    for i, pair in enumerate(pairs):
        adaptation = run(adaptation, base, tuple(pair), vgg)
        if i == 0:  # Adam's first moment is a tenth of the first gradient
            gradient = {k: 10 * v for k, v in adaptation.opt_state[0].mu.items()}
            wanted = from_tensors(first_gradient.items(), ours, jnp.float64)
            error = relative(gradient, wanted)
            print(f"gradient of the reconstruction loss: {error:.1e}")
            assert error < 1e-6

    assert int(adaptation.step) == count
    assert float(adaptation.loss) == pytest.approx(wanted_loss.item(), rel=1e-5)
    np.testing.assert_allclose(adaptation.normalisers, means.numpy(), rtol=1e-5)
    # The yardstick moved the tensors that we name, and no other by a bit.
    after = dict(theirs.state_dict())
    assert all(torch.equal(after[k], before[k]) != (k in trained) for k in after)
    wanted = from_tensors([(k, after[k] - before[k]) for k in trained], ours, jnp.float64)
    assert set(wanted) == set(adaptation.delta)
    change = {k: np.asarray(v) for k, v in adaptation.delta.items()}
    # The bottleneck's softmax does not see the head's bias: its gradient is rounding noise, of
    # which Adam makes steps of full length.
    for tree in (change, wanted):
        assert np.abs(tree.pop("self_head/bias")).max() < 1e-3
    error = relative(change, wanted)
    print(f"change of the parameters after {count} steps: {error:.1e}")
    # Float64: Adam's first steps follow the gradient's sign, and in float32 the sign of the many
    # tiny gradients is rounding.
    assert error < 1e-4
    for k in change:
        assert np.abs(change[k]).max() > 1e-5, k


def test_five_personalization_steps_in_float64(x64, short_trunk):
    check_adaptation(size=64, small=True, count=5)


@pytest.mark.slow
@pytest.mark.timeout(2400)  # minutes on two busy cores
def test_three_personalization_steps_of_resnet18_and_vgg16_in_float64(x64):
    # Full width and depth, but one small picture: XLA's float64 convolutions are plain loops.
    check_adaptation(size=64, small=False, count=3, batch=1)
