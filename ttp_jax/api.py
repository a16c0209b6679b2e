"""Personalize from a program: arrays in, arrays out.

    import ttp_jax
    model = ttp_jax.load()
    result = ttp_jax.personalize(model, frames)  # uint8 RGB [T, H, W, 3] of one person
    result.joints, result.likelihood             # [T, K, 2] in pixels of the frames, [T, K]

Frames may be large: each is shrunk until the person's crop has `OVERSAMPLE` times the network's
pixels a side (it is never enlarged), and a window of `CONTEXT` crop sides around the person is
kept. That is what `configs/own.py` does with a video. For the model that comes with the project a
frame then takes 192 KiB of the device's memory, whatever the camera.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax import checkpoint, driver, geometry, skeletons, state, ttp
from ttp_jax.driver import CHUNK
from ttp_jax.memory import Frames
from ttp_jax.models import pose, vgg
from ttp_jax.skeletons import Skeleton

SCENARIOS = ("online", "offline")
OVERSAMPLE = 2
CONTEXT = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model: of everybody, or of one person (`with_state`).

    Attributes:
      base: parameters, statistics, normalisers of the loss.
      net: the network.
      skeleton: of the joints.
      config: the parts of its experiment that it needs, as `checkpoint.ModelFile` has them.
      about: where it comes from.
    """

    base: state.Base
    net: pose.PoseNet
    skeleton: Skeleton
    config: dict[str, Any]
    about: dict[str, Any]

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the K joints."""
        return self.skeleton.joints

    @property
    def image_size(self) -> int:
        """Pixels of the (square) crops that the network sees."""
        return self.config["model"]["image_size"]

    def predict(self, frames, boxes=None) -> tuple[np.ndarray, np.ndarray]:
        """Predict every frame by itself, as `personalize` takes them.

        Returns joints float32 [T, K, 2] in pixels of the frames, and likelihood float32 [T, K], the
        peaks of the heatmaps.
        """
        pictures, crops = _checked(frames, boxes)
        predict, chunks = _predictor(self), _chunks(pictures, crops, self.image_size)
        found = [jax.device_get(predict(self.base, chunk)) for chunk in chunks]
        return _joined(found, len(pictures))

    def with_state(self, change: Mapping[str, Any]) -> "Model":
        """The model of a person whose `Result.state` or `Adapter.state` this is.

        Raises ValueError for the state of a model of another shape.
        """
        own = state.by_path(self.base)
        for path, value in change.items():
            if path not in own or np.shape(value) != own[path].shape:
                raise ValueError(
                    f"got a state with {path} {np.shape(value)}, expected one of this model's "
                    "shape: a state fits the model that it was adapted from."
                )
        return dataclasses.replace(self, base=jax.device_put(state.adapted_base(self.base, change)))


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What personalization found.

    Attributes:
      joints: float32 [T, K, 2] in pixels of the frames, by the personalized model.
      likelihood: float32 [T, K], the peaks of the heatmaps.
      before: joints by the model as it was.
      before_likelihood: likelihood by the model as it was.
      state: what adaptation added to the model, by path; `people.write` keeps it in a file.
      model: the personalized model, for other frames of the same person.
      updates: how many were made.
      seconds: how long it took.
      notes: sentences on what did not go as usual.
    """

    joints: np.ndarray
    likelihood: np.ndarray
    before: np.ndarray
    before_likelihood: np.ndarray
    state: dict[str, np.ndarray]
    model: Model
    updates: int
    seconds: float
    notes: tuple[str, ...] = ()


def load(path=None) -> Model:
    """Load a model's file, as `python main.py export` writes it.

    Args:
      path: of the file; None for the model that comes with the project, "blazepose" for MediaPipe's
        pose network, which `python main.py fetch blazepose` gets.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or holds something else.
    """
    path = checkpoint.model_path("shipped" if path is None else path)
    base, config, about = checkpoint.read_model(path)
    base = jax.device_put(base)  # once, not at every call
    skeleton = skeletons.of_config(config)
    net = pose.from_config(
        config["model"], skeleton.size, config["train"]["precision"], config["loss"]
    )
    return Model(base, net, skeleton, config, about)


