"""The runner that takes subjects through a scenario's programs, one at a time or side by side."""

import functools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines.clips import Clip
from data_pipelines.windows import SubjectFrames
from ttp_jax import parallel, state, ttp
from ttp_jax.checkpoint import Unfinished
from ttp_jax.driver import CHUNK
from ttp_jax.runs import members, sources, starts
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.members import Member
from ttp_jax.runs.process import COMPILING, Stopped, say
from ttp_jax.runs.results import Result
from ttp_jax.runs.saving import Saver
from ttp_jax.runs.starts import Starts
from ttp_jax.runs.strategy import Planner, Strategy


class TooLarge(ValueError):
    """A subject doesn't fit into the device's memory even alone; the message says what to do.

    jax's own error would be reported as a bug in the program, although the user can solve this.
    """


# These errors end one subject; the others continue.
OF_ONE = (clips_lib.FrameError, clips_lib.DataError, state.NotFinite, TooLarge)


class Runner:
    """The programs of a scenario, compiled once for each size of windows and memory.

    Subjects of similar length run side by side if they fit into memory. Each gets the same numbers
    as alone, up to rounding. Frames are read ahead while the device computes.
    """

    def __init__(
        self,
        experiment: Experiment,
        base: state.Base,
        scenario: str,
        unfinished: Unfinished | None = None,
        strategy: Strategy = Strategy(),
    ):
        """Create a runner.

        Args:
          experiment: network and settings.
          base: the trained model.
          scenario: a key of `members.PASSES`.
          unfinished: where states are saved, at intervals and when the run is stopped.
          strategy: how subjects run side by side.
        """
        self._scenario, self._ttp, self._data = scenario, experiment.config.ttp, experiment.data
        self._joints, self._image_size = experiment.skeleton.size, experiment.image_size
        # If a subject's state is carried over to the next one, they run one after the other.
        self.carries = starts.carries(self._ttp, scenario)
        strategy = Strategy() if self.carries else strategy
        settings, together = experiment.settings(scenario), self._ttp.together
        self._planner = Planner(experiment.net, settings, scenario, strategy, together)
        self._everywhere, self._split = self._planner.places
        programs = self._planner.programs()
        self._starts = Starts(experiment.seed, self._ttp, scenario, programs)
        wanted = scenario != "none" and programs.tools.needs_features
        self._features = jax.device_put(experiment.features if wanted else None, self._everywhere)
        self.use(base)
        self._saver = Saver(None if self.carries else unfinished, self._ttp.save_minutes)
        self.stop = self._saver.stop
        self._began = _clock()

    def use(self, base: state.Base) -> None:
        """Continue with another model of the same shape, without compiling again."""
        # Placed explicitly: a restored model is still on the training's mesh, and an output that is
        # sharded unlike its input would recompile the next step.
        self._base = jax.device_put(base, self._everywhere)
        self._shared = self._base, self._features

    def one(self, clip: Clip, bar=None, frames: SubjectFrames | None = None) -> Result:
        """Run one subject and return its result; raise the error if it fails.

        If you pass the `frames` of an earlier run on this clip, its windows aren't cut again.
        """
        ((_, result),) = self.many([clip], bar, frames)
        if isinstance(result, Exception):
            raise result
        return result

    def many(
        self, clips: Iterable[Clip], bar=None, frames: SubjectFrames | None = None
    ) -> Iterator[tuple[Clip, Result | Exception]]:
        """Run subjects, and yield each clip with its result as soon as it is done.

        A subject that fails (unusable frames, too little memory, a model that diverges to NaN) is
        yielded with its error instead. Raises Stopped once `stop` is set and the states are saved.
        """
        waiting: dict[tuple, list[Member]] = {}
        with ThreadPoolExecutor() as readers:
            for clip in clips:
                if self.stop.is_set():
                    raise Stopped
                try:
                    member = self._member(clip, frames)
                except (clips_lib.FrameError, clips_lib.DataError) as error:
                    yield clip, error
                    continue
                group = waiting.setdefault(member.group, [])
                group.append(member)
                if len(group) >= self._width(member):
                    yield from self._together(waiting.pop(member.group), readers, bar)
            for group in waiting.values():
                yield from self._together(group, readers, bar)

    def joints_of(self, clips: Iterable[Clip], bar=None) -> list[np.ndarray]:
        """Return the joints [T, K, 2] of each clip, in order; raise the first error of any."""
        clips, found = list(clips), {}
        for clip, result in self.many(clips, bar):
            if isinstance(result, Exception):
                raise result
            found[clip.name] = result.joints
        return [found[clip.name] for clip in clips]

    def variables(self, result: Result) -> dict:
        """Return the network's variables at the end of a subject's adaptation."""
        return state.adapted(self._base, result.adaptation.delta)

    def _member(self, clip: Clip, frames: SubjectFrames | None = None) -> Member:
        """Return a subject at its start, or at the point where an earlier run was stopped."""
        frames = frames or sources.subject_frames(clip, self._data, self._image_size)
        joints, memory = self._joints, self._ttp.memory
        member = members.begin(clip, frames, self._scenario, joints=joints, memory=memory)
        return self._saver.resumed(member, lambda: self._starts.of(member, self._base))

    def _width(self, member: Member) -> int:
        """Return how many subjects like this one run in one call."""
        if self.carries:
            return 1
        start = functools.partial(self._starts.of, member, self._base)
        return self._planner.width(member, start, self._shared)

    def _together(self, group: list[Member], readers: ThreadPoolExecutor, bar):
        """Run a group, in halves if memory runs out, and without a subject whose input is lost."""
        self._began, done, failed, half = _clock(), set(), None, len(group)
        starts = [member.noted for member in group]
        try:
            for member, adaptation in self._run(group, readers, bar):
                done.add(member.clip.name)
                result = self._result(member, adaptation, group)
                handed_over = _clock()
                yield member.clip, result
                self._began += _clock() - handed_over
                self._saver.forget(member.clip.name)
            return
        except members.Lost as error:
            failed = error.member.clip, clips_lib.DataError(error.reason)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
        # Not inside `except`, where the error would keep the group's arrays on the device.
        if failed is None and len(group) > 1:
            half = self._planner.halve(group[0], len(group))
            say(f"{len(group)} subjects side by side don't fit into the memory: {half} at a time")
        else:
            failed = failed or _too_large(group[0].clip, self._ttp, self._scenario)
            yield failed
            done.add(failed[0].name)
        left = members.again(group, starts, done)
        for part in filter(None, (left[:half], left[half:])):
            yield from self._together(part, readers, bar)

    def _result(self, member: Member, adaptation, group) -> Result | state.NotFinite:
        """Return the result of a subject, or the error that prevented it."""
        inputs, seconds = member.digest.tobytes().hex(), self._spent(member, group)
        found = member.joints, member.confidence, adaptation, inputs, seconds
        try:
            settings = None if self._scenario == "none" else self._planner.settings
            read = np.isfinite(member.joints).all((1, 2))
            ttp.check_finite(member.confidence[read], settings)
        except state.NotFinite as error:
            return error
        self._starts.carry(adaptation)
        compiling = float((_clock() - self._began)[1]) / len(group)
        return Result(member.frames, *found, member.repeated, compiling, member.all_looks)

    def _spent(self, member: Member, group: list[Member]) -> float:
        """Return a subject's seconds so far: its share of the group's, plus those before a stop."""
        return member.spent + float((_clock() - self._began)[0]) / len(group)

    def _run(self, group: list[Member], readers: ThreadPoolExecutor, bar):
        """Yield each member with its final adaptation when its last frame is predicted.

        Predictions are fetched while the device computes the next chunk.
        """
        width, progress = self._planner.padded(len(group)), members.Progress(group, bar)
        subjects = jax.device_put(self._starts.stacked(group, width, self._base), self._split)
        longest, names = max(len(m.frames) for m in group), group[0].passes
        for pass_index in range(group[0].pass_index, len(names)):
            first = group[0].frame_index if pass_index == group[0].pass_index else 0
            name, last = names[pass_index], pass_index == len(names) - 1
            places = range(first, longest, CHUNK)
            chunks = members.inputs(group, pass_index, places, width, readers, self._ttp.held_out)
            waiting = None

            def note(frame_index, valid, output, name=name, last=last):
                output = jax.device_get(output)  # waits until the chunk is done
                if len(output) == 2:
                    members.write(group, frame_index, valid, *output)
                progress.update(name, frame_index)
                return [
                    m for m in group if last and frame_index < len(m.frames) <= frame_index + CHUNK
                ]

            for frame_index, (frames, valid) in zip(places, chunks, strict=True):
                program = self._planner.program(name, subjects, frames, self._shared)
                subjects, output = program(*self._shared, subjects, frames)
                done = note(*waiting) if waiting else []
                waiting = frame_index, valid, output
                at_end = frame_index + CHUNK >= longest
                saving = not (last and at_end) and self._saver.due()
                if saving or at_end:
                    done += note(*waiting)
                for member in done:
                    # Later chunks only hold frames of other members and don't change this one.
                    own = parallel.subject_of(subjects.adaptation, group.index(member))
                    yield member, jax.device_put(own, self._everywhere)
                if saving:
                    waiting = None
                    spent = functools.partial(self._spent, group=group)
                    self._saver.save(group, pass_index, frame_index + CHUNK, subjects, spent)
            subjects = ttp.rewind(subjects)


def _clock() -> np.ndarray:
    """Return the seconds on a clock, and the seconds spent compiling so far."""
    return np.array([time.monotonic(), COMPILING.seconds])


def _too_large(clip: Clip, fields, scenario: str) -> tuple[Clip, TooLarge]:
    """Return a subject that doesn't fit alone, and the error with what the user can do."""
    remedies = ["see whether other programs use the device", "give --device=cpu"]
    if scenario != "none":  # predicting needs neither updates nor a memory
        own = f"config.ttp.batch_size ({fields.batch_size}) or config.ttp.memory ({fields.memory})"
        remedies.insert(0, f"lower {own}")
    words = ", or ".join(remedies)
    return clip, TooLarge(f"{clip.name} alone doesn't fit into the device's memory: {words}.")
