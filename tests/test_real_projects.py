"""Real projects, compared with what pandas, sleap-io and pycocotools read."""

import numpy as np
import pandas
import pytest

from data_pipelines import projects
from data_pipelines.clips import DataError
from data_pipelines.projects import Options, deeplabcut, footage, splits, tables
from data_pipelines.projects.records import Project

SPEAKERS = r"COMBINED_\w+/(\w+)-img"


def read(path, **options) -> Project:
    return projects.read(path, Options(**options))


def by_pandas(path, header=3):
    """Rows of a table as pandas reads its .csv: places [n, k, 2] by picture."""
    with path.open() as file:
        three = [next(file) for _ in range(header)][-1].startswith("coords,,")
    columns, index = list(range(header)), [0, 1, 2] if three else 0
    table = pandas.read_csv(path, header=columns, index_col=index)
    names = [name if isinstance(name, tuple) else (name,) for name in table.index]
    files = ["/".join(name).replace("\\", "/").split("/")[-1] for name in names]
    return dict(zip(files, table.to_numpy().reshape(len(table), -1, 2), strict=True))


def compare(project, folder):
    """Compare each clip with the .csv of its recording; returns how many frames were."""
    count = 0
    for clip, recording in zip(project.clips, project.recordings, strict=True):
        (path,) = (folder / recording).glob("CollectedData_*.csv")
        truth = by_pandas(path)
        joints = np.stack([truth[clip.file(i).name] for i in range(clip.num_frames)])
        order = pandas.read_csv(path, header=None, nrows=2).iloc[1].tolist()
        names = list(dict.fromkeys(name for name in order if isinstance(name, str)))[1:]
        at = [project.skeleton.joints.index(name) for name in names]
        np.testing.assert_allclose(clip.joints[:, at], joints, rtol=1e-6)
        np.testing.assert_array_equal(clip.visible[:, at], np.isfinite(joints).all(-1))
        count += clip.num_frames
    return count


def test_lips_of_speakers(shared_data):
    path = shared_data("speech_dlc", "Lips")
    project = read(path, subject=SPEAKERS, exclude="*TESTSET*,File162,TaL_*")
    assert compare(project, path / "labeled-data") == project.num_frames == 207 + 392
    split = splits.by_name(project, test="??me,??ms,??fo,??fs,??fe")
    test = {clip.subject: clip.num_frames for clip in split.clips if clip.split == "test"}
    train = {clip.subject: clip.num_frames for clip in split.clips if clip.split == "train"}
    assert len(test) == 10 and sum(test.values()) == 392 and test["07me"] == 40
    assert len(train) == 28 and sum(train.values()) == 207
    assert project.skeleton.size == 8 and len(project.skeleton.flip_pairs) == 3
    assert all(clip.read(0).shape == (240, 320, 3) for clip in split.clips)
    shown = [film for film in project.footage if film.recording]
    assert len(shown) == 28 + 1 and not any("TESTSET" in film.recording for film in shown)
    assert [len(film.subjects) for film in shown].count(10) == 1  # the combined video
    everything = read(path)
    assert len(everything.subjects) == 38 and everything.num_frames == 707
    owners = {film.path.stem: film.recording for film in everything.footage}
    assert owners["008_xaud"] == "008_xaud TESTSET" and owners["067_aud"] == ""


def test_tongues_of_speakers(shared_data):
    path = shared_data("speech_dlc", "Ultrasound")
    project = read(path, subject=SPEAKERS)
    assert compare(project, path / "labeled-data") == project.num_frames == 548 + 1026
    split = splits.by_name(project, test="UTI_*")
    kinds = [clip.split for clip in split.clips]
    assert kinds.count("test") == 25 and kinds.count("train") == 27
    assert "20 pictures of R_List_002: no file of labels." in project.left_out
    assert project.skeleton.size == 14 and project.skeleton.flip_pairs == ()


def test_three_columns_and_a_fixed_frame(shared_data):
    path = shared_data("projects", "dlc_three_column")
    project = read(path)
    assert compare(project, path / "labeled-data") == 20
    (clip,) = project.clips
    (file,) = path.rglob("*.h5")
    truth = pandas.read_hdf(file, "keypoints")
    np.testing.assert_array_equal(clip.joints, truth.to_numpy().reshape(20, 15, 2).astype("f4"))
    assert clip.visible.sum() == 167 and len(project.skeleton.flip_pairs) == 6
    assert project.notes == ()  # .csv and .h5 agree


