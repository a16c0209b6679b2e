"""Rendered people with exact joints: the data a fresh machine starts from.

Each subject is a jointed 3-D figure with an own build, clothes, light, room and camera; each clip
is one subject in one motion, with the labels of `PENN13`. All numbers follow from (seed, split,
identity, frame), whatever the batch. Body frame and world are right-handed: x to the person's left,
y up, z to the front, in metres; the camera looks along -z, so yaw 0 faces it.

`render` is pure, and works under jit and vmap. `clips` renders a spec once, later memory-maps it.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipelines.clips import Clip
from ttp_jax.files import write_atomically
from ttp_jax.skeletons import PENN13

# Part of the cache's file names: raise it whenever the same spec would give other bytes.
RENDERER_VERSION = 4

PRESETS = ("plain", "shifted", "varied", "wild")
SPLITS = ("train", "val", "test")
FRAMES_PER_BATCH = 64
EVAL_FRAMES_PER_SECOND = 12.0
TRAIN_FRAMES_PER_SECOND = 1.5  # sparse, so that the poses of a short clip differ a lot


@dataclasses.dataclass(frozen=True)
class Spec:
    """What to render.

    Attributes:
      seed: of everything.
      image_size: side of the square pictures, in pixels. At 80 a crop of 64 is near native scale.
      train, val, test: subjects per split; each has one clip.
      train_frames: frames of a training clip, far apart in time.
      eval_frames: frames of a val or test clip, consecutive.
      preset: "plain": one distribution for all splits. "shifted": val and test subjects get a
        strong tint, gamma, contrast and blur, and striped clothes that training never shows.
        "varied": in all splits also hats, bags, loose trousers, things in front of the person and
        captured motion, each split with motions of its own. "wild": both.
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
        """Whether val and test subjects look unlike the training ones."""
        return self.preset in ("shifted", "wild")

    @property
    def varied(self) -> bool:
        """Whether there is more than plain people in made-up motions."""
        return self.preset in ("varied", "wild")

    def frames(self, split: str) -> int:
        """Number of frames per clip of a split."""
        return self.train_frames if split == "train" else self.eval_frames


# ---------------------------------------------------------------------------------------------
# Subjects


class Identity(NamedTuple):
    """One subject: build, clothes, light, room and camera response. All leaves are float32."""

    bones: jax.Array  # [len(BONES)] metres
    girth: jax.Array  # factor on all radii
    sleeve: jax.Array  # covered length of the arm: 1 = to the elbow, 2 = to the wrist
    trouser: jax.Array  # covered length of the leg: 1 = to the knee, 2 = to the ankle
    skirt: jax.Array  # 0 or 1
    long_hair: jax.Array  # 0 = short, 1 = over the shoulders
    hairline: jax.Array
    materials: jax.Array  # [len(MATERIALS), MATERIAL_SIZE]
    badge: jax.Array  # [6] print on the chest: width, height, y in metres, RGB; width 0 = none
    light: jax.Array  # [3] unit vector to the light, in camera axes
    ambient: jax.Array
    wall: jax.Array  # metres between the person and the wall's foot
    room: jax.Array  # [2, 3] wall and floor colours
    clutter: jax.Array  # [CLUTTER, 10] shapes in picture units
    coarse: jax.Array  # [5, 5, 3] smooth colour noise
    fine: jax.Array  # [17, 17, 3]
    gain: jax.Array  # [3]
    contrast: jax.Array
    gamma: jax.Array
    blur: jax.Array  # sigma, per cent of the picture's side
    grain: jax.Array  # sigma of the sensor noise
    slack: jax.Array  # [4] box slack per side, fraction of the box's longer side
    hat: jax.Array  # 0 or 1, as the next two
    backpack: jax.Array
    handbag: jax.Array
    loose: jax.Array  # 0 = tight trousers, 1 = twice as wide at the hem
    occluders: jax.Array  # [OCCLUDERS, 10] shapes in front of the person, as `clutter`


MATERIALS = ("skin", "top", "bottom", "shoe", "hair", "hat", "bag")
# Two colours, stripe and check directions, kind (0 plain, 1 stripes, 2 checks, 3 dots).
MATERIAL_SIZE = 3 + 3 + 3 + 3 + 1
CLUTTER = 9
OCCLUDERS = 2

_O = (0.0, 0.0, 0.0)
BONES = {
    "hip": 0.095, "waist": 0.12, "spine": 0.39, "shoulder": 0.185, "neck": 0.075, "head": 0.115,
    "upper_arm": 0.28, "forearm": 0.25, "hand": 0.07, "thigh": 0.42, "shin": 0.41, "foot": 0.15,
}  # fmt: skip

_SKINS = np.array(
    [[0.98, 0.84, 0.74], [0.92, 0.72, 0.58], [0.78, 0.57, 0.42], [0.58, 0.39, 0.27],
     [0.36, 0.23, 0.16]]
)  # fmt: skip
_HAIRS = np.array(
    [[0.06, 0.05, 0.05], [0.2, 0.12, 0.07], [0.4, 0.24, 0.12], [0.85, 0.68, 0.36], [0.6, 0.22, 0.1],
     [0.62, 0.6, 0.58]]
)  # fmt: skip


def _hsv(hue, saturation, value):
    """Return RGB [..., 3]; the hue wraps at 1."""
    ramp = jnp.abs(jnp.mod(hue[..., None] + jnp.array([0.0, 2 / 3, 1 / 3]), 1.0) * 6 - 3) - 1
    white = jnp.clip(ramp, 0.0, 1.0) - 1
    return value[..., None] * (1 + saturation[..., None] * white)


class _Draw:
    """Hand out random numbers from one pool (a key for each would take minutes to compile)."""

    def __init__(self, key):
        keys = jax.random.split(key)
        pools = jax.random.uniform(keys[0], (1024,)), jax.random.normal(keys[1], (1024,))
        self.pools, self.used = (
            dict(zip(("uniform", "normal"), pools, strict=True)),
            {"uniform": 0, "normal": 0},
        )

    def _take(self, kind, shape):
        start = self.used[kind]
        self.used[kind] = stop = start + math.prod(shape)
        return self.pools[kind][start:stop].reshape(shape)

    def uniform(self, low, high, shape=()):
        return low + (high - low) * self._take("uniform", shape)

    def normal(self, shape=()):
        return self._take("normal", shape)

    def chance(self, probability):
        return self.uniform(0, 1) < probability

    def integer(self, stop):
        return jnp.floor(self.uniform(0, stop)).astype(jnp.int32)

    def color(self, saturation, value, shape=()):
        return _hsv(
            self.uniform(0, 1, shape),
            self.uniform(saturation[0], saturation[1], shape),
            self.uniform(value[0], value[1], shape),
        )

    def of(self, options):
        """Return one row, moved a little towards another."""
        a, b = self.integer(len(options)), self.integer(len(options))
        options = jnp.asarray(options, jnp.float32)
        return options[a] + self.uniform(0, 0.4) * (options[b] - options[a])


def _cloth(draw, shifted):
    """Return one material row: two colours and a pattern in the part's own coordinates."""
    a, b = draw.color((0.05, 0.9), (0.15, 0.95)), draw.color((0.05, 0.9), (0.1, 1.0))
    kind = jnp.floor(jnp.maximum(0.0, draw.uniform(-2.4, 4.0)))  # plain in three of eight
    upright = draw.chance(0.35)
    across, along = jnp.array([0.8, 0.0, 0.6]), jnp.array([0.0, 1.0, 0.0])
    frequency = draw.uniform(5.0, 11.0)  # cycles per metre
    first = frequency * jnp.where(upright, across, along)
    second = frequency * jnp.where(upright, along, across)
    # Training stripes follow the limb or circle it; these run askew, between extremes of one hue.
    askew = jnp.array([0.6, 0.75, 0.3]) * draw.uniform(7.0, 10.0)
    hue, dark = draw.uniform(0, 1), draw.uniform(0.05, 0.3)
    pair = _hsv(hue, jnp.array([0.8, 0.25]), jnp.stack([dark, 1.0])).reshape(-1)
    odd = jnp.concatenate([pair, askew, askew, jnp.ones(1)])
    return jnp.where(shifted, odd, jnp.concatenate([a, b, first, second, kind[None]]))


