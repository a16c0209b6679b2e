"""Skeletons: joint names and order, mirror pairs, limbs, torso and colours, of any animal or thing.

A skeleton is plain data. Joints are in the order of the data set's files, so labels need no
permutation. `SKELETONS` has the built-in ones, such as those of the paper's data sets; `build`
makes one from the joint names of a labelled project; `to_json` and `from_json` store one.
"""

import colorsys
import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

MOST_JOINTS = 200


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Joints in a fixed order, and what belongs together.

    Attributes:
      name: name in messages; the key in `SKELETONS` for built-in ones.
      joints: joint names, in the order of the labels.
      flip_pairs: index pairs that swap when the image is mirrored.
      limbs: index pairs that are drawn as lines.
      torso: two groups of joints; the torso length of a frame is the distance between the groups'
        mean points. PCK thresholds are fractions of it. Empty if the data set has none.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    torso: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        """Number of joints K."""
        return len(self.joints)

    def part(self, names: Sequence[str]) -> "Skeleton":
        """Return the skeleton of these joints, in this order, with limbs and pairs between them."""
        places = {self.joints.index(name): i for i, name in enumerate(names)}

        def kept(pairs):
            return tuple((places[a], places[b]) for a, b in pairs if a in places and b in places)

        torso = tuple(tuple(places[j] for j in group if j in places) for group in self.torso)
        torso = torso if all(torso) else ()
        return Skeleton(self.name, tuple(names), kept(self.flip_pairs), kept(self.limbs), torso)

    @property
    def flip_order(self) -> np.ndarray:
        """Permutation [K] to apply to the joints of a mirrored image."""
        order = np.arange(self.size)
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    @property
    def colors(self) -> np.ndarray:
        """RGB uint8 [K, 3] for drawing: left orange to red, right blue to green, middle white.

        If no joint has a side, colours run through the rainbow, so that neighbours differ.
        """
        warm = [[255, 159, 28], [255, 110, 40], [239, 71, 111]]
        cool = [[17, 138, 178], [6, 180, 170], [6, 214, 130]]
        sides = self._sides()
        colors, count = np.full((self.size, 3), 255.0), {"left": 0, "right": 0}
        if not any(sides) and self.size > 1:
            colors *= [colorsys.hsv_to_rgb(i / self.size, 0.75, 1.0) for i in range(self.size)]
        for joint, side in enumerate(sides):
            if side:
                colors[joint] = (warm if side == "left" else cool)[count[side] % 3]
                count[side] += 1
        return colors.astype(np.uint8)

    def _sides(self) -> list[str]:
        """Return each joint's side, by name and mirror pair: "left", "right", or "" for none."""
        sides = [name.split("_")[0] for name in self.joints]
        sides = [side if side in ("left", "right") else "" for side in sides]
        for pair in self.flip_pairs:
            a, b = (self.joints[joint].lower() for joint in pair)
            differing = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
            # If the names don't tell, the first joint of the pair counts as the left one.
            swapped = bool(differing) and differing[0] == ("r", "l")
            for joint, side in zip(pair[:: -1 if swapped else 1], ("left", "right"), strict=True):
                sides[joint] = side
        return sides

    def to_json(self) -> dict[str, Any]:
        """Return the whole skeleton for JSON, with joints by name; see `from_json`."""

        def named(groups):
            return [[self.joints[joint] for joint in group] for group in groups]

        return {
            "name": self.name,
            "joints": list(self.joints),
            "flip_pairs": named(self.flip_pairs),
            "limbs": named(self.limbs),
            "torso": named(self.torso),
        }

    def torso_length(self, joints: np.ndarray) -> np.ndarray:
        """Return the torso length per frame [...], in the unit of `joints` [..., K, 2].

        Penn: mid shoulders to mid hips. H36M: neck to mid hips.

        Raises:
          ValueError: the skeleton has no torso.
        """
        if not self.torso:
            raise ValueError(f"skeleton {self.name!r} has no torso: score it by pixel distance.")
        upper, lower = (joints[..., list(group), :].mean(-2) for group in self.torso)
        return np.linalg.norm(upper - lower, axis=-1)


