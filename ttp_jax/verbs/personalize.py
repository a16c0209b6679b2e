"""Personalize the trained model to every test subject and predict them. No label is touched.

    python main.py personalize --config=configs/tiny.py --workdir=runs/tiny --scenario=online

online: frame by frame, an update on the frames seen so far, then the frame's prediction.
offline: as many updates as frames, on pairs of all frames, then all predictions.
Writes WORKDIR/results/SCENARIO/: per subject NAME.csv and NAME.npz with joints in picture pixels,
NAME.png with the personalized model's view of some frames, and summary.json.
Subjects that are already there are skipped, unless the model or the settings have changed;
--overwrite does them again anyway.
"""

import dataclasses
import functools
import json
import pathlib
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipelines import clips as clips_lib
from data_pipelines import media
from ttp_jax import geometry, state, ttp, visualize
from ttp_jax.checkpoint import fingerprint, write_json
from ttp_jax.models.pose import denormalize, normalize
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say

CHUNK = 8  # frames between two looks at the progress bar


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
    failed, seconds = {}, {}
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
    total = sum(clip.num_frames for clip in todo)
    with tqdm(total=total, unit="frame", desc=scenario, dynamic_ncols=True) as bar:
        for number, clip in enumerate(clips):
            if clip not in todo:
                continue
            began = time.monotonic()
            try:
                clip = refined(clip, predictor, config.data.refine)
                # The key depends on the subject's name only, not on who else is in the folder.
                result = runner(clip, bar)
            except (clips_lib.FrameError, clips_lib.DataError) as error:
                failed[clip.name] = str(error)
                continue
            seconds[clip.name] = time.monotonic() - began
            write_result(folder, clip.name, result, experiment.skeleton_of(config))
            if number < config.eval.pictures and config.model.method == "transformer":
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


def refined(clip, predictor: "Runner", rounds: int):
    """The clip in the boxes of what `predictor` finds in it, so many times over."""
    for _ in range(rounds):
        joints = predictor(clip).joints
        readable = int(np.flatnonzero(np.isfinite(joints).all((1, 2)))[0])
        size = clip.read(readable).shape[:2]
        clip = dataclasses.replace(clip, boxes=media.boxes_from_joints(joints, size, clip.boxes))
    return clip


def protocol(config, base: state.Base, scenario: str) -> dict:
    """What decides a scenario's results beside the pictures: model, settings, seed."""
    return {
        "base": fingerprint(base),
        "scenario": scenario,
        "seed": config.seed,
        "oversample": config.data.oversample,
        "boxes": [config.data.boxes, config.data.refine],
        "features": [config.loss.features, config.loss.levels],
        "ttp": config.ttp.to_dict() if scenario != "none" else None,
    }


def read_protocol(folder: pathlib.Path) -> dict | None:
    """The protocol of the results in a folder; None if there is none that can be read."""
    try:
        return json.loads((folder / "protocol.json").read_text())
    except (OSError, ValueError):
        return None


class Result:
    """A subject's predictions: joints [T, K, 2] in picture pixels, peaks [T, K], last loss.

    Frames that could not be read are NaN.
    """

    def __init__(self, subject, joints, peaks, adaptation):
        count = len(subject.valid)
        self.joints = subject.to_picture(np.array(joints, np.float64)[:count])
        self.peaks = np.array(peaks)[:count]
        self.joints[~subject.valid] = np.nan
        self.peaks[~subject.valid] = np.nan
        self.adaptation = adaptation


