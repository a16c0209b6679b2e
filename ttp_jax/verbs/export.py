r"""Write a trained model as one file, which needs no config and no checkpoints beside it.

    python main.py export --config=configs/rendered.py --workdir=runs/rendered --model=my_model.npz
    python main.py personalize my_video.mp4 --model=my_model.npz

--torch=FILE converts a model of the released PyTorch program instead (its state dict; needs torch):

    python main.py export --config=configs/penn.py --config.data.root=DIR --torch=final_state.pth \
        --config.loss.features=vgg16-397923af.pth --model=released.npz
    python main.py personalize --config=configs/penn.py --config.data.root=DIR \
        --config.loss.features=vgg16-397923af.pth --config.model.color_order=bgr \
        --model=released.npz

That program compares pictures by torchvision's VGG-16, whose loss normalisers are known; for other
features they are measured on the training people of the data set. Its joints come out one pixel
right of and below this project's on Penn Action and BBC Pose, whose labels it leaves 1-based.

The file (a NumPy archive without pickles) has the parameters in half precision, the settings that
the model can't be used without, and how it was trained. Prints its size and SHA-256.
"""

import pathlib
from typing import Any

from ttp_jax.checkpoint import ModelFile, read_model, write_model
from ttp_jax.verbs import experiment, receipts
from ttp_jax.verbs.experiment import say


def run(config, workdir: pathlib.Path, options) -> int:
    """Write the model under `workdir` to the file that --model names."""
    if not options.model:
        raise ValueError("--model=FILE.npz is missing: the file to write.")
    path = pathlib.Path(options.model)
    if path.suffix != ".npz":
        raise ValueError(f"--model={path}: a model's file ends in .npz.")
    about: dict[str, Any] = {"config": config.name}
    if options.torch:
        base = experiment.released_base(config, options.torch)
        digest = receipts.sha256(pathlib.Path(options.torch))
        about |= {"converted from": pathlib.Path(options.torch).name, "its sha256": digest}
    elif config.base:  # a file again: what made it was told there
        base, _ = experiment.load_base(config, workdir)
        about = read_model(experiment.model_path(config.base)).about
    else:
        base, step = experiment.load_base(config, workdir)
        trained_with = experiment.training_config(workdir) or config
        about |= {"step": step, "trained": experiment.trained_on(trained_with)}
    about["exported"] = receipts.where()
    write_model(path, ModelFile(base, needed(config), about))
    size, digest = path.stat().st_size / 2**20, receipts.sha256(path)
    say(f"wrote {path}: {size:.1f} MiB, sha256 {digest}")
    return 0


def needed(config) -> dict:
    """The parts of an experiment that its model can't be used without."""
    whole = config.to_dict()
    return {
        "data": {"skeleton": config.data.skeleton},
        "model": whole["model"],
        "loss": whole["loss"],
        "ttp": whole["ttp"],
        "train": {"precision": config.train.precision},
    }