PENN13 = Skeleton(
    name="penn13",
    joints=(
        "head",
        "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow",
        "left_wrist", "right_wrist",
        "left_hip", "right_hip",
        "left_knee", "right_knee",
        "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)),
    limbs=(
        (1, 2), (7, 8), (1, 7), (2, 8),
        (1, 3), (3, 5), (2, 4), (4, 6),
        (7, 9), (9, 11), (8, 10), (10, 12),
    ),
    torso=((1, 2), (7, 8)),
)  # fmt: skip

H36M16 = Skeleton(
    name="h36m16",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "neck", "head",
        "right_wrist", "right_elbow", "right_shoulder",
        "left_shoulder", "left_elbow", "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15),
    ),
    torso=((8,), (2, 3)),
)  # fmt: skip

BBC7 = Skeleton(
    name="bbc7",
    joints=(
        "head",
        "right_wrist", "left_wrist",
        "right_elbow", "left_elbow",
        "right_shoulder", "left_shoulder",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6)),
    limbs=((1, 3), (3, 5), (5, 6), (6, 4), (4, 2)),
)  # fmt: skip

# The joints of MediaPipe's pose network, with its own order and names.
BLAZEPOSE33 = Skeleton(
    name="blazepose33",
    joints=(
        "nose",
        "left_eye_inner", "left_eye", "left_eye_outer",
        "right_eye_inner", "right_eye", "right_eye_outer",
        "left_ear", "right_ear",
        "mouth_left", "mouth_right",
        "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow",
        "left_wrist", "right_wrist",
        "left_pinky", "right_pinky",
        "left_index", "right_index",
        "left_thumb", "right_thumb",
        "left_hip", "right_hip",
        "left_knee", "right_knee",
        "left_ankle", "right_ankle",
        "left_heel", "right_heel",
        "left_foot_index", "right_foot_index",
    ),
    flip_pairs=((1, 4), (2, 5), (3, 6), *((i, i + 1) for i in range(7, 33, 2))),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10),
        (11, 12), (11, 23), (12, 24), (23, 24),
        (11, 13), (13, 15), (15, 17), (15, 19), (15, 21), (17, 19),
        (12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20),
        (23, 25), (25, 27), (27, 29), (29, 31), (27, 31),
        (24, 26), (26, 28), (28, 30), (30, 32), (28, 32),
    ),
    torso=((11, 12), (23, 24)),
)  # fmt: skip

