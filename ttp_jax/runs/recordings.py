"""Several recordings of one subject: one clip for adaptation, separate results."""

import dataclasses
from collections.abc import Iterator, Sequence

from data_pipelines.clips import Clip
from ttp_jax.runs.results import Result


def parts(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips with separate results: each clip's recordings, or the clip itself."""
    return [part for clip in clips for part in clip.recordings or (clip,)]


def places(clip: Clip) -> Iterator[tuple[Clip, int]]:
    """Yield each recording with the index of its first frame, or the clip itself without any."""
    first = 0
    for recording in clip.recordings or (clip,):
        yield recording, first
        first += recording.num_frames


def part(result: Result, recording: Clip, first: int) -> Result:
    """Return the part of a result that belongs to a recording.

    Seconds are divided in proportion to the number of frames. The digest of the input covers all
    recordings, because each one's results depend on all of them.

    Args:
      result: result of the clip that joins the recordings.
      recording: one of them.
      first: index of its first frame.

    Raises:
      FrameError (`data_pipelines.clips`): no frame of the recording can be read.
    """
    rows, total = slice(first, first + recording.num_frames), len(result.frames)
    if recording.num_frames == total:
        return result
    frames = result.frames.part(recording, first)
    digests = frames.digests
    return dataclasses.replace(
        result,
        frames=frames,
        joints=result.joints[rows],
        confidence=result.confidence[rows],
        seconds=result.seconds * recording.num_frames / total,
        compiling=result.compiling * recording.num_frames / total,
        repeated=sum(digests[i] == digests.get(i - 1) for i in digests),
        looks=None if result.looks is None else result.looks[rows],
    )


def record(clip: Clip) -> dict[str, dict]:
    """Return the entries of the recordings in run.json; empty for a clip without recordings."""
    names = [recording.name for recording in clip.recordings]
    return {name: {"subject": clip.name, "recordings": names} for name in names}
