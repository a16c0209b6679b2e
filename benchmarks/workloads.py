"""Workloads to measure: groups of lines, one for each side that does the work."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import baseline, ours
from benchmarks.case import R18, TINY, Case, Side, Size, torch_device

NAMES = ("train", "online", "inference", "subjects", "offline")
SIZES = {size.name: size for size in (TINY, R18)}
EAGER, PUBLISHED = "torch eager", "torch eager, published work list"
SOLO = "ours, one alone"
STRATEGIES = ("map", "vmap")  # ways of `parallel.over_subjects`


class Amounts(NamedTuple):
    """The amounts of work of one run.

    Attributes:
      online: number of frames, at least two, because a loop over one frame is another program.
      forms: whether online runs in all forms of torch, or only eager, as the published program.
      offline: number of frames.
      each: frames of each of several subjects.
      subjects: numbers of subjects side by side.
      pairs: pairs per update of each of several subjects.
    """

    online: int
    forms: bool
    offline: int
    each: int
    subjects: tuple[int, ...]
    pairs: int


QUICK = Amounts(online=4, forms=True, offline=8, each=2, subjects=(2,), pairs=8)
# An update of 32 pairs with ResNet-18 takes about 2 TFLOP, half a minute on two cores.
AMOUNTS = {
    ("tiny", "cpu"): Amounts(online=8, forms=True, offline=24, each=4, subjects=(2, 8), pairs=8),
    ("r18", "cpu"): Amounts(online=2, forms=False, offline=2, each=2, subjects=(4, 8), pairs=8),
    ("tiny", "gpu"): Amounts(24, True, 24, each=8, subjects=(4, 16, 32), pairs=8),
    ("r18", "gpu"): Amounts(24, True, 24, each=8, subjects=(4, 16, 32), pairs=32),
}


class Entry(NamedTuple):
    """One line of the table.

    Attributes:
      side: library and form that do the work, such as "torch.compile".
      parts: steps, frames or subjects in one run, by which the time is divided.
      build: function that prepares the side.
      counts: whether the side's floating-point operations are counted while it runs.
      compiles: whether the first run compiles.
    """

    side: str
    parts: int
    build: Callable[[], Side]
    counts: bool = False
    compiles: bool = False


class Workload(NamedTuple):
    """One group of lines.

    Attributes:
      name: one of `NAMES`.
      title: name in the table.
      unit: unit of the times.
      baseline: the side that the others are compared with.
      entries: function from a case to the lines.
    """

    name: str
    title: str
    unit: str
    baseline: str
    entries: Callable[[Case], list[Entry]]


def workloads(
    size: Size, amounts: Amounts, only: tuple[str, ...], compiles: bool
) -> list[Workload]:
    """Return the groups of one size; `compiles` adds lines with torch.compile."""
    pairs, crops = f"{size.ttp_batch} pairs", size.train_batch
    every = [
        Workload(
            "train",
            f"train step, {size.train_batch} pairs",
            "ms/step",
            EAGER,
            functools.partial(train, compiles=compiles),
        ),
        Workload(
            "online",
            f"TTP online, {pairs} a frame",
            "ms/frame",
            EAGER,
            functools.partial(online, amounts=amounts, compiles=compiles),
        ),
        Workload(
            "inference",
            "inference, 1 crop",
            "ms/frame",
            EAGER,
            functools.partial(inference, count=1, compiles=compiles),
        ),
        Workload(
            "inference",
            f"inference, {crops} crops",
            "ms/frame",
            EAGER,
            functools.partial(inference, count=crops, compiles=False),
        ),
        Workload(
            "subjects",
            f"TTP online, whole subjects of {amounts.each} frames, {amounts.pairs} pairs",
            "s/subject",
            SOLO,
            functools.partial(subjects, amounts=amounts),
        ),
        Workload(
            "offline",
            f"TTP offline, {amounts.offline} frames, {pairs}",
            "s/subject",
            EAGER,
            functools.partial(offline, frames=amounts.offline),
        ),
    ]
    return [work for work in every if work.name in only]


def _torch(build, parts, compiles: bool) -> list[Entry]:
    """Return PyTorch's lines: eager, with channels last, and compiled."""
    plain = functools.partial(build, channels_last=False, compiles=False)
    last = functools.partial(build, channels_last=True, compiles=False)
    entries = [Entry(EAGER, parts, plain, counts=True), Entry(f"{EAGER}, NHWC", parts, last)]
    if compiles:
        # Channels last on a GPU, which prefers it; on a CPU, torch chooses the layout by itself.
        on_gpu = torch_device() == "cuda"
        build = functools.partial(build, channels_last=on_gpu, compiles=True)
        entries.append(Entry("torch.compile", parts, build, compiles=True))
    return entries


def train(case: Case, compiles: bool) -> list[Entry]:
    """Return the lines for one update of joint training."""
    mine = Entry("ours", 1, functools.partial(ours.train, case))
    return [mine, *_torch(functools.partial(baseline.train, case), 1, compiles)]


def online(case: Case, amounts: Amounts, compiles: bool) -> list[Entry]:
    """Return the lines for updates and predictions of some frames, one after the other."""
    frames, case = amounts.online, case.with_frames(amounts.online)
    torchs = _torch(functools.partial(baseline.online, case), frames, compiles)
    return [
        Entry("ours", frames, functools.partial(ours.online, case)),
        *(torchs if amounts.forms else torchs[:1]),
        Entry(PUBLISHED, frames, functools.partial(baseline.published_online, case), counts=True),
    ]


def inference(case: Case, count: int, compiles: bool) -> list[Entry]:
    """Return the lines for predicting `count` crops in one call."""
    mine = Entry("ours", count, functools.partial(ours.inference, case, count))
    return [mine, *_torch(functools.partial(baseline.inference, case, count), count, compiles)]


def offline(case: Case, frames: int) -> list[Entry]:
    """Return the lines for a subject of `frames` frames: as many updates, then all predictions."""
    case = case.with_frames(frames)
    plain = functools.partial(baseline.offline, case, channels_last=False, compiles=False)
    mine = Entry("ours", 1, functools.partial(ours.offline, case))
    return [mine, Entry(EAGER, 1, plain, counts=True)]


def subjects(case: Case, amounts: Amounts) -> list[Entry]:
    """Return the lines for whole subjects online: one, and several by each strategy."""
    case = case.with_frames(amounts.each).with_pairs(amounts.pairs)
    plain = functools.partial(
        baseline.online, case, whole_subject=True, channels_last=False, compiles=False
    )
    entries = [
        Entry(SOLO, 1, functools.partial(ours.subject, case)),
        Entry(EAGER, 1, plain, counts=True),
    ]
    for count in amounts.subjects:
        for how in STRATEGIES:
            build = functools.partial(ours.subjects, case, count, how)
            entries.append(Entry(f"ours, {how} over {count}", count, build))
    return entries
