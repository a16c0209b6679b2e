"""Personalization of one subject and of many, on a network that takes seconds to compile."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net

from ttp_jax import geometry, state, steps, ttp
from ttp_jax.models.pose import denormalize, normalize
from ttp_jax.parallel import over_subjects

pytestmark = pytest.mark.usefixtures("shallow")

T, HEIGHT, WIDTH = 6, 56, 72
CROPS = np.tile(np.array([36.0, 28.0, 60.0], np.float32), (T, 1)) + np.arange(T)[:, None]
KEY = jax.random.key(7)


def frames(seed=0, valid=(True,) * T, other=(), other_seed=100):
    """A video; frames `other` get different pictures."""
    pictures = small_net.pictures(T, seed, HEIGHT, WIDTH)
    changed = small_net.pictures(T, other_seed, HEIGHT, WIDTH)
    pictures = np.stack([(changed if t in other else pictures)[t] for t in range(T)])
    return ttp.Frames(jnp.array(pictures), jnp.array(CROPS), jnp.array(valid))


def settings(**changes):
    # A high rate makes two runs that drew differently end far apart.
    return ttp.Settings(**{"batch_size": 3, "learning_rate": 3e-3, "image_size": 64, **changes})


@pytest.fixture(scope="module")
def net(shallow):
    """Network, its trained state, features."""
    model = small_net.model()
    return model, small_net.base(model), small_net.vgg()


@functools.cache
def compiled(how, **changes):
    """One program per scenario, shared by the tests."""
    tools = ttp.tools(small_net.model(), settings(**changes))
    if how == "start":
        return functools.partial(ttp.start, tools=tools)
    if how == "adapt_step":
        return jax.jit(functools.partial(steps.adapt_step, model=tools.model, tx=tools.tx))
    if how in ("online", "predict_frames"):
        return jax.jit(functools.partial(getattr(ttp, how), tools=tools))
    solo = functools.partial(ttp.personalize, tools=tools)
    return jax.jit(solo if how == "personalize" else over_all(solo, how))


def over_all(solo, how):
    """Many subjects of one model."""

    def run(base, vgg, frames, keys):
        return over_subjects(solo, how=how, shared=2)(base, vgg, frames, keys)

    return run


def whole(net, video, key=KEY, **changes):
    _, base, vgg = net
    return compiled("personalize", **changes)(base, vgg, video, key)


def chunk(net, video, ids, adaptation=None, key=KEY):
    _, base, vgg = net
    if adaptation is None:
        adaptation = compiled("start")(base)
    return compiled("online")(adaptation, base, vgg, video, jnp.array(ids), key)


def change(adaptation, base):
    """Change of each trained tensor, but for the head's bias, whose gradient is rounding noise."""
    names = [k for k in adaptation.params if k != "self_head/bias"]
    start, _ = state.split(base.params, ((r"", True),))
    return {k: np.asarray(adaptation.params[k] - start[k]) for k in names}


def apart(one, other, base):
    """L2 between two runs' parameter changes, relative to the change."""
    a, b = change(one, base), change(other, base)
    assert set(a) == set(b)
    difference = sum(np.square(a[k] - b[k]).sum() for k in a)
    return (difference / sum(np.square(v).sum() for v in b.values())) ** 0.5


def assert_same_run(one, other, base):
    """Float32 Adam follows the sign of tiny gradients, so programs may differ in those: 1 %."""
    assert int(one[0].step) == int(other[0].step)
    assert apart(one[0], other[0], base) < 0.01
    np.testing.assert_allclose(one[0].normalisers, other[0].normalisers, rtol=1e-4)
    np.testing.assert_allclose(one[1][0], other[1][0], atol=0.05)
    np.testing.assert_allclose(one[1][1], other[1][1], rtol=0.01, atol=1e-3)


# --- What a frame may depend on ------------------------------------------------------------------


def test_online_moves_the_model_and_depends_on_the_key_alone(net):
    one, again = whole(net, frames()), whole(net, frames())
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert int(one[0].step) == T and one[1][0].shape == (T, 4, 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one))
    assert apart(whole(net, frames(), jax.random.key(8))[0], one[0], net[1]) > 0.1
    assert all(np.abs(v).max() > 1e-4 for v in change(one[0], net[1]).values())


