"""The report of one subject: before and after, with signs of quality."""

import datetime
import pathlib
from collections.abc import Mapping

import cv2
import numpy as np

from data_pipelines import locate
from data_pipelines.clips import Clip, rejoined
from ttp_jax import exports, geometry, metrics, report
from ttp_jax.report import words
from ttp_jax.runs.backdrop import Backdrop
from ttp_jax.runs.experiment import Config
from ttp_jax.runs.outcome import Outcome
from ttp_jax.runs.results import unreadable
from ttp_jax.skeletons import Skeleton

MOST_PICTURES = 48
PIXELS = 480  # longer side of the pictures
ROOM = 0.25  # margin around the joints, as a share of the region that they span
LEAST = 0.5  # a picture shows at least this share of the crop's side, if joints are few or still


def quality(outcome: Outcome, poses, skeleton: Skeleton) -> list[tuple]:
    """Return rows for `report.personal`: the label-free measures that this skeleton allows."""
    rows = []
    for name, measure, unit, explanation in (
        ("jitter", metrics.jitter, metrics.jitter_unit(skeleton),
         "mean acceleration from frame to frame; fast movement raises it, too"),
        ("limb length spread", metrics.limb_spread, "of the mean",
         "variation of limb lengths over time; turning raises it, too"),
        ("left and right exchanged", metrics.swaps, "of the steps",
         "share of steps at which a pair seems to change sides"),
    ):  # fmt: skip
        values = [measure(joints, skeleton) for joints in poses.values()]
        if not np.isnan(values).all():  # all NaN without limbs or mirror pairs
            rows.append((name, *values, unit, "lower", explanation))
    for key, name, unit, explanation in (
        ("reconstruction", "reconstruction loss", "",
         "error when rebuilding frames from another frame's appearance and their own keypoints: "
         "the loss that adaptation minimises"),
        ("held-out reconstruction", "held-out reconstruction loss", "",
         "the reconstruction loss on frames that the adaptation never used"),
        ("agreement", "distance to own keypoints", "of the box's side",
         "distance of each joint from the keypoints that the network computes it from, weighted by "
         "how much they contribute"),
    ):  # fmt: skip
        if key in outcome.diagnostics:
            rows.append((name, *outcome.diagnostics[key], unit, "lower", explanation))
    return rows


def notes(
    outcome: Outcome, smoothed: str | None, *, base: str, boxes: str, heatmap_size: int
) -> list[str]:
    """Return what the reader of a report must know about its numbers.

    Args:
      outcome: outcome of the subject.
      smoothed: how joints were smoothed, if they were.
      base: the base model, `config.base`.
      boxes: `config.data.boxes`.
      heatmap_size: side of the network's heatmaps.
    """
    clip, notes = outcome.clip, [*outcome.clip.notes]
    if np.array_equal(outcome.before, outcome.after, equal_nan=True):
        notes.append("The model did not adapt, so before and after are the same.")
    if base == "shipped":
        notes.append(
            "The included model was trained on rendered people only and makes obvious errors on "
            "real ones. This is research software, not a medical device."
        )
    cell = np.median(clip.network_crops[:, 2]) / heatmap_size
    notes.append(
        f"A heatmap cell is {cell:.3g} px wide here: don't expect joints to be more "
        "precise than about a quarter of that."
    )
    if smoothed:
        uneven = exports.is_uneven(clip.times)
        notes.append(
            f"Smoothed ({smoothed}): pictures, video, exports and measures. "
            f"{clip.name}.csv is not smoothed."
            + " The filter assumes evenly spaced frames."
            * (smoothed == "savgol" and uneven)
        )
    empty, away = np.isnan(outcome.after).all((1, 2)), np.zeros(clip.num_frames, bool)
    if clip.region is not None and boxes == "people":
        away = np.isnan(clip.region).any(1)
    if clip.frame_names is not None:
        away = ~unreadable(clip, outcome.after)
    if gone := int((empty & away).sum()):
        notes.append(f"Frames without joints (NaN), because the person was not found: {gone}.")
    if unread := int((empty & ~away).sum()):
        notes.append(f"Frames without joints (NaN), because they could not be read: {unread}.")
    return notes