def sample_identity(key: jax.Array, shifted: bool = False, varied: bool = False) -> Identity:
    """Draw a subject; for `shifted` and `varied` see `Spec.preset`."""
    draw = _Draw(key)
    tall = draw.uniform(0.92, 1.08)
    bones = jnp.array(list(BONES.values())) * tall * draw.uniform(0.92, 1.08, (len(BONES),))
    plain = jnp.zeros(7)
    skin, hair = draw.of(_SKINS), draw.of(_HAIRS)
    hair = jnp.where(draw.chance(0.1), draw.color((0.5, 0.9), (0.4, 0.9)), hair)
    shoe = draw.color((0.0, 0.8), (0.05, 1.0))
    top, bottom = _cloth(draw, shifted), _cloth(draw, shifted)
    bottom = bottom.at[-1].multiply(
        jnp.logical_or(shifted, draw.chance(0.4))
    )  # trousers are mostly plain
    one = [jnp.concatenate([color, color, plain]) for color in (skin, shoe, hair)]
    sleeve = jnp.where(draw.chance(0.55), draw.uniform(0.1, 0.9), draw.uniform(1.75, 1.95))
    trouser = jnp.where(draw.chance(0.45), draw.uniform(0.4, 1.05), draw.uniform(1.7, 1.95))
    badge = jnp.concatenate(
        [
            draw.chance(0.5) * draw.uniform(0.05, 0.1)[None],
            jnp.stack([draw.uniform(0.03, 0.1), draw.uniform(-0.22, -0.12)]),
            draw.color((0.0, 1.0), (0.0, 1.0)),
        ]
    )
    light = jnp.stack([draw.uniform(-0.9, 0.9), draw.uniform(0.3, 1.0), draw.uniform(0.35, 1.0)])
    wall, floor = draw.color((0.0, 0.55), (0.25, 0.95)), draw.color((0.0, 0.5), (0.15, 0.8))
    clutter = jnp.concatenate(
        [
            draw.uniform(-0.05, 1.05, (CLUTTER, 1)),  # x, y
            draw.uniform(-0.05, 0.75, (CLUTTER, 1)),
            jnp.exp(draw.uniform(jnp.log(0.04), jnp.log(0.24), (CLUTTER, 2))),  # half sizes
            draw.uniform(-0.15, 0.15, (CLUTTER, 1)),  # radians
            draw.uniform(0.0, 1.0, (CLUTTER, 1)),  # below 0.3: an ellipse
            draw.color((0.0, 0.6), (0.1, 0.95), (CLUTTER,)),
            draw.uniform(-200.0, 130.0, (CLUTTER, 1)),  # stripes, radians; none below 40
        ],
        -1,
    )
    mild, strong = draw.uniform(0.85, 1.12), draw.uniform(0.8, 1.15)
    tint = draw.color((0.0, 0.12), (1.0, 1.001)), draw.color((0.25, 0.45), (1.0, 1.001))
    response = {
        "gain": (mild * tint[0], strong * tint[1]),
        "contrast": (draw.uniform(0.85, 1.1), draw.uniform(0.55, 0.75)),
        "gamma": (draw.uniform(0.85, 1.2), jnp.exp(draw.uniform(-0.6, 0.5))),
        "blur": (draw.uniform(0.0, 0.5), draw.uniform(0.6, 1.0)),
        "grain": (draw.uniform(0.0, 0.02), draw.uniform(0.0, 0.025)),
    }
    usual = {
        "girth": draw.uniform(0.9, 1.2),
        "skirt": draw.chance(0.12).astype(jnp.float32),
        "long_hair": draw.chance(0.4) * draw.uniform(0.4, 1.0),
        "hairline": draw.uniform(-0.05, 0.2),
        "ambient": draw.uniform(0.4, 0.65),
        "wall": draw.uniform(0.8, 3.0),
        "coarse": 0.1 * draw.normal((5, 5, 1)) + 0.035 * draw.normal((5, 5, 3)),
        "fine": draw.uniform(0.01, 0.07) * draw.normal((17, 17, 1)) * jnp.ones(3),
        "slack": draw.uniform(0.0, 0.03, (4,)),
    }
    # What only some presets have is drawn last, so that the rest is the same in all.
    hat, bag = (
        jnp.concatenate(
            [draw.color((0.1, 0.9), (0.1, 1.0)), draw.color((0.1, 0.9), (0.1, 1.0)), plain]
        )
        for _ in range(2)
    )
    extras = {
        name: (varied & draw.chance(share)).astype(jnp.float32)
        for name, share in (("hat", 0.25), ("backpack", 0.2), ("handbag", 0.15))
    }
    loose = varied * draw.chance(0.3) * draw.uniform(0.4, 1.0) * (trouser > 1.7)
    return Identity(
        bones=bones,
        sleeve=sleeve,
        trouser=trouser,
        materials=jnp.stack([one[0], top, bottom, one[1], one[2], hat, bag]),
        badge=badge,
        light=light / jnp.linalg.norm(light),
        room=jnp.stack([wall, floor]),
        clutter=clutter,
        loose=loose,
        occluders=_occluders(draw) * varied,
        **usual,
        **extras,
        **{name: jnp.where(shifted, odd, common) for name, (common, odd) in response.items()},
    )


def _occluders(draw):
    """Draw things in front of the person [OCCLUDERS, 10]: a post and a piece of furniture, or none.

    A shape of no size hides nothing.
    """
    post = jnp.stack([draw.uniform(0.15, 0.85), 0.5, draw.uniform(0.015, 0.04), 0.7])
    wide = draw.uniform(0.08, 0.3)
    desk = jnp.stack(
        [draw.uniform(0.1, 0.9), draw.uniform(0.95, 1.1), wide, draw.uniform(0.1, 0.3)]
    )
    rows = []
    for place, share in ((post, 0.15), (desk, 0.25)):
        size = jnp.concatenate([place[:2], place[2:] * draw.chance(share)])
        look = draw.color((0.0, 0.7), (0.1, 0.9)), draw.uniform(-200.0, 130.0)[None]
        tilt = draw.uniform(-0.08, 0.08)[None]
        rows.append(jnp.concatenate([size, tilt, jnp.ones(1), *look]))
    return jnp.stack(rows)


# ---------------------------------------------------------------------------------------------
# Motion

ANGLES = (
    "lean", "roll", "twist", "side", "bend", "neck_yaw", "neck_pitch",
    "left_shoulder_flex", "left_shoulder_abduct", "left_shoulder_twist", "left_elbow",
    "right_shoulder_flex", "right_shoulder_abduct", "right_shoulder_twist", "right_elbow",
    "left_hip_flex", "left_hip_abduct", "left_hip_twist", "left_knee",
    "right_hip_flex", "right_hip_abduct", "right_hip_twist", "right_knee",
)  # fmt: skip
_SWAP = np.array([*range(7), *range(11, 15), *range(7, 11), *range(19, 23), *range(15, 19)])
_SIGN = np.array([1, -1, -1, -1, 1, -1, 1] + 16 * [1])  # rotations that a mirror turns round
_LOW = np.deg2rad(
    [-15, -25, -60, -30, -20, -50, -30] + 2 * [-50, 0, -90, 5] + 2 * [-30, -5, -40, 2]
)
_HIGH = np.deg2rad([50, 25, 60, 30, 70, 50, 40] + 2 * [175, 165, 80, 145] + 2 * [110, 60, 60, 135])
# How far each angle strays from its motion, in degrees.
_WANDER = np.deg2rad([5, 4, 10, 6, 6, 18, 9] + 2 * [20, 12, 22, 18] + 2 * [6, 5, 8, 8])


