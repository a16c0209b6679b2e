"""A config and a workdir for tests of whole commands: a tiny untrained network, random images.

As a file: `python main.py VERB --config=tests/small_run.py --inputs=DIR/people --workdir=DIR/work`.
"""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np

from configs import tiny
from ttp_jax.checkpoint import Checkpoints
from ttp_jax.runs import base_model, experiment

ROOT = pathlib.Path(__file__).parents[1]


def shrink(c):
    """Make a config's network as small as tests need it; without levels no VGG is run."""
    c.model.image_size, c.model.width, c.model.feature_dim = 32, 4, 8
    c.model.depth, c.model.heads, c.model.ffn_dim, c.model.num_maps = 10, 2, 16, 6
    c.model.appearance_widths, c.model.keypoint_widths = (4, 8), (4, 8)
    c.loss.levels = 0
    c.ttp.batch_size = 4


def cut(c):
    """Give a config's network a trunk of two blocks, where the fixture `shallow` is in use."""
    c.model.depth, c.model.upsamplings = 18, 1
    return c


def get_config():
    c = tiny.get_config()
    c.name = "small"
    c.data.source = "media"
    shrink(c)
    c.ttp.learning_rate = 1e-3
    c.ttp.save_minutes = 0.0  # after every chunk of frames
    c.eval.pictures = 0
    return c


def training(root: pathlib.Path):
    """A config that trains for 6 updates on rendered people; wants the fixture `shallow`."""
    c = tiny.get_config()
    c.data.root = str(root)
    c.data.train, c.data.val, c.data.test = 4, 0, 1
    c.data.train_frames, c.data.eval_frames, c.data.image_size = 4, 4, 40
    shrink(c)
    cut(c)
    c.train.batch_size, c.train.stages = 4, ((6, 1e-3, 0.0, "cosine"),)
    return c


def prepare(folder: pathlib.Path, lengths=(44, 37, 33), config=None) -> list[str]:
    """Write people and an untrained model below `folder`; return flags for `command`.

    By default all remember as many frames, so that they share their programs.
    """
    config = get_config() if config is None else config
    rng = np.random.default_rng(0)
    for person, length in enumerate(lengths):
        place = folder / "people" / f"person{person}"
        place.mkdir(parents=True)
        for t in range(length):
            picture = rng.integers(0, 256, (6, 6, 3), np.uint8)
            large = cv2.resize(picture, (60, 50), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(place / f"{t:04}.png"), large)
    fresh = base_model.random_state(experiment.build(config), np.ones(1, np.float32))
    checkpoints = Checkpoints(folder / "work/checkpoints")
    checkpoints.save(fresh)
    checkpoints.close()
    return [
        "--config=tests/small_run.py",
        f"--inputs={folder / 'people'}",
        f"--workdir={folder / 'work'}",
    ]


def command(*words: str, **options) -> subprocess.Popen:
    """Start `python main.py WORDS`."""
    return subprocess.Popen(
        [sys.executable, "main.py", *words],
        cwd=ROOT,
        env={**os.environ, **options.pop("env", {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def done(process: subprocess.Popen, seconds: float = 300) -> str:
    """Wait for a command that must succeed; return what it printed."""
    printed, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, printed[-3000:]
    return printed
