"""The whole network: shared encoder, both keypoint tasks, reconstruction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax import heatmaps
from ttp_jax.models import encoders
from ttp_jax.models.colors import MEAN, STD
from ttp_jax.models.layers import Conv, Linear, tiny_normal, torch_default_bias
from ttp_jax.models.reconstruction import CodeEncoder, Renderer
from ttp_jax.models.transformer import AffinityDecoder

SUPERVISED = ("mse", "cross_entropy")  # losses of the named joints


class Parts(NamedTuple):
    """The parts that a method adds to the encoder.

    Attributes:
      task: the self-supervised task, a key of `tasks.TASKS`.
      keypoints: whether there are self-supervised maps, both code encoders and the renderer.
      affinity: whether the joints are weighted sums of the self-supervised maps, with weights from
        the Transformer (Eq. 8); otherwise they have their own head.
      turns: whether there is a linear head that predicts quarter turns.
    """

    task: str
    keypoints: bool = False
    affinity: bool = False
    turns: bool = False


METHODS = {
    "transformer": Parts("keypoints", keypoints=True, affinity=True),
    "shared": Parts("keypoints", keypoints=True),
    "rotation": Parts("rotation", turns=True),
    "baseline": Parts("none"),
}


class Output(NamedTuple):
    """The result of one call; None for parts that the network or the call doesn't have.

    Attributes:
      heatmaps: supervised maps H_sup [B, h, w, K], with peaks of about 1.
      self_heatmaps: raw self-supervised maps H_self [B, h, w, M].
      points: self-supervised keypoints [B, M, 2] in heatmap pixels.
      affinity: W [B, K, M].
      reconstruction: [B, H, W, 3] in normalised colours (only with a source).
      turns: logits [B, 4] of the target's quarter turns.
      logits: [B, h, w, K], whose softmax over cells gives the heatmaps (cross-entropy training).
    """

    heatmaps: jax.Array
    self_heatmaps: jax.Array | None
    points: jax.Array | None
    affinity: jax.Array | None
    reconstruction: jax.Array | None
    turns: jax.Array | None = None
    logits: jax.Array | None = None


class PoseNet(nn.Module):
    """Test-time personalizable pose network (paper Figure 2).

    Attributes:
      num_joints: K named joints.
      method: a key of `METHODS`: "transformer" (H_sup = H_self W^T, Eq. 8), "shared" (own
        supervised head, the ablation "Feat. shared (keypoint)"), "rotation" (the ablation "Feat.
        shared (rotation)": own supervised head, and a linear head that predicts quarter turns from
        the features' means, after Sun et al. 2020) or "baseline" (supervised task only).
      num_maps: M self-supervised keypoints.
      sigma: standard deviation of the bottleneck's Gaussians, in heatmap pixels.
      logit_scale: factor on the maps before the bottleneck's soft-argmax. The supervised loss keeps
        their peaks near 1, which pulls the points of maps smaller than 32 x 32 towards the centre
        unless the maps are scaled up; 1 in the paper.
      encoder_kind: a name in `encoders.ENCODERS`; BlazePose's sizes are fixed.
      depth, width, feature_dim, upsamplings, last_stride: sizes of the encoder "resnet".
      heads, ffn_dim, decoder_layers, dropout: settings of the Transformer decoder.
      appearance_widths: channels of the appearance encoder's blocks; each after the first halves
        the resolution. The renderer uses them in reverse order.
      keypoint_widths: channels of the keypoint encoder's blocks; the Gaussian maps are enlarged so
        that its code has the size of the appearance code.
      code_kernel: size of the first convolution of both code encoders.
      decode: how predictions find the peaks of the maps, see `heatmaps.decode`.
      half_pixel: how the maps' cells lie in the image, see `geometry.map_to_crop`.
      flip_average: order of the joints in a mirrored image, if predictions average a crop's maps
        with those of the mirrored crop, which takes twice the time; () if they don't.
      temperature: divisor that turns the supervised maps into logits over cells, for cross-entropy;
        0 for maps that are Gaussians themselves (squared error, as in the paper).
      dtype: type of the computation; parameters and outputs stay float32.
    """

    num_joints: int
    method: str = "transformer"
    num_maps: int = 30
    sigma: float = 2.0
    logit_scale: float = 1.0
    encoder_kind: str = "resnet"
    depth: int = 18
    width: int = 64
    feature_dim: int = 256
    upsamplings: int = 3
    last_stride: int = 2
    heads: int = 4
    ffn_dim: int = 1024
    decoder_layers: int = 1
    dropout: float = 0.1
    appearance_widths: tuple[int, ...] = (32, 64, 128, 256)
    keypoint_widths: tuple[int, ...] = (32, 64, 128, 256)
    code_kernel: int = 7
    decode: str = "quarter"
    half_pixel: bool = False
    flip_average: tuple[int, ...] = ()
    temperature: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @property
    def parts(self) -> Parts:
        """The parts that the method adds to the encoder.

        Raises:
          ValueError: no such method.
        """
        if self.method not in METHODS:
            raise ValueError(f"model.method is {self.method!r}, expected one of {tuple(METHODS)}.")
        return METHODS[self.method]

    def setup(self):
        """Build the submodules that the method needs."""
        self.encoder = encoders.build(
            self.encoder_kind,
            self.dtype,
            depth=self.depth,
            width=self.width,
            feature_dim=self.feature_dim,
            upsamplings=self.upsamplings,
            last_stride=self.last_stride,
        )
        if self.parts.keypoints:
            bias_init = torch_default_bias(self.encoder.features)
            self.self_head = Conv(self.num_maps, 1, bias_init=bias_init, dtype=self.dtype)
            self.appearance = CodeEncoder(self.appearance_widths, self.code_kernel, self.dtype)
            self.keypoint_encoder = CodeEncoder(self.keypoint_widths, self.code_kernel, self.dtype)
            self.renderer = Renderer(self.appearance_widths[::-1], self.dtype)
        if self.parts.affinity:
            self.decoder = AffinityDecoder(
                self.num_joints,
                self.num_maps,
                self.decoder_layers,
                self.heads,
                self.ffn_dim,
                self.dropout,
                self.dtype,
            )
        if self.parts.turns:
            self.rotation_head = Linear(4)
        if not self.parts.affinity:
            self.supervised_head = Conv(
                self.num_joints,
                1,
                bias_init=nn.initializers.zeros,
                kernel_init=tiny_normal,
                dtype=self.dtype,
            )

    def __call__(
        self, target: jax.Array, source: jax.Array | None = None, *, train: bool = False
    ) -> Output:
        """Run both tasks on `target` [B, H, W, 3]; reconstruct it from `source` if given."""
        features, self_maps, points = self.keypoints(target, train=train)
        affinity = None
        if self.parts.affinity:
            affinity = self.decoder(features, train)
            maps = jnp.einsum("bhwm,bkm->bhwk", self_maps, affinity)  # Eq. 8
        else:
            maps = _widen(self.supervised_head(features))
        picture = None
        if source is not None and self_maps is not None:
            picture = self.reconstruct(source, points, self_maps.shape[1:3], train=train)
        turns = None
        if self.parts.turns:
            turns = self.rotation_head(_widen(features).mean((1, 2)))
        logits = None
        if self.temperature:
            logits = maps / self.temperature
            maps = heatmaps.confidences(logits, self.sigma)
        return Output(maps, self_maps, points, affinity, picture, turns, logits)

    def keypoints(self, target: jax.Array, *, train: bool = False) -> Any:
        """Return features, raw self-supervised maps and their points, which adaptation uses.

        Args:
          target: [B, H, W, 3] in the network's colours.
          train: whether batch statistics are updated.
        """
        features = self.encoder(target, train)
        if not self.parts.keypoints:
            return features, None, None
        self_maps = _widen(self.self_head(features))
        return features, self_maps, heatmaps.soft_argmax(self.logit_scale * self_maps)

    def reconstruct(
        self,
        source: jax.Array,
        points: jax.Array,
        map_size: tuple[int, ...],
        *,
        train: bool = False,
    ) -> jax.Array:
        """Render the appearance of `source` [B, H, W, 3] in the pose of `points` [B, M, 2].

        Args:
          source: [B, H, W, 3] in the network's colours.
          points: [B, M, 2] in cells of the maps.
          map_size: height and width of the maps.
          train: whether batch statistics are updated.
        """
        look = self.appearance(source, train)
        maps = heatmaps.gaussian_maps(points, map_size[0], map_size[1], self.sigma)
        height, width = (n * 2 ** (len(self.keypoint_widths) - 1) for n in look.shape[1:3])
        if (height, width) != map_size:
            maps = jax.image.resize(
                maps, (maps.shape[0], height, width, maps.shape[-1]), "bilinear"
            )
        pose = self.keypoint_encoder(maps, train)
        return _widen(self.renderer(jnp.concatenate([look, pose], -1), train))

    def adaptation_view(self, target: jax.Array, source: jax.Array):
        """Return only the reconstruction [B, H, W, 3], which is all that adaptation needs.

        Args:
          target: [B, H, W, 3] in the network's colours.
          source: [B, H, W, 3] of the same person.
        """
        _, self_maps, points = self.keypoints(target)
        return self.reconstruct(source, points, self_maps.shape[1:3])


def from_config(
    fields: Mapping[str, Any],
    num_joints: int,
    precision: str = "float32",
    loss: Mapping[str, Any] | None = None,
    flip_order: Sequence[int] | np.ndarray = (),
) -> PoseNet:
    """Return the network that the fields of `config.model` describe.

    Args:
      fields: the fields of `config.model`.
      num_joints: K.
      precision: "float32" or "bfloat16".
      loss: the fields of `config.loss`, for the supervised loss; None: as in the paper.
      flip_order: `Skeleton.flip_order`, needed if `config.model.flip_average` is set.

    Raises ValueError for an unknown method, precision or loss.
    """
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if fields["method"] not in METHODS:
        raise ValueError(
            f"config.model.method is {fields['method']!r}, expected one of {tuple(METHODS)}."
        )
    if precision not in dtypes:
        raise ValueError(f"config.train.precision must be one of {tuple(dtypes)}.")
    # JSON has lists where flax modules, which are hashed, need tuples.
    own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    for name in ("init", "image_size", "color_order"):  # no fields of the network
        own.pop(name, None)
    average = own.pop("flip_average", False)  # older files lack it
    own["flip_average"] = tuple(map(int, flip_order)) if average else ()
    own["encoder_kind"] = own.pop("encoder", "resnet")  # older files lack it
    if own["encoder_kind"] != "resnet" and is_bgr(fields):
        raise ValueError('config.model.color_order="bgr" is for the encoder "resnet" only.')
    own["temperature"] = _temperature(loss or {})
    return PoseNet(num_joints=num_joints, dtype=dtypes[precision], **own)


def _temperature(loss: Mapping[str, Any]) -> float:
    """Return the temperature of the supervised maps; 0 if they are Gaussians themselves."""
    kind = loss.get("supervised", "mse")  # older files lack it
    if kind not in SUPERVISED:
        raise ValueError(f"config.loss.supervised is {kind!r}, expected one of {SUPERVISED}.")
    if kind == "mse":
        return 0.0
    if not loss["temperature"] > 0:
        raise ValueError(f"config.loss.temperature is {loss['temperature']}, expected above 0.")
    return loss["temperature"]


def is_bgr(fields: Mapping[str, Any]) -> bool:
    """Return whether the fields of `config.model` ask for images with swapped channels.

    Raises:
      ValueError: the order is neither "rgb" nor "bgr".
    """
    if fields["color_order"] not in ("rgb", "bgr"):
        raise ValueError('config.model.color_order must be "rgb" or "bgr".')
    return fields["color_order"] == "bgr"


def _widen(x):
    """Cast to float32 or wider: losses, spatial softmax and decoding never run in bfloat16."""
    return x.astype(jnp.promote_types(jnp.float32, x.dtype))


def normalize(pictures: jax.Array, *, bgr: bool = False) -> jax.Array:
    """Convert RGB values 0..255 [..., 3] to the network's colours.

    `bgr` first swaps the channels and then applies the RGB statistics in their order, as the
    published program does. Use it for its released checkpoints only.

    Args:
      pictures: [..., 3], RGB.
      bgr: whether to swap the channels.
    """
    if bgr:
        pictures = pictures[..., ::-1]
    mean, std = (jnp.array(values, jnp.float32) for values in (MEAN, STD))
    return (pictures.astype(jnp.float32) / 255 - mean) / std


def denormalize(pictures: jax.Array | np.ndarray, *, bgr: bool = False):
    """Undo `normalize`, clipped to 0..255, float.

    Args:
      pictures: [..., 3] in the network's colours.
      bgr: as in `normalize`.
    """
    values = (pictures * jnp.array(STD) + jnp.array(MEAN)) * 255
    values = jnp.clip(values, 0, 255)
    return values[..., ::-1] if bgr else values


def heatmap_size(net: PoseNet, image_size: int) -> int:
    """Return the side of the network's heatmaps for square crops of `image_size` pixels.

    Args:
      net: the network.
      image_size: side of the crops in pixels.

    Raises ValueError if that is no multiple of the encoder's total stride, or of the maps' side.
    """
    stride = encoders.total_stride(net.encoder_kind, net.last_stride)
    if image_size % stride:
        raise ValueError(
            f"config.model.image_size is {image_size}, expected a multiple of {stride}."
        )
    crop = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    output, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), crop)
    height, width = output.heatmaps.shape[1:3]
    if height != width or image_size % height:
        raise ValueError(
            f"the encoder {net.encoder_kind!r} makes maps of {height} x {width} cells of crops of "
            f"{image_size} pixels, expected a square whose side divides {image_size}: change the "
            "strides or the padding of its convolutions."
        )
    return height
