"""The cross-subject control: each person is predicted by the model adapted to another one."""

import time
from typing import Any

import numpy as np

from ttp_jax import state
from ttp_jax.paper.records import CONTROL
from ttp_jax.runs import diagnostics
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment


class Controls:
    """Predict each person with the model that was adapted to the person before.

    People are ordered as they finish. If they run one at a time, that is the order of the clips;
    side by side, clips of similar length finish together. Only the models of the first and the
    previous person are held, so memory use does not grow with the number of people.

    Attributes:
      joints: float32 [T, K, 2] in image pixels for each clip, by the previous person's model (for
        the first clip, by the last person's).
      errors: reconstruction errors (`diagnostics.prober`) of the model "before" personalization,
        "after" it, and of the other person's model (`records.CONTROL`); only for networks with
        keypoints.
      seconds: time spent on the controls.
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
          delta: the adaptation, as differences to the base model's arrays by path.
        """
        if self._first is None:
            self._first = clip, delta  # predicted in `finish`, with the last person's model
        else:
            self._compare(clip, delta, self._before)
        self._before = delta

    def finish(self) -> None:
        """Predict the first person. Call this after all people have been added."""
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
