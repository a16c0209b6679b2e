"""The control beside offline personalization: another person's model."""

import time
from typing import Any

import numpy as np

from ttp_jax import state
from ttp_jax.runs import diagnostics
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment


class Controls:
    """What stands beside offline personalization: each person by the model of the one before.

    Before in the order in which they come out: that of the clips where people run one at a time;
    side by side, those of like length come together. Holds the first person's and the last one's
    changes only, however many people there are.

    Attributes:
      joints: of each clip, by the model of the person before (of the last, for the first).
      errors: of the reconstruction (`diagnostics.prober`), "before" personalization, "after" it,
        and by the model of that "stranger"; networks with keypoints only.
      seconds: that all this took.
    """

    def __init__(self, experiment: Experiment, base: state.Base, people: int):
        self.joints: dict[str, np.ndarray] = {}
        self.errors: dict[str, list[dict]] = {}
        self.seconds = 0.0
        self._base, self._plain = base, Runner(experiment, base, "none")
        probes = experiment.task.probe is not None
        self._probe = diagnostics.prober(experiment, base, people) if probes else None
        self._first: tuple[Any, Any] | None = None
        self._before = None

    def add(self, clip, delta) -> None:
        """A person has been personalized: to this change of the base."""
        if self._first is None:
            self._first = clip, delta  # whom it is compared with comes last
        else:
            self._compare(clip, delta, self._before)
        self._before = delta

    def finish(self) -> None:
        """All people have been added."""
        if self._first is not None:
            clip, delta = self._first
            self._compare(clip, delta, self._before if self._before is not delta else None)

    def _compare(self, clip, own, other) -> None:
        began = time.monotonic()
        models = {"before": {}, "after": own}
        if other is not None:
            models["stranger"] = other
            self._plain.use(state.adapted_base(self._base, other))
            self.joints[clip.name] = self._plain.one(clip).joints
        if self._probe:
            for name, errors in zip(models, self._probe(clip, [*models.values()]), strict=True):
                self.errors.setdefault(name, []).append(errors)
        self.seconds += time.monotonic() - began