def test_several_animals(shared_data):
    path = shared_data("projects", "madlc")
    project = read(path)
    (file,) = path.rglob("*.h5")
    truth = pandas.read_hdf(file)["Maski"]["individual1"].dropna(how="all")
    (clip,) = project.clips
    assert clip.subject == "videoplayback_individual1" and clip.num_frames == 19
    np.testing.assert_array_equal(clip.joints, truth.to_numpy().reshape(19, 11, 2).astype("f4"))
    assert len(project.skeleton.limbs) == 6


@pytest.mark.parametrize(("name", "count"), [("dlc3_pytorch", 80), ("dlc_labels_only", 136)])
def test_labels_without_pictures_are_refused_in_words(shared_data, name, count):
    path = shared_data("projects", name)
    with pytest.raises(
        DataError, match=rf"{name}: none of its labels can be used.* {count} labels"
    ):
        read(path)
    for folder in sorted((path / "labeled-data").iterdir()):
        sheet = deeplabcut.sheet_of(folder, Options())
        (file,) = folder.glob("*.csv")
        truth = list(by_pandas(file).values())
        np.testing.assert_allclose([row.joints for row in sheet.rows], truth, rtol=1e-12)
        assert not sheet.notes  # the .h5, where there is one, agrees


def test_a_mouse_in_two_views(shared_data):
    path = shared_data("projects", "lightning_pose", "data", "mirror-mouse-example")
    project = read(path)
    truth = by_pandas(path / "CollectedData.csv")
    (clip,) = project.clips
    assert clip.num_frames == 90 and project.skeleton.size == 17
    joints = [truth[clip.file(i).name] for i in range(90)]
    np.testing.assert_allclose(clip.joints, joints, rtol=1e-6)
    assert read(path, view="top").skeleton.size == 8
    assert read(path, view="bot").skeleton.size == 9
    assert [film.path.name for film in project.footage] == ["test_vid.mp4"]


# --- SLEAP ---------------------------------------------------------------------------------------

SLP = {
    "sleap/tests/data/tracks/clip.slp": {"clip_female": 1500, "clip_male": 1500},
    "sleap_nn/tests/assets/datasets/small_robot_minimal.slp": {"small_robot": 2},
    "sleap_nn/tests/assets/datasets/minimal_instance.pkg.slp": {
        "centered_pair_low_quality_0_1": 1,
        "centered_pair_low_quality_0_2": 1,
    },
}


@pytest.mark.parametrize("name", SLP)
def test_sleap_files_hold_what_sleap_io_reads(shared_data, name):
    sleap_io = pytest.importorskip("sleap_io")
    path = shared_data("projects", *name.split("/"))
    project = read(path)
    assert dict(sorted(project.subjects.items())) == SLP[name]
    labels = sleap_io.load_slp(str(path), open_videos=False)
    assert project.skeleton.joints == tuple(labels.skeleton.node_names)
    truth = {}
    for frame in labels:
        for number, instance in enumerate(frame.user_instances, 1):
            who = instance.track.name if instance.track else number
            truth[frame.frame_idx, who] = instance.numpy()
    for clip in project.clips:
        last = clip.subject.split("_")[-1]
        who = int(last) if last.isdecimal() else last if last in ("male", "female") else 1
        joints = np.stack([truth[number, who] for number in clip.frame_numbers])
        np.testing.assert_allclose(clip.joints, joints, rtol=1e-6)
        assert clip.read(0).dtype == np.uint8 and clip.read(0).ndim == 3


