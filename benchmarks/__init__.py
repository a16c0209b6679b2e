"""Speed of this project beside an independent PyTorch version: `python -m benchmarks.speed`.

That version lives with the tests, where it also says what is right. This is the one place that puts
it on the import path, at its end, so that no name there hides another.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
