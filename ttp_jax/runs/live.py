"""A live camera or stream: predict each frame at once, and adapt in between."""

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import boxes as boxes_lib
from data_pipelines import clips as clips_lib
from data_pipelines import locate, video, windows
from ttp_jax import driver, geometry, people, state, ttp
from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import FULL, named, sha256, write_arrays, write_json
from ttp_jax.frames import Frames
from ttp_jax.memory import repeats
from ttp_jax.runs import base_model, provenance, results
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.mjpeg import Screen
from ttp_jax.runs.personalization import person_file
from ttp_jax.runs.process import say, stopping
from ttp_jax.runs.starts import subject_key
from ttp_jax.skeletons import Skeleton

NAME = "live"  # name of the subject
WAITING = 64  # most frames in the queue; when it is full, a pipe waits and a camera drops frames
PATIENCE = 0.5  # seconds until Ctrl-C is noticed while no frame comes
FOLLOW = 0.3  # weight of the new box when boxes follow the joints


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """Options of a live run.

    Attributes:
      camera: number or address of the camera; None for the first one.
      stdin: read images from standard input instead.
      person: name of the kept model to start from.
      keep: form in which to keep the personalized model (`people.pack`); None keeps none.
      json: write a line of JSON for each frame to standard output, and messages to standard error.
      mjpeg: port of this machine on which to show frames with their joints; None to show none.
    """

    camera: str | None = None
    stdin: bool = False
    person: str | None = None
    keep: str | None = None
    json: bool = False
    mjpeg: int | None = None


@dataclasses.dataclass
class Seen:
    """One predicted frame.

    Attributes:
      came: time of arrival, in seconds.
      done: time at which it was predicted, in seconds.
      updated: whether the model adapted to it.
      joints: [K, 2] in pixels of the frame.
      confidence: [K].
      picture: the frame, uint8 [H, W, 3]; None after it has been shown, to free its memory.
    """

    came: float
    done: float
    updated: bool
    joints: np.ndarray
    confidence: np.ndarray
    picture: np.ndarray | None = None


class Live:
    """A subject whose frames arrive one by one: `ttp.online` in chunks of one frame."""

    def __init__(self, experiment: Experiment, base: state.Base, picture: np.ndarray):
        """Compile for frames of the size of this picture."""
        self._settings = experiment.settings("online")
        self._programs = driver.programs(experiment.net, self._settings)
        features = experiment.features if self._programs.tools.needs_features else None
        self._base, self._features = jax.device_put((base, features))
        size, data = experiment.image_size, experiment.data
        self._pixels = data.oversample * size if data.oversample else np.inf
        self._shape = windows.window_shape(picture.shape[:2], self._pixels, data.context)
        key, capacity = subject_key(experiment.seed, NAME), experiment.config.ttp.memory
        self._box = geometry.shrink_boxes(first_box(data.boxes, picture), data.zoom)
        self._follows = bool(data.refine)
        frames = self._frames(picture)
        for program in (self._programs.predict_and_remember, self._programs.step):
            trial = self._programs.start(self._base, key, capacity, self._shape)
            jax.block_until_ready(program(self._base, self._features, trial, frames))
        self._subject = self._programs.start(self._base, key, capacity, self._shape)
        self._last: np.ndarray | None = None  # window of the previous frame
        self.repeated = 0  # number of frames so far that equal the previous one

    @property
    def updates(self) -> int:
        """Number of updates so far."""
        return int(self._subject.adaptation.step)

    @property
    def delta(self) -> state.Flat:
        """The adaptation so far, as a difference to the base model."""
        return jax.device_get(self._subject.adaptation.delta)

    def see(self, picture: np.ndarray, update: bool) -> tuple[np.ndarray, np.ndarray]:
        """Predict the next frame, after an update on it if `update`; return joints and confidence.

        A frame that repeats the previous one is only predicted, see `memory.repeats`.

        Raises NotFinite if the updates have diverged to NaN.
        """
        step = self._programs.step if update else self._programs.predict_and_remember
        frames = self._frames(picture)
        now = np.asarray(frames.pictures)
        if repeats(now, self._last)[0]:
            self.repeated += 1
            frames = frames._replace(valid=jnp.array([False]))
        self._last = now[0]
        self._subject, found = step(self._base, self._features, self._subject, frames)
        joints, confidence = (part[0] for part in jax.device_get(found))
        ttp.check_finite(confidence, self._settings)
        if self._follows:
            new = locate.boxes_from_joints(
                joints[None], picture.shape[:2], self._box[None], smooth=0.0
            )[0]
            self._box = (1 - FOLLOW) * self._box + FOLLOW * new
        return joints, confidence

    def _frames(self, picture):
        crop = geometry.box_to_crop(self._box).astype(np.float32)
        window, view = windows.window_of(picture, crop, self._shape, self._pixels)
        rows = window, np.array(view, np.float32), crop, np.array(True)
        return Frames(*(jnp.asarray(row)[None] for row in rows))