def _motion(**angles):
    """Return [3, 23] means and swings in radians and phases in cycles, from degrees and cycles.

    `both_x` stands for left_x and right_x in step, `turn_x` for the two half a cycle apart.
    """
    rest = {
        "both_shoulder_abduct": (10, 0, 0),
        "both_elbow": (15, 0, 0),
        "both_hip_abduct": (5, 0, 0),
    }
    table = np.zeros((3, len(ANGLES)))
    for name, (mean, swing, phase) in (rest | angles).items():
        group, _, angle = name.partition("_")
        lag = {"both": 0.0, "turn": 0.5}.get(group)
        sides = [(name, 0)] if lag is None else [(f"left_{angle}", 0), (f"right_{angle}", lag)]
        for side, late in sides:
            table[:, ANGLES.index(side)] = np.deg2rad(mean), np.deg2rad(swing), phase + late
    return table


# Each clip takes the upper body of one motion and the legs of another, mirrored half of the time.
_UPPER = np.stack(
    [
        _motion(turn_shoulder_flex=(5, 32, 0.5), turn_elbow=(28, 14, 0.5), twist=(0, 6, 0)),  # walk
        _motion(turn_shoulder_flex=(5, 48, 0.5), turn_elbow=(85, 18, 0.5), lean=(8, 2, 0)),  # run
        _motion(right_shoulder_abduct=(105, 12, 0), right_shoulder_twist=(-60, 15, 0.2),
                right_elbow=(75, 40, 0.1)),  # wave
        _motion(both_shoulder_abduct=(85, 72, 0), both_elbow=(15, 10, 0)),  # jumping jack
        _motion(both_shoulder_flex=(150, 25, 0), both_elbow=(25, 20, 0.5),
                side=(0, 20, 0)),  # reach
        _motion(turn_shoulder_flex=(70, 22, 0), turn_elbow=(75, 62, 0.5),
                twist=(0, 30, 0)),  # punch
        _motion(both_shoulder_abduct=(45, 8, 0), both_shoulder_twist=(55, 8, 0),
                both_shoulder_flex=(-12, 5, 0), both_elbow=(95, 8, 0),
                side=(0, 15, 0)),  # hands on hips
        _motion(bend=(40, 35, 0), lean=(20, 15, 0),
                both_shoulder_flex=(60, 45, 0)),  # touch the toes
        _motion(left_shoulder_flex=(80, 85, 0), left_elbow=(45, 35, 0.3),
                twist=(0, 25, 0.2)),  # throw
        _motion(both_shoulder_flex=(78, 8, 0), both_shoulder_abduct=(35, 38, 0)),  # clap
        _motion(turn_elbow=(75, 62, 0)),  # curl
        _motion(both_shoulder_abduct=(88, 6, 0), twist=(0, 50, 0), both_elbow=(12, 6, 0)),  # turn
        _motion(turn_shoulder_abduct=(80, 65, 0), turn_elbow=(50, 40, 0.25),
                side=(0, 12, 0)),  # dance
    ]
)  # fmt: skip
_LOWER = np.stack(
    [
        _motion(),  # stand
        _motion(both_hip_abduct=(13, 3, 0), both_hip_twist=(12, 3, 0)),  # stand wide
        _motion(turn_hip_flex=(6, 28, 0), turn_knee=(26, 24, 0.75)),  # walk
        _motion(turn_hip_flex=(18, 42, 0), turn_knee=(55, 40, 0.75)),  # run
        _motion(both_hip_flex=(48, 44, 0), both_knee=(58, 54, 0), both_hip_abduct=(14, 8, 0),
                both_hip_twist=(14, 6, 0), lean=(12, 12, 0)),  # squat
        _motion(both_hip_abduct=(20, 17, 0)),  # jumping jack
        _motion(left_hip_flex=(48, 28, 0), left_knee=(58, 30, 0), right_hip_flex=(-16, 10, 0),
                right_knee=(30, 22, 0)),  # lunge
        _motion(right_hip_flex=(30, 52, 0), right_knee=(35, 30, 0.4)),  # kick
        _motion(turn_hip_flex=(42, 46, 0), turn_knee=(52, 52, 0)),  # march
        _motion(left_hip_flex=(50, 10, 0), left_hip_abduct=(38, 10, 0), left_hip_twist=(40, 0, 0),
                left_knee=(110, 15, 0)),  # stand on one leg
        _motion(turn_hip_abduct=(14, 18, 0), turn_knee=(16, 12, 0.2)),  # side step
    ]
)  # fmt: skip
_FIRST_LEG = ANGLES.index("left_hip_flex")

# Angles and yaw of captured motions, int16 multiples of MOTION_STEP (module mocap wrote the file).
MOTIONS_FILE = pathlib.Path(__file__).with_name("motions.npz")
MOTIONS_PER_SECOND = 30
MOTION_STEP = np.deg2rad(0.01)
CAPTURED = {
    "train": (
        "walk", "run", "jump", "punch", "dance_a", "spinkick", "cartwheel", "crawl",
        "getup_facedown", "backflip",
    ),
    "val": ("spin", "roll"),
    "test": ("dance_b", "kick", "getup_faceup"),
}  # fmt: skip


class Pose(NamedTuple):
    """A body at one moment."""

    angles: jax.Array  # [23] radians, in the order of `ANGLES`
    yaw: jax.Array  # radians; 0 faces the camera, positive turns to the person's left
    position: jax.Array  # [2] metres on the ground, x and z
    key: jax.Array  # key data of the sensor noise, uint32 [2]: numpy can stack it


class Camera(NamedTuple):
    """A perspective camera on the person's level; lengths in picture sides unless said."""

    focal: jax.Array
    center: jax.Array  # [2] where the optical axis meets the picture
    shake: jax.Array  # [2] moves people and room alike
    pitch: jax.Array  # radians, positive looks down
    distance: jax.Array  # metres


@functools.cache
def _captured():
    """Captured motions by split: angles and yaw float32 [split, clip, frame, 24], lengths."""
    with np.load(MOTIONS_FILE) as file:
        clips = {name: file[name] * np.float32(MOTION_STEP) for name in file.files}
    longest = max(map(len, clips.values()))
    most = max(map(len, CAPTURED.values()))
    angles = np.zeros((len(SPLITS), most, longest, len(ANGLES) + 1), np.float32)
    lengths = np.zeros((len(SPLITS), most), np.int32)
    for s, split in enumerate(SPLITS):
        for c in range(most):  # a split of fewer clips has them more than once
            clip = clips[CAPTURED[split][c % len(CAPTURED[split])]]
            angles[s, c, : len(clip)], lengths[s, c] = clip, len(clip)
    return angles, lengths


def _replayed(draw, seconds, split):
    """Draw a captured motion of a split and read it back and forth at `seconds` [T, 24]."""
    angles, lengths = _captured()
    clip = draw.integer(angles.shape[1])
    last = jnp.asarray(lengths)[split, clip] - 1
    step = draw.uniform(0.7, 1.3) * MOTIONS_PER_SECOND
    at = jnp.round(seconds * step + draw.uniform(0.0, 1.0) * last).astype(jnp.int32)
    at = last - jnp.abs(at % (2 * last) - last)
    return jnp.asarray(angles)[split, clip][at]


