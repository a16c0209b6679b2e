"""Who the rendered people are: build, clothes, light, room and camera response, drawn from keys.

If a change here changes any number, increase `renderer.RENDERER_VERSION`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.rendered.draws import Draw, hsv


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
    hat: jax.Array  # 0 or 1, like the next two
    backpack: jax.Array
    handbag: jax.Array
    loose: jax.Array  # 0 = tight trousers, 1 = twice as wide at the hem
    occluders: jax.Array  # [2, 10] shapes in front of the person, as `clutter`


MATERIALS = ("skin", "top", "bottom", "shoe", "hair", "hat", "bag")
# Two colours, stripe and check directions, kind (0 plain, 1 stripes, 2 checks, 3 dots).
MATERIAL_SIZE = 3 + 3 + 3 + 3 + 1
CLUTTER = 9
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


_PLAIN = np.zeros(7)  # a material without a pattern


def _cloth(draw, shifted):
    """Return one row of materials: two colours and a pattern in the part's own coordinates."""
    a, b = draw.color((0.05, 0.9), (0.15, 0.95)), draw.color((0.05, 0.9), (0.1, 1.0))
    kind = jnp.floor(jnp.maximum(0.0, draw.uniform(-2.4, 4.0)))  # plain in three of eight
    upright = draw.chance(0.35)
    across, along = jnp.array([0.8, 0.0, 0.6]), jnp.array([0.0, 1.0, 0.0])
    frequency = draw.uniform(5.0, 11.0)  # cycles per metre
    first = frequency * jnp.where(upright, across, along)
    second = frequency * jnp.where(upright, along, across)
    # Stripes in training run along the limb or around it. These run askew, between extremes of one
    # hue.
    askew = jnp.array([0.6, 0.75, 0.3]) * draw.uniform(7.0, 10.0)
    hue, dark = draw.uniform(0, 1), draw.uniform(0.05, 0.3)
    pair = hsv(hue, jnp.array([0.8, 0.25]), jnp.stack([dark, 1.0])).reshape(-1)
    odd = jnp.concatenate([pair, askew, askew, jnp.ones(1)])
    return jnp.where(shifted, odd, jnp.concatenate([a, b, first, second, kind[None]]))


def sample_identity(key: jax.Array, shifted: bool = False, varied: bool = False) -> Identity:
    """Draw a subject; for `shifted` and `varied` see `synthetic.Spec.preset`."""
    # Keep the order of the draws, because the people depend on it.
    draw = Draw(key)
    tall = draw.uniform(0.92, 1.08)
    bones = jnp.array(list(BONES.values())) * tall * draw.uniform(0.92, 1.08, (len(BONES),))
    materials, lengths = _outfit(draw, shifted)
    scene = _scene(draw)
    camera = _response(draw, shifted)
    rest = {
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
    # Extras of some presets are drawn last, so that everything else is the same in all presets.
    more, extras = _extras(draw, varied, lengths["trouser"])
    materials = jnp.stack([*materials, *more])
    return Identity(
        bones=bones, materials=materials, **lengths, **scene, **camera, **rest, **extras
    )


def _outfit(draw, shifted):
    """Return the materials up to "hair", and the other properties of the clothes by name."""
    skin, hair = draw.of(_SKINS), draw.of(_HAIRS)
    hair = jnp.where(draw.chance(0.1), draw.color((0.5, 0.9), (0.4, 0.9)), hair)
    shoe = draw.color((0.0, 0.8), (0.05, 1.0))
    top, bottom = _cloth(draw, shifted), _cloth(draw, shifted)
    patterned = jnp.logical_or(shifted, draw.chance(0.4))  # trousers are mostly plain
    bottom = bottom.at[-1].multiply(patterned)
    skin, shoe, hair = (jnp.concatenate([c, c, _PLAIN]) for c in (skin, shoe, hair))
    lengths = {
        "sleeve": jnp.where(draw.chance(0.55), draw.uniform(0.1, 0.9), draw.uniform(1.75, 1.95)),
        "trouser": jnp.where(draw.chance(0.45), draw.uniform(0.4, 1.05), draw.uniform(1.7, 1.95)),
    }
    width = draw.chance(0.5) * draw.uniform(0.05, 0.1)[None]
    size = jnp.stack([draw.uniform(0.03, 0.1), draw.uniform(-0.22, -0.12)])
    badge = jnp.concatenate([width, size, draw.color((0.0, 1.0), (0.0, 1.0))])
    return [skin, top, bottom, shoe, hair], {**lengths, "badge": badge}


def _scene(draw):
    """Return light, room and clutter by name."""
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
    light = light / jnp.linalg.norm(light)
    return {"light": light, "room": jnp.stack([wall, floor]), "clutter": clutter}


def _response(draw, shifted):
    """Return the camera's response by name; for `shifted` people, it never occurs in training."""
    mild, strong = draw.uniform(0.85, 1.12), draw.uniform(0.8, 1.15)
    tint = draw.color((0.0, 0.12), (1.0, 1.001)), draw.color((0.25, 0.45), (1.0, 1.001))
    both = {
        "gain": (mild * tint[0], strong * tint[1]),
        "contrast": (draw.uniform(0.85, 1.1), draw.uniform(0.55, 0.75)),
        "gamma": (draw.uniform(0.85, 1.2), jnp.exp(draw.uniform(-0.6, 0.5))),
        "blur": (draw.uniform(0.0, 0.5), draw.uniform(0.6, 1.0)),
        "grain": (draw.uniform(0.0, 0.02), draw.uniform(0.0, 0.025)),
    }
    return {name: jnp.where(shifted, odd, common) for name, (common, odd) in both.items()}


def _extras(draw, varied, trouser):
    """Return the materials of hat and bag, and the extras of `varied` people, by name."""
    hat, bag = (
        jnp.concatenate(
            [draw.color((0.1, 0.9), (0.1, 1.0)), draw.color((0.1, 0.9), (0.1, 1.0)), _PLAIN]
        )
        for _ in range(2)
    )
    extras = {
        name: (varied & draw.chance(share)).astype(jnp.float32)
        for name, share in (("hat", 0.25), ("backpack", 0.2), ("handbag", 0.15))
    }
    extras["loose"] = varied * draw.chance(0.3) * draw.uniform(0.4, 1.0) * (trouser > 1.7)
    extras["occluders"] = _occluders(draw) * varied
    return [hat, bag], extras


def _occluders(draw):
    """Draw things in front of the person [2, 10]: a post and a piece of furniture, or none.

    A shape of size 0 hides nothing.
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
