"""What a user gets of an own video beside its keypoints: before and after, to look at and to load.

Written into the folder of the results: NAME_report.html, NAME_overlay.mp4 (both poses over the
video; before red, after green), exports/NAME_before_adapt.* and NAME_after_adapt.* (formats of
other tools), and with --labels NAME_scores.json. All of it is made from what is kept on disk, so
it can be made again, otherwise, without adapting again.
"""

import contextlib
import dataclasses
import datetime
import glob
import hashlib
import json
import os
import pathlib
from fractions import Fraction

import av
import cv2
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import labels as labels_lib
from ttp_jax import exports, geometry, metrics, report, smooth
from ttp_jax.files import (
    DAMAGED,
    parse_json,
    read_arrays,
    read_json,
    write_arrays,
    write_atomically,
    write_json,
)
from ttp_jax.skeletons import Skeleton
from ttp_jax.verbs import experiment, receipts
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import Result, peak_mib

ENSEMBLE = "eks"  # a format of several runs that differ in their seed
MOST_PICTURES = 48  # of the report
REPORT_PIXELS = 480  # longer side of its pictures
VIDEO_PIXELS = 1280  # longer side of the overlay video
ROOM = 0.25  # around the person in the report, in sides of the box
BEFORE, AFTER = (255, 84, 112), (64, 224, 120)
SCORES = (  # of `metrics.score_labels`: key, name, unit, what is better, what it is
    ("PCK@0.2", "PCK@0.2", "%", "higher",
     "share of the labelled joints within 0.2 of the torso's length of their label"),
    ("PCK@0.5", "PCK@0.5", "%", "higher", "likewise within 0.5 of the torso's length"),
    ("RMSE px", "RMSE", "px", "lower", "root mean square distance from the labels"),
)  # fmt: skip

