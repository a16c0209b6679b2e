"""Outputs for a user's video: from one command to files that other programs can read."""

import csv
import json
import re

import av
import cv2
import numpy as np
import pytest
import small_run

from configs import own
from data_pipelines.clips import Clip, DataError, part
from data_pipelines.video import Video
from ttp_jax import smooth, state
from ttp_jax.checkpoint import SHIPPED, read_model
from ttp_jax.files import write_arrays
from ttp_jax.runs import base_model, experiment, outputs, personal_report, personalization
from ttp_jax.runs.outcome import Outcome
from ttp_jax.runs.outputs import OutputOptions, Outputs
from ttp_jax.runs.overlay import overlay_video
from ttp_jax.runs.personalization import RunOptions
from ttp_jax.runs.results import Result
from ttp_jax.skeletons import PENN13, Skeleton
from ttp_jax.verbs import export

FRAMES = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of the results, and what was printed, of a video with a model's file."""
    folder = tmp_path_factory.mktemp("own video é")
    small_run.prepare(folder, lengths=(FRAMES,))
    video = folder / "my walk.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (60, 50))
    for path in sorted((folder / "people/person0").glob("*.png")):
        writer.write(cv2.imread(str(path)))
    writer.release()
    model = folder / "model.npz"
    made = experiment.build(small_run.get_config())
    assert export.run(made, folder / "work", export.Options(str(model), torch=None)) == 0
    labels = folder / "labels.csv"
    joints = ("left_knee", "right_knee", "head")
    rows = [["scorer", *["me"] * 6], ["bodyparts", *(j for j in joints for _ in range(2))]]
    rows += [["coords", *["x", "y"] * 3], [3, 10, 10, 20, 20, 30, 30], [7, 11, 10, 21, 20, 31, 30]]
    labels.write_text("\n".join(",".join(map(str, row)) for row in rows))
    said = small_run.done(
        small_run.command(
            *("personalize", str(video), f"--model={model}", f"--workdir={folder / 'out'}"),
            *("--scenario=offline", "--frames=2-9", "--formats=dlc-csv,coco", "--smooth=savgol"),
            *("--keypoints=left_knee,right_knee", "--iterations=2", f"--labels={labels}"),
            *("--device=cpu", "--keep=full"),
        )
    )
    return folder / "out/results/offline", said


def test_one_command_gives_keypoints_report_video_and_record(made):
    folder, said = made
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "my walk.csv", "my walk.npz", "my walk.png", "my walk_report.html", "my walk_overlay.mp4",
        "my walk_scores.json", "run.json",
        *(f"exports/my walk_{when}_adapt.{kind}" for when in ("before", "after") for kind in
          ("csv", "json")),
    } <= names  # fmt: skip
    for name in ("my walk_report.html", "my walk_overlay.mp4", "my walk_after_adapt.csv"):
        assert name in said
    assert "not a measure of accuracy" in said and re.search(r"jitter +[\d.]+ -> [\d.]+", said)
    record = json.loads((folder / "run.json").read_text())
    assert record["protocol"].startswith("offline: 2 update(s) per frame")
    assert record["subjects"]["my walk"]["frames"] == 8


def test_the_cost_says_seconds_with_and_without_compiling(made):
    folder, _ = made
    with np.load(folder / "delivery/my walk.npz") as stored:
        cost = json.loads(str(stored["about"]))["cost"]
    assert 0 < cost["seconds a frame, without"] < cost["seconds a frame, with compiling"]
    assert "seconds per frame, without compilation" in (folder / "my walk_report.html").read_text()


def test_rows_keep_the_numbers_of_the_video_s_frames(made):
    folder, _ = made
    rows = list(csv.reader((folder / "my walk.csv").open()))
    assert [row[0] for row in rows[1:]] == [str(t) for t in range(2, 10)]
    table = list(csv.reader((folder / "exports/my walk_after_adapt.csv").open()))
    assert table[1][1:] == ["left_knee"] * 3 + ["right_knee"] * 3
    assert [row[0] for row in table[3:]] == [str(t) for t in range(2, 10)]


