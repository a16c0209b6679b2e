"""Download weights: BlazePose, or torchvision's ImageNet networks.

    python main.py fetch blazepose           (MediaPipe's pose network: 33 joints of real people)
    python main.py fetch resnet50            (also resnet18, vgg16: for the paper's configs)
    python main.py fetch blazepose --from pose_landmarker_full.task

Files that you already have are not downloaded again. BlazePose is taken from a wheel of mediapipe
(35 MB), which pip downloads; it then becomes the default model for your videos. Every file is
checked by its SHA-256.

  --from FILE   use this file instead of a download: a wheel of mediapipe, a .task or .tflite file
                of MediaPipe's pose landmarker ("full"), or torchvision's .pth
  --to DIR      where to put it; default: the folder in the environment variable TTP_JAX_WEIGHTS, or
                ~/.cache/ttp_jax/weights. --model=blazepose looks only in the default folder
"""

import argparse
import pathlib

from tqdm import tqdm

from configs import blazepose as blazepose_config
from ttp_jax import checkpoint, convert, fetch, state
from ttp_jax.files import sha256
from ttp_jax.runs.experiment import needed
from ttp_jax.runs.process import say

NAMES = ("blazepose", *fetch.PUBLISHED)
USES = {
    "resnet18": "--config.model.init=",
    "resnet50": "--config.model.init=",
    "vgg16": "--config.loss.features=",
}


def run(words: list[str]) -> int:
    """Fetch the weights that the arguments name; return the exit code."""
    parser = argparse.ArgumentParser("python main.py fetch", add_help=False, allow_abbrev=False)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--from", dest="given", metavar="FILE")
    parser.add_argument("--to", default=str(fetch.folder()), metavar="DIR")
    options = parser.parse_args(words)
    place = pathlib.Path(options.to).expanduser()
    if options.name == "blazepose":
        return fetch_blazepose(place / "blazepose", options.given)
    with tqdm(unit="B", unit_scale=True, leave=False, delay=1) as bar:

        def progress(done, total):
            bar.total = total or None
            bar.update(done - bar.n)

        path = fetch.torchvision(options.name, place, options.given, progress=progress)
    say(f"{path} (torchvision's, trained on ImageNet): {USES[options.name]}{path}")
    return 0


def fetch_blazepose(place: pathlib.Path, given: str | None) -> int:
    """Fetch BlazePose, and write it as a model file."""
    for line in fetch.blazepose(place, given):
        say(line)
    source = place / fetch.LANDMARKS.name
    params = convert.read_blazepose(source)
    config = blazepose_config.get_config()
    normalisers = [1.0] * (config.loss.levels + 1)  # unused: it has no reconstruction loss
    about = {
        "config": config.name,
        "converted from": f"{source.name} of MediaPipe (Apache-2.0)",
        "its sha256": sha256(source),
    }
    base = state.Base(params, {}, normalisers)  # pyright: ignore[reportArgumentType]
    path = place / checkpoint.blazepose_path().name
    checkpoint.write_model(path, checkpoint.ModelFile(base, needed(config.to_dict()), about))
    by_name = path == checkpoint.blazepose_path()
    say(f"wrote {path}: use it with --model={'blazepose' if by_name else path}")
    say(f"\n{fetch.LICENCE.strip()}\nThe licence is kept in {place / 'LICENSE.txt'}.")
    return 0