def personalize(
    model: Model,
    frames,
    boxes=None,
    *,
    scenario: str = "offline",
    method: str | None = None,
    iterations: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | jax.Array = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Result:
    """Adapt a model to one person, without labels, and predict the joints.

    Gives the numbers of the verb `personalize` for the same frames, boxes, settings and key; that
    holds every tenth frame of own videos out of learning, unless `config.ttp.held_out` is 0.

    Args:
      model: what to start from; it stays as it is.
      frames: uint8 RGB [T, H, W, 3], or T such pictures of one size. Two or more: of a single one
        nothing can be learned, it is only predicted, and `Result.notes` says so.
      boxes: x1, y1, x2, y2 of the person in pixels: [T, 4], one box [4] for all, or None for whole
        pictures. A part of a box may lie outside.
      scenario: "offline" sees all frames, then predicts them; "online" goes frame by frame and
        never sees a later one.
      method: "ttp", "bn", "entropy", "teacher" or "none", see docs/method.md; as in the model's
        file if None, so are the next three.
      iterations: updates per frame.
      batch_size: pairs of frames per update.
      learning_rate: of Adam.
      seed: a number, or a key (`jax.random.key`).
      progress: called with the work done and all the work, in frames times passes.

    Raises:
      ValueError: frames, boxes or settings that can't be used.
      NotFinite (`ttp_jax.state`): personalization ran away to NaN.
    """
    settings = _settings(model, scenario, method, iterations, batch_size, learning_rate)
    pictures, crops = _checked(frames, boxes)
    began, count = time.monotonic(), len(pictures)
    if count < 2:
        joints, likelihood = model.predict(frames, boxes)
        note = "one frame, personalization needs two: only predicted"
        spent = time.monotonic() - began
        return Result(joints, likelihood, joints, likelihood, {}, model, 0, spent, (note,))
    programs, predict = driver.programs(model.net, settings), _predictor(model)
    base, features = model.base, _features(model, programs)
    capacity = min(model.config["ttp"]["memory"], max(CHUNK, 1 << (count - 1).bit_length()))
    subject = _start(programs, model, _key(seed), capacity)
    before, after, done = [], [], 0
    work = count if scenario == "online" else 3 * count

    def tell(frames):
        nonlocal done
        done += frames
        if progress is not None:
            progress(done, work)

    for chunk in _chunks(pictures, crops, model.image_size):
        before.append(jax.device_get(predict(base, chunk)))
        if scenario == "online":
            subject, found = programs.step(base, features, subject, chunk)
            after.append(jax.device_get(found))
        else:
            subject, _ = programs.remember(base, features, subject, chunk)
        tell(int(chunk.valid.sum()))
    if scenario == "offline":
        subject = ttp.again(subject)
        for first in range(0, count, CHUNK):
            subject, _ = programs.adapt(base, features, subject, None)
            jax.block_until_ready(subject)
            tell(min(CHUNK, count - first))
    change = jax.device_get(subject.adaptation.delta)
    adapted = model.with_state(change)
    if scenario == "offline":
        for chunk in _chunks(pictures, crops, model.image_size):
            after.append(jax.device_get(predict(adapted.base, chunk)))
            tell(int(chunk.valid.sum()))
    joints, likelihood = _joined(after, count)
    ttp.check_finite(likelihood, settings)
    return Result(
        joints,
        likelihood,
        *_joined(before, count),
        state=change,
        model=adapted,
        updates=int(subject.adaptation.step),
        seconds=time.monotonic() - began,
    )


class Adapter:
    """One person whose frames come one by one, from a camera for example.

    The first step compiles and takes seconds. The scenario is "online"; with an update on every
    frame the numbers are those of `personalize`, while no more frames came than are remembered.
    """

    def __init__(
        self,
        model: Model,
        box=None,
        capacity: int = 256,
        *,
        method: str | None = None,
        iterations: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        seed: int | jax.Array = 0,
    ):
        """Start with the model as it is.

        Args:
          model: it stays as it is.
          box: x1, y1, x2, y2 of the person in pixels; None for whole pictures.
          capacity: frames that updates draw from, at most; a uniform sample once there are more.
          method: and the others: see `personalize`.
        """
        if capacity < 2:
            raise ValueError(f"capacity is {capacity}, expected 2 or more.")
        settings = _settings(model, "online", method, iterations, batch_size, learning_rate)
        self._settings = settings
        self._programs = driver.programs(model.net, settings)
        self._model, self._box, self._features = model, box, _features(model, self._programs)
        self._subject = _start(self._programs, model, _key(seed), capacity)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What adaptation has added to the model so far, see `Result.state`."""
        return jax.device_get(self._subject.adaptation.delta)

    @property
    def model(self) -> Model:
        """The personalized model as it is now."""
        return self._model.with_state(self.state)

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return int(self._subject.adaptation.step)

    def step(self, frame, box=None, update: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Take the next frame, uint8 RGB [H, W, 3]; return its joints [K, 2], likelihood [K].

        Args:
          frame: the picture; sizes may differ from frame to frame.
          box: of the person, for this frame and those after it; None for the last one given.
          update: learn from it first. Without, it is remembered and predicted, which is faster.
        """
        box = self._box if box is None else box
        pictures, crops = _checked([frame], box)
        self._box = box
        (chunk,) = _chunks(pictures, crops, self._model.image_size, size=1)
        program = self._programs.step if update else self._programs.look
        self._subject, found = program(self._model.base, self._features, self._subject, chunk)
        joints, likelihood = jax.device_get(found)
        ttp.check_finite(likelihood, self._settings)
        return joints[0], likelihood[0]


# --- Settings and programs -----------------------------------------------------------------------


def _predictor(model: Model) -> Callable[..., Any]:
    """The program (base, frames) -> joints, likelihood."""
    return driver.predictor(model.net, model.image_size, pose.is_bgr(model.config["model"]))


def _start(programs: driver.Programs, model: Model, key: jax.Array, capacity: int) -> ttp.Subject:
    """A person before the first frame."""
    side = OVERSAMPLE * CONTEXT * model.image_size
    return programs.start(model.base, key, capacity, (side, side))


def _settings(
    model: Model,
    scenario: str,
    method: str | None = None,
    iterations: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> ttp.Settings:
    """The model's settings, but for those given."""
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario is {scenario!r}, expected one of {', '.join(SCENARIOS)}.")
    given = {
        "iterations": (int, iterations),
        "batch_size": (int, batch_size),
        "learning_rate": (float, learning_rate),
    }
    changes = {}
    for name, (kind, value) in given.items():
        if value is None:
            continue
        if not 0 < value < math.inf or value != kind(value):
            expected = {int: "a whole number", float: "a number"}[kind]
            raise ValueError(f"{name} is {value}, expected {expected} above 0.")
        changes[name] = kind(value)
    found = ttp.settings_from(
        {**model.config["ttp"], **({"method": method} if method else {})},
        scenario,
        image_size=model.image_size,
        bgr=pose.is_bgr(model.config["model"]),
        flip_order=model.skeleton.flip_order,
        equivariance=model.config["loss"].get("equivariance", 0.0),  # files before it lack it
    )
    ttp.check_method(model.net.method, found)
    return found._replace(**changes)


def _features(model: Model, programs: driver.Programs) -> vgg.VGG16 | None:
    """The features of the model's perceptual loss; None if the programs need none."""
    if not programs.tools.needs_features:
        return None
    return _read_features(model.config["loss"]["features"], model.config["loss"]["levels"])


_read_features = functools.lru_cache(maxsize=2)(vgg.load)


def _key(seed: int | jax.Array) -> jax.Array:
    return seed if isinstance(seed, jax.Array) else jax.random.key(seed)


# --- Frames --------------------------------------------------------------------------------------


def _checked(frames, boxes) -> tuple[list[np.ndarray], np.ndarray]:
    """The pictures, and float32 crops [T, 3] around the boxes; ValueError says what is wrong."""
    if isinstance(frames, np.ndarray | jax.Array) and frames.ndim == 3:
        raise ValueError(f"got frames {frames.shape}, expected [T, H, W, 3]; one is frames[None].")
    pictures = [np.asarray(picture) for picture in frames]
    if not pictures:
        raise ValueError("got no frames, expected at least one.")
    for t, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(
                f"frame {t} is {picture.shape} of {picture.dtype}, expected uint8 RGB [H, W, 3]."
            )
        if picture.shape != pictures[0].shape or not picture.size:
            raise ValueError(
                f"frame {t} is {picture.shape}, frame 0 {pictures[0].shape}, expected one size and "
                "no empty picture."
            )
    height, width, _ = pictures[0].shape
    if boxes is None:
        whole = np.tile(geometry.whole_box((height, width)), (len(pictures), 1))
        return pictures, geometry.box_to_crop(whole).astype(np.float32)
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape not in ((4,), (len(pictures), 4)):
        raise ValueError(f"got boxes {boxes.shape}, expected {(len(pictures), 4)} or (4,).")
    boxes = np.broadcast_to(boxes, (len(pictures), 4))
    wrong = ~(np.isfinite(boxes).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1))
    if wrong.any():
        t = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"box of frame {t} is {boxes[t].tolist()}, expected finite x1, y1, x2, y2 in pixels "
            "with x1 < x2 and y1 < y2."
        )
    for t, box in enumerate(boxes):
        if fault := geometry.misplaced(box, (height, width), "the frame"):
            raise ValueError(f"box of frame {t}, {box.tolist()}, {fault}")
    return pictures, geometry.box_to_crop(boxes).astype(np.float32)


