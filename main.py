"""Test-Time Personalization of 2-D human pose models.

    python main.py [VERB] --config=configs/NAME.py [--workdir=DIR] [--config.FIELD=VALUE ...]

Verbs: train (the default), personalize, predict, evaluate, info.
`python main.py VERB --help` explains one.
"""

import importlib
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from ttp_jax.verbs import experiment

VERBS = ("train", "personalize", "predict", "evaluate", "info")


FLAGS = """
  --config=FILE          the experiment: configs/tiny.py, configs/penn.py, ...
  --config.FIELD=VALUE   change a field of it, e.g. --config.data.root=DIR --config.seed=1
  --workdir=DIR          where results go and checkpoints are looked for; default runs/NAME
  --scenario=NAME        personalize: online (default) or offline
  --inputs=PATTERN       personalize, predict, info --data: your own videos, folders of pictures
  --overwrite            personalize, predict: do finished subjects again
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
    if not rest or {"--help", "-help", "-h"} & set(rest):
        print(module.__doc__ if verb else __doc__, FLAGS, sep="\n")
        return 0

    config_flag = config_flags.DEFINE_config_file("config", None, "experiment")
    workdir_flag = flags.DEFINE_string("workdir", None, "results")
    flags.DEFINE_enum("scenario", "online", ["online", "offline"], "how to personalize")
    inputs_flag = flags.DEFINE_string("inputs", None, "own videos and folders of pictures")
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
    workdir = pathlib.Path(workdir_flag.value or f"runs/{config.name}")
    experiment.use_compilation_cache()
    try:
        return module.run(config, workdir, flags.FLAGS)
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