# What `keep` writes, as patterns of `files.read_arrays` and `parse_json`.
KEPT = {"joints": ("f", 3), "peaks": ("f", 2), "boxes": ("f", 2), "about": ("U", 0)}
ABOUT = {"figures": {str: [float]}, "cost": {str: float, "updates": float}, "inputs": str}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a subject: all that a delivery is made of beside its pictures.

    Attributes:
      clip: with the boxes that it was predicted in.
      size: height and width of its pictures.
      before: joints [T, K, 2] in pixels of the pictures; NaN where a frame could not be read.
      after: likewise.
      peaks: [T, K] before and after.
      figures: `Runner.figures` before and after.
      cost: what it took, name -> value.
    """

    clip: clips_lib.Clip
    size: tuple[int, int]
    before: np.ndarray
    after: np.ndarray
    peaks: tuple[np.ndarray, np.ndarray]
    figures: dict[str, list[float]]
    cost: dict[str, float]


class Delivery:
    """Writes what one subject's user gets; made once a run."""

    def __init__(self, config, scenario: str, folder: pathlib.Path, options):
        """Check the options before the work starts."""
        self._config, self._scenario, self._folder = config, scenario, folder
        self._skeleton = experiment.skeleton_of(config)
        self._formats = [name for name in (options.formats or "dlc-csv").split(",") if name]
        self._how, self._labels = options.smooth, options.labels
        self._labels_first = options.labels_first
        self._known: labels_lib.Labels | None = None  # `check` reads them
        self._chosen = chosen_joints(self._skeleton, options.keypoints)
        known = *exports.FORMATS, ENSEMBLE
        if unknown := set(self._formats) - set(known):
            raise ValueError(f"--formats={','.join(unknown)}: expected some of {', '.join(known)}.")
        if ENSEMBLE in self._formats and options.person:
            raise ValueError("--formats=eks is for runs that adapt: a kept model has one seed.")
        exports.check(self._formats)
        # What is delivered already needn't be again, unless it would come out otherwise.
        self._wanted = {
            "formats": self._formats,
            "smooth": self._how,
            "keypoints": list(self._chosen[0].joints),
            "labels": self._labels and [labels_digest(self._labels), self._labels_first],
        }

    def check(self, clips) -> None:
        """Read the labels before the work starts, and refuse those that can't be used.

        Raises ValueError where it isn't clear whose they are, DataError where they are unusable.
        """
        if not self._labels:
            return
        if len(clips) > 1:
            names = ", ".join(clip.name for clip in clips[:5])
            raise ValueError(f"--labels are those of one video: name one of {names} at a time.")
        self._known = self._read_labels(clips[0])

    def keep(self, clip, result: Result, before: Result, figures: dict[str, list[float]]) -> None:
        """Keep what a delivery needs beside the results that every run keeps."""
        self._kept(clip.name, "json").unlink(missing_ok=True)  # what it tells of is of the past
        cost = {
            "frames": clip.num_frames,
            "updates": int(result.adaptation.step),
            "seconds a frame": result.seconds / clip.num_frames,
            "memory of the process, MiB": round(peak_mib()),
        }
        arrays = {"joints": before.joints, "peaks": before.peaks, "boxes": clip.boxes}
        told = {"figures": figures, "cost": cost, "inputs": result.inputs}
        about = np.array(json.dumps(told))
        write_arrays(self._kept(clip.name), {**arrays, "about": about})

    def is_done(self, clip) -> bool:
        """Whether all that is wanted of a subject is there, made of these very frames."""
        like = {"wanted": dict, "files": [str], "origin": str}
        try:
            done = read_json(self._kept(clip.name, "json"), like)
            if done is None or done["wanted"] != self._wanted:
                return False
            there = all((self._folder / file).exists() for file in done["files"])
        except (OSError, ValueError):
            return False
        return there and done["origin"] == clip.origin

    def write(self, clip) -> None:
        """Write everything of a subject whose results are on disk, and say what and where.

        Raises DataError where it can't be made from what is there, OSError from writing.
        """
        name, rate = clip.name, clip.frames_per_second or 30.0
        outcome = self._outcome(clip)
        poses = {"before": outcome.before, "after": outcome.after}
        if self._how:
            poses = {key: smooth.smooth(joints, self._how, rate) for key, joints in poses.items()}
        files = self._export(outcome, poses, rate)
        video = self._folder / f"{name}_overlay.mp4"
        files.append(overlay_video(video, outcome, poses, self._skeleton, rate))
        quality = self.quality(outcome, poses)
        scores, about_scores = self._scores(outcome, poses)
        notes = self._notes(outcome)
        self._report(outcome, poses, quality, (scores, about_scores), notes)
        files = [self.report(name), self._folder / f"{name}.csv", *files]
        if scores:
            files.append(self._scores_file(name))
        listed = [os.path.relpath(path, self._folder) for path in files]
        done = {"wanted": self._wanted, "origin": clip.origin, "files": listed}
        write_json(self._kept(name, "json"), done)
        say(f"\n{name}: without labels, before -> after (this is no accuracy)")
        for row in quality:
            say(f"  {row[0]:34}{row[1]:9.4g} -> {row[2]:.4g} {row[3]}")
        if scores:
            say("against the labels, before -> after")
        for row in scores:
            say(f"  {row[0]:34}{row[1]:9.4g} -> {row[2]:.4g} {row[3]}")
        for note in (*about_scores, *notes):
            say(f"  {note}")
        for path in files:
            say(f"  {path}")

    def report(self, name: str) -> pathlib.Path:
        """Where a subject's report is."""
        return self._folder / f"{name}_report.html"

    def _scores_file(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}_scores.json"

    def _notes(self, outcome: Outcome) -> list[str]:
        """What the reader of a report must know of its numbers."""
        config, clip, notes = self._config, outcome.clip, []
        if config.base == "shipped":
            notes.append(
                "The included model has seen rendered people only and makes clear errors "
                "on real ones: research software, no medical device."
            )
        cell = np.median(geometry.box_to_crop(clip.boxes)[:, 2]) / experiment.heatmap_size(config)
        notes.append(
            f"A cell of the network's map is {cell:.3g} px wide here: expect no joint to be placed "
            "much finer than a quarter of that, whatever its decimals."
        )
        if self._how:
            notes.append(
                f"Smoothed ({self._how}): pictures, video, exports and the figures of the pose; "
                f"{clip.name}.csv is as predicted."
            )
        if unread := int(np.isnan(outcome.after).all((1, 2)).sum()):
            notes.append(f"{unread} frames could not be read: rows of NaN.")
        return notes

    def _kept(self, name: str, kind: str = "npz") -> pathlib.Path:
        return self._folder / "delivery" / f"{name}.{kind}"

    def _outcome(self, clip) -> Outcome:
        """Read a subject's outcome."""
        path = self._kept(clip.name)
        if not path.exists():
            raise clips_lib.DataError(
                f"{path} is missing (a run with --nodeliver?): --overwrite adapts again."
            )
        try:
            then = read_arrays(path, KEPT)
            about, boxes = parse_json(str(then["about"]), path, ABOUT), then["boxes"]
            before, figures, cost = then["joints"], about["figures"], about["cost"]
            now = read_arrays(self._folder / f"{clip.name}.npz", receipts.RESULTS)
            peaks = then["peaks"], now["peaks"]
            shapes = {each.shape[:2] for each in (before, now["joints"], *peaks)}
            if len(shapes) > 1 or len(before) != clip.num_frames:
                raise ValueError(f"shapes {shapes}, {clip.num_frames} frames")
            predicted = dataclasses.replace(clip, boxes=boxes)
        except DAMAGED as error:
            raise clips_lib.DataError(
                f"{path} or the results that it goes with can't be read ({error}): --overwrite "
                "adapts again."
            ) from error
        if about.get("inputs") != str(now["inputs"]):
            raise clips_lib.DataError(
                f"{path} is of other frames or boxes than the results beside it (a later run "
                "with --nodeliver?): --overwrite adapts again."
            )
        return Outcome(predicted, clip.largest, before, now["joints"], peaks, figures, cost)

    def _export(self, outcome: Outcome, poses, rate) -> list[pathlib.Path]:
        skeleton, columns = self._chosen
        clip, (height, width), written = outcome.clip, outcome.size, []
        for (when, joints), peaks in zip(poses.items(), outcome.peaks, strict=True):
            track = exports.Track(
                clip.name,
                joints[:, columns],
                peaks[:, columns],
                skeleton,
                rate,
                int(clip.frame_numbers[0]),
                (width, height),
                clip.boxes,
                self._config.data.every,
            )
            suffix, place = f"_{when}_adapt", self._folder / "exports"
            formats = [name for name in self._formats if name != ENSEMBLE]
            written += exports.write(track, place, formats, suffix)
            if when == "after" and ENSEMBLE in self._formats:
                written += self._join_ensemble(clip, track)
            # Of an earlier wish: who finds both can't tell which belongs to the report.
            for old in place.glob(f"{glob.escape(clip.name + suffix)}.*"):
                if old not in written:
                    old.unlink()
                    say(f"  removed, as it isn't asked for any more: {old}")
        return written

    def _join_ensemble(self, clip, track: exports.Track) -> list[pathlib.Path]:
        """Write this seed's member beside those of other seeds, if nothing else sets them apart."""
        own = read_json(self._folder / "protocol.json", {"seed": int})
        del own["seed"]
        own |= {"frames": clip.origin, "smooth": self._how, "keypoints": self._wanted["keypoints"]}
        # Not in the results' folder, which makes place for that of another seed.
        folder = self._folder.parent / f"ensemble-{self._scenario}" / clip.name
        common = folder / "common.json"
        if not common.exists():
            write_json(common, own)
        elif read_json(common) != own:
            raise clips_lib.DataError(
                f"{folder} has members of other settings than this run's: move it away."
            )
        return exports.write_eks({self._config.seed: track}, folder)

    def _scores(self, outcome: Outcome, poses) -> tuple[list[tuple], list[str]]:
        """Score both on the user's labels, which nothing was trained on: rows and notes."""
        clip, known = outcome.clip, self._known
        if known is None:
            self._scores_file(clip.name).unlink(missing_ok=True)  # of labels given earlier
            return [], []
        here = np.isin(known.frames, clip.frame_numbers)
        places = np.searchsorted(clip.frame_numbers, known.frames)
        notes = list(known.notes)
        if not here.all():
            notes.append(f"{(~here).sum()} labelled frames were not predicted: left out.")
        truth = known.joints[here], known.visible[here]
        found = {
            when: metrics.score_labels(joints[places[here]], *truth, self._skeleton)
            for when, joints in poses.items()
        }
        write_json(self._scores_file(clip.name), without_nan(found))
        before, after = found["before"], found["after"]
        rows = [
            (name, before[key]["mean"], after[key]["mean"], unit, better, explanation)
            for key, name, unit, better, explanation in SCORES
            if key in before
        ]
        count = f"{before['joints']} joints in {before['frames']} labelled frames are scored."
        return rows, [count, *before["notes"], *notes]

    def _read_labels(self, clip) -> labels_lib.Labels:
        """The user's labels of a clip; raises DataError where they can't be used."""
        count = clip.num_frames if clip.numbers is None else None
        known = labels_lib.read(
            self._labels,
            self._skeleton,
            clip.name,
            clip.largest,
            count=count,
            first=self._labels_first,
        )
        if not np.isin(known.frames, clip.frame_numbers).any():
            raise clips_lib.DataError(
                f"{self._labels}: no labelled frame is among those of {clip.name}."
            )
        return known

    def quality(self, outcome: Outcome, poses) -> list[tuple]:
        """Rows for `report.personal`: measures that need no labels."""
        rows = []
        for name, measure, unit, explanation in (
            ("jitter", metrics.jitter, "limb lengths",
             "mean acceleration from frame to frame; fast movement counts too"),
            ("limb length spread", metrics.limb_spread, "of the mean",
             "variation of limb lengths over time; turning counts too"),
            ("left and right exchanged", metrics.swaps, "of the steps",
             "share of steps at which a pair seems to change sides"),
        ):  # fmt: skip
            values = (measure(joints, self._skeleton) for joints in poses.values())
            rows.append((name, *values, unit, "lower", explanation))
        for figure, name, unit, explanation in (
            ("reconstruction", "reconstruction loss", "",
             "of frames from another frame's look and their own keypoints: what adaptation "
             "minimises"),
            ("held-out reconstruction", "held-out reconstruction loss", "",
             "of frames that nothing was learned from, from another frame's look and their own "
             "keypoints"),
            ("agreement", "distance to own keypoints", "of the box's side",
             "joints against the mean of the self-supervised keypoints that they are made of, "
             "weighted by affinity"),
        ):  # fmt: skip
            if figure in outcome.figures:
                rows.append((name, *outcome.figures[figure], unit, "lower", explanation))
        return rows

    def _report(self, outcome: Outcome, poses, quality, scores, notes) -> None:
        config, clip, numbers = self._config, outcome.clip, outcome.clip.frame_numbers
        readable = np.flatnonzero(np.isfinite(outcome.after).all((1, 2)))
        few = np.unique(readable[np.linspace(0, len(readable) - 1, MOST_PICTURES).astype(int)])
        left, top, right, bottom = window(outcome.size, poses, few)
        zoom = min(1.0, REPORT_PIXELS / max(right - left, bottom - top))
        size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
        pictures = [
            cv2.resize(picture[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
            for picture in (on_canvas(clip.read(i), outcome.size) for i in few)
        ]
        # Pixel centres lie at integers on both sides.
        scale = np.array(size) / (right - left, bottom - top)
        small = {k: (j[few] - (left, top) + 0.5) * scale - 0.5 for k, j in poses.items()}
        updates = {
            "updates a frame": config.ttp.iterations,
            "pairs an update": config.ttp.batch_size,
            "learning rate": config.ttp.learning_rate,
            "what trains": config.ttp.rules,
        }
        step = f", every {config.data.every}" if config.data.every > 1 else ""
        settings = {
            "scenario": self._scenario,
            **(updates if outcome.cost["updates"] else {}),
            "frames": f"{numbers[0]} to {numbers[-1]}{step}",
            "report made": datetime.date.today().isoformat(),
            "boxes": config.data.boxes,
            "boxes refined": config.data.refine,
            "boxes fitted by the model": "yes" if config.data.fit else "no",
            "smoothed": self._how or "no",
            "model": config.base or config.name,
        }
        report.personal(
            self.report(clip.name),
            name=clip.name,
            pictures=pictures,
            frames=few,
            numbers=numbers,
            before=small["before"],
            after=small["after"],
            all_before=poses["before"],
            all_after=poses["after"],
            skeleton=self._skeleton,
            quality=quality,
            scores=scores,
            settings=settings,
            cost=outcome.cost,
            notes=notes,
        )


def without_nan(value):
    """What JSON can hold: None in the place of NaN, which readers other than Python's refuse."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def chosen_joints(skeleton: Skeleton, names: str | None) -> tuple[Skeleton, list[int]]:
    """The skeleton of some joints ("left_knee,right_knee"; all if None), and their columns."""
    if not names:
        return skeleton, list(range(skeleton.size))
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in skeleton.joints]:
        raise ValueError(
            f"--keypoints={','.join(unknown)}: expected some of {', '.join(skeleton.joints)}."
        )
    return skeleton.part(wanted), [skeleton.joints.index(name) for name in wanted]


def labels_digest(path: str) -> str:
    """SHA-256 of a file of labels."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def on_canvas(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture in the upper left of a black one of height and width `size`, the largest's."""
    picture = picture[: size[0], : size[1]]  # a picture's header may tell another size
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, size[0] - height), (0, size[1] - width), (0, 0)))


