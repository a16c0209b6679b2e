"""A labelled project as a data source: reading it and splitting its subjects."""

import dataclasses
import functools
import hashlib
import pathlib
import warnings
from collections.abc import Callable

import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import frame_cache, locate, projects
from data_pipelines.clips import Clip
from data_pipelines.projects import Options, Project, footage, splits
from ttp_jax import geometry
from ttp_jax.runs import identity
from ttp_jax.runs.experiment import Config, Experiment, tuples

ROOM = 0.06  # margin around the labels, as a share of the crop side
FIELDS = ("scorer", "view", "category", "subject", "exclude", "hidden", "margin", "media", "boxes")
FIELDS += ("predictions",)
NO_PAIRS = (
    "no joint names pair up as left and right, so pictures aren't mirrored in training. Name the "
    "pairs with --flip-pairs=a:b,c:d. If a mirrored picture could show another subject, "
    '--flip-pairs="" mirrors pictures without swapping joints.'
)
UNKNOWN = (
    "the model, made by an earlier version, doesn't say which subjects it was trained on: make "
    "sure that the test subjects are others."
)
OTHER_BOXES = (
    "the model was trained with config.data.boxes={0}, and sees other crops here: add "
    "--config.data.boxes={0} to give it those of its training."
)
TOGETHER = (
    "pictures show several subjects, and a whole picture doesn't say which one is meant. Crop each "
    "with --config.data.boxes=labels (new videos then need boxes, too), or read one with "
    "--config.data.individuals=NAME."
)


def read(data: Config) -> Project:
    """Read the project that the fields of `config.data` describe, and split its subjects.

    Raises DataError if it can't be read or split as requested.
    """
    if data.boxes in locate.FINDERS:
        raise clips_lib.DataError(
            f"config.data.boxes is {data.boxes!r}, which works for videos only. For labelled "
            "pictures give whole, labels, annotated or a region x1,y1,x2,y2."
        )
    flip_pairs = None if data.flip_pairs == "names" else data.flip_pairs
    individuals = tuple(name for name in data.individuals.split(",") if name)
    own = {field: data[field] for field in FIELDS}
    options = Options(individuals=individuals, flip_pairs=flip_pairs, **own)
    whole = _read(str(pathlib.Path(data.root).expanduser().resolve()), options)
    return _split(whole, data)


# Commands ask for each split, but a project on a slow disk should be read only once.
_read: Callable[[str, Options], Project] = functools.lru_cache(maxsize=2)(projects.read)


def _split(project: Project, data: Config) -> Project:
    """Split the subjects into folds, by patterns, or, without patterns, by share."""
    if data.folds:
        if data.test_subjects or data.val_subjects:
            raise clips_lib.DataError(
                "--folds tests every subject once and draws the validation subjects: leave out "
                "--test and --val (config.data.test_subjects, val_subjects), or --folds."
            )
        if not 0 <= data.fold < data.folds:
            raise clips_lib.DataError(
                f"config.data.fold is {data.fold}, expected 0 to {data.folds - 1}."
            )
        return splits.folds(project, data.folds, val=data.val_share)[data.fold]
    if not (data.test_subjects or data.val_subjects):
        return _by_share(project, {"test": data.test_share, "val": data.val_share})
    named = splits.by_name(project, test=data.test_subjects, val=data.val_subjects)
    shares: dict[str, float] = {
        "test": 0 if data.test_subjects else data.test_share,
        "val": 0 if data.val_subjects else data.val_share,
    }
    if not any(shares.values()):
        return named
    free = [i for i, clip in enumerate(named.clips) if clip.split == "train"]
    others = {name: tuple(getattr(named, name)[i] for i in free) for name in _ROWS}
    drawn = _by_share(dataclasses.replace(named, **others), shares)
    clips = list(named.clips)
    for place, clip in zip(free, drawn.clips, strict=True):
        clips[place] = clip
    splits.check(clips)
    return dataclasses.replace(named, clips=tuple(clips), notes=drawn.notes)


def _by_share(project: Project, shares: dict[str, float]) -> Project:
    """Draw subjects for each split if there are enough of them, and note what was done."""
    allowed, note = splits.possible(project, **shares)
    split = splits.by_share(project, test=allowed["test"], val=allowed["val"])
    return dataclasses.replace(split, notes=(*split.notes, note)) if note else split


_ROWS = ("clips", "recordings", "shared")  # lists of a project with one value for each clip


