"""Adaptation methods: each against a plain version, and all of them in the same runs."""

import functools
import re
import types

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net
import torch
import torch_reference
from flax import traverse_util

from configs import common
from ttp_jax import (
    command_line,
    convert,
    crops,
    geometry,
    heatmaps,
    methods,
    ranges,
    state,
    ttp,
)
from ttp_jax.checkpoint import Unfinished
from ttp_jax.frames import Frames
from ttp_jax.methods import teacher as mean_teacher
from ttp_jax.models.encoders import resnet
from ttp_jax.models.pose import PoseNet, denormalize
from ttp_jax.parallel import over_subjects

NEW = ("bn", "entropy", "teacher")
T, HEIGHT, WIDTH = 6, 56, 72
KEY = jax.random.key(7)


def only(quick, methods=NEW):
    """All methods, of which one is quick enough for every run of the tests."""
    return [m if m == quick else pytest.param(m, marks=pytest.mark.slow) for m in methods]


def frames(seed=0, valid=(True,) * T, other=()):
    """A video; frames `other` get different pictures."""
    pictures, changed = (small_net.pictures(T, s, HEIGHT, WIDTH) for s in (seed, 100))
    pictures = np.stack([(changed if t in other else pictures)[t] for t in range(T)])
    views = np.tile(np.array([1.0, 0.0, 0.0], np.float32), (T, 1))
    boxes = np.array([36.0, 28.0, 60.0], np.float32) + np.arange(T, dtype=np.float32)[:, None]
    return Frames(*map(jnp.array, (pictures, views, boxes, valid)))


def part(video, first, last):
    return jax.tree.map(lambda a: a[first:last], video)


def settings(method, **changes):
    given = {"batch_size": 3, "learning_rate": 3e-3, "image_size": 64, "confidence": 0.0}
    return ttp.Settings(method=method, flip_order=(1, 0, 2, 3), **{**given, **changes})


def is_statistic(path):
    return path.startswith("batch_stats/")


# --- Against plain versions ----------------------------------------------------------------------


class PlainNorms:
    """Torch's batch normalisations by the pooled and mixed statistics, from the definition."""

    def __init__(self, model, weight):
        self.inputs, self.weight, self.fixed = {}, weight, False
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.forward = functools.partial(self.normalise, name, module)

    def mixed(self, name, module):
        """What is normalised by: of all inputs so far, batches of one size, and the source."""
        means = torch.stack([x.mean((0, 2, 3)) for x in self.inputs[name]])
        variances = torch.stack([x.var((0, 2, 3), unbiased=True) for x in self.inputs[name]])
        pooled = means.mean(0), variances.mean(0) + means.var(0, unbiased=False)
        source = module.running_mean, module.running_var
        return [
            (1 - self.weight) * s + self.weight * p for s, p in zip(source, pooled, strict=True)
        ]

    def normalise(self, name, module, x):
        if not self.fixed:
            self.inputs.setdefault(name, []).append(x.detach())
        mean, var = (v[None, :, None, None] for v in self.mixed(name, module))
        scale, shift = (v[None, :, None, None] for v in (module.weight, module.bias))
        return (x - mean) / torch.sqrt(var + module.eps) * scale + shift


@pytest.fixture
def two_sides(x64, monkeypatch):
    """A baseline of ours and its torch twin in float64, and two batches of its pictures."""
    block, _ = torch_reference.RESNET_STAGES[18]
    monkeypatch.setitem(torch_reference.RESNET_STAGES, 18, (block, (1, 1, 1, 1)))
    monkeypatch.setitem(resnet.STAGES, 18, (1, 1, 1, 1))
    theirs = torch_reference.PoseResNet(18, 5, base_width=16, feature_dim=32)
    torch_reference.randomize_for_parity(theirs, 0, image_size=64, batch_size=4)
    theirs = theirs.double().eval()
    ours = PoseNet(5, "baseline", width=16, feature_dim=32, dtype=jnp.float64)
    picture = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float64)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), picture)
    empty = jax.tree.map(lambda a: np.zeros(a.shape, np.float64), dict(shapes))
    tensors = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    variables = convert.from_torch(tensors, empty)
    base = state.Base(variables["params"], variables["batch_stats"], jnp.ones(2))
    rng = np.random.default_rng(0)
    batches = [3 * rng.normal(size=(3, 64, 64, 3)) + shift for shift in (1, 2)]
    return ours, theirs, base, batches


