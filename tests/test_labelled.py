"""A labelled project as the source of an experiment: joints, splits, unlabelled frames, scores."""

import contextlib
import dataclasses
import json
import shutil

import jax
import made_projects
import numpy as np
import pytest
import small_project
import small_run

from configs import own
from configs import project as project_config
from data_pipelines import clips as clips_lib
from data_pipelines import pipeline
from data_pipelines.clips import UNLABELLED, DataError
from data_pipelines.pairs import mixed_draws
from ttp_jax import checkpoint, geometry, inputs, launch, skeletons, steps
from ttp_jax.paper import records, running
from ttp_jax.runs import boxes as boxes_lib
from ttp_jax.runs import experiment, identity, labelled, live, plan, scoring, sources, training
from ttp_jax.runs.scoring import Measures
from ttp_jax.verbs import export


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_project.write(tmp_path_factory.mktemp("projects") / "mice")


def config_of(root, **changes):
    config = project_config.get_config(str(root))
    config.model.image_size = 64
    config.train.batch_size = 4
    config.update_from_flattened_dict(changes)
    labelled.fill(config)
    return config


def test_a_config_takes_name_and_joints_of_the_project(root):
    found = experiment.build(config_of(root))
    assert found.name == "mice"
    assert found.skeleton.joints == small_project.JOINTS
    assert found.skeleton.flip_pairs == ((0, 1),)
    assert found.net.num_joints == 4


def test_joints_of_a_config_come_back_from_its_json(root):
    config = config_of(root)
    again = identity.stored_config(config.to_dict())
    assert skeletons.of_config(again) == experiment.build(config).skeleton
    assert experiment.build(again).skeleton == experiment.build(config).skeleton


def test_a_model_carries_its_joints_and_boxes(root):
    kept = experiment.needed(config_of(root).to_dict())
    assert skeletons.of_config(kept).joints == small_project.JOINTS
    assert kept["data"]["boxes"] == "whole"
    around = config_of(root, **{"data.boxes": "labels"}).to_dict()
    assert not {"boxes", "zoom"} & experiment.needed(around)["data"].keys()
    around["data"]["boxes"] = "found/boxes.csv"  # of the training's frames, not of new videos
    assert not {"boxes", "zoom"} & experiment.needed(around)["data"].keys()


def test_other_labels_are_another_training(root, tmp_path):
    more = small_project.write(tmp_path / "mice", frames=36)
    one, other = (identity.trained_on(config_of(each)) for each in (root, more))
    assert one != other
    assert one == identity.trained_on(config_of(root))


def test_a_skeleton_changes_no_identity_of_the_paper():
    from configs import penn, rendered

    for each in (penn, rendered):
        own = identity.trained_on(each.get_config())
        assert "skeleton" not in own
        later = ("subject", "unlabelled", "folds", "labels", "labelled_share")
        assert not set(later) & set(own["data"])
        assert not {"photometric", "weight_decay", "best", "patience"} & set(own["train"])
        assert not {"supervised", "temperature"} & set(own["loss"])


def subjects(clips, split):
    return {clip.subject for clip in clips_lib.select(clips, split)}


def test_named_subjects_are_held_out_and_the_rest_is_drawn(root):
    data = config_of(root, **{"data.test_subjects": "mouse1,mouse2", "data.val_share": 0.3}).data
    clips = sources.load_clips(data)
    assert subjects(clips, "test") == {"mouse1", "mouse2"}
    assert len(subjects(clips, "val")) == 1
    assert len(subjects(clips, "train")) == 3
    assert not subjects(clips, "val") & {"mouse1", "mouse2"}


