"""The inputs of both sides: sizes, weights, pictures, drawn pairs, VGG-16 features.

Needs jax, flax, optax, h5py, numpy and torch, but not TensorFlow, so that the benchmark also runs
on a bare GPU machine. Functions named `torch_...` convert inputs for the PyTorch side.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_reference
from torch import nn

from ttp_jax import augment, convert, geometry, state, ttp
from ttp_jax.frames import Frames
from ttp_jax.memory import Memory
from ttp_jax.models import vgg as vgg_lib
from ttp_jax.models.colors import MEAN, STD
from ttp_jax.models.pose import PoseNet
from ttp_jax.models.vgg import VGG16

# float32: full precision; tf32: float32 with TF32 products on a GPU; bf16: the network in bfloat16,
# the features and losses in float32 with TF32 products.
PRECISIONS = ("float32", "tf32", "bf16")
SELF_WEIGHT = 1e-3  # lambda of Eq. 10; its value doesn't affect the time
# Names of our settings -> names in the PyTorch version, where they differ.
TORCH_NAMES = {
    "depth": "num_layers",
    "width": "base_width",
    "upsamplings": "num_deconvs",
    "last_stride": "last_stage_stride",
    "heads": "num_heads",
}


class Size(NamedTuple):
    """A network and its input sizes; `tests/test_benchmarks.py` compares them with the configs.

    Attributes:
      name: short name, for the command line.
      title: name in the table.
      network: settings of `PoseNet` that are not its defaults.
      image_size: side of a crop, in pixels.
      picture_size: side of the video's frames, in pixels.
      levels: number of levels of the VGG features.
      train_batch: pairs per update of joint training.
      ttp_batch: pairs per update of personalization.
      vgg_width: channels of the first VGG block; 64 except in tests.
    """

    name: str
    title: str
    network: dict[str, Any]
    image_size: int
    picture_size: int
    levels: int
    train_batch: int
    ttp_batch: int
    vgg_width: int = 64


# As in configs/h36m.py and configs/tiny.py, which need ml_collections, unlike this module.
R18 = Size(
    name="r18",
    title="ResNet-18, 16 joints, 128 px, VGG 5 levels",
    network={"num_joints": 16},
    image_size=128,
    picture_size=256,
    levels=5,
    train_batch=32,
    ttp_batch=32,
)
TINY = Size(
    name="tiny",
    title="configs/tiny.py: ResNet-10 of half width, 13 joints, 64 px, VGG 1 level",
    network={
        "num_joints": 13,
        "depth": 10,
        "width": 32,
        "feature_dim": 64,
        "last_stride": 1,
        "upsamplings": 2,
        "sigma": 1.2,
        "logit_scale": 3.0,
        "ffn_dim": 256,
        "appearance_widths": (8, 16, 64),
        "keypoint_widths": (64,),
        "code_kernel": 3,
    },
    image_size=64,
    picture_size=80,
    levels=1,
    train_batch=16,
    ttp_batch=8,
)


class Side(NamedTuple):
    """One side of some work, ready to run.

    Attributes:
      run: function that does the work once and, when it is done, returns a number of the result, by
        which the first runs of two sides are compared; NaN if there is none.
      compile_seconds: seconds spent on tracing and compiling; None if nothing was compiled yet.
      planned_bytes: memory of a run in addition to its arguments, by XLA's plan.
      xla_flops: operations of one run, by XLA's count, which counts a loop's body once.
    """

    run: Callable[[], float]
    compile_seconds: float | None = None
    planned_bytes: int | None = None
    xla_flops: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that the work at one size and precision needs, on the device.

    Attributes:
      size, precision: see `Size`, `PRECISIONS`.
      model, base, vgg: network, weights and features of our side.
      batch: batch of joint training, as `steps.train_step` takes it.
      video: frames of one subject.
      torch_model, torch_vgg: those of the PyTorch side, with the same weights; copy before use.
      features: name of the VGG weights.
    """

    size: Size
    precision: str
    model: PoseNet
    base: state.Base
    vgg: VGG16
    batch: dict[str, jax.Array]
    video: Frames
    torch_model: torch_reference.TTPModel
    torch_vgg: nn.Module
    features: str

    def tools(self, scenario: str) -> ttp.Tools:
        """Return our tools, with the paper's settings for a scenario; all pairs are rotated."""
        settings = ttp.Settings(
            scenario=scenario,
            batch_size=self.size.ttp_batch,
            ranges=augment.Ranges(rotation_prob=1.0),
            image_size=self.size.image_size,
        )
        return ttp.tools(self.model, settings)

    def with_pairs(self, count: int) -> "Case":
        """Return the case with `count` pairs per update of personalization."""
        return dataclasses.replace(self, size=self.size._replace(ttp_batch=count))

    def with_frames(self, count: int) -> "Case":
        """Return the case with only the first `count` frames of the video."""
        return dataclasses.replace(self, video=jax.tree.map(lambda a: a[:count], self.video))


