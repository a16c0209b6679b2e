"""COCO's object keypoint similarity (OKS), for joints that COCO has."""

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.metrics.scores import checked
from ttp_jax.skeletons import Skeleton, spellings, squeezed

# COCO's values, cocodataset.org/#keypoints-eval: standard deviations of annotators' labels,
# relative to the square root of the person's area.
SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip
BOX_SHARE = 0.53  # area of a person as a share of the box's area, without a segmentation mask


def sigmas(skeleton: Skeleton) -> np.ndarray | None:
    """Return COCO's sigmas [K] of a skeleton's joints; None if COCO lacks one of them."""
    known = {}
    for part, sigma in SIGMAS.items():
        sides = [part] if part == "nose" else [f"left_{part}", f"right_{part}"]
        known |= {form: sigma for joint in sides for form in spellings(joint)}
    found = [known.get(squeezed(joint)) for joint in skeleton.joints]
    return None if None in found else np.array(found, np.float64)


def oks(
    predicted: ArrayLike, joints: ArrayLike, visible: ArrayLike, areas: ArrayLike, sigma: ArrayLike
) -> np.ndarray:
    """Return the similarity [T], 0 to 1, of one person in each frame.

    oks = mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2)), as in pycocotools; a
    prediction of NaN counts as 0.

    Args:
      predicted, joints: [T, K, 2].
      visible: [T, K], the labelled joints (COCO: v > 0).
      areas: [T], the person's area in square pixels.
      sigma: [K], see `sigmas`.

    Returns:
      [T], NaN for a frame without a labelled joint.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    squared = ((predicted - joints) ** 2).sum(-1)
    scale = (
        2 * (np.asarray(areas, np.float64)[:, None] + np.spacing(1)) * (2 * np.asarray(sigma)) ** 2
    )
    alike = np.where(visible & np.isfinite(squared), np.exp(-squared / scale), 0.0)
    count = visible.sum(1)
    found = np.full(len(count), np.nan)
    return np.divide(alike.sum(1), count, out=found, where=count > 0)
