"""People found in a video: by BlazePose's detector where it is here, else by `locate`'s finders."""

import dataclasses

import numpy as np
from tqdm import tqdm

from data_pipelines import locate
from data_pipelines.clips import Clip
from data_pipelines.people import detections, tracks
from ttp_jax import detector
from ttp_jax.runs.experiment import Config
from ttp_jax.runs.process import say


def find(clip: Clip, data: Config) -> Clip | None:
    """The clip in the boxes of the person that `config.data.boxes` looks for; None for nobody.

    Raises DataError for a choice among people that can't be made.
    """
    if data.boxes == "people" and detector.is_here():
        return _detected(clip, data.person)
    found = locate.find(clip, data.boxes)
    if found is None:
        return None
    return dataclasses.replace(clip, boxes=found.astype(np.float32), region=found)


def _detected(clip: Clip, which: str) -> Clip | None:
    """The clip in the boxes of one of the people whom the detector follows through it."""
    see, places = detector.load(), locate.looks(clip)
    bar = tqdm(places, desc=f"looking for people in {clip.name}", delay=locate.BAR_DELAY)
    pictures = map(clip.read_or_none, bar)
    found = [detections.NOBODY if p is None else detections.detect(see, p) for p in pictures]
    people = tracks.follow(found)
    if not people:
        return None
    chosen = tracks.choose(people, which, clip.name)
    if len(people) > 1:
        own = 1 + people.index(chosen)
        say(f"{clip.name}: {len(people)} people, number {own} from the left is taken (--person)")
        for number, track in enumerate(people, start=1):
            x, y = track.place
            seen = f"seen in {len(track.looks)} of {len(places)} looks"
            say(f"  {number}: hips at {x:.0f},{y:.0f}, {track.side:.0f} px large, {seen}")
    regions, there = tracks.boxes_of(chosen, places, clip.num_frames)
    boxes = tracks.body_boxes(regions)
    region = np.where(there[:, None], boxes, np.nan)
    return dataclasses.replace(clip, boxes=boxes.astype(np.float32), region=region, present=there)
