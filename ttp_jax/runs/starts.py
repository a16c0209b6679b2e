"""Initial states of subjects, and what is carried over from one subject to the next."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from ttp_jax import driver, parallel, state, ttp
from ttp_jax.runs.members import Member


def carries(fields: Any, scenario: str) -> bool:
    """Return whether these fields of `config.ttp` carry state over to the next subject."""
    anything = fields.reset == "never" or fields.normalisers == "carried"
    return scenario != "none" and anything


class Starts:
    """Factory of the subjects' initial states."""

    def __init__(self, seed: int, fields: Any, scenario: str, programs: driver.Programs):
        """Store the settings.

        Args:
          seed: seed of the subjects' keys.
          fields: fields of `config.ttp`.
          scenario: a key of `members.PASSES`.
          programs: programs for one subject.
        """
        self._seed, self._ttp, self._programs = seed, fields, programs
        self.carries = carries(self._ttp, scenario)
        self._previous: state.Adaptation | None = None

    def of(self, member: Member, base: state.Base) -> ttp.Subject:
        """Return a subject's state before its first frame, or where an earlier run was stopped."""
        if member.kept is not None:
            return member.kept
        key = subject_key(self._seed, member.clip.key or member.clip.name)
        frames = member.frames
        start = self._programs.start(base, key, member.capacity, frames.shape, frames.turned)
        return start.replace(adaptation=self._carried(start.adaptation, base))

    def stacked(self, group: list[Member], width: int, base: state.Base) -> ttp.Subject:
        """Return the states of a group [width, ...], padded with subjects that have no frames."""
        each = [self.of(member, base) for member in group]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        return parallel.pad_subjects(stacked, width)

    def _carried(self, fresh: state.Adaptation, base: state.Base) -> state.Adaptation:
        """Return a subject's initial state, with what is carried over from the previous one."""
        before = self._previous
        if before is None:
            return fresh
        if self._ttp.reset == "never":
            fresh = before
        if self._ttp.normalisers == "carried":
            return fresh.replace(normalisers=before.normalisers)
        return fresh.replace(normalisers=base.normalisers)

    def carry(self, adaptation: state.Adaptation) -> None:
        """Carry this state over to the next subject if the config says so.

        A state that diverged to NaN is not carried over.
        """
        if self.carries and _is_finite(adaptation):
            self._previous = adaptation


def _is_finite(adaptation: state.Adaptation) -> bool:
    """Return whether the state is finite; the loss is NaN before the first update."""
    parts = adaptation.delta, adaptation.opt_state, adaptation.normalisers
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(parts))


def subject_key(seed: int, name: str) -> jax.Array:
    """Return a subject's key, from the seed and the name that identifies the subject's frames."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