def numbers_of(path, columns):
    """Joints and likelihood [T, K, 3] of a table whose last `columns` columns are numbers."""
    rows = [row[-columns:] for row in csv.reader(path.open())]
    numbers = [row for row in rows if re.fullmatch(r"-?[\d.]+", row[0])]
    return np.array(numbers, float).reshape(len(numbers), -1, 3)


def test_before_is_before_and_after_is_after(made):
    """In every file: what the run wrote as its result is "after"."""
    folder, _ = made
    with np.load(folder / "my walk.npz") as stored:
        joints, peaks = stored["joints"], stored["confidence"]
    with np.load(folder / "delivery/my walk.npz") as stored:
        before = stored["joints"]
    table = numbers_of(folder / "my walk.csv", 3 * len(PENN13.joints))
    np.testing.assert_allclose(table[..., :2], joints, atol=1e-4)
    np.testing.assert_allclose(table[..., 2], peaks, atol=1e-4)
    knees = [PENN13.joints.index(name) for name in ("left_knee", "right_knee")]
    for when, whole in (("before", before), ("after", joints)):
        exported = numbers_of(folder / f"exports/my walk_{when}_adapt.csv", 6)
        smoothed = smooth.smooth(whole, "savgol", 25.0)[:, knees]
        np.testing.assert_allclose(exported[..., :2], smoothed, atol=1e-2)
        frames, labelled = [1, 5], np.array([[[10, 10], [20, 20]], [[11, 10], [21, 20]]])
        error = np.linalg.norm(smoothed[frames] - labelled, axis=-1)
        scores = json.loads((folder / "my walk_scores.json").read_text())
        told = scores[when]["RMSE px"]["per_joint"]
        assert told["left_knee"] == pytest.approx(np.sqrt(np.mean(error[:, 0] ** 2)), abs=1e-3)


def test_labels_of_some_frames_are_scored_and_never_needed(made):
    folder, said = made
    found = json.loads((folder / "my walk_scores.json").read_text())
    assert set(found) == {"before", "after"}
    assert "6 joints in 2 labelled frames are scored" in said and re.search(
        r"RMSE +[\d.]+ -> [\d.]+ px", said
    )
    json.loads((folder / "my walk_scores.json").read_text(), parse_constant=pytest.fail)  # no NaN


def test_the_report_has_both_poses_and_says_what_it_is_not(made):
    folder, _ = made
    page = (folder / "my walk_report.html").read_text()
    assert "None of these numbers measures accuracy" in page and "reconstruction loss" in page
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert len(data["before"]) == len(data["after"]) == len(data["names"]) == 8
    assert data["before"] != data["after"]


def test_a_browser_shows_the_report(made, browser):
    folder, _ = made
    browser.get((folder / "my walk_report.html").as_uri())
    slider = browser.find_element("css selector", "input[type=range]")
    browser.execute_script("arguments[0].value = 3; arguments[0].oninput?.()", slider)
    assert slider.get_attribute("max") == "7" and "my walk" in browser.title
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_video_has_every_frame_at_its_rate(made):
    folder, _ = made
    video = Video(folder / "my walk_overlay.mp4")
    assert len(video) == 8 and video.rate == pytest.approx(25, rel=0.01)
    with av.open(folder / "my walk_overlay.mp4") as file:
        codec = file.streams.video[0].codec_context
    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")  # what browsers and phones show


