"""Announcements of what a training will do, and how long it will take."""

import time
from collections.abc import Callable, Sequence

from data_pipelines.clips import Clip
from ttp_jax import tasks
from ttp_jax.runs.experiment import Experiment
from ttp_jax.state import Stage


def lines(experiment: Experiment, clips: Sequence[Clip], scored: bool) -> list[str]:
    """Return the plan of a training, in lines; none unless it is on a labelled project.

    Args:
      experiment: the experiment that is trained.
      clips: labelled clips of all splits.
      scored: whether the model is scored afterwards, as `train` does.
    """
    if experiment.data.source != "project":
        return []
    config, counts = experiment.config, {}
    for split in ("train", "val", "test"):
        counts[split] = len({clip.subject for clip in clips if clip.split == split})
    encoder = config.model.encoder + f"-{config.model.depth}" * (config.model.encoder == "resnet")
    found = [
        f"Encoder: {encoder}, starting from {config.model.init}; crops of {experiment.image_size} "
        f"pixels; boxes: {config.data.boxes}.",
    ]
    for stage in experiment.stages:
        what = "both tasks" if stage.self_weight else "the supervised task only"
        found.append(f"Train: {stage.steps} updates of {config.train.batch_size} pairs, {what}.")
    validation, test = (
        f"{counts[split]} {name} subject{'s' * (counts[split] > 1)}"
        for split, name in (("val", "validation"), ("test", "test"))
    )
    if config.train.best and counts["val"]:
        found.append(f"Then use the last stage's checkpoint that scores best on the {validation}.")
    if not scored:
        return found
    adapts = experiment.task != tasks.NOTHING
    if adapts and counts["val"] and counts["test"]:
        found.append(f"Then choose between no TTP, online and offline on the {validation}.")
    if counts["test"]:
        ways = "without TTP, online and offline" if adapts else "once"
        found.append(f"Then score the {test} {ways}.")
    return found


class Pace:
    """An announcement, once in each stage, of how long the rest of it will take.

    The first interval between two logs includes compilation, so the second one is measured.
    """

    def __init__(self, stages: Sequence[Stage], say: Callable[[str], object]):
        self._ends = [sum(stage.steps for stage in stages[: i + 1]) for i in range(len(stages))]
        self._say = say
        self._last: tuple[int, int, float] | None = None  # stage, steps done, seconds
        self._announced: set[int] = set()

    def note(self, done: int) -> None:
        """Note the number of finished steps. Call this when no computation is pending."""
        stage = next((i for i, end in enumerate(self._ends) if done < end), None)
        now, before = time.monotonic(), self._last
        if stage is None:
            return
        self._last = stage, done, now
        compiled = before is not None and before[0] == stage and before[1] > self._start(stage)
        if before is None or not compiled or stage in self._announced:
            return
        self._announced.add(stage)
        seconds = (now - before[2]) / (done - before[1])
        left = self._ends[stage] - done
        self._say(
            f"stage {stage + 1} of {len(self._ends)}: {seconds:.2f} s per update, about "
            f"{_duration(seconds * left)} for the remaining {left}"
        )

    def _start(self, stage: int) -> int:
        return self._ends[stage - 1] if stage else 0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
