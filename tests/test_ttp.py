"""Personalization of one subject and of many, with a network that compiles in seconds."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net

from ttp_jax import crops, geometry, memory, state, steps, ttp
from ttp_jax.frames import Frames
from ttp_jax.models.pose import denormalize, normalize
from ttp_jax.parallel import over_subjects

pytestmark = pytest.mark.usefixtures("shallow")

T, HEIGHT, WIDTH = 6, 56, 72
UNMOVED = np.tile(np.array([1.0, 0.0, 0.0], np.float32), (T, 1))
CROPS = np.tile(np.array([36.0, 28.0, 60.0], np.float32), (T, 1)) + np.arange(T)[:, None]
KEY = jax.random.key(7)


def frames(seed=0, valid=(True,) * T, other=(), other_seed=100):
    """A video; frames `other` get different pictures."""
    pictures = small_net.pictures(T, seed, HEIGHT, WIDTH)
    changed = small_net.pictures(T, other_seed, HEIGHT, WIDTH)
    pictures = np.stack([(changed if t in other else pictures)[t] for t in range(T)])
    return Frames(*map(jnp.array, (pictures, UNMOVED, CROPS, valid)))


def part(video, first, last):
    return jax.tree.map(lambda a: a[first:last], video)


def settings(**changes):
    # A high rate makes two runs that drew differently end far apart.
    return ttp.Settings(**{"batch_size": 3, "learning_rate": 3e-3, "image_size": 64, **changes})


@pytest.fixture(scope="module")
def net(shallow):
    """Network, its trained state, features."""
    model = small_net.model()
    return model, small_net.base(model), small_net.vgg()


# The emitters of fusions, which conftest leaves out, round alike in two programs.
alike = functools.partial(jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": True})


@functools.cache
def compiled(how, **changes):
    """One program per scenario, shared by the tests."""
    tools = ttp.tools(small_net.model(), settings(**changes))
    if how == "start":
        return functools.partial(ttp.start, tools=tools, capacity=T, shape=(HEIGHT, WIDTH))
    if how == "adapt_step":
        return jax.jit(functools.partial(steps.adapt_step, model=tools.model, tx=tools.tx))
    if how in ("predict_frames", "predict_and_remember"):
        return alike(functools.partial(getattr(ttp, how), tools=tools))
    if how == "online":
        return alike(functools.partial(ttp.online, tools=tools))
    solo = functools.partial(ttp.personalize, tools=tools)
    return alike(solo if how == "personalize" else over_all(solo, how))


def over_all(solo, how):
    """Many subjects of one model."""

    def run(base, vgg, frames, keys):
        return over_subjects(solo, how=how, shared=2)(base, vgg, frames, keys)

    return run


def whole(net, video, key=KEY, **changes):
    _, base, vgg = net
    return compiled("personalize", **changes)(base, vgg, video, key)


def chunk(net, video, subject=None, key=KEY):
    _, base, vgg = net
    if subject is None:
        subject = compiled("start")(base, key)
    return compiled("online")(subject, base, vgg, video)


def change(subject):
    """Change of each trained tensor, but for the head's bias, whose gradient is rounding noise."""
    delta = subject.adaptation.delta
    return {k: np.asarray(v) for k, v in delta.items() if k != "self_head/bias"}


def apart(one, other):
    """L2 between two runs' parameter changes, relative to the change."""
    a, b = change(one), change(other)
    assert set(a) == set(b)
    difference = sum(np.square(a[k] - b[k]).sum() for k in a)
    return (difference / sum(np.square(v).sum() for v in b.values())) ** 0.5


def assert_same_run(one, other):
    """Float32 Adam follows the sign of tiny gradients, so programs may differ in those: 1 %."""
    a, b = one[0].adaptation, other[0].adaptation
    assert int(a.step) == int(b.step)
    assert apart(one[0], other[0]) < 0.01
    np.testing.assert_allclose(a.normalisers, b.normalisers, rtol=1e-4)
    np.testing.assert_allclose(one[1][0], other[1][0], atol=0.05)
    np.testing.assert_allclose(one[1][1], other[1][1], rtol=0.01, atol=1e-3)


