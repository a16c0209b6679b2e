"""All scores of the labelled frames of a video or subject, for any skeleton."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttp_jax.metrics import oks as oks_lib
from ttp_jax.metrics.lengths import Lengths, lengths
from ttp_jax.metrics.scores import checked, mean_error, mean_of, pck_area, pck_of, rmse
from ttp_jax.skeletons import Skeleton

AREA_LIMIT = 0.2  # of the frame's length: where the curve of PCK ends


def score_labels(
    predicted,
    joints,
    visible,
    skeleton: Skeleton,
    *,
    likelihood=None,
    pcutoff: float = 0.6,
    scale_joints: Sequence[str] = (),
    boxes=None,
    thresholds: Sequence[float] = (0.2, 0.5),
) -> dict[str, Any]:
    """Score the labelled frames of a video, where some joints of a frame may have no label.

    PCK and other shares of a length count frames only in which that length is labelled, and are
    left out where none is; distances in pixels count all frames.

    Args:
      predicted: [n, K, 2] of the labelled frames only.
      joints: [n, K, 2], NaN where not labelled.
      visible: [n, K], the joints to score.
      skeleton: of the joints.
      likelihood: [n, K] of the predictions; adds distances of the likely ones only.
      pcutoff: from which likelihood on a prediction is likely.
      scale_joints: two joints, whose distance PCK and the like are shares of; see `lengths`.
      boxes: [n, 4]; for skeletons without a torso, and for OKS.
      thresholds: of PCK, as shares of the length.

    Returns:
      "frames" and "joints", what was labelled visibly; "length", what the shares are shares of;
      "PCK@0.2", "PCK@0.5", "PCK area@0.2" and "mean error %" in percent; "RMSE px" and "mean error
      px" (DeepLabCut's number), with a likelihood also "..., p >= 0.6"; "OKS" where COCO knows all
      joints and there are boxes. Each has "mean" and (not OKS) "per_joint" by name, NaN where a
      joint was never visible. And "notes", sentences that say what was left out.
    """
    predicted, joints, visible = checked(predicted, joints, visible)
    visible = visible & np.isfinite(joints).all(-1)

    def named(score):
        by_name = dict(zip(skeleton.joints, score.per_joint.tolist(), strict=True))
        return {"mean": score.mean, "per_joint": by_name}

    found: dict[str, Any] = {"frames": int(visible.any(1).sum()), "joints": int(visible.sum())}
    length = lengths(joints, skeleton, scale_joints=scale_joints, boxes=boxes)
    measured = np.isfinite(length.values)
    if measured.any():
        scored = predicted, joints, visible & measured[:, None], length.values
        shares = _shares(scored, thresholds)
        found |= {"length": length.name, **{name: named(score) for name, score in shares.items()}}
        found["mean error %"]["mean"] *= 100
    error = rmse(predicted, joints, visible)
    found["RMSE px"] = named(error)
    found["mean error px"] = named(mean_error(predicted, joints, visible))
    if likelihood is not None:
        likely = visible & (np.asarray(likelihood) >= pcutoff)
        found[f"RMSE px, p >= {pcutoff:g}"] = named(rmse(predicted, joints, likely))
        found[f"mean error px, p >= {pcutoff:g}"] = named(mean_error(predicted, joints, likely))
    if boxes is not None and (sigma := oks_lib.sigmas(skeleton)) is not None:
        found["OKS"] = {"mean": _oks(predicted, joints, visible, boxes, sigma)}
    return found | {"notes": _notes(length, measured, error.missing)}


def _shares(scored: tuple[Any, Any, Any, Any], thresholds: Sequence[float]) -> dict[str, Any]:
    """The scores that are shares of a length, by name."""
    error = mean_error(*scored)
    return {
        **{f"PCK@{t:g}": pck_of(*scored, t) for t in thresholds},
        f"PCK area@{AREA_LIMIT:g}": pck_area(*scored, AREA_LIMIT),
        "mean error %": error._replace(per_joint=100 * error.per_joint),
    }


def _oks(predicted, joints, visible, boxes, sigma) -> float:
    """Mean object keypoint similarity, the object's area being a share of its box."""
    areas = oks_lib.BOX_SHARE * np.prod(np.diff(np.reshape(boxes, (-1, 2, 2)), axis=1), (1, 2))
    return mean_of(oks_lib.oks(predicted, joints, visible, areas, sigma))


def _notes(length: Lengths, measured: np.ndarray, missing: int) -> list[str]:
    """Sentences that say what was left out."""
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
