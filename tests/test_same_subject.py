"""Several recordings of one subject: one model, separate outputs."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
import small_run

from data_pipelines import clips as clips_lib
from data_pipelines import media
from ttp_jax import people
from ttp_jax.runs import base_model, diagnostics, experiment, personalization, recordings, sources
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.personalization import RunOptions
from ttp_jax.verbs import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shallow):
    """Two recordings, of 9 and 6 frames and of different picture sizes, and an untrained model."""
    place = tmp_path_factory.mktemp("same")
    small_run.prepare(place, lengths=(9, 6), config=small_run.cut(small_run.get_config()))
    for path in sorted((place / "people/person1").iterdir()):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (90, 70)))
    return place


def made(folder, *names, **changes):
    config = small_run.cut(small_run.get_config())
    config.data.root = "\n".join(str(folder / "people" / name) for name in names)
    config.data.oversample = 2.0
    config.update_from_flattened_dict(changes)
    return experiment.build(config)


BOTH = ("person0", "person1")
ANNA = {"data.same_subject": "anna"}


def run(folder, work, *names, scenario="offline", keep=None, **changes):
    found = made(folder, *names, **changes)
    assert personalization.run(found, folder / "work", RunOptions(scenario, keep=keep), work) == 0
    return {name: np.load(work / f"{name}.npz") for name in names}


@pytest.fixture(scope="module")
def offline(folder):
    """The folder of the results of both recordings, as one subject."""
    work = folder / "work/results/offline"
    run(folder, work, *BOTH, keep="full", **ANNA)
    return work


def test_one_model_is_personalized_to_all_recordings(folder, offline):
    """What is written apart is what the program gives for all frames as those of one clip."""
    found = made(folder, *BOTH, **ANNA)
    clip = clips_lib.together(sources.open_own(found.data).clips, "anna")
    base, _ = base_model.load_base(found, folder / "work")
    whole = Runner(found, base, "offline").one(clip)
    written = [np.load(offline / f"{name}.npz") for name in BOTH]
    assert [len(each["joints"]) for each in written] == [9, 6]
    assert written[1]["frames"].tolist() == list(range(6))
    joints = np.concatenate([each["joints"] for each in written])
    np.testing.assert_array_equal(joints, whole.joints)
    assert len((offline / "person1.csv").read_text().splitlines()) == 1 + 6
    kept = people.read(personalization.person_file(folder / "work", "anna"))
    assert kept.about["updates"] == 15  # as many as all frames
    parts = [recordings.part(whole, *place) for place in recordings.places(clip)]
    assert sum(part.seconds for part in parts) == pytest.approx(whole.seconds)
    assert [len(part.frames) for part in parts] == [9, 6]
    looks = [part.looks for part in parts if part.looks is not None]
    np.testing.assert_array_equal(np.concatenate(looks), whole.looks)


def test_the_report_s_held_out_frames_are_those_of_the_adaptation(folder):
    """One in ten of 9 and 6 frames is the first of the second recording."""
    found = made(folder, *BOTH, **ANNA, **{"ttp.held_out": 10})
    clip = clips_lib.together(sources.open_own(found.data).clips, "anna")
    base, _ = base_model.load_base(found, folder / "work")
    runner = Runner(found, base, "none")
    whole, measured = runner.one(clip), []
    for place in recordings.places(clip):
        part = recordings.part(whole, *place)
        own = runner.variables(whole), part.joints
        measured.append({*diagnostics.before_and_after(found, base, part.frames, own)})
    assert "reconstruction" in measured[0] and "held-out reconstruction" in measured[1]


def test_online_goes_through_the_recordings_in_the_order_given(folder, tmp_path):
    one = run(folder, tmp_path / "a", *BOTH, scenario="online", **ANNA)
    other = run(folder, tmp_path / "b", *BOTH[::-1], scenario="online", **ANNA)
    for name in BOTH:
        assert not np.array_equal(one[name]["joints"], other[name]["joints"])


def test_the_record_says_whose_recordings_they_are_and_verify_does_them_again(offline):
    record = json.loads((offline / "run.json").read_text())
    assert "all recordings are of anna" in record["protocol"]
    for name in BOTH:
        assert record["subjects"][name]["subject"] == "anna"
        assert record["subjects"][name]["recordings"] == list(BOTH)
    assert verify.run([str(offline)]) == 0


def test_results_together_and_alone_are_told_apart(folder, offline, tmp_path, capsys):
    work = tmp_path / "work"
    shutil.copytree(offline, work)
    run(folder, work, *BOTH, **ANNA)
    assert "1 of 1 subjects are done already" in capsys.readouterr().out
    together = np.load(work / "person0.npz")["joints"]
    alone = run(folder, work, "person0")["person0"]["joints"]
    assert not np.array_equal(alone, together)
    assert (work / "person0.old1/person0.npz").is_file()
    assert (work / "person1.npz").is_file()


def test_each_recording_keeps_its_own_place(folder):
    opened = media.open_inputs([str(folder / "people" / name) for name in BOTH])
    whole = clips_lib.together(opened.clips, "anna")
    region = np.array([[3.0, 3, 30, 30]])
    parts = [
        whole.recordings[0],
        dataclasses.replace(
            whole.recordings[1],
            boxes=np.tile(region, (6, 1)).astype(np.float32),
            present=np.arange(6) > 1,
        ),
    ]
    again = clips_lib.rejoined(whole, parts)
    np.testing.assert_array_equal(again.boxes[9:], np.tile(region, (6, 1)))
    np.testing.assert_array_equal(again.boxes[:9], whole.boxes[:9])
    assert again.present.tolist() == [True] * 9 + [False] * 2 + [True] * 4
    np.testing.assert_array_equal(again.sizes[[0, -1]], [[50, 60], [70, 90]])


@pytest.mark.parametrize("name", ["a/b", "", ".."])
def test_a_name_that_no_file_can_have_is_refused(folder, name):
    opened = media.open_inputs([str(folder / "people" / name) for name in BOTH])
    with pytest.raises(ValueError, match="expected a plain name"):
        clips_lib.together(opened.clips, name)