def test_online_never_looks_ahead(net):
    plain, poisoned = whole(net, frames()), whole(net, frames(other=(3, 4, 5)))
    for a, b in zip(plain[1], poisoned[1], strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
    assert not np.array_equal(plain[1][1][3:], poisoned[1][1][3:])
    halves = [chunk(net, frames(other=o), (0, 1, 2)) for o in ((), (3, 4, 5))]
    jax.tree.map(np.testing.assert_array_equal, *halves)


def test_online_uses_earlier_frames_and_the_current_one(net):
    plain = whole(net, frames())
    for t in range(3):
        changed = whole(net, frames(other=(t,)))
        assert not np.array_equal(plain[1][1][t], changed[1][1][t])
        # Later frames see it through the updates and as a source.
        assert apart(changed[0], plain[0], net[1]) > 0.01


def test_chunks_equal_the_whole(net):
    first, (joints1, peaks1) = chunk(net, frames(), (0, 1, 2))
    second, (joints2, peaks2) = chunk(net, frames(), (3, 4, 5), first)
    parts = second, (jnp.concatenate([joints1, joints2]), jnp.concatenate([peaks1, peaks2]))
    assert_same_run(parts, whole(net, frames()), net[1])


def test_padding_at_the_end_changes_nothing(net):
    valid = (True, True, True, False, False, False)
    padded = whole(net, frames(valid=valid, other=(3, 4, 5)))
    adaptation, predictions = chunk(net, frames(), (0, 1, 2))
    cut = padded[0], tuple(a[:3] for a in padded[1])
    assert_same_run(cut, (adaptation, predictions), net[1])


def test_an_invalid_frame_is_neither_target_nor_source(net):
    valid = (True, False, True, True, True, True)
    plain = whole(net, frames(valid=valid))
    changed = whole(net, frames(valid=valid, other=(1,)))
    jax.tree.map(np.testing.assert_array_equal, plain[0], changed[0])
    assert int(plain[0].step) == T - 1
    for a, b in zip(plain[1], changed[1], strict=True):
        np.testing.assert_array_equal(np.delete(a, 1, 0), np.delete(b, 1, 0))
    # The same frame, valid, does matter.
    assert apart(whole(net, frames(other=(1,)))[0], whole(net, frames())[0], net[1]) > 0.01


def test_an_invalid_first_frame_leaves_the_base(net):
    adaptation, (joints, _) = chunk(net, frames(valid=(False,) * T), (0, 1, 2))
    assert int(adaptation.step) == 0 and np.isnan(adaptation.loss)
    assert all(np.abs(v).max() == 0 for v in change(adaptation, net[1]).values())
    assert np.isfinite(joints).all()


# --- Updates -------------------------------------------------------------------------------------


def test_one_pair_is_clean_and_iterations_repeat_the_step_on_it(net):
    _, base, vgg = net
    video = jax.tree.map(lambda a: a[:1], frames())
    adaptation, _ = whole(net, video, batch_size=1, iterations=2)
    affine = geometry.crop_affine(video.crops[0], 64)
    crop = normalize(geometry.warp(video.pictures[0], affine, 64))[None]
    step = compiled("adapt_step")
    _, frozen = state.split(base.params, state.RULES["reference"])
    expected = compiled("start")(base)
    for _ in range(2):
        expected = step(expected, frozen, base.batch_stats, (crop, crop), vgg)
    assert int(adaptation.step) == 2
    assert float(adaptation.loss) == pytest.approx(float(expected.loss), rel=1e-4)
    assert apart(adaptation, expected, base) < 0.01


def test_pairs_share_target_box_and_transform_and_only_the_first_is_clean():
    video, chosen = frames(), settings(batch_size=8)
    targets, sources = jnp.full(8, 2), jnp.array([2, 0, 1, 2, 2, 2, 2, 2])
    target, source = ttp._cut_pairs(KEY, video, targets, sources, chosen, clean_first=True)
    clean = geometry.warp(video.pictures[2], geometry.crop_affine(video.crops[2], 64), 64)
    np.testing.assert_allclose(denormalize(target[0]), clean, atol=0.01)
    for i in range(8):
        same = bool(jnp.abs(target[i] - source[i]).max() < 1e-5)
        assert same == (int(sources[i]) == 2)  # the same frame, cut alike
        assert i == 0 or float(jnp.abs(denormalize(target[i]) - clean).max()) > 1
    every, _ = ttp._cut_pairs(KEY, video, targets, sources, chosen, clean_first=False)
    assert float(jnp.abs(denormalize(every[0]) - clean).max()) > 1


def test_sources_are_drawn_evenly_from_the_valid_frames_so_far():
    valid = jnp.array([True, False, True, True, True, True])
    drawn = np.asarray(ttp._draw_valid(KEY, valid, 3, 3000))
    counts = np.bincount(drawn, minlength=T)
    assert counts[1] == counts[4] == counts[5] == 0
    # Three frames, 1000 draws each, standard deviation 26.
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 130


def test_reset_every_goes_back_to_the_base_with_fresh_moments(net):
    adaptation, predictions = whole(net, frames(), reset_every=3)
    fresh = chunk(net, frames(), (3, 4, 5))
    assert_same_run((adaptation, tuple(a[3:] for a in predictions)), fresh, net[1])
    first = chunk(net, frames(), (0, 1, 2))
    np.testing.assert_allclose(predictions[0][:3], first[1][0], atol=0.05)


def test_offline_updates_once_per_valid_frame_then_predicts_all(net):
    valid = (True, True, True, True, False, False)
    _, base, _ = net
    adaptation, predictions = whole(net, frames(valid=valid), scenario="offline")
    assert int(adaptation.step) == 4
    changed = whole(net, frames(valid=valid, other=(4, 5)), scenario="offline")[0]
    jax.tree.map(np.testing.assert_array_equal, adaptation, changed)
    after = compiled("predict_frames")(adaptation, base, frames(), jnp.arange(T))
    np.testing.assert_allclose(predictions[0][:4], after[0][:4], atol=0.05)
    # All frames count from the first update on, the last one too.
    later = whole(net, frames(valid=valid, other=(3,)), scenario="offline")
    assert not np.array_equal(later[1][1][0], predictions[1][0])


def test_the_state_keeps_its_types_so_that_no_program_compiles_twice(net):
    _, base, vgg = net
    tools = ttp.tools(small_net.model(), settings())
    begin = ttp.start(base, tools)
    run = functools.partial(ttp.online, tools=tools)
    after, _ = jax.eval_shape(run, begin, base, vgg, frames(), jnp.arange(3), KEY)
    step = functools.partial(steps.adapt_step, model=tools.model, tx=tools.tx)
    _, frozen = state.split(base.params, state.RULES["reference"])
    pair = (jnp.zeros((1, 64, 64, 3)),) * 2
    stepped = jax.eval_shape(step, begin, frozen, base.batch_stats, pair, vgg)
    for end in (after, stepped):
        assert jax.tree.structure(end) == jax.tree.structure(begin)
        for a, b in zip(*map(jax.tree.leaves, (begin, end)), strict=True):
            assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


@pytest.mark.parametrize("rules, own", [("reference", "renderer"), ("paper", "encoder")])
def test_only_what_the_rules_name_is_in_the_state(net, rules, own):
    _, base, vgg = net
    tools = ttp.tools(small_net.model(), settings(rules=rules))
    run = functools.partial(ttp.personalize, tools=tools)
    adaptation, _ = jax.eval_shape(run, base, vgg, frames(), KEY)
    trainable, frozen = state.split(base.params, state.RULES[rules])
    assert set(adaptation.params) == set(trainable)
    assert not any(("bn" in k or k.startswith("decoder")) for k in trainable)
    assert any(k.startswith(f"{own}/") for k in trainable)
    assert any(k.startswith("renderer/block0/conv") for k in frozen) == (rules == "paper")
    # Statistics are no part of the state, and nothing else could carry them.
    assert not hasattr(adaptation, "batch_stats")


# --- Many subjects -------------------------------------------------------------------------------


RAGGED = ((True,) * T, (True, True, True, True, False, False))


def stacked(*videos):
    return jax.tree.map(lambda *a: jnp.stack(a), *videos)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_many_subjects_equal_solo_runs_whatever_their_neighbours(net, how):
    _, base, vgg = net
    keys = jax.random.split(KEY, 2)
    videos = [frames(seed, valid) for seed, valid in enumerate(RAGGED)]
    together = compiled(how)(base, vgg, stacked(*videos), keys)
    for i, video in enumerate(videos):
        alone = whole(net, video, keys[i])
        assert_same_run(jax.tree.map(lambda a, i=i: a[i], together), alone, base)
    # Another neighbour: not a bit moves.
    others = compiled(how)(base, vgg, stacked(videos[0], frames(5)), keys)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), others, together)
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

    tools = ttp.Tools(types.SimpleNamespace(apply=apply), None, settings())
    empty = state.Base({}, {}, jnp.ones(1))
    nothing = state.Adaptation(jnp.zeros(()), {}, (), jnp.ones(1), jnp.zeros(()))
    video = ttp.Frames(jnp.array(pictures.round(), jnp.uint8), jnp.array(crops), jnp.ones(2, bool))
    joints, peaks = ttp.predict_frames(nothing, empty, video, jnp.arange(2), tools=tools)
    # A map cell is 4 crop pixels, so 4 or 3 picture pixels; decoding is right to half a cell.
    assert np.abs(joints - dots).max() < 2.0
    assert peaks.min() > 150
