"""Outputs for the user's own videos: report, overlay video, exports and scores, before and after.

They go into the folder of the results: NAME_report.html, NAME_overlay.mp4 (both poses over the
video; before orange and dashed, after blue), exports/NAME_before_adapt.* and
NAME_after_adapt.* (formats of other tools), and with --labels NAME_scores.json. They are made from
stored results, so other formats or labels need no new adaptation.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import locate
from data_pipelines.labels import Labels
from ttp_jax import dlc_analysis, exports, presence, ranges, smooth
from ttp_jax.files import inside, read_json, sha256, write_arrays, write_json
from ttp_jax.runs import personal_report, user_labels
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.outcome import Outcome, read_outcome
from ttp_jax.runs.overlay import overlay_video
from ttp_jax.runs.process import peak_mib, say
from ttp_jax.runs.results import Result, move_to_old
from ttp_jax.skeletons import Skeleton

ENSEMBLE = "eks"  # the format that combines runs of several seeds
ANALYSIS = "deeplabcut"  # files as DeepLabCut's analysis writes them, in a folder of this name
# Required content of the record of a subject's outputs; earlier versions stored no digests of the
# exports.
DONE = {"wanted": dict, "files": [str], "origin": str, "exports?": {str: str}}


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """Which outputs to write: values of the flags, None for their defaults.

    Attributes:
      formats: formats of the exports, separated by commas.
      smooth: how joints are smoothed, see `smooth.smooth`.
      keypoints: names of the joints to export, separated by commas; None for all.
      labels: file with the true joints.
      labels_first: number of the first frame in that file.
      pcutoff: joints of lower confidence are drawn hollow and left out of exports.
    """

    formats: str | None = None
    smooth: str | None = None
    keypoints: str | None = None
    labels: str | None = None
    labels_first: int = 0
    pcutoff: float = 0.0

    @classmethod
    def of(cls, options: Any) -> "OutputOptions":
        """Return the output options among a command's options."""
        return cls(**{each.name: getattr(options, each.name) for each in dataclasses.fields(cls)})


