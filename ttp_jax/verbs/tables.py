"""The paper's tables and figures: which cells each needs, and what it shows of those there are."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ttp_jax import metrics, report
from ttp_jax.models.pose import WITH_KEYPOINTS
from ttp_jax.verbs import published
from ttp_jax.verbs.cells import POINTS, Cell

SCENARIOS = ("none", "online", "offline")
METHODS = {
    "baseline": "Baseline",
    "rotation": "Feat. shared (rotation)",
    "shared": "Feat. shared (keypoint)",
    "transformer": "Transformer (keypoint)",
}
HOW = {"none": "w/o TTP", "online": "online", "offline": "offline"}
TRAINS = {"paper": "encoder and psi_self only", "norms": "normalisation layers only"}
FEWEST = 3  # people that an interval is given for
SMOOTHED_FRAMES = 9  # of the curves over frames, for the eye
JOINED = ("h36m", "bbc_pose")  # sources of single frames and several videos of a person
Find = Callable[[Cell], dict | None]


class Table(NamedTuple):
    """A table as text; `plots` are pieces of HTML below it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()


# --- Which cells ---------------------------------------------------------------------------------


def wanted(config, what: str) -> list[Cell]:
    """The cells of one of `TABLES`, each once."""
    return list(dict.fromkeys(TABLES[what][0](config)))


def _each(config, method, scenarios, **options):
    if method not in config.reproduce.methods:
        return []
    kept = [s for s in scenarios if s == "none" or method != "baseline"]
    return [Cell(method, s, seed, **options) for s in kept for seed in config.reproduce.seeds]


def _table1_cells(config):
    first = config.reproduce.seeds[0]
    yield Cell("transformer", "mean pose", first)
    yield Cell("transformer", "untrained", first)
    for method in config.reproduce.methods:
        yield from _each(config, method, SCENARIOS)


def _transformer_cells(config):
    return _each(config, "transformer", SCENARIOS)


def _table2_cells(config):
    for count in (1, 2, 3, 4):
        yield from _each(config, "transformer", ("online",), changes=_iterations(config, count))


def _iterations(config, count):
    return () if count == config.ttp.iterations else (("ttp.iterations", count),)


def _smoothed_cells(config):
    if config.data.source not in JOINED:
        yield from _best_cells(config)


def _quoted_cells(config):
    if config.name in published.OTHERS:
        yield from _best_cells(config)


def _best_cells(config):
    yield from _each(config, "baseline", ("none",))
    yield from _transformer_cells(config)


def _transfer_cells(config):
    if config.transfer.get("source"):
        yield Cell("transformer", "mean pose", config.reproduce.seeds[0], transfer=True)
        yield from _each(config, "baseline", ("none",), transfer=True)
        yield from _each(config, "transformer", SCENARIOS, transfer=True)


def _length_cells(config):
    yield from _each(config, "transformer", ("none", "online"))
    for changes in _lengths(config):
        yield from _each(config, "transformer", ("online",), changes=changes)


def _lengths(config):
    for length in config.reproduce.lengths:
        yield (("ttp.reset", str(length)),)
    for extra in config.reproduce.extra:
        yield (("data.extra", extra),)


def _ablations():
    for rules in TRAINS:
        yield f"trains: {TRAINS[rules]}", (("ttp.rules", rules),)
    yield "normalisers carried from person to person", (("ttp.normalisers", "carried"),)
    yield "colours swapped (BGR), trained so", (("model.color_order", "bgr"),)


def _ablation_cells(config):
    if "transformer" not in config.reproduce.methods:
        return
    first = config.reproduce.seeds[0]
    for _, changes in (("", ()), *_ablations()):
        yield _ablation_base(first, changes)
        for scenario in SCENARIOS[1:]:
            yield Cell("transformer", scenario, first, changes)


def _ablation_base(seed, changes):
    """What an ablation's gain is over: without TTP, changes of test time don't matter."""
    kept = tuple(change for change in changes if not change[0].startswith("ttp."))
    return Cell("transformer", "none", seed, kept)


def _choice_cells(config):
    if config.data.source != "synthetic" or "transformer" not in config.reproduce.methods:
        return  # the other data sets have no validation people
    first = config.reproduce.seeds[0]
    yield Cell("transformer", "none", first, split="val")
    for rate in config.reproduce.rates:
        for count in config.reproduce.iterations:
            for scenario in SCENARIOS[1:]:
                yield Cell("transformer", scenario, first, _choice(config, rate, count), "val")


