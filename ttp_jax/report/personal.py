"""The report of one subject: whether a person was found, before and after, changes, cost."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ttp_jax.report.page import DASH, notice, page, paragraph, save, section, table
from ttp_jax.report.plots import line_plot
from ttp_jax.report.timelines import confidence_table, folded, mean_of_known, timelines
from ttp_jax.report.viewer import before_after, spoken
from ttp_jax.skeletons import Skeleton

BETTER = {"lower": -1, "higher": 1, "": 0}
VERDICTS = {1: "better", 0: "no change", -1: "worse"}
MISSED = "pose not on the person"
NO_CHANGE = 0.01  # share of the larger of two values below which a difference is "no change"
NOT_ACCURACY = (
    "None of these numbers measures accuracy. They are computed without labels, so a steadier "
    "or smoother pose can still be wrong."
)
NOTHING_IS_BETTER = (
    "The pose is not on a person, so no change is called better or worse: a skeleton beside one "
    "can be steady, too."
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Personal:
    """Everything that the report of one subject's personalization shows.

    Attributes:
      name: name of the subject.
      pictures: n pictures to show, in the form that `before_after` takes.
      frames: [n] index of each picture among the T frames, from 0.
      numbers: [T] number of each frame in the video, which is shown as its name.
      before: joints [n, K, 2] in pixels of the pictures.
      after: as `before`.
      all_before: joints [T, K, 2] of all frames, in pixels of the original pictures.
      all_after: as `all_before`.
      skeleton: skeleton of the joints.
      quality: rows (name, before, after, unit, better, explanation) of measures without labels;
        `better` is "lower", "higher", or "" if neither is better; unknown values are NaN.
      settings: name -> value, in words.
      cost: name -> value, such as seconds per frame, updates, memory.
      scores: rows like those of `quality` with scores against labels, and sentences about them.
      notes: sentences that qualify the numbers, such as which frames could not be read.
      warnings: sentences about real and possible problems, shown right after `found`.
      found: whether a person was found, as in `presence.Presence.to_dict`: "found" (True, False, or
        None if it wasn't checked) and "words", a sentence. If False, no change is called better.
      confidence: [T, K] before and [T, K] after; None if unknown.
      pcutoff: joints of lower confidence are drawn fainter, and counted.
      seconds: [T] times of the frames; None if unknown.
    """

    name: str
    pictures: Sequence[np.ndarray]
    frames: Any
    numbers: Any
    before: Any
    after: Any
    all_before: Any
    all_after: Any
    skeleton: Skeleton
    quality: Sequence[tuple]
    settings: Mapping[str, object]
    cost: Mapping[str, object]
    scores: tuple[Sequence[tuple], Sequence[str]] = ((), ())
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    found: Mapping | None = None
    confidence: Sequence | None = None
    pcutoff: float = 0.0
    seconds: Any = None

    @property
    def somebody(self) -> bool:
        """Whether measures may be called better or worse, because a person may be there."""
        return self.found is None or self.found["found"] is not False


def personal(path: str | os.PathLike, **parts: Any) -> None:
    """Write the report of one subject's personalization. Create missing folders.

    Without its pictures, the file has at most 5 MB (for up to 200 joints), however long the video
    is, because `timelines` limits the number of points.

    Args:
      path: path of the HTML file. It is written atomically.
      **parts: attributes of `Personal`.

    Raises:
      ValueError: the arrays don't fit each other, or a `better` is unknown.
    """
    of = Personal(**parts)
    poses = _poses(of.all_before, of.all_after, of.skeleton)
    moved = np.linalg.norm(poses["after"] - poses["before"], axis=-1)
    confidences = _confidences(of.confidence, moved.shape)
    sections = [
        *_movement_sections(of, poses, moved, confidences),
        *_quality_sections(of),
        _pair(
            section("Settings", table(["setting", "value"], [*of.settings.items()], narrow="wrap")),
            section("Cost", table(["cost", "value"], [*of.cost.items()], narrow="wrap")),
        ),
    ]
    subtitle = (
        "Pose of one person before and after test-time personalization. Shown: "
        f"{len(of.pictures)} of {len(moved)} frames, evenly spaced, cropped to the person."
    )
    top = _found(of.found) + notice(of.warnings, "warning", "warnings")
    first = notice(of.notes, "note", "notes") + _viewer(of, confidences)
    save(path, page(str(of.name), sections, subtitle=subtitle, top=top, first=first))


def _viewer(of: Personal, confidences: dict) -> str:
    """Return the viewer, or a sentence if there are no pictures."""
    if not len(of.pictures):
        return notice(["No frame of the video could be shown."], "warning", "warning")
    frames = np.asarray(of.frames)
    return before_after(
        *(of.pictures, of.before, of.after, of.skeleton),
        confidence=[values[frames] for values in confidences.values()] or None,
        pcutoff=of.pcutoff,
        frames=np.asarray(of.numbers)[frames],
        seconds=None if of.seconds is None else np.asarray(of.seconds)[frames],
    )


def _movement_sections(of: Personal, poses, moved, confidences) -> list[str]:
    """Return where and when the pose changed, and each joint over time."""
    numbers = np.asarray(of.numbers)
    changes, most = _changes(moved, numbers, of.skeleton)
    look = {"chosen": most, "pcutoff": of.pcutoff, "unit": "frame"}
    over_time = [timelines(numbers, poses, confidences, of.skeleton, **look)]
    if confidences:
        over_time.append(confidence_table(confidences, of.skeleton, of.pcutoff))
    return [
        section("Where and when the pose changed", *changes),
        section("Each joint over time", _pair(*over_time)),
    ]


def _quality_sections(of: Personal) -> list[str]:
    """Return the scores against labels, if there are any, and the measures without labels."""
    rows, sentences = of.scores
    scored = [*map(paragraph, sentences), _compared(rows, of.somebody)]
    said = notice([NOT_ACCURACY if of.somebody else NOTHING_IS_BETTER], "note", "note")
    return [
        *([section("Against the labels", *scored)] if rows else []),
        section("Quality without labels", said, _compared(of.quality, of.somebody)),
    ]


def _poses(before, after, skeleton) -> dict[str, np.ndarray]:
    """Return both as float64 [T, K, 2]; raise ValueError for other shapes."""
    before, after = (np.asarray(each, np.float64) for each in (before, after))
    if before.shape != after.shape or before.shape[1:] != (skeleton.size, 2):
        raise ValueError(
            f"got all_before {before.shape} and all_after {after.shape}, expected both "
            f"[T, {skeleton.size}, 2] for {skeleton.name}."
        )
    return {"before": before, "after": after}


def _confidences(confidence, shape) -> dict[str, np.ndarray]:
    """Return the confidences [T, K] of each pose; an empty dict if they are unknown."""
    if confidence is None:
        return {}
    both = [np.asarray(each, np.float64) for each in confidence]
    if [each.shape for each in both] != [shape] * 2:
        raise ValueError(
            f"got confidence {' and '.join(str(each.shape) for each in both)}, expected {shape} "
            "before and after."
        )
    return dict(zip(("before", "after"), both, strict=True))


def _found(found: Mapping | None) -> str:
    """Return the report's first line, on whether a person was found."""
    if found is None:
        return ""
    kind = {True: "yes", False: "no"}.get(found["found"], "note")
    return notice([str(found["words"])], kind, "whether a person was found")


def _pair(*pieces: str) -> str:
    """Return pieces of HTML that are side by side if there is room."""
    return f'<div class="pair">{"".join(f"<div>{piece}</div>" for piece in pieces)}</div>\n'


# --- What changed --------------------------------------------------------------------------------


def _changes(moved, numbers, skeleton) -> tuple[list[str], int]:
    """Return sentences and plots about movement [T, K], and the joint that moved most."""
    if not (moved > 0).any():
        return [paragraph("No joint moved in any frame where it is known before and after.")], 0
    over_joints, over_frames = mean_of_known(moved, 1), mean_of_known(moved)
    joint, frame = int(np.nanargmax(over_frames)), np.nanargmax(over_joints)
    summary = (
        f"Adaptation moved the joints by {mean_of_known(moved, None):.2f} px on average. The "
        f"{spoken(skeleton.joints[joint])} moved most ({over_frames[joint]:.2f} px), and frame "
        f"{numbers[frame]} changed most ({over_joints[frame]:.2f} px). This says where and when "
        "the pose changed, not whether it got better."
    )
    plot = line_plot(
        {"mean of the joints": (numbers, over_joints)},
        bands={"mean of the joints": (np.fmin.reduce(moved, 1), np.fmax.reduce(moved, 1))},
        x_label="frame",
        y_label="movement (px)",
        title="Movement in each frame: mean of the joints; shaded from the least to the most moved",
    )
    return [paragraph(summary), _pair(plot, _bars(skeleton.joints, over_frames))], joint


def _bars(names, values) -> str:
    """Return a bar for the movement of each joint."""
    longest = max(float(np.nanmax(values)), np.finfo(float).tiny)
    rows = "\n".join(
        f"<tr><th>{escape(spoken(name))}</th>"
        f'<td><span style="width:{100 * value / longest:.1f}%"></span></td>'
        f'<td class="number">{value:.2f}</td></tr>'
        for name, value in zip(names, np.nan_to_num(values), strict=True)
    )
    caption = "<figcaption>Movement of each joint, mean of the frames (px)</figcaption>"
    drawn = f'<figure>{caption}<table class="bars"><tbody>\n{rows}\n</tbody></table></figure>\n'
    return folded(drawn, len(names), "Movement")


# --- Better or worse -----------------------------------------------------------------------------


def _compared(rows: Sequence[tuple], somebody: bool) -> str:
    """Return a table of measures before and after, and explanations of the measures."""
    cells, meanings = [], []
    for name, before, after, unit, better, explanation in rows:
        if better not in BETTER:
            raise ValueError(f"{name}: got better={better!r}, expected one of {list(BETTER)}.")
        before, after = float(before), float(after)
        change = after - before
        share = f" ({change / abs(before):+.0%})" if before and math.isfinite(change) else ""
        shown = f"{change:+.3g}{share}" if math.isfinite(change) else DASH
        measure = f"{name} ({unit})" if unit else name
        cells.append([measure, _verdict(before, after, better, somebody), before, after, shown])
        aim = f" {better.capitalize()} is better." if better else ""
        meaning = explanation.rstrip(".") + "." + aim
        meanings.append(f"<div><dt>{escape(name)}</dt><dd>{escape(meaning)}</dd></div>")
    # The verdict is the second column, so that it is visible on a phone.
    header = ["measure", "verdict", "before", "after", "change"]
    rule = f"No change: before and after differ by less than {NO_CHANGE:.0%}."
    below = f'<p class="muted">{rule}</p>' if somebody else ""
    meant = f'<dl class="meanings">{"".join(meanings)}</dl>\n'
    return table(header, cells, narrow="stack") + below + meant


def _verdict(before: float, after: float, better: str, somebody: bool) -> str:
    """Return the word for a change of a measure."""
    change = after - before
    if not BETTER[better] or not math.isfinite(change):
        return DASH
    if not somebody:
        return MISSED
    if abs(change) <= NO_CHANGE * max(abs(before), abs(after)):
        return VERDICTS[0]
    return VERDICTS[int(np.sign(change * BETTER[better]))]
