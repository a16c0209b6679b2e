"""Plots: matplotlib's SVG inside the page, in the page's own colours and fonts.

Matplotlib is imported on use, without pyplot, so no state outlives a call. The same data give the
same bytes.
"""

import io
import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax.report.page import text_of

MOST_POINTS = 1000  # largest number of points in a line, more than a plot has pixel columns
COLORS = 6  # colours for lines, --c0 to --c5 in report.css
# Sizes in units of the SVG's view box. A unit is about a pixel on a phone and larger elsewhere.
WIDTH, TEXT = 480, 15
TALL, LOW = 170, 105  # height of a single panel, and of each of several panels
LETTER = 9  # width of a digit
INKS = {  # CSS variables of the page, and placeholder colours while matplotlib draws
    name: f"#0000{number:02x}"
    for number, name in enumerate(
        [*(f"c{i}" for i in range(COLORS)), "before", "after", "muted", "rule"], 16
    )
}
DASHES = (0, (4, 2.5))
# Matplotlib reads these only from its global settings, so changing them needs a lock.
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "ttp_jax", "path.simplify": False}
_settings = threading.Lock()


class Line(NamedTuple):
    """A line of a plot: x and y [n], with NaN where it is interrupted, and its style.

    `band` is empty, or low [n] and high [n], between which to shade. `ink` is a key of `INKS`.
    """

    x: np.ndarray
    y: np.ndarray
    ink: str
    dashed: bool = False
    band: Sequence[np.ndarray] = ()


class Panel(NamedTuple):
    """A pair of axes with a label and lines, of which the last one is on top.

    With `down`, values grow downwards, like y in a picture. `level` is a value to mark. `limits`
    are the limits of y, by default those of the lines.
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
    """Return a line plot as a figure that fits the width of the page.

    Args:
      series: name -> (x [n], y [n]), with ascending x. NaN interrupts a line. A line of more than
        1,000 points is drawn as the means of 1,000 intervals, with their ranges shaded.
      x_label: text below the axes.
      y_label: text above the axes.
      title: text above the plot.
      bands: name in `series` -> (low [n], high [n]) at the same x, shaded in the line's colour.

    Raises:
      ValueError: the arrays of a line differ in length.
    """
    bands, lines, legend = bands or {}, [], []
    for i, (name, (x, y)) in enumerate(series.items()):
        ink, dashed = f"c{i % COLORS}", i >= COLORS
        lines.append(line(name, x, y, ink, dashed=dashed, band=bands.get(name, ())))
        legend.append(key(name, f"--{ink}", dashed))
    above = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    names = f'<ul class="legend">{"".join(legend)}</ul>' if len(lines) > 1 else ""
    svg = draw([Panel(y_label, lines)], x_label, title or f"{y_label} over {x_label}")
    return f'<figure class="plot">{above}{names}{svg}</figure>\n'


def key(name: str, color: str, dashed: bool = False) -> str:
    """Return an entry of a legend.

    Args:
      name: text beside the line.
      color: name of the CSS variable with the line's colour.
      dashed: whether the line is dashed.
    """
    swatch = f'<span class="swatch{" dashed" * dashed}" style="--c:var({color})"></span>'
    return f"<li>{swatch}{escape(name)}</li>"


def line(
    name: str,
    x: ArrayLike,
    y: ArrayLike,
    ink: str,
    *,
    dashed: bool = False,
    band: Sequence = (),
    most: int = MOST_POINTS,
) -> Line:
    """Return a line of at most `most` points, by averaging over intervals if it is longer.

    The range of values in each interval is shaded.

    Args:
      name: name of the line for error messages.
      x: [n], ascending.
      y: [n], NaN where the line is interrupted.
      ink: a key of `INKS`.
      dashed: whether the line is dashed.
      band: low [n] and high [n], between which to shade; empty for none.
      most: largest number of points.

    Raises:
      ValueError: the arrays differ in length.
    """
    x, y, *band = (np.asarray(each, np.float64) for each in (x, y, *band))
    if any(value.shape != x.shape or x.ndim != 1 for value in (y, *band)):
        shapes = ", ".join(str(value.shape) for value in (y, *band))
        raise ValueError(f"line {name!r}: got x {x.shape} and y {shapes}, expected [n] for all.")
    if len(x) <= most:
        return Line(x, y, ink, dashed, band)
    starts = np.linspace(0, len(x), most, endpoint=False).astype(int)
    low, high = band or (y, y)
    known = np.isfinite(y)
    count = np.add.reduceat(known, starts, dtype=int)
    mean = np.add.reduceat(np.where(known, y, 0), starts) / np.maximum(count, 1)
    edges = np.fmin.reduceat(low, starts), np.fmax.reduceat(high, starts)
    return Line(x[starts], np.where(count, mean, np.nan), ink, dashed, edges)


def draw(panels: Sequence[Panel], x_label: str, label: str) -> str:
    """Draw panels one above the other; return an `<svg>` element.

    Args:
      panels: at least one panel.
      x_label: text below the lowest panel.
      label: text for screen readers.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    # Matplotlib reads these settings when a line is created and when it is saved.
    with _settings, rc_context(SETTINGS):
        _figure(panels, x_label).savefig(file, format="svg", metadata={"Date": None})
    return _embedded(file.getvalue(), label)