def window(size, poses, frames) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a region that shows the person in all of these frames."""
    height, width = size
    points = np.concatenate([poses["before"][frames], poses["after"][frames]]).reshape(-1, 2)
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    room = ROOM * max(high - low)
    left, top = (int(v) for v in np.maximum(np.floor(low - room), 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(high + room), (width, height)))
    return min(left, width - 2), min(top, height - 2), max(right, left + 2), max(bottom, top + 2)


def overlay_video(
    path: pathlib.Path, outcome: Outcome, poses, skeleton: Skeleton, rate: float
) -> pathlib.Path:
    """Write the video with both poses drawn, before red and after green, and the frames' numbers.

    H.264, which players, browsers and phones show. Frames that can't be read are black. Raises
    OSError where it can't be written.
    """
    height, width = outcome.size
    zoom = min(1.0, VIDEO_PIXELS / max(height, width))
    # The codec halves the resolution of colour, so it wants even sides.
    size = max(2, round(width * zoom) // 2 * 2), max(2, round(height * zoom) // 2 * 2)
    scale = np.array(size) / (width, height)
    thick = max(2, round(max(size) / 400))
    numbers = outcome.clip.frame_numbers
    rate_given = Fraction(rate).limit_denominator(10_000)

    def write(temporary):
        # As a whole path: FFmpeg takes "run-1:2/a.mp4" for a protocol.
        with av.open(
            os.path.abspath(temporary), "w", format="mp4", options={"movflags": "faststart"}
        ) as file:
            stream = file.add_stream("libx264", rate=rate_given)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for index in range(outcome.clip.num_frames):
                picture = np.zeros((height, width, 3), np.uint8)
                with contextlib.suppress(clips_lib.FrameError):
                    picture = on_canvas(outcome.clip.read(index), outcome.size)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                for name, color, extra in (("before", BEFORE, 0), ("after", AFTER, 1)):
                    points = (poses[name][index] + 0.5) * scale - 0.5
                    draw_pose(picture, points, skeleton, color, thick + extra)
                write_legend(picture, f"frame {numbers[index]}")
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), "rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode())

    try:
        return write_atomically(path, write)
    except av.FFmpegError as error:
        raise OSError(f"{path} can't be written: {error}. Is the disk full?") from error


def write_legend(picture, text: str) -> None:
    """Write a text and what the colours mean into the picture's top left corner."""
    size = max(0.45, max(picture.shape[:2]) / 1600)
    at = np.array([6, 6 + round(22 * size)])
    for word, color in ((text, (255, 255, 255)), ("before", BEFORE), ("after", AFTER)):
        place = tuple(int(v) for v in at)
        for shade, thick in (((0, 0, 0), 4), (color, 1)):
            cv2.putText(picture, word, place, cv2.FONT_HERSHEY_SIMPLEX, size, shade, thick,
                        cv2.LINE_AA)  # fmt: skip
        at += (0, round(32 * size))


def draw_pose(picture, points, skeleton: Skeleton, color, thick: int) -> None:
    """Draw limbs and joints [K, 2] into a picture; those that are NaN are left out."""
    at = [tuple(int(v) for v in np.round(p)) if np.isfinite(p).all() else None for p in points]
    for a, b in ((at[a], at[b]) for a, b in skeleton.limbs):
        if a and b:
            cv2.line(picture, a, b, color, thick, cv2.LINE_AA)
    for place in at:
        if place:
            cv2.circle(picture, place, thick + 1, color, -1, cv2.LINE_AA)
