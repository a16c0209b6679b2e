"""Conversion of torch files to the network's trees; test_parity.py checks the network's numbers."""

import pathlib
import re
import sys

import jax
import numpy as np
import pytest
import small_net
import torch
import torch_reference

from ttp_jax import convert, torch_file
from ttp_jax.models.encoders.resnet import Encoder

ZIP = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy pickle"])


def torchvision_resnet(depth, seed=0):
    """A trunk with torchvision's names and random weights, width 8, and its state dict."""
    trunk = torch_reference.ResNetEncoder(depth, base_width=8, num_deconvs=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in trunk.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                spread = 0.1 if value.ndim == 1 else (2 / value[0].numel()) ** 0.5
                positive = name.endswith("running_var") or ("bn" in name and "weight" in name)
                value.copy_(spread * noise + (1.0 if positive else 0.0))
    state = dict(trunk.state_dict())
    state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 8), torch.zeros(1000)
    return trunk.eval(), state


def save(tmp_path, state, zipped=True):
    path = tmp_path / "resnet.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture(scope="module")
def templates():
    return {depth: small_net.variables(small_net.model(depth=depth)) for depth in (18, 50)}


@ZIP
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_file_fills_the_trunk_and_nothing_else(tmp_path, templates, depth, zipped):
    trunk, state = torchvision_resnet(depth)
    before = templates[depth]
    loaded = convert.load_resnet(save(tmp_path, state, zipped), before)
    assert jax.tree.structure(loaded) == jax.tree.structure(before)
    kept = 0
    pairs = zip(*map(jax.tree_util.tree_leaves_with_path, (loaded, before)), strict=True)
    for (path, new), (_, old) in pairs:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert new.shape == old.shape and new.dtype == old.dtype
        in_trunk = re.match(r"(params|batch_stats)/encoder/(conv1|bn1|layer\d_\d)/", name)
        assert np.array_equal(new, old) != bool(in_trunk), name
        kept += not in_trunk
    used = sum("num_batches" not in n and not n.startswith("fc.") for n in state)
    assert len(jax.tree.leaves(loaded)) - kept == used
    # Exactly, in a few places written out by hand ...
    params, stats = loaded["params"]["encoder"], loaded["batch_stats"]["encoder"]
    np.testing.assert_array_equal(
        params["conv1"]["kernel"], state["conv1.weight"].numpy().transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        params["layer3_1"]["bn2"]["scale"], state["layer3.1.bn2.weight"].numpy()
    )
    np.testing.assert_array_equal(
        stats["layer2_0"]["downsample_bn"]["var"],
        state["layer2.0.downsample.1.running_var"].numpy(),
    )
    # ... and as a whole by what the trunk computes.
    picture = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    names = [n for n in params if not n.startswith("deconv")]
    variables = {
        "params": {n: params[n] for n in names},
        "batch_stats": {n: stats[n] for n in names if n in stats},
    }
    ours = jax.jit(lambda v, x: Encoder(depth, 8, upsamplings=0).apply(v, x, False))(
        variables, picture
    )
    with torch.no_grad():
        theirs = trunk.encode(torch.tensor(picture).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert np.abs(ours - theirs.numpy()).max() < 1e-4 * theirs.abs().max()


def test_a_file_without_classifier_loads_as_well(tmp_path, templates):
    state = {k: v for k, v in torchvision_resnet(18)[1].items() if not k.startswith("fc.")}
    convert.load_resnet(save(tmp_path, state), templates[18])


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_of_a_training_on_several_gpus_loads_as_well(tmp_path, templates, key):
    state = torchvision_resnet(18)[1]
    wrapped = {f"module.{name}": value for name, value in state.items()}
    checkpoint = {"epoch": 90, "optimizer": {"state": {}, "param_groups": []}, key: wrapped}
    plain, loaded = (
        convert.load_resnet(save(tmp_path, content), templates[18])
        for content in (state, checkpoint)
    )
    jax.tree.map(np.testing.assert_array_equal, loaded, plain)


@pytest.mark.parametrize(
    "missing, place",
    [
        ("layer4.1.bn2.running_mean", "batch_stats/encoder/layer4_1/bn2/mean"),
        ("layer2.0.downsample.0.weight", "params/encoder/layer2_0/downsample_conv/kernel"),
    ],
)
def test_a_missing_key_is_named(tmp_path, templates, missing, place):
    state = torchvision_resnet(18)[1]
    del state[missing]
    with pytest.raises(ValueError, match=rf"resnet.pth: 1 parameters are missing, first {place}:"):
        convert.load_resnet(save(tmp_path, state), templates[18])


@pytest.mark.parametrize("extra", ["layer1.5.conv1.weight", "head.weight", "layer1.0.conv9.weight"])
def test_an_extra_key_is_named(tmp_path, templates, extra):
    state = {**torchvision_resnet(18)[1], extra: torch.zeros(8, 8, 3, 3)}
    with pytest.raises(ValueError, match=f"resnet.pth: this network has no parameter for {extra}"):
        convert.load_resnet(save(tmp_path, state), templates[18])


def test_a_whole_model_is_no_trunk(tmp_path, templates):
    """Nothing but the trunk may come from a file that is named for it."""
    state = {**torchvision_resnet(18)[1], "final_layer_unsup.bias": torch.zeros(30)}
    with pytest.raises(ValueError, match="no parameter for final_layer_unsup.bias"):
        convert.load_resnet(save(tmp_path, state), templates[18])


@pytest.mark.parametrize("file, network", [(18, 50), (50, 18)])
def test_a_file_of_another_depth_is_refused(tmp_path, templates, file, network):
    path = save(tmp_path, torchvision_resnet(file)[1])
    with pytest.raises(ValueError, match=r"the same depth|no parameter for"):
        convert.load_resnet(path, templates[network])


def test_a_missing_file_names_the_remedy(tmp_path, templates):
    with pytest.raises(FileNotFoundError, match=r"gone.pth.*--config.model.init=random"):
        convert.load_resnet(tmp_path / "gone.pth", templates[18])


class Malicious:
    """Pickles as a call that writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@ZIP
def test_code_in_a_file_is_not_run(tmp_path, zipped):
    trap = tmp_path / "trap"
    path = save(tmp_path, {"conv1.weight": Malicious(trap)}, zipped)
    with pytest.raises(ValueError, match=r"resnet.pth is not a plain torch state dict"):
        torch_file.read_torch(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert trap.exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"a": 3}])
def test_a_torch_file_that_is_no_state_dict_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"resnet.pth is not a plain torch state dict"):
        torch_file.read_torch(save(tmp_path, content))


def test_without_torch_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = save(tmp_path, {"a": torch.zeros(1)})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"needs torch.*pip install torch"):
        torch_file.read_torch(path)
