"""Benchmarks of this project, such as its speed beside PyTorch: `python -m benchmarks.speed`.

The independent PyTorch version is part of the tests, in which it serves as the reference. Only this
module puts it on the import path, at the end, so that no name there hides another.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
