"""Reproduction of the paper's tables and figures: makes missing runs, writes the report."""

import collections
import pathlib
import re
import sys
import time
import urllib.parse

import jax

from data_pipelines import clips as clips_lib
from ttp_jax import report, visualize
from ttp_jax.files import Busy, only_one, write_atomically
from ttp_jax.paper import pages, records, running, tables
from ttp_jax.paper.records import RunSpec
from ttp_jax.paper.selection import Grid
from ttp_jax.runs import diagnostics, provenance, sources
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.process import say, say_failed

PICTURES = "figure5"
# These errors end one run, not all of them.
MENDABLE = (ValueError, ArithmeticError, FileNotFoundError)


def run(
    experiment: Experiment,
    workdir: pathlib.Path,
    what: str,
    kept: str | None = None,
    minutes: float = 0.0,
) -> int:
    """Carry out the runs that have no record yet, then write the report; return the exit code.

    Args:
      experiment: the experiment whose tables are made.
      workdir: folder for models, figures and the report.
      what: names of tables and figures, separated by commas, "all", or "report" to run nothing.
      kept: folder of run records; None for the one in the workdir.
      minutes: time after which no run is started; 0: no limit.

    Raises:
      ValueError: an unknown table, a config that trains no model, or a missing folder of records.
    """
    known = (*tables.TABLES, PICTURES)
    names = tuple(name.strip() for name in what.split(","))
    if unknown := set(names) - {*known, "all", "report"}:
        raise ValueError(
            f"--what={', '.join(sorted(unknown))}: expected some of {', '.join(known)}, all, "
            "report."
        )
    names = known if "all" in names else tuple(name for name in names if name != "report")
    _check_fields(experiment)
    provenance.where()  # note the commit now, before the code can change
    folder = pathlib.Path(kept) if kept else _records_folder(workdir)
    if not names and not folder.is_dir():
        raise ValueError(f"{folder} does not exist: name the folder of run records, --records=DIR.")
    grid = Grid.of(experiment.config)
    _warn_of_unused(experiment, grid)
    wanted = [spec for name in names if name != PICTURES for spec in tables.wanted(grid, name)]
    wanted = records.missing(experiment, list(dict.fromkeys(wanted)), folder)
    if names:
        say(f"{len(wanted)} runs to do")
    failed: dict[str, str] = {}
    try:
        done = _run_all(experiment, wanted, workdir, folder, minutes, failed)
        if done and PICTURES in names:
            _draw(experiment, workdir, folder)
    finally:  # the tables are written even if a run fails
        write_report(experiment, workdir, folder)
        say_failed(failed)
    return 1 if failed else 0


def _check_fields(experiment: Experiment) -> None:
    """Raise ValueError for fields that contradict what the tables say of their rows."""
    config = experiment.config
    if config.base:
        raise ValueError(
            f"{experiment.name} takes the model {config.base}: name a config that trains."
        )
    if config.ttp.method != "ttp":
        raise ValueError(
            f"config.ttp.method is {config.ttp.method!r}: reproduce compares TTP with the other "
            "methods itself (--what=adapt), so leave this field out."
        )
    if config.ttp.reset != "subject":
        raise ValueError(
            f"config.ttp.reset is {config.ttp.reset!r}: reproduce adapts to whole subjects; "
            "config.reproduce.lengths are the lengths of Figure 4."
        )
    if config.seed:
        raise ValueError(
            f"config.seed is {config.seed}: reproduce trains with the seeds of "
            "config.reproduce.seeds."
        )


def _warn_of_unused(experiment: Experiment, grid: Grid) -> None:
    """Say which models of `config.reproduce.given` no run of the tables uses."""
    if not experiment.config.reproduce.given:
        return
    specs = [spec for name in tables.TABLES for spec in tables.wanted(grid, name)]
    used = {records.model_name(experiment, spec) for spec in dict.fromkeys(specs)}
    if unused := [name for name, _ in experiment.config.reproduce.given if name not in used]:
        say(
            f"config.reproduce.given names {', '.join(unused)}, which no run of these settings "
            "uses: other models are trained"
        )


def _records_folder(workdir: pathlib.Path) -> pathlib.Path:
    """Return the default folder of run records, which earlier versions called `cells`."""
    folder, earlier = workdir / "records", workdir / "cells"
    return earlier if earlier.is_dir() and not folder.is_dir() else folder


