"""The default model and person finder for a user's video."""

import ml_collections
import pytest

from ttp_jax import checkpoint, detector, launch


@pytest.fixture
def config():
    return ml_collections.ConfigDict({"data": {"boxes": "moving"}, "skeleton": {}})


def test_without_blazepose_the_included_model_does_the_work():
    assert checkpoint.default_model() == "shipped"
    assert not detector.is_here()


def test_with_blazepose_it_is_the_model_and_finds_the_person(blazepose_here, config):
    assert checkpoint.default_model() == "blazepose"
    assert launch.usual_boxes(config) == "people"


@pytest.mark.parametrize(
    ("boxes", "skeleton"), [("whole", {}), ("1,2,30,40", {}), ("moving", {"joints": ["nose"]})]
)
def test_given_boxes_and_projects_of_other_joints_stay(blazepose_here, config, boxes, skeleton):
    config.data.boxes, config.skeleton = boxes, skeleton
    assert launch.usual_boxes(config) == boxes
