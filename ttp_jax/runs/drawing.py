"""Poses drawn into the frames of a video, in the colours of `ttp_jax.palette`."""

import cv2
import numpy as np

from ttp_jax import palette
from ttp_jax.skeletons import Skeleton

INK = (20, 20, 26)  # dark outline, to separate a pose from similar colours in the picture
DASH = 5  # length of a dash in line widths
FAR = 30_000  # pixels; OpenCV can't draw lines to points much farther away


def draw_pose(
    picture,
    points,
    skeleton: Skeleton,
    pose: str,
    thick: int,
    *,
    confidence=None,
    pcutoff: float = 0.0,
) -> None:
    """Draw limbs and joints into a picture; joints that are NaN are left out.

    "before" is thin and dashed, "after" wide and solid. Joints below the p-cutoff are hollow, and
    their limbs are left out.

    Args:
      picture: uint8 RGB [H, W, 3], drawn into.
      points: joints [K, 2] in pixels.
      skeleton: skeleton of the joints.
      pose: "before" or "after".
      thick: line width of "after", in pixels.
      confidence: confidence [K] of the joints; None if unknown.
      pcutoff: smallest confidence of a joint that is drawn filled.
    """
    known = np.isfinite(points).all(-1)
    at = np.clip(np.nan_to_num(np.round(points)), -FAR, FAR).astype(int).tolist()
    sure = np.ones(len(at), bool)
    if confidence is not None:
        sure = ~(np.asarray(confidence) < pcutoff)
    dashed, width = pose == "before", thick if pose == "after" else max(1, thick - 1)
    for (a, b), color in zip(skeleton.limbs, palette.limb_colors(skeleton, pose), strict=True):
        if known[a] and known[b] and sure[a] and sure[b]:
            cv2.line(picture, at[a], at[b], INK, width + 2, cv2.LINE_AA)
            _line(picture, at[a], at[b], color.tolist(), width, dashed)
    colors, radius = palette.colors(skeleton, pose).tolist(), width + 2
    for k in np.flatnonzero(known):
        filled = sure[k]
        cv2.circle(picture, at[k], radius + 1, INK, -1 if filled else 2, cv2.LINE_AA)
        cv2.circle(picture, at[k], radius, colors[k], -1 if filled else 1, cv2.LINE_AA)


def _line(picture, a, b, color, width: int, dashed: bool) -> None:
    """Draw a line, dashed if `dashed`."""
    if not dashed:
        cv2.line(picture, a, b, color, width, cv2.LINE_AA)
        return
    parts = max(1, round(np.hypot(*np.subtract(b, a)) / (DASH * width)))
    ends = np.linspace(a, b, 2 * (parts // 2) + 2).round().astype(int).tolist()
    for start, end in zip(ends[0::2], ends[1::2], strict=True):
        cv2.line(picture, start, end, color, width, cv2.LINE_AA)


def write_legend(picture, text: str, skeleton: Skeleton, pcutoff: float = 0.0) -> None:
    """Write a text and a legend into the top left corner of the picture.

    Args:
      picture: uint8 RGB [H, W, 3], drawn into.
      text: first line, such as the frame's number.
      skeleton: skeleton of the joints. Left and right are explained if it has both.
      pcutoff: p-cutoff, which is explained if above 0.
    """
    size = max(0.45, max(picture.shape[:2]) / 1600)
    step, stroke = round(32 * size), max(2, round(3 * size))
    x, y = 6, 6 + round(22 * size)
    _write(picture, text, (x, y), size)
    known = palette.sides(skeleton)
    both = "left" in known and "right" in known
    for pose, shades in palette.POSES.items():
        y, x = y + step, 6
        for side in ("left", "right") if both else known[:1]:
            end = x + round(34 * size)
            middle = y - round(7 * size)
            cv2.line(picture, (x, middle), (end, middle), INK, stroke + 2, cv2.LINE_AA)
            _line(picture, (x, middle), (end, middle), shades[side], stroke, pose == "before")
            x = end + round(14 * size)
        _write(picture, pose, (x, y), size)
    notes = ["dark: left, light: right"] * both
    notes += [f"hollow: confidence < {pcutoff:g}"] if pcutoff else []
    for line, note in enumerate(notes, 1):
        _write(picture, note, (6, y + line * step), 0.8 * size)


def _write(picture, text: str, place, size: float) -> None:
    """Write white text with a dark outline."""
    for shade, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, shade, thick, cv2.LINE_AA)
