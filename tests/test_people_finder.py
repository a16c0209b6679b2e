"""Finding people: the detector's numbers, people followed through time, the choice of one."""

import dataclasses

import numpy as np
import pytest

from data_pipelines import penn
from data_pipelines.clips import DataError
from data_pipelines.people import detections, tracks
from data_pipelines.people.detections import NOBODY, People
from ttp_jax import detector, geometry


def people_at(*places, side=100.0):
    """Detections of people whose hips are at these places."""
    hips = np.array(places, np.float64)
    regions = np.concatenate([hips - side / 2, hips + side / 2], -1)
    return People(regions, np.zeros(len(hips)), hips, np.full(len(hips), 0.9))


def backwards(people):
    parts = (people.regions, people.angles, people.hips, people.scores)
    return People(*(part[::-1] for part in parts))


def faked(boxes, scores):
    """A detector that says these boxes [n, 4] in pixels of its input, hips at their centres."""
    values, logits = np.zeros((1, 2254, 12)), np.full((1, 2254), -20.0)
    for place, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        anchor = detections.anchors()[place]
        values[0, place, :2], values[0, place, 2:4] = centre - anchor, size
        values[0, place, 4:6] = centre - anchor  # hips
        values[0, place, 6:8] = centre - (0, size[1]) - anchor  # above them, on the circle
        logits[0, place] = np.log(score / (1 - score))
    return lambda pictures: (values, logits)


def test_the_anchors_are_the_cells_of_three_strides():
    anchors = detections.anchors()
    assert anchors.shape == (2254, 2)
    assert [len(np.unique(part, axis=0)) for part in np.split(anchors, [1568, 1960])] == [
        784,
        196,
        49,
    ]
    np.testing.assert_allclose(anchors[:3], [[4, 4], [4, 4], [12, 4]])  # two a cell, x first
    np.testing.assert_allclose(anchors[-1], [208, 208])


@pytest.mark.parametrize("size", [(112, 224), (448, 448), (100, 60)])
def test_what_the_detector_says_comes_back_in_pixels_of_the_picture(size):
    picture = np.zeros((*size, 3), np.uint8)
    _, scale, corner = detections.letterbox(picture)
    box = np.array([100.0, 90.0, 120.0, 130.0])
    found = detections.detect(faked([box], [0.8]), picture)
    hips = ((110, 110) - corner) / scale - 0.5
    np.testing.assert_allclose(found.hips[0], hips)
    half = detections.ROOM * 40 / scale
    np.testing.assert_allclose(found.regions[0], [*(hips - half), *(hips + half)])
    np.testing.assert_allclose(found.angles, 0, atol=1e-9)


def test_overlapping_detections_become_their_mean_and_others_stay():
    one, near, other = np.array([[50, 50, 90, 90], [54, 50, 94, 90], [150, 50, 190, 90]], float)
    found = detections.detect(
        faked([one, near, other], [0.9, 0.6, 0.7]), np.zeros((224, 224, 3), np.uint8)
    )
    assert len(found) == 2
    mean = (0.9 * 70 + 0.6 * 74) / 1.5 - 0.5
    np.testing.assert_allclose(found.hips[:, 0], [mean, 169.5])
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    assert not len(detections.detect(faked([one], [0.4]), np.zeros((224, 224, 3), np.uint8)))


def test_two_people_who_pass_each_other_stay_themselves():
    walks = [people_at((20 + 10 * t, 100), (220 - 10 * t, 104), side=90.0) for t in range(20)]
    # Both are found in either order.
    walks = [each if t % 2 else backwards(each) for t, each in enumerate(walks)]
    found = tracks.follow(walks)
    assert [len(track.looks) for track in found] == [20, 20]
    for track in found:
        assert np.ptp(np.diff([hips[0] for hips in track.hips])) == pytest.approx(0)


def test_somebody_hidden_for_a_moment_goes_on_and_one_false_look_is_nobody():
    looks = [people_at((50 + t, 80)) for t in range(20)]
    looks[8] = looks[9] = NOBODY
    looks[3] = people_at((53, 80), (400, 80))
    (track,) = tracks.follow(looks)
    assert len(track.looks) == 18


def test_the_choice_is_by_size_side_number_or_place():
    looks = [people_at((50, 90), (150, 90), (250, 90)) for _ in range(10)]
    looks = [of_sides(each, [60, 140, 100]) for each in looks]
    three = tracks.follow(looks)
    chosen = {
        which: tracks.choose(three, which, "a").place[0]
        for which in ("largest", "left", "right", "3", "160,80")
    }
    assert chosen == {"largest": 150, "left": 50, "right": 250, "3": 250, "160,80": 150}
    for wrong, said in (("4", "3 people"), ("0", "3 people"), ("anna", "expected largest")):
        with pytest.raises(DataError, match=said):
            tracks.choose(three, wrong, "a")


def of_sides(people, sides):
    half = np.array(sides, float)[:, None] / 2
    return dataclasses.replace(
        people, regions=np.concatenate([people.hips - half, people.hips + half], -1)
    )


def test_a_person_who_leaves_is_not_there_any_more():
    looks = [people_at((50 + 5 * t, 90)) if t < 10 else NOBODY for t in range(30)]
    (track,) = tracks.follow(looks)
    regions, there = tracks.boxes_of(track, range(0, 150, 5), 150)
    assert there[:46].all() and not there[50:].any()
    np.testing.assert_allclose((regions[22, 0] + regions[22, 2]) / 2, 72)  # between two looks
    crop = geometry.box_to_crop(tracks.body_boxes(regions))
    np.testing.assert_allclose(crop[:, :2], (regions[:, :2] + regions[:, 2:]) / 2)


def test_a_real_man_is_found_whole_in_every_frame(shared_data):
    if not detector.is_here():
        pytest.skip("no detector: python main.py fetch blazepose")
    see = detector.load()
    (clip,) = (c for c in penn.clips(str(shared_data("penn_real"))) if c.name == "0001")
    places = list(range(0, clip.num_frames, 8))
    (track,) = tracks.follow([detections.detect(see, clip.read(t)) for t in places])
    regions, there = tracks.boxes_of(track, places, clip.num_frames)
    assert there.all()
    inside = (clip.joints > regions[:, None, :2]) & (clip.joints < regions[:, None, 2:])
    assert inside.all(-1)[clip.visible].all()
