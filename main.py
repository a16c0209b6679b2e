"""Test-Time Personalization of 2-D human pose models.

examples
  python main.py fetch blazepose
  python main.py personalize my_video.mp4 --scenario=offline
  python main.py train --project=path/to/project
  python main.py train --config=configs/tiny.py --workdir=runs/tiny --config.seed=1
  python main.py personalize --help
"""

import os
import pathlib
import sys

from ttp_jax import command_line
from ttp_jax.command_line import VERBS


def main(argv: list[str]) -> int:
    """Run one command; what a user can mend is one line of error, everything else a traceback."""
    verb = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else None
    try:
        if verb is not None and verb not in VERBS:
            print(command_line.as_started(command_line.unknown(argv[1:])), file=sys.stderr)
            return 2
        rest = argv[2:] if verb else argv[1:]
        if (not rest and verb != "doctor") or {"--help", "-help", "-h"} & set(rest):
            print(command_line.as_started(command_line.help_text(verb, __doc__ or "")))
            return 0
        from ttp_jax import launch  # on use only: jax takes seconds, help should not

        return launch.run([argv[0], *rest], verb)
    except BrokenPipeError:  # what reads our output has enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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
