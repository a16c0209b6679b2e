"""The boxes in which a clip is predicted."""

import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import locate
from ttp_jax import geometry, presence
from ttp_jax.runs import finding
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Config
from ttp_jax.runs.process import say


def resolve(
    clip, predictor: Runner, data: Config, searched: Callable[[float], None] = lambda share: None
):
    """Return the clip with the boxes to predict it in: detected, fitted and refined as configured.

    Args:
      clip: clip with the boxes of its source.
      predictor: runner of the model without personalization.
      data: fields of `config.data`.
      searched: called with the share of the frames searched for people so far, 0 to 1.
    """
    if clip.recordings:  # the person's position differs between recordings
        parts, count = [], len(clip.recordings)
        for i, part in enumerate(clip.recordings):
            parts.append(
                resolve(part, predictor, data, lambda share, i=i: searched((i + share) / count))
            )
        return clips_lib.rejoined(clip, parts)
    found, read = None, clip.read
    if data.fit:
        clip = dataclasses.replace(clip, read=_setting_aside(read, locate.few(clip.num_frames)))
    if data.source == "media" and data.boxes in locate.FINDERS:
        found = finding.find(clip, data, searched)
        if found is None:
            say(f"{clip.name}: {presence.nowhere().words}")
        elif data.zoom != 1:
            clip = found.in_boxes(geometry.shrink_boxes(found.boxes, data.zoom).astype(np.float32))
        else:
            clip = found
    if data.fit:
        clip = surest(clip, predictor, found is not None)
    for _ in range(data.refine):
        joints = predictor.one(clip).joints
        size = clip.largest if clip.sizes is None else clip.sizes
        clip = clip.in_boxes(locate.boxes_from_joints(joints, size, clip.boxes))
    if data.fit and data.refine:
        clip = surest(clip, predictor, False)
    return dataclasses.replace(clip, read=read)


def _setting_aside(read, frames):
    """Return a reader that also stores the frames for `surest`, as videos are decoded in order."""
    waiting, held = sorted(int(frame) for frame in frames), {}

    def read_on(index):
        while waiting and waiting[0] <= index:
            frame = waiting.pop(0)
            with contextlib.suppress(clips_lib.FrameError):
                held[frame] = read(frame)
        return held[index] if index in held else read(index)

    return read_on


def surest(clip, predictor: Runner, found: bool):
    """Return the clip in those `locate.placements` in which the network is most confident."""
    read = {
        i: picture
        for i in locate.few(clip.num_frames)
        if (picture := clip.read_or_none(i)) is not None
    }
    if not read:
        return clip
    tried, frames = locate.placements(clip.boxes, clip.whole, found), [*read]
    # Each picture is read only once, however many placements are tried.
    trial = clips_lib.at(dataclasses.replace(clip, read=read.__getitem__), frames * len(tried))
    trial = trial.in_boxes(np.concatenate([b[frames] for b in tried.values()]))
    result = predictor.one(trial)
    confidence = result.confidence.reshape(len(tried), -1).mean(1)
    if clip.region is not None:
        # The network sees a person everywhere, so joints outside the moving region are ignored.
        region, joints = clip.region[frames], result.joints.reshape(len(tried), len(frames), -1, 2)
        size = clip.largest
        found_there = [presence.measure(each, region, picture_size=size).found for each in joints]
        confidence = np.where([each is False for each in found_there], -np.inf, confidence)
    if not np.isfinite(confidence).any():
        say(
            f"{clip.name}: at no box scale do the joints follow the moving region, so the boxes "
            "stay as they are"
        )
        return clip
    name, boxes = list(tried.items())[int(confidence.argmax())]
    say(f"{clip.name}: using {name}, in which the network is most confident")
    return clip.in_boxes(boxes)