def _run_all(
    experiment: Experiment, wanted: list[RunSpec], workdir, folder, minutes: float, failed: dict
) -> bool:
    """Carry out runs, model by model; note failures in `failed`.

    Returns:
      False if runs are left, because time ran out or another process trains their models.
    """
    began = time.monotonic()
    wanted = _in_order(experiment, wanted)
    wrong = _wrong_data(experiment, wanted, folder)
    untrained: set[str] = set()  # models whose training failed
    elsewhere: collections.Counter = collections.Counter()  # runs left to other processes
    for number, spec in enumerate(wanted, 1):
        if not records.missing(experiment, [spec], folder):
            continue  # another process has carried it out meanwhile
        left = minutes - (time.monotonic() - began) / 60 if minutes else 0.0
        say(f"\n{number} of {len(wanted)}: {spec.title}")
        work = "training its model"
        try:
            if _data_of(spec) in wrong and spec.scenario != records.POINTS:
                raise wrong[_data_of(spec)]
            trained = not _needs_model(spec) or (
                (not minutes or left > 0)
                and _train(experiment, spec, workdir, folder, left, untrained)
            )
            if not trained or (minutes and time.monotonic() - began > 60 * minutes):
                some = len(wanted) - number + 1
                say(f"time is up, {some} runs are left: the same command continues")
                return False
            work = "making this run"
            found = _once(experiment, spec, workdir, folder)
            if found is None:
                continue
        except Busy:
            elsewhere[work] += 1
            say(f"{spec.title}: another process is {work} in {workdir}")
            continue
        except MENDABLE as error:
            failed[spec.title] = str(error)
            say(f"FAILED {spec.title}: {error}")
            continue
        measure, values = next(iter(found.get("scores", {}).items()), ("", None))
        score = f"{measure} {values['mean']:.2f}" if values else "done"
        say(f"{spec.title}: {score} in {found['seconds']:.0f} s")
        # Free the memory of compiled programs, because the next run needs others.
        jax.clear_caches()
    for work, count in elsewhere.items():
        work = {"training its model": "training their models"}.get(work, "making them")
        say(
            f"runs left, because another process is {work}: {count}. When it has ended, the same "
            "command continues"
        )
    return not elsewhere


def _data_of(spec: RunSpec) -> tuple:
    """Return what a run's people and frames depend on, within an experiment."""
    return spec.split, spec.transfer, running.data_changes(spec)


def _wrong_data(
    experiment: Experiment, wanted: list[RunSpec], folder: pathlib.Path
) -> dict[tuple, Exception]:
    """Return an error for the data of which no run can be made, before hours of training."""
    scored = {_data_of(spec): spec for spec in wanted if spec.scenario != records.POINTS}
    wrong: dict[tuple, Exception] = {}
    for data, spec in scored.items():
        try:
            running.check_people(experiment, spec, folder)
        except MENDABLE as error:
            wrong[data] = error
    for error in dict.fromkeys(map(str, wrong.values())):
        say(f"some runs can't be made: {error}")
    return wrong


def _once(experiment: Experiment, spec: RunSpec, workdir, folder: pathlib.Path) -> dict | None:
    """Carry out a run; return None if another process has just done it. Raises Busy."""
    with only_one(folder / f"{records.record_name(experiment, spec)}.json"):
        if not records.missing(experiment, [spec], folder):
            return None
        return running.run(experiment, spec, workdir, folder)


def _train(
    experiment: Experiment, spec: RunSpec, workdir, folder, minutes: float, untrained: set[str]
) -> bool:
    """Call `running.train_model`, unless this training has failed before."""
    model = records.model_name(experiment, spec)
    if model in untrained:
        raise ValueError("its model could not be trained")
    try:
        return running.train_model(experiment, spec, workdir, folder, minutes)
    except Busy:
        raise
    except MENDABLE:
        untrained.add(model)
        raise


def _needs_model(spec: RunSpec) -> bool:
    return spec.scenario not in records.WITHOUT_MODEL


def _in_order(experiment: Experiment, wanted: list[RunSpec]) -> list[RunSpec]:
    """Order the runs: first those without a model, then model by model, in the tables' order."""
    models = list(dict.fromkeys(records.model_name(experiment, spec) for spec in wanted))

    def place(spec):
        return _needs_model(spec), models.index(records.model_name(experiment, spec))

    return sorted(wanted, key=place)


