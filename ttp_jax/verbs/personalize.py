"""Adapt the model to the person in each video or data set, then predict every frame.

    python main.py personalize my_video.mp4 --scenario=offline
    python main.py personalize my_video.mp4 --config.data.boxes=120,40,520,700
    python main.py personalize videos/*.mp4 --scenario=offline --method=teacher --keep=fp16
    python main.py personalize --config=configs/penn.py --config.data.root=DIR --scenario=online

Each video or folder of images is one subject; with --same-subject=NAME they are all recordings of
one subject. Without videos, the test people of the config are used. After `fetch blazepose`,
BlazePose finds the person and predicts the joints; it adapts only with --method=teacher. Without
BlazePose, the included model is used. Adaptation never uses labels.

online: adapts frame by frame and never sees a later frame.
offline: adapts to all frames first, then predicts all of them.

Writes WORKDIR/results/SCENARIO/ (with BlazePose runs/blazepose/results/SCENARIO/). NAME is the name
of the video or folder:

    NAME_report.html    your videos: open this first; before and after with signs of quality
    NAME_overlay.mp4    your videos: both poses over the video, before orange, after blue
    NAME_scores.json    your videos with --labels: scores before and after
    exports/            your videos: before and after in the formats of other tools
    NAME.csv, NAME.npz  joints by the personalized model, in pixels of the frames
    NAME.png            not with BlazePose: some frames of the first subjects (config.eval.pictures)
                        with their joints, keypoints and reconstructions
    run.json            provenance record, for `python main.py verify WORKDIR/results/SCENARIO`

Joints of the included model: head, left_shoulder, right_shoulder, left_elbow, right_elbow,
left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, left_ankle, right_ankle.

--keep=fp16 (or full, or rank8) keeps each personalized model as WORKDIR/people/NAME.npz, for
`predict --person=NAME` on other videos of that person. `python main.py people` lists them.

You can stop a run at any time: the same command, without --overwrite, resumes it. Subjects that are
done are skipped, unless you add --overwrite. If the model or a setting has changed, the earlier
results are moved to results/SCENARIO.old1. Other --formats, --smooth, --keypoints or --labels need
no new adaptation. Only one command at a time can write to a folder of results.
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
    """Personalize to the inputs that the flags name, or to the test split."""
    if options.camera is not None or options.stdin:
        chosen = live.LiveOptions(camera=options.camera, stdin=options.stdin, keep=options.keep)
        return live.run(experiment, workdir, chosen)
    chosen = RunOptions(
        scenario=options.scenario or "online",
        keep=options.keep,
        overwrite=options.overwrite,
        outputs=None if options.joints_only else OutputOptions.of(options),
        allow_missing=options.allow_missing,
        strategy=strategy.strategy(options.strategy, options.devices),
    )
    return personalization.run(experiment, workdir, chosen)
