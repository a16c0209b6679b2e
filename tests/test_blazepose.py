"""BlazePose against TensorFlow's interpreter: reading it, running it, and training from it.

Most tests use a file that TensorFlow builds from the same operators with random weights. Tests of
the published file are skipped if it was not fetched (`python main.py fetch blazepose`).
"""

import functools
import os
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tflite_files
from flax import traverse_util
from scipy import ndimage
from test_tflite import check_gradients, params_of

import main
from configs import blazepose as blazepose_config
from configs import common
from ttp_jax import api, checkpoint, convert, fetch, files, geometry, heatmaps, state, steps, tflite
from ttp_jax.joint_maps import joint_map, map_joints
from ttp_jax.models import pose
from ttp_jax.models.colors import to_unit
from ttp_jax.models.encoders import blazepose, graph
from ttp_jax.runs import base_model
from ttp_jax.runs.experiment import build
from ttp_jax.skeletons import (
    BBC7,
    BLAZEPOSE33,
    BODY25,
    COCO17,
    H36M16,
    PENN13,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
SHAPE = (1, 256, 256, 3)
WHOLE = 1e-3  # of the map's scale


@pytest.fixture(scope="module")
def params():
    return params_of(blazepose.HEATMAPS, SHAPE)


@pytest.fixture(scope="module")
def made(params, tmp_path_factory):
    """A file of the same operators as the published one, in half precision."""
    path = tmp_path_factory.mktemp("made") / "pose_landmark_full.tflite"
    path.write_bytes(
        tflite_files.convert(
            lambda x: tflite_files.evaluate(blazepose.HEATMAPS, params, x), SHAPE, half=True
        )
    )
    return path


@pytest.fixture
def fetched(made, tmp_path, monkeypatch, capsys):
    """The folder of weights, as the verb fills it from a file of the user's."""
    monkeypatch.setenv(fetch.FOLDER, str(tmp_path / "weights"))
    assert main.main(["main.py", "fetch", "blazepose", "--from", str(made)]) == 0
    return tmp_path / "weights" / "blazepose", capsys.readouterr().out


def published(part):
    """The published file of this name, where it was fetched."""
    path = pathlib.Path(os.environ["TTP_JAX_TEST_WEIGHTS"]) / "blazepose" / part.name
    if not path.is_file() or files.sha256(path) != part.sha256:
        pytest.skip(f"{path} isn't there: python main.py fetch blazepose")
    return path


@pytest.fixture
def crops(shared_data):
    """Crops [6, 256, 256, 3] of real people, float32 in 0..1."""
    root, found = shared_data("penn_real"), []
    for name in ("0001/000010", "0001/000050", "0001/000080"):
        picture = cv2.imread(str(root / "frames" / f"{name}.jpg"))[..., ::-1]
        side = min(picture.shape[:2])
        left = (picture.shape[1] - side) // 2
        square = cv2.resize(picture[:side, left : left + side], SHAPE[1:3])
        found += [square, square[:, ::-1]]
    return np.stack(found).astype(np.float32) / 255


# --- Its weights and maps ------------------------------------------------------------------------


def test_the_table_has_the_published_size(params):
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_601_759
    assert all(node.name or not hasattr(node.operator, "size") for node in blazepose.TRUNK.nodes)


def test_a_file_gives_the_encoder_and_the_head(params, made):
    found = convert.read_blazepose(made)
    head = params["heatmaps"]
    for name, layer in found["encoder"].items():
        for leaf, value in layer.items():
            np.testing.assert_array_equal(value, params[name][leaf])
    assert set(found["encoder"]) == set(params) - {"heatmaps"}
    np.testing.assert_array_equal(found["supervised_head"]["kernel"], head["kernel"][..., :33])
    np.testing.assert_array_equal(found["supervised_head"]["bias"], head["bias"][:33])


def test_the_file_of_another_network_is_refused_with_the_first_difference(params, tmp_path):
    first = blazepose.HEATMAPS.nodes[1]
    odd = first._replace(operator=graph.Conv(24, 3, 2, "VALID", "relu"))
    other = blazepose.HEATMAPS._replace(
        nodes=(blazepose.HEATMAPS.nodes[0], odd, *blazepose.HEATMAPS.nodes[2:])
    )
    path = tmp_path / "other.tflite"
    path.write_bytes(tflite_files.convert(lambda x: tflite_files.evaluate(other, params, x), SHAPE))
    with pytest.raises(ValueError, match=r"other\.tflite: expected .*relu6.*, got .*'relu'"):
        convert.read_blazepose(path)
    path.write_bytes(tflite_files.convert(lambda x: x[:, ::2] + x[:, 1::2], SHAPE))
    with pytest.raises(ValueError, match=r"other\.tflite has no heatmaps \[1, 64, 64, 39\]"):
        convert.read_blazepose(path)


def assert_like(found, expected):
    scale = np.abs(expected).max()
    assert np.abs(np.asarray(found) - expected).max() <= WHOLE * scale


def test_the_made_file_s_maps_are_the_interpreter_s(params, made):
    picture = np.random.default_rng(0).uniform(size=SHAPE).astype(np.float32)
    (expected,) = tflite_files.interpreted(made.read_bytes(), picture).values()
    variables = {"params": convert.read_blazepose(made)}
    found = jax.jit(net(33).apply)(variables, normalized(picture)).heatmaps
    assert_like(found, expected[..., :33])


def net(joints, **fields):
    """The network of a config, with BlazePose's encoder."""
    config = common.get_config()
    config.model.method, config.model.encoder = "baseline", "blazepose"
    config.model.update(fields)
    return pose.from_config(config.model, joints)


def normalized(pictures):
    """Pictures in 0..1 as the network gets them."""
    return pose.normalize(jnp.asarray(pictures) * 255)


def test_the_published_maps_are_the_interpreter_s_on_real_frames(crops):
    path = published(fetch.LANDMARKS)
    variables = {"params": convert.read_blazepose(path)}
    predict = jax.jit(lambda x: net(33).apply(variables, x).heatmaps)
    content = path.read_bytes()
    for crop in crops:
        expected = tflite_files.interpreted(content, crop[None])["Identity_3"]
        assert_like(predict(normalized(crop[None])), expected[..., :33])


@pytest.mark.slow
def test_mirrored_crops_have_their_joints_in_mirrored_places(crops):
    """Where the maps' cells lie in the crop needs no label: a wrong place differs when mirrored."""
    params = convert.read_blazepose(published(fetch.LANDMARKS))
    see = functools.partial(steps.predict, {"params": params}, model=net(33, decode="centroid"))
    joints, confidence = (np.array(part) for part in jax.jit(see)(normalized(crops)))
    joints[1::2, :, 0] = 255 - joints[1::2, :, 0]
    for part in joints, confidence:
        part[1::2] = part[1::2, BLAZEPOSE33.flip_order]
    sure = np.minimum(confidence[::2], confidence[1::2]) > 0.7
    away = (joints[::2] - joints[1::2])[sure]
    assert len(away) > 20
    assert np.abs(np.median(away, 0)).max() < 1  # pixels; half a cell beside is 2 there, so 4 apart


def test_all_outputs_of_both_published_files_are_the_interpreter_s(crops):
    for part in fetch.BLAZEPOSE:  # the detector's weights are sparse
        path = published(part)
        network = tflite.read(path)
        picture = cv2.resize(crops[0], network.input_shape[1:3])[None]
        expected = tflite_files.interpreted(path.read_bytes(), picture)
        found = graph.Network(network.graph).apply({"params": network.params}, picture)
        for value, name in zip(found, tflite.outputs(path), strict=True):
            assert_like(value, expected[name])


def test_the_published_weights_are_halves(monkeypatch, tmp_path):
    found = convert.read_blazepose(published(fetch.LANDMARKS))
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, leaf.astype(np.float16).astype(np.float32))


