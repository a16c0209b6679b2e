"""Subjects through the programs of one scenario: one at a time, or as many as the memory holds."""

import contextlib
import dataclasses
import hashlib
import pathlib
import resource
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines.clips import Clip
from data_pipelines.pipeline import SubjectFrames
from ttp_jax import geometry, losses, parallel, state, ttp, visualize
from ttp_jax.checkpoint import Unfinished
from ttp_jax.memory import Frames
from ttp_jax.models.pose import WITH_KEYPOINTS, denormalize
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say

CHUNK = 8  # frames of one call of a program
MEMORY_SHARE = 0.7  # of what the device has free, for subjects side by side
MOST_TOGETHER = 64
PROBED = 16  # frames for the figures that the network itself gives
# What is done with a subject, one pass after the other; all but "adapt" go through its frames.
PASSES = {"none": ("predict",), "online": ("online",), "offline": ("watch", "adapt", "predict")}


class Stopped(Exception):
    """The run was asked to stop and has kept what is needed to go on."""


class TooLarge(ValueError):
    """A subject that doesn't fit into the device's memory even alone; the message says what to do.

    What jax raises is an error of the program; this is one that a user can mend.
    """


# What is wrong with one subject only: the others go on.
OF_ONE = (clips_lib.FrameError, clips_lib.DataError, state.NotFinite, TooLarge)


@dataclasses.dataclass
class Result:
    """A subject's predictions.

    Attributes:
      frames: what was predicted.
      joints: float32 [T, K, 2] in picture pixels; NaN for frames that could not be read.
      peaks: float32 [T, K], NaN likewise.
      adaptation: the model's last state.
      inputs: SHA-256 over the pixels of all whole pictures and the crops.
      seconds: its share of the time of its group, with what runs before a stop took.
    """

    frames: SubjectFrames
    joints: np.ndarray
    peaks: np.ndarray
    adaptation: state.Adaptation
    inputs: str
    seconds: float = 0.0


@dataclasses.dataclass(eq=False)
class _Member:
    """A subject under way: where it started in this run, and the predictions so far.

    Its state comes to the device with its group: any number of subjects may wait.
    """

    clip: Clip
    frames: SubjectFrames
    capacity: int  # frames that its memory holds
    passes: tuple[str, ...]
    joints: np.ndarray
    peaks: np.ndarray
    turn: int = 0  # the pass it is in
    place: int = 0  # the frame it is at there
    spent: float = 0.0  # seconds of earlier runs
    kept: ttp.Subject | None = None  # the state that an earlier run kept, on the host
    digest: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(32, np.uint8))

    @property
    def memory(self) -> tuple[int, ...]:
        """Shape of its memory of pictures, but for the colours."""
        return self.capacity, *self.frames.shape

    @property
    def group(self) -> tuple:
        """What subjects that run side by side have in common."""
        return self.memory, self.passes, self.turn, self.place


