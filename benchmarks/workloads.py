"""What is measured: groups of lines, each line one side at one work."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import baseline, ours
from benchmarks.case import R18, TINY, Case, Side, Size, torch_device

NAMES = ("train", "online", "inference", "subjects", "offline")
SIZES = {size.name: size for size in (TINY, R18)}
EAGER, PUBLISHED = "torch eager", "torch eager, published work list"
SOLO = "ours, one alone"
STRATEGIES = ("map", "vmap")  # of `parallel.over_subjects`


class Amounts(NamedTuple):
    """How much one run does.

    Attributes:
      online: frames; two at least, as a loop of one is another program.
      forms: whether online runs with all forms of torch; else eager, as in the published program.
      offline: frames of the subject.
      each: frames of each of several subjects.
      subjects: how many side by side.
      pairs: per update of each of several subjects.
    """

    online: int
    forms: bool
    offline: int
    each: int
    subjects: tuple[int, ...]
    pairs: int


QUICK = Amounts(online=4, forms=True, offline=8, each=2, subjects=(2,), pairs=8)
# An update of 32 pairs with ResNet-18 takes some 2 TFLOP, half a minute on two cores.
AMOUNTS = {
    ("tiny", "cpu"): Amounts(online=8, forms=True, offline=24, each=4, subjects=(2, 8), pairs=8),
    ("r18", "cpu"): Amounts(online=2, forms=False, offline=2, each=2, subjects=(4, 8), pairs=8),
    ("tiny", "gpu"): Amounts(24, True, 24, each=8, subjects=(4, 16, 32), pairs=8),
    ("r18", "gpu"): Amounts(24, True, 24, each=8, subjects=(4, 16, 32), pairs=32),
}


class Entry(NamedTuple):
    """One line of the table.

    Attributes:
      side: who does the work, and how.
      parts: steps, frames or subjects done by one run: what the time is divided by.
      build: makes the side ready.
      counts: whether the side's floating-point operations are counted as it runs.
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
      title: for the table.
      unit: of the times.
      baseline: the side that the others are compared with.
      entries: the lines, of a case.
    """

    name: str
    title: str
    unit: str
    baseline: str
    entries: Callable[[Case], list[Entry]]


def workloads(
    size: Size, amounts: Amounts, only: tuple[str, ...], compiles: bool
) -> list[Workload]:
    """The groups of one size; `compiles` has lines with torch.compile too."""
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
    """Theirs: as it is, with channels last, and compiled."""
    plain = functools.partial(build, channels_last=False, compiles=False)
    last = functools.partial(build, channels_last=True, compiles=False)
    entries = [Entry(EAGER, parts, plain, counts=True), Entry(f"{EAGER}, NHWC", parts, last)]
    if compiles:
        # In the layout that GPUs prefer there; on CPU torch chooses its own.
        on_gpu = torch_device() == "cuda"
        build = functools.partial(build, channels_last=on_gpu, compiles=True)
        entries.append(Entry("torch.compile", parts, build, compiles=True))
    return entries


def train(case: Case, compiles: bool) -> list[Entry]:
    """One update of joint training."""
    mine = Entry("ours", 1, functools.partial(ours.train, case))
    return [mine, *_torch(functools.partial(baseline.train, case), 1, compiles)]


def online(case: Case, amounts: Amounts, compiles: bool) -> list[Entry]:
    """Updates and predictions of some frames, one after the other."""
    frames, case = amounts.online, case.with_frames(amounts.online)
    torchs = _torch(functools.partial(baseline.online, case), frames, compiles)
    return [
        Entry("ours", frames, functools.partial(ours.online, case)),
        *(torchs if amounts.forms else torchs[:1]),
        Entry(PUBLISHED, frames, functools.partial(baseline.published_online, case), counts=True),
    ]


def inference(case: Case, count: int, compiles: bool) -> list[Entry]:
    """Predictions of `count` crops in one call."""
    mine = Entry("ours", count, functools.partial(ours.inference, case, count))
    return [mine, *_torch(functools.partial(baseline.inference, case, count), count, compiles)]


def offline(case: Case, frames: int) -> list[Entry]:
    """A subject of `frames` frames: as many updates, then all predictions."""
    case = case.with_frames(frames)
    plain = functools.partial(baseline.offline, case, channels_last=False, compiles=False)
    mine = Entry("ours", 1, functools.partial(ours.offline, case))
    return [mine, Entry(EAGER, 1, plain, counts=True)]


def subjects(case: Case, amounts: Amounts) -> list[Entry]:
    """Whole subjects online: one, and several in one program by each strategy."""
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
