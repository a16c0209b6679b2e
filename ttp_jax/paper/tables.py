"""The paper's tables, made from the finished run records."""

import numpy as np

from ttp_jax import report, tasks
from ttp_jax.paper import adapting, figures, published, selection, statistics
from ttp_jax.paper.pages import COST, Table
from ttp_jax.paper.records import CONTROL, POINTS, RunSpec
from ttp_jax.paper.selection import SCENARIOS, Grid
from ttp_jax.paper.statistics import Find

METHODS = {
    "baseline": "Baseline",
    "rotation": "Feat. shared (rotation)",
    "shared": "Feat. shared (keypoint)",
    "transformer": "Transformer (keypoint)",
}
HOW = {"none": "w/o TTP", "online": "online", "offline": "offline"}


def _title(method: str) -> str:
    """Return a method's name in the tables; one that the paper doesn't have keeps its own."""
    return METHODS.get(method, method)


def wanted(grid: Grid, what: str) -> list[RunSpec]:
    """Return the runs that one of `TABLES` needs, each once."""
    return list(dict.fromkeys(TABLES[what][0](grid)))


def _lines(grid: Grid, find: Find, methods, published_scores, *, part="scores", **options):
    """Yield rows like those of Table 1: method, TTP, scores, gains, worse off, cost, paper."""
    for method in methods:
        before = statistics.finished(find, selection.each(grid, method, ("none",), **options))
        for scenario in SCENARIOS:
            specs = selection.each(grid, method, (scenario,), **options)
            if not specs:
                continue
            found = statistics.finished(find, specs)
            paper = published_scores.get((method, scenario))
            tail = ("-" if paper is None else f"{paper:.2f}",)
            if not found:
                yield _title(method), HOW[scenario], *statistics.missing(grid), "-", "-", *tail
                continue
            base = None if scenario == "none" else before
            yield (
                _title(method) + statistics.seeds(found, specs),
                HOW[scenario],
                *statistics.scored(grid, base, found, part, part),
                *statistics.cost(found),
                *tail,
            )


def _untrained_line(grid: Grid, name: str, record: dict) -> tuple[str, ...]:
    """Make a row like those of Table 1 for a run that needs no training."""
    scores = statistics.scores([record], len(grid.measures))
    return (name, "", *scores, *["-"] * (len(statistics.gain_names(grid)) + 4))


def _head(grid: Grid) -> tuple[str, ...]:
    """Return the header of rows like those of Table 1."""
    return ("method", "TTP", *grid.measures, *statistics.gain_names(grid), "worse off", *COST)


def _table1(grid: Grid, find: Find) -> Table:
    first, rows = grid.seeds[0], []
    for scenario in ("mean pose", "untrained"):
        spec = RunSpec("transformer", scenario, first, split=grid.split)
        for record in statistics.finished(find, [spec]):
            rows.append(_untrained_line(grid, scenario, record))
    paper = published.TABLE1.get(grid.name, {})
    rows += list(_lines(grid, find, grid.methods, paper))
    rows += list(_control_lines(grid, find, grid.methods))
    return Table(
        "Table 1: methods and scenarios",
        _head(grid),
        rows,
        ("First score +- standard deviation over seeds. Gain: relative to the same seed's model "
         "without TTP, with a paired bootstrap over people and seeds. Worse off: share of people "
         "whose gain in the first score is negative. Seconds: median over seeds, including "
         "compilation unless the program was in the cache. MiB: peak memory of the process during "
         "the run (on a GPU, since the process started).",),
    )  # fmt: skip


def _control_lines(grid: Grid, find: Find, methods, **options):
    """Yield rows like those of Table 1 for the cross-subject control."""
    for method in methods:
        specs = selection.each(grid, method, ("offline",), **options)
        found = [record for record in statistics.finished(find, specs) if CONTROL in record]
        if not found:
            continue
        before = statistics.finished(find, selection.each(grid, method, ("none",), **options))
        yield (
            _title(method) + statistics.seeds(found, specs),
            "offline, cross-subject control",
            *statistics.scored(grid, before, found, CONTROL),
            *["-"] * 3,
        )


