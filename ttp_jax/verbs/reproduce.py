"""Make the paper's tables and figures, running what is missing.

    python main.py reproduce --config=configs/rendered.py --what=table1
    python main.py reproduce --config=configs/penn.py --config.data.root=DIR --what=table1,figure5
    python main.py reproduce --config=configs/rendered.py --what=report       # run nothing

--what takes one or more of these names, separated by commas:

    adapt       every way to adapt the Transformer, and none: should you adapt?
    table1      methods and scenarios
    claims      the paper's claims, as differences with intervals
    table2      updates per frame
    table3      Tables 3 and 4, the state of the art
    table5      smoothing
    table6      people of another data set
    table7      people at several distances from training (config.reproduce.grades)
    subjects    each subject's gain beside its score without adaptation
    videos      frames of the subjects' own videos (labelled projects)
    errors      mean errors (labelled projects)
    figure3     gain over time
    figure4     gain against the number of frames
    figure5     Figures 5, 7 and 8: pictures
    ablations   one change at a time
    points      whether the keypoints work
    choice      learning rate and updates per frame, on validation people
    all         all of these
    report      no runs, only the report

The work consists of runs: one training, or one model on all people of a split. Each run leaves a
run record, a small JSON file, in --records (default WORKDIR/records) and is never computed twice. A
training resumes from its last checkpoint. --minutes=N ends after about N minutes; the same command
continues. Models are in WORKDIR/models, under a fingerprint of their data and settings. Writes
WORKDIR/report.md and WORKDIR/report.html; runs without a record are shown as missing.

--config.reproduce.seeds="(0,)" and --config.reproduce.methods="('transformer',)" do part of the
work. config.reproduce.given names models that are included and therefore not trained ("()": train
them too). If a run fails, the others continue; the failed run is named at the end, and the exit
code is 1.
"""

import dataclasses
import pathlib

from ttp_jax import ranges
from ttp_jax.paper import reproduction
from ttp_jax.runs.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    what: str
    records: str | None
    minutes: float


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Make the runs that have no record yet, then write the report."""
    ranges.check_argument("--minutes", options.minutes, ranges.number(0, 1_000_000))
    return reproduction.run(experiment, workdir, options.what, options.records, options.minutes)
