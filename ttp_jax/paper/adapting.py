"""Should you adapt? Tables of every way to adapt a trained network, of subjects and of grades."""

import itertools

import numpy as np

from ttp_jax import report
from ttp_jax.paper import selection, statistics
from ttp_jax.paper.pages import Table
from ttp_jax.paper.records import CONTROL
from ttp_jax.paper.selection import SCENARIOS, Grid
from ttp_jax.paper.statistics import Find


def should_adapt(grid: Grid, find: Find) -> Table:
    """Compare every way to adapt the network with not adapting it."""
    rows = [
        row for about, place in selection.places(grid) for row in _ways(grid, find, about, place)
    ]
    header = ("", *grid.measures, *statistics.gain_names(grid), "worse off", "s a frame")
    notes = (
        "Gain: relative to the same seed's network without adaptation, with a paired bootstrap "
        "over subjects and seeds. Worse off: share of subjects whose gain in the first measure is "
        "negative. Seconds: median over seeds, including compilation unless the program was in the "
        "cache.",
    )
    return Table("Should you adapt?", header, rows, notes)


def _ways(grid: Grid, find: Find, about: str, place: tuple):
    """Yield a row for each way to adapt to a group of subjects, see `selection.places`."""
    group = f"{about}: " if about else ""
    specs = selection.each(grid, selection.best(grid), ("none",), changes=place)
    before = statistics.finished(find, specs)
    for name, scenario, changes in selection.ways(grid):
        how = (*place, *changes)
        specs = selection.each(grid, selection.best(grid), (scenario,), changes=how)
        found = statistics.finished(find, specs)
        cells = (*statistics.missing(grid), "-")
        if found:
            base = before if scenario != "none" or changes else None
            cells = (*_scored(grid, base, found, specs), statistics.cost(found)[0])
        yield group + name, *cells
        if name == "TTP offline" and any(CONTROL in record for record in found):
            controls = [record for record in found if CONTROL in record]
            scored = statistics.scored(grid, before, controls, CONTROL)
            yield f"{group}TTP offline to another subject (control)", *scored, "-"


def _scored(grid: Grid, before, found, specs) -> tuple[str, ...]:
    """Return `statistics.scored`, with the number of seeds in the first cell."""
    first, *others = statistics.scored(grid, before, found)
    return (first + statistics.seeds(found, specs), *others)


def subjects(grid: Grid, find: Find) -> Table:
    """Show the gain of each subject beside its score without adaptation: who gains?"""
    method, title = selection.best(grid), "Who gains?"
    each_found = [
        statistics.finished(find, selection.each(grid, method, (scenario,)))
        for scenario in SCENARIOS
    ]
    seeds = set.intersection(*({record["seed"] for record in found} for found in each_found))
    before, *after = ([r for r in found if r["seed"] in seeds] for found in each_found)
    gains = [each for found in after if (each := statistics.deltas(before, found)) is not None]
    header = ("subject", "without", "gain online", "gain offline")
    if len(gains) < len(after):
        return Table(title, header, [("all", "missing", "-", "-")])
    scores = np.mean([statistics.people(record, "scores") for record in before], 0)
    online, offline = (np.mean(each, 0) for each in gains)
    scored = np.flatnonzero(np.isfinite([scores, online, offline]).all(0))
    order = scored[np.argsort(scores[scored], kind="stable")]
    rows = [
        (before[0]["people"][k], f"{scores[k]:.1f}", f"{online[k]:+.1f}", f"{offline[k]:+.1f}")
        for k in order
    ]
    measure, gap = grid.measures[0], np.full(len(order), np.nan)
    dots = {  # NaN between the points, so that no line joins them
        name: (np.repeat(scores[order], 2), np.stack([gain[order], gap], 1).ravel())
        for name, gain in (("online", online), ("offline", offline))
    }
    plot = report.line_plot(
        dots, x_label=f"{measure} without adaptation", y_label="gain", title=title
    )
    note = (
        f"{measure}, means over {len(before)} seed(s), from the lowest score without adaptation to "
        "the highest."
    )
    if len(order) > 2:  # two subjects always have a correlation of +1 or -1
        note += (
            " Correlation of score and gain over subjects (Spearman): "
            f"online {_rank_correlation(scores[order], online[order]):+.2f}, "
            f"offline {_rank_correlation(scores[order], offline[order]):+.2f}."
        )
    notes = (note,)
    if len(order) < len(scores):
        names = [before[0]["people"][k] for k in range(len(scores)) if k not in scored]
        notes += (f"Left out, because no label of theirs is scored: {', '.join(names)}.",)
    return Table(title, header, rows, notes, (plot,))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's correlation."""
    from scipy import stats  # imported late, because it takes a while

    return float(stats.spearmanr(a, b).statistic)


