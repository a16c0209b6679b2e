"""Joint orders of the data sets: names, mirror pairs, limbs, torso and drawing colours.

A skeleton is plain data. Joint order follows the data set's files, so labels need no permutation on
the way in.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """One joint order.

    Attributes:
      name: key in `SKELETONS`.
      joints: joint names, in the order of the labels.
      flip_pairs: index pairs that swap when the picture is mirrored.
      limbs: index pairs that are drawn as lines.
      torso: two groups of joints; the torso length of a frame is the distance between the groups'
        mean points. PCK thresholds are fractions of it. Empty where the data set has none.
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
        """The skeleton of some of the joints, in this order; limbs and pairs between them stay."""
        places = {self.joints.index(name): i for i, name in enumerate(names)}

        def kept(pairs):
            return tuple((places[a], places[b]) for a, b in pairs if a in places and b in places)

        torso = tuple(tuple(places[j] for j in group if j in places) for group in self.torso)
        torso = torso if all(torso) else ()
        return Skeleton(self.name, tuple(names), kept(self.flip_pairs), kept(self.limbs), torso)

    @property
    def flip_order(self) -> np.ndarray:
        """Permutation [K] to apply to the joints of a mirrored picture."""
        order = np.arange(self.size)
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    @property
    def colors(self) -> np.ndarray:
        """RGB uint8 [K, 3] for drawing: left orange to red, right blue to green, middle white."""
        warm = np.array([[255, 159, 28], [255, 110, 40], [239, 71, 111]])
        cool = np.array([[17, 138, 178], [6, 180, 170], [6, 214, 130]])
        colors, count = np.full((self.size, 3), 255), {"left": 0, "right": 0}
        for i, name in enumerate(self.joints):
            side = name.split("_")[0]
            if side in count:
                colors[i] = (warm if side == "left" else cool)[count[side] % 3]
                count[side] += 1
        return colors.astype(np.uint8)

    def torso_length(self, joints: np.ndarray) -> np.ndarray:
        """Torso length per frame, in the unit of `joints` [..., K, 2] -> [...].

        Penn: mid shoulders to mid hips. H36M: neck to mid hips.
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

# MediaPipe's pose network, in its own order and by its own names.
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

# OpenPose's.
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

SKELETONS = {s.name: s for s in (PENN13, H36M16, BBC7, BLAZEPOSE33, COCO17, BODY25)}

# Joints that one data set labels and another has only as the middle of two others.
MIDDLES = {"pelvis": ("left_hip", "right_hip"), "thorax": ("left_shoulder", "right_shoulder")}
# What BlazePose's joints give of others that it has not, as means. Heads are the middle between the
# ears, which is some centimetres below Human3.6M's, the top of it; Human3.6M's neck is below the
# chin, OpenPose's between the shoulders.
_SHOULDERS, _EARS = ("left_shoulder", "right_shoulder"), ("left_ear", "right_ear")
DERIVED = {
    ("blazepose33", "penn13"): {"head": _EARS},
    ("blazepose33", "bbc7"): {"head": _EARS},
    ("blazepose33", "h36m16"): {
        "head": _EARS,
        "neck": ("mouth_left", "mouth_right", *_SHOULDERS),
    },
    ("blazepose33", "body25"): {
        "neck": _SHOULDERS,
        "mid_hip": ("left_hip", "right_hip"),
        "left_big_toe": ("left_foot_index",),
        "right_big_toe": ("right_foot_index",),
    },
}


def joint_map(source: Skeleton, target: Skeleton) -> tuple[tuple[int, ...], ...]:
    """For each joint of `target` the joints of `source` whose mean stands for it.

    Joints of one name stand for each other, though data sets put them differently by some
    centimetres ("head" is the top of it in Human3.6M, its middle in the others). An empty tuple
    says that `source` has nothing for that joint ("neck" of Human3.6M).
    """
    derived = DERIVED.get((source.name, target.name), {})

    def places(name):
        for names in ((name,), derived.get(name, ()), MIDDLES.get(name, ())):
            if names and set(names) <= set(source.joints):
                return tuple(source.joints.index(each) for each in names)
        return ()

    return tuple(places(name) for name in target.joints)


def map_joints(joints: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Turn joints [..., K, 2] of one skeleton into those of another, NaN where it has none.

    So a model trained on one data set is scored on another (paper, Table 6).
    """
    missing = np.full_like(joints[..., 0, :], np.nan, dtype=np.result_type(joints, np.float32))
    columns = [
        joints[..., list(places), :].mean(-2) if places else missing
        for places in joint_map(source, target)
    ]
    return np.stack(columns, -2)
