"""Test-Time Personalization of 2-D human pose models.

    python main.py [VERB] --config=configs/NAME.py [--workdir=DIR] [--config.FIELD=VALUE ...]

Verbs: train (the default), personalize, predict, evaluate, reproduce, info, people, verify, live,
doctor.
`python main.py VERB --help` explains one.
"""

import importlib
import os
import pathlib
import sys
from collections.abc import Callable

from absl import flags
from ml_collections import config_flags

from ttp_jax import parallel
from ttp_jax.verbs import experiment

VERBS = (
    *("train", "personalize", "predict", "evaluate", "reproduce"),
    *("info", "people", "verify", "live", "doctor"),
)
WORDS = ("people", "verify", "doctor")  # verbs that take words instead of a config


FLAGS = """
  --config=FILE          the experiment: configs/tiny.py, configs/penn.py, ...
  --config.FIELD=VALUE   change a field of it, e.g. --config.data.root=DIR --config.seed=1
  --workdir=DIR          where results go and checkpoints are looked for; default runs/NAME
  --scenario=NAME        personalize: online (default) or offline
  --inputs=PATTERN       personalize, predict, info --data: your own videos, folders of pictures
  --camera=N, --stdin    personalize: frames as they come, see `live --help`
  --keep=FORM            personalize: keep the personalized models: full, fp16 or rankN
  --person=NAME          predict: with the model kept under this name
  --hosts=WHO            train, personalize, predict: one of several processes, docs/scaling.md
  --overwrite            personalize, predict: do finished subjects again
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

    config_flag = config_flags.DEFINE_config_file("config", None, "experiment")
    workdir_flag = flags.DEFINE_string("workdir", None, "results")
    flags.DEFINE_enum("scenario", "online", ["online", "offline"], "how to personalize")
    inputs_flag = flags.DEFINE_string("inputs", None, "own videos and folders of pictures")
    camera_flag = flags.DEFINE_string("camera", None, "camera to take frames from")
    stdin_flag = flags.DEFINE_bool("stdin", False, "take frames from standard input")
    flags.DEFINE_string("keep", None, "form to keep personalized models in")
    flags.DEFINE_string("person", None, "personalized model to predict with")
    hosts_flag = flags.DEFINE_string("hosts", None, "who works together")
    flags.DEFINE_string("what", "all", "tables and figures")
    flags.DEFINE_string("cells", None, "folder of finished results")
    flags.DEFINE_float("minutes", 0.0, "time to spend")
    flags.DEFINE_bool("overwrite", False, "do finished subjects again")
    flags.DEFINE_bool("data", False, "describe the data set")
    try:
        flags.FLAGS([argv[0], *rest])
        config = config_flag.value
        if config is None:
            raise flags.Error("--config is missing, for example --config=configs/tiny.py")
    except (flags.Error, AttributeError, FileNotFoundError, TypeError) as error:
        print(f"{error}\nHelp: python main.py {verb or ''} --help", file=sys.stderr)
        return 2
    if inputs_flag.value:
        config.data.source, config.data.root, config.data.tfds = "media", inputs_flag.value, ""
    if inputs_flag.value or camera_flag.value or stdin_flag.value:
        config.data.oversample = config.data.oversample or 2.0
    workdir = pathlib.Path(workdir_flag.value or f"runs/{config.name}")

    def work():
        if hosts_flag.value:
            parallel.join_hosts(hosts_flag.value)
        return module.run(config, workdir, flags.FLAGS)

    return told(work)


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
