"""What a run says of itself: its protocol, versions and commit; the results that go with it."""

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

import cv2
import jax
import numpy as np

from ttp_jax import __version__, state
from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import (
    DAMAGED,
    Damaged,
    move_aside,
    read_arrays,
    read_json,
    write_arrays,
    write_atomically,
    write_json,
)
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import Result

# What run.json says, and the arrays of NAME.npz; patterns of `files.read_json` and `read_arrays`.
RECEIPT = {
    "scenario": str,
    "subjects": {
        str: {"data": dict, "made_with": dict, "inputs": str, "outputs": {str: str}, "frames": int}
    },
    "failed": {str: str},
    "protocol": str,
    "base": str,
    "person": (str, None),
    "config": dict,
}
RESULTS = {
    "joints": ("f", 3), "peaks": ("f", 2), "frames": ("iu", 1), "inputs": ("U", 0),
    "origin": ("U", 0),
}  # fmt: skip
# Fields of config.ttp that leave the results alone: "together" up to rounding, which is another
# where other numbers of subjects run side by side.
HOW = ("together", "save_minutes")


def protocol(config, base: state.Base, scenario: str) -> dict:
    """What decides results beside the pictures, as JSON has it: model, settings, seed."""
    adapts = scenario != "none"
    found = {
        "base": fingerprint(base),
        "scenario": scenario,
        "seed": config.seed,
        "model": {k: v for k, v in config.model.to_dict().items() if k != "init"},
        "precision": config.train.precision,
        "oversample": config.data.oversample,
        "context": config.data.context,
        "refine": config.data.refine,
        "fit": config.data.fit,
        "features": [config.loss.features, config.loss.levels],
        "ttp": {k: v for k, v in config.ttp.items() if k not in HOW} if adapts else None,
    }
    return json.loads(json.dumps(found))  # tuples are lists there


def differences(before: dict, now: dict) -> list[str]:
    """What differs between two protocols: "ttp.iterations: 1 -> 2"."""

    def flat(value, name=""):
        if not isinstance(value, dict):
            return {name: value}
        parts = (flat(v, f"{name}.{k}" if name else k) for k, v in value.items())
        return {k: v for part in parts for k, v in part.items()}

    one, other = flat(before), flat(now)
    return [
        "another model" if name == "base" else f"{name}: {one.get(name)} -> {other.get(name)}"
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]


def prepare(folder: pathlib.Path, own: dict) -> None:
    """Make the folder; one with results of another protocol is moved out of the way, whole."""
    why = ""
    try:
        before = read_json(folder / "protocol.json", dict)
    except Damaged as error:  # then nobody knows of which settings the results are
        before, why = {}, str(error)
    if before != own and (before is not None or any(folder.glob("*.npz"))):
        aside = move_aside(folder)
        why = why or "; ".join(differences(before or {}, own))
        say(f"{folder}: results of other settings ({why}) are now in {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "protocol.json", own)


def protocol_line(config, scenario: str, person: str | None = None) -> str:
    """What a reader must know to compare a result with another, in words."""
    boxes = {"media": f"boxes: {config.data.boxes}"}.get(config.data.source, "boxes of the data")
    if config.data.refine:
        boxes += f", refined {config.data.refine} times by the model itself"
    if config.data.fit:
        boxes += ", at the size that is likeliest to the model"
    if scenario == "none":
        which = f"by the model kept of {person}" if person else "no personalization"
        return f"{which}; {boxes}"
    if held_out := config.ttp.held_out:
        boxes += f"; 1 frame in {held_out} held out of learning"
    sees = {"online": "never sees a later frame", "offline": "sees all frames first"}[scenario]
    return (
        f"{scenario}: {config.ttp.iterations} update(s) a frame of {config.ttp.batch_size} pairs, "
        f"{sees}; {boxes}"
    )


def made_with() -> dict[str, str]:
    """Versions and device: what may change a result, or its last bits."""
    packages = "jax", "jaxlib", "flax", "numpy"
    device = jax.local_devices()[0]
    return {
        "ttp_jax": __version__,
        **{name: importlib.metadata.version(name) for name in packages},
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "machine": platform.machine(),
    }


def where() -> dict:
    """Date, commit and machine of what is being made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": {**made_with(), "cores": os.cpu_count()},
    }


@functools.cache  # the code that runs is that of the start, whatever is checked out meanwhile
def _commit() -> str | None:
    """The commit of this checkout, with a + if it was changed; None outside one."""
    return commit_of(pathlib.Path(__file__).parents[2])


def commit_of(root: pathlib.Path) -> str | None:
    """The commit of the checkout whose root this is; None of a folder inside another project's.

    A program that is installed into a project's own environment lies in that project's checkout.
    """

    def git(*words):
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(git("diff", "HEAD", "--stat"))
    except (OSError, subprocess.CalledProcessError):
        return None


def sha256(path: pathlib.Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def columns(skeleton) -> list[str]:
    """Names of the columns of a table of keypoints, after those that say which frame."""
    return [f"{joint}_{part}" for joint in skeleton.joints for part in ("x", "y", "likelihood")]


def fields(joints: np.ndarray, peaks: np.ndarray) -> list[str]:
    """One frame's joints [K, 2] and peaks [K] in these columns."""
    return [f"{value:.4f}" for value in np.concatenate([joints, peaks[:, None]], -1).ravel()]


def write_result(folder: pathlib.Path, clip, result: Result, config) -> None:
    """Write NAME.csv (one row a frame) and, last, NAME.npz, whose presence means done."""
    name, numbers = clip.name, clip.frame_numbers
    lines = [",".join(["frame", *columns(experiment.skeleton_of(config))])]
    for number, joints, peaks in zip(numbers, result.joints, result.peaks, strict=True):
        lines.append(",".join([str(number), *fields(joints, peaks)]))
    text = "\n".join(lines) + "\n"
    write_atomically(folder / f"{name}.csv", lambda path: path.write_text(text))
    arrays = {"joints": result.joints, "peaks": result.peaks, "frames": numbers}
    texts = {"inputs": np.array(result.inputs), "origin": np.array(clip.origin)}
    write_arrays(folder / f"{name}.npz", {**arrays, **texts})


def is_of(path: pathlib.Path, clip) -> bool:
    """Whether the results in a file are of just these frames and boxes."""
    return _are_of(read_arrays(path, RESULTS), clip)


def _are_of(stored: dict[str, np.ndarray], clip) -> bool:
    same = str(stored["origin"]) == clip.origin and len(stored["joints"]) == clip.num_frames
    return same and np.array_equal(stored["frames"], clip.frame_numbers)


def read_results(folder: pathlib.Path, clips) -> list[np.ndarray] | None:
    """Joints [T, K, 2] per clip as written earlier; None unless all are there.

    Raises ValueError where they are of other frames or can't be read.
    """
    paths = [folder / f"{clip.name}.npz" for clip in clips]
    if not all(path.exists() for path in paths):
        return None
    joints = []
    for path, clip in zip(paths, clips, strict=True):
        try:
            stored = read_arrays(path, RESULTS)
            same = _are_of(stored, clip)
            joints.append(stored["joints"])
        except DAMAGED as error:
            raise ValueError(f"{path} can't be read ({error}): run that scenario again.") from error
        if not same:
            raise ValueError(
                f"{path} is of other frames or boxes than clip {clip.name} has now: the data "
                "changed; run that scenario again."
            )
    return joints
