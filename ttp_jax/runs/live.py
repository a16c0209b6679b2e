"""One subject whose frames come as they are taken: predict each at once, learn in between."""

import dataclasses
import itertools
import pathlib
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import boxes as boxes_lib
from data_pipelines import clips as clips_lib
from data_pipelines import locate, windows
from ttp_jax import driver, geometry, state, ttp
from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import write_arrays, write_json
from ttp_jax.memory import Frames
from ttp_jax.runs import base_model, provenance, results
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import say, stopping
from ttp_jax.runs.starts import subject_key
from ttp_jax.skeletons import Skeleton

NAME = "live"  # of the subject
WAITING = 64  # pictures at most; a pipe waits then, a camera drops frames
PATIENCE = 0.5  # seconds until a stop is noticed while no picture comes
FOLLOW = 0.3  # weight of a new box where boxes follow the keypoints


@dataclasses.dataclass
class Seen:
    """One frame: when it came and was done (seconds), whether it was learned from, what was found.

    joints [K, 2] in picture pixels, peaks [K].
    """

    came: float
    done: float
    updated: bool
    joints: np.ndarray
    peaks: np.ndarray


class Live:
    """One subject whose frames come one by one: `ttp.online` in chunks of one."""

    def __init__(self, experiment: Experiment, base: state.Base, picture: np.ndarray):
        """Compile for pictures of this size."""
        self._settings = experiment.settings("online")
        self._programs = driver.programs(experiment.net, self._settings)
        features = experiment.features if self._programs.tools.needs_features else None
        self._base, self._features = jax.device_put((base, features))
        size, data = experiment.image_size, experiment.data
        self._pixels = data.oversample * size if data.oversample else np.inf
        self._shape = windows.window_shape(picture.shape[:2], self._pixels, data.context)
        key, capacity = subject_key(experiment.seed, NAME), experiment.config.ttp.memory
        self._box = first_box(data.boxes, picture)
        self._follows = bool(data.refine)
        frames = self._frames(picture)
        for program in (self._programs.look, self._programs.step):
            trial = self._programs.start(self._base, key, capacity, self._shape)
            jax.block_until_ready(program(self._base, self._features, trial, frames))
        self._subject = self._programs.start(self._base, key, capacity, self._shape)

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return int(self._subject.adaptation.step)

    def see(self, picture: np.ndarray, update: bool) -> tuple[np.ndarray, np.ndarray]:
        """Take the next frame, with an update on it or without; return its joints and peaks.

        Raises NotFinite where the updates ran away to NaN.
        """
        step = self._programs.step if update else self._programs.look
        frames = self._frames(picture)
        self._subject, found = step(self._base, self._features, self._subject, frames)
        joints, peaks = (part[0] for part in jax.device_get(found))
        ttp.check_finite(peaks, self._settings)
        if self._follows:
            new = locate.boxes_from_joints(
                joints[None], picture.shape[:2], self._box[None], smooth=0.0
            )[0]
            self._box = (1 - FOLLOW) * self._box + FOLLOW * new
        return joints, peaks

    def _frames(self, picture):
        crop = geometry.box_to_crop(self._box).astype(np.float32)
        window, view = windows.window_of(picture, crop, self._shape, self._pixels)
        rows = window, np.array(view, np.float32), crop, np.array(True)
        return Frames(*(jnp.asarray(row)[None] for row in rows))


def first_box(boxes: str, picture: np.ndarray) -> np.ndarray:
    """The box that the config names: a region or the whole picture."""
    if boxes == "whole":
        return geometry.whole_box(picture.shape[:2])
    box = boxes_lib.region(boxes)
    if box is None:
        raise clips_lib.DataError(
            f'config.data.boxes is "{boxes}": frames that come one by one need "whole" or a region '
            '"x1,y1,x2,y2"; config.data.refine=1 makes it follow the person.'
        )
    boxes_lib.check_place(
        box, picture.shape[:2], "the first picture", f'config.data.boxes "{boxes}"'
    )
    return box


