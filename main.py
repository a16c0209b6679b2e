"""Test-Time Personalization of 2-D human pose models.

    python main.py personalize my_video.mp4 --scenario=offline
    python main.py [VERB] --config=configs/NAME.py [--workdir=DIR] [--config.FIELD=VALUE ...]

Verbs: train (the default), personalize, predict, evaluate, reproduce, export, info, people, verify,
live, fetch, doctor.
`python main.py VERB --help` explains one.
"""

import contextlib
import difflib
import importlib
import itertools
import os
import pathlib
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

# OpenCV's ffmpeg tells of every damaged frame in lines that name no file; what matters of that the
# readers say themselves. Read once, when OpenCV opens its first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import jax
from absl import flags
from tqdm import tqdm

from ttp_jax import parallel
from ttp_jax.checkpoint import read_model
from ttp_jax.verbs import command_line, experiment
from ttp_jax.verbs.command_line import DELIVERED, ON_FILES, VERBS, WITH_A_MODEL, WORDS
from ttp_jax.verbs.runner import Stopped

OWN = pathlib.Path(__file__).parent / "configs" / "own.py"
# What ml_collections puts before the reason why a config or its model can't be read.
NO_CONFIG = "Configuration is not available because of an earlier failure to load: "
STOPPED = "\nstopped: what is finished is kept"
FULL = (
    "the device's memory is full ({}). Training takes less with a smaller config.train.batch_size, "
    "a larger config.train.accumulate or config.train.remat=True; personalization with "
    "config.ttp.together=1 and a smaller config.ttp.memory or config.ttp.batch_size."
)
# What a user can do where a file can't be used.
REMEDIES = {
    FileNotFoundError: "Are its name and the folder that you are in right?",
    PermissionError: "Choose another place, or let yourself read and write there.",
    IsADirectoryError: "A file is expected, not a folder.",
}


def main(argv: list[str]) -> int:
    """Run one verb; what a user can mend is one line of error, everything else a traceback."""
    verb = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else None
    if verb is not None and verb not in VERBS:
        print(as_started(unknown(argv[1:])), file=sys.stderr)
        return 2
    module = importlib.import_module(f"ttp_jax.verbs.{verb or 'train'}")
    rest = argv[2:] if verb else argv[1:]
    if (not rest and verb != "doctor") or {"--help", "-help", "-h"} & set(rest):
        about = (module.__doc__ if verb else __doc__) or ""
        print(as_started(about + command_line.explained(verb)))
        return 0
    if verb in WORDS:
        return told(lambda: module.run(rest))

    command_line.define()
    try:
        inputs = parse([argv[0], *rest], verb)
        check(verb or "train", inputs)
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        hint = f"Help: python main.py {f'{verb} ' if verb else ''}--help"
        print(as_started(f"{in_words(error)}\n{hint}"), file=sys.stderr)
        return 2
    options, config = flags.FLAGS, flags.FLAGS.config
    workdir = pathlib.Path(options.workdir or f"runs/{config.name}")

    def work():
        apply_flags(config, options, inputs, verb)
        if options.hosts:
            parallel.join_hosts(options.hosts)
        check_device(options.device)
        return module.run(config, workdir, options)

    return told(work)


def check(verb: str, inputs: str) -> None:
    """Raise absl's flags.Error for a command line that this verb can't work by."""
    options, config = flags.FLAGS, flags.FLAGS.config
    if config is None:
        raise flags.Error("--config is missing, for example --config=configs/tiny.py")
    command_line.refuse_others(options, verb)
    if verb == "live" and not options.stdin:
        options.camera = options.camera or "0"
    if config.data.source != "media" or verb == "export" or (verb == "info" and not options.data):
        return
    if verb not in (*WITH_A_MODEL, "info"):
        raise flags.Error(
            f"{verb} needs a labelled data set; to score a video of your own: "
            "personalize my_video.mp4 --labels=FILE"
        )
    if not (inputs or config.data.root or options.camera or options.stdin):
        example = f"python main.py {verb} my_video.mp4"
        raise flags.Error(f"name a video or a folder of pictures, for example: {example}")


def apply_flags(config, options, inputs: str, verb: str | None) -> None:
    """Put what the flags say into the config; refuse flags that would do nothing."""
    live = options.camera or options.stdin
    if inputs:
        config.data.source, config.data.root, config.data.tfds = "media", inputs, ""
    if inputs or live:
        config.data.oversample = config.data.oversample or 2.0
    if options.iterations:
        config.ttp.iterations = options.iterations
    if options.frames:
        config.data.frames = options.frames
    if options.every:
        config.data.every = options.every
    if verb not in WITH_A_MODEL:
        return
    for name in ("keep", "overwrite"):
        if live and options[name].value:
            raise ValueError(f"--{name} is for videos and data sets, not for --camera or --stdin.")
    own = config.data.source == "media" and not live
    if inputs and live:
        raise ValueError("name a video, or --camera or --stdin: one of them at a time.")
    if not own and (config.data.frames or config.data.every > 1):
        raise ValueError("--frames and --every are for own videos and pictures.")
    if not own or not options.deliver or (verb == "predict" and not options.person):
        for name in DELIVERED:
            if options[name].value:
                raise ValueError(
                    f"--{name} is of no use here: what it asks for is made of own videos, before "
                    "and after (personalize, or predict --person; without --nodeliver)."
                )


