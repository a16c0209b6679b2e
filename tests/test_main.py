"""The messages of main.py to its user: help, hints, errors and warnings."""

import os
import re
import signal
import sys
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import pytest
from absl import flags

import main
from ttp_jax import command_line, launch
from ttp_jax.runs import live, process
from ttp_jax.runs.process import Stopped


@pytest.fixture(autouse=True)
def no_cache_of_the_user(monkeypatch):
    """Else every later test of this process would compile into the user's home."""
    monkeypatch.setattr(launch.process, "use_compilation_cache", lambda: None)


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Run words in an empty folder -> exit code, printed text; the flags are forgotten again."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        before = set(flags.FLAGS)
        monkeypatch.setattr(sys, "argv", list(words))  # config_flags looks there, too
        try:
            code = main.main(list(words))
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
        return code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("words", [("--help",), *((verb, "--help") for verb in main.VERBS)])
def test_help_names_the_command_that_was_typed(typed, words):
    code, checkout = typed("main.py", *words)
    # "ttp" is also the name of a method.
    command = rf"\bttp ({'|'.join(main.VERBS)}|-|[A-Z])"
    assert code == 0 and "python main.py" in checkout and not re.search(command, checkout)
    code, installed = typed("/usr/local/bin/ttp", *words)
    assert code == 0 and "python main.py" not in installed
    assert installed == checkout.replace("python main.py", "ttp")


def test_help_is_one_line_a_command_then_examples(typed):
    lines = typed("main.py", "--help")[1].rstrip().splitlines()
    assert all(len(line) <= 100 for line in lines)
    start, end = lines.index("commands"), lines.index("examples")
    assert [line.split()[0] for line in lines[start + 1 : end - 1]] == [*main.VERBS]
    assert all(line.startswith("  python main.py ") for line in lines[end + 1 :])


# What must be given, and what has no other value than those that are given.
WITHOUT_DEFAULT = {
    *("config", "project", "model", "torch", "person", "inputs", "labels", "camera", "mjpeg"),
}


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_of_a_command_shows_its_own_flags_in_groups_with_their_defaults(verb):
    shown = command_line.explained(verb)
    spelled = re.findall(r"^  --([\w-]+)(?![\w.-])", shown, re.M)
    found = {name.replace("-", "_") for name in spelled}
    own = {row.name for rows in command_line.GROUPS.values() for row in rows if verb in row.verbs}
    assert found == own - {None}
    if own - {None}:
        assert re.match(r"\n[a-z]", shown)
    text = " ".join(shown.split())
    for rows in command_line.GROUPS.values():
        for row in rows:
            if (
                verb in row.verbs
                and row.name not in {None, *WITHOUT_DEFAULT}
                and row.kind is not bool
            ):
                said = text.split(f"{row.spelled} ")[1].split(" --")[0]
                assert "default" in said or "likewise" in said, row.spelled


def test_hints_name_the_command_that_was_typed(typed):
    assert "Help: ttp train --help" in typed("ttp", "train", "--workdir=x")[1]
    assert "Help: python main.py --help" in typed("main.py", "--workdir=x")[1]


def test_a_verb_shows_the_flags_that_it_takes(typed):
    shown = typed("ttp", "personalize", "--help")[1]
    for flag in (
        "--config.data.boxes",
        "--config.data.refine",
        "--labels",
        "--camera",
        "--workdir",
    ):
        assert flag in shown, flag
    assert not re.search("--(cells|what|minutes|hosts|data) ", shown)
    assert "my_video.mp4" in shown.splitlines()[2]
    assert "--what" in typed("ttp", "reproduce", "--help")[1]
    assert "--labels" not in typed("ttp", "train", "--help")[1]
    assert "--workdir" not in typed("ttp", "people", "--help")[1]


def test_a_video_in_the_place_of_a_verb(typed, tmp_path):
    assert "unknown command 'my_video.mp4'" in typed("ttp", "my_video.mp4")[1]
    assert "did you mean personalize?" in typed("ttp", "personlize", "my_video.mp4")[1]
    (tmp_path / "my video.mp4").touch()
    code, said = typed("ttp", "my video.mp4", "--every=2")
    assert code == 2
    assert said.strip() == "did you mean: ttp personalize 'my video.mp4' --every=2"


