"""Finding the people of a video, and where one of them is in every frame."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import locate
from data_pipelines.clips import Clip, DataError
from data_pipelines.people import detections, landmarks, tracks
from ttp_jax import geometry


class Found(NamedTuple):
    """The people of a clip.

    Attributes:
      looks: indices of the frames that were searched, ascending.
      people: the people seen in them, from left to right.
    """

    looks: list[int]
    people: list[tracks.Track]

    def places(self, person: tracks.Track, count: int) -> geometry.Places:
        """Return where one of the people is in each of the clip's `count` frames."""
        return tracks.places_of(person, self.looks, count)


def follow(
    clip: Clip,
    see: detections.See,
    look: landmarks.Look,
    searched: Callable[[float], None] = lambda share: None,
) -> Found:
    """Find and follow the people of a clip.

    Args:
      clip: the clip; its boxes are not used.
      see: the detector.
      look: the landmark network.
      searched: called with the share of the frames searched so far, 0 to 1.
    """
    # Pictures may show different scenes, so positions can't be interpolated: search all of them.
    looks = list(range(clip.num_frames)) if clip.frame_names else locate.looks(clip)

    def pictures():
        for number, index in enumerate(looks):
            yield clip.read_or_none(index)
            searched((number + 1) / len(looks))

    found = landmarks.follow(see, look, pictures())
    return Found(looks, tracks.follow(list(found), stills=clip.frame_names is not None))


def in_pictures(
    pictures: Sequence[np.ndarray],
    see: detections.See,
    look: landmarks.Look,
    *,
    person: str = "largest",
    frames_per_second: float | None = None,
) -> geometry.Places:
    """Find one person in video frames that are already in memory.

    Args:
      pictures: frames of one size, uint8 RGB [H, W, 3].
      see: the detector.
      look: the landmark network.
      person: as in `tracks.choose`.
      frames_per_second: rate of the video; 30 if None.

    Raises DataError if nobody is found, or not the person who was asked for.
    """
    sizes = np.tile(pictures[0].shape[:2], (len(pictures), 1))
    clip = Clip(
        "frames", "frames", "test", len(pictures), pictures.__getitem__,
        geometry.whole_box(sizes).astype(np.float32),
        frames_per_second=frames_per_second,
        sizes=sizes,
    )  # fmt: skip
    found = follow(clip, see, look)
    if not found.people:
        raise DataError(
            "no person was found in the frames. If there is one, give boxes: x1, y1, x2, y2 in "
            "pixels of the frames."
        )
    return found.places(tracks.choose(found.people, person, clip.name), clip.num_frames)
