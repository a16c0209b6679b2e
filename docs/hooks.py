"""What the built pages take from the program, so that they can't differ from it."""

import ast
import pathlib
import posixpath
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]


def on_page_markdown(markdown: str, page, **_) -> str:
    """Put the verbs' help where verbs.md asks for it; name files outside docs/ without a link."""
    if "<!-- verbs -->" in markdown:
        markdown = markdown.replace("<!-- verbs -->", verbs())
    folder = posixpath.dirname(page.file.src_uri)

    def name_of(link: re.Match) -> str:
        inside = not posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return link[0] if inside else link[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)", name_of, markdown)


def verbs() -> str:
    """A section for each verb of main.py: what its --help prints."""
    sys.path.insert(0, str(ROOT))
    from ttp_jax import command_line

    sections = []
    for verb in command_line.VERBS:
        source = (ROOT / "ttp_jax" / "verbs" / f"{verb}.py").read_text()
        title, _, rest = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        sections.append(f"## {verb}\n\n{title}\n\n```text\n{rest.strip(chr(10))}\n```")
    flags = f"## Flags\n\n```text\n{command_line.explained().strip(chr(10))}\n```"
    return "\n\n".join([*sections, flags])