def nchw(x):
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def updated(net, base, chosen, batches):
    """States after each update on given crops.

    The settings aren't checked: random networks have confidences that no trained one has.
    """
    tools = ttp.Tools(net, state.adam(chosen.learning_rate), chosen)
    now = tools.method.start(base, tools)
    step = jax.jit(lambda now, batch: tools.method.update(now, base, None, batch, tools))
    for batch in batches:
        yield (now := step(now, batch))


def test_bn_mixes_pooled_statistics_as_the_plain_version_does(two_sides):
    ours, theirs, base, batches = two_sides
    plain = PlainNorms(theirs, weight=0.3)
    *_, now = updated(ours, base, settings("bn", bn_weight=0.3), batches)
    with torch.no_grad():
        for batch in batches:
            theirs(nchw(batch))
    assert set(map(is_statistic, now.delta)) == {True} and int(now.step) == 2
    mixed = {}
    for name, module in theirs.named_modules():
        if name in plain.inputs:
            mean, var = plain.mixed(name, module)
            mixed |= {f"{name}.running_mean": mean, f"{name}.running_var": var}
    arrays = {k: v.detach().numpy() for k, v in mixed.items()}
    whole = {"params": base.params, "batch_stats": base.batch_stats}
    wanted = convert.from_torch(arrays, whole, needed=re.compile("batch_stats/"))
    got = state.adapted(base, now.delta)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9),
        got["batch_stats"],
        wanted["batch_stats"],
    )
    assert np.isnan(now.loss) and got["params"] is not None
    plain.fixed = True
    theirs_maps = theirs(nchw(batches[0])).detach().permute(0, 2, 3, 1)
    np.testing.assert_allclose(
        jax.jit(ours.apply)(got, batches[0]).heatmaps, theirs_maps, atol=1e-9
    )


def test_bn_with_weight_0_is_the_source_and_with_1_the_batch(two_sides):
    ours, _, base, batches = two_sides
    (now,) = updated(ours, base, settings("bn", bn_weight=0.0), batches[:1])
    assert all(np.abs(v).max() == 0 for v in now.delta.values())
    (now,) = updated(ours, base, settings("bn", bn_weight=1.0), batches[:1])
    # As in training mode, whose pass normalises by the batch; up to the unbiased variance.
    got = jax.jit(ours.apply)(state.adapted(base, now.delta), batches[0]).heatmaps
    variables = {"params": base.params, "batch_stats": base.batch_stats}
    train = functools.partial(ours.apply, train=True, mutable=["batch_stats"])
    wanted, _ = jax.jit(train)(variables, batches[0])
    error = np.linalg.norm(got - wanted.heatmaps) / np.linalg.norm(wanted.heatmaps)
    assert error < 0.02


def torch_entropy(maps, confidence):
    """Mean over confident maps of -sum p log p, p the positive part's share."""
    entropies = []
    for maps_of_one in maps:
        for one in maps_of_one:
            if one.max() >= confidence:
                share = one[one > 0] / one[one > 0].sum()
                entropies.append(-(share * share.log()).sum())
    return torch.stack(entropies).mean(), len(entropies)


def test_entropy_and_its_gradient_equal_torch_s(two_sides):
    ours, theirs, base, (batch, _) = two_sides
    plain = PlainNorms(theirs, weight=0.5)
    with torch.no_grad():
        maps = theirs(nchw(batch))
    plain.fixed = True
    confidence = float(maps.amax((2, 3)).median())
    loss, count = torch_entropy(theirs(nchw(batch)), confidence)
    assert 0 < count < 15
    loss.backward()
    chosen = settings("entropy", bn_weight=0.5, confidence=confidence)
    (now,) = updated(ours, base, chosen, [batch])
    assert float(now.loss) == pytest.approx(loss.item(), rel=1e-9)
    gradients = {k: p.grad.numpy() for k, p in theirs.named_parameters()}
    nothing = re.compile("(?!)")
    filled = convert.from_torch(gradients, {"params": base.params}, needed=nothing)["params"]
    wanted = traverse_util.flatten_dict(filled, sep="/")
    moments = now.opt_state[0].mu  # a tenth of the first gradient
    scaled = {path for path in wanted if path.endswith(("/scale", "bn0/bias", "bn1/bias"))}
    assert scaled <= set(moments) and all("supervised_head" not in path for path in moments)
    for path, moment in moments.items():
        np.testing.assert_allclose(10 * moment, wanted[path], rtol=1e-6, atol=1e-12, err_msg=path)
    # What changes are just these and the statistics.
    assert {path for path in now.delta if not is_statistic(path)} == set(moments)


