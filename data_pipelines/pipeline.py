"""From clips to augmented training pairs, as a tf.data stream.

All random draws for a row of the stream depend only on (seed, epoch, index in the epoch). So a
stream can start at any step at no cost, and its bytes don't depend on the numbers of workers and
processes.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from data_pipelines.clips import Clip, DataError, FrameError, nothing_readable
from data_pipelines.pairs import Draw, draws, mixed_draws
from ttp_jax import geometry
from ttp_jax.augment import Ranges
from ttp_jax.skeletons import Skeleton

if TYPE_CHECKING:
    import tensorflow as tf

T = TypeVar("T")
# Lines that TensorFlow's libraries print at any log level when they start without a GPU. They don't
# matter here, where TensorFlow only feeds data, on the CPU.
STARTUP = (
    *(b"before absl::InitializeLog()", b"cudart_stub.cc", b"Could not find cuda drivers"),
    *(b"cuda_platform.cc", b"failed call to cuInit", b"cuda_executor.cc", b"cuda_diagnostics.cc"),
    *(b"cpu_feature_guard.cc", b"To enable the following instructions: ", b"oneDNN custom"),
)


@dataclasses.dataclass(frozen=True)
class Crops:
    """How the pictures of a pair are cropped, and how the target's heatmaps are drawn.

    Attributes:
      image_size: side of a crop, in pixels.
      heatmap_size: side of a heatmap, in pixels.
      sigma: standard deviation of the Gaussian targets, in heatmap pixels.
      half_pixel: how the heatmaps' cells lie in the crop, see `geometry.map_to_crop`.
      oversample: shrink pictures by area first, until crops have at most this many times
        `image_size` pixels a side, as at test time. None resamples the original pixels, as the
        published program does.
    """

    image_size: int
    heatmap_size: int
    sigma: float
    half_pixel: geometry.Cells = False
    oversample: float | None = None

    @property
    def most(self) -> float:
        """Largest side of a crop before it is resampled, in pixels."""
        return math.inf if self.oversample is None else self.oversample * self.image_size


def train_pairs(
    clips: Sequence[Clip],
    skeleton: Skeleton,
    crops: Crops,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    ranges: Ranges = Ranges(),
    frames_per_epoch: int | None = None,
    process: tuple[int, int] = (0, 1),
    num_steps: int | None = None,
    workers: int | None = None,
    unlabelled: Sequence[Clip] = (),
    labelled_share: float = 0.5,
) -> "tf.data.Dataset":
    """Stream batches of augmented (source, target) pairs from labelled clips.

    Every frame is the target once an epoch. Its source is any frame of the same clip, including the
    target itself. As in the published program, both are cut out with the target's box and share one
    transform. An epoch may end inside a batch: no row is dropped.

    Args:
      batch_size: rows of the global batch; this process gets a contiguous slice of it.
      start_step: first batch; the stream equals one from step 0 with that many batches skipped.
      ranges: ranges of the random transforms.
      frames_per_epoch: targets an epoch, drawn anew each time; None for all frames.
      process: index and number of the processes that share a batch.
      num_steps: number of batches to yield; None for no end.
      workers: batches that are built at the same time; None for one a CPU core.
      unlabelled: clips of unlabelled frames of the same people, named after the labelled clip and
        `UNLABELLED`. Sources are drawn from both clips. All joints of an unlabelled target have
        weight 0.
      labelled_share: share of each batch that has labels, if there are unlabelled clips.

    Returns:
      Dataset of dicts: "target" and "source" uint8 RGB [B, S, S, 3]; "heatmaps" float32
      [B, h, w, K]; "weights" float32 [B, K], 1 where the joint counts; "joints" float32 [B, K, 2]
      in crop pixels. Errors while reading surface as `tf.errors.OpError` with their message.
    """
    _check_clips(clips, skeleton)
    rows = _rows_of(process, batch_size)
    if unlabelled:
        clips = [*clips, *unlabelled]
        draw = mixed_draws(clips, seed, ranges, frames_per_epoch, batch_size, labelled_share)
    else:
        draw = draws([clip.num_frames for clip in clips], seed, ranges, frames_per_epoch)
    read = _FrameReader()

    def build(step):
        first = int(step) * batch_size
        return _batch(clips, skeleton, crops, [draw(first + row) for row in rows], read)

    stop = np.iinfo(np.int64).max if num_steps is None else start_step + num_steps
    signature = _signature(len(rows), crops, skeleton.size)
    return _parallel_map(build, range(start_step, stop), signature, workers or os.cpu_count() or 1)


def _rows_of(process: tuple[int, int], batch_size: int) -> range:
    """Return the rows of a global batch that this process builds."""
    index, count = process
    if batch_size % count or not 0 <= index < count:
        raise ValueError(
            f"batch_size {batch_size} can't be sliced for process {index} of {count}: it must be "
            "a multiple of the number of processes."
        )
    each = batch_size // count
    return range(index * each, (index + 1) * each)


def _batch(
    clips: Sequence[Clip],
    skeleton: Skeleton,
    crops: Crops,
    rows: Sequence[Draw],
    read: "_FrameReader",
) -> tuple[np.ndarray, ...]:
    """Return the arrays of a batch, in the order of `_signature`."""
    target, source, joints, visible = _crop_pairs(clips, skeleton, crops, rows, read)
    maps, weights = heatmaps_of(
        joints,
        visible,
        image_size=crops.image_size,
        heatmap_size=crops.heatmap_size,
        sigma=crops.sigma,
        half_pixel=crops.half_pixel,
    )
    return target, source, maps, weights, joints.astype(np.float32)


def _signature(rows: int, crops: Crops, joints: int) -> dict:
    """Return the types and shapes of a batch, by the names of its arrays."""
    pictures = rows, crops.image_size, crops.image_size, 3
    return {
        "target": (np.uint8, pictures),
        "source": (np.uint8, pictures),
        "heatmaps": (np.float32, (rows, crops.heatmap_size, crops.heatmap_size, joints)),
        "weights": (np.float32, (rows, joints)),
        "joints": (np.float32, (rows, joints, 2)),
    }


def heatmaps_of(
    joints: np.ndarray,
    visible: np.ndarray,
    *,
    image_size: int,
    heatmap_size: int,
    sigma: float,
    half_pixel: geometry.Cells = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw Gaussian targets with peak 1 at the heatmap pixel nearest to the joint, as published.

    The nearest pixel is floor(p / stride + 0.5) also below zero, where the published program's
    int() rounds towards zero. The Gaussian is cut off at floor(3 sigma) pixels in x and in y.

    Args:
      joints: [..., K, 2] in crop pixels.
      visible: bool [..., K].
      image_size: side of the crop, in pixels.
      heatmap_size: side of the heatmaps, in pixels.
      sigma: standard deviation of the Gaussians, in heatmap pixels.
      half_pixel: how the heatmaps' cells lie in the crop, see `geometry.crop_to_map`.

    Returns:
      Heatmaps float32 [..., h, w, K] and weights float32 [..., K]. A joint that is invisible, or
      whose Gaussian lies entirely outside, has weight 0 and an empty map.
    """
    stride = image_size / heatmap_size
    centre = np.floor(geometry.crop_to_map(joints, stride, half_pixel) + 0.5)
    grid = np.arange(heatmap_size, dtype=np.float64)[:, None]
    offset_x, offset_y = grid - centre[..., None, :, 0], grid - centre[..., None, :, 1]
    radius = math.floor(3 * sigma)

    def bell(offset):
        inside = np.abs(offset) <= radius
        return np.where(inside, np.exp(-(offset**2) / (2 * sigma**2)), 0).astype(np.float32)

    weights = visible & (np.abs(offset_x) <= radius).any(-2) & (np.abs(offset_y) <= radius).any(-2)
    rows = bell(offset_y) * weights[..., None, :]
    return rows[..., :, None, :] * bell(offset_x)[..., None, :, :], weights.astype(np.float32)


