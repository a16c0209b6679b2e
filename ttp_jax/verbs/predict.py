"""Predict without adapting: with the model as it is, or with a kept personalized one.

    python main.py predict my_video.mp4
    python main.py predict anna_friday.mp4 --person=anna_monday
    python main.py predict --config=configs/tiny.py --workdir=runs/tiny

Writes WORKDIR/results/none/: per subject NAME.csv and NAME.npz with joints in picture pixels. With
--person, whose model `personalize --keep=fp16` kept, WORKDIR/results/person-NAME/ gets all that
`personalize` writes, where "before" is the model that knows nobody.
"""

import dataclasses
import pathlib

from ttp_jax.runs import personalization, strategy
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.outputs import OutputOptions
from ttp_jax.runs.personalization import RunOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    person: str | None
    overwrite: bool
    joints_only: bool
    formats: str | None
    smooth: str | None
    keypoints: str | None
    labels: str | None
    labels_first: int
    pcutoff: float = 0.0
    allow_missing: bool = False
    strategy: str | None
    devices: str | None


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Predict the test split."""
    outputs = OutputOptions(
        options.formats,
        options.smooth,
        options.keypoints,
        options.labels,
        options.labels_first,
        options.pcutoff,
    )
    chosen = RunOptions(
        scenario="none",
        person=options.person,
        overwrite=options.overwrite,
        outputs=None if options.joints_only else outputs,
        allow_missing=options.allow_missing,
        strategy=strategy.strategy(options.strategy, options.devices),
    )
    return personalization.run(experiment, workdir, chosen)