class Outputs:
    """The writer of each subject's outputs."""

    def __init__(
        self, experiment: Experiment, scenario: str, folder: pathlib.Path, options: OutputOptions
    ):
        """Check the options before the work starts.

        Args:
          experiment: network, skeleton and settings.
          scenario: "online", "offline", or "person-NAME".
          folder: folder of the results.
          options: see `OutputOptions`.
        """
        ranges.check_argument("--pcutoff", options.pcutoff, ranges.SHARE)
        self._experiment, self._scenario, self._folder = experiment, scenario, folder
        self._skeleton = experiment.skeleton
        self._formats = [name for name in (options.formats or "dlc-csv").split(",") if name]
        self._how, self._options = options.smooth, options
        self._labels: Labels | None = None  # None until `check` reads them
        self._chosen = chosen_joints(self._skeleton, options.keypoints)
        known = *exports.FORMATS, ANALYSIS, ENSEMBLE
        if unknown := set(self._formats) - set(known):
            raise ValueError(f"--formats={','.join(unknown)}: expected some of {', '.join(known)}.")
        if ENSEMBLE in self._formats and scenario.startswith("person-"):
            raise ValueError("--formats=eks needs runs of several seeds; a kept model has one.")
        if ENSEMBLE in self._formats and experiment.config.ttp.method == "none":
            raise ValueError(
                "--formats=eks needs runs that differ by their seed, but nothing adapts: add "
                "--method=NAME; BlazePose takes --method=teacher."
            )
        exports.check([*self._formats, *["dlc-h5"] * (ANALYSIS in self._formats)])
        # Outputs written with the same options are up to date, see `is_done`.
        self._wanted = {
            "formats": self._formats,
            "smooth": self._how,
            "keypoints": list(self._chosen[0].joints),
            **({"pcutoff": options.pcutoff} if options.pcutoff else {}),
            "labels": options.labels and [user_labels.digest(options.labels), options.labels_first],
        }

    def check(self, clips) -> None:
        """Read the labels before the work starts.

        Raises ValueError for labels of several videos, DataError for a file that can't be used.
        """
        if not self._options.labels:
            return
        if len(clips) > 1:
            names = clips_lib.first_few([clip.name for clip in clips])
            raise ValueError(f"--labels is a file for one video: name one of {names}.")
        path, first = self._options.labels, self._options.labels_first
        self._labels = user_labels.read(path, first, self._skeleton, clips[0])

    def keep(
        self,
        clip,
        result: Result,
        before: Result,
        diagnostics: dict[str, list[float]],
        warnings: list[str],
    ) -> None:
        """Store what the outputs need in addition to the results that every run stores."""
        # Earlier outputs are now out of date.
        record = self._kept(clip.name, "json")
        if done := _done(record):
            write_json(record, {**done, "wanted": {}})
        arrays = {"joints": before.joints, "confidence": before.confidence, "boxes": clip.boxes}
        arrays |= {
            name: rows for name in ("region", "crops") if (rows := getattr(clip, name)) is not None
        }
        about = {"figures": diagnostics, "cost": _cost(clip, result), "inputs": result.inputs}
        about = np.array(json.dumps({**about, "warnings": warnings}))
        write_arrays(self._kept(clip.name), {**arrays, "about": about})

    def is_done(self, clip) -> bool:
        """Return whether a subject's outputs exist for exactly these frames and options."""
        done = _done(self._kept(clip.name, "json"))
        if not done or done["wanted"] != self._wanted or done["origin"] != clip.fingerprint:
            return False
        try:
            return all((self._folder / file).exists() for file in done["files"])
        except (OSError, ValueError):
            return False

    def write(self, clip) -> None:
        """Write a subject's outputs from its stored results, and print a summary.

        Raises DataError if the stored results can't be used, OSError if a file can't be written.
        """
        name, rate = clip.name, clip.frames_per_second or 30.0
        outcome = read_outcome(clip, self._kept(name), self._folder / f"{name}.npz")
        poses = _smoothed(outcome, self._how, rate)
        tracks = self._tracks(outcome, poses, rate)
        record = self._kept(name, "json")
        files = _export(clip, tracks, self._formats, self._folder, record)
        video = self._folder / f"{name}_overlay.mp4"
        cutoff = self._options.pcutoff
        files.append(overlay_video(video, outcome, poses, self._skeleton, rate, cutoff))
        about_times = exports.note_on_times(clip.times, self._formats, f"{name}.csv")
        config, size = self._experiment.config, self._experiment.heatmap_size
        notes = personal_report.notes(
            outcome, self._how, base=config.base, boxes=config.data.boxes, heatmap_size=size
        )
        texts = {
            "quality": personal_report.quality(outcome, poses, self._skeleton),
            **self._scores(outcome, poses),
            "notes": [*notes, *about_times],
            "warnings": outcome.warnings,
        }
        own = {"model": config.base or config.name, "data": config.data, "ttp": config.ttp}
        settings = personal_report.settings_of(outcome, self._scenario, self._how, **own)
        report = self.report(name)
        found = _presence(outcome, config.data.boxes)
        personal_report.write(
            report,
            outcome,
            poses,
            self._skeleton,
            settings,
            texts,
            found=None if found is None else found.to_dict(),
            pcutoff=cutoff,
        )
        files = [report, self._folder / f"{name}.csv", *files]
        if texts["scores"]:
            files.append(self._scores_file(name))
        try:  # last, because the ensemble's file can't always be written, and the others can
            if ENSEMBLE in self._formats:
                files += self._join_ensemble(clip, tracks["after"])
            listed = [os.path.relpath(path, self._folder) for path in files]
            write_json(record, {**_done(record), "wanted": self._wanted, "files": listed})
        finally:
            _tell(name, texts, files, found)

    def report(self, name: str) -> pathlib.Path:
        """Return the path of a subject's report."""
        return self._folder / f"{name}_report.html"

    def _scores_file(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}_scores.json"

    def _scores(self, outcome: Outcome, poses) -> dict[str, list]:
        """Score against the user's labels, if any; return table rows and notes."""
        clip = outcome.clip
        if self._labels is None:
            self._scores_file(clip.name).unlink(missing_ok=True)  # left from an earlier --labels
            return {"scores": [], "about_scores": []}
        found = user_labels.scores(self._labels, outcome, poses, self._skeleton)
        write_json(self._scores_file(clip.name), without_nan(found))
        about = user_labels.notes(self._labels, outcome, found)
        return {"scores": user_labels.rows(found), "about_scores": about}

    def _kept(self, name: str, kind: str = "npz") -> pathlib.Path:
        return self._folder / "delivery" / f"{name}.{kind}"

    def _tracks(self, outcome: Outcome, poses, rate) -> dict[str, exports.Track]:
        """Return the tracks to export, "before" and "after"."""
        skeleton, columns = self._chosen
        clip, (height, width), tracks = outcome.clip, outcome.size, {}
        for (when, joints), confidence in zip(poses.items(), outcome.confidence, strict=True):
            tracks[when] = exports.Track(
                clip.name,
                joints[:, columns],
                confidence[:, columns],
                skeleton,
                rate,
                int(clip.frame_numbers[0]),
                (width, height),
                clip.boxes,
                self._experiment.data.every,
                times=clip.times,
                pictures=clip.frame_names,
                pcutoff=self._options.pcutoff,
                video=clip.source,
                stored_size=clip.stored_size and clip.stored_size[::-1],
            )
        return tracks

    def _join_ensemble(self, clip, track: exports.Track) -> list[pathlib.Path]:
        """Write this seed's joints beside those of other seeds; raises as `_ensemble` does."""
        own = read_json(self._folder / "protocol.json", {"seed": int})
        del own["seed"]
        own |= {
            "frames": clip.fingerprint,
            "smooth": self._how,
            "keypoints": self._wanted["keypoints"],
        }
        # Not in the folder of the results, because that is moved aside when the seed changes.
        folder = self._folder.parent / f"ensemble-{self._scenario}" / clip.name
        return _ensemble(folder, own, self._experiment.seed, track)