def device_prefetch(iterator: Iterable, put: Callable[..., T], depth: int = 2) -> Iterator[T]:
    """Yield `put(item)` for every item, calling `put` for `depth` items ahead.

    `put` starts a copy to the device and returns at once, as `jax.device_put` does, so the copies
    run while the consumer computes.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}, expected 1 or more.")
    waiting = collections.deque()
    for item in iterator:
        waiting.append(put(item))
        if len(waiting) >= depth:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _check_clips(clips: Sequence[Clip], skeleton: Skeleton) -> None:
    """Raise an error for clips that can't supply training pairs."""
    if not sum(clip.num_frames for clip in clips):
        raise ValueError("no frames to train on: the list of clips is empty.")
    for clip in clips:
        if clip.joints is None or clip.visible is None:
            raise ValueError(f"clip {clip.name} has no labels: training needs joints and visible.")
        if clip.joints.shape[1] != skeleton.size:
            raise ValueError(
                f"clip {clip.name} has {clip.joints.shape[1]} joints, but skeleton "
                f"{skeleton.name!r} has {skeleton.size}."
            )


def _crop_pairs(
    clips: Sequence[Clip],
    skeleton: Skeleton,
    crops: Crops,
    batch: Sequence[Draw],
    read: "_FrameReader",
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut out targets and sources uint8 [B, S, S, 3], joints [B, K, 2] and visible bool [B, K].

    Pictures are shrunk first, until a crop (before its random transform) has at most `crops.most`
    pixels a side.
    """
    size = crops.image_size
    target = np.empty((len(batch), size, size, 3), np.uint8)
    source = np.empty_like(target)
    affines = _affines(clips, batch, size)
    frames = []
    for i, draw in enumerate(batch):
        clip = clips[draw.clip]
        picture, used = read(clip, draw.target)
        if used != draw.target:
            affines[i] = _affines(clips, [dataclasses.replace(draw, target=used)], size)[0]
        side = geometry.box_to_crop(clip.boxes[used].astype(np.float64))[2]
        zoom = min(1.0, crops.most / side)
        _warp(picture, affines[i], target[i], zoom)
        other = clip if draw.source_clip is None else clips[draw.source_clip]
        if (other.name, draw.source) != (clip.name, used):
            picture = read(other, draw.source)[0]
        _warp(picture, affines[i], source[i], zoom)
        frames.append((clip, used))
    labels = [_labels(clip, t, skeleton) for clip, t in frames]
    joints = geometry.transform_points(affines, np.stack([joints for joints, _ in labels]))
    visible = np.stack([visible for _, visible in labels])
    flipped = np.array([draw.flip for draw in batch])
    order = np.where(flipped[:, None], skeleton.flip_order, np.arange(skeleton.size))
    return (
        target,
        source,
        np.take_along_axis(joints, order[..., None], 1),
        np.take_along_axis(visible, order, 1),
    )


def _labels(clip: Clip, frame: int, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Return joints [K, 2] and visible [K] of a frame; NaN and False if the clip has no labels."""
    if clip.joints is None or clip.visible is None:
        return np.full((skeleton.size, 2), np.nan, np.float32), np.zeros(skeleton.size, bool)
    return clip.joints[frame], clip.visible[frame]


def _affines(clips: Sequence[Clip], batch: Sequence[Draw], size: int) -> np.ndarray:
    """Return the affines [B, 2, 3] from the targets' picture pixels to crop pixels."""
    boxes = np.stack([clips[draw.clip].boxes[draw.target] for draw in batch]).astype(np.float64)
    scale, degrees, flip = np.array([(d.scale, d.degrees, d.flip) for d in batch]).T
    return geometry.crop_affine(geometry.box_to_crop(boxes), size, scale, degrees, flip > 0)


def _warp(picture: np.ndarray, affine: np.ndarray, out: np.ndarray, zoom: float = 1.0) -> None:
    """Shrink a picture by `zoom`, then resample it into `out` [S, S, 3]: bilinear, zero outside."""
    if zoom < 1:
        picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        affine = geometry.window_affine(affine, np.array([zoom, 0.0, 0.0]))
    cv2.warpAffine(
        picture, affine, out.shape[:2], dst=out, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0)
    )


