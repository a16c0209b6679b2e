"""Which cells each table and figure is made of."""

from ttp_jax import tasks
from ttp_jax.models.pose import METHODS
from ttp_jax.paper import published
from ttp_jax.paper.records import POINTS, Cell
from ttp_jax.runs.experiment import Experiment

SCENARIOS = ("none", "online", "offline")
TRAINS = {"paper": "encoder and psi_self only", "norms": "normalisation layers only"}
JOINED = ("h36m", "bbc_pose")  # sources of single frames and several videos of a person


def each(experiment: Experiment, method, scenarios, **options):
    if method not in experiment.config.reproduce.methods:
        return []
    kept = [s for s in scenarios if s == "none" or tasks.of(method) is not tasks.NOTHING]
    return [
        Cell(method, s, seed, **options) for s in kept for seed in experiment.config.reproduce.seeds
    ]


def table1_cells(experiment: Experiment):
    first = experiment.config.reproduce.seeds[0]
    yield Cell("transformer", "mean pose", first)
    yield Cell("transformer", "untrained", first)
    for method in experiment.config.reproduce.methods:
        yield from each(experiment, method, SCENARIOS)


def transformer_cells(experiment: Experiment):
    return each(experiment, "transformer", SCENARIOS)


def table2_cells(experiment: Experiment):
    for count in (1, 2, 3, 4):
        yield from each(
            experiment, "transformer", ("online",), changes=iterations(experiment, count)
        )


def iterations(experiment: Experiment, count):
    return () if count == experiment.config.ttp.iterations else (("ttp.iterations", count),)


def smoothed_cells(experiment: Experiment):
    if experiment.data.source not in JOINED:
        yield from best_cells(experiment)


def quoted_cells(experiment: Experiment):
    if experiment.name in published.OTHERS:
        yield from best_cells(experiment)


def best_cells(experiment: Experiment):
    yield from each(experiment, "baseline", ("none",))
    yield from transformer_cells(experiment)


def transfer_cells(experiment: Experiment):
    if experiment.config.transfer.get("source"):
        yield Cell("transformer", "mean pose", experiment.config.reproduce.seeds[0], transfer=True)
        yield from each(experiment, "baseline", ("none",), transfer=True)
        yield from each(experiment, "transformer", SCENARIOS, transfer=True)


def length_cells(experiment: Experiment):
    yield from each(experiment, "transformer", ("none", "online"))
    for changes in lengths(experiment):
        yield from each(experiment, "transformer", ("online",), changes=changes)


def lengths(experiment: Experiment):
    for length in experiment.config.reproduce.lengths:
        yield (("ttp.reset", str(length)),)
    for extra in experiment.config.reproduce.extra:
        yield (("data.extra", extra),)


def ablations():
    for rules in TRAINS:
        yield f"trains: {TRAINS[rules]}", (("ttp.rules", rules),)
    yield "normalisers carried from person to person", (("ttp.normalisers", "carried"),)
    yield "colours swapped (BGR), trained so", (("model.color_order", "bgr"),)


def ablation_cells(experiment: Experiment):
    if "transformer" not in experiment.config.reproduce.methods:
        return
    first = experiment.config.reproduce.seeds[0]
    for _, changes in (("", ()), *ablations()):
        yield ablation_base(first, changes)
        for scenario in SCENARIOS[1:]:
            yield Cell("transformer", scenario, first, changes)


def ablation_base(seed, changes):
    """What an ablation's gain is over: without TTP, changes of test time don't matter."""
    kept = tuple(change for change in changes if not change[0].startswith("ttp."))
    return Cell("transformer", "none", seed, kept)


def choice_cells(experiment: Experiment):
    if (
        experiment.data.source != "synthetic"
        or "transformer" not in experiment.config.reproduce.methods
    ):
        return  # the other data sets have no validation people
    first = experiment.config.reproduce.seeds[0]
    yield Cell("transformer", "none", first, split="val")
    for rate in experiment.config.reproduce.rates:
        for count in experiment.config.reproduce.iterations:
            for scenario in SCENARIOS[1:]:
                yield Cell("transformer", scenario, first, choice(experiment, rate, count), "val")


def choice(experiment: Experiment, rate, count):
    changed = () if rate == experiment.config.ttp.learning_rate else (("ttp.learning_rate", rate),)
    return changed + iterations(experiment, count)


def points_cells(experiment: Experiment):
    for method in (m for m in METHODS if tasks.of(m).probe):
        yield from each(experiment, method, (POINTS, "offline"))