def _choice(config, rate, count):
    changed = () if rate == config.ttp.learning_rate else (("ttp.learning_rate", rate),)
    return changed + _iterations(config, count)


# --- What they show ------------------------------------------------------------------------------


def _measure(cell: dict) -> str:
    return next(iter(cell["scores"]))


def _over_seeds(found: Sequence[dict], part: str = "scores") -> str:
    """Mean of the first measure, +- the standard deviation over seeds where there are some."""
    means = [cell[part][_measure(cell)]["mean"] for cell in found]
    if len(means) < 2:
        return f"{means[0]:.2f}"
    return f"{np.mean(means):.2f} +- {np.std(means, ddof=1):.2f}"


def _gain(before, after, part: str = "scores", over: str = "scores") -> tuple[str, str]:
    """Mean gain with its interval over people and seeds, and the share of people made worse.

    Of a person the mean over seeds counts for that share. `part` of the cells after is compared
    with the part `over` of those before.
    """
    deltas = _deltas(before, after, part, over)
    return ("-", "-") if deltas is None else (_with_interval(deltas), _share_worse(deltas))


def _deltas(before, after, part: str = "scores", over: str = "scores") -> np.ndarray | None:
    """Gains [seeds, people] of pairs of one seed; None where there is no pair."""
    gains = [_people(a, part) - _people(b, over) for b, a in _pairs(before, after)]
    return np.stack(gains) if gains else None


def _pairs(before, after) -> list[tuple[dict, dict]]:
    """Cells of one seed."""
    return [(b, a) for b in before for a in after if a["seed"] == b["seed"]]


def _known(deltas: np.ndarray) -> np.ndarray:
    """Without the people who have no score: none of their joints is labelled."""
    return deltas[:, np.isfinite(deltas).all(0)]


def _with_interval(deltas: np.ndarray) -> str:
    deltas = _known(deltas)
    if not deltas.size:
        return "-"
    if deltas.shape[1] < FEWEST:
        each = ", ".join(f"{gain:+.2f}" for gain in deltas.mean(0))
        return f"{deltas.mean():+.2f} (each: {each})"
    low, high = metrics.bootstrap_interval(deltas)
    return f"{deltas.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def _share_worse(deltas: np.ndarray) -> str:
    deltas = _known(deltas)
    return f"{100 * (deltas.mean(0) < 0).mean():.0f} %" if deltas.size else "-"


def _people(cell: dict, part: str) -> np.ndarray:
    return np.array(cell[part][_measure(cell)]["per_subject"], float)


def _cost(found: Sequence[dict]) -> tuple[str, str]:
    seconds = np.median([cell["seconds_per_frame"] for cell in found])
    return f"{seconds:.3f}", f"{max(cell['memory_mib'] for cell in found):.0f}"


def _there(find: Find, cells: Sequence[Cell]) -> list[dict]:
    return [cell for cell in map(find, cells) if cell is not None]


def _lines(config, find: Find, methods, theirs, *, part="scores", **options):
    """Rows of the form of Table 1: method, TTP, score, other score, gain, worse, cost, paper."""
    for method in methods:
        before = _there(find, _each(config, method, ("none",), **options))
        for scenario in SCENARIOS:
            cells = _each(config, method, (scenario,), **options)
            if not cells:
                continue
            found = _there(find, cells)
            paper = theirs.get((method, scenario))
            tail = ("-" if paper is None else f"{paper:.2f}",)
            if not found:
                yield METHODS[method], HOW[scenario], *["missing"] * 2, *["-"] * 4, *tail
                continue
            gain = _gain(before, found, part, part) if scenario != "none" else ("", "")
            yield (
                METHODS[method] + _seeds(found, cells),
                HOW[scenario],
                _over_seeds(found, part),
                _second(found, part),
                *gain,
                *_cost(found),
                *tail,
            )


def _second(found: Sequence[dict], part: str = "scores") -> str:
    """Mean of the second measure, where there is one."""
    measures = list(found[0][part])
    if len(measures) < 2:
        return "-"
    return f"{np.mean([cell[part][measures[1]]['mean'] for cell in found]):.2f}"


def _untrained_line(name: str, cell: dict) -> tuple[str, ...]:
    """A row of the form of Table 1 for what needs no training."""
    return (name, "", _over_seeds([cell]), _second([cell]), *["-"] * 5)


def _seeds(found, cells) -> str:
    return "" if len(found) == len(cells) else f" ({len(found)} of {len(cells)} seeds)"


