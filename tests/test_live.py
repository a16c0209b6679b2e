"""Live frames: the same results as from a file, bounded waiting, every frame predicted."""

import csv
import errno
import io
import itertools
import json
import os
import threading
import time
import types
import urllib.request

import cv2
import numpy as np
import pytest
import small_run

from data_pipelines import clips as clips_lib
from data_pipelines import media
from ttp_jax import people as people_lib
from ttp_jax import skeletons, state
from ttp_jax.runs import base_model, experiment, live, mjpeg
from ttp_jax.runs.batch import Runner
from ttp_jax.skeletons import PENN13


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shallow):
    """A person of 24 frames and an untrained model."""
    place = tmp_path_factory.mktemp("live")
    small_run.prepare(place, lengths=(24,), config=small_run.cut(small_run.get_config()))
    return place


def experiment_of(folder, **changes):
    config = small_run.cut(small_run.get_config())
    config.data.root, config.data.oversample = str(folder / "people"), 2.0
    config.ttp.memory = 24
    for name, value in changes.items():
        config.data[name] = value
    return experiment.build(config)


def pictures_of(folder):
    (clip,) = media.clips(folder / "people")
    return [clip.read(i) for i in range(clip.num_frames)], clip


def camera_of(folder):
    """A live run before its first picture, and the pictures."""
    made = experiment_of(folder)
    base, _ = base_model.load_base(made, folder / "work")
    pictures, _ = pictures_of(folder)
    return live.Live(made, base, pictures[0]), pictures


def paced(pictures, pause):
    for picture in pictures:
        time.sleep(pause)
        yield picture


@pytest.mark.slow
def test_unhurried_frames_get_what_online_gives_them_on_a_file(folder, monkeypatch):
    made = experiment_of(folder)
    base, _ = base_model.load_base(made, folder / "work")
    pictures, clip = pictures_of(folder)
    # The key of a file follows from its content, a camera's from a name: the file's, for once.
    monkeypatch.setattr(live, "NAME", clip.key or clip.name)
    seen = live.Live(made, base, pictures[0])
    turn = threading.Semaphore(1)  # a camera that waits for us

    def patient():
        for picture in pictures:
            turn.acquire()
            yield picture

    found = []
    for frame in live.follow(seen, patient(), threading.Event()):
        found.append(frame)
        turn.release()
    assert all(frame.updated for frame in found) and seen.updates == len(pictures)
    wanted = Runner(made, base, "online").one(clip)
    joints = np.array([frame.joints for frame in found])
    np.testing.assert_allclose(joints, wanted.joints, atol=0.05)
    np.testing.assert_allclose(
        [f.confidence for f in found], wanted.confidence, rtol=0.01, atol=1e-4
    )


def test_a_fast_camera_gets_every_frame_predicted_and_fewer_updates(folder):
    seen, pictures = camera_of(folder)
    slow = 0.1  # an update that takes so long, and a camera ten times as fast
    learn = seen._programs.step

    def learn_slowly(*args):
        time.sleep(slow)
        return learn(*args)

    seen._programs = seen._programs._replace(step=learn_slowly)
    found = list(live.follow(seen, paced(pictures * 4, slow / 10), threading.Event()))
    assert len(found) == 4 * len(pictures)
    assert all(np.isfinite(frame.joints).all() for frame in found)
    updates = sum(frame.updated for frame in found)
    assert updates == seen.updates and 2 <= updates < len(found) / 2
    # A frame waits for one update, and predictions of those that wait with it.
    delays = [frame.done - frame.came for frame in found]
    assert np.median(delays) < 10 * slow


def test_boxes_follow_the_keypoints_where_the_config_says_so(folder):
    base, _ = base_model.load_base(experiment_of(folder), folder / "work")
    pictures, _ = pictures_of(folder)
    boxes = []
    for refine in (0, 1):
        seen = live.Live(experiment_of(folder, refine=refine, boxes="5,5,50,45"), base, pictures[0])
        seen.see(pictures[0], update=False)
        boxes.append(seen._box)
    np.testing.assert_array_equal(boxes[0], [5, 5, 50, 45])
    assert np.abs(boxes[1] - boxes[0]).max() > 0.1
    with pytest.raises(clips_lib.DataError, match='"people".*live frames need'):
        live.Live(experiment_of(folder, boxes="people"), base, pictures[0])
    with pytest.raises(clips_lib.DataError, match="lies outside the first picture"):
        live.Live(experiment_of(folder, boxes="900,900,950,950"), base, pictures[0])


