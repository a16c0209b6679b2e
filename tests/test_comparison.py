"""The setting that a project's table recommends, and the table itself."""

import dataclasses
import json
import types

import numpy as np
import pytest

from data_pipelines.clips import Clip
from ttp_jax import checkpoint, people, skeletons
from ttp_jax.runs import comparison, identity, personalization, scoring
from ttp_jax.runs.scoring import Measures
from ttp_jax.state import Base

SKELETON = skeletons.build("mouse", ["left_ear", "right_ear", "nose"])
LABELS = SKELETON, Measures(scale_joints=("left_ear", "right_ear"), thresholds=(0.1,))
TRUTH = np.tile(np.array([[0, 0], [10, 0], [5, 5]], np.float32), (4, 1, 1))


def clip(name):
    boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (4, 1))
    return Clip(name, name, "val", 4, lambda i: np.zeros((8, 8, 3), np.uint8), boxes, TRUTH,
                np.ones((4, 3), bool))  # fmt: skip


def predictions(right):
    """Of one clip: in the first `right` frames all joints are right, in the others far off."""
    joints = TRUTH.copy()
    joints[right:] += 50
    return joints


def test_the_setting_is_the_one_that_is_best_on_validation_subjects():
    clips = [clip("a"), clip("b")]
    joints = {
        "none": [predictions(2), predictions(2)],
        "online": [predictions(3), predictions(2)],
        "offline": [predictions(1), predictions(2)],
    }
    found = comparison.chosen(clips, joints, *LABELS)
    assert found["scenario"] == "online" and found["measure"] == "PCK@0.1"
    assert found["means"] == pytest.approx({"none": 50.0, "online": 62.5, "offline": 37.5})
    assert found["subjects"] == ["a", "b"]
    joints["online"] = joints["none"]
    assert comparison.chosen(clips, joints, *LABELS)["scenario"] == "none"  # nothing gained


def test_nothing_is_chosen_by_labels_that_the_measure_leaves_out():
    one = dataclasses.replace(clip("a"), joints=TRUTH * [[[1], [np.nan], [1]]])
    joints = {scenario: [predictions(2)] for scenario in ("none", "online", "offline")}
    assert comparison.chosen([one], joints, *LABELS) is None


def rows(low, high):
    gain = {"mean": (low + high) / 2, "interval95": [low, high], "worse": 0.25}
    return {"TTP online": {"gain": {**gain, "mean": 50.0}}, "TTP offline": {"gain": gain}}


def choice(scenario):
    means = {"none": 50.0, "online": 50.5, "offline": 51.0}
    return {"scenario": scenario, "measure": "PCK@0.1", "means": means, "subjects": ["a", "b"]}


@pytest.mark.parametrize(
    ("chosen", "found", "told"),
    [
        (choice("offline"), rows(1.0, 3.0), "+2.00 (+1.00 to +3.00), 25% worse off: a clear gain"),
        (choice("offline"), rows(-1.0, 2.0), "this may be chance"),
        (choice("offline"), rows(-2.0, -1.0), "a loss"),
        (choice("none"), rows(1.0, 3.0), "`predict`, without personalization"),
        (None, rows(1.0, 3.0), "name some with --val"),
    ],
)  # fmt: skip
def test_test_subjects_never_choose(chosen, found, told):
    said = comparison.recommendation(chosen, found)
    assert told in said
    assert "--scenario=online" not in said  # however large its gain on them is


def test_seconds_are_the_median_over_subjects(tmp_path):
    subjects = {f"mouse{i}": {"seconds": s, "frames": 10} for i, s in enumerate((90.0, 1.0, 2.0))}
    (tmp_path / "run.json").write_text(json.dumps({"subjects": subjects}))
    assert comparison.seconds_a_frame(tmp_path) == pytest.approx(0.2)
    assert comparison.seconds_a_frame(tmp_path / "none") is None