def test_folds_test_each_subject_once(root):
    tested = []
    for fold in range(3):
        data = config_of(root, **{"data.folds": 3, "data.fold": fold}).data
        clips = sources.load_clips(data)
        assert not subjects(clips, "test") & subjects(clips, "train")
        tested += sorted(subjects(clips, "test"))
    assert sorted(tested) == [f"mouse{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.test_subjects": "cat"}, "no subject is called cat"),
        ({"data.test_subjects": "mouse1", "data.val_subjects": "mouse*"}, "in two splits"),
        ({"data.folds": 3, "data.fold": 3}, "expected 0 to 2"),
        ({"data.folds": 3, "data.test_subjects": "mouse1"}, "leave out --test and --val"),
        ({"data.boxes": "moving"}, "works for videos only"),
    ],
)
def test_a_split_that_cannot_be_is_one_line(root, changes, told):
    with pytest.raises(DataError, match=told):
        config_of(root, **changes)


def test_unlabelled_frames_are_of_training_subjects_only(root, tmp_path):
    data = config_of(
        root,
        **{"data.unlabelled": 7, "data.test_subjects": "mouse0", "data.val_subjects": "mouse1"},
    ).data
    found, left_out = labelled.unlabelled(data, tmp_path)
    assert {clip.subject for clip in found} == {f"mouse{i}" for i in range(2, 6)}
    assert not left_out
    for clip in found:
        assert clip.num_frames == 7
        assert not set(clip.frame_numbers) & {0, 6, 12, 18, 24}  # labelled ones
        subject = int(clip.subject.removeprefix("mouse"))
        for index, frame in enumerate(clip.frame_numbers):
            truth = small_project.picture(subject, int(frame)).astype(int)
            assert np.abs(clip.read(index).astype(int) - truth).mean() < 6  # MJPG and JPEG lose


