"""Each export is read back by the tool that it is for, or by the format's own library."""

import csv
import json
import resource
import sys

import h5py
import numpy as np
import pandas
import pyarrow.parquet
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ttp_jax import exports, skeletons
from ttp_jax.skeletons import BBC7, PENN13

WIDTH, HEIGHT = 320, 240
FIRST, FRAMES = 7, 6  # number of the first row in the video, rows
EMPTY = [0, 4]  # rows without a prediction
LONE = 2, 5  # a row and the joint that it misses
TEXT = {"rtol": 0, "atol": 5.1e-5}  # four decimals


def example(**changes):
    rng = np.random.default_rng(0)
    joints = rng.uniform((0, 0), (WIDTH, HEIGHT), (FRAMES, PENN13.size, 2)).astype(np.float32)
    joints[EMPTY], joints[LONE] = np.nan, np.nan
    likelihood = rng.uniform(-0.1, 1.2, joints.shape[:2]).astype(np.float32)
    track = exports.Track(
        "video.1", joints, likelihood, PENN13, 24.0, FIRST, (WIDTH, HEIGHT), np.ones((FRAMES, 4))
    )
    return track._replace(**changes)


def expected(track):
    """Joints and likelihoods as a reader must find them, NaN where there are none."""
    missing = np.isnan(track.joints[..., 0])
    return track.joints, np.where(missing, np.nan, np.clip(track.confidence, 0, 1))


def written(folder, kind, track=None):
    (path,) = exports.write(example() if track is None else track, folder, [kind])
    return path


def movement(path, software):
    """What the package of that name reads: [T, K, 3] of x, y and confidence."""
    from movement.io import load_dataset

    found = load_dataset(path, source_software=software, fps=24).squeeze("individuals")
    assert found.keypoints.values.tolist() == list(PENN13.joints)
    assert found.space.values.tolist() == ["x", "y"]
    np.testing.assert_allclose(found.time, np.arange(len(found.time)) / 24)
    position = found.position.transpose("time", "keypoints", "space")
    confidence = found.confidence.transpose("time", "keypoints")
    return np.concatenate([position, confidence.values[..., None]], -1)


# --- DeepLabCut ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dlc-csv", "dlc-h5"])
def test_movement_reads_deeplabcut(tmp_path, kind):
    found = movement(written(tmp_path, kind), "DeepLabCut")
    joints, likelihood = expected(example())
    np.testing.assert_allclose(found[..., :2], joints, **TEXT)
    np.testing.assert_allclose(found[..., 2], likelihood, **TEXT)


def test_csv_has_three_header_rows_and_the_frames_numbers(tmp_path):
    with written(tmp_path, "dlc-csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:5] for row in rows[:3]] == [
        ["scorer", "ttp_jax", "ttp_jax", "ttp_jax", "ttp_jax"],
        ["bodyparts", "head", "head", "head", "left_shoulder"],
        ["coords", "x", "y", "likelihood", "x"],
    ]
    assert [int(row[0]) for row in rows[3:]] == list(range(FIRST, FIRST + FRAMES))
    assert {len(row) for row in rows} == {1 + 3 * PENN13.size}
    table = np.array(rows[3:], float)[:, 1:].reshape(FRAMES, PENN13.size, 3)
    joints, likelihood = expected(example())
    np.testing.assert_allclose(table[..., :2], joints, **TEXT)
    np.testing.assert_allclose(table[..., 2], likelihood, **TEXT)


def test_lightning_pose_gets_the_table_that_it_writes_itself(tmp_path):
    path = written(tmp_path, "lightning-pose")
    assert path.name.endswith(".lightning_pose.csv")
    table = pandas.read_csv(path, header=[0, 1, 2], index_col=0)  # as Lightning Pose does
    assert table.columns.get_level_values(0).unique().tolist() == ["heatmap_tracker"]
    assert table.columns.get_level_values(1).unique().tolist() == list(PENN13.joints)
    joints, likelihood = expected(example())
    found = table.to_numpy().reshape(FRAMES, PENN13.size, 3)
    np.testing.assert_allclose(found[..., :2], joints, **TEXT)
    np.testing.assert_allclose(found[..., 2], likelihood, **TEXT)


