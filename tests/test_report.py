"""Reports: what the file holds, and what a browser makes of it."""

import base64
import dataclasses
import html.parser
import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from ttp_jax import report
from ttp_jax.skeletons import PENN13

HOSTILE = """</script><script>window.hacked=1</script><img src=x onerror="hacked=1">'&amp;"""
VOID = {"meta", "link", "img", "input"}
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
        assert labels <= {HOSTILE, f"frame {HOSTILE}", "frame"}, name
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
    cells = re.findall(r"<(t[hd])( class=number)?>(.*?)</t", text)
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
    assert re.findall("<td>(.*?)</td>", text) == ["(1, (2, 3))", "[0. 0.]", "yes", "inf"]


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
    """Return the subpaths [n, 2] of the paths of one class, in thousandths of the plot, y up."""
    found = []
    for path in Reader(text).all("path"):
        if kind in path["class"].split():
            for run in path["d"].split("M")[1:]:
                points = re.findall(r"([-\d.]+),([-\d.]+)", run)
                found.append(np.array(points, float) * (1, -1) + (0, 1000))
    return found


def test_a_line_goes_through_its_points_and_stops_at_nan():
    y = [0, 5, np.nan, 10, np.nan, 2.5, 2.5]
    text = report.line_plot({"a": (range(7), y)}, x_label="frame", y_label="px", title="Title")
    first, second = drawn(text, "line")
    np.testing.assert_allclose(first, [[0, 0], [1000 / 6, 500]], atol=0.1)
    np.testing.assert_allclose(second, [[5000 / 6, 250], [1000, 250]], atol=0.1)
    np.testing.assert_allclose(drawn(text, "dot"), [[[500, 1000]]], atol=0.1)
    assert "<title>Title</title>" in text and 'role="img"' in text
    ticks = dict(re.findall(r'<text x="-8" y="([\d.]+)%".*?>(.*?)</text>', text))
    assert ticks == {
        "100.00": "0",
        "80.00": "2",
        "60.00": "4",
        "40.00": "6",
        "20.00": "8",
        "0.00": "10",
    }


