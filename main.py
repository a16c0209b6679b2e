"""Test-Time Personalization of 2-D human pose models.

    python main.py personalize my_video.mp4
    python main.py [VERB] --config=configs/NAME.py [--workdir=DIR] [--config.FIELD=VALUE ...]

Verbs: train (the default), personalize, predict, evaluate, reproduce, export, info, people, verify,
live, doctor.
`python main.py VERB --help` explains one.
"""

import importlib
import os
import pathlib
import sys
from collections.abc import Callable

import jax
from absl import flags
from ml_collections import config_flags

from ttp_jax import parallel
from ttp_jax.verbs import experiment

VERBS = (
    *("train", "personalize", "predict", "evaluate", "reproduce"),
    *("export", "info", "people", "verify", "live", "doctor"),
)
WORDS = ("people", "verify", "doctor")  # verbs that take words instead of a config


WITH_A_MODEL = ("personalize", "predict")
OWN = pathlib.Path(__file__).parent / "configs" / "own.py"

FLAGS = """
  --config=FILE          the experiment: configs/tiny.py, configs/penn.py, ...
  --config.FIELD=VALUE   change a field of it, e.g. --config.data.root=DIR --config.seed=1
  --workdir=DIR          where results go and checkpoints are looked for; default runs/NAME
  --model=FILE           a model that `export` wrote (export: the file to write); without --config
                         and --model the one that comes with the project
  --device=NAME          cpu, gpu or tpu; default the best there is

own videos and pictures (personalize, predict; also `info --data`)
  VIDEO, FOLDER ...      each is one person; or --inputs=PATTERN
  --scenario=NAME        online (never sees a later frame) or offline (all frames first)
  --iterations=N         updates a frame
  --frames=A-B           only these frames, counted from 0; --every=N only every Nth
  --formats=NAMES        what else to write the keypoints as: dlc-csv (the default), dlc-h5, coco,
                         sleap, trc, npz, parquet
  --smooth=HOW           smooth these files' keypoints: savgol or one-euro
  --keypoints=NAMES      only these, with commas
  --labels=FILE          true keypoints of some frames (COCO, DeepLabCut CSV, Penn Action .mat):
                         scores before and after; nothing is trained on them.
                         --labels_first=1 where their pictures are numbered from 1
  --nodeliver            keypoints only: no report, no video, no other formats
  --camera=N, --stdin    frames as they come, see `live --help`
  --keep=FORM            keep the personalized models: full, fp16 or rankN
  --person=NAME          predict: with the model kept under this name
  --overwrite            do finished subjects again
  --hosts=WHO            also train: one of several processes, docs/scaling.md

  --what=NAMES           reproduce: which tables and figures
  --cells=DIR            reproduce: where finished results are; default WORKDIR/cells
  --minutes=N            reproduce: start nothing new after so many minutes
  --data                 info: describe the data set instead of the network
"""


def main(argv: list[str]) -> int:
    """Run one verb; what a user can mend is one line of error, everything else a traceback."""
    verb = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else None
    if verb is not None and verb not in VERBS:
        print(f"unknown verb {verb!r}; verbs: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"ttp_jax.verbs.{verb or 'train'}")
    rest = argv[2:] if verb else argv[1:]
    if (not rest and verb != "doctor") or {"--help", "-help", "-h"} & set(rest):
        print(module.__doc__ if verb else __doc__, "" if verb in WORDS else FLAGS, sep="\n")
        return 0
    if verb in WORDS:
        return told(lambda: module.run(rest))

    define_flags()
    try:
        inputs = parse([argv[0], *rest], verb)
        config = flags.FLAGS.config
        if config is None:
            raise flags.Error("--config is missing, for example --config=configs/tiny.py")
    except (flags.Error, AttributeError, OSError, TypeError, ValueError) as error:
        print(f"{error}\nHelp: python main.py {verb or ''} --help", file=sys.stderr)
        return 2
    options = flags.FLAGS
    if options.device:
        jax.config.update("jax_platforms", options.device)
    if inputs:
        config.data.source, config.data.root, config.data.tfds = "media", inputs, ""
    if inputs or options.camera or options.stdin:
        config.data.oversample = config.data.oversample or 2.0
    if options.iterations:
        config.ttp.iterations = options.iterations
    if options.frames or options.every:
        config.data.frames, config.data.every = options.frames or "", options.every or 1
    workdir = pathlib.Path(options.workdir or f"runs/{config.name}")

    def work():
        if options.hosts:
            parallel.join_hosts(options.hosts)
        return module.run(config, workdir, options)

    return told(work)


def define_flags() -> None:
    """Define what FLAGS, above, describes."""
    config_flags.DEFINE_config_file("config", None, "experiment")
    for name in ("workdir", "model", "inputs", "camera", "keep", "person", "hosts", "cells"):
        flags.DEFINE_string(name, None, "see FLAGS")
    for name in ("device", "frames", "smooth", "keypoints", "formats", "labels"):
        flags.DEFINE_string(name, None, "see FLAGS")
    for name in ("stdin", "overwrite", "data"):
        flags.DEFINE_bool(name, False, "see FLAGS")
    flags.DEFINE_bool("deliver", True, "see FLAGS")
    flags.DEFINE_integer("labels_first", 0, "see FLAGS")
    flags.DEFINE_integer("iterations", None, "see FLAGS", lower_bound=1)
    flags.DEFINE_integer("every", None, "see FLAGS", lower_bound=1)
    flags.DEFINE_enum("scenario", None, ["online", "offline"], "see FLAGS")
    flags.DEFINE_string("what", "all", "see FLAGS")
    flags.DEFINE_float("minutes", 0.0, "see FLAGS")


def parse(words: list[str], verb: str | None) -> str:
    """Parse the command line; return own videos and pictures, one a line.

    Verbs that can do with a model's file need no --config.
    """
    model = [word.partition("=")[2] for word in words if word.startswith("--model=")]
    if verb in WITH_A_MODEL and not any(word.startswith("--config=") for word in words):
        # First: changes of fields must come after it.
        own = f"--config={OWN}:{model[-1] if model else 'shipped'}"
        words = [words[0], own, *words[1:]]
    flags.FLAGS.set_gnu_getopt(True)  # videos may stand before flags
    inputs = flags.FLAGS(words)[1:]
    options = flags.FLAGS
    if inputs and options.inputs:
        raise flags.Error(f"videos are named twice: {' '.join(inputs)} and --inputs.")
    if inputs and verb not in (*WITH_A_MODEL, "info"):
        raise flags.Error(f"{' '.join(inputs)}: this verb takes flags only.")
    if options.model and verb in WITH_A_MODEL and options.config is not None:
        options.config.base = options.model
    return "\n".join(inputs) or options.inputs or ""


def told(work: Callable[[], int]) -> int:
    """Do it; what the user can mend becomes one line of error."""
    experiment.use_compilation_cache()
    try:
        return work()
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1


def cli() -> None:
    """Run the installed command `ttp`; a configs/NAME.py that isn't here is the installed one."""
    words = []
    for word in sys.argv:
        flag, equals, path = word.rpartition("=")
        installed = pathlib.Path(__file__).parent / path
        ours = flag in ("", "--config") and path.startswith("configs/") and installed.is_file()
        words.append(f"{flag}{equals}{installed}" if ours and not os.path.exists(path) else word)
    sys.exit(main(words))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