HEAD = ("method", "TTP", "score", "second score", "gain per person (95 %)", "worse")
COST = ("s a frame", "MiB", "paper")


def _table1(config, find: Find) -> Table:
    first, rows = config.reproduce.seeds[0], []
    for scenario in ("mean pose", "untrained"):
        for cell in _there(find, [Cell("transformer", scenario, first)]):
            rows.append(_untrained_line(scenario, cell))
    theirs = published.TABLE1.get(config.name, {})
    rows += list(_lines(config, find, config.reproduce.methods, theirs))
    rows += list(_control_lines(config, find, config.reproduce.methods))
    return Table(
        "Table 1: methods and scenarios",
        (*HEAD, *COST),
        rows,
        ("Score +- standard deviation over seeds; gain: over that seed's own model without TTP, "
         "paired bootstrap over people and seeds. Seconds: median over seeds, with compiling what "
         "no cell before had compiled. MiB: the process's peak while the cell ran (on a GPU: so "
         "far).",),
    )  # fmt: skip


def _control_lines(config, find: Find, methods, **options):
    """Rows of the form of Table 1: each person by the model adapted to another one."""
    for method in methods:
        cells = _each(config, method, ("offline",), **options)
        found = [cell for cell in _there(find, cells) if "stranger" in cell]
        if not found:
            continue
        before = _there(find, _each(config, method, ("none",), **options))
        gain = _gain(before, found, "stranger")
        yield (
            METHODS[method] + _seeds(found, cells),
            "offline, by another person's model",
            _over_seeds(found, "stranger"),
            _second(found, "stranger"),
            *gain,
            *["-"] * 3,
        )


