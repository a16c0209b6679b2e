"""Personalize (or only predict) a set of subjects, and write their results and outputs."""

import dataclasses
import functools
import pathlib

import jax
from jax.experimental import multihost_utils

from data_pipelines import clips as clips_lib
from ttp_jax import parallel, people, state, visualize, warning_signs
from ttp_jax.checkpoint import Unfinished, fingerprint
from ttp_jax.files import DAMAGED, move_aside, plain_name
from ttp_jax.runs import (
    base_model,
    boxes,
    diagnostics,
    identity,
    personal_report,
    process,
    provenance,
    recordings,
    results,
    run_record,
    sources,
)
from ttp_jax.runs.batch import OF_ONE, Runner
from ttp_jax.runs.experiment import Config, Experiment
from ttp_jax.runs.outputs import OutputOptions, Outputs
from ttp_jax.runs.process import STOPPED, Stopped, progress_bar, say, say_failed, stopping
from ttp_jax.runs.results import Result
from ttp_jax.runs.strategy import DEFAULT, Strategy

HELD_OUT = "held-out reconstruction"  # a key of what `diagnostics.before_and_after` returns
# Work that the progress bar counts in addition to a subject's frames, as a share of them.
SEARCHING, COMPARING, WRITING = 0.2, 0.1, 0.3


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a run that are not part of its experiment.

    Attributes:
      scenario: "online", "offline", or "none" (predict only).
      keep: form in which to keep personalized models (`people.pack`); None keeps none.
      person: name of the kept model to predict with instead of the base model.
      overwrite: process subjects again even if they are done.
      outputs: reports, videos and exports of the user's own videos; None writes joints only.
      allow_missing: return 0 even if some inputs can't be used.
      strategy: how subjects run side by side.
      split: "test" or "val"; the user's own videos are all test subjects.
    """

    scenario: str = "online"
    keep: str | None = None
    person: str | None = None
    overwrite: bool = False
    outputs: OutputOptions | None = None
    allow_missing: bool = False
    strategy: Strategy = DEFAULT
    split: str = "test"


def run(
    experiment: Experiment,
    workdir: pathlib.Path,
    options: RunOptions,
    folder: pathlib.Path | None = None,
) -> int:
    """Run this process's share of a split's subjects; return the exit code.

    If a subject fails, the error is printed, the others still finish, and the exit code is 1.

    Args:
      experiment: the subjects, the network and the settings.
      workdir: the folder of the model.
      options: see `RunOptions`.
      folder: folder for the results; None for WORKDIR/results/SCENARIO.
    """
    if options.keep:
        people.pack({}, options.keep)  # raises for an unknown form now, not at the end
    work = _Work(experiment, workdir, options, folder)
    with process.alone_in(work.folder):
        return _run(experiment, workdir, work, options)


def _run(experiment: Experiment, workdir: pathlib.Path, work: "_Work", options: RunOptions) -> int:
    left_out: dict[str, str] = {}
    if experiment.data.source == "media":
        opened = sources.open_own(experiment.data)
        left_out = {str(each.path): each.reason for each in opened.left_out}
        clips = clips_lib.by_subject(opened.clips)
        if name := experiment.data.same_subject:
            clips = [clips_lib.together(opened.clips, name)]
    else:
        clips = clips_lib.by_subject(sources.load_clips(experiment.data, options.split))
    if not clips:
        raise clips_lib.DataError(f"no {options.split} clips in {experiment.data.root}.")
    work.check(clips)
    if options.scenario != "none" and not work.adapts:
        say(
            'the model does not adapt (config.ttp.method is "none"), so before and after are the '
            "same; to adapt it, add --method=NAME (BlazePose takes --method=teacher)"
        )
    if jax.process_index() == 0:
        provenance.prepare(work.folder, work.own)
        if options.overwrite:
            work.forget(clips)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("old results are gone")
    mine = clips[jax.process_index() :: jax.process_count()]
    done, todo = [], []
    for clip in mine:
        (done if work.is_done(clip) else todo).append(clip)
    if done:
        say(f"{len(done)} of {len(mine)} subjects are done already and are skipped")
    if todo and work.runner.carries and (len(todo) < len(clips) or jax.process_count() > 1):
        raise ValueError(
            "the model is carried from subject to subject (config.ttp.reset), but some subjects "
            "are done already or run elsewhere: start over with --overwrite, in one process."
        )
    for reason in left_out.values():
        say(f"left out: {reason}")
    work.failed |= left_out
    try:
        for clip in done:
            work.unfinished.forget(clip.name)  # a killed run may have left its state behind
            for recording in recordings.parts([clip]):
                work.write_outputs(recording)
        drawn = recordings.parts(clips)[: experiment.config.eval.pictures]
        work.do(todo, drawn={clip.name for clip in drawn})
    except Stopped:
        command = "the same command" + " without --overwrite" * bool(options.overwrite)
        say(f"stopped after {work.finished} of {len(todo)} subjects: {command} resumes the run")
        work.write_record(clips)
        return STOPPED
    unread = _note_unread(work, experiment.data, recordings.parts(mine))
    work.write_record(clips)
    say(f"results in {work.folder} (subjects: {len(done) + work.finished}), settings in run.json")
    if options.keep and work.finished:
        say(f"{person_file(workdir, '*').parent}: personalized models, for `predict --person=NAME`")
    say_failed(work.failed)
    parallel.wait_for_hosts()
    missing = work.failed.keys() - ({*left_out, *unread} if options.allow_missing else set())
    return 1 if missing else 0


def _note_unread(work: "_Work", data: Config, clips) -> dict[str, str]:
    """Mark subjects with unreadable pictures as failed; return the reasons by name."""
    if data.source != "media":
        return {}
    asked = [clip for clip in clips if clip.name not in work.failed]
    found = {clip.name: results.unread_pictures(work.folder, clip) for clip in asked}
    found = {name: texts for name, texts in found.items() if texts}
    work.failed |= found
    return found


class _Work:
    """The state of one run: its programs, its folder, and the outcome of each subject.

    Attributes:
      word: the scenario, in the user's words.
      folder: folder of the results.
      own: what the results depend on besides the frames, see `identity.protocol`.
      unfinished: states of subjects that were still running when a run was stopped.
      runner: the scenario's programs.
      finished: number of subjects finished in this run.
      seconds: seconds by recording (a subject usually has one).
      failed: reasons by name, for subjects that failed in this run.
      warnings: signs of harm by recording.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: pathlib.Path,
        options: RunOptions,
        folder: pathlib.Path | None,
    ):
        self._experiment, self._workdir, scenario = experiment, workdir, options.scenario
        self._scenario, self._person, self._form = scenario, options.person, options.keep
        found, self._step = base_model.load_base(experiment, workdir)
        trained = jax.device_put(found, jax.local_devices()[0])  # one copy for all Runners below
        base, name = trained, scenario
        if self._person:
            path = person_file(workdir, self._person)
            person = people.read(path, fingerprint(trained), trained)
            base = state.adapted_base(trained, person.delta)
            name = f"person-{self._person}"
        self.word = "predict" if name == "none" else name
        self.folder = workdir / "results" / name if folder is None else folder
        self._base, self.own = base, identity.protocol(experiment.config, base, scenario)
        self.unfinished = Unfinished(self.folder / "unfinished")
        self.adapts = scenario != "none" and experiment.config.ttp.method != "none"
        passes = scenario if self.adapts else "none"  # without adaptation, frames are read once
        self.runner = Runner(experiment, base, passes, self.unfinished, options.strategy)
        self._predictor = Runner(experiment, base, "none")
        self._plain = Runner(experiment, trained, "none") if self._person else self._predictor
        self._outputs: Outputs | None = None
        self._changes = scenario != "none" or bool(self._person)  # if False, before equals after
        if options.outputs and self._changes and experiment.data.source == "media":
            self._outputs = Outputs(experiment, name, self.folder, options.outputs)
        self.finished, self.seconds = 0, dict[str, float]()
        self.failed: dict[str, str] = {}
        self.warnings: dict[str, list[str]] = {}
        self._moved: dict[str, str] = {}

    def check(self, clips) -> None:
        """Raise if the output options don't suit these clips, before anything is replaced."""
        if self._outputs:
            self._outputs.check(recordings.parts(clips))

    def forget(self, clips) -> None:
        """Mark these subjects as not done by removing NAME.npz; their other files stay for now."""
        for clip in clips:
            for part in recordings.parts([clip]):
                (self.folder / f"{part.name}.npz").unlink(missing_ok=True)
            self.unfinished.forget(clip.name)

    def is_done(self, clip) -> bool:
        """Return whether results of exactly these frames exist, and the kept model if requested."""
        there = [self._is_there(part) for part in recordings.parts([clip])]
        return all(there) and self._is_kept(clip)

    def _is_there(self, clip) -> bool:
        """Return whether a recording has results; move results of other frames aside."""
        path = self.folder / f"{clip.name}.npz"
        try:
            same = results.is_of(path, clip)
        except FileNotFoundError:
            return False
        except DAMAGED as error:
            aside = move_aside(path, path.suffix)
            say(f"{clip.name}: its results can't be read ({error}): moved to {aside}, done again")
            return False
        if not same and (aside := results.set_aside(self.folder, clip.name)):
            self._moved[clip.name] = aside.name
            say(f"{clip.name}: earlier results of other frames or boxes were moved to {aside}")
        return same

    def _is_kept(self, clip) -> bool:
        """Return whether the personalized model exists or isn't requested."""
        if not self._form:
            return True
        try:
            kept = people.read(person_file(self._workdir, clip.name))
        except (FileNotFoundError, ValueError):
            return False
        return people.is_of(kept, self._about(clip))

    def _about(self, clip) -> dict[str, str]:
        """Describe the subject's personalized model; a kept one with another description is old."""
        own = {"base": self.own["base"], "scenario": self._scenario, "form": str(self._form)}
        return {**own, "protocol": identity.digest(self.own), "origin": clip.fingerprint}

    def do(self, clips, drawn: set[str]) -> None:
        """Adapt to the subjects and write their results, with NAME.png for those in `drawn`.

        Raises Stopped if the run was asked to stop.
        """
        total = sum(clip.num_frames for clip in clips) * (1 + SEARCHING + COMPARING + WRITING)
        bar = progress_bar(total, self.word, disable=not clips)
        with stopping(self.runner.stop), bar:
            for clip, result in self.runner.many(self._boxed(clips, bar), bar):
                if isinstance(result, Exception):
                    self.failed[clip.name] = str(result)
                    continue
                self._finish(clip, result, drawn, bar)
                bar.set_postfix_str("", refresh=False)
                bar.set_description_str(f"{self.word}, {self.finished} of {len(clips)} subjects")

    def _boxed(self, clips, bar):
        for clip in clips:
            bar.set_postfix_str(f"{clip.name}: reading")
            searched = functools.partial(_advance, bar, bar.n, SEARCHING * clip.num_frames)
            try:
                clip = boxes.resolve(clip, self._predictor, self._experiment.data, searched)
                searched(1)
                bar.set_postfix_str(f"{clip.name}: compiling, the first frames take longer")
                yield personal_report.kept_for(clip) if self._outputs else clip
            except OF_ONE as error:
                self.failed[clip.name] = str(error)

    def _finish(self, clip, result: Result, drawn: set[str], bar) -> None:
        """Keep the model and write each recording, even if another recording fails."""
        if self._form:
            about = {**self._about(clip), "updates": int(result.adaptation.step)}
            target = person_file(self._workdir, clip.name)
            if aside := people.make_room(target, self._about(clip)):
                say(f"{target}: the model of another run or video is now in {aside}")
            people.write(target, jax.device_get(result.adaptation.delta), self._form, about)
        for each, first in recordings.places(clip):
            try:
                self._write(each, recordings.part(result, each, first), drawn, bar)
            except OF_ONE as error:
                self.failed[each.name] = str(error)
        self.finished += all(part.name in self.seconds for part in recordings.parts([clip]))

    def _write(self, clip, result: Result, drawn: set[str], bar) -> None:
        """Write a recording's picture, comparison, results and outputs."""
        if clip.name in drawn and self._experiment.net.parts.affinity:
            seen = self.runner.variables(result), clip, result.frames, result.joints
            path = self.folder / f"{clip.name}.png"
            visualize.save(path, diagnostics.figure5(self._experiment, *seen))
        if self._changes:
            bar.set_postfix_str(f"{clip.name}: predicting without personalization")
            self._compare(clip, result)
        bar.update(COMPARING * clip.num_frames)
        bar.set_postfix_str(f"{clip.name}: writing the results")
        results.write_result(self.folder, clip, result, self._experiment.skeleton)
        self.seconds[clip.name] = result.seconds
        self.write_outputs(clip)
        bar.update(WRITING * clip.num_frames)

    def _compare(self, clip, result: Result) -> None:
        """Predict without personalization, check for signs of harm, store both for the outputs."""
        made, found = self._experiment, {}
        # A run that was stopped lacks looks and repeats of the frames that it read before.
        same = not (self.adapts or self._person) and result.looks is not None
        before = result if same else self._plain.one(clip, frames=result.frames)
        if self._outputs:
            both = ((self._plain, before), (self.runner, result))
            models = [(one.variables(found), found.joints) for one, found in both]
            found = diagnostics.before_and_after(made, self._base, result.frames, *models)
        self.warnings[clip.name] = signs = _signs(clip, before, result, found, made, self.adapts)
        if self._outputs:
            self._outputs.keep(clip, result, before, found, signs)

    def write_outputs(self, clip) -> None:
        """Write report, video and exports from the stored results, unless they are up to date."""
        if not self._outputs:
            return
        if self._outputs.is_done(clip):
            say(f"  {self._outputs.report(clip.name)}")
            return
        try:
            self._outputs.write(clip)
        except (OSError, ImportError, ValueError) as error:
            # The joints are stored, so the same command only has to write the outputs again.
            self.failed[clip.name] = f"its joints are written, but not all of its outputs: {error}"

    def write_record(self, clips) -> None:
        """Write run.json, see `run_record.write`."""
        together = {k: v for clip in clips for k, v in recordings.record(clip).items()}
        config, how = self._experiment.config, (self._scenario, self._person)
        run = {
            "protocol": provenance.protocol_line(config.data, config.ttp, *how),
            "scenario": self._scenario,
            "base": self.own["base"],
            "checkpoint_step": self._step,
            "person": self._person,
            "seed": self._experiment.seed,
            "made_with": provenance.made_with(),
            "config": config.to_dict(),
        }
        now = run_record.Now(self.seconds, self.failed, self.warnings, self._moved, together)
        run_record.write(self.folder, recordings.parts(clips), run, now)


def _advance(bar, start: float, work: float, share: float) -> None:
    """Move the bar to `share` of a piece of work that began at `start`."""
    bar.update(start + share * work - bar.n)


def _signs(
    clip,
    before: Result,
    after: Result,
    found: dict[str, list[float]],
    made: Experiment,
    adapts: bool,
) -> list[str]:
    """Print and return signs of harm; `found` is from `diagnostics.before_and_after`."""
    held_out = tuple(found[HELD_OUT]) if HELD_OUT in found else None
    evidence = warning_signs.Evidence(
        before.joints,
        after.joints,
        (before.confidence, after.confidence),
        clip.boxes,
        held_out,  # pyright: ignore[reportArgumentType]
        before.repeated,
        before.looks,
        made.skeleton.flip_pairs,
        clip.numbers,
        adapts,
    )
    signs = warning_signs.signs(evidence)
    for sign in signs:
        say(f"WARNING {clip.name}: {sign}")
    return signs


def person_file(workdir: pathlib.Path, name: str) -> pathlib.Path:
    """Return the path of a kept model; raise ValueError for a name with folders in it."""
    return workdir / "people" / f"{plain_name(name, '--person')}.npz"
