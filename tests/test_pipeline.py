import functools
import math
import os
import pathlib
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from data_pipelines import penn
from data_pipelines.clips import Clip, DataError, FrameError
from data_pipelines.pipeline import Crops, device_prefetch, heatmaps_of, numpy_batches, train_pairs
from data_pipelines.windows import SubjectFrames
from ttp_jax import geometry
from ttp_jax.augment import Ranges
from ttp_jax.frames import Frames
from ttp_jax.skeletons import BBC7, PENN13

REPO = pathlib.Path(__file__).parents[1]
NO_AUGMENT = Ranges(rotation_prob=0, scale=0, flip_prob=0)
CROPS = Crops(image_size=32, heatmap_size=8, sigma=1.0)


def coded_clips(lengths, size=24, broken=()):
    """Return clips whose frame t of clip c has the plain colour (c, t, 99); box = whole picture."""

    def read(c, t):
        if (c, t) in broken:
            raise FrameError(f"file of clip {c} frame {t} is damaged. Unpack it again.")
        return np.full((size, size, 3), (c, t, 99), np.uint8)

    rng = np.random.default_rng(0)
    return [
        Clip(
            name=f"clip{c}",
            subject=f"clip{c}",
            split="train",
            num_frames=length,
            read=functools.partial(read, c),
            boxes=np.tile(np.float32([0, 0, size, size]), (length, 1)),
            joints=rng.uniform(0, size, (length, 13, 2)).astype(np.float32),
            visible=rng.random((length, 13)) < 0.9,
        )
        for c, length in enumerate(lengths)
    ]


def codes(crops):
    """Read (clip, frame) [B, 2] back from the middle of crops of coded clips."""
    middle = crops.shape[1] // 2
    assert (crops[:, middle, middle, 2] == 99).all()
    return crops[:, middle, middle, :2].astype(int)


def batches(clips, count, skeleton=PENN13, **options):
    options = {"crops": CROPS, "batch_size": 8, "seed": 5, "num_steps": count} | options
    return list(numpy_batches(train_pairs(clips, skeleton, **options)))


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_shapes_and_types():
    (batch,) = batches(coded_clips([4, 3]), 1)
    assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
        "target": ("uint8", (8, 32, 32, 3)),
        "source": ("uint8", (8, 32, 32, 3)),
        "heatmaps": ("float32", (8, 8, 8, 13)),
        "weights": ("float32", (8, 13)),
        "joints": ("float32", (8, 13, 2)),
    }
    dataset = train_pairs(coded_clips([4, 3]), PENN13, CROPS, batch_size=8, seed=0)
    assert dataset.element_spec["heatmaps"].shape == (8, 8, 8, 13)


def test_resume_equals_skipping():
    clips = coded_clips([4, 1, 6])
    whole = batches(clips, 6)
    assert_same(whole[4:], batches(clips, 2, start_step=4))
    assert not np.array_equal(whole[0]["target"], whole[1]["target"])


def test_seed_decides_and_workers_do_not():
    clips = coded_clips([4, 1, 6])
    one = batches(clips, 6, workers=1)
    assert_same(one, batches(clips, 6, workers=7))
    assert_same(one, batches(clips, 6))
    other = batches(clips, 6, seed=6)
    assert any(
        not np.array_equal(a["joints"], b["joints"]) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("count", [2, 4])
def test_processes_get_contiguous_slices(count):
    clips = coded_clips([4, 1, 6])
    parts = [batches(clips, 3, process=(i, count)) for i in range(count)]
    steps = zip(*parts, strict=True)
    joined = [{n: np.concatenate([p[n] for p in step]) for n in step[0]} for step in steps]
    assert_same(batches(clips, 3), joined)


def test_epoch_has_every_frame_as_target_once():
    lengths = [4, 1, 6, 9]
    clips = coded_clips(lengths)
    rows = np.concatenate([codes(b["target"]) for b in batches(clips, 10, ranges=NO_AUGMENT)])
    every = [(c, t) for c, length in enumerate(lengths) for t in range(length)]
    epochs = [[tuple(row) for row in rows[e * 20 : e * 20 + 20]] for e in range(4)]
    assert all(sorted(epoch) == every for epoch in epochs)
    assert all(epoch != every for epoch in epochs) and epochs[0] != epochs[1]


def test_shorter_epochs_choose_anew():
    clips = coded_clips([4, 1, 6, 9])
    steps = batches(clips, 4, ranges=NO_AUGMENT, frames_per_epoch=8)
    epochs = [{tuple(row) for row in codes(step["target"])} for step in steps]
    assert all(len(epoch) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1] and len(set.union(*epochs)) > 12


def test_source_is_any_frame_of_the_same_clip():
    clips = coded_clips([4, 1, 6])
    steps = batches(clips, 100, ranges=NO_AUGMENT)
    target = np.concatenate([codes(step["target"]) for step in steps])
    source = np.concatenate([codes(step["source"]) for step in steps])
    np.testing.assert_array_equal(target[:, 0], source[:, 0])
    of_last = target[:, 0] == 2
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (target[of_last, 1], source[of_last, 1]), 1)
    expected = of_last.sum() / 36
    assert (np.abs(pairs - expected) < 5 * math.sqrt(expected)).all()


