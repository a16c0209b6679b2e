"""The examples in docs/extending.md run and do what the page says."""

import json
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_net
from PIL import Image

from data_pipelines import labels
from data_pipelines.clips import DataError
from data_pipelines.projects.records import Options
from ttp_jax import exports, methods, ranges, state, tasks, ttp
from ttp_jax.models import encoders, pose
from ttp_jax.models.layers import Conv
from ttp_jax.skeletons import PENN13

pytestmark = pytest.mark.usefixtures("shallow")

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
MOST_LINES = 30


@pytest.fixture(autouse=True)
def entries_are_taken_back():
    """Tables that the examples fill are as before, after each test."""
    tables = (tasks.TASKS, pose.METHODS, methods.METHODS, exports.FORMATS, labels.READERS)
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def example(name):
    """The names that an example defines, by the file that its first line names."""
    (code,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", PAGE, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    namespace = {}
    exec(compile(code, name, "exec"), namespace)
    return namespace


def test_a_data_set(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "frames": rng.integers(0, 256, (3, 48, 64, 3), np.uint8),
        "joints": rng.uniform(20, 40, (3, 13, 2)).astype(np.float32),
        "visible": np.ones((3, 13), bool),
    }
    arrays["joints"][0, 5], arrays["visible"][0, 5] = 0, False  # a joint without a label
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.savez(tmp_path / split / f"{split}_anna.npz", **arrays)
    clips = example("data_pipelines/arrays.py")["clips"]
    (clip,) = clips(tmp_path, "test")
    assert (clip.name, clip.split, clip.num_frames) == ("test_anna", "test", 3)
    np.testing.assert_array_equal(clip.read(1), arrays["frames"][1])
    np.testing.assert_allclose(clip.boxes[1:, :2], arrays["joints"][1:].min(1) - 20)
    assert clip.boxes[0].min() > -1  # the joint without a label is left out
    assert {clip.split for clip in clips(tmp_path)} == {"train", "test"}
    with pytest.raises(DataError, match=r"holds no subject of the split val.*config\.data\.root"):
        clips(tmp_path, "val")
    config = example("configs/arrays.py")["get_config"]()
    assert config.data.source == config.name == "arrays"
    # The entry has the form of those that are there.
    entry = re.search(r'"arrays": (lambda: )arrays(\.clips\(.*?\),)', PAGE)
    assert entry is not None
    source = (ROOT / "ttp_jax" / "runs" / "sources.py").read_text()
    assert f'"penn": {entry[1]}penn{entry[2]}' in source


def update(net, settings, drawn):
    """A subject's state before and after one update."""
    base = small_net.base(net)
    tools = ttp.tools(net, settings)
    before = tools.method.start(base, tools)
    step = jax.jit(lambda now, drawn: tools.method.update(now, base, None, drawn, tools))
    return before, step(before, drawn)


def crops(seed=0):
    return pose.normalize(jnp.asarray(small_net.pictures(2, seed)))


def test_a_self_supervised_task():
    own = example("ttp_jax/tasks.py")["Brightness"]
    assert isinstance(tasks.of("brightness"), own)
    settings = ttp.Settings(image_size=small_net.SIZE, batch_size=2)
    ttp.check_method("brightness", settings)
    before, after = update(small_net.model(method="brightness"), settings, (crops(), crops(1)))
    assert int(after.step) == 1 and float(after.loss) > 0
    assert float(jnp.abs(after.delta["encoder/conv1/kernel"]).max()) > 0
    assert not any(path.startswith("supervised_head/") for path in before.delta)


def test_an_adaptation_method(monkeypatch):
    methods.METHODS["confident"] = example("ttp_jax/methods/confident.py")["Confident"]()
    # The table was made when `ranges` was imported.
    monkeypatch.setitem(ranges.TABLE["ttp"], "method", ranges.one_of(*methods.METHODS))
    settings = ttp.Settings(image_size=small_net.SIZE, batch_size=2, method="confident")
    ttp.check_method("baseline", settings)
    net = small_net.model(method="baseline")
    before, after = update(net, settings, crops())
    assert set(before.delta) == {"supervised_head/kernel", "supervised_head/bias"}
    base = small_net.base(net)
    see = jax.jit(net.apply)
    peaks = [
        float(see(state.adapted(base, now.delta), crops()).heatmaps.max((1, 2)).mean())
        for now in (before, after)
    ]
    assert peaks[1] > peaks[0]


def test_a_label_format(tmp_path):
    for number in range(3):
        Image.new("RGB", (64, 48)).save(tmp_path / f"img{number:03}.png")
    file = tmp_path / "anna.lines"
    file.write_text(
        "img000.png left_knee 10 20\nimg000.png right_knee 30.5 21\nimg002.png left_knee 11 22\n\n"
    )
    own = example("data_pipelines/projects/lines.py")
    project = own["read"](file, Options())
    assert project.skeleton.joints == ("left_knee", "right_knee")
    assert project.subjects == {"anna": 2}
    (clip,) = project.clips
    assert clip.visible is not None and clip.visible.tolist() == [[True, True], [True, False]]
    labels.READERS[".lines"] = own["sheet"]
    found = labels.read(file, PENN13, "anna", (48, 64), count=3)
    assert found.frames.tolist() == [0, 2]
    np.testing.assert_allclose(found.joints[0, PENN13.joints.index("right_knee")], [30.5, 21])
    file.write_text("img000.png left_knee 10\n")
    with pytest.raises(DataError, match=r"line 1: expected picture, joint, x and y"):
        own["sheet"](file)


def test_an_encoder(monkeypatch):
    own = example("ttp_jax/models/encoders/strided.py")["Strided"]
    build = encoders.build

    def with_it(kind, dtype, **sizes):  # what the page's case does
        return own(dtype) if kind == "strided" else build(kind, dtype, **sizes)

    monkeypatch.setattr(encoders, "build", with_it)
    net = small_net.model(method="baseline", encoder_kind="strided")
    monkeypatch.setattr(encoders, "total_stride", lambda kind, last_stride: 4)
    assert pose.heatmap_size(net, small_net.SIZE) == small_net.SIZE // 4
    variables = small_net.variables(net)
    assert set(variables["params"]["encoder"]) == {"conv0", "conv1"}
    maps = jax.jit(net.apply)(variables, crops()).heatmaps
    assert maps.shape == (2, small_net.SIZE // 4, small_net.SIZE // 4, 4)


def test_maps_that_do_not_divide_the_picture_are_an_error(monkeypatch):
    """As of an even kernel, which `Conv` pads on both sides."""

    class Even(nn.Module):
        features = 8

        @nn.compact
        def __call__(self, x, train: bool):
            return Conv(8, 4, stride=4)(x)

    monkeypatch.setattr(encoders, "build", lambda *_, **__: Even())
    monkeypatch.setattr(encoders, "total_stride", lambda *_: 4)
    net = small_net.model(method="baseline", encoder_kind="even")
    message = r"'even' makes maps of 17 x 17 cells of crops of 64 pixels.*change the strides"
    with pytest.raises(ValueError, match=message):
        pose.heatmap_size(net, small_net.SIZE)


def test_an_output_format(tmp_path):
    exports.FORMATS["jsonl"] = example("ttp_jax/jsonl.py")["write"]
    joints = np.arange(2 * 13 * 2, dtype=np.float32).reshape(2, 13, 2)
    joints[1, 0] = np.nan
    track = exports.Track("anna", joints, np.full((2, 13), 0.5), PENN13, first_frame=7)
    (path,) = exports.write(track, tmp_path, ["jsonl"])
    assert path == tmp_path / "anna.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["frame"] == 7 and first["joints"]["head"] == [0.0, 1.0, 0.5]
    assert "head" not in second["joints"] and len(second["joints"]) == 12


def test_the_files_and_tests_that_the_page_names_exist():
    own = {"data_pipelines/arrays.py", "configs/arrays.py", "data_pipelines/projects/lines.py"}
    own |= {
        "ttp_jax/models/encoders/strided.py",
        "ttp_jax/jsonl.py",
        "ttp_jax/methods/confident.py",
    }
    named = set(re.findall(r"`?((?:ttp_jax|data_pipelines|configs|tests)/[\w/]+\.py)", PAGE))
    named = {name for name in named if "NAME" not in name} - own
    named |= {f"tests/{name}" for name in re.findall(r"`(test_\w+\.py)`", PAGE)}
    assert len(named) > 12
    assert not [name for name in named if not (ROOT / name).exists()]