def _ensemble(
    folder: pathlib.Path, own: dict, seed: int, track: exports.Track
) -> list[pathlib.Path]:
    """Write a seed's joints into the folder of an ensemble whose members have the settings `own`.

    Raises DataError if the earlier ones have others, or if joints are missing from a frame.
    """
    common = folder / "common.json"
    if first := not common.exists():
        write_json(common, own)
    elif read_json(common) != own:
        raise clips_lib.DataError(
            f"{folder} holds predictions made with other settings: move it away."
        )
    try:
        return exports.write_eks({seed: track}, folder)
    except ValueError as error:
        if first:
            common.unlink()  # or a run of other frames would have to move it away
        raise clips_lib.DataError(f"{folder} lacks seed {seed}: {error}") from error


def _smoothed(outcome: Outcome, how: str | None, rate: float) -> dict[str, np.ndarray]:
    """Return the joints "before" and "after", smoothed if requested."""
    poses, times = {"before": outcome.before, "after": outcome.after}, outcome.clip.times
    if not how:
        return poses
    times = times if exports.is_uneven(times) else None
    return {when: smooth.smooth(joints, how, rate, times) for when, joints in poses.items()}


def _cost(clip, result: Result) -> dict[str, float]:
    """Return the cost of the adaptation by name, for the report."""
    return {
        "frames": clip.num_frames,
        "updates": int(result.adaptation.step),
        "seconds a frame, with compiling": result.seconds / clip.num_frames,
        "seconds a frame, without": (result.seconds - result.compiling) / clip.num_frames,
        "memory of the process, MiB": round(peak_mib()),
    }