def test_maps_as_distributions():
    maps = jnp.array([[[[1.0, -2.0], [3.0, -1.0]], [[0.0, -5.0], [-4.0, -3.0]]]])
    shares = heatmaps.distributions(maps)
    np.testing.assert_allclose(shares[0, ..., 0], [[0.25, 0.75], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(shares[0, ..., 1], np.full((2, 2), 0.25))  # nothing positive


@pytest.mark.parametrize("half_pixel", [False, True, geometry.EDGE])
def test_mirrored_maps_lie_where_those_of_mirrored_crops_do(half_pixel):
    """Cells stand for certain pixels, whose mirror must be theirs."""
    crops_ = jnp.array(np.random.default_rng(0).random((2, 16, 16, 3)), jnp.float32)

    def maps(x):
        if half_pixel == geometry.EDGE:  # between a cell's first pixel and the one before
            x = (x + jnp.roll(x, (1, 1), (1, 2))) / 2 + (jnp.roll(x, 1, 1) + jnp.roll(x, 1, 2)) / 2
            return x[:, ::4, ::4]
        return x.reshape(2, 4, 4, 4, 4, 3).mean((2, 4)) if half_pixel else x[:, ::4, ::4]

    wanted = maps(heatmaps.mirror(crops_, bool(half_pixel)))
    first = 0 if half_pixel is True else 1
    got = heatmaps.mirror(maps(crops_), half_pixel)
    np.testing.assert_allclose(got[:, :, first:], wanted[:, :, first:], rtol=1e-6)
    again = heatmaps.mirror(got, half_pixel)
    np.testing.assert_allclose(again[:, :, first:], maps(crops_)[:, :, first:], rtol=1e-6)


@pytest.mark.parametrize("half_pixel", [False, True, geometry.EDGE])
def test_affines_between_crops_are_affines_between_their_maps(half_pixel):
    rng = np.random.default_rng(0)
    crop = np.array([30.0, 20.0, 64.0])
    affine = geometry.crop_affine(crop, 64, 1.3, 25.0, True).astype(np.float32)
    points = rng.uniform(0, 64, (5, 2)).astype(np.float32)
    inside = geometry.transform_points(affine, points)
    between = geometry.map_affine(affine, 4.0, half_pixel)
    cells = (geometry.crop_to_map(x, 4.0, half_pixel) for x in (points, inside))
    source, wanted = cells
    np.testing.assert_allclose(geometry.transform_points(between, source), wanted, atol=1e-4)


# --- The teacher ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["quarter", "centroid"])
def taught(shallow, request):
    """Three updates of a student: tools, base, the crops, and the states in their order."""
    net = small_net.model(method="baseline", decode=request.param)
    chosen = settings("teacher", teacher_decay=0.8, batch_size=5)
    base, tools = small_net.base(net), ttp.tools(net, chosen)
    drawn = views(remembered(frames(), chosen), chosen, jax.random.key(3))
    states = [tools.method.start(base, tools)]
    step = jax.jit(lambda now: tools.method.update(now, base, None, drawn, tools))
    for _ in range(3):
        states.append(step(states[-1]))
    return tools, base, drawn, states


def test_the_teacher_is_the_running_mean_of_the_student(taught):
    _, _, _, states = taught
    mean = {path: np.zeros_like(value) for path, value in states[0].delta.items()}
    for now in states[1:]:
        for path, student in now.delta.items():
            mean[path] = 0.8 * mean[path] + 0.2 * np.asarray(student)
            np.testing.assert_allclose(now.kept["teacher"][path], mean[path], rtol=1e-5, atol=1e-9)
    assert all(np.abs(value).max() > 0 for value in states[-1].delta.values())


def test_the_student_s_loss_equals_the_plain_version(taught):
    """Flip-averaged maps; Gaussians at their joints, or of logits the maps moved by OpenCV.

    Cells of logits lie at edges (4 c - 0.5), so their crops are mirrored about x = 31.5.
    """
    tools, base, drawn, states = taught
    before, after = states[1:3]
    see = jax.jit(lambda delta, x: tools.model.apply(state.adapted(base, delta), x).heatmaps)
    of_logits = tools.model.decode == "centroid"
    pictures = np.asarray(drawn.plain)
    mirrored = pictures[:, :, ::-1].copy()  # pixel x goes to 63 - x, cell x to 16 - x
    if not of_logits:  # about x = 32: pixel x goes to 64 - x, cell x to 16 - x
        mirrored[:, :, 1:] = pictures[:, :, :0:-1]
        mirrored[:, :, 0] = mirrored[:, :, 1]
    plain, other = (np.asarray(see(before.kept["teacher"], x)) for x in (pictures, mirrored))
    got = np.asarray(see(before.delta, drawn.moved))
    assert drawn.flipped.any() and not drawn.flipped.all()
    order, squares, size = tools.settings.flip_order, [], plain.shape[1]
    ys, xs = np.mgrid[:size, :size]
    for b in range(len(plain)):
        mean = np.zeros((size, size, 4), np.float32)
        for k in range(4):
            for x in range(size):
                mean[:, x, k] = (plain[b, :, x, k] + other[b, :, size - max(x, 1), order[k]]) / 2
        affine = np.asarray(drawn.affines[b], np.float64)
        if of_logits:
            affine[:, 2] += 0.5 - affine[:, :2].sum(1) * 0.5
        affine *= [1, 1, 0.25]  # four pixels a cell
        points, peaks = heatmaps.decode(jnp.array(mean[None]), tools.model.decode)
        shares = 1 / (1 + np.exp(-mean))
        moved = cv2.warpAffine(shares, affine, (size, size))
        # As high as before, unless that takes a factor beyond 2.
        moved *= np.clip(shares.max((0, 1)) / moved.max((0, 1)), 0.5, 2)
        for k in range(4):
            source = order[k] if drawn.flipped[b] else k
            x, y = affine @ np.array([*np.asarray(points[0, source]), 1.0])
            gaussian = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * tools.model.sigma**2))
            student = 1 / (1 + np.exp(-got[b, :, :, k])) if of_logits else got[b, :, :, k]
            truth = moved[..., source] if of_logits else gaussian
            weight = float(np.clip(peaks[0, source], 0, 1))
            squares.append(weight * np.square(student - truth))
    assert float(after.loss) == pytest.approx(0.5 * np.mean(squares), rel=1e-2)


