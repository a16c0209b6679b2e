"""What the built pages take from the program, so that they can't differ from it."""

import ast
import itertools
import pathlib
import posixpath
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).parents[1]
COMMON = ROOT / "configs" / "common.py"
REPORTS = ("benchmark_rendered.md", "benchmark_lips.md", "benchmark_tongue.md")
# Their tables need the width of the contents.
WIDE = ("benchmark.md", *REPORTS, "performance_speed.md")
FOLDED = ("Trainings", "Cells", "Run records")  # sections of the reports that few readers need
SECTIONS = {
    "": "The experiment",
    "data": "Data",
    "model": "Network",
    "loss": "Losses",
    "train": "Training",
    "ttp": "Personalization",
    "reproduce": "Tables and figures",
    "eval": "Scores",
}


def on_config(config, **_):
    """Link to the repository, once its address is known."""
    sys.path.insert(0, str(ROOT / "docs"))
    from address import address

    if "/OWNER/" not in (known := address()):
        config.repo_url, config.repo_name = known, "GitHub"
        config.edit_uri = "edit/main/docs/"
    return config


def on_page_markdown(markdown: str, page, **_) -> str:
    """Fill in what a page asks for; name files outside docs/ without a link."""
    for name, text in {"verbs": verbs, "configuration": configuration}.items():
        mark = f"<!-- {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, text())
    markdown = re.sub(r"<!-- include (\S+) -->", lambda file: _included(file[1]), markdown)
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    if page.file.src_uri in REPORTS:
        markdown = folded(markdown)
    folder = posixpath.dirname(page.file.src_uri)

    def name_of(link: re.Match) -> str:
        inside = not posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return link[0] if inside else link[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)", name_of, markdown)


def _included(name: str) -> str:
    """A file of the repository without its title; its links as seen from docs/."""
    text = (ROOT / name).read_text().partition("\n")[2]
    return re.sub(r"\]\(docs/", "](", text)


def folded(markdown: str) -> str:
    """A report's lists of trainings and run records as sections to open."""
    first, *parts = re.split(r"^## ", markdown, flags=re.M)
    done = [first]
    for part in parts:
        title, _, body = part.partition("\n")
        if title in FOLDED:
            done.append(f'??? note "{title}"\n\n{textwrap.indent(body.strip(), "    ")}\n\n')
        else:
            done.append(f"## {part}")
    return "".join(done)


# --- The command line ----------------------------------------------------------------------------


def verbs() -> str:
    """A section for each verb of main.py: what its --help prints, and its flags as lists."""
    sys.path.insert(0, str(ROOT))
    from ttp_jax import command_line

    sections = []
    for verb in command_line.VERBS:
        source = (ROOT / "ttp_jax" / "verbs" / f"{verb}.py").read_text()
        title, _, rest = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        flags = "\n\n".join(_flags(command_line, verb))
        sections.append(f"## {verb}\n\n{title}\n\n{prose(rest)}\n\n{flags}")
    return "\n\n".join(sections)


def prose(text: str) -> str:
    """A docstring as Markdown: indented lines are code or a list, the others are paragraphs."""
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        for indented, group in itertools.groupby(
            block.splitlines(), lambda line: line.startswith("  ")
        ):
            lines = list(group)
            if indented:
                blocks.append(_list(lines) or _code(lines))
            else:
                blocks.append("\n".join(map(_plain, lines)))
    return "\n\n".join(blocks)


def _list(lines: list[str]) -> str:
    """Lines of two columns, "NAME.csv    the joints", as a list; nothing if they are no such."""
    items: list[list[str]] = []
    for line in lines:
        columns = re.fullmatch(r" {2,6}(\S.*?) {2,}(\S.*)", line)
        if columns:
            items.append([columns[1], columns[2]])
        elif items and line.startswith(" " * 8):  # the second column goes on
            items[-1][1] += f" {line.strip()}"
        else:
            return ""
    return "\n".join(f"- `{name}`: {_plain(text)}" for name, text in items)


def _code(lines: list[str]) -> str:
    text = textwrap.dedent("\n".join(lines))
    return f"```text\n{text}\n```"


def _plain(line: str) -> str:
    """What Markdown would take for something else, as it is; flags as code."""
    line = re.sub(r"([*_<>])", r"\\\1", line)
    return re.sub(r"`[^`]*`", lambda span: span[0].replace("\\", ""), line)


def _flags(command_line, verb: str):
    """The flags of a verb, a list for each group."""
    for title, rows in command_line.GROUPS.items():
        shown = [row for row in rows if verb in row.verbs]
        if shown:
            lines = [f"- `{row.spelled}`: {_plain(row.text)}" for row in shown]
            yield f"**{title[:1].upper()}{title[1:]}**\n\n" + "\n".join(lines)


# --- The configuration ---------------------------------------------------------------------------


def configuration() -> str:
    """Tables of all fields of configs/common.py: default, allowed values, meaning."""
    sys.path.insert(0, str(ROOT))
    from ttp_jax import ranges

    parts: dict[str, list[str]] = {}
    for section, field, default, meaning in fields(COMMON.read_text()):
        rule = ranges.TABLE.get(section, {}).get(field)
        may_be = rule.words if rule is not None else ""
        name = f"config.<wbr>{section}.<wbr>{field}" if section else f"config.<wbr>{field}"
        name = f"<code>{name.replace('_', '_<wbr>')}</code>"
        cells = (name, f"`{default}`", *map(_cell, (may_be, meaning)))
        parts.setdefault(section, []).append(f"| {' | '.join(cells)} |")
    head = "| field | default | allowed | meaning |\n|---|---|---|---|\n"
    return "\n\n".join(
        f"## {SECTIONS[section]}\n\n{head}" + "\n".join(rows) for section, rows in parts.items()
    )


def _cell(text: str) -> str:
    return re.sub(r"([|*_<>])", r"\\\1", text)


def fields(source: str) -> list[tuple[str, str, str, str]]:
    """Section, field, default and comment of each field that the source of a config sets.

    A comment stands above its field, or behind it. Sections themselves are left out.
    """
    lines = source.splitlines()
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)):
            continue
        default = ast.unparse(node.value)
        if default.startswith("ml_collections."):
            continue
        _, *path = ast.unparse(node.targets[0]).split(".")
        section = path[0] if len(path) > 1 else ""
        found.append((node.lineno, (section, path[-1], default, _comment(lines, node))))
    order = list(SECTIONS)
    found.sort(key=lambda each: (order.index(each[1][0]), each[0]))
    return [row for _, row in found]


def _comment(lines: list[str], node: ast.Assign) -> str:
    first, last = node.lineno - 1, (node.end_lineno or node.lineno)
    behind = [re.search(r"  # (.*)", line) for line in lines[first:last]]
    own = [match[1] for match in behind if match]
    above = []
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
        above.insert(0, lines[first].strip().removeprefix("#").strip())
    text = " ".join([*above, *own])
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
