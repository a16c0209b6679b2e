"""Signs of harm: what counts as one, and that a user can't overlook them."""

import json

import cv2
import numpy as np
import pytest
import small_run

from ttp_jax import warning_signs
from ttp_jax.checkpoint import Unfinished
from ttp_jax.runs import experiment, personalization
from ttp_jax.runs.outputs import OutputOptions
from ttp_jax.warning_signs import REMEDY, Evidence

FRAMES, JOINTS = 12, 13
BOXES = np.tile(np.float32([10, 10, 60, 110]), (FRAMES, 1))  # 100 pixels, the longer side


def evidence(moved=0.0, confidence=1.0, loss=0.8, repeated=0):
    """A healthy run but for what is given; moved in pixels."""
    before = np.random.default_rng(0).uniform(10, 60, (FRAMES, JOINTS, 2))
    peaks = np.full((FRAMES, JOINTS), 0.4)
    after = before + np.array([moved, 0.0])
    return Evidence(before, after, (peaks, confidence * peaks), BOXES, (1.0, loss), repeated)


def test_a_healthy_run_has_no_sign():
    assert warning_signs.signs(evidence()) == []
    edge = evidence(moved=19.0, confidence=1.9, loss=1.09, repeated=6)
    assert warning_signs.signs(edge) == []


def test_sides_that_took_each_others_places_are_named():
    """The joints moved less than would be a sign by itself, and the confidence is as before."""
    pairs = tuple((i, i + 1) for i in range(0, 12, 2))
    before = np.tile(np.random.default_rng(1).uniform(40, 50, (JOINTS, 2)), (FRAMES, 1, 1))
    order = [i + 1 - 2 * (i % 2) for i in range(12)] + [12]  # 1, 0, 3, 2, ...
    after = np.concatenate([before[:4], before[4:, order]]) + 0.3
    peaks = np.full((FRAMES, JOINTS), 0.4)
    seen = Evidence(before, after, (peaks, peaks), BOXES, pairs=pairs)
    assert warning_signs.exchanged(before, after, pairs) == pytest.approx(8 / 12)
    first, _ = warning_signs.signs(seen)
    assert first.startswith("Left and right swapped in 67% of the frames")
    assert warning_signs.signs(seen._replace(after=before + 0.3)) == []
    assert warning_signs.signs(seen._replace(pairs=())) == []
    before[2] = np.nan  # an unread frame doesn't count
    assert warning_signs.exchanged(before, after, pairs) == pytest.approx(8 / 11)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": 1.2}, "held-out frames got worse: loss 1 before, 1.2 after"),
        ({"loss": float("nan")}, "held-out frames got worse"),
        ({"confidence": 80.0}, "Mean confidence went from 0.4 to 32"),
        ({"confidence": 0.3}, "Mean confidence went from 0.4 to 0.12"),
        ({"moved": 25.0}, "The joints moved by 25% of the box on average"),
        ({"repeated": 7}, "7 of 12 frames repeat the one before"),
    ],
)
def test_each_measure_outside_its_range_is_a_sentence_and_the_remedy_comes_last(changes, words):
    first, last = warning_signs.signs(evidence(**changes))
    assert words in first and last == REMEDY


def test_frames_that_could_not_be_read_and_models_without_held_out_frames_are_no_sign():
    found = evidence()
    found.before[3], found.after[5] = np.nan, np.nan
    assert warning_signs.signs(found._replace(losses=None)) == []
    nothing = np.full_like(found.before, np.nan)
    unread = found._replace(before=nothing, after=nothing, confidence=2 * (nothing[..., 0],))
    assert warning_signs.signs(unread) == []


def film(kind):
    """Pictures of a person that walks before a still camera, with noise."""
    rng, pictures = np.random.default_rng(0), []
    for t in range(40):
        second = t >= 20
        picture = np.full((60, 80, 3), (90, 120, 100), np.int16)
        shirt = (60, 60, 200) if kind == "another person" and second else (210, 70, 60)
        picture[15:50, 5 + t : 25 + t] = shirt
        if kind == "a cut" and second:
            picture = picture[::-1, :, ::-1]
        if kind == "a flash" and t == 20:
            picture = picture + 120
        if kind == "slowly darker":
            picture = picture - 2 * t
        picture = picture + rng.integers(-3, 4, picture.shape)
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack([warning_signs.look(picture) for picture in pictures])


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("one person", None),
        ("another person", 20),
        ("a cut", 20),
        ("a flash", None),
        ("slowly darker", None),
    ],
)
def test_a_lasting_change_of_the_pictures_is_a_sign(kind, place):
    looks = film(kind)
    assert warning_signs.cut_at(looks) == place
    found = warning_signs.signs(evidence()._replace(looks=looks))
    if place is None:
        assert found == []
    else:
        assert "change permanently at frame 20 of 12" in found[0] and found[1] == REMEDY


