"""Self-supervised tasks as values: what each needs, and its loss in training and at test time.

`of` returns the task of a network. To add a task, write a class here; if it needs a head that
`PoseNet` lacks, add that to `models.pose.Parts` and `PoseNet.setup`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ttp_jax import heatmaps, losses
from ttp_jax.models.pose import METHODS, Output, PoseNet
from ttp_jax.models.vgg import VGG16
from ttp_jax.settings import Settings


class Inputs(NamedTuple):
    """The inputs of a self-supervised loss.

    Attributes:
      target: images [B, H, W, 3] in the network's colours.
      source: another frame of each target's person, cropped alike; None if the task needs none.
      features: features of the perceptual loss; None if the task needs none.
      normalisers: running means of the reconstruction loss [levels + 1].
      bgr: channel order, see `models.pose.normalize`.
    """

    target: jax.Array
    source: jax.Array | None
    features: VGG16 | None
    normalisers: jax.Array
    bgr: bool


class Task:
    """The interface of self-supervised tasks.

    Attributes:
      needs_source: whether the loss reads `Inputs.source`.
      needs_features: whether the loss reads `Inputs.features`.
      needs_upright: whether images must not be rotated at random at test time.
      probe: function (variables, target, source, other, *, model) -> errors by name that show
        whether the task has learned anything, see `probe_keypoints`; None if there is none.
    """

    needs_source: bool = False
    needs_features: bool = False
    needs_upright: bool = False
    probe: Callable[..., dict[str, jax.Array]] | None = None

    def check(self, settings: Settings) -> None:
        """Raise ValueError if the loss can't be minimised at test time with these settings."""

    def training_loss(
        self, model: PoseNet, variables: dict, output: Output, inputs: Inputs
    ) -> tuple[jax.Array, Any, jax.Array]:
        """Return the loss that is added to the supervised one in training.

        Args:
          model: the network.
          variables: its parameters, and batch statistics as the supervised pass left them.
          output: output of the supervised pass, in training mode.
          inputs: what the loss reads.

        Returns:
          Loss, batch statistics and normalisers; the last two as given, or updated.
        """
        raise NotImplementedError

    def test_loss(
        self, model: PoseNet, variables: dict, inputs: Inputs
    ) -> tuple[jax.Array, jax.Array]:
        """Return the loss at test time, in evaluation mode, and the updated normalisers.

        Args:
          model: the network.
          variables: its parameters and batch statistics.
          inputs: what the loss reads.
        """
        raise NotImplementedError


class Nothing(Task):
    """No self-supervised task: the network only learns the joints."""

    def check(self, settings):
        """Always raise: there is nothing to minimise at test time."""
        raise ValueError(
            'this network has no self-supervised task, so the method "ttp" can\'t adapt it. Choose '
            "--method=bn, entropy or teacher, which need none."
        )

    def training_loss(self, model, variables, output, inputs):
        """Return zero."""
        return jnp.zeros(()), variables["batch_stats"], inputs.normalisers


def probe_keypoints(
    variables: dict, target: jax.Array, source: jax.Array, other: jax.Array, *, model: PoseNet
) -> dict[str, jax.Array]:
    """Check whether the keypoint bottleneck is alive, by mean squared errors of the reconstruction.

    Args:
      variables: params and batch_stats.
      target, source, other: three frames [B, H, W, 3] of the same people, cropped by the target's
        box, in the network's colours.
      model: the network.

    Returns:
      "own": error with the target's own keypoints; "other": error with the keypoints of the other
      frame; "copy": error of copying the source. If "own" and "other" are about equal, the
      bottleneck is dead.
    """
    keypoints: Any = functools.partial(model.apply, variables, method="keypoints")
    (_, maps, points), (_, _, elsewhere) = keypoints(target), keypoints(other)

    def render(points):
        return model.apply(variables, source, points, maps.shape[1:3], method="reconstruct")

    pictures = {"own": render(points), "other": render(elsewhere), "copy": source}
    return {name: jnp.mean(jnp.square(p - target)) for name, p in pictures.items()}


class Keypoints(Task):
    """Reconstruct the target from a source through 30 keypoints (paper section 3.1.1)."""

    needs_source = True
    needs_features = True
    probe = staticmethod(probe_keypoints)

    def training_loss(self, model, variables, output, inputs):
        """Return the reconstruction loss of the image from the supervised pass."""
        loss, normalisers = self._compare(output.reconstruction, inputs)
        return loss, variables["batch_stats"], normalisers

    def test_loss(self, model, variables, inputs):
        """Return the reconstruction loss; only the reconstruction is computed."""
        picture: Any = model.apply(
            variables, inputs.target, inputs.source, method="adaptation_view"
        )
        return self._compare(picture, inputs)

    def _compare(self, picture, inputs):
        return losses.reconstruction(
            inputs.features, picture, inputs.target, inputs.normalisers, bgr=inputs.bgr
        )


