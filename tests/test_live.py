"""Frames that come one by one: what a file gives, bounded waiting, every frame predicted."""

import io
import json
import threading
import time
import types

import numpy as np
import pytest
import small_run

from data_pipelines import clips as clips_lib
from data_pipelines import media
from ttp_jax.runs import base_model, experiment, live
from ttp_jax.runs.batch import Runner


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    return folder, small_run.prepare(folder, lengths=(24,))


def experiment_of(folder, **changes):
    config = small_run.get_config()
    config.data.root, config.data.oversample = str(folder / "people"), 2.0
    config.ttp.memory = 24
    for name, value in changes.items():
        config.data[name] = value
    return experiment.build(config)


def pictures_of(folder):
    (clip,) = media.clips(folder / "people")
    return [clip.read(i) for i in range(clip.num_frames)], clip


def paced(pictures, pause):
    for picture in pictures:
        time.sleep(pause)
        yield picture


@pytest.mark.slow
def test_unhurried_frames_get_what_online_gives_them_on_a_file(people, monkeypatch):
    folder, _ = people
    made = experiment_of(folder)
    base, _ = base_model.load_base(made, folder / "work")
    pictures, clip = pictures_of(folder)
    # The key follows from the subject's name: the file's, for once.
    monkeypatch.setattr(live, "NAME", clip.name)
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
    np.testing.assert_allclose([f.peaks for f in found], wanted.peaks, rtol=0.01, atol=1e-4)


def test_a_fast_camera_gets_every_frame_predicted_and_fewer_updates(people):
    folder, _ = people
    made = experiment_of(folder)
    base, _ = base_model.load_base(made, folder / "work")
    pictures, _ = pictures_of(folder)
    seen = live.Live(made, base, pictures[0])
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


def test_boxes_follow_the_keypoints_where_the_config_says_so(people):
    folder, _ = people
    base, _ = base_model.load_base(experiment_of(folder), folder / "work")
    pictures, _ = pictures_of(folder)
    boxes = []
    for refine in (0, 1):
        seen = live.Live(experiment_of(folder, refine=refine, boxes="5,5,50,45"), base, pictures[0])
        seen.see(pictures[0], update=False)
        boxes.append(seen._box)
    np.testing.assert_array_equal(boxes[0], [5, 5, 50, 45])
    assert np.abs(boxes[1] - boxes[0]).max() > 0.1
    with pytest.raises(clips_lib.DataError, match='"people".*one by one'):
        live.Live(experiment_of(folder, boxes="people"), base, pictures[0])
    with pytest.raises(clips_lib.DataError, match="lies outside the first picture"):
        live.Live(experiment_of(folder, boxes="900,900,950,950"), base, pictures[0])


def ppm(pictures, comment=b""):
    heads = (b"P6\n%s%d %d\n255\n" % (comment, p.shape[1], p.shape[0]) for p in pictures)
    return b"".join(head + p.tobytes() for head, p in zip(heads, pictures, strict=True))


def test_ppm_pictures_are_read_one_after_the_other():
    pictures = [np.random.default_rng(i).integers(0, 256, (3 + i, 5, 3), np.uint8) for i in (0, 1)]
    for data in (ppm(pictures), ppm(pictures, b"# by hand\n"), ppm(pictures) + ppm(pictures)[:20]):
        found = list(live.ppm_pictures(io.BytesIO(data)))
        for a, b in zip(found, pictures, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(clips_lib.FrameError, match="picture 2 .*ffmpeg"):
        list(live.ppm_pictures(io.BytesIO(ppm(pictures) + b"\xff\xd8\xff\xe0 a JPEG picture")))


def test_a_broken_stream_costs_nothing_that_is_done(people, tmp_path, monkeypatch):
    folder, _ = people
    pictures, _ = pictures_of(folder)
    stream = io.BytesIO(ppm(pictures[:5]) + b"no picture")
    monkeypatch.setattr(live.sys, "stdin", types.SimpleNamespace(buffer=stream))
    before = set((folder / "work/results").glob("live-*"))
    with pytest.raises(clips_lib.FrameError, match="picture 5 on standard input"):
        live.run(experiment_of(folder), folder / "work", camera=None, stdin=True)
    (place,) = set((folder / "work/results").glob("live-*")) - before
    with np.load(place / "live.npz") as stored:
        assert 1 <= len(stored["joints"]) <= 5
    assert (place / "run.json").exists()


def test_a_camera_that_is_not_there_says_what_to_check():
    with pytest.raises(clips_lib.DataError, match="'/no/camera' can't be opened"):
        next(live.camera_pictures("/no/camera"))


@pytest.mark.slow
def test_the_command_reads_a_pipe_and_writes_results(people, tmp_path):
    folder, flags = people
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
    receipt = json.loads((place / "run.json").read_text())
    assert receipt["frames"] == 24
    assert receipt["updates"] == sum(row.split(",")[3] == "1" for row in rows[1:])
