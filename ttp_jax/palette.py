"""The colours of poses before and after personalization, the same in reports, images and videos.

They are Okabe and Ito's, which people with any kind of colour blindness can tell apart: orange
before, blue after. The darker shade is the person's left side, the lighter one the right side.
Lines of "before" are dashed and lie under "after", so that colour is never the only difference.
"""

import re

import numpy as np

from ttp_jax.skeletons import Skeleton

Color = tuple[int, int, int]
SIDES = ("left", "right", "middle")
POSES: dict[str, dict[str, Color]] = {
    "before": {"left": (213, 94, 0), "right": (230, 159, 0), "middle": (222, 127, 0)},
    "after": {"left": (0, 114, 178), "right": (86, 180, 233), "middle": (43, 147, 206)},
}
WORDS = {"left": "left", "l": "left", "right": "right", "r": "right"}


def sides(skeleton: Skeleton) -> tuple[str, ...]:
    """Return "left", "right" or "middle" for each joint, according to its name.

    Understands left_knee, knee_left, LeftKnee, L_knee, kneeR. Other names are "middle", as is a
    joint called just l or r.
    """
    return tuple(map(_side, skeleton.joints))


def _side(joint: str) -> str:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", joint)
    known = words if len(words) > 1 else [word for word in words if len(word) > 1]
    found = {WORDS[word.lower()] for word in known if word.lower() in WORDS}
    return found.pop() if len(found) == 1 else "middle"


def limb_sides(skeleton: Skeleton) -> tuple[str, ...]:
    """Return the side of each limb: that of its ends, or "middle" if they differ."""
    of = sides(skeleton)
    ends = ({of[a], of[b]} - {"middle"} for a, b in skeleton.limbs)
    return tuple(found.pop() if len(found) == 1 else "middle" for found in ends)


def colors(skeleton: Skeleton, pose: str) -> np.ndarray:
    """Return RGB uint8 [K, 3] of the joints of a pose, "before" or "after".

    Args:
      skeleton: skeleton of the K joints.
      pose: "before" or "after".
    """
    shades = POSES[pose]
    return np.array([shades[side] for side in sides(skeleton)], np.uint8).reshape(-1, 3)


def limb_colors(skeleton: Skeleton, pose: str) -> np.ndarray:
    """Return RGB uint8 [limbs, 3] of the limbs of a pose, "before" or "after".

    Args:
      skeleton: skeleton with the limbs.
      pose: "before" or "after".
    """
    shades = POSES[pose]
    return np.array([shades[side] for side in limb_sides(skeleton)], np.uint8).reshape(-1, 3)


def hex_color(color: Color) -> str:
    """Return a colour as in CSS: #d55e00."""
    return "#{:02x}{:02x}{:02x}".format(*color)
