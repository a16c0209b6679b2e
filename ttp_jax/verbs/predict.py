"""Predict without adapting: with the model as it is, or with a kept personalized one.

    python main.py predict my_video.mp4
    python main.py predict anna_friday.mp4 --person=anna_monday
    python main.py predict --config=configs/tiny.py --workdir=runs/tiny

Writes NAME.csv and NAME.npz to WORKDIR/results/none/ for each subject: joints in pixels of the
frames. With --person=NAME it uses the model that `personalize --keep` stored under this name, and
writes the same files as `personalize` to WORKDIR/results/person-NAME/. There, "before" is the model
without personalization.
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
    """Predict the inputs that the flags name, or the test split."""
    chosen = RunOptions(
        scenario="none",
        person=options.person,
        overwrite=options.overwrite,
        outputs=None if options.joints_only else OutputOptions.of(options),
        allow_missing=options.allow_missing,
        strategy=strategy.strategy(options.strategy, options.devices),
    )
    return personalization.run(experiment, workdir, chosen)
