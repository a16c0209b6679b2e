"""Running a command: reading its flags, building its experiment, and reporting a user's errors."""

import contextlib
import importlib
import itertools
import os
import pathlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

# Suppress TensorFlow's start-up lines. It reads this when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from ttp_jax import checkpoint, command_line, detector, files, parallel
from ttp_jax.command_line import ON_VIDEOS, OUTPUTS, WITH_A_MODEL, WORDS, as_started
from ttp_jax.runs import experiment, process
from ttp_jax.runs.process import Stopped

OWN, PROJECT = (
    pathlib.Path(__file__).parents[1] / "configs" / name for name in ("own.py", "project.py")
)
# What ml_collections puts before the reason why a config or its model can't be read.
NO_CONFIG = "Configuration is not available because of an earlier failure to load: "
STOPPED = "\nstopped: finished work is kept"
FULL = (
    "the device's memory is full ({}). Training takes less with a smaller config.train.batch_size, "
    "a larger config.train.accumulate or config.train.remat=True; personalization with "
    "config.ttp.together=1 and a smaller config.ttp.memory or config.ttp.batch_size."
)
# What a user can do if a file can't be used.
REMEDIES = {
    FileNotFoundError: "Check its name and your current folder.",
    PermissionError: "Choose another location, or change the permissions there.",
    IsADirectoryError: "A file is expected, not a folder.",
}


def run(argv: list[str], verb: str | None) -> int:
    """Run a command; return its exit code.

    Args:
      argv: the program's name and the words after the verb.
      verb: the command; None if none was given, which means training.
    """
    module = importlib.import_module(f"ttp_jax.verbs.{verb or 'train'}")
    if verb in WORDS:
        return reported(lambda: module.run(argv[1:]))
    command_line.define()
    try:
        inputs = parse(argv, verb)
        check(verb or "train", inputs)
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        hint = f"Help: python main.py {f'{verb} ' if verb else ''}--help"
        print(as_started(f"{in_words(error)}\n{hint}"), file=sys.stderr)
        return 2
    options, config = flags.FLAGS, flags.FLAGS.config
    workdir = workdir_of(options)

    def work():
        apply_flags(config, options, inputs, verb)
        if config.data.source == "project":
            read_project(config, workdir, verb)
        if options.hosts:
            parallel.join_hosts(options.hosts)
        check_device(options.device)
        if note := note_on_people(config, verb):
            process.say(as_started(note))
        chosen = command_line.chosen(module.Options) if hasattr(module, "Options") else None
        return module.run(experiment.build(config), workdir, chosen)

    return reported(work)


def workdir_of(options) -> pathlib.Path:
    """Return where results go: --workdir, a folder in --model's training, or runs/NAME."""
    if options.workdir:
        return pathlib.Path(options.workdir)
    trained = pathlib.Path(options.config.base)
    if options.config.base and trained.is_dir():
        return trained / "videos"  # so that the training's own results stay as they are
    return pathlib.Path("runs") / options.config.name


def read_project(config, workdir: pathlib.Path, verb: str | None) -> None:
    """Read a labelled project, describe it, and put its joints into the config."""
    # Imported late, because other commands don't need them.
    from ttp_jax.runs import base_model, identity, labelled

    model = checkpoint.model_path(config.base) if config.base else workdir
    trained = None
    if verb in ("evaluate", *ON_VIDEOS):
        stored = identity.exported_config if model.is_file() else identity.training_config
        trained = stored(model)
    project = labelled.fill(config, trained, every_fold=verb in (None, "train"))
    for line in labelled.describe(project):
        process.say(line)
    if note := base_model.choose_encoder(config.model, workdir):
        process.say(note)
    process.say(f"results: {workdir}\n")


def check(verb: str, inputs: str) -> None:
    """Raise absl's flags.Error for a command line that this verb can't use."""
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
            f"{verb} needs a labelled data set. To score your own video, run "
            "personalize my_video.mp4 --labels=FILE"
        )
    if not (inputs or config.data.root or options.camera or options.stdin):
        example = f"python main.py {verb} my_video.mp4"
        raise flags.Error(f"name a video or a folder of pictures, for example: {example}")