# Each claim is (text, runs whose scores are added, runs whose scores are subtracted). A run is
# (method, scenario) or (method, scenario, which scores of it).
CLAIMS = (
    ("training both tasks helps, without TTP", (("transformer", "none"),), (("baseline", "none"),)),
    (
        "training the rotation task as well helps, without TTP",
        (("rotation", "none"),),
        (("baseline", "none"),),
    ),
    ("TTP online helps", (("transformer", "online"),), (("transformer", "none"),)),
    ("TTP offline helps", (("transformer", "offline"),), (("transformer", "none"),)),
    (
        "offline, more than the cross-subject control",
        (("transformer", "offline"),),
        (("transformer", "offline", CONTROL),),
    ),
    (
        "the Transformer gains more online than feature sharing",
        (("transformer", "online"), ("shared", "none")),
        (("transformer", "none"), ("shared", "online")),
    ),
    (
        "the Transformer gains more offline than feature sharing",
        (("transformer", "offline"), ("shared", "none")),
        (("transformer", "none"), ("shared", "offline")),
    ),
    (
        "the Transformer gains more online than rotation",
        (("transformer", "online"), ("rotation", "none")),
        (("transformer", "none"), ("rotation", "online")),
    ),
    (
        "the Transformer gains more offline than rotation",
        (("transformer", "offline"), ("rotation", "none")),
        (("transformer", "none"), ("rotation", "offline")),
    ),
    (
        "the Transformer ends higher offline than rotation",
        (("transformer", "offline"),),
        (("rotation", "offline"),),
    ),
)


def _claims(grid: Grid, find: Find) -> Table:
    """Express each claim of the paper as a difference per person and seed."""
    rows = []
    for claim, over, under in CLAIMS:
        deltas = [
            gain
            for seed in grid.seeds
            if (gain := _difference(grid, find, seed, over, under)) is not None
        ]
        if deltas:
            found = np.stack(deltas)
            each = ", ".join(f"{statistics.known(d[None]).mean():+.2f}" for d in deltas)
            rows.append(
                (claim, statistics.with_interval(found), statistics.share_worse(found), each)
            )
        else:
            rows.append((claim, "missing", "-", "-"))
    header = (
        "claim",
        "difference per person (95 %)",
        "people with a negative difference",
        "each seed",
    )
    notes = (
        "Difference of the scores. Intervals are bootstrapped over people and seeds. With so few "
        "seeds they are too narrow, so compare the seeds, too.",
    )
    return Table("What the paper claims", header, rows, notes)


def _difference(grid: Grid, find: Find, seed: int, over, under) -> np.ndarray | None:
    """Return the sum of scores in `over` minus `under` [people]; None if a record is missing."""

    def scores(method, how, part="scores"):
        record = find(RunSpec(method, how, seed, split=grid.split))
        return None if record is None or part not in record else statistics.people(record, part)

    plus, minus = (
        [found for row in side if (found := scores(*row)) is not None] for side in (over, under)
    )
    if len(plus) < len(over) or len(minus) < len(under):
        return None
    return np.sum(plus, 0) - np.sum(minus, 0)


def _table2(grid: Grid, find: Find) -> Table:
    rows, before = (
        [],
        statistics.finished(find, selection.each(grid, "transformer", ("none",))),
    )
    counts = (1, 2, 3, 4)
    records, seeds = statistics.online_with(
        grid, find, [selection.iterations(grid, count) for count in counts]
    )
    for count, found in zip(counts, records, strict=True):
        paper = published.TABLE2.get(grid.name, {}).get(count)
        head, tail = str(count), "-" if paper is None else f"{paper:.2f}"
        if found:
            row = (
                head,
                statistics.over_seeds(found),
                *statistics.gain(before, found),
                *statistics.cost(found),
                tail,
            )
        else:
            row = (head, "missing", *["-"] * 4, tail)
        rows.append(row)
    header = ("updates a frame", "score", "gain per person (95 %)", "worse off", *COST)
    return Table("Table 2: updates a frame, online", header, rows, (seeds,))


