"""How the rendered people move: poses and cameras, drawn from keys.

Body and world axes are right-handed: x to the person's left, y up, z to the front, in metres. The
camera looks along -z, so yaw 0 faces it. Captured motions come from a file that `mocap` made. If a
change here changes any number, increase `renderer.RENDERER_VERSION`.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.rendered.draws import Draw

SPLITS = ("train", "val", "test")

ANGLES = (
    "lean", "roll", "twist", "side", "bend", "neck_yaw", "neck_pitch",
    "left_shoulder_flex", "left_shoulder_abduct", "left_shoulder_twist", "left_elbow",
    "right_shoulder_flex", "right_shoulder_abduct", "right_shoulder_twist", "right_elbow",
    "left_hip_flex", "left_hip_abduct", "left_hip_twist", "left_knee",
    "right_hip_flex", "right_hip_abduct", "right_hip_twist", "right_knee",
)  # fmt: skip
_SWAP = np.array([*range(7), *range(11, 15), *range(7, 11), *range(19, 23), *range(15, 19)])
_SIGN = np.array([1, -1, -1, -1, 1, -1, 1] + 16 * [1])  # -1 for rotations that a mirror reverses
_LOW = np.deg2rad(
    [-15, -25, -60, -30, -20, -50, -30] + 2 * [-50, 0, -90, 5] + 2 * [-30, -5, -40, 2]
)
_HIGH = np.deg2rad([50, 25, 60, 30, 70, 50, 40] + 2 * [175, 165, 80, 145] + 2 * [110, 60, 60, 135])
# How far each angle may stray from its motion, from degrees.
_WANDER = np.deg2rad([5, 4, 10, 6, 6, 18, 9] + 2 * [20, 12, 22, 18] + 2 * [6, 5, 8, 8])


def _motion(**angles):
    """Return means and swings in radians, and phases in cycles [3, 23], from degrees and cycles.

    `both_x` stands for left_x and right_x in step, `turn_x` for both half a cycle apart.
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

# Angles and yaw of captured motions, int16 multiples of MOTION_STEP; `mocap` wrote the file.
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
    """The pose of a body at one moment."""

    angles: jax.Array  # [23] radians, in the order of `ANGLES`
    yaw: jax.Array  # radians; 0 faces the camera, positive turns to the person's left
    position: jax.Array  # [2] metres on the ground, x and z
    key: jax.Array  # key data of the sensor noise, uint32 [2]: numpy can stack it


class Camera(NamedTuple):
    """A perspective camera on the person's level; lengths are in picture sides unless noted."""

    focal: jax.Array
    center: jax.Array  # [2] where the optical axis meets the picture
    shake: jax.Array  # [2] moves the person and the room alike
    pitch: jax.Array  # radians, positive looks down
    distance: jax.Array  # metres


@functools.cache
def _captured():
    """Return captured motions by split: angles and yaw [split, clip, frame, 24], and lengths."""
    with np.load(MOTIONS_FILE) as file:
        clips = {name: file[name] * np.float32(MOTION_STEP) for name in file.files}
    longest = max(map(len, clips.values()))
    most = max(map(len, CAPTURED.values()))
    angles = np.zeros((len(SPLITS), most, longest, len(ANGLES) + 1), np.float32)
    lengths = np.zeros((len(SPLITS), most), np.int32)
    for s, split in enumerate(SPLITS):
        for c in range(most):  # clips of a split that has fewer are repeated
            clip = clips[CAPTURED[split][c % len(CAPTURED[split])]]
            angles[s, c, : len(clip)], lengths[s, c] = clip, len(clip)
    return angles, lengths


def _replayed(draw, seconds, split):
    """Draw a captured motion of a split, and play it back and forth at `seconds`: rows [T, 24]."""
    angles, lengths = _captured()
    clip = draw.integer(angles.shape[1])
    last = jnp.asarray(lengths)[split, clip] - 1
    step = draw.uniform(0.7, 1.3) * MOTIONS_PER_SECOND
    at = jnp.round(seconds * step + draw.uniform(0.0, 1.0) * last).astype(jnp.int32)
    at = last - jnp.abs(at % (2 * last) - last)
    return jnp.asarray(angles)[split, clip][at]


def _combination(draw, split, own):
    """Draw the numbers of an upper and a lower motion.

    With `own`, every fifth combination belongs to val (even upper motions) or test (odd ones), the
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
      varied: whether each split has motions of its own, half of them captured (see
        `synthetic.Spec.preset`).
    """
    draw = Draw(key)
    upper, lower = _combination(draw, split, varied)
    upper, lower = jnp.asarray(_UPPER)[upper], jnp.asarray(_LOWER)[lower]
    mean, swing, phase = jnp.where(jnp.arange(len(ANGLES)) < _FIRST_LEG, upper, lower)
    # A squat leans forward to keep its balance, whatever the arms do.
    mean, swing = mean.at[0].add(lower[0, 0]), swing.at[0].add(lower[1, 0])
    beat = draw.uniform(0.35, 0.8)  # Hz
    legs = jnp.where(draw.chance(0.7), 1.0, draw.uniform(0.6, 1.5))  # mostly in step with the arms
    rate = beat * jnp.where(jnp.arange(len(ANGLES)) < _FIRST_LEG, 1.0, legs)
    swing = swing * draw.uniform(0.7, 1.25)
    t = seconds[:, None]
    regular = mean + swing * jnp.sin(2 * jnp.pi * (rate * t + phase + draw.uniform(0, 1)))
    # An offset for the clip and three slow waves make all clips of a motion different.
    hertz = draw.uniform(0.05, 0.5, (3, len(ANGLES)))
    waves = jnp.sin(2 * jnp.pi * (hertz * t[:, None] + draw.uniform(0, 1, hertz.shape))).sum(1)
    angles = regular + jnp.asarray(_WANDER) * (0.5 * waves + 0.7 * draw.normal((len(ANGLES),)))
    mirrored = angles[:, _SWAP] * _SIGN
    mirror = draw.chance(0.5)
    angles = jnp.clip(jnp.where(mirror, mirrored, angles), _LOW, _HIGH)
    # Most people roughly face the camera; the others face any direction.
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