def _combination(draw, split, own):
    """Draw the numbers of an upper and a lower motion.

    With `own` every fifth combination belongs to val (even upper motions) and test (odd ones), the
    others to training.
    """
    upper, lower = draw.integer(len(_UPPER)), draw.integer(len(_LOWER))
    odd = upper // 2 * 2 + 1
    odd = jnp.where(odd < len(_UPPER), odd, odd - 2)
    upper = jnp.where(own & (split > 0), jnp.where(split == 1, upper // 2 * 2, odd), upper)
    held = (len(_LOWER) * upper + lower) % 5 == 0
    others = jnp.where(held, jnp.where(lower + 1 < len(_LOWER), lower + 1, lower - 1), lower)
    tests = lower // 5 * 5 + (-len(_LOWER) * upper) % 5
    tests = jnp.where(tests < len(_LOWER), tests, tests - 5)
    return upper, jnp.where(own, jnp.where(split == 0, others, tests), lower)


def sample_motion(key: jax.Array, seconds: jax.Array, split: int = 0, varied: bool = False) -> Pose:
    """Draw a motion and return its poses at the given times [T]; leaves get a leading [T].

    Args:
      split: index into `SPLITS`.
      varied: motions of the split's own, half of them captured (see `Spec.preset`).
    """
    draw = _Draw(key)
    upper, lower = _combination(draw, split, varied)
    upper, lower = jnp.asarray(_UPPER)[upper], jnp.asarray(_LOWER)[lower]
    mean, swing, phase = jnp.where(jnp.arange(len(ANGLES)) < _FIRST_LEG, upper, lower)
    # A squat leans forward for its balance, whatever the arms do.
    mean, swing = mean.at[0].add(lower[0, 0]), swing.at[0].add(lower[1, 0])
    beat = draw.uniform(0.35, 0.8)  # Hz
    legs = jnp.where(draw.chance(0.7), 1.0, draw.uniform(0.6, 1.5))  # mostly in step with the arms
    rate = beat * jnp.where(jnp.arange(len(ANGLES)) < _FIRST_LEG, 1.0, legs)
    swing = swing * draw.uniform(0.7, 1.25)
    t = seconds[:, None]
    regular = mean + swing * jnp.sin(2 * jnp.pi * (rate * t + phase + draw.uniform(0, 1)))
    # Wander: an offset of the clip and three slow waves, so no two clips of a motion agree.
    hertz = draw.uniform(0.05, 0.5, (3, len(ANGLES)))
    waves = jnp.sin(2 * jnp.pi * (hertz * t[:, None] + draw.uniform(0, 1, hertz.shape))).sum(1)
    angles = regular + jnp.asarray(_WANDER) * (0.5 * waves + 0.7 * draw.normal((len(ANGLES),)))
    mirrored = angles[:, _SWAP] * _SIGN
    mirror = draw.chance(0.5)
    angles = jnp.clip(jnp.where(mirror, mirrored, angles), _LOW, _HIGH)
    # Most clips face the camera more or less; the rest any way.
    facing = jnp.where(
        draw.chance(0.65), jnp.deg2rad(35) * draw.normal(), draw.uniform(-jnp.pi, jnp.pi)
    )
    span = jnp.maximum(seconds[-1] - seconds[0], 1e-3)
    share = (seconds - seconds[0]) / span - 0.5
    turn = jnp.deg2rad(draw.uniform(-40, 40)) * share
    sway = jnp.sin(2 * jnp.pi * (draw.uniform(0.05, 0.4, (2,)) * t + draw.uniform(0, 1, (2,))))
    noise = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(seconds)))
    place = draw.uniform(0.02, 0.12, (2,)) * sway
    captured = varied & draw.chance(0.5)
    replayed = _replayed(draw, seconds, split)
    strays = jnp.deg2rad(5.0) * draw.normal((len(ANGLES),))
    moved = replayed[:, :-1] + strays
    moved = jnp.where(mirror, moved[:, _SWAP] * _SIGN, moved)
    heading = jnp.where(mirror, -1, 1) * (replayed[:, -1] - replayed[0, -1])
    angles, turn = jnp.where(captured, moved, angles), jnp.where(captured, heading, turn)
    return Pose(angles.astype(jnp.float32), facing + turn, place, jax.random.key_data(noise))


# ---------------------------------------------------------------------------------------------
# Body


def _frames():
    """List the body's axes: (name, parent, turns in order about x, y or z).

    A turn's angle is a weighted sum of named angles.
    """
    rows = [
        ("pelvis", None, [("y", {"yaw": 1}), ("z", {"roll": 1}), ("x", {"lean": 1})]),
        ("chest", "pelvis", [("y", {"twist": 1}), ("z", {"side": 1}), ("x", {"bend": 1})]),
        # Legs hang down whatever the pelvis does: a lean isn't a fall.
        ("hips", "pelvis", [("x", {"lean": -1})]),
        ("head", "chest", [("y", {"neck_yaw": 1}), ("x", {"neck_pitch": 1})]),
    ]
    for side, out in (("left", 1), ("right", -1)):
        ball = {"upper_arm": ("chest", "shoulder", -out), "thigh": ("hips", "hip", out)}
        for name, (parent, joint, inward) in ball.items():
            turns = [
                ("z", {f"{side}_{joint}_abduct": out}),
                ("x", {f"{side}_{joint}_flex": -1}),
                ("y", {f"{side}_{joint}_twist": inward}),
            ]
            rows.append((f"{side}_{name}", parent, turns))
        rows += [
            (f"{side}_forearm", f"{side}_upper_arm", [("x", {f"{side}_elbow": -1})]),
            (f"{side}_shin", f"{side}_thigh", [("x", {f"{side}_knee": 1})]),
            # Soles stay nearly level.
            (f"{side}_foot", f"{side}_shin",
             [("x", {f"{side}_hip_flex": 0.75, f"{side}_knee": -0.75})]),
        ]  # fmt: skip
    return rows


def _points():
    """List the body's points: (name, parent, frame, bone, its direction, offset in metres)."""
    up, down = (0, 1, 0), (0, -1, 0)
    rows = [
        ("waist", "root", "pelvis", "waist", up, _O),
        ("neck", "waist", "chest", "spine", up, _O),
        ("nape", "neck", "head", "neck", up, _O),
        ("head", "nape", "head", "head", up, (0, 0, 0.02)),
    ]
    for side, out in (("left", (1, 0, 0)), ("right", (-1, 0, 0))):
        s = lambda name: f"{side}_{name}"  # noqa: B023, E731
        rows += [
            (s("shoulder"), "neck", "chest", "shoulder", out, (0, -0.045, 0)),
            (s("elbow"), s("shoulder"), s("upper_arm"), "upper_arm", down, _O),
            (s("wrist"), s("elbow"), s("forearm"), "forearm", down, _O),
            (s("hand"), s("wrist"), s("forearm"), "hand", down, _O),
            (s("hip"), "root", "pelvis", "hip", out, _O),
            (s("knee"), s("hip"), s("thigh"), "thigh", down, _O),
            (s("ankle"), s("knee"), s("shin"), "shin", down, _O),
            (s("heel"), s("ankle"), s("foot"), "foot", _O, (0, -0.035, -0.03)),
            (s("toe"), s("ankle"), s("foot"), "foot", (0, 0, 1), (0, -0.045, 0)),
        ]
    return rows


class _Part(NamedTuple):
    """A tapered capsule; its frame anchors the cloth, `zero` is the origin of the pattern.

    `first` covers the share `cut` of its length, `second` the rest. It owns `joints`: they lie
    inside it, so it never hides them.
    """

    name: str
    a: str
    a_offset: tuple[float, float, float]  # along the frame, metres
    b: str
    b_offset: tuple[float, float, float]
    radii: tuple[float, float]  # metres
    frame: str
    zero: str
    first: str
    second: str
    joints: tuple[str, ...]