class Runner:
    """Programs of one scenario, compiled once per size of the windows and the memory.

    Subjects of like length run side by side where the memory allows it; each gets what it would get
    alone, up to the rounding of a program of another width. Frames are read ahead while the device
    works, and never held all at once.
    """

    def __init__(
        self, config, base: state.Base, scenario: str, unfinished: Unfinished | None = None
    ):
        """Get ready.

        Args:
          config: the experiment.
          base: the trained model.
          scenario: a key of `PASSES`.
          unfinished: where states are kept on a timer and when the run is stopped.
        """
        # On its device in so many words: a restored model lies on training's mesh, and a program
        # whose result lies elsewhere than its argument would be compiled again for the next step.
        self._device = jax.local_devices()[0]
        self._base = jax.device_put(base, self._device)
        self._config, self._scenario, self._unfinished = config, scenario, unfinished
        self._held_out = config.ttp.held_out
        self.carries = scenario != "none" and (
            config.ttp.reset == "never" or config.ttp.normalisers == "carried"
        )
        self._previous: state.Adaptation | None = None
        self._tools = experiment.ttp_tools(config, scenario)
        self._vgg = experiment.load_vgg(config) if scenario != "none" else None
        self._widths: dict[tuple[int, ...], int] = {}
        self._programs: dict[tuple[str, bool], Any] = {}
        self._see = jax.jit(self._tools.model.apply)
        self._joints = experiment.skeleton_of(config).size
        self.stop = threading.Event()
        self._saved = self._began = time.monotonic()

    def use(self, base: state.Base) -> None:
        """Go on with another model of the same shape: nothing compiles again."""
        self._base = jax.device_put(base, self._device)

    def one(self, clip: Clip, bar=None) -> Result:
        """Do one subject; raises what its frames raise."""
        ((_, result),) = self.many([clip], bar)
        if isinstance(result, Exception):
            raise result
        return result

    def many(self, clips: Iterable[Clip], bar=None) -> Iterator[tuple[Clip, Result | Exception]]:
        """Do subjects and yield each as it is done.

        A subject whose frames can't be used, that doesn't fit into the memory, or whose model ran
        away to NaN, comes with its error; the others go on. Raises Stopped after `stop` was set,
        with the states of unfinished subjects kept.
        """
        waiting: dict[tuple, list[_Member]] = {}
        with ThreadPoolExecutor() as readers:
            for clip in clips:
                if self.stop.is_set():
                    raise Stopped
                try:
                    member = self._member(clip)
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
        """Joints [T, K, 2] of every clip, in their order; raises what a clip's frames raise."""
        clips, found = list(clips), {}
        for clip, result in self.many(clips, bar):
            if isinstance(result, Exception):
                raise result
            found[clip.name] = result.joints
        return [found[clip.name] for clip in clips]

    def _member(self, clip: Clip) -> _Member:
        """A subject at its start, or where an earlier run was stopped."""
        frames, config = experiment.subject_frames(self._config, clip), self._config
        remembers = min(config.ttp.memory, experiment.padded_length(len(frames)))
        capacity = 1 if self._scenario == "none" else remembers
        joints = np.full((len(frames), self._joints, 2), np.nan, np.float32)
        passes = PASSES[self._scenario]
        if len(frames) < 2 and self._scenario != "none":
            say(f"{clip.name}: one frame, personalization needs two: only predicted")
            passes = PASSES["none"]
        member = _Member(clip, frames, capacity, passes, joints, joints[..., 0].copy())
        if self._unfinished and not self.carries:
            like = jax.eval_shape(lambda: self._start(member))
            found = self._unfinished.restore(clip.name, _kept(member, like))
            if found is not None and found["clip"] == _crc(clip) and found["turn"] < len(passes):
                member = dataclasses.replace(
                    member,
                    kept=found["subject"],
                    place=int(found["subject"].frame),
                    turn=int(found["turn"]),
                    spent=float(found["seconds"]),
                    joints=np.array(found["joints"]),
                    peaks=np.array(found["peaks"]),
                    digest=np.array(found["digest"]),
                )
                done = f"frame {min(member.place, len(frames))} of {len(frames)}"
                say(f"{clip.name} goes on in {passes[member.turn]}, {done}")
        return member

    def _start(self, member: _Member) -> ttp.Subject:
        """The state that a subject starts from."""
        if member.kept is not None:
            return jax.device_put(member.kept, self._device)
        key = subject_key(self._config.seed, member.clip.name)
        size = {"capacity": member.capacity, "shape": member.frames.shape}
        start = ttp.start(self._base, key, tools=self._tools, **size)
        return start.replace(adaptation=self._carried(start.adaptation))

    def _width(self, member: _Member) -> int:
        """How many subjects like this one run side by side."""
        shape, wanted = member.memory, self._config.ttp.together
        if self.carries or wanted == 1 or (not wanted and jax.default_backend() == "cpu"):
            return 1
        if shape not in self._widths:
            self._widths[shape] = wanted or self._measured_width(member)
        return self._widths[shape]

    def _measured_width(self, member: _Member) -> int:
        """The number that fits into what the device has free, by the plan for one subject."""
        start = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[None], self._start(member)))
        chunk = Frames(*member.frames.read([0], CHUNK))  # pyright: ignore[reportArgumentType]
        frames = jax.tree.map(lambda leaf: leaf[None], chunk)
        name = "adapt" if self._scenario == "offline" else PASSES[self._scenario][-1]
        given = None if name == "adapt" else frames
        plan = self._program(name, True).lower(self._base, self._vgg, start, given).compile()
        memory = plan.memory_analysis()
        leaves = jax.tree.leaves((frames, start.adaptation, start.memory))
        each = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        each += memory.temp_size_in_bytes + memory.output_size_in_bytes
        stats = self._device.memory_stats() or {}
        free = stats.get("bytes_limit", each) - stats.get("bytes_in_use", 0)
        width = int(np.clip(MEMORY_SHARE * free / each, 1, MOST_TOGETHER))
        width = 2 ** (width.bit_length() - 1)
        say(f"{width} subjects side by side: {each / 2**20:.0f} of {free / 2**20:.0f} MiB each")
        return width

    def _together(self, group: list[_Member], readers: ThreadPoolExecutor, bar):
        """Run a group; what is left of it in two halves where the memory turns out too small."""
        self._began, done = time.monotonic(), set()
        digests = [member.digest for member in group]
        try:
            for member, adaptation in self._run(group, readers, bar):
                done.add(member.clip.name)
                inputs, seconds = member.digest.tobytes().hex(), self._spent(member, group)
                found = member.joints, member.peaks, adaptation, inputs, seconds
                result = self._checked(Result(member.frames, *found))
                if self.carries and isinstance(result, Result) and _is_finite(adaptation):
                    self._previous = adaptation
                handed_over = time.monotonic()
                yield member.clip, result
                self._began += time.monotonic() - handed_over
                if self._unfinished:
                    self._unfinished.forget(member.clip.name)
            return
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
        # Not in `except`: the error would keep what the group had on the device.
        if len(group) == 1:
            yield group[0].clip, self._too_large(group[0].clip)
            return
        half = len(group) // 2
        say(f"{len(group)} subjects side by side don't fit into the memory: {half} at a time")
        self._widths[group[0].memory] = half
        for member, digest in zip(group, digests, strict=True):
            member.digest = digest
        left = [member for member in group if member.clip.name not in done]
        for part in (left[:half], left[half:]):
            if part:
                yield from self._together(part, readers, bar)

    def _too_large(self, clip: Clip) -> TooLarge:
        """Why a subject alone can't be done here, and what can be done about it."""
        remedies = ["see whether other programs use the device", "give --device=cpu"]
        if self._scenario != "none":  # which neither updates nor remembers
            own = self._config.ttp
            fields = f"config.ttp.batch_size ({own.batch_size}) or config.ttp.memory ({own.memory})"
            remedies.insert(0, f"lower {fields}")
        words = ", or ".join(remedies)
        return TooLarge(f"{clip.name} alone doesn't fit into the device's memory: {words}.")

    def _checked(self, result: Result) -> Result | state.NotFinite:
        """The result, or why it is none."""
        read = np.isfinite(result.joints).all((1, 2))
        settings = None if self._scenario == "none" else self._tools.settings
        try:
            ttp.check_finite(result.peaks[read], settings)
        except state.NotFinite as error:
            return error
        return result

    def _spent(self, member: _Member, group: list[_Member]) -> float:
        """A subject's seconds so far: its share of its group's, and those before a stop."""
        return member.spent + (time.monotonic() - self._began) / len(group)

    def _run(self, group: list[_Member], readers: ThreadPoolExecutor, bar):
        """Yield each member with its last adaptation when its last frame is predicted.

        Predictions are fetched while the device works on the next chunk.
        """
        # The last group of a kind is smaller: filled up to a power of two, so that few programs
        # compile.
        width = 1 << (len(group) - 1).bit_length()
        subjects = self._starts(group, width)
        longest, names = max(len(m.frames) for m in group), group[0].passes
        progress = _Progress(group, bar)
        for turn in range(group[0].turn, len(names)):
            first = group[0].place if turn == group[0].turn else 0
            program, last = self._program(names[turn], width > 1), turn == len(names) - 1
            places = range(first, longest, CHUNK)
            if names[turn] == "adapt":
                chunks = ((None, None) for _ in places)
            else:
                chunks = _chunks(group, places, width, readers, self._held_out, digest=turn == 0)
            waiting = None

            def note(place, valid, output, name=names[turn], last=last):
                output = jax.device_get(output)  # waits until that chunk is done
                if len(output) == 2:
                    _write(group, place, valid, *output)
                progress.update(name, place)
                return [m for m in group if last and place < len(m.frames) <= place + CHUNK]

            for place, (frames, valid) in zip(places, chunks, strict=True):
                subjects, output = program(self._base, self._vgg, subjects, frames)
                done = note(*waiting) if waiting else []
                waiting = place, valid, output
                at_end = place + CHUNK >= longest
                saving = not (last and at_end) and self._must_save()
                if saving or at_end:
                    done += note(*waiting)
                for member in done:
                    # Later chunks, where others have some, change nothing of it.
                    i = group.index(member)
                    yield member, jax.tree.map(lambda leaf, i=i: leaf[i], subjects.adaptation)
                if saving:
                    waiting = None
                    self._save(group, turn, place + CHUNK, subjects)
            subjects = ttp.again(subjects)

    def _starts(self, group: list[_Member], width: int) -> ttp.Subject:
        """The states that subjects start from [width, ...]."""
        starts = [self._start(member) for member in group]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        return jax.device_put(parallel.pad_subjects(stacked, width), self._device)

    def _must_save(self) -> bool:
        """Whether the states are to be kept now."""
        if self._unfinished is None or self.carries:
            if self.stop.is_set():
                raise Stopped
            return False
        due = time.monotonic() - self._saved > 60 * self._config.ttp.save_minutes
        return due or self.stop.is_set()

    def _save(self, group: list[_Member], turn: int, place: int, subjects: ttp.Subject) -> None:
        """Keep the states of a group; raises Stopped if that was to be the last of it."""
        assert self._unfinished is not None
        for i, member in enumerate(group):
            if turn == len(member.passes) - 1 and place >= len(member.frames):
                continue  # done, and its results are written
            subject = jax.tree.map(lambda leaf, i=i: leaf[i], subjects)
            now = dataclasses.replace(member, turn=turn, spent=self._spent(member, group))
            self._unfinished.save(member.clip.name, _kept(now, subject))
        self._saved = time.monotonic()
        if self.stop.is_set():
            raise Stopped

    def _program(self, name: str, side_by_side: bool):
        """A compiled pass over the next chunk of [N] subjects."""
        if (name, side_by_side) not in self._programs:
            tools = self._tools

            def online(base, vgg, subject, frames):
                return ttp.online(subject, base, vgg, frames, tools=tools)

            def watch(base, vgg, subject, frames):
                del base, vgg
                subject = ttp.watch(subject, frames)
                return subject, (subject.memory.seen,)

            def adapt(base, vgg, subject, frames):
                del frames
                subject = ttp.adapt_offline(subject, base, vgg, tools=tools, count=CHUNK)
                return subject, (subject.adaptation.loss,)

            def predict(base, vgg, subject, frames):
                del vgg
                return ttp.predict_frames(subject, base, frames, tools=tools)

            fn = {"online": online, "watch": watch, "adapt": adapt, "predict": predict}[name]
            lifted = parallel.over_subjects(fn, how="vmap" if side_by_side else "map", shared=2)
            self._programs[name, side_by_side] = jax.jit(lifted, donate_argnums=2)
        return self._programs[name, side_by_side]

    def _carried(self, fresh: state.Adaptation) -> state.Adaptation:
        """The start of a subject, with what the config carries over from the subject before."""
        before = self._previous
        if before is None or self._scenario == "none":
            return fresh
        if self._config.ttp.reset == "never":
            fresh = before
        if self._config.ttp.normalisers == "carried":
            return fresh.replace(normalisers=before.normalisers)
        return fresh.replace(normalisers=self._base.normalisers)

    def picture(self, clip, result: Result, count: int = 3) -> np.ndarray:
        """The paper's Figure 5 for some frames, seen by the personalized model."""
        config, settings = self._config, self._tools.settings
        variables = self.variables(result)
        readable = np.flatnonzero(np.isfinite(result.joints).all((1, 2)))
        chosen = spread(readable, count)
        size, bgr = settings.image_size, settings.bgr
        frames = Frames(*map(jnp.asarray, result.frames.read(chosen)))
        affines = geometry.crop_affine(frames.crops, size)
        crops = ttp.cut(frames, jnp.arange(count), affines, settings)
        # Another frame's look, cut with this one's box, as in training.
        sources = ttp.cut(frames, (jnp.arange(count) + 1) % count, affines, settings)
        output = self._see(variables, crops, sources)
        pictures = np.asarray(denormalize(crops, bgr=bgr).round(), np.uint8)
        reconstruction = np.asarray(denormalize(output.reconstruction, bgr=bgr), np.uint8)
        stride = size / output.self_heatmaps.shape[1]
        rows = []
        for row, t in enumerate(chosen):
            to_crop = np.asarray(affines[row])
            entry = {
                "image": pictures[row],
                "reconstruction": reconstruction[row],
                "points": np.asarray(output.points[row]) * stride,
                "joints": geometry.transform_points(to_crop, result.joints[t]),
                "affinity": np.asarray(output.affinity[row]),
            }
            if clip.joints is not None:
                entry["truth"] = geometry.transform_points(to_crop, clip.joints[t])
                entry["visible"] = clip.visible[t]
            rows.append(entry)
        return visualize.figure5(rows, experiment.skeleton_of(config))

    def variables(self, result: Result) -> dict:
        """The network's variables that a subject's adaptation ended with."""
        return state.adapted(self._base, result.adaptation.delta)

    def figures(self, frames: SubjectFrames, *found: tuple[dict, np.ndarray]) -> dict:
        """What the network itself tells of a subject, before and after.

        Args:
          frames: of the subject.
          found: pairs of a model's `variables` and the joints [T, K, 2] that it predicted.

        Returns:
          Name -> a number for each pair. "reconstruction" is the loss that adaptation minimises, on
          a few frames, each from another frame's look; "held-out reconstruction" in its place the
          same of frames that nothing was learned from, where there are some. "agreement", of a
          Transformer, is the distance of the joints from the points that they are made of, weighted
          by the affinity, in sides of the box. Nothing of a method without keypoints.
        """
        if self._config.model.method not in WITH_KEYPOINTS:
            return {}
        settings, told = self._tools.settings, {}
        readable = np.flatnonzero(np.isfinite(found[0][1]).all((1, 2)))
        name, shown, learned = "reconstruction", readable, readable
        held_out = _is_held_out(readable, self._held_out)
        if held_out.any() and not held_out.all():
            name, shown, learned = f"held-out {name}", readable[held_out], readable[~held_out]
        few, others = _probes(shown), np.roll(_probes(learned), PROBED // 2)
        # Each frame is read once, in order.
        places, where = np.unique(np.concatenate([few, others]), return_inverse=True)
        some = Frames(*map(jnp.asarray, frames.read(places)))
        affines = geometry.crop_affine(some.crops, settings.image_size)
        targets, sources = jnp.asarray(where[:PROBED]), jnp.asarray(where[PROBED:])
        affines = affines[targets]
        crops, looks = (ttp.cut(some, of, affines, settings) for of in (targets, sources))
        vgg = experiment.load_vgg(self._config) if self._vgg is None else self._vgg
        for variables, joints in found:
            output: Any = self._see(variables, crops, looks)
            means, picture = self._base.normalisers, output.reconstruction
            loss, _ = losses.reconstruction(vgg, picture, crops, means, bgr=settings.bgr)
            told.setdefault(name, []).append(float(loss))
            if output.affinity is None:
                continue
            weights = jnp.abs(output.affinity)
            weights = weights / weights.sum(-1, keepdims=True)
            mean = jnp.einsum("bkm,bmx->bkx", weights, output.points) / output.heatmaps.shape[1]
            inside = geometry.transform_points(affines, jnp.asarray(joints[few]))
            away = jnp.linalg.norm(mean - inside / settings.image_size, axis=-1)
            told.setdefault("agreement", []).append(float(away.mean()))
        return told


def _is_finite(adaptation: state.Adaptation) -> bool:
    """Whether another subject can start from here; the loss is NaN before the first update."""
    parts = adaptation.delta, adaptation.opt_state, adaptation.normalisers
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(parts))


