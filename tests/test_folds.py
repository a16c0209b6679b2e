"""Folds: each subject is held out once."""

import pytest

from data_pipelines.clips import DataError
from ttp_jax.runs import comparison, folds


def report(subjects, before, after):
    def row(values, **more):
        return {"PCK@0.1": {"mean": -1.0, "per_subject": values, "per_joint": {}}, **more}

    rows = {"without TTP": row(before), "TTP offline": row(after, gain={"mean": 0.0})}
    seconds = {"without TTP": 0.01, "TTP offline": None}
    return {"test_subjects": subjects, "rows": rows, "seconds_a_frame": seconds}


def test_folds_are_one_report_over_all_subjects():
    first = report(["a", "b"], [50.0, 60.0], [52.0, 60.0])
    merged = folds.merged([first, report(["c"], [70.0], [80.0])])
    assert merged["test_subjects"] == ["a", "b", "c"]
    assert merged["rows"]["without TTP"]["PCK@0.1"]["mean"] == pytest.approx(60)
    assert "gain" not in merged["rows"]["without TTP"]
    gain = merged["rows"]["TTP offline"]["gain"]
    assert gain["mean"] == pytest.approx(4) and gain["worse"] == 0
    lines = comparison.table(merged["rows"], merged["seconds_a_frame"])
    assert lines[1].split() == ["without", "TTP", "60.00", "0.010"]
    assert "+4.00 (+0.00 to +10.00), 0% worse off" in lines[2]


def test_folds_show_what_following_their_choices_gives():
    first = report(["a", "b"], [50.0, 60.0], [52.0, 60.0])
    second = report(["c"], [70.0], [80.0])
    for each, scenario in ((first, "none"), (second, "offline")):
        each["chosen"] = {"scenario": scenario, "measure": "", "means": {}, "subjects": []}
    rows = folds.merged([first, second])["rows"]
    assert rows[folds.CHOSEN]["PCK@0.1"]["per_subject"] == [50.0, 60.0, 80.0]
    assert rows[folds.CHOSEN]["gain"]["mean"] == pytest.approx(10 / 3)
    second["chosen"]["scenario"] = "online"
    with pytest.raises(DataError, match="chose 'online', but has no row"):
        folds.merged([first, second])


def test_a_row_that_a_fold_lacks_is_left_out():
    short = report(["c"], [70.0], [80.0])
    del short["rows"]["TTP offline"]
    merged = folds.merged([report(["a"], [50.0], [52.0]), short])
    assert list(merged["rows"]) == ["without TTP"]


def test_a_fold_without_an_evaluation_is_told():
    with pytest.raises(DataError, match="evaluation.json"):
        folds.merged([report(["a"], [1.0], [2.0]), None])
