"""Lengths of a frame that errors are compared with, for any skeleton."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.skeletons import Skeleton


class Lengths(NamedTuple):
    """A length of each frame.

    Attributes:
      name: what it is the length of, for people.
      values: float64 [T] in pixels, NaN where what it is measured by is not labelled.
      needs: names of the joints without whose labels there is none.
    """

    name: str
    values: np.ndarray
    needs: tuple[str, ...]


def lengths(
    joints: ArrayLike,
    skeleton: Skeleton,
    *,
    scale_joints: Sequence[str] = (),
    boxes: ArrayLike | None = None,
) -> Lengths:
    """Measure each frame: along some joints, along the torso, or across the box.

    Args:
      joints: true ones [T, K, 2], NaN where not labelled.
      skeleton: of the joints.
      scale_joints: names of two joints, whose distance it is, or of more, whose line is measured
        from the first to the last (a tongue's contour), straight past those between that aren't
        labelled. Without them, the torso where the skeleton has one, else the box's diagonal.
      boxes: [T, 4] x1, y1, x2, y2; the box around the labelled joints of the frame if None.

    Raises:
      ValueError: fewer than two, repeated or unknown joints.
    """
    joints = np.asarray(joints, np.float64)
    if len(scale_joints):
        known = [joint for joint in dict.fromkeys(scale_joints) if joint in skeleton.joints]
        if len(known) != len(scale_joints) or len(known) < 2:
            raise ValueError(
                f"scale joints are {', '.join(scale_joints)}: expected two different ones, or more "
                f"along a line, of {', '.join(skeleton.joints)}."
            )
        line = joints[:, [skeleton.joints.index(joint) for joint in known]]
        name = f"{known[0]} to {known[-1]}"
        if len(known) > 2:
            name += f" along {len(known)} joints"
        return Lengths(
            name, _length(np.array([_along(points) for points in line])), (known[0], known[-1])
        )
    if skeleton.torso:
        needs = tuple(skeleton.joints[k] for group in skeleton.torso for k in group)
        return Lengths("torso", skeleton.torso_length(joints), needs)
    if boxes is None:
        labelled = np.isfinite(joints)
        low = np.where(labelled, joints, np.inf).min(1)
        high = np.where(labelled, joints, -np.inf).max(1)
        name = "diagonal of the labelled joints' box"
    else:
        low, high = np.split(np.asarray(boxes, np.float64), 2, axis=-1)
        name = "diagonal of the box"
    return Lengths(name, _length(np.linalg.norm(high - low, axis=-1)), ())


def _along(points: np.ndarray) -> float:
    """Length of the line through labelled points [N, 2]; NaN without its first or last one."""
    labelled = np.asarray(np.isfinite(points).all(-1))
    if not (labelled[0] and labelled[-1]):
        return np.nan
    return np.linalg.norm(np.diff(points[labelled], axis=0), axis=-1).sum()


def _length(length: np.ndarray) -> np.ndarray:
    """Lengths [T]; NaN where there is none."""
    return np.where(np.isfinite(length) & (length > 0), length, np.nan)