def test_a_row_of_which_no_time_is_known_has_none_in_the_table():
    row = {"PCK@0.1": {"mean": 50.0, "per_subject": [50.0]}}
    lines = comparison.table({"without TTP": row, "TTP online": row}, {"TTP online": 0.25})
    assert lines[0].split() == ["PCK@0.1", "s/frame"] and len(lines) == 4  # and no gain
    assert lines[1].split() == ["without", "TTP", "50.00"]
    assert lines[2].split() == ["TTP", "online", "50.00", "0.250"]
    assert comparison.table({"without TTP": row}, {})[0].split() == ["PCK@0.1"]
    assert "few test subjects (1)" in lines[-1]


def test_validation_subjects_have_a_folder_of_their_own(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        personalization, "run", lambda e, w, options, folder: calls.append((options, folder)) or 0
    )
    for split in ("val", "test"):
        assert comparison.personalize_all(None, tmp_path, split) == 0
    assert [(o.scenario, o.split, bool(o.keep)) for o, _ in calls] == [
        *((scenario, "val", False) for scenario in ("none", "online", "offline")),
        *(("none", "test", False), ("online", "test", False), ("offline", "test", True)),
    ]
    assert {folder.parent.name for _, folder in calls[:3]} == {"validation"}
    assert {folder.parent.name for _, folder in calls[3:]} == {"results"}


def test_the_control_has_the_batch_statistics_of_the_other_subject(tmp_path, capsys):
    """The method "bn" changes nothing else."""
    base = Base({"head": {"kernel": np.zeros(2, np.float32)}},
                {"bn": {"mean": np.zeros(1, np.float32)}}, np.ones(2))  # fmt: skip
    offline, online = {"scenario": "offline"}, {"scenario": "online"}
    for name, mean, protocol in (("a", 1.0, offline), ("b", 2.0, offline), ("c", 3.0, online)):
        delta = {"batch_stats/bn/mean": np.array([mean], np.float32)}
        about = {"base": checkpoint.fingerprint(base), "protocol": identity.digest(protocol)}
        people.write(tmp_path / "people" / f"{name}.npz", delta, "fp16", about)

    class Predictor:
        """Predicts the mean in its statistics."""

        def use(self, base):
            self.mean = float(base.batch_stats["bn"]["mean"][0])

        def one(self, clip):
            return types.SimpleNamespace(joints=self.mean)

    def control(*names):
        clips = [clip(name) for name in names]
        return comparison.control(Predictor(), tmp_path, base, offline, clips)

    assert control("a", "b") == [2.0, 1.0]
    assert control("a", "c") is None  # c was personalized online since
    assert "c.npz is of another run" in capsys.readouterr().out


def test_errors_are_shares_of_the_unit():
    """Ears are 10 apart: 2 pixels aside are 20 %, a nose 1 nearer to an ear changes their gap."""
    joints = TRUTH.copy()
    joints[:2, :, 1] += 2
    joints[3, 2] = np.nan  # an unreadable frame's prediction says nothing
    how = Measures(scale_joints=("left_ear", "right_ear"), opening=("left_ear", "nose"))
    found = scoring.errors([clip("a"), clip("b")], [joints, TRUTH], SKELETON, how)
    assert found["mean error %"]["per_subject"] == pytest.approx([20 * 6 / 11, 0])
    assert found["mean error %"]["mean"] == pytest.approx(10 * 6 / 11)
    assert found["opening error %"]["per_subject"] == pytest.approx([0, 0], abs=1e-6)
    joints[0, 2] = 6, 7
    same = np.repeat(joints[:1], 4, 0)  # in all frames
    moved = scoring.errors([clip("a")], [same], SKELETON, how)["opening error %"]["mean"]
    assert moved == pytest.approx(10 * abs(np.hypot(6, 5) - np.hypot(5, 5)), rel=1e-5)
    assert "opening error %" not in scoring.errors([clip("a")], [TRUTH], *LABELS)
    assert scoring.errors([clip("a")], [TRUTH], SKELETON, Measures(pixels=6)) == {}
    wrong = Measures(opening=("nose", "tail"))
    with pytest.raises(ValueError, match="opening is 'nose,tail': expected two of left_ear"):
        scoring.errors([clip("a")], [TRUTH], SKELETON, wrong)
