"""Subjects in progress: their state, their frames, and states saved by an earlier run."""

import contextlib
import dataclasses
import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.clips import Clip, DataError
from data_pipelines.windows import SubjectFrames
from ttp_jax import ttp, warning_signs
from ttp_jax.checkpoint import Unfinished
from ttp_jax.driver import CHUNK
from ttp_jax.frames import Frames
from ttp_jax.memory import repeats
from ttp_jax.runs.process import say

# The passes of each scenario, in order. All but "adapt" read the subject's frames.
PASSES = {"none": ("predict",), "online": ("step",), "offline": ("remember", "adapt", "predict")}
WORDS = {
    "step": "adapting and predicting",
    "remember": "reading",
    "adapt": "adapting",
    "predict": "predicting",
}
SHARES = {"step": 1.0, "remember": 0.1, "adapt": 0.8, "predict": 0.1}  # rough shares of the time


@dataclasses.dataclass(eq=False)
class Member:
    """A subject in progress: where it started in this run, and its predictions so far.

    Its state goes to the device only when its group runs, so any number of subjects can wait.
    """

    clip: Clip
    frames: SubjectFrames
    capacity: int  # frames that its memory holds
    passes: tuple[str, ...]
    joints: np.ndarray  # [T, K, 2] in pixels, NaN until predicted
    confidence: np.ndarray  # [T, K]
    pass_index: int = 0  # index of the current pass
    frame_index: int = 0  # index of the next frame in that pass
    spent: float = 0.0  # seconds in earlier runs
    kept: ttp.Subject | None = None  # the state that an earlier run saved, on the host
    last: np.ndarray | None = None  # window of the latest frame, uint8 [H, W, 3]
    repeated: int = 0  # number of frames so far that equal the previous one
    digest: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(32, np.uint8))
    looks: dict[int, np.ndarray] = dataclasses.field(
        default_factory=dict
    )  # by frame index, see `warning_signs.look`

    @property
    def memory(self) -> tuple[int, ...]:
        """Shape of the subject's memory of windows, without the colour axis."""
        return self.capacity, *self.frames.shape

    @property
    def all_looks(self) -> np.ndarray | None:
        """The looks [T, n] of all frames; None if an earlier run read the first of them."""
        count = len(self.frames)
        if len(self.looks) < count:
            return None
        return np.stack([self.looks[index] for index in range(count)])

    @property
    def noted(self) -> tuple[np.ndarray, np.ndarray | None, int]:
        """What was noted of the frames so far, see `again`."""
        return self.digest, self.last, self.repeated

    @property
    def group(self) -> tuple:
        """The key that subjects must have in common to run side by side."""
        return self.memory, self.frames.turned, self.passes, self.pass_index, self.frame_index


def begin(clip: Clip, frames: SubjectFrames, scenario: str, *, joints: int, memory: int) -> Member:
    """Return a subject before its first frame.

    Args:
      clip: clip of the subject.
      frames: frames of the clip.
      scenario: a key of `PASSES`.
      joints: number K of joints.
      memory: largest number of frames to remember.
    """
    remembers = min(memory, padded_length(len(frames)))
    found = np.full((len(frames), joints, 2), np.nan, np.float32)
    passes = PASSES[scenario]
    if len(frames) < 2 and scenario != "none":
        say(f"{clip.name}: has one frame, but personalization needs two: predicted without it")
        passes = PASSES["none"]
    capacity = 1 if scenario == "none" else remembers
    return Member(clip, frames, capacity, passes, found, found[..., 0].copy())


def resumed(member: Member, start: ttp.Subject, unfinished: Unfinished) -> Member:
    """Return the subject as an earlier run left it, or unchanged if there was none.

    `start` gives the shapes of a subject's state.
    """
    found = unfinished.restore(member.clip.name, kept(member, start))
    if found is None or found["clip"] != _crc(member.clip) or found["turn"] >= len(member.passes):
        return member
    member = dataclasses.replace(
        member,
        kept=found["subject"],
        frame_index=int(found["subject"].frame),
        pass_index=int(found["turn"]),
        spent=float(found["seconds"]),
        joints=np.array(found["joints"]),
        confidence=np.array(found["peaks"]),
        digest=np.array(found["digest"]),
    )
    done = f"frame {min(member.frame_index, len(member.frames))} of {len(member.frames)}"
    say(f"{member.clip.name}: resuming, {WORDS[member.passes[member.pass_index]]} from {done}")
    return member