def write(
    path: pathlib.Path,
    outcome: Outcome,
    poses: dict[str, np.ndarray],
    skeleton: Skeleton,
    settings: Mapping[str, object],
    texts: dict[str, list],
    *,
    found: Mapping | None = None,
    pcutoff: float = 0.0,
) -> None:
    """Write the report.

    Args:
      path: path of the file.
      outcome: outcome of the subject.
      poses: joints [T, K, 2] to show, "before" and "after".
      skeleton: skeleton of the joints.
      settings: settings as name -> value, see `settings_of`.
      texts: rows and sentences: "quality", "scores", "about_scores", "notes" and, if there are any,
        "warnings".
      found: whether a person was found, from `presence.Presence.to_dict`.
      pcutoff: joints of lower confidence are drawn fainter.
    """
    few = shown(np.flatnonzero(np.isfinite(outcome.after).any((1, 2))))
    pictures, small = _pictures(outcome, poses, few)
    report.personal(
        path,
        name=outcome.clip.name,
        pictures=pictures,
        frames=few,
        numbers=outcome.clip.frame_numbers,
        before=small["before"],
        after=small["after"],
        all_before=poses["before"],
        all_after=poses["after"],
        skeleton=skeleton,
        quality=texts["quality"],
        scores=(texts["scores"], texts["about_scores"]),
        settings=settings,
        cost=words.cost(outcome.cost),
        notes=texts["notes"],
        warnings=texts.get("warnings", []),
        found=found,
        confidence=outcome.confidence,
        pcutoff=pcutoff,
        seconds=outcome.clip.times,
    )


def kept_for(clip: Clip) -> Clip:
    """Return the clip with a backdrop, so that report and overlay don't read its frames again."""
    if clip.recordings:
        return rejoined(clip, [kept_for(part) for part in clip.recordings])
    return Backdrop(clip, shown(np.arange(clip.num_frames)).tolist()).clip


def shown(readable: np.ndarray) -> np.ndarray:
    """Choose the frames that the report shows, from a subject's readable frames [n]."""
    spread = np.linspace(0, len(readable) - 1, min(MOST_PICTURES, len(readable)))
    return readable[spread.astype(int)]


def _pictures(outcome: Outcome, poses, few: np.ndarray) -> tuple[list[np.ndarray], dict]:
    """Return pictures of a few frames around the person, and the joints in their pixels."""
    if not len(few):
        return [], {k: j[few] for k, j in poses.items()}
    least = LEAST * float(np.median(outcome.clip.network_crops[:, 2]))
    left, top, right, bottom = window(outcome.size, poses, few, least)
    zoom = min(1.0, PIXELS / max(right - left, bottom - top))
    size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
    pictures = [
        cv2.resize(picture[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
        for picture in map(Backdrop.of(outcome.clip).whole, few.tolist())
    ]
    scale, corner = np.array(size) / (right - left, bottom - top), (left, top)
    return pictures, {k: geometry.rescale_points(j[few] - corner, scale) for k, j in poses.items()}


def settings_of(
    outcome: Outcome, scenario: str, smoothed: str | None, *, model: str, data: Config, ttp: Config
) -> dict[str, object]:
    """Return the settings of a subject's run in words, name -> value.

    Args:
      outcome: outcome of the subject.
      scenario: "online", "offline", or "person-NAME".
      smoothed: how joints were smoothed, if they were.
      model: the base model.
      data: fields of `config.data`.
      ttp: fields of `config.ttp`.
    """
    clip, numbers = outcome.clip, outcome.clip.frame_numbers
    nobody = data.boxes in locate.FINDERS and clip.region is None
    if not (outcome.cost["updates"] or scenario.startswith("person-")):
        scenario = "none"
    step = f", every {data.every}" if data.every > 1 else ""
    return {
        "scenario": words.scenario(scenario),
        "smoothed": smoothed or "no",
        "model": words.model(model),
        **(words.updates(ttp) if outcome.cost["updates"] else {}),
        **words.boxes(data, clip.boxes, outcome.size, nobody),
        "frames": f"{numbers[0]} to {numbers[-1]}{step}",
        "report made": datetime.date.today().isoformat(),
    }


def window(size, poses, frames, least: float) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a region that shows the person in all these frames.

    Args:
      size: height and width of the pictures.
      poses: joints [T, K, 2] in pixels, "before" and "after".
      frames: indices of the frames.
      least: smallest side of the region in pixels, as far as the pictures reach.
    """
    height, width = size
    points = np.concatenate([poses["before"][frames], poses["after"][frames]]).reshape(-1, 2)
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    room = np.maximum(ROOM * max(high - low), (least - (high - low)) / 2)
    left, top = (int(v) for v in np.maximum(np.floor(low - room), 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(high + room), (width, height)))
    left, top = min(left, width - 2), min(top, height - 2)
    return left, top, max(right, left + 2), max(bottom, top + 2)
