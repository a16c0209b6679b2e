"""Scores of predictions against labels."""

import functools

import numpy as np

from ttp_jax import geometry, metrics
from ttp_jax.skeletons import Skeleton


def mean_pose(training, test, size: int) -> list[np.ndarray]:
    """The training people's mean pose within crops of `size` pixels, put into each test frame."""

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


def scores_of(
    clips, joints, skeleton: Skeleton, pixels: float = 0.0
) -> dict[str, list[metrics.Score]]:
    """Per measure, one score per clip.

    Args:
      clips: with labels.
      joints: predictions [T, K, 2] of each.
      skeleton: of labels and predictions.
      pixels: above 0 the measure is accuracy at so many pixels (`config.eval.pixels`), else PCK.
    """
    if pixels:
        accuracy = functools.partial(metrics.accuracy_px, pixels=pixels)
        measures = {f"accuracy@{pixels:g}px": accuracy}
    else:
        measures = {
            f"PCK@{t}": functools.partial(metrics.pck, skeleton=skeleton, threshold=t)
            for t in (0.2, 0.5)
        }
    return {
        name: [
            measure(predicted, clip.joints, clip.visible)
            for clip, predicted in zip(clips, joints, strict=True)
        ]
        for name, measure in measures.items()
    }


def headline(clips, joints, skeleton: Skeleton, pixels: float = 0.0) -> float:
    """The first measure over all clips: what a training is judged by."""
    return metrics.merge(next(iter(scores_of(clips, joints, skeleton, pixels).values()))).mean


def row(clips, joints, skeleton: Skeleton, pixels: float = 0.0) -> dict:
    """Per measure: mean over all joints and frames, per joint, per clip."""
    found = {}
    for name, scores in scores_of(clips, joints, skeleton, pixels).items():
        total = metrics.merge(scores)
        found[name] = {
            "mean": total.mean,
            "per_joint": dict(zip(skeleton.joints, total.per_joint.tolist(), strict=True)),
            "per_subject": [score.mean for score in scores],
        }
    return found


def gain(before: dict, after: dict) -> dict:
    """What personalization gave, by the first measure."""
    measure = next(iter(before))
    gains = metrics.subject_table(before[measure]["per_subject"], after[measure]["per_subject"])
    return {
        "mean": gains.mean,
        "standard_error": gains.standard_error,
        "worse": gains.worse,
        "interval95": list(gains.interval),
    }