def test_smaller_pictures_give_smaller_maps():
    for size in (64, 128):
        picture = jnp.zeros((2, size, size, 3))
        shapes = jax.eval_shape(
            lambda picture=picture: net(8).init_with_output(jax.random.key(0), picture)[0]
        )
        assert shapes.heatmaps.shape == (2, size // 4, size // 4, 8)
        assert pose.heatmap_size(net(8), size) == size // 4
    with pytest.raises(ValueError, match="image_size is 80, expected a multiple of 32"):
        pose.heatmap_size(net(8, last_stride=1), 80)


def test_it_wants_colours_as_they_are():
    pictures = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(to_unit(normalized(pictures)), pictures, atol=1e-6)
    assert np.abs(to_unit(normalized(np.zeros_like(pictures)))).max() < 1e-7  # beyond the rim
    with pytest.raises(ValueError, match='"bgr" is for the encoder "resnet"'):
        net(33, color_order="bgr")
    with pytest.raises(ValueError, match=r"model\.encoder is 'vit', expected one of resnet, blaz"):
        net(33, encoder="vit").init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(params, x64):
    rng = np.random.default_rng(0)
    weights = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float64), {k: v for k, v in params.items() if k != "heatmaps"}
    )
    encoder = blazepose.BlazePose(jnp.float64)
    picture = jnp.asarray(rng.normal(size=(1, 64, 32, 3)))

    def loss(at):
        weights, picture = at
        return jnp.sum(jnp.sin(encoder.apply({"params": weights}, picture, False)))

    check_gradients(loss, (weights, picture))


