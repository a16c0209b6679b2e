"""The user's labels of some frames, for scores before and after. Nothing is trained on them."""

import hashlib
import pathlib

import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import labels as labels_lib
from data_pipelines.labels import Labels
from ttp_jax import metrics
from ttp_jax.runs.outcome import Outcome
from ttp_jax.skeletons import Skeleton

SCORES = (  # of `metrics.score_labels`: key, name, unit, which is better, meaning
    ("PCK@0.2", "PCK@0.2", "%", "higher",
     "share of labelled joints within 0.2 torso lengths of their label"),
    ("PCK@0.5", "PCK@0.5", "%", "higher", "share within 0.5 torso lengths"),
    ("RMSE px", "RMSE", "px", "lower", "root mean square distance from the labels"),
)  # fmt: skip


def read(path: str, first: int, skeleton: Skeleton, clip: clips_lib.Clip) -> Labels:
    """Read the labels of a clip; raises DataError if they can't be used.

    Args:
      path: file or folder of labels.
      first: number of the first picture in the labels.
      skeleton: joints to read.
      clip: the clip that they label.
    """
    count = clip.num_frames if clip.numbers is None else None
    names = None
    if clip.frame_names is not None:
        names = dict(zip(clip.frame_names, clip.frame_numbers.tolist(), strict=True))
    size = clip.largest
    if clip.sizes is not None and (clip.sizes != size).any():  # pictures of several sizes
        size = dict(zip(clip.frame_numbers.tolist(), map(tuple, clip.sizes.tolist()), strict=True))
    stored = clip.stored_size
    known = labels_lib.read(
        path,
        skeleton,
        clip.name,
        size,
        stored=stored,
        count=count,
        first=first,
        names=names,
        source=clip.source,
    )
    if not np.isin(known.frames, clip.frame_numbers).any():
        raise clips_lib.DataError(
            f"{path}: none of its labelled frames is in {clip.name}: choose other --frames or "
            "labels."
        )
    return known


def digest(path: str) -> str:
    """Return the SHA-256 of a file of labels, or of the files in a folder of labels."""
    whole = pathlib.Path(path).expanduser()
    found = hashlib.sha256()
    for file in labels_lib.files_of(whole):
        found.update(file.name.encode() * whole.is_dir() + file.read_bytes())
    return found.hexdigest()


def scores(known: Labels, outcome: Outcome, poses, skeleton: Skeleton) -> dict[str, dict]:
    """Score before and after by `metrics.score_labels`.

    `poses` has the joints [T, K, 2] "before" and "after".
    """
    numbers = outcome.clip.frame_numbers
    here = np.isin(known.frames, numbers)
    places = np.searchsorted(numbers, known.frames)
    truth = known.joints[here], known.visible[here]
    return {
        when: metrics.score_labels(joints[places[here]], *truth, skeleton)
        for when, joints in poses.items()
    }


def rows(found: dict[str, dict]) -> list[tuple]:
    """Return rows for the report from the result of `scores`."""
    before, after = found["before"], found["after"]
    return [
        (name, before[key]["mean"], after[key]["mean"], unit, better, explanation)
        for key, name, unit, better, explanation in SCORES
        if key in before
    ]


def notes(known: Labels, outcome: Outcome, found: dict[str, dict]) -> list[str]:
    """Return what a reader must know about these scores."""
    before = found["before"]
    left_out = int((~np.isin(known.frames, outcome.clip.frame_numbers)).sum())
    count = f"{before['joints']} joints in {before['frames']} labelled frames are scored."
    missing = [f"{left_out} labelled frames were not predicted and are left out."] * bool(left_out)
    return [count, *before["notes"], *known.notes, *missing]
