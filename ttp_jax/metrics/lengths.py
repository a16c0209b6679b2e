"""The length in each frame that is the unit of relative errors, for any skeleton."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.skeletons import Skeleton


class Lengths(NamedTuple):
    """A length of each frame.

    Attributes:
      name: name of the length, in words.
      values: float64 [T] in pixels, NaN if the joints that it needs are not labelled.
      needs: names of the joints that must be labelled.
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
    """Measure a length in each frame: along given joints, the torso, or the box's diagonal.

    Args:
      joints: true joints [T, K, 2], NaN if not labelled.
      skeleton: skeleton of the joints.
      scale_joints: names of two joints, whose distance is used, or of more, for the length of the
        line from the first to the last (a tongue's contour). The line skips joints between them
        that aren't labelled. If empty, the torso is used, or the box's diagonal if the skeleton has
        no torso.
      boxes: [T, 4] x1, y1, x2, y2; if None, the box around the frame's labelled joints.

    Raises:
      ValueError: the scale joints are fewer than two, repeated or unknown.
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
    """Return the length of the line through the labelled points [N, 2]; NaN without both ends."""
    labelled = np.asarray(np.isfinite(points).all(-1))
    if not (labelled[0] and labelled[-1]):
        return np.nan
    return np.linalg.norm(np.diff(points[labelled], axis=0), axis=-1).sum()


def _length(length: np.ndarray) -> np.ndarray:
    """Return lengths [T] with NaN in place of 0."""
    return np.where(np.isfinite(length) & (length > 0), length, np.nan)
