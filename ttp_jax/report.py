"""Reports: one HTML file with its pictures, plots and interaction inside.

A report opens offline, on a computer or a phone, in light or dark, and asks no server for anything:
its own content policy forbids it. `page` takes sections, `section` takes the pieces that the other
functions return. All text given is escaped; only pieces and sections are taken as HTML.
"""

import base64
import hashlib
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from ttp_jax.files import write_atomically

HERE = pathlib.Path(__file__).parent
MOST_POINTS = 2000  # of one drawn line; more than a screen has columns
CHANGED = 0.01  # of the longer side of a picture: a joint that moved less counts as unchanged
JPEG_QUALITY = 80
COLORS = 6  # of lines; --c0 to --c5 in report.css
NUMBER = re.compile(  # -0.06, 48 %, 2.5 +- 1.2, 1e-4, -3.07 (-71%)
    r"""[-+\u2212]? [\d.,]+ (e[-+]?\d+)? (\s*%)?
    (\s* (±|\+-|\+/-) \s* [\d.,]+ (\s*%)?)? (\s* \([^()]*\))?""",
    re.VERBOSE | re.IGNORECASE,
)
DASH = "\u2013"
SHOWN = {"before": "before", "after": "after", "only": "joints only where changed"}
VIEWER_HINT = (
    f"Changed: moved by more than {CHANGED:.0%} of the picture's longer side. "
    "The arrow keys step from frame to frame."
)
BETTER = {"lower": -1, "higher": 1, "": 0}
VERDICTS = {1: "better", 0: "same", -1: "worse"}
NOT_ACCURACY = (
    "None of these numbers is accuracy. They need no labels and know nothing of the true pose: "
    "a steadier or smoother pose can still be a wrong one."
)


# --- The document --------------------------------------------------------------------------------


def page(title: str, sections: Sequence[str], *, subtitle: str = "") -> str:
    """Return a whole HTML document of sections; `save` writes it."""
    style, script = ((HERE / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    # The hash lets this script run and no other, so that a name can never become one.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    below = f"<p>{escape(subtitle)}</p>" if subtitle else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{below}</header>
<main>
{"".join(sections)}</main>
<script>{script}</script>
</body>
</html>
"""


def section(heading: str, *body: str) -> str:
    """Return a section of pieces of HTML, which other functions here return."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{''.join(body)}</section>\n"


def paragraph(text: str) -> str:
    """Return plain text as a paragraph."""
    return f"<p>{escape(text)}</p>\n"


def save(path, html: str) -> None:
    """Write a page; a crash leaves what was at `path`. Makes missing folders."""
    # A file name that is not valid text must not cost the report.
    data = html.encode("utf-8", "replace")
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


# --- Tables --------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """Return a table that scrolls sideways by itself where it is wider than the screen.

    Floats have four significant digits; give text for another form. None and NaN are a dash.
    Columns of numbers, also as text like "50.8 +- 2.0", are right aligned.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"got a row of {len(row)} cells, expected {len(header)}, as the header has: {row}."
            )
    texts = [[_text(cell) for cell in row] for row in rows]
    columns = zip(*texts, strict=True) if texts else [[DASH]] * len(header)
    numeric = [all(map(_is_number, column)) for column in columns]
    body = "\n".join(_row("td", cells, numeric) for cells in texts)
    above = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure>{above}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(caption or "table")}"><table>\n'
        f"<thead>{_row('th', header, numeric)}</thead>\n<tbody>\n{body}\n</tbody>"
        "</table></div></figure>\n"
    )


def _row(tag, texts, numeric) -> str:
    cells = zip(texts, numeric, strict=True)
    marks = (f"<{tag}{' class=number' * right}>{escape(text)}</{tag}>" for text, right in cells)
    return f"<tr>{''.join(marks)}</tr>"


def _text(value) -> str:
    """Return a cell's text."""
    if hasattr(value, "item") and np.ndim(value) == 0:  # a number of numpy or jax
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if 9999.5 <= abs(value) < math.inf else f"{value:.4g}"
    return str(value)


def _is_number(text: str) -> bool:
    return text in ("", "-", DASH) or bool(NUMBER.fullmatch(text.strip()))


# --- Pictures and plots --------------------------------------------------------------------------


