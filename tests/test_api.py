import dataclasses
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
import small_net
import small_run

import ttp_jax
from data_pipelines import windows
from data_pipelines.clips import Clip
from ttp_jax import inputs, people
from ttp_jax.checkpoint import ModelFile, fingerprint, write_model
from ttp_jax.runs import experiment
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.starts import subject_key
from ttp_jax.skeletons import PENN13
from ttp_jax.verbs import export

SIZE = 32  # of the network's crops
COUNT = 10  # frames: a whole chunk and a part of one
# Crops have 60 pixels a side at most: less than twice the network's, so nothing is shrunk.
HEIGHT, WIDTH = 40, 48
# The points don't depend on what is added to a whole map, so the gradient of `self_head/bias` is
# rounding, which Adam makes steps of the learning rate of. Joints don't feel it, confidence does.
NOISE = 2 * COUNT * small_run.get_config().ttp.learning_rate


ONLINE = pytest.param("online", marks=pytest.mark.slow)  # it compiles longest


def config_of():
    return small_run.cut(small_run.get_config())


def written(path, config):
    base = small_net.base(experiment.build(config).net, levels=0)
    write_model(path, ModelFile(base, export.needed(config), {"step": 0}))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory, shallow):
    """A model's file: a tiny network with random weights."""
    return written(tmp_path_factory.mktemp("model") / "tiny.npz", config_of())


