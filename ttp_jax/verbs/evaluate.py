"""Score the test split: two baselines, without adaptation, online and offline.

    python main.py evaluate --config=configs/tiny.py --workdir=runs/tiny

The baselines are the mean training pose and the untrained network. Online and offline appear where
`personalize` has written them. Prints the table (PCK@0.2: percent
of joints within 0.2 torso lengths of the truth; a person's gain over without TTP, its mean +-
standard error, and the share of people with a loss), then whether the self-supervised half is
alive, on test people and on training people: three figures that need no labels, and how well joints
can be read from its keypoints. Writes evaluation.json, and per personalized subject
results/SCENARIO/NAME_overlay.png: joints before and after, over the pictures.
"""

import pathlib

from ttp_jax.runs import evaluation
from ttp_jax.runs.experiment import Experiment


def run(experiment: Experiment, workdir: pathlib.Path, options) -> int:
    """Evaluate and print."""
    del options
    evaluation.evaluate(experiment, workdir)
    return 0
