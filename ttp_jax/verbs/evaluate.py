"""Score the test split: two baselines, without adaptation, online and offline.

    python main.py evaluate --config=configs/tiny.py --workdir=runs/tiny

The baselines are the mean training pose and the untrained network. Online and offline are in the
table once `personalize` has written their results. PCK@0.2 is the percentage of joints within 0.2
torso lengths of the truth. The gain per person is relative to no personalization, mean +- standard
error. The last column is the share of people who are worse off. Below the table, the command
prints, for test and training people, whether the self-supervised bottleneck works: three
reconstruction errors, and how well joints can be read from the keypoints. Writes evaluation.json,
and for the first personalized subjects (config.eval.pictures, 4 by default)
results/SCENARIO/NAME_overlay.png: joints before and after, drawn into frames.
"""

import pathlib

from ttp_jax.runs import evaluation
from ttp_jax.runs.experiment import Experiment


def run(experiment: Experiment, workdir: pathlib.Path, options) -> int:
    """Evaluate the test split and print the tables."""
    del options
    evaluation.evaluate(experiment, workdir)
    return 0