@pytest.fixture(scope="module")
def model(path):
    return ttp_jax.load(path)


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (COUNT, HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def boxes():
    moving = np.linspace(0, 5, COUNT, dtype=np.float32)[:, None]
    return np.array([3, 2, 40, 36], np.float32) + moving * [1, 0.5, 1, 0.5]


@pytest.fixture(scope="module")
def offline(model, frames, boxes):
    return ttp_jax.personalize(model, frames, boxes)


# --- Import --------------------------------------------------------------------------------------


def test_importing_the_package_loads_neither_jax_nor_flax():
    code = (
        "import sys, ttp_jax; names = dir(ttp_jax); "
        "assert {'load', 'personalize', 'Adapter', 'Model', 'Result'} <= set(names), names; "
        "import ttp_jax.skeletons; "
        "assert not {'jax', 'flax', 'orbax'} & set(sys.modules); "
        "ttp_jax.Adapter; assert 'flax' in sys.modules; "
        "assert not {'cv2', 'tensorflow', 'data_pipelines'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=small_run.ROOT, timeout=300)
    assert ran.returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'personalise'"):
        _ = ttp_jax.personalise


# --- Against the verbs ---------------------------------------------------------------------------


def ran(model, frames, boxes, scenario):
    """What the verbs' runner makes of the same person."""
    made = experiment.build(config_of())
    clip = Clip("anna", "anna", "test", len(frames), lambda t: frames[t], np.float32(boxes))
    return Runner(made, model.base, scenario).one(clip)


@pytest.mark.parametrize("scenario", [ONLINE, "offline"])
def test_personalization_gives_the_numbers_of_the_verb(model, frames, boxes, scenario):
    expected = ran(model, frames, boxes, scenario)
    key = subject_key(config_of().seed, "anna")
    found = ttp_jax.personalize(model, frames, boxes, scenario=scenario, seed=key)
    np.testing.assert_allclose(found.joints, expected.joints, atol=1e-3)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=NOISE)
    assert found.updates == int(expected.adaptation.step) == COUNT
    assert set(found.state) == set(expected.adaptation.delta)
    for name, change in expected.adaptation.delta.items():
        tolerance = NOISE if name == "self_head/bias" else 2e-5
        np.testing.assert_allclose(found.state[name], change, atol=tolerance)
    # Of the model as it was, and so that the test sees a difference where there is one.
    assert np.abs(found.joints - found.before).max() > 0.05
    other = ttp_jax.personalize(model, frames, boxes, scenario=scenario, seed=1)
    np.testing.assert_array_equal(other.before, found.before)
    assert np.abs(other.joints - found.joints).max() > 0.01


def test_prediction_gives_the_numbers_of_the_verb(model, frames, boxes):
    expected = ran(model, frames, boxes, "none")
    joints, confidence = model.predict(frames, boxes)
    np.testing.assert_allclose(joints, expected.joints, atol=1e-3)
    np.testing.assert_allclose(confidence, expected.confidence, atol=1e-4)


# --- Windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture_size", [(270, 480), (300, 90), (50, 70)])
def test_windows_are_those_of_the_commands(picture_size):
    rng = np.random.default_rng(sum(picture_size))
    pictures = rng.integers(0, 256, (9, *picture_size, 3), np.uint8)
    height, width = picture_size
    corners = rng.uniform(0, (width - 20, height - 20), (9, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(9, 200, (9, 2))], -1).astype(np.float32)
    clip = Clip("anna", "anna", "test", 9, pictures.__getitem__, boxes)
    expected = windows.SubjectFrames(clip, image_size=SIZE, oversample=2).read(range(9), 16)
    given = inputs.given(pictures[..., ::-1], boxes, PENN13)  # as OpenCV's users give them
    back = given._replace(pictures=[picture[..., ::-1] for picture in given.pictures])
    found = list(inputs.chunks(back, SIZE, 8))
    assert len(found) == 2
    for name, rows in expected._asdict().items():
        mine = np.concatenate([getattr(chunk, name) for chunk in found])
        np.testing.assert_array_equal(mine, rows, err_msg=name)


def test_joints_of_a_large_picture_are_those_of_the_small_one(model, frames):
    """Each pixel as a block of 4 x 4, shrunk to the same window: the same joints, times 4."""
    box = np.array([-1.6, -5.6, 49.6, 45.6])  # its crop has exactly twice the network's pixels
    large = frames[:3].repeat(4, 1).repeat(4, 2)
    joints, confidence = model.predict(large, 4 * (box + 0.5) - 0.5)
    small_joints, small_likelihood = model.predict(frames[:3], box)
    np.testing.assert_allclose((joints + 0.5) / 4 - 0.5, small_joints, atol=1e-3)
    np.testing.assert_allclose(confidence, small_likelihood, atol=1e-4)


def test_a_large_video_takes_little_of_the_device():
    """A frame takes the window's bytes, whatever the camera; numpy's broadcasting makes a video."""
    video = np.broadcast_to(np.uint8(7), (9, 1080, 1920, 3))
    given = inputs.given(video, [600, 100, 1000, 1000], PENN13)
    chunks = list(inputs.chunks(given, SIZE, 8))
    assert [int(chunk.valid.sum()) for chunk in chunks] == [1, 0]  # all show the same
    for chunk in chunks:
        assert chunk.pictures.shape == (8, 4 * SIZE, 4 * SIZE, 3)
        assert chunk.pictures.nbytes == 8 * 16 * SIZE**2 * 3


# --- What comes back -----------------------------------------------------------------------------


def test_a_model_at_the_end_of_a_notebook_s_cell_is_a_screen_not_its_weights(model):
    shown = repr(model)
    assert "method = 'transformer'" in shown and "penn13" in shown and len(shown) < 2000


def test_the_result_fits_the_frames(offline):
    for joints in (offline.joints, offline.before):
        assert joints.shape == (COUNT, PENN13.size, 2) and joints.dtype == np.float32
    assert offline.confidence.shape == offline.before_confidence.shape == (COUNT, PENN13.size)
    assert offline.seconds > 0 and offline.notes == ()


def test_the_personalized_model_predicts_on(model, frames, boxes, offline):
    again, confidence = offline.model.predict(frames, boxes)
    np.testing.assert_allclose(again, offline.joints, atol=1e-3)
    np.testing.assert_allclose(confidence, offline.confidence, atol=1e-4)
    some, _ = model.with_state(offline.state).predict(frames[4:6], boxes[4:6])
    np.testing.assert_allclose(some, offline.joints[4:6], atol=1e-3)
    before, _ = model.predict(frames, boxes)  # which has stayed as it was
    np.testing.assert_array_equal(before, offline.before)


def test_the_same_seed_gives_the_same_bytes(model, frames, boxes, offline):
    key = jax.random.key(0)
    for seed in (0, key, key):  # a key can be used twice
        again = ttp_jax.personalize(model, list(frames), boxes, seed=seed)
        np.testing.assert_array_equal(again.joints, offline.joints)


def test_one_box_stands_for_all_frames_and_none_for_whole_pictures(model, frames):
    box = [-0.5, -0.5, WIDTH - 0.5, HEIGHT - 0.5]
    whole, _ = model.predict(frames)
    np.testing.assert_array_equal(model.predict(frames, box)[0], whole)
    np.testing.assert_array_equal(model.predict(frames, [box] * COUNT)[0], whole)


def test_frames_may_come_from_a_generator(model, frames):
    whole, _ = model.predict(frames)
    np.testing.assert_array_equal(model.predict(frame for frame in frames)[0], whole)
    alone = ttp_jax.personalize(model, (frame for frame in frames[:1]))
    np.testing.assert_array_equal(alone.joints, whole[:1])


def test_a_state_can_be_kept_in_a_file(tmp_path, model, frames, boxes, offline):
    path = tmp_path / "anna.npz"
    people.write(path, offline.state, "full", {"base": fingerprint(model.base)})
    person = people.read(path, fingerprint(model.base))
    joints, _ = model.with_state(person.delta).predict(frames, boxes)
    np.testing.assert_allclose(joints, offline.joints, atol=1e-3)


def test_one_frame_is_only_predicted(model, frames, boxes):
    result = ttp_jax.personalize(model, frames[:1], boxes[0])
    assert "two" in result.notes[0] and result.updates == 0 and result.state == {}
    np.testing.assert_array_equal(result.joints, result.before)
    np.testing.assert_array_equal(result.joints, model.predict(frames[:1], boxes[:1])[0])
    assert result.model.with_state(result.state).predict(frames[:1])[0].shape == (1, 13, 2)


@pytest.mark.slow
def test_settings_given_replace_the_models(model, frames):
    result = ttp_jax.personalize(model, frames[:3], iterations=2, batch_size=2, learning_rate=1e-8)
    assert result.updates == 6
    assert max(np.abs(change).max() for change in result.state.values()) < 1e-6


@pytest.mark.parametrize("scenario", [ONLINE, "offline"])
def test_progress_ends_with_all_the_work(model, frames, scenario):
    passes = {"online": 1, "offline": 3}[scenario]
    told = []
    note = lambda done, work: told.append((done, work))  # noqa: E731
    ttp_jax.personalize(model, frames, scenario=scenario, progress=note)
    done = [now for now, _ in told]
    assert done == sorted(set(done)) and done[-1] == passes * COUNT
    assert {work for _, work in told} == {passes * COUNT}


# --- Frames one by one ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stream_gives_the_numbers_of_the_video(model, frames, boxes):
    video = ttp_jax.personalize(model, frames, boxes, scenario="online", seed=3)
    adapter = ttp_jax.Adapter(model, capacity=16, seed=3)
    for t in range(COUNT):
        joints, confidence = adapter.step(frames[t], boxes[t])
        np.testing.assert_allclose(joints, video.joints[t], atol=1e-3)
        np.testing.assert_allclose(confidence, video.confidence[t], atol=NOISE)
    adapter.step(frames[0], boxes[0], update=False)
    assert adapter.updates == COUNT
    for name, change in video.state.items():
        tolerance = NOISE if name == "self_head/bias" else 2e-5
        np.testing.assert_allclose(adapter.state[name], change, atol=tolerance)
    again, _ = adapter.model.predict(frames[-1:], boxes[-1:])
    np.testing.assert_allclose(again[0], video.joints[-1], atol=1e-3)


def test_a_stream_can_do_without_updates_and_keeps_its_box(model, frames, boxes):
    adapter = ttp_jax.Adapter(model, boxes[0], capacity=16)
    expected, _ = model.predict(frames[:1], boxes[:1])
    for _ in range(2):
        joints, _ = adapter.step(frames[0], update=False)
        np.testing.assert_allclose(joints, expected[0], atol=1e-3)
    assert adapter.updates == 0 and not any(change.any() for change in adapter.state.values())
    elsewhere = ttp_jax.Adapter(model, capacity=16)
    first, _ = elsewhere.step(frames[0], boxes[5], update=False)
    second, _ = elsewhere.step(frames[0], update=False)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - expected[0]).max() > 0.01


