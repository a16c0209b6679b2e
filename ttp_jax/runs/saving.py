"""Saving the states of unfinished subjects, at intervals and when a run is asked to stop."""

import dataclasses
import threading
import time
from collections.abc import Callable

import jax

from ttp_jax import parallel, ttp
from ttp_jax.checkpoint import Unfinished
from ttp_jax.runs import members
from ttp_jax.runs.members import Member
from ttp_jax.runs.process import Stopped


class Saver:
    """Saver of a group's states, which also decides when saving is due.

    Attributes:
      stop: set this event to stop the run as soon as its states are saved.
    """

    def __init__(self, unfinished: Unfinished | None, minutes: float):
        """Start the interval until the first save.

        Args:
          unfinished: where states are saved; if None they aren't, and a stop loses them.
          minutes: time between two saves.
        """
        self._unfinished, self._minutes = unfinished, minutes
        self.stop = threading.Event()
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Return whether to save the states now; raises Stopped if they can't be saved."""
        if self._unfinished is None:
            if self.stop.is_set():
                raise Stopped
            return False
        return time.monotonic() - self._saved > 60 * self._minutes or self.stop.is_set()

    def save(
        self,
        group: list[Member],
        pass_index: int,
        frame_index: int,
        subjects: ttp.Subject,
        spent: Callable[[Member], float],
    ) -> None:
        """Save the states of a group; raise Stopped if the run was asked to stop.

        Args:
          group: the subjects.
          pass_index: index of the pass that they are in.
          frame_index: index of the next frame in that pass.
          subjects: their states [N, ...].
          spent: function that gives a subject's seconds so far.
        """
        assert self._unfinished is not None
        for i, member in enumerate(group):
            if pass_index == len(member.passes) - 1 and frame_index >= len(member.frames):
                continue  # already done, with its results written
            subject = parallel.subject_of(subjects, i)
            now = dataclasses.replace(member, pass_index=pass_index, spent=spent(member))
            self._unfinished.save(member.clip.name, members.kept(now, subject))
        self._saved = time.monotonic()
        if self.stop.is_set():
            raise Stopped

    def resumed(self, member: Member, start: Callable[[], ttp.Subject]) -> Member:
        """Return the subject as an earlier run left it, or unchanged if there was none.

        `start` returns the initial state.
        """
        if self._unfinished is None:
            return member
        return members.resumed(member, jax.eval_shape(start), self._unfinished)

    def forget(self, name: str) -> None:
        """Delete the saved state of a subject that is done."""
        if self._unfinished is not None:
            self._unfinished.forget(name)