THERE = "is missing: put it beside"
MODELS = "sleap_project/models/240228_030818.centroid.n=25"
OTHERS = {
    "sleap/tests/data/slp_hdf5/minimal_instance.slp": f"centered_pair_low_quality.mp4 {THERE}",
    "sleap/tests/data/siv_format_v1/small_robot_siv.slp": f"robot0.jpg .and 2 more. {THERE}",
    "sleap/tests/data/siv_format_v2/small_robot_siv_caching.slp": f"robot0.jpg .* {THERE}",
    "sleap_project/labels.v001.slp": "no labels by a user",
    f"{MODELS}/labels_gt.train.slp": f"46 labels in mice: mice.mp4 {THERE}",
    "sleap/tests/data/mat/labels.mat": "LEAP's files can't be read: save it as .slp in SLEAP",
    "sleap/tests/data/slp_hdf5": r"several files of labels \(minimal_instance.slp, small_robot",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_lacks_pictures_or_labels_is_refused_in_words(shared_data, name):
    path = shared_data("projects", *name.split("/"))
    with pytest.raises(DataError, match=OTHERS[name]) as error:
        read(path)
    assert str(path) in str(error.value)


DIALECTS = {
    "dlc_testdata": ([""], 3),
    "dlc_testdata_v2": ([""], 3),
    "madlc_testdata": (["Animal1", "Animal2"], 3),
    "madlc_testdata_v2": (["Animal1", "Animal2"], 3),
    "maudlc_testdata": (["Animal1", "Animal2"], 3),
    "maudlc_testdata_v2": (["Animal1", "Animal2"], 3),
    "CollectedData_LM": (["Animal1", "Animal2"], 3),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_of_deeplabcuts_tables(shared_data, name):
    path = shared_data("projects", "sleap", "tests", "data", "dlc", "labeled-data", "video")
    sheet = tables.sheet(path / f"{name}.csv")
    people, joints = DIALECTS[name]
    assert sorted({row.individual for row in sheet.rows}) == people and len(sheet.names) == joints
    found = {
        (row.picture.split("/")[-1], row.individual): row.joints.tolist() for row in sheet.rows
    }
    assert found["img000.png", people[0]] == [[0, 1], [2, 3], [4, 5]]
    if len(people) > 1:
        np.testing.assert_array_equal(
            found["img001.png", "Animal2"], [[17, 18], [np.nan, np.nan], [20, 21]]
        )
    assert sheet.blank == 1
    if name.startswith("mau") or name == "CollectedData_LM":
        single = tables.sheet(path / f"{name}.csv", individuals=["single"])
        assert single.names == ["D", "E"] and single.rows[0].joints.tolist() == [[22, 23], [24, 25]]


# --- COCO ----------------------------------------------------------------------------------------


def test_cocos_own_people(shared_data, capsys):
    from pycocotools.coco import COCO

    path = shared_data("projects", "coco", "person_keypoints_val2017.json")
    project = read(path, hidden=True)
    reader = COCO(str(path))
    there = {p.name for p in (path.parent / "val2017").iterdir()}
    people = [
        person
        for person in reader.loadAnns(reader.getAnnIds(iscrowd=False))
        if person["num_keypoints"] and reader.imgs[person["image_id"]]["file_name"] in there
    ]
    assert len(people) == 58 == project.num_frames == len(project.clips)
    assert len(project.subjects) == 58 and sum(f is not None for f in project.clips) == 58
    found = {tuple(clip.joints[0][clip.visible[0]].ravel().tolist()) for clip in project.clips}
    for person in people:
        table = np.reshape(person["keypoints"], (-1, 3))
        assert tuple(table[table[:, 2] > 0][:, :2].ravel().astype(np.float32).tolist()) in found
    boxes = {tuple(clip.boxes[0].tolist()) for clip in read(path, boxes="annotated").clips}
    x, y, w, h = people[0]["bbox"]
    assert tuple(np.array([x, y, x + w, y + h], np.float32).tolist()) in boxes
    assert project.skeleton.limbs[0] == (15, 13)  # ankle to knee
    text = " ".join(project.describe())
    assert "crowds (iscrowd = 1): 1." in text
    assert "people without a labelled keypoint: 49." in text
    pictures = {clip.file(0) for clip in project.clips}
    folds = splits.folds(project, 5)
    for fold in folds:
        kinds = {p: {c.split for c in fold.clips if c.file(0) == p} for p in pictures}
        assert all(len(kind) == 1 for kind in kinds.values())  # no picture in two splits


# --- Videos --------------------------------------------------------------------------------------


def test_unlabelled_frames_of_training_speakers(shared_data):
    path = shared_data("speech_dlc", "Lips")
    project = read(path, exclude="0[1-9]*,2*,*TEST*,File*,TaL*")
    assert set(project.subjects) == {"002_cal", "005_xaud", "006_xaud"}
    found, left_out = footage.unlabelled(project, 20)
    assert {clip.subject: clip.num_frames for clip in found} == dict.fromkeys(project.subjects, 20)
    for clip, labelled in zip(found, project.clips, strict=True):
        assert clip.joints is None and clip.split == "train"
        assert not set(clip.frame_numbers) & set(labelled.frame_numbers)
        assert clip.read(7).shape == (240, 320, 3)
    assert all("none or several of the project's subjects" in line for line in left_out)


def test_labelled_pictures_are_frames_of_the_videos_by_number(shared_data):
    """So the numbers of the pictures can be told from those of unlabelled frames."""
    project = read(shared_data("speech_dlc", "Lips"), exclude="0[1-9]*,2*,*TEST*,File*,TaL*")
    from data_pipelines import media

    for clip, film in zip(project.clips, project.footage, strict=False):
        (video,) = media.clips([film.path])
        number = int(clip.frame_numbers[0])
        apart = np.abs(clip.read(0).astype(int) - video.read(number)).mean()
        others = [
            np.abs(clip.read(0).astype(int) - video.read(number + step)).mean() for step in (-9, 9)
        ]
        assert film.recording == clip.subject and apart < min(others)
