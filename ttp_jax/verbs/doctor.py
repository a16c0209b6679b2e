"""Check that this machine has everything that the other commands need.

    python main.py doctor

Needs no config, no data and no network. Prints one line for each check: ok, note (it works, but
read the note) or PROBLEM. The exit code is 1 if there is a problem. If main.py can't start because
a package is missing, run `python -m ttp_jax.verbs.doctor`.
"""

# Checks import what they check, because this module must load even if nothing is installed.
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
Finding = tuple[str, str]  # mark, text: what was found and what to do

REQUIREMENTS = pathlib.Path(__file__).parents[2] / "requirements.txt"  # exists in a checkout
PRETRAINED = pathlib.Path(__file__).parents[1] / "pretrained"
OLDEST_PYTHON = (3, 11)
GIB = 2**30
# Personalizing with the tiny network peaks below 2 GiB; a training step of the paper's size on CPU
# has 8.0 GiB of intermediate arrays (docs/notes.md).
LEAST_MEMORY, PAPER_MEMORY = 2 * GIB, 10 * GIB
# Rendered people and checkpoints of the tiny config take well under 1 GiB; data sets take many GiB.
LEAST_DISK, ENOUGH_DISK = 1 * GIB, 10 * GIB
# Builds of the same library under other names, which are fine as well.
TWINS = {
    "tensorflow": ("tensorflow-cpu",),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless"),
}
PATIENCE = 60  # seconds to wait for TensorFlow's import, and for nvidia-smi
FEED = "import tensorflow as tf; print(tf.__version__, sum(tf.data.Dataset.range(4)).numpy())"


