"""The cross-subject control: each person predicted by the model adapted to another one."""

import time
from typing import Any

import numpy as np

from ttp_jax import state
from ttp_jax.paper.records import CONTROL
from ttp_jax.runs import diagnostics
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment


class Controls:
    """Predicts each person by the model of the person who was personalized before.

    People come in the order in which they finish: that of the clips when they run one at a time;
    side by side, clips of similar length finish together. Only the first person's model and the
    previous one's are held, so the memory does not grow with the number of people.

    Attributes:
      joints: float32 [T, K, 2] in picture pixels per clip, by the previous person's model (the
        first clip's by the last person's).
      errors: reconstruction errors (`diagnostics.prober`) by the model "before" personalization,
        "after" it, and by the other person's (`records.CONTROL`); networks with keypoints only.
      seconds: time that the controls took.
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
        """Add a personalized person.

        Args:
          clip: the person's clip.
          delta: what personalization added to the base model, by path.
        """
        if self._first is None:
            self._first = clip, delta  # compared in `finish`, with the last person's model
        else:
            self._compare(clip, delta, self._before)
        self._before = delta

    def finish(self) -> None:
        """Predict the first person, once all people have been added."""
        if self._first is not None:
            clip, delta = self._first
            self._compare(clip, delta, self._before if self._before is not delta else None)

    def _compare(self, clip, own, other) -> None:
        began = time.monotonic()
        models = {"before": {}, "after": own}
        if other is not None:
            models[CONTROL] = other
            self._plain.use(state.adapted_base(self._base, other))
            self.joints[clip.name] = self._plain.one(clip).joints
        if self._probe:
            for name, errors in zip(models, self._probe(clip, [*models.values()]), strict=True):
                self.errors.setdefault(name, []).append(errors)
        self.seconds += time.monotonic() - began