@pytest.mark.slow
def test_other_formats_and_labels_need_no_second_adaptation(made):
    """With other options the joints stay and the outputs are written again."""
    folder, _ = made
    where = folder.parents[2]
    npz, table = folder / "my walk.npz", folder / "exports/my walk_after_adapt.csv"
    made, smoothed = npz.stat().st_mtime_ns, table.read_text()
    words = (
        *("personalize", str(where / "my walk.mp4"), f"--model={where / 'model.npz'}"),
        *("--scenario=offline", "--frames=2-9", "--iterations=2", "--device=cpu"),
        *(f"--workdir={where / 'out'}", "--keypoints=left_knee,right_knee"),
    )
    wrong = where / "others.csv"
    of_another_video = re.sub(
        r"^(\d),", r"\g<1>00,", (where / "labels.csv").read_text(), flags=re.M
    )
    wrong.write_text(of_another_video)
    refused = small_run.command(*words, "--formats=trc", f"--labels={wrong}")
    said, _ = refused.communicate(timeout=300)
    assert refused.returncode == 1 and "none of its labelled frames is in my walk" in said
    assert npz.stat().st_mtime_ns == made and table.read_text() == smoothed
    said = small_run.done(small_run.command(*words, "--formats=dlc-csv,trc,eks"))
    member = folder.parent / "ensemble-offline/my walk/predictions.rng=0.csv"
    assert member.read_text() == table.read_text() and member.name in said
    mixed = small_run.command(*words, "--formats=eks", "--smooth=savgol")
    refused, _ = mixed.communicate(timeout=300)
    assert mixed.returncode == 1 and "holds predictions made with other settings" in refused
    said = small_run.done(small_run.command(*words, "--formats=dlc-csv,trc"))
    assert "my walk_after_adapt.trc" in said and "1 of 1 subjects are done already" in said
    exports = {path.name for path in (folder / "exports").iterdir()}
    assert exports == {f"my walk_{when}_adapt.{kind}" for when in ("before", "after") for kind in
                       ("csv", "trc")}  # fmt: skip  # the JSON of the other wish is gone
    assert npz.stat().st_mtime_ns == made
    with np.load(npz) as stored:  # the table has the raw joints, no longer smoothed ones
        raw = stored["joints"][:, [PENN13.joints.index(k) for k in ("left_knee", "right_knee")]]
    shown = np.loadtxt(table, delimiter=",", skiprows=3)[:, [1, 2, 4, 5]].reshape(raw.shape)
    np.testing.assert_allclose(shown, raw, atol=0.01)
    said = small_run.done(small_run.command(*words, "--formats=dlc-csv,trc"))
    assert "my walk_after_adapt.trc" not in said and "my walk_report.html" in said  # there already
    (folder / "my walk_report.html").unlink()
    small_run.done(small_run.command(*words, "--formats=dlc-csv,trc"))
    assert (folder / "my walk_report.html").exists()


@pytest.mark.slow
def test_results_are_of_the_frames_boxes_and_files_of_now(tmp_path, capsys):
    """A name alone says nothing: a subject is done if its frames, boxes and files are the same."""
    small_run.prepare(tmp_path, lengths=(8, 8))
    results = tmp_path / "work/results/online"

    def again(name="person0", report=False, **data):
        config = small_run.get_config()
        config.data.root, config.data.oversample = str(tmp_path / "people" / name), 2.0
        config.data.update(data)
        options = RunOptions(
            "online",
            overwrite=name == "person1",
            outputs=OutputOptions(formats="npz") if report else None,
        )
        assert personalization.run(experiment.build(config), tmp_path / "work", options) == 0
        with np.load(results / f"{name}.npz") as stored:
            rows = stored["frames"].tolist()
        if report:
            with np.load(results / f"exports/{name}_after_adapt.npz") as exported:
                assert exported["first_frame"] == rows[0] and len(exported["joints"]) == len(rows)
        return rows, "done already" in capsys.readouterr().out

    assert again(frames="0-5", report=True) == (list(range(6)), False)
    assert again(frames="2-", report=True) == (list(range(2, 8)), False)
    assert again(frames="2-", report=True) == (list(range(2, 8)), True)
    assert again(frames="2-", boxes="0,0,40,40") == (list(range(2, 8)), False)
    picture = tmp_path / "people/person0/0003.png"
    cv2.imwrite(str(picture), 255 - cv2.imread(str(picture)))
    assert again(frames="2-", boxes="0,0,40,40") == (list(range(2, 8)), False)
    again("person1")  # with --overwrite, which is not meant for the other
    assert again(frames="2-", boxes="0,0,40,40") == (list(range(2, 8)), True)
    # Outputs of other boxes are not those of these results: they were moved aside.
    with pytest.raises(AssertionError, match="assert 1 == 0"):
        again(frames="2-", boxes="0,0,40,40", report=True)
    assert "is missing, perhaps after a run with --joints-only" in capsys.readouterr().out


