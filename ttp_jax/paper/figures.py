"""The paper's Figures 3 and 4: gain over time, and gain by number of frames."""

import numpy as np

from ttp_jax import report
from ttp_jax.paper import selection, statistics
from ttp_jax.paper.pages import COST, Table
from ttp_jax.paper.selection import Grid
from ttp_jax.paper.statistics import Find

SMOOTHED_FRAMES = 9  # length of the moving average of the plotted curve


def figure3(grid: Grid, find: Find) -> Table:
    """Make the table and plot of the online gain by frame index, in quarters of the frames."""
    title = "Figure 3: gain against frame index, online"
    header = ("frames", "gain (95 %)", "people")
    before, after = (
        statistics.finished(find, selection.each(grid, "transformer", (scenario,)))
        for scenario in ("none", "online")
    )
    found = [
        statistics.by_frame(a) - statistics.by_frame(b) for b, a in statistics.pairs(before, after)
    ]
    if not found:
        return Table(title, header, [("all", "missing", "-")])
    gains = np.stack(found)  # [seeds, people, frames]
    counts = np.isfinite(gains).any(0).sum(0)  # people per frame
    many = np.flatnonzero(counts >= min(statistics.FEWEST, counts.max()))
    mean = np.nanmean(gains[..., : many[-1] + 1], (0, 1))
    width = min(SMOOTHED_FRAMES, len(mean))
    curve = np.convolve(mean, np.ones(width) / width, "valid")
    x = np.arange(len(curve)) + width // 2
    # Each row has a quarter of all labelled frames. If rows were quarters of the longest video,
    # the last ones might show a single person.
    quarter = (4 * np.cumsum(counts) - 1) // counts.sum()
    rows = []
    for q in (np.flatnonzero(quarter == number) for number in range(4)):
        if not len(q):
            continue
        part = statistics.mean_of_labelled(gains[:, :, q])
        rows.append((f"{q[0]} to {q[-1]}", statistics.with_interval(part), str(part.shape[1])))
    plot = report.line_plot(
        {"TTP online": (x, curve)}, x_label="frame", y_label="gain", title=title
    )
    notes = (
        f"Mean over people and {len(gains)} seed{'s' * (len(gains) > 1)}. Each row is a quarter of "
        f"the frames; shorter videos count only in the earlier rows. The plot is smoothed over "
        f"{width} frames and ends where fewer than {statistics.FEWEST} people are left.",
    )
    return Table(title, header, rows, notes, (plot,))


def figure4(grid: Grid, find: Find) -> Table:
    """Make the table and plot of the online gain by number of frames.

    Restarts make the number smaller, added unlabelled frames make it larger.
    """
    before = statistics.finished(find, selection.each(grid, "transformer", ("none",)))
    rows, x, y = [], [], []
    all_changes = (*selection.lengths(grid), ())
    records, seeds = statistics.online_with(grid, find, all_changes)
    for changes, found in zip(all_changes, records, strict=True):
        name = "all frames"
        if changes:
            name = {"ttp.reset": "restart every {} frames", "data.extra": "with {} more frames"}[
                changes[0][0]
            ].format(changes[0][1])
        if found:
            rows.append(
                (
                    name,
                    statistics.over_seeds(found),
                    *statistics.gain(before, found),
                    *statistics.cost(found),
                )
            )
            anew = [length for field, length in changes if field == "ttp.reset"]
            frames = found[0]["frames"] / len(found[0]["people"])  # including the added ones
            x.append(int(anew[0]) if anew else frames)
            y.append(statistics.mean(found))
        else:
            rows.append((name, "missing", *["-"] * 4))
    title = "Figure 4: gain against number of unlabelled frames, online"
    plots = ()
    if len(x) > 1:
        points = np.array(sorted(zip(x, y, strict=True))).T
        curve = {"online": (points[0], points[1])}
        plots = (report.line_plot(curve, x_label="frames", y_label="score", title=title),)
    header = ("frames", "score", "gain per person (95 %)", "worse off", *COST[:2])
    return Table(title, header, rows, (seeds,), plots)