def _chunks(
    pictures: Sequence[np.ndarray], crops: np.ndarray, image_size: int, size: int = CHUNK
) -> Iterator[Frames]:
    """Yield `size` windows at a time; the last chunk is filled up with invalid ones."""
    pixels = OVERSAMPLE * image_size
    side = CONTEXT * pixels
    for first in range(0, len(pictures), size):
        here = range(first, min(first + size, len(pictures)))
        windows = np.zeros((size, side, side, 3), np.uint8)
        views = np.tile(np.array([1, 0, 0], np.float32), (size, 1))
        for row, t in enumerate(here):
            views[row] = _cut(pictures[t], crops[t], pixels, out=windows[row])
        indices = np.minimum(np.arange(first, first + size), here[-1])
        frames = windows, views, crops[indices], np.arange(size) < len(here)
        yield Frames(*map(jnp.asarray, frames))


def _cut(
    picture: np.ndarray, crop: np.ndarray, pixels: int, out: np.ndarray
) -> tuple[float, int, int]:
    """Fill a window [S, S, 3] with the surroundings of a crop, shrunk to at most `pixels` a side.

    Returns its view: zoom, x, y (`geometry.window_affine`). Beyond the picture's rim is black.
    """
    zoom, side = min(1.0, pixels / float(crop[2])), len(out)
    corner, spans = [], []
    for centre, length in zip(crop[:2], picture.shape[1::-1], strict=True):
        own = round(length * zoom)
        start = int(np.clip(round((centre + 0.5) * zoom - side / 2), 0, max(own - side, 0)))
        corner.append(start)
        spans.append((start, min(start + side, own)))
    columns, rows = spans
    if zoom < 1:
        down = _shrink(picture, rows, zoom).swapaxes(0, 1)
        part = np.rint(_shrink(down, columns, zoom)).swapaxes(0, 1)
    else:
        part = picture[slice(*rows), slice(*columns)]
    out[: part.shape[0], : part.shape[1]] = part
    return zoom, *corner


def _shrink(rows: np.ndarray, span: tuple[int, int], zoom: float) -> np.ndarray:
    """Rows `span` of a picture that is shrunk along its first axis: means of what each covers."""
    edges = np.minimum(np.arange(span[0], span[1] + 1) / zoom, len(rows))
    first, last = int(edges[0]), max(math.ceil(edges[-1]), 1)
    sums = np.zeros((last - first + 1, *rows.shape[1:]), np.float32)
    np.cumsum(rows[first:last], 0, np.float32, out=sums[1:])
    whole = np.minimum(edges.astype(int), last - 1)
    shares = (edges - whole).astype(np.float32)[:, None, None]  # of the row that an edge cuts
    covered = np.diff(edges).astype(np.float32)[:, None, None]
    return np.diff(sums[whole - first] + shares * rows[whole], axis=0) / covered


def _joined(chunks: Iterable[tuple], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints and likelihood of all frames, without the padding."""
    joints, likelihood = zip(*chunks, strict=True)
    return np.concatenate(joints)[:count], np.concatenate(likelihood)[:count]