def test_a_student_of_cross_entropy_learns_the_joints_inside_alone():
    rng = np.random.default_rng(0)
    logits = jnp.array(rng.normal(size=(1, 8, 8, 3)), jnp.float32)
    points = jnp.array([[[2.0, 3.0], [9.0, 4.0], [5.5, 1.25]]])  # the second lies outside
    output = types.SimpleNamespace(heatmaps=jnp.exp(logits), logits=logits)
    model = types.SimpleNamespace(sigma=1.5, decode="parabola")
    said = mean_teacher.Taught(points, logits, jnp.ones((1, 3)))
    weights = jnp.array([[0.8, 1.0, 0.4]])
    tools = ttp.Tools(model, None, settings("teacher"))
    loss = mean_teacher._student_loss(output, said, weights, tools)
    ys, xs = np.mgrid[:8, :8]
    each = []
    for k in range(3):
        x, y = np.asarray(points[0, k])
        truth = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 1.5**2))
        theirs = torch.nn.functional.cross_entropy(
            torch.tensor(np.asarray(logits[0, ..., k])).reshape(1, -1),
            torch.tensor((truth / truth.sum()).reshape(1, -1), dtype=torch.float32),
        )
        each.append(float(theirs))
    assert float(loss) == pytest.approx((0.8 * each[0] + 0.4 * each[2]) / 1.2, rel=1e-5)


def test_joints_that_the_teacher_is_unsure_of_teach_nothing(taught):
    tools, base, drawn, _ = taught
    unsure = tools._replace(settings=tools.settings._replace(confidence=1e9))
    start = unsure.method.start(base, unsure)
    now = jax.jit(lambda: unsure.method.update(start, base, None, drawn, unsure))()
    assert float(now.loss) == 0
    assert all(np.abs(value).max() == 0 for value in now.delta.values())