def _draw(experiment: Experiment, workdir: pathlib.Path, kept: pathlib.Path) -> None:
    """Draw Figures 5, 7 and 8 for the first people, after offline personalization."""
    spec = _drawn(experiment)
    own, folder = records.experiment_of(experiment, spec), _figures(experiment, workdir)
    if running.in_training(experiment, spec, workdir, kept):
        say("no pictures: the Transformer is still in training (--what=table1 continues it)")
        return
    try:
        base = running.base_of(experiment, spec, workdir)
    except FileNotFoundError as error:
        say(f"no pictures: they need the trained Transformer (--what=table1). {error}")
        return
    runner = Runner(own, base, "offline")
    clips = clips_lib.by_subject(sources.load_clips(own.data, spec.split))
    if not clips:
        say(f"no pictures: {own.data.root} has no {spec.split} clips")
        return
    drawn = clips[: own.config.eval.pictures]
    missing = [clip for clip in drawn if not (folder / f"{clip.name}.png").exists()]
    for clip, result in runner.many(missing):
        if isinstance(result, Exception):
            raise result
        seen = runner.variables(result), clip, result.frames, result.joints
        visualize.save(folder / f"{clip.name}.png", diagnostics.figure5(own, *seen))


def _drawn(experiment: Experiment) -> RunSpec:
    varied = experiment.config.reproduce
    return RunSpec("transformer", "offline", varied.seeds[0], split=varied.split)


def _figures(experiment: Experiment, workdir: pathlib.Path) -> pathlib.Path:
    """Return the folder of the figures that belong to these settings."""
    return workdir / "figures" / records.record_name(experiment, _drawn(experiment))