def test_h5_is_the_table_deeplabcut_stores(tmp_path):
    path = written(tmp_path, "dlc-h5")
    table = pandas.read_hdf(path, "df_with_missing")
    assert list(table.columns.names) == ["scorer", "bodyparts", "coords"]
    assert table.index.tolist() == list(range(FIRST, FIRST + FRAMES))
    joints, likelihood = expected(example())
    head = table["ttp_jax"]["head"]
    np.testing.assert_array_equal(head[["x", "y"]], joints[:, 0])
    np.testing.assert_array_equal(head["likelihood"], likelihood[:, 0])
    with h5py.File(path) as file:  # pandas before 3 can't read the table without
        assert file["df_with_missing"].attrs["pandas_version"] == b"0.15.2"


# --- Ensemble Kalman Smoother --------------------------------------------------------------------


def ensemble():
    """Three noisy tracks of one walk [T, K, 2], and the walk."""
    rng = np.random.default_rng(0)
    walk = 100 + rng.normal(0, 1, (40, PENN13.size, 2)).cumsum(0)
    noisy = {seed: walk + rng.normal(0, 1, walk.shape) for seed in (3, 1, 20)}
    likelihood = rng.uniform(0.5, 1, walk.shape[:2])
    tracks = {s: exports.Track("v", joints, likelihood, PENN13) for s, joints in noisy.items()}
    tracks[1].joints[0] = np.nan  # others have it
    return tracks, walk


def test_ensemble_members_read_the_way_eks_reads_them(tmp_path):
    tracks, _ = ensemble()
    paths = exports.write_eks(tracks, tmp_path / "ensemble")
    assert [path.name for path in paths] == [f"predictions.rng={seed}.csv" for seed in tracks]
    assert sorted(paths) == sorted((tmp_path / "ensemble").iterdir())
    for track, path in zip(tracks.values(), paths, strict=True):
        table = pandas.read_csv(path, header=[0, 1, 2], index_col=0)  # eks.utils.format_data
        coords = table.columns.get_level_values("coords")
        names = table.columns[coords == "x"].get_level_values("bodyparts")
        assert names.tolist() == list(PENN13.joints)
        assert table.index.tolist() == list(range(len(track.joints)))
        np.testing.assert_allclose(table.loc[:, coords == "y"], track.joints[..., 1], **TEXT)


