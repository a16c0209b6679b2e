"""Personalize to frames as they come, and predict each at once.

    python main.py live --camera=0
    ffmpeg -i rtsp://CAMERA -f image2pipe -c:v ppm - | python main.py live --stdin

--stdin takes pictures in PPM form, one after the other. --config.data.boxes=X1,Y1,X2,Y2 says where
the person is (default: whole pictures); --config.data.refine=1 makes the box follow the keypoints.
Every frame is predicted. Updates are made on the newest frame whenever none is waiting: where they
can't keep up with the camera, frames that wait are predicted without one, and the number of updates
is printed. A frame waits for one update and the predictions of those before it at most.
Ends with the stream, or with Ctrl-C. Writes WORKDIR/results/live-DATE/: live.csv, line by line as
frames come, live.npz and run.json. `online` on a file does the same, with an update on every frame
that isn't held out (`config.ttp.held_out`; of a stream none is).
"""

import dataclasses
import functools
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

from data_pipelines import clips as clips_lib
from data_pipelines import locate, media, pipeline
from ttp_jax import geometry, state, ttp
from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import write_arrays, write_json
from ttp_jax.memory import Frames
from ttp_jax.verbs import experiment, receipts
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import stopping, subject_key

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

    def __init__(self, config, base: state.Base, picture: np.ndarray):
        """Compile for pictures of this size."""
        tools = experiment.ttp_tools(config, "online")
        self._settings = tools.settings
        base, vgg = jax.device_put((base, experiment.load_vgg(config)))
        size, oversample = config.model.image_size, config.data.oversample
        self._pixels = oversample * size if oversample else np.inf
        self._shape = pipeline.window_shape(picture.shape[:2], self._pixels, config.data.context)
        memory = {"capacity": config.ttp.memory, "shape": self._shape}
        key = subject_key(config.seed, NAME)
        self._subject = ttp.start(base, key, tools=tools, **memory)
        self._box = first_box(config.data.boxes, picture)
        self._follows = bool(config.data.refine)

        first = self._frames(picture)

        def compiled(fn, *models):
            fn = jax.jit(functools.partial(fn, tools=tools), donate_argnums=0)
            program = fn.lower(self._subject, *models, first).compile()
            return lambda subject, frames: program(subject, *models, frames)

        self._learn = compiled(ttp.online, base, vgg)
        self._look = compiled(ttp.look, base)

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return int(self._subject.adaptation.step)

    def see(self, picture: np.ndarray, update: bool) -> tuple[np.ndarray, np.ndarray]:
        """Take the next frame, with an update on it or without; return its joints and peaks.

        Raises NotFinite where the updates ran away to NaN.
        """
        step = self._learn if update else self._look
        self._subject, found = step(self._subject, self._frames(picture))
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
        window, view = pipeline.window_of(picture, crop, self._shape, self._pixels)
        rows = window, np.array(view, np.float32), crop, np.array(True)
        return Frames(*(jnp.asarray(row)[None] for row in rows))


def first_box(boxes: str, picture: np.ndarray) -> np.ndarray:
    """The box that the config names: a region or the whole picture."""
    if boxes == "whole":
        return geometry.whole_box(picture.shape[:2])
    box = media.region(boxes)
    if box is None:
        raise clips_lib.DataError(
            f'config.data.boxes is "{boxes}": frames that come one by one need "whole" or a region '
            '"x1,y1,x2,y2"; config.data.refine=1 makes it follow the person.'
        )
    media.check_place(box, picture.shape[:2], "the first picture", f'config.data.boxes "{boxes}"')
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


def camera(place: str) -> Iterator[np.ndarray]:
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


def run(config, workdir: pathlib.Path, options) -> int:
    """Personalize to a camera or to standard input until it ends."""
    if options.scenario == "offline":
        raise ValueError("frames that come one by one can't be seen first: --scenario=online.")
    if config.data.boxes == "moving":  # own videos' default; here nothing has moved yet
        config.data.boxes = "whole"
    config.data.fit = False  # that looks at frames all over a video
    config.ttp.held_out = 0
    base, step = experiment.load_base(config, workdir)
    pictures = ppm_pictures(sys.stdin.buffer) if options.stdin else camera(options.camera or "0")
    first = next(pictures, None)
    if first is None:
        raise clips_lib.DataError("no picture came.")
    say(f"pictures of {first.shape[1]} x {first.shape[0]}; compiling ...")
    live, skeleton = Live(config, base, first), experiment.skeleton_of(config)
    folder = workdir / "results" / time.strftime("live-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    stop, seen = threading.Event(), []
    broken: Exception | None = None
    say("ready; Ctrl-C ends")
    began, shown = time.monotonic(), time.monotonic()
    try:
        with stopping(stop), (folder / "live.csv").open("w", buffering=1) as file:
            columns = "frame", "seconds", "latency_ms", "updated", *receipts.columns(skeleton)
            file.write(",".join(columns) + "\n")
            for frame in follow(live, itertools.chain([first], pictures), stop):
                delay = 1000 * (frame.done - frame.came)
                lead = f"{len(seen)},{frame.came - began:.4f},{delay:.1f},{int(frame.updated)}"
                file.write(",".join([lead, *receipts.fields(frame.joints, frame.peaks)]) + "\n")
                seen.append(frame)
                if frame.done - shown > 1:
                    shown = frame.done
                    say(f"frame {len(seen)}, {live.updates} updates, {delay:.0f} ms after it came")
    except (clips_lib.FrameError, state.NotFinite) as error:
        broken = error  # raised once what is finished has been written
    if broken and not seen:
        raise broken
    if not seen:
        raise clips_lib.DataError("stopped before the first frame was predicted: no results.")
    delays = [1000 * (frame.done - frame.came) for frame in seen]
    joints, peaks = (np.array([getattr(f, name) for f in seen]) for name in ("joints", "peaks"))
    write_arrays(folder / "live.npz", {"joints": joints, "peaks": peaks})
    receipt = {
        "protocol": "live: updates on the newest frame as fast as they go; "
        f"boxes: {config.data.boxes}",
        "scenario": "live",
        "base": fingerprint(base),
        "checkpoint_step": step,
        "seed": config.seed,
        "made_with": receipts.made_with(),
        "frames": len(seen),
        "updates": live.updates,
        "latency_ms": {"median": float(np.median(delays)), "most": float(np.max(delays))},
        "outputs": {name: receipts.sha256(folder / name) for name in ("live.csv", "live.npz")},
        "config": config.to_dict(),
    }
    write_json(folder / "run.json", receipt)
    say(
        f"wrote {folder}: {len(seen)} frames, {live.updates} updates, predicted "
        f"{np.median(delays):.0f} ms after they came (median; {np.max(delays):.0f} at most)"
    )
    if broken:
        raise broken
    return 0