@pytest.mark.parametrize("verb", command_line.ON_FILES)
def test_a_missing_video_is_said(typed, verb):
    code, said = typed("ttp", verb, "--overwrite")
    assert code == 2 and "name a video" in said and f"example: ttp {verb} my_video.mp4" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict v.mp4 --formats=coco", "--formats only works for your own videos"),
        ("personalize --camera=0 --labels=l.csv", "--labels only works for your own videos"),
        ("personalize v.mp4 --joints-only --formats=coco", "leave out --joints-only"),
        ("personalize v.mp4 --camera=0", "not both"),
        ("personalize --camera=0 --overwrite", "--overwrite is for videos and data sets"),
        ("personalize --camera=/no --scenario=offline", "live stream can't be adapted to offline"),
        ("live --stdin --scenario=offline", "live stream can't be adapted to offline"),
        ("live --camera=1 --stdin", "--camera and --stdin were both given"),
        ("personalize --camera=0 --person=left", "use live --person=NAME"),
        ("personalize v.mp4 --method=none --keep=fp16", "--keep has nothing to keep"),
        ("live --method=none --keep=fp16", "BlazePose takes --method=teacher"),
        (
            "personalize v.mp4 --person=left",
            "--person=left chooses among the people that BlazePose",
        ),
        (
            "personalize v.mp4 --person=2 --config.data.boxes=moving",
            "fetch blazepose. Or say where",
        ),
        (f"personalize --config={launch.OWN.parent}/tiny.py --frames=5-9", "for your own videos"),
        (f"train --config={launch.OWN.parent}/tiny.py --test=anna", "--test is for labelled proj"),
        (f"train --config={launch.OWN.parent}/tiny.py --val=anna", "--val is for labelled proj"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(typed, words, expected):
    code, said = typed("ttp", *words.split())
    assert code == 1 and said.strip().startswith("error:") and expected in said


def test_boxes_that_the_user_gives_need_no_finder(typed):
    code, said = typed(
        "ttp", *["personalize", "v.mp4", "--person=left", "--config.data.boxes=1,2,30,40"]
    )
    assert "--person=left is not needed: the boxes are 1,2,30,40" in said
    assert code == 1 and "v.mp4: no such file" in said  # goes on to open the video


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict v.mp4 --scenario=offline", "--scenario is for personalize and live, not for pr"),
        ("predict v.mp4 --keep=fp16", "--keep is for personalize and live, not for predict"),
        ("predict --camera=0", "--camera is for personalize and live"),
        ("personalize v.mp4 --json", "--json is for live, not for personalize"),
        ("live --overwrite", "--overwrite is for personalize and predict, not for live"),
        (
            f"evaluate --config={launch.OWN.parent}/tiny.py --model=m.npz",
            "--model is for personalize",
        ),
        (f"--config={launch.OWN.parent}/tiny.py --scenario=offline", "not for train"),
        (f"evaluate --config={launch.OWN}", "personalize my_video.mp4 --labels=FILE"),
    ],
)
def test_flags_of_other_verbs_are_refused(typed, words, expected):
    code, said = typed("ttp", *words.split())
    assert code == 2 and expected in said


def test_a_camera_needs_no_config(typed, monkeypatch):
    seen = []
    monkeypatch.setattr(live.video, "camera", lambda place: seen.append(place) or iter(()))
    code, said = typed("ttp", "live", "--device=cpu")
    assert code == 1 and "no frame arrived" in said and seen == ["0"]


def test_flags_and_their_values_may_be_two_words():
    words = ["ttp", "personalize", "--model", "one.npz", "-model=two.npz", "--frames=1-2"]
    assert launch.given(words, "model") == "two.npz"
    assert launch.given(words[:4], "model") == "one.npz"
    assert launch.given(words, "config") is None


