"""Docstrings of the core and of everything in docs/api.md describe arguments, results, errors."""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHOWN = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
CORE = ("ttp_jax/*.py", "ttp_jax/models/**/*.py", "ttp_jax/metrics/*.py")
# Of these modules each is used by the program only, on paths, names and the content of files.
NOT_THE_CORE = (
    *("command_line", "launch", "files", "claims", "ranges", "fetch", "convert"),
    *("tflite", "tflite_file", "detector"),
)
# What may lack something, and why.
EXCEPTIONS: dict[str, str] = {}


def files():
    """Every file that the page shows or that is part of the core."""
    found = {path for pattern in CORE for path in ROOT.glob(pattern)}
    found = {path for path in found if path.stem not in NOT_THE_CORE}
    for name in SHOWN:
        place = ROOT / name.replace(".", "/")
        found |= set(place.glob("*.py")) if place.is_dir() else {place.with_suffix(".py")}
    return sorted(found)


@functools.cache
def own_methods():
    """Public methods of every class in the files, and its bases: its name -> (bases, methods)."""
    return {
        node.name: ([ast.unparse(base).split(".")[-1] for base in node.bases], _methods(node))
        for path in files()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }


def _methods(node):
    return {
        part.name: part
        for part in node.body
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")
    }


def inherited(name):
    """Names of the methods that a class's bases describe; in whichever of the files these are."""
    bases, _ = own_methods().get(name, ((), {}))
    return {
        each for base in bases for each in (*own_methods().get(base, ((), {}))[1], *inherited(base))
    }


def public(path):
    """Public functions and methods of a module: its name -> the syntax tree's node."""
    found: dict[str, ast.FunctionDef] = {}
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[f"{module}.{node.name}"] = node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            # What overrides a method has that method's contract, described there.
            described = inherited(node.name)
            for name, part in _methods(node).items():
                if name not in described:
                    found[f"{module}.{node.name}.{name}"] = part
    return found


def arguments(node):
    """A function's arguments but for self: the nodes of its *values and **options, too."""
    given = node.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    found += [each for each in (given.vararg, given.kwarg) if each]
    return [each for each in found if each.arg not in ("self", "cls") and each.arg[0] != "_"]


def raised(node):
    """Names of the errors that a function raises itself; not those of functions within it."""
    found, todo = set(), list(node.body)
    while todo:
        each = todo.pop()
        if isinstance(each, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(each, ast.Raise) and each.exc is not None:
            error = each.exc.func if isinstance(each.exc, ast.Call) else each.exc
            name = error.attr if isinstance(error, ast.Attribute) else getattr(error, "id", "")
            if name[:1].isupper():  # not one that was caught, or made elsewhere
                found.add(name)
        todo += ast.iter_child_nodes(each)
    return found


def section(text, title):
    """The lines below "Args:", for example; "" where there are none."""
    found = re.search(rf"^( *){title}:\n((?:\1 +.*\n|\n)+)", text + "\n", re.M)
    return found[2] if found else ""


def lacking(node):
    """What a function's docstring or signature lacks, in words."""
    text, found = ast.get_docstring(node) or "", []
    given = [each.arg for each in arguments(node)]
    if not text:
        return ["a docstring"]
    if len(given) > 1:
        described = section(text, "Args")
        named = " ".join(re.findall(r"^ *([\w, *]+):", described, re.M))
        missing = [name for name in given if not re.search(rf"\b{name}\b", named)]
        found += [f"{', '.join(missing)} in Args"] if missing else []
    untyped = [each.arg for each in arguments(node) if each.annotation is None]
    found += [f"a type of {', '.join(untyped)}"] if untyped and len(given) > 1 else []
    silent = sorted(
        name for name in raised(node) if name not in text and name != "NotImplementedError"
    )
    found += [f"{', '.join(silent)} in Raises"] if silent else []
    of_several = node.returns is not None and ast.unparse(node.returns).startswith("tuple[")
    if given and of_several and "eturn" not in text:
        found += ["what it returns"]
    return found


FUNCTIONS = {name: node for path in files() for name, node in public(path).items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_says_what_goes_in_and_what_comes_out(name):
    found = lacking(FUNCTIONS[name])
    assert not found or name in EXCEPTIONS, f"{name} lacks: {'; '.join(found)}"


def test_no_exception_is_left_of_what_has_been_written():
    unknown = [name for name in EXCEPTIONS if name not in FUNCTIONS or not lacking(FUNCTIONS[name])]
    assert not unknown, f"delete from EXCEPTIONS: {unknown}"
