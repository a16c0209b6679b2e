"""Position and confidence of each joint over time, before and after personalization."""

from html import escape

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.report.page import table
from ttp_jax.report.plots import Panel, draw, key, limits_of, line
from ttp_jax.report.viewer import spoken
from ttp_jax.skeletons import Skeleton

# All lines of all joints together have at most about ALL_POINTS points, 2 MB. Each line has between
# FEWEST_POINTS and MOST_POINTS.
ALL_POINTS, MOST_POINTS, FEWEST_POINTS = 60_000, 500, 50
MANY = 20  # a table with more rows is folded


def timelines(
    numbers: ArrayLike,
    poses: dict,
    confidences: dict,
    skeleton: Skeleton,
    *,
    chosen: int,
    pcutoff: float,
    unit: str,
) -> str:
    """Return a selector of joints and, for each joint, its x, y and confidence over time.

    For long videos, means over intervals of frames are drawn, with their ranges shaded.

    Args:
      numbers: [T] values of the horizontal axis, ascending.
      poses: "before" and "after" -> joints [T, K, 2] in pixels.
      confidences: "before" and "after" -> [T, K]; empty if unknown.
      skeleton: skeleton of the joints.
      chosen: index of the joint to show first.
      pcutoff: a level to mark in the plots of confidence, if above 0.
      unit: unit of `numbers`, such as "frame".
    """
    count = 2 * (2 + bool(confidences)) * skeleton.size
    most = int(np.clip(ALL_POINTS // count, FEWEST_POINTS, MOST_POINTS))

    def lines(values):
        return [
            line(name, numbers, values[name], name, dashed=name == "before", most=most)
            for name in ("before", "after")
        ]

    options, drawings = [], []
    for k, joint in enumerate(skeleton.joints):
        panels = []
        for axis, label in enumerate(("x (px)", "y (px)")):
            values = {name: of[:, k, axis] for name, of in poses.items()}
            limits = limits_of(values.values())
            panels.append(Panel(label, lines(values), down=axis == 1, limits=limits))
        if confidences:
            values = {name: of[:, k] for name, of in confidences.items()}
            top = max(1.0, *(float(np.nanmax(v, initial=0)) for v in values.values()))
            panels.append(
                Panel("confidence", lines(values), level=pcutoff or None, limits=(0.0, top))
            )
        shown = "" if k == chosen else " hidden"
        drawing = draw(panels, unit, f"{spoken(joint)} over time, before and after")
        drawings.append(f'<div class="choice"{shown}>{drawing}</div>')
        mark = " selected" if k == chosen else ""
        options.append(f"<option{mark}>{escape(spoken(joint))}</option>")
    legend = "".join(key(name, f"--{name}", name == "before") for name in ("before", "after"))
    return f"""<figure class="plot chooser">
<label>Joint <select>{"".join(options)}</select></label>
<ul class="legend">{legend}</ul>
{"".join(drawings)}</figure>
"""


def confidence_table(confidences: dict, skeleton: Skeleton, pcutoff: float) -> str:
    """Return the mean confidence of each joint, and how often it is below the p-cutoff.

    Args:
      confidences: "before" and "after" -> [T, K], 0 to 1.
      skeleton: skeleton of the joints.
      pcutoff: confidence below which a joint is counted; 0 leaves this column out.
    """
    header = ["joint", "before", "after"]
    means = [mean_of_known(confidences[name]) for name in ("before", "after")]
    columns = [[f"{value:.2f}" if np.isfinite(value) else None for value in each] for each in means]
    if pcutoff:
        header.append(f"below {pcutoff:g}")
        known = np.isfinite(confidences["after"])
        below = mean_of_known(np.where(known, confidences["after"] < pcutoff, np.nan))
        columns.append([f"{share:.0%}" if np.isfinite(share) else None for share in below])
    rows = list(zip(map(spoken, skeleton.joints), *columns, strict=True))
    return folded(
        table(header, rows, "Mean confidence of each joint", narrow="wrap"), len(rows), "Confidence"
    )


def folded(html: str, rows: int, name: str) -> str:
    """Return a table, folded behind a heading if it is long.

    Args:
      html: the table.
      rows: number of rows of the table.
      name: heading of the folded table.
    """
    if rows <= MANY:
        return html
    return f"<details><summary>{escape(name)} of all {rows} joints</summary>{html}</details>\n"


def mean_of_known(values: np.ndarray, axis: int | None = 0) -> np.ndarray:
    """Return the mean of the finite values along an axis; NaN where there are none.

    Args:
      values: array [T, ...] of any unit; NaN where missing.
      axis: axis to average over, by default frames; None for all values.
    """
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis), known.sum(axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)