class Rotation(Task):
    """Predict by how many quarter turns an image is rotated (Sun et al. 2020; paper's ablation)."""

    needs_upright = True  # random rotation would hide the quarter turns

    def check(self, settings):
        """Raise unless images stay upright."""
        if settings.ranges.rotation_prob > 0:
            raise ValueError(
                'the method "rotation" predicts quarter turns, so the pictures must not be rotated '
                f"at random: set --config.ttp.{settings.scenario}_rotation_prob=0 (for a model "
                "file, when exporting it)."
            )

    def training_loss(self, model, variables, output, inputs):
        """Return the cross-entropy on turned images; statistics build on the supervised pass's."""
        turned, turns = losses.quarter_turns(inputs.target)
        seen, updates = model.apply(variables, turned, train=True, mutable=["batch_stats"])
        statistics = _updated(variables, updates)
        return losses.rotation(seen.turns, turns), statistics, inputs.normalisers

    def test_loss(self, model, variables, inputs):
        """Return the cross-entropy on turned images."""
        turned, turns = losses.quarter_turns(inputs.target)
        output: Any = model.apply(variables, turned)
        return losses.rotation(output.turns, turns), inputs.normalisers


class Equivariance(Task):
    """Make the self-supervised maps turn with the image, by 90, 180 and 270 degrees.

    The maps of the turned image are compared with the turned maps of the upright one, which get no
    gradient. Constant maps would satisfy this as well, so combine it with another task (`Sum`).
    """

    def training_loss(self, model, variables, output, inputs):
        """Compare turned maps with the supervised pass's; batch statistics build on that pass's."""
        turned, quarters = self._turned(inputs.target, model)
        (_, maps, _), updates = model.apply(
            variables, turned, train=True, mutable=["batch_stats"], method="keypoints"
        )
        upright: Any = output.self_heatmaps
        loss = losses.equivariance(maps, upright, quarters, model.half_pixel)
        return loss, _updated(variables, updates), inputs.normalisers

    def test_loss(self, model, variables, inputs):
        """Compare the maps of upright and turned images."""
        keypoints: Any = functools.partial(model.apply, variables, method="keypoints")
        turned, quarters = self._turned(inputs.target, model)
        (_, upright, _), (_, maps, _) = keypoints(inputs.target), keypoints(turned)
        loss = losses.equivariance(maps, upright, quarters, model.half_pixel)
        return loss, inputs.normalisers

    def _turned(self, pictures, model):
        # The images of a batch are drawn at random, so their turns may follow a fixed pattern.
        quarters = 1 + jnp.arange(len(pictures)) % 3
        return heatmaps.turn(pictures, quarters, model.half_pixel), quarters


@dataclasses.dataclass(frozen=True)
class Sum(Task):
    """A network's own task plus `weight` times another task on the same maps."""

    own: Task
    other: Task
    weight: float

    @property
    def needs_source(self):
        """Whether either task does."""
        return self.own.needs_source or self.other.needs_source

    @property
    def needs_features(self):
        """Whether either task does."""
        return self.own.needs_features or self.other.needs_features

    @property
    def needs_upright(self):
        """Whether either task does."""
        return self.own.needs_upright or self.other.needs_upright

    @property
    def probe(self):
        """The probe of the network's own task."""
        return self.own.probe

    def check(self, settings):
        """Check both tasks."""
        self.own.check(settings)
        self.other.check(settings)

    def training_loss(self, model, variables, output, inputs):
        """Add both losses; the second task gets the statistics and normalisers of the first."""
        first, statistics, normalisers = self.own.training_loss(model, variables, output, inputs)
        variables = {**variables, "batch_stats": statistics}
        second, *rest = self.other.training_loss(
            model, variables, output, inputs._replace(normalisers=normalisers)
        )
        return first + self.weight * second, *rest

    def test_loss(self, model, variables, inputs):
        """Add both losses."""
        first, normalisers = self.own.test_loss(model, variables, inputs)
        second, normalisers = self.other.test_loss(
            model, variables, inputs._replace(normalisers=normalisers)
        )
        return first + self.weight * second, normalisers


def _updated(variables, updates):
    """Return the batch statistics after a pass; blocks that did not run keep theirs."""
    return {**variables["batch_stats"], **updates.get("batch_stats", {})}


NOTHING = Nothing()
TASKS = {"keypoints": Keypoints(), "rotation": Rotation(), "none": NOTHING}
EQUIVARIANCE = Equivariance()  # never a network's only task


def of(method: str, equivariance: float = 0.0) -> Task:
    """Return the self-supervised task of a network.

    Args:
      method: the network's `PoseNet.method`.
      equivariance: `config.loss.equivariance`, the weight of `Equivariance` beside the own task.

    Raises ValueError if there is such a weight, but the network has no self-supervised maps.
    """
    own = TASKS[METHODS[method].task]
    if not equivariance:
        return own
    if not METHODS[method].keypoints:
        raise ValueError(
            f"config.loss.equivariance is {equivariance}, but a network of the method {method!r} "
            "has no self-supervised maps to turn: leave it at 0."
        )
    return Sum(own, EQUIVARIANCE, equivariance)