def check_device(name: str | None) -> None:
    """Take the device that was asked for.

    Raises ValueError where there is none.
    """
    if not name:
        return
    jax.config.update("jax_platforms", name)
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(
            f"--device={name} isn't here ({error}): leave it out, or see `python main.py doctor`."
        ) from error


def parse(words: list[str], verb: str | None) -> str:
    """Parse the command line; return own videos and pictures, one a line.

    Verbs that can do with a model's file need no --config.
    """
    alone = verb in WITH_A_MODEL or (verb == "info" and "--data" in words)
    if alone and given(words, "config") is None:
        model = given(words, "model") or "shipped"
        read_model(experiment.model_path(model))  # or absl would print a traceback about the file
        # First: changes of fields must come after it.
        own = f"--config={OWN}:{model}"
        words = [words[0], own, *words[1:]]
    flags.FLAGS.set_gnu_getopt(True)  # videos may stand before flags
    inputs = flags.FLAGS(words)[1:]
    options = flags.FLAGS
    if inputs and options.inputs:
        raise flags.Error(f"videos are named twice: {' '.join(inputs)} and --inputs.")
    if inputs and verb not in (*ON_FILES, "info"):
        raise flags.Error(f"{' '.join(inputs)}: this verb takes flags only.")
    if options.model and verb in WITH_A_MODEL and options.config is not None:
        options.config.base = options.model
    return "\n".join(inputs) or options.inputs or ""


def given(words: list[str], name: str) -> str | None:
    """The value of a flag, as --name=value or --name value; None if it isn't there."""
    value = None
    for word, following in itertools.pairwise([*words, ""]):
        flag, equals, text = word.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = text if equals else following
    return value


def unknown(words: list[str]) -> str:
    """What to say of a first word that is no verb."""
    if os.path.exists(words[0]):
        return f"did you mean: python main.py {shlex.join(['personalize', *words])}"
    near = difflib.get_close_matches(words[0], VERBS, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown verb {words[0]!r}{meant}; verbs: {', '.join(VERBS)}"


def as_started(text: str) -> str:
    """Texts name `python main.py`; who started the installed command reads `ttp`."""
    installed = pathlib.Path(sys.argv[0]).stem == "ttp"
    return text.replace("python main.py", "ttp") if installed else text


def in_words(error: BaseException) -> str:
    """An error as a user reads it: without Python's marks, with a remedy where one is obvious."""
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        error = error.args[0]  # so ml_collections raises it
    if isinstance(error, KeyError):
        name, _, hint = str(error.args[0]).partition("\n")
        return f"the config has no field {name}. {hint}".strip()
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. {REMEDIES.get(type(error), '')}".strip()
    return str(error).removeprefix(NO_CONFIG)


def told(work: Callable[[], int]) -> int:
    """Do it; what the user can mend becomes one line of error."""
    experiment.use_compilation_cache()
    try:
        with plain_warnings(), ended_by_sigterm():
            return work()
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 128 + signal.SIGINT
    except Stopped:
        print(STOPPED, file=sys.stderr)
        return 128 + signal.SIGTERM
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(f"\nerror: {FULL.format(str(error).splitlines()[0])}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(as_started(f"\nerror: {in_words(error)}"), file=sys.stderr)
        return 1


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Leave as at an error, with all that is to be done at the end, instead of at once."""

    def leave(number, frame):
        del frame
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings to the user as one line each, and all of them again at the end."""
    seen: list[str] = []
    usual = warnings.showwarning

    def show(message, category, *place):
        line = " ".join(str(message).splitlines())
        if not issubclass(category, UserWarning):
            usual(message, category, *place)
        elif line not in seen:
            seen.append(line)
            tqdm.write(f"warning: {line}", file=sys.stderr)  # not into a progress bar

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual
        if seen:
            print("\nWarnings of this run:", *seen, sep="\n  ", file=sys.stderr)


def cli() -> None:
    """Run the installed command `ttp`; a configs/NAME.py that isn't here is the installed one."""
    words = []
    for word in sys.argv:
        flag, equals, path = word.rpartition("=")
        file, colon, argument = path.partition(":")  # configs/own.py:my_model.npz
        installed = pathlib.Path(__file__).parent / file
        ours = flag in ("", "--config") and file.startswith("configs/") and installed.is_file()
        given = f"{flag}{equals}{installed}{colon}{argument}"
        words.append(given if ours and not os.path.exists(file) else word)
    sys.exit(main(words))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
