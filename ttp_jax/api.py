"""The API for notebooks and other programs: arrays in, arrays out.

    import ttp_jax
    model = ttp_jax.load()
    result = ttp_jax.personalize(model, frames)  # uint8 RGB [T, H, W, 3] of one person
    result.joints, result.confidence             # [T, K, 2] in pixels of the frames, [T, K]

Frames may be large. Each is shrunk (never enlarged) until the side of the person's crop is
`OVERSAMPLE` times the network's input size, and a window of `CONTEXT` crop sides around the person
is kept, as `configs/own.py` does with a video. With the included model, a frame then takes 192 KiB
of device memory, whatever the camera.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from ttp_jax import (
    checkpoint,
    deprecation,
    driver,
    inputs,
    ranges,
    skeletons,
    state,
    ttp,
    warning_signs,
)
from ttp_jax.driver import CHUNK
from ttp_jax.models import pose, vgg
from ttp_jax.skeletons import Skeleton

SCENARIOS = ("online", "offline")
find = inputs.find
REMEDY = (
    "Lower learning_rate or iterations, check that the frames show one person only, and compare "
    "joints with before."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model, or one that is personalized (`with_state`).

    Attributes:
      base: parameters, batch statistics, and normalisers of the loss.
      net: the network.
      skeleton: skeleton of the joints.
      config: the parts of the experiment's config that it needs, as in `checkpoint.ModelFile`.
      about: where it comes from.
    """

    base: state.Base = dataclasses.field(repr=False)
    net: pose.PoseNet
    skeleton: Skeleton
    config: dict[str, Any] = dataclasses.field(repr=False)
    about: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the K joints."""
        return self.skeleton.joints

    @property
    def image_size(self) -> int:
        """Side of the square crops that the network sees, in pixels."""
        return self.config["model"]["image_size"]

    def predict(
        self, frames: np.ndarray | Sequence[np.ndarray], boxes: ArrayLike | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict every frame by itself, without adaptation.

        Args:
          frames: as in `personalize`.
          boxes: as in `personalize`.

        Returns:
          Joints float32 [T, K, 2] in pixels of the frames, and the confidence float32 [T, K]: the
          heights of the heatmaps' peaks. Both are NaN in frames without the person.

        Raises:
          ValueError: frames or boxes that can't be used.
        """
        given = inputs.given(frames, boxes, self.skeleton, self.config["data"])
        predict, chunks = _predictor(self), inputs.chunks(given, self.image_size, CHUNK)
        found = [jax.device_get(predict(self.base, chunk)) for chunk in chunks]
        return _joined(found, given.places.there)

    def with_state(self, change: Mapping[str, Any]) -> "Model":
        """Return the model personalized by a `Result.state` or an `Adapter.state`.

        Raises ValueError if the state is of a model of another shape, or has NaN or infinity in it.
        """
        own = state.by_path(self.base)
        for path, value in change.items():
            if path not in own or np.shape(value) != own[path].shape:
                raise ValueError(
                    f"got a state with {path} {np.shape(value)}, expected one of this model's "
                    "shape: a state only fits the model that it was adapted from."
                )
            if not np.isfinite(value).all():
                raise ValueError(f"got a state with NaN or infinity in {path}: adapt again.")
        return dataclasses.replace(self, base=jax.device_put(state.adapted_base(self.base, change)))