# --- What can't be done --------------------------------------------------------------------------


def with_row(boxes, t, row):
    boxes = boxes.copy()
    boxes[t] = row
    return boxes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": lambda f: f / 255}, "frame 0 .* of float64, expected uint8"),
        ({"frames": lambda f: f[0]}, r"\[T, H, W, 3\]; one is frames\[None\]"),
        ({"frames": lambda f: f[..., :1]}, r"frame 0 is \(40, 48, 1\)"),
        ({"frames": lambda f: []}, "no frames"),
        ({"frames": lambda f: [f[0], f[1, :30]]}, r"frame 1 is \(30, 48, 3\), frame 0 \(40,"),
        ({"boxes": lambda b: b[:4]}, r"boxes \(4, 4\), expected \(10, 4\)"),
        ({"boxes": lambda b: with_row(b, 3, np.nan)}, "box of frame 3 is .*nan"),
        ({"boxes": lambda b: with_row(b, 2, [9, 9, 9, 20])}, "box of frame 2 .* x1 < x2"),
        (
            {"boxes": lambda b: with_row(b, 4, [60, 2, 90, 40])},
            r"box of frame 4, \[60.0, .* lies outside the frame, which is 48 x 40 pixels",
        ),
        ({"boxes": lambda b: b / 48}, "box of frame 0, .* less than 3 pixels wide or high in"),
        ({"scenario": "both"}, "scenario is 'both', expected one of online, offline"),
        ({"iterations": 0}, "iterations is 0, expected a whole number"),
        ({"batch_size": 2.5}, "batch_size is 2.5, expected a whole number"),
        ({"learning_rate": math.nan}, "learning_rate is nan, expected a number above 0"),
        ({"learning_rate": -1e-4}, "learning_rate is -0.0001, expected a number above 0, up to 1"),
        ({"learning_rate": 2.0}, "learning_rate is 2.0, expected a number above 0, up to 1"),
        ({"batch_size": True}, "batch_size is True, expected a whole number"),
        ({"method": "magic"}, "method is 'magic', expected one of ttp"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
    ],
)
def test_wrong_input_is_named(model, frames, boxes, change, words):
    given = {"frames": frames, "boxes": boxes}
    for name, value in change.items():
        given[name] = value(given[name]) if callable(value) else value
    with pytest.raises(ValueError, match=words):
        ttp_jax.personalize(model, **given)