def fill(config: Config, trained: Config | None = None, *, every_fold: bool = False) -> Project:
    """Fill in the config's fields that depend on the project: joints, fingerprint of the labels.

    Args:
      config: the config, which is changed.
      trained: config of the finished training whose model is used; None to train one. Its zoom is
        used, as labels that were added since may allow another.
      every_fold: whether each of `config.data.folds` is trained. `of_fold` then chooses the zoom.

    Raises:
      DataError: the project can't be read, or the model was trained on a test subject.
    """
    project = read(config.data)
    if trained is not None:
        if trained.name == config.name:  # another project may have other animals of these names
            _check_unseen(project, trained)
            notes = [UNKNOWN] * (not trained.data.training_subjects)
            if trained.data.boxes not in ("", config.data.boxes):
                notes.append(OTHER_BOXES.format(trained.data.boxes))
            project = dataclasses.replace(project, notes=(*project.notes, *notes))
        if trained.data.boxes == config.data.boxes:
            config.data.zoom = config.data.zoom or trained.data.zoom
    with config.unlocked():
        config.skeleton = tuples(project.skeleton.to_json())
        config.data.labels = fingerprint(project)
        if not (every_fold and config.data.folds):
            config.data.zoom = config.data.zoom or _zoom(project)
        if config.data.flip_pairs == "names" and not project.skeleton.flip_pairs:
            # Without mirror pairs, mirrored pictures would teach the network to confuse left and
            # right.
            config.train.flip_prob = config.ttp.flip_prob = 0.0
            project = dataclasses.replace(project, notes=(*project.notes, NO_PAIRS))
        if not config.train.flip_prob:  # the network never sees mirrored pictures in training
            config.model.flip_average = False
    if config.data.boxes == "whole" and splits.share_pictures(project):
        project = dataclasses.replace(project, notes=(*project.notes, TOGETHER))
    return project


def of_fold(experiment: Experiment, fold: int) -> Experiment:
    """Return the experiment on one of its folds, in crops that hold this fold's training labels.

    Args:
      experiment: an experiment with `config.data.folds` above 1.
      fold: number of the fold, counted from 0.
    """
    chosen = experiment.changed({"data.fold": fold})
    return chosen.changed({"data.zoom": chosen.data.zoom or _zoom(read(chosen.data))})


def _check_unseen(project: Project, trained: Config) -> None:
    """Raise DataError if the model was trained on a test subject."""
    known = set(trained.data.training_subjects)  # names, or digests in a model file
    seen = {name for name in project.subjects if known & {name, identity.subject_digest(name)}}
    testing = {clip.subject for clip in project.clips if clip.split == "test"}
    if both := sorted(testing & seen):
        others = ", ".join(sorted(project.subjects.keys() - seen)) or "none"
        raise clips_lib.DataError(
            f"the model was trained on {', '.join(both)}, so it can't be tested on them: name "
            f"other subjects with --test. It wasn't trained on: {others}."
        )


def _zoom(project: Project) -> float:
    """Return the largest zoom, 1 to 2.5, at which crops hold all labels of training subjects.

    A margin is left, because other subjects may stand elsewhere.
    """
    for zoom in np.arange(2.5, 1.0, -0.05).round(2).tolist():
        if all(_holds(clip, zoom) for clip in project.clips if clip.split == "train"):
            return zoom
    return 1.0


def _holds(clip: Clip, zoom: float) -> bool:
    crops = geometry.box_to_crop(zoomed(clip, zoom).boxes.astype(np.float64))
    offsets = np.abs(clip.joints - crops[:, None, :2]) / crops[:, None, 2:]
    return bool((offsets[clip.visible] < 0.5 - ROOM).all())


def zoomed(clip: Clip, zoom: float) -> Clip:
    """Return the clip with smaller boxes around the same centres."""
    if zoom <= 0:
        raise clips_lib.DataError(f"config.data.zoom is {zoom}, expected above 0.")
    if zoom == 1:
        return clip
    boxes = geometry.shrink_boxes(clip.boxes, zoom).astype(np.float32)
    changed = clip.fingerprint and f"{clip.fingerprint}, zoom {zoom}"
    return dataclasses.replace(clip, boxes=boxes, fingerprint=changed)


def fingerprint(project: Project) -> str:
    """Return the first digits of the SHA-256 of the labels of all splits."""
    digest = hashlib.sha256("\n".join(project.skeleton.joints).encode())
    for clip in project.clips:
        assert clip.joints is not None and clip.visible is not None
        digest.update(f"{clip.name}\n{clip.subject}\n".encode())
        for rows in (clip.joints, clip.visible, clip.boxes):
            digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()[:16]


def clips(data: Config) -> list[Clip]:
    """Return the labelled clips of all splits, with `extra` unlabelled frames if held out."""
    project = read(data)
    if not data.extra:
        return list(project.clips)
    own, found = _own_videos(project, data), []
    more = _more_frames(project, data, own)
    for clip in project.clips:
        # The subject's own videos come before its labelled frames.
        found += [_without_labels(each, clip) for each in own.pop(clip.subject, [])]
        found.append(_extended(clip, more.get(f"{clip.name}{clips_lib.UNLABELLED}")))
    return found