@pytest.mark.slow
def test_the_teacher_and_the_task_together_add_up(shallow):
    """Without the task's weight the teacher's update, with sure of nothing the task's."""
    net, vgg = small_net.model(), small_net.vgg()
    base = small_net.base(net)

    def after(method, drawn=None, **changes):
        chosen = settings(method, **changes)
        tools = ttp.Tools(net, state.adam(chosen.learning_rate), chosen)
        start = tools.method.start(base, tools)
        return jax.jit(lambda: tools.method.update(start, base, vgg, drawn, tools))().delta

    chosen = settings("teacher+ttp")
    tools = ttp.tools(net, chosen)
    past = ttp.remember_frames(
        ttp.start(base, KEY, tools=tools, capacity=T, shape=(HEIGHT, WIDTH)), frames()
    ).memory
    drawn = views, pairs = tools.method.draw(jax.random.key(3), past, None, chosen)
    teacher, task = after("teacher", views), after("ttp", pairs)
    teacher_alone = after("teacher+ttp", drawn, self_weight=0.0)
    task_alone = after("teacher+ttp", drawn, self_weight=1.0, confidence=1e9)
    both = after("teacher+ttp", drawn, self_weight=1.0)
    assert set(both) == set(teacher) | set(task)
    # Adam's first step is a whole one, 3e-3, but where the gradient is as small as its rounding.
    for path, wanted in teacher.items():
        np.testing.assert_allclose(teacher_alone[path], wanted, atol=1e-4)
    for path, wanted in task.items():
        if path != "self_head/bias":  # before a softmax: its gradient is nothing but rounding
            np.testing.assert_allclose(task_alone[path], wanted, atol=1e-4)
    assert any(np.abs(both[path] - teacher[path]).max() > 1e-3 for path in teacher)
    assert any(np.abs(both[path] - task[path]).max() > 1e-3 for path in task)