def picture(image_or_path, alt: str, caption: str = "") -> str:
    """Return a picture, embedded: uint8 RGB [H, W, 3] (as PNG), or a PNG, JPEG or SVG file."""
    if isinstance(image_or_path, str | os.PathLike):
        data = pathlib.Path(image_or_path).read_bytes()
        source, size = _data_uri(data, _kind(data, image_or_path)), ""
    else:
        image = _checked(image_or_path)
        source, size = _encoded(image, "PNG", optimize=True), _size(image)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt)}"{size}>{below}</figure>\n'


def _kind(data: bytes, path) -> str:
    """Return the media type of a picture file's content; its name may say another."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if b"<svg" in data[:4096]:
        return "image/svg+xml"
    raise ValueError(f"{path}: got another kind of file, expected PNG, JPEG or SVG; convert it.")


def _checked(image) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"got a picture {image.shape} of {image.dtype}, expected uint8 RGB [H, W, 3]."
        )
    return image


def _encoded(image, form: str, **options) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return _data_uri(buffer.getvalue(), f"image/{form.lower()}")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _size(image) -> str:
    """Return attributes that keep the picture's place until it is decoded."""
    return f' width="{image.shape[1]}" height="{image.shape[0]}"'


def line_plot(
    series: Mapping[str, tuple],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    bands: Mapping[str, tuple] | None = None,
) -> str:
    """Return lines as SVG that fits its place, its text as large on a phone as elsewhere.

    Args:
      series: name -> (x [n], y [n]), x ascending. NaN interrupts a line. Of a line of more than
        2,000 points the least and the most of each of 1,000 stretches are drawn.
      x_label: and y_label: below and above the axes.
      title: above the plot.
      bands: name in `series` -> (low [n], high [n]) at the same x, shaded in the line's colour.
    """
    lines = {name: _arrays(name, x, y) for name, (x, y) in series.items()}
    areas = {name: _arrays(name, series[name][0], *edges) for name, edges in (bands or {}).items()}
    limits_x, ticks_x = _axis([x for x, _ in lines.values()])
    limits_y, ticks_y = _axis([y for _, *ys in (*lines.values(), *areas.values()) for y in ys])
    grid, paths, legend = [], [], []
    for tick, y in zip(ticks_y, 100 - 100 * _share(ticks_y, limits_y), strict=True):
        grid.append(
            f'<line class="grid" x2="100%" y1="{y:.2f}%" y2="{y:.2f}%"/>'
            f'<text x="-8" y="{y:.2f}%" dy="0.35em" text-anchor="end">{_text(tick)}</text>'
        )
    for tick, x in zip(ticks_x, 100 * _share(ticks_x, limits_x), strict=True):
        place = f'x="{x:.2f}%" y="100%" dy="1.6em" text-anchor="middle"'
        grid.append(f"<text {place}>{_text(tick)}</text>")
    for i, (name, line) in enumerate(lines.items()):
        color, dashed = f'style="--c:var(--c{i % COLORS})"', " dashed" * (i >= COLORS)
        if name in areas:
            x, low, high = _on_plot(areas[name], limits_x, limits_y)
            paths.append(f'<path class="band" {color} d="{_band(x, low, high)}"/>')
        x, y = _on_plot(line, limits_x, limits_y)
        runs = _runs(x, y)
        whole = "".join(f"M{_points(x[run], y[run])}" for run in runs if len(run) > 1)
        alone = "".join(f"M{_points(x[run], y[run])}h0" for run in runs if len(run) == 1)
        paths.append(f'<path class="line{dashed}" {color} d="{whole}"/>')
        paths.append(f'<path class="dot" {color} d="{alone}"/>')
        legend.append(f'<li><span class="swatch{dashed}" {color}></span>{escape(name)}</li>')
    above = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    names = f'<ul class="legend">{"".join(legend)}</ul>' if len(lines) > 1 else ""
    margin = max(len(_text(tick)) for tick in ticks_y)
    return f"""<figure class="plot">{above}{names}
<div style="padding-left:{margin + 1}ch"><svg role="img">
<title>{escape(title or f"{y_label} over {x_label}")}</title>
<text dx="-{margin}ch" y="-1em">{escape(y_label)}</text>
<text x="100%" y="100%" dy="3.2em" text-anchor="end">{escape(x_label)}</text>
{"".join(grid)}
<svg viewBox="0 0 1000 1000" preserveAspectRatio="none"
 width="100%" height="100%" overflow="visible">
{"".join(paths)}</svg></svg></div></figure>
"""