def prepare(size: Size, precision: str, seed: int, frames: int) -> Case:
    """Draw weights, pictures and a video of `frames` frames, for both sides."""
    rng = np.random.default_rng(seed)
    fields: Any = {TORCH_NAMES.get(k, k): v for k, v in {"depth": 18, **size.network}.items()}
    torch_model = torch_reference.TTPModel(**fields)
    # Weights that keep activations near 1, because denormal or infinite numbers would affect times.
    torch_reference.randomize_for_parity(torch_model, seed, size.image_size, batch_size=2)
    torch_model.eval()
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    model = PoseNet(**size.network, dtype=dtype)
    variables = _our_variables(torch_model, model, size)
    vgg, torch_vgg, features = _features(size, rng)
    batch = _batch(size, _map_size(model, variables, size), rng)
    normalisers = jnp.asarray(_normaliser_start(torch_vgg, batch, size.levels))
    base = state.Base(variables["params"], variables["batch_stats"], normalisers)
    return Case(
        size=size,
        precision=precision,
        model=model,
        base=jax.device_put(base),
        vgg=jax.device_put(vgg),
        batch=jax.device_put(batch),
        video=jax.device_put(_video(size, frames, rng)),
        torch_model=torch_model.to(torch_device()),
        torch_vgg=torch_vgg.to(torch_device()),
        features=features,
    )


def torch_device() -> str:
    """Return the device of the PyTorch side: the kind that jax uses, if this torch supports it."""
    on_gpu = jax.default_backend() != "cpu" and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def _our_variables(torch_model, model, size):
    picture = jax.ShapeDtypeStruct((1, size.image_size, size.image_size, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), picture, picture)
    template = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), dict(shapes))
    tensors = {name: value.numpy() for name, value in torch_model.state_dict().items()}
    return convert.from_torch(tensors, template)


def _map_size(model, variables, size):
    """Return the side of the heatmaps."""
    picture = jax.ShapeDtypeStruct((1, size.image_size, size.image_size, 3), jnp.float32)
    return jax.eval_shape(model.apply, variables, picture).heatmaps.shape[1]


# --- Pictures ------------------------------------------------------------------------------------


def _pictures(count, side, rng):
    """Return blocks of 8 x 8 pixels in random colours, uint8 [count, side, side, 3]."""
    blocks = -(-side // 8)
    coarse = rng.uniform(0, 255, (count, blocks, blocks, 3))
    return coarse.repeat(8, 1).repeat(8, 2)[:, :side, :side].astype(np.uint8)


def _batch(size, map_size, rng):
    count, joints = size.train_batch, size.network["num_joints"]
    return {
        "target": _pictures(count, size.image_size, rng),
        "source": _pictures(count, size.image_size, rng),
        "heatmaps": rng.random((count, map_size, map_size, joints), np.float32),
        "weights": (rng.random((count, joints)) < 0.9).astype(np.float32),
    }


def _video(size, frames, rng):
    """Return frames in which the subject's crop moves slowly to the right."""
    x = size.picture_size / 2 + np.arange(frames, dtype=np.float32)
    rest = np.full_like(x, size.picture_size / 2), np.full_like(x, 1.1 * size.image_size)
    pictures = _pictures(frames, size.picture_size, rng)
    views = np.tile(np.array([1, 0, 0], np.float32), (frames, 1))
    arrays = pictures, views, np.stack([x, *rest], -1), np.ones(frames, bool)
    return Frames(*map(jnp.asarray, arrays))


def torch_pictures(pictures: Any) -> torch.Tensor:
    """Copy [B, H, W, C] to the device as [B, C, H, W], without changing the numbers."""
    moved = np.asarray(pictures).transpose(0, 3, 1, 2).copy()
    return torch.tensor(moved, device=torch_device())


def torch_normalize(pictures: torch.Tensor) -> torch.Tensor:
    """Normalize pictures [B, 3, H, W] like `pose.normalize`."""
    mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (MEAN, STD))
    return (pictures.float() / 255 - mean) / std