def disc_clip():
    """Return a still person whose box moves, and the joints' colours: one disc a joint."""
    xs, ys = np.meshgrid([80.0, 130, 180], [50.0, 95, 140, 185, 230])
    rng = np.random.default_rng(3)
    joints = np.stack([xs.ravel(), ys.ravel()], -1)[:13] + rng.uniform(-4, 4, (13, 2))
    colors = np.array([(r, g, b) for r in (0, 128, 255) for g in (0, 128, 255) for b in (255,)])
    colors = np.concatenate([colors, [(255, 0, 0), (0, 255, 0), (255, 255, 0), (255, 128, 0)]])
    picture = np.zeros((280, 260, 3), np.uint8)
    for (x, y), color in zip(joints, colors, strict=True):
        center = int(round(x * 256)), int(round(y * 256))
        cv2.circle(picture, center, 14 * 256, color.tolist(), -1, cv2.LINE_AA, shift=8)
    frames = 40
    corner = rng.uniform(10, 40, (frames, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(180, 220, (frames, 2))], -1)
    clip = Clip(
        name="discs",
        subject="discs",
        split="train",
        num_frames=frames,
        read=lambda index: picture,
        boxes=boxes.astype(np.float32),
        joints=np.tile(joints.astype(np.float32), (frames, 1, 1)),
        visible=np.ones((frames, 13), bool),
    )
    return clip, colors


def disc_centre(crop, color):
    """Return the centre of mass (x, y) of one colour's share of a crop."""
    distance = np.abs(crop.astype(float) - color).max(-1)
    ys, xs = np.nonzero(distance < 60)
    return np.array([xs.mean(), ys.mean()])


def test_picture_and_labels_move_together():
    clip, colors = disc_clip()
    options = {"crops": Crops(128, 32, 2.0)}
    flipped = []
    for batch in batches([clip], 4, batch_size=16, **options):
        np.testing.assert_array_equal(batch["source"], batch["target"])  # one box, one transform
        for crop, joints in zip(batch["target"], batch["joints"], strict=True):
            inside = [k for k in range(13) if (joints[k] > 10).all() and (joints[k] < 117).all()]
            assert len(inside) >= 3
            at_joint = {k: crop[tuple(np.round(joints[k]).astype(int)[::-1])] for k in inside}
            named = [
                all(np.abs(at_joint[k].astype(int) - colors[order[k]]).max() < 60 for k in inside)
                for order in (np.arange(13), PENN13.flip_order)
            ]
            assert sum(named) == 1  # all joints of a crop agree on whether it is mirrored
            flipped.append(named[1])
            order = PENN13.flip_order if named[1] else np.arange(13)
            for k in inside:
                assert np.abs(disc_centre(crop, colors[order[k]]) - joints[k]).max() < 0.6
    assert 16 < sum(flipped) < 48