@pytest.mark.parametrize(("field", "value"), [("memory", 1), ("batch_size", 0)])
def test_settings_that_a_program_changed_are_checked(model, field, value):
    config = {**model.config, "ttp": {**model.config["ttp"], field: value}}
    changed = dataclasses.replace(model, config=config)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    for start in (ttp_jax.personalize, ttp_jax.Adapter):
        with pytest.raises(ValueError, match=rf"model\.config\.ttp\.{field} is {value}, expected"):
            start(changed, frames) if start is ttp_jax.personalize else start(changed)


def test_a_foreign_state_is_refused(model):
    with pytest.raises(ValueError, match="NaN or infinity in self_head/bias"):
        bias = model.base.params["self_head"]["bias"]
        model.with_state({"self_head/bias": np.full_like(bias, np.nan)})
    with pytest.raises(ValueError, match="a state only fits the model"):
        model.with_state({"encoder/nothing": np.zeros(3)})
    with pytest.raises(ValueError, match="a state only fits the model"):
        model.with_state({"self_head/bias": np.zeros(3)})


def test_a_stream_must_remember_two_frames(model):
    for capacity in (1, 0, -3, 2.5, math.nan):
        with pytest.raises(ValueError, match="capacity is .*, expected a whole number 2 to"):
            ttp_jax.Adapter(model, capacity=capacity)
    with pytest.raises(ValueError, match="iterations is 0, expected"):
        ttp_jax.Adapter(model, iterations=0)


