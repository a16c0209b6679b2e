"""Train a model on labelled data, then evaluate it (the default command).

    python main.py --config=configs/tiny.py
    python main.py train --config=configs/penn.py --config.data.root=DIR --workdir=runs/penn
    python main.py train --project=path/to/project     (your own labels: docs/project.md)

A labelled project (DeepLabCut, SLEAP, Lightning Pose, COCO keypoints) needs no config: the command
reports what it found, and trains. It then uses the validation subjects to choose between no
personalization, online and offline, and scores each once on the test subjects, with a cross-subject
control. --test and --val choose these subjects; the default is a random fifth of all for each.
--folds=5 trains five times, so that each subject is a test subject once (folds.json has all
results).

You can stop at any time; the same command resumes. Ctrl-C and SIGTERM save the current step (exit
code 143). If the process is killed, or if several processes train together, the steps since the
last checkpoint are lost (config.train.checkpoint_every). Writes to the workdir: checkpoints/,
config.json, losses and scores in history.json, history.png and tensorboard/, and the files of
`evaluate`.
"""

import dataclasses
import pathlib

import jax

from ttp_jax import parallel
from ttp_jax.runs import comparison, evaluation, folds, sources, training
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import STOPPED, Stopped, say


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    extend: bool


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Train, then evaluate; for a project, in all folds and with personalization."""
    if experiment.data.folds:
        return folds.run(experiment, workdir, lambda each, place: _one(each, place, options))
    return _one(experiment, workdir, options)


def _one(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    alone = jax.process_count() == 1
    try:
        training.train(experiment, workdir, extend=options.extend, scored=alone)
    except Stopped as stop:
        say(f"{stop}: the same command continues")
        return STOPPED
    if not alone:
        say("trained; score it with `python main.py evaluate`, in one process")
        parallel.wait_for_hosts()
        return 0
    if experiment.data.source == "project":
        return _score(experiment, workdir)
    evaluation.evaluate(experiment, workdir)
    return 0


def _score(experiment: Experiment, workdir: pathlib.Path) -> int:
    """Score a project's test subjects with and without personalization."""
    if not sources.load_clips(experiment.data, "test"):
        say("nothing is scored, as there are no test subjects: name some with --test=PATTERNS")
        return 0
    if experiment.net.parts.task != "none":
        splits = ("val", "test") if sources.load_clips(experiment.data, "val") else ("test",)
        for split in splits:
            if code := comparison.personalize_all(experiment, workdir, split):
                return code
    evaluation.evaluate(experiment, workdir)
    return 0
