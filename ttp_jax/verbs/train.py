"""Train the model on labelled people, then evaluate it. The default verb.

    python main.py --config=configs/tiny.py
    python main.py train --config=configs/penn.py --config.data.root=DIR --workdir=runs/penn

Stops and resumes at any time: the same command goes on. Ctrl-C (once) and SIGTERM end it after the
step it is at, which is kept; exit code 143. What kills it at once, and every stop where several
processes train together, costs the steps since the last checkpoint (config.train.checkpoint_every).
Writes under the workdir: checkpoints/, config.json, losses and scores so far in history.json,
history.png and (TensorBoard) tensorboard/, and what `evaluate` writes.
"""

import dataclasses
import pathlib

import jax

from ttp_jax import parallel
from ttp_jax.runs import evaluation, training
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import STOPPED, Stopped, say


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    extend: bool


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Train, then evaluate without personalization."""
    try:
        training.train(experiment, workdir, extend=options.extend)
    except Stopped as stop:
        say(f"{stop}: the same command goes on")
        return STOPPED
    if jax.process_count() > 1:
        say("trained; score it with `python main.py evaluate`, in one process")
        parallel.wait_for_hosts()
        return 0
    evaluation.evaluate(experiment, workdir)
    return 0
