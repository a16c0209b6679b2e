"""The paper's tables and figures: run what is missing, write the report."""

import collections
import pathlib
import time

import jax

from data_pipelines import clips as clips_lib
from ttp_jax import report, visualize
from ttp_jax.files import write_atomically
from ttp_jax.paper import pages, records, running, tables
from ttp_jax.paper.records import Cell
from ttp_jax.runs import diagnostics, provenance, sources
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import say

PICTURES = "figure5"
MENDABLE = (ValueError, ArithmeticError, FileNotFoundError)  # fail one cell, not those after it


def run(
    experiment: Experiment,
    workdir: pathlib.Path,
    what: str,
    cells: str | None = None,
    minutes: float = 0.0,
) -> int:
    """Run missing cells, then write the report; return the exit code.

    Args:
      experiment: whose tables they are.
      workdir: for models, figures and the report.
      what: names of tables and figures with commas, "all", or "report" to run nothing.
      cells: folder of finished cells; None for the workdir's.
      minutes: start nothing new after so many; 0 for no end.
    """
    known = (*tables.TABLES, PICTURES)
    names = known if what == "all" else tuple(what.split(","))
    if what == "report":
        names = ()
    if unknown := set(names) - set(known):
        raise ValueError(
            f"--what={', '.join(sorted(unknown))}: expected some of {', '.join(known)}."
        )
    if experiment.config.base:
        base = experiment.config.base
        raise ValueError(f"{experiment.name} takes the model {base}: name a config that trains.")
    provenance.where()  # the commit of the code that runs now
    folder = pathlib.Path(cells) if cells else workdir / "cells"
    if what == "report" and not folder.is_dir():
        raise ValueError(f"{folder} isn't there: name the folder of finished cells, --cells=DIR.")
    wanted = [
        cell for name in names if name != PICTURES for cell in tables.wanted(experiment, name)
    ]
    wanted = records.missing(experiment, list(dict.fromkeys(wanted)), folder)
    if names:
        say(f"{len(wanted)} cells to run")
    failed: dict[str, str] = {}
    try:
        done = _run_all(experiment, wanted, workdir, folder, minutes, failed)
        if done and PICTURES in names:
            _draw(experiment, workdir)
    finally:  # whatever stops it costs no table
        write_report(experiment, workdir, folder)
        for title, error in failed.items():
            say(f"FAILED {title}: {error}")
    return 1 if failed else 0


def _run_all(
    experiment: Experiment, wanted: list[Cell], workdir, folder, minutes: float, failed: dict
) -> bool:
    """Run cells, model by model, and note in `failed` why some can't; False if time ran out."""
    began = time.monotonic()
    wanted = _in_order(experiment, wanted)
    checked: set[tuple[str, bool]] = set()  # whose people are those of the finished cells
    untrained: set[str] = set()  # models whose training failed
    for number, cell in enumerate(wanted, 1):
        if not records.missing(experiment, [cell], folder):
            continue  # another process has run it meanwhile
        left = minutes - (time.monotonic() - began) / 60 if minutes else 0.0
        say(f"\n{number} of {len(wanted)}: {cell.title}")
        try:
            if cell.scenario != records.POINTS and (cell.split, cell.transfer) not in checked:
                running.check_people(experiment, cell, folder)  # before hours of training
                checked.add((cell.split, cell.transfer))
            trained = not _needs_model(cell) or (
                (not minutes or left > 0)
                and _train(experiment, cell, workdir, folder, left, untrained)
            )
            if not trained or (minutes and time.monotonic() - began > 60 * minutes):
                some = len(wanted) - number + 1
                say(f"time is up, {some} cells are left: the same command goes on")
                return False
            found = running.run(experiment, cell, workdir, folder)
        except MENDABLE as error:
            failed[cell.title] = str(error)
            say(f"FAILED {cell.title}: {error}")
            continue
        measure, values = next(iter(found.get("scores", {}).items()), ("", None))
        score = f"{measure} {values['mean']:.2f}" if values else "done"
        say(f"{cell.title}: {score} in {found['seconds']:.0f} s")
        # Programs of one cell are of no use to the next, and hold memory.
        jax.clear_caches()
    return True


def _train(
    experiment: Experiment, cell: Cell, workdir, folder, minutes: float, untrained: set[str]
) -> bool:
    """`running.train_model`, but what failed once isn't tried again for the model's other cells."""
    model = records.model_name(experiment, cell)
    if model in untrained:
        raise ValueError("its model could not be trained")
    try:
        return running.train_model(experiment, cell, workdir, folder, minutes)
    except MENDABLE:
        untrained.add(model)
        raise


def _needs_model(cell: Cell) -> bool:
    return cell.scenario not in records.WITHOUT_MODEL


def _in_order(experiment: Experiment, wanted: list[Cell]) -> list[Cell]:
    """What needs no model first, then model by model, as the tables come to them."""
    models = list(dict.fromkeys(records.model_name(experiment, cell) for cell in wanted))

    def place(cell):
        return _needs_model(cell), models.index(records.model_name(experiment, cell))

    return sorted(wanted, key=place)


def _draw(experiment: Experiment, workdir: pathlib.Path) -> None:
    """Figures 5, 7 and 8: the first people of the test split, after offline personalization."""
    cell = _drawn(experiment)
    own, folder = records.experiment_of(experiment, cell), _figures(experiment, workdir)
    try:
        base = running.base_of(experiment, cell, workdir)
    except FileNotFoundError as error:
        say(f"no pictures, they are by the trained Transformer (--what=table1): {error}")
        return
    runner = Runner(own, base, "offline")
    clips = clips_lib.by_subject(sources.load_clips(own.data, "test"))[: own.config.eval.pictures]
    missing = [clip for clip in clips if not (folder / f"{clip.name}.png").exists()]
    for clip, result in runner.many(missing):
        if isinstance(result, Exception):
            raise result
        seen = runner.variables(result), clip, result.frames, result.joints
        visualize.save(folder / f"{clip.name}.png", diagnostics.figure5(own, *seen))


