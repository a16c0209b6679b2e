"""Draw one figure: its body in 3-D, that body before the camera, the picture and its labels.

All functions are pure, of one `Identity`, `Pose` and `Camera` of `figures` (whose axes hold here
too), and work under jit and vmap; `render` is the one that makes a picture.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.figures import ANGLES, BONES, MATERIAL_SIZE, MATERIALS, Camera, Identity, Pose
from ttp_jax.skeletons import PENN13

# Part of the cache's file names: raise it whenever the same spec would give other bytes.
RENDERER_VERSION = 4


# ---------------------------------------------------------------------------------------------
# Body

_O = (0.0, 0.0, 0.0)


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


def view(camera, points):
    """Turn world points [..., 3] into camera axes: x right, y up, -z forward, metres."""
    moved = _einsum("ij,...j->...i", _tilt(camera), points - jnp.array([0.0, 0.9, 0.0]))
    return moved - jnp.array([0.0, 0.0, 1.0]) * camera.distance


def pixels(camera, size, seen):
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
    a, b, zero = (view(camera, x) for x in (a, b, zero))
    joints = view(camera, points[_at(PENN13.joints)])
    ends = jnp.stack([a, b])
    depth = -ends[..., 2]
    return _Capsules(
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
    foot = pixels(camera, size, view(camera, jnp.stack([0.0, 0.0, -1.0]) * identity.wall))[1]
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
    center = pixels(camera, size, view(camera, ground))
    edges = view(camera, ground + jnp.array([[0.38, 0.0, 0.0], [0.0, 0.0, 0.34]]))
    reach = jnp.abs(pixels(camera, size, edges) - center)
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
