"""A user's video is decoded twice: once to find the person, once for everything else."""

import dataclasses
import gc
import warnings

import numpy as np
import pytest
import small_run
from media_files import encode

from data_pipelines import video_index, windows
from data_pipelines.clips import Clip, FrameError
from data_pipelines.spill import Spill
from data_pipelines.video import Video
from ttp_jax.checkpoint import Checkpoints
from ttp_jax.runs import base_model, experiment, personalization
from ttp_jax.runs.backdrop import VIDEO_PIXELS, Backdrop
from ttp_jax.runs.outputs import OutputOptions
from ttp_jax.runs.personalization import RunOptions

FRAMES = 40


def walking(count):
    """A bright square that moves over noise."""
    rng = np.random.default_rng(0)
    room = rng.integers(0, 90, (48, 64, 3), np.uint8)
    pictures = [room.copy() for _ in range(count)]
    for t, picture in enumerate(pictures):
        picture[12:36, 4 + t : 20 + t] = 250
    return pictures


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_video_is_decoded_twice_whatever_is_made_of_it(tmp_path, monkeypatch, shallow, count):
    paths = [encode(tmp_path / f"walk{n}.mp4", walking(FRAMES)) for n in range(count)]
    decoded, decode = [], video_index.decode

    def note(*stream):
        for frame in decode(*stream):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_index, "decode", note)
    monkeypatch.setattr(windows, "KEPT_BYTES", 5 * 64 * 64 * 3)  # of longer videos: a few windows
    config = small_run.get_config()
    small_run.cut(config)
    config.data.root, config.data.boxes, config.data.fit = str(tmp_path / "*.mp4"), "moving", True
    config.data.same_subject = "anna" if count > 1 else ""
    config.data.oversample, config.eval.pictures, config.ttp.save_minutes = 1.0, 1, 5.0
    made, options = experiment.build(config), RunOptions("offline", outputs=OutputOptions())
    checkpoints = Checkpoints(tmp_path / "work/checkpoints")
    checkpoints.save(base_model.random_state(made, np.ones(1, np.float32)))
    checkpoints.close()
    assert personalization.run(made, tmp_path / "work", options, tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").glob("walk*")} >= {
        f"{path.stem}{end}" for path in paths for end in (".csv", "_overlay.mp4", "_report.html")
    }
    # Beside them the first frame, for its size and that of the windows; on a busy machine, a thread
    # that lags behind the others makes the decoder start again, once in about 20 runs.
    assert 2 * FRAMES * count <= len(decoded) < (3 * FRAMES + 3) * count
    shown = Video(tmp_path / "out/walk0_overlay.mp4")
    assert len(shown) == FRAMES
    # The room, beside what is drawn: neither black nor another picture.
    assert abs(np.median(shown.read(30)[40:]) - np.median(walking(1)[0])) < 15


def test_a_backdrop_reads_what_it_has_not_kept():
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (3, 1, 1, 3), np.uint8).repeat(20, 1).repeat(30, 2)
    read = []

    def frame(index):
        read.append(index)
        if index == 2:
            raise FrameError("frame 2 is damaged")
        return pictures[index]

    boxes = np.tile(np.float32([0, 0, 20, 20]), (3, 1))
    backdrop = Backdrop(
        Clip("a", "a", "test", 3, frame, boxes, sizes=np.full((3, 2), (20, 30))), [0]
    )
    assert backdrop.canvas == (20, 30) and backdrop.size == (30, 20)
    np.testing.assert_array_equal(backdrop.clip.read(0), pictures[0])
    np.testing.assert_array_equal(backdrop.whole(0), pictures[0])
    assert np.abs(backdrop.small(0).astype(int) - pictures[0]).max() < 8  # as JPEG
    assert (
        read == [0] and Backdrop.of(dataclasses.replace(backdrop.clip, boxes=2 * boxes)) is backdrop
    )
    np.testing.assert_array_equal(backdrop.small(1), pictures[1])
    assert read == [0, 1]
    with pytest.raises(FrameError):
        backdrop.whole(2)
    assert not backdrop.small(2).any()


def test_the_overlay_is_no_larger_than_it_says():
    boxes = np.float32([[0, 0, 20, 20]])
    clip = Clip("a", "a", "test", 1, lambda _: None, boxes, sizes=np.array([[1081, 1921]]))
    assert max(Backdrop(clip).size) == VIDEO_PIXELS and Backdrop(clip).size[1] % 2 == 0


def test_a_spill_keeps_what_fits():
    spill = Spill(10)
    for number, data in enumerate((b"abcd", b"efgh", b"ijkl", b"mn")):
        spill.put(number, data)
    spill.put(0, b"zz")
    assert [spill.get(number) for number in range(4)] == [b"abcd", b"efgh", None, b"mn"]
    assert 0 in spill and 2 not in spill
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a file that nobody closed
        del spill
        gc.collect()


def test_a_full_disk_only_keeps_less(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    spill = Spill(10)
    spill.put(0, b"abcd")
    assert spill.get(0) is None