def heat_map(
    values, rows: Sequence[str], columns: Sequence[str], *, row_label: str, column_label: str, title
) -> str:
    """Return a table whose cells are coloured by their numbers: green above 0, orange below.

    Args:
      values: [rows, columns]; NaN is shown as missing.
      rows: and columns: their names.
      row_label: and column_label: what they are names of.
      title: above the map.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"got values {values.shape}, expected {(len(rows), len(columns))}.")
    known = np.abs(values[np.isfinite(values)])
    most = known.max() if known.any() else 1.0

    def cell(value):
        if np.isnan(value):
            return "<td>missing</td>"
        color = "27, 158, 119" if value > 0 else "217, 95, 2"
        share = 0.6 * abs(value) / most  # text stays readable on it
        return f'<td style="background: rgba({color}, {share:.2f})">{value:+.2f}</td>'

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(map(cell, line))}</tr>"
        for name, line in zip(rows, values, strict=True)
    )
    corner = f"{escape(row_label)} \u2193 {escape(column_label)} \u2192"
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="scroll"><table>'
        f"<tr><th>{corner}</th>{head}</tr>{body}</table></div></figure>"
    )


def _arrays(name, x, *values) -> list[np.ndarray]:
    """Return x and values as float64 [n], thinned where no screen could show them all."""
    x, *values = (np.asarray(each, np.float64) for each in (x, *values))
    if any(value.shape != x.shape or x.ndim != 1 for value in values):
        shapes = ", ".join(str(value.shape) for value in values)
        raise ValueError(f"line {name!r}: got x {x.shape} and y {shapes}, expected [n] for all.")
    if len(x) <= MOST_POINTS:
        return [x, *values]
    starts = np.linspace(0, len(x), MOST_POINTS // 2, endpoint=False).astype(int)
    extremes = (np.fmin, np.fmax)
    thin = [np.stack([f.reduceat(v, starts) for f in extremes], 1).ravel() for v in values]
    return [np.repeat(x[starts], 2), *thin]


def _axis(arrays) -> tuple[tuple[float, float], list[float]]:
    """Return the limits of all finite values, and two to seven round numbers between them."""
    values = np.concatenate([*arrays, []])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    elif 0 < low < high / 2:  # 0 is not far
        low = 0.0
    rough = 0.8 * (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return (low, high), [i * step for i in range(first, last + 1)]


def _share(values, limits) -> np.ndarray:
    """Return where values lie between limits, 0 to 1."""
    return (np.asarray(values) - limits[0]) / (limits[1] - limits[0])


def _on_plot(arrays, limits_x, limits_y) -> list[np.ndarray]:
    """Return x and ys in thousandths of the plot, y down."""
    x, *ys = arrays
    return [1000 * _share(x, limits_x), *(1000 - 1000 * _share(y, limits_y) for y in ys)]


def _band(x, low, high) -> str:
    runs = _runs(x, low, high)
    there_and_back = ((_points(x[r], low[r]), _points(x[r][::-1], high[r][::-1])) for r in runs)
    return "".join(f"M{there}L{back}Z" for there, back in there_and_back)


def _runs(*arrays) -> list[np.ndarray]:
    """Return the indices of each stretch where all arrays are finite."""
    finite = np.flatnonzero(np.isfinite(arrays).all(0))
    return [run for run in np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1) if len(run)]


def _points(x, y) -> str:
    return "L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


# --- Before and after ----------------------------------------------------------------------------


def before_after(
    pictures: Sequence[np.ndarray], before, after, skeleton, *, likelihood=None, frames=None
) -> str:
    """Return a viewer of poses over pictures: slider, arrow keys, play, and what to show.

    Args:
      pictures: n of uint8 RGB [H, W, 3], embedded as JPEG. Shrink them and take a
        choice of a long video: 60 of 400 x 400 pixels make a file of a few MB.
      before: joints [n, K, 2] in pixels of these pictures; NaN: not drawn.
      after: as `before`.
      skeleton: of the joints.
      likelihood: [n, K], 0 to 1, of the joints after; less likely ones are drawn fainter.
      frames: [n] numbers or names to show; 0 to n - 1 if None.
    """
    count = len(pictures)
    if not count:
        raise ValueError("got no pictures, expected at least one.")
    shape = (count, skeleton.size, 2)
    before, after = (np.asarray(each, np.float64) for each in (before, after))
    frames = list(range(count)) if frames is None else np.asarray(frames).tolist()
    expected = {"before": (before, shape), "after": (after, shape), "frames": (frames, shape[:1])}
    if likelihood is not None:
        likelihood = np.nan_to_num(np.clip(np.asarray(likelihood, np.float64), 0, 1))
        expected["likelihood"] = (likelihood, shape[:2])
    for name, (values, wanted) in expected.items():
        if np.shape(values) != wanted:
            raise ValueError(
                f"got {name} {np.shape(values)}, expected {wanted} for {count} pictures and "
                f"{skeleton.name}."
            )
    pictures = [_checked(image) for image in pictures]
    data = {
        "frames": frames,
        "sizes": [image.shape[1::-1] for image in pictures],
        "limbs": skeleton.limbs,
        "changed": CHANGED,
        "before": _points_or_none(before),
        "after": _points_or_none(after),
        "likelihood": None if likelihood is None else likelihood.round(3).tolist(),
    }
    images = "\n".join(
        f'<img src="{_encoded(image, "JPEG", quality=JPEG_QUALITY)}"{_size(image)} '
        f'alt="frame {escape(str(frame))}"{" hidden" * (i > 0)}>'
        for i, (image, frame) in enumerate(zip(pictures, frames, strict=True))
    )
    layers = "".join(_layer(pose, skeleton) for pose in ("before", "after"))
    boxes = "".join(
        f'<label class="{name}"><input type="checkbox" name="{name}"'
        f"{' checked' * (name != 'only')}><span>{text}</span></label>"
        for name, text in SHOWN.items()
    )
    height, width = pictures[0].shape[:2]
    return f"""<figure class="viewer">