@pytest.mark.slow
def test_a_turned_video_in_turned_crops_is_personalized_alike(net):
    upright = frames()
    pictures = np.rot90(np.asarray(upright.pictures), -1, (1, 2))  # clockwise
    x, y, side = np.asarray(upright.crops).T
    crops = np.stack([HEIGHT - 1 - y, x, side, np.full(T, 90.0)], -1)
    turned = upright._replace(
        pictures=jnp.array(np.ascontiguousarray(pictures)), crops=jnp.array(crops, jnp.float32)
    )
    one, other = whole(net, upright), whole(net, turned)
    joints = np.asarray(one[1][0])
    back = np.stack([HEIGHT - 1 - joints[..., 1], joints[..., 0]], -1)
    np.testing.assert_allclose(other[1][0], back, atol=0.05)
    # Crops of turned pictures are interpolated in another order, so updates round otherwise.
    assert apart(one[0], other[0]) < 0.03


# --- What a frame may depend on ------------------------------------------------------------------


def same(one, other):
    """Equal bit by bit, keys included."""
    plain = (jax.tree.map(_plain, tree) for tree in (one, other))
    jax.tree.map(np.testing.assert_array_equal, *plain)


def _plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def test_online_moves_the_model_and_depends_on_the_key_alone(net):
    one, again = whole(net, frames()), whole(net, frames())
    same(one, again)
    assert int(one[0].adaptation.step) == T and one[1][0].shape == (T, 4, 2)
    changed = whole(net, frames(), jax.random.key(8))
    assert all(np.isfinite(_plain(leaf)).all() for leaf in jax.tree.leaves(one))
    assert apart(changed[0], one[0]) > 0.1
    assert all(np.abs(v).max() > 1e-4 for v in change(one[0]).values())


