"""What became of a subject, before and after: what its outputs are made of."""

import dataclasses

import numpy as np

from data_pipelines import clips as clips_lib


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a subject: all that its outputs are made of beside its pictures.

    Attributes:
      clip: with the boxes that it was predicted in.
      size: height and width of its pictures.
      before: joints [T, K, 2] in pixels of the pictures; NaN where a frame could not be read.
      after: likewise.
      peaks: [T, K] before and after.
      diagnostics: `diagnostics.before_and_after`.
      cost: what it took, name -> value.
      warnings: signs of harm.
    """

    clip: clips_lib.Clip
    size: tuple[int, int]
    before: np.ndarray
    after: np.ndarray
    peaks: tuple[np.ndarray, np.ndarray]
    diagnostics: dict[str, list[float]]
    cost: dict[str, float]
    warnings: list[str] = dataclasses.field(default_factory=list)
