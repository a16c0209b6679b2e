"""The flags of the command line, in one table that defines, explains and refuses them."""

import ast
import dataclasses
import difflib
import os
import pathlib
import re
import shlex
import sys
import textwrap
from typing import Any, TypeVar

from absl import flags
from ml_collections import config_flags

T = TypeVar("T")

VERBS = (
    *("doctor", "fetch", "personalize", "predict", "live", "people", "train", "evaluate"),
    *("info", "suggest", "export", "verify", "reproduce"),
)
WORDS = ("people", "verify", "fetch", "doctor")  # verbs that take words instead of a config
WITH_A_MODEL = ("personalize", "predict", "live", "suggest")  # need a model file, but no config
WITH_A_PROJECT = ("train", "personalize", "predict", "evaluate", "info", "export")
ON_FILES = ("personalize", "predict")  # those that take videos, images and data sets
ON_VIDEOS = (*ON_FILES, "suggest")
# Fields of a config that can be files or folders.
PATH_FIELDS = tuple(
    f"config.{field}"
    for field in ("base", "data.root", "data.tfds", "data.boxes", "model.init", "loss.features")
)
# Flags renamed since the previous version: old name -> new name.
RENAMED = {"cells": "records", "nodeliver": "joints_only"}
ADAPTATIONS = ("ttp", "bn", "entropy", "teacher", "teacher+ttp", "none")  # of `methods.METHODS`
OUTPUTS = ("smooth", "keypoints", "formats", "labels", "pcutoff")  # only for a user's own videos

