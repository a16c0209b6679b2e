"""The PyTorch side: the steps of `tests/torch_reference.py`, on the same inputs as our side."""

import contextlib
import copy
import math

import jax
import numpy as np
import torch
import torch.nn.functional as F
import torch_reference

from benchmarks.case import (
    SELF_WEIGHT,
    Case,
    Draw,
    Side,
    torch_device,
    torch_draws,
    torch_normalize,
    torch_pictures,
)
from ttp_jax import geometry
from ttp_jax.models.pose import normalize


def cut(pictures: torch.Tensor, to_picture: torch.Tensor, size: int) -> torch.Tensor:
    """Cut normalized crops [B, 3, S, S] from uint8 pictures [B, 3, H, W], like `ttp.cut`."""
    index = torch.arange(size, dtype=torch.float32, device=pictures.device)
    ys, xs = torch.meshgrid(index, index, indexing="ij")
    # Without a matrix product, because TF32 would misplace the crop by a fraction of a pixel.
    affine = to_picture[:, None, None]
    points = affine[..., 0] * xs[..., None] + affine[..., 1] * ys[..., None] + affine[..., 2]
    height, width = pictures.shape[2:]
    grid = 2 * points / torch.tensor([width - 1, height - 1], device=pictures.device) - 1
    return torch_normalize(F.grid_sample(pictures.float(), grid, align_corners=True))