# --- As a model ----------------------------------------------------------------------------------


def test_fetching_from_a_file_makes_a_model_and_keeps_the_licence(fetched, params):
    folder, printed = fetched
    names = {path.name for path in folder.iterdir()}
    assert names == {"pose_landmark_full.tflite", "blazepose.npz", "LICENSE.txt"}
    assert "Apache License" in printed and "differs from that of mediapipe==0.10.21" in printed
    assert "Apache License" in (folder / "LICENSE.txt").read_text()
    model = api.load("blazepose")
    assert model.skeleton is BLAZEPOSE33 and model.image_size == 256
    stored = traverse_util.flatten_dict(model.base.params["encoder"], sep="/")
    for path, value in stored.items():  # half precision loses nothing
        name, leaf = path.split("/")
        np.testing.assert_array_equal(value, params[name][leaf])


def test_without_fetching_the_error_says_how(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(fetch.FOLDER, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="python main.py fetch blazepose"):
        api.load("blazepose")


def test_predicted_joints_are_the_decoded_maps_in_the_picture(fetched, made):
    """Through the project's own path, against the interpreter and plain loops."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    picture = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
    box = np.array([60.0, 20.0, 180.0, 200.0])
    joints, confidence = api.load("blazepose").predict(picture[None], box)
    affine = geometry.crop_affine(geometry.box_to_crop(box), 256)
    # The project shrinks and cuts windows first; at this size that changes nothing.
    inverse = geometry.invert_affine(affine)
    grid = np.stack(np.meshgrid(range(256), range(256)), -1).reshape(-1, 2)
    rows = geometry.transform_points(inverse, grid).T[::-1]
    crop = np.stack(
        [
            ndimage.map_coordinates(channel, rows, np.float64, order=1, mode="grid-constant")
            for channel in np.moveaxis(picture / 255, -1, 0)
        ],
        -1,
    )
    crop = crop.reshape(256, 256, 3).astype(np.float32)
    (maps,) = tflite_files.interpreted(made.read_bytes(), crop[None]).values()
    for k in range(33):
        cell, height = plain_centroid(maps[0, :, :, k])
        expected = geometry.transform_points(inverse, cell * 4 - 0.5)
        assert confidence[0, k] == pytest.approx(height, abs=1e-3)
        assert np.abs(joints[0, k] - expected).max() < 0.1


def test_averaged_with_the_mirrored_crop_left_and_right_are_alike(fetched):
    """A mirrored crop gives mirrored joints, of the other side's names; not so without."""
    del fetched  # its folder is where the model is read from
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 256, (9, 8, 3), np.uint8), SHAPE[1:3])
    crop = pose.normalize(jnp.asarray(picture[None]))
    order = BLAZEPOSE33.flip_order
    model = api.load("blazepose")
    fields = {**model.config["model"], "flip_average": True}
    averaged = pose.from_config(fields, 33, flip_order=order)

    def difference(net):
        see = jax.jit(functools.partial(steps.predict, {"params": model.base.params}, model=net))
        (joints, confidence), (other, there) = see(crop), see(crop[:, :, ::-1])
        back = jnp.stack([255 - other[..., 0], other[..., 1]], -1)[:, order]
        inside = ((joints > 16) & (joints < 240)).all(-1)  # the first column has no mirror image
        assert inside.sum() > 5
        away = abs(back - joints)[inside], abs(there[:, order] - confidence)[inside]
        return [float(each.max()) for each in away]

    assert max(difference(averaged)) < 1e-2
    assert max(difference(model.net)) > 1