def write_report(experiment: Experiment, workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """Write report.md and report.html with all tables, from the existing records."""
    grid = Grid.of(experiment.config)
    shown = {name: of for name in tables.TABLES if (of := tables.wanted(grid, name))}
    wanted = dict.fromkeys(spec for of in shown.values() for spec in of)
    read = {spec: records.read(folder, records.record_name(experiment, spec)) for spec in wanted}
    there, excluded = _comparable(experiment, {k: v for k, v in read.items() if v is not None})
    made = {name: tables.TABLES[name][1](grid, there.get) for name in shown}
    later = {name: made.pop(name).title for name in _not_begun(shown, there)}
    found = list(made.values())
    trainings = _trainings(experiment, wanted, folder)
    found += [pages.trainings(trainings), pages.ran(list(there.values()))]
    about = _about(experiment, list(there.values()), trainings)
    if later:
        titles, words = "; ".join(later.values()), ",".join(later)
        about.append(f"Not begun: {titles}. `--what={words}` makes their runs.")
    about += excluded
    if not there and any(folder.glob("*.json")):
        about.append(
            f"No record in {folder} is of this config and these settings. Give the --config, and "
            "the --config.FIELDs, that its records were made with."
        )
    pictures = sorted(_figures(experiment, workdir).glob("*.png"))
    command = _command(experiment, there)
    text = [f"# Reproduction: {experiment.name}", "", "```bash", command, "```", ""]
    text += ["\n\n".join(about), "", *map(pages.markdown, found)]
    if pictures:
        text += ["## Figures 5, 7, 8", ""]
        # Quoted, because Markdown takes no blanks in an address, and folders of subjects have them.
        addresses = [urllib.parse.quote(p.relative_to(workdir).as_posix()) for p in pictures]
        text += [f"![{p.stem}]({at})" for p, at in zip(pictures, addresses, strict=True)]
    page = "\n".join(text) + "\n"
    write_atomically(workdir / "report.md", lambda path: path.write_text(page))
    sections = [report.section("What this is", report.code(command), *map(report.paragraph, about))]
    sections += map(pages.html, found)
    if pictures:
        shown = (report.picture(path, path.stem, path.stem) for path in pictures)
        sections.append(report.section("Figures 5, 7, 8", *shown))
    report.save(workdir / "report.html", report.page(f"Reproduction: {experiment.name}", sections))
    say(f"wrote {workdir / 'report.md'} and {workdir / 'report.html'}")


def _not_begun(shown: dict[str, list[RunSpec]], there: dict[RunSpec, dict]) -> list[str]:
    """Return the tables of whose own runs none has a record.

    Own are the runs that the first tables don't need. The table of the keypoints' influence shows
    runs of these as well.
    """
    first = {spec for name in ("adapt", "table1") for spec in shown.get(name, ())}
    own = {name: set(of) - first for name, of in shown.items() if name != "points"}
    return [name for name, runs in own.items() if runs and not runs & there.keys()]


def _command(experiment: Experiment, there: dict[RunSpec, dict]) -> str:
    """Return the command for all runs of the page, with the fields that the user has changed."""
    if sys.argv[1:2] == ["reproduce"]:
        return f"{records.command(left_out=('what',))} --what=all"
    name = f"configs/{experiment.name}.py"  # called by a program: as the records name the config
    for record in there.values():
        if named := re.search(r"--config=(\S+)", record.get("command", "")):
            name = named[1]
            break
    return f"python main.py reproduce --config={name} --what=all"


def _comparable(
    experiment: Experiment, there: dict[RunSpec, dict]
) -> tuple[dict[RunSpec, dict], list[str]]:
    """Return the records that can be compared, and a sentence about those that are left out.

    All records of one model must come from one training, and all records of one split from the
    same people. If some disagree, because a model was trained again or the data changed, the
    majority is kept.
    """
    rules = (
        (lambda spec: records.model_name(experiment, spec), lambda record: record.get("base")),
        (lambda spec: (spec.split, spec.transfer), lambda record: tuple(record.get("people", ()))),
    )
    excluded: list[str] = []
    for group_of, value_of in rules:
        votes: dict = collections.defaultdict(collections.Counter)
        for spec, record in there.items():
            if value := value_of(record):
                votes[group_of(spec)][value] += 1
        usual = {group: counts.most_common(1)[0][0] for group, counts in votes.items()}
        same = {s: r for s, r in there.items() if value_of(r) in (None, (), usual.get(group_of(s)))}
        excluded += [records.record_name(experiment, spec) for spec in there if spec not in same]
        there = same
    if not excluded:
        return there, []
    return there, [
        f"These run records are left out, because they belong to another training or other people: "
        f"{', '.join(excluded)}. Delete them from the folder of run records and run the command "
        "again."
    ]


def _trainings(experiment: Experiment, wanted, folder: pathlib.Path) -> dict[str, dict | None]:
    """Return the record of each model's training, None for missing ones."""
    given, found = dict(experiment.config.reproduce.given), {}
    listed: set[str] = set()
    for spec in wanted:
        name = records.model_name(experiment, spec)
        if spec.scenario != "none" or spec.transfer or name in listed:
            continue
        listed.add(name)
        record = records.read(folder, f"training-{name}")
        if record is None and name in given:
            record = {"given": given[name]}
        changes = (f"{field.split('.')[-1]} {value}" for field, value in spec.changes)
        found[", ".join((spec.method, f"seed {spec.seed}", *changes))] = record
    return found


def _about(
    experiment: Experiment, there: list[dict], trainings: dict[str, dict | None]
) -> list[str]:
    """Return the sentences at the top of the report."""
    kinds = sorted(set(map(pages.machine, there)))
    pieces = (piece for record in trainings.values() for piece in (record or {}).get("pieces", ()))
    commits = sorted({str(made["commit"]) for made in (*there, *pieces)})
    named = {"synthetic": "rendered (synthetic) people", "project": "a labelled project"}
    data = str(named.get(experiment.data.source, experiment.data.source))
    others = ", except in Table 6" if experiment.config.transfer.get("source") else ""
    data += others
    if (split := experiment.config.reproduce.split) != "test":
        data += f". Subjects: those of the split {split} (`config.reproduce.split`){others}"
    if experiment.data.get("folds"):
        data += f", fold {experiment.data.fold} of {experiment.data.folds}"
    measures = dict.fromkeys(measure for record in there for measure in record.get("scores", ()))
    left_out = dict.fromkeys(record.get("left_out") for record in there)
    return [
        "The command makes those runs that have no record in the folder `--records=DIR`. With "
        "`--what=report`, it only writes this report.",
        f"Data: {data}. Scores: {', '.join(measures) or 'none yet'}.",
        "Other programs may have been running when seconds and memory were measured.",
        f"{len(there)} run records; machines: {'; '.join(kinds) or 'none'}; "
        f"commits: {', '.join(commits) or 'none'}.",
        *filter(None, left_out),
    ]