def test_decoded_frames_are_kept(root, tmp_path):
    data = config_of(root, **{"data.unlabelled": 3}).data
    labelled.unlabelled(data, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    found, _ = labelled.unlabelled(data, tmp_path)
    assert len(files) == sum(clip.num_frames for clip in found)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == files


def pairs(root, tmp_path, start, count, **changes):
    found = experiment.build(config_of(root, **{"data.unlabelled": 5, **changes}))
    clips = sources.load_clips(found.data, "train")
    more, _ = labelled.unlabelled(found.data, tmp_path)
    stream = sources.training_pairs(found, clips, start, count, unlabelled=more)
    return list(pipeline.numpy_batches(stream))


STAGES = ((3, 1e-3, 0.0, "constant"), (5, 1e-3, 0.1, "constant"))


def test_batches_hold_a_share_of_labelled_frames_where_both_tasks_train(root, tmp_path):
    changes = {"train.stages": STAGES, "data.labelled_share": 0.25}
    batches = pairs(root, tmp_path, 0, 8, **changes)
    counts = [int((batch["weights"].max(1) > 0).sum()) for batch in batches]
    assert counts == [4, 4, 4, 1, 1, 1, 1, 1]
    assert all(
        not batch["heatmaps"][batch["weights"] == 0].any()
        for batch in ({**b, "heatmaps": np.moveaxis(b["heatmaps"], -1, 1)} for b in batches)
    )


def test_the_mixed_stream_starts_anywhere(root, tmp_path):
    whole = pairs(root, tmp_path, 0, 8, **{"train.stages": STAGES})
    later = pairs(root, tmp_path, 2, 6, **{"train.stages": STAGES})
    for one, other in zip(whole[2:], later, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_sources_come_from_labelled_and_unlabelled_frames_of_one_recording():
    def clip(name, count, bare):
        return clips_lib.Clip(
            name, name, "train", count, lambda i: np.zeros((8, 8, 3), np.uint8),
            np.tile(np.array([0, 0, 8, 8], np.float32), (count, 1)),
            None if bare else np.zeros((count, 2, 2), np.float32),
            None if bare else np.ones((count, 2), bool),
        )  # fmt: skip

    clips = [clip("a", 4, False), clip("b", 4, False), clip(f"a{UNLABELLED}", 6, True)]
    draw = mixed_draws(clips, 0, pipeline.Ranges(), None, 4, 0.5)
    rows = [draw(row) for row in range(400)]
    assert [row.clip == 2 for row in rows] == [False, False, True, True] * 100
    assert {row.source_clip for row in rows if row.clip == 1} == {1}
    assert {row.source_clip for row in rows if row.clip == 0} == {0, 2}
    assert {row.source_clip for row in rows if row.clip == 2} == {0, 2}
    targets = [(row.clip, row.target) for row in rows if row.clip != 2]
    assert all(sorted(targets[i : i + 8]) == sorted(set(targets)) for i in range(0, 200, 8))


def test_scores_of_joints_without_a_torso():
    skeleton = skeletons.build("mouse", ["left_ear", "right_ear", "tail"])
    truth = np.array([[[0, 0], [10, 0], [5, 40]], [[0, 0], [np.nan, np.nan], [5, 40]]], np.float32)
    clip = clips_lib.Clip(
        "a", "a", "test", 2, lambda i: np.zeros((8, 8, 3), np.uint8),
        np.array([[0, 0, 8, 8]] * 2, np.float32), truth, np.isfinite(truth).all(-1),
    )  # fmt: skip
    predicted = np.nan_to_num(truth) + np.array([1.5, 0])
    between = Measures(
        scale_joints=("left_ear", "right_ear"), thresholds=(0.1, 0.2), distances=True
    )
    row = scoring.row([clip], [predicted], skeleton, between)
    # Ears are 10 apart in the first frame; in the second one of them isn't labelled.
    assert row["PCK@0.1"]["mean"] == 0 and row["PCK@0.2"]["mean"] == 100
    assert row["RMSE px"]["mean"] == pytest.approx(1.5)
    said = "PCK leaves out frames without labels of left_ear, right_ear: a 1 of 2."
    assert scoring.left_out([clip], skeleton, between) == said
    assert scoring.left_out([clip], skeleton, Measures()) is None
    diagonal = scoring.row([clip], [predicted], skeleton, Measures(thresholds=(0.03, 0.04)))
    assert diagonal["PCK@0.04"]["mean"] == 100 and diagonal["PCK@0.03"]["mean"] == 0
    with pytest.raises(ValueError, match="scale joints are left_ear, nose"):
        wrong = between._replace(scale_joints=("left_ear", "nose"))
        scoring.row([clip], [predicted], skeleton, wrong)


def test_a_single_joint_is_scored_by_the_box_that_the_network_sees(tmp_path):
    made_projects.deeplabcut(tmp_path, ("a", "b", "c"), names=["tip"])
    clip = clips_lib.by_subject(labelled.clips(config_of(tmp_path).data))[0]
    skeleton, how = skeletons.build("p", ["tip"]), Measures(thresholds=(0.1,))
    side = np.linalg.norm(clip.boxes[0, 2:] - clip.boxes[0, :2])
    for share, wanted in ((0.09, 100.0), (0.11, 0.0)):
        moved = clip.joints + np.float32([share * side, 0])
        assert scoring.headline([clip], [moved], skeleton, how) == wanted
    assert scoring.left_out([clip], skeleton, how) is None


def test_crops_are_as_tight_as_the_training_labels_allow(root):
    loose, tight = (config_of(root, **{"data.zoom": zoom}) for zoom in (1.0, 0.0))
    assert loose.data.zoom == 1 and 1 < tight.data.zoom <= 2.5
    for clip in sources.load_clips(tight.data, "train"):
        crops = geometry.box_to_crop(clip.boxes)
        offsets = (clip.joints - crops[:, None, :2]) / crops[:, None, 2:]
        assert np.abs(offsets).max() < 0.5 - labelled.ROOM
    # What a model was trained in is what new videos are seen in.
    kept = experiment.needed(tight.to_dict())["data"]
    assert kept["zoom"] == tight.data.zoom and kept["boxes"] == "whole"


@pytest.mark.parametrize("boxes", ["whole", "10,6,56,44"])
def test_new_videos_are_cropped_as_the_training_was(root, tmp_path, boxes):
    """By the commands, by --same-subject, from Python and from a camera."""
    trained = config_of(root, **{"data.boxes": boxes, "data.val_subjects": "mouse3"})
    (labelled_clip,) = sources.load_clips(trained.data, "val")
    assert trained.data.zoom > 1
    kept = experiment.needed(trained.to_dict())
    (tmp_path / "config.json").write_text(json.dumps(trained.to_dict()))
    own_config = own.get_config(str(tmp_path))
    experiment.take_model(own_config)
    own_config.data.root = str(root / "videos/mouse3.avi")
    made = experiment.build(own_config)
    opened = sources.open_own(made.data).clips
    found = boxes_lib.resolve(opened[0], None, made.data)  # pyright: ignore
    expected = labelled_clip.boxes[:1]
    np.testing.assert_array_equal(found.boxes, np.tile(expected, (found.num_frames, 1)))
    np.testing.assert_array_equal(sources.load_clips(made.data)[0].boxes, found.boxes)
    anna = boxes_lib.resolve(clips_lib.together(opened * 2, "anna"), None, made.data)  # pyright: ignore
    np.testing.assert_array_equal(anna.boxes, np.tile(expected, (anna.num_frames, 1)))
    frame = opened[0].read(0)
    given = inputs.given([frame], None, made.skeleton, kept["data"])
    np.testing.assert_allclose(given.places.boxes, expected, atol=1e-4)
    box = geometry.shrink_boxes(live.first_box(made.data.boxes, frame), made.data.zoom)
    np.testing.assert_allclose(box, expected[0], atol=1e-4)


def test_pictures_whose_ending_is_in_capitals_are_the_labelled_ones(root, tmp_path):
    moved = small_project.write(tmp_path / "mice")
    for path in moved.rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    one, other = (labelled.read(config_of(each).data) for each in (root, moved))
    assert [clip.num_frames for clip in one.clips] == [clip.num_frames for clip in other.clips]
    np.testing.assert_array_equal(one.clips[0].read(1), other.clips[0].read(1))


def test_test_subjects_get_unlabelled_frames_in_the_videos_order(root):
    data = config_of(root, **{"data.extra": 4, "data.test_subjects": "mouse3"}).data
    (clip,) = sources.load_clips(data, "test")
    assert clip.num_frames == 5 + 4
    assert (np.diff(clip.frame_numbers) > 0).all()
    scored = clip.visible.any(1)
    assert clip.frame_numbers[scored].tolist() == [0, 6, 12, 18, 24]
    for index, frame in enumerate(clip.frame_numbers):
        truth = small_project.picture(3, int(frame)).astype(int)
        assert np.abs(clip.read(index).astype(int) - truth).mean() < 6
    assert dataclasses.replace(clip, name="x").joints[scored].shape == (5, 4, 2)


def test_a_recording_with_two_videos_gets_all_extra_frames_from_one(tmp_path):
    """Its folder and its labels can have names of different videos."""
    root = small_project.write(tmp_path)
    table = root / "labeled-data/mouse3/CollectedData_lab.csv"
    table.write_text(table.read_text().replace("/mouse3/", "/mouse3_raw/"))
    shutil.copy(root / "videos/mouse3.avi", root / "videos/mouse3_raw.avi")
    data = config_of(root, **{"data.extra": 4, "data.test_subjects": "mouse3"}).data
    (clip,) = sources.load_clips(data, "test")
    assert clip.num_frames == 5 + 4


def test_what_keeps_extra_frames_from_a_test_subject_is_said(tmp_path):
    """Training subjects get no extra frames, so nothing is said of theirs."""
    root = small_project.write(tmp_path / "mice")
    changes = {"data.extra": 4, "data.test_subjects": "mouse1,mouse3,mouse5", "data.val_share": 0.0}
    (root / "videos/mouse0.avi").unlink()
    (root / "videos/mouse1.avi").unlink()
    (root / "videos/mouse3.avi").write_bytes(b"no video")
    with pytest.warns(UserWarning, match="adds no frames of") as said:
        clips = sources.load_clips(config_of(root, **changes).data, "test")
    assert [clip.num_frames for clip in clips] == [5, 5, 5 + 4]
    first, other = sorted(str(each.message) for each in said if "extra" in str(each.message))
    assert "mouse1: the project has no video named after it" in first
    assert "mouse3.avi: " in other


def test_frames_of_a_subjects_own_videos_come_before_the_labelled_ones(root):
    own = {"data.extra": 3, "data.test_subjects": "mouse1,mouse3", "data.val_share": 0.0}
    data = config_of(root, **own, **{"data.own_videos": " mouse3=videos/mouse1.avi "}).data
    first, clip = clips_lib.by_subject(sources.load_clips(data, "test"))
    other, plain = clips_lib.by_subject(sources.load_clips(config_of(root, **own).data, "test"))
    assert (first.name, clip.name) == (other.name, plain.name)
    assert first.num_frames == other.num_frames
    assert clip.num_frames == 3 + plain.num_frames
    assert not clip.visible[:3].any() and np.isnan(clip.joints[:3]).all()
    np.testing.assert_array_equal(clip.joints[3:], plain.joints)
    np.testing.assert_array_equal(clip.read(3), plain.read(0))
    shown = small_project.picture(1, 0).astype(int)
    assert np.abs(clip.read(0).astype(int) - shown).mean() < 6
    for wrong, why in (
        ("mouse3=videos/none.avi", "doesn't exist"),
        ("x=videos/mouse1.avi", "unknown"),
    ):
        data = config_of(root, **own, **{"data.own_videos": wrong}).data
        with pytest.raises(clips_lib.DataError, match=f"own_videos has '{wrong}': .*{why}"):
            sources.load_clips(data, "test")


def test_unlabelled_frames_are_cropped_around_the_annotated_boxes_too(tmp_path):
    pictures = ("a/img03.png", "a/img10.png", "b/img04.png", "c/img07.png")
    path, content = made_projects.coco(tmp_path, pictures)
    content["annotations"][1]["bbox"] = [10, 4, 44, 20]
    path.write_text(json.dumps(content))
    made_projects.video(tmp_path / "videos/a.mp4")
    changes = {"data.boxes": "annotated", "data.test_subjects": "a", "data.val_share": 0.0}
    changes |= {"data.extra": 3, "data.own_videos": "a=videos/a.mp4"}
    added, labelled_frames = labelled.clips(config_of(tmp_path, **changes).data)[:2]
    assert added.subject == labelled_frames.subject == "a" and added.num_frames == 3
    np.testing.assert_array_equal(labelled_frames.boxes, [[2, 2, 42, 32], [10, 4, 54, 24]])
    np.testing.assert_array_equal(added.boxes, [[2, 2, 54, 32]] * 3)  # holds both


def test_joints_without_a_training_label_are_said(tmp_path):
    root = small_project.write(tmp_path / "mice", subjects=4)
    for mouse in (0, 1):
        path = root / f"labeled-data/mouse{mouse}/CollectedData_lab.csv"
        head, rows = path.read_text().splitlines()[:3], path.read_text().splitlines()[3:]
        path.write_text(
            "\n".join([*head, *(",".join([*r.split(",")[:-2], "", ""]) for r in rows), ""])
        )
    data = config_of(root, **{"data.test_subjects": "mouse2,mouse3", "data.val_share": 0.0}).data
    said = labelled.describe(labelled.read(data))
    assert (
        "Note: no training subject has a label of tail, so predictions of it are meaningless."
        in said
    )


def test_pictures_are_mirrored_where_the_sides_are_known(root, tmp_path):
    """A left paw that the names don't call left would be trained to be the right one."""
    both = config_of(root)
    assert both.train.flip_prob == both.ttp.flip_prob == 0.5 and both.model.flip_average
    small = small_project.write(tmp_path / "sides")
    for table in small.rglob("*.csv"):
        text = table.read_text().replace("left_ear", "paw1LH").replace("right_ear", "paw4RH")
        table.write_text(text)
    unknown = project_config.get_config(str(small))
    assert labelled.NO_PAIRS in labelled.fill(unknown).notes
    assert unknown.train.flip_prob == unknown.ttp.flip_prob == 0
    assert not unknown.model.flip_average
    for pairs, expected in (("paw1LH:paw4RH", ((0, 1),)), ("", ())):
        named = config_of(small, **{"data.flip_pairs": pairs})
        assert named.train.flip_prob == 0.5 and named.model.flip_average
        assert experiment.build(named).skeleton.flip_pairs == expected


def test_whole_pictures_of_several_animals_are_noted(tmp_path):
    made_projects.deeplabcut(tmp_path, ("a", "b", "c"), individuals=["x", "y"])
    config = project_config.get_config(str(tmp_path))
    assert labelled.TOGETHER in labelled.fill(config).notes
    for change in ({"data.boxes": "labels"}, {"data.individuals": "x"}):
        config = project_config.get_config(str(tmp_path))
        config.update_from_flattened_dict(change)
        assert labelled.TOGETHER not in labelled.fill(config).notes


def test_a_model_is_never_tested_on_its_training_subjects(root, tmp_path):
    trained = config_of(root, **{"data.test_subjects": "mouse1,mouse4"})
    seen = tuple(sorted(subjects(sources.load_clips(trained.data), "train")))
    trained.data.training_subjects, trained.data.zoom = seen, 1.7
    identity.save_config(trained, tmp_path)

    def opened(verb, test):
        config = project_config.get_config(str(root))
        config.data.test_subjects = test
        launch.read_project(config, tmp_path, verb)
        return config

    for verb in ("evaluate", "personalize", "predict", "suggest"):
        with pytest.raises(DataError, match=f"trained on {seen[0]}, .*It wasn't.*mouse1"):
            opened(verb, f"mouse1,{seen[0]}")
        assert opened(verb, "mouse1").data.zoom == 1.7
    assert opened("train", seen[0]).data.zoom != 1.7


@pytest.mark.parametrize(("boxes", "noted"), [("labels", False), ("whole", True)])
def test_other_boxes_than_those_of_the_training_are_said(root, tmp_path, capsys, boxes, noted):
    trained = config_of(root, **{"data.boxes": "labels", "data.test_subjects": "mouse1"})
    identity.save_config(trained, tmp_path)
    config = project_config.get_config(str(root))
    config.update_from_flattened_dict({"data.boxes": boxes, "data.test_subjects": "mouse1"})
    launch.read_project(config, tmp_path, "evaluate")
    assert (config.data.zoom == trained.data.zoom) != noted
    assert ("add --config.data.boxes=labels to give" in capsys.readouterr().out) == noted


@pytest.mark.parametrize("boxes", ["whole", "labels"])
def test_a_model_file_is_never_tested_on_its_training_subjects(root, tmp_path, capsys, boxes):
    """It also has the crops of its training, whatever split it is exported or tested with."""

    def opened(base="", **changes):
        config = project_config.get_config(str(root))
        small_run.shrink(config)
        config.model.update({"encoder": "resnet", "init": "random", "half_pixel": False})
        config.update_from_flattened_dict({**changes, "base": base, "data.boxes": boxes})
        return config

    trained = opened(**{"data.test_subjects": "mouse1,mouse4"})
    labelled.fill(trained)
    seen = tuple(sorted(subjects(sources.load_clips(trained.data), "train")))
    trained.data.training_subjects, trained.data.zoom = seen, 1.7
    small_run.prepare(tmp_path, (), trained)
    identity.save_config(trained, tmp_path / "work")
    file = tmp_path / "mice.npz"
    config = opened()
    launch.read_project(config, tmp_path / "work", "export")
    options = export.Options(str(file), torch=None)
    assert export.run(experiment.build(config), tmp_path / "work", options) == 0

    model = checkpoint.read_model(file)
    assert model.config["data"].get("zoom") == (1.7 if boxes == "whole" else None)
    assert not any(name in json.dumps(model.about) for name in seen)  # may be people's names
    for verb in ("evaluate", "personalize", "predict", "suggest"):
        with pytest.raises(DataError, match=f"trained on {seen[0]}, .*It wasn't.*mouse1"):
            names = f"mouse1,{seen[0]}"
            launch.read_project(opened(str(file), **{"data.test_subjects": names}), tmp_path, verb)
        config = opened(str(file), **{"data.test_subjects": "mouse1"})
        launch.read_project(config, tmp_path, verb)
        assert config.data.zoom == 1.7
    assert labelled.UNKNOWN not in capsys.readouterr().out
    del model.about["training_subjects"]  # as in a file of an earlier version
    checkpoint.write_model(file, model)
    launch.read_project(opened(str(file), **{"data.test_subjects": seen[0]}), tmp_path, "predict")
    assert labelled.UNKNOWN in capsys.readouterr().out


def test_a_training_never_continues_with_other_labels_or_splits(root, tmp_path):
    identity.save_config(config_of(root), tmp_path)
    named = config_of(root, **{"data.test_subjects": "mouse1"})
    more = config_of(small_project.write(tmp_path / "mice", frames=36))
    for changed, what in ((named, "test_subjects"), (more, "other labels")):
        with pytest.raises(ValueError, match=f"{what}.*choose another --workdir to train anew.$"):
            training._check_same(changed, tmp_path, None)
    slower = config_of(root, **{"train.rotation": 7.0})
    with pytest.raises(ValueError, match="delete config.json"):
        training._check_same(slower, tmp_path, None)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mice.v1", "mice.v1"),
        ("reach-2024.05.01/config.yaml", "reach-2024.05.01"),
        ("mice.v2/labeled-data", "mice.v2"),
        ("labels.v2.SLP", "labels.v2"),
        ("person keypoints.json", "person_keypoints"),
    ],
)
def test_projects_of_other_names_have_other_workdirs(path, name):
    assert project_config.named(path) == name


