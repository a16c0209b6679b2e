"""What a user gets of an own video beside its keypoints: before and after, to look at and to load.

Written into the folder of the results: NAME_report.html, NAME_overlay.mp4 (both poses over the
video; before red, after green), exports/NAME_before_adapt.* and NAME_after_adapt.* (formats of
other tools), and with --labels NAME_scores.json.
"""

import pathlib
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import labels as labels_lib
from ttp_jax import exports, geometry, losses, metrics, report, smooth, state, ttp
from ttp_jax.checkpoint import write_json
from ttp_jax.memory import Frames
from ttp_jax.models.pose import WITH_KEYPOINTS
from ttp_jax.skeletons import Skeleton
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import Result, peak_mib

MOST_PICTURES = 48  # of the report
REPORT_PIXELS = 480  # longer side of its pictures
VIDEO_PIXELS = 1280  # longer side of the overlay video
ROOM = 0.25  # around the person in the report, in sides of the box
PROBED = 16  # frames for the figures that the network itself gives
BEFORE, AFTER = (255, 84, 112), (64, 224, 120)


class Delivery:
    """Writes what one subject's user gets; made once a run."""

    def __init__(self, config, base: state.Base, folder: pathlib.Path, options):
        """Check the options before the work starts, and get ready to look into models."""
        self._config, self._base, self._folder = config, base, folder
        self._skeleton = experiment.skeleton_of(config)
        self._formats = [name for name in (options.formats or "dlc-csv").split(",") if name]
        self._how, self._labels = options.smooth, options.labels
        self._labels_first = options.labels_first
        self._chosen = chosen_joints(self._skeleton, options.keypoints)
        if unknown := set(self._formats) - set(exports.FORMATS):
            raise ValueError(
                f"--formats={','.join(unknown)}: expected some of {', '.join(exports.FORMATS)}."
            )
        if self._how:
            smooth.smooth(np.zeros((1, 1, 2)), self._how)  # an unknown filter shows now
        self._tools = experiment.ttp_tools(config, "none")
        self._look = jax.jit(self._tools.model.apply)
        self._vgg = experiment.load_vgg(config)

    def write(self, clip, result: Result, before: Result, scenario: str) -> None:
        """Write everything of one subject, and say what and where."""
        name, rate = clip.name, clip.frames_per_second or 30.0
        poses = {"before": before.joints, "after": result.joints}
        if self._how:
            poses = {key: smooth.smooth(joints, self._how, rate) for key, joints in poses.items()}
        files = self._export(clip, poses, {"before": before.peaks, "after": result.peaks}, rate)
        video = self._folder / f"{name}_overlay.mp4"
        files.append(overlay_video(video, clip, poses, self._skeleton, rate))
        quality = self.quality(result, before)
        notes = self._scores(clip, poses)
        if result.frames.errors:
            notes.append(f"{len(result.frames.errors)} frames could not be read: rows of NaN.")
        self._report(clip, result, poses, quality, notes, scenario)
        say(f"\n{name}: without labels, before -> after (this is no accuracy)")
        for row in quality:
            say(f"  {row[0]:34}{row[1]:9.4g} -> {row[2]:.4g} {row[3]}")
        for note in notes:
            say(f"  {note}")
        say(f"  report: {self._folder / f'{name}_report.html'}")
        for path in files:
            say(f"  {path}")

    def _export(self, clip, poses, peaks, rate) -> list[pathlib.Path]:
        skeleton, columns = self._chosen
        first, every = first_and_step(self._config)
        first = 0 if every > 1 else first  # numbered anew: the formats know no gaps
        height, width = readable_picture(clip).shape[:2]
        written = []
        for when, joints in poses.items():
            track = exports.Track(
                clip.name,
                joints[:, columns],
                peaks[when][:, columns],
                skeleton,
                rate,
                first,
                (width, height),
                clip.boxes,
            )
            suffix = f"_{when}_adapt"
            written += exports.write(track, self._folder / "exports", self._formats, suffix)
        return written

    def _scores(self, clip, poses) -> list[str]:
        """Score both on the user's labels; nothing was trained on them."""
        if not self._labels:
            return []
        count = clip.num_frames
        first, every = first_and_step(self._config)
        part = self._config.data.frames or every > 1
        known = labels_lib.read(
            self._labels,
            self._skeleton,
            clip.name,
            readable_picture(clip).shape[:2],
            count=None if part else count,
            first=self._labels_first,
        )
        places = (known.frames - first) // every
        here = (places >= 0) & (places < count) & ((known.frames - first) % every == 0)
        if not here.any():
            raise clips_lib.DataError(
                f"{self._labels}: no labelled frame is among those of {clip.name}."
            )
        truth = known.joints[here], known.visible[here]
        found = {
            when: metrics.score_labels(joints[places[here]], *truth, self._skeleton)
            for when, joints in poses.items()
        }
        write_json(self._folder / f"{clip.name}_scores.json", found)
        before, after = found["before"], found["after"]
        said = [
            f"{name} on {before['frames']} labelled frames: {value['mean']:.2f} before, "
            f"{after[name]['mean']:.2f} after"
            for name, value in before.items()
            if isinstance(value, dict)
        ]
        return [*said, *before["notes"], *known.notes]

    def quality(self, result: Result, before: Result) -> list[tuple]:
        """Rows for `report.personal`: measures that need no labels."""
        skeleton, rows = self._skeleton, []
        for name, measure, unit, explanation in (
            ("jitter", metrics.jitter, "limb lengths",
             "mean acceleration from frame to frame; fast movement counts too"),
            ("limb length spread", metrics.limb_spread, "of the mean",
             "variation of limb lengths over time; turning counts too"),
            ("left and right exchanged", metrics.swaps, "of the steps",
             "share of steps at which a pair seems to change sides"),
        ):  # fmt: skip
            values = (measure(r.joints, skeleton) for r in (before, result))
            rows.append((name, *values, unit, "lower", explanation))
        if self._config.model.method not in WITH_KEYPOINTS:
            return rows
        deltas = jax.tree.map(jnp.zeros_like, result.adaptation.delta), result.adaptation.delta
        one, other = (self._inside(result, delta) for delta in deltas)
        rows.append((
            "reconstruction loss", one["reconstruction"], other["reconstruction"], "",
            "lower", "of frames from another frame's look and their own keypoints: what adaptation "
            "minimises, here on frames that it has seen",
        ))  # fmt: skip
        if "agreement" in one:
            rows.append((
                "distance to own keypoints", one["agreement"], other["agreement"],
                "of the box's side", "lower", "joints against the mean of the self-supervised "
                "keypoints that they are made of, weighted by affinity",
            ))  # fmt: skip
        return rows

    def _inside(self, result: Result, delta) -> dict[str, float]:
        """Figures that the network gives: reconstruction and agreement on a few frames."""
        settings = self._tools.settings
        readable = np.flatnonzero(np.isfinite(result.joints).all((1, 2)))
        few = readable[np.linspace(0, len(readable) - 1, PROBED).astype(int)]
        frames = Frames(*map(jnp.asarray, result.frames.read(few)))
        affines = geometry.crop_affine(frames.crops, settings.image_size)
        crops = ttp.cut(frames, jnp.arange(PROBED), affines, settings)
        sources = jnp.roll(crops, PROBED // 2, 0)
        output: Any = self._look(state.adapted(self._base, delta), crops, sources)
        picture, means = output.reconstruction, self._base.normalisers
        loss, _ = losses.reconstruction(self._vgg, picture, crops, means, bgr=settings.bgr)
        found = {"reconstruction": float(loss)}
        if output.affinity is not None:
            weights = jnp.abs(output.affinity)
            weights = weights / weights.sum(-1, keepdims=True)
            side = output.heatmaps.shape[1]
            mean = jnp.einsum("bkm,bmx->bkx", weights, output.points) / side
            joints = geometry.transform_points(affines, jnp.asarray(result.joints[few]))
            away = jnp.linalg.norm(mean - joints / settings.image_size, axis=-1)
            found["agreement"] = float(away.mean())
        return found

    def _report(self, clip, result, poses, quality, notes, scenario) -> None:
        config, count = self._config, clip.num_frames
        readable = np.flatnonzero(np.isfinite(result.joints).all((1, 2)))
        few = np.unique(readable[np.linspace(0, len(readable) - 1, MOST_PICTURES).astype(int)])
        left, top, right, bottom = window(clip, poses, few)
        zoom = min(1.0, REPORT_PIXELS / max(right - left, bottom - top))
        size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
        pictures = [
            cv2.resize(clip.read(i)[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
            for i in few
        ]
        # Pixel centres lie at integers on both sides.
        scale = np.array(size) / (right - left, bottom - top)
        small = {k: (j[few] - (left, top) + 0.5) * scale - 0.5 for k, j in poses.items()}
        settings = {
            "scenario": scenario,
            "updates a frame": config.ttp.iterations,
            "pairs an update": config.ttp.batch_size,
            "learning rate": config.ttp.learning_rate,
            "what trains": config.ttp.rules,
            "boxes": config.data.boxes,
            "boxes refined": config.data.refine,
            "smoothed": self._how or "no",
            "model": config.base or config.name,
        }
        cost = {
            "frames": count,
            "updates": int(result.adaptation.step),
            "seconds a frame": result.seconds / count,
            "memory of the process, MiB": round(peak_mib()),
        }
        report.personal(
            self._folder / f"{clip.name}_report.html",
            name=clip.name,
            pictures=pictures,
            frames=few,
            before=small["before"],
            after=small["after"],
            all_before=poses["before"],
            all_after=poses["after"],
            skeleton=self._skeleton,
            quality=quality,
            settings=settings,
            cost=cost,
            notes=notes,
        )


def first_and_step(config) -> tuple[int, int]:
    """Number of the first row's frame in the video, and of frames from row to row."""
    return int(config.data.frames.partition("-")[0] or 0), config.data.every


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


def readable_picture(clip) -> np.ndarray:
    """The first picture that can be read."""
    for index in range(clip.num_frames):
        try:
            return clip.read(index)
        except clips_lib.FrameError:
            continue
    raise clips_lib.FrameError(f"{clip.name}: no frame can be read.")


def window(clip, poses, frames) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a region that shows the person in all of these frames."""
    height, width = readable_picture(clip).shape[:2]
    points = np.concatenate([poses["before"][frames], poses["after"][frames]]).reshape(-1, 2)
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    room = ROOM * max(high - low)
    left, top = (int(v) for v in np.maximum(np.floor(low - room), 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(high + room), (width, height)))
    return min(left, width - 2), min(top, height - 2), max(right, left + 2), max(bottom, top + 2)


def overlay_video(path: pathlib.Path, clip, poses, skeleton: Skeleton, rate: float) -> pathlib.Path:
    """Write the video with both poses drawn: before red and thin, after green.

    Frames that can't be read are black. Raises OSError where no video can be written.
    """
    height, width = readable_picture(clip).shape[:2]
    zoom = min(1.0, VIDEO_PIXELS / max(height, width))
    size = max(2, round(width * zoom) // 2 * 2), max(2, round(height * zoom) // 2 * 2)
    scale = np.array(size) / (width, height)
    part = path.with_name(f"part-{path.name}")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise OSError(f"{path} can't be written: is the disk full, or OpenCV without ffmpeg?")
    thick = max(1, round(max(size) / 400))
    for index in range(clip.num_frames):
        try:
            picture = clip.read(index)
        except clips_lib.FrameError:
            picture = np.zeros((height, width, 3), np.uint8)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for name, color, extra in (("before", BEFORE, 0), ("after", AFTER, 1)):
            points = (poses[name][index] + 0.5) * scale - 0.5
            draw_pose(picture, points, skeleton, color, thick + extra)
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    part.replace(path)
    return path


def draw_pose(picture, points, skeleton: Skeleton, color, thick: int) -> None:
    """Draw limbs and joints [K, 2] into a picture; those that are NaN are left out."""
    at = [tuple(int(v) for v in np.round(p)) if np.isfinite(p).all() else None for p in points]
    for a, b in ((at[a], at[b]) for a, b in skeleton.limbs):
        if a and b:
            cv2.line(picture, a, b, color, thick, cv2.LINE_AA)
    for place in at:
        if place:
            cv2.circle(picture, place, thick + 1, color, -1, cv2.LINE_AA)
