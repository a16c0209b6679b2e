r"""Write a trained model as one file that needs no config and no checkpoints.

    python main.py export --config=configs/rendered.py --workdir=runs/rendered --model=my_model.npz
    python main.py personalize my_video.mp4 --model=my_model.npz

--torch=FILE converts a model of the released PyTorch program instead (its state dict; needs torch):

    python main.py export --config=configs/penn.py --config.data.root=DIR --torch=final_state.pth \
        --config.loss.features=vgg16-397923af.pth --model=released.npz
    python main.py personalize --config=configs/penn.py --config.data.root=DIR \
        --config.loss.features=vgg16-397923af.pth --config.model.color_order=bgr \
        --model=released.npz

The released program's perceptual loss uses torchvision's VGG-16, whose loss normalisers are known;
for other features they are measured on the training people of the data set. On Penn Action and BBC
Pose, its joints lie one pixel further right and down than this project's, because it leaves the
labels 1-based.

The file (a NumPy archive without pickles) has the parameters in half precision, all settings that
are needed to use the model, and a description of its training. The command prints its size and
SHA-256. An earlier file of this name is moved to FILE.old1.npz.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from ttp_jax.checkpoint import ModelFile, fingerprint, model_path, read_model, write_model
from ttp_jax.files import move_aside, sha256
from ttp_jax.runs import base_model, identity, provenance
from ttp_jax.runs.experiment import Experiment, needed
from ttp_jax.runs.process import say
from ttp_jax.state import Base


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of this command, see `command_line.GROUPS`."""

    model: str | None
    torch: str | None


def run(experiment: Experiment, workdir: pathlib.Path, options: Options) -> int:
    """Write the model under `workdir` to the file that --model names."""
    if not options.model:
        raise ValueError("--model is missing: name the file to write, --model=FILE.npz.")
    path = pathlib.Path(options.model).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"--model={path}: expected a file name that ends in .npz.")
    about: dict[str, Any] = {"config": experiment.name}
    if options.torch:
        # The released program reads images in BGR order.
        experiment = experiment.changed({"model.color_order": "bgr"})
        source = pathlib.Path(options.torch).expanduser()
        base = base_model.released_base(experiment, str(source))
        about |= {"converted from": source.name, "its sha256": sha256(source)}
    elif experiment.config.base:  # a model file already describes its training
        base, _ = base_model.load_base(experiment, workdir)
        about = read_model(model_path(experiment.config.base)).about
    else:
        base, step = base_model.load_base(experiment, workdir)
        trained_with = identity.training_config(workdir) or experiment.config
        about |= {"step": step, "trained": identity.trained_on(trained_with)}
        if names := trained_with.data.training_subjects:
            about["training_subjects"] = [identity.subject_digest(name) for name in names]
        # A project's present labels, or another split, may allow another zoom.
        trained_in = {f"data.{name}": trained_with.data[name] for name in ("boxes", "zoom")}
        experiment = experiment.changed(trained_in)
    about["exported"] = provenance.where()
    model = ModelFile(base, needed(experiment.config.to_dict()), about)
    if path.exists() and not _is_same(path, model):
        say(f"{path} was another file: it is now {move_aside(path, path.suffix)}")
    write_model(path, model)
    size, digest = path.stat().st_size / 2**20, sha256(path)
    say(f"wrote {path}: {size:.1f} MiB, sha256 {digest}")
    return 0


def _is_same(path: pathlib.Path, model: ModelFile) -> bool:
    """Return whether a file holds this model in half precision; False for other files."""
    try:
        there = read_model(path)
    except (OSError, ValueError):
        return False
    same = fingerprint(_rounded(model.base)) == fingerprint(_rounded(there.base))
    return same and there.config == json.loads(json.dumps(model.config))


def _rounded(base: Base) -> Base:
    """Return the model as its file stores it, in half precision."""
    half = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16), base.params)
    return Base(half, base.batch_stats, base.normalisers)
