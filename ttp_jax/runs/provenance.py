"""Provenance of results: the protocol in words, versions, machine, commit."""

import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess

import cv2
import jax

from ttp_jax import __version__
from ttp_jax.files import Damaged, move_aside, read_json, write_json
from ttp_jax.runs import identity
from ttp_jax.runs.experiment import Config
from ttp_jax.runs.process import say


def prepare(folder: pathlib.Path, own: dict) -> None:
    """Create the folder; if one with another protocol exists, move all of it aside first."""
    why = ""
    try:
        before = read_json(folder / "protocol.json", dict)
    except Damaged as error:  # the settings of these results are unknown
        before, why = {}, str(error)
    if before != own and (before is not None or any(folder.glob("*.npz"))):
        aside = move_aside(folder)
        why = why or "; ".join(identity.differences(before or {}, own))
        say(f"{folder}: results made with other settings ({why}) are now in {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "protocol.json", own)


def protocol_line(data: Config, ttp: Config, scenario: str, person: str | None = None) -> str:
    """Describe how a result was made, so that it can be compared with others.

    Args:
      data: fields of `config.data`.
      ttp: fields of `config.ttp`.
      scenario: "online", "offline", or "none".
      person: name of the kept model that predicted, if any.
    """
    boxes = {"media": f"boxes: {data.boxes}"}.get(data.source, "boxes of the data")
    if name := data.same_subject:
        boxes += f"; all recordings are of {name} and share one model"
    if data.refine:
        boxes += f", refined {data.refine} times by the model itself"
    if data.fit:
        boxes += ", at the scale at which the model is most confident"
    if scenario == "none" or ttp.method == "none":
        which = f"by the kept model of {person}" if person else "no personalization"
        return f"{which}; {boxes}"
    if held_out := ttp.held_out:
        boxes += f"; 1 in {held_out} frames held out"
    if (method := ttp.method) != "ttp":
        boxes += f"; adapted by the method {method}"
    sees = {"online": "never sees a later frame", "offline": "sees all frames first"}[scenario]
    return (
        f"{scenario}: {ttp.iterations} update(s) per frame, {ttp.batch_size} pairs each, {sees}; "
        f"{boxes}"
    )


def made_with() -> dict[str, str]:
    """Return versions and device, which can change results, if only in their last bits."""
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
    """Return date, commit and machine of the current run."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": {**made_with(), "cores": os.cpu_count()},
    }


@functools.cache  # because checking out another commit doesn't change the running code
def _commit() -> str | None:
    """Return the commit of this checkout, with a + if it was changed; None outside of one."""
    return commit_of(pathlib.Path(__file__).parents[2])


def commit_of(root: pathlib.Path) -> str | None:
    """Return the commit of the checkout with this root; None inside another project's checkout.

    The program is inside another project's checkout if it is installed in that project's
    environment.
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