def grades(grid: Grid, find: Find) -> Table:
    """Show the gain on people at different distances from the training people."""
    method, rows, lines = selection.best(grid), [], {"online": [], "offline": []}
    for about, changes in selection.graded(grid):
        before = statistics.finished(find, selection.each(grid, method, ("none",), changes=changes))
        for scenario in SCENARIOS:
            specs = selection.each(grid, method, (scenario,), changes=changes)
            found = statistics.finished(find, specs)
            name = about if scenario == "none" else ""
            how = "w/o TTP" if scenario == "none" else scenario
            if not found:
                rows.append((name, how, *statistics.missing(grid)))
                continue
            base = None if scenario == "none" else before
            rows.append((name, how, *_scored(grid, base, found, specs)))
            if base and (deltas := statistics.deltas(base, found)) is not None:
                lines[scenario].append(statistics.known(deltas).mean())
    title, plots = "Table 7: people at three distances from training", ()
    if len(grid.grades) > 1 and all(len(line) == len(grid.grades) for line in lines.values()):
        places = np.arange(1, 1 + len(grid.grades))
        series = {name: (places, np.array(line)) for name, line in lines.items()}
        label = "grade: " + ", ".join(f"{k} {about}" for k, (_, about) in enumerate(grid.grades, 1))
        plots = (report.line_plot(series, x_label=label, y_label="gain", title=title),)
    header = ("people", "TTP", *grid.measures, *statistics.gain_names(grid), "worse off")
    return Table(title, header, rows, ("The same networks on all three.",), plots)


def own_videos(grid: Grid, find: Find) -> Table:
    """Show the gain of adapting to more frames, from the subjects' own unlabelled videos."""
    method, rows, counts = selection.best(grid), [], ""
    names = statistics.gain_names(grid)
    plain = selection.each(grid, method, ("none",), changes=selection.added(grid, 0))
    before = statistics.finished(find, plain)
    for extra, scenario in itertools.product((0, *grid.extra), SCENARIOS[1:]):
        changes = selection.added(grid, extra)
        specs = selection.each(grid, method, (scenario,), changes=changes)
        found = statistics.finished(find, specs)
        name = f"{extra} more frames of own videos" if extra else "the labelled frames"
        if not (found and before):
            rows.append((name, scenario, "missing", *["-"] * len(names)))
            continue
        name += statistics.seeds(found, specs)
        rows.append((name, scenario, *statistics.gain(before, found, len(names))))
        more = [
            len(a) > len(b)
            for a, b in zip(found[0]["by_frame"], before[0]["by_frame"], strict=True)
        ]
        if extra:
            counts = f"{sum(more)} of {len(more)} subjects have videos of their own."
    header = ("adapted to", "TTP", *names, "worse off")
    return Table("Frames of a subject's own videos", header, rows, (counts,) if counts else ())


def errors(grid: Grid, find: Find) -> Table:
    """Show mean errors, in % of the unit of PCK, with and without TTP."""
    rows, names = [], {}
    for method, scenario in itertools.product(grid.methods, SCENARIOS):
        specs = selection.each(grid, method, (scenario,))
        found = [each for each in statistics.finished(find, specs) if each.get("errors")]
        if found:
            names = found[0]["errors"]
            means = [[record["errors"][name]["mean"] for record in found] for name in names]
            name = method + statistics.seeds(found, specs)
            rows.append((name, scenario, *(f"{np.mean(each):.2f}" for each in means)))
    if not rows:
        return Table("Mean errors", ("method", "TTP", "error"), [("all", "missing", "-")])
    notes = ("In % of the unit of PCK; means over subjects and seeds.",)
    return Table("Mean errors", ("method", "TTP", *names), rows, notes)
