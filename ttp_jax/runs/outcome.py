"""A subject's joints before and after personalization, from which outputs are made."""

import dataclasses
import pathlib

import numpy as np

from data_pipelines import clips as clips_lib
from ttp_jax.files import DAMAGED, parse_json, read_arrays
from ttp_jax.runs.results import RENAMED, RESULTS

# Required content of the file that `Outputs.keep` writes, as patterns of `files.read_arrays` and
# `parse_json`.
KEPT = {"joints": ("f", 3), "confidence": ("f", 2), "boxes": ("f", 2), "about": ("U", 0)}
ABOUT = {
    "figures": {str: [float]},
    "cost": {str: float, "updates": float},
    "inputs": str,
    "warnings?": [str],
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Everything that a subject's outputs are made from, except its frames.

    Attributes:
      clip: the subject's clip, with the boxes that it was predicted in.
      size: height and width of its pictures.
      before: joints [T, K, 2] in pixels of the pictures; NaN if a frame could not be read.
      after: as `before`.
      confidence: [T, K] before and after.
      diagnostics: see `diagnostics.before_and_after`.
      cost: updates, seconds and memory, by name.
      warnings: signs of harm.
    """

    clip: clips_lib.Clip
    size: tuple[int, int]
    before: np.ndarray
    after: np.ndarray
    confidence: tuple[np.ndarray, np.ndarray]
    diagnostics: dict[str, list[float]]
    cost: dict[str, float]
    warnings: list[str] = dataclasses.field(default_factory=list)


def read_outcome(clip: clips_lib.Clip, kept: pathlib.Path, results: pathlib.Path) -> Outcome:
    """Read a subject's outcome.

    Args:
      clip: clip of the subject, in the boxes of its source.
      kept: the file that `Outputs.keep` wrote.
      results: the file of the subject's results.

    Raises DataError if one is missing or damaged, or if they are from different runs.
    """
    if not kept.exists():
        raise clips_lib.DataError(
            f"{kept} is missing, perhaps after a run with --joints-only: use --overwrite to adapt "
            "again."
        )
    try:
        then = read_arrays(kept, KEPT, renamed=RENAMED)
        about, boxes = parse_json(str(then["about"]), kept, ABOUT), then["boxes"]
        before, found, cost = then["joints"], about["figures"], about["cost"]
        now = read_arrays(results, RESULTS, renamed=RENAMED)
        confidence = then["confidence"], now["confidence"]
        shapes = {each.shape[:2] for each in (before, now["joints"], *confidence)}
        if len(shapes) > 1 or len(before) != clip.num_frames:
            raise ValueError(f"shapes {shapes}, {clip.num_frames} frames")
        # Earlier versions stored neither.
        fields = {name: then.get(name) for name in ("region", "crops")}
        predicted = dataclasses.replace(clip, boxes=boxes, **fields)
    except DAMAGED as error:
        raise clips_lib.DataError(
            f"{kept} or the results beside it can't be read ({error}): use --overwrite to adapt "
            "again."
        ) from error
    if about.get("inputs") != str(now["inputs"]):
        raise clips_lib.DataError(
            f"{kept} was made from other frames or boxes than the results beside it, perhaps by a "
            "later run with --joints-only: use --overwrite to adapt again."
        )
    warnings = about.get("warnings", [])  # earlier versions stored none
    after = now["joints"]
    return Outcome(predicted, clip.largest, before, after, confidence, found, cost, warnings)
