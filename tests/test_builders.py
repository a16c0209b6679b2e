"""TensorFlow datasets of every source hold what the readers yield."""

import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_pipelines import bbc_pose, builders, h36m, layouts, penn, pipeline, synthetic
from data_pipelines.clips import DataError, FrameError
from ttp_jax.skeletons import BBC7, H36M16, PENN13

ROOT = pathlib.Path(__file__).parents[1]
SPEC = synthetic.Spec(
    seed=3, image_size=32, train=2, val=1, test=1, train_frames=3, eval_frames=2, preset="plain"
)
SOURCES = {
    "penn": (penn.clips, PENN13),
    "h36m": (h36m.clips, H36M16),
    "bbc_pose": (bbc_pose.clips, BBC7),
}


def build(source, data_dir, manual_dir=None, **kwargs):
    builder = builders.BUILDERS[source](data_dir=data_dir, **kwargs)
    config = builders.tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


def batches(clips, skeleton):
    stream = pipeline.train_pairs(
        [clip for clip in clips if clip.split == "train"],
        skeleton,
        pipeline.Crops(32, 8, 1.0),
        batch_size=4,
        seed=5,
        num_steps=3,
    )
    return list(stream.as_numpy_iterator())


def assert_same(ours, theirs, skeleton):
    assert [(c.name, c.subject, c.split) for c in ours] == [
        (c.name, c.subject, c.split) for c in theirs
    ]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.joints, b.joints)
        np.testing.assert_array_equal(a.visible, b.visible)
        for index in range(a.num_frames):
            np.testing.assert_array_equal(a.read(index), b.read(index))
    for first, second in zip(batches(ours, skeleton), batches(theirs, skeleton), strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize(
    "source", ["penn", *(pytest.param(s, marks=pytest.mark.slow) for s in ("h36m", "bbc_pose"))]
)
def test_batches_of_the_built_data_set_are_those_of_the_folder(source, tmp_path):
    layouts.WRITERS[source](tmp_path / "folder", SPEC)
    clips, skeleton = SOURCES[source]
    builder = build(source, tmp_path / "built", tmp_path / "folder")
    assert builder.info.features["joints"].shape == (skeleton.size, 2)
    built = builders.clips(source, tmp_path / "built")
    assert_same(built, clips(tmp_path / "folder"), skeleton)
    only = builders.clips(source, tmp_path / "built", "test")
    assert {clip.split for clip in only} == {"test"}


def test_pictures_keep_their_bytes(tmp_path):
    layouts.write_penn(tmp_path / "folder", SPEC)
    builder = build("penn", tmp_path / "built", tmp_path / "folder")
    raw = builder.as_data_source("train", decoders={"image": builders.tfds.decode.SkipDecoding()})
    file = tmp_path / "folder" / "frames" / "0001" / "000002.jpg"
    assert raw[1]["image"] == file.read_bytes()


@pytest.mark.slow
def test_rendered_people(tmp_path):
    config = builders.RenderedPeopleConfig(SPEC, name="small", version="1.0.0")
    build("synthetic", tmp_path / "built", config=config)
    ours = builders.clips("synthetic", tmp_path / "built", config=config)
    assert_same(ours, synthetic.clips(SPEC, tmp_path / "cache"), PENN13)
    assert {c.name for c in builders.RenderedPeople.BUILDER_CONFIGS} == set(synthetic.PRESETS)


def test_the_command_builds_it(tmp_path, capsys):
    layouts.write_penn(tmp_path / "folder", SPEC)
    places = [f"--manual_dir={tmp_path / 'folder'}", f"--data_dir={tmp_path / 'built'}"]
    command = [sys.executable, "-m", "data_pipelines.builders", "penn_action", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert "penn_action/1.0.0 train: 6 frames" in done.stdout, done.stderr
    assert [c.name for c in builders.clips("penn", tmp_path / "built")] == ["0001", "0002", "0003"]
    with pytest.raises(SystemExit, match="no folder .*frames"):
        builders.main(["penn_action", f"--manual_dir={tmp_path}", f"--data_dir={tmp_path / 'b'}"])
    with pytest.raises(SystemExit):
        builders.main(["coco", f"--data_dir={tmp_path / 'b'}"])
    assert "penn_action, bbc_pose, human36m, rendered_people" in capsys.readouterr().err


def test_the_command_of_tfds_builds_it(tmp_path):
    for package in ("apache_beam", "mlcroissant"):
        pytest.importorskip(package, reason=f"the command line of TFDS needs {package}")
    layouts.write_penn(tmp_path / "folder", SPEC)
    words = "-m tensorflow_datasets.scripts.cli.main build --imports=data_pipelines.builders"
    places = [f"--manual_dir={tmp_path / 'folder'}", f"--data_dir={tmp_path / 'built'}"]
    command = [sys.executable, *words.split(), "penn_action", *places]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    assert [c.name for c in builders.clips("penn", tmp_path / "built")] == ["0001", "0002", "0003"]


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="data_pipelines.builders penn_action --manual_dir"):
        builders.clips("penn", tmp_path)
    with pytest.raises(DataError, match="rendered_people/shifted"):
        builders.clips("synthetic", tmp_path, config="shifted")
    with pytest.raises(DataError, match="'media' has no builder"):
        builders.clips("media", tmp_path)


def test_a_damaged_frame_stops_the_build(tmp_path):
    layouts.write_penn(tmp_path / "folder", SPEC)
    hurt = tmp_path / "folder" / "frames" / "0001" / "000002.jpg"
    hurt.write_bytes(hurt.read_bytes()[:200])
    with pytest.raises(FrameError, match="0001/000002.jpg is cut off"):
        build("penn", tmp_path / "built", tmp_path / "folder")
    picture = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    hurt.write_bytes(picture)
    build("penn", tmp_path / "built", tmp_path / "folder")
    assert len(builders.clips("penn", tmp_path / "built")) == 3
