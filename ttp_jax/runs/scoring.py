"""Scoring predictions against labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ttp_jax import geometry, metrics
from ttp_jax.skeletons import Skeleton


def mean_pose(training, test, size: int) -> list[np.ndarray]:
    """Return the training people's mean pose in each test frame, from crops of `size` pixels."""

    def affines(clip):
        return geometry.crop_affine(geometry.box_to_crop(clip.boxes.astype(np.float64)), size)

    posed = [geometry.transform_points(affines(c), c.joints) for c in training]
    mean = metrics.mean_pose(np.concatenate(posed), np.concatenate([c.visible for c in training]))
    return [
        geometry.transform_points(
            geometry.invert_affine(affines(clip)),
            np.broadcast_to(mean, (clip.num_frames, *mean.shape)),
        )
        for clip in test
    ]


class Measures(NamedTuple):
    """The measures by which predictions are scored; the first is the headline.

    Attributes:
      pixels: if above 0, the only measure is accuracy at that many pixels; otherwise PCK is used.
      scale_joints: the joints whose distance is the unit of PCK. If empty, the unit is the torso;
        for a skeleton without a torso, the diagonal of the labelled joints' box; for a single
        joint, the diagonal of the box that the network sees.
      thresholds: thresholds of PCK.
      distances: whether to add the root mean square distance in pixels.
      opening: two joints whose distance from each other is compared with the labels', or none.
    """

    pixels: float = 0.0
    scale_joints: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = (0.2, 0.5)
    distances: bool = False
    opening: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the measures of `scores_of`, of which more is better."""
        if self.pixels:
            return (f"accuracy@{self.pixels:g}px",)
        return tuple(f"PCK@{threshold}" for threshold in self.thresholds)


def measures_from(fields: Any) -> Measures:
    """Return the measures that the fields of `config.eval` ask for."""
    joints, opening = (
        tuple(name.strip() for name in field.split(",") if name.strip())
        for field in (fields.scale_joints, fields.opening)
    )
    thresholds = tuple(dict.fromkeys(fields.thresholds))  # one column each
    return Measures(fields.pixels, joints, thresholds, fields.distances, opening)


def scores_of(
    clips, joints, skeleton: Skeleton, how: Measures = Measures()
) -> dict[str, list[metrics.Score]]:
    """Score clips; return one score per clip for each measure.

    Args:
      clips: clips with labels.
      joints: predictions [T, K, 2] for each clip.
      skeleton: skeleton of labels and predictions.
      how: the measures.
    """

    def accuracy(predicted, clip):
        return metrics.accuracy_px(predicted, clip.joints, clip.visible, pixels=how.pixels)

    def pck(threshold):
        def score(predicted, clip):
            length = _lengths(clip, skeleton, how).values
            # Frames whose unit isn't labelled don't count.
            visible = clip.visible & ~np.isnan(length)[:, None]
            return metrics.pck_of(predicted, clip.joints, visible, length, threshold)

        return score

    measured = [accuracy] if how.pixels else [pck(threshold) for threshold in how.thresholds]
    found: dict[str, Callable] = dict(zip(how.names, measured, strict=True))
    return {
        name: [measure(predicted, clip) for clip, predicted in zip(clips, joints, strict=True)]
        for name, measure in found.items()
    }


def _lengths(clip, skeleton: Skeleton, how: Measures) -> metrics.Lengths:
    """Return the unit of PCK in each frame; for a single joint it comes from the box."""
    boxes = clip.boxes if skeleton.size == 1 else None
    return metrics.lengths(clip.joints, skeleton, scale_joints=how.scale_joints, boxes=boxes)


def errors(clips, joints, skeleton: Skeleton, how: Measures = Measures()) -> dict[str, dict]:
    """Return mean errors in % of the unit of PCK: a mean over clips, and one for each clip.

    Args:
      clips: clips with labels.
      joints: predictions [T, K, 2] for each clip.
      skeleton: skeleton of labels and predictions.
      how: the measures.

    Returns:
      "mean error %", the distance of joints from their labels. If `how.opening` names two joints,
      also "opening error %", the error of the distance between these two. Frames whose unit isn't
      labelled don't count. Empty if the measure is accuracy in pixels.
    """
    if how.pixels:
        return {}
    kinds = {"mean error %": lambda predicted, clip: (predicted, clip.joints, clip.visible)}
    if how.opening:
        pair = _pair(how.opening, skeleton)
        kinds["opening error %"] = lambda predicted, clip: _opening(predicted, clip, pair)
    found = {}
    for name, points_of in kinds.items():
        means = []
        for clip, predicted in zip(clips, joints, strict=True):
            units = _lengths(clip, skeleton, how).values
            means.append(100 * metrics.mean_error(*points_of(predicted, clip), units).mean)
        found[name] = {"mean": float(np.nanmean(means)), "per_subject": means}
    return found


def _pair(names: tuple[str, ...], skeleton: Skeleton) -> list[int]:
    """Return the indices of the two joints of an opening."""
    if len(names) != 2 or set(names) - set(skeleton.joints):
        raise ValueError(
            f"config.eval.opening is {','.join(names)!r}: expected two of "
            f"{', '.join(skeleton.joints)}."
        )
    return [skeleton.joints.index(name) for name in names]


def _opening(predicted, clip, pair: list[int]):
    """Return the predicted and labelled distance of two joints, as points on a line [T, 1, 2]."""

    def points(joints):
        width = np.linalg.norm(joints[:, pair[0]] - joints[:, pair[1]], axis=-1)
        return np.stack([width, np.zeros_like(width)], -1)[:, None]

    return points(predicted), points(clip.joints), clip.visible[:, pair].all(1)[:, None]


def left_out(clips, skeleton: Skeleton, how: Measures = Measures()) -> str | None:
    """Name the labelled frames that PCK leaves out because its unit isn't labelled there.

    Args:
      clips: clips with labels.
      skeleton: skeleton of the labels.
      how: the measures.

    Returns:
      A sentence; None if every labelled frame counts or PCK isn't used.
    """
    if how.pixels:
        return None
    counts, needs = {}, ()
    for clip in clips:
        found = _lengths(clip, skeleton, how)
        labelled, needs = clip.visible.any(1), found.needs
        if missing := int((labelled & np.isnan(found.values)).sum()):
            counts[clip.name] = f"{clip.name} {missing} of {labelled.sum()}"
    if not counts:
        return None
    needed = f"labels of {', '.join(needs)}" if needs else "two labelled joints"
    return f"PCK leaves out frames without {needed}: {'; '.join(counts.values())}."


def headline(clips, joints, skeleton: Skeleton, how: Measures = Measures()) -> float:
    """Return the first measure over all clips, by which trainings are compared."""
    return metrics.merge(next(iter(scores_of(clips, joints, skeleton, how).values()))).mean


def row(clips, joints, skeleton: Skeleton, how: Measures = Measures()) -> dict:
    """Return for each measure the mean over joints and frames, per joint, and per clip."""
    found = {}
    for name, scores in scores_of(clips, joints, skeleton, how).items():
        total = metrics.merge(scores)
        found[name] = _named(skeleton, total, [score.mean for score in scores])
    if how.distances:
        each = [metrics.rmse(j, c.joints, c.visible) for c, j in zip(clips, joints, strict=True)]
        stacked = [
            np.concatenate(rows)
            for rows in zip(
                *((j, c.joints, c.visible) for c, j in zip(clips, joints, strict=True)), strict=True
            )
        ]
        found["RMSE px"] = _named(skeleton, metrics.rmse(*stacked), [e.mean for e in each])
    return found


def _named(skeleton: Skeleton, total, per_subject: list[float]) -> dict:
    per_joint = dict(zip(skeleton.joints, total.per_joint.tolist(), strict=True))
    return {"mean": total.mean, "per_joint": per_joint, "per_subject": per_subject}


def gain(before: dict, after: dict) -> dict:
    """Return the gain from personalization in the first measure."""
    measure = next(iter(before))
    gains = metrics.subject_table(before[measure]["per_subject"], after[measure]["per_subject"])
    return {
        "mean": gains.mean,
        "standard_error": gains.standard_error,
        "worse": gains.worse,
        "interval95": list(gains.interval),
    }
