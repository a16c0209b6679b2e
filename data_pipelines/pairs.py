"""The frames of a training pair and its transform, drawn before any file is opened."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from data_pipelines.clips import UNLABELLED, Clip
from ttp_jax.augment import Ranges


@dataclasses.dataclass(frozen=True)
class Draw:
    """One row of the stream: a pair of frames and their common transform."""

    clip: int
    target: int
    source: int
    scale: float
    degrees: float
    flip: bool
    source_clip: int | None = None  # number of the source's clip; None if it is `clip`


def draws(
    lengths: Sequence[int],
    seed: int | tuple[int, ...],
    ranges: Ranges,
    frames_per_epoch: int | None = None,
    pools: Sequence[int] | None = None,
) -> Callable[[int], Draw]:
    """Return a function that maps a row's number in the global stream to its `Draw`.

    Args:
      lengths: number of frames of each clip.
      pools: number of frames that the sources of each clip's targets are drawn from; `lengths` if
        None.
    """
    seeds = (seed,) if isinstance(seed, int) else seed
    pools = lengths if pools is None else pools
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    per_epoch = frames_per_epoch or total
    if per_epoch > total:
        raise ValueError(
            f"config.train.frames_per_epoch is {per_epoch}, but the clips have {total} frames: "
            f"expected 0 to {total}."
        )

    # Index 0 of an epoch draws its order, so that rows and order never share random numbers.
    @functools.lru_cache(maxsize=8)
    def order(epoch):
        return np.random.default_rng([*seeds, epoch, 0]).permutation(total)

    def draw(row):
        epoch, place = divmod(row, per_epoch)
        frame = order(epoch)[place]
        clip = int(np.searchsorted(ends, frame, side="right"))
        rng = np.random.default_rng([*seeds, epoch, place + 1])
        source = int(rng.integers(pools[clip]))
        normal, (turn, mirror) = rng.standard_normal(2), rng.random(2)
        return Draw(
            clip=clip,
            target=int(frame - ends[clip] + lengths[clip]),
            source=source,
            scale=1 + ranges.scale * min(max(normal[0], -1), 1),
            degrees=ranges.rotation * min(max(normal[1], -2), 2) * (turn < ranges.rotation_prob),
            flip=bool(mirror < ranges.flip_prob),
        )

    return draw


def mixed_draws(
    clips: Sequence[Clip],
    seed: int,
    ranges: Ranges,
    frames_per_epoch: int | None,
    batch_size: int,
    labelled_share: float,
) -> Callable[[int], Draw]:
    """Return such a function for labelled and unlabelled clips; labelled targets come first.

    `labelled_share` is the share of each batch with labelled targets. Each kind has its own epochs;
    `frames_per_epoch` counts labelled targets.
    """
    if not 0 < labelled_share <= 1:
        raise ValueError(f"config.data.labelled_share is {labelled_share}, expected 0 to 1.")
    count = min(max(round(labelled_share * batch_size), 1), batch_size)
    people: dict[str, list[tuple[int, int]]] = {}  # (clip, frame)
    for number, clip in enumerate(clips):
        own = people.setdefault(clip.name.removesuffix(UNLABELLED), [])
        own += [(number, frame) for frame in range(clip.num_frames)]
    kinds = [[i for i, c in enumerate(clips) if (c.joints is None) == bare] for bare in (0, 1)]
    pools = [people[clip.name.removesuffix(UNLABELLED)] for clip in clips]
    streams = [
        draws(
            [clips[i].num_frames for i in kind],
            (seed, bare),
            ranges,
            None if bare else frames_per_epoch,
            [len(pools[i]) for i in kind],
        )
        for bare, kind in enumerate(kinds)
    ]

    def draw(row):
        step, place = divmod(row, batch_size)
        bare = place >= count
        number = step * (batch_size - count) + place - count if bare else step * count + place
        drawn = streams[bare](number)
        clip = kinds[bare][drawn.clip]
        source_clip, source = pools[clip][drawn.source]
        return dataclasses.replace(drawn, clip=clip, source=source, source_clip=source_clip)

    return draw