def test_augmentation_has_the_stated_spread():
    (clip,) = coded_clips([50])
    triangle = np.float32([[12, 12], [18, 12], [12, 18]])  # the pose of a skeleton of pairs
    joints = np.tile(np.concatenate([triangle, np.zeros((10, 2), np.float32)]), (50, 1, 1))
    clip = Clip(**{**vars(clip), "joints": joints, "visible": np.ones((50, 13), bool)})
    steps = batches([clip], 40, batch_size=50, ranges=Ranges(flip_prob=0))
    along = np.concatenate([step["joints"][:, 1] - step["joints"][:, 0] for step in steps])
    # The box is 24 px wide: 6 px are 6 * 32 / (1.25 * 24) crop pixels at scale 1.
    scale = 6 * 32 / 30 / np.linalg.norm(along, axis=-1)
    degrees = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    assert scale.min() >= 0.75 - 1e-4 and scale.max() <= 1.25 + 1e-4
    assert np.abs(scale - 1).std() > 0.05 and abs(np.mean(scale) - 1) < 0.02
    # A normal draw is beyond one standard deviation, that is at the limits, in 31.7 % of the rows.
    assert abs(np.mean(np.abs(scale - 1) > 0.2499) - 0.317) < 0.05
    turned = np.abs(degrees) > 1e-3
    assert abs(turned.mean() - 0.6) < 0.05 and np.abs(degrees).max() <= 60.001
    assert abs(degrees[turned].std() - 28.8) < 2  # of a normal cut off at 2 standard deviations

    still = np.concatenate([s["joints"] for s in batches([clip], 2, ranges=NO_AUGMENT)])
    expected = geometry.crop_affine(geometry.box_to_crop(np.float64([0, 0, 24, 24])), 32)
    np.testing.assert_allclose(
        still, np.tile(geometry.transform_points(expected, joints[0]), (16, 1, 1)), atol=1e-5
    )


def loop_heatmaps(joints, visible, image_size, heatmap_size, sigma):
    """Draw the published program's targets pixel by pixel."""
    radius = int(3 * sigma)
    maps = np.zeros((heatmap_size, heatmap_size, len(joints)))
    weights = np.zeros(len(joints))
    for k, (x, y) in enumerate(joints):
        cx = math.floor(x * heatmap_size / image_size + 0.5)
        cy = math.floor(y * heatmap_size / image_size + 0.5)
        for i in range(cy - radius, cy + radius + 1):
            for j in range(cx - radius, cx + radius + 1):
                if visible[k] and 0 <= i < heatmap_size and 0 <= j < heatmap_size:
                    weights[k] = 1
                    maps[i, j, k] = math.exp(-((i - cy) ** 2 + (j - cx) ** 2) / (2 * sigma**2))
    return maps, weights


def test_heatmaps_equal_a_plain_loop():
    rng = np.random.default_rng(1)
    joints = rng.uniform(-45, 128 + 45, (20, 13, 2))
    visible = rng.random((20, 13)) < 0.8
    for sigma in (2.0, 1.2):
        maps, weights = heatmaps_of(joints, visible, image_size=128, heatmap_size=32, sigma=sigma)
        assert maps.dtype == weights.dtype == np.float32
        for b in range(20):
            slow_maps, slow_weights = loop_heatmaps(joints[b], visible[b], 128, 32, sigma)
            np.testing.assert_allclose(maps[b], slow_maps, atol=1e-6)
            np.testing.assert_array_equal(weights[b], slow_weights)
    assert 0 < weights.mean() < visible.mean()


def test_targets_of_cells_with_half_pixels_are_those_of_shifted_joints():
    joints = np.random.default_rng(2).uniform(0, 128, (4, 13, 2))
    sizes = {"image_size": 128, "heatmap_size": 32, "sigma": 2.0}
    maps, _ = heatmaps_of(joints, np.ones((4, 13), bool), half_pixel=True, **sizes)
    shifted, _ = heatmaps_of(joints - 1.5, np.ones((4, 13), bool), **sizes)
    np.testing.assert_array_equal(maps, shifted)


def test_heatmap_windows_at_the_border():
    # x / 4 + 0.5: 7.9 -> 2; -0.1 -> 0 (0.475); -2.1 -> -1 (floor, where int() gives 0);
    # -26.0 -> -6, whose window just reaches pixel 0; -26.1 -> -7, whose window doesn't.
    xs = [7.9, -0.1, -2.1, -26.0, -26.1, np.nan]
    joints = np.array([[x, 64.0] for x in xs])
    maps, weights = heatmaps_of(
        joints, np.ones(6, bool), image_size=128, heatmap_size=32, sigma=2.0
    )
    np.testing.assert_array_equal(weights, [1, 1, 1, 1, 0, 0])
    assert maps[16, 2, 0] == maps[16, 0, 1] == 1
    np.testing.assert_allclose(maps[16, 0, 2:4], [math.exp(-1 / 8), math.exp(-36 / 8)], rtol=1e-6)
    assert not maps[..., 4:].any()
    assert maps[:, 9, 0].max() == 0 < maps[:, 8, 0].max()  # 6 pixels to either side, no more


