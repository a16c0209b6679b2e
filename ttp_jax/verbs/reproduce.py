"""Make the paper's tables and figures, running what is missing.

    python main.py reproduce --config=configs/rendered.py --what=table1
    python main.py reproduce --config=configs/penn.py --config.data.root=DIR --what=table1,figure5
    python main.py reproduce --config=configs/rendered.py --what=report       # run nothing

--what takes names with commas: table1 (methods and scenarios), claims (what the paper claims, as
differences with intervals), table2 (updates a frame), table3 (3
and 4: beside the state of the art), table5 (smoothing), table6 (another data set's people),
figure3 (gain over time), figure4 (gain against number of frames), figure5 (5, 7 and 8: pictures),
ablations, points (are the keypoints alive), choice (learning rate and updates a frame, on
validation people), all, or report.

The work is cut into cells: one training, or one model run once over all people of a split. Each
leaves a small JSON file in --cells (WORKDIR/cells) and is never computed twice; a training goes on
from its last checkpoint. --minutes=N ends after about so many minutes: the same command goes on.
Models are under WORKDIR/models, by a fingerprint of what they were trained on and how. Writes
WORKDIR/report.md and WORKDIR/report.html, one file that opens anywhere; what has not been run is
shown as missing. --config.reproduce.seeds="(0,)" and
--config.reproduce.methods="('transformer',)" do a part of it. config.reproduce.given names models
that are included, so that these are not trained ("()": train them too).
"""

import pathlib
import time

import jax

from data_pipelines import clips as clips_lib
from ttp_jax import report, visualize
from ttp_jax.files import write_atomically
from ttp_jax.verbs import cells, experiment, receipts, tables
from ttp_jax.verbs.cells import Cell
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import Runner

PICTURES = "figure5"


def run(config, workdir: pathlib.Path, options) -> int:
    """Run missing cells, then write the report."""
    known = (*tables.TABLES, PICTURES)
    names = known if options.what == "all" else tuple(options.what.split(","))
    if options.what == "report":
        names = ()
    if unknown := set(names) - set(known):
        raise ValueError(
            f"--what={', '.join(sorted(unknown))}: expected some of {', '.join(known)}."
        )
    if config.base:
        raise ValueError(f"{config.name} takes the model {config.base}: name a config that trains.")
    receipts.where()  # the commit of the code that runs now
    folder = pathlib.Path(options.cells) if options.cells else workdir / "cells"
    if options.what == "report" and not folder.is_dir():
        raise ValueError(f"{folder} isn't there: name the folder of finished cells, --cells=DIR.")
    wanted = [cell for name in names if name != PICTURES for cell in tables.wanted(config, name)]
    wanted = cells.missing(config, list(dict.fromkeys(wanted)), folder)
    if names:
        say(f"{len(wanted)} cells to run")
    try:
        done = _run_all(config, wanted, workdir, folder, options.minutes)
        if done and PICTURES in names:
            _draw(config, workdir)
    finally:  # one cell that fails costs no table
        write_report(config, workdir, folder)
    return 0


def _run_all(config, wanted: list[Cell], workdir, folder, minutes: float) -> bool:
    """Run cells, model by model; False if time ran out."""
    began = time.monotonic()
    wanted = sorted(wanted, key=lambda cell: cells.model_name(config, cell))
    for number, cell in enumerate(wanted, 1):
        if not cells.missing(config, [cell], folder):
            continue  # another process has run it meanwhile
        left = minutes - (time.monotonic() - began) / 60 if minutes else 0.0
        say(f"\n{number} of {len(wanted)}: {cell.title}")
        trained = cell.scenario in cells.WITHOUT_MODEL or (
            (not minutes or left > 0) and cells.train_model(config, cell, workdir, folder, left)
        )
        if not trained or (minutes and time.monotonic() - began > 60 * minutes):
            say(f"time is up, {len(wanted) - number + 1} cells are left: the same command goes on")
            return False
        found = cells.run(config, cell, workdir, folder)
        measure, values = next(iter(found.get("scores", {}).items()), ("", None))
        score = f"{measure} {values['mean']:.2f}" if values else "done"
        say(f"{cell.title}: {score} in {found['seconds']:.0f} s")
        # Programs of one cell are of no use to the next, and hold memory.
        jax.clear_caches()
    return True


def _draw(config, workdir: pathlib.Path) -> None:
    """Figures 5, 7 and 8: the first people of the test split, after offline personalization."""
    cell = Cell("transformer", "offline", config.reproduce.seeds[0])
    own = cells.config_of(config, cell)
    try:
        base = cells.base_of(config, cell, workdir)
    except FileNotFoundError as error:
        say(f"no pictures, they are by the trained Transformer (--what=table1): {error}")
        return
    runner = Runner(own, base, "offline")
    clips = clips_lib.by_subject(experiment.load_clips(own, "test"))[: own.eval.pictures]
    for clip, result in runner.many(clips):
        if isinstance(result, Exception):
            raise result
        visualize.save(workdir / "figures" / f"{clip.name}.png", runner.picture(clip, result))


def write_report(config, workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """Write report.md and report.html of all tables, from what there is."""

    def find(cell):
        return cells.read(folder, cells.cell_name(config, cell))

    found = [make(config, find) for _, make in tables.TABLES.values()]
    found.append(tables.trainings(_trainings(config, folder)))
    wanted = (cell for name in tables.TABLES for cell in tables.wanted(config, name))
    there = [cell for cell in map(find, dict.fromkeys(wanted)) if cell is not None]
    found.append(tables.ran(there))
    about = _about(config, there)
    pictures = sorted((workdir / "figures").glob("*.png"))
    again = f"python main.py reproduce --config=configs/{config.name}.py --what=all"
    text = [f"# Reproduction: {config.name}", "", "```bash", again, "```", ""]
    text += ["\n\n".join(about), "", *map(tables.markdown, found)]
    if pictures:
        text += ["## Figures 5, 7, 8", ""]
        text += [f"![{path.stem}](figures/{path.name})" for path in pictures]
    page = "\n".join(text) + "\n"
    write_atomically(workdir / "report.md", lambda path: path.write_text(page))
    sections = [report.section("What this is", *map(report.paragraph, (again, *about)))]
    sections += map(tables.html, found)
    if pictures:
        shown = (report.picture(path, path.stem, path.stem) for path in pictures)
        sections.append(report.section("Figures 5, 7, 8", *shown))
    report.save(workdir / "report.html", report.page(f"Reproduction: {config.name}", sections))
    say(f"wrote {workdir / 'report.md'} and {workdir / 'report.html'}")


def _trainings(config, folder: pathlib.Path) -> dict[str, dict | None]:
    """The cells of the trainings that Table 1 needs, None for those that are missing."""
    wanted = [cell for cell in tables.wanted(config, "table1") if cell.scenario == "none"]
    given, found = dict(config.reproduce.given), {}
    for cell in wanted:
        name = cells.model_name(config, cell)
        told = cells.read(folder, f"training-{name}")
        if told is None and name in given:
            told = {"given": given[name]}
        found[f"{cell.method}, seed {cell.seed}"] = told
    return found


def _about(config, there) -> list[str]:
    """What a reader must know first."""
    kinds = sorted(set(map(tables.machine, there)))
    commits = sorted({str(c["commit"]) for c in there})
    data = (
        "rendered (synthetic) people" if config.data.source == "synthetic" else config.data.source
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
