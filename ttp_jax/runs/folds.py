"""Cross-validation by subject: one training for each fold, one report for all of them."""

import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax.files import read_json, write_json
from ttp_jax.runs import comparison, labelled, scoring
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import say

BEFORE, CHOSEN = "without TTP", "as chosen in each fold"
# Required content of evaluation.json, as a pattern of `files.read_json`: by row, then by measure.
_MEASURE = {"mean": float, "per_subject": [(float, None)]}
_GAIN = {"mean": float, "standard_error": (float, None)}
EVALUATION = {
    "test_subjects": [str],
    "rows": {str: {str: (_GAIN, _MEASURE)}},
    "chosen?": {"scenario": str, "measure": str, "means": {str: float}, "subjects": [str]},
    "seconds_a_frame?": {str: (float, None)},
}


def run(
    experiment: Experiment, workdir: pathlib.Path, one: Callable[[Experiment, pathlib.Path], int]
) -> int:
    """Run each fold in its own folder, then report on all of them; return the exit code.

    Args:
      experiment: an experiment with `config.data.folds` above 1.
      workdir: folder of the report, and of a folder for each fold: fold0, fold1, ...
      one: function that trains and scores one fold.
    """
    count = experiment.data.folds
    for fold in range(count):
        say(f"\nfold {fold + 1} of {count}")
        if code := one(labelled.of_fold(experiment, fold), workdir / f"fold{fold}"):
            return code
    report = merged(
        read_json(workdir / f"fold{fold}" / "evaluation.json", EVALUATION) for fold in range(count)
    )
    write_json(workdir / "folds.json", report)
    say(f"\nAll {len(report['test_subjects'])} subjects, each scored by a model that never saw it:")
    for line in comparison.table(report["rows"], report["seconds_a_frame"]):
        say(line)
    say(f"\nwrote {workdir / 'folds.json'}")
    return 0


def merged(reports: Iterable[dict | None]) -> dict:
    """Merge the rows that all folds have: means and gains over the subjects of all folds.

    An additional row uses, in each fold, the setting that was chosen on its validation subjects.
    It shows what to expect if you follow the recommendation.

    Raises DataError if a fold has no evaluation.
    """
    found = list(reports)
    if any(report is None for report in found):
        raise clips_lib.DataError("a fold has no evaluation.json: run the same command again.")
    reports = [report for report in found if report is not None]
    names = [name for name in reports[0]["rows"] if all(name in r["rows"] for r in reports)]
    if all("chosen" in report for report in reports):
        names.append(CHOSEN)
        reports = [_with_chosen(report) for report in reports]
    rows: dict[str, dict] = {}
    for name in names:
        measures = [m for m in reports[0]["rows"][name] if m != "gain"]
        rows[name] = {measure: _joined(reports, name, measure) for measure in measures}
    for name, row in rows.items():
        if name != BEFORE and all("gain" in report["rows"][name] for report in reports):
            row["gain"] = scoring.gain(rows[BEFORE], row)
    subjects = [subject for report in reports for subject in report["test_subjects"]]
    return {"test_subjects": subjects, "rows": rows, "seconds_a_frame": _seconds(reports, names)}


def _with_chosen(report: dict) -> dict:
    """Return a fold's report with a row for the setting chosen on its validation subjects."""
    name = comparison.NAMES.get(report["chosen"]["scenario"], "")
    if name not in report["rows"]:
        raise clips_lib.DataError(
            f"a fold's evaluation.json chose {report['chosen']['scenario']!r}, but has no row "
            "for it: delete the file and run again."
        )
    row = {"gain": {}, **report["rows"][name]}
    return {**report, "rows": {**report["rows"], CHOSEN: row}}


def _seconds(reports: list[dict], names: list[str]) -> dict[str, float]:
    """Return the seconds a frame of each row, as a median over the folds."""
    found = {}
    for name in names:
        each = [report.get("seconds_a_frame", {}).get(name) for report in reports]
        if known := [value for value in each if value is not None]:
            found[name] = float(np.median(known))
    return found


def _joined(reports: list[dict], name: str, measure: str) -> dict:
    """Join one measure of one row over the subjects of all folds."""
    parts = [report["rows"][name].get(measure, {}).get("per_subject") for report in reports]
    if any(part is None for part in parts):
        raise clips_lib.DataError(
            f"a fold's evaluation.json has no {measure} of {name!r}: delete the file and run again."
        )
    each = [value for part in parts if part is not None for value in part]
    known = np.array(each, float)
    known = known[~np.isnan(known)]
    return {"mean": float(known.mean()) if known.size else float("nan"), "per_subject": each}
