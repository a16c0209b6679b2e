"""Data of an experiment: clips, training pairs, frames of one subject."""

import dataclasses
import pathlib
import warnings
import zlib
from collections.abc import Sequence

from data_pipelines import bbc_pose, h36m, locate, media, penn, pipeline, synthetic, windows
from data_pipelines import clips as clips_lib
from ttp_jax import detector, heatmaps
from ttp_jax.augment import Ranges
from ttp_jax.runs import labelled
from ttp_jax.runs.experiment import Config, Experiment
from ttp_jax.runs.process import say

SPEC_FIELDS = (
    *("seed", "preset", "image_size", "train", "val", "test"),
    *("train_frames", "eval_frames"),
)


def load_clips(data: Config, split: str | None = None) -> list[clips_lib.Clip]:
    """Load the clips of a data set, of one split or of all.

    Args:
      data: fields of `config.data`.
      split: "train", "val" or "test"; None for all.

    Raises DataError with the expected layout and the flag if the data set is missing.
    """
    # Validation subjects may have to be taken from the training subjects.
    reads = "train" if data.validation and split == "val" else split
    readers = {
        "penn": lambda: penn.clips(data.root, reads),
        "h36m": lambda: h36m.clips(data.root, reads),
        "bbc_pose": lambda: bbc_pose.clips(data.root, reads, data.extra),
        "synthetic": lambda: _rendered(data, reads),
        "media": lambda: _own(data),
        "project": lambda: labelled.clips(data),
    }
    if data.source not in readers:
        raise clips_lib.DataError(
            f"config.data.source is {data.source!r}, expected one of {', '.join(readers)}."
        )
    found = _from_tfds(data, reads) if data.tfds else readers[data.source]()
    if data.source != "media":  # own videos are zoomed where they are opened
        found = [labelled.zoomed(clip, data.zoom) for clip in found]
    if data.validation:
        found = _hold_out(found, data.validation)
    return found if split is None else clips_lib.select(found, split)


def _hold_out(clips: list[clips_lib.Clip], share: float) -> list[clips_lib.Clip]:
    """Turn a share of the training subjects into validation subjects, if the source has none.

    The choice depends only on their names.
    """
    if any(clip.split == "val" for clip in clips):
        return clips
    subjects = sorted({clip.subject for clip in clips if clip.split == "train"}, key=_rank)
    chosen = set(subjects[: round(share * len(subjects))])
    return [
        dataclasses.replace(clip, split="val")
        if clip.split == "train" and clip.subject in chosen
        else clip
        for clip in clips
    ]


def _rank(name: str) -> int:
    return zlib.crc32(name.encode())


def _from_tfds(data: Config, split: str | None) -> list[clips_lib.Clip]:
    from data_pipelines import builders  # imported on use, because it imports TensorFlow

    if data.extra:
        raise clips_lib.DataError(
            "config.data.extra needs the original data set: leave config.data.tfds out."
        )
    if data.source == "synthetic" and _spec(data) != synthetic.Spec(preset=data.preset):
        raise clips_lib.DataError(
            "config.data.tfds holds rendered people made with the default settings, but the config "
            "has others (seed, sizes or counts): leave config.data.tfds out."
        )
    return builders.clips(data.source, data.tfds, split, config=data.get("preset"))


def _own(data: Config) -> list[clips_lib.Clip]:
    """Open the user's videos and pictures; warn about each input that is left out."""
    opened = open_own(data)
    for left_out in opened.left_out:
        warnings.warn(f"left out: {left_out.reason}", stacklevel=2)
    return opened.clips


def open_own(data: Config) -> media.Opened:
    """Open the user's videos and pictures; return the clips and the inputs left out.

    Each line of `data.root` is a path or a pattern. Raises DataError if no clip is left.
    """
    # `boxes.resolve` searches for people later, because that takes time.
    looked_for = data.boxes in locate.FINDERS
    _check_choice(data)
    clips_lib.span(data.frames)  # fails for a wrong one now, not once for each video
    opened = media.open_inputs(data.root.split("\n"), boxes="whole" if looked_for else data.boxes)
    found, left_out = opened.clips, [*opened.left_out]
    if looked_for:
        how = f"{data.boxes} {data.person}" if data.person != "largest" else data.boxes
        if data.boxes == "people" and detector.is_here():
            how += ", followed"  # because the boxes differ from those of OpenCV's detector
        found = [dataclasses.replace(c, fingerprint=f"{c.fingerprint}, {how}") for c in found]
    chosen = []
    for clip in found:
        try:
            part = clips_lib.part(clip, data.frames, data.every)
            chosen.append(labelled.zoomed(part, data.zoom))
        except clips_lib.DataError as error:
            left_out.append(media.LeftOut(pathlib.Path(clip.source), str(error)))
    if not chosen:
        raise media.nothing_usable(left_out)
    return media.Opened(chosen, left_out)


