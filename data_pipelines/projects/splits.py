"""Training, validation and test subjects of a project; no subject is in two splits.

A picture of two subjects shows both to whoever trains on it, so random splits keep such subjects
together. Only patterns of names can separate them.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from data_pipelines.clips import Clip, DataError, first_few
from data_pipelines.projects import names
from data_pipelines.projects.records import Project

NAMES = ("train", "val", "test")


def by_name(project: Project, *, test: str = "", val: str = "") -> Project:
    """Split by patterns of subjects' names, such as "*TESTSET*,File162"; the rest is for training.

    A pattern must match a whole name; "*" stands for any characters. The exact name of a subject,
    such as "mouse[1]", is only this subject.

    Args:
      project: the project to split.
      test: patterns of test subjects, separated by commas.
      val: patterns of validation subjects.

    Raises:
      DataError: a pattern matches no subject, a subject is in both splits, or none is left for
        training.
    """
    wanted = {"test": _parts(test), "val": _parts(val)}
    chosen: dict[str, str] = {}
    for split, patterns in wanted.items():
        for pattern in patterns:
            found = names.chosen(project.subjects, pattern)
            if not found:
                raise DataError(
                    f"no subject is called {pattern} (--{split}): expected patterns of "
                    f"{first_few(project.subjects)}."
                )
            for subject in found:
                if chosen.setdefault(subject, split) != split:
                    raise DataError(
                        f"subject {subject} would be in two splits, {chosen[subject]} and {split}: "
                        "narrow --test or --val."
                    )
    split = _with(project, lambda clip: chosen.get(clip.subject, "train"))
    seen: dict[str, set[str]] = {}
    for clip, keys in zip(split.clips, split.shared, strict=True):
        for key in keys:
            seen.setdefault(key, set()).add(clip.split)
    if shared := sum(len(splits) > 1 for splits in seen.values()):
        note = f"{shared} pictures show subjects of two splits, so each sees part of the other."
        split = dataclasses.replace(split, notes=(*split.notes, note))
    return split


def by_share(project: Project, *, test: float = 0.2, val: float = 0.2, seed: int = 0) -> Project:
    """Split randomly by shares of the subjects; at least one subject for each share above 0.

    Args:
      project: the project to split.
      test: share of test subjects, 0 to 1.
      val: share of validation subjects, 0 to 1.
      seed: seed of the draw.

    Raises:
      DataError: the shares leave nobody for training, or there are fewer subjects than splits.
    """
    if not (test >= 0 and val >= 0 and test + val < 1):
        raise DataError(
            f"test_share is {test:g} and val_share {val:g}: expected 0 or more, less than 1 "
            "together."
        )
    units = _shuffled(project, seed)
    counts = {
        split: max(round(share * len(units)), 1) if share else 0
        for split, share in (("test", test), ("val", val))
    }
    if sum(counts.values()) >= len(units):
        parts = 1 + sum(count > 0 for count in counts.values())
        raise DataError(
            f"{_units(units)} can't be split into {parts} parts: label more subjects, tell them "
            "apart by --subject, name some by --test and --val, or train on all of them with "
            "--config.data.test_share=0 --config.data.val_share=0."
        )
    order = ["test"] * counts["test"] + ["val"] * counts["val"]
    splits = {subject: split for unit, split in zip(units, order, strict=False) for subject in unit}
    return _with(project, lambda clip: splits.get(clip.subject, "train"))


def possible(project: Project, *, test: float, val: float) -> tuple[dict[str, float], str]:
    """Reduce the shares if there are too few subjects: first drop validation, then test.

    Args:
      project: the project to split.
      test: desired share of test subjects, see `by_share`.
      val: desired share of validation subjects.

    Returns:
      "test" and "val" for `by_share`, and a sentence about the change; "" if there is none.
    """
    units = _shuffled(project, 0)
    if len(units) > sum(share > 0 for share in (test, val)):
        return {"test": test, "val": val}, ""
    if len(units) > 1:
        note = "no validation subjects, so the last checkpoint is used"
        return {"test": test, "val": 0.0}, f"{_units(units)} are too few for three splits: {note}."
    alone = len(units[0]) == 1
    remedy = "tell several apart with --subject" if alone else "split them with --test and --val"
    note = f"no subject can be held out, so nothing will be scored; {remedy}"
    return {"test": 0.0, "val": 0.0}, f"{_units(units)}: {note}."


def share_pictures(project: Project) -> bool:
    """Return whether different subjects appear in the same picture."""
    return any(len(unit) > 1 for unit in _shuffled(project, 0))


def folds(project: Project, count: int, *, val: float = 0.2, seed: int = 0) -> list[Project]:
    """Split `count` times, so that each subject is a test subject once.

    Args:
      project: the project to split.
      count: number of folds, 2 or more.
      val: share of each fold's other subjects that are drawn for validation. If that would leave no
        training subjects, the fold has no validation subjects, and a note says so.
      seed: seed of the draw.

    Raises:
      DataError: there are fewer subjects than folds.
    """
    units = _shuffled(project, seed)
    if not 2 <= count <= len(units):
        raise DataError(f"folds is {count}, expected 2 to {len(units)}: there are {_units(units)}.")
    found = []
    for fold in range(count):
        tested = units[fold::count]
        others = [unit for unit in units if unit not in tested]
        held = others[: max(round(val * len(others)), 1) if val else 0]
        note = ""
        if len(held) == len(others):  # as in `possible`, training comes before validation
            held = []
            note = f"{_units(units)} in {count} folds leave none for validation."
        splits = {subject: "test" for unit in tested for subject in unit}
        splits |= {subject: "val" for unit in held for subject in unit}
        split = _with(project, lambda clip, splits=splits: splits.get(clip.subject, "train"))
        found.append(dataclasses.replace(split, notes=(*split.notes, *filter(None, [note]))))
    return found


def check(clips: Iterable[Clip]) -> None:
    """Raise DataError if a subject is in two splits, or nobody is for training."""
    splits: dict[str, str] = {}
    for clip in clips:
        if clip.split not in NAMES:
            raise DataError(f"clip {clip.name}: split {clip.split!r}, expected one of {NAMES}.")
        if splits.setdefault(clip.subject, clip.split) != clip.split:
            raise DataError(
                f"subject {clip.subject} is in two splits, {splits[clip.subject]} and "
                f"{clip.split}: a subject's recordings must be in one."
            )
    if "train" not in splits.values():
        raise DataError("no training subjects are left: name fewer in --test or --val.")


def _with(project: Project, split: Callable[[Clip], str]) -> Project:
    """Return the project with its clips in the given splits, after checking them."""
    clips = tuple(dataclasses.replace(clip, split=split(clip)) for clip in project.clips)
    check(clips)
    return dataclasses.replace(project, clips=clips)


def _parts(patterns: str) -> list[str]:
    return [part.strip() for part in patterns.split(",") if part.strip()]


def _shuffled(project: Project, seed: int) -> list[tuple[str, ...]]:
    """Return groups of subjects that must stay together, in a random order."""
    leader = {subject: subject for subject in project.subjects}

    def first(subject: str) -> str:
        while leader[subject] != subject:
            subject = leader[subject]
        return subject

    owners: dict[str, str] = {}
    for clip, keys in zip(project.clips, project.shared, strict=True):
        for key in keys:
            leader[first(clip.subject)] = first(owners.setdefault(key, clip.subject))
    groups: dict[str, list[str]] = {}
    for subject in sorted(leader):
        groups.setdefault(first(subject), []).append(subject)
    units = sorted(tuple(group) for group in groups.values())
    return [units[i] for i in np.random.default_rng(seed).permutation(len(units))]


def _units(units: Sequence[tuple[str, ...]]) -> str:
    """Return the number of groups of subjects in words."""
    subjects = sum(len(unit) for unit in units)
    groups = f"{len(units)} group{'s' * (len(units) > 1)}"
    together = f" in {groups} that share pictures" * (subjects > len(units))
    return f"{subjects} subject{'s' * (subjects > 1)}{together}"
