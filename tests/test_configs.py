"""The configs have the settings they promise: the paper's, and those for a user's videos."""

import importlib

import pytest

# Section 4.2 of the paper and the released program: depth, lambda, updates and the rate of each
# stage, offline rotation, joints.
PAPER = {
    "penn": (50, 1e-3, (246_000, 82_000, 55_000), 0.6, "penn13"),
    "h36m": (18, 1e-5, (90_000, 30_000, 20_000), 1.0, "h36m16"),
    "bbc_pose": (18, 1e-3, (18_000, 6_000, 4_000), 1.0, "bbc7"),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_settings(name):
    c = importlib.import_module(f"configs.{name}").get_config()
    depth, self_weight, steps, rotation, skeleton = PAPER[name]
    assert (c.model.depth, c.data.skeleton, c.model.image_size) == (depth, skeleton, 128)
    assert c.model.init.startswith("models/imagenet/resnet") and c.model.method == "transformer"
    assert [stage[1:] for stage in c.train.stages] == [
        (rate, self_weight, "constant") for rate in (1e-3, 1e-4, 1e-5)
    ]
    assert tuple(stage[0] for stage in c.train.stages) == steps
    assert (c.train.batch_size, c.ttp.batch_size, c.ttp.iterations) == (32, 32, 1)
    assert c.ttp.learning_rate == 1e-4 and c.ttp.rules == "reference" and c.ttp.held_out == 0
    assert (c.ttp.online_rotation_prob, c.ttp.offline_rotation_prob) == (1.0, rotation)
    assert c.eval.pixels == (6 if name == "bbc_pose" else 0)
    assert c.model.decode == "quarter" and c.model.num_maps == 30


def test_own_videos_are_found_and_partly_held_out():
    c = importlib.import_module("configs.own").get_config()
    assert (c.data.boxes, c.data.fit, c.ttp.held_out) == ("moving", False, 10)
    assert c.data.source == "media" and c.base == "shipped"


def test_a_project_is_named_by_its_folder(tmp_path, monkeypatch):
    project = importlib.import_module("configs.project")
    (tmp_path / "my mice").mkdir()
    monkeypatch.chdir(tmp_path / "my mice")
    for path in (".", "../my mice", "config.yaml", "labeled-data", str(tmp_path / "my mice/")):
        assert project.get_config(path).name == "my_mice"
    assert project.get_config("labels/flies.slp").name == "flies"