_WITH_CONFIG = tuple(verb for verb in VERBS if verb not in WORDS)
_AS_IT_COMES = ("personalize", "live")


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag, or another argument that help explains.

    Attributes:
      shown: flag and value, "--keep=FORM"; without dashes, or with a dot, no flag is defined.
      text: what it does.
      verbs: the verbs that take it; a flag with two meanings has two rows.
      kind: type of its value: str, bool, int (1 or more), float, or the values that it may have.
      default: its value if it isn't given.
    """

    shown: str
    text: str
    verbs: tuple[str, ...]
    kind: type | tuple[str, ...] = str
    default: Any = None

    @property
    def is_path(self) -> bool:
        """Whether its value is a file or a folder."""
        return self.shown.endswith(("=FILE", "=DIR"))

    @property
    def spelled(self) -> str:
        """The spelling in help, with dashes; underscores are accepted as well."""
        return self.shown if "." in self.shown else self.shown.replace("_", "-")

    @property
    def name(self) -> str | None:
        """Name of the flag that this row defines; None if it defines none."""
        found = re.fullmatch(r"--(\w+)(=.*)?", self.shown)
        return found and found[1].removeprefix("no" if self.default is True else "")


# Flags by what they are for.
GROUPS: dict[str, tuple[Flag, ...]] = {
    "your videos and images": (
        Flag(
            "--person=WHO",
            "which of several people: largest (the default), left, right, a number from the left, "
            "or a point x,y in pixels",
            ("personalize",),
        ),
        Flag("VIDEO, FOLDER ...", "each one is a subject; or use --inputs=PATTERN", ON_VIDEOS),
        Flag(
            "--same_subject=NAME",
            "the inputs are recordings of this one subject: one model adapts to all their frames, "
            "and each recording gets its own outputs; default: each input is a subject",
            ("personalize",),
        ),
        Flag("--inputs=PATTERN", "inputs as a pattern: 'videos/*.mp4'", (*ON_VIDEOS, "info")),
        Flag(
            "--config.data.boxes=B",
            "where the person is: people (found by BlazePose, once fetched), moving (the moving "
            "region, for a still camera), whole (the frame), x1,y1,x2,y2 (a region in pixels), "
            "FILE.csv or FILE.json. Default: people, or moving without BlazePose; as in training "
            "for the model of a labelled project; whole with a --config",
            ON_VIDEOS,
        ),
        Flag(
            "--config.data.fit=1",
            "enlarge these boxes by up to a factor of 2, to the scale at which the network is most "
            "confident and the joints follow the moving region; default 0",
            ON_VIDEOS,
        ),
        Flag(
            "--config.data.refine=N",
            "predict the joints and use the box around them, N times; default 0",
            ON_VIDEOS,
        ),
        Flag("--frames=A-B", "only these frames, counted from 0; default all", ON_VIDEOS),
        Flag("--every=N", "only every Nth of them; default 1", ON_VIDEOS, int),
        Flag("--overwrite", "redo subjects that are already done", ON_FILES, bool),
        Flag(
            "--allow_missing",
            "exit with 0 even if some inputs can't be used; they are still listed",
            ON_FILES,
            bool,
        ),
    ),
    "how to adapt": (
        Flag(
            "--scenario=NAME",
            "online (the default: never sees a later frame) or offline (adapts to all frames "
            "first; files only; gains more on the benchmark)",
            _AS_IT_COMES,
            ("online", "offline"),
        ),
        Flag(
            "--method=NAME",
            "ttp (the default: the model's self-supervised task), bn (batch statistics), entropy "
            "(sharper heatmaps), teacher (its own confident joints), teacher+ttp (both losses) or "
            "none; BlazePose takes none (its default) or teacher; see docs/method.md",
            _AS_IT_COMES,
            ADAPTATIONS,
        ),
        Flag("--iterations=N", "updates per frame; default 1", _AS_IT_COMES, int),
        Flag(
            "--keep=FORM", "keep personalized models: full, fp16, rankN; default no", _AS_IT_COMES
        ),
    ),
    "outputs (predict: only with --person)": (
        Flag(
            "--labels=FILE",
            "labelled joints of some frames (DeepLabCut, SLEAP, COCO, Penn Action .mat): for "
            "scores before and after, never for training",
            ON_FILES,
        ),
        Flag(
            "--labels_first=1",
            "if the labels count frames from 1; default 0",
            ON_FILES,
            int,
            0,
        ),
        Flag(
            "--formats=NAMES",
            "export as dlc-csv (the default), dlc-h5, deeplabcut, coco, sleap, slp, trc, npz, "
            "parquet, lightning-pose; eks collects the joints of runs with different --config.seed "
            "for the Ensemble Kalman Smoother",
            ON_FILES,
        ),
        Flag("--keypoints=NAMES", "export only these, e.g. left_knee,head; default all", ON_FILES),
        Flag(
            "--smooth=HOW",
            "smooth the joints in report, video and exports: savgol or one-euro; default none",
            ON_FILES,
            ("savgol", "one-euro"),
        ),
        Flag(
            "--pcutoff=P",
            "joints of lower confidence are drawn hollow and left out of exports; 0 (default) to 1",
            ON_FILES,
            float,
            0.0,
        ),
        Flag("--joints_only", "write joints only: no report, video or exports", ON_FILES, bool),
    ),
    "live frames": (
        Flag("--camera=N", "take frames from a camera, see `live --help`", _AS_IT_COMES),
        Flag("--stdin", "take frames from a pipe, see `live --help`", _AS_IT_COMES, bool),
        Flag("--json", "write a line of JSON for each frame to standard output", ("live",), bool),
        Flag("--mjpeg=PORT", "show frames and joints in a browser at this port", ("live",), int),
    ),
    "which model": (
        Flag("--person=NAME", "the model that --keep stored under this name", ("predict", "live")),
    ),
    "the model": (
        Flag(
            "--model=FILE",
            "a file from `export`, a training folder, blazepose, or shipped (the included model). "
            "Default for your videos: shipped, but blazepose for personalize, predict and suggest "
            "once fetched; with a --config, the workdir's model",
            WITH_A_MODEL,
        ),
    ),
    "a labelled project": (
        Flag(
            "--project=PATH",
            "a folder of DeepLabCut or Lightning Pose, SLEAP's .slp or COCO's .json; without a "
            "--config, configs/project.py has the settings",
            WITH_A_PROJECT,
        ),
        Flag(
            "--test=PATTERNS",
            "test subjects, for example 'anna,mouse_*'; default: a random fifth",
            WITH_A_PROJECT,
        ),
        Flag("--val=PATTERNS", "validation subjects; default: another fifth", WITH_A_PROJECT),
        Flag(
            "--folds=N",
            "train N times, so that each subject is a test subject once; default: one split",
            ("train",),
            int,
        ),
        Flag(
            "--exclude=PATTERNS",
            "leave out these subjects, folders or videos; default none",
            WITH_A_PROJECT,
        ),
        Flag(
            "--subject=REGEX",
            "regular expression on an image's folder/file, whose first group is the subject; "
            "default: the folder or video",
            WITH_A_PROJECT,
        ),
        Flag(
            "--flip_pairs=A:B,C:D",
            "joints that swap in a mirrored image; default: by left and right in their names",
            WITH_A_PROJECT,
        ),
        Flag(
            "--scale_joints=A,B",
            "make the distance of these two joints the unit of PCK; default: the torso, or the "
            "diagonal of the labelled joints' box",
            WITH_A_PROJECT,
        ),
    ),
    "training": (
        Flag(
            "--extend",
            "continue a finished training with a longer schedule (config.train.stages), which must "
            "match the old one for all updates already done",
            ("train",),
            bool,
        ),
    ),
    "what to label next": (
        Flag("--count=N", "frames to choose from each video; default 20", ("suggest",), int),
        Flag("--scorer=NAME", "name of the DeepLabCut scorer", ("suggest",), str, "me"),
    ),
    "tables and figures": (
        Flag("--what=NAMES", "tables and figures to make; default all", ("reproduce",), str, "all"),
        Flag(
            "--records=DIR",
            "folder of run records, read and added to; default WORKDIR/records",
            ("reproduce",),
        ),
        Flag(
            "--minutes=N",
            "start no new run after N minutes; default no limit",
            ("reproduce",),
            float,
            0.0,
        ),
    ),
    "the model's file": (
        Flag("--model=FILE", "the file to write", ("export",)),
        Flag(
            "--torch=FILE",
            "convert a state dict of the released PyTorch program instead of the workdir's model "
            "(needs torch); sets config.model.color_order=bgr",
            ("export",),
        ),
    ),
    "what to describe": (
        Flag(
            "--data",
            "describe the data set instead of the network; videos and folders work as well",
            ("info",),
            bool,
        ),
    ),
    "many subjects": (
        Flag(
            "--strategy=NAME",
            "map (one subject after the other), vmap (side by side), chunks (config.ttp.together "
            "of them side by side), or auto (the default): one at a time on a CPU, elsewhere "
            "whichever measures faster",
            ON_FILES,
            ("auto", "map", "vmap", "chunks"),
        ),
        Flag(
            "--devices=N", "devices that share the subjects: a number, or all; default 1", ON_FILES
        ),
    ),
    "several machines": (
        Flag(
            "--hosts=WHO",
            "run as one of several processes, see docs/clusters.md; default: a single process",
            ("train", *ON_FILES),
        ),
    ),
    "all experiments": (
        Flag(
            "--config=FILE",
            "the experiment: configs/tiny.py, configs/penn.py, ...; not needed for your videos and "
            "cameras",
            _WITH_CONFIG,
        ),
        Flag(
            "--config.FIELD=VALUE",
            "change a field of it, for example --config.seed=1; see docs/configuration.md",
            _WITH_CONFIG,
        ),
        Flag(
            "--workdir=DIR",
            "folder of results and checkpoints; default runs/NAME",
            _WITH_CONFIG,
        ),
        Flag(
            "--device=NAME",
            "cpu, gpu or tpu; default: tpu or gpu if there is one",
            _WITH_CONFIG,
            ("cpu", "gpu", "tpu"),
        ),
    ),
}


def chosen(options: type[T]) -> T:
    """Return the values of a command's flags as its `Options` record."""
    names = (field.name for field in dataclasses.fields(options))  # pyright: ignore
    return options(**{name: flags.FLAGS[name].value for name in names})


