"""The settings in a model file, or in a kept model, are checked before the network is built."""

import resource

import jax
import numpy as np
import pytest
import small_net
import small_run

import ttp_jax
from ttp_jax import checkpoint, people, state, ttp
from ttp_jax.runs import experiment


@pytest.fixture(scope="module")
def parts():
    """The base and the config of a small model."""
    config = small_run.get_config()
    drawn = small_net.variables(experiment.build(config).net, size=config.model.image_size)
    base = state.Base(drawn["params"], drawn["batch_stats"], np.ones(1, np.float32))
    whole = config.to_dict()
    kept = {part: whole[part] for part in ("model", "loss", "ttp")}
    kept |= {"data": {"skeleton": "penn13"}, "train": {"precision": "float32"}}
    return jax.device_get(base), kept


def written(path, base, config, about=None):
    about = {"step": 3} if about is None else about
    checkpoint.write_model(path, checkpoint.ModelFile(base, config, about))
    return path


def changed(config, name, value):
    """The config with another value in "section.field", or without it (KeyError)."""
    section, _, field = name.partition(".")
    if not field:
        return {**config, section: value}
    own = {k: v for k, v in config[section].items() if k != field}
    return {**config, section: own if value is KeyError else {**own, field: value}}


def test_a_model_comes_back_as_it_was_written(tmp_path, parts):
    base, config = parts
    found = checkpoint.read_model(written(tmp_path / "m.npz", base, config))
    assert found.about == {"step": 3} and found.config["model"]["depth"] == 10
    pairs = zip(jax.tree.leaves(base), jax.tree.leaves(found.base), strict=True)
    for one, other in pairs:
        assert other.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-7)  # half precision


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model.image_size", 4096, "config.model.image_size is 4096, expected a whole number"),
        ("model.image_size", 1_000_000, "config.model.image_size is 1000000"),
        ("model.image_size", 40, "config.model.image_size is 40, expected a multiple of 16"),
        ("model.depth", 34, "config.model.depth is 34, expected one of 10, 18, 50"),
        ("model.heads", 0, "config.model.heads is 0"),
        ("model.heads", 3, "config.model.heads is 3, expected a divisor of feature_dim"),
        ("model.logit_scale", float("nan"), "config.model.logit_scale is nan"),
        ("model.sigma", -1.0, "config.model.sigma is -1.0"),
        ("model.num_maps", 10**9, "config.model.num_maps"),
        ("model.appearance_widths", [10**9], "config.model.appearance_widths"),
        ("model.width", 8, r"encoder/.* is \(.*\), the network's is"),
        ("model.method", "shared", "params/supervised_head/.* is missing"),
        ("model.method", KeyError, "config.model has no method"),
        ("model.colour", "red", "config.model has no field colour"),
        ("model", True, "config.model is True"),
        ("ttp", True, "config.ttp is True"),
        ("ttp.memory", 1, "config.ttp.memory is 1"),
        ("ttp.learning_rate", float("inf"), "config.ttp.learning_rate is inf"),
        ("ttp.reset", KeyError, "config.ttp has no reset"),
        ("loss.levels", 2, r"normalisers is \(1,\), the network's is \(3,\)"),
        ("train.precision", "float8", "config.train.precision is 'float8'"),
        ("data.skeleton", ["penn13"], r"config.data.skeleton is \['penn13'\]"),
        ("data.skeleton", "centaur", "is 'centaur', expected one of"),
    ],
)
def test_what_a_file_claims_is_checked_by_name(tmp_path, parts, name, value, words):
    base, config = parts
    path = written(tmp_path / "m.npz", base, changed(config, name, value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"m\.npz.*{words}"):
        ttp_jax.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


@pytest.mark.parametrize("about", [None, [1], "x", {"step": "three"}, {"step": True}])
def test_about_must_be_an_object(tmp_path, parts, about):
    path = tmp_path / "m.npz"
    model = checkpoint.ModelFile(*parts, about)  # pyright: ignore[reportArgumentType]
    checkpoint.write_model(path, model)
    with pytest.raises(ValueError, match=r"m\.npz is damaged \(about.*get the file again"):
        ttp_jax.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, parts, value):
    base, config = parts
    leaves, structure = jax.tree.flatten(base)
    for place in (0, len(leaves) // 2, len(leaves) - 1):
        own = [*leaves]
        own[place] = np.full_like(own[place], value)
        path = written(tmp_path / "m.npz", structure.unflatten(own), config)
        with pytest.raises(ValueError, match=r"m\.npz is damaged \(.* holds NaN or infinity\)"):
            ttp_jax.load(path)
    stats = jax.tree.map(lambda leaf: -1 - np.abs(leaf), base.batch_stats)
    path = written(tmp_path / "m.npz", base.replace(batch_stats=stats), config)
    with pytest.raises(ValueError, match="holds negative variances"):
        ttp_jax.load(path)


def test_a_kept_model_must_fit_its_base_in_shape_and_be_finite(tmp_path, parts):
    base, _ = parts
    path, origin = tmp_path / "anna.npz", checkpoint.fingerprint(base)
    delta = state.split(base.params, state.RULES["reference"])[0]
    name = next(iter(delta))
    people.write(path, delta, "full", {"base": origin})
    assert people.read(path, origin, base).delta.keys() == delta.keys()
    for wrong, words in (
        ({**delta, "encoder/none/kernel": np.ones(3, np.float32)}, "no encoder/none/kernel"),
        ({**delta, name: np.ones((1, 2), np.float32)}, rf"{name} is \(1, 2\), the network's is"),
        ({**delta, name: np.full_like(delta[name], np.nan)}, f"{name} holds NaN or infinity"),
    ):
        people.write(path, wrong, "full", {"base": origin})
        with pytest.raises(ValueError, match=rf"anna\.npz is damaged \(.*{words}.*again"):
            people.read(path, origin, base)


@pytest.mark.parametrize("method", ["ttp", "bn", "entropy", "teacher", "teacher+ttp"])
def test_the_kept_model_of_every_method_can_be_used(tmp_path, parts, method):
    base, _ = parts
    made = experiment.build(small_run.get_config()).changed({"ttp.method": method})
    tools = ttp.tools(made.net, made.settings("online"))
    zeros = tools.method.start(base, tools).delta
    delta = {name: 0.01 + np.asarray(value) for name, value in zeros.items()}
    path, origin = tmp_path / "anna.npz", checkpoint.fingerprint(base)
    people.write(path, delta, "full", {"base": origin})
    found = people.read(path, origin, base).delta
    assert found.keys() == delta.keys() != set()
    for name, value in state.by_path(state.adapted_base(base, found)).items():
        wanted = state.by_path(base)[name] + delta.get(name, 0)
        np.testing.assert_array_equal(value, wanted, err_msg=name)


def test_factors_that_would_multiply_to_terabytes_are_refused(tmp_path):
    many = 2**20
    factors = {
        "a/kernel|left": np.ones((many, 1), np.float16),
        "a/kernel|right": np.ones((1, many), np.float16),
        "a/kernel|shape": np.array([many, many]),
        "about": np.array('{"base": "abc", "form": "rank1"}'),
    }
    np.savez(tmp_path / "anna.npz", **factors)
    with pytest.raises(ValueError, match=r"anna\.npz is damaged \(it claims to hold"):
        people.read(tmp_path / "anna.npz")


def test_a_damaged_kept_model_is_moved_aside_not_overwritten(tmp_path):
    path, about = tmp_path / "anna.npz", {"base": "abc"}
    path.write_bytes(b"half of a model")
    aside = people.make_room(path, about)
    assert aside is not None and aside.read_bytes() == b"half of a model" and not path.exists()
