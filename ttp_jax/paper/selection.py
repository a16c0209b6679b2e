"""The runs that each table and figure needs."""

from typing import Any, NamedTuple

from ttp_jax import tasks
from ttp_jax.models.pose import METHODS
from ttp_jax.paper import published
from ttp_jax.paper.records import POINTS, RunSpec
from ttp_jax.runs import scoring
from ttp_jax.runs.experiment import Config

SCENARIOS = ("none", "online", "offline")
TRAINS = {"paper": "encoder and psi_self only", "norms": "normalisation layers only"}
# Sources with single frames, or several videos of a person.
JOINED = ("h36m", "bbc_pose", "project")
FLIPPED = (("model.flip_average", True),)
# Methods other than TTP (`config.ttp.method`), and their names in tables.
OTHERS = {
    "bn": "batch statistics",
    "entropy": "entropy",
    "teacher": "mean teacher",
    "teacher+ttp": "mean teacher and TTP",
}


class Grid(NamedTuple):
    """What the tables of an experiment compare. Attributes not listed are in `config.reproduce`.

    Attributes:
      name: name of the experiment, a key of the published numbers; "" for a labelled project.
      source: source of its data.
      measures: names of the scores.
      flip: whether averaging with the mirrored crop is a choice: trained on, and not done anyway.
      encoder: `config.model.encoder`.
      updates: updates a frame, `config.ttp.iterations`.
      learning_rate: learning rate at test time, `config.ttp.learning_rate`.
      added: `config.data.extra`, unlabelled frames added to each subject.
      transfer: `config.transfer`, the people of Table 6.
    """

    name: str
    source: str
    measures: tuple[str, ...]
    flip: bool
    encoder: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    updates: int
    learning_rate: float
    lengths: tuple[int, ...]
    extra: tuple[int, ...]
    added: int
    rates: tuple[float, ...]
    iterations: tuple[int, ...]
    split: str
    grades: tuple[tuple[str, str], ...]
    preset: str
    transfer: Any

    @classmethod
    def of(cls, config: Config) -> "Grid":
        """Return the grid of an experiment's config."""
        varied = config.reproduce
        return cls(
            name="" if config.data.source == "project" else config.name,
            source=config.data.source,
            measures=scoring.measures_from(config.eval).names,
            flip=config.train.flip_prob > 0 and not config.model.flip_average,
            encoder=config.model.encoder,
            # Each once, because a seed given twice would count as two trainings.
            methods=tuple(dict.fromkeys(varied.methods)),
            seeds=tuple(dict.fromkeys(varied.seeds)),
            updates=config.ttp.iterations,
            learning_rate=config.ttp.learning_rate,
            lengths=varied.lengths,
            extra=varied.extra,
            added=config.data.extra,
            rates=varied.rates,
            iterations=varied.iterations,
            split=varied.split,
            grades=varied.grades,
            preset=config.data.get("preset", ""),
            transfer=config.transfer,
        )


def each(grid: Grid, method, scenarios, **options) -> list[RunSpec]:
    """Return a method's runs in these scenarios with all seeds; none if the grid excludes it.

    Without a self-supervised task, TTP can't adapt the network, but other methods can. `options`
    are further fields of `RunSpec`.
    """
    if method not in grid.methods:
        return []
    adapts = tasks.of(method) is not tasks.NOTHING
    adapts = adapts or "ttp.method" in dict(options.get("changes", ()))
    kept = [s for s in scenarios if s == "none" or adapts]
    split = "test" if options.get("transfer") else grid.split
    return [
        RunSpec(method, scenario, seed, **{"split": split, **options})
        for scenario in kept
        for seed in grid.seeds
    ]


def table1_runs(grid: Grid):
    for scenario in ("mean pose", "untrained"):
        yield RunSpec("transformer", scenario, grid.seeds[0], split=grid.split)
    for method in grid.methods:
        yield from each(grid, method, SCENARIOS)


def best(grid: Grid) -> str:
    """Return the network that is adapted in every way: the Transformer, if it is compared."""
    return "transformer" if "transformer" in grid.methods else grid.methods[-1]


def ways(grid: Grid):
    """Yield the ways to adapt a trained network: name, scenario, changes of the config."""
    yield "no adaptation", "none", ()
    if grid.flip:
        yield "no adaptation, averaged with the mirrored crop", "none", FLIPPED
    has_task = tasks.of(best(grid)) is not tasks.NOTHING
    possible = {"bn": grid.encoder == "resnet", "teacher": True, "teacher+ttp": has_task}
    possible["entropy"] = possible["bn"]  # both need batch normalisation
    for method, about in OTHERS.items():
        for scenario in SCENARIOS[1:] if possible[method] else ():
            yield f"{about} {scenario}", scenario, (("ttp.method", method),)
    for scenario in SCENARIOS[1:] if has_task else ():
        yield f"TTP {scenario}", scenario, ()


