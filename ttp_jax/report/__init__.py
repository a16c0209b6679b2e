"""Reports: one HTML file with its pictures, plots and interaction inside.

A report opens offline, on a computer or a phone, in light or dark, and asks no server for anything:
its own content policy forbids it. `page` takes sections, `section` takes the pieces that the other
functions return. All text given is escaped, except that `text in backticks` is shown as code; only
pieces and sections are taken as HTML.
"""

from ttp_jax.report.page import code, page, paragraph, picture, save, section, table
from ttp_jax.report.personal import personal
from ttp_jax.report.plots import heat_map, line_plot
from ttp_jax.report.viewer import before_after

__all__ = [
    "before_after",
    "code",
    "heat_map",
    "line_plot",
    "page",
    "paragraph",
    "personal",
    "picture",
    "save",
    "section",
    "table",
]