def _drawn(experiment: Experiment) -> Cell:
    return Cell("transformer", "offline", experiment.config.reproduce.seeds[0])


def _figures(experiment: Experiment, workdir: pathlib.Path) -> pathlib.Path:
    """The folder of the pictures that are of these settings."""
    return workdir / "figures" / records.cell_name(experiment, _drawn(experiment))


def write_report(experiment: Experiment, workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """Write report.md and report.html of all tables, from what there is."""

    shown = {name: of for name in tables.TABLES if (of := tables.wanted(experiment, name))}
    wanted = dict.fromkeys(cell for of in shown.values() for cell in of)
    read = {cell: records.read(folder, records.cell_name(experiment, cell)) for cell in wanted}
    there, strange = _comparable(experiment, {k: v for k, v in read.items() if v is not None})
    found = [tables.TABLES[name][1](experiment, there.get) for name in shown]
    trainings = _trainings(experiment, wanted, folder)
    found += [pages.trainings(trainings), pages.ran(list(there.values()))]
    about = _about(experiment, list(there.values()), trainings) + strange
    pictures = sorted(_figures(experiment, workdir).glob("*.png"))
    again = f"python main.py reproduce --config=configs/{experiment.name}.py --what=all"
    text = [f"# Reproduction: {experiment.name}", "", "```bash", again, "```", ""]
    text += ["\n\n".join(about), "", *map(pages.markdown, found)]
    if pictures:
        text += ["## Figures 5, 7, 8", ""]
        text += [f"![{path.stem}]({path.relative_to(workdir).as_posix()})" for path in pictures]
    page = "\n".join(text) + "\n"
    write_atomically(workdir / "report.md", lambda path: path.write_text(page))
    sections = [report.section("What this is", report.code(again), *map(report.paragraph, about))]
    sections += map(pages.html, found)
    if pictures:
        shown = (report.picture(path, path.stem, path.stem) for path in pictures)
        sections.append(report.section("Figures 5, 7, 8", *shown))
    report.save(workdir / "report.html", report.page(f"Reproduction: {experiment.name}", sections))
    say(f"wrote {workdir / 'report.md'} and {workdir / 'report.html'}")


def _comparable(
    experiment: Experiment, there: dict[Cell, dict]
) -> tuple[dict[Cell, dict], list[str]]:
    """The cells that may be compared, and a line about those that are left out.

    All of one model are of one training, and all of one split of the same people: what most of them
    are of counts. A model that was trained again, or other data in the same folder, is another.
    """
    rules = (
        (lambda cell: records.model_name(experiment, cell), lambda told: told.get("base")),
        (lambda cell: (cell.split, cell.transfer), lambda told: tuple(told.get("people", ()))),
    )
    strange: list[str] = []
    for group_of, value_of in rules:
        votes: dict = collections.defaultdict(collections.Counter)
        for cell, told in there.items():
            if value := value_of(told):
                votes[group_of(cell)][value] += 1
        usual = {group: counts.most_common(1)[0][0] for group, counts in votes.items()}
        same = {c: t for c, t in there.items() if value_of(t) in (None, (), usual.get(group_of(c)))}
        strange += [records.cell_name(experiment, cell) for cell in there if cell not in same]
        there = same
    if not strange:
        return there, []
    return there, [
        f"LEFT OUT, of another training or other people than the rest: {', '.join(strange)}. "
        "Delete these files from the folder of cells, and run the command again."
    ]


def _trainings(experiment: Experiment, wanted, folder: pathlib.Path) -> dict[str, dict | None]:
    """The cells of the trainings of all models, None for those that are missing."""
    given, found = dict(experiment.config.reproduce.given), {}
    for cell in wanted:
        if cell.scenario != "none" or cell.split != "test" or cell.transfer:
            continue
        name = records.model_name(experiment, cell)
        told = records.read(folder, f"training-{name}")
        if told is None and name in given:
            told = {"given": given[name]}
        changes = (f"{field.split('.')[-1]} {value}" for field, value in cell.changes)
        found[", ".join((cell.method, f"seed {cell.seed}", *changes))] = told
    return found


def _about(
    experiment: Experiment, there: list[dict], trainings: dict[str, dict | None]
) -> list[str]:
    """What a reader must know first."""
    kinds = sorted(set(map(pages.machine, there)))
    pieces = (piece for told in trainings.values() for piece in (told or {}).get("pieces", ()))
    commits = sorted({str(made["commit"]) for made in (*there, *pieces)})
    data = (
        "rendered (synthetic) people"
        if experiment.data.source == "synthetic"
        else experiment.data.source
    )
    measures = sorted({measure for c in there for measure in c.get("scores", ())})
    return [
        "The command runs what isn't there yet in the folder of finished cells, `--cells=DIR`; "
        "with `--what=report` it runs nothing.",
        f"Data: {data}, but for Table 6. Measures: {', '.join(measures) or 'none yet'}.",
        "Seconds and memory are of the machine as it was, with what else ran on it.",
        f"{len(there)} cells; machines: {'; '.join(kinds) or 'none'}; "
        f"commits: {', '.join(commits) or 'none'}.",
    ]