@pytest.mark.parametrize("scenario", ["offline", ONLINE])
def test_a_frozen_frame_is_learned_from_once_and_named(model, frames, boxes, scenario):
    frozen = np.repeat(frames[:2], 5, 0)
    box, told = boxes[0], []
    found = ttp_jax.personalize(
        model, frozen, box, scenario=scenario, progress=lambda done, work: told.append((done, work))
    )
    assert found.updates == 2 and np.isfinite(found.joints).all()
    assert told[-1][0] == told[-1][1]
    assert found.notes[0].startswith("8 of 10 frames repeat the one before.")
    assert found.notes[-1].startswith("Lower learning_rate")
    if scenario == "online":
        live = ttp_jax.Adapter(model, box, capacity=16)
        joints = np.array([live.step(picture)[0] for picture in frozen])
        assert live.updates == 2
        np.testing.assert_allclose(joints, found.joints, atol=0.05)


def test_ruin_is_named(model, frames, boxes):
    healthy = ttp_jax.personalize(model, frames, boxes)
    ruined = ttp_jax.personalize(model, frames, boxes, learning_rate=0.3)
    assert healthy.notes == ()
    assert any("The joints moved by" in note or "confidence" in note for note in ruined.notes)


def test_a_baseline_can_only_predict(tmp_path, shallow):
    config = config_of()
    config.model.method = "baseline"
    path = written(tmp_path / "baseline.npz", config)
    with pytest.raises(ValueError, match="network has no self-supervised task.*--method=bn"):
        ttp_jax.personalize(ttp_jax.load(path), np.zeros((2, 32, 32, 3), np.uint8))


def test_a_baseline_is_adapted_by_a_method_that_needs_no_task(tmp_path, shallow):
    config = config_of()
    config.model.method = "baseline"
    model = ttp_jax.load(written(tmp_path / "baseline.npz", config))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    result = ttp_jax.personalize(model, frames, method="bn")
    assert all(path.startswith("batch_stats/") for path in result.state) and result.updates == 4
    assert not np.array_equal(result.confidence, result.before_confidence)
    # The model of that person, from its state as from a file.
    for adapted in (result.model, model.with_state(result.state)):
        np.testing.assert_array_equal(adapted.predict(frames)[1], result.confidence)
    with pytest.raises(ValueError, match="a state only fits the model"):
        model.with_state({"batch_stats/encoder/bn1/mean": np.zeros(3)})


def test_quarter_turns_are_not_told_in_turned_pictures(tmp_path, shallow):
    config = config_of()
    config.model.method = "rotation"
    path = written(tmp_path / "rotation.npz", config)
    with pytest.raises(ValueError, match="config.ttp.offline_rotation_prob=0"):
        ttp_jax.personalize(ttp_jax.load(path), np.zeros((2, 32, 32, 3), np.uint8))


def test_the_model_that_comes_along_can_be_loaded():
    model = ttp_jax.load()
    assert model.joints == PENN13.joints and model.about["step"] > 0
    assert np.isfinite(np.concatenate([np.ravel(x) for x in jax.tree.leaves(model.base)])).all()


def test_a_file_that_is_no_model_is_named(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        ttp_jax.load(tmp_path / "nothing.npz")
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="damaged.npz is damaged"):
        ttp_jax.load(damaged)
    foreign = export.needed(config_of())
    foreign["data"]["skeleton"] = "dog20"
    write_model(tmp_path / "dog.npz", ModelFile(ttp_jax.load(path).base, foreign, {}))
    with pytest.raises(ValueError, match="dog.npz.* is 'dog20', expected one of penn13"):
        ttp_jax.load(tmp_path / "dog.npz")
