"""Make the paper's tables and figures, running what is missing.

    python main.py reproduce --config=configs/rendered.py --what=table1
    python main.py reproduce --config=configs/penn.py --config.data.root=DIR --what=table1,figure5
    python main.py reproduce --config=configs/rendered.py --what=report       # run nothing

--what takes names with commas: table1 (methods and scenarios), claims (what the paper claims, as
differences with intervals), table2 (updates a frame), table3 (3
and 4: beside the state of the art), table5 (smoothing), table6 (another data set's people),
figure3 (gain over time), figure4 (gain against number of frames), figure5 (5, 7 and 8: pictures),
ablations, points (are the keypoints alive), choice (learning rate and updates a frame, on
validation people), all, or report.

The work is cut into runs: one training, or one model run once over all people of a split. Each
leaves a run record, a small JSON file, in --records (WORKDIR/records) and is never computed twice;
a training continues from its last checkpoint. --minutes=N ends after about N minutes; the same
command goes on. Models are under WORKDIR/models, by a fingerprint of what they were trained on and
how. Writes WORKDIR/report.md and WORKDIR/report.html, one file that opens anywhere; runs without a
record are shown as missing. --config.reproduce.seeds="(0,)" and
--config.reproduce.methods="('transformer',)" do a part of it. config.reproduce.given names models
that are included, so that these are not trained ("()": train them too). A run that fails is named
at the end, and the exit code is 1; the others are carried out.
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
    """Carry out the runs that have no record yet, then write the report."""
    ranges.check_argument("--minutes", options.minutes, ranges.number(0, 1_000_000))
    return reproduction.run(experiment, workdir, options.what, options.records, options.minutes)