def _others(grid: Grid, find: Find) -> Table:
    rows = [(who, f"{score:.1f}") for who, score in published.OTHERS.get(grid.name, ())]
    for method in ("baseline", "transformer"):
        found = [
            statistics.finished(find, selection.each(grid, method, (scenario,)))
            for scenario in SCENARIOS
        ]
        means = [statistics.mean(records) for records in found if records]
        best = f"{max(means):.1f}" if means else "missing"
        rows.append((f"here, {_title(method)}, best scenario", best))
    notes = ("Scores of other work on the paper's data, as quoted in the paper.",)
    return Table("Tables 3 and 4: state of the art", ("method", "score"), rows, notes)


def _table5(grid: Grid, find: Find) -> Table:
    paper = published.TABLE5.get(grid.name, {})
    plain, smoothed = (
        list(_lines(grid, find, ("baseline", "transformer"), paper, part=part))
        for part in ("scores", "smoothed")
    )
    # The first score plain and smoothed, its gain, worse off, cost and the paper's.
    gain, worse = 2 + len(grid.measures), len(_head(grid)) - len(COST) - 1
    rows = [(*a[:3], b[2], b[gain], *b[worse:]) for a, b in zip(plain, smoothed, strict=True)]
    names = "gain per person (95 %)", "worse off", *COST[:2], "paper, smoothed"
    header = ("method", "TTP", grid.measures[0], "smoothed", *names)
    notes = (
        "Savitzky-Golay filter, 7 frames, second order (our choice: the paper gives no settings). "
        "Gain: smoothed joints with TTP relative to smoothed joints without.",
    )
    return Table("Table 5: with smoothing", header, rows, notes)


def _table6(grid: Grid, find: Find) -> Table:
    rows = []
    for record in statistics.finished(find, list(selection.transfer_runs(grid))[:1]):
        rows.append(_untrained_line(grid, "mean pose", record))
    paper = published.TABLE6.get(grid.name, {})
    if grid.transfer.get("source"):
        rows += list(_lines(grid, find, ("baseline", "transformer"), paper, transfer=True))
        rows += list(_control_lines(grid, find, ("transformer",), transfer=True))
    people = ", ".join(grid.transfer.get("people", ())) or "the test split"
    about = grid.transfer.get("about") or grid.transfer.get("source", "nothing")
    fitted = " The labels' boxes are scaled to the size in which each model is most confident."
    fits = fitted if grid.transfer.get("fit", False) else ""
    notes = (f"Personalized on {about}: {people}.{fits}",)
    return Table("Table 6: transfer to another data set", _head(grid), rows, notes)


def _ablation_table(grid: Grid, find: Find) -> Table:
    first, rows = grid.seeds[0], []
    for name, changes in (("as configured", ()), *selection.ablations(grid)):
        before = statistics.finished(find, [selection.ablation_base(grid, changes)])
        for scenario in SCENARIOS[1:]:
            spec = RunSpec("transformer", scenario, first, changes, grid.split)
            found = statistics.finished(find, [spec])
            if found and before:
                row = (
                    statistics.over_seeds(found),
                    *statistics.gain(before, found),
                    *statistics.cost(found),
                )
            else:
                row = ("missing", *["-"] * 4)
            rows.append((name, HOW[scenario], *row))
    header = ("change", "TTP", "score", "gain per person (95 %)", "worse off", *COST[:2])
    return Table("Ablations", header, rows, (f"Transformer, seed {first}.",))


