"""A project's subjects held out in turns: one training a fold, one report of all."""

import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax.files import read_json, write_json
from ttp_jax.runs import scoring
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import say

BEFORE = "without TTP"
# What evaluation.json holds at least, a pattern of `files.read_json`: by row, then by measure.
_MEASURE = {"mean": float, "per_subject": [(float, None)]}
_GAIN = {"mean": float, "standard_error": (float, None)}
EVALUATION = {"test_subjects": [str], "rows": {str: {str: (_GAIN, _MEASURE)}}}


def run(
    experiment: Experiment, workdir: pathlib.Path, one: Callable[[Experiment, pathlib.Path], int]
) -> int:
    """Do each fold in a folder of its own, then report on all; return the exit code.

    Args:
      experiment: with `config.data.folds` above 1.
      workdir: for the report, and the folds' folders: fold0, fold1, ...
      one: trains and scores one fold.
    """
    count = experiment.data.folds
    for fold in range(count):
        say(f"\nfold {fold + 1} of {count}")
        if code := one(experiment.changed({"data.fold": fold}), workdir / f"fold{fold}"):
            return code
    report = merged(
        read_json(workdir / f"fold{fold}" / "evaluation.json", EVALUATION) for fold in range(count)
    )
    write_json(workdir / "folds.json", report)
    say(f"\nAll {len(report['test_subjects'])} subjects, each by a model that never saw it:")
    for line in table(report):
        say(line)
    say(f"\nwrote {workdir / 'folds.json'}")
    return 0


def merged(reports: Iterable[dict | None]) -> dict:
    """The rows that all folds have, over the subjects of all: means over subjects, and gains.

    Raises DataError where a fold has no evaluation.
    """
    found = list(reports)
    if any(report is None for report in found):
        raise clips_lib.DataError("a fold has no evaluation.json: run the same command again.")
    reports = [report for report in found if report is not None]
    names = [name for name in reports[0]["rows"] if all(name in r["rows"] for r in reports)]
    rows: dict[str, dict] = {}
    for name in names:
        measures = [m for m in reports[0]["rows"][name] if m != "gain"]
        rows[name] = {measure: _joined(reports, name, measure) for measure in measures}
    for name, row in rows.items():
        if name != BEFORE and all("gain" in report["rows"][name] for report in reports):
            row["gain"] = scoring.gain(rows[BEFORE], row)
    subjects = [subject for report in reports for subject in report["test_subjects"]]
    return {"test_subjects": subjects, "rows": rows}


def _joined(reports: list[dict], name: str, measure: str) -> dict:
    """One measure of one row over the subjects of all folds."""
    parts = [report["rows"][name].get(measure, {}).get("per_subject") for report in reports]
    if any(part is None for part in parts):
        raise clips_lib.DataError(
            f"a fold's evaluation.json has no {measure} of {name!r}: delete it, and run again."
        )
    each = [value for part in parts if part is not None for value in part]
    return {"mean": float(np.nanmean(np.array(each, float))), "per_subject": each}


def table(report: dict) -> list[str]:
    """The report in lines: means over subjects, which weigh alike."""
    rows = report["rows"]
    measures = [measure for measure in next(iter(rows.values())) if measure != "gain"]
    lines = [" " * 20 + "".join(f"{m:>12}" for m in measures) + f"   gain ({measures[0]})"]
    for name, row in rows.items():
        line = f"{name:20}" + "".join(f"{row[m]['mean']:12.2f}" for m in measures)
        if gain := row.get("gain"):
            line += f"   {gain['mean']:+.2f} +- {gain['standard_error']:.2f}"
            line += f", {gain['worse']:.0%} worse"
        lines.append(line)
    return lines