def plain_centroid(logits):
    """Mean of the cells around the largest, (x, y), and the height there."""
    values = 1 / (1 + np.exp(-logits.astype(np.float64)))
    y, x = np.unravel_index(values.argmax(), values.shape)
    total, sums = 0.0, np.zeros(2)
    for row in range(max(y - 3, 0), min(y + 4, values.shape[0])):
        for column in range(max(x - 3, 0), min(x + 4, values.shape[1])):
            total += values[row, column]
            sums += values[row, column] * np.array([column, row])
    return sums / total, values[y, x]


def test_the_centroid_is_that_of_the_plain_loops():
    logits = 3 * np.random.default_rng(0).normal(size=(3, 12, 10, 5)).astype(np.float32)
    logits[0, 0, 9, 0] = 20  # at the corner
    logits[1, :, :, 1] -= 9  # all unlikely
    points, heights = heatmaps.decode(jnp.asarray(logits), "centroid")
    for b in range(3):
        for k in range(5):
            expected, height = plain_centroid(logits[b, :, :, k])
            np.testing.assert_allclose(points[b, k], expected, atol=1e-4)
            assert float(heights[b, k]) == pytest.approx(height, abs=1e-6)


def test_every_convolution_trains_and_no_normalisation_does():
    picture = jnp.zeros((1, 64, 64, 3))
    for method in ("transformer", "baseline"):
        shapes = jax.eval_shape(net(5, method=method).init, jax.random.key(0), picture, picture)
        for rules in ("reference", "paper"):
            train, frozen = state.split(shapes["params"], state.RULES[rules])
            assert not [path for path in frozen if path.startswith("encoder/")]
            assert len([path for path in train if path.startswith("encoder/")]) == 2 * 55
        train, _ = state.split(shapes["params"], state.RULES["norms"])
        assert not [path for path in train if path.startswith("encoder/")]


# --- As a start ----------------------------------------------------------------------------------


def small_run(**fields):
    config = common.get_config()
    config.data.skeleton = "bbc7"
    config.model.encoder, config.model.init = "blazepose", "blazepose"
    config.model.image_size, config.model.half_pixel = 64, True
    config.model.update(fields)
    config.train.stages = ((1, 1e-3, 0.0, "constant"),)
    return build(config)


def test_a_network_for_other_joints_starts_from_its_encoder(fetched, params):
    run = small_run(method="baseline")
    started = base_model.init_training(run, np.ones(6))
    random = base_model.random_state(run, np.ones(6))
    for name, layer in started.params["encoder"].items():
        for leaf, value in layer.items():
            np.testing.assert_array_equal(value, params[name][leaf])
    head, drawn = (s.params["supervised_head"] for s in (started, random))
    jax.tree.map(np.testing.assert_array_equal, head, drawn)
    assert jax.tree.structure(started) == jax.tree.structure(random)
    assert run.heatmap_size == 16
    with pytest.raises(ValueError, match="'blazepose' or 'random'"):
        base_model.init_training(small_run(init=""), np.ones(6))


def zeros(**fields):
    """Variables of a network, all of them 0."""
    picture = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(net(4, **fields).init, jax.random.key(0), picture, picture)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), dict(shapes))


def test_an_encoder_goes_into_a_network_of_its_kind_only(params):
    encoder = {name: layer for name, layer in params.items() if name != "heatmaps"}
    source = {"params": {"encoder": encoder, "supervised_head": {}}, "batch_stats": {}}
    whole = zeros(method="transformer")
    filled = convert.put_encoder(source, whole, "a.npz")
    jax.tree.map(np.testing.assert_array_equal, filled["params"]["encoder"], encoder)
    assert jax.tree.structure(filled) == jax.tree.structure(whole)
    rest = jax.tree.leaves({**filled["params"], "encoder": {}})
    assert not any(leaf.any() for leaf in rest)
    with pytest.raises(ValueError, match=r"/mean is missing in a\.npz, .*config\.model\.encoder"):
        convert.put_encoder(source, zeros(encoder="resnet"), "a.npz")
    encoder["stem"] = {**encoder["stem"], "bias": np.zeros(25)}
    with pytest.raises(ValueError, match=r"stem/bias is \(25,\) in a\.npz, but \(24,\) in this"):
        convert.put_encoder(source, whole, "a.npz")


