"""Old public names still work, with a warning that gives the new name."""

import pathlib
import shutil

import numpy as np
import pytest

from data_pipelines import clips
from ttp_jax import api, exports, metrics, ttp
from ttp_jax.files import read_arrays, write_arrays
from ttp_jax.runs import results
from ttp_jax.skeletons import PENN13

FIRST = pathlib.Path(__file__).parent / "data" / "first_version" / "online"


def joints(count=3):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 50, (count, 13, 2)), rng.uniform(0, 1, (count, 13))


@pytest.mark.parametrize(
    ("old", "new"),
    [("watch", "remember_frames"), ("look", "predict_and_remember"), ("again", "rewind")],
)
def test_functions_have_their_old_names(old, new):
    with pytest.warns(DeprecationWarning, match=f"ttp.{old} is now called {new}"):
        assert getattr(ttp, old) is getattr(ttp, new)


def test_a_name_that_never_was_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'glance'"):
        ttp.glance  # noqa: B018


def test_fields_have_their_old_names():
    points, confidence = joints()
    given = {"state": {}, "model": None, "updates": 0, "seconds": 0.0, "before": points}
    with pytest.warns(DeprecationWarning, match=r"likelihood=...\) is now called (before_)?conf"):
        result = api.Result(points, likelihood=confidence, before_likelihood=-confidence, **given)
    assert result.confidence is confidence
    with pytest.warns(DeprecationWarning, match="Result.before_likelihood is now called"):
        np.testing.assert_array_equal(result.before_likelihood, -confidence)

    with pytest.warns(DeprecationWarning, match="likelihood=...\\) is now called confidence"):
        track = exports.Track("a", points, likelihood=confidence, skeleton=PENN13)
    assert track.joints is points and track.confidence is confidence and track.skeleton is PENN13

    with pytest.warns(DeprecationWarning, match="origin=...\\) is now called fingerprint"):
        clip = clips.Clip("a", "a", "test", 1, np.zeros, np.float32([[0, 0, 9, 9]]), origin="x")
    with pytest.warns(DeprecationWarning, match="Clip.origin is now called fingerprint"):
        assert clip.origin == clip.fingerprint == "x"


def test_arguments_have_their_old_names():
    points, confidence = joints()
    given = points + 1, points, np.ones((3, 13), bool), PENN13
    with pytest.warns(DeprecationWarning, match="likelihood=...\\) is now called confidence"):
        found = metrics.score_labels(*given, likelihood=confidence)
    assert found["mean error px"] == metrics.score_labels(*given)["mean error px"]
    assert "mean error px, p >= 0.6" in found


def test_results_of_the_first_version_are_compared_by_what_they_say(tmp_path):
    stored = read_arrays(FIRST / "anna.npz", results.RESULTS, renamed=results.RENAMED)
    assert "peaks" not in stored
    write_arrays(tmp_path / "now.npz", stored)
    assert results.same(FIRST / "anna.npz", tmp_path / "now.npz")
    stored["confidence"][2, 3] += 1e-6
    write_arrays(tmp_path / "other.npz", stored)
    assert not results.same(FIRST / "anna.npz", tmp_path / "other.npz")

    text = (FIRST / "anna.csv").read_text()
    (tmp_path / "now.csv").write_text(text.replace("_likelihood", "_confidence"))
    assert results.same(FIRST / "anna.csv", tmp_path / "now.csv")
    shutil.copy(FIRST / "anna.csv", tmp_path / "other.csv")
    (tmp_path / "other.csv").write_text(text[:-2] + "9\n")
    assert not results.same(FIRST / "anna.csv", tmp_path / "other.csv")
