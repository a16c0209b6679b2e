"""Finding people: the detector's numbers, following people over time, choosing one."""

import dataclasses
import pathlib

import cv2
import ml_collections
import numpy as np
import pytest

import ttp_jax
from configs import own
from data_pipelines import clips, media, penn, windows
from data_pipelines.clips import Clip, DataError
from data_pipelines.people import detections, finder, landmarks, tracks
from data_pipelines.people.detections import NOBODY, People
from ttp_jax import geometry, inputs
from ttp_jax.runs import base_model, experiment, finding
from ttp_jax.runs.batch import Runner
from ttp_jax.skeletons import BLAZEPOSE33, PENN13


def people_at(*places, side=100.0, colour=200):
    """Detections of people whose hips are at these places."""
    hips = np.array(places, np.float64)
    regions = np.concatenate([hips - side / 2, hips + side / 2], -1)
    boxes, colours = detections.body_boxes(regions), np.full((len(hips), 6), colour, float)
    both = np.full((len(hips), 2, 22, 2), np.nan), np.zeros((len(hips), 2))
    angles, scores = np.zeros(len(hips)), np.full(len(hips), 0.9)
    return People(regions, angles, hips, scores, boxes, colours, *both)


def backwards(people):
    return detections.some(people, range(len(people))[::-1])


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


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (1920, 1080), (40, 400)])
@pytest.mark.parametrize("closely", [False, True])
def test_squares_cover_the_picture_and_overlap(size, closely):
    seen = np.zeros(size, int)
    found = detections.squares(size, closely)
    for x, y, side in found:
        assert seen[y : y + side, x : x + side].shape == (side, side)
        seen[y : y + side, x : x + side] += 1
    assert seen.min() >= 1 and (seen > 1).mean() > 0.2
    assert {side for *_, side in found} == {min(size) // 2 if closely else min(size)}
    assert not detections.squares((500, 520))


def test_people_found_in_a_part_come_back_in_pixels_of_the_picture():
    small = picture_of((330, 150, 0))
    whole = detections.search(Detector(works=(0,)), small)
    part = detections.search(Detector(works=(2,)), small)  # the right one of two squares
    assert len(whole) == len(part) == 1
    np.testing.assert_allclose(part.hips, whole.hips, atol=2)
    np.testing.assert_allclose(part.regions, whole.regions, atol=4)
    assert len(detections.search(Detector(), small)) == 1  # seen twice, one person


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


def test_a_person_who_leaves_is_not_there_any_more_and_may_come_back():
    looks = [people_at((50 + 5 * t, 90)) if t < 10 else NOBODY for t in range(30)]
    looks += [people_at((300, 90), colour=190) for _ in range(12)]
    (track,) = tracks.follow(looks)
    places = tracks.places_of(track, range(0, 210, 5), 210)
    there = np.flatnonzero(places.there)
    assert {*range(46), *range(150, 210)} <= {*there} and not places.there[50:146].any()
    np.testing.assert_allclose(places.crops[22], [72, 90, 100, 0], atol=0.1)  # between two looks
    np.testing.assert_allclose(places.crops[150], [300, 90, 100, 0], atol=0.1)


def test_at_a_cut_nobody_walks_through_empty_space():
    looks = [people_at((200 if t < 6 else 1000, 90)) for t in range(12)]
    (track,) = tracks.follow(looks, stills=True)
    places = tracks.places_of(track, range(0, 60, 5), 60)
    assert places.there.all()
    np.testing.assert_allclose(places.crops[:28, 0], 200, atol=0.1)
    np.testing.assert_allclose(places.crops[28:, 0], 1000, atol=0.1)
    np.testing.assert_allclose(places.boxes[27], places.boxes[0], atol=0.1)


@pytest.mark.parametrize(("x", "colour", "people"), [(50, 180, 1), (50, 90, 2), (400, 180, 2)])
def test_somebody_else_who_comes_later_is_somebody_else(x, colour, people):
    looks = [people_at((50, 90), colour=200) for _ in range(10)] + [NOBODY] * 10
    looks += [people_at((x, 90), colour=colour) for _ in range(10)]
    assert len(tracks.follow(looks)) == people


def test_who_comes_back_is_no_one_else_who_looks_much_the_same():
    # One is lost from sight for a while; meanwhile another comes, dressed much alike.
    lost = [people_at((50, 90), colour=108) for _ in range(5)] + [NOBODY] * 8
    other = [people_at((400, 90), colour=110)] * 5
    both = [
        detections.joined(people_at((52, 90), colour=90), people_at((400, 90), colour=110))
        for _ in range(9)
    ]
    one, two = tracks.follow(lost + other + both)
    assert one.looks == [*range(5), *range(18, 27)] and two.looks == [*range(13, 27)]


def test_photos_of_one_person_in_several_places_are_of_one_person():
    photos = [people_at((50 + 200 * (t % 3), 90), colour=60 * t) for t in range(4)]
    assert not tracks.follow(photos)  # in a video nobody jumps so
    (track,) = tracks.follow(photos, stills=True)
    assert track.looks == [0, 1, 2, 3]


def test_angles_go_the_short_way_round():
    looks = [people_at((50, 90)) for _ in range(12)]
    for t, look in enumerate(looks):
        look.angles[:] = 174 + t if t < 6 else t - 186  # over 180 degrees
    (track,) = tracks.follow(looks)
    degrees = tracks.places_of(track, range(0, 60, 5), 60).crops[:, 3]
    assert (abs(degrees) > 172).all()


def leaning(gains, exchanged):
    """The degrees of somebody who leans by 30, seen surer by these in turned regions.

    `exchanged` [n, 2]: whether turned and upright regions show left and right joints exchanged.
    """
    pose = np.random.default_rng(0).uniform(-20, 20, (22, 2))
    walk = []
    for t, gain in enumerate(gains):
        hips = np.array([50.0 + t, 80])
        poses = hips + np.where(np.array(exchanged[t])[:, None, None], pose[tracks.SIDES], pose)
        both = {"poses": poses[None], "sure": np.array([[0.6 + gain, 0.6]])}
        walk.append(dataclasses.replace(people_at(hips), angles=np.array([30.0]), **both))
    (track,) = tracks.follow(walk)
    return tracks.places_of(track, range(len(gains)), len(gains)).crops[:, 3]


def test_regions_are_turned_while_the_network_is_surer_so_and_do_not_flicker():
    gains = np.r_[np.full(20, 0.1), np.full(20, -0.1)]
    gains[5], gains[30] = -0.05, 0.05  # single looks
    degrees = leaning(gains, np.zeros((40, 2), bool))
    np.testing.assert_allclose(degrees[:17], 30, atol=0.1)
    np.testing.assert_allclose(degrees[23:], 0, atol=0.1)
    assert (np.diff(degrees) < 1e-6).all()


def test_regions_are_upright_where_turned_ones_exchange_left_and_right():
    """For a while, and the network is surer there, as of a man whose face can't be seen."""
    exchanged = np.zeros((40, 2), bool)
    exchanged[15:25, 0] = True
    degrees = leaning(np.full(40, 0.1), exchanged)
    np.testing.assert_allclose(degrees[16:24], 0, atol=2)
    exchanged[:, 0] = exchanged[:, 1] = np.arange(40) > 20  # the person's own turn, in both
    np.testing.assert_allclose(leaning(np.full(40, 0.1), exchanged), 30, atol=0.1)


# --- Landmarks -----------------------------------------------------------------------------------

LONG = 40.0  # from the hips to the point on the circle around the body


def picture_of(*people):
    """People as dots: red at the hips (x, y), green where the circle is, turned by degrees."""
    picture = np.zeros((300, 400, 3), np.uint8)
    for x, y, degrees in people:
        turn = np.radians(degrees)
        around = (x + LONG * np.sin(turn), y - LONG * np.cos(turn))
        for place, colour in (((x, y), (255, 0, 0)), (around, (0, 255, 0))):
            cv2.circle(picture, np.round(place).astype(int).tolist(), 3, colour, -1)
    return picture


def dots(picture):
    """Pairs [n, 2, 2] of hips and the green dot near them."""
    found = []
    for channel in (0, 1):
        count, _, _, centres = cv2.connectedComponentsWithStats(
            (picture[..., channel] > 100).astype(np.uint8)
        )
        found.append(centres[1:count])
    reds, greens = found
    if not len(reds) or not len(greens):
        return np.empty((0, 2, 2))
    return np.array([[r, greens[np.linalg.norm(greens - r, axis=1).argmin()]] for r in reds])


class Detector:
    """Finds dots, in the pictures whose numbers are in `works`; counts its calls."""

    def __init__(self, works=range(1000)):
        self.works, self.calls = works, 0

    def __call__(self, canvas):
        self.calls += 1
        pairs = dots(canvas[0]) if self.calls - 1 in self.works else ()
        values, logits = np.zeros((1, 2254, 12)), np.full((1, 2254), -20.0)
        for place, (hips, around) in enumerate(pairs):
            anchor = detections.anchors()[place]
            values[0, place] = [
                *(hips - anchor),
                8,
                8,
                *(hips - anchor),
                *(around - anchor),
                *[0] * 4,
            ]
            logits[0, place] = 3.0
        return values, logits


def look(crops):
    """Landmarks of the person nearest to the middle of each crop."""
    rows = []
    for crop in crops:
        pairs, points = dots(crop), np.zeros((39, 2))
        if len(pairs):
            hips, around = pairs[np.linalg.norm(pairs[:, 0] - 128, axis=1).argmin()]
            points = hips + np.linspace(-1, 1, 39)[:, None] * (around - hips)
            points[landmarks.CENTRE], points[landmarks.AROUND] = hips, around
        rows.append((points, np.full(39, 0.8), 0.9 if len(pairs) else 0.1))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def test_a_turned_region_stands_upright_in_the_crop():
    hips = np.array([210.0, 140.0])
    picture = picture_of((*hips, 70))
    half = detections.ROOM * LONG
    crop, affine = landmarks.cut(picture, np.array([*(hips - half), *(hips + half)]), 70.0)
    ((seen, above),) = dots(crop)
    np.testing.assert_allclose(seen, [128, 128], atol=2)
    np.testing.assert_allclose(above, [128, 128 - 128 / detections.ROOM], atol=2)
    np.testing.assert_allclose(geometry.transform_points(affine, hips[None])[0], [128, 128])


@pytest.mark.parametrize("size", [3, 9])
def test_large_people_are_shrunk_and_come_back_to_their_place(size):
    picture = cv2.resize(picture_of((210, 140, 30)), None, fx=size, fy=size)
    found = landmarks.found(look, picture, detections.detect(Detector(), picture))
    np.testing.assert_allclose(found.hips[0], (np.array([210, 140]) + 0.5) * size, atol=size)
    np.testing.assert_allclose(found.angles, 30, atol=2)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_region_counts_in_which_the_network_is_surer(sign):
    """Turned by 40 degrees: by a network that is sure of what it sees upright, or lying."""

    def picky(crops):
        points, confidence, presence = look(crops)
        away = points[:, landmarks.AROUND] - points[:, landmarks.CENTRE]
        upright = np.abs(away[:, 0]) < 0.3 * np.abs(away[:, 1])
        points[~upright if sign > 0 else upright] += 5  # wrong where it is less sure
        return points, np.where(upright, 0.6 + 0.2 * sign, 0.6)[:, None] * confidence, presence

    picture = picture_of((210, 140, 40))
    found = landmarks.found(picky, picture, detections.detect(Detector(), picture))
    np.testing.assert_allclose(found.hips[0], [210, 140], atol=1)
    np.testing.assert_allclose(np.diff(found.sure), -0.16 * sign, atol=1e-6)
    assert found.poses.shape == (1, 2, 22, 2)


def test_somebody_seen_once_is_followed_while_the_detector_sees_nobody():
    walk = [picture_of((100 + 6 * t, 150, 3 * t)) for t in range(20)]
    seen = list(landmarks.follow(Detector(works=(0,)), look, walk))
    assert [len(people) for people in seen] == [1] * 20
    np.testing.assert_allclose([p.hips[0, 0] for p in seen], 100 + 6 * np.arange(20), atol=1.5)
    np.testing.assert_allclose([p.angles[0] for p in seen], 3 * np.arange(20), atol=3)


def test_the_detector_rests_while_everybody_is_followed():
    detector = Detector()
    list(landmarks.follow(detector, look, [picture_of((100, 150, 0))] * 30))
    assert detector.calls == 30 / landmarks.EVERY * (1 + len(detections.squares((300, 400))))


def test_who_comes_in_is_found_and_who_leaves_is_gone():
    alone, both = picture_of((100, 150, 0)), picture_of((100, 150, 0), (300, 150, 0))
    video = [alone] * 5 + [both] * 8 + [alone] * 4 + [picture_of()] * 3
    counts = [len(people) for people in landmarks.follow(Detector(), look, video)]
    assert counts[:5] == [1] * 5 and counts[5 + landmarks.EVERY : 13] == [2] * (8 - landmarks.EVERY)
    assert counts[13:] == [1] * 4 + [0] * 3


def test_two_regions_of_one_person_are_one_person():
    picture = picture_of((200, 150, 0))
    one = detections.detect(Detector(), picture)
    half = (one.regions[:, 2:] - one.regions[:, :2]) / 2
    larger = np.concatenate([one.hips - 1.2 * half, one.hips + 1.2 * half], -1)
    moved = dataclasses.replace(one, regions=larger + 9)
    assert len(landmarks.found(look, picture, detections.joined(one, moved))) == 1


def test_a_frame_that_cannot_be_read_loses_nobody():
    picture = picture_of((200, 150, 0))
    video = [picture, None, picture]
    counts = [len(people) for people in landmarks.follow(Detector(works=(0,)), look, video)]
    assert counts == [1, 0, 1]


def test_frames_in_memory_are_searched_as_often_as_a_video_s():
    walk = [picture_of((100 + t, 150, 20)) for t in range(60)] + [picture_of()] * 60
    places = finder.in_pictures(walk, Detector(), look, frames_per_second=30)
    assert places.there[:60].all() and not places.there[66:].any()
    np.testing.assert_allclose(places.crops[30], [130, 150, 2 * detections.ROOM * LONG, 20], atol=2)
    pair = [picture_of((100, 150, 0), (300, 150, 0))] * 9
    assert finder.in_pictures(pair, Detector(), look, person="right").crops[0, 0] > 250
    with pytest.raises(DataError, match="no person was found in the frames.*give boxes"):
        finder.in_pictures([picture_of()] * 9, Detector(), look)


def test_where_a_chosen_person_is_may_be_passed_as_boxes():
    """As the notebooks do, which list the people first: not only the boxes of all frames."""
    walk = [picture_of((100 + t, 150, 20)) for t in range(30)] + [picture_of()] * 30
    boxes = np.tile(np.float32([0, 0, 400, 300]), (len(walk), 1))
    clip = Clip("walk", "walk", "test", len(walk), walk.__getitem__, boxes)
    found = finder.follow(clip, Detector(), look)
    places = found.places(tracks.choose(found.people, "left", "walk"), len(walk))
    given = inputs.given(walk, places, BLAZEPOSE33)
    np.testing.assert_array_equal(given.places.crops, places.crops)
    np.testing.assert_array_equal(given.places.there, places.there)
    assert given.places.turned and not given.places.there[40:].any()
    upright = inputs.given(walk, places, PENN13).places  # for a network of upright people
    np.testing.assert_allclose(upright.crops, geometry.box_to_crop(places.boxes), rtol=1e-5)


# --- The published networks ----------------------------------------------------------------------


def test_a_real_man_is_found_whole_in_every_frame(blazepose_here, shared_data):
    (clip,) = (c for c in penn.clips(str(shared_data("penn_real"))) if c.name == "0001")
    shares = []
    looks, (track,) = finding.followed(clip, shares.append)
    assert len(shares) == len(looks) and shares == sorted(shares) and shares[-1] == 1
    places = tracks.places_of(track, looks, clip.num_frames)
    assert places.there.all()
    pairs = zip(places.boxes, clip.boxes, strict=True)
    overlap = [detections.overlaps(ours, theirs[None])[0] for ours, theirs in pairs]
    assert np.mean(overlap) > 0.7 and min(overlap) > 0.5
    affine = geometry.crop_affine(places.crops.astype(np.float64), 1)
    inside = geometry.transform_points(affine, clip.joints)
    assert ((inside > 0) & (inside < 1)).all(-1)[clip.visible].all()


def test_a_picture_of_nobody_is_refused_with_what_to_do(blazepose_here, tmp_path):
    for t in range(4):
        noise = np.random.default_rng(t).integers(0, 255, (90, 120, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{t}.png"), noise)
    (clip,) = media.clips(str(tmp_path))
    data = ml_collections.ConfigDict({"boxes": "people", "person": "largest", "skeleton": "penn13"})
    with pytest.raises(DataError, match=r"no person was found.*--config.data.boxes"):
        finding.find(clip, data)


def test_frames_in_memory_are_done_as_the_command_does_a_video(blazepose_here, shared_data):
    """By `ttp_jax.load("blazepose")` without boxes: the finder, its turned regions, the windows."""
    (clip,) = (c for c in penn.clips(str(shared_data("penn_real"))) if c.name == "0001")
    clip = dataclasses.replace(clips.part(clip, "0-11"), frames_per_second=30)
    config = own.get_config("blazepose")
    experiment.take_model(config)
    config.data.boxes = "people"
    made = experiment.build(config)
    base, _ = base_model.load_base(made, pathlib.Path())
    found = finding.find(clip, config.data)
    assert found is not None
    expected = Runner(made, base, "none").one(found)
    frames = np.stack([clip.read(t) for t in range(clip.num_frames)])
    model = ttp_jax.load("blazepose")
    joints, confidence = model.predict(frames)
    np.testing.assert_allclose(joints, expected.joints, atol=1e-3)
    np.testing.assert_allclose(confidence, expected.confidence, atol=1e-4)
    upright, _ = model.predict(frames, found.boxes)
    assert np.abs(upright - joints).mean() > 0.5
    result = ttp_jax.personalize(model, frames, ttp_jax.find(frames, frames_per_second=30))
    np.testing.assert_allclose(result.joints, expected.joints, atol=1e-3)


# --- What a clip says of places ------------------------------------------------------------------


def test_a_clips_crops_reach_the_network_until_it_gets_other_boxes():
    crops = np.array([[30, 20, 40, 15.0], [31, 20, 40, 16.0]])
    clip = Clip(
        "a", "a", "test", 2, lambda t: np.full((40, 60, 3), t, np.uint8),
        np.tile([[10, 5, 50, 35.0]], (2, 1)), crops=crops, key="a", fingerprint="a",
    )  # fmt: skip
    frames = windows.SubjectFrames(clip, image_size=32)
    assert frames.turned
    np.testing.assert_allclose(frames.read([1]).crops, crops[1:])
    np.testing.assert_allclose(clips.at(clip, [1]).network_crops, crops[1:])
    both = clips.together([clip, dataclasses.replace(clip, name="b")], "c")
    np.testing.assert_allclose(both.network_crops, np.tile(crops, (2, 1)))
    other = clip.in_boxes(clip.boxes + 1)
    np.testing.assert_allclose(other.network_crops, geometry.box_to_crop(clip.boxes + 1))
    assert not windows.SubjectFrames(other, image_size=32).turned
