"""Plots: matplotlib's SVG inside the page, in the page's own colours and fonts.

Matplotlib is imported on use, without pyplot, so nothing outlives a call. The same data give the same
bytes.
"""

import io
import re
import threading
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from ttp_jax.report.page import text_of

MOST_POINTS = 2000  # of one drawn line; more than a screen has columns
COLORS = 6  # of lines; --c0 to --c5 in report.css
# Sizes in the unit of the SVG's view box, which is about a pixel on a phone and more elsewhere.
WIDTH, TEXT = 480, 15
TALL, LOW = 170, 105  # a panel alone, and one of several
LETTER = 9  # width of a digit
INKS = {  # the page's colours, by what stands for them while matplotlib draws
    name: f"#0000{number:02x}"
    for number, name in enumerate(
        [*(f"c{i}" for i in range(COLORS)), "before", "after", "muted", "rule"], 16
    )
}
DASHES = (0, (4, 2.5))
# Matplotlib's SVG writer takes these from its global settings only.
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "ttp_jax", "path.simplify": False}
_settings = threading.Lock()


class Line(NamedTuple):
    """One line of a plot: x and y [n], NaN where it is interrupted, and how it looks.

    `band` is (low [n], high [n]) to shade, `ink` a key of `INKS`.
    """

    x: np.ndarray
    y: np.ndarray
    ink: str
    dashed: bool = False
    band: tuple[np.ndarray, np.ndarray] | None = None


class Panel(NamedTuple):
    """One pair of axes: its label, its lines, the last of them on top.

    `down` lets values grow downwards, as y in a picture; `level` is a value to mark; `limits` are
    those of y, which otherwise follow from the lines.
    """

    label: str
    lines: Sequence[Line]
    down: bool = False
    level: float | None = None
    limits: tuple[float, float] | None = None


def line_plot(
    series: Mapping[str, tuple],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    bands: Mapping[str, tuple] | None = None,
) -> str:
    """Return lines as a figure that fits its place.

    Args:
      series: name -> (x [n], y [n]), x ascending. NaN interrupts a line. Of a line of more than
        2,000 points the least and the most of each of 1,000 stretches are drawn.
      x_label: below the axes.
      y_label: above the axes.
      title: above the plot.
      bands: name in `series` -> (low [n], high [n]) at the same x, shaded in the line's colour.

    Raises:
      ValueError: the arrays of a line differ in length.
    """
    bands, lines, legend = bands or {}, [], []
    for i, (name, (x, y)) in enumerate(series.items()):
        ink, dashed = f"c{i % COLORS}", i >= COLORS
        x, y, *band = thinned(name, x, y, *bands.get(name, ()))
        lines.append(Line(x, y, ink, dashed, tuple(band) or None))
        legend.append(key(name, f"--{ink}", dashed))
    above = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    names = f'<ul class="legend">{"".join(legend)}</ul>' if len(lines) > 1 else ""
    svg = draw([Panel(y_label, lines)], x_label, title or f"{y_label} over {x_label}")
    return f'<figure class="plot">{above}{names}{svg}</figure>\n'


def key(name: str, color: str, dashed: bool = False) -> str:
    """Return a line of a legend, of a colour that is a CSS variable."""
    swatch = f'<span class="swatch{" dashed" * dashed}" style="--c:var({color})"></span>'
    return f"<li>{swatch}{escape(name)}</li>"


