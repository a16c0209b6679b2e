"""The body of a rendered person: in space, then as a camera sees it.

All functions are pure, take one `Identity`, `Pose` and `Camera`, and work under jit and vmap. Axes
are those of `motions`. If a change here changes any number, increase `renderer.RENDERER_VERSION`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.rendered.identities import BONES, MATERIALS, Identity
from data_pipelines.rendered.motions import ANGLES, Camera, Pose
from ttp_jax.skeletons import PENN13

_O = (0.0, 0.0, 0.0)


def _frames():
    """List the body's frames of reference: (name, parent, turns in order about x, y or z).

    The angle of a turn is a weighted sum of named angles.
    """
    rows = [
        ("pelvis", None, [("y", {"yaw": 1}), ("z", {"roll": 1}), ("x", {"lean": 1})]),
        ("chest", "pelvis", [("y", {"twist": 1}), ("z", {"side": 1}), ("x", {"bend": 1})]),
        # Legs hang down even if the pelvis leans; otherwise a lean would be a fall.
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
            # Keep the soles nearly level.
            (f"{side}_foot", f"{side}_shin",
             [("x", {f"{side}_hip_flex": 0.75, f"{side}_knee": -0.75})]),
        ]  # fmt: skip
    return rows


def _points():
    """List the body's points: (name, parent, frame, bone, bone's direction, offset in metres)."""
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


class Part(NamedTuple):
    """A tapered capsule. Its cloth is anchored to `frame`, with the pattern's origin at `zero`.

    The material `first` covers the share `cut` of its length, `second` the rest. `joints` lie
    inside the part, so it never hides them.
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
    return tuple(Part(*row) for row in rows)


PARTS = _parts()
PART_NAMES = [part.name for part in PARTS]
TRUNK = [PART_NAMES.index(name) for name in ("chest", "shoulders", "left_flank", "right_flank")]
CLOTHS = np.array([[MATERIALS.index(part.first), MATERIALS.index(part.second)] for part in PARTS])
OWNED = np.array([[joint in part.joints for part in PARTS] for joint in PENN13.joints])  # [13, P]
# How much loose trousers widen the two ends of a part.
_FLARE = np.array(
    [
        {"thigh": (0.15, 0.4), "shin": (0.4, 1.0)}.get(name.split("_")[-1], (0, 0))
        for name in PART_NAMES
    ]
).T
# Points that may touch the ground, and how far they stay above it, in metres.
_GROUNDED = {
    **dict.fromkeys(("left_heel", "left_toe", "right_heel", "right_toe"), 0.04),
    **dict.fromkeys(("left_hand", "right_hand", "left_knee", "right_knee"), 0.04),
    **dict.fromkeys(("left_elbow", "right_elbow", "root", "neck", "head"), 0.1),
}


class _Tree(NamedTuple):
    """The body as constant arrays. A pose then takes a few matrix products, which compile fast."""

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
# With TF32 matrix products, the default on GPUs, the limbs would bend.
einsum = functools.partial(jnp.einsum, precision="highest")


def _product(a, b):
    """Multiply small matrices [..., i, j] and [..., j, k]; batched dots fail in XLA 0.10."""
    return (a[..., None] * b[..., None, :, :]).sum(-2)


def _at(names):
    return np.array([_POINT_NAMES.index(name) for name in names])


def _body(identity, pose):
    """Return all points [len(_POINT_NAMES), 3] in world metres and frames [F, 3, 3] in columns."""
    angle = einsum("fka,a->fk", _TREE.turns, jnp.append(pose.angles, pose.yaw))[..., None, None]
    square = _TREE.spin @ _TREE.spin
    turn = jnp.eye(3) + jnp.sin(angle) * _TREE.spin + (1 - jnp.cos(angle)) * square
    local = _product(_product(turn[:, 0], turn[:, 1]), turn[:, 2])
    frames = local
    for these, parents in _TREE.levels:
        frames = frames.at[these].set(_product(frames[parents], local[these]))
    steps = einsum("qib,b->qi", _TREE.bone, identity.bones) + _TREE.fixed
    steps = _product(frames[_TREE.step_frame], steps[..., None])[..., 0]
    points = einsum("pq,qi->pi", _TREE.sum, steps)
    # The lowest point, usually a foot, rests on the ground.
    lift = (np.array([*_GROUNDED.values()]) - points[_at(_GROUNDED), 1]).max()
    return points + jnp.stack([pose.position[0], lift, pose.position[1]]), frames


def points_3d(identity: Identity, pose: Pose, names: Sequence[str] = PENN13.joints) -> jax.Array:
    """Return points of the body [len(names), 3] in world metres, ground at y = 0.

    Besides the joints, there are "root" (between the hips), "waist", "neck" (between the tops of
    the shoulders), "nape", and, for each side, "left_hand", "left_heel" and "left_toe".
    """
    return _body(identity, pose)[0][_at(names)]


class Capsules(NamedTuple):
    """All parts as the camera sees them, in pixels unless noted."""

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


def view(camera, points):
    """Turn world points [..., 3] into camera axes: x right, y up, -z forward, metres."""
    moved = einsum("ij,...j->...i", _tilt(camera), points - jnp.array([0.0, 0.9, 0.0]))
    return moved - jnp.array([0.0, 0.0, 1.0]) * camera.distance


def pixels(camera, size, seen):
    """Project points in camera axes [..., 3] to pixels [..., 2]."""
    offset = camera.focal * seen[..., :2] * jnp.array([1.0, -1.0]) / -seen[..., 2:]
    return size * (camera.center + camera.shake + offset) - 0.5


def project(identity, pose, camera, size):
    points, frames = _body(identity, pose)
    frames = frames[np.array([_FRAME_NAMES.index(part.frame) for part in PARTS])]
    limbs = [part.name.split("_", 1)[-1] for part in PARTS]
    # Parts that aren't worn shrink to a dot inside the body.
    worn = jnp.ones(len(PARTS)).at[PART_NAMES.index("hair")].set(identity.long_hair)
    for name in ("skirt", "hat", "backpack", "handbag"):
        worn = worn.at[PART_NAMES.index(name)].set(getattr(identity, name))
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
    a, b, zero = (view(camera, x) for x in (a, b, zero))
    joints = view(camera, points[_at(PENN13.joints)])
    ends = jnp.stack([a, b])
    depth = -ends[..., 2]
    return Capsules(
        ends=pixels(camera, size, ends),
        reach=radii * size * camera.focal / depth,
        depth=depth,
        radii=radii,
        frame=_product(_tilt(camera), frames),
        zero=zero,
        cut=jnp.stack([jnp.asarray(cover.get(limb, 2.0)) for limb in limbs]),
        joints=pixels(camera, size, joints),
        joint_depth=-joints[:, 2],
    )


def person_box(identity: Identity, pose: Pose, camera: Camera, size: int, slack=0.0) -> jax.Array:
    """Return the box x1, y1, x2, y2 of all parts in pixels; it may reach outside the picture.

    Args:
      slack: scalar or [4]; each side is widened by this share of the longer side.
    """
    capsules = project(identity, pose, camera, size)
    reach = capsules.reach[..., None]
    low, high = (capsules.ends - reach).min((0, 1)), (capsules.ends + reach).max((0, 1))
    box = jnp.concatenate([low, high])
    longer = jnp.maximum(box[2] - box[0], box[3] - box[1])
    return box + jnp.array([-1, -1, 1, 1]) * slack * longer
