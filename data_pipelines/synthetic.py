"""Rendered people with exact joints, the data set that needs no download.

Each subject is a jointed 3-D figure with its own build, clothes, light, room and camera. Each clip
is one subject in one motion, with the labels of `PENN13`. All numbers depend only on (seed, split,
identity, length, frame), not on the batch. The package `rendered` draws people, motions and
pictures. This module makes the data set: `clips` renders a spec once and memory-maps it later.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import operator
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipelines.clips import Clip
from data_pipelines.rendered import bodies, renderer
from data_pipelines.rendered.draws import Draw
from data_pipelines.rendered.identities import Identity, sample_identity
from data_pipelines.rendered.motions import SPLITS, Camera, Pose, sample_motion
from ttp_jax.files import DAMAGED, map_array, read_arrays, write_arrays, write_atomically
from ttp_jax.skeletons import PENN13

# The labels of a split, as a pattern of `files.read_arrays`.
LABELS = {"boxes": ("f", 3), "joints": ("f", 4), "visible": ("b", 3)}
PRESETS = ("plain", "shifted", "varied", "wild")
FRAMES_PER_BATCH = 64  # of clips that one thread renders
FRAMES_PER_CALL = 8  # of the compiled program, the same for all splits and lengths
EVAL_FRAMES_PER_SECOND = 12.0
TRAIN_FRAMES_PER_SECOND = 1.5  # low, so that poses in a short clip differ a lot


@dataclasses.dataclass(frozen=True)
class Spec:
    """What to render.

    Attributes:
      seed: seed of all draws.
      image_size: side of the square pictures, in pixels. At 80, a crop of 64 is near native scale.
      train, val, test: number of subjects in each split; each subject has one clip.
      train_frames: frames of a training clip, far apart in time.
      eval_frames: frames of a val or test clip, consecutive.
      preset: "plain": one distribution for all splits. "shifted": val and test subjects get a
        strong tint, gamma, contrast and blur, and striped clothes that don't occur in training.
        "varied": all splits also have hats, bags, loose trousers, things in front of the person and
        captured motion, and each split has motions of its own. "wild": both.
    """

    seed: int = 0
    image_size: int = 80
    train: int = 1500
    val: int = 16
    test: int = 8
    train_frames: int = 8
    eval_frames: int = 32
    preset: str = "shifted"

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; valid ones: {', '.join(PRESETS)}.")
        least = {
            "seed": 0,
            "image_size": 16,
            "train": 0,
            "val": 0,
            "test": 0,
            "train_frames": 1,
            "eval_frames": 1,
        }
        for field, low in least.items():
            if getattr(self, field) < low:
                raise ValueError(f"{field} is {getattr(self, field)}, expected at least {low}.")

    @property
    def shifted(self) -> bool:
        """Whether val and test subjects look different from the training subjects."""
        return self.preset in ("shifted", "wild")

    @property
    def varied(self) -> bool:
        """Whether people and motions are more varied than in "plain"."""
        return self.preset in ("varied", "wild")

    def frames(self, split: str) -> int:
        """Return the number of frames in each clip of a split."""
        return self.train_frames if split == "train" else self.eval_frames


# ---------------------------------------------------------------------------------------------
# Clips


def sample_camera(key: jax.Array, identity: Identity, poses: Pose) -> Camera:
    """Draw a camera for a clip whose view holds all poses; leaves get a leading [T].

    Args:
      key: key of the draws.
      identity: the person.
      poses: poses of all frames, leaves [T, ...].
    """
    draw = Draw(key)
    frames = len(poses.yaw)
    each = lambda value: jnp.broadcast_to(value, (frames, *jnp.shape(value)))  # noqa: E731
    trial = Camera(
        focal=each(1.0),
        center=each(jnp.zeros(2)),
        shake=each(jnp.zeros(2)),
        pitch=each(draw.uniform(-0.02, 0.22)),
        distance=each(draw.uniform(3.2, 6.0)),
    )
    boxes = jax.vmap(functools.partial(bodies.person_box, identity, size=1))(poses, trial) + 0.5
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(-1)
    zoom = jnp.minimum(draw.uniform(0.68, 0.8) / longer.mean(), 0.94 / longer.max())
    middle = 0.5 * (boxes[:, :2].min(0) + boxes[:, 2:].max(0))
    # Crops are moved down by 7.5 % of the box (see `box_to_crop`), so there must be room below the
    # person, or they would have a black edge.
    center = 0.5 + jnp.array([0.0, -0.02]) + 0.02 * draw.normal((2,)) - zoom * middle
    shake = 0.004 * draw.normal((frames, 2))
    return trial._replace(focal=each(zoom), center=each(center), shake=shake)


@functools.partial(jax.jit, static_argnames="frames")
def _sample(seed, split, index, sparse, shifted, varied, frames):
    # Only `frames` is static, so that val and test share a compilation.
    key = jax.random.fold_in(jax.random.key(seed), split)
    keys = jax.random.split(jax.random.fold_in(key, index), 4)
    identity = sample_identity(keys[0], shifted, varied)
    count = jnp.arange(frames, dtype=jnp.float32)
    jitter = jax.random.uniform(keys[1], (frames,), minval=-0.4, maxval=0.4)
    seconds = jnp.where(
        sparse, (count + jitter) / TRAIN_FRAMES_PER_SECOND, count / EVAL_FRAMES_PER_SECOND
    )
    poses = sample_motion(keys[2], seconds, split, varied)
    return identity, poses, sample_camera(keys[3], identity, poses)


def sample_clip(spec: Spec, split: str, index: int) -> tuple[Identity, Pose, Camera]:
    """Draw a subject of a split with its poses and cameras.

    Args:
      spec: the data set.
      split: "train", "val" or "test".
      index: index of the subject.

    Returns:
      The identity, poses and cameras; the latter two have a leading [T].
    """
    train = split == "train"
    shifted = spec.shifted and not train
    number = SPLITS.index(split)
    return _sample(spec.seed, number, index, train, shifted, spec.varied, frames=spec.frames(split))


class Film(NamedTuple):
    """One subject's rendered clip, with any points of the body.

    Fields: frames uint8 [T, S, S, 3]; boxes [T, 4], visible bool [T, 13] as in `Clip`; points
    [T, Q, 2] in pixels and their depth [T, Q] in metres from the camera; scale [T], pixels per
    metre at the root.
    """

    frames: np.ndarray
    boxes: np.ndarray
    visible: np.ndarray
    points: np.ndarray
    depth: np.ndarray
    scale: np.ndarray


def film(spec: Spec, split: str, index: int, names: Sequence[str]) -> Film:
    """Render a subject of a split.

    Args:
      spec: the data set.
      split: "train", "val" or "test".
      index: index of the subject.
      names: points of `points_3d` to return.
    """
    frames, _, visible, boxes = (rows[0] for rows in _render_clips(spec, split, [index]))
    drawn = sample_clip(spec, split, index)
    found = jax.device_get(_film_points(*drawn, size=spec.image_size, names=tuple(names)))
    return Film(frames, boxes, visible, *found)


@functools.partial(jax.jit, static_argnames=("size", "names"))
def _film_points(identity, poses, cameras, size, names):
    def frame(pose, camera):
        seen = bodies.view(camera, bodies.points_3d(identity, pose, ("root", *names)))
        depth = -seen[:, 2]
        return bodies.pixels(camera, size, seen)[1:], depth[1:], size * camera.focal / depth[0]

    return jax.vmap(frame)(poses, cameras)


@functools.partial(jax.jit, static_argnames="size")
def _render_frames(identities, poses, cameras, size):
    def frame(args):
        identity, pose, camera = args
        box = bodies.person_box(identity, pose, camera, size, identity.slack)
        return *renderer.render(identity, pose, camera, size), box

    # One frame at a time stays in a CPU's cache, which is faster than a vmap over the batch.
    return jax.lax.map(frame, (identities, poses, cameras))


def _render_clips(spec, split, indices):
    """Return images, joints, visible and boxes [n, T, ...] of some subjects."""
    frames = spec.frames(split)
    drawn = [jax.device_get(sample_clip(spec, split, int(index))) for index in indices]
    identities, poses, cameras = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    identities = jax.tree.map(lambda leaf: np.repeat(leaf, frames, 0), identities)
    poses, cameras = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (poses, cameras))
    calls, total = [], len(indices) * frames
    for start in range(0, total, FRAMES_PER_CALL):
        # The last call repeats a frame, so that there is one shape, and one compilation.
        rows = np.minimum(np.arange(start, start + FRAMES_PER_CALL), total - 1)
        part = jax.tree.map(operator.itemgetter(rows), (identities, poses, cameras))
        calls.append(jax.device_get(_render_frames(*part, spec.image_size)))
    whole = [np.concatenate(each)[:total] for each in zip(*calls, strict=True)]
    return [x.reshape(len(indices), frames, *x.shape[1:]) for x in whole]


def _threaded(spec, split, batches):
    """Yield rendered batches in order, as many at a time as there are cores: a batch uses one."""
    work = functools.partial(_render_clips, spec, split)
    yield work(batches[0])  # compiles the program
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        group = 4 * (os.cpu_count() or 1)  # limits the number of finished pictures in memory
        for start in range(1, len(batches), group):
            yield from pool.map(work, batches[start : start + group])


def _render_split(spec, split, frames_path, labels_path):
    count, length, size = getattr(spec, split), spec.frames(split), spec.image_size
    batch = max(1, FRAMES_PER_BATCH // length)
    labels = {
        "joints": np.zeros((count, length, PENN13.size, 2), np.float32),
        "visible": np.zeros((count, length, PENN13.size), bool),
        "boxes": np.zeros((count, length, 4), np.float32),
    }

    def write_frames(path):
        store = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(count, length, size, size, 3)
        )
        # Reserve the space, so that a full disk is an error now instead of a crash later.
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        with tqdm(total=count * length, desc=f"rendering {split}", unit="frame") as bar:
            batches = [range(k, min(k + batch, count)) for k in range(0, count, batch)]
            rendered = _threaded(spec, split, batches)
            for indices, (images, *rest) in zip(batches, rendered, strict=True):
                rows = slice(indices.start, indices.stop)
                store[rows] = images
                for name, value in zip(labels, rest, strict=True):
                    labels[name][rows] = value
                bar.update(len(images) * length)
        store.flush()

    write_atomically(frames_path, write_frames)
    write_arrays(labels_path, labels, compress=False)


def _load_split(spec, split, frames_path, labels_path):
    """Memory-map a rendered split; None if a file is missing, cut short or of another shape."""
    shape = (getattr(spec, split), spec.frames(split))
    try:
        frames = map_array(frames_path)
        rows = read_arrays(labels_path, LABELS)
        labels = {name: rows[name] for name in LABELS}
    except DAMAGED:
        return None
    arrays = [frames, *labels.values()]
    return (frames, labels) if all(a.shape[:2] == shape for a in arrays) else None


def _read(frames, index):
    return np.array(frames[index])


def clips(spec: Spec, cache_dir: str | os.PathLike) -> list[Clip]:
    """Return the clips of all splits, rendering those that aren't in `cache_dir` yet.

    Damaged files are rendered again. The file names contain a hash of everything that the split
    depends on, including the renderer's version; a .json beside them lists it. So you can change
    the number of test people without rendering the training people again.

    Args:
      spec: the data set.
      cache_dir: folder for rendered clips; it is created if missing.
    """
    cache = pathlib.Path(cache_dir).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for split in SPLITS:
        if not getattr(spec, split):
            continue
        record = _record(spec, split)
        stem = f"{split}-{hashlib.sha256(record.encode()).hexdigest()[:12]}"
        paths = cache / f"{stem}.npy", cache / f"{stem}.npz"
        if (loaded := _load_split(spec, split, *paths)) is None:
            written = functools.partial(pathlib.Path.write_text, data=record)
            write_atomically(cache / f"{stem}.json", written)
            _render_split(spec, split, *paths)
            loaded = _load_split(spec, split, *paths)
            assert loaded is not None, f"{paths[0]} was written but can't be read back"
        frames, labels = loaded
        for i in range(len(frames)):
            name = f"{split}-{i:05d}"
            read = functools.partial(_read, frames[i])
            rows = {field: value[i] for field, value in labels.items()}
            found.append(Clip(name, name, split, frames.shape[1], read, **rows))
    return found


def _record(spec: Spec, split: str) -> str:
    """Return everything that the bytes of a split depend on, as JSON."""
    own = {
        "renderer": renderer.RENDERER_VERSION,
        "split": split,
        "subjects": getattr(spec, split),
        "frames": spec.frames(split),
        **{field: getattr(spec, field) for field in ("seed", "image_size", "preset")},
    }
    return json.dumps(own, indent=1)
