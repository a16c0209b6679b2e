"""Identities: the settings that a training, a run or a record depends on."""

import functools
import hashlib
import json
import os
import pathlib
from typing import Any

from configs import common
from data_pipelines.rendered import renderer
from ttp_jax import ranges, skeletons, state
from ttp_jax.checkpoint import fingerprint, read_model
from ttp_jax.files import read_json, write_json
from ttp_jax.runs.experiment import Config, Experiment, build, tuples

# Fields that don't change a trained model's numbers.
NOT_THE_MODEL = {
    "model": ("decode", "flip_average"),
    "data": (
        "root", "tfds", "workers", "val", "test", "eval_frames", "boxes", "refine", "fit",
        "extra", "oversample", "context", "own_videos", "grade", "training_subjects",
    ),
    "train": ("log_every", "checkpoint_every", "keep", "best", "patience"),
}  # fmt: skip
# Fields of config.ttp that don't change results. "together" changes only their rounding, which
# depends on the number of subjects side by side.
HOW = ("together", "save_minutes")
# The fields of the first version are part of every identity. A later field is part of one only if
# it differs from its default, so a new field whose default changes nothing leaves all stored
# identities as they are.
FIRST_FIELDS = {
    "eval": ("pixels",),
    "data": (
        "source", "root", "tfds", "skeleton", "boxes", "extra", "refine", "oversample", "context",
        "frames", "every", "workers",
    ),
    "model": (
        "method", "init", "image_size", "color_order", "depth", "width", "feature_dim",
        "upsamplings", "last_stride", "num_maps", "sigma", "logit_scale", "heads", "ffn_dim",
        "decoder_layers", "dropout", "appearance_widths", "keypoint_widths", "code_kernel",
    ),
    "loss": ("features", "levels"),
    "train": (
        "batch_size", "stages", "precision", "accumulate", "remat", "frames_per_epoch", "rotation",
        "rotation_prob", "scale", "flip_prob", "log_every", "checkpoint_every", "keep",
    ),
    "ttp": (
        "iterations", "batch_size", "learning_rate", "rules", "reset", "together", "memory",
        "save_minutes", "normalisers", "rotation", "online_rotation_prob", "offline_rotation_prob",
        "scale", "flip_prob",
    ),
}  # fmt: skip


