"""The settings of personalization, which the fields of `config.ttp` describe."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ttp_jax import augment, state


class Settings(NamedTuple):
    """How to personalize; hashable, so that it can be static under `jit`.

    Attributes:
      scenario: "online" or "offline".
      iterations: updates per frame, on the same pairs (paper Table 2).
      batch_size: pairs per update.
      learning_rate: learning rate of Adam, constant.
      reset_every: online only: after every n frames, start over with an empty memory, at the next
        valid frame; 0 for never within a subject. Each subject always starts from the base model
        that the caller passes.
      keep_normalisers: whether such a restart keeps the running means of the loss.
      rules: freeze rules of the method "ttp", a key of `state.RULES`.
      ranges: ranges of the augmentation.
      image_size: side of the crops in pixels.
      bgr: channel order, see `normalize`.
      method: adaptation method, a key of `methods.METHODS`.
      bn_weight: "bn" and "entropy": share of the subject's batch statistics, 0 to 1.
      confidence: "entropy" and "teacher": joints of lower confidence are ignored.
      teacher_decay: "teacher": share of itself that the averaged model keeps at an update.
      self_weight: "teacher+ttp": weight of the self-supervised loss, lambda of Eq. 10.
      flip_order: "teacher": permutation of the joints in a mirrored image (`Skeleton.flip_order`);
        () if images must not be mirrored.
      equivariance: "ttp": weight of `tasks.Equivariance` beside the network's own task.
      source_masking: "ttp": share of the source's blocks that are hidden (`augment.mask_blocks`).
    """

    scenario: str = "online"
    iterations: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-4
    reset_every: int = 0
    keep_normalisers: bool = False
    rules: str = "reference"
    ranges: augment.Ranges = augment.Ranges()
    image_size: int = 128
    bgr: bool = False
    method: str = "ttp"
    bn_weight: float = 0.5
    confidence: float = 0.3
    teacher_decay: float = 0.97
    self_weight: float = 0.01
    flip_order: tuple[int, ...] = ()
    equivariance: float = 0.0
    source_masking: float = 0.0


OF_THE_LOSS = ("equivariance", "source_masking")  # fields of `config.loss`


def settings_from(
    fields: Mapping[str, Any],
    scenario: str,
    *,
    image_size: int,
    bgr: bool,
    flip_order: Sequence[int] | np.ndarray = (),
    loss: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings that the fields of `config.ttp` describe.

    Args:
      fields: `config.ttp`.
      scenario: "online" or "offline".
      image_size: side of the crops in pixels.
      bgr: channel order.
      flip_order: the skeleton's `Skeleton.flip_order`.
      loss: `config.loss`, for the self-supervised loss at test time; None: the paper's.

    Raises ValueError if rules are unknown, reset is not "subject", "never" or a number, or
    normalisers are not "reset" or "carried". Numbers are checked by `ranges.check`.
    """
    if fields["rules"] not in state.RULES:
        raise ValueError(f"config.ttp.rules must be one of {', '.join(state.RULES)}.")
    reset = str(fields["reset"])
    if not (reset in ("subject", "never") or reset.isdigit()):
        raise ValueError('config.ttp.reset must be "subject", "never" or a number of frames.')
    if fields["normalisers"] not in ("reset", "carried"):
        raise ValueError('config.ttp.normalisers must be "reset" or "carried".')
    moves = fields["rotation"], fields[f"{scenario}_rotation_prob"]
    found = Settings(
        scenario=scenario,
        iterations=fields["iterations"],
        batch_size=fields["batch_size"],
        learning_rate=fields["learning_rate"],
        reset_every=int(reset) if reset.isdigit() else 0,
        keep_normalisers=fields["normalisers"] == "carried",
        rules=fields["rules"],
        ranges=augment.Ranges(*moves, fields["scale"], fields["flip_prob"]),
        image_size=image_size,
        bgr=bgr,
        flip_order=tuple(map(int, flip_order)),
    )
    # Files of earlier versions lack some fields, which get their defaults.
    own = {name: fields[name] for name in Settings._fields if name in fields}
    found = found._replace(**own)
    loss = loss or {}
    return found._replace(**{name: loss[name] for name in OF_THE_LOSS if name in loss})