def test_online_never_looks_ahead(net):
    plain, poisoned = whole(net, frames()), whole(net, frames(other=(3, 4, 5)))
    for a, b in zip(plain[1], poisoned[1], strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
    assert not np.array_equal(plain[1][1][3:], poisoned[1][1][3:])


def test_online_uses_earlier_frames_and_the_current_one(net):
    plain = whole(net, frames())
    for t in range(3):
        changed = whole(net, frames(other=(t,)))
        assert not np.array_equal(plain[1][1][t], changed[1][1][t])
        # Later frames see it through the updates and as a source.
        assert apart(changed[0], plain[0]) > 0.01


def test_chunks_equal_the_whole(net):
    first, (joints1, peaks1) = chunk(net, part(frames(), 0, 3))
    second, (joints2, peaks2) = chunk(net, part(frames(), 3, 6), first)
    parts = second, (jnp.concatenate([joints1, joints2]), jnp.concatenate([peaks1, peaks2]))
    assert_same_run(parts, whole(net, frames()))
    np.testing.assert_array_equal(second.memory.pictures, frames().pictures)
    assert int(second.frame) == T


def test_padding_at_the_end_changes_nothing(net):
    valid = (True, True, True, False, False, False)
    padded = whole(net, frames(valid=valid, other=(3, 4, 5)))
    cut = padded[0], tuple(a[:3] for a in padded[1])
    assert_same_run(cut, chunk(net, part(frames(), 0, 3)))


def test_an_invalid_frame_is_neither_target_nor_source(net):
    valid = (True, False, True, True, True, True)
    plain = whole(net, frames(valid=valid))
    changed = whole(net, frames(valid=valid, other=(1,)))
    same(plain[0], changed[0])
    assert int(plain[0].adaptation.step) == T - 1
    for a, b in zip(plain[1], changed[1], strict=True):
        np.testing.assert_array_equal(np.delete(a, 1, 0), np.delete(b, 1, 0))
    # The same frame, valid, does matter.
    assert apart(whole(net, frames(other=(1,)))[0], whole(net, frames())[0]) > 0.01


def test_an_invalid_first_frame_leaves_the_base(net):
    subject, (joints, _) = chunk(net, part(frames(valid=(False,) * T), 0, 3))
    assert int(subject.adaptation.step) == 0 and np.isnan(subject.adaptation.loss)
    assert all(np.abs(v).max() == 0 for v in change(subject).values())
    assert np.isfinite(joints).all()


def test_where_the_windows_lie_changes_nothing(net):
    """A window of the picture, and another of the enlarged picture, give the same crops."""
    video, wide = frames(), (HEIGHT + 20, WIDTH + 30)
    pictures = np.zeros((T, *wide, 3), np.uint8)
    pictures[:, 5 : 5 + HEIGHT, 7 : 7 + WIDTH] = video.pictures
    moved = video._replace(
        pictures=jnp.array(pictures), views=video.views - jnp.array([0.0, 7.0, 5.0])
    )
    affines = geometry.crop_affine(video.crops, 64, 1.2, 20.0, True)
    there, here = (cut(v, jnp.arange(T), affines, settings()) for v in (moved, video))
    np.testing.assert_allclose(there, here, atol=1e-3)
    # Twice as large by repeating: bilinear in between, so only where the picture is flat.
    large = video._replace(
        pictures=video.pictures.repeat(2, 1).repeat(2, 2), views=video.views.at[:, 0].set(2.0)
    )
    there = cut(large, jnp.arange(T), affines, settings())
    assert float(jnp.median(jnp.abs(there - here))) < 1e-3


# --- Updates -------------------------------------------------------------------------------------


def test_one_pair_is_clean_and_iterations_repeat_the_step_on_it(net):
    _, base, vgg = net
    video = part(frames(), 0, 1)
    subject, _ = whole(net, video, batch_size=1, iterations=2)
    affine = geometry.crop_affine(video.crops[0], 64)
    crop = normalize(geometry.warp(video.pictures[0], affine, 64))[None]
    step = compiled("adapt_step")
    expected = compiled("start")(base, KEY)
    for _ in range(2):
        adaptation = step(expected.adaptation, base, (crop, crop), vgg)
        expected = expected.replace(adaptation=adaptation)
    assert int(subject.adaptation.step) == 2
    loss = float(expected.adaptation.loss)
    assert float(subject.adaptation.loss) == pytest.approx(loss, rel=1e-4)
    assert apart(subject, expected) < 0.01


@jax.jit
def remembered(video):
    tools = ttp.Tools(None, state.adam(0.1), settings())
    nothing = state.Base({}, {}, jnp.ones(1))
    start = ttp.start(nothing, KEY, tools=tools, capacity=T, shape=(HEIGHT, WIDTH))
    return ttp.remember_frames(start, video).memory


# Of a video or a memory, with settings that don't change: op by op each would compile for long.
cut = jax.jit(ttp.cut, static_argnums=3)
pairs_of = jax.jit(crops.pairs, static_argnums=3)


def test_pairs_share_target_box_and_transform_and_only_the_first_is_clean():
    video, chosen = frames(), settings(batch_size=8)
    past = remembered(part(video, 0, 3))
    online, offline = (
        jax.jit(fn, static_argnames="settings") for fn in (ttp.online_pairs, ttp.offline_pairs)
    )
    sources, affines = online(KEY, past, video.crops[2], settings=chosen)
    assert set(np.unique(sources)) == {0, 1, 2}
    target = cut(video, jnp.full(8, 2), affines, chosen)
    source = cut(past, sources, affines, chosen)
    clean = geometry.warp(video.pictures[2], geometry.crop_affine(video.crops[2], 64), 64)
    np.testing.assert_allclose(denormalize(target[0]), clean, atol=0.01)
    for i in range(8):
        alike = bool(jnp.abs(target[i] - source[i]).max() < 1e-5)
        assert alike == (int(sources[i]) == 2)  # the same frame, cut alike
        assert i == 0 or float(jnp.abs(denormalize(target[i]) - clean).max()) > 1
    targets, _, affines = offline(KEY, remembered(video), settings=chosen)
    boxes = video.crops[targets]
    centres = geometry.transform_points(affines, boxes[:, None, :2])
    np.testing.assert_allclose(centres, np.full((8, 1, 2), 32.0), atol=1e-3)
    assert np.abs(affines - geometry.crop_affine(boxes, 64)).max((1, 2)).min() > 1e-3


@pytest.mark.parametrize("scenario", ["online", "offline"])
def test_blocks_of_the_source_are_hidden_and_the_target_is_whole(scenario):
    video, past = frames(), remembered(frames())
    now = part(video, 2, 3) if scenario == "online" else None
    target, source = pairs_of(KEY, past, now, settings(batch_size=8))
    hidden = settings(batch_size=8, source_masking=0.5)
    whole, masked = pairs_of(KEY, past, now, hidden)
    np.testing.assert_allclose(whole, target, atol=1e-6)  # two programs' roundings
    gone = np.asarray((masked == 0).all(-1) & (source != 0).any(-1))
    assert 0.3 < gone.mean() < 0.7
    np.testing.assert_allclose(masked[~gone], source[~gone], atol=1e-6)


def test_sources_are_drawn_evenly_from_the_valid_frames_so_far():
    valid = (True, False, True, True, True, True)
    past = remembered(part(frames(valid=valid), 0, 4))
    np.testing.assert_array_equal(past.crops[:3, 0], CROPS[[0, 2, 3], 0])
    counts = np.bincount(memory.draw(past, KEY, 3000), minlength=T)
    # Three frames, 1000 draws each, standard deviation 26.
    assert counts[3:].sum() == 0 and np.abs(counts[:3] - 1000).max() < 130


def test_a_full_memory_keeps_every_frame_equally_likely():
    count, capacity = 40, 8
    video = Frames(
        jnp.zeros((count, 1, 1, 3), jnp.uint8),
        jnp.zeros((count, 3)),
        jnp.arange(count)[:, None] * jnp.ones((1, 3)),
        jnp.arange(count) != 5,
    )

    def kept(key):
        def take(past, row):
            frame, t = row
            return memory.remember(past, frame, jax.random.fold_in(key, t)), None

        begin = memory.empty(capacity, (1, 1))
        return jax.lax.scan(take, begin, (video, jnp.arange(count)))[0]

    many = jax.jit(jax.vmap(kept))(jax.random.split(KEY, 4000))
    assert (many.seen == count - 1).all() and (jax.vmap(lambda m: m.filled)(many) == 8).all()
    counts = np.bincount(np.asarray(many.crops[..., 0], int).ravel(), minlength=count)
    assert counts[5] == 0
    # 8 of 39 frames in 4000 draws: 820 each, standard deviation 26.
    assert np.abs(np.delete(counts, 5) - 4000 * capacity / (count - 1)).max() < 110
    assert all(len(set(row)) == capacity for row in np.asarray(many.crops[:50, :, 0]).tolist())


@pytest.mark.slow
def test_online_goes_on_with_a_full_memory(net):
    _, base, vgg = net
    begin = compiled("start")(base, KEY)
    small = begin.replace(memory=memory.empty(2, (HEIGHT, WIDTH)))
    tools = ttp.tools(small_net.model(), settings())
    subject, (joints, _) = jax.jit(functools.partial(ttp.online, tools=tools))(
        small, base, vgg, frames()
    )
    assert int(subject.adaptation.step) == T and int(subject.memory.seen) == T
    assert np.isfinite(joints).all()
    first = whole(net, frames())[1][0]
    np.testing.assert_allclose(joints[:2], first[:2], atol=0.05)  # the memory holds both


def test_a_frame_that_is_looked_at_is_remembered_and_predicted_as_it_is(net):
    base = net[1]
    learned, _ = chunk(net, part(frames(), 0, 3))
    looked, found = compiled("predict_and_remember")(learned, base, part(frames(), 3, 4))
    assert (int(looked.adaptation.step), int(looked.memory.seen), int(looked.frame)) == (3, 4, 4)
    plain = compiled("predict_frames")(learned, base, part(frames(), 3, 4))[1]
    jax.tree.map(np.testing.assert_array_equal, found, plain)
    np.testing.assert_array_equal(looked.memory.pictures[3], frames().pictures[3])


@pytest.mark.slow
def test_reset_every_begins_as_with_a_new_video(net):
    subject, predictions = whole(net, frames(), reset_every=3)
    late = compiled("start")(net[1], KEY).replace(frame=jnp.array(3))  # and an empty memory
    fresh, found = chunk(net, part(frames(), 3, 6), late)
    assert int(subject.adaptation.step) == T and int(fresh.adaptation.step) == 3
    fresh = fresh.replace(adaptation=fresh.adaptation.replace(step=jnp.array(T)))
    assert_same_run((subject, tuple(a[3:] for a in predictions)), (fresh, found))
    first = chunk(net, part(frames(), 0, 3))
    np.testing.assert_allclose(predictions[0][:3], first[1][0], atol=0.05)


@pytest.mark.parametrize("first", [pytest.param(4, marks=pytest.mark.slow), T])
def test_a_reset_waits_for_a_valid_frame(net, first):
    """Those that only fill the last chunk leave what was learned; those before it don't hide it."""
    valid = (True, True, True, *(t >= first for t in range(3, T)))
    subject, _ = whole(net, frames(valid=valid), reset_every=3)
    begin = compiled("start")(net[1], KEY)
    late = begin.replace(frame=jnp.array(3)) if first < T else begin
    video = part(frames(valid=valid), 3, 6) if first < T else part(frames(), 0, 3)
    alone, _ = chunk(net, video, late)
    assert apart(subject, alone) < 0.01
    assert int(subject.adaptation.step) == sum(valid)


def test_offline_updates_once_per_valid_frame_then_predicts_all(net):
    valid = (True, True, True, True, False, False)
    _, base, _ = net
    subject, predictions = whole(net, frames(valid=valid), scenario="offline")
    assert int(subject.adaptation.step) == 4
    changed = whole(net, frames(valid=valid, other=(4, 5)), scenario="offline")[0]
    same(subject, changed)
    _, after = compiled("predict_frames")(subject, base, frames())
    np.testing.assert_allclose(predictions[0][:4], after[0][:4], atol=0.05)
    # All frames count from the first update on, the last one too.
    later = whole(net, frames(valid=valid, other=(3,)), scenario="offline")
    assert not np.array_equal(later[1][1][0], predictions[1][0])


def test_offline_in_pieces_equals_the_whole(net):
    _, base, vgg = net
    tools = ttp.tools(small_net.model(), settings(scenario="offline"))
    adapt = jax.jit(functools.partial(ttp.adapt_offline, tools=tools, count=2))
    subject = compiled("start", scenario="offline")(base, KEY)
    for first in (0, 3):
        subject = ttp.remember_frames(subject, part(frames(), first, first + 3))
    subject = ttp.rewind(subject)
    for _ in range(4):  # one piece more than there are frames
        subject = adapt(subject, base, vgg)
    subject, predictions = compiled("predict_frames")(ttp.rewind(subject), base, frames())
    assert_same_run((subject, predictions), whole(net, frames(), scenario="offline"))


def test_the_state_keeps_its_types_so_that_no_program_compiles_twice(net):
    _, base, vgg = net
    tools = ttp.tools(small_net.model(), settings())
    begin = compiled("start")(base, KEY)
    ends = [
        jax.eval_shape(functools.partial(ttp.online, tools=tools), begin, base, vgg, frames())[0],
        jax.eval_shape(ttp.remember_frames, begin, frames()),
        jax.eval_shape(
            functools.partial(ttp.adapt_offline, tools=tools, count=2), begin, base, vgg
        ),
        jax.eval_shape(functools.partial(ttp.predict_frames, tools=tools), begin, base, frames())[
            0
        ],
        ttp.rewind(begin),
    ]
    for end in ends:
        assert jax.tree.structure(end) == jax.tree.structure(begin)
        for a, b in zip(*map(jax.tree.leaves, (begin, end)), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert getattr(a, "weak_type", False) == getattr(b, "weak_type", False)


@pytest.mark.parametrize("rules, own", [("reference", "renderer"), ("paper", "encoder")])
def test_only_what_the_rules_name_is_in_the_state(net, rules, own):
    _, base, vgg = net
    tools = ttp.tools(small_net.model(), settings(rules=rules))
    run = functools.partial(ttp.personalize, tools=tools)
    subject, _ = jax.eval_shape(run, base, vgg, frames(), KEY)
    trainable, frozen = state.split(base.params, state.RULES[rules])
    assert set(subject.adaptation.delta) == set(trainable)
    assert not any(("bn" in k or k.startswith("decoder")) for k in trainable)
    assert any(k.startswith(f"{own}/") for k in trainable)
    assert any(k.startswith("renderer/block0/conv") for k in frozen) == (rules == "paper")
    # Statistics are no part of the state, and nothing else could carry them.
    assert not hasattr(subject.adaptation, "batch_stats")


# --- Many subjects -------------------------------------------------------------------------------


RAGGED = ((True,) * T, (True, True, True, True, False, False))


def stacked(*videos):
    return jax.tree.map(lambda *a: jnp.stack(a), *videos)


@pytest.mark.parametrize("how", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_many_subjects_equal_solo_runs_whatever_their_neighbours(net, how):
    _, base, vgg = net
    keys = jax.random.split(KEY, 2)
    videos = [frames(seed, valid) for seed, valid in enumerate(RAGGED)]
    together = compiled(how)(base, vgg, stacked(*videos), keys)
    for i, video in enumerate(videos):
        alone = whole(net, video, keys[i])
        assert_same_run(jax.tree.map(lambda a, i=i: a[i], together), alone)
    # Another neighbour: not a bit moves.
    others = compiled(how)(base, vgg, stacked(videos[0], frames(5)), keys)
    same(*(jax.tree.map(lambda a: a[0], found) for found in (others, together)))
    assert not np.array_equal(others[1][1][1], together[1][1][1])


# --- Predictions ---------------------------------------------------------------------------------


def test_predictions_come_back_in_picture_pixels():
    # A network that knows the bright dots: its maps are the crop's red and green at quarter size.
    dots = np.array([[[20.0, 12.0], [50.0, 40.0]], [[31.0, 33.0], [22.0, 47.0]]])
    crops = np.array([[36.0, 28.0, 64.0], [30.0, 35.0, 48.0]], np.float32)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    pictures = np.zeros((2, HEIGHT, WIDTH, 3))
    for t in range(2):
        for channel, (x, y) in enumerate(dots[t]):
            spot = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 3.0**2))
            pictures[t, :, :, channel] = 255 * spot

    def apply(variables, picture):
        maps = denormalize(picture)[:, ::4, ::4, :2]
        return types.SimpleNamespace(heatmaps=maps)

    model = types.SimpleNamespace(apply=apply, decode="quarter", half_pixel=False, flip_average=())
    tools = ttp.Tools(model, state.adam(0.1), settings())
    empty = state.Base({}, {}, jnp.ones(1))
    nothing = ttp.start(empty, KEY, tools=tools, capacity=1, shape=(HEIGHT, WIDTH))
    arrays = pictures.round().astype(np.uint8), UNMOVED[:2], crops, np.ones(2, bool)
    video = Frames(*map(jnp.array, arrays))
    _, (joints, peaks) = ttp.predict_frames(nothing, empty, video, tools=tools)
    # A map cell is 4 crop pixels, so 4 or 3 picture pixels; decoding is right to half a cell.
    assert np.abs(joints - dots).max() < 2.0
    assert peaks.min() > 150


def test_a_map_s_index_stands_for_the_crop_pixel_stride_times_as_large():
    """The coordinate rule of the README, exactly: one hot cell, its neighbours alike."""
    cells = np.array([[3, 5], [7, 2]])  # x, y
    maps = np.zeros((1, 16, 16, 2), np.float32)
    maps[0, cells[:, 1], cells[:, 0], [0, 1]] = 1
    model = types.SimpleNamespace(
        apply=lambda variables, pictures: types.SimpleNamespace(heatmaps=jnp.array(maps)),
        decode="quarter",
        half_pixel=False,
        flip_average=(),
    )
    points, _ = steps.predict({}, jnp.zeros((1, 64, 64, 3)), model=model)
    np.testing.assert_array_equal(points[0], 4 * cells)