def decode(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode points [B, K, 2] and peaks [B, K] like `heatmaps.decode`, without quarter steps."""
    peaks, best = maps.flatten(2).max(-1)
    width = maps.shape[3]
    return torch.stack([best % width, best // width], -1), peaks


class Network:
    """A copy of the case's network, and the state that its steps need.

    Args:
      case: the inputs of both sides.
      adapts: whether to freeze the parameters and use the optimizer of personalization.
      channels_last: memory layout of weights and pictures.
      compiles: whether to use torch.compile, which compiles in the first call.
    """

    def __init__(self, case: Case, *, adapts: bool, channels_last: bool, compiles: bool):
        if jax.default_backend() != "cpu" and torch_device() == "cpu":
            raise RuntimeError("this torch has no CUDA, and jax runs on a GPU")
        self.case, self._adapts = case, adapts
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model, self.vgg = copy.deepcopy((case.torch_model, case.torch_vgg))
        for module in (self.model, self.vgg):
            for parameter in module.parameters():
                parameter.data = self.lay_out(parameter.data)
        if compiles:
            torch._dynamo.reset()  # otherwise other sizes count towards its recompilation limit
            for module in (self.model, self.model.pose_net, self.vgg):
                module.compile(dynamic=False)
        if adapts:
            torch_reference.freeze_for_ttp(self.model)
        self.video = torch_pictures(case.video.pictures)
        self._begin = copy.deepcopy(self.model.state_dict())
        self.optimizer: torch.optim.Optimizer
        self.normalisers: torch.Tensor
        self.restart()

    def restart(self) -> None:
        """Reset to the initial weights and a new optimizer."""
        self.model.load_state_dict(self._begin)
        reference = torch_reference
        make = reference.ttp_optimizer if self._adapts else reference.train_optimizer
        self.optimizer = make(self.model)
        start = np.array(self.case.base.normalisers)
        self.normalisers = torch.tensor(start, device=torch_device())

    def lay_out(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` in the memory layout if it has four axes."""
        return x.contiguous(memory_format=self._layout) if x.ndim == 4 else x

    def precise(self) -> contextlib.AbstractContextManager:
        """Return a context with the case's precision for forward and backward passes."""
        short = self.case.precision != "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = short
        enabled = self.case.precision == "bf16"
        return torch.autocast(torch_device(), torch.bfloat16, enabled=enabled)

    def pair(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut target and source [B, 3, S, S] out of the video."""
        target, source = (
            cut(self.video[frames], draw.to_picture, self.case.size.image_size)
            for frames in (draw.targets, draw.sources)
        )
        return self.lay_out(target), self.lay_out(source)

    def update(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
        """Make one update of personalization; return its loss and the targets."""
        target, source = self.pair(draw)
        with self.precise():
            loss, self.normalisers = torch_reference.adapt_step(
                self.model, self.vgg, self.optimizer, self.normalisers, source, target
            )
        return loss, target

    def predict(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return joints and peaks for crops in the network's colours."""
        with self.precise():
            return decode(torch_reference.predict(self.model, pictures))


def wait() -> None:
    """Wait until the GPU has finished its work."""
    if torch_device() == "cuda":
        torch.cuda.synchronize()


def train(case: Case, **how: bool) -> Side:
    """Return a side that makes one update of joint training."""
    network = Network(case, adapts=False, **how)
    put = {name: torch_pictures(case.batch[name]) for name in ("target", "source", "heatmaps")}
    put["weight"] = torch.tensor(np.array(case.batch["weights"]), device=torch_device())

    def run():
        colours = {
            name: network.lay_out(torch_normalize(put[name])) for name in ("target", "source")
        }
        with network.precise():
            parts, network.normalisers = torch_reference.train_step(
                network.model,
                network.vgg,
                network.optimizer,
                network.normalisers,
                {**put, **colours},
                SELF_WEIGHT,
            )
        wait()
        return float(parts["self_supervised"])

    return Side(run)


def online(case: Case, *, whole_subject: bool = False, **how: bool) -> Side:
    """Return a side that adapts online; `whole_subject` starts every run from the base model."""
    network, draws = Network(case, adapts=True, **how), torch_draws(case, "online")

    def run():
        if whole_subject:
            network.restart()
        loss = math.nan
        for draw in draws:
            loss, target = network.update(draw)
            network.predict(target[:1])  # pair 0 is not augmented
        wait()
        return float(loss)

    return Side(run)


def published_online(case: Case) -> Side:
    """Return a side that does the published program's work for each frame.

    See `torch_reference.published_online_step`.
    """
    network = Network(case, adapts=True, channels_last=False, compiles=False)
    draws, log_vgg = torch_draws(case, "online"), copy.deepcopy(network.vgg)
    log_normalisers = network.normalisers.clone()
    truth = torch_pictures(case.batch["heatmaps"])[:1]
    truth = truth.repeat(case.size.ttp_batch, 1, 1, 1)
    weight = torch.ones(truth.shape[:2], device=torch_device())

    def run():
        nonlocal log_normalisers
        for draw in draws:
            target, source = network.pair(draw)
            with network.precise():
                maps, network.normalisers, log_normalisers = torch_reference.published_online_step(
                    network.model,
                    network.vgg,
                    log_vgg,
                    network.optimizer,
                    network.normalisers,
                    log_normalisers,
                    source,
                    target,
                    truth,
                    weight,
                    SELF_WEIGHT,
                )
                decode(maps)
        wait()
        return math.nan  # `published_online_step` doesn't return its loss

    return Side(run)


def offline(case: Case, **how: bool) -> Side:
    """Return a side that adapts offline: as many updates as frames, then all predictions."""
    network, draws = Network(case, adapts=True, **how), torch_draws(case, "offline")
    size = case.size.image_size
    affines = geometry.invert_affine(geometry.crop_affine(case.video.crops, size))
    to_picture = torch.tensor(np.array(affines), device=torch_device())

    def run():
        network.restart()
        loss = math.nan
        for draw in draws:
            loss, _ = network.update(draw)
        for t in range(len(to_picture)):
            crop = cut(network.video[t : t + 1], to_picture[t : t + 1], size)
            network.predict(network.lay_out(crop))
        wait()
        return float(loss)

    return Side(run)


def inference(case: Case, count: int, **how: bool) -> Side:
    """Return a side that predicts the joints of `count` crops in one call."""
    network = Network(case, adapts=False, **how)
    network.model.requires_grad_(False)
    pictures = network.lay_out(torch_pictures(normalize(case.batch["target"][:count])))

    def run():
        _, peaks = network.predict(pictures)
        return float(peaks.mean())

    return Side(run)
