"""All scores of the labelled frames of a video or subject, for any skeleton."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax import deprecation
from ttp_jax.metrics.lengths import Lengths, lengths
from ttp_jax.metrics.oks import BOX_SHARE, oks, sigmas
from ttp_jax.metrics.scores import Errors, checked, mean_error, mean_of, pck_area, pck_of, rmse
from ttp_jax.skeletons import Skeleton

AREA_LIMIT = 0.2  # largest threshold of the PCK curve, as a share of the frame's length


@deprecation.arguments(likelihood="confidence")
def score_labels(
    predicted: ArrayLike,
    joints: ArrayLike,
    visible: ArrayLike,
    skeleton: Skeleton,
    *,
    confidence: ArrayLike | None = None,
    pcutoff: float = 0.6,
    scale_joints: Sequence[str] = (),
    boxes: ArrayLike | None = None,
    thresholds: Sequence[float] = (0.2, 0.5),
) -> dict[str, Any]:
    """Score the labelled frames of a video, in which some joints may have no label.

    PCK and other scores relative to a length use only frames in which that length is labelled, and
    are left out if there are none. Distances in pixels use all frames.

    Args:
      predicted: [n, K, 2], predictions of the labelled frames only.
      joints: [n, K, 2], NaN if not labelled.
      visible: [n, K], the joints to score.
      skeleton: skeleton of the joints.
      confidence: [n, K] of the predictions. Adds distances over confident predictions only.
      pcutoff: smallest confidence of a confident prediction.
      scale_joints: joints whose distance is the unit of relative scores; see `lengths`.
      boxes: [n, 4], used for skeletons without a torso and for OKS.
      thresholds: thresholds of PCK, as shares of the length.

    Returns:
      "frames" and "joints", the number of labelled visible ones; "length", the unit of relative
      scores; "PCK@0.2", "PCK@0.5", "PCK area@0.2" and "mean error %" in percent; "RMSE px" and
      "mean error px" (DeepLabCut's number), with a confidence also "..., p >= 0.6"; "OKS" if COCO
      has all joints and there are boxes. Each has "mean" and (not OKS) "per_joint" by name, NaN if
      a joint was never visible. "notes" has sentences about what was left out.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    visible = visible & np.isfinite(joints).all(-1)
    length = lengths(joints, skeleton, scale_joints=scale_joints, boxes=boxes)
    measured = np.isfinite(length.values)
    scores = _shares(predicted, joints, visible, length.values, thresholds)
    scores["RMSE px"] = rmse(predicted, joints, visible)
    scores["mean error px"] = mean_error(predicted, joints, visible)
    if confidence is not None:
        sure = visible & (np.asarray(confidence) >= pcutoff)
        scores[f"RMSE px, p >= {pcutoff:g}"] = rmse(predicted, joints, sure)
        scores[f"mean error px, p >= {pcutoff:g}"] = mean_error(predicted, joints, sure)
    found: dict[str, Any] = {"frames": int(visible.any(1).sum()), "joints": int(visible.sum())}
    found |= {"length": length.name} if measured.any() else {}
    for name, score in scores.items():
        by_name = dict(zip(skeleton.joints, score.per_joint.tolist(), strict=True))
        found[name] = {"mean": score.mean, "per_joint": by_name}
    sigma = sigmas(skeleton)
    if sigma is not None and boxes is not None:
        areas = BOX_SHARE * np.prod(np.diff(np.reshape(boxes, (-1, 2, 2)), axis=1), (1, 2))
        found["OKS"] = {"mean": mean_of(oks(predicted, joints, visible, areas, sigma))}
    return found | {"notes": _notes(length, measured, scores["RMSE px"].missing)}


def _shares(predicted, joints, visible, lengths, thresholds) -> dict[str, Any]:
    """Return the scores relative to the frames' lengths [n]; none if no frame has one."""
    measured = np.isfinite(lengths)
    if not measured.any():
        return {}
    measurable = predicted, joints, visible & measured[:, None], lengths
    error = mean_error(*measurable)
    return {
        **{f"PCK@{threshold:g}": pck_of(*measurable, threshold) for threshold in thresholds},
        f"PCK area@{AREA_LIMIT:g}": pck_area(*measurable, AREA_LIMIT),
        "mean error %": Errors(100 * error.per_joint, 100 * error.mean, error.missing),
    }


def _notes(length: Lengths, measured: np.ndarray, missing: int) -> list[str]:
    """Return sentences about what was left out."""
    notes = []
    if not measured.all():
        needs = ", ".join(length.needs) or "two joints at least"
        notes.append(
            f"{(~measured).sum()} of {len(measured)} labelled frames don't count in PCK, which "
            f"needs labels of {needs}."
        )
    if missing:
        notes.append(f"{missing} labelled joints have no prediction: wrong in PCK, not in RMSE.")
    return notes