def test_other_sources_need_no_video(typed, monkeypatch):
    monkeypatch.setattr(launch, "reported", lambda work: 0)
    config = f"--config={launch.OWN.parent / 'tiny.py'}"
    assert typed("ttp", "personalize", config)[0] == 0
    assert typed("ttp", "personalize", "--camera=0")[0] == 0
    assert typed("ttp", "personalize", "--config.data.root=my_video.mp4")[0] == 0


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--config.data.refin=2", """the config has no field 'refin'. Did you mean "refine" """),
        ("--config.dta.refine=2", """the config has no field 'dta'. Did you mean "data" """),
        ("--model=gone.npz", "gone.npz does not exist"),
    ],
)
def test_wrong_fields_and_files_are_one_line(typed, flag, expected):
    code, said = typed("ttp", "personalize", "my_video.mp4", flag)
    assert code == 2 and said.startswith(expected), said
    assert said.splitlines()[1:] == ["Help: ttp personalize --help"]


def test_errors_name_the_file_and_what_to_do(capsys, tmp_path):
    def missing():
        return len((tmp_path / "my_labels.csv").read_text())

    assert launch.reported(missing) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(
        f"error: {tmp_path}/my_labels.csv: No such file or directory. Check its name"
    )
    assert launch.in_words(FileNotFoundError("no model in x: train")) == "no model in x: train"
    assert launch.in_words(OSError(28, "No space left on device", "a.npz")) == (
        "a.npz: No space left on device."
    )


def test_warnings_are_lines_and_come_again_at_the_end(capsys):
    usual = warnings.showwarning

    def work():
        for number in (1, 2, 2):
            warnings.warn(f"video {number}\nends early", stacklevel=2)
        print("done", file=sys.stderr)
        raise ValueError("no frames")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = usual
        assert launch.reported(work) == 1
        assert warnings.showwarning is usual
    said = capsys.readouterr().err.split("done")
    assert said[0].splitlines() == ["warning: video 1 ends early", "warning: video 2 ends early"]
    assert said[1].split("\n")[2:] == [
        "Warnings of this run:",
        "  video 1 ends early",
        "  video 2 ends early",
        "",
        "error: no frames",
        "",
    ]


def test_people_of_a_folder_are_listed_without_the_word(typed, tmp_path):
    code, said = typed("ttp", "people", str(tmp_path))
    assert code == 0 and said == typed("ttp", "people", "list", str(tmp_path))[1]
    code, said = typed("ttp", "people", "list")
    assert code == 1 and "people list WORKDIR" in said


def test_sigterm_ends_with_all_that_is_to_be_done():
    missed, cleaned = [], []

    def handler(number, frame):
        missed.append(number)

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            cleaned.append(True)
        return 0

    usual = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit) as stopped:
            launch.reported(work)
        assert stopped.value.code == 143 and cleaned and not missed
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_ctrl_c_is_told_without_a_traceback(capsys):
    def work():
        raise KeyboardInterrupt

    assert launch.reported(work) == 130
    assert capsys.readouterr().err.strip() == "stopped: finished work is kept"


def test_a_stopped_run_is_saved_even_if_ctrl_c_also_ended_the_reader_of_its_log(monkeypatch):
    stop, saved = threading.Event(), []

    def work():
        with process.stopping(stop), process.progress_bar(2, "train") as bar:
            signal.raise_signal(signal.SIGINT)
            bar.update(1)
            warnings.warn("a frame can't be read", stacklevel=1)
            process.say("saving")
            saved.append(stop.is_set())
        raise Stopped

    read, write = os.pipe()
    os.close(read)  # as `2>&1 | tee log` does when Ctrl-C ends tee
    with os.fdopen(write, "w") as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        patch.setattr(sys, "stderr", gone)
        assert launch.reported(work) == 143 and saved == [True]


def test_a_stop_that_no_verb_tells_of_is_told(capsys):
    def work():
        raise Stopped

    assert launch.reported(work) == 143
    assert capsys.readouterr().err.strip() == "stopped: finished work is kept"


def test_a_full_memory_is_one_line_with_a_remedy(capsys):
    def work():
        return jnp.zeros((1 << 20, 1 << 24)).block_until_ready()

    assert launch.reported(work) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: the device's memory is full (RESOURCE_EXHAUSTED: ")
    assert "config.train.batch_size" in said and "config.ttp.together=1" in said

    def broken():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        launch.reported(broken)