@deprecation.fields(likelihood="confidence", before_likelihood="before_confidence")
@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The result of a personalization.

    Attributes:
      joints: float32 [T, K, 2] in pixels of the frames, predicted by the personalized model.
      confidence: float32 [T, K], the heights of the heatmaps' peaks; NaN, like the joints, in
        frames without the person.
      before, before_confidence: joints and confidence of the model before adaptation.
      state: the difference that adaptation added to the model, by path; `people.write` saves it.
      model: the personalized model, for other frames of the same person.
      updates: number of updates.
      seconds: time taken.
      notes: sentences about anything unusual, including signs that the adaptation did harm.
    """

    joints: np.ndarray
    confidence: np.ndarray
    before: np.ndarray
    before_confidence: np.ndarray
    state: dict[str, np.ndarray] = dataclasses.field(repr=False)
    model: Model
    updates: int
    seconds: float
    notes: tuple[str, ...] = ()


def load(path=None) -> Model:
    """Load a model file written by `python main.py export`.

    Args:
      path: the file; None for the included model, "blazepose" for MediaPipe's pose network, which
        `python main.py fetch blazepose` downloads.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or is no model file.
    """
    path = checkpoint.model_path("shipped" if path is None else path)
    base, config, about = checkpoint.read_model(path)
    base = jax.device_put(base)  # once, not at every call
    skeleton = skeletons.of_config(config)
    net = pose.from_config(
        config["model"],
        skeleton.size,
        config["train"]["precision"],
        config["loss"],
        skeleton.flip_order,
    )
    return Model(base, net, skeleton, config, about)


def personalize(
    model: Model,
    frames: np.ndarray | Sequence[np.ndarray],
    boxes: ArrayLike | None = None,
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

    The command `personalize` gives the same numbers for the same frames, boxes, settings and key if
    `config.ttp.held_out` is 0; by default it holds out one in ten frames of your own videos. A
    frame that repeats the one before is predicted, but the model doesn't adapt to it.

    Args:
      model: the model to start from; it is not changed.
      frames: uint8 RGB [T, H, W, 3], or T such images of one size. At least two: nothing can be
        learned from a single frame, so it is only predicted, and `Result.notes` says so.
      boxes: x1, y1, x2, y2 of the person in pixels, [T, 4] or one box [4] for all; they may extend
        beyond the frame. Or the result of `find`. If None, BlazePose finds the person, models of
        labelled projects use the region that they were trained on, others the whole frame.
      scenario: "offline" adapts to all frames, then predicts them; "online" goes frame by frame and
        never sees a later one.
      method: "ttp", "bn", "entropy", "teacher", "teacher+ttp" or "none", see docs/method.md. If
        None, the model file's setting is used; likewise for the next three arguments.
      iterations: updates per frame.
      batch_size: pairs of frames per update.
      learning_rate: learning rate of Adam.
      seed: a number, or a key (`jax.random.key`).
      progress: called with the work done and the total work, in frames times passes.

    Raises:
      ValueError: frames, boxes or settings that can't be used.
      NotFinite (`ttp_jax.state`): personalization diverged to NaN.
    """
    settings = _settings(model, scenario, method, iterations, batch_size, learning_rate)
    given = inputs.given(frames, boxes, model.skeleton, model.config["data"])
    began, count, places = time.monotonic(), len(given.pictures), given.places
    if count < 2:
        found = model.predict(given.pictures, places)
        note = "only predicted, because personalization needs at least two frames"
        result = Result(*found, *found, {}, model, 0, 0.0, (note,))
    else:
        tell = _counter(progress, count if scenario == "online" else 3 * count)
        run = _online if scenario == "online" else _offline
        result, learned = run(model, settings, given, _key(seed), tell)
        ttp.check_finite(result.confidence[places.there], settings)
        repeated = int(places.there.sum()) - learned
        notes = _signs(result, given, repeated, settings.method != "none")
        if away := int((~places.there).sum()):
            notes.append(f"the person is absent from {away} frames, whose joints are NaN")
        result = dataclasses.replace(result, notes=(*result.notes, *notes))
    return dataclasses.replace(result, seconds=time.monotonic() - began)


def _counter(progress: Callable[[int, int], object] | None, work: int) -> Callable[[int], None]:
    """Return a function that adds a number of frames to the work done and calls `progress`."""
    done = 0

    def tell(frames: int) -> None:
        nonlocal done
        done += frames
        if progress is not None:
            progress(done, work)

    return tell