@pytest.mark.slow
def test_a_kept_person_gets_the_same_outputs(made):
    """Before is what the model said that knows nobody; after, what it said at the time."""
    folder, _ = made
    where = folder.parents[2]
    words = (
        *("predict", str(where / "my walk.mp4"), f"--model={where / 'model.npz'}"),
        *("--person=my walk", "--frames=2-9", f"--workdir={where / 'out'}", "--formats=npz"),
    )
    said = small_run.done(small_run.command(*words))
    again = folder.parent / "person-my walk"
    assert "not a measure of accuracy" in said and (again / "my walk_report.html").exists()
    for when, one, other in (
        ("before", again / "delivery/my walk.npz", folder / "delivery/my walk.npz"),
        ("after", again / "my walk.npz", folder / "my walk.npz"),
    ):
        with np.load(one) as a, np.load(other) as b:
            np.testing.assert_allclose(a["joints"], b["joints"], atol=1e-3, err_msg=when)


# --- Parts ---------------------------------------------------------------------------------------


def clip_of(pictures, boxes=None, **more):
    boxes = np.tile(np.float32([0, 0, 20, 20]), (len(pictures), 1)) if boxes is None else boxes
    return Clip("a", "a", "test", len(pictures), lambda i: pictures[i], boxes, **more)


def test_the_overlay_draws_after_over_before_where_they_are(tmp_path):
    pictures = np.zeros((3, 200, 300, 3), np.uint8)
    still = np.full((3, 13, 2), np.nan)
    before, after = still.copy(), still.copy()
    before[:, 0], after[:, 0] = (40, 100), (200, 150)
    poses = {"before": before, "after": after}
    peaks = (np.ones((3, 13)),) * 2
    outcome = Outcome(clip_of(pictures), (200, 300), before, after, peaks, {}, {})
    path = overlay_video(tmp_path / "o.mp4", outcome, poses, PENN13, 10.0)
    picture = Video(path).read(1).astype(int)
    assert picture[100, 40, 0] > 150 > 100 > picture[100, 40, 2]  # orange, as the codec has it
    assert picture[150, 200, 2] > 150 > 100 > picture[150, 200, 0]  # blue
    assert picture[100, 150].max() < 30


def test_pictures_of_several_sizes_lie_in_the_upper_left(tmp_path):
    sizes = np.array([[150, 300], [300, 150]])
    pictures = [np.full((*size, 3), 60, np.uint8) for size in sizes]
    clip = clip_of(pictures, sizes=sizes)
    assert clip.largest == (300, 300)
    joints = np.full((2, 13, 2), np.nan)
    joints[:, 0] = (50, 120)
    poses, peaks = {"before": joints, "after": joints}, (np.ones((2, 13)),) * 2
    outcome = Outcome(clip, clip.largest, joints, joints, peaks, {}, {})
    path = overlay_video(tmp_path / "o.mp4", outcome, poses, PENN13, 10.0)
    for index, (down, right) in enumerate(sizes):
        picture = Video(path).read(index).astype(int)
        assert picture.shape == (300, 300, 3) and picture[120, 50, 2] > 150
        assert abs(picture[down - 20, right - 20].mean() - 60) < 10
        assert (
            picture[down + 20 :].max(initial=0) < 10
            and picture[:, right + 20 :].max(initial=0) < 10
        )


def test_the_report_shows_what_is_around_a_joint_that_hardly_moves(tmp_path):
    """Else nobody sees whether the only joint of a model lies on the animal."""
    clip = clip_of(np.zeros((4, 96, 128, 3), np.uint8), boxes=np.float32([[24, 8, 104, 88]] * 4))
    joints = np.float32([64, 48]) + np.random.default_rng(0).normal(0, 0.5, (4, 1, 2))
    one = Skeleton("eye", ("pupil",), (), ())
    peaks = (np.ones((4, 1)),) * 2
    outcome = Outcome(clip, (96, 128), joints, joints, peaks, {}, {"updates": 1.0})
    page, poses = tmp_path / "r.html", {"before": joints, "after": joints}
    texts = {"quality": [], "scores": [], "about_scores": [], "notes": []}
    personal_report.write(page, outcome, poses, one, {}, texts)
    width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', page.read_text()).groups())
    assert 40 <= width <= 80 and 40 <= height <= 80  # half of the box or more


