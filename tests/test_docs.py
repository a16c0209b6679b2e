"""The documentation builds, and every command in it exists."""

import hashlib
import importlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import small_run
from absl import flags

import main
from data_pipelines import labels
from ttp_jax import checkpoint, launch
from ttp_jax.exports import FORMATS
from ttp_jax.skeletons import SKELETONS
from ttp_jax.verbs import personalize

ROOT = pathlib.Path(__file__).parents[1]


def script(name):
    """A script of the pages, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks, address = script("hooks"), script("address")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STARTS = re.compile(r"python main\.py|\./run\.sh|python -m \S+|(?<=^)ttp(?= )")
ENDS = re.compile(r'[|;&"]|\s#')  # of a command within its line
# What stands for something of the reader's, and what may stand in its place.
PLACES = {
    r"--config=(\.\.\.|\S*\bNAME\.py)": "--config=configs/tiny.py",
    r"--model=\S+": "--model=ttp_jax/pretrained/rendered.npz",
    r"\$\w+": "0",
}
OWN_FOLDERS = ("configs", "data_pipelines", "docs", "tests", "ttp_jax", "benchmarks")


def pieces(page):
    """What a page shows as code: the lines of its fenced blocks, and its code spans."""
    text = page.read_text().replace("\\\n", " ")
    fence = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.M | re.S)
    lines = [line.strip() for match in fence.finditer(text) for line in match[2].splitlines()]
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", fence.sub("", text))
    return lines + [" ".join(span.split()) for span in spans]


def commands(page):
    """The project's own commands on a page, as lists of words."""
    found = []
    for piece in pieces(page):
        for start in STARTS.finditer(piece):
            text = ENDS.split(piece[start.start() :])[0]
            for place, stand_in in PLACES.items():
                text = re.sub(place, stand_in, text)
            words = [word for word in shlex.split(text) if word != "..."]
            if words not in found:
                found.append(words)
    return found


COMMANDS = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {shlex.join(words)}")
    for page in PAGES
    for words in commands(page)
]


@pytest.fixture
def no_flags_left():
    """main.py defines flags for its process; the next command needs them undefined."""
    before = set(flags.FLAGS)
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_commands_are_found():
    readme = commands(ROOT / "README.md")
    assert ["./run.sh"] in readme
    performance = commands(ROOT / "docs" / "performance.md")
    assert any(words[:3] == ["python", "-m", "benchmarks.speed"] for words in performance)
    assert any({"personalize", "--scenario=offline"} <= set(words) for words in readme)
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_pages_exists(words, monkeypatch, capsys, no_flags_left):
    monkeypatch.chdir(ROOT)
    if words[:2] == ["python", "-m"]:
        return check_module(words[2], words[3:], monkeypatch, capsys)
    rest = words[2:] if words[0] == "python" else words[1:]
    if words[0] == "./run.sh" and (not rest or rest[0] in run_sh_words()):
        return None
    if rest[:1] == ["COMMAND"]:
        return None
    # Up to the verb's work: flags are parsed, the config is loaded, each of its fields looked up.
    monkeypatch.setattr(launch, "reported", lambda work: 0)
    monkeypatch.setattr(sys, "argv", ["main.py", *rest])  # config_flags looks there, too
    assert main.main(sys.argv) == 0, capsys.readouterr().err
    for word in rest:
        if word.split("/")[0] in OWN_FOLDERS:
            assert (ROOT / word).exists(), word


def run_sh_words():
    """The words that run.sh understands itself."""
    text = (ROOT / "run.sh").read_text().split('case "${1:-}" in')[1]
    return set(re.findall(r"[\w-]+", " ".join(re.findall(r"^  ([^*\n]+)\)$", text, re.M))))


