"""Boxes that users give: regions and files."""

import json
import re

import numpy as np
import pytest
from media_files import write_picture, write_video

from data_pipelines import media
from data_pipelines.clips import DataError


@pytest.fixture
def two(tmp_path):
    """A folder with the subjects "a", a video of 11 frames, and "b", two pictures."""
    folder = tmp_path / "media"
    write_video(folder / "a.mp4", 11)
    write_picture(folder / "b" / "1.png")
    write_picture(folder / "b" / "2.png", size=(20, 20))
    return folder


def test_fixed_region(two):
    for clip in media.clips(two, boxes="2, -4.5,10,12"):
        np.testing.assert_array_equal(clip.boxes, [[2, -4.5, 10, 12]] * clip.num_frames)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("10,2,10,12", r'boxes "10,2,10,12": the box \[10.0, 2.0, 10.0, 12.0\] has no area'),
        ("nan,2,10,12", 'boxes "nan,2,10,12": .* has no area'),
        ("0,0,99999,99999", "far larger than frame . of ., which is"),
        ("0.2,0.1,0.6,0.9", "less than 3 pixels wide or high in frame . of ., which is"),
        (
            "1,2,3",
            'boxes is "1,2,3": expected "whole", a region "x1,y1,x2,y2" or',
        ),
        ("everybody", 'boxes is "everybody": expected "whole"'),
        ("boxes.txt", 'boxes is "boxes.txt": expected "whole".*path of a file'),
        ("nowhere.csv", "nowhere.csv can't be read: No such file"),
    ],
)
def test_unusable_boxes(two, boxes, message):
    with pytest.raises(DataError, match=message):
        media.clips(two, boxes=boxes)


def test_a_region_outside_the_pictures_of_one_subject_is_that_one_s_error(two):
    found, left_out = media.open_inputs(two, boxes="30,2,60,12")
    assert [clip.name for clip in found] == ["a"]
    assert [one.path.name for one in left_out] == ["b"]
    message = "outside frame 1 of b, which is 20 x 20 pixels: give pixels of the upright picture"
    assert message in left_out[0].reason


def rows(*lines, header="subject,frame,x1,y1,x2,y2"):
    return "\n".join([header, *lines]) + "\n"


def entries(text):
    """The same boxes as JSON."""
    header, *lines = (line.split(",") for line in text.split())
    return json.dumps([dict(zip(header, line, strict=True)) for line in lines])


@pytest.mark.parametrize("suffix", [".csv", ".JSON"])
def test_file_of_boxes(two, tmp_path, suffix):
    text = rows("a,6,4,0,14,20", "a,2,0,0,10,20", "b,0,-5,-5,5.5,5", "a,8,4,8,14,28")
    path = tmp_path / f"boxes{suffix}"
    path.write_text(text if suffix == ".csv" else entries(text), "utf-8-sig")
    if suffix != ".csv":
        path.write_text(entries(text))
    a, b = media.clips(two, boxes=path)
    assert (a.name, b.name) == ("a", "b")
    np.testing.assert_array_equal(b.boxes, [[-5, -5, 5.5, 5]] * 2)
    x = [0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4]
    y = [0, 0, 0, 0, 0, 0, 0, 4, 8, 8, 8]
    np.testing.assert_array_equal(a.boxes, np.transpose([x, y, np.add(x, 10), np.add(y, 20)]))