def test_labels_of_one_video_are_not_taken_for_another_s(tmp_path):
    (tmp_path / "labels.csv").write_text("x")
    options = OutputOptions(labels=str(tmp_path / "labels.csv"))
    made = experiment.build(small_run.get_config())
    pair = [clip_of(np.zeros((2, 4, 4, 3), np.uint8))] * 2
    with pytest.raises(ValueError, match="--labels is a file for one video"):
        Outputs(made, "online", tmp_path, options).check(pair)


def test_a_damaged_file_is_an_error_of_its_subject_that_says_what_to_do(tmp_path):
    made = Outputs(experiment.build(small_run.get_config()), "online", tmp_path, OutputOptions())
    clip, kept = clip_of(np.zeros((2, 4, 4, 3), np.uint8)), tmp_path / "delivery/a.npz"
    told = np.array(json.dumps({"figures": {}, "cost": {}, "inputs": "x"}))
    arrays = {"joints": np.zeros((2, 13, 2)), "confidence": np.zeros((2, 13))}
    write_arrays(kept, {**arrays, "boxes": clip.boxes, "about": told})
    write_arrays(tmp_path / "a.npz", {**arrays, "inputs": np.array("x")})
    for path in (kept, tmp_path / "a.npz"):
        whole = path.read_bytes()
        for left in (b"", whole[:-40]):
            path.write_bytes(left)
            with pytest.raises(
                DataError, match=r"delivery/a.npz or .* use --overwrite to adapt again"
            ):
                made.write(clip)
        path.write_bytes(whole)
    (tmp_path / "delivery/a.json").write_text("[]")
    assert not made.is_done(clip)


def stored(folder, clip, joints):
    """Store joints as a run's outcome, the same before and after, without a region."""
    confidence = np.where(np.isfinite(joints[..., 0]), 0.5, np.nan)
    told = np.array(json.dumps({"figures": {}, "cost": {"updates": 1.0}, "inputs": "x"}))
    arrays = {"joints": joints, "confidence": confidence}
    own = {"frames": clip.frame_numbers, "origin": np.array(clip.fingerprint)}
    write_arrays(
        folder / f"delivery/{clip.name}.npz", {**arrays, "boxes": clip.boxes, "about": told}
    )
    write_arrays(folder / f"{clip.name}.npz", {**arrays, **own, "inputs": np.array("x")})
    (folder / "protocol.json").write_text(json.dumps({"seed": 0}))


def test_files_that_the_user_made_or_edited_beside_the_exports_stay(tmp_path, capsys):
    """Other options remove or replace only what the program wrote and nobody has edited."""
    clip = clip_of(np.zeros((4, 20, 20, 3), np.uint8), source="/videos/a.mp4")
    made = experiment.build(small_run.get_config())

    def write(formats):
        Outputs(made, "online", tmp_path, OutputOptions(formats)).write(clip)

    stored(tmp_path, clip, np.random.default_rng(0).uniform(0, 20, (4, 13, 2)))
    write("dlc-csv,coco,npz,deeplabcut")
    own = {path for path in (tmp_path / "exports").rglob("*") if path.is_file()}
    after, analysis = tmp_path / "exports/a_after_adapt", tmp_path / "exports/deeplabcut/a"
    theirs = [after.with_suffix(".xlsx"), analysis / "aDLC_ttp_jax_after_labeled.mp4"]
    edited = [after.with_suffix(".csv"), after.with_suffix(".json")]
    for path in (*theirs, *edited):
        path.write_text("mine")
    write("dlc-csv,trc")
    found = {path for path in (tmp_path / "exports").rglob("*") if path.is_file()}
    written = {path for path in own if path.suffix == ".csv" and path.parent == after.parent}
    trc = {path.with_suffix(".trc") for path in written}
    assert len(own) == 12 and found == {*written, *trc, *theirs}
    assert all(path.read_text() == "mine" for path in theirs)
    assert after.with_suffix(".csv").read_text().startswith("scorer")
    aside = [tmp_path / "a.old1" / path.relative_to(tmp_path) for path in edited]
    assert all(path.read_text() == "mine" for path in aside)
    said = capsys.readouterr().out
    assert f"edited since it was written, now {aside[0]}" in said