def test_invisible_joints_have_no_weight():
    clips = coded_clips([4, 6])
    for clip in clips:
        clip.visible[:, 3] = False
    for batch in batches(clips, 5, ranges=Ranges(flip_prob=0)):
        assert not batch["weights"][:, 3].any() and not batch["heatmaps"][..., 3].any()
    # PENN13 pairs joints 3 and 4, so mirrored rows lack joint 4 instead.
    for batch in batches(clips, 5, ranges=Ranges(flip_prob=1)):
        assert not batch["weights"][:, 4].any() and batch["weights"][:, 3].any()


def test_unreadable_frame_is_replaced_with_one_warning():
    broken = {(1, 2), (1, 3)}
    with pytest.warns(UserWarning) as caught:
        steps = batches(coded_clips([2, 5], broken=broken), 12, ranges=NO_AUGMENT)
    assert sorted(str(w.message) for w in caught) == [
        f"clip clip1, training on another frame: file of clip 1 frame {t} is damaged. "
        "Unpack it again."
        for t in (2, 3)
    ]
    rows = np.concatenate([codes(step[kind]) for step in steps for kind in ("target", "source")])
    assert {tuple(row) for row in rows} == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 4)}
    with pytest.warns(UserWarning):
        again = batches(coded_clips([2, 5], broken=broken), 4, start_step=8, ranges=NO_AUGMENT)
    assert_same(steps[8:], again)


def test_replaced_target_brings_its_own_labels_and_box():
    (clip,) = coded_clips([2], broken={(0, 0)})
    clip.boxes[1] = (4, 6, 14, 26)
    with pytest.warns(UserWarning):
        (batch,) = batches([clip], 1, ranges=NO_AUGMENT)
    affine = geometry.crop_affine(geometry.box_to_crop(clip.boxes[1].astype(np.float64)), 32)
    expected = geometry.transform_points(affine, clip.joints[1])
    np.testing.assert_allclose(batch["joints"], np.tile(expected, (8, 1, 1)), atol=1e-4)


def test_clip_without_readable_frames_stops_training():
    clips = coded_clips([2], broken={(0, 0), (0, 1)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            DataError, match="^clip clip0: none of its 2 frames can be read. file.*damaged"
        ):
            batches(clips, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 9, "process": (0, 2)}, "batch_size 9 can't be sliced"),
        ({"process": (2, 2)}, "process 2 of 2"),
        ({"frames_per_epoch": 9}, "frames_per_epoch is 9, .* 4 frames: expected 0 to 4"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        batches(coded_clips([4]), 1, **options)


def test_clips_without_usable_labels_are_refused():
    with pytest.raises(ValueError, match="list of clips is empty"):
        batches([], 1)
    (clip,) = coded_clips([2])
    with pytest.raises(ValueError, match="clip0 has no labels"):
        batches([clip.without_labels()], 1)
    with pytest.raises(ValueError, match="13 joints, but skeleton 'bbc7' has 7"):
        batches([clip], 1, skeleton=BBC7)


def test_pairs_of_real_frames(shared_data):
    clips = penn.clips(shared_data("penn_real"), "train")
    (batch,) = batches(clips, 1, crops=Crops(128, 32, 2.0), ranges=NO_AUGMENT)
    assert batch["weights"].all()
    assert (batch["joints"] > 0).all() and (batch["joints"] < 128).all()
    assert batch["target"].std() > 20


def picture_clip(pictures, boxes, **changes):
    """Return an unlabelled clip; a picture that is an error is raised when read."""

    def read(index):
        if isinstance(pictures[index], Exception):
            raise pictures[index]
        return pictures[index]

    boxes = np.broadcast_to(np.float32(boxes), (len(pictures), 4))
    return Clip("own", "own", "test", len(pictures), read, boxes, **changes)


def cut_all(frames, size=4, start=0):
    """All chunks of a subject's frames, joined."""
    with ThreadPoolExecutor(3) as pool:
        return Frames(*map(np.concatenate, zip(*frames.chunks(size, pool, start), strict=True)))


def test_subject_in_original_pixels():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 100, 130, 3), np.uint8)
    frames = SubjectFrames(picture_clip(pictures, [10, 20, 50, 90]), image_size=32)
    assert len(frames) == 5 and frames.shape == (128, 192)
    windows = frames.read(range(5))
    assert windows.pictures.shape == (5, 128, 192, 3) and windows.pictures.dtype == np.uint8
    np.testing.assert_array_equal(windows.pictures[:, :100, :130], pictures)
    assert not windows.pictures[:, 100:].any() and not windows.pictures[:, :, 130:].any()
    np.testing.assert_array_equal(windows.views, np.tile([1, 0, 0], (5, 1)))
    np.testing.assert_allclose(windows.crops, np.tile([30, 55 + 0.075 * 70, 87.5], (5, 1)))
    assert windows.crops.dtype == windows.views.dtype == np.float32 and windows.valid.all()