def check_module(name, rest, monkeypatch, capsys):
    """A module's --help works and names the flags that are used."""
    if not (ROOT / name.split(".")[0]).is_dir():
        assert importlib.util.find_spec(name) is not None  # another project's, as pytest
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main()
    assert not stopped.value.code
    help_text = capsys.readouterr().out
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in help_text, word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_fields_and_files_that_a_page_names_exist(page):
    known = set()
    for path in (ROOT / "configs").glob("[a-z]*.py"):
        config = importlib.import_module(f"configs.{path.stem}").get_config()
        known |= {f"{part}.{field}" for part in config for field in fields(config[part])}
    for piece in pieces(page):
        for field in re.findall(r"\bconfig\.(\w+\.\w+)", piece):
            assert field in known, f"{page.name}: config.{field}"
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def fields(part):
    return list(part) if hasattr(part, "keys") else []


def test_joints_formats_and_labels_of_the_page_your_video_are_the_programs(tmp_path):
    text = (ROOT / "docs" / "your_video.md").read_text()
    cells = [line.split("|")[2] for line in text.splitlines() if re.match(r"\| \d", line)]
    skeleton = SKELETONS[checkpoint.read_model(checkpoint.SHIPPED)[1]["data"]["skeleton"]]
    assert tuple(re.findall(r"`(\w+)`", " ".join(cells))) == skeleton.joints
    for name in skeleton.joints:
        assert name in (personalize.__doc__ or "")
    named = re.search(r"\| format \|.*?\n\n", text, re.S)
    assert named and all(f"`{name}`" in named[0] for name in FORMATS)

    example = re.search(r"```csv\n(.*?)```", text, re.S)
    assert example
    file = tmp_path / "my_labels.csv"
    file.write_text(example[1])
    found = labels.read(file, skeleton, "my_video", (720, 1280), count=60)
    assert found.frames.tolist() == [0, 45] and found.visible.sum(1).tolist() == [5, 4]


def test_the_pages_name_the_model_that_comes_along_by_its_digest():
    digest = hashlib.sha256(checkpoint.SHIPPED.read_bytes()).hexdigest()
    assert digest in (ROOT / "docs" / "results.md").read_text()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_page_is_in_the_navigation(page):
    assert f": {page.name}\n" in (ROOT / "mkdocs.yml").read_text()


def test_every_field_of_a_config_is_explained_where_it_is_set():
    """The page Configuration is made of these comments."""
    rows = hooks.fields((ROOT / "configs" / "common.py").read_text())
    config = importlib.import_module("configs.common").get_config()
    known = {(part, name) for part in config for name in fields(config[part])}
    known |= {("", name) for name in config if not hasattr(config[name], "keys")}
    assert {row[:2] for row in rows} == known
    assert not [row[:2] for row in rows if len(row[3].split()) < 2]


def test_the_page_api_has_what_the_notebooks_and_the_pages_import():
    page = (ROOT / "docs" / "api.md").read_text()
    shown = set(re.findall(r"^::: ([\w.]+)$", page, re.M))
    texts = [json.loads(path.read_text()) for path in (ROOT / "notebooks").glob("*.ipynb")]
    lines = [line for text in texts for cell in text["cells"] for line in cell["source"]]
    used = set()
    for line in lines:
        if found := re.match(r"from ((?:ttp_jax|data_pipelines)\S*) import ([\w, ]+)", line):
            names = [name.strip() for name in found[2].split(",")]
            modules = {found[1], *(f"{found[1]}.{name}" for name in names)}
            used |= {m for m in modules if (ROOT / f"{m.replace('.', '/')}.py").exists()}
    assert len(used) > 6 and used <= shown