<div class="stage" style="--ratio:{width / height:.4f}">
{images}
<svg viewBox="-0.5 -0.5 {width} {height}" aria-hidden="true">
{layers}</svg></div>
<div class="controls"><button type="button">Play</button>
<input type="range" min="0" max="{count - 1}" value="0" aria-label="frame">
<output></output></div>
<div class="controls">{boxes}</div>
<p class="muted">{VIEWER_HINT}</p>
<script type="application/json">{_json(data)}</script></figure>
"""


def _layer(pose, skeleton) -> str:
    """Return the empty paths of one pose, which the script fills; a joint's name shows on hover."""
    joints = "\n".join(
        f'<path class="joint"><title>{escape(_spoken(joint))}, {pose}</title></path>'
        for joint in skeleton.joints
    )
    return f"""<g class="{pose}">
<path class="rim limbs"/><path class="rim joints"/><path class="limbs"/>
{joints}</g>"""


def _points_or_none(joints) -> list:
    """Return joints [n, K, 2] as lists to hundredths; None for one that isn't finite."""
    rounded = np.round(joints, 2).tolist()
    return [[point if np.isfinite(point).all() else None for point in pose] for pose in rounded]


def _spoken(joint: str) -> str:
    return joint.replace("_", " ")


def _json(data) -> str:
    """Return JSON that can stand inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


# --- One subject ---------------------------------------------------------------------------------


def personal(
    path,
    *,
    name,
    pictures,
    frames,
    numbers,
    before,
    after,
    all_before,
    all_after,
    skeleton,
    quality,
    settings,
    cost,
    scores=((), ()),
    notes=(),
) -> None:
    """Write the report of one subject's personalization. Makes missing folders.

    Args:
      path: of the HTML file; a crash leaves what was there.
      name: of the subject.
      pictures: n pictures to look at, as `before_after` takes them; so are `before` and `after`.
      frames: [n] which of the T frames the pictures are, from 0.
      numbers: [T] what each frame is called: its number in the video.
      before: joints [n, K, 2] in pixels of the pictures.
      after: as `before`.
      all_before: joints [T, K, 2] of every frame, in pixels of the original pictures.
      all_after: as `all_before`.
      skeleton: of the joints.
      quality: rows (name, before, after, unit, better, explanation) of measures without labels;
        `better` is "lower", "higher" or "" where neither is; a value not known is NaN.
      scores: rows like those of `quality`, against labels, and sentences about them.
      settings: name -> value.
      cost: name -> value, such as seconds per frame, updates, memory.
      notes: sentences to read first, such as which frames could not be read.
    """
    moved, numbers = _movement(all_before, all_after, skeleton), np.asarray(numbers)
    said = "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes)
    scored, said_of_scores = scores
    warning = f'<p class="note">{NOT_ACCURACY}</p>'
    viewer = before_after(pictures, before, after, skeleton, frames=numbers[np.asarray(frames)])
    shown = paragraph(f"{len(pictures)} of {len(moved)} frames, evenly spread, cut to the person.")
    sections = [
        said,
        section("Before and after", shown, viewer),
        section("Where and when the pose changed", *_changes(moved, numbers, skeleton)),
        section("Against the labels", *map(paragraph, said_of_scores), *_compared(scored))
        if scored
        else "",
        section("Quality without labels", warning, *_compared(quality)),
        section("Settings", table(["setting", "value"], list(settings.items()))),
        section("Cost", table(["cost", "value"], list(cost.items()))),
    ]
    subtitle = (
        f"Pose of one person in {len(moved)} frames, before and after test-time personalization"
    )
    save(path, page(str(name), sections, subtitle=subtitle))


def _movement(before, after, skeleton) -> np.ndarray:
    """Return how far each joint lies from where it was, [T, K]."""
    before, after = (np.asarray(each, np.float64) for each in (before, after))
    if before.shape != after.shape or before.shape[1:] != (skeleton.size, 2):
        raise ValueError(
            f"got all_before {before.shape} and all_after {after.shape}, expected both "
            f"[T, {skeleton.size}, 2] for {skeleton.name}."
        )
    return np.linalg.norm(after - before, axis=-1)


def _changes(moved, numbers, skeleton) -> list[str]:
    """Return what to say and draw of movement [T, K] in frames of these numbers."""
    if not (moved > 0).any():
        return [paragraph("No joint moved in any frame where it is known before and after.")]
    over_joints, over_frames = _mean(moved, 1), _mean(moved, 0)
    joint, frame = np.nanargmax(over_frames), np.nanargmax(over_joints)
    summary = (
        f"Adaptation moved the joints by {_mean(moved, None):.2f} px on average: the "
        f"{_spoken(skeleton.joints[joint])} most ({over_frames[joint]:.2f} px), and most of all in "
        f"frame {numbers[frame]} ({over_joints[frame]:.2f} px). This says where and when the pose "
        "changed, not whether it got better."
    )
    plot = line_plot(
        {"mean of the joints": (numbers, over_joints)},
        bands={"mean of the joints": (np.fmin.reduce(moved, 1), np.fmax.reduce(moved, 1))},
        x_label="frame",
        y_label="movement (px)",
        title="Movement in each frame: mean of the joints; shaded from the least to the most moved",
    )
    return [paragraph(summary), plot, _bars(skeleton.joints, over_frames)]


def _mean(values, axis) -> np.ndarray:
    """Return the mean of what is finite, NaN of nothing."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis), known.sum(axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _bars(names, values) -> str:
    """Return movement by joint, a bar each."""
    longest = max(float(np.nanmax(values)), np.finfo(float).tiny)
    rows = "\n".join(
        f"<tr><th>{escape(_spoken(name))}</th>"
        f'<td><span style="width:{100 * value / longest:.1f}%"></span></td>'
        f'<td class="number">{value:.2f}</td></tr>'
        for name, value in zip(names, np.nan_to_num(values), strict=True)
    )
    caption = "<figcaption>Movement of each joint, mean of the frames (px)</figcaption>"
    return f'<figure>{caption}<table class="bars"><tbody>\n{rows}\n</tbody></table></figure>\n'


def _compared(rows) -> list[str]:
    """Return a table of measures before and after, and what each of them means."""
    cells, meanings = [], []
    for name, before, after, unit, better, explanation in rows:
        if better not in BETTER:
            raise ValueError(f"{name}: got better={better!r}, expected one of {list(BETTER)}.")
        before, after = float(before), float(after)
        change, verdict = after - before, DASH
        if BETTER[better] and math.isfinite(change):
            verdict = VERDICTS[int(np.sign(change * BETTER[better]))]
        share = f" ({change / abs(before):+.0%})" if before and math.isfinite(change) else ""
        shown = f"{change:+.3g}{share}" if math.isfinite(change) else DASH
        cells.append([f"{name} ({unit})" if unit else name, verdict, before, after, shown])
        aim = f" {better.capitalize()} is better." if better else ""
        meaning = explanation.rstrip(".") + "." + aim
        meanings.append(f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>")
    # The verdict stands second, so that a phone shows it without scrolling.
    header = ["measure", "by this", "before", "after", "change"]
    return [
        table(header, cells),
        f"<dl>{''.join(meanings)}</dl>\n",
    ]