class _FrameReader:
    """A reader of frames that skips unreadable ones, with one warning for each."""

    def __init__(self):
        self._warned = set()
        self._lock = threading.Lock()

    def __call__(self, clip: Clip, index: int) -> tuple[np.ndarray, int]:
        """Return frame `index` or the next readable frame, in circular order, and its index.

        Raises:
          FrameError: the clip has no readable frame.
        """
        for step in range(clip.num_frames):
            candidate = (index + step) % clip.num_frames
            try:
                return clip.read(candidate), candidate
            except FrameError as error:
                self._warn(clip, candidate, error)
                last = error
        raise FrameError(nothing_readable(clip.name, clip.num_frames, last))

    def _warn(self, clip: Clip, index: int, error: FrameError) -> None:
        with self._lock:
            known = (clip.name, index) in self._warned
            self._warned.add((clip.name, index))
        if not known:
            warnings.warn(f"clip {clip.name}, training on another frame: {error}", stacklevel=3)


def _parallel_map(build, steps: range, signature: dict, workers: int) -> "tf.data.Dataset":
    """Apply the numpy function `build` to the steps in `workers` threads, and keep their order."""
    tf = tensorflow()

    def call(step):
        arrays = tf.numpy_function(build, [step], [dtype for dtype, _ in signature.values()])
        return {
            name: tf.ensure_shape(array, shape)
            for (name, (_, shape)), array in zip(signature.items(), arrays, strict=True)
        }

    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = workers
    dataset = tf.data.Dataset.range(steps.start, steps.stop)
    return dataset.map(call, num_parallel_calls=workers).prefetch(2).with_options(options)


def numpy_batches(dataset: "tf.data.Dataset") -> Iterator[dict[str, np.ndarray]]:
    """Yield a data set's batches as numpy arrays.

    Raises:
      DataError: a reader's error, which TensorFlow would otherwise wrap in its own.
    """
    tf = tensorflow()
    try:
        yield from dataset.as_numpy_iterator()  # pyright: ignore[reportReturnType]
    except tf.errors.OpError as error:
        text = (error.message or str(error)).splitlines()[0]
        raise DataError(text.partition("Error: ")[2] or text) from error


@functools.cache
def tensorflow():
    """Import TensorFlow on first use: it takes seconds, and test time works without it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_startup_lines():
        import tensorflow as tf

        # TensorFlow only feeds data here, and would reserve the whole GPU, which JAX needs.
        tf.config.set_visible_devices([], "GPU")
    return tf


@contextlib.contextmanager
def _without_startup_lines() -> Iterator[None]:
    """Remove the lines of `STARTUP` from standard error, and print all others at the end."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        usual = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(usual, 2)
            said.seek(0)
            for line in said:
                if not any(part in line for part in STARTUP):
                    os.write(2, line)
            os.close(usual)