def kept(member: Member, subject: ttp.Subject) -> dict:
    """Return what to save so that the subject can be resumed from here."""
    return {
        "subject": subject,
        "turn": np.int32(member.pass_index),
        "joints": member.joints,
        "peaks": member.confidence,  # files of earlier versions use this key
        "digest": member.digest,
        "seconds": np.float32(member.spent),
        "clip": np.uint32(_crc(member.clip)),
    }


def _crc(clip: Clip) -> int:
    return zlib.crc32(np.ascontiguousarray(clip.boxes).tobytes() + clip.fingerprint.encode())


def padded_length(count: int) -> int:
    """Round up to one of 8, 16, 24, 32, 48, 64, 96, 128, ..., so that few sizes are compiled."""
    length = 8
    while length < count:
        length += 8 if length < 32 else 2 ** (length.bit_length() - 2)
    return length


def held_out(places: np.ndarray, every: int) -> np.ndarray:
    """Return which frames [n] are predicted but never adapted to: one in `every`, none for 0."""
    return places % every == every - 1 if every else np.zeros(len(places), bool)


def inputs(
    group: list[Member],
    pass_index: int,
    places: range,
    width: int,
    readers: ThreadPoolExecutor,
    every,
) -> Iterator[tuple[Frames | None, np.ndarray | None]]:
    """Yield the inputs of each call of a pass, see `chunks`; "adapt" uses the memory instead."""
    name = group[0].passes[pass_index]
    if name == "adapt":
        return ((None, None) for _ in places)
    learns = name in ("step", "remember")
    return chunks(group, places, width, readers, every, digest=pass_index == 0, learns=learns)


def again(group: list[Member], noted: list[tuple], done: set[str]) -> list[Member]:
    """Return the members to run again after an error, with what was noted before it."""
    left = []
    for member, (digest, last, repeated) in zip(group, noted, strict=True):
        if member.clip.name not in done:
            member.digest, member.last, member.repeated = digest, last, repeated
            left.append(member)
    return left


class Lost(Exception):
    """The input of one member of a group can't be read any more, as if its disk was removed.

    Attributes:
      member: the member.
      reason: what happened, and what to do.
    """

    def __init__(self, member: Member, reason: str):
        super().__init__(reason)
        self.member, self.reason = member, reason


@contextlib.contextmanager
def _reading(member: Member) -> Iterator[None]:
    """Raise `Lost` for a DataError, because unlike a damaged frame it ends the subject."""
    try:
        yield
    except DataError as error:
        raise Lost(member, str(error)) from error


def _next(member: Member, stream: Iterator[Frames]) -> Frames | None:
    with _reading(member):
        return next(stream, None)


def chunks(
    group: list[Member],
    places: range,
    width: int,
    readers: ThreadPoolExecutor,
    every: int,
    *,
    digest: bool,
    learns: bool,
) -> Iterator[tuple[Frames, np.ndarray]]:
    """Yield the group's next frames [N, CHUNK, ...] and which of them are valid [N, CHUNK].

    Args:
      group: subjects of the group.
      places: index of the first frame of each chunk.
      width: N, at least the size of the group.
      readers: threads that read ahead.
      every: see `held_out`. Held-out frames are marked as invalid, because the programs predict all
        frames but adapt only to valid ones.
      digest: whether the pass is the first one, which notes the digests, looks and repeats of the
        members' frames.
      learns: whether the pass adapts; if so, frames that repeat the previous one are invalid, too.

    Raises:
      Lost: the input of a member has disappeared or changed.
    """
    streams = [member.frames.chunks(CHUNK, readers, places.start) for member in group]
    nothing = None
    for frame_index in places:
        rows = [_next(*each) for each in zip(group, streams, strict=True)]
        if digest:
            for member, row in zip(group, rows, strict=True):
                if row is not None:
                    _digest(member, row, frame_index)
                    _look(member, row, frame_index)
        if nothing is None:
            some = next(row for row in rows if row is not None)
            nothing = jax.tree.map(np.zeros_like, some)
            nothing.views[:, 0] = 1
            nothing.crops[:, 2] = 1
        rows = [nothing if row is None else row for row in rows]
        rows += [nothing] * (width - len(rows))
        *rest, valid = (np.stack(leaves) for leaves in zip(*rows, strict=True))
        learned = valid & ~held_out(frame_index + np.arange(CHUNK), every)
        for i, member in enumerate(group):
            if member.clip.present is not None:
                there = member.clip.present[frame_index : frame_index + CHUNK]
                learned[i, : len(there)] &= there
        if digest:
            for i, member in enumerate(group):
                with _reading(member):
                    repeated = _repeated(member, rest[0][i], valid[i], frame_index)
                if learns:
                    learned[i] &= ~repeated
        yield Frames(*map(jnp.asarray, (*rest, learned))), valid
    for stream in streams:  # a stream warns of unreadable frames once it has ended
        next(stream, None)


