"""Adapt to the frames of a camera or a pipe as they arrive, and predict each at once.

    python main.py live --camera=0
    ffmpeg -i INPUT -f image2pipe -c:v ppm - | python main.py live --stdin
    python main.py live --camera=rtsp://CAMERA --person=anna --keep=fp16 --json --mjpeg=8080

--camera takes a number, a device or an address. --stdin takes images one after the other: PPM, PGM,
PNG, BMP or JPEG (motion JPEG). --config.data.boxes=X1,Y1,X2,Y2 says where the person is (default:
whole frames); --config.data.refine=1 lets the box follow the joints.

Every frame is predicted. The model adapts to the newest frame if no other frame is waiting. If
updates can't keep up with the camera, waiting frames are predicted without an update, and the
number of updates is printed. A frame waits for at most one update and for the predictions of
earlier frames.

The default is the included model, which has seen rendered people only. For real people, add
--model=blazepose, which adapts only with --method=teacher.

--person=NAME starts from the model that was kept under this name. --keep=FORM keeps the model
afterwards as WORKDIR/people/NAME.npz (without --person, NAME is that of the results folder); an
earlier model of this name is moved aside. --json writes a line of JSON for each frame to standard
output, and messages to standard error. --mjpeg=PORT shows the frames with their joints at
http://127.0.0.1:PORT/, for a browser or `ffplay`.

Ends with the stream, or with Ctrl-C. Writes WORKDIR/results/live-DATE/: live.csv, line by line as
frames arrive, then live.npz and run.json. `personalize --scenario=online` does the same with a
file, with an update on every frame except held-out ones (`config.ttp.held_out`), which a stream
doesn't have. The model doesn't adapt to a frame that repeats the previous one.
"""

import dataclasses
import pathlib

from ttp_jax.runs import live
from ttp_jax.runs.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    camera: str | None
    stdin: bool
    person: str | None
    keep: str | None
    json: bool
    mjpeg: int | None


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Personalize to a camera or to standard input until it ends; return the exit code."""
    chosen = live.LiveOptions(
        camera=options.camera,
        stdin=options.stdin,
        person=options.person,
        keep=options.keep,
        json=options.json,
        mjpeg=options.mjpeg,
    )
    return live.run(experiment, workdir, chosen)