def _more_frames(project: Project, data: Config, own: dict[str, list[Clip]]) -> dict[str, Clip]:
    """Return `extra` frames of each held-out clip by its name; warn about those that get none.

    Subjects of `own` have videos of their own, so they may lack one named after them.
    """
    clips = zip(project.recordings, project.clips, strict=True)
    held_out = [(recording, clip) for recording, clip in clips if clip.split != "train"]
    wanted = {recording for recording, _ in held_out}
    # Frame numbers are those of one video, so only the first of a recording is used.
    first = {film.recording: film.path.stem for film in reversed(project.footage)}
    films = tuple(
        film
        for film in project.footage
        if film.recording in wanted and film.path.stem == first[film.recording]
    )
    only = dataclasses.replace(project, footage=films)
    found, left_out = footage.unlabelled(only, data.extra, boxes=data.boxes)
    filmed = {film.recording for film in films}
    reasons = {
        "the project has no video named after it": [
            clip.name
            for recording, clip in held_out
            if recording not in filmed and clip.subject not in own
        ],
        "the names of its labelled pictures have no frame numbers": [
            clip.name
            for recording, clip in held_out
            if recording in filmed and clip.numbers is None
        ],
    }
    left_out += [f"{', '.join(names)}: {why}." for why, names in reasons.items() if names]
    for sentence in left_out:
        warnings.warn(f"config.data.extra adds no frames of {sentence}", stacklevel=3)
    return {clip.name: clip for clip in found}


def _own_videos(project: Project, data: Config) -> dict[str, list[Clip]]:
    """Return `extra` frames of each held-out subject in its videos of `config.data.own_videos`."""
    labelled = {clip.subject: clip for clip in project.clips if clip.split != "train"}
    paths: dict[str, list[pathlib.Path]] = {}
    for entry in filter(None, map(str.strip, data.own_videos.split(","))):
        subject, _, name = entry.partition("=")
        path = pathlib.Path(data.root).expanduser() / name
        if subject not in labelled or not path.is_file():
            wrong = f"{path} doesn't exist" if subject in labelled else "unknown held-out subject"
            raise clips_lib.DataError(
                f"config.data.own_videos has {entry!r}: {wrong}. Expected SUBJECT=VIDEO,... of "
                f"{', '.join(sorted(labelled))}, relative to {data.root}."
            )
        paths.setdefault(subject, []).append(path)
    found = {}
    for subject, own in paths.items():
        part = -(-data.extra // len(own))
        clip = labelled[subject]
        found[subject] = [footage.other(clip, path, part, boxes=data.boxes) for path in own]
    return found


def _without_labels(clip: Clip, labelled: Clip) -> Clip:
    """Return the clip with the joints of `labelled`, none of them labelled or visible."""
    assert labelled.joints is not None
    shape = clip.num_frames, *labelled.joints.shape[1:]
    hidden = np.zeros(shape[:2], bool)
    return dataclasses.replace(clip, joints=np.full(shape, np.nan, np.float32), visible=hidden)


def _extended(clip: Clip, more: Clip | None) -> Clip:
    """Return a held-out clip with its unlabelled frames merged in, in the order of the video."""
    if clip.split == "train" or more is None or clip.numbers is None:
        return clip
    assert clip.joints is not None and clip.visible is not None
    numbers = np.concatenate([clip.numbers, more.frame_numbers])
    order = np.argsort(numbers, kind="stable")
    own, others = clip.num_frames, _without_labels(more, clip)
    assert others.joints is not None and others.visible is not None

    def read(index: int) -> np.ndarray:
        place = int(order[index])
        return clip.read(place) if place < own else others.read(place - own)

    return Clip(
        name=clip.name,
        subject=clip.subject,
        split=clip.split,
        num_frames=len(order),
        read=read,
        boxes=np.concatenate([clip.boxes, others.boxes])[order],
        joints=np.concatenate([clip.joints, others.joints])[order],
        visible=np.concatenate([clip.visible, others.visible])[order],
        numbers=numbers[order],
    )


def unlabelled(data: Config, folder: pathlib.Path) -> tuple[list[Clip], list[str]]:
    """Return unlabelled frames of the training subjects, and sentences about what was left out.

    Frames of validation and test subjects are never used. Nor are videos without any labels,
    because nothing says which subject they show.

    Args:
      data: fields of `config.data`.
      folder: where the decoded frames are stored.
    """
    project = read(data)
    training = {clip.name for clip in project.clips if clip.split == "train"}
    found, left_out = footage.unlabelled(project, data.unlabelled, boxes=data.boxes)
    kept = [clip for clip in found if clip.name.removesuffix(clips_lib.UNLABELLED) in training]
    return [frame_cache.cached(clip, folder) for clip in kept], left_out


def describe(project: Project) -> list[str]:
    """Describe what was read, and the subjects of each split."""
    lines = project.describe()
    training = [clip for clip in project.clips if clip.split == "train"]
    seen = np.concatenate([clip.visible for clip in training if clip.visible is not None])
    joints = project.skeleton.joints
    unseen = [name for place, name in enumerate(joints) if not seen[:, place].any()]
    if unseen:
        lines.append(
            f"Note: no training subject has a label of {', '.join(unseen)}, so predictions of "
            f"{'them' if len(unseen) > 1 else 'it'} are meaningless."
        )
    for split in splits.NAMES:
        chosen = [clip for clip in project.clips if clip.split == split]
        names = sorted({clip.subject for clip in chosen})
        frames = sum(clip.num_frames for clip in chosen)
        shown = clips_lib.first_few(names, 12)
        who = "subject, " if len(names) == 1 else "subjects,"
        lines.append(f"{split:6}{len(names):4} {who} {frames:6} labelled frames: {shown}")
    return lines