def first_box(boxes: str, picture: np.ndarray) -> np.ndarray:
    """Return the box that the config names: a region or the whole frame."""
    if boxes == "whole":
        return geometry.whole_box(picture.shape[:2])
    box = boxes_lib.region(boxes)
    if box is None:
        raise clips_lib.DataError(
            f'config.data.boxes is "{boxes}": live frames need "whole" or a region '
            '"x1,y1,x2,y2"; config.data.refine=1 makes it follow the person.'
        )
    boxes_lib.check_place(
        box, picture.shape[:2], "the first picture", f'config.data.boxes "{boxes}"'
    )
    return box


def follow(live: Live, pictures: Iterable[np.ndarray], stop: threading.Event) -> Iterator[Seen]:
    """Yield every frame once it is predicted; update only if no newer frame is waiting.

    A separate thread reads the frames, so that they wait in our queue and not at the source.
    """
    waiting: queue.Queue = queue.Queue(WAITING)
    ended = threading.Event()

    def read():
        try:
            for picture in pictures:
                waiting.put((time.monotonic(), picture))
                if stop.is_set():
                    break
        except Exception as error:
            waiting.put(error)
        ended.set()
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while not stop.is_set():
        try:
            item = waiting.get(timeout=PATIENCE)
        except queue.Empty:
            continue  # Ctrl-C must work even if the source sends nothing
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        came, picture = item
        newest = waiting.qsize() <= ended.is_set()  # the end marker may wait behind the last frame
        before = live.repeated
        joints, confidence = live.see(picture, update=newest)
        updated = newest and live.repeated == before
        yield Seen(came, time.monotonic(), updated, joints, confidence, picture)


def run(experiment: Experiment, workdir: pathlib.Path, options: LiveOptions) -> int:
    """Personalize to a camera or to standard input until it ends; return the exit code.

    Args:
      experiment: network and settings.
      workdir: where the model is, and where results go.
      options: see `LiveOptions`.
    """
    lines = sys.stdout
    with contextlib.ExitStack() as stack:
        if options.json:  # standard output is for the JSON alone
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        shown: list[Callable[[int, Seen], None]] = []
        if options.json:
            shown.append(lambda number, seen: _write_line(lines, experiment.skeleton, number, seen))
        if options.mjpeg is not None:
            screen = stack.enter_context(Screen(options.mjpeg, experiment.skeleton))
            say(f"the frames with their joints: {screen.address}")
            shown.append(lambda _, seen: screen.show(seen.picture, seen.joints))
        return _run(experiment, workdir, options, shown)