def apply_flags(config, options, inputs: str, verb: str | None) -> None:
    """Put the values of flags into the config; refuse flags that would do nothing."""
    live = options.camera or options.stdin
    put_project(config, options)
    if inputs:
        config.data.source, config.data.root, config.data.tfds = "media", inputs, ""
    if inputs or live:
        config.data.oversample = config.data.oversample or 2.0
    if options.method:
        config.ttp.method = options.method
    if options.iterations:
        config.ttp.iterations = options.iterations
    if options.person and verb == "personalize":
        put_person(config, options.person, bool(live))
    if options.same_subject:
        if live or config.data.source != "media":
            raise ValueError(
                "--same_subject is for your own videos and folders of pictures: name them."
            )
        config.data.same_subject = files.plain_name(options.same_subject, "--same_subject")
    if options.frames:
        config.data.frames = options.frames
    if options.every:
        config.data.every = options.every
    if verb not in WITH_A_MODEL:
        return
    if live and options.overwrite:
        raise ValueError("--overwrite is for videos and data sets, not for --camera or --stdin.")
    if live and options.scenario == "offline":
        raise ValueError(
            "a live stream can't be adapted to offline, because its frames arrive one by one: use "
            "--scenario=online."
        )
    if options.keep and config.ttp.method == "none":
        raise ValueError(
            '--keep has nothing to keep, because nothing adapts (config.ttp.method is "none"): add '
            "--method=NAME; BlazePose takes --method=teacher."
        )
    own = config.data.source == "media" and not live
    if options.camera and options.stdin:
        raise ValueError("--camera and --stdin were both given: frames come from one of them.")
    if inputs and live:
        raise ValueError(
            "a video and a live stream were given: name a video, or use --camera or --stdin, not "
            "both."
        )
    if not own and (config.data.frames or config.data.every > 1):
        raise ValueError(
            "--frames and --every are for your own videos and folders of pictures: name one."
        )
    if not own or options.joints_only or (verb == "predict" and not options.person):
        for name in OUTPUTS:
            if options[name].value:
                raise ValueError(
                    f"--{name} only works for your own videos, with personalize (--method=none: "
                    "without adapting) or with predict --person. Remove the flag, name a video, or "
                    "leave out --joints-only."
                )


def put_person(config, who: str, live: bool) -> None:
    """Put --person=WHO of `personalize` into the config."""
    if live:
        raise ValueError(
            "--person=WHO chooses one of the people in a video, not in a live stream. To start "
            "from a kept model, use live --person=NAME."
        )
    config.data.person = who
    if "data.boxes" not in config_flags.get_override_values(flags.FLAGS["config"]):
        config.data.boxes = "people"


def put_project(config, options) -> None:
    """Put the flags about a labelled project into the config."""
    fields = {
        "test": "data.test_subjects",
        "val": "data.val_subjects",
        "folds": "data.folds",
        "exclude": "data.exclude",
        "subject": "data.subject",
        "flip_pairs": "data.flip_pairs",
        "scale_joints": "eval.scale_joints",
    }
    changed = [flag for flag in fields if options[flag].present]
    if options.project:
        config.data.source, config.data.root = "project", options.project
    elif changed and config.data.source != "project":
        raise ValueError(f"--{changed[0]} is for labelled projects: add --project=PATH.")
    config.update_from_flattened_dict({fields[flag]: options[flag].value for flag in changed})


def check_device(name: str | None) -> None:
    """Choose the device of --device.

    Raises ValueError if it isn't available.
    """
    if not name:
        return
    jax.config.update("jax_platforms", name)
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(
            f"--device={name} is not available ({error}): leave the flag out, or run `python "
            "main.py "
            "doctor` to see why."
        ) from error


def parse(words: list[str], verb: str | None) -> str:
    """Parse the command line; return the user's videos and images, one per line.

    Verbs for which a model file is enough need no --config.
    """
    words = command_line.underscored(words)
    alone = verb in WITH_A_MODEL or (verb == "info" and "--data" in words)
    project = given(words, "project")
    if project and given(words, "config") is None:
        words = [words[0], f"--config={PROJECT}:{project}", *words[1:]]
    elif alone and given(words, "config") is None:
        usual = checkpoint.default_model() if verb in ON_VIDEOS else "shipped"
        model = given(words, "model") or usual
        experiment.kept_config(model)  # fails here, because absl would print a traceback
        # --config comes first, because changes of its fields must follow it.
        own = f"--config={OWN}:{model}"
        words = [words[0], own, *words[1:]]
    flags.FLAGS.set_gnu_getopt(True)  # videos may stand before flags
    inputs = flags.FLAGS(command_line.expand_paths(words))[1:]
    options = flags.FLAGS
    if options.config is not None and options.config.base and options.config.data.source == "media":
        take_model(options)
    if inputs and options.inputs:
        raise flags.Error(f"videos are named twice: {' '.join(inputs)} and --inputs.")
    if inputs and verb not in (*ON_VIDEOS, "info"):
        raise flags.Error(f"{' '.join(inputs)}: {verb or 'train'} takes flags only, no file names.")
    if options.model and verb in WITH_A_MODEL and options.config is not None:
        options.config.base = options.model
    return "\n".join(inputs) or options.inputs or ""