def test_members_that_do_not_fit_are_named(tmp_path):
    tracks, _ = ensemble()
    late = {**tracks, 3: tracks[3]._replace(first_frame=5)}
    with pytest.raises(ValueError, match=r"3: \(5, 40\).*same frames and joints"):
        exports.write_eks(late, tmp_path)
    with pytest.raises(ValueError, match="at least one track"):
        exports.write_eks({}, tmp_path)
    for track in tracks.values():
        track.joints[8, 3] = np.nan
    with pytest.raises(ValueError, match="left_elbow is missing from frame 8 of every track"):
        exports.write_eks(tracks, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_eks_smooths_the_ensemble(tmp_path):
    # ensemble-kalman-smoother 4.6 wants jax 0.4.36 or older, so give it an environment of its own,
    # and run there: pytest --noconftest -o addopts= tests/test_exports.py -k eks
    eks = pytest.importorskip("eks")
    tracks, walk = ensemble()
    exports.write_eks(tracks, tmp_path / "ensemble")
    table, *_ = eks.fit_eks_singlecam(str(tmp_path / "ensemble"), str(tmp_path / "out" / "s.csv"))
    smooth = np.stack([table.xs(part, level="coords", axis=1) for part in "xy"], -1)
    assert smooth.shape == walk.shape
    single = np.nanmean(np.abs(tracks[3].joints - walk))
    assert np.abs(smooth - walk).mean() < 0.8 * single


# --- COCO ----------------------------------------------------------------------------------------


def ground_truth(path, joints):
    """A COCO file with a person in every frame, and the picture's number from 0."""
    names, size = list(PENN13.joints), PENN13.size
    annotations = []
    for t, points in enumerate(joints):
        low, high = points.min(0), points.max(0)
        box = [float(value) for value in (*low, *(high - low))]
        annotations.append(
            {
                "id": t + 1,
                "image_id": FIRST + t,
                "category_id": 1,
                "keypoints": np.c_[points, np.full(size, 2)].ravel().tolist(),
                "num_keypoints": size,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
    images = [{"id": FIRST + t, "width": WIDTH, "height": HEIGHT} for t in range(len(joints))]
    categories = [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}]
    text = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(text))
    return COCO(path)


def score(truth, path):
    """Average precision and recall at all thresholds."""
    evaluation = COCOeval(truth, truth.loadRes(str(path)), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.full(PENN13.size, 0.05)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[[0, 5]]


def test_coco_evaluates_the_results(tmp_path):
    rng = np.random.default_rng(0)
    joints = rng.uniform((0, 0), (WIDTH, HEIGHT), (FRAMES, PENN13.size, 2))
    truth = ground_truth(tmp_path / "truth.json", joints)
    likelihood = np.ones(joints.shape[:2])
    track = exports.Track("right", joints, likelihood, PENN13, first_frame=FIRST)
    np.testing.assert_allclose(score(truth, written(tmp_path, "coco", track)), 1)
    far = track._replace(name="far", joints=joints + 60)
    assert (score(truth, written(tmp_path, "coco", far)) < 0.2).all()
    joints = joints.copy()
    joints[:2] = np.nan
    path = written(tmp_path, "coco", track._replace(name="some", joints=joints))
    precision, recall = score(truth, path)
    assert recall == pytest.approx(4 / 6) and precision < 0.8


def test_coco_results_hold_the_predictions(tmp_path):
    track = example()
    truth = ground_truth(tmp_path / "truth.json", np.ones((FRAMES, PENN13.size, 2)))
    found = truth.loadRes(str(written(tmp_path, "coco")))
    joints, likelihood = expected(track)
    rows = [t for t in range(FRAMES) if t not in EMPTY]
    assert found.getImgIds() == truth.getImgIds()
    assert [a["image_id"] for a in found.loadAnns(found.getAnnIds())] == [FIRST + t for t in rows]
    for t, annotation in zip(rows, found.loadAnns(found.getAnnIds()), strict=True):
        values = np.concatenate([joints[t], likelihood[t, :, None]], -1)
        values = np.nan_to_num(values)  # COCO writes 0, 0, 0 for a joint that isn't there
        np.testing.assert_allclose(np.reshape(annotation["keypoints"], (-1, 3)), values, **TEXT)
        assert annotation["score"] == pytest.approx(np.nanmean(likelihood[t]), abs=1e-4)
        assert annotation["category_id"] == 1


def test_every_tenth_frame_keeps_its_number_and_time(tmp_path):
    """Of a video of 240 frames a second; formats without gaps count the rows."""
    track = example(first_frame=40, step=10)
    frames = [40 + 10 * t for t in range(FRAMES)]
    table = written(tmp_path, "dlc-csv", track).read_text().splitlines()
    assert [int(line.split(",")[0]) for line in table[3:]] == frames
    results = json.loads(written(tmp_path, "coco", track).read_text())
    assert {row["image_id"] for row in results} == {
        f for t, f in enumerate(frames) if t not in EMPTY
    }
    lines = written(tmp_path, "trc", track).read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines if line[:1].isdigit() and "\t0." in line]
    assert [int(row[0]) for row in rows] == [5 + t for t in range(FRAMES)]
    np.testing.assert_allclose([float(row[1]) for row in rows], np.array(frames) / 240, atol=1e-6)
    with h5py.File(written(tmp_path, "sleap", track)) as file:
        assert file["track_occupancy"].shape == (4 + FRAMES, 1)


# --- SLEAP ---------------------------------------------------------------------------------------


def test_movement_reads_sleap(tmp_path):
    found = movement(written(tmp_path, "sleap"), "SLEAP")
    joints, likelihood = expected(example())
    assert len(found) == FIRST + FRAMES and np.isnan(found[:FIRST]).all()
    np.testing.assert_array_equal(found[FIRST:, :, :2], joints)
    np.testing.assert_array_equal(found[FIRST:, :, 2], likelihood)


def test_sleap_io_reads_sleap(tmp_path):
    import sleap_io

    labels = sleap_io.load_file(str(written(tmp_path, "sleap")))
    joints, likelihood = expected(example())
    rows = [t for t in range(FRAMES) if t not in EMPTY]
    assert [frame.frame_idx for frame in labels] == [FIRST + t for t in rows]
    assert labels.skeleton.node_names == list(PENN13.joints)
    assert labels.skeleton.edge_inds == list(PENN13.limbs)
    assert [track.name for track in labels.tracks] == ["video.1"]
    for t, frame in zip(rows, labels, strict=True):
        (person,) = frame.instances
        np.testing.assert_array_equal(person.numpy(), joints[t])
        np.testing.assert_array_equal(person.points["score"], likelihood[t])
        assert person.score == pytest.approx(np.nanmean(likelihood[t]))


def test_names_of_joints_may_hold_commas_and_quotes(tmp_path):
    names = ["left, ear", 'the "tip"', "ö (x)"]
    joints, likelihood = np.ones((2, 3, 2), np.float32), np.ones((2, 3), np.float32)
    track = exports.Track("v", joints, likelihood, skeletons.build("mouse", names))
    table = pandas.read_csv(written(tmp_path, "dlc-csv", track), header=[0, 1, 2], index_col=0)
    assert table.columns.get_level_values(1)[::3].tolist() == names


def test_sleap_io_reads_predictions_in_their_video(tmp_path):
    import made_projects
    import sleap_io

    video = tmp_path / "video.1.mp4"
    shown = made_projects.video(video, FIRST + FRAMES)
    track = example(video=str(video))
    path = written(tmp_path / "exports", "slp", track)
    assert path.name == "video.1.predictions.slp"
    labels = sleap_io.load_file(str(path))
    joints, likelihood = expected(track)
    rows = [row for row in range(FRAMES) if row not in EMPTY]
    assert [frame.frame_idx for frame in labels] == [FIRST + row for row in rows]
    assert labels.skeleton.node_names == list(PENN13.joints)
    assert [tuple(edge) for edge in labels.skeleton.edge_inds] == list(PENN13.limbs)
    assert not any(frame.user_instances for frame in labels)  # predictions, to be corrected
    for row, frame in zip(rows, labels, strict=True):
        (instance,) = frame.predicted_instances
        np.testing.assert_allclose(instance.numpy(), joints[row], atol=1e-4)
        scores = instance.points["score"]
        there = ~np.isnan(likelihood[row])
        np.testing.assert_allclose(scores[there], likelihood[row][there], atol=1e-6)
        assert instance.score == pytest.approx(np.nanmean(likelihood[row]))
        assert instance.track.name == "video.1"
    assert labels.video.filename == str(video)
    np.testing.assert_array_equal(np.asarray(labels[0].image).shape[:2], shown[0].shape[:2])


def test_sleap_io_reads_predictions_of_pictures(tmp_path):
    import made_projects
    import sleap_io

    names = [f"img{i}.png" for i in range(FRAMES)]
    for number, name in enumerate(names):
        made_projects.picture(tmp_path / "video.1" / name, seed=number)
    track = example(video=str(tmp_path / "video.1"), pictures=names)
    labels = sleap_io.load_file(str(written(tmp_path, "slp", track)))
    assert [frame.frame_idx for frame in labels] == [1, 2, 3, 5]
    assert labels.video.filename == [str(tmp_path / "video.1" / name) for name in names]
    from PIL import Image

    own = np.asarray(Image.open(tmp_path / "video.1/img2.png"))
    np.testing.assert_array_equal(labels[1].image, own)


@pytest.mark.parametrize("name", ["mouse #{}.png", "{}#1.png"])
def test_sleap_finds_pictures_whose_names_hold_a_number_sign(tmp_path, name):
    import made_projects
    import sleap_io

    names = [name.format(i) for i in range(FRAMES)]
    for number, each in enumerate(names):
        made_projects.picture(tmp_path / "video.1" / each, seed=number)
    track = example(video=str(tmp_path / "video.1"), pictures=names)
    labels = sleap_io.load_file(str(written(tmp_path, "slp", track)))
    assert labels.video.filename == [str(tmp_path / "video.1" / name) for name in names]
    assert [frame.frame_idx for frame in labels] == [1, 2, 3, 5]


def test_joints_lie_where_tools_show_them_if_pixels_are_not_square(tmp_path):
    """SLEAP and DeepLabCut draw on the stored frames, which `media` stretches."""
    import made_projects
    import sleap_io

    from data_pipelines import media
    from ttp_jax import dlc_analysis

    made_projects.video(tmp_path / "hdv.mp4", 2, aspect=(2, 1))
    (clip,) = media.clips([tmp_path / "hdv.mp4"])
    height, width = clip.largest
    assert clip.stored_size == (height, width // 2) == made_projects.SIZE
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])  # of the whole frame
    track = exports.Track(
        *("hdv", np.tile(corners, (2, 1, 1)), np.ones((2, 2)), skeletons.build("a", ["b", "c"])),
        picture_size=(width, height), stored_size=clip.stored_size[::-1], video=clip.source,
    )  # fmt: skip
    labels = sleap_io.load_file(str(written(tmp_path, "slp", track)))
    stored = np.asarray(labels[0].image).shape
    drawn = [[-0.5, -0.5], [stored[1] - 0.5, stored[0] - 0.5]]
    np.testing.assert_allclose(labels[0].predicted_instances[0].numpy(), drawn)
    h5, *_ = dlc_analysis.write(track, tmp_path, "after")
    table = pandas.read_hdf(h5).to_numpy().reshape(2, 2, 3)
    np.testing.assert_allclose(table[0, :, :2], drawn)
    (path,) = exports.write(track, tmp_path, ["npz"])
    np.testing.assert_allclose(np.load(path)["joints"][0], corners)  # square, to measure angles


