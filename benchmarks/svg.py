"""Plots for the docs as SVG files; the same numbers give the same bytes."""

import pathlib
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

LOOK: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "0"}


def save(path: pathlib.Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    """Write a plot.

    Args:
      path: path of the file.
      size: width and height in inches.
      draw: function that draws on the axes.
    """
    with rc_context(LOOK):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    print(path)