class Runner:
    """Programs of one scenario, compiled once per padded length, for subject after subject."""

    def __init__(self, config, base: state.Base, scenario: str):
        self._config, self._base, self._scenario = config, base, scenario
        self.carries = scenario != "none" and (
            config.ttp.reset == "never" or config.ttp.normalisers == "carried"
        )
        self._previous: state.Adaptation | None = None
        self._tools = experiment.ttp_tools(config, scenario)
        self._vgg = experiment.load_vgg(config) if scenario != "none" else None
        bound = functools.partial
        self._online = jax.jit(bound(ttp.online, tools=self._tools), donate_argnums=0)
        self._offline = jax.jit(bound(ttp.adapt_offline, tools=self._tools), donate_argnums=0)
        self._predict = jax.jit(bound(ttp.predict_frames, tools=self._tools))
        self._see = jax.jit(self._tools.model.apply)

    def __call__(self, clip, bar=None) -> Result:
        """Do one subject."""
        config, base = self._config, self._base
        subject, frames = experiment.subject_frames(config, clip)
        adaptation = self._start()
        if self._scenario != "none" and subject.valid.sum() < 2:
            say(f"{clip.name}: one readable frame; personalization needs two: predicted as it is")
            joints, peaks = self._predict(adaptation, base, frames, jnp.arange(len(frames.valid)))
            return Result(subject, joints, peaks, adaptation)
        key = subject_key(config.seed, clip.name)
        chunks = [jnp.arange(i, i + CHUNK) for i in range(0, clip.num_frames, CHUNK)]
        outputs = []
        for number, ids in enumerate(chunks):
            if self._scenario == "online":
                adaptation, output = self._online(adaptation, base, self._vgg, frames, ids, key)
                outputs.append(output)
            elif self._scenario == "offline":
                adaptation = self._offline(adaptation, base, self._vgg, frames, ids, key)
            if bar is not None:
                jax.block_until_ready(adaptation.step)
                bar.update(max(0, min(CHUNK, clip.num_frames - number * CHUNK)))
        if not outputs:
            outputs = [self._predict(adaptation, base, frames, ids) for ids in chunks]
        joints, peaks = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        self._previous = adaptation
        return Result(subject, joints, peaks, adaptation)

    def _start(self) -> state.Adaptation:
        """A copy of the base, or what the config carries over from the subject before."""
        # On its device in so many words, as the steps' results are: or the second step, which
        # gets a result, would be compiled again.
        start = jax.tree.map(jnp.copy, ttp.start(self._base, self._tools))
        fresh = jax.device_put(start, jax.local_devices()[0])
        before = self._previous
        if before is None or self._scenario == "none":
            return fresh
        if self._config.ttp.reset == "never":
            fresh = jax.tree.map(jnp.copy, before)
        if self._config.ttp.normalisers == "carried":
            return fresh.replace(normalisers=jnp.copy(before.normalisers))
        return fresh.replace(normalisers=jnp.copy(self._base.normalisers))

    def picture(self, clip, result: Result, count: int = 3) -> np.ndarray:
        """The paper's Figure 5 for some frames, seen by the personalized model."""
        config, tools = self._config, self._tools
        rules = state.RULES[tools.settings.rules]
        variables = state.adapted(self._base, result.adaptation, rules)
        subject, frames = experiment.subject_frames(config, clip)
        readable = np.flatnonzero(subject.valid)
        chosen = spread(readable, count)
        size, bgr = tools.settings.image_size, tools.settings.bgr
        affines = geometry.crop_affine(frames.crops[chosen], size)
        crops = jax.vmap(lambda i, a: geometry.warp(frames.pictures[i], a, size))(chosen, affines)
        sources = crops[::-1]
        output = self._see(variables, normalize(crops, bgr=bgr), normalize(sources, bgr=bgr))
        reconstruction = np.asarray(denormalize(output.reconstruction, bgr=bgr), np.uint8)
        stride = size / output.self_heatmaps.shape[1]
        rows = []
        for row, t in enumerate(chosen):
            to_crop = np.asarray(affines[row])
            on_canvas = (result.joints[t] + 0.5) * subject.scale - 0.5
            entry = {
                "image": np.asarray(crops[row], np.uint8),
                "reconstruction": reconstruction[row],
                "points": np.asarray(output.points[row]) * stride,
                "joints": geometry.transform_points(to_crop, on_canvas),
                "affinity": np.asarray(output.affinity[row]),
            }
            if clip.joints is not None:
                truth = (clip.joints[t] + 0.5) * subject.scale - 0.5
                entry["truth"] = geometry.transform_points(to_crop, truth)
                entry["visible"] = clip.visible[t]
            rows.append(entry)
        return visualize.figure5(rows, experiment.skeleton_of(config))


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of these frames, evenly spread, first and last left out: those that get drawn."""
    return frames[np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]


def subject_key(seed: int, name: str) -> jax.Array:
    """A subject's key, from the seed and its name: independent of who else is processed."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


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
