"""Boxes [T, 4] x1, y1, x2, y2 of the labelled individual, in picture pixels."""

import numpy as np

from data_pipelines import boxes as user_boxes
from data_pipelines.clips import DataError
from ttp_jax import geometry

RULES = ("labels", "annotated", "whole")


def boxes(
    rule: str,
    *,
    joints: np.ndarray,
    sizes: np.ndarray,
    annotated: list[np.ndarray | None],
    margin: float,
    name: str,
) -> np.ndarray:
    """Return boxes float32 [T, 4] for the frames of one individual.

    Args:
      rule: "labels", "annotated", "whole" or a region "x1,y1,x2,y2"; see `records.Options`.
      joints: [T, K, 2], NaN where not labelled.
      sizes: int [T, 2], heights and widths of the pictures.
      annotated: boxes from the file of labels.
      margin: margin of the rule "labels".
      name: name of the recording, for messages.

    Raises:
      DataError: the rule is unknown, or a box doesn't fit its picture.
    """
    if rule == "whole":
        return geometry.whole_box(sizes).astype(np.float32)
    if rule == "labels":
        return around(joints, sizes, margin)
    if rule == "annotated":
        if missing := sum(box is None for box in annotated):
            raise DataError(
                f"{name}: {missing} of {len(annotated)} labels have no box of their own: use boxes "
                '"labels" or "whole".'
            )
        found = _widened(np.array(annotated, np.float64))
    else:
        region = user_boxes.region(rule)
        if region is None:
            raise DataError(
                f'boxes is "{rule}": expected {", ".join(RULES)} or a region "x1,y1,x2,y2".'
            )
        found = np.tile(region, (len(sizes), 1))
    for frame, (box, size) in enumerate(zip(found, sizes, strict=True)):
        if not (np.isfinite(box).all() and (box[:2] < box[2:]).all()):
            raise DataError(f"{name}, label {frame + 1}: the box {box.tolist()} has no area.")
        user_boxes.check_place(box, size, f"picture {frame + 1} of {name}", f'boxes "{rule}"')
    return found.astype(np.float32)


def _widened(boxes: np.ndarray) -> np.ndarray:
    """Widen boxes [T, 4] to the smallest allowed side, because joints on a line have no height.

    Invalid boxes stay as they are.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    is_box = (high >= low).all(-1, keepdims=True) & (high > low).any(-1, keepdims=True)
    more = np.where(is_box, np.maximum(geometry.LEAST_BOX - (high - low), 0) / 2, 0)
    return np.concatenate([low - more, high + more], -1)


def around(joints: np.ndarray, sizes: np.ndarray, margin: float) -> np.ndarray:
    """Return boxes float32 [T, 4] around the labelled joints, widened on each side.

    The margin is a share of the box's longer side. The joints of a frame have no extent if only one
    is labelled, or several at the same place. The box is then centred there. Its side is the median
    side of the other frames, or half the picture's shorter side if there are none.

    Args:
      joints: [T, K, 2], NaN where not labelled; at least one in each frame.
      sizes: int [T, 2], heights and widths of the pictures.
      margin: 0 or more.
    """
    low, high = np.nanmin(joints, 1).astype(float), np.nanmax(joints, 1).astype(float)
    centre, sides = (low + high) / 2, high - low
    longer = sides.max(-1)
    extended = longer >= geometry.LEAST_BOX
    usual = np.median(longer[extended]) if extended.any() else sizes.min(-1) / 2
    longer = np.where(extended, longer, usual)[:, None]
    # Joints on a line have no height, so no side is made less than a quarter of the other.
    sides = np.where(extended[:, None], np.maximum(sides, longer / 4), longer)
    half = sides / 2 + margin * longer
    return np.concatenate([centre - half, centre + half], -1).astype(np.float32)