CLAIMS = (  # what the paper claims: of what, over what; each (method, scenario[, scores])
    ("both tasks trained help without TTP", (("transformer", "none"),), (("baseline", "none"),)),
    (
        "the rotation task trained beside helps without TTP",
        (("rotation", "none"),),
        (("baseline", "none"),),
    ),
    ("TTP online helps", (("transformer", "online"),), (("transformer", "none"),)),
    ("TTP offline helps", (("transformer", "offline"),), (("transformer", "none"),)),
    (
        "offline, more than another person's model",
        (("transformer", "offline"),),
        (("transformer", "offline", "stranger"),),
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


def _claims(config, find: Find) -> Table:
    """The paper's claims as differences per person and seed."""
    rows = []
    for claim, over, under in CLAIMS:
        deltas = [
            gain
            for seed in config.reproduce.seeds
            if (gain := _difference(find, seed, over, under)) is not None
        ]
        if deltas:
            found = np.stack(deltas)
            each = ", ".join(f"{_known(d[None]).mean():+.2f}" for d in deltas)
            rows.append((claim, _with_interval(found), _share_worse(found), each))
        else:
            rows.append((claim, "missing", "-", "-"))
    header = ("claim", "difference per person (95 %)", "people against it", "each seed")
    notes = (
        "Score's difference, and the share of people with one below 0. Bootstrap over people and, "
        "where there are several, seeds; so few seeds make it too narrow, so look at each.",
    )
    return Table("What the paper claims", header, rows, notes)


def _difference(find: Find, seed: int, over, under) -> np.ndarray | None:
    """Sum of the people's scores [people] in `over` less that in `under`; None if one misses."""

    def scores(method, how, part="scores"):
        cell = find(Cell(method, how, seed))
        return None if cell is None or part not in cell else _people(cell, part)

    plus, minus = (
        [found for row in side if (found := scores(*row)) is not None] for side in (over, under)
    )
    if len(plus) < len(over) or len(minus) < len(under):
        return None
    return np.sum(plus, 0) - np.sum(minus, 0)


def _online_with(config, find: Find, changes: Sequence) -> tuple[list[list[dict]], str]:
    """Cells of the Transformer online per change, and a note that says of which seeds.

    They are of the seeds that all of them have, so that they can be compared; a change without any
    cell doesn't count.
    """
    found = [_there(find, _each(config, "transformer", ("online",), changes=c)) for c in changes]
    each = [{cell["seed"] for cell in cells} for cells in found if cells]
    seeds = set.intersection(*each) if each else set()
    kept = [[cell for cell in cells if cell["seed"] in seeds] for cells in found]
    return kept, f"Seeds: {', '.join(map(str, sorted(seeds))) or 'none'}."


def _table2(config, find: Find) -> Table:
    rows, before = [], _there(find, _each(config, "transformer", ("none",)))
    counts = (1, 2, 3, 4)
    cells, seeds = _online_with(config, find, [_iterations(config, count) for count in counts])
    for count, found in zip(counts, cells, strict=True):
        paper = published.TABLE2.get(config.name, {}).get(count)
        head, tail = str(count), "-" if paper is None else f"{paper:.2f}"
        if found:
            row = (head, _over_seeds(found), *_gain(before, found), *_cost(found), tail)
        else:
            row = (head, "missing", *["-"] * 4, tail)
        rows.append(row)
    header = ("updates a frame", "score", "gain per person (95 %)", "worse", *COST)
    return Table("Table 2: updates a frame, online", header, rows, (seeds,))


def _others(config, find: Find) -> Table:
    rows = [(who, f"{score:.1f}") for who, score in published.OTHERS.get(config.name, ())]
    for method in ("baseline", "transformer"):
        found = [_there(find, _each(config, method, (scenario,))) for scenario in SCENARIOS]
        means = [
            np.mean([cell["scores"][_measure(cell)]["mean"] for cell in cells])
            for cells in found
            if cells
        ]
        best = f"{max(means):.1f}" if means else "missing"
        rows.append((f"here, {METHODS[method]}, best scenario", best))
    notes = ("Other work as the paper quotes it, on the paper's data.",)
    return Table("Tables 3 and 4: state of the art", ("method", "score"), rows, notes)


def _table5(config, find: Find) -> Table:
    theirs = published.TABLE5.get(config.name, {})
    plain, smoothed = (
        list(_lines(config, find, ("baseline", "transformer"), theirs, part=part))
        for part in ("scores", "smoothed")
    )
    rows = [(*a[:3], b[2], *b[4:]) for a, b in zip(plain, smoothed, strict=True)]
    header = ("method", "TTP", "score", "smoothed", *HEAD[4:], *COST[:2], "paper, smoothed")
    notes = (
        "Savitzky-Golay, 7 frames, second order (ours: the paper names no settings). Gain: of "
        "smoothed joints, over smoothed ones without TTP.",
    )
    return Table("Table 5: with smoothing", header, rows, notes)


def _table6(config, find: Find) -> Table:
    rows = []
    for cell in _there(find, list(_transfer_cells(config))[:1]):
        rows.append(_untrained_line("mean pose", cell))
    theirs = published.TABLE6.get(config.name, {})
    if config.transfer.get("source"):
        rows += list(_lines(config, find, ("baseline", "transformer"), theirs, transfer=True))
        rows += list(_control_lines(config, find, ("transformer",), transfer=True))
    people = ", ".join(config.transfer.get("people", ())) or "the test split"
    about = config.transfer.get("about") or config.transfer.get("source", "nothing")
    fitted = " Boxes of the labels; for the models at the size at which each is most confident."
    fits = fitted if config.transfer.get("fit", False) else ""
    notes = (f"Personalized on {about}: {people}.{fits}",)
    return Table("Table 6: transfer to another data set", (*HEAD, *COST), rows, notes)


def _figure3(config, find: Find) -> Table:
    title = "Figure 3: gain against frame index, online"
    header = ("frames", "gain (95 %)", "people")
    before, after = (
        _there(find, _each(config, "transformer", (scenario,))) for scenario in ("none", "online")
    )
    found = [_by_frame(a) - _by_frame(b) for b, a in _pairs(before, after)]
    if not found:
        return Table(title, header, [("all", "missing", "-")])
    gains = np.stack(found)  # [seeds, people, frames]
    counts = np.isfinite(gains).any(0).sum(0)  # people per frame
    many = np.flatnonzero(counts >= min(FEWEST, counts.max()))
    mean = np.nanmean(gains[..., : many[-1] + 1], (0, 1))
    width = min(SMOOTHED_FRAMES, len(mean))
    curve = np.convolve(mean, np.ones(width) / width, "valid")
    x = np.arange(len(curve)) + width // 2
    # A quarter of all that is labelled each: of the longest video it could be a single person's.
    quarter = (4 * np.cumsum(counts) - 1) // counts.sum()
    rows = []
    for q in (np.flatnonzero(quarter == number) for number in range(4)):
        if not len(q):
            continue
        part = _mean_of_labelled(gains[:, :, q])
        rows.append((f"{q[0]} to {q[-1]}", _with_interval(part), str(part.shape[1])))
    plot = report.line_plot(
        {"TTP online": (x, curve)}, x_label="frame", y_label="gain", title=title
    )
    notes = (
        f"Mean over people and {len(gains)} seed(s). Each row has a quarter of all frames; shorter "
        f"videos count in the earlier rows only. The plot is the mean over {width} frames as well, "
        f"as far as there are {FEWEST} people.",
    )
    return Table(title, header, rows, notes, (plot,))


def _mean_of_labelled(gains: np.ndarray) -> np.ndarray:
    """Mean over frames [seeds, people], without the people who have none of these frames."""
    known = np.isfinite(gains)
    return np.nanmean(gains[:, known.any(-1).all(0)], -1)


def _by_frame(cell: dict) -> np.ndarray:
    """The first measure [people, frames], NaN where a person has no such frame or no label."""
    longest = max(map(len, cell["by_frame"]))
    rows = [row + [None] * (longest - len(row)) for row in cell["by_frame"]]
    return np.array(rows, float)


def _figure4(config, find: Find) -> Table:
    before, rows, x, y = _there(find, _each(config, "transformer", ("none",))), [], [], []
    all_changes = (*_lengths(config), ())
    cells, seeds = _online_with(config, find, all_changes)
    for changes, found in zip(all_changes, cells, strict=True):
        name = "all frames"
        if changes:
            name = {"ttp.reset": "anew every {} frames", "data.extra": "and {} more frames"}[
                changes[0][0]
            ].format(changes[0][1])
        if found:
            rows.append((name, _over_seeds(found), *_gain(before, found), *_cost(found)))
            anew = [length for field, length in changes if field == "ttp.reset"]
            frames = found[0]["frames"] / len(found[0]["people"])  # with those that are added
            x.append(int(anew[0]) if anew else frames)
            y.append(np.mean([c["scores"][_measure(c)]["mean"] for c in found]))
        else:
            rows.append((name, "missing", *["-"] * 4))
    title = "Figure 4: gain against number of unlabelled frames, online"
    plots = ()
    if len(x) > 1:
        points = np.array(sorted(zip(x, y, strict=True))).T
        curve = {"online": (points[0], points[1])}
        plots = (report.line_plot(curve, x_label="frames", y_label="score", title=title),)
    header = ("frames", "score", "gain per person (95 %)", "worse", *COST[:2])
    return Table(title, header, rows, (seeds,), plots)


def _ablation_table(config, find: Find) -> Table:
    first, rows = config.reproduce.seeds[0], []
    for name, changes in (("as configured", ()), *_ablations()):
        before = _there(find, [_ablation_base(first, changes)])
        for scenario in SCENARIOS[1:]:
            found = _there(find, [Cell("transformer", scenario, first, changes)])
            if found and before:
                row = (_over_seeds(found), *_gain(before, found), *_cost(found))
            else:
                row = ("missing", *["-"] * 4)
            rows.append((name, HOW[scenario], *row))
    header = ("one change", "TTP", "score", "gain per person (95 %)", "worse", *COST[:2])
    return Table("Ablations", header, rows, (f"Transformer, seed {first}.",))


def _choice_table(config, find: Find) -> Table:
    first, rows, maps = config.reproduce.seeds[0], [], []
    rates, counts = config.reproduce.rates, config.reproduce.iterations
    before = _there(find, [Cell("transformer", "none", first, split="val")])
    for scenario in SCENARIOS[1:]:
        means = np.full((len(rates), len(counts)), np.nan)
        for i, rate in enumerate(rates):
            row = []
            for j, count in enumerate(counts):
                changes = _choice(config, rate, count)
                found = _there(find, [Cell("transformer", scenario, first, changes, "val")])
                deltas = _deltas(before, found)
                if deltas is not None:
                    means[i, j] = deltas.mean()
                row.append("missing" if deltas is None else _with_interval(deltas))
            rows.append((scenario, f"{rate:g}", *row))
        names = [f"{rate:g}" for rate in rates], [str(count) for count in counts]
        labels = {"row_label": "learning rate", "column_label": "updates a frame"}
        maps.append(report.heat_map(means, *names, **labels, title=f"Gain per person, {scenario}"))
    header = ("TTP", "learning rate", *(f"{n} update(s) a frame" for n in counts))
    notes = ("Gain per person (95 %) on VALIDATION people: what settings are chosen by.",)
    return Table("Learning rate and updates a frame", header, rows, notes, tuple(maps))


def _points_cells(config):
    for method in WITH_KEYPOINTS:
        yield from _each(config, method, (POINTS, "offline"))


def _points_table(config, find: Find) -> Table:
    rows = []
    for method in (m for m in config.reproduce.methods if m in WITH_KEYPOINTS):
        probes = _there(find, _each(config, method, (POINTS,)))
        offline = _there(find, _each(config, method, ("offline",)))
        offline = [cell for cell in offline if "bottleneck" in cell]
        for cells, part, people in (
            (probes, "training", "training people"),
            (probes, "validation", "validation people"),
            (offline, "before", "test people, without TTP"),
            (offline, "after", "test people, after offline TTP"),
            (offline, "stranger", "test people, after that of another person"),
        ):
            if found := [cell for cell in cells if part in cell["bottleneck"]]:
                errors, read = _errors(found, part), _readout(found, part)
                rows.append((METHODS[method], people, *errors, read, str(len(found))))
            elif not cells:
                rows.append((METHODS[method], people, "missing", *["-"] * 4, "0"))
    header = (
        *("method", "people", "own points", "another frame's", "copying", "own / another's"),
        *("joints read from points (mean pose)", "seeds"),
    )
    notes = (
        "Error of the reconstruction with a picture's own keypoints, with those of another frame, "
        "and of the source as it is; the ratio is 1 where the points don't matter. Joints by a "
        "linear readout of the points, fitted on other people: error in sides of the crop; below "
        "the mean pose's, the points stay on the same part of the body from person to person.",
    )
    return Table("Are the keypoints alive?", header, rows, notes)


def _errors(found: Sequence[dict], part: str) -> tuple[str, ...]:
    own, other, copy = (
        np.mean([cell["bottleneck"][part][name] for cell in found])
        for name in ("own", "other", "copy")
    )
    return f"{own:.4f}", f"{other:.4f}", f"{copy:.4f}", f"{own / other:.3f}"


def _readout(found: Sequence[dict], part: str) -> str:
    reads = [cell["readout"][part] for cell in found if part in cell.get("readout", ())]
    if not reads:
        return "-"
    error, mean = (np.mean([read[name] for read in reads]) for name in ("error", "mean_pose_error"))
    return f"{error:.3f} ({mean:.3f})"


TABLES = {
    "table1": (_table1_cells, _table1),
    "claims": (_table1_cells, _claims),
    "table2": (_table2_cells, _table2),
    "table3": (_quoted_cells, _others),
    "table5": (_smoothed_cells, _table5),
    "table6": (_transfer_cells, _table6),
    "figure3": (_transformer_cells, _figure3),
    "figure4": (_length_cells, _figure4),
    "ablations": (_ablation_cells, _ablation_table),
    "points": (_points_cells, _points_table),
    "choice": (_choice_cells, _choice_table),
}


def machine(made: dict) -> str:
    """What ran a cell, or a piece of a training."""
    return f"{made['machine']['device']}, {made['machine']['cores']} cores"


def trainings(found: dict[str, dict | None]) -> Table:
    """What each training took."""
    rows = []
    for name, cell in found.items():
        if cell is None:
            rows.append((name, "missing", "-", "-"))
            continue
        if "given" in cell:
            rows.append((name, "-", f"not here: included ({cell['given']})", "-"))
            continue
        if not cell["pieces"]:
            rows.append((name, "-", "not told: its model was there", "-"))
            continue
        minutes = f"{cell['seconds'] / 60:.0f}"
        machines, commits = (
            "; ".join(dict.fromkeys(map(told, cell["pieces"])))
            for told in (machine, lambda piece: str(piece["commit"]))
        )
        rows.append((name, minutes, machines, commits))
    return Table("Trainings", ("training", "minutes", "machine", "commit"), rows)


def ran(found: Sequence[dict]) -> Table:
    """Which machine ran each cell, when and at which commit."""
    rows = [
        (
            cell["cell"],
            cell["date"],
            f"{cell['seconds'] / 60:.1f}",
            machine(cell),
            str(cell["commit"]),
        )
        for cell in found
    ]
    header = ("cell", "date", "minutes", "machine", "commit")
    return Table("Cells", header, rows, ("A + after a commit: the checkout had been changed.",))


def markdown(table: Table) -> str:
    """A table for report.md."""
    lines = [f"## {table.title}", "", f"| {' | '.join(table.header)} |"]
    lines.append("|---" * len(table.header) + "|")
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, "", *table.notes, ""])


def html(table: Table) -> str:
    """A table as a section of report.html."""
    notes = "".join(map(report.paragraph, table.notes))
    return report.section(table.title, report.table(table.header, table.rows), notes, *table.plots)
