"""Size of a personalized model against its gain on other frames of the same person.

    python -m benchmarks.people --config=configs/rendered.py --workdir=runs/rendered

The model is personalized offline to the first half of each labelled test subject's frames. The
second half is predicted with the base model, and with the difference kept in each form
(`ttp_jax.people`). Prints a Markdown table: file size, PCK on the second halves, gain per person +-
standard error.
"""

import argparse
import importlib.util
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import jax

from data_pipelines import clips as clips_lib
from data_pipelines.clips import Clip
from ttp_jax import metrics, people, state
from ttp_jax.runs import base_model, experiment, process, scoring, sources
from ttp_jax.runs.batch import Runner

FORMS = ("full", "fp16", "rank32", "rank16", "rank8", "rank4", "rank2")


def scores(
    made: experiment.Experiment, models: Sequence[state.Base], clips: Sequence[Clip]
) -> dict[str, list[metrics.Score]]:
    """Predict each clip with its own model, without adaptation; return the scores of each measure.

    Args:
      made: the experiment.
      models: one model for each clip.
      clips: clips with labels.
    """
    runners = (Runner(made, model, "none") for model in models)
    joints = [runner.one(clip).joints for runner, clip in zip(runners, clips, strict=True)]
    measures = scoring.measures_from(made.config.eval)
    return scoring.scores_of(clips, joints, made.skeleton, measures)


def config_in(path: pathlib.Path):
    """Return the config that a file defines."""
    spec = importlib.util.spec_from_file_location("experiment_config", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.people",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--root", help="folder of the data set; default: the config's")
    options = parser.parse_args(argv)
    config = config_in(options.config)
    config.data.root = options.root or config.data.root
    process.use_compilation_cache()

    made = experiment.build(config)
    base, step = base_model.load_base(made, options.workdir)
    clips = clips_lib.by_subject(sources.load_clips(made.data, "test"))
    firsts = [clips_lib.at(clip, range(clip.num_frames // 2)) for clip in clips]
    seconds = [clips_lib.at(c, range(c.num_frames // 2, c.num_frames)) for c in clips]
    adapting = Runner(made, base, "offline")
    deltas = [jax.device_get(adapting.one(clip).adaptation.delta) for clip in firsts]

    before = scores(made, [base] * len(clips), seconds)
    names = list(before)
    frames = clips[0].num_frames // 2
    print(f"{len(clips)} people, {frames} frames per half, step {step}\n")
    heads = "".join(f" {name} |" for name in names)
    print(f"| kept as | KiB |{heads} gain per person, {names[0]} | worse off |")
    print("|---|---|" + "---|" * (len(names) + 2))
    cells = "".join(f" {metrics.merge(before[name]).mean:.2f} |" for name in names)
    print(f"| base model, nothing kept | |{cells} | |", flush=True)
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place) / "person.npz"
        for form in FORMS:
            sizes, models = [], []
            for delta in deltas:
                people.write(path, delta, form, {"base": ""})
                sizes.append(path.stat().st_size / 1024)
                read = people.read(path).delta
                models.append(state.adapted_base(base, read))
            after = scores(made, models, seconds)
            table = metrics.subject_table(
                [score.mean for score in before[names[0]]],
                [score.mean for score in after[names[0]]],
            )
            cells = "".join(f" {metrics.merge(after[name]).mean:.2f} |" for name in names)
            gain = f"{table.mean:+.2f} +- {table.standard_error:.2f}"
            size = sum(sizes) / len(sizes)
            print(f"| {form} | {size:.0f} |{cells} {gain} | {table.worse:.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