def _run(
    experiment: Experiment,
    workdir: pathlib.Path,
    options: LiveOptions,
    shown: list[Callable[[int, Seen], None]],
) -> int:
    # Finders and auto scale need frames from the whole video, and here none has come yet.
    where = "whole" if experiment.data.boxes in locate.FINDERS else experiment.data.boxes
    experiment = experiment.changed({"data.boxes": where, "data.fit": False, "ttp.held_out": 0})
    if options.keep:
        people.pack({}, options.keep)  # raises for an unknown form now, not at the end
    base, step = base_model.load_base(experiment, workdir)
    known = _known(workdir, options, base)
    pictures = video.pipe_pictures(sys.stdin.buffer) if options.stdin else None
    pictures = pictures or video.camera(options.camera or "0")
    first = next(pictures, None)
    if first is None:
        raise clips_lib.DataError(
            "no frame arrived: check that the camera or the sending program is running."
        )
    say(f"frames of {first.shape[1]} x {first.shape[0]} pixels; compiling ...")
    live = Live(experiment, state.adapted_base(base, known), first)
    folder = workdir / "results" / time.strftime("live-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    say("ready; press Ctrl-C to stop")
    pictures = itertools.chain([first], pictures)
    seen, broken = _record(live, pictures, folder, experiment.skeleton, shown)
    if broken and not seen:
        raise broken
    if not seen:
        raise clips_lib.DataError("stopped before the first frame was predicted: no results.")
    record = {
        "protocol": f"live: continuous updates on the newest frame; boxes: {experiment.data.boxes}",
        "scenario": "live",
        "base": fingerprint(base),
        "checkpoint_step": step,
        "person": options.person if known else None,
        "seed": experiment.seed,
        "made_with": provenance.made_with(),
        "config": experiment.config.to_dict(),
    }
    _write(folder, live, seen, record)
    if options.keep and not isinstance(broken, state.NotFinite):
        about = {"base": record["base"], "updates": live.updates, "origin": folder.name}
        _keep(person_file(workdir, options.person or folder.name), live, known, options.keep, about)
    if broken:
        raise broken
    return 0


def _known(workdir: pathlib.Path, options: LiveOptions, base: state.Base) -> state.Flat:
    """Return the adaptation of the kept model to start from; empty if none was named.

    Raises FileNotFoundError if there is no kept model of this name, unless one will be written.
    """
    if not options.person:
        return {}
    path = person_file(workdir, options.person)
    if options.keep and not path.exists():
        say(f"{options.person} has no kept model yet: starting from the base model")
        return {}
    return people.read(path, fingerprint(base), base).delta


def _keep(path: pathlib.Path, live: Live, known: state.Flat, form: str, about: dict) -> None:
    """Write the personalized model; an earlier one of this name is moved aside."""
    total = {key: known.get(key, 0) + np.asarray(value) for key, value in live.delta.items()}
    about = {**about, "scenario": "live", "form": form}
    if aside := people.make_room(path, about):
        say(f"{path}: the earlier model was moved to {aside}")
    people.write(path, {**known, **total}, form, about)
    say(f"{path}: the personalized model, for --person={path.stem}")


def _write(folder: pathlib.Path, live: Live, seen: list[Seen], record: dict) -> None:
    """Write live.npz and run.json, and print a summary."""
    delays = [1000 * (frame.done - frame.came) for frame in seen]
    joints, confidence = (
        np.array([getattr(f, name) for f in seen]) for name in ("joints", "confidence")
    )
    write_arrays(folder / "live.npz", {"joints": joints, "confidence": confidence})
    counts = {"frames": len(seen), "updates": live.updates, "repeated": live.repeated}
    delay = {"median": float(np.median(delays)), "most": float(np.max(delays))}
    made = {name: sha256(folder / name) for name in ("live.csv", "live.npz")}
    write_json(folder / "run.json", {**record, **counts, "latency_ms": delay, "outputs": made})
    say(
        f"wrote {folder}: {len(seen)} frames, {live.updates} updates, predicted "
        f"{delay['median']:.0f} ms after they arrived (median; {delay['most']:.0f} at most)"
    )
    if live.repeated:
        say(f"{live.repeated} frames repeated the one before and were not used for updates")


def _write_line(lines, skeleton: Skeleton, number: int, seen: Seen) -> None:
    """Write a frame as a line of JSON: each joint as x, y in pixels, and its confidence."""
    found = np.concatenate([seen.joints, seen.confidence[:, None]], -1).astype(float).round(4)
    line = {
        "frame": number,
        "latency_ms": round(1000 * (seen.done - seen.came), 1),
        "updated": seen.updated,
        "joints": dict(zip(skeleton.joints, found.tolist(), strict=True)),
    }
    try:
        print(json.dumps(line), file=lines, flush=True)
    except BrokenPipeError:
        # Python flushes standard output when it ends, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), lines.fileno())
        raise


def _record(
    live: Live,
    pictures: Iterable[np.ndarray],
    folder: pathlib.Path,
    skeleton: Skeleton,
    shown: list[Callable[[int, Seen], None]],
) -> tuple[list[Seen], Exception | None]:
    """Write live.csv while frames come; return the frames and the error that ended them, if any."""
    stop, seen, path = threading.Event(), [], folder / "live.csv"
    began = announced = time.monotonic()
    try:
        with stopping(stop), path.open("w", buffering=1, encoding="utf-8", newline="") as file:
            columns = "frame", "seconds", "latency_ms", "updated", *results.columns(skeleton)
            csv.writer(file, lineterminator="\n").writerow(columns)
            for frame in follow(live, pictures, stop):
                delay = 1000 * (frame.done - frame.came)
                lead = f"{len(seen)},{frame.came - began:.4f},{delay:.1f},{int(frame.updated)}"
                file.write(",".join([lead, *results.fields(frame.joints, frame.confidence)]) + "\n")
                seen.append(frame)
                for show in shown:
                    show(len(seen) - 1, frame)
                frame.picture = None
                if frame.done - announced > 1:
                    announced = frame.done
                    say(
                        f"frame {len(seen)}, {live.updates} updates, {delay:.0f} ms after it "
                        "arrived"
                    )
    except BrokenPipeError:  # the program that reads the JSON has ended
        return seen, None
    except (OSError, clips_lib.FrameError, state.NotFinite) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise named(error, path) from error
        return seen, error  # `_run` raises it after writing what is done
    return seen, None
