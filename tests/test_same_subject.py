"""Several recordings of one subject: one model, outputs of each."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import small_run

from data_pipelines import clips as clips_lib
from data_pipelines import media
from ttp_jax import people
from ttp_jax.runs import base_model, experiment, personalization, recordings, sources
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.personalization import RunOptions
from ttp_jax.verbs import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two recordings, of 9 and 6 frames and of different picture sizes, and an untrained model."""
    place = tmp_path_factory.mktemp("same")
    small_run.prepare(place, lengths=(9, 6))
    for path in sorted((place / "people/person1").iterdir()):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (90, 70)))
    return place


def made(folder, *names, **changes):
    config = small_run.get_config()
    config.data.root = "\n".join(str(folder / "people" / name) for name in names)
    config.data.oversample = 2.0
    config.update_from_flattened_dict(changes)
    return experiment.build(config)


BOTH = ("person0", "person1")


def run(folder, work, *names, scenario="offline", keep="full", **changes):
    found = made(folder, *names, **changes)
    options = RunOptions(scenario, keep=keep)
    assert personalization.run(found, folder / "work", options, work) == 0
    return {name: np.load(work / f"{name}.npz") for name in names}


@pytest.mark.parametrize("scenario", ["online", "offline"])
def test_one_model_is_personalized_to_all_recordings(folder, tmp_path, scenario):
    work = tmp_path / "results" / scenario
    shared = {"data.same_subject": "anna"}
    found = run(folder, work, *BOTH, scenario=scenario, **shared)
    assert [len(found[name]["joints"]) for name in BOTH] == [9, 6]
    assert found["person1"]["frames"].tolist() == list(range(6))
    kept = people.read(personalization.person_file(folder / "work", "anna"))
    assert kept.about["updates"] == 15  # as many as all frames
    alone = run(folder, tmp_path / "alone", *BOTH, scenario=scenario, keep=None)
    assert not np.array_equal(found["person1"]["joints"], alone["person1"]["joints"])
    lines = (work / "person1.csv").read_text().splitlines()
    assert len(lines) == 1 + 6


def test_online_goes_through_the_recordings_in_the_order_given(folder, tmp_path):
    one = run(folder, tmp_path / "a", *BOTH, scenario="online", **{"data.same_subject": "a"})
    other = run(
        folder, tmp_path / "b", *BOTH[::-1], scenario="online", **{"data.same_subject": "a"}
    )
    for name in BOTH:
        assert not np.array_equal(one[name]["joints"], other[name]["joints"])


def test_the_joined_results_are_those_of_one_clip(folder, tmp_path):
    """What is written apart is what the program gave for all frames."""
    found = made(folder, *BOTH, **{"data.same_subject": "anna"})
    clip = clips_lib.together(sources.open_own(found.data).clips, "anna")
    base, _ = base_model.load_base(found, folder / "work")
    whole = Runner(found, base, "offline").one(clip)
    written = run(folder, tmp_path / "r", *BOTH, **{"data.same_subject": "anna"})
    joints = np.concatenate([written[name]["joints"] for name in BOTH])
    np.testing.assert_array_equal(joints, whole.joints)
    parts = {part.name: own for part, own in recordings.apart(clip, whole)}
    assert parts["person1"].joints.shape == (6, *whole.joints.shape[1:])
    assert parts["person0"].seconds + parts["person1"].seconds == pytest.approx(whole.seconds)


def test_the_record_says_whose_recordings_they_are_and_verify_does_them_again(folder, tmp_path):
    work = folder / "work/results/offline"
    run(folder, work, *BOTH, keep=None, **{"data.same_subject": "anna"})
    record = json.loads((work / "run.json").read_text())
    assert "all recordings are of anna" in record["protocol"]
    for name in BOTH:
        assert record["subjects"][name]["subject"] == "anna"
        assert record["subjects"][name]["recordings"] == list(BOTH)
    assert verify.run([str(work)]) == 0


def test_results_together_and_alone_are_told_apart(folder, tmp_path, capsys):
    work = tmp_path / "work"
    run(folder, work, *BOTH, keep=None, **{"data.same_subject": "anna"})
    run(folder, work, *BOTH, keep=None, **{"data.same_subject": "anna"})
    assert "1 of 1 subjects are done already" in capsys.readouterr().out
    run(folder, work, "person0", keep=None)
    assert (work / "person0.old1/person0.npz").is_file()


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
    with pytest.raises(ValueError, match="expected a plain one"):
        clips_lib.together(opened.clips, name)
