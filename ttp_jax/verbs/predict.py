"""Predict with the trained model, or with one that was personalized and kept; nothing is adapted.

    python main.py predict my_video.mp4
    python main.py predict anna_friday.mp4 --person=anna_monday
    python main.py predict --config=configs/tiny.py --workdir=runs/tiny

Writes WORKDIR/results/none/: per subject NAME.csv and NAME.npz with joints in picture pixels. With
--person, whose model `personalize --keep=fp16` kept, WORKDIR/results/person-NAME/ gets all that
`personalize` writes, where "before" is the model that knows nobody.
"""

import pathlib

from ttp_jax.verbs import personalize


def run(config, workdir: pathlib.Path, options) -> int:
    """Predict the test split."""
    return personalize.run_scenario(config, workdir, "none", options)