def _online(
    model: Model, settings: ttp.Settings, given: inputs.Given, key, tell
) -> tuple[Result, int]:
    """Update on each frame, then predict it; also return the number of frames adapted to."""
    programs, predict = driver.programs(model.net, settings), _predictor(model)
    base, features, count = model.base, _features(model, programs), len(given.pictures)
    subject = _start(programs, model, key, _capacity(model, count), given.places.turned)
    before, after, learned = [], [], 0
    for chunk in inputs.chunks(given, model.image_size, CHUNK):
        before.append(jax.device_get(predict(base, chunk)))
        subject, found = programs.step(base, features, subject, chunk)
        after.append(jax.device_get(found))
        learned += int(chunk.valid.sum())
        tell(min(CHUNK, count - CHUNK * (len(after) - 1)))
    return _result(model, subject, before, after, given.places.there), learned


def _offline(
    model: Model, settings: ttp.Settings, given: inputs.Given, key, tell
) -> tuple[Result, int]:
    """Remember all frames, make all updates, predict; also return the number adapted to."""
    programs, predict = driver.programs(model.net, settings), _predictor(model)
    base, features, count = model.base, _features(model, programs), len(given.pictures)
    subject = _start(programs, model, key, _capacity(model, count), given.places.turned)
    before, after, learned = [], [], 0
    for chunk in inputs.chunks(given, model.image_size, CHUNK):
        before.append(jax.device_get(predict(base, chunk)))
        subject, _ = programs.remember(base, features, subject, chunk)
        learned += int(chunk.valid.sum())
        tell(min(CHUNK, count - CHUNK * (len(before) - 1)))
    subject = ttp.rewind(subject)
    for first in range(0, count, CHUNK):
        subject, _ = programs.adapt(base, features, subject, None)
        jax.block_until_ready(subject)
        tell(min(CHUNK, count - first))
    adapted = model.with_state(jax.device_get(subject.adaptation.delta))
    for chunk in inputs.chunks(given, model.image_size, CHUNK):
        after.append(jax.device_get(predict(adapted.base, chunk)))
        tell(min(CHUNK, count - CHUNK * (len(after) - 1)))
    return _result(model, subject, before, after, given.places.there), learned


def _capacity(model: Model, count: int) -> int:
    """Return how many of `count` frames to remember; sizes are few, so few programs compile."""
    return min(model.config["ttp"]["memory"], max(CHUNK, 1 << (count - 1).bit_length()))


def _result(model: Model, subject: ttp.Subject, before: list, after: list, there) -> Result:
    """Return the result, from the chunks' predictions; `personalize` adds the rest."""
    change, found = jax.device_get(subject.adaptation.delta), (after, before)
    return Result(
        *(part for chunks in found for part in _joined(chunks, there)),
        state=change,
        model=model.with_state(change),
        updates=int(subject.adaptation.step),
        seconds=0.0,
    )


