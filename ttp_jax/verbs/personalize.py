"""Personalize the trained model to every test subject and predict them. No label is touched.

    python main.py personalize --config=configs/tiny.py --workdir=runs/tiny --scenario=online
    python main.py personalize --config=... --scenario=offline --inputs='people/*'

--inputs takes your own videos and folders of pictures, each one subject, instead of the test split.
Subjects of similar length and size run side by side where memory allows it (config.ttp.together).

online: frame by frame, an update on the frames seen so far, then the frame's prediction.
offline: as many updates as frames, on pairs of all frames, then all predictions.
Writes WORKDIR/results/SCENARIO/: per subject NAME.csv and NAME.npz with joints in picture pixels,
NAME.png with the personalized model's view of some frames, and summary.json.
Subjects that are already there are skipped, unless the model or the settings have changed;
--overwrite does them again anyway.
"""

import dataclasses
import json
import pathlib

import numpy as np
from tqdm import tqdm

from data_pipelines import clips as clips_lib
from data_pipelines import media
from ttp_jax import state, visualize
from ttp_jax.checkpoint import fingerprint, write_json
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import Result, Runner


def run(config, workdir: pathlib.Path, options) -> int:
    """Personalize to the test split."""
    if options.scenario not in ("online", "offline"):
        raise ValueError("--scenario must be online or offline.")
    return run_scenario(config, workdir, options.scenario, options)


def run_scenario(config, workdir: pathlib.Path, scenario: str, options) -> int:
    """Do all test subjects in one scenario ("none": predict only); return the exit code.

    A subject that fails is named and skipped: the others finish, and the exit code is 1.
    """
    base, step = experiment.load_base(config, workdir)
    clips = clips_lib.by_subject(experiment.load_clips(config, "test"))
    if not clips:
        raise clips_lib.DataError(f"no test clips in {config.data.root}.")
    folder = workdir / "results" / scenario
    folder.mkdir(parents=True, exist_ok=True)
    runner, predictor = Runner(config, base, scenario), Runner(config, base, "none")
    own = protocol(config, base, scenario)
    again = options.overwrite or read_protocol(folder) != own
    if again:
        for old in folder.glob("*.npz"):
            old.unlink()
        write_json(folder / "protocol.json", own)
    todo = [c for c in clips if not (folder / f"{c.name}.npz").exists()]
    if len(todo) < len(clips):
        say(f"{len(clips) - len(todo)} of {len(clips)} subjects are done already")
        if runner.carries:
            raise ValueError(
                "some subjects are done, but what is carried from subject to subject was not kept: "
                "start over with --overwrite."
            )
    failed, seconds = {}, {}
    drawn = {clip.name for clip in clips[: config.eval.pictures]}

    def boxed():
        for clip in todo:
            try:
                yield refined(clip, predictor, config.data.refine)
            except (clips_lib.FrameError, clips_lib.DataError) as error:
                failed[clip.name] = str(error)

    total = sum(clip.num_frames for clip in todo)
    with tqdm(total=total, unit="frame", desc=scenario, dynamic_ncols=True) as bar:
        for clip, result in runner.many(boxed(), bar):
            if isinstance(result, Exception):
                failed[clip.name] = str(result)
                continue
            seconds[clip.name] = result.seconds
            write_result(folder, clip.name, result, experiment.skeleton_of(config))
            bar.set_postfix_str(f"{len(seconds)} of {len(todo)} subjects, last {clip.name}")
            if clip.name in drawn and config.model.method == "transformer":
                visualize.save(folder / f"{clip.name}.png", runner.picture(clip, result))
    summary = {
        "scenario": scenario,
        "checkpoint_step": step,
        "subjects": [clip.name for clip in clips if clip.name not in failed],
        "failed": failed,
        "seconds": seconds,
        "frames": {clip.name: clip.num_frames for clip in clips},
    }
    write_json(folder / "summary.json", summary)
    say(f"wrote {folder}: {len(clips) - len(failed)} subjects, {scenario}")
    for name, error in failed.items():
        say(f"FAILED {name}: {error}")
    return 1 if failed else 0


def refined(clip, predictor: Runner, rounds: int):
    """The clip in the boxes of what `predictor` finds in it, so many times over."""
    for _ in range(rounds):
        joints = predictor.one(clip).joints
        readable = int(np.flatnonzero(np.isfinite(joints).all((1, 2)))[0])
        size = clip.read(readable).shape[:2]
        clip = dataclasses.replace(clip, boxes=media.boxes_from_joints(joints, size, clip.boxes))
    return clip


def protocol(config, base: state.Base, scenario: str) -> dict:
    """What decides a scenario's results beside the pictures: model, settings, seed."""
    adapts = scenario != "none"
    return {
        "base": fingerprint(base),
        "scenario": scenario,
        "seed": config.seed,
        "oversample": config.data.oversample,
        "boxes": [config.data.boxes, config.data.refine],
        "features": [config.loss.features, config.loss.levels],
        "ttp": {k: v for k, v in config.ttp.items() if k != "together"} if adapts else None,
    }


def read_protocol(folder: pathlib.Path) -> dict | None:
    """The protocol of the results in a folder; None if there is none that can be read."""
    try:
        return json.loads((folder / "protocol.json").read_text())
    except (OSError, ValueError):
        return None


def write_result(folder: pathlib.Path, name: str, result: Result, skeleton) -> None:
    """Write NAME.csv (one row a frame) and, last, NAME.npz, whose presence means done."""
    columns = [f"{joint}_{part}" for joint in skeleton.joints for part in ("x", "y", "likelihood")]
    table = np.concatenate([result.joints, result.peaks[..., None]], -1)
    lines = [",".join(["frame", *columns])]
    for t, row in enumerate(table.reshape(len(table), -1)):
        lines.append(",".join([str(t), *(f"{value:.4f}" for value in row)]))
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    part = folder / f"{name}.npz.part"
    with part.open("wb") as file:
        np.savez_compressed(file, joints=result.joints, peaks=result.peaks)
    part.replace(folder / f"{name}.npz")


def read_results(folder: pathlib.Path, clips) -> list[np.ndarray] | None:
    """Joints [T, K, 2] per clip as written earlier; None unless all are there and fit."""
    paths = [folder / f"{clip.name}.npz" for clip in clips]
    if not all(path.exists() for path in paths):
        return None
    joints = []
    for path, clip in zip(paths, clips, strict=True):
        with np.load(path) as stored:
            joints.append(stored["joints"])
        if len(joints[-1]) != clip.num_frames:
            raise ValueError(
                f"{path} has {len(joints[-1])} frames, clip {clip.name} has {clip.num_frames}: the "
                "data changed; run that scenario again with --overwrite."
            )
    return joints