def help_text(verb: str | None, about: str) -> str:
    """Return help on a command, or on all within `about`, without their slow imports."""
    if verb is not None:
        return f"{about_verb(verb)}\n{explained(verb)}"
    lines = (f"  {name:<13}{about_verb(name).splitlines()[0]}" for name in VERBS)
    first, _, examples = about.partition("\n\n")
    return "\n".join([first, "\ncommands", *lines, "", examples])


def about_verb(verb: str) -> str:
    """Return the docstring of a command's module."""
    source = (pathlib.Path(__file__).parent / "verbs" / f"{verb}.py").read_text()
    return ast.get_docstring(ast.parse(source)) or ""


def unknown(words: list[str]) -> str:
    """Return the message about a first word that is no command."""
    if os.path.exists(words[0]):
        return f"did you mean: python main.py {shlex.join(['personalize', *words])}"
    near = difflib.get_close_matches(words[0], VERBS, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown command {words[0]!r}{meant}; commands: {', '.join(VERBS)}"


def as_started(text: str) -> str:
    """Replace `python main.py` by `ttp` in a text if the installed command was started."""
    installed = pathlib.Path(sys.argv[0]).stem == "ttp"
    return text.replace("python main.py", "ttp") if installed else text


def explained(verb: str) -> str:
    """Return help on the flags of a verb."""
    lines = []
    for title, rows in GROUPS.items():
        shown = [row for row in rows if verb in row.verbs]
        lines += [f"\n{title}"] if shown else []
        for row in shown:
            start, rest = f"  {row.spelled:<22} ", " " * 25
            text = f"{start}{row.text}{_default(row)}"
            lines += textwrap.wrap(text, 100, subsequent_indent=rest, break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines)


def _default(row: Flag) -> str:
    """Return the default as help shows it, unless the flag's text mentions it."""
    if "efault" in row.text or (row.kind is not bool and row.default in (None, "", 0.0)):
        return ""
    return f" (default {'no' if row.kind is bool else row.default})"


def define() -> None:
    """Define all flags."""
    for name, row in {row.name: row for row in _rows() if row.name}.items():
        if name == "config":
            config_flags.DEFINE_config_file(name, None, row.text)
        elif isinstance(row.kind, tuple):
            flags.DEFINE_enum(name, row.default, row.kind, row.text)
        elif row.kind is bool:
            flags.DEFINE_bool(name, bool(row.default), row.text)
        elif row.kind is int:  # at least 1, or its default
            least = 1 if row.default is None else row.default
            flags.DEFINE_integer(name, row.default, row.text, lower_bound=least)
        elif row.kind is float:
            flags.DEFINE_float(name, row.default, row.text)
        else:
            flags.DEFINE_string(name, row.default, row.text)


def expand_paths(words: list[str]) -> list[str]:
    """Return the words of a command line with "~" expanded in flags that are files or folders.

    The shell expands "~" only at the beginning of a word, so not in --workdir=~/runs.
    """
    paths = {row.name for row in _rows() if row.is_path} | {*PATH_FIELDS}
    found = []
    for word in words:
        flag, equals, value = word.partition("=")
        if equals and flag.lstrip("-") in paths:
            value = "\n".join(os.path.expanduser(line) for line in value.split("\n"))
        found.append(f"{flag}{equals}{value}")
    return found


def underscored(words: list[str]) -> list[str]:
    """Return the words of a command line with --scale-joints=A,B as --scale_joints=A,B.

    Renamed flags get their new name, with a warning.
    """
    found = []
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name in RENAMED:
            now = RENAMED[name]
            note = f"--{name} is now called --{now}; the next version drops the old name"
            print(f"warning: {note}.", file=sys.stderr)
            name = now
        found.append(f"--{name}{equals}{value}" if flag.startswith("--") else word)
    return found


def refuse_others(options, verb: str) -> None:
    """Raise absl's flags.Error for a flag that this verb doesn't take."""
    for name in dict.fromkeys(row.name for row in _rows() if row.name):
        takers = {verb for row in _rows() if row.name == name for verb in row.verbs}
        if options[name].present and verb not in takers:
            known = " and ".join(taker for taker in VERBS if taker in takers)
            raise flags.Error(f"--{name} is for {known}, not for {verb}.")


def _rows() -> list[Flag]:
    return [row for rows in GROUPS.values() for row in rows]
