"""Several recordings of one subject: personalized as one clip, predicted and written apart."""

import dataclasses
from collections.abc import Iterator, Sequence

from data_pipelines.clips import Clip
from ttp_jax.runs import sources
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.results import Result


def parts(clips: Sequence[Clip]) -> list[Clip]:
    """The clips that results are written of: recordings where there are several, else the clips."""
    return [part for clip in clips for part in clip.recordings or (clip,)]


def apart(clip: Clip, result: Result) -> Iterator[tuple[Clip, Result]]:
    """Each recording of a clip with its part of the result; the clip itself where it has none.

    The parts' frames are those of all recordings, until `with_frames` gives them their own.
    Time is shared by the number of frames. The digest of the input is that of all recordings,
    because each one's results depend on all of them.
    """
    if not clip.recordings:
        yield clip, result
        return
    first, digests = 0, result.frames.digests
    for recording in clip.recordings:
        rows = range(first, first + recording.num_frames)
        first = rows.stop
        repeated = sum(i in digests and digests[i] == digests.get(i - 1) for i in rows[1:])
        own = dataclasses.replace(
            result,
            joints=result.joints[rows.start : rows.stop],
            confidence=result.confidence[rows.start : rows.stop],
            seconds=result.seconds * len(rows) / clip.num_frames,
            repeated=repeated,
        )
        yield recording, own


def with_frames(experiment: Experiment, clip: Clip, result: Result) -> Result:
    """The result of a clip with the clip's own frames; raises what reading them raises."""
    if len(result.frames) == clip.num_frames:  # those of all recordings are more
        return result
    return dataclasses.replace(result, frames=sources.subject_frames(experiment, clip))


def record(clip: Clip) -> dict[str, dict]:
    """The entry of each recording in run.json; empty for a clip that joins none."""
    names = [recording.name for recording in clip.recordings]
    return {name: {"subject": clip.name, "recordings": names} for name in names}
