"""Write a trained model as one file, which needs no config and no checkpoints beside it.

    python main.py export --config=configs/rendered.py --workdir=runs/rendered --model=my_model.npz
    python main.py personalize my_video.mp4 --model=my_model.npz

The file (a NumPy archive without pickles) has the parameters in half precision, the settings that
the model can't be used without, and how it was trained. Prints its size and SHA-256.
"""

import pathlib

from ttp_jax.checkpoint import ModelFile, write_model
from ttp_jax.verbs import experiment, receipts
from ttp_jax.verbs.experiment import say


def run(config, workdir: pathlib.Path, options) -> int:
    """Write the model under `workdir` to the file that --model names."""
    if not options.model:
        raise ValueError("--model=FILE.npz is missing: the file to write.")
    path = pathlib.Path(options.model)
    if path.suffix != ".npz":
        raise ValueError(f"--model={path}: a model's file ends in .npz.")
    base, step = experiment.load_base(config, workdir)
    about = {
        "config": config.name,
        "step": step,
        "seed": config.seed,
        "command": f"python main.py --config=configs/{config.name}.py",
        "data": "rendered people" if config.data.source == "synthetic" else config.data.source,
        **receipts.where(),
    }
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