def test_sleap_has_the_datasets_and_axes_of_its_own_export(tmp_path):
    total, size, limbs = FIRST + FRAMES, PENN13.size, len(PENN13.limbs)
    with h5py.File(written(tmp_path, "sleap")) as file:
        shapes = {name: data.shape for name, data in file.items()}
        occupied = file["track_occupancy"][:, 0]
        ends = file["node_names"][:][file["edge_inds"][:]]
        np.testing.assert_array_equal(ends, file["edge_names"])
    assert shapes == {
        "tracks": (1, 2, size, total),
        "track_occupancy": (total, 1),
        "point_scores": (1, size, total),
        "instance_scores": (1, total),
        "tracking_scores": (1, total),
        "track_names": (1,),
        "node_names": (size,),
        "edge_names": (limbs, 2),
        "edge_inds": (limbs, 2),
    }
    assert np.flatnonzero(occupied).tolist() == [8, 9, 10, 12]


# --- OpenSim -------------------------------------------------------------------------------------


@pytest.fixture
def opensim(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it writes a log
    return pytest.importorskip("opensim")


def upright(joints, top):
    """X and Y as OpenSim must have them, y up, in millimetres, and Z."""
    x, y = np.moveaxis(joints.astype(float), -1, 0)
    return np.stack([x, top - y, np.where(np.isnan(x), np.nan, 0)], -1)


@pytest.mark.parametrize(("size", "top"), [((WIDTH, HEIGHT), HEIGHT - 1), (None, 0)])
def test_opensim_reads_its_marker_file(tmp_path, opensim, size, top):
    track = example(picture_size=size)
    path = written(tmp_path, "trc", track)
    table = opensim.TimeSeriesTableVec3(str(path))
    assert table.getColumnLabels() == PENN13.joints
    assert table.getTableMetaDataString("Units") == "mm"
    assert float(table.getTableMetaDataString("DataRate")) == 24
    times = (FIRST + np.arange(FRAMES)) / 24
    np.testing.assert_allclose(table.getIndependentColumn(), times, atol=1e-6)
    columns = [table.getDependentColumn(name) for name in PENN13.joints]
    found = [[column[t].to_numpy() for column in columns] for t in range(FRAMES)]
    np.testing.assert_allclose(found, upright(track.joints, top), **TEXT)


def test_opensim_takes_the_markers_to_metres(tmp_path, opensim):
    """Read by the other of its two parsers, which knows units."""
    data = opensim.MarkerData(str(written(tmp_path, "trc")))
    data.convertToUnits(opensim.Units(opensim.Units.Meters))
    found = np.zeros((FRAMES, PENN13.size, 3))
    for t in range(FRAMES):
        frame = data.getFrame(t)
        assert frame.getFrameNumber() == FIRST + t + 1
        found[t] = [frame.getMarker(k).to_numpy() for k in range(PENN13.size)]
    np.testing.assert_allclose(found, upright(example().joints, HEIGHT - 1) / 1000, atol=1e-7)


# --- NumPy, Parquet ------------------------------------------------------------------------------


def test_npz_holds_all_of_the_track(tmp_path):
    joints, likelihood = expected(example())
    with np.load(written(tmp_path, "npz")) as stored:
        np.testing.assert_array_equal(stored["joints"], joints)
        np.testing.assert_array_equal(stored["confidence"], likelihood)
        assert stored["names"].tolist() == list(PENN13.joints)
        np.testing.assert_array_equal(stored["limbs"], PENN13.limbs)
        assert stored["fps"] == 24 and stored["first_frame"] == FIRST
        assert stored["picture_size"].tolist() == [WIDTH, HEIGHT]
        assert stored["boxes"].shape == (FRAMES, 4)
    plain = example(picture_size=None, boxes=None)
    with np.load(written(tmp_path, "npz", plain)) as stored:
        assert not {"picture_size", "boxes"} & set(stored)


def test_parquet_is_a_tidy_table(tmp_path):
    path = written(tmp_path, "parquet")
    joints, likelihood = expected(example())
    table = pandas.read_parquet(path)
    assert table.columns.tolist() == ["frame", "keypoint", "x", "y", "confidence"]
    assert len(table) == FRAMES * PENN13.size
    one = table.query("frame == 8 and keypoint == 'left_elbow'").iloc[0]
    assert (one.x, one.y, one.confidence) == (*joints[1, 3], likelihood[1, 3])
    for part, values in (("x", joints[..., 0]), ("y", joints[..., 1]), ("confidence", likelihood)):
        wide = table.pivot(index="frame", columns="keypoint", values=part)[list(PENN13.joints)]
        np.testing.assert_array_equal(wide, values)
    stored = pyarrow.parquet.read_table(path)
    assert stored["x"].null_count == 2 * PENN13.size + 1  # for readers that tell null from NaN
    about = {key.decode(): json.loads(value) for key, value in stored.schema.metadata.items()}
    assert about == {
        "name": "video.1",
        "skeleton": "penn13",
        "joints": list(PENN13.joints),
        "limbs": [list(limb) for limb in PENN13.limbs],
        "frames_per_second": 24.0,
        "first_frame": FIRST,
        "step": 1,
        "picture_size": [WIDTH, HEIGHT],
    }


# --- The p-cutoff --------------------------------------------------------------------------------


PCUTOFF = 0.6


def cut():
    """A track with a p-cutoff; its joints and likelihood; which joints are below it."""
    track = example(pcutoff=PCUTOFF)
    joints, likelihood = expected(track)
    below = likelihood < PCUTOFF
    assert 10 < below.sum() < joints[..., 0].size - 20
    return track, np.where(below[..., None], np.nan, joints), likelihood, below


@pytest.mark.parametrize("kind", ["dlc-csv", "dlc-h5"])
def test_deeplabcut_s_tables_keep_the_likelihood_of_what_is_cut(tmp_path, kind):
    track, joints, likelihood, _ = cut()
    found = movement(written(tmp_path, kind, track), "DeepLabCut")
    np.testing.assert_allclose(found[..., :2], joints, **TEXT)
    np.testing.assert_allclose(found[..., 2], likelihood, **TEXT)


def test_numpy_and_parquet_keep_it_too_and_say_what_the_cutoff_was(tmp_path):
    track, joints, likelihood, _ = cut()
    with np.load(written(tmp_path, "npz", track)) as stored:
        np.testing.assert_array_equal(stored["joints"], joints)
        np.testing.assert_array_equal(stored["confidence"], likelihood)
        assert stored["pcutoff"] == PCUTOFF
    path = written(tmp_path, "parquet", track)
    table = pandas.read_parquet(path)
    np.testing.assert_array_equal(table["x"], joints[..., 0].ravel())
    np.testing.assert_array_equal(table["confidence"], likelihood.ravel())
    assert json.loads(pyarrow.parquet.read_schema(path).metadata[b"pcutoff"]) == PCUTOFF


def test_what_is_cut_is_missing_in_sleap_coco_and_opensim(tmp_path):
    track, joints, likelihood, below = cut()
    kept = np.where(below, np.nan, likelihood)
    found = movement(written(tmp_path, "sleap", track), "SLEAP")[FIRST:]
    np.testing.assert_array_equal(found[..., :2], joints)
    np.testing.assert_array_equal(found[..., 2], kept)
    for row in json.loads(written(tmp_path, "coco", track).read_text()):
        t = row["image_id"] - FIRST
        triples = np.reshape(row["keypoints"], (-1, 3))
        assert (triples[np.isnan(kept[t])] == 0).all() and (triples[~np.isnan(kept[t])] != 0).all()
        assert row["score"] == pytest.approx(np.nanmean(kept[t]), abs=1e-4)
    lines = written(tmp_path, "trc", track).read_text().splitlines()
    cells = np.array([line.split("\t")[2::3] for line in lines[-FRAMES:]], float)
    np.testing.assert_allclose(cells, joints[..., 0], **TEXT)


def test_a_frame_without_a_likely_joint_is_a_frame_without_a_person(tmp_path):
    likelihood = example().confidence.copy()
    likelihood[2] = 0.1
    track = example(confidence=likelihood, pcutoff=PCUTOFF)
    results = json.loads(written(tmp_path, "coco", track).read_text())
    assert FIRST + 2 not in {row["image_id"] for row in results}
    with h5py.File(written(tmp_path, "sleap", track)) as file:
        assert file["track_occupancy"][FIRST + 2, 0] == 0


def test_without_a_p_cutoff_nothing_changes(tmp_path):
    for kind in exports.FORMATS:
        plain = written(tmp_path / "a", kind).read_bytes()
        same = written(tmp_path / "b", kind, example(pcutoff=0.0)).read_bytes()
        assert plain == same or kind == "dlc-h5"  # HDF5 has times inside


def test_the_smoother_gets_every_joint(tmp_path):
    tracks, _ = ensemble()
    cut_off = {seed: track._replace(pcutoff=0.9) for seed, track in tracks.items()}
    for one, other in zip(
        exports.write_eks(tracks, tmp_path / "a"),
        exports.write_eks(cut_off, tmp_path / "b"),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()


# --- Files, errors -------------------------------------------------------------------------------


def test_files_are_named_after_the_track(tmp_path):
    paths = exports.write(example(), tmp_path / "new", list(exports.FORMATS), "_after_adapt")
    endings = ["csv", "h5", "json", "analysis.h5", "predictions.slp", "trc", "npz", "parquet"]
    endings.append("lightning_pose.csv")
    assert [path.name for path in paths] == [f"video.1_after_adapt.{end}" for end in endings]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", list(exports.FORMATS))
def test_a_subject_without_any_prediction_can_be_written(tmp_path, kind):
    nowhere = np.full((FRAMES, BBC7.size, 2), np.nan)
    track = exports.Track("none", nowhere, nowhere[..., 0], BBC7)
    assert written(tmp_path, kind, track).stat().st_size


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = written(tmp_path, "npz")
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        written(tmp_path, "npz")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_reads_it_to_the_end(tmp_path):
    path = written(tmp_path, "dlc-csv")
    before = path.read_bytes()
    with path.open("rb") as old:
        written(tmp_path, "dlc-csv", example(first_frame=100))
        assert old.read() == before != path.read_bytes()


def test_unknown_formats_are_named_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"\['c3d'\], expected some of dlc-csv, dlc-h5, coco"):
        exports.write(example(), tmp_path, ["npz", "c3d"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", list(exports.FORMATS))
def test_tracks_that_no_file_can_hold_are_refused(tmp_path, kind):
    track = example()
    infinite, unsure = track.joints.copy(), track.confidence.copy()
    infinite[3, 2, 1], unsure[3, 2] = np.inf, np.nan
    for changes, message in (
        ({"skeleton": BBC7}, r"video.1: got joints \(6, 13, 2\).*\[T, 7, 2\].* for bbc7"),
        ({"confidence": track.confidence[1:]}, r"confidence \(5, 13\)"),
        ({"joints": track.joints[:0], "confidence": track.confidence[:0]}, "T >= 1"),
        ({"joints": infinite}, "row 3 has an infinite joint"),
        ({"confidence": unsure}, "row 3 has .* without a confidence"),
        ({"frames_per_second": 0.0}, "0.0 frames per second"),
        ({"pcutoff": 60.0}, "a p-cutoff of 60.0, expected 0 to 1"),
        ({"pcutoff": float("nan")}, "a p-cutoff of nan, expected 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            exports.write(track._replace(**changes), tmp_path, [kind])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "module", "command"),
    [("dlc-h5", "tables", "pandas tables"), ("parquet", "pyarrow.parquet", "pyarrow")],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, kind, module, command):
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    with pytest.raises(ImportError, match=f"{kind}.*pip install {command}$"):
        written(tmp_path, kind)


# --- Full disks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", exports.FORMATS)
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, kind):
    """HDF5 itself says nothing, or ends the process."""
    exports.check([kind])
    old = written(tmp_path, kind).read_bytes()
    rng = np.random.default_rng(0)
    count = 2000
    long = example(
        joints=rng.uniform(0, 99, (count, PENN13.size, 2)),
        confidence=rng.uniform(0, 1, (count, PENN13.size)),
        boxes=None,
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as of a full disk, but of ours
    try:
        with pytest.raises(OSError, match="make room, and run the same command again") as error:
            written(tmp_path, kind, long)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (there,) = tmp_path.iterdir()
    assert error.value.filename == str(there) and there.read_bytes() == old