def _repeated(member: Member, pictures, valid, frame_index: int) -> np.ndarray:
    """Return which frames of the chunk at `frame_index` equal the previous frame."""
    resumed_here = member.last is None and 0 < frame_index < len(member.frames)
    if resumed_here:
        member.last = member.frames.read([frame_index - 1]).pictures[0]
    found = repeats(pictures, member.last) & valid
    member.last, member.repeated = pictures[-1].copy(), member.repeated + int(found.sum())
    return found


def _digest(member: Member, row, frame_index: int) -> None:
    """Add the chunk at `frame_index` to the digest of the subject's frames."""
    total = hashlib.sha256(member.digest.tobytes() + row.crops.tobytes())
    for index in range(frame_index, min(frame_index + CHUNK, len(member.frames))):
        total.update(member.frames.digests.get(index, b"unreadable"))
    member.digest = np.frombuffer(total.digest(), np.uint8)


def _look(member: Member, row, frame_index: int) -> None:
    """Note the looks of a chunk's frames; an unreadable one is taken to look like the previous."""
    for index in range(frame_index, min(frame_index + CHUNK, len(member.frames))):
        seen = row.valid[index - frame_index] or index - 1 not in member.looks
        picture = row.pictures[index - frame_index]
        member.looks[index] = warning_signs.look(picture) if seen else member.looks[index - 1]


def write(group: list[Member], frame_index: int, valid, joints, confidence) -> None:
    """Write a chunk's predictions into the members."""
    for i, member in enumerate(group):
        here = min(CHUNK, max(0, len(member.frames) - frame_index))
        there = valid[i, :here]
        if member.clip.present is not None:
            there = there & member.clip.present[frame_index : frame_index + here]
        good = there[:, None]
        member.joints[frame_index : frame_index + here] = np.where(
            good[..., None], joints[i, :here], np.nan
        )
        member.confidence[frame_index : frame_index + here] = np.where(
            good, confidence[i, :here], np.nan
        )


class Progress:
    """A group's share of a run's progress bar: its frames, spread over its passes."""

    def __init__(self, group: list[Member], bar):
        """Begin with nothing done.

        Args:
          group: subjects that run side by side.
          bar: progress bar that counts frames, as floats; None shows nothing.
        """
        self._bar, self._passes, self._done = bar, group[0].passes, 0.0
        self._lengths = [len(member.frames) for member in group]
        self._who = group[0].clip.name if len(group) == 1 else f"{len(group)} side by side"

    def update(self, name: str, frame_index: int) -> None:
        """Show that the chunk at `frame_index` is done in this pass."""
        if self._bar is None:
            return
        longest = max(self._lengths)
        at = f"{min(frame_index + CHUNK, longest)}/{longest}"
        self._bar.set_postfix_str(f"{self._who}: {WORDS[name]} {at}", refresh=False)
        earlier = sum(SHARES[each] for each in self._passes[: self._passes.index(name)])
        seen = sum(min(frame_index + CHUNK, length) for length in self._lengths)
        whole = sum(SHARES[each] for each in self._passes)
        done = (earlier * sum(self._lengths) + SHARES[name] * seen) / whole
        self._bar.update(done - self._done)
        self._done = done