def identifying(
    part: str, fields: Any, left_out: tuple[str, ...] = (), first: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the fields of a part of a config ("model", "ttp", ...) that identify its results.

    Later fields that have their default value are left out.

    Args:
      part: name of the part.
      fields: its fields and their values.
      left_out: fields that are never part of this identity.
      first: fields that always are, in addition to `FIRST_FIELDS`.
    """
    defaults, first = _defaults()[part], (*FIRST_FIELDS[part], *first)
    return {
        name: value
        for name, value in fields.items()
        if name not in left_out
        and (name in first or name not in defaults or value != defaults[name])
    }


@functools.cache
def _defaults() -> dict[str, dict]:
    return common.get_config().to_dict()


def trained_on(config: Config) -> dict:
    """Return everything that a trained model depends on, without test-time settings."""
    whole = config.to_dict()
    parts: dict = {"seed": config.seed, "loss": identifying("loss", whole["loss"])}
    for part, left_out in NOT_THE_MODEL.items():
        parts[part] = identifying(part, whole[part], left_out)
    # Files are identified by name (resnet50-19c8e357.pth), not by the folder they are in.
    for part, field in (("model", "init"), ("loss", "features")):
        parts[part][field] = pathlib.PurePath(parts[part][field]).name
    if config.skeleton:
        parts["skeleton"] = whole["skeleton"]
    if config.data.source == "project":  # its boxes influence the training
        parts["data"] |= {name: config.data[name] for name in ("boxes", "oversample")}
    if config.data.source == "synthetic":
        parts["renderer"] = renderer.RENDERER_VERSION
    return parts


def protocol(config: Config, base: state.Base, scenario: str) -> dict:
    """Return what results depend on besides the frames, as JSON: model, settings, seed."""
    adapts, whole = scenario != "none", config.to_dict()
    found = {
        "base": fingerprint(base),
        "scenario": scenario,
        "seed": config.seed,
        "model": identifying("model", whole["model"], ("init",), ("decode",)),
        "precision": config.train.precision,
        "oversample": config.data.oversample,
        "context": config.data.context,
        "refine": config.data.refine,
        "fit": config.data.fit,
        "features": [config.loss.features, config.loss.levels],
        "ttp": identifying("ttp", whole["ttp"], HOW, ("held_out",)) if adapts else None,
    }
    if config.data.zoom != 1:
        found["zoom"] = config.data.zoom
    if config.skeleton:
        found["skeleton"] = whole["skeleton"]
    for name in ("equivariance", "source_masking"):  # later fields, see `identifying`
        if adapts and config.loss[name]:
            found[name] = config.loss[name]
    return json.loads(json.dumps(found))  # turns tuples into lists


def digest(value: Any) -> str:
    """Return the SHA-256 of anything that JSON can hold; kept models name that of a protocol."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differences(before: dict, now: dict) -> list[str]:
    """List the differences between two protocols: "ttp.iterations: 1 -> 2"."""

    def flat(value, name=""):
        if not isinstance(value, dict):
            return {name: value}
        parts = (flat(v, f"{name}.{k}" if name else k) for k, v in value.items())
        return {k: v for part in parts for k, v in part.items()}

    one, other = flat(before), flat(now)
    words = {"base": "another model", "data.labels": "other labels"}
    return [
        words.get(name, f"{name}: {one.get(name)} -> {other.get(name)}")
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]


def stored_config(stored: dict, where: str | os.PathLike = "the stored config") -> Config:
    """Make a config from its JSON, which has no tuples; missing fields get their defaults.

    Raises ValueError, naming `where`, if its content can't be a config.
    """
    ranges.check(stored, f"{where}: config")
    config = common.get_config()
    try:
        with config.unlocked():
            config.update(tuples(stored))
    except (AttributeError, KeyError, TypeError) as error:  # raised by ml_collections
        raise ValueError(f"{where} is not a config of this project ({error}).") from error
    return config


def training_config(workdir: str | pathlib.Path) -> Config | None:
    """Return the config that the model in `workdir` was trained with; None if it wasn't stored."""
    path = pathlib.Path(workdir) / "config.json"
    stored = read_json(path, dict)
    if stored is None:
        return None
    config = stored_config(stored, path)
    if not config.skeleton and config.data.skeleton not in skeletons.SKELETONS:
        raise ValueError(
            f"{path} names an unknown skeleton, {config.data.skeleton!r}: train again."
        )
    return config


def exported_config(path: str | pathlib.Path) -> Config:
    """Return what a model file says of its training, as a config.

    Its `data.training_subjects` are digests of the names (`subject_digest`), none in older files.
    Its `data.boxes` are "" if the file doesn't say. They and `data.zoom` are those of the training,
    while the file's settings are for new videos, which have no labels to draw boxes around.

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged.
    """
    found = read_model(path)
    trained = found.about.get("trained", {}).get("data", {})
    crops = {name: trained[name] for name in ("boxes", "zoom") if name in trained}
    data = {"boxes": "", **found.config["data"], **crops}
    config = stored_config({**found.config, "data": data}, path)
    config.name = found.about.get("config", "")
    config.data.training_subjects = tuple(found.about.get("training_subjects", ()))
    return config


def subject_digest(name: str) -> str:
    """Return a digest of a subject's name; a model file is shared, and a name may be private."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def training_experiment(workdir: str | pathlib.Path) -> Experiment:
    """Return the experiment of the training in this folder.

    Raises ValueError if there is none.
    """
    config = training_config(workdir)
    if config is None:
        raise ValueError(
            f"{workdir} holds no training (it has no config.json): name the --workdir of one."
        )
    return build(config)


def save_config(config: Config, workdir: pathlib.Path) -> None:
    """Store the config beside the results that were made with it."""
    write_json(workdir / "config.json", config.to_dict())
