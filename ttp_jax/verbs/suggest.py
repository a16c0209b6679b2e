"""Choose the frames of new videos to label next: those with the lowest confidence.

    python main.py suggest new_mouse.mp4 --model=runs/NAME
    python main.py suggest new_mouse.mp4 --model=runs/NAME --count=30 --scorer=anna

No training and no labels are needed. Frames are ranked by low confidence. If you have run
`personalize` on the video with this model, the distance by which it moved the joints counts
equally. Chosen frames are at least a fiftieth of the video apart.

Writes WORKDIR/suggested/. Earlier suggestions for a video of the same name are first moved to
WORKDIR/suggested/NAME.old1:

    NAME_doubt.csv         confidence and other signs of each frame, and which frames are chosen
    labeled-data/NAME/     for DeepLabCut: images, and CollectedData_SCORER.csv, .h5: predictions.
                           Copy the folder into the project, add the video to its config.yaml, and
                           correct the labels. DeepLabCut only reads those of the scorer in
                           config.yaml, so give it as --scorer. Without pandas and PyTables there
                           is no .h5: run deeplabcut.convertcsv2h5
    NAME.predictions.slp   for SLEAP, if sleap-io is installed: the predictions of these frames

`python -m benchmarks.suggestion WORKDIR` compares the ranking with the true errors of labelled
subjects.
"""

import contextlib
import dataclasses
import pathlib

import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import plain_name, read_json, write_csv
from ttp_jax.runs import base_model, boxes, results, sources, suggestion
from ttp_jax.runs.batch import OF_ONE, Runner
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import progress_bar, say, say_failed

COUNT = 20  # number of frames to choose in a video
APART = 50  # chosen frames are at least a share of 1 / APART of the video apart


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    count: int | None
    scorer: str


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Rank the frames of each video, and write the chosen ones; return the exit code."""
    plain_name(options.scorer, "--scorer")
    base, _ = base_model.load_base(experiment, workdir)
    predictor, own, failed = Runner(experiment, base, "none"), fingerprint(base), {}
    if experiment.data.source == "media":
        opened = sources.open_own(experiment.data)
        clips = clips_lib.by_subject(opened.clips)
        failed = {str(each.path): each.reason for each in opened.left_out}
    else:
        clips = clips_lib.by_subject(sources.load_clips(experiment.data, "test"))
    for clip in clips:
        try:
            after = _personalized(workdir, clip, own)
            _suggest(experiment, workdir, predictor, clip, after, options)
        except OF_ONE as error:  # the other videos continue
            failed[clip.name] = str(error)
    say_failed(failed)
    return 1 if failed else 0


def _suggest(
    experiment: Experiment, workdir: pathlib.Path, predictor: Runner, clip, after, options
):
    """Rank the frames of one video, and write the chosen ones.

    `after`: the joints of its personalized model [T, K, 2], see `_personalized`.
    """
    with progress_bar(2 * clip.num_frames, clip.name) as bar:

        def searched(share):
            bar.update(share * clip.num_frames - bar.n)

        boxed = boxes.resolve(clip, predictor, experiment.data, searched)
        searched(1)
        found = predictor.one(boxed, bar)
    sides = (boxed.boxes[:, 2:] - boxed.boxes[:, :2]).max(1)
    signs = suggestion.signs_of_doubt(found.joints, found.confidence, sides, after)
    doubtful = suggestion.doubt(signs)
    gap = max(clip.num_frames // APART, 1)
    chosen = suggestion.choose(doubtful, options.count or COUNT, gap)
    root = workdir / "suggested"
    if aside := suggestion.make_room(root, clip.name):
        say(f"{clip.name}: earlier suggestions, and labels corrected there, are now in {aside}")
    folder = suggestion.write_deeplabcut(
        root, clip, chosen, found.joints, experiment.skeleton, options.scorer
    )
    with contextlib.suppress(ImportError):  # sleap-io comes with an extra
        predicted = found.joints, found.confidence, experiment.skeleton
        every = experiment.data.every
        say(f"{suggestion.write_sleap(root, clip, chosen, *predicted, every)}")
    _write_table(root / f"{clip.name}_doubt.csv", clip, {**signs, "doubt": doubtful}, chosen)
    by = ", ".join(name for name in suggestion.RANKED if name in signs)
    say(f"{folder}: {len(chosen)} of {clip.num_frames} frames, by {by}")


def _personalized(workdir: pathlib.Path, clip, own: str) -> np.ndarray | None:
    """Return the personalized model's joints of exactly these frames, if there are any.

    `own`: the fingerprint of the model; the joints may be of one that was trained before it.
    """
    for scenario in ("offline", "online"):
        folder = workdir / "results" / scenario
        with contextlib.suppress(ValueError):  # the results are of other frames or boxes
            made = read_json(folder / "protocol.json", dict) or {}
            if made.get("base") == own and (found := results.read_results(folder, [clip])):
                return found[0]
    return None


def _write_table(path: pathlib.Path, clip, columns: dict[str, np.ndarray], chosen) -> None:
    leads = {"frame": clip.frame_numbers.tolist()}
    if clip.frame_names is not None:
        leads["picture"] = clip.frame_names
    rows = [[*leads, *columns, "chosen"]]
    for place, lead in enumerate(zip(*leads.values(), strict=True)):
        values = (f"{column[place]:.5f}" for column in columns.values())
        rows.append([*map(str, lead), *values, str(int(place in chosen))])
    write_csv(path, rows)