def _parts():
    trunk = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "hip"))
    hips = ("left_hip", "right_hip")
    cloth = ("chest", "neck", "top", "top", trunk)
    below = ("pelvis", "root", "bottom", "bottom", hips)
    skin, hair = (("head", "head", name, name, ("head",)) for name in ("skin", "hair"))
    rows = [
        ("pelvis", "left_hip", _O, "right_hip", _O, (0.1, 0.1), *below),
        ("chest", "neck", (0, -0.09, 0), "waist", (0, -0.02, 0), (0.105, 0.105), *cloth),
        ("shoulders", "left_shoulder", _O, "right_shoulder", _O, (0.062, 0.062), *cloth),
        ("neck", "neck", (0, -0.03, 0), "head", _O, (0.052, 0.05), *skin),
        ("head", "head", (0, -0.035, 0), "head", (0, 0.03, 0), (0.092, 0.105), *skin),
        ("hair", "head", (0, -0.01, -0.05), "head", (0, -0.3, -0.1), (0.1, 0.07), *hair),
        ("skirt", "root", (0, 0.04, 0), "knees", _O, (0.13, 0.2), *below),
        ("hat", "head", (0, 0.07, -0.01), "head", (0, 0.1, 0.07), (0.108, 0.08),
         "head", "head", "hat", "hat", ("head",)),
        ("backpack", "neck", (0, -0.08, -0.16), "neck", (0, -0.34, -0.17), (0.11, 0.13),
         "chest", "neck", "bag", "bag", ()),
        ("handbag", "left_hip", (0.13, 0, 0), "left_hip", (0.13, -0.16, 0), (0.05, 0.08),
         "pelvis", "root", "bag", "bag", ()),
    ]  # fmt: skip
    for side, out in (("left", 1), ("right", -1)):
        s = lambda name: f"{side}_{name}"  # noqa: B023, E731
        from_, to = (out * 0.095, -0.11, 0), (out * 0.06, 0.05, 0)
        arm, leg = (s("shoulder"), s("elbow"), s("wrist")), (s("hip"), s("knee"), s("ankle"))
        rows.append((s("flank"), "neck", from_, "root", to, (0.095, 0.1), *cloth))
        for name, a, b, radii, frame, first, second, owned in (
            ("upper_arm", "shoulder", "elbow", (0.062, 0.049), "upper_arm", "top", "skin", arm[:2]),
            ("forearm", "elbow", "wrist", (0.048, 0.036), "forearm", "top", "skin", arm[1:]),
            ("hand", "wrist", "hand", (0.042, 0.038), "forearm", "skin", "skin", arm[2:]),
            ("thigh", "hip", "knee", (0.09, 0.062), "thigh", "bottom", "skin", leg[:2]),
            ("shin", "knee", "ankle", (0.062, 0.042), "shin", "bottom", "skin", leg[1:]),
            ("foot", "heel", "toe", (0.047, 0.035), "foot", "shoe", "shoe", leg[2:]),
        ):
            rows.append((s(name), s(a), _O, s(b), _O, radii, s(frame), s(a), first, second, owned))
    return tuple(_Part(*row) for row in rows)


PARTS = _parts()
_NAMES = [part.name for part in PARTS]
_TRUNK = [_NAMES.index(name) for name in ("chest", "shoulders", "left_flank", "right_flank")]
_CLOTHS = np.array([[MATERIALS.index(part.first), MATERIALS.index(part.second)] for part in PARTS])
_OWNED = np.array([[joint in part.joints for part in PARTS] for joint in PENN13.joints])  # [13, P]
_HIDING_MARGIN = 0.03  # metres
# How much loose trousers widen the two ends of a part.
_FLARE = np.array(
    [{"thigh": (0.15, 0.4), "shin": (0.4, 1.0)}.get(name.split("_")[-1], (0, 0)) for name in _NAMES]
).T
# Points that touch the ground first, and how far they stay above it, in metres.
_GROUNDED = {
    **dict.fromkeys(("left_heel", "left_toe", "right_heel", "right_toe"), 0.04),
    **dict.fromkeys(("left_hand", "right_hand", "left_knee", "right_knee"), 0.04),
    **dict.fromkeys(("left_elbow", "right_elbow", "root", "neck", "head"), 0.1),
}


class _Tree(NamedTuple):
    """The body as constants, so that a pose is a few matrix products (which compile fast)."""

    turns: np.ndarray  # [F, 3, 24] angles and yaw -> the frame's three elementary turns
    spin: np.ndarray  # [F, 3, 3, 3] generators of these turns
    levels: list[tuple[np.ndarray, np.ndarray]]  # frames and their parents, root first
    bone: np.ndarray  # [Q, 3, len(BONES)] bone lengths -> step from a point's parent to it
    fixed: np.ndarray  # [Q, 3]
    step_frame: np.ndarray  # [Q]
    sum: np.ndarray  # [len(points), Q] adds the steps on the way to each point


def _tree():
    angles, bones = [*ANGLES, "yaw"], [*BONES]
    rows = _frames()
    frames = [name for name, *_ in rows]
    turns, spin = np.zeros((len(rows), 3, len(angles))), np.zeros((len(rows), 3, 3, 3))
    depth = {None: -1}
    for i, (name, parent, steps) in enumerate(rows):
        depth[name] = depth[parent] + 1
        for k, (axis, weights) in enumerate(steps):
            for angle, weight in weights.items():
                turns[i, k, angles.index(angle)] = weight
            a, b = ("xyz".index(axis) + 1) % 3, ("xyz".index(axis) + 2) % 3
            spin[i, k, b, a], spin[i, k, a, b] = 1, -1
    levels = []
    for level in range(1, max(depth.values()) + 1):
        these = [(i, frames.index(row[1])) for i, row in enumerate(rows) if depth[row[0]] == level]
        levels.append(tuple(np.array(these).T))
    steps = _points()
    bone, fixed = np.zeros((len(steps), 3, len(bones))), np.zeros((len(steps), 3))
    paths = {"root": np.zeros(len(steps))}
    for i, (name, parent, _, length, direction, offset) in enumerate(steps):
        bone[i, :, bones.index(length)], fixed[i] = direction, offset
        paths[name] = paths[parent] + np.eye(len(steps))[i]
    paths["knees"] = 0.4 * (paths["left_knee"] + paths["right_knee"])  # the hem of a skirt
    step_frame = np.array([frames.index(frame) for _, _, frame, *_ in steps])
    tree = _Tree(turns, spin, levels, bone, fixed, step_frame, np.stack([*paths.values()]))
    return tree, frames, [*paths]


_TREE, _FRAME_NAMES, _POINT_NAMES = _tree()
# TF32 matrix products, a GPU's default, would bend the limbs.
_einsum = functools.partial(jnp.einsum, precision="highest")


def _product(a, b):
    """Multiply small matrices [..., i, j] and [..., j, k]; XLA 0.10 fails on batched dots."""
    return (a[..., None] * b[..., None, :, :]).sum(-2)


def _at(names):
    return np.array([_POINT_NAMES.index(name) for name in names])


def _body(identity, pose):
    """Return all points [len(_POINT_NAMES), 3] in world metres and frames [F, 3, 3] in columns."""
    angle = _einsum("fka,a->fk", _TREE.turns, jnp.append(pose.angles, pose.yaw))[..., None, None]
    square = _TREE.spin @ _TREE.spin
    turn = jnp.eye(3) + jnp.sin(angle) * _TREE.spin + (1 - jnp.cos(angle)) * square
    local = _product(_product(turn[:, 0], turn[:, 1]), turn[:, 2])
    frames = local
    for these, parents in _TREE.levels:
        frames = frames.at[these].set(_product(frames[parents], local[these]))
    steps = _einsum("qib,b->qi", _TREE.bone, identity.bones) + _TREE.fixed
    steps = _product(frames[_TREE.step_frame], steps[..., None])[..., 0]
    points = _einsum("pq,qi->pi", _TREE.sum, steps)
    # The lowest point rests on the ground, mostly a foot.
    lift = (np.array([*_GROUNDED.values()]) - points[_at(_GROUNDED), 1]).max()
    return points + jnp.stack([pose.position[0], lift, pose.position[1]]), frames


def points_3d(identity: Identity, pose: Pose, names: Sequence[str] = PENN13.joints) -> jax.Array:
    """Return points of the body [len(names), 3] in world metres, ground at y = 0.

    Beside the joints there are "root" (between the hips), "waist", "neck" (between the shoulders'
    tops), "nape", and for each side "left_hand", "left_heel" and "left_toe".
    """
    return _body(identity, pose)[0][_at(names)]


class _Capsules(NamedTuple):
    """All parts as the camera sees them; pixels unless said."""

    ends: jax.Array  # [2, P, 2] a and b
    reach: jax.Array  # [2, P] radii at a and b
    depth: jax.Array  # [2, P] metres from the camera
    radii: jax.Array  # [2, P] metres
    frame: jax.Array  # [P, 3, 3] axes in columns, in camera axes
    zero: jax.Array  # [P, 3] origin of the pattern, metres in camera axes
    cut: jax.Array  # [P]
    joints: jax.Array  # [13, 2]
    joint_depth: jax.Array  # [13] metres


def _tilt(camera):
    cos, sin = jnp.cos(camera.pitch), jnp.sin(camera.pitch)
    return jnp.eye(3).at[1:, 1:].set(jnp.stack([cos, -sin, sin, cos]).reshape(2, 2))