def test_the_address_of_the_repository_is_set_in_one_place(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for path in address.files():
        if path.parent.name != "notebooks":
            shutil.copy(path, tmp_path / path.relative_to(ROOT))
    old, new = address.address(), "https://github.com/some-one/ttp_jax"
    address.set_address(new, tmp_path)
    assert address.address(tmp_path) == new
    for path in address.files(tmp_path):
        text = path.read_text()
        assert old.removeprefix("https://github.com/") not in text and "some-one/ttp_jax" in text
    with pytest.raises(ValueError, match="is no address like"):
        address.set_address("ttp_jax", tmp_path)
    # No other file repeats it.
    named = {path for path in PAGES if old in path.read_text()}
    assert named <= {*address.files(), ROOT / "CONTRIBUTING.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_opens_with_a_command(page):
    text = page.read_text()
    if "<!-- include " in text:  # the page is another file, which is among the pages, or no manual
        return
    first = text.split("```")[1]
    assert STARTS.search(first) or "python -c" in first


@pytest.mark.slow
def test_the_pages_build(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    verbs = (tmp_path / "site" / "verbs.html").read_text()
    for verb in main.VERBS:
        assert f'<h2 id="{verb}">' in verbs, verb
    api = (tmp_path / "site" / "api.html").read_text()
    assert "over_subjects" in api and "Source code in" in api
    assert "ttp.<wbr>memory" in (tmp_path / "site" / "configuration.html").read_text()
    assert not list((tmp_path / "site").rglob("*seed*.json"))  # run records stay in the repository


def execute(words, folder):
    """Run a command of the pages in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{shlex.join(map(str, words))}\n{done.stdout}{done.stderr}"
    return done.stdout


def free_of_data():
    """Commands of all pages that read no data and no model."""
    for page in PAGES:
        for piece in pieces(page):
            if piece.startswith("python -c "):
                yield shlex.split(piece)
        for words in commands(page):
            asks = "--help" in words and words[:2] != ["python", "-m"]
            if asks or ("info" in words and "--data" not in words) or "doctor" in words:
                yield words


@pytest.mark.slow
@pytest.mark.parametrize("words", {shlex.join(words): words for words in free_of_data()}.values())
def test_commands_without_data_run(words):
    program = [sys.executable, "-c", "import main; main.cli()"]
    if words[0] in ("./run.sh", "ttp"):
        words = [*program, *words[1:]]
    else:
        words = [sys.executable, *words[1:]]
    printed = execute(words, ROOT)
    assert printed.strip()


@pytest.mark.slow
def test_the_example_of_the_page_api_runs(tmp_path, blazepose_here):
    writer = cv2.VideoWriter(
        str(tmp_path / "my_video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48)
    )
    for level in (50, 100, 150):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    example = (ROOT / "docs" / "api.md").read_text().split("```python\n")[1].split("```")[0]
    assert "left_knee" in execute([sys.executable, "-c", example], tmp_path)


@pytest.mark.slow
def test_the_page_your_video_works_from_top_to_bottom(tmp_path):
    # On short videos, and with a tiny untrained network in the place of the shipped one.
    small_run.prepare(tmp_path, lengths=())
    (tmp_path / "runs").mkdir()
    shutil.move(tmp_path / "work", tmp_path / "runs" / "small")
    rng = np.random.default_rng(0)
    for name in ("my_video", "anna_monday", "anna_friday"):
        writer = cv2.VideoWriter(
            str(tmp_path / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48)
        )
        for _ in range(6):
            coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
            writer.write(cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC))
        writer.release()

    todo = []
    for words in commands(ROOT / "docs" / "your_video.md"):
        rest = words[2:] if words[0] == "python" else words[1:]
        if not rest or rest[0] in ("train", "doctor", "live"):
            continue
        if {"--camera=0", "videos/*.mp4"} & set(rest):
            continue
        rest = [w.replace("configs/rendered.py", str(ROOT / "tests/small_run.py")) for w in rest]
        rest = [w.replace("runs/blazepose", "runs/my_model") for w in rest]
        rest = [w for w in rest if not w.startswith("--model=")]
        if rest[0] != "people":
            rest.append("--model=my_model.npz")
        todo.append(rest)
    assert {words[0] for words in todo} == {"export", "predict", "personalize", "people"}
    for words in sorted(todo, key=lambda words: (words[0] != "export", words[0] == "people")):
        execute([sys.executable, ROOT / "main.py", *words], tmp_path)

    results = tmp_path / "runs" / "my_model" / "results" / "offline"
    header, *rows = (results / "my_video.csv").read_text().splitlines()
    assert header.startswith("frame,head_x,head_y,head_confidence") and len(rows) == 6
    for name in ("my_video_report.html", "my_video_overlay.mp4", "run.json", "exports"):
        assert (results / name).exists(), name
    assert not list((tmp_path / "runs" / "my_model" / "people").glob("*"))  # kept, used, deleted