def test_windows_of_a_shrunk_picture_hold_the_person_where_the_view_says():
    joint = np.array([211.0, 133.0])
    picture = np.zeros((301, 401, 3), np.uint8)
    cv2.circle(picture, (211, 133), 9, (255, 255, 255), -1)
    # Crop sides 1.25 * (80, 160, 240), to become 2 * 32 at most.
    boxes = [[100, 50, 180, 100], [100, 50, 260, 100], [100, 50, 340, 100]]
    frames = SubjectFrames(
        picture_clip([picture] * 3, boxes), image_size=32, oversample=2, context=1.0
    )
    windows = frames.read(range(3))
    assert frames.shape == (64, 64)
    np.testing.assert_allclose(windows.views[:, 0], [0.64, 0.32, 64 / 300], rtol=1e-6)
    np.testing.assert_allclose(windows.crops, geometry.box_to_crop(np.float64(boxes)), rtol=1e-6)
    mass = windows.pictures[1, ..., 0].astype(float)
    ys, xs = np.indices(mass.shape)
    centre = np.array([(mass * xs).sum(), (mass * ys).sum()]) / mass.sum()
    zoom, *corner = windows.views[1]
    np.testing.assert_allclose(centre, (joint + 0.5) * zoom - 0.5 - corner, atol=0.05)
    # What the network is shown is the crop of the whole picture, up to the shrinking.
    affine = geometry.crop_affine(windows.crops[1], 32)
    own = geometry.window_affine(affine, windows.views[1])
    seen = geometry.transform_points(own, centre[None])[0]
    np.testing.assert_allclose(seen, geometry.transform_points(affine, joint[None])[0], atol=0.1)


def test_windows_lie_around_the_crop_and_inside_the_picture():
    picture = np.arange(300 * 400).reshape(300, 400, 1).repeat(3, 2).astype(np.uint8)
    boxes = [[0, 0, 20, 30], [200, 150, 220, 180], [380, 270, 400, 300]]
    frames = SubjectFrames(picture_clip([picture] * 3, boxes), image_size=32, oversample=1)
    windows = frames.read(range(3))
    assert frames.shape == (64, 64)  # twice the crop's 32 pixels
    zoom, corners = windows.views[0, 0], windows.views[:, 1:]
    assert zoom == pytest.approx(32 / 37.5)
    assert (corners[0] == 0).all()
    centre = (windows.crops[1, :2] + 0.5) * zoom - corners[1]
    np.testing.assert_allclose(centre, [32, 32], atol=0.51)
    assert (corners[2] == [round(400 * zoom) - 64, round(300 * zoom) - 64]).all()


def test_subject_is_never_enlarged():
    clip = picture_clip(np.ones((2, 50, 50, 3), np.uint8), [10, 10, 20, 20])
    windows = SubjectFrames(clip, image_size=128, oversample=4).read([0])
    assert windows.views[0, 0] == 1


def test_subject_with_frames_of_several_sizes():
    pictures = [np.full((h, w, 3), 7, np.uint8) for h, w in ((50, 60), (70, 40), (10, 129))]
    frames = SubjectFrames(picture_clip(pictures, [0, 0, 9, 9]), image_size=32)
    assert frames.shape == (64, 64)  # of the first picture
    found = frames.read(range(3)).pictures
    assert [int((f > 0).sum()) for f in found] == [50 * 60 * 3, 64 * 40 * 3, 10 * 64 * 3]


