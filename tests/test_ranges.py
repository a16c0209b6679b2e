"""Every setting has a range; values outside are refused with their name, value and range."""

import importlib
import math
import pathlib

import pytest

from configs import common, tiny
from ttp_jax import augment, ranges, ttp
from ttp_jax.runs import experiment, outputs
from ttp_jax.verbs import reproduce

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = [p.stem for p in sorted((ROOT / "configs").glob("*.py")) if p.stem != "__init__"]


def fields(config):
    """(section, field, value) of a config."""
    for name, value in config.to_dict().items():
        if not isinstance(value, dict):
            yield "", name, value
        else:
            yield from ((name, field, own) for field, own in value.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_of_every_config_has_a_rule_and_follows_it(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    for section, field, value in fields(config):
        rule = ranges.TABLE[section].get(field)
        assert rule is not None, f"configs/{name}.py: no rule for {section}.{field} in ranges.TABLE"
        assert rule.fits(value), f"{section}.{field} is {value}, expected {rule.words}"
    ranges.check(config.to_dict())
    ranges.check(config)  # ml_collections' own, too


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [pytest.param(*each, id=".".join(each[:2])) for each in fields(common.get_config())],
)
def test_a_rule_refuses_what_is_of_another_type_or_no_number(section, field, value):
    rule = ranges.TABLE[section][field]
    wrong = [math.nan, math.inf, -math.inf, None, {}, [math.nan], object(), 10**400]
    wrong += [] if rule is ranges.NAMES else [("x", "y")]
    if isinstance(value, str):
        wrong += ["a\0b"] if rule is ranges.TEXT else ["x y z", 1.5, -3]
    elif isinstance(value, bool):
        wrong += [0, 1, "True"]
    elif isinstance(value, int | float):
        wrong += [True, str(value), -1, [value]]
    else:
        wrong += ["shared", 3, (math.nan,), (-1,), (None,)]
    for each in wrong:
        assert not rule.fits(each), each
        place = {section: {field: each}} if section else {field: each}
        with pytest.raises(ValueError) as error:
            ranges.check(place)
        where = f"--config.{section}.{field}" if section else f"--config.{field}"
        assert str(error.value).startswith(f"{where} is ") and rule.words in str(error.value)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("ttp", "held_out", 1),
        ("ttp", "batch_size", 0),
        ("ttp", "memory", 1),
        ("ttp", "iterations", 0),
        ("ttp", "iterations", -1),
        ("ttp", "learning_rate", 0.0),
        ("ttp", "learning_rate", -1e-4),
        ("ttp", "reset", "0"),
        ("ttp", "reset", 1),
        ("data", "refine", -1),
        ("data", "context", 0.0),
        ("data", "every", 0),
        ("model", "image_size", 4096),
        ("model", "image_size", 1_000_000),
        ("model", "depth", 34),
        ("model", "heads", 0),
        ("model", "logit_scale", math.nan),
        ("train", "stages", ((0, 1e-3, 0.0, "constant"),)),
        ("train", "stages", ((5, math.nan, 0.0, "constant"),)),
        ("train", "stages", ((5, 1e-3, -1.0, "constant"),)),
        ("train", "stages", ((5, 1e-3, 0.0, "linear"),)),
        ("loss", "levels", 6),
    ],
)
def test_settings_that_can_t_work_are_refused_by_name(section, field, value):
    with pytest.raises(ValueError, match=rf"^settings\.{section}\.{field} is .*, expected "):
        ranges.check({section: {field: value}}, where="settings")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"heads": 3, "feature_dim": 64}, "heads is 3, expected a divisor of feature_dim"),
        ({"image_size": 72, "last_stride": 1}, "image_size is 72, expected a multiple of 16"),
        ({"upsamplings": 5, "last_stride": 1}, "upsamplings is 5.*expected at most 4"),
        ({"image_size": 32, "appearance_widths": (4,) * 7}, "appearance_widths has 7 values"),
    ],
)
def test_fields_of_a_network_must_go_together(fields, words):
    with pytest.raises(ValueError, match=words):
        ranges.check({"model": fields})


def test_a_section_must_be_one_and_unknown_fields_are_an_experiment_s_own():
    for value in (True, [], None, "x"):
        with pytest.raises(ValueError, match="--config.ttp is .*, expected its fields"):
            ranges.check({"ttp": value})
    ranges.check({"data": {"mine": object()}, "mine": 3, "my_part": {"x": 1}})
    with pytest.raises(ValueError, match="ttp has no field memroy"):
        ranges.check({"ttp": {"memroy": 3}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iterations": 0}, "iterations is 0, expected a whole number"),
        ({"batch_size": 0}, "batch_size is 0, expected a whole number"),
        ({"learning_rate": math.nan}, "learning_rate is nan, expected a number above 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected a number above 0"),
        ({"reset_every": 1}, "reset_every is 1, expected 0 or a whole number 2"),
        ({"scenario": "both"}, "scenario is 'both', expected one of online, offline"),
        ({"rules": "all"}, "rules is 'all', expected one of"),
        ({"teacher_decay": 1.5}, "teacher_decay is 1.5, expected a number 0 to 1"),
        ({"ranges": augment.Ranges(rotation=math.nan)}, "rotation is nan, expected a number 0"),
        ({"ranges": augment.Ranges(flip_prob=2)}, "flip_prob is 2, expected a number 0 to 1"),
    ],
)
def test_settings_made_in_python_pass_the_same_table(changes, words):
    net = experiment.build(tiny.get_config()).net
    with pytest.raises(ValueError, match=words):
        ttp.tools(net, ttp.Settings(**changes))
    ttp.tools(net, ttp.Settings())


def test_numbers_of_flags_have_ranges_too(tmp_path):
    made = experiment.build(tiny.get_config())
    for value in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="--pcutoff is .*, expected a number 0 to 1"):
            options = outputs.OutputOptions(pcutoff=value)
            outputs.Outputs(made, "online", tmp_path, options)
    for value in (math.nan, -1.0, math.inf):
        with pytest.raises(ValueError, match="--minutes is .*, expected a number 0 to"):
            reproduce.run(
                made, tmp_path, reproduce.Options(what="all", records=None, minutes=value)
            )


def test_an_experiment_built_in_python_passes_it_too():
    config = tiny.get_config()
    config.ttp.held_out = 1
    with pytest.raises(ValueError, match=r"config\.ttp\.held_out is 1, expected"):
        experiment.build(config)
