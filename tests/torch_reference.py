"""Plain PyTorch version of Test-Time Personalization, the reference for parity and speed.

Follows Li et al., "Test-Time Personalization with a Transformer for Human Pose Estimation"
(NeurIPS 2021) and, where paper and released program differ, the released program. State-dict keys
are those of the released checkpoints. Tensors are NCHW; points are (x, y) in heatmap pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITIAL_NORMALISERS = (0.1966, 0.8725, 3.4260, 7.4396, 4.1430, 1.1304)
"""Running means at the start, for the image and relu1_2 ... relu5_2."""

DROPOUT_TAGS = (
    "self_attention_weights",
    "dropout1",
    "cross_attention_weights",
    "dropout2",
    "ffn_dropout",
    "dropout3",
)
"""Order of the dropout calls of one decoder layer in train mode."""


# --- Encoder -------------------------------------------------------------------------------------


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Residual block of ResNet-10 and -18."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = _conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class Bottleneck(nn.Module):
    """Residual block of ResNet-50, with the stride on the 3x3 convolution."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + identity)


RESNET_STAGES = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNetEncoder(nn.Module):
    """ResNet followed by transposed convolutions that each double the resolution."""

    def __init__(
        self,
        num_layers: int,
        base_width: int = 64,
        feature_dim: int = 256,
        num_deconvs: int = 3,
        last_stage_stride: int = 2,
    ):
        super().__init__()
        block, depths = RESNET_STAGES[num_layers]
        self.conv1 = nn.Conv2d(3, base_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = base_width
        for index, (depth, stride) in enumerate(
            zip(depths, (1, 2, 2, last_stage_stride), strict=True)
        ):
            width = base_width * 2**index
            blocks = []
            for position in range(depth):
                block_stride = stride if position == 0 else 1
                out_channels = width * block.expansion
                downsample = None
                if block_stride != 1 or channels != out_channels:
                    downsample = nn.Sequential(
                        nn.Conv2d(channels, out_channels, 1, stride=block_stride, bias=False),
                        nn.BatchNorm2d(out_channels),
                    )
                blocks.append(block(channels, width, block_stride, downsample))
                channels = out_channels
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        deconvs: list[nn.Module] = []
        for _ in range(num_deconvs):
            deconvs += [
                nn.ConvTranspose2d(channels, feature_dim, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(feature_dim),
                nn.ReLU(inplace=True),
            ]
            channels = feature_dim
        self.deconv_layers = nn.Sequential(*deconvs)

    def encode(self, image: Tensor) -> Tensor:
        """Shared features of the target image."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.deconv_layers(x)


class PoseResNet(ResNetEncoder):
    """Supervised-only baseline: encoder and one 1x1 convolution."""

    def __init__(
        self,
        num_layers: int,
        num_joints: int,
        base_width: int = 64,
        feature_dim: int = 256,
        num_deconvs: int = 3,
        last_stage_stride: int = 2,
    ):
        super().__init__(num_layers, base_width, feature_dim, num_deconvs, last_stage_stride)
        self.final_layer = nn.Conv2d(feature_dim, num_joints, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.final_layer(self.encode(image))


# --- Supervised and self-supervised heads --------------------------------------------------------


class QueryDecoder(nn.Module):
    """One stock post-norm decoder layer and a final LayerNorm, without positional encoding."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float = 0.1):
        super().__init__()
        layer = nn.TransformerDecoderLayer(
            dim, num_heads, dim_feedforward=ffn_dim, dropout=dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, num_layers=1, norm=nn.LayerNorm(dim))

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        return self.decoder(queries, memory)


class PoseDoubleHeadResNet(ResNetEncoder):
    """Encoder, self-supervised head, and supervised maps as a mixture of self-supervised ones.

    With method 'shared' the supervised maps come from their own 1x1 convolution instead.
    """

    def __init__(
        self,
        num_layers: int,
        num_joints: int,
        num_maps: int = 30,
        base_width: int = 64,
        feature_dim: int = 256,
        num_heads: int = 4,
        ffn_dim: int = 1024,
        num_deconvs: int = 3,
        last_stage_stride: int = 2,
        method: str = "transformer",
    ):
        super().__init__(num_layers, base_width, feature_dim, num_deconvs, last_stage_stride)
        if method not in ("transformer", "shared"):
            raise ValueError(f"method must be 'transformer' or 'shared', got {method!r}")
        self.method = method
        self.final_layer_unsup = nn.Conv2d(feature_dim, num_maps, 1)
        if method == "transformer":
            self.sup_query = nn.Embedding(feature_dim, num_joints)
            self.mh_attn = QueryDecoder(feature_dim, num_heads, ffn_dim)
            self.sup_weight = nn.Linear(feature_dim, num_maps)
        else:
            self.final_layer = nn.Conv2d(feature_dim, num_joints, 1)

    def supervised_maps(
        self, features: Tensor, self_heatmaps: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Supervised heatmaps and affinity W (batch, joints, maps); paper eqs. (2) to (8)."""
        if self.method == "shared":
            return self.final_layer(features), None
        queries = self.sup_query.weight.t().expand(features.shape[0], -1, -1)
        memory = features.flatten(2).transpose(1, 2)
        affinity = F.softmax(self.sup_weight(self.mh_attn(queries, memory)), dim=-1)
        heatmaps = torch.bmm(affinity, self_heatmaps.flatten(2))
        return heatmaps.unflatten(2, self_heatmaps.shape[2:]), affinity

    def forward(self, image: Tensor) -> dict[str, Tensor | None]:
        features = self.encode(image)
        self_heatmaps = self.final_layer_unsup(features)
        heatmaps, affinity = self.supervised_maps(features, self_heatmaps)
        return {
            "features": features,
            "self_heatmaps": self_heatmaps,
            "heatmaps": heatmaps,
            "affinity": affinity,
        }


# --- Keypoint bottleneck, image encoders, renderer -----------------------------------------------


def soft_argmax(maps: Tensor) -> Tensor:
    """Points (batch, maps, 2) as (x, y): means of the softmaxed row and column sums."""
    height, width = maps.shape[2:]
    rows = torch.arange(height, dtype=maps.dtype, device=maps.device)
    columns = torch.arange(width, dtype=maps.dtype, device=maps.device)
    y = (F.softmax(maps.sum(dim=3), dim=-1) * rows).sum(dim=-1)
    x = (F.softmax(maps.sum(dim=2), dim=-1) * columns).sum(dim=-1)
    return torch.stack((x, y), dim=-1)


def gaussian_maps(points: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """Isotropic Gaussians of peak 1 at the points, (batch, maps, height, width)."""
    rows = torch.arange(height, dtype=points.dtype, device=points.device)
    columns = torch.arange(width, dtype=points.dtype, device=points.device)
    dx = (columns - points[..., 0:1])[:, :, None, :]
    dy = (rows - points[..., 1:2])[:, :, :, None]
    return torch.exp(-(dy**2 + dx**2) / (2 * sigma**2))


def _conv_bn_relu_twice(
    in_channels: int, width: int, kernel: int = 3, stride: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _conv3x3(width, width),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


class ImageEncoder(nn.Module):
    """Appearance extractor (3 channels) or keypoint encoder (one channel per map)."""

    def __init__(
        self, in_channels: int, widths: Sequence[int] = (32, 64, 128, 256), first_kernel: int = 7
    ):
        super().__init__()
        self.num_blocks = len(widths)
        for index, width in enumerate(widths):
            kernel, stride = (first_kernel, 1) if index == 0 else (3, 2)
            block = _conv_bn_relu_twice(in_channels, width, kernel, stride)
            self.add_module(f"layer{index + 1}", nn.Sequential(*block))
            in_channels = width

    def forward(self, x: Tensor) -> Tensor:
        for index in range(self.num_blocks):
            x = getattr(self, f"layer{index + 1}")(x)
        return x


class ImageRenderer(nn.Module):
    """Image from appearance and keypoint features; no output activation."""

    def __init__(self, in_channels: int, widths: Sequence[int] = (256, 128, 64, 32)):
        super().__init__()
        self.num_blocks = len(widths)
        for index, width in enumerate(widths):
            block = _conv_bn_relu_twice(in_channels, width)
            if index + 1 < len(widths):
                block.append(nn.Upsample(scale_factor=2, mode="nearest"))
            else:
                block.append(nn.Conv2d(width, 3, 3, padding=1))
            self.add_module(f"layer{index + 1}", nn.Sequential(*block))
            in_channels = width

    @property
    def output_conv(self) -> nn.Conv2d:
        return getattr(self, f"layer{self.num_blocks}")[6]

    def forward(self, x: Tensor) -> Tensor:
        for index in range(self.num_blocks):
            x = getattr(self, f"layer{index + 1}")(x)
        return x


class TTPModel(nn.Module):
    """Full network: pose network on the target, reconstruction of the target from the source."""

    def __init__(
        self,
        num_layers: int,
        num_joints: int,
        num_maps: int = 30,
        *,
        base_width: int = 64,
        feature_dim: int = 256,
        num_heads: int = 4,
        ffn_dim: int = 1024,
        num_deconvs: int = 3,
        last_stage_stride: int = 2,
        sigma: float = 2.0,
        appearance_widths: Sequence[int] = (32, 64, 128, 256),
        keypoint_widths: Sequence[int] = (32, 64, 128, 256),
        code_kernel: int = 7,
        logit_scale: float = 1.0,
        method: str = "transformer",
    ):
        super().__init__()
        self.sigma = sigma
        self.logit_scale = logit_scale
        self.pose_net = PoseDoubleHeadResNet(
            num_layers,
            num_joints,
            num_maps,
            base_width,
            feature_dim,
            num_heads,
            ffn_dim,
            num_deconvs,
            last_stage_stride,
            method,
        )
        self.image_encoder = ImageEncoder(3, appearance_widths, code_kernel)
        self.pose_encoder = ImageEncoder(num_maps, keypoint_widths, code_kernel)
        self.image_renderer = ImageRenderer(
            appearance_widths[-1] + keypoint_widths[-1], tuple(reversed(appearance_widths))
        )

    def reconstruct(self, source: Tensor, self_heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructed target and self-supervised points."""
        points = soft_argmax(self.logit_scale * self_heatmaps)
        height, width = self_heatmaps.shape[2:]
        maps = gaussian_maps(points, height, width, self.sigma)
        down, up = self.image_encoder.num_blocks - 1, self.pose_encoder.num_blocks - 1
        size = tuple(side // 2**down * 2**up for side in source.shape[2:])
        if size != (height, width):
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        joined = torch.cat((self.image_encoder(source), self.pose_encoder(maps)), dim=1)
        return self.image_renderer(joined), points

    def forward(
        self, source: Tensor, target: Tensor, supervised: bool = True
    ) -> dict[str, Tensor | None]:
        """All outputs; without `supervised` the heatmaps and the affinity are left out (None)."""
        features = self.pose_net.encode(target)
        self_heatmaps = self.pose_net.final_layer_unsup(features)
        heatmaps = affinity = None
        if supervised:
            heatmaps, affinity = self.pose_net.supervised_maps(features, self_heatmaps)
        reconstruction, points = self.reconstruct(source, self_heatmaps)
        return {
            "reconstruction": reconstruction,
            "self_heatmaps": self_heatmaps,
            "heatmaps": heatmaps,
            "affinity": affinity,
            "points": points,
            "features": features,
        }


# --- Losses --------------------------------------------------------------------------------------


class VGG16Features(nn.Module):
    """relu1_2, relu2_2, relu3_2, relu4_2, relu5_2 of VGG-16, cut to the first `levels`; frozen.

    Layers past the last wanted one are not built: load torchvision weights with strict=False.
    """

    CONVS_PER_STAGE = (2, 2, 3, 3, 3)

    def __init__(self, levels: int = 5, base_width: int = 64):
        super().__init__()
        layers: list[nn.Module] = []
        taps = []
        channels = 3
        for stage in range(levels):
            width = base_width * min(2**stage, 8)
            last = stage == levels - 1
            for position in range(2 if last else self.CONVS_PER_STAGE[stage]):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
                if position == 1:
                    taps.append(len(layers) - 1)
            if not last:
                layers.append(nn.MaxPool2d(2, stride=2))
        self.features = nn.Sequential(*layers)
        self.taps = tuple(taps)
        for conv in _modules(self, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        outputs = []
        x = image
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                outputs.append(x)
        return outputs


def perceptual_loss(
    pred: Tensor, target: Tensor, vgg: nn.Module, normalisers: Tensor, momentum: float = 0.01
) -> tuple[Tensor, Tensor]:
    """Sum of squared errors, each over its running mean; the mean is updated first.

    Entry 0 is the image itself. Returns the loss and the new running means.
    """
    with torch.no_grad():
        target_maps = [target, *vgg(target)]
    pred_maps = [pred, *vgg(pred)]
    errors = torch.stack([F.mse_loss(p, t) for p, t in zip(pred_maps, target_maps, strict=True)])
    normalisers = normalisers + momentum * (errors.detach() - normalisers)
    return (errors / normalisers).sum(), normalisers


def joints_mse(pred: Tensor, gt: Tensor, weight: Tensor) -> Tensor:
    """Half the mean square over batch, joints and pixels; weight is (batch, joints[, 1])."""
    weight = weight.reshape(*pred.shape[:2], 1, 1)
    return 0.5 * F.mse_loss(weight * pred, weight * gt)


def joint_loss(
    outputs: Mapping[str, Tensor],
    target: Tensor,
    gt: Tensor,
    weight: Tensor,
    vgg: nn.Module,
    normalisers: Tensor,
    unsup_weight: float,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Total of paper eq. (10), its detached parts, and the new running means."""
    supervised = joints_mse(outputs["heatmaps"], gt, weight)
    reconstruction, normalisers = perceptual_loss(
        outputs["reconstruction"], target, vgg, normalisers
    )
    total = supervised + unsup_weight * reconstruction
    parts = {
        "loss": total.detach(),
        "supervised": supervised.detach(),
        "self_supervised": reconstruction.detach(),
    }
    return total, parts, normalisers


# --- Training ------------------------------------------------------------------------------------


def train_optimizer(model: nn.Module, lr: float = 1e-3) -> torch.optim.Adam:
    """Adam of the joint training: no weight decay."""
    return torch.optim.Adam(model.parameters(), lr=lr)


def train_step(
    model: nn.Module,
    vgg: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalisers: Tensor,
    batch: Mapping[str, Tensor],
    unsup_weight: float,
) -> tuple[dict[str, Tensor], Tensor]:
    """One joint update in train mode; `batch` has source, target, heatmaps, weight.

    Returns the detached losses and the new running means.
    """
    model.train()
    optimizer.zero_grad(set_to_none=True)
    outputs = model(batch["source"], batch["target"])
    loss, parts, normalisers = joint_loss(
        outputs,
        batch["target"],
        batch["heatmaps"],
        batch["weight"],
        vgg,
        normalisers,
        unsup_weight,
    )
    loss.backward()
    optimizer.step()
    return parts, normalisers


# --- Test-time personalization -------------------------------------------------------------------


SUPERVISED_PARTS = tuple(
    f"pose_net.{name}." for name in ("sup_query", "mh_attn", "sup_weight", "final_layer")
)


def freeze_for_ttp(model: TTPModel, rules: str = "reference") -> list[str]:
    """Set requires_grad for personalization; returns the names of the trainable tensors.

    The supervised head and every normalisation's affine are frozen. 'reference' updates all the
    rest; 'paper' only the encoder and the self-supervised head.
    """
    if rules not in ("reference", "paper"):
        raise ValueError(f"rules must be 'reference' or 'paper', got {rules!r}")
    frozen = {
        id(parameter)
        for module in _modules(model, (nn.BatchNorm2d, nn.LayerNorm))
        for parameter in module.parameters()
    }
    trainable = []
    for name, parameter in model.named_parameters():
        train = id(parameter) not in frozen and not name.startswith(SUPERVISED_PARTS)
        if rules == "paper":
            train = train and name.startswith("pose_net.")
        parameter.requires_grad_(train)
        if train:
            trainable.append(name)
    return trainable


def ttp_optimizer(model: nn.Module, lr: float = 1e-4) -> torch.optim.Adam:
    """Adam over the tensors left trainable by `freeze_for_ttp`."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)


def adapt_step(
    model: nn.Module,
    vgg: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalisers: Tensor,
    source: Tensor,
    target: Tensor,
) -> tuple[Tensor, Tensor]:
    """One personalization update in eval mode: the self-supervised loss alone, weight 1.

    Returns the detached loss and the new running means.
    """
    model.eval()
    optimizer.zero_grad(set_to_none=True)
    outputs = model(source, target, supervised=False)
    loss, normalisers = perceptual_loss(outputs["reconstruction"], target, vgg, normalisers)
    loss.backward()
    optimizer.step()
    return loss.detach(), normalisers


@torch.no_grad()
def predict(model: TTPModel, target: Tensor) -> Tensor:
    """Supervised heatmaps in eval mode, without the reconstruction."""
    model.eval()
    return model.pose_net(target)["heatmaps"]


def published_online_step(
    model: nn.Module,
    vgg: nn.Module,
    log_vgg: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalisers: Tensor,
    log_normalisers: Tensor,
    source: Tensor,
    target: Tensor,
    gt: Tensor,
    weight: Tensor,
    unsup_weight: float = 1e-3,
) -> tuple[Tensor, Tensor, Tensor]:
    """Work of the published program for one online frame, for timing only.

    An update with the full forward pass, a loss for logging, a second full forward pass of which
    one image is used, and another loss for logging. Returns the heatmaps of that image and both
    sets of running means.
    """
    model.eval()
    optimizer.zero_grad(set_to_none=True)
    outputs = model(source, target)
    loss, normalisers = perceptual_loss(outputs["reconstruction"], target, vgg, normalisers)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for repeat in range(2):
            if repeat:
                outputs = model(source, target)
            _, _, log_normalisers = joint_loss(
                outputs, target, gt, weight, log_vgg, log_normalisers, unsup_weight
            )
    return outputs["heatmaps"][:1], normalisers, log_normalisers


def _modules(model: nn.Module, kinds: type | tuple[type, ...]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kinds)]


def _random_images(generator: torch.Generator, batch_size: int, size: int) -> Tensor:
    """White noise and coarse noise in turn, with standard deviation 1."""
    white = torch.randn(batch_size, 3, size, size, generator=generator)
    coarse = torch.randn(batch_size, 3, 8, 8, generator=generator)
    coarse = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    is_white = (torch.arange(batch_size) % 2 == 0)[:, None, None, None]
    return torch.where(is_white, white, coarse / coarse.std())


def _draw_parameters(model: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter from the generator, on the CPU in float32, in module order."""

    def draw(parameter: Tensor | None, mean: float, std: float) -> None:
        if parameter is not None:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(mean + std * noise)

    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            draw(module.weight, 1.0, 0.1)
            draw(module.bias, float(isinstance(module, nn.BatchNorm2d)), 0.1)
        elif isinstance(module, nn.ConvTranspose2d):
            taps = math.prod(module.kernel_size) / math.prod(module.stride)
            draw(module.weight, 0.0, math.sqrt(2 / (module.in_channels * taps)))
            draw(module.bias, 0.0, 0.1)
        elif isinstance(module, nn.Conv2d):
            fan_in = module.in_channels * math.prod(module.kernel_size)
            draw(module.weight, 0.0, math.sqrt(2 / fan_in))
            draw(module.bias, 0.0, 0.1)
        elif isinstance(module, nn.MultiheadAttention):
            draw(module.in_proj_weight, 0.0, math.sqrt(4 / module.embed_dim))
            draw(module.in_proj_bias, 0.0, 0.1)
        elif isinstance(module, nn.Linear):
            draw(module.weight, 0.0, math.sqrt(2 / module.in_features))
            draw(module.bias, 0.0, 0.1)
        elif isinstance(module, nn.Embedding):
            draw(module.weight, 0.0, 1.0)
    for module in model.modules():
        if isinstance(module, ResNetEncoder):
            module.bn1.bias.sub_(2)
        elif isinstance(module, BasicBlock):
            module.bn2.bias.sub_(1)
        elif isinstance(module, Bottleneck):
            module.bn3.bias.sub_(1)


def _calibrate_batch_norm(model: nn.Module, forward: Callable[[], object]) -> None:
    """Set the running statistics to those of one forward pass; dropout stays off."""
    norms = _modules(model, nn.BatchNorm2d)
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    forward()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked.zero_()
    model.eval()


def _divide(module: nn.Module, scale: Tensor) -> None:
    module.weight.div_(scale)
    module.bias.div_(scale)


@torch.no_grad()
def randomize_for_parity(
    model: nn.Module, seed: int, image_size: int = 128, batch_size: int = 8
) -> None:
    """Random weights and statistics that keep every activation at a scale near 1.

    He-scaled weights, running statistics of a calibration batch, heads and output convolution
    scaled to outputs of standard deviation 1. Affines are drawn around (1, 0) for LayerNorm and
    (1, 1) for BatchNorm: with biases around 0 rounding errors grow some 1.2 times per layer, with
    biases around 1 they hardly do. Where a pooling or a residual sum would leave the next ReLU
    without negative inputs, the bias is around -1 (stem) or 0 (last of a block). The maps get
    most of their deviation from the bias of the self-supervised head, as maps that vary much
    would make the soft-argmax a hard one, without gradient. Deterministic for the seed. Leaves
    the model in the mode it came in; takes a TTPModel, a PoseResNet or a VGG16Features.
    """
    was_training = model.training
    generator = torch.Generator().manual_seed(seed)
    _draw_parameters(model, generator)
    like = next(model.parameters())
    source, target = (
        _random_images(generator, batch_size, image_size).to(like.device, like.dtype)
        for _ in range(2)
    )
    if isinstance(model, TTPModel):
        head = model.pose_net.final_layer_unsup
        _calibrate_batch_norm(model, lambda: model.pose_net(target))
        outputs = model.pose_net(target)
        maps = outputs["self_heatmaps"]
        columns, rows = maps.sum(dim=2), maps.sum(dim=3)
        spread = torch.cat((columns.std(dim=-1), rows.std(dim=-1)), dim=-1).mean()
        head.weight.div_(spread / 1.5)
        levels = torch.randn(head.bias.shape, generator=generator).to(head.bias)
        maps = head(outputs["features"])
        head.bias.add_(levels / levels.std() - maps.mean(dim=(0, 2, 3)))
        if model.pose_net.method == "shared":
            _divide(model.pose_net.final_layer, outputs["heatmaps"].std())
        _calibrate_batch_norm(model, lambda: model(source, target))
        output = model(source, target)["reconstruction"]
        _divide(model.image_renderer.output_conv, output.std())
    elif isinstance(model, PoseResNet):
        _calibrate_batch_norm(model, lambda: model(target))
        _divide(model.final_layer, model(target).std())
    model.train(was_training)


# --- Dropout masks from outside ------------------------------------------------------------------


@contextmanager
def _patched_dropout(handler: Callable[[Tensor, float], Tensor]) -> Iterator[None]:
    """Send every active dropout, also that inside fused attention, through the handler."""

    def dropout(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        return handler(input, p) if training and p > 0 else input

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        if attn_mask is not None or is_causal:
            raise NotImplementedError("masked attention")
        logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        weights = dropout(F.softmax(logits, dim=-1), dropout_p)
        return weights @ value

    with (
        mock.patch.object(F, "dropout", dropout),
        mock.patch.object(F, "scaled_dot_product_attention", attention),
    ):
        yield


@contextmanager
def feed_dropout_masks(masks: Sequence) -> Iterator[None]:
    """Use these 0/1 keep-masks, in call order, in place of random dropout (eager mode only).

    Kept values are scaled by 1 / (1 - p). Raises if a shape differs or masks are left over.
    """
    remaining = list(masks)

    def handler(x: Tensor, p: float) -> Tensor:
        if not remaining:
            raise ValueError(f"only {len(masks)} dropout masks for more dropout calls")
        mask = torch.as_tensor(remaining.pop(0), dtype=x.dtype, device=x.device)
        if mask.shape != x.shape:
            raise ValueError(f"dropout mask {tuple(mask.shape)} for input {tuple(x.shape)}")
        return x * mask / (1 - p)

    with _patched_dropout(handler):
        yield
    if remaining:
        raise ValueError(f"{len(remaining)} of {len(masks)} dropout masks were not used")


@torch.no_grad()
def dropout_shapes(
    model: TTPModel, source: Tensor, target: Tensor
) -> list[tuple[str, tuple[int, ...]]]:
    """Tag and shape of every dropout call of a train-mode forward pass, in call order.

    Leaves the model as it was, running statistics included.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def handler(x: Tensor, p: float) -> Tensor:
        shapes.append((DROPOUT_TAGS[len(shapes) % len(DROPOUT_TAGS)], tuple(x.shape)))
        return x

    was_training = model.training
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    with _patched_dropout(handler):
        model(source, target)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    model.train(was_training)
    return shapes
