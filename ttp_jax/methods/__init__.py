"""Adaptation methods as values: what each draws, trains and keeps, and how it updates.

Nothing here knows about scenarios or where frames come from: `ttp` runs every method online and
offline. What a method learns is in `Adaptation.delta`, the rest of its state in `Adaptation.kept`.
No method ever sees a label.
"""

from ttp_jax.methods.base import Method, Tools
from ttp_jax.methods.self_supervised import SelfSupervised
from ttp_jax.methods.statistics import BatchStatistics, Entropy
from ttp_jax.methods.teacher import Teacher, TeacherAndTask

__all__ = (
    "METHODS", "BatchStatistics", "Entropy", "Method", "SelfSupervised", "Teacher",
    "TeacherAndTask", "Tools", "of",
)  # fmt: skip

METHODS = {
    "ttp": SelfSupervised(),
    "bn": BatchStatistics(),
    "entropy": Entropy(),
    "teacher": Teacher(),
    "teacher+ttp": TeacherAndTask(),
    "none": Method(),
}


def of(name: str) -> Method:
    """Return the adaptation method of this name; raise ValueError for an unknown one."""
    if name not in METHODS:
        raise ValueError(f"config.ttp.method is {name!r}, expected one of {', '.join(METHODS)}.")
    return METHODS[name]