@pytest.mark.slow
def test_a_training_without_batch_statistics_learns_stops_and_goes_on(tmp_path):
    """The encoder alone has none, which networks here never were without."""
    model, tx = net(2, half_pixel=True), optax.adam(1e-3)
    current = steps.init_state(model, tx, jax.random.key(0), 32, jnp.ones(1))
    assert not jax.tree.leaves(current.batch_stats)
    rng = np.random.default_rng(0)
    batch = {
        "target": jnp.asarray(rng.integers(0, 256, (4, 32, 32, 3)), jnp.uint8),
        "heatmaps": jnp.asarray(rng.uniform(size=(4, 8, 8, 2)), jnp.float32),
        "weights": jnp.ones((4, 2)),
    }
    batch["source"] = batch["target"]
    step = jax.jit(
        lambda s: steps.train_step(
            s, batch, jax.random.key(1), None, 0.0, model=model, tx=tx, reconstruct=False
        )
    )
    losses = []
    for _ in range(12):
        current, metrics = step(current)
        losses.append(float(metrics["supervised"]))
    assert losses[-1] < losses[0]
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(current)
    checkpoints.close()
    again = checkpoint.Checkpoints(tmp_path).restore(current)
    jax.tree.map(np.testing.assert_array_equal, again.params, current.params)


# --- Its joints ----------------------------------------------------------------------------------


def test_other_skeletons_joints_are_named_or_derived():
    missing = {
        target.name: [
            joint
            for joint, places in zip(target.joints, joint_map(BLAZEPOSE33, target), strict=True)
            if not places
        ]
        for target in (PENN13, H36M16, BBC7, COCO17, BODY25)
    }
    small_toes = ["left_small_toe", "right_small_toe"]
    expected = {"penn13": [], "h36m16": [], "bbc7": [], "coco17": [], "body25": small_toes}
    assert missing == expected
    joints = np.random.default_rng(0).normal(size=(3, 33, 2))
    body = map_joints(joints, BLAZEPOSE33, BODY25)
    np.testing.assert_allclose(body[:, 1], joints[:, [11, 12]].mean(1))  # neck
    np.testing.assert_allclose(body[:, 8], joints[:, [23, 24]].mean(1))  # mid hip
    np.testing.assert_array_equal(body[:, 19], joints[:, 31])  # left big toe
    head = map_joints(joints, BLAZEPOSE33, PENN13)[:, 0]
    np.testing.assert_allclose(head, joints[:, [7, 8]].mean(1))
    # What others derive is left as it was: Human3.6M's neck isn't Penn Action's.
    assert joint_map(PENN13, H36M16)[H36M16.joints.index("neck")] == ()


@pytest.mark.parametrize("skeleton", [BLAZEPOSE33, COCO17, BODY25])
def test_mirror_pairs_are_of_one_joint_s_two_sides(skeleton):
    def other(name):
        swap = {"left": "right", "right": "left"}
        return "_".join(swap.get(word, word) for word in name.split("_"))

    mirrored = [skeleton.joints[i] for i in skeleton.flip_order]
    assert mirrored == [other(name) for name in skeleton.joints]
    assert {i for limb in skeleton.limbs for i in limb} == set(range(skeleton.size))


def test_real_joints_lie_near_the_labels(crops, shared_data):
    """Of one man: a check of names and sides, not a score."""
    path = published(fetch.LANDMARKS)
    from data_pipelines import penn

    (clip,) = (c for c in penn.clips(shared_data("penn_real")) if c.name == "0001")
    config = blazepose_config.get_config()
    model = pose.from_config(config.model, 33)
    base = state.Base(convert.read_blazepose(path), {}, np.ones(6))
    loaded = api.Model(base, model, BLAZEPOSE33, config.to_dict(), {})
    frames = [10, 40, 70]
    found, _ = loaded.predict([clip.read(t) for t in frames], clip.boxes[frames])
    away = np.linalg.norm(map_joints(found, BLAZEPOSE33, PENN13) - clip.joints[frames], axis=-1)
    torso = PENN13.torso_length(clip.joints[frames])
    assert np.median(away / torso[:, None]) < 0.15
