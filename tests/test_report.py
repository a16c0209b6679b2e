"""Reports: what the file contains, and how a browser shows it."""

import base64
import concurrent.futures
import dataclasses
import html.parser
import io
import json
import re
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image

from ttp_jax import presence, report, skeletons
from ttp_jax.report import words
from ttp_jax.runs import personal_report
from ttp_jax.skeletons import PENN13, Skeleton

HOSTILE = """</script><script>window.hacked=1</script><img src=x onerror="hacked=1">'&amp;"""
VOID = {"meta", "link", "img", "input"}
FOUND = {"found": True, "words": "Person found: 94% of the joints lie inside the moving region."}
NOBODY = {"found": False, "words": "No person found: 3% of the joints lie inside it."}
GREY = np.full((60, 80, 3), 128, np.uint8)
STILL = 3  # a joint that adaptation leaves where it is
POSE = np.array(
    [
        [40, 6], [46, 14], [34, 14], [52, 22], [28, 22], [55, 31], [22, 29],
        [44, 31], [36, 31], [46, 43], [33, 43], [48, 54], [30, 54],
    ],
    float,
)  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Collect elements and text; fail on tags that don't match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def decoded(uri):
    kind, data = uri.removeprefix("data:").split(";base64,")
    return kind, base64.b64decode(data)


def embedded(text):
    """Return the viewer's data, read as strict JSON."""
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found, parse_constant=pytest.fail)


def example(count=5, **changes):
    """Return arguments of `personal`: all joints but one move, and by frame 4 ten times as far."""
    all_before = POSE + np.arange(count)[:, None, None]
    step = np.where(np.arange(count) == 4, 10.0, 1.0)[:, None, None] * (1, 0)
    all_after = all_before + step
    all_after[:, STILL] = all_before[:, STILL]
    which = np.arange(0, count, 2)[:3]
    arguments = {
        "name": "video 1",
        "pictures": [GREY] * len(which),
        "frames": which,
        "numbers": 100 + 2 * np.arange(count),  # every second frame from the hundredth on
        "before": all_before[which],
        "after": all_after[which],
        "all_before": all_before,
        "all_after": all_after,
        "skeleton": PENN13,
        "quality": [("jitter", 4.0, 1.0, "px", "lower", "How unsteady the joints are.")],
        "settings": {"scenario": "online"},
        "cost": {"updates": 96},
        "confidence": np.linspace(0.1, 0.9, 2 * count * 13).reshape(2, count, 13),
    }
    return {**arguments, **changes}


# --- What the file holds -------------------------------------------------------------------------


def test_a_heat_map_tells_gains_from_losses_and_from_what_is_missing():
    values = [[2.0, -1.0], [np.nan, 0.5]]
    names = {"row_label": "rate", "column_label": "updates", "title": "<gain>"}
    text = report.heat_map(values, ["a", "b"], ["1", "2"], **names)
    assert "&lt;gain&gt;" in text and text.count("<td") == 4
    gain, loss = re.findall(r'rgba\(([\d, ]+), 0\.\d+\)">([+-][\d.]+)', text)[:2]
    assert gain[1] == "+2.00" and loss[1] == "-1.00" and gain[0] != loss[0]
    assert "<td>missing</td>" in text
    with pytest.raises(ValueError, match=r"expected \(2, 1\)"):
        report.heat_map(values, ["a", "b"], ["1"], **names)


def test_a_page_is_one_document_with_its_sections_in_order():
    text = report.page("T", [report.section("A", "<p>a</p>"), report.section("B")], subtitle="S")
    reader = Reader(text)
    assert text.startswith("<!doctype html>") and len(reader.all("html")) == 1
    assert re.search("T.*S.*A.*a.*B", reader.text, re.DOTALL)
    addresses = [
        value for _, a in reader.elements for k, value in a.items() if k in ("src", "href")
    ]
    assert addresses == ["data:,"]


def test_all_text_is_escaped(tmp_path):
    skeleton = dataclasses.replace(PENN13, name=HOSTILE, joints=(HOSTILE, *PENN13.joints[1:]))
    x = [0, 1]
    pieces = {
        "page": report.page(HOSTILE, [], subtitle=HOSTILE),
        "section": report.section(HOSTILE, report.paragraph(HOSTILE)),
        "table": report.table([HOSTILE], [[HOSTILE]], HOSTILE),
        "picture": report.picture(GREY, HOSTILE, HOSTILE),
        "plot": report.line_plot(
            {HOSTILE: (x, x), "other": (x, x)}, x_label=HOSTILE, y_label=HOSTILE, title=HOSTILE
        ),
        "viewer": report.before_after([GREY], [POSE], [POSE], skeleton, frames=[HOSTILE]),
    }
    for name, piece in pieces.items():
        reader = Reader(piece)
        assert not any("onerror" in attrs for _, attrs in reader.elements), name
        assert "hacked=1" in reader.text, name
        labels = {a[k] for _, a in reader.elements for k in ("alt", "aria-label") if k in a}
        own = {"frame", "wipe: percent of the picture that shows the pose before"}
        assert labels <= {HOSTILE, f"frame {HOSTILE}", *own}, name
        programs = [a for a in reader.all("script") if a.get("type") != "application/json"]
        assert len(programs) == (name == "page"), name


