"""Rendered people in the data sets' layouts: the readers return what was rendered."""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

from data_pipelines import bbc_pose, h36m, layouts, penn, synthetic
from data_pipelines.clips import DataError
from ttp_jax import joint_maps
from ttp_jax.skeletons import BBC7, H36M16, PENN13

ROOT = pathlib.Path(__file__).parents[1]
SPEC = synthetic.Spec(
    seed=3, image_size=64, train=5, val=0, test=2, train_frames=3, eval_frames=2, preset="plain"
)
READERS = {"penn": penn.clips, "h36m": h36m.clips, "bbc_pose": bbc_pose.clips}
SKELETONS = {"penn": PENN13, "h36m": H36M16, "bbc_pose": BBC7}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same people in every layout."""
    roots = {name: tmp_path_factory.mktemp("layouts") / f"{name} é" for name in layouts.WRITERS}
    for name, write in layouts.WRITERS.items():
        write(roots[name], SPEC)
    return roots


@pytest.fixture(scope="module")
def read(folders):
    """Clips of every layout; a warning (of unpublished boxes, say) is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {name: READERS[name](root) for name, root in folders.items()}


@pytest.mark.parametrize(
    ("name", "train", "test"), [("penn", 5, 2), ("h36m", 5, 2), ("bbc_pose", 10, 10)]
)
def test_each_layout_has_its_people(read, name, train, test):
    splits = [clip.split for clip in read[name]]
    assert splits == train * ["train"] + test * ["test"]
    assert [clip.num_frames for clip in read[name]] == train * [3] + test * [2]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_and_joints_come_back(read, name, split):
    clip = next(clip for clip in read[name] if clip.split == split)
    film = synthetic.film(SPEC, split, 0, PENN13.joints)
    for index in range(clip.num_frames):
        picture = clip.read(index).astype(int)
        away = [np.abs(picture - rendered).mean() for rendered in film.frames]
        # The codecs lose some of the grain, the video's most; another frame is far off.
        assert away[index] < 8
        assert away[index] < 0.7 * min(np.delete(away, index))
    expected = joint_maps.map_joints(film.points, PENN13, SKELETONS[name])
    labelled = np.isfinite(expected).all(-1)
    if name == "h36m":
        # Its pelvis is the root, which lies in the middle of the hips in space, not in the picture.
        labelled[:, H36M16.joints.index("pelvis")] = False
    np.testing.assert_allclose(clip.joints[labelled], expected[labelled], atol=2e-3)
    if name == "penn":
        np.testing.assert_array_equal(clip.visible, film.visible)


def test_h36m_boxes_are_two_metres_around_the_pelvis(read):
    for clip, split, index in ((read["h36m"][1], "train", 1), (read["h36m"][-1], "test", 1)):
        film = synthetic.film(SPEC, split, index, ("root",))
        sides = clip.boxes[:, 2:] - clip.boxes[:, :2]
        # The camera's pixels are 0.1 % wider than high.
        np.testing.assert_allclose(sides, np.stack([2 * film.scale] * 2, -1), rtol=2e-3)
        middle = 0.5 * (clip.boxes[:, :2] + clip.boxes[:, 2:])
        np.testing.assert_allclose(middle, film.points[:, 0], atol=1e-2)


def test_joints_of_one_person_agree_across_data_sets(read):
    """What a transfer between data sets relies on (paper, Table 6)."""
    for place in (0, -1):  # the first training person, and in two layouts the last test person
        names = ("penn", "h36m") if place else tuple(READERS)
        for source in names:
            for target in names:
                a, b = SKELETONS[source], SKELETONS[target]
                mapped = joint_maps.map_joints(read[source][place].joints, a, b)
                known = np.isfinite(mapped).all(-1)
                away = np.linalg.norm(mapped - read[target][place].joints, axis=-1)[known]
                assert known[0].sum() >= 7 and away.max() < 2  # 2 of 64 px: projected middles
                assert np.median(away) < 1e-2


def test_joint_map_names_what_is_missing():
    def missing(source, target):
        places = joint_maps.joint_map(source, target)
        return {name for name, at in zip(target.joints, places, strict=True) if not at}

    legs = {f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")}
    assert missing(H36M16, PENN13) == missing(H36M16, BBC7) == missing(PENN13, BBC7) == set()
    assert missing(PENN13, H36M16) == {"neck"}
    assert missing(BBC7, PENN13) == legs
    assert missing(BBC7, H36M16) == legs | {"neck", "pelvis"}
    joints = np.arange(26.0).reshape(13, 2)
    mapped = joint_maps.map_joints(joints, PENN13, H36M16)
    np.testing.assert_array_equal(mapped[H36M16.joints.index("pelvis")], joints[[7, 8]].mean(0))
    assert np.isnan(mapped[H36M16.joints.index("neck")]).all()
    np.testing.assert_array_equal(mapped[H36M16.joints.index("right_wrist")], joints[6])


def test_a_folder_in_use_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="already holds something"):
        layouts.write_penn(tmp_path, SPEC)
    with pytest.raises(SystemExit) as stop:
        layouts.main(["penn", str(tmp_path)])
    assert stop.value.code == 1 and "name a new folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_the_command_writes_a_folder(tmp_path, capsys):
    words = f"penn {tmp_path / 'new'} --train 1 --test 1 --frames 2 --size 32 --preset shifted"
    layouts.main(words.split())
    clips = penn.clips(tmp_path / "new")
    assert [clip.split for clip in clips] == ["train", "test"]
    assert clips[0].read(0).shape == (32, 32, 3)
    assert f"wrote {tmp_path / 'new'}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_papers_configs_run_from_disk_to_table(name, tmp_path):
    """The config of each data set by its commands: two updates, both scenarios, scores.

    In processes of their own, which give their memory back. A narrow network, small batches and
    crops: as the files say, a config takes 13 GB and ten minutes, and nothing else comes of it.
    """
    spec = dataclasses.replace(SPEC, image_size=160, train=4, test=1)
    layouts.WRITERS[name](tmp_path / "data", spec)
    stage = importlib.import_module(f"configs.{name}").get_config().train.stages[0]
    common = [
        f"--config=configs/{name}.py",
        f"--workdir={tmp_path / 'work'}",
        f"--config.data.root={tmp_path / 'data'}",
        "--config.model.init=random",
        f"--config.train.stages={((2, *stage[1:]),)!r}",
        "--config.model.image_size=64",
        "--config.model.width=16",
        "--config.model.feature_dim=64",
        "--config.train.batch_size=4",
        "--config.ttp.batch_size=4",
        "--config.eval.probe_frames=16",
    ]
    verbs = ["train"], *(["personalize", f"--scenario={s}"] for s in ("online", "offline"))
    for verb in (*verbs, ["evaluate"]):
        command = [sys.executable, "main.py", *verb, *common]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800)
        assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "work" / "evaluation.json").read_text())["rows"]
    assert {"mean training pose", "without TTP", "TTP online", "TTP offline"} <= set(rows)
