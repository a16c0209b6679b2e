"""Which runs each table and figure is made of."""

from ttp_jax import tasks
from ttp_jax.models.pose import METHODS
from ttp_jax.paper import published
from ttp_jax.paper.records import POINTS, RunSpec
from ttp_jax.runs.experiment import Experiment

SCENARIOS = ("none", "online", "offline")
TRAINS = {"paper": "encoder and psi_self only", "norms": "normalisation layers only"}
JOINED = ("h36m", "bbc_pose")  # sources of single frames and several videos of a person


def each(experiment: Experiment, method, scenarios, **options) -> list[RunSpec]:
    """A method's runs in these scenarios with every seed; none if the experiment leaves it out.

    Methods without a self-supervised task have the scenario "none" only. `options` are further
    fields of `RunSpec`.
    """
    if method not in experiment.config.reproduce.methods:
        return []
    kept = [s for s in scenarios if s == "none" or tasks.of(method) is not tasks.NOTHING]
    return [
        RunSpec(method, s, seed, **options)
        for s in kept
        for seed in experiment.config.reproduce.seeds
    ]


def table1_runs(experiment: Experiment):
    first = experiment.config.reproduce.seeds[0]
    yield RunSpec("transformer", "mean pose", first)
    yield RunSpec("transformer", "untrained", first)
    for method in experiment.config.reproduce.methods:
        yield from each(experiment, method, SCENARIOS)


def transformer_runs(experiment: Experiment):
    return each(experiment, "transformer", SCENARIOS)


def table2_runs(experiment: Experiment):
    for count in (1, 2, 3, 4):
        yield from each(
            experiment, "transformer", ("online",), changes=iterations(experiment, count)
        )


def iterations(experiment: Experiment, count):
    return () if count == experiment.config.ttp.iterations else (("ttp.iterations", count),)


def smoothed_runs(experiment: Experiment):
    if experiment.data.source not in JOINED:
        yield from best_runs(experiment)


def quoted_runs(experiment: Experiment):
    if experiment.name in published.OTHERS:
        yield from best_runs(experiment)


def best_runs(experiment: Experiment):
    yield from each(experiment, "baseline", ("none",))
    yield from transformer_runs(experiment)


def transfer_runs(experiment: Experiment):
    if experiment.config.transfer.get("source"):
        yield RunSpec(
            "transformer", "mean pose", experiment.config.reproduce.seeds[0], transfer=True
        )
        yield from each(experiment, "baseline", ("none",), transfer=True)
        yield from each(experiment, "transformer", SCENARIOS, transfer=True)


def length_runs(experiment: Experiment):
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
    yield "BGR colours, in training as well", (("model.color_order", "bgr"),)


def ablation_runs(experiment: Experiment):
    if "transformer" not in experiment.config.reproduce.methods:
        return
    first = experiment.config.reproduce.seeds[0]
    for _, changes in (("", ()), *ablations()):
        yield ablation_base(first, changes)
        for scenario in SCENARIOS[1:]:
            yield RunSpec("transformer", scenario, first, changes)


def ablation_base(seed, changes):
    """The run without TTP that an ablation is compared with, where no test-time change counts."""
    kept = tuple(change for change in changes if not change[0].startswith("ttp."))
    return RunSpec("transformer", "none", seed, kept)


def choice_runs(experiment: Experiment):
    if (
        experiment.data.source != "synthetic"
        or "transformer" not in experiment.config.reproduce.methods
    ):
        return  # the other data sets have no validation people
    first = experiment.config.reproduce.seeds[0]
    yield RunSpec("transformer", "none", first, split="val")
    for rate in experiment.config.reproduce.rates:
        for count in experiment.config.reproduce.iterations:
            for scenario in SCENARIOS[1:]:
                yield RunSpec(
                    "transformer", scenario, first, choice(experiment, rate, count), "val"
                )


def choice(experiment: Experiment, rate, count):
    changed = () if rate == experiment.config.ttp.learning_rate else (("ttp.learning_rate", rate),)
    return changed + iterations(experiment, count)


def points_runs(experiment: Experiment):
    for method in (m for m in METHODS if tasks.of(m).probe):
        yield from each(experiment, method, (POINTS, "offline"))
