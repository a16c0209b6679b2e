"""Comparison of personalization settings on a labelled project's subjects.

The setting for new subjects is chosen on the validation subjects. The test subjects only show how
well it works.
"""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_pipelines.clips import Clip
from ttp_jax import people, state
from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import read_json
from ttp_jax.runs import identity, personalization, results, scoring
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.personalization import RunOptions, person_file
from ttp_jax.runs.process import say

CONTROL = "cross-subject control"
NAMES = {"none": "without TTP", "online": "TTP online", "offline": "TTP offline"}
FEW = 6  # an interval over fewer subjects is rough


def folder_of(workdir: pathlib.Path, split: str, scenario: str) -> pathlib.Path:
    """Return the folder of a split's results in one scenario."""
    return workdir / ("results" if split == "test" else "validation") / scenario


def personalize_all(experiment: Experiment, workdir: pathlib.Path, split: str) -> int:
    """Predict a split's subjects without TTP, online and offline; return the exit code.

    Offline models of test subjects are kept for the control and for `predict --person`.
    """
    for scenario in NAMES:
        keep = "fp16" if split == "test" and scenario == "offline" else None
        options = RunOptions(scenario, keep=keep, split=split)
        where = folder_of(workdir, split, scenario)
        if code := personalization.run(experiment, workdir, options, where):
            return code
    return 0


def stored(
    folder: pathlib.Path, protocol: dict[str, Any], clips: Sequence[Clip]
) -> list[np.ndarray] | None:
    """Read the joints of each clip from the results of a run.

    Returns None if some are missing or have another `identity.protocol`.
    """
    if read_json(folder / "protocol.json") == protocol:
        return results.read_results(folder, clips)
    if folder.is_dir():
        say(f"left out: {folder} was made with another model or settings; run personalize again")
    return None


def seconds_a_frame(folder: pathlib.Path) -> float | None:
    """Return the seconds a frame of a run, as the median over its subjects; None if unknown.

    It is a median because the first subject's seconds include compilation.
    """
    record = read_json(folder / "run.json") or {}
    found = [
        each["seconds"] / each["frames"]
        for each in record.get("subjects", {}).values()
        if each.get("seconds") is not None and each.get("frames")
    ]
    return statistics.median(found) if found else None


def control(
    predictor: Runner,
    workdir: pathlib.Path,
    base: state.Base,
    protocol: dict[str, Any],
    clips: list[Clip],
) -> list | None:
    """Predict each subject with the model that was personalized to the previous one.

    A personal gain doesn't appear in this control. Afterwards `predictor` holds another model, so
    call its `use`. Returns None if a kept model is missing, or of another run than that of the
    `identity.protocol`, or if there are fewer than two subjects.
    """
    if len(clips) < 2:
        return None
    joints, own, digest = [], fingerprint(base), identity.digest(protocol)
    for number, clip in enumerate(clips):
        path = person_file(workdir, clips[number - 1].name)
        try:
            other = people.read(path, own)
        except (FileNotFoundError, ValueError):
            return None
        if not people.is_of(other, {"protocol": digest}):
            # `personalize --keep` of another scenario or with other settings replaces these models.
            say(f"left out: {CONTROL}, because {path} is of another run; run train again")
            return None
        delta = jax.device_put(other.delta)
        predictor.use(state.adapted_base(base, delta))
        joints.append(predictor.one(clip).joints)
    return joints


def chosen(clips: Sequence[Clip], joints: Mapping[str, list], *labels) -> dict[str, Any] | None:
    """Choose the setting with the best mean over validation subjects.

    Args:
      clips: the validation subjects.
      joints: predictions for each clip, by scenario ("none", "online", "offline").
      *labels: skeleton and measures of `scoring.row`; the first measure decides.

    Returns:
      "scenario" (if tied, the first in the order above), "measure", "means" by scenario, and
      "subjects". None if the measure leaves out all their labels.
    """
    means, measure = {}, ""
    for scenario, predicted in joints.items():
        measure, scores = next(iter(scoring.row(clips, predicted, *labels).items()))
        each = np.array(scores["per_subject"], np.float64)
        means[scenario] = float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")
    if not any(np.isfinite(mean) for mean in means.values()):
        return None
    best = max(means, key=lambda scenario: means[scenario])
    return {
        "scenario": best,
        "measure": measure,
        "means": means,
        "subjects": [clip.name for clip in clips],
    }


def recommendation(choice: dict[str, Any] | None, rows: dict[str, Any]) -> str:
    """Describe the setting to use on new subjects, and its gain on the test subjects.

    Args:
      choice: result of `chosen`; None if no validation subject was personalized or scored.
      rows: evaluation of the test subjects.
    """
    if choice is None:
        return (
            "No recommendation for new subjects, because no validation subject has results and "
            "scores: name some with --val and run `train` again."
        )
    count, best = len(choice["subjects"]), choice["scenario"]
    means = ", ".join(f"{NAMES[name]} {mean:.2f}" for name, mean in choice["means"].items())
    why = f"({choice['measure']} of the {count} validation subject{'s' * (count > 1)}: {means})"
    if best == "none":
        return f"Recommended for new subjects: `predict`, without personalization {why}."
    said = f"Recommended for new subjects: `personalize --scenario={best}` {why}."
    gain = rows.get(NAMES[best], {}).get("gain")
    if not gain:
        return said
    low, high = gain["interval95"]
    verdict = "a clear gain" if low > 0 else "this may be chance" if high > 0 else "a loss"
    return f"{said} On the test subjects it gives {_gain(gain)}: {verdict}."


def table(rows: dict[str, Any], seconds: Mapping[str, float | None]) -> list[str]:
    """Return the lines of a table of means, times, and gains with their 95 % intervals."""
    measures = [measure for measure in next(iter(rows.values())) if measure != "gain"]
    heads = "".join(f"{name:>10}" for name in measures)
    timed = any(seconds.get(name) is not None for name in rows)
    gained = any("gain" in row for row in rows.values())
    lines = [f"{'':22}{heads}"]
    lines[0] += f"{'s/frame':>10}" if timed else ""
    lines[0] += f"   gain in {measures[0]} (95 % over subjects)" if gained else ""
    for name, row in rows.items():
        line = f"{name:22}" + "".join(f"{row[m]['mean']:10.2f}" for m in measures)
        if timed:
            took = seconds.get(name)
            line += f"{'':10}" if took is None else f"{took:10.3f}"
        gain = row.get("gain")
        lines.append(f"{line}   {_gain(gain)}" if gain else line)
    count = len(next(iter(rows.values()))[measures[0]]["per_subject"])
    if count < FEW:
        lines.append(f"There are few test subjects ({count}), so the intervals are rough.")
    return lines


def _gain(gain: dict[str, Any]) -> str:
    low, high = gain["interval95"]
    return f"{gain['mean']:+.2f} ({low:+.2f} to {high:+.2f}), {gain['worse']:.0%} worse off"
