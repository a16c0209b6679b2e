"""The allowed values of each field of an experiment, in one table for settings and model files.

`check` is called before anything runs, whether a setting comes from the command line, from Python
or from a file. `configs/common.py` explains the fields; a test checks that each has a row here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ttp_jax import methods
from ttp_jax.heatmaps import DECODERS
from ttp_jax.models import encoders
from ttp_jax.models.encoders.resnet import STAGES
from ttp_jax.models.pose import METHODS
from ttp_jax.models.vgg import MAX_LEVELS
from ttp_jax.settings import OF_THE_LOSS, Settings
from ttp_jax.state import DECAYS, RULES


class Rule(NamedTuple):
    """The allowed values of a field, in words and as a test of a value."""

    words: str
    fits: Callable[[Any], bool]


# --- Kinds of rules ------------------------------------------------------------------------------


def whole(low: int, high: int, *also: int) -> Rule:
    """Allow whole numbers from `low` to `high`, and those in `also`."""
    words = [*map(str, also), f"a whole number {low:,} to {high:,}"]
    return Rule(" or ".join(words), lambda v: _is_whole(v) and (low <= v <= high or v in also))


def number(low: float, high: float, *also: float, above: bool = False) -> Rule:
    """Allow numbers from (or only above) `low` to `high`, and those in `also`; NaN is refused."""
    span = f"a number above {low:g}, up to {high:g}" if above else f"a number {low:g} to {high:g}"
    words = [*map(str, also), span]

    def fits(value):
        if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
            return False
        return bool(low < value <= high or (value == low and not above) or value in also)

    return Rule(" or ".join(words), fits)


def one_of(*values: Any) -> Rule:
    """Allow these values, with their types: 1 is not True."""
    words = f"one of {', '.join(map(str, values))}"
    return Rule(words, lambda v: any(type(v) is type(each) and v == each for each in values))


def several(rule: Rule, least: int = 0, most: int = 1000) -> Rule:
    """Allow tuples (lists in JSON) whose values all follow one rule."""

    def fits(value):
        return _is_row(value) and least <= len(value) <= most and all(map(rule.fits, value))

    return Rule(f"{least} to {most} values, each {rule.words}", fits)


def row(*rules: Rule) -> Rule:
    """Allow tuples with one value for each of these rules."""

    def fits(value):
        if not _is_row(value) or len(value) != len(rules):
            return False
        return all(rule.fits(each) for rule, each in zip(rules, value, strict=True))

    return Rule(f"({'; '.join(rule.words for rule in rules)})", fits)


TEXT = Rule("text", lambda value: isinstance(value, str) and "\0" not in value)
FLAG = Rule("True or False", lambda value: isinstance(value, bool))
ODD = Rule("an odd number 1 to 31", lambda v: _is_whole(v) and 1 <= v <= 31 and v % 2 == 1)
RESET = Rule(
    '"subject", "never" or a number of frames from 2 on',
    lambda v: v in ("subject", "never") or (str(v).isdecimal() and 2 <= int(str(v)[:9]) < 10**8),
)
NAMES = several(TEXT, most=1_000_000)
SHARE = number(0, 1)
SEED = whole(0, 2**31 - 2)
RATE = number(0, 1, above=True)
WIDTHS = several(whole(1, 4096), least=1, most=8)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple)


# --- The table -----------------------------------------------------------------------------------

_DATA = {
    "source": TEXT,
    "root": TEXT,
    "tfds": TEXT,
    "skeleton": TEXT,
    "boxes": TEXT,
    "person": TEXT,
    "same_subject": TEXT,
    "extra": whole(0, 1_000_000),
    "refine": whole(0, 100),
    "fit": FLAG,
    "zoom": number(0.1, 10, 0),
    "validation": number(0, 0.9),
    "oversample": number(0.5, 16, 0),
    "context": number(1, 16),
    "frames": TEXT,
    "every": whole(1, 1_000_000),
    "workers": whole(0, 1024),
    # Labelled projects only.
    **dict.fromkeys(
        (
            *("subject", "exclude", "individuals", "scorer", "view", "category", "flip_pairs"),
            *("media", "test_subjects", "val_subjects", "labels", "own_videos"),
        ),
        TEXT,
    ),
    "training_subjects": NAMES,
    "hidden": FLAG,
    "predictions": FLAG,
    "margin": number(0, 10),
    "test_share": number(0, 0.9),
    "val_share": number(0, 0.9),
    "folds": whole(2, 1000, 0),
    "fold": whole(0, 999),
    "unlabelled": whole(0, 1_000_000),
    "labelled_share": number(0, 1, above=True),
    # Rendered people only.
    "grade": TEXT,
    "seed": SEED,
    "preset": TEXT,
    "image_size": whole(16, 1024),
    "train": whole(0, 1_000_000),
    "val": whole(0, 1_000_000),
    "test": whole(0, 1_000_000),
    "train_frames": whole(1, 100_000),
    "eval_frames": whole(1, 100_000),
}
# Section -> field -> rule; "" has the fields outside of sections.
TABLE: dict[str, dict[str, Rule]] = {
    "": {"name": TEXT, "seed": SEED, "base": TEXT},
    "skeleton": {},  # `skeletons.from_json` checks it
    "data": _DATA,
    "model": {
        "method": one_of(*METHODS),
        "init": TEXT,
        "image_size": whole(16, 512),
        "color_order": one_of("rgb", "bgr"),
        "encoder": one_of(*encoders.ENCODERS),
        "half_pixel": FLAG,
        "flip_average": FLAG,
        "depth": one_of(*STAGES),
        "width": whole(1, 512),
        "feature_dim": whole(1, 2048),
        "upsamplings": whole(0, 5),
        "last_stride": one_of(1, 2),
        "num_maps": whole(1, 512),
        "sigma": number(0.1, 32),
        "logit_scale": number(0, 1000, above=True),
        "heads": whole(1, 64),
        "ffn_dim": whole(1, 16_384),
        "decoder_layers": whole(1, 16),
        "dropout": number(0, 0.99),
        "appearance_widths": WIDTHS,
        "keypoint_widths": WIDTHS,
        "code_kernel": ODD,
        "decode": one_of(*DECODERS),
    },
    "loss": {
        "features": TEXT,
        "levels": whole(0, MAX_LEVELS),
        "supervised": one_of("mse", "cross_entropy"),
        "temperature": number(0, 1000, above=True),
        "equivariance": number(0, 1000),
        "source_masking": number(0, 0.99),
    },
    "train": {
        "batch_size": whole(1, 65_536),
        "stages": several(
            row(whole(1, 1_000_000_000), RATE, number(0, 1000), one_of(*DECAYS)), most=100
        ),
        "precision": one_of("float32", "bfloat16"),
        "accumulate": whole(1, 65_536),
        "remat": FLAG,
        "frames_per_epoch": whole(0, 1_000_000_000),
        "rotation": number(0, 180),
        "rotation_prob": SHARE,
        "scale": number(0, 0.95),
        "flip_prob": SHARE,
        "photometric": number(0, 10),
        "weight_decay": number(0, 10),
        "best": FLAG,
        "patience": whole(0, 1_000_000),
        "log_every": whole(1, 1_000_000_000),
        "checkpoint_every": whole(1, 1_000_000_000),
        "keep": whole(1, 10_000),
    },
    "ttp": {
        "method": one_of(*methods.METHODS),
        "bn_weight": SHARE,
        "confidence": SHARE,
        "teacher_decay": SHARE,
        "self_weight": number(0, 1e6),
        "iterations": whole(1, 10_000),
        "batch_size": whole(1, 65_536),
        "learning_rate": RATE,
        "rules": one_of(*RULES),
        "reset": RESET,
        "together": whole(0, 1024),
        "memory": whole(2, 1_000_000),
        "held_out": whole(2, 1_000_000, 0),
        "save_minutes": number(0, 100_000),
        "normalisers": one_of("reset", "carried"),
        "rotation": number(0, 180),
        "online_rotation_prob": SHARE,
        "offline_rotation_prob": SHARE,
        "scale": number(0, 0.95),
        "flip_prob": SHARE,
    },
    "reproduce": {
        "methods": several(one_of(*METHODS), least=1),
        "seeds": several(SEED, least=1),
        "rotation_lambda": number(0, 1000),
        "lengths": several(whole(2, 1_000_000)),
        "extra": several(whole(0, 1_000_000)),
        "rates": several(RATE),
        "iterations": several(whole(1, 10_000)),
        "split": one_of("test", "val"),
        "grades": several(row(TEXT, TEXT)),
        "given": several(row(TEXT, TEXT)),
    },
    "transfer": {**_DATA, "people": several(TEXT), "about": TEXT},
    "eval": {
        "pixels": number(0, 1000),
        "scale_joints": TEXT,
        "thresholds": several(number(0, 100, above=True), least=1),
        "opening": TEXT,
        "distances": FLAG,
        "probe_frames": whole(1, 1_000_000_000),
        "pictures": whole(0, 10_000),
    },
}

STRICT = ("model", "loss", "train", "ttp")


def check(fields_by_section: Mapping[str, Any], where: str = "--config") -> None:
    """Check settings: a config's `to_dict()`, or some of its parts.

    Fields that are not in the table belong to an experiment and are ignored, except in the sections
    `STRICT`, from which the network and its updates are built.

    Args:
      fields_by_section: {"ttp": {"memory": 4096, ...}, "seed": 0, ...}.
      where: prefix in messages: "--config" gives "--config.ttp.memory is 1, expected ...".

    Raises ValueError naming the field, its value and the allowed values.
    """
    for name, value in fields_by_section.items():
        if name not in TABLE:
            _check_field(where, name, value, TABLE[""].get(name))
            continue
        if not hasattr(value, "items"):  # ml_collections' config isn't a Mapping
            raise ValueError(f"{where}.{name} is {_shown(value)}, expected its fields.")
        if name in STRICT and (unknown := [field for field in value if field not in TABLE[name]]):
            raise ValueError(
                f"{where}.{name} has no field {unknown[0]}: correct it, or install the newer "
                "version that wrote it."
            )
        for field, own in value.items():
            _check_field(f"{where}.{name}", field, own, TABLE[name].get(field))
        if name == "model":
            _check_network(value, f"{where}.{name}")


def check_argument(name: str, value: Any, rule: Rule) -> None:
    """Check an argument; raise ValueError naming it, its value and the allowed values."""
    if not rule.fits(value):
        raise ValueError(f"{name} is {_shown(value)}, expected {rule.words}.")


def check_settings(settings: Settings) -> None:
    """Check the settings of a personalization, which a program may have made itself.

    Raises ValueError naming the field, its value and the allowed values.
    """
    table, moves = TABLE["ttp"], settings.ranges
    rules = {name: table[name] for name in settings._fields if name in table}
    rules |= {name: TABLE["loss"][name] for name in OF_THE_LOSS}
    rules["image_size"] = TABLE["model"]["image_size"]
    rules |= {"scenario": one_of("online", "offline"), "reset_every": whole(2, 10**8, 0)}
    for name, rule in rules.items():
        check_argument(name, getattr(settings, name), rule)
    named = {"rotation_prob": SHARE, **{n: table[n] for n in ("rotation", "scale", "flip_prob")}}
    for name, rule in named.items():
        check_argument(name, getattr(moves, name), rule)


def _check_field(place: str, name: str, value: Any, rule: Rule | None) -> None:
    if rule is not None and not rule.fits(value):
        raise ValueError(f"{place}.{name} is {_shown(value)}, expected {rule.words}.")


def _check_network(fields: Mapping[str, Any], place: str) -> None:
    """Refuse fields of a network that are allowed one by one, but don't fit together."""
    size, widths = fields.get("image_size"), fields.get("appearance_widths")
    stride, doublings = fields.get("last_stride"), fields.get("upsamplings")
    heads, channels = fields.get("heads"), fields.get("feature_dim")
    if fields.get("encoder", "resnet") != "resnet":
        stride = doublings = None  # sizes are fixed; the encoder checks the image size itself
    if size and stride and size % (16 * stride):
        multiple = f"a multiple of {16 * stride} (16 times last_stride)"
        raise ValueError(f"{place}.image_size is {size}, expected {multiple}.")
    if stride and doublings and 2**doublings > 16 * stride:
        raise ValueError(
            f"{place}.upsamplings is {doublings}, which makes heatmaps larger than the picture: "
            f"expected at most {(16 * stride).bit_length() - 1}."
        )
    if size and widths and size % 2 ** (len(widths) - 1):
        raise ValueError(
            f"{place}.appearance_widths has {len(widths)} values: an image_size of {size} can't be "
            "halved after each but the first."
        )
    if heads and channels and channels % heads:
        raise ValueError(
            f"{place}.heads is {heads}, expected a divisor of feature_dim, which is {channels}."
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