def _figure(panels: Sequence[Panel], x_label: str):
    """Return a matplotlib figure with the panels one above the other."""
    # Without pyplot, which keeps figures alive and picks a backend for the whole process.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    across = [each.x for panel in panels for each in panel.lines]
    limits_x, whole = limits_of(across), all((x == np.round(x)).all() for x in across)
    limits = [panel.limits or limits_of(_heights(panel), zero=True) for panel in panels]
    ticks = [_ticks(each, 5 if len(panels) == 1 else 3) for each in limits]
    left = LETTER * (1 + max(len(text) for each in ticks for text in each.values()))
    tall = TALL if len(panels) == 1 else LOW
    height = len(panels) * (tall + 2 * TEXT) + 2.6 * TEXT
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    for i, (panel, of, marks) in enumerate(zip(panels, limits, ticks, strict=True)):
        bottom = height - (i + 1) * (tall + 2 * TEXT)
        place = (left, bottom, WIDTH - left - 1.5 * TEXT, tall)
        axes = figure.add_axes(tuple(np.divide(place, (WIDTH, height) * 2)))
        marks_x = _ticks(limits_x, 5, whole=whole) if i == len(panels) - 1 else {}
        _dress(axes, panel, (limits_x, of), (marks_x, marks))
        for each in panel.lines:
            _trace(axes, each)
    below = {"fontsize": TEXT, "color": INKS["muted"], "parse_math": False}
    figure.text(1 - 1.5 * TEXT / WIDTH, 0.4 * TEXT / height, x_label, ha="right", **below)
    return figure


def _heights(panel: Panel) -> list[np.ndarray]:
    """Return all values of a panel."""
    edges = [edge for each in panel.lines for edge in each.band]
    return [*(each.y for each in panel.lines), *edges]


def limits_of(arrays: Iterable[ArrayLike], *, zero: bool = False) -> tuple[float, float]:
    """Return the range of all finite values; `zero` extends it to 0 if 0 is near.

    Args:
      arrays: arrays of any shapes; NaN and infinity are ignored.
      zero: whether to include 0 if it is not far from the values.
    """
    values = np.concatenate([*arrays, []])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # equal up to rounding
        return (0.0, 1.0) if zero and not low else (low - 0.5, high + 0.5)
    return (0.0 if zero and 0 < low < high / 2 else low), high


def _ticks(limits, count: int, *, whole: bool = False) -> dict[float, str]:
    """Return up to `count` + 1 round (or `whole`) numbers between limits, with their texts."""
    from matplotlib.ticker import MaxNLocator

    low, high = limits
    slack = 1e-6 * (high - low)
    locator = MaxNLocator(count, steps=[1, 2, 5, 10], integer=whole)
    ticks = locator.tick_values(low, high)
    ticks = ticks[(ticks >= low - slack) & (ticks <= high + slack)] + 0.0  # + 0.0 turns -0 into 0
    if len(ticks) < 2:
        return {tick: text_of(tick) for tick in ticks.tolist()}
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    groups = "," if np.abs(ticks).max() >= 10_000 else ""
    return {tick: f"{tick:{groups}.{digits}f}" for tick in ticks.tolist()}


