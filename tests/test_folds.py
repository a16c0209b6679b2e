"""Folds: each subject is held out once."""

import numpy as np
import pytest
import small_project

from configs import project as project_config
from data_pipelines.clips import DataError
from ttp_jax import geometry, launch
from ttp_jax.runs import comparison, experiment, folds, labelled, sources


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


def test_each_fold_is_trained_in_crops_that_hold_its_labels(tmp_path):
    """A subject that stands elsewhere is a test subject of one fold and trains the others."""
    root = small_project.write(tmp_path / "mice")
    config = project_config.get_config(str(root))
    config.data.folds = 3
    first = labelled.read(config.data).clips
    for name in {clip.subject for clip in first if clip.split == "test"}:
        table = root / f"labeled-data/{name}/CollectedData_lab.csv"
        rows = [row.split(",") for row in table.read_text().splitlines()]
        moved = [[*row[:-2], "2", "24"] for row in rows[3:]]  # the tail, to the picture's edge
        table.write_text("\n".join(map(",".join, rows[:3] + moved)))
    labelled._read.cache_clear()
    launch.read_project(config, tmp_path, "train")
    zooms = []

    def train(made, folder):
        zooms.append(made.data.zoom)
        for clip in sources.load_clips(made.data, "train"):
            crops = geometry.box_to_crop(clip.boxes)
            offsets = np.abs(clip.joints - crops[:, None, :2]) / crops[:, None, 2:]
            assert (offsets < 0.5).all()
        return int(len(zooms) == 3)  # ends before the reports are merged

    assert folds.run(experiment.build(config), tmp_path, train) == 1
    assert zooms[0] > max(zooms[1:])