def test_a_run_with_overwrite_keeps_edited_exports(tmp_path):
    clip = clip_of(np.zeros((4, 20, 20, 3), np.uint8))
    joints = np.random.default_rng(0).uniform(0, 20, (4, 13, 2)).astype(np.float32)
    stored(tmp_path, clip, joints)
    made = experiment.build(small_run.get_config())
    writer = Outputs(made, "online", tmp_path, OutputOptions("coco"))
    writer.write(clip)
    edited = tmp_path / "exports/a_after_adapt.json"
    edited.write_text("mine")
    adapted = state.Adaptation(np.int32(4), {}, (), np.zeros(1), np.float32(0))
    again = Result(None, joints, np.full((4, 13), 0.5), adapted, "x")
    writer.keep(clip, again, again, {}, [])
    assert not writer.is_done(clip)
    writer.write(clip)
    assert (tmp_path / "a.old1/exports/a_after_adapt.json").read_text() == "mine"
    assert len(json.loads(edited.read_text())) == 4


def test_a_report_does_not_claim_a_person_whom_no_finder_saw(tmp_path, capsys):
    """Joints fill the whole frame, which says nothing about a person."""
    clip = clip_of(np.zeros((4, 20, 20, 3), np.uint8))
    stored(tmp_path, clip, np.random.default_rng(0).uniform(0, 20, (4, 13, 2)))
    words = "No person was found in the video, so the whole frame is used"
    made = experiment.build(small_run.get_config()).changed({"data.boxes": "moving"})
    Outputs(made, "online", tmp_path, OutputOptions()).write(clip)
    page = (tmp_path / "a_report.html").read_text()
    assert "Person found" not in page and words in page
    assert "the whole picture, because no person was found" in page
    assert words in capsys.readouterr().out


def test_frames_without_joints_cost_only_the_file_of_the_ensemble(tmp_path, capsys):
    clip = clip_of(np.zeros((4, 20, 20, 3), np.uint8), numbers=np.arange(30, 34))
    joints = np.random.default_rng(0).uniform(0, 20, (4, 13, 2))
    joints[2] = np.nan  # the person is not in this frame
    results = tmp_path / "results/online"
    stored(results, clip, joints)
    options, made = OutputOptions("dlc-csv,eks"), experiment.build(small_run.get_config())
    writer = Outputs(made, "online", results, options)
    with pytest.raises(DataError, match="ensemble-online/a lacks seed 0: head is .* frame 32 of"):
        writer.write(clip)
    there = {"a_report.html", "a_overlay.mp4", "exports/a_before_adapt.csv"}
    assert all((results / name).is_file() for name in there)
    said = capsys.readouterr().out
    assert all(str(results / name) in said for name in there) and "limb length spread" in said
    assert not writer.is_done(clip) and not [*(tmp_path / "results/ensemble-online").rglob("*.*")]


def test_an_ensemble_of_equal_members_is_refused(tmp_path):
    """Without adaptation, all seeds predict the same."""
    made = experiment.build(small_run.get_config()).changed({"ttp.method": "none"})
    with pytest.raises(ValueError, match="eks needs runs that differ.*--method=teacher"):
        Outputs(made, "offline", tmp_path, OutputOptions("dlc-csv,eks"))
    Outputs(made, "offline", tmp_path, OutputOptions("dlc-csv"))


def test_unknown_names_are_refused_before_the_work():
    with pytest.raises(ValueError, match="left_elbow_joint.*expected some of head"):
        outputs.chosen_joints(PENN13, "head,left_elbow_joint")
    skeleton, columns = outputs.chosen_joints(PENN13, "right_knee,right_hip,left_knee")
    assert skeleton.joints == ("right_knee", "right_hip", "left_knee")
    assert [PENN13.joints[i] for i in columns] == list(skeleton.joints)
    # The limb between hip and knee and the pair of knees stay.
    assert set(map(frozenset, skeleton.limbs)) == {frozenset((0, 1))}
    assert [set(pair) for pair in skeleton.flip_pairs] == [{0, 2}] and skeleton.torso == ()


