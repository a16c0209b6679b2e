"""The default model and person finder for a user's video."""

import sys

import ml_collections
import pytest
from absl import flags

from ttp_jax import checkpoint, command_line, detector, launch


@pytest.fixture
def config():
    return ml_collections.ConfigDict({"data": {"boxes": "moving"}, "skeleton": {}})


def test_without_blazepose_the_included_model_does_the_work():
    assert checkpoint.default_model() == "shipped"
    assert not detector.is_here()


def test_with_blazepose_it_is_the_model_and_finds_the_person(blazepose_here, config):
    assert checkpoint.default_model() == "blazepose"
    assert launch.usual_boxes(config) == "people"


@pytest.fixture
def typed(monkeypatch):
    """Read a command line -> its config and the note on people; the flags are forgotten again."""
    before = set(flags.FLAGS)

    def read(*words):
        monkeypatch.setattr(sys, "argv", ["ttp", *words])  # config_flags looks there, too
        command_line.define()
        launch.parse(["ttp", *words[1:]], words[0])
        return flags.FLAGS.config, launch.note_on_people(flags.FLAGS.config, words[0])

    yield read
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


@pytest.mark.parametrize("verb", command_line.ON_VIDEOS)
def test_without_blazepose_each_command_on_videos_says_so(typed, verb):
    config, note = typed(verb, "my_video.mp4")
    assert config.base == "shipped" and "python main.py fetch blazepose" in note
    assert "rendered people only" in note and "moving region" in note


@pytest.mark.parametrize("verb", command_line.ON_VIDEOS)
def test_given_boxes_do_not_hide_that_the_included_model_is_used(typed, verb):
    _, note = typed(verb, "my_video.mp4", "--config.data.boxes=120,40,520,700")
    assert "rendered people only" in note and "moving region" not in note


def test_a_chosen_model_with_given_boxes_needs_no_note(typed):
    words = "my_video.mp4", "--model=shipped", "--config.data.boxes=whole"
    assert typed("predict", *words)[1] is None


@pytest.mark.parametrize("verb", command_line.ON_VIDEOS)
def test_with_blazepose_each_command_on_videos_takes_it(blazepose_here, typed, verb):
    config, note = typed(verb, "my_video.mp4")
    assert config.base == "blazepose" and config.data.boxes == "people" and note is None


@pytest.mark.parametrize(
    ("boxes", "skeleton"), [("whole", {}), ("1,2,30,40", {}), ("moving", {"joints": ["nose"]})]
)
def test_given_boxes_and_projects_of_other_joints_stay(blazepose_here, config, boxes, skeleton):
    config.data.boxes, config.skeleton = boxes, skeleton
    assert launch.usual_boxes(config) == boxes
