"""List, compare or delete the personalized models that were kept.

    python main.py people list runs/tiny       (or without the word list)
    python main.py people compare runs/tiny anna-monday anna-friday
    python main.py people delete runs/tiny anna-monday

`personalize --keep=fp16` keeps models (or --keep=full, or rank8, which is smaller, see
docs/scaling.md), and `predict anna.mp4 --person=anna-monday` uses one. A file holds the difference
to the model in the workdir, and works only with that model.
"""

import pathlib

from ttp_jax import people
from ttp_jax.files import plain_name
from ttp_jax.runs.process import say


def run(words: list[str]) -> int:
    """Run the command that the words after `people` name; return the exit code."""
    match words:
        case [workdir] if pathlib.Path(workdir).is_dir():
            return show(folder_of(workdir))
        case ["list", workdir]:
            return show(folder_of(workdir))
        case ["compare", workdir, one, other]:
            return compare(folder_of(workdir), one, other)
        case ["delete", workdir, name]:
            path = file_of(folder_of(workdir), name)
            if not path.exists():
                people.read(path)  # raises with a list of the kept models
            path.unlink()  # even if it is damaged
            say(f"deleted {path}")
            return 0
    raise ValueError(
        "usage: people list WORKDIR, people compare WORKDIR NAME NAME, or people delete WORKDIR "
        "NAME."
    )


def folder_of(workdir: str) -> pathlib.Path:
    """Return the folder of kept models; raise FileNotFoundError if the workdir doesn't exist."""
    if not pathlib.Path(workdir).expanduser().is_dir():
        raise FileNotFoundError(
            f"{workdir} is not a folder: name the --workdir that holds the models."
        )
    return pathlib.Path(workdir).expanduser() / "people"


def file_of(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Return the file of a kept model.

    Args:
      folder: folder of the kept models.
      name: name of the model or of its file.

    Raises ValueError for a name with folders in it.
    """
    return folder / f"{plain_name(name.removesuffix('.npz'), 'NAME')}.npz"


def show(folder: pathlib.Path) -> int:
    """Print a table of the kept models."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        say(f"no models in {folder}: run personalize with --keep=fp16 to keep them")
        return 0
    width = max(24, *(len(path.stem) + 2 for path in paths))
    say(f"{'name':{width}}{'KiB':>8}  {'form':8}{'scenario':10}{'updates':>8}  base")
    for path in paths:
        try:
            about = people.read(path).about
        except ValueError as error:
            say(f"{path.stem:{width}}{error}")
            continue
        say(
            f"{path.stem:{width}}{path.stat().st_size / 1024:8.0f}  {about['form']:8}"
            f"{about.get('scenario', '?'):10}{about.get('updates', '?'):>8}  {about['base'][:12]}"
        )
    return 0


def compare(folder: pathlib.Path, one: str, other: str) -> int:
    """Print a comparison of two personalized models."""
    pair = [people.read(file_of(folder, name)) for name in (one, other)]
    heads = [f"  |{name}|".rjust(16) for name in (one, other)]
    first, second = map(len, heads)
    say(f"{'part':24}{''.join(heads)}{'cosine':>8}")
    for part, mine, others, cosine in people.compare(*pair):
        say(f"{part:24}{mine:{first}.4f}{others:{second}.4f}{cosine:8.3f}")
    return 0