@pytest.mark.parametrize(
    ("frames", "every", "expected"),
    [("", 1, range(10)), ("3-5", 1, range(3, 6)), ("4-", 2, (4, 6, 8)), ("-2", 1, range(3))],
)
def test_part_takes_frames_with_their_boxes_and_labels(frames, every, expected):
    pictures = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    joints = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    whole = clip_of(pictures, joints=joints, visible=np.ones((10, 2), bool), frames_per_second=30.0)
    some = part(whole, frames, every)
    assert [int(some.read(i)[0, 0, 0]) for i in range(some.num_frames)] == list(expected)
    np.testing.assert_array_equal(some.joints[:, 0, 0], list(expected))
    assert len(some.boxes) == len(expected) and some.frames_per_second == 30 / every
    assert some.frame_numbers.tolist() == list(expected)


@pytest.mark.parametrize(
    ("frames", "every", "rate"),
    [("0-19", 1, 30), ("20-39", 1, 15), ("20-39", 2, 7.5), ("20-21", 1, 15), ("10-29", 1, None)],
)
def test_a_part_has_the_rate_of_its_own_frames(frames, every, rate):
    """A phone films at 30 frames per second, then at 15."""
    times = np.cumsum([0.0, *[1 / 30] * 20, *[1 / 15] * 19])
    whole = clip_of(np.zeros((40, 4, 4, 3)), times=times, frames_per_second=39 / times[-1])
    found = part(whole, frames, every)
    assert found.times is not None
    rate = rate or 19 / (found.times[-1] - found.times[0])
    assert found.frames_per_second == pytest.approx(rate)


def test_rounded_times_leave_the_rate_of_the_video():
    """Containers with milliseconds: a few frames don't tell 30 from 29.97."""
    times = np.round(np.arange(40) / 29.97, 3)
    whole = clip_of(np.zeros((40, 4, 4, 3)), times=times, frames_per_second=29.97)
    assert part(whole, "10-11").frames_per_second == 29.97


def test_part_says_what_it_does_not_understand():
    whole = clip_of(np.zeros((10, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="expected for example 100-199"):
        part(whole, "three")
    with pytest.raises(DataError, match="a has 10 frames"):
        part(whole, "20-30")


def test_a_model_file_gives_back_the_model_to_half_precision(made):
    folder, _ = made
    config = small_run.get_config()
    model = read_model(folder.parents[2] / "model.npz")
    base, _ = base_model.load_base(experiment.build(config), folder.parents[2] / "work")
    kernel = base.params["encoder"]["conv1"]["kernel"]
    np.testing.assert_array_equal(
        model.base.params["encoder"]["conv1"]["kernel"], np.float16(kernel).astype(np.float32)
    )
    assert model.config["data"]["skeleton"] == config.data.skeleton
    assert model.about["step"] == 0 and model.about["trained"]["seed"] == config.seed


def with_model(name="shipped"):
    """configs/own.py with the fields of a model's file, as the command line makes it."""
    config = own.get_config(name)
    experiment.take_model(config)
    return config


def test_a_file_that_is_written_again_keeps_what_was_told_of_it(tmp_path):
    options = export.Options(model=str(tmp_path / "again.npz"), torch=None)
    assert export.run(experiment.build(with_model()), tmp_path, options) == 0
    told, before = (read_model(path).about for path in (tmp_path / "again.npz", SHIPPED))
    assert told.pop("exported") and before.pop("exported")
    assert told == before
    assert export.run(experiment.build(with_model()), tmp_path, options) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["again.npz"]  # the same model


def test_another_file_of_the_name_is_moved_aside(tmp_path, capsys):
    path, aside = tmp_path / "walk.npz", tmp_path / "walk.old1.npz"
    path.write_text("my results")
    options = export.Options(model=str(path), torch=None)
    assert export.run(experiment.build(with_model()), tmp_path, options) == 0
    assert aside.read_text() == "my results" and str(aside) in capsys.readouterr().out
    assert read_model(path).about["exported"]


@pytest.mark.parametrize(("field", "value"), [("features", "vgg16.pth"), ("levels", 2)])
def test_a_model_goes_with_the_features_that_its_normalisers_are_of(tmp_path, field, value):
    config = with_model()
    config.loss[field] = value
    with pytest.raises(
        ValueError, match=f"config.loss.{field} is {value}, but the model in shipped"
    ):
        base_model.load_base(experiment.build(config), tmp_path)


def test_a_damaged_model_file_says_so(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ValueError, match=r"bad\.npz is damaged"):
        read_model(tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_model(tmp_path / "none.npz")