def test_a_table_has_its_cells_and_numbers_are_right_aligned():
    header = ["method", "PCK", "gain", "note", "count"]
    rows = [
        ["online", 88.64159, "-0.06 ± 1.19", "44 %", 39817343],
        ["offline", np.float32(89.5), "+2.56 +- 2.03", "few", np.int64(7)],
        ["none", float("nan"), None, "", True],
    ]
    rows[2][4] = 0
    text = report.table(header, rows, "Table 2")
    cells = re.findall(r'<(t[hd]) role="\w+"( class=number)?>(.*?)</t', text)
    assert [cell[2] for cell in cells] == [
        *header, "online", "88.64", "-0.06 ± 1.19", "44 %", "39,817,343",
        "offline", "89.5", "+2.56 +- 2.03", "few", "7", "none", "–", "–", "", "0",  # noqa: RUF001
    ]  # fmt: skip
    assert [bool(cell[1]) for cell in cells] == [False, True, True, False, True] * 4
    assert "Table 2" in text
    with pytest.raises(ValueError, match="got a row of 1 cells, expected 2"):
        report.table(["a", "b"], [["x"]])


def test_a_table_may_be_empty_and_may_hold_anything():
    assert "method" in report.table(["method"], [])
    text = report.table(["a"], [[(1, (2, 3))], [np.zeros(2)], [True], [float("inf")]])
    assert re.findall('<td role="cell">(.*?)</td>', text) == [
        "(1, (2, 3))",
        "[0. 0.]",
        "yes",
        "inf",
    ]


