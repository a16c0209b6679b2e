"""Progress advances in every pass of a run, and 100 % means that the run is complete."""

import itertools
import types

import pytest

from ttp_jax.driver import CHUNK
from ttp_jax.runs import members, process


def group(passes, *lengths):
    """What `members.Progress` asks of subjects."""
    clip = types.SimpleNamespace(name="anna")
    return [
        types.SimpleNamespace(passes=passes, frames=[None] * n, clip=clip, pass_index=0)
        for n in lengths
    ]


@pytest.mark.parametrize("scenario", members.PASSES)
def test_every_pass_moves_the_bar_and_all_of_them_make_up_the_frames(scenario):
    passes, lengths = members.PASSES[scenario], (20, 13)
    with process.progress_bar(sum(lengths), scenario) as bar:
        progress, places = members.Progress(group(passes, *lengths), bar), range(0, 20, CHUNK)
        seen = [bar.n]
        for name in passes:
            for frame_index in places:
                progress.update(name, frame_index)
                seen.append(bar.n)
                assert members.WORDS[name] in bar.postfix and "2 side by side" in bar.postfix
        assert all(a < b for a, b in itertools.pairwise(seen))
        assert bar.n == pytest.approx(sum(lengths))


def test_a_resumed_subject_begins_where_it_was():
    with process.progress_bar(16, "offline") as bar:
        progress = members.Progress(group(("remember", "adapt", "predict"), 16), bar)
        progress.update("predict", 0)  # the passes before were done in an earlier run
        assert bar.n == pytest.approx(16 * 0.95)


def test_the_percentage_is_rounded_down(capsys):
    with process.progress_bar(1000, "offline") as bar:
        bar.update(999.9)
        assert bar.format_dict["percent"] == 99
        bar.update(0.1)
        assert bar.format_dict["percent"] == 100
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("offline: 0 %, ") and lines[-1].startswith("offline: 100 %, ")


def test_the_time_left_is_never_negative(capsys):
    with process.progress_bar(16.2, "offline") as bar:
        bar.update(16.2 + 1e-12)  # a sum of shares can end a little above the total
    assert capsys.readouterr().err.splitlines()[-1].endswith(" so far, 00:00 left")