def _view(camera, points):
    """Turn world points [..., 3] into camera axes: x right, y up, -z forward, metres."""
    moved = _einsum("ij,...j->...i", _tilt(camera), points - jnp.array([0.0, 0.9, 0.0]))
    return moved - jnp.array([0.0, 0.0, 1.0]) * camera.distance


def _pixels(camera, size, seen):
    """Project points in camera axes [..., 3] to pixels [..., 2]."""
    offset = camera.focal * seen[..., :2] * jnp.array([1.0, -1.0]) / -seen[..., 2:]
    return size * (camera.center + camera.shake + offset) - 0.5


def _project(identity, pose, camera, size):
    points, frames = _body(identity, pose)
    frames = frames[np.array([_FRAME_NAMES.index(part.frame) for part in PARTS])]
    limbs = [part.name.split("_", 1)[-1] for part in PARTS]
    # What isn't worn shrinks to a dot inside the body.
    worn = jnp.ones(len(PARTS)).at[_NAMES.index("hair")].set(identity.long_hair)
    for name in ("skirt", "hat", "backpack", "handbag"):
        worn = worn.at[_NAMES.index(name)].set(getattr(identity, name))
    on = (worn > 0)[:, None]

    def place(end):
        offset = np.array([getattr(part, f"{end}_offset") for part in PARTS])
        anchor = points[_at(getattr(part, end) for part in PARTS)]
        return anchor + on * _product(frames, offset[..., None])[..., 0]

    a, b = place("a"), place("b")
    b = a + worn[:, None] * (b - a)
    head = np.array([part.frame == "head" for part in PARTS])
    scale = jnp.where(head, 1.0, identity.girth) * jnp.where(on[:, 0], 1.0, 0.1)
    radii = scale * np.array([part.radii for part in PARTS]).T * (1 + identity.loose * _FLARE)
    cover = {"upper_arm": identity.sleeve, "forearm": identity.sleeve - 1}
    trouser = identity.trouser * (1 - identity.skirt)
    cover |= {"thigh": trouser, "shin": trouser - 1}
    zero = points[_at(part.zero for part in PARTS)]
    a, b, zero = (_view(camera, x) for x in (a, b, zero))
    joints = _view(camera, points[_at(PENN13.joints)])
    ends = jnp.stack([a, b])
    depth = -ends[..., 2]
    return _Capsules(
        ends=_pixels(camera, size, ends),
        reach=radii * size * camera.focal / depth,
        depth=depth,
        radii=radii,
        frame=_product(_tilt(camera), frames),
        zero=zero,
        cut=jnp.stack([jnp.asarray(cover.get(limb, 2.0)) for limb in limbs]),
        joints=_pixels(camera, size, joints),
        joint_depth=-joints[:, 2],
    )


# ---------------------------------------------------------------------------------------------
# Pictures


def _hit(capsules, i, x, y):
    """Meet part i at pixels x, y: (inside, depth in metres, t along the axis, normal x, y)."""
    (ax, ay), (bx, by) = capsules.ends[0, i], capsules.ends[1, i] - capsules.ends[0, i]
    px, py = x - ax, y - ay
    along = (px * bx + py * by) / (bx * bx + by * by + 1e-3)
    t = jnp.clip(along, 0.0, 1.0)
    between = lambda pair: pair[0, i] + t * (pair[1, i] - pair[0, i])  # noqa: E731
    radius = between(capsules.reach)
    nx, ny = (px - t * bx) / radius, (py - t * by) / radius
    out = nx * nx + ny * ny
    bulge = jnp.sqrt(jnp.maximum(1.0 - out, 0.0))
    inside = out < 1.0
    inside &= (along < 1.0) | (i != _NAMES.index("skirt"))  # a skirt is cut off flat
    return inside, between(capsules.depth) - between(capsules.radii) * bulge, t, nx, ny


def _nearest(capsules, x, y):
    """Return (part or -1, depth, t, normal x, y) of the part in front at pixels x, y."""

    def add(i, best):
        inside, depth, *rest = _hit(capsules, i, x, y)
        front = inside & (depth < best[1])
        return [
            jnp.where(front, new, old) for new, old in zip([i, depth, *rest], best, strict=True)
        ]

    # A loop, because XLA fuses the unrolled search anew into each of its many readers.
    blank = [jnp.full(x.shape, -1), jnp.full(x.shape, jnp.inf)] + 3 * [jnp.zeros(x.shape)]
    return jax.lax.fori_loop(0, len(PARTS), add, blank)


def _visible(capsules, size):
    x, y = capsules.joints[:, 0], capsules.joints[:, 1]
    depths = []
    for i in range(len(PARTS)):
        inside, depth, *_ = _hit(capsules, i, x, y)
        depths.append(jnp.where(inside & ~_OWNED[:, i], depth, jnp.inf))
    hidden = jnp.min(jnp.stack(depths), 0) < capsules.joint_depth - _HIDING_MARGIN
    return (x > -0.5) & (x < size - 0.5) & (y > -0.5) & (y < size - 0.5) & ~hidden


def _figure(identity, capsules, camera, size):
    """Return colour times cover [3, S, S] and cover [S, S] of the figure, S = 2 * size."""
    at = jnp.arange(2 * size) / 2 - 0.25
    y, x = jnp.meshgrid(at, at, indexing="ij")
    part, depth, t, nx, ny = _nearest(capsules, x, y)
    cover = part >= 0
    depth = jnp.where(cover, depth, 1.0)
    # Back to metres in camera axes, then into the part's own coordinates, where the cloth lives.
    middle = size * (camera.center + camera.shake) - 0.5
    scale = depth / (size * camera.focal)
    seen = (x - middle[0]) * scale, (middle[1] - y) * scale, -depth
    index = jnp.maximum(part, 0)
    cloths = (identity.materials[_CLOTHS[:, i]] for i in range(2))
    table = [capsules.zero, capsules.frame.reshape(-1, 9), capsules.cut[:, None], *cloths]
    # Look up by a product with one-hot columns: several times faster than a gather on CPUs.
    chosen = (jnp.arange(len(PARTS))[:, None, None] == index).astype(jnp.float32)
    found = _einsum("pf,pyx->fyx", jnp.concatenate(table, -1), chosen)
    zero, axes, limit, first, second = jnp.split(found, [3, 12, 13, 13 + MATERIAL_SIZE])
    local = [sum((seen[j] - zero[j]) * axes[3 * j + k] for j in range(3)) for k in range(3)]
    color = _paint(jnp.where(t < limit, first, second), local)
    color = _badge(identity, index, local, color)
    color = _face(identity, index, local, color)
    facing = jnp.sqrt(jnp.maximum(1.0 - nx * nx - ny * ny, 0.0))
    lit = nx * identity.light[0] - ny * identity.light[1] + facing * identity.light[2]
    shade = identity.ambient + (1.1 - identity.ambient) * jnp.clip(0.25 + 0.75 * lit, 0.0, 1.0)
    shade = shade * (0.72 + 0.28 * facing)  # darker rims tell limbs of one colour apart
    return jnp.where(cover, color * shade, 0.0), cover.astype(jnp.float32)


def _paint(rows, local):
    """Colour [3, S, S] by material rows [MATERIAL_SIZE, S, S] at local coordinates in metres."""

    def wave(at):  # a triangle of period 1: cheaper than a sine, and as good
        phase = sum(rows[at + k] * local[k] for k in range(3))
        return 4 * jnp.abs(phase - jnp.round(phase)) - 1

    first, second = wave(6), wave(9)
    plain, striped, checked = (rows[12] < limit for limit in (0.5, 1.5, 2.5))
    level = jnp.select(
        [plain, striped, checked], [-1.0, first, first * second], 0.8 * (first + second) - 0.6
    )
    return rows[:3] + jnp.clip(0.5 + 2.5 * level, 0.0, 1.0) * (rows[3:6] - rows[:3])


def _badge(identity, index, local, color):
    width, height, level = identity.badge[:3]
    trunk = functools.reduce(jnp.logical_or, [index == i for i in _TRUNK])
    across, up = local[0] / jnp.maximum(width, 1e-3), (local[1] - level) / height
    on = trunk & (local[2] > 0.02) & (across**2 + up**2 < 1) & (width > 0)
    return jnp.where(on, identity.badge[3:, None, None], color)