def follow(live: Live, pictures: Iterable[np.ndarray], stop: threading.Event) -> Iterator[Seen]:
    """Yield every picture as it is done; updates on the newest one whenever none waits behind it.

    Pictures are read in a thread of their own, so that they wait here and not at the source.
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
            continue  # a sender that is silent must not keep the user from stopping
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        came, picture = item
        newest = waiting.qsize() <= ended.is_set()  # the end waits behind the last picture
        joints, peaks = live.see(picture, update=newest)
        yield Seen(came, time.monotonic(), newest, joints, peaks)


def camera_pictures(place: str) -> Iterator[np.ndarray]:
    """Frames of a camera (its number, or an address that OpenCV can open), uint8 RGB."""
    capture = cv2.VideoCapture(int(place) if place.isdigit() else place)
    if not capture.isOpened():
        raise clips_lib.DataError(
            f"camera {place!r} can't be opened: is it connected, used by nobody else, and may this "
            "user read it?"
        )
    try:
        while (taken := capture.read())[0]:
            yield cv2.cvtColor(taken[1], cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def ppm_pictures(stream: BinaryIO) -> Iterator[np.ndarray]:
    """Pictures in binary PPM (P6, 8 bit), one after the other, uint8 RGB."""
    for number in itertools.count():
        head = stream.readline()
        if not head:
            return
        words = head.split()
        while len(words) < 4 and (line := stream.readline()):
            words += line.split(b"#")[0].split()
        try:
            width, height, most = (int(word) for word in words[1:])
        except ValueError:
            width = height = most = 0
        if words[:1] != [b"P6"] or most != 255 or width * height < 1:
            raise clips_lib.FrameError(
                f"picture {number} on standard input is no 8-bit PPM (P6): pipe it through `ffmpeg "
                "-i INPUT -f image2pipe -c:v ppm -`."
            )
        pixels = stream.read(width * height * 3)
        if len(pixels) < width * height * 3:
            return  # the sender stopped in the middle of a picture
        yield np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def run(experiment: Experiment, workdir: pathlib.Path, *, camera: str | None, stdin: bool) -> int:
    """Personalize to a camera or to standard input until it ends; return the exit code.

    Args:
      experiment: network and settings.
      workdir: where the model is, and where results go.
      camera: its number or address; None for the first.
      stdin: read pictures from standard input instead.
    """
    # A finder, and trying box sizes, look at frames all over a video: here nothing has come yet.
    where = "whole" if experiment.data.boxes in locate.FINDERS else experiment.data.boxes
    experiment = experiment.changed({"data.boxes": where, "data.fit": False, "ttp.held_out": 0})
    base, step = base_model.load_base(experiment, workdir)
    pictures = ppm_pictures(sys.stdin.buffer) if stdin else camera_pictures(camera or "0")
    first = next(pictures, None)
    if first is None:
        raise clips_lib.DataError("no picture came.")
    say(f"pictures of {first.shape[1]} x {first.shape[0]}; compiling ...")
    live = Live(experiment, base, first)
    folder = workdir / "results" / time.strftime("live-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    say("ready; Ctrl-C ends")
    seen, broken = _record(live, itertools.chain([first], pictures), folder, experiment.skeleton)
    if broken and not seen:
        raise broken
    if not seen:
        raise clips_lib.DataError("stopped before the first frame was predicted: no results.")
    delays = [1000 * (frame.done - frame.came) for frame in seen]
    joints, peaks = (np.array([getattr(f, name) for f in seen]) for name in ("joints", "peaks"))
    write_arrays(folder / "live.npz", {"joints": joints, "peaks": peaks})
    record = {
        "protocol": "live: updates on the newest frame as fast as they go; "
        f"boxes: {experiment.data.boxes}",
        "scenario": "live",
        "base": fingerprint(base),
        "checkpoint_step": step,
        "seed": experiment.seed,
        "made_with": provenance.made_with(),
        "frames": len(seen),
        "updates": live.updates,
        "latency_ms": {"median": float(np.median(delays)), "most": float(np.max(delays))},
        "outputs": {name: provenance.sha256(folder / name) for name in ("live.csv", "live.npz")},
        "config": experiment.config.to_dict(),
    }
    write_json(folder / "run.json", record)
    say(
        f"wrote {folder}: {len(seen)} frames, {live.updates} updates, predicted "
        f"{np.median(delays):.0f} ms after they came (median; {np.max(delays):.0f} at most)"
    )
    if broken:
        raise broken
    return 0


def _record(
    live: Live, pictures: Iterable[np.ndarray], folder: pathlib.Path, skeleton: Skeleton
) -> tuple[list[Seen], Exception | None]:
    """Write live.csv as pictures come; return what was seen, and why it broke off if it did."""
    stop, seen = threading.Event(), []
    began = shown = time.monotonic()
    try:
        with stopping(stop), (folder / "live.csv").open("w", buffering=1) as file:
            columns = "frame", "seconds", "latency_ms", "updated", *results.columns(skeleton)
            file.write(",".join(columns) + "\n")
            for frame in follow(live, pictures, stop):
                delay = 1000 * (frame.done - frame.came)
                lead = f"{len(seen)},{frame.came - began:.4f},{delay:.1f},{int(frame.updated)}"
                file.write(",".join([lead, *results.fields(frame.joints, frame.peaks)]) + "\n")
                seen.append(frame)
                if frame.done - shown > 1:
                    shown = frame.done
                    say(f"frame {len(seen)}, {live.updates} updates, {delay:.0f} ms after it came")
    except (clips_lib.FrameError, state.NotFinite) as error:
        return seen, error  # raised once what is finished has been written
    return seen, None