def _dress(axes, panel: Panel, limits, ticks) -> None:
    """Set limits, ticks, grid and label of a pair of axes."""
    limits_x, (low, high) = limits
    axes.set(xlim=limits_x, ylim=(high, low) if panel.down else (low, high))
    axes.set_axis_off()
    text = {"fontsize": TEXT, "color": INKS["muted"], "parse_math": False}
    for tick, shown in ticks[1].items():
        axes.axhline(tick, color=INKS["rule"], lw=1, gid="grid")
        place = {
            "xytext": (-0.5 * LETTER, 0),
            "textcoords": "offset points",
            "va": "center_baseline",
        }
        at = axes.get_yaxis_transform()
        axes.annotate(shown, (0, tick), xycoords=at, ha="right", **place, **text)
    for tick, shown in ticks[0].items():
        place = {"xytext": (0, -1.3 * TEXT), "textcoords": "offset points", "ha": "center"}
        axes.annotate(shown, (tick, 0), xycoords=axes.get_xaxis_transform(), **place, **text)
    if panel.level is not None:
        axes.axhline(panel.level, color=INKS["muted"], lw=1, ls=(0, (1, 2)), gid="level")
    axes.annotate(panel.label, (0, 1), xycoords="axes fraction", xytext=(0, 0.5 * TEXT),
                  textcoords="offset points", **text)  # fmt: skip


def _trace(axes, one: Line) -> None:
    """Draw a line, its band, and a dot for each point without neighbours."""
    color = INKS[one.ink]
    if one.band:
        low, high = one.band
        known = np.flatnonzero(np.isfinite([one.x, low, high]).all(0))
        for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
            edges = np.r_[one.x[run], one.x[run[::-1]]], np.r_[low[run], high[run[::-1]]]
            axes.fill(*edges, color=color, alpha=0.2, lw=0, gid="band")
    look = {"color": color, "solid_capstyle": "round", "dash_capstyle": "butt"}
    style = DASHES if one.dashed else "-"
    axes.plot(one.x, one.y, lw=2, ls=style, gid="line", **look)
    known = np.isfinite(one.y)
    alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
    if alone.any():  # draw lines of length 0, which have round ends, as dots
        x, y = (np.repeat(values[alone], 3) for values in (one.x, one.y))
        y[2::3] = np.nan
        axes.plot(x, y, lw=5, gid="dot", **look)


def _embedded(svg: str, label: str) -> str:
    """Return matplotlib's SVG as an element of a page.

    It uses the page's fonts. Colours become CSS variables. Identifiers become classes, because they
    must be unique in a page. Coordinates are cut to a tenth of a pixel.
    """
    start, body = svg[svg.index("<svg") :].split(">", 1)
    body = re.sub(r"<(defs|metadata)>.*?</\1>", "", body, flags=re.DOTALL)
    # Only tags are changed, because a label may contain any text.
    body = re.sub(r"<[^>]+>", lambda tag: _adopted(tag[0]), body)
    size = re.search(r'viewBox="[^"]*"', start)
    assert size
    return f'<svg role="img" aria-label="{escape(label)}" {size[0]}>{body.strip()}\n'


def _adopted(tag: str) -> str:
    """Convert a tag of matplotlib's SVG for the page."""
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
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_label: str,
    column_label: str,
    title: str,
) -> str:
    """Return a table whose cells are coloured by their numbers: blue above 0, orange below.

    Args:
      values: [rows, columns]; NaN is shown as missing.
      rows: names of the rows.
      columns: names of the columns.
      row_label: title of the row names.
      column_label: title of the column names.
      title: text above the map.

    Raises:
      ValueError: the shape of `values` isn't [rows, columns].
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
        share = 0.6 * abs(value) / most  # pale enough to keep text readable
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
