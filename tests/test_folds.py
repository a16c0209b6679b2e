"""Subjects held out in turns."""

import pytest

from data_pipelines.clips import DataError
from ttp_jax.runs import folds


def report(subjects, before, after):
    def row(values, **more):
        return {"PCK@0.1": {"mean": -1.0, "per_subject": values, "per_joint": {}}, **more}

    rows = {"without TTP": row(before), "TTP offline": row(after, gain={"mean": 0.0})}
    return {"test_subjects": subjects, "rows": rows}


def test_folds_are_one_report_over_all_subjects():
    first = report(["a", "b"], [50.0, 60.0], [52.0, 60.0])
    merged = folds.merged([first, report(["c"], [70.0], [80.0])])
    assert merged["test_subjects"] == ["a", "b", "c"]
    assert merged["rows"]["without TTP"]["PCK@0.1"]["mean"] == pytest.approx(60)
    assert "gain" not in merged["rows"]["without TTP"]
    gain = merged["rows"]["TTP offline"]["gain"]
    assert gain["mean"] == pytest.approx(4) and gain["worse"] == 0
    lines = folds.table(merged)
    assert lines[1].split()[:3] == ["without", "TTP", "60.00"]
    assert "+4.00 +- 3.06" in lines[2]


def test_a_row_that_a_fold_lacks_is_left_out():
    short = report(["c"], [70.0], [80.0])
    del short["rows"]["TTP offline"]
    merged = folds.merged([report(["a"], [50.0], [52.0]), short])
    assert list(merged["rows"]) == ["without TTP"]


def test_a_fold_without_an_evaluation_is_told():
    with pytest.raises(DataError, match="evaluation.json"):
        folds.merged([report(["a"], [1.0], [2.0]), None])
