"""Finding people in a video: with BlazePose's networks if fetched, otherwise with `locate`."""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines import locate
from data_pipelines.clips import Clip, DataError
from data_pipelines.people import finder, tracks
from ttp_jax import detector, skeletons
from ttp_jax.runs.experiment import Config
from ttp_jax.runs.process import say


def find(
    clip: Clip, data: Config, searched: Callable[[float], None] = lambda share: None
) -> Clip | None:
    """Find the person that `config.data.boxes` asks for.

    Args:
      clip: the video.
      data: `config.data`.
      searched: called with the share of the frames searched so far, 0 to 1.

    Returns:
      The clip with the boxes of that person; None if nobody is found.

    Raises:
      DataError: BlazePose's networks find nobody, or not the person who was asked for.
    """
    if data.boxes == "people" and detector.is_here():
        return _detected(clip, data, searched)
    found = locate.find(clip, data.boxes)
    if found is None:
        return None
    found_clip = clip.in_boxes(found.astype(np.float32))
    return dataclasses.replace(found_clip, region=found)


def _detected(clip: Clip, data: Config, searched: Callable[[float], None]) -> Clip:
    """Return the clip with the boxes of one of the people in it."""
    found = followed(clip, searched)
    people = found.people
    if not people:
        raise DataError(
            f"{clip.name}: no person was found. If there is one, say where: "
            "--config.data.boxes=x1,y1,x2,y2, a file of boxes, or whole."
        )
    chosen = tracks.choose(people, data.person, clip.name)
    if len(people) > 1:
        own = 1 + people.index(chosen)
        say(f"{clip.name}: {len(people)} people found; using number {own} from the left (--person)")
        for number, track in enumerate(people, start=1):
            x, y = track.place
            seen = f"found in {len(track.looks)} of {len(found.looks)} frames searched"
            say(f"  {number}: hips at {x:.0f},{y:.0f}, {track.side:.0f} px large, {seen}")
    places = found.places(chosen, clip.num_frames)
    region = np.where(places.there[:, None], places.boxes, np.nan).astype(np.float64)
    # All networks but BlazePose's were trained on upright squares around people's boxes.
    turned = data.skeleton == skeletons.BLAZEPOSE33.name
    return dataclasses.replace(
        clip,
        boxes=places.boxes,
        crops=places.crops if turned else None,
        region=region,
        present=places.there,
    )


def followed(clip: Clip, searched: Callable[[float], None] = lambda share: None) -> finder.Found:
    """Find and follow the people of a clip with BlazePose's networks.

    Args:
      clip: the video.
      searched: called with the share of the frames searched so far, 0 to 1.
    """
    return finder.follow(clip, detector.load(), detector.load_landmarks(), searched)
