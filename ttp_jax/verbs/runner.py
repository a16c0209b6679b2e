"""Subjects through the programs of one scenario: one at a time, or as many as the memory holds."""

import functools
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
from data_pipelines.pipeline import Subject
from ttp_jax import geometry, parallel, state, ttp, visualize
from ttp_jax.models.pose import denormalize, normalize
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say

CHUNK = 8  # frames between two looks at the progress bar
MEMORY_SHARE = 0.7  # of what the device has free, for subjects side by side
MOST_TOGETHER = 64


class Result:
    """A subject's predictions: joints [T, K, 2] in picture pixels, peaks [T, K], last state.

    Frames that could not be read are NaN. `seconds` is its share of the time of its group.
    """

    def __init__(
        self, subject: Subject, joints, peaks, adaptation: state.Adaptation, seconds: float = 0.0
    ):
        count = len(subject.valid)
        self.subject = subject
        self.joints = subject.to_picture(np.array(joints, np.float64)[:count])
        self.peaks = np.array(peaks)[:count]
        self.joints[~subject.valid] = np.nan
        self.peaks[~subject.valid] = np.nan
        self.adaptation = adaptation
        self.seconds = seconds


class Runner:
    """Programs of one scenario, compiled once per shape of a subject's frames.

    Subjects of one shape run side by side where the memory allows it; each gets what it would get
    alone. The work of a subject starts when its frames are decoded, those of the next meanwhile.
    """

    def __init__(self, config, base: state.Base, scenario: str):
        # On its device in so many words: a restored model lies on training's mesh, and a program
        # whose result lies elsewhere than its argument would be compiled again for the next step.
        self._device = jax.local_devices()[0]
        self._base = jax.device_put(base, self._device)
        self._config, self._scenario = config, scenario
        self.carries = scenario != "none" and (
            config.ttp.reset == "never" or config.ttp.normalisers == "carried"
        )
        self._previous: state.Adaptation | None = None
        self._tools = experiment.ttp_tools(config, scenario)
        self._vgg = experiment.load_vgg(config) if scenario != "none" else None
        self._widths: dict[tuple[int, ...], int] = {}
        self._programs: dict[tuple[str, bool], Any] = {}
        self._see = jax.jit(self._tools.model.apply)

    def one(self, clip: Clip, bar=None) -> Result:
        """Do one subject; raises what its frames raise."""
        ((_, result),) = self.many([clip], bar)
        if isinstance(result, Exception):
            raise result
        return result

    def many(self, clips: Iterable[Clip], bar=None) -> Iterator[tuple[Clip, Result | Exception]]:
        """Do subjects and yield each as it is done, those of one shape together.

        A subject whose frames can't be used comes with its error; the others go on.
        """
        waiting: dict[tuple[int, ...], list] = {}
        for clip, decoded in self._decoded(clips):
            if isinstance(decoded, Exception):
                yield clip, decoded
                continue
            subject, frames = decoded
            if self._scenario != "none" and subject.valid.sum() < 2:
                say(f"{clip.name}: one readable frame, personalization needs two: only predicted")
                yield from self._together([(clip, subject, frames)], bar, adapt=False)
                continue
            group = waiting.setdefault(frames.pictures.shape, [])
            group.append((clip, subject, frames))
            if len(group) >= self._width(frames):
                yield from self._together(waiting.pop(frames.pictures.shape), bar)
        for group in waiting.values():
            yield from self._together(group, bar)

    def joints_of(self, clips: Iterable[Clip], bar=None) -> list[np.ndarray]:
        """Joints [T, K, 2] of every clip, in their order; raises what a clip's frames raise."""
        clips, found = list(clips), {}
        for clip, result in self.many(clips, bar):
            if isinstance(result, Exception):
                raise result
            found[clip.name] = result.joints
        return [found[clip.name] for clip in clips]

    def _decoded(self, clips: Iterable[Clip]):
        """Yield clips with their decoded frames or error, decoding one ahead."""

        def decode(clip):
            try:
                return experiment.subject_frames(self._config, clip)
            except (clips_lib.FrameError, clips_lib.DataError) as error:
                return error

        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for clip in clips:
                following = clip, pool.submit(decode, clip)
                if ahead is not None:
                    yield ahead[0], ahead[1].result()
                ahead = following
            if ahead is not None:
                yield ahead[0], ahead[1].result()

    def _width(self, frames: ttp.Frames) -> int:
        """How many subjects of this shape run side by side."""
        shape, wanted = frames.pictures.shape, self._config.ttp.together
        if self.carries or wanted == 1 or (not wanted and jax.default_backend() == "cpu"):
            return 1
        if shape not in self._widths:
            self._widths[shape] = wanted or self._measured_width(frames)
        return self._widths[shape]

    def _measured_width(self, frames: ttp.Frames) -> int:
        """The number that fits into what the device has free, by the plan for one subject."""
        one = jax.tree.map(lambda leaf: leaf[None], frames)
        start = jax.tree.map(lambda leaf: leaf[None], self._start())
        keys = jax.random.split(jax.random.key(0), 1)
        program = self._program("predict" if self._scenario == "none" else self._scenario, True)
        plan = program.lower(self._base, self._vgg, jnp.arange(CHUNK), start, one, keys).compile()
        memory = plan.memory_analysis()
        each = sum(leaf.nbytes for leaf in jax.tree.leaves((one.pictures, start)))
        each += memory.temp_size_in_bytes + memory.output_size_in_bytes
        stats = self._device.memory_stats() or {}
        free = stats.get("bytes_limit", each) - stats.get("bytes_in_use", 0)
        width = int(np.clip(MEMORY_SHARE * free / each, 1, MOST_TOGETHER))
        width = 2 ** (width.bit_length() - 1)
        say(f"{width} subjects side by side: {each / 2**20:.0f} of {free / 2**20:.0f} MiB each")
        return width

    def _together(self, group: list, bar, adapt: bool = True):
        """Run subjects of one shape; in two halves where the memory turns out too small."""
        began = time.monotonic()
        try:
            results = self._run(group, bar, adapt and self._scenario != "none")
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or len(group) == 1:
                raise
            half = len(group) // 2
            say(f"{len(group)} subjects side by side don't fit into the memory: {half} at a time")
            self._widths[group[0][2].pictures.shape] = half
            for part in (group[:half], group[half:]):
                yield from self._together(part, bar, adapt)
            return
        seconds = (time.monotonic() - began) / len(group)
        for (clip, subject, _), (joints, peaks, adaptation) in zip(group, results, strict=True):
            yield clip, Result(subject, joints, peaks, adaptation, seconds)

    def _run(self, group: list, bar, adapt: bool) -> list[tuple]:
        """Return joints, peaks and the last state of every subject of a group."""
        config, base, vgg = self._config, self._base, self._vgg
        # The last group of a shape is smaller: filled up to a power of two, so that few programs
        # compile.
        width = 1 << (len(group) - 1).bit_length()
        side_by_side = width > 1
        keys = jnp.stack([subject_key(config.seed, clip.name) for clip, _, _ in group])
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[row[2] for row in group])
        frames = jax.tree.map(jnp.asarray, stacked)
        frames, keys = parallel.pad_subjects((frames, keys), width)
        count = len(keys)
        start = self._start()
        adaptation = jax.tree.map(lambda leaf: jnp.stack(count * [leaf]), start)
        adaptation = jax.device_put(adaptation, self._device)
        longest = max(clip.num_frames for clip, _, _ in group)
        chunks = [jnp.arange(i, i + CHUNK) for i in range(0, longest, CHUNK)]
        outputs = []
        for number, ids in enumerate(chunks):
            if adapt:
                program = self._program(self._scenario, side_by_side)
                adaptation, output = program(base, vgg, ids, adaptation, frames, keys)
                outputs.append(output)
            if bar is not None:
                jax.block_until_ready(adaptation.step)
                left = (clip.num_frames - number * CHUNK for clip, _, _ in group)
                bar.update(sum(max(0, min(CHUNK, frames)) for frames in left))
        if not adapt or self._scenario == "offline":
            program = self._program("predict", side_by_side)
            outputs = [program(base, vgg, ids, adaptation, frames, keys)[1] for ids in chunks]
        joints, peaks = (np.concatenate(parts, 1) for parts in zip(*outputs, strict=True))
        if self.carries:
            self._previous = jax.tree.map(lambda leaf: leaf[0], adaptation)
        return [
            (joints[i], peaks[i], jax.tree.map(lambda leaf, i=i: leaf[i], adaptation))
            for i in range(len(group))
        ]

    def _program(self, name: str, side_by_side: bool):
        """A compiled step of [N] subjects: online, offline or predict, some frames at a time."""
        if (name, side_by_side) not in self._programs:
            tools = self._tools

            def online(base, vgg, ids, adaptation, frames, key):
                return ttp.online(adaptation, base, vgg, frames, ids, key, tools=tools)

            def offline(base, vgg, ids, adaptation, frames, key):
                adapted = ttp.adapt_offline(adaptation, base, vgg, frames, ids, key, tools=tools)
                return adapted, None

            def predict(base, vgg, ids, adaptation, frames, key):
                del vgg, key
                return adaptation, ttp.predict_frames(adaptation, base, frames, ids, tools=tools)

            fn = {"online": online, "offline": offline, "predict": predict}[name]
            lifted = parallel.over_subjects(fn, how="vmap" if side_by_side else "map", shared=3)
            donated = () if name == "predict" else 3
            self._programs[name, side_by_side] = jax.jit(lifted, donate_argnums=donated)
        return self._programs[name, side_by_side]

    def _start(self) -> state.Adaptation:
        """The base, or what the config carries over from the subject before."""
        fresh, before = ttp.start(self._base, self._tools), self._previous
        if before is None or self._scenario == "none":
            return fresh
        if self._config.ttp.reset == "never":
            fresh = before
        if self._config.ttp.normalisers == "carried":
            return fresh.replace(normalisers=before.normalisers)
        return fresh.replace(normalisers=self._base.normalisers)

    def picture(self, clip, result: Result, count: int = 3) -> np.ndarray:
        """The paper's Figure 5 for some frames, seen by the personalized model."""
        config, tools = self._config, self._tools
        rules = state.RULES[tools.settings.rules]
        variables = state.adapted(self._base, result.adaptation, rules)
        subject = result.subject
        readable = np.flatnonzero(subject.valid)
        chosen = spread(readable, count)
        size, bgr = tools.settings.image_size, tools.settings.bgr
        affines = geometry.crop_affine(jnp.asarray(subject.crops[chosen]), size)
        pictures = jnp.asarray(subject.frames[chosen])
        crops = jax.vmap(functools.partial(geometry.warp, size=size))(pictures, affines)
        sources = crops[::-1]
        output = self._see(variables, normalize(crops, bgr=bgr), normalize(sources, bgr=bgr))
        reconstruction = np.asarray(denormalize(output.reconstruction, bgr=bgr), np.uint8)
        stride = size / output.self_heatmaps.shape[1]
        rows = []
        for row, t in enumerate(chosen):
            to_crop = np.asarray(affines[row])
            on_canvas = (result.joints[t] + 0.5) * subject.scale - 0.5
            entry = {
                "image": np.asarray(crops[row], np.uint8),
                "reconstruction": reconstruction[row],
                "points": np.asarray(output.points[row]) * stride,
                "joints": geometry.transform_points(to_crop, on_canvas),
                "affinity": np.asarray(output.affinity[row]),
            }
            if clip.joints is not None:
                truth = (clip.joints[t] + 0.5) * subject.scale - 0.5
                entry["truth"] = geometry.transform_points(to_crop, truth)
                entry["visible"] = clip.visible[t]
            rows.append(entry)
        return visualize.figure5(rows, experiment.skeleton_of(config))


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of these frames, evenly spread, first and last left out: those that get drawn."""
    return frames[np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]


def subject_key(seed: int, name: str) -> jax.Array:
    """A subject's key, from the seed and its name: independent of who else is processed."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