COCO17 = Skeleton(
    name="coco17",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow",
        "left_wrist", "right_wrist",
        "left_hip", "right_hip",
        "left_knee", "right_knee",
        "left_ankle", "right_ankle",
    ),
    flip_pairs=tuple((i, i + 1) for i in range(1, 17, 2)),
    limbs=(
        (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (11, 12), (5, 11), (6, 12),
        (5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
    torso=((5, 6), (11, 12)),
)  # fmt: skip

# OpenPose's joints.
BODY25 = Skeleton(
    name="body25",
    joints=(
        "nose", "neck",
        "right_shoulder", "right_elbow", "right_wrist",
        "left_shoulder", "left_elbow", "left_wrist",
        "mid_hip",
        "right_hip", "right_knee", "right_ankle",
        "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
        "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ),
    flip_pairs=(
        (2, 5), (3, 6), (4, 7), (9, 12), (10, 13), (11, 14), (15, 16), (17, 18),
        (19, 22), (20, 23), (21, 24),
    ),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 8),
        (8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14),
        (0, 15), (15, 17), (0, 16), (16, 18),
        (14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24),
    ),
    torso=((2, 5), (9, 12)),
)  # fmt: skip


# --- Skeletons of other projects -----------------------------------------------------------------


def build(
    name: str,
    joints: Sequence[str],
    *,
    flip_pairs: Sequence[Sequence[str]] | None = None,
    limbs: Sequence[Sequence[str]] = (),
) -> Skeleton:
    """Make a skeleton from the names of its joints.

    Args:
      name: name in messages.
      joints: 1 to 200 different names.
      flip_pairs: names of the joints that swap when the image is mirrored; if None, they are found
        by left and right in the names, see `mirror_pairs`.
      limbs: pairs of names to draw as lines.

    The torso runs from the shoulders to the hips if both pairs are among the names; otherwise the
    skeleton has no torso.

    Raises:
      ValueError: the names, pairs or limbs are invalid; the message says why.
    """
    joints = [str(joint) for joint in joints]
    if flip_pairs is None:
        flip_pairs = mirror_pairs(joints)
    ends = [
        [joint for joint in joints if squeezed(joint) in spellings(f"{side}_{part}")]
        for part in ("shoulder", "hip")
        for side in ("left", "right")
    ]
    whole = all(len(end) == 1 for end in ends)
    torso = [ends[0] + ends[1], ends[2] + ends[3]] if whole else []
    return from_json(
        {
            "name": name,
            "joints": joints,
            "flip_pairs": [list(pair) for pair in flip_pairs],
            "limbs": [list(limb) for limb in limbs],
            "torso": torso,
        }
    )


def from_json(content: Any) -> Skeleton:
    """Return the skeleton that `to_json` described, after checking it.

    Raises:
      ValueError: it is no skeleton, has no or too many joints, a name twice, or a pair with an
        unknown joint, of a joint with itself or with a joint that has another partner.
    """
    kinds = {"name": str, "joints": list, "flip_pairs": list, "limbs": list, "torso": list}
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), kind) for key, kind in kinds.items()
    ):
        raise ValueError(f"no skeleton: expected an object with {', '.join(kinds)}.")
    name, joints = content["name"], content["joints"]
    if not 1 <= len(joints) <= MOST_JOINTS:
        raise ValueError(
            f"skeleton {name!r} has {len(joints)} joints, expected 1 to {MOST_JOINTS}."
        )
    if not all(isinstance(joint, str) and joint.strip() for joint in joints):
        raise ValueError(f"skeleton {name!r}: a joint without a name, expected words.")
    if twice := sorted({joint for joint in joints if joints.count(joint) > 1}):
        raise ValueError(f"skeleton {name!r} has {', '.join(twice)} twice: rename or remove one.")
    places = {joint: i for i, joint in enumerate(joints)}
    flip_pairs = _indices(content["flip_pairs"], places, f"skeleton {name!r}, mirror pair")
    limbs = _indices(content["limbs"], places, f"skeleton {name!r}, limb")
    flipped = [joint for pair in flip_pairs for joint in pair]
    if several := sorted({joints[i] for i in flipped if flipped.count(i) > 1}):
        raise ValueError(
            f"skeleton {name!r}: {', '.join(several)} in two mirror pairs, expected one at most."
        )
    torso = content["torso"]
    if torso and not (len(torso) == 2 and all(isinstance(g, list) and g for g in torso)):
        raise ValueError(f"skeleton {name!r}: torso {torso}, expected none or two groups of names.")
    groups = [_indices([[joint, None] for joint in g], places, "torso", 1) for g in torso]
    return Skeleton(
        name,
        tuple(joints),
        flip_pairs,
        limbs,
        tuple(tuple(joint for (joint,) in group) for group in groups),
    )


def _indices(groups: list, places: dict[str, int], what: str, count: int = 2) -> tuple:
    """Convert pairs of names to pairs of indices; each must have different, known joints."""
    found = []
    for group in groups:
        names = group[:count] if isinstance(group, list) and len(group) == 2 else None
        if not (names and all(isinstance(joint, str) for joint in names)):
            raise ValueError(f"{what} {group!r}: expected two names of joints.")
        if unknown := [joint for joint in names if joint not in places]:
            raise ValueError(
                f"{what} {', '.join(names)}: no joint {unknown[0]}, expected some of "
                f"{', '.join(places)}."
            )
        if len(set(names)) < count:
            raise ValueError(f"{what} {', '.join(names)}: expected two different joints.")
        found.append(tuple(places[joint] for joint in names))
    return tuple(found)