def _check_choice(data: Config) -> None:
    """Raise DataError if one of several people is asked for, but the finder can't choose."""
    if data.person == "largest" or (data.boxes == "people" and detector.is_here()):
        return
    if data.boxes not in locate.FINDERS:
        say(f"--person={data.person} is not needed: the boxes are {data.boxes}, nobody is searched")
        return
    remedy = "give --config.data.boxes=people"
    if not detector.is_here():
        remedy = "run: python main.py fetch blazepose"
    raise clips_lib.DataError(
        f"--person={data.person} chooses among the people that BlazePose finds, and it isn't used "
        f"here: {remedy}. Or say where the person is, instead of --person: "
        "--config.data.boxes=x1,y1,x2,y2."
    )


def _rendered(data: Config, split: str | None) -> list[clips_lib.Clip]:
    """Render the people of a split, or of all; validation and test people may have another preset.

    Other splits are left alone: thousands of training people take a quarter of an hour.
    """
    spec, found = _spec(data), []
    for each in synthetic.SPLITS if split is None else (split,):
        preset = spec.preset if each == "train" else data.grade or spec.preset
        others = dict.fromkeys(set(synthetic.SPLITS) - {each}, 0)
        found += synthetic.clips(dataclasses.replace(spec, preset=preset, **others), data.root)
    return found


def _spec(data: Config) -> synthetic.Spec:
    """Return the specification of the rendered people that the fields describe."""
    return synthetic.Spec(**{field: data[field] for field in SPEC_FIELDS})


def training_pairs(
    experiment: Experiment,
    clips: list[clips_lib.Clip],
    start_step: int,
    num_steps: int | None,
    process: tuple[int, int] = (0, 1),
    unlabelled: Sequence[clips_lib.Clip] = (),
):
    """Return the stream of augmented training batches from `start_step` on.

    `process` is index and count; the stream only has the rows of this process. `unlabelled` clips
    are used in stages with the self-supervised task.
    """
    if unlabelled:
        return _by_stage(experiment, clips, start_step, num_steps, process, unlabelled)
    return _pairs(experiment, clips, start_step, num_steps, process)


def _by_stage(experiment, clips, start_step, num_steps, process, unlabelled):
    """Return the streams of all stages, one after the other."""
    stream, first = None, 0
    end = experiment.last_step if num_steps is None else start_step + num_steps
    for stage in experiment.stages:
        begins, ends = max(first, start_step), min(first + stage.steps, end)
        first += stage.steps
        if begins < ends:
            more = unlabelled if stage.self_weight else ()
            part = _pairs(experiment, clips, begins, ends - begins, process, more)
            stream = part if stream is None else stream.concatenate(part)
    return _pairs(experiment, clips, start_step, 0, process) if stream is None else stream


def _pairs(experiment, clips, start_step, num_steps, process, unlabelled=()):
    net, data, train = experiment.net, experiment.data, experiment.config.train
    total = sum(clip.num_frames for clip in clips)
    return pipeline.train_pairs(
        clips,
        experiment.skeleton,
        pipeline.Crops(
            experiment.image_size,
            experiment.heatmap_size,
            net.sigma,
            heatmaps.alignment(net.decode, net.half_pixel),
            # The paper's data sets are resampled as in the published code.
            (data.oversample if data.source == "project" else 0.0) or None,
        ),
        batch_size=train.batch_size,
        seed=experiment.seed,
        start_step=start_step,
        ranges=Ranges(train.rotation, train.rotation_prob, train.scale, train.flip_prob),
        # An epoch is all frames if only part of the data set is available.
        frames_per_epoch=min(train.frames_per_epoch, total) or None,
        process=process,
        num_steps=num_steps,
        workers=data.workers or None,
        unlabelled=unlabelled,
        labelled_share=data.labelled_share,
    )


def unlabelled(data: Config, folder: pathlib.Path) -> tuple[list[clips_lib.Clip], list[str]]:
    """Return a project's unlabelled frames (`labelled.unlabelled`), in boxes like labelled ones."""
    found, left_out = labelled.unlabelled(data, folder)
    return [labelled.zoomed(clip, data.zoom) for clip in found], left_out


def subject_frames(clip: clips_lib.Clip, data: Config, image_size: int) -> windows.SubjectFrames:
    """Return the frames of a subject as personalization needs them.

    Args:
      clip: clip of the subject.
      data: fields of `config.data`, of which `oversample` and `context` are used.
      image_size: side of the network's crops, in pixels.

    Raises:
      FrameError (`data_pipelines.clips`): no frame can be read.
    """
    return windows.SubjectFrames(
        clip, image_size=image_size, oversample=data.oversample or None, context=data.context
    )