def ppm(pictures, comment=b""):
    heads = (b"P6\n%s%d %d\n255\n" % (comment, p.shape[1], p.shape[0]) for p in pictures)
    return b"".join(head + p.tobytes() for head, p in zip(heads, pictures, strict=True))


def streamed(folder, data, monkeypatch, **options):
    """Run on bytes or a stream of them; return the folder of its results, and what it raised."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    monkeypatch.setattr(live.sys, "stdin", types.SimpleNamespace(buffer=stream))
    number = itertools.count(len([*folder.glob("work/results/live-*")]))
    monkeypatch.setattr(live.time, "strftime", lambda form: f"live-{next(number)}")
    before = set((folder / "work/results").glob("live-*"))
    try:
        live.run(experiment_of(folder), folder / "work", live.LiveOptions(stdin=True, **options))
        error = None
    except (ValueError, OSError) as raised:
        error = raised
    new = set((folder / "work/results").glob("live-*")) - before
    return next(iter(new), None), error


class Unplugged(io.BytesIO):
    """A stream whose device is gone when its bytes are read."""

    def read1(self, size=-1):
        if not (found := super().read1(size)):
            raise OSError(errno.EIO, "Input/output error")
        return found


@pytest.mark.parametrize(
    ("end", "stream", "kind", "words"),
    [
        (b"no picture", io.BytesIO, clips_lib.FrameError, "picture 5 on standard input"),
        (b"", Unplugged, OSError, "Input/output error"),
    ],
)
def test_a_broken_stream_costs_nothing_that_is_done(folder, monkeypatch, end, stream, kind, words):
    pictures, _ = pictures_of(folder)
    data = stream(ppm(pictures[:5]) + end)
    place, error = streamed(folder, data, monkeypatch, person="bert", keep="full")
    assert isinstance(error, kind) and words in str(error)
    with np.load(place / "live.npz") as stored:
        assert 1 <= len(stored["joints"]) <= 5
    updates = json.loads((place / "run.json").read_text())["updates"]
    assert people_lib.read(folder / "work/people/bert.npz").about["updates"] == updates


def test_a_person_is_kept_and_gone_on_with(folder, monkeypatch):
    pictures, _ = pictures_of(folder)
    work, data = folder / "work", ppm(pictures[:4])
    _, error = streamed(folder, data, monkeypatch, person="anna")
    assert isinstance(error, FileNotFoundError) and "anna.npz does not exist" in str(error)
    _, error = streamed(folder, data, monkeypatch, person="../anna", keep="full")
    assert isinstance(error, ValueError) and not (work / "anna.npz").exists()
    _, error = streamed(folder, data, monkeypatch, keep="half")
    assert "saved as full, fp16 or rank" in str(error)
    first, error = streamed(folder, data, monkeypatch, person="anna", keep="full")
    assert error is None and json.loads((first / "run.json").read_text())["person"] is None
    monday = people_lib.read(work / "people/anna.npz")
    second, error = streamed(folder, data, monkeypatch, person="anna", keep="full")
    assert error is None and json.loads((second / "run.json").read_text())["person"] == "anna"
    friday = people_lib.read(work / "people/anna.npz")
    kept = people_lib.read(work / "people/anna.old1.npz")
    size = {name: sum(np.abs(v).sum() for v in p.delta.values())
            for name, p in (("monday", monday), ("friday", friday), ("kept", kept))}  # fmt: skip
    assert 0 < size["monday"] == size["kept"] < size["friday"]
    # What is kept is what predicts: the base and all that was ever added to it.
    plain, _ = streamed(folder, data, monkeypatch, person="anna")
    base, _ = base_model.load_base(experiment_of(folder), work)
    seen = live.Live(experiment_of(folder), state.adapted_base(base, friday.delta), pictures[0])
    joints, _ = seen.see(pictures[0], update=False)
    rows = np.genfromtxt(plain / "live.csv", delimiter=",", names=True)
    if not rows["updated"][0]:
        np.testing.assert_allclose(rows["head_x"][0], joints[0, 0], atol=0.01)


def test_a_run_without_a_name_keeps_under_that_of_its_folder(folder, monkeypatch):
    pictures, _ = pictures_of(folder)
    place, error = streamed(folder, ppm(pictures[:3]), monkeypatch, keep="fp16")
    assert error is None and (folder / f"work/people/{place.name}.npz").exists()


def test_frames_are_lines_of_json_and_nothing_else_is_on_standard_output(
    folder, monkeypatch, capsys
):
    pictures, _ = pictures_of(folder)
    place, error = streamed(folder, ppm(pictures[:5]), monkeypatch, json=True)
    assert error is None
    printed, others = capsys.readouterr()
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert f"wrote {place}" in others
    rows = np.genfromtxt(place / "live.csv", delimiter=",", names=True)
    for line, row in zip(lines, rows, strict=True):
        assert [*line["joints"]] == list(PENN13.joints)
        found = [row[f"left_knee_{part}"] for part in ("x", "y", "confidence")]
        np.testing.assert_allclose(line["joints"]["left_knee"], found, atol=1e-4)
        assert line["updated"] == bool(row["updated"])


def test_a_reader_that_has_gone_ends_the_run_with_its_results(folder, monkeypatch):
    pictures, _ = pictures_of(folder)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as lines:
        monkeypatch.setattr(live.sys, "stdout", lines)
        place, error = streamed(folder, ppm(pictures[:5]), monkeypatch, json=True)
    assert error is None and (place / "run.json").exists()


def test_the_table_has_the_columns_of_its_header_whatever_joints_are_called(folder, tmp_path):
    run, pictures = camera_of(folder)
    names = [f'paw {i}, "left", Fuß' for i in range(PENN13.size)]
    live._record(run, pictures[:2], tmp_path, skeletons.build("dog", names), [])
    with (tmp_path / "live.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[4:7] == [f"{names[0]}_{part}" for part in ("x", "y", "confidence")]
    assert len(rows) == 2 and all(len(row) == len(header) for row in rows)


def test_a_frozen_camera_teaches_nothing(folder):
    seen, pictures = camera_of(folder)
    found = list(
        live.follow(seen, paced([pictures[0]] * 4 + [pictures[1]], 0.3), threading.Event())
    )
    assert [frame.updated for frame in found] == [True, False, False, False, True]
    assert (seen.updates, seen.repeated) == (2, 3)
    assert all(np.isfinite(frame.joints).all() for frame in found)


def test_a_browser_gets_the_frames_with_their_joints():
    picture, joints = np.zeros((48, 64, 3), np.uint8), np.full((13, 2), np.nan)
    joints[0] = 20, 30
    with mjpeg.Screen(0, PENN13) as screen:
        with urllib.request.urlopen(screen.address, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            screen.show(picture, joints)
            heads = [answer.readline() for _ in range(4)]
            assert heads[:2] == [b"--frame\r\n", b"Content-Type: image/jpeg\r\n"]
            data = answer.read(int(heads[2].split()[1]))
        assert not picture.any()  # drawn into a copy
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert shown.shape == picture.shape and shown[30, 20].any() and not shown[5, 60].any()
        with pytest.raises(ValueError, match="port .* is not available"):
            mjpeg.Screen(int(screen.address.split(":")[-1].strip("/")), PENN13)
    with pytest.raises(ValueError, match="port 99999 is not available"):
        mjpeg.Screen(99999, PENN13)


@pytest.mark.parametrize("kind", [".jpg", ".png", ".bmp", ".ppm"])
def test_a_pipe_may_hold_any_kind_of_picture(folder, monkeypatch, kind):
    pictures, _ = pictures_of(folder)
    data = b"".join(cv2.imencode(kind, picture)[1].tobytes() for picture in pictures[:3])
    place, error = streamed(folder, data, monkeypatch)
    assert error is None and len((place / "live.csv").read_text().splitlines()) == 4


def test_a_camera_that_is_not_there_says_what_to_check(folder):
    with pytest.raises(clips_lib.DataError, match="'/no/camera' can't be opened"):
        chosen = live.LiveOptions(camera="/no/camera")
        live.run(experiment_of(folder), folder / "work", chosen)


@pytest.mark.slow
def test_the_command_reads_a_pipe_and_writes_results(tmp_path):
    folder, flags = tmp_path, small_run.prepare(tmp_path, lengths=(24,))
    pictures, _ = pictures_of(folder)
    (tmp_path / "pictures.ppm").write_bytes(ppm(pictures))
    words = ["personalize", flags[0], flags[2], "--stdin", "--config.ttp.memory=24"]
    with (tmp_path / "pictures.ppm").open("rb") as stream:
        printed = small_run.done(small_run.command(*words, stdin=stream))
    (place,) = (folder / "work/results").glob("live-*")
    assert str(place) in printed and "24 frames" in printed
    rows = (place / "live.csv").read_text().splitlines()
    assert len(rows) == 25 and rows[0].startswith("frame,seconds,latency_ms,updated,head_x")
    with np.load(place / "live.npz") as stored:
        assert stored["joints"].shape == (24, 13, 2)
    record = json.loads((place / "run.json").read_text())
    assert record["frames"] == 24
    assert record["updates"] == sum(row.split(",")[3] == "1" for row in rows[1:])
