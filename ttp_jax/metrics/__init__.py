"""Scores of predicted joints with labels, and signs of quality without them.

Plain numpy. Joints are [T, K, 2] in pixels of the original image, visible is [T, K] (bool or 0/1).
"""

from ttp_jax.metrics.bottleneck import Readout, bottleneck_verdict, linear_readout, mean_pose
from ttp_jax.metrics.labelled import score_labels
from ttp_jax.metrics.lengths import Lengths, lengths
from ttp_jax.metrics.oks import oks, sigmas
from ttp_jax.metrics.scores import (
    Errors,
    Score,
    accuracy_px,
    mean_error,
    merge,
    pck,
    pck_area,
    pck_of,
    rmse,
)
from ttp_jax.metrics.subjects import SubjectTable, bootstrap_interval, subject_table
from ttp_jax.metrics.unlabelled import jitter, jitter_unit, limb_spread, swaps

__all__ = [
    "Errors",
    "Lengths",
    "Readout",
    "Score",
    "SubjectTable",
    "accuracy_px",
    "bootstrap_interval",
    "bottleneck_verdict",
    "jitter",
    "jitter_unit",
    "lengths",
    "limb_spread",
    "linear_readout",
    "mean_error",
    "mean_pose",
    "merge",
    "oks",
    "pck",
    "pck_area",
    "pck_of",
    "rmse",
    "score_labels",
    "sigmas",
    "subject_table",
    "swaps",
]