class Draw(NamedTuple):
    """The pairs of one update: frames [B], and affines [B, 2, 3] from crops to pictures."""

    targets: torch.Tensor
    sources: torch.Tensor
    to_picture: torch.Tensor


def torch_draws(case: Case, scenario: str) -> list[Draw]:
    """Return the pairs that `ttp` draws in each update on the case's video, with our side's key.

    These few hundred numbers are drawn before the clock starts.
    """
    video, settings = case.video, case.tools(scenario).settings
    views = jnp.zeros_like(video.crops)
    drawn = []
    for t in range(len(video.valid)):
        key = jax.random.fold_in(jax.random.key(0), t)
        if scenario == "online":  # sources are drawn from the frames so far
            past = Memory(video.pictures, views, video.crops, jnp.asarray(t + 1))
            sources, affines = ttp.online_pairs(key, past, video.crops[t], settings)
            targets = jnp.full_like(sources, t)
        else:
            past = Memory(video.pictures, views, video.crops, jnp.asarray(len(video.valid)))
            targets, sources, affines = ttp.offline_pairs(key, past, settings)
        arrays = targets, sources, geometry.invert_affine(affines)
        drawn.append(Draw(*(torch.tensor(np.asarray(a), device=torch_device()) for a in arrays)))
    return drawn


# --- VGG-16 --------------------------------------------------------------------------------------


class TorchFeatures(nn.Module):
    """VGG-16 with inputs as on our side: always float32, in the colours that the weights expect."""

    mean: torch.Tensor
    std: torch.Tensor
    caffe_mean: torch.Tensor

    def __init__(self, features: nn.Module, caffe_mean: tuple[float, ...] | None):
        super().__init__()
        self.features = features
        self.caffe = caffe_mean is not None
        for name, value in (("mean", MEAN), ("std", STD), ("caffe_mean", caffe_mean or MEAN)):
            self.register_buffer(name, torch.tensor(value)[:, None, None])

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            if self.caffe:
                image = ((image * self.std + self.mean) * 255).flip(1) - self.caffe_mean
            return self.features(image)


def _features(size, rng) -> tuple[VGG16, nn.Module, str]:
    """Return the package's VGG-16 if it is installed, otherwise random weights of its shapes."""
    try:
        if size.vgg_width != 64:
            raise FileNotFoundError("there is a file for the full width only")
        ours, source = vgg_lib.load("hed", size.levels), "hed"
    except FileNotFoundError:
        ours, source = _random_vgg(size, rng), "random weights of VGG-16's shapes"
    theirs = torch_reference.VGG16Features(size.levels, size.vgg_width)
    layers = (layer for block in ours.layers for layer in block)
    convs = (module for module in theirs.features if isinstance(module, nn.Conv2d))
    for conv, (kernel, bias) in zip(convs, layers, strict=True):
        weight = np.asarray(kernel).transpose(3, 2, 0, 1).copy()
        conv.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(np.array(bias))})
    return ours, TorchFeatures(theirs, ours.caffe_mean), source


def _random_vgg(size, rng):
    blocks, channels = [], 3
    for level in range(size.levels):
        widths = [n * size.vgg_width // 64 for n in vgg_lib.BLOCKS[level]]
        block = []
        for width in widths[:2] if level == size.levels - 1 else widths:
            kernel = rng.normal(size=(3, 3, channels, width)) * np.sqrt(2 / (9 * channels))
            block.append((jnp.asarray(kernel, jnp.float32), jnp.zeros(width)))
            channels = width
        blocks.append(tuple(block))
    return VGG16(tuple(blocks), None, None, "random")


def _normaliser_start(torch_vgg, batch, levels):
    """Return the errors of merely copying the source, from which the commands start, too."""
    target, source = (
        torch_normalize(torch_pictures(batch[name][:2]).cpu()) for name in ("target", "source")
    )
    with torch.no_grad():
        _, errors = torch_reference.perceptual_loss(
            source, target, torch_vgg, torch.zeros(levels + 1), momentum=1.0
        )
    return errors.numpy()