def _probes(places: np.ndarray) -> np.ndarray:
    """`PROBED` of the places, evenly; some more than once where there are fewer."""
    return places[np.linspace(0, len(places) - 1, PROBED).astype(int)]


class _Progress:
    """The bar of a run: frames done of all subjects, and where the present ones are."""

    def __init__(self, group: list[_Member], bar):
        passes = group[0].passes
        self._bar, self._main = bar, "adapt" if "adapt" in passes else passes[-1]
        self._lengths = [len(member.frames) for member in group]
        self._who = group[0].clip.name if len(group) == 1 else f"{len(group)} side by side"

    def update(self, name: str, place: int) -> None:
        """Show that the chunk at `place` is done in this pass."""
        if self._bar is None:
            return
        longest = max(self._lengths)
        self._bar.set_postfix_str(f"{self._who}: {name} {min(place + CHUNK, longest)}/{longest}")
        if name == self._main:
            self._bar.update(sum(max(0, min(CHUNK, length - place)) for length in self._lengths))


def _is_held_out(places: np.ndarray, every: int) -> np.ndarray:
    """Which of a subject's frames [n] are predicted only: every nth; none for 0."""
    return places % every == every - 1 if every else np.zeros(len(places), bool)


def _chunks(
    group, places: range, width: int, readers, held_out: int, *, digest: bool
) -> Iterator[tuple]:
    """Yield the group's next frames [N, CHUNK, ...] and which of them are valid [N, CHUNK].

    Frames that are held out are invalid for the programs: they learn from valid frames, and
    predict all. `digest`: add them to the members' digests.
    """
    streams = [member.frames.chunks(CHUNK, readers, places.start) for member in group]
    nothing = None
    for place in places:
        rows = [next(stream, None) for stream in streams]
        if digest:
            for member, row in zip(group, rows, strict=True):
                if row is not None:
                    told = hashlib.sha256(member.digest.tobytes() + row.crops.tobytes())
                    for index in range(place, min(place + CHUNK, len(member.frames))):
                        told.update(member.frames.digests.get(index, b"unreadable"))
                    member.digest = np.frombuffer(told.digest(), np.uint8)
        if nothing is None:
            some = next(row for row in rows if row is not None)
            nothing = jax.tree.map(np.zeros_like, some)
            nothing.views[:, 0] = 1
            nothing.crops[:, 2] = 1
        rows = [nothing if row is None else row for row in rows]
        rows += [nothing] * (width - len(rows))
        stacked = [np.stack(leaves) for leaves in zip(*rows, strict=True)]
        *rest, valid = stacked
        learned = valid & ~_is_held_out(place + np.arange(CHUNK), held_out)
        yield Frames(*map(jnp.asarray, (*rest, learned))), valid
    for stream in streams:  # past its end, where it names the frames that could not be read
        next(stream, None)


