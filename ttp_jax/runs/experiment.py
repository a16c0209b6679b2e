"""An experiment: all that a config describes, built once at the start of a command."""

import dataclasses
import functools
import pathlib
from typing import Any

import optax
from ml_collections import ConfigDict, FrozenConfigDict

from configs import common
from ttp_jax import checkpoint, state, ttp
from ttp_jax.models import pose, vgg
from ttp_jax.models.pose import PoseNet
from ttp_jax.skeletons import SKELETONS, Skeleton

Config = Any  # ml_collections.ConfigDict, whose fields a type checker can't know


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What the commands work with. Made by `build`; nothing in it changes afterwards.

    Attributes:
      config: the fields that it was made from, frozen. Code below takes the values it needs;
        whole, they are for what identifies a result.
      skeleton: the joints.
      net: the network.
      stages: the training schedule; empty where the config has none.
    """

    config: Config
    skeleton: Skeleton
    net: PoseNet
    stages: tuple[state.Stage, ...]

    @property
    def name(self) -> str:
        """Name of the config."""
        return self.config.name

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.config.seed

    @property
    def data(self) -> Any:
        """Fields of the data set."""
        return self.config.data

    @property
    def image_size(self) -> int:
        """Side of the network's crops, in pixels."""
        return self.config.model.image_size

    @property
    def bgr(self) -> bool:
        """Whether pictures go in with swapped channels."""
        return pose.is_bgr(self.config.model)

    @functools.cached_property
    def heatmap_size(self) -> int:
        """Side of the heatmaps, in pixels of the maps."""
        return pose.heatmap_size(self.net, self.image_size)

    @functools.cached_property
    def features(self) -> vgg.VGG16:
        """Features of the perceptual loss."""
        return vgg.load(self.config.loss.features, self.config.loss.levels)

    @functools.cached_property
    def tx(self) -> optax.GradientTransformation:
        """Training's optimizer: Adam on the schedule.

        Raises ValueError where the config has no schedule.
        """
        if not self.stages:
            raise ValueError("config.train.stages needs at least one stage of at least one step.")
        return state.adam(state.schedule(self.stages))

    @property
    def last_step(self) -> int:
        """Updates of the whole training."""
        return sum(stage.steps for stage in self.stages)

    def settings(self, scenario: str) -> ttp.Settings:
        """Settings of personalization; scenario "none" predicts only.

        Raises ValueError where the network can't be personalized by them.
        """
        mode = "offline" if scenario == "offline" else "online"
        own = ttp.settings_from(self.config.ttp, mode, image_size=self.image_size, bgr=self.bgr)
        if scenario != "none":
            ttp.check_method(self.config.model.method, own)
        return own

    def changed(self, changes: dict[str, Any]) -> "Experiment":
        """The experiment with other values of some fields: {"ttp.iterations": 2}."""
        config = thawed(self.config)
        with config.unlocked():
            config.update_from_flattened_dict(changes)
        return build(config)

    def with_data(self, data: Any) -> "Experiment":
        """The experiment on another data set, of which these are the fields."""
        config = thawed(self.config)
        with config.unlocked():
            config.data = ConfigDict(dict(data))
        return build(config)


def build(config: Config) -> Experiment:
    """Build what a config describes.

    Raises ValueError for a field that has no such value.
    """
    if config.data.skeleton not in SKELETONS:
        raise ValueError(
            f"config.data.skeleton is {config.data.skeleton!r}, expected one of {list(SKELETONS)}."
        )
    skeleton = SKELETONS[config.data.skeleton]
    net = pose.from_config(config.model, skeleton.size, config.train.precision)
    stages = tuple(state.Stage(*stage) for stage in config.train.stages)
    if any(stage.steps < 1 for stage in stages):
        raise ValueError("config.train.stages needs at least one stage of at least one step.")
    return Experiment(FrozenConfigDict(config), skeleton, net, stages)


def thawed(config: Config) -> ConfigDict:
    """A copy of a config that can be changed."""
    return ConfigDict(config).copy_and_resolve_references()


def model_path(base: str) -> pathlib.Path:
    """The file that `config.base` or --model names."""
    return checkpoint.model_path(base)


def take_model(config: Config) -> None:
    """Put the fields of the model's file that `config.base` names into a config.

    Fields that the config has changed from their defaults stay.

    Raises FileNotFoundError where there is no such file, ValueError where it is damaged.
    """
    found = checkpoint.read_model(model_path(config.base))
    defaults = _flat(common.get_config())
    own = {k: v for k, v in _flat(config).items() if k not in defaults or v != defaults[k]}
    with config.unlocked():
        config.update(found.config)
        config.update_from_flattened_dict(own)


def _flat(config: Config) -> dict[str, Any]:
    """Fields by their full names: {"ttp.iterations": 1}."""
    found = {}
    for name, value in config.items():
        part = _flat(value) if isinstance(value, ConfigDict) else {"": value}
        found |= {f"{name}.{field}".rstrip("."): inner for field, inner in part.items()}
    return found