def squeezed(name: str) -> str:
    """Return a name in lower case without "-", "_", "." and spaces, for comparison."""
    return re.sub(r"[-_.\s]", "", name.lower())


def spellings(joint: str) -> list[str]:
    """Return all squeezed names of a joint: leftwrist, lwrist, wristleft, wristl."""
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return [squeezed(joint)]
    part = squeezed(part)
    return [form for s in (side, side[0]) for form in (s + part, part + s)]


# Patterns for left in names, and their replacements by right. The first to find a partner counts.
_SIDES = (
    (r"left", "right"),  # left_ear, earLeft, topleftinner
    (r"(?<![a-z0-9])l(?![a-z0-9])", "r"),  # l_ear, ear-l
    (r"(?-i:(?<![A-Z])L(?![a-z]))", "r"),  # earL, forelegL4, LEar
    (r"(?<![a-z0-9])l|l(?![a-z0-9])", "r"),  # Lear, lear, earl
    (r"(?<=[fhb])l|l(?=[fhb])", "r"),  # paw_LF, FL_paw, paw1LH: front, hind, back
)


def mirror_pairs(joints: Sequence[str]) -> list[tuple[str, str]]:
    """Find the joints that swap when the image is mirrored, by left and right in their names.

    Understands the usual spellings: left_ear, earLeft, LeftEar, topleftinner, l_ear, ear-l, earL,
    LEar, legL4, paw_LF. Of several sides in a name, all swap if there is such a joint
    (left_eye_left_corner, right_eye_right_corner), otherwise one. A pair counts only if both names
    exist; nothing else is guessed.
    """
    free = {joint.lower(): joint for joint in joints}
    pairs = []
    for replaced in (_all_sides, *(functools.partial(_one_side, *sides) for sides in _SIDES)):
        for joint in joints:
            if joint.lower() not in free:
                continue
            for mirrored in replaced(joint):
                if mirrored in free and mirrored != joint.lower():
                    pairs.append((free.pop(joint.lower()), free.pop(mirrored)))
                    break
    return sorted(pairs, key=lambda pair: list(joints).index(pair[0]))


def _all_sides(joint: str) -> Iterator[str]:
    """Yield a name of several sides with all of them swapped: left_eye_right_corner's other."""
    other = {"left": "right", "right": "left", "l": "r", "r": "l"}
    for sides in (
        r"left|right",
        r"(?<![a-z0-9])[lr](?![a-z0-9])",
        r"(?-i:(?<![A-Z])[LR](?![a-z]))",
    ):
        swapped, count = re.subn(sides, lambda m: other[m[0].lower()], joint, flags=re.IGNORECASE)
        if count > 1:
            yield swapped.lower()


def _one_side(left: str, right: str, joint: str) -> Iterator[str]:
    """Yield the name in lower case with one of its matches for left replaced."""
    for found in re.finditer(left, joint, re.IGNORECASE):
        yield (joint[: found.start()] + right + joint[found.end() :]).lower()


def of_config(config: Mapping[str, Any]) -> Skeleton:
    """Return the skeleton of an experiment's config, or of the config in a model file.

    Args:
      config: fields of a config: its "skeleton" if it isn't empty, otherwise the key in "data".

    Raises:
      ValueError: the key is unknown, or the skeleton is invalid.
    """
    own = config.get("skeleton")
    if own:
        # Through JSON, because a config may have tuples instead of lists.
        return from_json(json.loads(json.dumps(dict(own), default=dict)))
    name = config["data"]["skeleton"]
    if name not in SKELETONS:
        raise ValueError(
            f"config.data.skeleton is {name!r}, expected one of {', '.join(SKELETONS)}. Joints of "
            "your own are an entry in SKELETONS, ttp_jax/skeletons.py."
        )
    return SKELETONS[name]


SKELETONS = {s.name: s for s in (PENN13, H36M16, BBC7, BLAZEPOSE33, COCO17, BODY25)}
