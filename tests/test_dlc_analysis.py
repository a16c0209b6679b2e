"""Predictions under the names that DeepLabCut looks for."""

import pickle

import numpy as np
import pytest

from ttp_jax import dlc_analysis, skeletons
from ttp_jax.runs import outputs
from ttp_jax.track import Track

pandas = pytest.importorskip("pandas")
pytest.importorskip("tables")


def track(**fields) -> Track:
    rng = np.random.default_rng(0)
    made = skeletons.build("mouse", ["nose", "left ear", "tail,base"])
    points, confidence = rng.uniform(0, 60, (4, 3, 2)), rng.uniform(0.1, 1, (4, 3))
    points[1, 2] = np.nan
    own = {"picture_size": (64, 48), "video": "/elsewhere/day 1.mouse.mp4"}
    return Track("day_1_mouse", points, confidence, made, 25.0, **own | fields)


def analyzed(folder, video: str, scorer: str, suffix: str):
    """The one file that DeepLabCut takes: by its beginning and its end, of all in the folder."""
    found = [p for p in folder.iterdir() if p.name.startswith(video + scorer)]
    (chosen,) = [p for p in found if p.name.endswith(suffix)]
    return chosen


def test_names_and_tables_are_those_of_an_analysis(tmp_path):
    made = track()
    for which in ("before", "after"):
        assert len(dlc_analysis.write(made, tmp_path, which)) == 3
    for which in ("before", "after"):
        scorer = f"DLC_ttp_jax_{which}"
        table = pandas.read_hdf(analyzed(tmp_path, "day 1.mouse", scorer, ".h5"))
        assert table.columns.names == ["scorer", "bodyparts", "coords"]
        assert list(table.columns.get_level_values(0).unique()) == [scorer]
        assert list(table.index) == [0, 1, 2, 3]
        np.testing.assert_allclose(table.to_numpy().reshape(4, 3, 3), made.values())
        text = analyzed(tmp_path, "day 1.mouse", scorer, ".csv")
        same = pandas.read_csv(text, header=[0, 1, 2], index_col=0)
        np.testing.assert_allclose(same.to_numpy(), table.to_numpy(), atol=1e-4)
        with analyzed(tmp_path, "day 1.mouse", scorer, "_meta.pickle").open("rb") as file:
            data = pickle.load(file)["data"]
        assert data["cropping"] is False and data["cropping_parameters"] == [0, 64, 0, 48]
        assert data["nframes"] == 4 and data["fps"] == 25.0


def test_rows_are_the_videos_frames_from_its_first_on(tmp_path):
    # DeepLabCut draws row i on frame i.
    made = track(first_frame=2, step=3)._replace(frames_per_second=10.0)
    h5, _, meta = dlc_analysis.write(made, tmp_path, "after")
    table = pandas.read_hdf(h5).to_numpy().reshape(12, 3, 3)
    np.testing.assert_allclose(table[[2, 5, 8, 11]], made.values())
    others = [i for i in range(12) if i not in (2, 5, 8, 11)]
    assert np.isnan(table[others]).all()
    with meta.open("rb") as file:
        assert pickle.load(file)["data"]["fps"] == 30.0


def test_a_track_without_a_video_keeps_its_own_name(tmp_path):
    h5, *_ = dlc_analysis.write(track(video=""), tmp_path, "after")
    assert h5.name == "day_1_mouseDLC_ttp_jax_after.h5"


def test_videos_of_one_name_keep_files_of_their_own(tmp_path):
    """From two folders: two subjects, whose files DeepLabCut wants under one name."""
    formats, videos = [outputs.ANALYSIS], ("/monday/walk.mp4", "/friday/walk.mp4")
    for number, video in enumerate(videos):
        made = track(video=video)._replace(name=f"walk-{number}")
        outputs._write_exports(made, tmp_path, formats, "after")
        outputs._write_exports(made, tmp_path, formats, "before")
    found = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert len(found) == 12 and len({path.name for path in found}) == 6