def test_a_band_surrounds_its_line():
    x, y = np.arange(4), np.array([4.0, 5, 6, 5])
    bands = {"a": (y - 1, y + 2)}
    text = report.line_plot({"a": (x, y)}, bands=bands, x_label="x", y_label="y")
    (line,), (band,) = drawn(text, "line"), drawn(text, "band")
    unit = (band[4:, 1][::-1] - band[:4, 1]) / 3
    np.testing.assert_allclose(unit, unit[0], atol=0.1)
    np.testing.assert_allclose(line[:, 1] - band[:4, 1], unit, atol=0.2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("y", [[], [3.0], [0.0, 0.0], [np.nan] * 3, [1e9, 1e9 + 1], [-1e-6, 2e-6]])
def test_plots_of_little_or_nothing_are_plots(y):
    text = report.line_plot({"a": (np.arange(len(y)), y)}, x_label="x", y_label="y")
    assert "nan" not in text and "inf" not in text
    for path in drawn(text, "line"):
        assert path.min() >= 0 and path.max() <= 1000


def test_long_lines_are_thinned_and_keep_their_peaks():
    y = np.zeros(100_000)
    y[[31_415, 77_777]] = 1, -1
    text = report.line_plot({"a": (np.arange(100_000), y)}, x_label="x", y_label="y")
    (line,) = drawn(text, "line")
    assert len(text) < 100_000
    for share, value in ((0.31415, 1000), (0.77777, 0)):
        (at,) = line[np.isclose(line[:, 1], value), 0]
        assert abs(at - 1000 * share) < 2


def test_plots_name_the_line_that_does_not_fit():
    with pytest.raises(ValueError, match=r"line 'a': got x \(3,\) and y \(2,\)"):
        report.line_plot({"a": ([0, 1, 2], [0, 1])}, x_label="x", y_label="y")


def test_the_viewer_holds_pictures_and_poses_with_null_for_nan():
    before, after = np.stack([POSE, POSE]), np.stack([POSE, POSE + 0.123456])
    before[1, 5] = np.nan
    after[0, 2, 1] = np.inf
    image = np.linspace(0, 255, 60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)
    likelihood = np.full((2, 13), 0.5)
    likelihood[0, 0] = np.nan
    text = report.before_after(
        [image, GREY[:40]], before, after, PENN13, frames=np.array([3, 9]), likelihood=likelihood
    )
    data = embedded(text)
    assert data["frames"] == [3, 9] and data["sizes"] == [[80, 60], [80, 40]]
    assert data["before"][1][5] is None and data["after"][0][2] is None
    np.testing.assert_allclose(data["before"][0], POSE, atol=0.005)
    np.testing.assert_allclose(data["after"][1], after[1], atol=0.005)
    assert data["limbs"] == [list(limb) for limb in PENN13.limbs]
    assert data["likelihood"][0][:2] == [0, 0.5]
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
    with pytest.raises(ValueError, match=r"likelihood \(13,\), expected \(1, 13\)"):
        report.before_after([GREY], poses, poses, PENN13, likelihood=np.ones(13))


def test_a_personal_report_says_what_changed_and_that_it_is_not_accuracy(tmp_path):
    quality = [
        ("jitter", 4.0, 1.0, "px", "lower", "Unsteady."),
        ("agreement", 0.5, 0.4, "", "higher", "Alike."),
        ("swaps", 0, 0, "frames", "lower", "Left for right."),
        ("movement", 2.0, 3.0, "px", "", "Way."),
        ("unknown", np.nan, 3.0, "", "lower", "Not measured."),
    ]
    path = tmp_path / "new" / "report.html"
    notes = ["Frame 3 could not be read."]
    report.personal(path, **example(quality=quality, notes=notes))
    text = path.read_text("utf-8")
    reader = Reader(text)
    assert "None of these numbers is accuracy" in reader.text
    assert notes[0] in reader.text and "3 of 5 frames" in reader.text
    # 12 of 13 joints move by 1 px in four frames and by 10 px in frame 4.
    assert f"{12 / 13 * 14 / 5:.2f} px on average" in reader.text
    assert f"frame 108 ({10 * 12 / 13:.2f} px)" in reader.text
    assert [a["alt"] for a in reader.all("img")] == ["frame 100", "frame 104", "frame 108"]
    (line,) = drawn(text, "line")
    np.testing.assert_allclose(line[:, 1], [100 * 12 / 13] * 4 + [1000 * 12 / 13], atol=0.1)
    bars = re.findall(r'<th>(.*?)</th><td><span style="width:(.*?)%">.*?([\d.]+)</td>', text)
    assert [name for name, *_ in bars] == [joint.replace("_", " ") for joint in PENN13.joints]
    assert bars[STILL][1:] == ("0.0", "0.00") and bars[0][1:] == ("100.0", "2.80")
    rows = re.findall(r"<tr>(<td>.*?)</tr>", text)
    rows = [re.sub("<[^>]+>", "|", row).strip("|").split("||") for row in rows]
    dash = "–"  # noqa: RUF001
    assert rows[:5] == [
        ["jitter (px)", "better", "4", "1", "-3 (-75%)"],
        ["agreement", "worse", "0.5", "0.4", "-0.1 (-20%)"],
        ["swaps (frames)", "same", "0", "0", "+0"],
        ["movement (px)", dash, "2", "3", "+1 (+50%)"],
        ["unknown", dash, dash, "3", dash],
    ]
    assert rows[5:] == [["scenario", "online"], ["updates", "96"]]


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
    assert path.stat().st_size < 300_000
    assert "caf?.mp4" in path.read_text("utf-8")


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
        notes=[HOSTILE],
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
        pictures, [POSE, POSE], [POSE, POSE], PENN13, likelihood=likelihood
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
    return [...document.querySelectorAll(`.stage g.${arguments[0]} .joint`)].map((path) => {
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
    find("input[type=range]").send_keys(left, left)  # round the end
    assert_shows(browser, written[1], 2)
    find("body").send_keys(alt + right)  # the browser's own
    assert_shows(browser, written[1], 2)


def test_check_boxes_hide_a_pose_and_what_did_not_change(browser, written):
    find = opened(browser, written)

    def pixels():
        """Count red and green ones on the grey picture."""
        red, green, _ = np.split(screenshot(find(".stage")), 3, axis=-1)
        return [int((a - b > 80).sum()) for a, b in ((red, green), (green, red))]

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
    opacity = "return [...document.querySelectorAll('g.after .joint')].map((p) => +p.style.opacity)"
    for size, rising in (((80, 60), 1), ((60, 180), -1)):
        for pose in ("before", "after"):
            np.testing.assert_allclose(joints_on_screen(browser, pose, size), POSE, atol=0.05)
        steps = np.diff(browser.execute_script(opacity)) * rising
        assert (steps > 0.05).all()
        assert find(".stage").size["height"] <= 0.7 * 900 + 1  # controls stay in sight
        find("body").send_keys("\ue014")


@pytest.mark.parametrize("name", ["personal", "tables"])
def test_on_a_phone_only_tables_scroll_sideways(browser, written, name):
    find = opened(browser, written, name, width=360)
    widths = "return [innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert browser.execute_script(widths) == [360, 360, 360]
    assert int(find("body").value_of_css_property("font-size").removesuffix("px")) >= 16
    if name == "tables":
        box = find(".scroll")
        assert int(box.get_property("scrollWidth")) > int(box.get_property("clientWidth"))
        plot = screenshot(find(".plot > div"))
        assert np.ptp(plot[:, :40]) > 100  # labels left of the axis
        texts = browser.find_elements("css selector", ".plot text")
        places = "return arguments[0].map((text) => text.getBoundingClientRect())"
        for place in browser.execute_script(places, texts):
            assert place["left"] >= 0 and place["right"] <= 360 and place["height"] >= 11


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