def thinned(name: str, x, *values, most: int = MOST_POINTS) -> list[np.ndarray]:
    """Return x and values as float64 [n], n <= `most`: of each stretch the least and the most."""
    x, *values = (np.asarray(each, np.float64) for each in (x, *values))
    if any(value.shape != x.shape or x.ndim != 1 for value in values):
        shapes = ", ".join(str(value.shape) for value in values)
        raise ValueError(f"line {name!r}: got x {x.shape} and y {shapes}, expected [n] for all.")
    if len(x) <= most:
        return [x, *values]
    starts = np.linspace(0, len(x), most // 2, endpoint=False).astype(int)
    extremes = (np.fmin, np.fmax)
    thin = [np.stack([f.reduceat(v, starts) for f in extremes], 1).ravel() for v in values]
    return [np.repeat(x[starts], 2), *thin]


def draw(panels: Sequence[Panel], x_label: str, label: str) -> str:
    """Return panels one above the other as an `<svg>`; `label` is what screen readers say."""
    # Not pyplot: it keeps figures alive and picks a backend for the whole process.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    limits_x = limits_of([line.x for panel in panels for line in panel.lines])
    limits = [panel.limits or limits_of(_heights(panel), zero=True) for panel in panels]
    ticks = [_ticks(each, 5 if len(panels) == 1 else 3) for each in limits]
    left = LETTER * max(len(text_of(tick)) for each in ticks for tick in each) + LETTER
    tall = TALL if len(panels) == 1 else LOW
    height = len(panels) * (tall + 2 * TEXT) + 2.6 * TEXT
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    for i, (panel, of, marks) in enumerate(zip(panels, limits, ticks, strict=True)):
        bottom = height - (i + 1) * (tall + 2 * TEXT)
        place = (left, bottom, WIDTH - left - 1.5 * TEXT, tall)
        axes = figure.add_axes(tuple(np.divide(place, (WIDTH, height) * 2)))
        marks_x = _ticks(limits_x, 5) if i == len(panels) - 1 else []
        _dress(axes, panel, (limits_x, of), (marks_x, marks))
        for line in panel.lines:
            _trace(axes, line)
    below = {"fontsize": TEXT, "color": INKS["muted"], "parse_math": False}
    figure.text(1 - 1.5 * TEXT / WIDTH, 0.4 * TEXT / height, x_label, ha="right", **below)
    file = io.StringIO()
    with _settings, rc_context(SETTINGS):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _embedded(file.getvalue(), label)


def _heights(panel: Panel) -> list[np.ndarray]:
    """Return all values of a panel."""
    edges = [edge for line in panel.lines for edge in line.band or ()]
    return [*(line.y for line in panel.lines), *edges]


def limits_of(arrays, *, zero: bool = False) -> tuple[float, float]:
    """Return the least and the most of all finite values; with `zero` 0 as well, if it isn't far."""
    values = np.concatenate([*arrays, []])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low == high:
        return (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    return (0.0 if zero and 0 < low < high / 2 else low), high


def _ticks(limits, count: int) -> list[float]:
    """Return up to `count` + 1 round numbers between limits, two at least."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(count, steps=[1, 2, 5, 10]).tick_values(*limits)
    low, high = limits
    slack = 1e-6 * (high - low)
    inside = ticks[(ticks >= low - slack) & (ticks <= high + slack)].tolist()
    return inside if len(inside) > 1 else list(limits)


def _dress(axes, panel: Panel, limits, ticks) -> None:
    """Set limits, ticks, grid and label of a pair of axes."""
    limits_x, (low, high) = limits
    axes.set(xlim=limits_x, ylim=(high, low) if panel.down else (low, high))
    axes.set_axis_off()
    text = {"fontsize": TEXT, "color": INKS["muted"], "parse_math": False}
    for tick in ticks[1]:
        axes.axhline(tick, color=INKS["rule"], lw=1, gid="grid")
        place = {
            "xytext": (-0.5 * LETTER, 0),
            "textcoords": "offset points",
            "va": "center_baseline",
        }
        at = axes.get_yaxis_transform()
        axes.annotate(text_of(tick), (0, tick), xycoords=at, ha="right", **place, **text)
    for tick in ticks[0]:
        place = {"xytext": (0, -1.3 * TEXT), "textcoords": "offset points", "ha": "center"}
        axes.annotate(
            text_of(tick), (tick, 0), xycoords=axes.get_xaxis_transform(), **place, **text
        )
    if panel.level is not None:
        axes.axhline(panel.level, color=INKS["muted"], lw=1, ls=(0, (1, 2)), gid="level")
    axes.annotate(panel.label, (0, 1), xycoords="axes fraction", xytext=(0, 0.5 * TEXT),
                  textcoords="offset points", **text)  # fmt: skip


def _trace(axes, line: Line) -> None:
    """Draw a line, its band, and a dot for each point that has no neighbour."""
    color = INKS[line.ink]
    if line.band:
        low, high = line.band
        known = np.flatnonzero(np.isfinite([line.x, low, high]).all(0))
        for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
            edges = np.r_[line.x[run], line.x[run[::-1]]], np.r_[low[run], high[run[::-1]]]
            axes.fill(*edges, color=color, alpha=0.2, lw=0, gid="band")
    look = {"color": color, "solid_capstyle": "round", "dash_capstyle": "butt"}
    style = DASHES if line.dashed else "-"
    axes.plot(line.x, line.y, lw=2, ls=style, gid="line", **look)
    known = np.isfinite(line.y)
    alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
    if alone.any():  # as lines of no length with round ends
        x, y = (np.repeat(values[alone], 3) for values in (line.x, line.y))
        y[2::3] = np.nan
        axes.plot(x, y, lw=5, gid="dot", **look)


def _embedded(svg: str, label: str) -> str:
    """Return matplotlib's SVG as an element of a page.

    Its fonts give way to the page's, its colours to CSS variables, and its identifiers, which must
    not occur twice in a page, to classes. Coordinates keep a tenth of a pixel.
    """
    start, body = svg[svg.index("<svg") :].split(">", 1)
    body = re.sub(r"<(defs|metadata)>.*?</\1>", "", body, flags=re.DOTALL)
    # Inside of tags only: a label may hold any text.
    body = re.sub(r"<[^>]+>", lambda tag: _adopted(tag[0]), body)
    size = re.search(r'viewBox="[^"]*"', start)
    assert size
    return f'<svg role="img" aria-label="{escape(label)}" {size[0]}>{body.strip()}\n'


def _adopted(tag: str) -> str:
    """Return a tag of matplotlib's as the page has it."""
    tag = re.sub(r'(?<=<g) id="(grid|line|band|dot|level)"', r' class="\1"', tag)
    tag = re.sub(r' (id|clip-path|transform)="[^"]*"', "", tag)
    tag = re.sub(r"font-(size|family): [^;\"]*; ", "", tag)
    if tag.startswith("<path"):
        tag = re.sub(r"(\.\d)\d+", r"\1", tag)
    tag = re.sub(r"\s+(?=[LMz\"])|(?<=[LM])\s+", "", tag)
    for name, color in INKS.items():
        tag = tag.replace(f": {color}", f": var(--{name})")
    return tag


def heat_map(
    values, rows: Sequence[str], columns: Sequence[str], *, row_label: str, column_label: str, title
) -> str:
    """Return a table whose cells are coloured by their numbers: blue above 0, orange below.

    Args:
      values: [rows, columns]; NaN is shown as missing.
      rows: their names.
      columns: their names.
      row_label: what rows are.
      column_label: what columns are.
      title: above the map.

    Raises:
      ValueError: `values` doesn't have a number for each row and column.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"got values {values.shape}, expected {(len(rows), len(columns))}.")
    known = np.abs(values[np.isfinite(values)])
    most = known.max() if known.any() else 1.0

    def cell(value):
        if np.isnan(value):
            return "<td>missing</td>"
        color = "0, 114, 178" if value > 0 else "230, 159, 0"
        share = 0.6 * abs(value) / most  # text stays readable on it
        return f'<td style="background: rgba({color}, {share:.2f})">{value:+.2f}</td>'

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(map(cell, line))}</tr>"
        for name, line in zip(rows, values, strict=True)
    )
    corner = f"{escape(row_label)} \u2193 {escape(column_label)} \u2192"
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="scroll" tabindex="0" '
        f'role="region" aria-label="{escape(title)}"><table>'
        f"<tr><th>{corner}</th>{head}</tr>{body}</table></div></figure>"
    )