def _face(identity, index, local, color):
    """Paint hair over the back and top of the head, eyes and a mouth in front."""
    x, y, z = (c / 0.105 for c in local)
    head = index == _NAMES.index("head")
    hair = 0.6 * y - 0.8 * z > identity.hairline
    eyes = (z > 0) & ((jnp.abs(x) - 0.38) ** 2 + (y - 0.05) ** 2 < 0.13**2)
    mouth = (z > 0) & (x**2 / 0.08 + (y + 0.6) ** 2 / 0.01 < 1)
    for where, paint in (
        (mouth, jnp.array([0.65, 0.25, 0.22])),
        (eyes, jnp.full(3, 0.12)),
        (hair, identity.materials[MATERIALS.index("hair"), :3]),
    ):
        color = jnp.where(head & where, paint[:, None, None], color)
    return color


def _smooth(grid, rows, columns):
    """Read a coarse grid [g, g, 3] bilinearly at picture shares rows [H] and columns [W]."""
    knots = jnp.linspace(-0.05, 1.05, grid.shape[0])
    hat = lambda at: jnp.maximum(0, 1 - jnp.abs(at[:, None] - knots) / (knots[1] - knots[0]))  # noqa: E731
    return _einsum("yg,ghc,xh->yxc", hat(rows), grid, hat(columns))


def _room(identity, camera, size):
    """Return the picture [H, W, 3] without the person."""
    at = (jnp.arange(size) + 0.5) / size
    rows, columns = at - camera.shake[1], at - camera.shake[0]
    y, x = rows[:, None], columns[None]
    foot = _pixels(camera, size, _view(camera, jnp.stack([0.0, 0.0, -1.0]) * identity.wall))[1]
    floor = jnp.clip(jnp.arange(size) - foot + 0.5, 0.0, 1.0)[:, None, None]
    wall, ground = identity.room
    color = jnp.broadcast_to(wall * (1.1 - 0.25 * y[..., None]), (size, size, 3))
    for shape in identity.clutter:
        color = _add_shape(color, shape, x, y, size)
    color = color + floor * (ground * (0.75 + 0.35 * y[..., None]) - color)
    return color + _smooth(identity.coarse, rows, columns) + _smooth(identity.fine, rows, columns)


def _add_shape(color, shape, x, y, size):
    """Paint one row of `Identity.clutter` or `.occluders` over [H, W, 3] at picture shares x, y."""
    inside, u = _in_shape(shape, x, y, size)
    stripes = 1 + 0.15 * jnp.where(shape[9] > 40, jnp.sin(shape[9] * u), 0.0)
    return color + inside[..., None] * (shape[6:9] * stripes[..., None] - color)


def _in_shape(shape, x, y, size):
    """Return how much of the pixels at x, y the shape covers, and their place along it."""
    u, v = x - shape[0], y - shape[1]
    cos, sin = jnp.cos(shape[4]), jnp.sin(shape[4])
    along, v = cos * u + sin * v, cos * v - sin * u
    u, v = along / shape[2], v / shape[3]
    square = jnp.maximum(jnp.abs(u), jnp.abs(v))
    reach = jnp.where(shape[5] < 0.3, jnp.hypot(u, v), square)
    half = jnp.minimum(shape[2], shape[3])
    return jnp.clip((1 - reach) * size * half + 0.5, 0.0, 1.0), along


def _occlude(identity, camera, image, joints, visible):
    """Put the things before the person into the picture, and hide the joints behind them."""
    size = image.shape[0]
    at = (jnp.arange(size) + 0.5) / size
    y, x = (at - camera.shake[1])[:, None], (at - camera.shake[0])[None]
    places = (joints + 0.5) / size - camera.shake
    for shape in identity.occluders:
        there = shape[2] > 0
        safe = jnp.where(there, shape, 1.0)  # a shape of no size would divide by it
        image = jnp.where(there, _add_shape(image, safe, x, y, size), image)
        hidden = _in_shape(safe, places[:, 0], places[:, 1], size)[0] > 0.5
        visible &= ~(there & hidden)
    return image, visible


def _shadow(pose, camera, size):
    """Return the share of light [H, W] that the ground keeps around the feet."""
    ground = jnp.stack([pose.position[0], 0.0, pose.position[1]])
    center = _pixels(camera, size, _view(camera, ground))
    edges = _view(camera, ground + jnp.array([[0.38, 0.0, 0.0], [0.0, 0.0, 0.34]]))
    reach = jnp.abs(_pixels(camera, size, edges) - center)
    at = jnp.arange(size, dtype=jnp.float32)
    u, v = (at - center[0]) / reach[0, 0], (at - center[1]) / jnp.maximum(reach[1, 1], 0.02 * size)
    return 1 - 0.55 * jnp.exp(-(u[None] ** 2 + v[:, None] ** 2))


def _respond(identity, key, image):
    """Apply the subject's camera: tint, contrast, gamma, blur and noise; [H, W, 3] in 0..1."""
    size = image.shape[0]
    image = jnp.clip(image * identity.gain, 0.0, 1.0) ** identity.gamma
    image = 0.5 + identity.contrast * (image - 0.5)
    at = jnp.arange(size, dtype=jnp.float32)
    sigma = jnp.maximum(identity.blur * size / 100, 0.05)
    band = jnp.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2)
    band = band / band.sum(1, keepdims=True)
    image = _einsum("yi,ijc,xj->yxc", band, image, band)
    grain = jax.random.uniform(
        jax.random.wrap_key_data(key), image.shape, minval=-1.73, maxval=1.73
    )  # unit variance
    return jnp.clip(image + identity.grain * grain, 0.0, 1.0)


