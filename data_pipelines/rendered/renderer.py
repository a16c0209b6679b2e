"""One picture of one rendered person, and its labels.

All functions are pure, take one `Identity`, `Pose` and `Camera`, and work under jit and vmap.
"""

import functools

import jax
import jax.numpy as jnp

from data_pipelines.rendered.bodies import (
    CLOTHS,
    OWNED,
    PART_NAMES,
    PARTS,
    TRUNK,
    einsum,
    pixels,
    project,
    view,
)
from data_pipelines.rendered.identities import MATERIAL_SIZE, MATERIALS, Identity
from data_pipelines.rendered.motions import Camera, Pose

# Part of the cache's file names. Increase it whenever the same spec would give different bytes.
RENDERER_VERSION = 4
HIDING_MARGIN = 0.03  # metres that a part must be in front of a joint to hide it


def _hit(capsules, i, x, y):
    """Intersect part i at pixels x, y: (inside, depth in metres, t along its axis, normal x, y)."""
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
    inside &= (along < 1.0) | (i != PART_NAMES.index("skirt"))  # a skirt's end is flat, not round
    return inside, between(capsules.depth) - between(capsules.radii) * bulge, t, nx, ny


def _nearest(capsules, x, y):
    """Return (part or -1, depth, t, normal x, y) of the frontmost part at pixels x, y."""

    def add(i, best):
        inside, depth, *rest = _hit(capsules, i, x, y)
        front = inside & (depth < best[1])
        return [
            jnp.where(front, new, old) for new, old in zip([i, depth, *rest], best, strict=True)
        ]

    # A loop, because XLA would fuse an unrolled search into each of the many uses of its result.
    blank = [jnp.full(x.shape, -1), jnp.full(x.shape, jnp.inf)] + 3 * [jnp.zeros(x.shape)]
    return jax.lax.fori_loop(0, len(PARTS), add, blank)


def _visible(capsules, size):
    x, y = capsules.joints[:, 0], capsules.joints[:, 1]
    depths = []
    for i in range(len(PARTS)):
        inside, depth, *_ = _hit(capsules, i, x, y)
        depths.append(jnp.where(inside & ~OWNED[:, i], depth, jnp.inf))
    hidden = jnp.min(jnp.stack(depths), 0) < capsules.joint_depth - HIDING_MARGIN
    return (x > -0.5) & (x < size - 0.5) & (y > -0.5) & (y < size - 0.5) & ~hidden


def _figure(identity, capsules, camera, size):
    """Return colour times coverage [3, S, S] and coverage [S, S] of the person, S = 2 * size."""
    at = jnp.arange(2 * size) / 2 - 0.25
    y, x = jnp.meshgrid(at, at, indexing="ij")
    part, depth, t, nx, ny = _nearest(capsules, x, y)
    cover = part >= 0
    depth = jnp.where(cover, depth, 1.0)
    # Back to metres in camera axes, then to the part's own coordinates, in which cloth is defined.
    middle = size * (camera.center + camera.shake) - 0.5
    scale = depth / (size * camera.focal)
    seen = (x - middle[0]) * scale, (middle[1] - y) * scale, -depth
    index = jnp.maximum(part, 0)
    cloths = (identity.materials[CLOTHS[:, i]] for i in range(2))
    table = [capsules.zero, capsules.frame.reshape(-1, 9), capsules.cut[:, None], *cloths]
    # Look up by a product with one-hot columns, which is several times faster than a gather on CPU.
    chosen = (jnp.arange(len(PARTS))[:, None, None] == index).astype(jnp.float32)
    found = einsum("pf,pyx->fyx", jnp.concatenate(table, -1), chosen)
    zero, axes, limit, first, second = jnp.split(found, [3, 12, 13, 13 + MATERIAL_SIZE])
    local = [sum((seen[j] - zero[j]) * axes[3 * j + k] for j in range(3)) for k in range(3)]
    color = _paint(jnp.where(t < limit, first, second), local)
    color = _badge(identity, index, local, color)
    color = _face(identity, index, local, color)
    facing = jnp.sqrt(jnp.maximum(1.0 - nx * nx - ny * ny, 0.0))
    lit = nx * identity.light[0] - ny * identity.light[1] + facing * identity.light[2]
    shade = identity.ambient + (1.1 - identity.ambient) * jnp.clip(0.25 + 0.75 * lit, 0.0, 1.0)
    shade = shade * (0.72 + 0.28 * facing)  # darker edges separate limbs of the same colour
    return jnp.where(cover, color * shade, 0.0), cover.astype(jnp.float32)