def test_a_plan_names_only_what_the_command_does(root, tmp_path, capsys):
    """`reproduce` doesn't choose or score after a training, whatever its runs do later."""
    config = project_config.get_config(str(root))
    small_run.shrink(config)
    config.model.encoder, config.model.init, config.model.half_pixel = "resnet", "random", False
    config.train.stages = ((2, 1e-3, 0.0, "constant"),)
    labelled.fill(config)
    made = experiment.build(config)
    spec = records.RunSpec("baseline", "none")
    own = records.experiment_of(made, spec)
    fresh = jax.eval_shape(
        lambda: steps.init_state(own.net, own.tx, jax.random.key(0), own.image_size, np.ones(1))
    )
    ended = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), fresh)
    folder = tmp_path / "models" / records.model_name(made, spec) / "checkpoints"
    with contextlib.closing(checkpoint.Checkpoints(folder)) as kept:
        kept.save(ended.replace(step=np.int32(own.last_step)))
    assert running.train_model(made, spec, tmp_path, tmp_path / "records", 0.0)
    said = capsys.readouterr().out
    assert "Train: 2 updates" in said and "scores best on the 1 validation subject." in said
    assert "Then score" not in said and "Then choose" not in said
    said = plan.lines(made, sources.load_clips(made.data), scored=True)
    assert said[-2:] == [
        "Then choose between no TTP, online and offline on the 1 validation subject.",
        "Then score the 1 test subject without TTP, online and offline.",
    ]