def render(identity: Identity, pose: Pose, camera: Camera, size: int):
    """Draw one picture: (uint8 [size, size, 3], joints [13, 2] in pixels, visible bool [13]).

    A joint is visible when it lies in the picture and no part lies clearly (3 cm) in front of it,
    apart from the parts that meet there: a shoulder is never hidden by the trunk or its own arm,
    a far wrist behind the trunk is. A thing before the person hides what it covers.
    """
    capsules = _project(identity, pose, camera, size)
    colors, cover = _figure(identity, capsules, camera, size)
    figure = jnp.concatenate([colors, cover[None]])
    quarters = (figure[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
    figure = sum(quarters, start=jnp.zeros(())) / 4
    room = _room(identity, camera, size) * _shadow(pose, camera, size)[..., None]
    image = jnp.clip(room, 0.0, 1.0) * (1 - figure[3, ..., None]) + jnp.moveaxis(figure[:3], 0, -1)
    visible = _visible(capsules, size)
    image, visible = _occlude(identity, camera, image, capsules.joints, visible)
    image = _respond(identity, pose.key, image)
    image = jnp.round(255 * image).astype(jnp.uint8)
    return image, capsules.joints, visible


def part_map(identity: Identity, pose: Pose, camera: Camera, size: int) -> jax.Array:
    """Return the index into `PARTS` that each pixel [size, size] shows; -1 is the room."""
    capsules = _project(identity, pose, camera, size)
    y, x = jnp.meshgrid(*2 * [jnp.arange(size, dtype=jnp.float32)], indexing="ij")
    return _nearest(capsules, x, y)[0]


def person_box(identity: Identity, pose: Pose, camera: Camera, size: int, slack=0.0) -> jax.Array:
    """Return the box x1, y1, x2, y2 of all parts in pixels; it may reach outside the picture.

    Args:
      slack: scalar or [4], widens each side by this share of the longer side.
    """
    capsules = _project(identity, pose, camera, size)
    reach = capsules.reach[..., None]
    low, high = (capsules.ends - reach).min((0, 1)), (capsules.ends + reach).max((0, 1))
    box = jnp.concatenate([low, high])
    longer = jnp.maximum(box[2] - box[0], box[3] - box[1])
    return box + jnp.array([-1, -1, 1, 1]) * slack * longer


def sample_camera(key: jax.Array, identity: Identity, poses: Pose) -> Camera:
    """Draw a camera for a clip, framed on all its poses; leaves get a leading [T]."""
    draw = _Draw(key)
    frames = len(poses.yaw)
    each = lambda value: jnp.broadcast_to(value, (frames, *jnp.shape(value)))  # noqa: E731
    trial = Camera(
        focal=each(1.0),
        center=each(jnp.zeros(2)),
        shake=each(jnp.zeros(2)),
        pitch=each(draw.uniform(-0.02, 0.22)),
        distance=each(draw.uniform(3.2, 6.0)),
    )
    boxes = jax.vmap(functools.partial(person_box, identity, size=1))(poses, trial) + 0.5
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(-1)
    zoom = jnp.minimum(draw.uniform(0.68, 0.8) / longer.mean(), 0.94 / longer.max())
    middle = 0.5 * (boxes[:, :2].min(0) + boxes[:, 2:].max(0))
    # The trunk moves the crop down by 7.5 % of the box, so room below spares the crop a black rim.
    center = 0.5 + jnp.array([0.0, -0.02]) + 0.02 * draw.normal((2,)) - zoom * middle
    shake = 0.004 * draw.normal((frames, 2))
    return trial._replace(focal=each(zoom), center=each(center), shake=shake)


# ---------------------------------------------------------------------------------------------
# Clips


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
    """Draw subject `index` of a split with its poses and cameras; these have a leading [T]."""
    train = split == "train"
    shifted = spec.shifted and not train
    number = SPLITS.index(split)
    return _sample(spec.seed, number, index, train, shifted, spec.varied, frames=spec.frames(split))


class Film(NamedTuple):
    """One subject's clip as rendered, with any points of the body.

    Fields: frames uint8 [T, S, S, 3]; boxes [T, 4], visible bool [T, 13] as in `Clip`; points
    [T, Q, 2] in pixels and their depth [T, Q] in metres before the camera; scale [T], pixels per
    metre at the root.
    """

    frames: np.ndarray
    boxes: np.ndarray
    visible: np.ndarray
    points: np.ndarray
    depth: np.ndarray
    scale: np.ndarray


def film(spec: Spec, split: str, index: int, names: Sequence[str]) -> Film:
    """Render subject `index` of a split, with the points `names` of `points_3d`."""
    frames, _, visible, boxes = (rows[0] for rows in _render_clips(spec, split, [index]))
    drawn = sample_clip(spec, split, index)
    found = jax.device_get(_film_points(*drawn, size=spec.image_size, names=tuple(names)))
    return Film(frames, boxes, visible, *found)


@functools.partial(jax.jit, static_argnames=("size", "names"))
def _film_points(identity, poses, cameras, size, names):
    def frame(pose, camera):
        seen = _view(camera, points_3d(identity, pose, ("root", *names)))
        depth = -seen[:, 2]
        return _pixels(camera, size, seen)[1:], depth[1:], size * camera.focal / depth[0]

    return jax.vmap(frame)(poses, cameras)


@functools.partial(jax.jit, static_argnames="size")
def _render_frames(identities, poses, cameras, size):
    def frame(args):
        identity, pose, camera = args
        box = person_box(identity, pose, camera, size, identity.slack)
        return *render(identity, pose, camera, size), box

    # One frame at a time stays in a CPU's cache: less work than a vmap over the batch.
    return jax.lax.map(frame, (identities, poses, cameras))


def _render_clips(spec, split, indices):
    """Return images, joints, visible and boxes [n, T, ...] of some subjects."""
    frames = spec.frames(split)
    drawn = [jax.device_get(sample_clip(spec, split, int(index))) for index in indices]
    identities, poses, cameras = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    identities = jax.tree.map(lambda leaf: np.repeat(leaf, frames, 0), identities)
    poses, cameras = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (poses, cameras))
    rendered = jax.device_get(_render_frames(identities, poses, cameras, spec.image_size))
    return [x.reshape(len(indices), frames, *x.shape[1:]) for x in rendered]


def _threaded(spec, split, batches):
    """Yield rendered batches in order, one per core at a time: a batch keeps one core busy."""
    work = functools.partial(_render_clips, spec, split)
    yield work(batches[0])  # compiles
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        group = 4 * (os.cpu_count() or 1)  # so that finished pictures don't pile up
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
        with tqdm(total=count * length, desc=f"rendering {split}", unit="frame") as bar:
            # All batches have one shape, so they compile once; the last repeats a clip.
            starts = range(0, count, batch)
            indices = [np.minimum(np.arange(batch) + start, count - 1) for start in starts]
            for start, (images, *rest) in zip(starts, _threaded(spec, split, indices), strict=True):
                rows = slice(start, min(start + batch, count))
                fresh = rows.stop - rows.start
                store[rows] = images[:fresh]
                for name, value in zip(labels, rest, strict=True):
                    labels[name][rows] = value[:fresh]
                bar.update(fresh * length)
        store.flush()

    def write_labels(path):
        with open(path, "wb") as file:
            np.savez(file, **labels)

    write_atomically(frames_path, write_frames)
    write_atomically(labels_path, write_labels)


def _load_split(spec, split, frames_path, labels_path):
    """Memory-map a rendered split; None if a file is missing, cut short or of another shape."""
    shape = (getattr(spec, split), spec.frames(split))
    try:
        frames = np.load(frames_path, mmap_mode="r")
        with open(labels_path, "rb") as file, np.load(file) as rows:
            labels = {name: rows[name] for name in ("boxes", "joints", "visible")}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    arrays = [frames, *labels.values()]
    return (frames, labels) if all(a.shape[:2] == shape for a in arrays) else None


def _read(frames, index):
    return np.array(frames[index])


def clips(spec: Spec, cache_dir: str | os.PathLike) -> list[Clip]:
    """Return the clips of all splits, rendering what `cache_dir` doesn't hold yet.

    Damaged files are rendered anew. The files' names carry a hash of what the split depends on and
    of the renderer's version; a .json beside them says what that is. So more test people don't cost
    the training people again.
    """
    cache = pathlib.Path(cache_dir)
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
    """Everything that the bytes of a split follow from, as JSON."""
    own = {
        "renderer": RENDERER_VERSION,
        "split": split,
        "subjects": getattr(spec, split),
        "frames": spec.frames(split),
        **{field: getattr(spec, field) for field in ("seed", "image_size", "preset")},
    }
    return json.dumps(own, indent=1)


def contact_sheet(
    clips: Sequence[Clip],
    path: str | os.PathLike | None = None,
    *,
    rows: int = 8,
    columns: int = 8,
    zoom: int = 3,
    joints: bool = True,
) -> np.ndarray:
    """Lay out clips (rows) by frames (columns), enlarged; return RGB uint8 [H, W, 3].

    Args:
      path: also written there as a picture, if given.
      joints: draw limbs and joints (hidden ones hollow) and the box.
    """
    lines = []
    for clip in clips[:rows]:
        tiles = []
        for t in np.linspace(0, clip.num_frames - 1, columns).round().astype(int):
            tile = cv2.resize(clip.read(t), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            tiles.append(_draw_labels(tile, clip, t, zoom) if joints else tile)
        lines.append(np.concatenate(tiles, 1))
    sheet = np.concatenate(lines, 0)
    if path is not None:
        cv2.imwrite(os.fspath(path), sheet[..., ::-1])
    return sheet


def _draw_labels(tile, clip, t, zoom):
    at = lambda point: tuple(int(v) for v in np.round((point + 0.5) * zoom - 0.5))  # noqa: E731
    points = [at(point) for point in clip.joints[t]]
    colors = [tuple(int(v) for v in color) for color in PENN13.colors]
    cv2.rectangle(tile, at(clip.boxes[t, :2]), at(clip.boxes[t, 2:]), (255, 255, 255), 1)
    for a, b in PENN13.limbs:
        cv2.line(tile, points[a], points[b], colors[b], 1, cv2.LINE_AA)
    for point, color, seen in zip(points, colors, clip.visible[t], strict=True):
        cv2.circle(tile, point, zoom, color, -1 if seen else 1, cv2.LINE_AA)
    return tile