def test_pictures_are_embedded_unchanged(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    (tag,) = Reader(report.picture(image, "noise")).all("img")
    kind, data = decoded(tag["src"])
    assert kind == "image/png" and (tag["width"], tag["height"], tag["alt"]) == ("7", "9", "noise")
    np.testing.assert_array_equal(Image.open(io.BytesIO(data)), image)

    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "named_wrongly.png", "JPEG")
    (tmp_path / "c.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    for name, kind in (("a.png", "png"), ("named_wrongly.png", "jpeg"), ("c.svg", "svg+xml")):
        (tag,) = Reader(report.picture(tmp_path / name, "x")).all("img")
        assert decoded(tag["src"]) == (f"image/{kind}", (tmp_path / name).read_bytes())

    (tmp_path / "d.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"d\.gif: got another kind of file"):
        report.picture(tmp_path / "d.gif", "x")
    with pytest.raises(ValueError, match="expected uint8 RGB"):
        report.picture(image / 255.0, "x")


def drawn(text, kind):
    """Return the subpaths [n, 2] of the paths of one class, in shares of the axes, y up.

    The axes' corner and size are those of the grid lines and the lowest and highest of them, so
    data must begin and end at a grid line.
    """
    found = {name: [] for name in ("grid", kind)}
    for name, group in re.findall(r'<g class="(\w+)">(.*?)</g>', text, re.DOTALL):
        for path in re.findall(r' d="(.*?)"', group):
            for run in path.split("M")[1:]:
                points = re.findall(r"(-?[\d.]+) (-?[\d.]+)", run)
                found.setdefault(name, []).append(np.array(points, float))
    grid = np.concatenate(found["grid"])
    low, size = grid.min(0), np.ptp(grid, axis=0)
    return [(run - low) / size * (1, -1) + (0, 1) for run in found[kind]]


def ticks(text, anchor):
    """Return what stands at an axis: "end" for y, "middle" for x."""
    return re.findall(rf"text-anchor: {anchor}; [^>]*>(.*?)</text>", text)


def test_a_line_goes_through_its_points_and_stops_at_nan():
    y = [0, 5, np.nan, 10, np.nan, 2.5, 2.5]
    text = report.line_plot({"a": (range(7), y)}, x_label="frame", y_label="px", title="Title")
    first, alone, last = drawn(text, "line")
    np.testing.assert_allclose(first, [[0, 0], [1 / 6, 0.5]], atol=1e-3)
    np.testing.assert_allclose(alone, [[0.5, 1]], atol=1e-3)
    np.testing.assert_allclose(last, [[5 / 6, 0.25], [1, 0.25]], atol=1e-3)
    np.testing.assert_allclose(drawn(text, "dot"), [[[0.5, 1], [0.5, 1]]], atol=1e-3)
    assert 'aria-label="Title"' in text and 'role="img"' in text
    assert ticks(text, "end") == ["0", "2", "4", "6", "8", "10", "frame"]
    assert ticks(text, "middle") == ["0", "2", "4", "6"] and ticks(text, "start") == ["px"]


def test_a_band_surrounds_its_line():
    x, y = np.arange(4), np.array([4.0, 5, 6, 5])
    bands = {"a": (y - 4, y + 2)}
    text = report.line_plot({"a": (x, y)}, bands=bands, x_label="x", y_label="y")
    (line,), (band,) = drawn(text, "line"), drawn(text, "band")
    np.testing.assert_allclose(line[:, 1], y / 8, atol=1e-3)
    np.testing.assert_allclose(band[:4, 1], (y - 4) / 8, atol=1e-3)
    np.testing.assert_allclose(band[4:8, 1], (y + 2)[::-1] / 8, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("y", [[], [3.0], [0.0, 0.0], [np.nan] * 3, [1e9, 1e9 + 1], [-1e-6, 2e-6]])
def test_plots_of_little_or_nothing_are_plots(y):
    text = report.line_plot({"a": (np.arange(len(y)), y)}, x_label="x", y_label="y")
    assert "nan" not in text and "inf" not in text and len(set(ticks(text, "end"))) > 1
    left, top, width, height = map(float, re.search('viewBox="(.*?)"', text)[1].split())
    for place in re.findall(r"(-?[\d.]+) (-?[\d.]+)", "".join(re.findall(r' d="(.*?)"', text))):
        assert left <= float(place[0]) <= width and top <= float(place[1]) <= height


def test_long_lines_keep_their_mean_and_their_peaks():
    """The mean of each stretch is drawn, from the least to the most shaded."""
    y = np.zeros(100_000)
    y[[31_415, 77_777]] = 1, -1
    text = report.line_plot({"a": (np.arange(100_000), y)}, x_label="x", y_label="y")
    (line,), (band,) = drawn(text, "line"), drawn(text, "band")
    assert len(text) < 100_000 and len(line) <= 1000
    assert abs(line[:, 1] - 0.5).max() < 0.02
    for share, value in ((0.31415, 1), (0.77777, 0)):
        (at,) = band[np.isclose(band[:, 1], value), 0]
        assert abs(at - share) < 0.002


def test_plots_name_the_line_that_does_not_fit():
    with pytest.raises(ValueError, match=r"line 'a': got x \(3,\) and y \(2,\)"):
        report.line_plot({"a": ([0, 1, 2], [0, 1])}, x_label="x", y_label="y")


def test_a_plot_keeps_any_label_as_it_is():
    label = ' id="a" class=".123456"  $x^2$ #000010'
    text = report.line_plot({"a": ([0, 1], [0, 1])}, x_label=label, y_label=label)
    assert ticks(text, "start") == [label] and ticks(text, "end")[-1] == label


def test_plots_take_the_page_s_colours_and_no_identifier_twice():
    x = np.arange(5)
    text = report.line_plot(
        {"a": (x, x), "b": (x, x * np.nan)}, x_label="x", y_label="y", bands={"a": (x, x + 1)}
    )
    assert " id=" not in text and "url(" not in text and "<use" not in text
    colors = set(re.findall(r"(?:stroke|fill): ([^;\"]*)", text))
    assert colors <= {"none", *(f"var(--{name})" for name in ("c0", "c1", "muted", "rule"))}


def test_plots_are_the_same_bytes_at_any_time_and_from_any_thread(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    x = np.linspace(0, 1, 300)

    def plot(k):
        return report.line_plot({f"line {k}": (x, np.sin(k * x))}, x_label="x", y_label="y")

    alone = [plot(k) for k in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(plot, range(8))) == alone
    assert len(set(alone)) == 8


def test_the_viewer_holds_pictures_and_poses_with_null_for_nan():
    before, after = np.stack([POSE, POSE]), np.stack([POSE, POSE + 0.123456])
    before[1, 5] = np.nan
    after[0, 2, 1] = np.inf
    image = np.linspace(0, 255, 60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)
    likelihood = np.full((2, 13), 0.5)
    likelihood[0, 0] = np.nan
    both = (likelihood, np.ones((2, 13)))
    text = report.before_after(
        [image, GREY[:40]], before, after, PENN13, frames=np.array([3, 9]), confidence=both
    )
    data = embedded(text)
    assert data["names"] == ["frame 3", "frame 9"] and data["sizes"] == [[80, 60], [80, 40]]
    assert data["before"][1][5] is None and data["after"][0][2] is None
    np.testing.assert_allclose(data["before"][0], POSE, atol=0.005)
    np.testing.assert_allclose(data["after"][1], after[1], atol=0.005)
    assert data["limbs"] == [list(limb) for limb in PENN13.limbs]
    assert (
        data["confidence"]["before"][0][:2] == [0, 0.5] and data["confidence"]["after"][0][0] == 1
    )
    first, second = Reader(text).all("img")
    assert "hidden" in second and "hidden" not in first
    kind, jpeg = decoded(first["src"])
    error = np.abs(np.asarray(Image.open(io.BytesIO(jpeg)), float) - image)
    assert kind == "image/jpeg" and error.mean() < 4


def test_the_viewer_says_what_does_not_fit():
    poses = [POSE]
    with pytest.raises(ValueError, match="got no pictures"):
        report.before_after([], [], [], PENN13)
    with pytest.raises(ValueError, match=r"after \(1, 12, 2\), expected \(1, 13, 2\).*penn13"):
        report.before_after([GREY], poses, [POSE[:12]], PENN13)
    with pytest.raises(ValueError, match=r"frames \(2,\), expected \(1,\)"):
        report.before_after([GREY], poses, poses, PENN13, frames=[1, 2])
    with pytest.raises(ValueError, match=r"confidence before \(13,\), expected \(1, 13\)"):
        report.before_after([GREY], poses, poses, PENN13, confidence=np.ones((2, 13)))
    with pytest.raises(ValueError, match=r"seconds \(2,\), expected \(1,\)"):
        report.before_after([GREY], poses, poses, PENN13, seconds=[0, 1])


def test_the_viewer_tells_left_from_right_where_there_are_both():
    text = report.before_after([GREY], [POSE], [POSE], PENN13)
    shown = Reader(text)
    for pose in ("before", "after"):
        assert f'<b>{pose}</b> <span class="swatch left"></span>left' in text
    joints = [a["class"].split()[1] for a in shown.all("path") if a["class"].startswith("joint ")]
    expected = [name.split("_")[0] if "_" in name else "middle" for name in PENN13.joints]
    assert joints == 2 * expected
    lone = dataclasses.replace(PENN13, joints=tuple("abcdefghijklm"))
    assert "left" not in report.before_after([GREY], [POSE], [POSE], lone)


def test_frames_have_their_times_where_they_are_known():
    poses = [POSE, POSE]
    text = report.before_after([GREY] * 2, poses, poses, PENN13, frames=[3, 9], seconds=[0.1, 0.3])
    assert embedded(text)["names"] == ["frame 3, 0.10 s", "frame 9, 0.30 s"]


def cells(text):
    """Return the texts of all rows of tables, header rows left out."""
    rows = re.findall(r'<tr role="row">(<td.*?)</tr>', text)
    return [re.sub("<[^>]+>", "|", row).strip("|").split("||") for row in rows]


def test_a_personal_report_says_what_changed_and_that_it_is_not_accuracy(tmp_path):
    quality = [
        ("jitter", 4.0, 1.0, "px", "lower", "Unsteady."),
        ("agreement", 0.5, 0.4, "", "higher", "Alike."),
        ("swaps", 0, 0, "frames", "lower", "Left for right."),
        ("loss", 2.0, 2.000168, "", "lower", "Reconstruction."),
        ("movement", 2.0, 3.0, "px", "", "Way."),
        ("unknown", np.nan, 3.0, "", "lower", "Not measured."),
    ]
    path = tmp_path / "new" / "report.html"
    notes = ["Frame 3 could not be read."]
    report.personal(path, **example(quality=quality, notes=notes))
    text = path.read_text("utf-8")
    reader = Reader(text)
    assert "None of these numbers measures accuracy" in reader.text
    assert notes[0] in reader.text and "3 of 5 frames" in reader.text
    # 12 of 13 joints move by 1 px in four frames and by 10 px in frame 4.
    assert f"{12 / 13 * 14 / 5:.2f} px on average" in reader.text
    assert f"frame 108 changed most ({10 * 12 / 13:.2f} px)" in reader.text
    assert [a["alt"] for a in reader.all("img")] == ["frame 100", "frame 104", "frame 108"]
    movement = text[: text.index("Each joint over time")]
    (line,) = drawn(movement, "line")
    np.testing.assert_allclose(line[:, 1], [1.2 / 13] * 4 + [12 / 13], atol=1e-3)
    bars = re.findall(r'<th>(.*?)</th><td><span style="width:(.*?)%">.*?([\d.]+)</td>', text)
    assert [name for name, *_ in bars] == [joint.replace("_", " ") for joint in PENN13.joints]
    assert bars[STILL][1:] == ("0.0", "0.00") and bars[0][1:] == ("100.0", "2.80")
    dash = "–"  # noqa: RUF001
    rows = cells(text[text.index("Quality without labels") :])
    assert rows[:6] == [
        ["jitter (px)", "better", "4", "1", "-3 (-75%)"],
        ["agreement", "worse", "0.5", "0.4", "-0.1 (-20%)"],
        ["swaps (frames)", "no change", "0", "0", "+0"],
        ["loss", "no change", "2", "2", "+0.000168 (+0%)"],
        ["movement (px)", dash, "2", "3", "+1 (+50%)"],
        ["unknown", dash, dash, "3", dash],
    ]
    assert rows[6:] == [["scenario", "online"], ["updates", "96"]]
    assert re.findall(r'<th role="columnheader">(\w+)</th>', text).count("verdict") == 1


def test_each_joint_has_its_course_and_its_confidence(tmp_path):
    report.personal(tmp_path / "r.html", **example(pcutoff=0.3))
    text = (tmp_path / "r.html").read_text("utf-8")
    chooser = text[text.index('<figure class="plot chooser">') :]
    options = re.findall(r"<option( selected)?>(.*?)</option>", chooser)
    assert [name for _, name in options] == [joint.replace("_", " ") for joint in PENN13.joints]
    choices = re.findall(r'<div class="choice"( hidden)?>(.*?)</svg>', chooser, re.DOTALL)
    assert len(choices) == 13
    assert [not hidden for hidden, _ in choices] == [bool(chosen) for chosen, _ in options]
    # The frames are 100 to 108; "before" is dashed and comes first, so lies under "after".
    for k in (0, STILL):
        looks = re.findall(
            r'class="line">.*?stroke: var\(--(\w+)\)[^"]*?(stroke-dasharray)?[^"]*"', choices[k][1],
            re.DOTALL,
        )  # fmt: skip
        assert [look[0] for look in looks] == ["before", "after"] * 3
        dashes = re.findall(r'class="line">[^"]*"[^"]*" style="([^"]*)"', choices[k][1])
        assert ["stroke-dasharray" in look for look in dashes] == [True, False] * 3
    rows = cells(text[text.index("Mean confidence of each joint") :])[:13]
    both = example()["confidence"]
    assert rows[5] == [
        "left wrist", f"{both[0, :, 5].mean():.2f}", f"{both[1, :, 5].mean():.2f}",
        f"{(both[1, :, 5] < 0.3).mean():.0%}",
    ]  # fmt: skip


def test_a_joint_is_drawn_where_it_was(tmp_path):
    """x to the right and y downwards, as in the picture."""
    arguments = example()
    arguments["all_before"][:, 0] = arguments["all_after"][:, 0] = np.array(
        [[0, 100], [10, 100], [20, 120], [30, 140], [40, 200]]
    )
    arguments["all_after"][4, 0] += (0, 0.001)  # so that it moved at all
    report.personal(tmp_path / "r.html", **arguments)
    text = (tmp_path / "r.html").read_text("utf-8")
    choice = re.findall(r'<div class="choice"[^>]*>(.*?)</svg>', text, re.DOTALL)[0]
    first, second, _ = re.split(r"(?=<g>\s*<g class=\"grid\")", choice)[1:4]
    np.testing.assert_allclose(drawn(first, "line")[0][:, 1], [0, 0.25, 0.5, 0.75, 1], atol=0.01)
    np.testing.assert_allclose(drawn(second, "line")[0][:, 1], [1, 1, 0.8, 0.6, 0], atol=0.01)


def test_the_first_line_says_whether_a_person_was_found(tmp_path):
    warnings = ["The held-out loss rose fivefold: lower the learning rate."]
    for found in (FOUND, NOBODY):
        scores = ([("PCK@0.2", 20.0, 60.0, "%", "higher", "Right joints.")], ["2 frames."])
        report.personal(
            tmp_path / "r.html", **example(found=found, warnings=warnings, scores=scores)
        )
        text = (tmp_path / "r.html").read_text("utf-8")
        words = Reader(text).text
        order = [words.index(part) for part in (found["words"], warnings[0], "Pose of one person")]
        assert order == sorted(order) and words.index("video 1") < order[0]
        verdicts = {row[1] for row in cells(text) if row[0] in ("jitter (px)", "PCK@0.2 (%)")}
        assert verdicts == {"better" if found is FOUND else "pose not on the person"}
        assert ("None of these numbers measures accuracy" in words) == (found is FOUND)
        if found is NOBODY:
            assert "better" not in {cell for row in cells(text) for cell in row}


def test_the_report_takes_what_presence_measures(tmp_path):
    still = np.tile(POSE, (30, 1, 1))
    walk = np.array([100, 0, 140, 60]) + 3 * np.arange(30)[:, None] * (1, 0, 1, 0)
    found = presence.measure(still, walk).to_dict()
    report.personal(tmp_path / "r.html", **example(found=json.loads(json.dumps(found))))
    assert "No person found: 0% of the joints" in (tmp_path / "r.html").read_text("utf-8")


def test_settings_are_said_in_words():
    data = dataclasses.make_dataclass("Data", ("boxes", "fit", "refine"))
    names = ("method", "iterations", "batch_size", "learning_rate", "rules")
    ttp = dataclasses.make_dataclass("Ttp", names)
    boxes = np.array([[10, 20, 110, 220], [10, 20, 130, 220], [10, 20, 130, 220]])
    said = words.boxes(data("moving", True, 0), boxes, (480, 640))
    assert said["box"].startswith("the moving region of the video, at the scale at which the model")
    assert said["size of the box"] == "120 x 200 px (median), in frames of 640 x 480 px"
    assert words.boxes(data("boxes.csv", False, 2), boxes, (480, 640))["box"] == (
        "given: boxes.csv, then refined 2 time(s) from the predicted joints"
    )
    said = words.updates(ttp("ttp", 2, 8, 1e-4, "paper"))
    assert said["trainable parts"] == "encoder and self-supervised head"
    assert said["learning rate"] == "0.0001" and said["updates"].startswith("2 per frame, with 8 ")
    assert "trainable parts" not in words.updates(ttp("bn", 2, 8, 1e-4, "paper"))
    assert words.scenario("person-ana") == "the kept model of ana, without further adaptation"


def test_code_is_shown_as_code():
    said = report.paragraph("Run `python main.py <x>` again.") + report.code("a < b\nc")
    assert "<code>python main.py &lt;x&gt;</code>" in said
    assert "<pre><code>a &lt; b\nc</code></pre>" in said


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("missing", [slice(2, 4), slice(None)])
def test_a_personal_report_bears_frames_without_a_pose(tmp_path, missing):
    arguments = example()
    arguments["all_before"][missing] = np.nan
    arguments["before"] = arguments["before"] * np.nan
    report.personal(tmp_path / "r.html", **arguments)
    text = Reader((tmp_path / "r.html").read_text("utf-8")).text
    assert ("No joint moved" in text) == (missing == slice(None))


def test_nothing_is_left_of_a_report_that_failed(tmp_path):
    path = tmp_path / "report.html"
    report.personal(path, **example())
    written = path.read_bytes()
    with pytest.raises(ValueError, match="got better='more', expected one of"):
        report.personal(path, **example(quality=[("jitter", 1, 2, "", "more", "")]))
    with pytest.raises(ValueError, match=r"all_after \(4, 13, 2\)"):
        report.personal(path, **example(all_after=np.zeros((4, 13, 2))))
    assert path.read_bytes() == written
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        report.save(tmp_path / "folder", "x")
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "folder"}


def test_a_long_video_makes_a_small_file_and_a_strange_name_is_no_obstacle(tmp_path):
    path = tmp_path / "report.html"
    undecodable = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    report.personal(path, **example(count=100_000, name=undecodable))
    assert path.stat().st_size < 3_000_000
    assert "caf?.mp4" in path.read_text("utf-8")


def many(joints, frames, limbs):
    """Return arguments of `personal` of a skeleton of any size, some joints missing."""
    rng = np.random.default_rng(0)
    names = tuple(f"{('left', 'right', 'spine')[k % 3]}_{k}" for k in range(joints))
    chain = tuple((k, k + 1) for k in range(joints - 1)) if limbs else ()
    before = rng.uniform(0, 60, (frames, joints, 2))
    before[rng.random((frames, joints)) < 0.1] = np.nan
    return example(
        skeleton=Skeleton("any", names, (), chain),
        pictures=[GREY],
        frames=[0],
        numbers=np.arange(frames),
        before=before[:1],
        after=before[:1] + 1,
        all_before=before,
        all_after=before + 1,
        confidence=rng.uniform(0, 1, (2, frames, joints)),
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("joints", "frames", "limbs"), [(1, 1, False), (2, 3, True), (40, 60, False)]
)
def test_any_skeleton_and_any_number_of_frames_make_a_report(tmp_path, joints, frames, limbs):
    report.personal(tmp_path / "r.html", **many(joints, frames, limbs))
    reader = Reader((tmp_path / "r.html").read_text("utf-8"))
    assert len(reader.all("option")) == joints
    assert bool(reader.all("details")) == (joints > 20)


@pytest.mark.slow
def test_two_hundred_joints_and_twenty_thousand_frames_stay_within_five_mb(tmp_path):
    report.personal(tmp_path / "r.html", **many(200, 20_000, True))
    assert (tmp_path / "r.html").stat().st_size < 5_000_000


def test_a_video_of_which_no_frame_can_be_shown_has_a_report(tmp_path):
    nothing = np.empty((0, 13, 2))
    report.personal(
        tmp_path / "r.html", **example(pictures=[], frames=[], before=nothing, after=nothing)
    )
    assert "No frame of the video could be shown." in (tmp_path / "r.html").read_text("utf-8")


# --- What a browser makes of it ------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Reports of one person, with names that try to be programs, and of tables."""
    folder = tmp_path_factory.mktemp("report")
    skeleton = dataclasses.replace(PENN13, joints=(HOSTILE, *PENN13.joints[1:]))
    arguments = example(
        name=HOSTILE,
        skeleton=skeleton,
        quality=[(HOSTILE, 1.0, 2.0, HOSTILE, "lower", HOSTILE)],
        settings={HOSTILE: HOSTILE, "long": "x" * 300},
        notes=["The included model has seen rendered people only. " * 3, HOSTILE],
        warnings=["The held-out loss rose fivefold: " + HOSTILE],
        found=FOUND,
    )
    arguments["before"][1, 5] = np.nan
    arguments["after"][:, STILL] += 0.5  # less than a hundredth of 80 pixels
    report.personal(folder / "personal.html", **arguments)
    wide = report.table(["a column of a wide table"] * 12, [["some text"] + [1.5] * 11])
    x = np.arange(50)
    plot = report.line_plot(
        {f"a line with a long name {i}": (x, 1e6 * x) for i in range(8)}, x_label="x", y_label="y"
    )
    figure = report.picture(np.zeros((40, 1500, 3), np.uint8), "wide")
    likelihood = np.linspace([0, 1], [1, 0], 13).T
    pictures = [GREY, np.concatenate([GREY, GREY, GREY])[:, :60]]
    viewer = report.before_after(
        pictures, [POSE, POSE], [POSE, POSE], PENN13, confidence=(likelihood, likelihood)
    )
    sections = [report.section("A_very_long_heading_" * 4, wide, plot, figure, viewer)]
    report.save(folder / "tables.html", report.page("name_" * 40, sections))
    return folder, arguments


def opened(browser, written, name="personal", width=1000, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # forget what earlier pages said
    browser.get((written[0] / f"{name}.html").as_uri())
    return lambda css: browser.find_element("css selector", css)


def joints_on_screen(browser, pose, size=(80, 60)):
    """Return the middles of drawn joints in pixels of the shown picture, NaN of those not drawn."""
    script = """
    const image = document.querySelector(".stage img:not([hidden])").getBoundingClientRect();
    return [...document.querySelectorAll(`.stage svg.${arguments[0]} .joint`)].map((path) => {
      const shown = getComputedStyle(path.parentElement).display !== "none";
      if (!path.getAttribute("d") || !shown) return [NaN, NaN];
      const at = path.getPointAtLength(0).matrixTransform(path.getScreenCTM());
      return [(at.x - image.x) / image.width, (at.y - image.y) / image.height];
    });"""
    shares = np.array(browser.execute_script(script, pose), float)
    return shares * size - 0.5


def screenshot(element):
    """Return int RGB [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"), int)


def assert_shows(browser, arguments, i, hidden=()):
    image = browser.find_element("css selector", ".stage img:not([hidden])")
    assert image.get_attribute("alt") == f"frame {arguments['numbers'][arguments['frames'][i]]}"
    assert browser.find_element("css selector", "output").text == image.get_attribute("alt")
    for pose in ("before", "after"):
        expected = arguments[pose][i] * (np.nan if pose in hidden else 1)
        np.testing.assert_allclose(joints_on_screen(browser, pose), expected, atol=0.05)


@pytest.mark.parametrize("name", ["personal", "tables"])
def test_a_report_loads_quietly_and_asks_for_nothing(browser, written, name):
    opened(browser, written, name)
    time.sleep(0.3)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = (e["params"] for e in events if e["method"] == "Network.requestWillBeSent")
    asked = [request["request"]["url"] for request in requests]
    own = (written[0] / f"{name}.html").as_uri()
    assert own in asked
    assert [url for url in asked if url != own and not url.startswith("data:")] == []
    assert browser.execute_script("return window.hacked") is None
    if name == "personal":
        assert browser.title == " ".join(HOSTILE.split())
        assert browser.find_element("css selector", "h1").text == HOSTILE


def test_the_slider_moves_pictures_and_joints(browser, written):
    find = opened(browser, written)
    assert_shows(browser, written[1], 0)
    slider = find("input[type=range]")
    for i in (2, 1):
        browser.execute_script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            slider, i,
        )  # fmt: skip
        assert_shows(browser, written[1], i)


def test_arrow_keys_step_with_and_without_focus(browser, written):
    left, right, alt = "\ue012", "\ue014", "\ue00a"
    find = opened(browser, written)
    find("body").send_keys(right)
    assert_shows(browser, written[1], 1)
    find("input[type=range]").send_keys(right)
    assert_shows(browser, written[1], 2)
    find("input[name=after]").send_keys(left)
    assert_shows(browser, written[1], 1)
    find("input[name=pcutoff]").send_keys(left)  # moves its own cursor
    find("input[name=wipe]").click()
    find("input[name=edge]").send_keys(left, left)
    assert find("input[name=edge]").get_property("value") == "48"
    assert_shows(browser, written[1], 1)
    find("input[name=wipe]").click()
    find("input[type=range]").send_keys(left, left)  # round the end
    assert_shows(browser, written[1], 2)
    find("body").send_keys(alt + right)  # the browser's own
    assert_shows(browser, written[1], 2)


def orange_and_blue(picture):
    """Return where a picture [H, W, 3] has the colour of before, and of after: bool [H, W] each."""
    red, _, blue = np.moveaxis(picture, -1, 0)
    return red - blue > 80, blue - red > 80


def test_check_boxes_hide_a_pose_and_what_did_not_change(browser, written):
    find = opened(browser, written)

    def pixels():
        return [int(found.sum()) for found in orange_and_blue(screenshot(find(".stage")))]

    assert min(pixels()) > 500
    find("input[name=before]").click()
    assert_shows(browser, written[1], 0, hidden={"before"})
    assert pixels()[0] == 0 and pixels()[1] > 500
    find("input[name=after]").click()
    assert pixels() == [0, 0]
    find("input[name=before]").click()
    assert_shows(browser, written[1], 0, hidden={"after"})
    find("input[name=only]").click()
    hidden = np.isnan(joints_on_screen(browser, "before")[:, 0])
    assert np.flatnonzero(hidden).tolist() == [STILL]


def test_the_wipe_shows_before_on_its_left_and_after_on_its_right(browser, written):
    find = opened(browser, written)
    edge = find("input[name=edge]")
    assert edge.get_property("disabled") and not find(".divider").is_displayed()
    find("input[name=wipe]").click()
    assert find(".divider").text.split() == ["before", "after"]
    for presses, share in ((0, 0.5), (20, 0.7)):
        edge.send_keys(*["\ue014"] * presses)
        browser.execute_script("document.querySelector('.divider').style.visibility = 'hidden'")
        orange, blue = orange_and_blue(screenshot(find(".stage")))
        at = round(share * orange.shape[1])
        assert orange[:, : at - 3].sum() > 20 < blue[:, at + 3 :].sum()
        assert not orange[:, at + 3 :].any() and not blue[:, : at - 3].any()
    # Dragging over the picture moves the edge, too.
    webdriver = pytest.importorskip("selenium.webdriver")
    mouse = webdriver.ActionChains(browser).move_to_element(find(".stage")).click_and_hold()
    mouse.move_by_offset(-round(0.3 * find(".stage").size["width"]), 0).release().perform()
    assert abs(float(edge.get_property("value")) - 20) <= 1


def test_the_chooser_shows_one_joint_at_a_time_also_by_keyboard(browser, written):
    find = opened(browser, written)
    shown = "return [...document.querySelectorAll('.choice')].map((each) => each.offsetHeight > 0)"
    chosen = find(".chooser select")
    first = int(chosen.get_property("selectedIndex"))
    chosen.send_keys("\ue015" if first < 12 else "\ue013")  # down, up
    now = int(chosen.get_property("selectedIndex"))
    assert now != first and np.flatnonzero(browser.execute_script(shown)).tolist() == [now]


def test_picture_and_controls_share_the_first_window(browser, written):
    """At 1280 x 900, below a heading with a verdict, a warning and notes."""
    find = opened(browser, written, width=1280)
    for css in (".stage", ".viewer button", "input[name=frame]", "input[name=wipe]", ".viewer p"):
        box = find(css).rect
        assert box["y"] >= 0 and box["y"] + box["height"] <= 900, css
    assert find(".stage").size["height"] > 300
    top = [find(css).rect["y"] for css in ("h1", ".notice.yes", ".notice.warning", ".notice.note")]
    assert top == sorted(top) and top[-1] < find(".viewer").rect["y"]


def test_play_runs_until_paused(browser, written):
    find = opened(browser, written)
    find("button").click()
    assert find("button").text == "Pause"
    seen, end = set(), time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < end:
        seen.add(find("output").text)
    assert len(seen) == 3
    find("button").click()
    now = find("output").text
    assert find("button").text == "Play"
    for _ in range(4):
        time.sleep(0.1)
        assert find("output").text == now


def test_pictures_may_differ_in_size_and_unlikely_joints_are_faint(browser, written):
    find = opened(browser, written, "tables")
    opacity = (
        "return [...document.querySelectorAll('svg.after .joint')]"
        ".map((p) => +getComputedStyle(p).opacity)"
    )
    assert set(browser.execute_script(opacity)) == {1}  # the p-cutoff is 0
    number = find("input[name=pcutoff]")
    number.clear()
    number.send_keys("0.5", "\ue007")
    for size, weakest in (((80, 60), 0), ((60, 180), 12)):
        for pose in ("before", "after"):
            np.testing.assert_allclose(joints_on_screen(browser, pose, size), POSE, atol=0.05)
        faint = np.array(browser.execute_script(opacity)) < 0.5
        assert faint.sum() == 6 and faint[weakest] and not faint[12 - weakest]
        assert find(".stage").size["height"] <= 0.7 * 900 + 1  # controls stay in sight
        find("input[name=frame]").send_keys("\ue014")


@pytest.mark.parametrize("width", [390, 360])
@pytest.mark.parametrize("name", ["personal", "tables"])
def test_on_a_phone_only_wide_tables_scroll_sideways(browser, written, name, width):
    find = opened(browser, written, name, width=width)
    widths = "return [innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert browser.execute_script(widths) == [width] * 3
    assert int(find("body").value_of_css_property("font-size").removesuffix("px")) >= 16
    inner = """return [...document.querySelectorAll("body *")].filter((each) =>
      each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 1
      && getComputedStyle(each).overflowX !== "visible").map((each) => each.className)"""
    scrolling = browser.execute_script(inner)
    assert set(scrolling) == ({"scroll"} if name == "tables" else set())
    texts = browser.find_elements("css selector", ".plot > svg text")
    places = "return arguments[0].map((text) => text.getBoundingClientRect())"
    for place in browser.execute_script(places, texts):
        assert place["left"] >= 0 and place["right"] <= width and place["height"] >= 11


def test_on_a_phone_a_row_of_quality_says_what_each_number_is(browser, written):
    find = opened(browser, written, width=390)
    cell = find(".stack tbody td:nth-child(2)")
    script = "return getComputedStyle(arguments[0], '::before').content"
    assert browser.execute_script(script, cell) == '"verdict"' and cell.text == "worse"
    header = find(".stack thead th")
    assert header.get_attribute("role") == "columnheader"  # for screen readers it stays a table


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, written, scheme):
    find = opened(browser, written, scheme=scheme)

    def luminance(element, name):
        rgb = re.findall(r"[\d.]+", element.value_of_css_property(name))[:3]
        linear = ((np.array(rgb, float) / 255 + 0.055) / 1.055) ** 2.4
        return float(linear @ (0.2126, 0.7152, 0.0722))

    paper = luminance(find("body"), "background-color")
    assert (paper > 0.5) == (scheme == "light")
    for css, least in (("body", 10), ("figcaption", 4.5), (".plot text", 4.5), ("header p", 4.5)):
        ink = luminance(find(css), "fill" if "text" in css else "color")
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > least, css


def test_signs_that_a_skeleton_does_not_have_are_left_out():
    """A project without limbs and mirror pairs has no limb lengths, and no sides to exchange."""
    rng = np.random.default_rng(0)
    poses = {when: rng.uniform(0, 50, (6, 3, 2)) for when in ("before", "after")}
    outcome = types.SimpleNamespace(diagnostics={})
    plain = skeletons.build("mouse", ["nose", "paw1", "paw2"])
    (row,) = personal_report.quality(outcome, poses, plain)
    assert row[0] == "jitter" and row[3] == "pose diagonals"
    limbs = [("nose", "left_paw")]
    sided = skeletons.build("mouse", ["nose", "left_paw", "right_paw"], limbs=limbs)
    rows = personal_report.quality(outcome, poses, sided)
    assert [row[0] for row in rows] == ["jitter", "limb length spread", "left and right exchanged"]
    assert rows[0][3] == "limb lengths"
