"""Whether `suggest` ranks frames by their true error, on a labelled project's held-out subjects.

    python -m benchmarks.suggestion runs/NAME
    python -m benchmarks.suggestion runs/NAME --split=val

Takes the folder of a project's training. Predicts each test (or validation) subject without
personalization, and ranks its frames as `suggest` does, including `change` if the training's
offline results exist. Prints a Markdown table with a row for each subject: Spearman's correlation
of doubt, and of each sign, with the true error of the labelled frames (mean distance of their
joints, as a share of the box's side); the mean error of the most doubtful fifth; and that of all
frames, which a random choice would have. The last row has means over subjects and their 95 %
intervals.

A subject's frames are those that it was personalized on. With `config.data.extra`, unlabelled
frames lie between the labelled ones, and jumps are measured between neighbours among all of them.
"""

import argparse
import math
import pathlib

import numpy as np
from scipy import stats

from data_pipelines import clips as clips_lib
from ttp_jax import metrics
from ttp_jax.runs import base_model, comparison, identity, process, sources, suggestion
from ttp_jax.runs.batch import Runner

SHARE = 0.2  # share of the frames that counts as the most doubtful


def true_errors(clip: clips_lib.Clip, joints: np.ndarray) -> np.ndarray:
    """Return the mean error [T] of the labelled joints, in box sides; NaN without a label."""
    assert clip.joints is not None and clip.visible is not None
    sides = (clip.boxes[:, 2:] - clip.boxes[:, :2]).max(1)
    distances = np.where(clip.visible, np.linalg.norm(joints - clip.joints, axis=-1), 0.0)
    count = clip.visible.sum(1)
    return np.where(count > 0, distances.sum(1) / np.maximum(count, 1), np.nan) / sides


def measure(errors: np.ndarray, signs: dict[str, np.ndarray]) -> dict[str, float]:
    """Measure how well the ranking of one subject's frames agrees with their errors [T].

    Returns the rank correlation of "doubt" and of each sign, the mean error of the most doubtful
    frames ("ranked") and of all frames ("random"), and the number of frames ("frames").
    """
    columns = {"doubt": suggestion.doubt(signs), **signs}
    known = np.isfinite(errors) & np.isfinite(columns["doubt"])
    errors, found = errors[known], {"frames": float(known.sum())}
    if len(errors) < 3:
        return found
    for name, values in columns.items():
        found[name] = float(stats.spearmanr(values[known], errors).statistic)
    most = np.argsort(-columns["doubt"][known], kind="stable")[: math.ceil(SHARE * len(errors))]
    return found | {"ranked": float(errors[most].mean()), "random": float(errors.mean())}


def table(found: dict[str, dict[str, float]]) -> list[str]:
    """Return the subjects' rows as Markdown, then means over subjects."""
    names = ["frames", "doubt", *suggestion.SIGNS, "ranked", "random"]
    heads = ["subject", "frames", *(f"rho of {name}" for name in ("doubt", *suggestion.SIGNS))]
    lines = [
        f"| {' | '.join([*heads, f'error of the top {SHARE:.0%}', 'of all'])} |",
        "|" + "---|" * (1 + len(names)),
    ]
    for subject, row in found.items():
        cells = [f"{row.get('frames', 0):.0f}", *(_cell(row.get(name)) for name in names[1:])]
        lines.append(f"| {subject} | {' | '.join(cells)} |")
    means = []
    for name in names[1:]:
        values = np.array([row[name] for row in found.values() if name in row])
        values = values[np.isfinite(values)]
        low, high = metrics.bootstrap_interval(values) if values.size else (math.nan, math.nan)
        means.append(
            f"{values.mean():.3f} ({low:.3f} to {high:.3f})" if values.size else _cell(None)
        )
    total = sum(row.get("frames", 0) for row in found.values())
    return [*lines, f"| mean (95 % over subjects) | {total:.0f} | {' | '.join(means)} |"]


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suggestion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", type=pathlib.Path, help="of `main.py train --project=...`")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    options = parser.parse_args(argv)
    workdir, split = options.workdir, options.split
    try:
        made = identity.training_experiment(workdir)
    except ValueError as error:
        parser.error(str(error))
    process.use_compilation_cache()
    base, step = base_model.load_base(made, workdir)
    predictor = Runner(made, base, "none")
    folder, found = comparison.folder_of(workdir, split, "offline"), {}
    protocol = identity.protocol(made.config, base, "offline")
    for clip in clips_lib.by_subject(sources.load_clips(made.data, split)):
        joints = predictor.one(clip)
        sides = (clip.boxes[:, 2:] - clip.boxes[:, :2]).max(1)
        after = comparison.stored(folder, protocol, [clip])
        signs = suggestion.signs_of_doubt(
            joints.joints, joints.confidence, sides, after[0] if after else None
        )
        found[clip.name] = measure(true_errors(clip, joints.joints), signs)
    print(f"{made.name}, step {step}, {len(found)} {split} subjects, seed {made.seed}\n")
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