def test_subject_and_further_columns_are_optional(two, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(rows("0.9, 3, 1, 2, 4, 6", header="score, frame, x1, y1, x2, y2"))
    (clip,) = media.clips(two / "a.mp4", boxes=path)
    np.testing.assert_array_equal(clip.boxes, [[1, 2, 4, 6]] * 11)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,11,0,0,9,9"], "line 2: a has no frame 11: its 11 frames count from 0"),
        (["a,0,0,0,9,9", "a,-1,0,0,9,9"], "line 3: a has no frame -1"),
        (["a,1.5,0,0,9,9"], "line 2: frame is 1.5, expected a whole number"),
        (["a,0,0,0,9,nan"], "line 2: the box .* has no area: expected finite"),
        (["a,0,9,0,0,9"], r"line 2: the box \[9.0, 0.0, 0.0, 9.0\] has no area"),
        (["a,0,9,0,9,9"], "line 2: the box .* has no area"),
        (
            ["a,0,0,,9,9"],
            "line 2: expected five numbers, got frame '0', x1 '0', y1 '', x2 '9', y2 '9'.",
        ),
        (["a,0,0"], "line 2: expected five numbers, got frame '0', x1 '0', y1 None"),
        (["a,0,64,0,80,9"], "line 2: .* outside frame 0 of a, which is 64 x 48 pixels"),
        ([",0,0,0,9,9"], "line 2 names no subject, but there are 2: .*with a, b"),
        (["a,1,0,0,9,9", "a,1,0,0,9,9"], "line 3: a second box for frame 1 of a"),
        ([], "has no boxes: expected columns frame"),
    ],
)
def test_unusable_row_names_file_and_row(two, tmp_path, lines, message):
    path = tmp_path / "boxes.csv"
    path.write_text(rows(*lines))
    with pytest.raises(DataError, match=f"(?s)boxes.csv,? {message}"):
        media.clips(two, boxes=path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b,1,21,0,30,9", "line 3: the box .* outside frame 1 of b, which is 20 x 20"),
        ("b,2,0,0,9,9", "line 3: b has no frame 2: its 2 frames count from 0"),
        ("b,0,0,,9,9", "line 3: expected five numbers"),
        ("c,0,0,0,9,9", "has no box for b, only for a, c: add at least one row"),
        ("c,nonsense", "has no box for b, only for a, c"),
    ],
)
def test_what_is_wrong_with_one_subject_s_boxes_stops_no_other(two, tmp_path, row, message):
    path = tmp_path / "boxes.csv"
    path.write_text(rows("a,0,0,0,9,9", row))
    (clip,), (left_out,) = media.open_inputs(two, boxes=path)
    assert clip.name == "a" and clip.boxes[5].tolist() == [0, 0, 9, 9]
    assert left_out.path.name == "b" and re.search(f"boxes.csv,? {message}", left_out.reason)


def test_a_file_serves_some_of_its_subjects_whatever_became_of_the_others(two, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(rows("a,0,0,0,9,9", "b,0,1,1,9,9", "gone,0,broken,row"))
    (clip,) = media.clips(two / "a.mp4", boxes=path)
    assert clip.boxes[0].tolist() == [0, 0, 9, 9]
    (two / "a.mp4").write_bytes(b"damaged")
    (clip,), (left_out,) = media.open_inputs(two, boxes=path)
    assert clip.name == "b" and "a.mp4 is not a video" in left_out.reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", b"frame;x1;y1;x2;y2\n0;1;2;3;4\n", "no column frame, x1.*separated by commas"),
        ("b.csv", b"", "no column frame"),
        ("b.csv", b"\xff\xfe\x00", "b.csv is not UTF-8 text"),
        (
            "b.csv",
            b'subject,frame,x1,y1,x2,y2,note\na,0,0,0,9,9,"oops\na,1,0,0,9,9,\n',
            "b.csv: unexpected end of data. Is there a quote",
        ),
        ("b.json", b"[", "b.json is not valid JSON"),
        ("b.json", b'{"frame": 0}', "b.json: expected a list of objects"),
        (
            "b.json",
            b'[{"subject": "a", "frame": 0, "x1": [1]}]',
            r"entry 1: expected five numbers, got frame 0, x1 \[1\]",
        ),
        ("b.json", b"[]", "b.json has no boxes"),
        ("b.json", b"[" * 100_000, "b.json is not valid JSON"),
    ],
)
def test_unusable_file_of_boxes(two, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        media.clips(two, boxes=tmp_path / name)
