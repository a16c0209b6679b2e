"""Reports: a single HTML file that contains its pictures, plots and scripts.

A report opens offline, on a computer or a phone, in light or dark mode. Its content security policy
forbids loading anything. `page` takes sections, and `section` takes the pieces of HTML that the
other functions return. All other text is escaped; `text in backticks` is shown as code.
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