def test_a_cut_is_named_by_the_number_of_the_video_s_frame():
    seen = evidence()._replace(looks=film("a cut"), numbers=np.arange(300, 380, 2))
    assert "change permanently at frame 340 of the video, as" in warning_signs.signs(seen)[0]


def test_few_or_equal_frames_have_no_cut():
    looks = film("a cut")
    assert warning_signs.cut_at(looks[18:22]) is None
    assert warning_signs.cut_at(looks[17:23]) == 3
    assert warning_signs.cut_at(np.repeat(looks[:1], 12, 0)) is None


@pytest.fixture(scope="module")
def walking(tmp_path_factory, shallow):
    folder = tmp_path_factory.mktemp("signs")
    small_run.prepare(folder, lengths=(12,), config=small_run.cut(small_run.get_config()))
    return folder


def outcome(folder, pictures, capsys, **ttp):
    """Run on a folder of pictures; what is printed, recorded, and in the report."""
    config = small_run.cut(small_run.get_config())
    config.data.root = str(pictures)
    config.ttp.update(ttp)
    results = folder / f"of_{pictures.name}"
    options = personalization.RunOptions(scenario="offline", outputs=OutputOptions())
    made = experiment.build(config)
    assert personalization.run(made, folder / "work", options, results) == 0
    record = json.loads((results / "run.json").read_text())["subjects"][pictures.name]
    page = (results / f"{pictures.name}_report.html").read_text()
    return capsys.readouterr().out, record.get("warnings", []), page


def test_ruin_is_named_on_the_console_in_the_record_and_on_top_of_the_report(walking, capsys):
    people = walking / "people/person0"
    said, signs, page = outcome(walking, people, capsys, learning_rate=0.3, iterations=3)
    assert len(signs) >= 2 and signs[-1] == REMEDY
    for sign in signs:
        assert f"WARNING person0: {sign}" in said
        place = page.index(sign[:40])
        assert place < page.index('class="viewer"')  # before anything that looks well


@pytest.mark.parametrize("name", ["frozen", "frozen and resumed"])
def test_a_frozen_video_is_named_and_learned_from_once(walking, monkeypatch, capsys, name):
    frozen = walking / name
    frozen.mkdir()
    picture = cv2.imread(str(walking / "people/person0/0000.png"))
    for t in range(9):
        cv2.imwrite(str(frozen / f"{t}.png"), picture)
    if name != "frozen":
        broken_off_after_reading(walking, frozen, monkeypatch, capsys)
    said, signs, page = outcome(walking, frozen, capsys)
    words = "8 of 9 frames repeat the one before. A repeated frame counts"
    (sign,) = (sign for sign in signs if sign.startswith(words))
    assert f"WARNING {name}: {sign}" in said and words in page
    assert ("resuming, " in said) == (name != "frozen")


def test_no_adaptation_is_spoken_of_where_nothing_adapts(walking, capsys):
    frozen = walking / "still"
    frozen.mkdir()
    picture = cv2.imread(str(walking / "people/person0/0000.png"))
    for t in range(9):
        cv2.imwrite(str(frozen / f"{t}.png"), picture)
    _, signs, _ = outcome(walking, frozen, capsys, method="none")
    assert signs == ["8 of 9 frames repeat the one before.", warning_signs.NOTHING_ADAPTS]
    assert not any(word in " ".join(signs) for word in ("adapts", "learning_rate", "iterations"))


def broken_off_after_reading(folder, pictures, monkeypatch, capsys):
    """Run until all frames are read and the state of this is saved."""
    save, states = Unfinished.save, []

    def save_then_break(*args):
        save(*args)
        states.append(args)
        if len(states) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "save", save_then_break)
        with pytest.raises(KeyboardInterrupt):
            outcome(folder, pictures, capsys)