def test_subject_leaves_out_unreadable_frames_and_names_them_once():
    pictures = [np.full((50, 60, 3), 7, np.uint8)] * 12
    for index in range(7):
        pictures[index] = FrameError(f"bad{index}.jpg is cut off")
    frames = SubjectFrames(picture_clip(pictures, [0, 0, 9, 9]), image_size=32)
    with pytest.warns(UserWarning, match=r"(?s)7 of 12 .*bad0.jpg.*bad4.jpg.*and 2 more") as caught:
        first, again = (cut_all(frames) for _ in range(2))
    assert len(caught) == 1
    np.testing.assert_array_equal(np.flatnonzero(~first.valid), range(7))
    assert not first.pictures[~first.valid].any() and first.pictures[first.valid].any()
    np.testing.assert_array_equal(first.pictures, again.pictures)
    with pytest.raises(FrameError, match="clip own: none of its 3 frames.*bad2.jpg"):
        SubjectFrames(picture_clip(pictures[2:5], [0, 0, 9, 9]), image_size=32)


def test_chunks_are_whole_and_start_anywhere():
    pictures = np.random.default_rng(0).integers(0, 256, (10, 40, 50, 3), np.uint8)
    frames = SubjectFrames(picture_clip(pictures, [5, 5, 30, 30]), image_size=16, oversample=1)
    every = cut_all(frames)
    assert len(every.valid) == 12 and every.valid.sum() == 10
    assert np.isfinite(every.crops).all() and (every.crops[:, 2] > 0).all()
    for a, b in zip(cut_all(frames, start=4), every, strict=True):
        np.testing.assert_array_equal(a, b[4:])
    for a, b in zip(frames.read([7, 2]), every, strict=True):
        np.testing.assert_array_equal(a, b[[7, 2]])


def test_a_subject_holds_few_frames_and_no_labels():
    held, most, lock = set(), [0], threading.Lock()

    class Counted(np.ndarray):
        def __del__(self):
            held.discard(id(self))

    def read(index):
        picture = np.full((400, 400, 3), index, np.uint8).view(Counted)
        with lock:
            held.add(id(picture))
            most[0] = max(most[0], len(held))
        return picture

    labels = np.ones((200, 13, 2), np.float32)
    boxes = np.tile(np.float32([0, 0, 390, 390]), (200, 1))
    clip = Clip("own", "own", "test", 200, read, boxes, labels, labels[..., 0] > 0)
    frames = SubjectFrames(clip, image_size=16, oversample=1)
    assert frames.clip.joints is None and frames.clip.visible is None
    with ThreadPoolExecutor(4) as pool:
        count = sum(int(chunk.valid.sum()) for chunk in frames.chunks(8, pool))
    assert count == 200 and most[0] <= 3 * 8


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_device_prefetch_keeps_order_and_depth(depth):
    put = []
    stream = device_prefetch(range(4), lambda item: put.append(item) or -item, depth)
    assert put == []
    got = []
    for item in stream:
        got.append(item)
        assert len(put) == min(4, len(got) + depth - 1)
    assert got == [0, -1, -2, -3]
    with pytest.raises(ValueError, match="depth is 0"):
        list(device_prefetch([], abs, 0))


def test_memory_mapped_clip_is_read_in_place(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    np.save(tmp_path / "frames.npy", pictures)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    labels = {"joints": np.ones((3, 13, 2), np.float32), "visible": np.ones((3, 13), bool)}
    clips = [picture_clip(source, [0, 0, 40, 40], **labels) for source in (pictures, mapped)]
    assert_same(*(batches([clip], 2) for clip in clips))
    a, b = (SubjectFrames(clip, image_size=16, oversample=1).read(range(3)) for clip in clips)
    np.testing.assert_array_equal(a.pictures, b.pictures)


def test_test_time_needs_no_tensorflow():
    code = (
        "import sys, numpy as np; from data_pipelines import windows; from data_pipelines.clips "
        "import Clip; c = Clip('a', 'a', 'test', 1, lambda i: np.ones((9, 9, 3), np.uint8), "
        "np.float32([[0, 0, 5, 5]])); windows.SubjectFrames(c, image_size=8).read([0]); "
        "assert not {'tensorflow', 'flax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)


def test_tensorflow_starts_in_silence_and_real_errors_are_seen():
    code = (
        "import os; from data_pipelines import pipeline\n"
        "with pipeline._without_startup_lines():\n"
        "    os.write(2, b'E0000 cuda_platform.cc:52] failed call to cuInit\\nreal trouble\\n')\n"
        "pipeline.tensorflow(); from clu import metric_writers\n"
    )
    # The most that TensorFlow can say.
    talkative = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=REPO, env=talkative, check=True, capture_output=True, text=True
    )
    assert done.stderr == "real trouble\n"
