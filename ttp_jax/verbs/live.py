"""Personalize to frames as they come, and predict each at once.

    python main.py live --camera=0
    ffmpeg -i rtsp://CAMERA -f image2pipe -c:v ppm - | python main.py live --stdin

--stdin takes pictures in PPM form, one after the other. --config.data.boxes=X1,Y1,X2,Y2 says where
the person is (default: whole pictures); --config.data.refine=1 makes the box follow the keypoints.
Every frame is predicted. Updates are made on the newest frame whenever none is waiting: where they
can't keep up with the camera, frames that wait are predicted without one, and the number of updates
is printed. A frame waits for one update and the predictions of those before it at most.
Ends with the stream, or with Ctrl-C. Writes WORKDIR/results/live-DATE/: live.csv, line by line as
frames come, live.npz and run.json. `online` on a file does the same, with an update on every frame
that isn't held out (`config.ttp.held_out`; of a stream none is).
"""

import dataclasses
import pathlib

from ttp_jax.runs import live
from ttp_jax.runs.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    scenario: str | None
    camera: str | None
    stdin: bool


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Personalize to a camera or to standard input until it ends."""
    if options.scenario == "offline":
        raise ValueError("frames that come one by one can't be seen first: --scenario=online.")
    return live.run(experiment, workdir, camera=options.camera, stdin=options.stdin)