def _choice_table(grid: Grid, find: Find) -> Table:
    first, rows, maps = grid.seeds[0], [], []
    rates, counts = grid.rates, grid.iterations
    before = statistics.finished(find, [RunSpec("transformer", "none", first, split="val")])
    for scenario in SCENARIOS[1:]:
        means = np.full((len(rates), len(counts)), np.nan)
        for i, rate in enumerate(rates):
            row = []
            for j, count in enumerate(counts):
                changes = selection.choice(grid, rate, count)
                found = statistics.finished(
                    find, [RunSpec("transformer", scenario, first, changes, "val")]
                )
                deltas = statistics.deltas(before, found)
                if deltas is not None:
                    means[i, j] = statistics.known(deltas).mean()
                row.append("missing" if deltas is None else statistics.with_interval(deltas))
            rows.append((scenario, f"{rate:g}", *row))
        names = [f"{rate:g}" for rate in rates], [str(count) for count in counts]
        labels = {"row_label": "learning rate", "column_label": "updates a frame"}
        maps.append(report.heat_map(means, *names, **labels, title=f"Gain per person, {scenario}"))
    header = ("TTP", "learning rate", *(f"{n} update{'s' * (n > 1)} a frame" for n in counts))
    notes = ("Gain per person (95 %) on the validation people, who are used to choose settings.",)
    return Table("Learning rate and updates a frame", header, rows, notes, tuple(maps))


def _points_table(grid: Grid, find: Find) -> Table:
    rows, scored = [], "validation people" if grid.split == "val" else "test people"
    for method in (m for m in grid.methods if tasks.of(m).probe):
        probes = statistics.finished(find, selection.each(grid, method, (POINTS,)))
        offline = statistics.finished(find, selection.each(grid, method, ("offline",)))
        offline = [record for record in offline if "bottleneck" in record]
        for records, part, people in (
            (probes, "training", "training people"),
            (probes, "validation", "validation people"),
            (offline, "before", f"{scored}, without TTP"),
            (offline, "after", f"{scored}, after offline TTP"),
            (offline, CONTROL, f"{scored}, cross-subject control"),
        ):
            if found := [record for record in records if part in record["bottleneck"]]:
                errors, read = statistics.errors(found, part), statistics.readout(found, part)
                rows.append((_title(method), people, *errors, read, str(len(found))))
            elif not records:
                rows.append((_title(method), people, "missing", *["-"] * 4, "0"))
    header = (
        *("method", "people", "own keypoints", "another frame's", "copying", "own / another's"),
        *("joints from keypoints (mean pose)", "seeds"),
    )
    notes = (
        "Reconstruction error with a frame's own keypoints, with those of another frame, and when "
        "copying the source. A ratio of 1 means that the keypoints have no influence. The last "
        "error, in crop sides, is that of joints which a linear map computes from the keypoints; "
        "the map was fitted on other people. If it is below the error of the mean pose, the "
        "keypoints mark the same part of the body on different people.",
    )
    return Table("Do the keypoints have an influence?", header, rows, notes)


TABLES = {
    "adapt": (selection.adapt_runs, adapting.should_adapt),
    "table1": (selection.table1_runs, _table1),
    "claims": (selection.table1_runs, _claims),
    "table2": (selection.table2_runs, _table2),
    "table3": (selection.quoted_runs, _others),
    "table5": (selection.smoothed_runs, _table5),
    "table6": (selection.transfer_runs, _table6),
    "table7": (selection.grade_runs, adapting.grades),
    "subjects": (selection.best_scenario_runs, adapting.subjects),
    "videos": (selection.own_video_runs, adapting.own_videos),
    "errors": (selection.error_runs, adapting.errors),
    "figure3": (selection.transformer_runs, figures.figure3),
    "figure4": (selection.length_runs, figures.figure4),
    "ablations": (selection.ablation_runs, _ablation_table),
    "points": (selection.points_runs, _points_table),
    "choice": (selection.choice_runs, _choice_table),
}
