"""Predict every test subject with the trained model, without personalization.

    python main.py predict --config=configs/tiny.py --workdir=runs/tiny

Writes WORKDIR/results/none/: per subject NAME.csv and NAME.npz with joints in picture pixels.
"""

import pathlib

from ttp_jax.verbs import personalize


def run(config, workdir: pathlib.Path, options) -> int:
    """Predict the test split."""
    return personalize.run_scenario(config, workdir, "none", options)