def run(words: list[str]) -> int:
    """Print all checks; return 1 if one of them is a problem."""
    if words:
        raise ValueError(f"got {' '.join(words)!r}, but doctor takes no arguments: main.py doctor")
    # TensorFlow takes longest to import, so start first. A separate process, because it kills its
    # process if the processor is too old for it.
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    feeding = subprocess.Popen(
        [sys.executable, "-c", FEED],
        env=quiet,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    checks = {
        "Python": python,
        "packages": packages,
        "device": device,
        "memory": memory,
        "disk": disk,
        "compiled programs": compilation_cache,
        "VGG features": features,
        "video": video,
        "trained model": pretrained,
        "BlazePose": blazepose,
        "TensorFlow": lambda: tensorflow(feeding),
    }
    findings = {}
    for name, check in checks.items():
        mark, text = findings[name] = checked(check)
        print(f"{mark:9}{name:19}{text}", flush=True)
    wrong = [name for name, (mark, _) in findings.items() if mark == PROBLEM]
    print(f"\n{len(wrong)} problems: {', '.join(wrong)}" if wrong else "\nready")
    return int(bool(wrong))


def checked(check: Callable[[], Finding]) -> Finding:
    """Run a check; any exception is a problem, because a broken package may raise anything."""
    try:
        return check()
    except ImportError as error:
        return PROBLEM, f"{error}: {reinstall()}"
    except Exception as error:
        return PROBLEM, f"{type(error).__name__}: {' '.join(str(error).split())}"


def reinstall() -> str:
    """Return how to install the packages that the project requires."""
    if REQUIREMENTS.is_file():
        return f"pip install -r {REQUIREMENTS.name}"
    return "install ttp_jax again with pip"


def python() -> Finding:
    """Check the interpreter's version."""
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        return PROBLEM, f"{found}: 3.11 or newer is needed, e.g. PYTHON=python3.12 ./run.sh setup"
    return OK, found


def packages() -> Finding:
    """Check the installed versions against the requirements."""
    from packaging.requirements import Requirement

    if REQUIREMENTS.is_file():
        lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    else:
        lines = importlib.metadata.requires("ttp_jax") or []
    wanted = [Requirement(line) for line in lines if line]
    wanted = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in wanted:
        version = installed(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, expected {requirement.specifier}")
    if wrong:
        return PROBLEM, f"{'; '.join(wrong)}: {reinstall()}"
    return OK, f"all {len(wanted)} as required"


def installed(name: str) -> str | None:
    """Return the version of a package or of its twin; None if neither is installed."""
    for one in (name, *TWINS.get(name, ())):
        try:
            return importlib.metadata.version(one)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def device() -> Finding:
    """Check which device jax uses, and whether it overlooks a GPU."""
    import jax

    found = jax.devices()
    if found[0].platform != "cpu":
        return OK, f"jax {jax.__version__} on {len(found)} x {found[0].device_kind}"
    here = f"jax {jax.__version__} on CPU, {os.cpu_count()} cores"
    install = "pip install '.[gpu]' in the checkout, or pip install 'jax[cuda13]'"
    if gpus := nvidia_gpus():
        return NOTE, f"{here}, although nvidia-smi lists {gpus}: {install}"
    return NOTE, f"{here}: enough for configs/tiny.py; with an NVIDIA GPU: {install}"


def nvidia_gpus() -> str:
    """Return the names of the GPUs that the driver lists; "" if there are none."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return ", ".join(shown.stdout.split("\n")[:-1]) if shown.returncode == 0 else ""


def memory() -> Finding:
    """Check the free main memory, if the system reports it."""
    try:
        rows = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return NOTE, f"unknown on this system; {LEAST_MEMORY / GIB:.0f} GiB should be free"
    free = next(int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable"))
    text = f"{free / GIB:.1f} GiB free"
    if free < LEAST_MEMORY:
        return PROBLEM, f"{text}, {LEAST_MEMORY / GIB:.0f} GiB needed: close other programs"
    if free < PAPER_MEMORY:
        return (
            NOTE,
            f"{text}: enough for configs/tiny.py, but training at the paper's size needs more",
        )
    return OK, text


def disk() -> Finding:
    """Check free space and write permission in this folder, below which results go."""
    here = pathlib.Path.cwd()
    free = shutil.disk_usage(here).free
    text = f"{free / GIB:.1f} GiB free in {here}"
    if not os.access(here, os.W_OK):
        return PROBLEM, f"{here} is not writable: change to another folder, or set --workdir"
    if free < LEAST_DISK:
        return (
            PROBLEM,
            f"{text}, {LEAST_DISK / GIB:.0f} GiB needed: free some space, or set --workdir",
        )
    return (OK if free > ENOUGH_DISK else NOTE), text


def compilation_cache() -> Finding:
    """Check whether compiled programs can be kept between runs."""
    import jax

    from ttp_jax.runs import process

    process.use_compilation_cache()
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore
    try:
        with tempfile.TemporaryFile(dir=folder or os.devnull):
            return OK, f"are kept in {folder}"
    except OSError as error:
        return NOTE, f"every run recompiles ({error}): make the folder writable"


def features() -> Finding:
    """Check the default VGG-16 weights of the reconstruction loss."""
    from ttp_jax.models import vgg

    loaded = vgg.load("hed")
    return OK, f"{loaded.levels} levels of {loaded.source}"


def video() -> Finding:
    """Check whether PyAV can write an H.264 video and read it back."""
    import av
    import numpy as np

    from data_pipelines.clips import DataError
    from data_pipelines.video import Video

    greys = np.array([40, 90, 140, 190, 240])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "video.mp4")
        with av.open(path, "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for grey in greys:
                picture = np.full((64, 64, 3), grey, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            file.mux(stream.encode())
        try:
            read_back = Video(path)
            found = [read_back.read(i).mean() for i in range(len(read_back))]
        except DataError:
            found = []
    if len(found) != len(greys) or np.abs(found - greys).max() > 8:
        return PROBLEM, (
            f"PyAV {av.__version__} reads back {len(found)} of {len(greys)} frames or other "
            "colours: pip install --force-reinstall av"
        )
    return OK, f"PyAV {av.__version__} writes and reads an H.264 video"


def pretrained() -> Finding:
    """Check the included models."""
    from ttp_jax import checkpoint

    paths = sorted(PRETRAINED.glob("*.npz"))
    if not paths:
        return NOTE, f"none in {PRETRAINED}: train one with ./run.sh --train"
    for path in paths:
        try:
            checkpoint.read_model(path)
        except ValueError as error:
            return PROBLEM, str(error)
    return OK, f"{', '.join(path.name for path in paths)} in {PRETRAINED}"


def blazepose() -> Finding:
    """Check whether MediaPipe's networks were fetched: the model, and those that find people."""
    from ttp_jax import checkpoint, detector

    path = checkpoint.blazepose_path()
    if not path.is_file():
        return NOTE, "not installed: for real people, run `python main.py fetch blazepose`"
    checkpoint.read_model(path)
    if not detector.is_here():
        return (
            NOTE,
            f"{path}, but not the person detector: run python main.py fetch blazepose",
        )
    from ttp_jax import tflite

    for file in (detector.path(), detector.landmarks_path()):
        tflite.outputs(file)
    return OK, f"{path}, and the person detector"


def tensorflow(feeding: subprocess.Popen) -> Finding:
    """Check whether TensorFlow, which feeds the training, starts and yields data."""
    try:
        printed, errors = feeding.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        feeding.kill()
        feeding.communicate()
        return (
            NOTE,
            f"not started after {PATIENCE} s: run doctor again when the machine is less busy",
        )
    if feeding.returncode:
        last = (errors.strip().splitlines() or [f"it ended with {feeding.returncode}"])[-1]
        return PROBLEM, f"{last}: {reinstall()}"
    version, total = printed.split()[-2:]
    return (OK, version) if total == "6" else (PROBLEM, f"tf.data summed 0..3 to {total}")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