def _presence(outcome: Outcome, boxes: str) -> presence.Presence | None:
    """Check whether the joints lie on a person; None if nobody said or searched where."""
    if boxes == "whole":
        return None
    given, seen = boxes not in locate.FINDERS, boxes == "people"
    region = outcome.clip.boxes if given else outcome.clip.region
    if region is None:
        return presence.nowhere()
    return presence.measure(
        outcome.after,
        region,
        picture_size=outcome.size,
        given=given or seen,
        name="detected box" if seen else "",
    )


def _done(record: pathlib.Path) -> dict[str, Any]:
    """Return the record of a subject's outputs; empty if there is none that can be read."""
    try:
        return read_json(record, DONE) or {}
    except (OSError, ValueError):
        return {}


def _export(
    clip,
    tracks: dict[str, exports.Track],
    formats: list[str],
    folder: pathlib.Path,
    record: pathlib.Path,
) -> list[pathlib.Path]:
    """Write the exports, remove those that are no longer requested, and record them."""
    earlier = _unedited(folder, clip.name, _done(record))
    written = [
        path
        for when, track in tracks.items()
        for path in _write_exports(track, folder / "exports", formats, when)
    ]
    for path in earlier:
        if path not in written:
            path.unlink()
            say(f"  removed, no longer requested: {path}")
    digests = {str(path.relative_to(folder)): sha256(path) for path in written}
    done = {"wanted": {}, "origin": clip.fingerprint, "files": [], "exports": digests}
    write_json(record, done)
    return written


def _write_exports(
    track: exports.Track, folder: pathlib.Path, formats: list[str], when: str
) -> list[pathlib.Path]:
    """Write one track in all formats except the ensemble's; `when` is "before" or "after"."""
    wanted = [name for name in formats if name in exports.FORMATS]
    written = exports.write(track, folder, wanted, f"_{when}_adapt")
    if ANALYSIS in formats:
        # Each subject has its own folder, because two videos may have the same file name.
        written += dlc_analysis.write(track, folder / ANALYSIS / track.name, when)
    return written


def _unedited(folder: pathlib.Path, name: str, done: dict[str, Any]) -> list[pathlib.Path]:
    """Return the exports that an earlier run recorded; move those that were edited since aside.

    Predictions that were corrected in SLEAP, for example, are the user's work.
    """
    listed = {file: "" for file in done.get("files", ()) if file.startswith("exports/")}
    same, edited = [], []
    for file, digest in done.get("exports", listed).items():
        path = inside(folder, file)
        if path.is_file():
            is_same = digest in ("", sha256(path))
            (same if is_same else edited).append(path)
    if edited:
        aside = move_to_old(folder, name, edited)
        for path in edited:
            say(f"  edited since it was written, now {aside / path.relative_to(folder)}")
    return same


def _tell(
    name: str,
    texts: dict[str, list],
    files: list[pathlib.Path],
    found: presence.Presence | None,
) -> None:
    """Print the signs of quality, the scores, the notes and the files."""
    if found is not None:
        say(f"\n{name}: {found.words}")
    say(f"\n{name}: without labels, before -> after (not a measure of accuracy)")
    for row in texts["quality"]:
        say(f"  {row[0]:34}{row[1]:9.4g} -> {row[2]:.4g} {row[3]}".rstrip())
    if texts["scores"]:
        say("against the labels, before -> after")
    for row in texts["scores"]:
        say(f"  {row[0]:34}{row[1]:9.4g} -> {row[2]:.4g} {row[3]}")
    for note in (*texts["about_scores"], *texts["notes"]):
        say(f"  {note}")
    for path in files:
        say(f"  {path}")


def without_nan(value):
    """Replace NaN by None, because JSON readers other than Python's reject NaN."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def chosen_joints(skeleton: Skeleton, names: str | None) -> tuple[Skeleton, list[int]]:
    """Return the skeleton of the named joints ("left_knee,right_knee"), and their columns."""
    if not names:
        return skeleton, list(range(skeleton.size))
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in skeleton.joints]:
        raise ValueError(
            f"--keypoints={','.join(unknown)}: expected some of {', '.join(skeleton.joints)}."
        )
    return skeleton.part(wanted), [skeleton.joints.index(name) for name in wanted]