def adapt_runs(grid: Grid):
    for _, place in places(grid):
        for _, scenario, changes in ways(grid):
            yield from each(grid, best(grid), (scenario,), changes=(*place, *changes))


def best_scenario_runs(grid: Grid):
    return each(grid, best(grid), SCENARIOS)


def grade(grid: Grid, preset: str):
    return () if preset == grid.preset else (("data.grade", preset),)


def graded(grid: Grid) -> list[tuple[str, tuple]]:
    """Return name and changes of the config for people of each grade; none without grades."""
    rendered = grid.source == "synthetic"
    return [(about, grade(grid, preset)) for preset, about in grid.grades if rendered]


def places(grid: Grid) -> list[tuple[str, tuple]]:
    """Return the same for each group of people to adapt to; one without a name if no grades."""
    return graded(grid) or [("", ())]


def grade_runs(grid: Grid):
    for _, changes in graded(grid):
        yield from each(grid, best(grid), SCENARIOS, changes=changes)


def own_video_runs(grid: Grid):
    if grid.source == "project" and grid.extra:
        for extra in (0, *grid.extra):
            scenarios = SCENARIOS[1:] if extra else SCENARIOS
            yield from each(grid, best(grid), scenarios, changes=added(grid, extra))


def added(grid: Grid, extra: int):
    return () if extra == grid.added else (("data.extra", extra),)


def error_runs(grid: Grid):
    if grid.source == "project":
        for method in grid.methods:
            yield from each(grid, method, SCENARIOS)


def transformer_runs(grid: Grid):
    return each(grid, "transformer", SCENARIOS)


def table2_runs(grid: Grid):
    for count in (1, 2, 3, 4):
        yield from each(grid, "transformer", ("online",), changes=iterations(grid, count))


def iterations(grid: Grid, count):
    return () if count == grid.updates else (("ttp.iterations", count),)


def smoothed_runs(grid: Grid):
    if grid.source not in JOINED:
        yield from best_runs(grid)


def quoted_runs(grid: Grid):
    if grid.name in published.OTHERS:
        yield from best_runs(grid)


def best_runs(grid: Grid):
    yield from each(grid, "baseline", ("none",))
    yield from transformer_runs(grid)


def transfer_runs(grid: Grid):
    if grid.transfer.get("source"):
        yield RunSpec("transformer", "mean pose", grid.seeds[0], transfer=True)
        yield from each(grid, "baseline", ("none",), transfer=True)
        yield from each(grid, "transformer", SCENARIOS, transfer=True)


def length_runs(grid: Grid):
    yield from each(grid, "transformer", ("none", "online"))
    for changes in lengths(grid):
        yield from each(grid, "transformer", ("online",), changes=changes)


def lengths(grid: Grid):
    for length in grid.lengths:
        yield (("ttp.reset", str(length)),)
    if grid.source != "project":  # projects have a separate table for added frames
        for extra in grid.extra:
            yield (("data.extra", extra),)


def ablations(grid: Grid):
    for rules in TRAINS:
        yield f"trains: {TRAINS[rules]}", (("ttp.rules", rules),)
    yield "normalisers carried from person to person", (("ttp.normalisers", "carried"),)
    if grid.encoder == "resnet":  # other encoders have one order of colours
        yield "BGR colours, in training as well", (("model.color_order", "bgr"),)


def ablation_runs(grid: Grid):
    if "transformer" not in grid.methods:
        return
    first = grid.seeds[0]
    for _, changes in (("", ()), *ablations(grid)):
        yield ablation_base(grid, changes)
        for scenario in SCENARIOS[1:]:
            yield RunSpec("transformer", scenario, first, changes, grid.split)


def ablation_base(grid, changes):
    """Return the run without TTP to compare an ablation with, which ignores test-time changes."""
    kept = tuple(change for change in changes if not change[0].startswith("ttp."))
    return RunSpec("transformer", "none", grid.seeds[0], kept, grid.split)


def choice_runs(grid: Grid):
    if grid.source not in ("synthetic", "project") or "transformer" not in grid.methods:
        return  # other data sets have no validation people
    first = grid.seeds[0]
    yield RunSpec("transformer", "none", first, split="val")
    for rate in grid.rates:
        for count in grid.iterations:
            for scenario in SCENARIOS[1:]:
                yield RunSpec("transformer", scenario, first, choice(grid, rate, count), "val")


def choice(grid: Grid, rate, count):
    changed = () if rate == grid.learning_rate else (("ttp.learning_rate", rate),)
    return changed + iterations(grid, count)


def points_runs(grid: Grid):
    for method in (m for m in METHODS if tasks.of(m).probe):
        yield from each(grid, method, (POINTS, "offline"))