def _paint(rows, local):
    """Return colours [3, S, S] of materials [MATERIAL_SIZE, S, S] at coordinates in metres."""

    def wave(at):  # a triangle wave of period 1, cheaper than a sine and as good
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
    trunk = functools.reduce(jnp.logical_or, [index == i for i in TRUNK])
    across, up = local[0] / jnp.maximum(width, 1e-3), (local[1] - level) / height
    on = trunk & (local[2] > 0.02) & (across**2 + up**2 < 1) & (width > 0)
    return jnp.where(on, identity.badge[3:, None, None], color)


def _face(identity, index, local, color):
    """Paint hair on the back and top of the head, and eyes and a mouth on the front."""
    x, y, z = (c / 0.105 for c in local)
    head = index == PART_NAMES.index("head")
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
    """Sample a coarse grid [g, g, 3] bilinearly at rows [H] and columns [W] in picture sides."""
    knots = jnp.linspace(-0.05, 1.05, grid.shape[0])
    hat = lambda at: jnp.maximum(0, 1 - jnp.abs(at[:, None] - knots) / (knots[1] - knots[0]))  # noqa: E731
    return einsum("yg,ghc,xh->yxc", hat(rows), grid, hat(columns))


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
    """Paint a row of `Identity.clutter` or `.occluders` over [H, W, 3]; x, y in picture sides."""
    inside, u = _in_shape(shape, x, y, size)
    stripes = 1 + 0.15 * jnp.where(shape[9] > 40, jnp.sin(shape[9] * u), 0.0)
    return color + inside[..., None] * (shape[6:9] * stripes[..., None] - color)


def _in_shape(shape, x, y, size):
    """Return how much of the pixels at x, y the shape covers, and their position along it."""
    u, v = x - shape[0], y - shape[1]
    cos, sin = jnp.cos(shape[4]), jnp.sin(shape[4])
    along, v = cos * u + sin * v, cos * v - sin * u
    u, v = along / shape[2], v / shape[3]
    square = jnp.maximum(jnp.abs(u), jnp.abs(v))
    reach = jnp.where(shape[5] < 0.3, jnp.hypot(u, v), square)
    half = jnp.minimum(shape[2], shape[3])
    return jnp.clip((1 - reach) * size * half + 0.5, 0.0, 1.0), along


def _occlude(identity, camera, image, joints, visible):
    """Paint the things in front of the person, and hide the joints behind them."""
    size = image.shape[0]
    at = (jnp.arange(size) + 0.5) / size
    y, x = (at - camera.shake[1])[:, None], (at - camera.shake[0])[None]
    places = (joints + 0.5) / size - camera.shake
    for shape in identity.occluders:
        there = shape[2] > 0
        safe = jnp.where(there, shape, 1.0)  # a shape of size 0 would cause a division by 0
        image = jnp.where(there, _add_shape(image, safe, x, y, size), image)
        hidden = _in_shape(safe, places[:, 0], places[:, 1], size)[0] > 0.5
        visible &= ~(there & hidden)
    return image, visible


def _shadow(pose, camera, size):
    """Return the share of light [H, W] that reaches the ground around the feet."""
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
    image = einsum("yi,ijc,xj->yxc", band, image, band)
    grain = jax.random.uniform(
        jax.random.wrap_key_data(key), image.shape, minval=-1.73, maxval=1.73
    )  # unit variance
    return jnp.clip(image + identity.grain * grain, 0.0, 1.0)


def render(identity: Identity, pose: Pose, camera: Camera, size: int):
    """Draw one picture: (uint8 [size, size, 3], joints [13, 2] in pixels, visible bool [13]).

    A joint is visible if it lies in the picture and no part is clearly (3 cm) in front of it, apart
    from the parts that meet there. So a shoulder is never hidden by the trunk or its own arm, but a
    far wrist behind the trunk is. A thing in front of the person hides what it covers.
    """
    capsules = project(identity, pose, camera, size)
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
