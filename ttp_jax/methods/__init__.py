"""Adaptation methods as values: what each draws, trains and keeps, and one update of it.

Nothing here knows of scenarios or of how frames come: `ttp` runs every method online and offline.
What a method learns is `Adaptation.delta`, what else it needs from update to update
`Adaptation.kept`. No method ever sees a label.
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
    """The adaptation method of this name; ValueError for an unknown one."""
    if name not in METHODS:
        raise ValueError(f"config.ttp.method is {name!r}, expected one of {', '.join(METHODS)}.")
    return METHODS[name]
