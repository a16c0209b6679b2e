"""An experiment: everything that a config describes, built once when a command starts."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import optax
from ml_collections import ConfigDict, FrozenConfigDict

from configs import common
from ttp_jax import checkpoint, ranges, skeletons, state, tasks, ttp
from ttp_jax.files import read_json
from ttp_jax.models import pose, vgg
from ttp_jax.models.pose import PoseNet
from ttp_jax.skeletons import Skeleton

Config = Any  # ml_collections.ConfigDict, whose fields a type checker can't know


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """Everything that a command works with. `build` makes it; it doesn't change afterwards.

    Attributes:
      config: the fields that it was built from, frozen. Code takes single values from it; the whole
        config is only used to identify results.
      skeleton: skeleton of the joints.
      net: the network.
      stages: the training schedule; empty if the config has none.
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
        """Seed of all random draws."""
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
        """Whether the network takes pictures as BGR."""
        return pose.is_bgr(self.config.model)

    @functools.cached_property
    def heatmap_size(self) -> int:
        """Side of the heatmaps, in heatmap pixels."""
        return pose.heatmap_size(self.net, self.image_size)

    @property
    def task(self) -> tasks.Task:
        """The self-supervised task."""
        return tasks.of(self.net.method, self.config.loss.equivariance)

    @functools.cached_property
    def features(self) -> vgg.VGG16:
        """Features of the perceptual loss."""
        return vgg.load(self.config.loss.features, self.config.loss.levels)

    @functools.cached_property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer of training: Adam or AdamW with the schedule.

        Raises ValueError if the config has no schedule.
        """
        if not self.stages:
            raise ValueError("config.train.stages needs at least one stage of at least one step.")
        rate, decay = state.schedule(self.stages), self.config.train.weight_decay
        return state.adamw(rate, decay) if decay else state.adam(rate)

    @property
    def last_step(self) -> int:
        """Number of updates of the whole training."""
        return sum(stage.steps for stage in self.stages)

    def settings(self, scenario: str) -> ttp.Settings:
        """Return the settings of personalization; scenario "none" only predicts.

        Raises ValueError if the network can't be personalized with them.
        """
        mode = "offline" if scenario == "offline" else "online"
        own = ttp.settings_from(
            self.config.ttp,
            mode,
            image_size=self.image_size,
            bgr=self.bgr,
            flip_order=self.skeleton.flip_order,
            loss=self.config.loss,
        )
        if scenario != "none":
            ttp.check_method(self.net.method, own)
        return own

    def changed(self, changes: dict[str, Any]) -> "Experiment":
        """Return the experiment with some fields changed, such as {"ttp.iterations": 2}.

        Raises AttributeError for an unknown field.
        """
        config = thawed(self.config)
        for name, value in changes.items():
            *path, field = name.split(".")
            part = functools.reduce(getattr, path, config)
            getattr(part, field)  # raises for an unknown one
            with part.unlocked(), part.ignore_type():
                part[field] = value
        return build(config)

    def with_data(self, data: Any) -> "Experiment":
        """Return the experiment on another data set, described by these fields."""
        config = thawed(self.config)
        with config.unlocked():
            config.data = ConfigDict(dict(data))
        return build(config)


def build(config: Config) -> Experiment:
    """Build the experiment that a config describes.

    Raises ValueError if a field has a value that is not allowed.
    """
    ranges.check(config.to_dict())
    skeleton = skeletons.of_config(config)
    net = pose.from_config(
        config.model, skeleton.size, config.train.precision, config.loss, skeleton.flip_order
    )
    stages = tuple(state.Stage(*stage) for stage in config.train.stages)
    return Experiment(FrozenConfigDict(config), skeleton, net, stages)


def thawed(config: Config) -> ConfigDict:
    """Return a copy of a config that can be changed."""
    return ConfigDict(config).copy_and_resolve_references()


def take_model(config: Config) -> None:
    """Copy the settings in the model file of `config.base` into a config.

    Fields of the config that differ from their defaults keep their values.

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged.
    """
    kept = kept_config(config.base)
    defaults = _flat(common.get_config())
    own = {k: v for k, v in _flat(config).items() if k not in defaults or v != defaults[k]}
    if "boxes" in kept["data"]:
        own = {k: v for k, v in own.items() if k not in ("data.boxes", "data.fit")}
    with config.unlocked():
        config.update(kept)
        config.update_from_flattened_dict(own)


def tuples(value: Any) -> Any:
    """Replace lists in a JSON value by tuples, because config fields must be hashable."""
    if isinstance(value, dict):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def kept_config(base: str) -> dict[str, Any]:
    """Return the settings that are needed to use the model in a file or workdir.

    Raises FileNotFoundError if there is neither, ValueError if it is damaged.
    """
    path = checkpoint.model_path(base)
    if not path.is_dir():
        return tuples(checkpoint.read_model(path).config)
    like = {"data": {"skeleton": str, "source": str, "boxes": str}, "train": {"precision": str}}
    like |= dict.fromkeys(("model", "loss", "ttp"), dict)
    stored = read_json(path / "config.json", like)
    if stored is None:
        raise FileNotFoundError(
            f"{path} has no trained model: name a training's --workdir, or a file that `export` "
            "wrote."
        )
    ranges.check(stored, f"{path / 'config.json'}: config")
    return needed(tuples(stored))


def needed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an experiment's config that are needed to use its model."""
    config = config.to_dict() if isinstance(config, ConfigDict) else config
    own = {"skeleton": config["skeleton"]} if config.get("skeleton") else {}
    return {
        **own,
        "data": _seen(config["data"]),
        "model": config["model"],
        "loss": config["loss"],
        "ttp": config["ttp"],
        "train": {"precision": config["train"]["precision"]},
    }


def _seen(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the data that say which joints and boxes the model was trained with.

    Boxes are included only if they are whole pictures or regions. Boxes from labels or files don't
    exist for new videos.
    """
    found, boxes = {"skeleton": data["skeleton"]}, data["boxes"]
    of_frames = boxes in ("labels", "annotated") or boxes.lower().endswith((".csv", ".json"))
    if data["source"] == "project" and not of_frames:
        found |= {"boxes": boxes, "zoom": data.get("zoom", 1.0), "fit": False}
    return found


def _flat(config: Config) -> dict[str, Any]:
    """Return the fields by their full names: {"ttp.iterations": 1}."""
    found = {}
    for name, value in config.items():
        part = _flat(value) if isinstance(value, ConfigDict) else {"": value}
        found |= {f"{name}.{field}".rstrip("."): inner for field, inner in part.items()}
    return found