def _write(group, place, valid, joints, peaks) -> None:
    """Write a chunk's predictions into the members."""
    for i, member in enumerate(group):
        here = min(CHUNK, max(0, len(member.frames) - place))
        good = valid[i, :here, None]
        member.joints[place : place + here] = np.where(good[..., None], joints[i, :here], np.nan)
        member.peaks[place : place + here] = np.where(good, peaks[i, :here], np.nan)


def _kept(member: _Member, subject: ttp.Subject) -> dict:
    """What a file must hold for the subject to go on from here."""
    return {
        "subject": subject,
        "turn": np.int32(member.turn),
        "joints": member.joints,
        "peaks": member.peaks,
        "digest": member.digest,
        "seconds": np.float32(member.spent),
        "clip": np.uint32(_crc(member.clip)),
    }


def _crc(clip: Clip) -> int:
    return zlib.crc32(np.ascontiguousarray(clip.boxes).tobytes() + clip.origin.encode())


@contextlib.contextmanager
def stopping(event: threading.Event) -> Iterator[None]:
    """Set the event on SIGTERM and on the first Ctrl-C; a second Ctrl-C stops at once."""

    def ask(number, frame):
        del frame
        say("\nstopping as soon as what is under way can be kept ...")
        event.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def peak_mib() -> float:
    """Most memory this process has had so far: of the GPU if there is one, else resident."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**20
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> None:
    """Begin to count `peak_mib` anew, where the system can: Linux, what is resident."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of these frames, evenly spread, first and last left out: those that get drawn."""
    return frames[np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]


def subject_key(seed: int, name: str) -> jax.Array:
    """A subject's key, from the seed and its name: independent of who else is processed."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
