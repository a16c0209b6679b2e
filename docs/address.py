"""Set the project's public address in every file that names it.

    python docs/address.py https://github.com/OWNER/ttp_jax

`project.urls.Repository` in pyproject.toml is where the address is defined. README, the page Get
started and the notebooks repeat it, because they are read where nothing can be filled in; the
built pages take it from pyproject.toml. OWNER stands for an owner that isn't known yet.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
ANY = r"https://github\.com/[\w.-]+/ttp_jax\b"
# As Colab spells the address of a notebook on GitHub.
COLAB = r"(?<=colab\.research\.google\.com/github/)[\w.-]+/ttp_jax\b"


def address(root: pathlib.Path = ROOT) -> str:
    """The project's address, "https://github.com/OWNER/ttp_jax"."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def files(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """The files that name the address."""
    named = [root / name for name in ("pyproject.toml", "README.md", "docs/get_started.md")]
    return [*named, *sorted((root / "notebooks").glob("*.ipynb"))]


def set_address(new: str, root: pathlib.Path = ROOT) -> None:
    """Write the address into all `files`.

    Args:
      new: "https://github.com/OWNER/ttp_jax".
      root: of the checkout.

    Raises ValueError for another form.
    """
    if not re.fullmatch(ANY, new):
        raise ValueError(f"{new!r} is no address like https://github.com/OWNER/ttp_jax.")
    for path in files(root):
        text = re.sub(ANY, new, path.read_text())
        path.write_text(re.sub(COLAB, new.removeprefix("https://github.com/"), text))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    set_address(sys.argv[1])
