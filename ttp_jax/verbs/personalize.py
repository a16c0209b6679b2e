"""Adapt the model to the person in each video or data set, then predict every frame.

    python main.py personalize my_video.mp4 --scenario=offline
    python main.py personalize my_video.mp4 --config.data.boxes=120,40,520,700
    python main.py personalize videos/*.mp4 --scenario=offline --keep=fp16
    python main.py personalize --config=configs/penn.py --config.data.root=DIR --scenario=online

Each video, and each folder of pictures, is one person, whom BlazePose finds and predicts once it
was fetched (`fetch blazepose`), and the included model otherwise; with --same-subject=NAME all of
them are recordings of one, whose model learns from all their frames. Without any, the test people
of the config are taken. No label is needed, and none is used for learning.

online: frame by frame, an update on the frames seen so far, then the frame's prediction.
offline: as many updates as frames, on pairs of all frames, then all predictions.

Writes WORKDIR/results/SCENARIO/ (of BlazePose: runs/blazepose/results/SCENARIO/).
NAME is the video's or the folder's:

    NAME_report.html    own videos: open this first, before and after with signs of quality
    NAME_overlay.mp4    own videos: both poses over the video, before orange, after blue
    NAME_scores.json    own videos with --labels: scores before and after
    exports/            own videos: before and after in the formats of other tools
    NAME.csv, NAME.npz  the personalized model's joints, in picture pixels
    NAME.png            joints of some frames and what the model sees of them
    run.json            provenance record, for `python main.py verify WORKDIR/results/SCENARIO`

Joints of the included model: head, left_shoulder, right_shoulder, left_elbow, right_elbow,
left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, left_ankle, right_ankle.

--keep=full (fp16, rank8) keeps every personalized model: WORKDIR/people/NAME.npz, for `predict
--person=NAME` on other videos of that person; `python main.py people` lists and compares them.
Stop it at any time (Ctrl-C, SIGTERM, a crash): the same command (without --overwrite) goes on
inside the subject that was under way. On a CPU, where subjects run one at a time, that gives the
same bytes as if never stopped. Subjects are skipped whose results of the same files, frames and
boxes are there (with --keep their model, too); --overwrite does them again anyway. Results of
another model or other settings are moved aside, to results/SCENARIO.old1, and kept models of
another video or other settings to people/NAME.old1.npz. Other --formats, --smooth, --keypoints or
--labels need no adaptation. One command at a time writes a folder of results.
Elsewhere subjects of similar length and size run side by side where memory allows it
(config.ttp.together), and are equal up to rounding, which depends on how many do.
"""

import dataclasses
import pathlib

from ttp_jax.runs import live, personalization, strategy
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.outputs import OutputOptions
from ttp_jax.runs.personalization import RunOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    scenario: str | None
    keep: str | None
    overwrite: bool
    joints_only: bool
    formats: str | None
    smooth: str | None
    keypoints: str | None
    labels: str | None
    labels_first: int
    pcutoff: float = 0.0
    allow_missing: bool = False
    camera: str | None
    stdin: bool
    strategy: str | None
    devices: str | None


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Personalize to the test split, or to what the flags name."""
    if options.camera is not None or options.stdin:
        chosen = live.LiveOptions(camera=options.camera, stdin=options.stdin, keep=options.keep)
        return live.run(experiment, workdir, chosen)
    outputs = OutputOptions(
        options.formats,
        options.smooth,
        options.keypoints,
        options.labels,
        options.labels_first,
        options.pcutoff,
    )
    chosen = RunOptions(
        scenario=options.scenario or "online",
        keep=options.keep,
        overwrite=options.overwrite,
        outputs=None if options.joints_only else outputs,
        allow_missing=options.allow_missing,
        strategy=strategy.strategy(options.strategy, options.devices),
    )
    return personalization.run(experiment, workdir, chosen)