def take_model(options) -> None:
    """Put the model file's settings into the config; the command line's changes override them."""
    config = options.config
    experiment.take_model(config)
    usual = config.data.boxes
    changed = config_flags.get_override_values(options["config"])
    config.update_from_flattened_dict(changed)
    if "data.boxes" not in changed:
        config.data.boxes = usual_boxes(config)
    elif config.data.boxes != usual and "data.zoom" not in changed:
        config.data.zoom = 1.0  # the model's own zoom is for the boxes of its training


def usual_boxes(config) -> str:
    """Return `data.boxes` for own videos of people: "people" if BlazePose's networks are here."""
    is_of_people = not config.skeleton  # a labelled project defines its own joints
    if config.data.boxes == "moving" and is_of_people and detector.is_here():
        return "people"
    return config.data.boxes


def note_on_people(config, verb: str | None) -> str | None:
    """Return a note for videos of people if BlazePose has not been fetched; None otherwise."""
    own = config.data.source == "media" and verb in ON_VIDEOS and not config.skeleton
    chooses = config.data.person != "largest"  # needs BlazePose, as its error will say
    if not own or chooses or detector.is_here():
        return None
    options, instead = flags.FLAGS, []
    if config.base == "shipped" and not options.model:
        instead.append("the included model is used, which has seen rendered people only")
    chosen = "data.boxes" in config_flags.get_override_values(options["config"])
    if config.data.boxes == "moving" and not chosen:
        instead.append("the moving region is taken to be the person")
    if not instead:
        return None
    return (
        f"BlazePose is not installed, so {', and '.join(instead)}. For real people run: python "
        "main.py fetch blazepose"
    )


def given(words: list[str], name: str) -> str | None:
    """Return the value of a flag, given as --name=value or --name value; None if it isn't given."""
    value = None
    for word, following in itertools.pairwise([*words, ""]):
        flag, equals, text = word.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = text if equals else following
    return value


def in_words(error: BaseException) -> str:
    """Return an error in a user's words: no Python syntax, and a remedy if one is obvious."""
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        error = error.args[0]  # ml_collections wraps the error in another
    if isinstance(error, KeyError):
        name, _, hint = str(error.args[0]).partition("\n")
        return f"the config has no field {name}. {hint}".strip()
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. {REMEDIES.get(type(error), '')}".strip()
    return str(error).removeprefix(NO_CONFIG)


def reported(work: Callable[[], int]) -> int:
    """Do the work and return its exit code; errors that a user can fix become one line."""
    process.use_compilation_cache()
    try:
        with plain_warnings(), ended_by_sigterm():
            return work()
    except KeyboardInterrupt:
        process.print_to(sys.stderr, STOPPED)
        return 128 + signal.SIGINT
    except Stopped:
        process.print_to(sys.stderr, STOPPED)
        return 128 + signal.SIGTERM
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        process.print_to(sys.stderr, f"\nerror: {FULL.format(str(error).splitlines()[0])}")
        return 1
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        process.print_to(sys.stderr, as_started(f"\nerror: {in_words(error)}"))
        return 1


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Exit through an exception on SIGTERM, so that cleanup runs, instead of at once."""

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
    """Show each warning as one line, and all of them again at the end."""
    seen: list[str] = []
    usual = warnings.showwarning

    def show(message, category, *place):
        line = " ".join(str(message).splitlines())
        if not issubclass(category, UserWarning):
            usual(message, category, *place)
        elif line not in seen:
            seen.append(line)
            with tqdm.external_write_mode(sys.stderr):  # keeps progress bars intact
                process.print_to(sys.stderr, f"warning: {line}")

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual
        if seen:
            process.print_to(sys.stderr, "\nWarnings of this run:", *seen, sep="\n  ")