class Adapter:
    """Online personalization to one person whose frames come one by one, for example from a camera.

    The first step compiles, which takes seconds. With an update on every frame, the numbers equal
    those of `personalize` (scenario "online") for up to `capacity` frames.
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
        """Start from the given model.

        Args:
          model: the model to start from; it is not changed.
          box: x1, y1, x2, y2 of the person in pixels; None for whole frames.
          capacity: number of frames to remember and draw from; of more, a uniform sample.
          method: this and the following arguments: see `personalize`.
        """
        ranges.check_argument("capacity", capacity, ranges.TABLE["ttp"]["memory"])
        settings = _settings(model, "online", method, iterations, batch_size, learning_rate)
        self._settings = settings
        self._programs = driver.programs(model.net, settings)
        self._model, self._box, self._features = model, box, _features(model, self._programs)
        self._subject = _start(self._programs, model, _key(seed), capacity)
        self._last: np.ndarray | None = None  # window of the frame before

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The difference that adaptation has added to the model so far, see `Result.state`."""
        return jax.device_get(self._subject.adaptation.delta)

    @property
    def model(self) -> Model:
        """The personalized model as it is now."""
        return self._model.with_state(self.state)

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return int(self._subject.adaptation.step)

    def step(
        self, frame: np.ndarray, box: ArrayLike | None = None, update: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Process the next frame, and return its joints [K, 2] and confidence [K].

        Args:
          frame: uint8 RGB [H, W, 3]; sizes may differ from frame to frame.
          box: the person's box in this frame and later ones; None for the last one given.
          update: whether to adapt to the frame before predicting it. If false, it is remembered and
            predicted, which is faster. A frame that repeats the one before is only predicted.
        """
        box = self._box if box is None else box
        own, size = self._model, self._model.image_size
        given = inputs.given([frame], box, own.skeleton, own.config["data"], finds=False)
        self._box = box
        (chunk,) = inputs.chunks(given, size, size=1, before=self._last)
        self._last = np.asarray(chunk.pictures[0])
        program = self._programs.step if update else self._programs.predict_and_remember
        self._subject, found = program(self._model.base, self._features, self._subject, chunk)
        joints, confidence = jax.device_get(found)
        ttp.check_finite(confidence, self._settings)
        return joints[0], confidence[0]


# --- Settings and programs -----------------------------------------------------------------------


def _predictor(model: Model) -> Callable[..., Any]:
    """Return the program (base, frames) -> joints, confidence."""
    return driver.predictor(model.net, model.image_size, pose.is_bgr(model.config["model"]))


def _start(
    programs: driver.Programs, model: Model, key: jax.Array, capacity: int, turned: bool = False
) -> ttp.Subject:
    """Return a person's state before the first frame."""
    shape = inputs.shape_of(model.image_size, inputs.pixels_of(model.skeleton))
    return programs.start(model.base, key, capacity, shape, turned)


def _settings(
    model: Model,
    scenario: str,
    method: str | None = None,
    iterations: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> ttp.Settings:
    """Return the model's settings, with those that are given in place of its own."""
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario is {scenario!r}, expected one of {', '.join(SCENARIOS)}.")
    ranges.check(model.config, "model.config")  # the caller's program may have changed it
    given = {
        "method": method,
        "iterations": iterations,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        ranges.check_argument(name, value, ranges.TABLE["ttp"][name])
    found = ttp.settings_from(
        {**model.config["ttp"], **given},
        scenario,
        image_size=model.image_size,
        bgr=pose.is_bgr(model.config["model"]),
        flip_order=model.skeleton.flip_order,
        loss=model.config["loss"],
    )
    ttp.check_method(model.net.method, found)
    return found


def _features(model: Model, programs: driver.Programs) -> vgg.VGG16 | None:
    """Return the features of the model's perceptual loss; None if the programs need none."""
    if not programs.tools.needs_features:
        return None
    return _read_features(model.config["loss"]["features"], model.config["loss"]["levels"])


_read_features = functools.lru_cache(maxsize=2)(vgg.load)


def _key(seed: int | jax.Array) -> jax.Array:
    if isinstance(seed, jax.Array):
        return seed
    ranges.check_argument("seed", seed, ranges.SEED)
    return jax.random.key(seed)


def _signs(result: Result, given: inputs.Given, repeated: int, adapts: bool) -> list[str]:
    """Return sentences on harm that personalization may have done, judged without labels."""
    looks = np.stack([warning_signs.look(picture) for picture in given.pictures])
    known = result.before, result.joints, (result.before_confidence, result.confidence)
    seen = given.places.boxes, None, repeated, looks, result.model.skeleton.flip_pairs
    return warning_signs.signs(warning_signs.Evidence(*known, *seen, adapts=adapts), remedy=REMEDY)


def _joined(chunks: Iterable[tuple], there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the chunks' joints and confidence without padding; NaN where nobody is `there` [T]."""
    joints, confidence = (np.concatenate(part)[: len(there)] for part in zip(*chunks, strict=True))
    here = there[:, None]
    return np.where(here[..., None], joints, np.nan), np.where(here, confidence, np.nan)