@pytest.mark.parametrize("half_pixel", [False, True])
def test_targets_lie_where_the_joints_are_in_the_moved_crops(half_pixel):
    """By a network that sees coloured dots: red and green, wherever they are."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    dots = np.array([[30.0, 20.0], [44.0, 37.0]])
    picture = np.zeros((HEIGHT, WIDTH, 3))
    for channel, (x, y) in enumerate(dots):
        picture[..., channel] = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 4.0**2))
    video = frames()
    video = video._replace(pictures=jnp.array(np.stack([picture.astype(np.uint8)] * T)))

    def apply(variables, crops):
        colours = denormalize(crops)[..., :2] / 255
        if half_pixel:
            shape = len(colours), 32, 2, 32, 2, 2
            return types.SimpleNamespace(heatmaps=colours.reshape(shape).mean((2, 4)))
        return types.SimpleNamespace(heatmaps=colours[:, ::2, ::2])

    model = types.SimpleNamespace(
        apply=apply, decode="parabola", num_joints=2, half_pixel=half_pixel
    )
    chosen = settings("teacher", batch_size=16)._replace(flip_order=(0, 1))  # colours stay
    drawn = views(remembered(video, chosen), chosen)
    tools = ttp.Tools(model, state.adam(0.1), chosen)
    found = jax.jit(lambda drawn: mean_teacher._taught({}, drawn, tools))(drawn)
    targets, moved = found.points, heatmaps.decode(found.maps, "parabola")[0]
    # Where the dots are, by their centres of mass in the full crop.
    mass = np.asarray(denormalize(drawn.moved)[..., :2] / 255) ** 4
    places = np.stack([mass.sum(axis) @ np.eye(2) for axis in (1, 2)], 1)  # [B, axis, cells, K]
    pixels = (places * np.arange(places.shape[2])[:, None]).sum(2) / places.sum(2)
    seen = pixels.swapaxes(1, 2) / 2 - (0.25 if half_pixel else 0)
    inside = np.asarray((targets > 4) & (targets < 27)).all(-1)
    assert inside.mean() > 0.5 and drawn.flipped.any() and float(found.confidence.min()) > 0.8
    for places in (targets, moved):
        assert np.abs(places - seen)[inside].max() < 0.25  # cells
    # As sure as the teacher is, though interpolation lowers peaks.
    peaks = np.abs(found.maps.max((1, 2)) - np.clip(found.confidence, 0, 1))
    assert peaks[inside].max() < 0.02


def test_colours_change_and_places_do_not():
    video = frames()
    chosen = settings("teacher", ranges=ttp.Settings().ranges._replace(
        rotation_prob=0.0, scale=0.0, flip_prob=0.0
    ))  # fmt: skip
    drawn = views(remembered(video, chosen), chosen)
    np.testing.assert_allclose(drawn.affines, np.tile(np.eye(2, 3), (3, 1, 1)), atol=1e-5)
    contrast = (drawn.moved - drawn.moved.mean((1, 2), keepdims=True)) / (
        drawn.plain - drawn.plain.mean((1, 2), keepdims=True)
    )
    middle = np.nanmedian(contrast, (1, 2))
    assert np.abs(middle - 1).max() > 0.05 and middle.min() > 0.6 and middle.max() < 1.6
    np.testing.assert_allclose(contrast[:, 30, 30], middle, rtol=1e-2)


def remembered(video, chosen):
    """What a subject remembers of a video."""
    tools = ttp.tools(small_net.model(method="baseline"), chosen)

    @jax.jit
    def remember(base, video):
        start = ttp.start(base, KEY, tools=tools, capacity=T, shape=(HEIGHT, WIDTH))
        return ttp.remember_frames(start, video).memory

    return remember(small_net.base(tools.model), video)


def views(past, chosen, key=KEY):
    """Crops of the teacher and of the student."""
    return jax.jit(crops.views, static_argnums=3)(key, past, None, chosen)


def test_online_the_current_frame_is_always_among_those_drawn():
    chosen = settings("bn", batch_size=4)
    past, video = remembered(frames(), chosen), frames()
    now = part(video, 5, 6)
    shown = jax.jit(crops.plain, static_argnums=3)(KEY, past, now, chosen)
    affine = geometry.crop_affine(now.crops, 64)
    clean = jax.jit(ttp.cut, static_argnums=3)(now, jnp.zeros(1, int), affine, chosen)
    np.testing.assert_allclose(shown[:1], clean, atol=1e-4)  # two programs' roundings
    assert len({np.asarray(picture).tobytes() for picture in shown}) > 1


# --- The same runs for all -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def net(shallow):
    model = small_net.model(method="baseline")
    return model, small_net.base(model)


@functools.cache
def compiled(how, method, **changes):
    tools = ttp.tools(small_net.model(method="baseline"), settings(method, **changes))
    if how == "start":
        return functools.partial(ttp.start, tools=tools, capacity=T, shape=(HEIGHT, WIDTH))
    if how == "adapt":
        fn = functools.partial(ttp.adapt_offline, tools=tools, count=2)
        return jax.jit(lambda subject, base: fn(subject, base, None))
    if how == "predict":
        return jax.jit(functools.partial(ttp.predict_frames, tools=tools))
    if how == "online":
        fn = functools.partial(ttp.online, tools=tools)
        return jax.jit(lambda subject, base, video: fn(subject, base, None, video))
    solo = functools.partial(ttp.personalize, tools=tools)

    def alone(base, video, key):
        return solo(base, None, video, key)

    return jax.jit(alone if how == "solo" else over_subjects(alone, how=how, shared=1))


def plain(tree):
    def number(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(number, tree)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, plain(one), plain(other))


def assert_same_run(one, other):
    """Programs of other shapes round differently, and Adam follows the sign of tiny gradients."""
    a, b = one[0].adaptation, other[0].adaptation
    assert int(a.step) == int(b.step)
    for left, right in ((a.delta, b.delta), (a.kept, b.kept)):
        pairs = list(zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))
        difference = sum(float(np.square(x - y).sum()) for x, y in pairs)
        assert difference <= 1e-4 * sum(float(np.square(y).sum()) for _, y in pairs)
    np.testing.assert_allclose(one[1][0], other[1][0], atol=0.05)
    np.testing.assert_allclose(one[1][1], other[1][1], rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("method", only("bn"))
def test_online_in_pieces_from_disk_equals_the_whole(net, method, tmp_path):
    _, base = net
    whole = compiled("solo", method)(base, frames(), KEY)
    assert int(whole[0].adaptation.step) == T
    assert any(np.abs(v).max() > 1e-3 for v in whole[0].adaptation.delta.values())
    begin, online = compiled("start", method), compiled("online", method)
    subject, first = online(begin(base, KEY), base, part(frames(), 0, 3))
    kept = Unfinished(tmp_path)
    kept.save("anna", subject)
    found = kept.restore("anna", jax.eval_shape(begin, base, KEY))
    same(found, subject)
    subject, second = online(found, base, part(frames(), 3, 6))
    joined = tuple(jnp.concatenate(both) for both in zip(first, second, strict=True))
    assert_same_run((subject, joined), whole)


@pytest.mark.parametrize("method", only("bn"))
def test_offline_in_pieces_equals_the_whole(net, method):
    _, base = net
    whole = compiled("solo", method, scenario="offline")(base, frames(), KEY)
    subject = compiled("start", method, scenario="offline")(base, KEY)
    subject = ttp.rewind(ttp.remember_frames(subject, frames()))
    for _ in range(4):  # one piece more than there are frames
        subject = compiled("adapt", method, scenario="offline")(subject, base)
    predict = compiled("predict", method, scenario="offline")
    assert_same_run(predict(ttp.rewind(subject), base, frames()), whole)


@pytest.mark.parametrize("method", only("entropy"))
def test_online_never_looks_ahead_and_learns_from_valid_frames_only(net, method):
    _, base = net
    run = compiled("solo", method)
    seen, poisoned = run(base, frames(), KEY), run(base, frames(other=(3, 4, 5)), KEY)
    for a, b in zip(seen[1], poisoned[1], strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
    assert not np.array_equal(seen[1][1][3:], poisoned[1][1][3:])
    valid = (True, False, True, True, True, True)
    one, other = (run(base, frames(valid=valid, other=o), KEY) for o in ((), (1,)))
    same(one[0], other[0])
    assert int(one[0].adaptation.step) == T - 1


@pytest.mark.parametrize("how", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", only("entropy"))
def test_many_subjects_equal_solo_runs_whatever_their_neighbours(net, method, how):
    _, base = net
    keys, ragged = jax.random.split(KEY, 2), (True, True, True, True, False, False)
    videos = [frames(0), frames(1, ragged)]

    def stacked(*videos):
        return jax.tree.map(lambda *a: jnp.stack(a), *videos)

    together = compiled(how, method)(base, stacked(*videos), keys)
    for i, video in enumerate(videos):
        alone = compiled("solo", method)(base, video, keys[i])
        assert_same_run(jax.tree.map(lambda a, i=i: a[i], together), alone)
    others = compiled(how, method)(base, stacked(videos[0], frames(5)), keys)
    same(*(jax.tree.map(lambda a: a[0], found) for found in (others, together)))


@pytest.mark.slow
def test_beginning_anew_forgets_what_a_method_keeps(net):
    _, base = net
    whole = compiled("solo", "bn", reset_every=3)(base, frames(), KEY)
    late = compiled("start", "bn")(base, KEY).replace(frame=jnp.array(3))
    fresh, found = compiled("online", "bn")(late, base, part(frames(), 3, 6))
    fresh = fresh.replace(adaptation=fresh.adaptation.replace(step=jnp.array(T)))  # counts all
    assert_same_run((whole[0], tuple(a[3:] for a in whole[1])), (fresh, found))
    assert float(whole[0].adaptation.kept["count"]) == 3


def test_the_method_none_predicts_as_the_model_does(net):
    _, base = net
    subject, found = compiled("solo", "none")(base, frames(), KEY)
    start = compiled("start", "none")(base, KEY)
    assert subject.adaptation.delta == {} and int(subject.adaptation.step) == 0
    _, wanted = compiled("predict", "none")(start, base, frames())
    np.testing.assert_allclose(found[0], wanted[0], atol=0.05)


@pytest.mark.parametrize("method", only("teacher", ("ttp", *NEW, "teacher+ttp", "none")))
def test_states_keep_their_types_so_that_no_program_compiles_twice(shallow, method):
    net = small_net.model()
    base, tools = small_net.base(net), ttp.tools(net, settings(method))
    vgg = small_net.vgg() if tools.needs_features else None
    assert tools.needs_features == ("ttp" in method)
    begin = ttp.start(base, KEY, tools=tools, capacity=T, shape=(HEIGHT, WIDTH))
    online = functools.partial(ttp.online, tools=tools)
    offline = functools.partial(ttp.adapt_offline, tools=tools, count=2)
    for end in (
        jax.eval_shape(online, begin, base, vgg, frames())[0],
        jax.eval_shape(offline, begin, base, vgg),
    ):
        assert jax.tree.structure(end) == jax.tree.structure(begin)
        for a, b in zip(*map(jax.tree.leaves, (begin, end)), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert getattr(a, "weak_type", False) == getattr(b, "weak_type", False)


# --- What each may change, and what can't be used ------------------------------------------------


def test_each_method_changes_what_leads_to_the_joints_only(shallow):
    net = small_net.model()
    base, found = small_net.base(net), {}
    for method in NEW:
        tools = ttp.tools(net, settings(method))
        found[method] = set(tools.method.start(base, tools).delta)
        parts = {path.removeprefix("batch_stats/").split("/")[0] for path in found[method]}
        assert parts <= {"encoder", "self_head", "decoder"}, method
    assert all(map(is_statistic, found["bn"]))
    affine = {path for path in found["entropy"] if not is_statistic(path)}
    assert found["bn"] == found["entropy"] - affine
    assert all(path.endswith(("/scale", "/bias")) for path in affine)
    assert {"decoder/norm/scale", "encoder/bn1/bias"} <= affine
    assert not found["teacher"] & found["entropy"]
    assert {"decoder/queries", "self_head/bias", "encoder/conv1/kernel"} <= found["teacher"]


def test_states_of_the_paper_s_method_are_as_before(shallow):
    """Unfinished states of earlier versions are read by the paths of their leaves."""
    net = small_net.model()
    base, tools = small_net.base(net), ttp.tools(net, settings("ttp"))
    begin = jax.eval_shape(
        functools.partial(ttp.start, tools=tools, capacity=T, shape=(8, 8)), base, KEY
    )
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(begin)}
    names = [f"['{path}']" for path in state.split(base.params, state.RULES["reference"])[0]]
    adam = ".adaptation.opt_state[0]"
    assert paths == {
        *(f".adaptation.{name}" for name in ("step", "normalisers", "loss")),
        *(f".adaptation.delta{name}" for name in names),
        *(f"{adam}.{moment}{name}" for name in names for moment in ("mu", "nu")),
        f"{adam}.count",
        *(f".memory.{name}" for name in ("pictures", "views", "crops", "seen")),
        *(".key", ".frame", ".period"),
    }


@pytest.mark.parametrize("method", NEW)
def test_a_network_with_nothing_to_adapt_says_so(method):
    bare = state.Base({"other": {"kernel": jnp.ones((1, 1))}}, {}, jnp.ones(1))
    tools = ttp.tools(small_net.model(), settings(method))
    with pytest.raises(ValueError, match=f'"{method}".* has nothing to adapt'):
        ttp.start(bare, KEY, tools=tools, capacity=1, shape=(8, 8))


def test_rules_that_leave_the_joints_as_they_are_say_so():
    """Normalisation layers of the renderer alone, as beside BlazePose's encoder, which has none."""
    layers = {"encoder": {"stem": {"kernel": jnp.ones((1, 1))}}, "self_head": {"bias": jnp.ones(1)}}
    layers["self_head"]["kernel"] = jnp.ones((1, 1))
    layers["renderer"] = {"norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)}}
    base = state.Base(layers, {}, jnp.ones(1))
    tools = ttp.tools(small_net.model(), settings("ttp", rules="norms"))
    with pytest.raises(ValueError, match=r"config\.ttp\.rules is 'norms', which trains nothing"):
        ttp.start(base, KEY, tools=tools, capacity=1, shape=(8, 8))


def test_entropy_without_batch_statistics_trains_the_norms_alone():
    base = state.Base({"encoder": {"LayerNorm_0": {"scale": jnp.ones(2)}}}, {}, jnp.ones(1))
    tools = ttp.tools(small_net.model(), settings("entropy"))
    start = tools.method.start(base, tools)
    assert set(start.delta) == {"encoder/LayerNorm_0/scale"} and start.kept == ()


def test_a_baseline_can_be_adapted_by_all_but_the_paper_s_method():
    for method in NEW:
        ttp.check_method("baseline", settings(method))
    for method in ("ttp", "teacher+ttp"):
        with pytest.raises(ValueError, match='no self-supervised task.*"ttp".*--method=bn'):
            ttp.check_method("baseline", settings(method))
    with pytest.raises(ValueError, match="'tent', expected one of ttp, bn, entropy, teacher, tea"):
        ttp.check_method("baseline", settings("tent"))


def test_settings_of_earlier_files_mean_the_paper_s_method():
    fields = {
        "rules": "reference", "reset": "subject", "normalisers": "reset", "rotation": 30.0,
        "online_rotation_prob": 1.0, "scale": 0.25, "flip_prob": 0.5, "iterations": 1,
        "batch_size": 8, "learning_rate": 1e-4,
    }  # fmt: skip
    given = functools.partial(ttp.settings_from, scenario="online", image_size=64, bgr=False)
    assert given(fields).method == "ttp"
    later = {"method": "teacher", "bn_weight": 0.1, "confidence": 0.2, "teacher_decay": 0.5}
    found = given(
        {**fields, **later}, flip_order=np.array([1, 0]), loss={"equivariance": 0.3}
    )._asdict()
    assert {**later, "flip_order": (1, 0), "equivariance": 0.3}.items() <= found.items()
    defaults = common.get_config().ttp
    assert all(defaults[name] == ttp.Settings._field_defaults[name] for name in later)


def test_every_setting_that_is_a_field_of_the_config_is_read():
    fields = common.get_config().ttp.to_dict()
    numbers = [name for name in ttp.Settings._fields if isinstance(fields.get(name), int | float)]
    assert len(numbers) > 6
    changed = {name: fields[name] + 1 for name in numbers}
    read = ttp.settings_from({**fields, **changed}, "online", image_size=64, bgr=False)
    assert {name: getattr(read, name) for name in numbers} == changed


def test_the_command_line_and_the_ranges_know_all_methods():
    assert set(command_line.ADAPTATIONS) == set(methods.METHODS)
    for name in methods.METHODS:
        ranges.check({"ttp": {"method": name}})
