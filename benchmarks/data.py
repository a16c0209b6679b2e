"""Training pairs a second from JPEG files: this project's stream beside a torch DataLoader.

    python -m benchmarks.data                          # on rendered people, in a temporary folder
    python -m benchmarks.data --root DIR               # on a folder in Penn Action's layout
    python -m benchmarks.data --json data.json --markdown docs/performance_data.md

Both read two JPEG files a pair with OpenCV, cut both out with one random transform, and draw the
Gaussian targets. The DataLoader runs with several numbers of worker processes. The sides take
turns, and the first batches of each turn are not counted. Without --root, the frames a second of
each reader are measured as well, on one thread, for the same people in its layout, and those of the
renderer. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import machine
from data_pipelines import bbc_pose, builders, h36m, layouts, media, penn, pipeline, synthetic
from data_pipelines.clips import Clip, select
from ttp_jax import geometry
from ttp_jax.skeletons import PENN13

BATCH, SIZE, MAPS, SIGMA = 32, 128, 32, 2.0  # as in the paper
WARM_UP = 4  # batches of a turn before the clock starts, while processes start and queues fill
OURS = "ours (tf.data)"


class Pairs(Dataset):
    """The same work written by hand, as one would for a DataLoader.

    Frames, transforms and targets are distributed as in `pipeline.train_pairs`, but drawn anew.
    """

    def __init__(self, clips: list[Clip]):
        self.frames = [(clip, i) for clip in clips for i in range(clip.num_frames)]

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        clip, target = self.frames[index]
        rng = np.random.default_rng([index, int(torch.randint(1 << 30, ()))])
        source = int(rng.integers(clip.num_frames))
        scale = 1 + 0.25 * float(np.clip(rng.standard_normal(), -1, 1))
        turned = rng.random() < 0.6
        degrees = 30.0 * float(np.clip(rng.standard_normal(), -2, 2)) * turned
        flip = rng.random() < 0.5
        crop = geometry.box_to_crop(clip.boxes[target].astype(np.float64))
        affine = geometry.crop_affine(crop, SIZE, scale, degrees, flip)
        pictures = [self._cut(clip, i, affine) for i in (target, source)]
        joints = geometry.transform_points(affine, clip.joints[target])
        order = PENN13.flip_order if flip else np.arange(PENN13.size)
        joints, visible = joints[order], clip.visible[target][order]
        maps, weights = self._targets(joints, visible)
        return (*pictures, maps, weights, joints.astype(np.float32))

    @staticmethod
    def _cut(clip, index, affine):
        picture = cv2.imread(os.fspath(clip.file(index)))
        assert picture is not None, clip.file(index)
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        return cv2.warpAffine(picture, affine, (SIZE, SIZE), flags=cv2.INTER_LINEAR)

    @staticmethod
    def _targets(joints, visible):
        """Paste a Gaussian patch for each joint, as such programs usually do."""
        radius = int(3 * SIGMA)
        at = np.arange(2 * radius + 1) - radius
        patch = np.exp(-(at[None] ** 2 + at[:, None] ** 2) / (2 * SIGMA**2)).astype(np.float32)
        maps = np.zeros((MAPS, MAPS, len(joints)), np.float32)
        weights = visible.astype(np.float32)
        for k, (x, y) in enumerate(np.floor(joints * (MAPS / SIZE) + 0.5).astype(int)):
            left, top = max(x - radius, 0), max(y - radius, 0)
            right, bottom = min(x + radius + 1, MAPS), min(y + radius + 1, MAPS)
            if left >= right or top >= bottom or not visible[k]:
                weights[k] = 0
                continue
            rows = slice(top - y + radius, bottom - y + radius)
            columns = slice(left - x + radius, right - x + radius)
            maps[top:bottom, left:right, k] = patch[rows, columns]
        return maps, weights


def our_batches(clips, count):
    """Return an iterator over batches of this project's stream."""
    stream = pipeline.train_pairs(
        clips, PENN13, pipeline.Crops(SIZE, MAPS, SIGMA), batch_size=BATCH, seed=0, num_steps=count
    )
    return stream.as_numpy_iterator()


def their_batches(clips, count, workers):
    """Return an iterator over `count` batches of the DataLoader, repeating frames if necessary."""
    pairs = Pairs(clips)
    sampler = torch.utils.data.RandomSampler(pairs, replacement=True, num_samples=count * BATCH)
    # A forked worker could inherit a lock that one of this process's many threads holds.
    start = "spawn" if workers else None
    return iter(
        DataLoader(
            pairs, BATCH, sampler=sampler, num_workers=workers, multiprocessing_context=start
        )
    )


def rate(batches) -> float:
    """Return the pairs a second after the warm-up."""
    for _ in range(WARM_UP):
        next(batches)
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
    return count * BATCH / (time.perf_counter() - began)


def measure(clips: list[Clip], batches: int, repeats: int, workers: list[int]) -> dict:
    """Measure all sides in turns; return {side: [pairs a second, ...]}."""
    total = batches + WARM_UP
    sides: dict = {OURS: functools.partial(our_batches, clips, total)}
    for count in workers:
        name = f"DataLoader, {count} workers"
        sides[name] = functools.partial(their_batches, clips, total, count)
    rates = {side: [] for side in sides}
    for turn in range(repeats):
        for side, make in sides.items():
            rates[side].append(rate(make()))
            print(f"turn {turn + 1}: {side} {rates[side][-1]:.0f} pairs/s", file=sys.stderr)
    return rates


def sources(folder: pathlib.Path, size: int, frames: int) -> dict[str, float]:
    """Measure the frames a second of each source; return {source: rate}."""
    spec = synthetic.Spec(
        image_size=size, train=4, val=0, test=4, train_frames=frames, eval_frames=frames
    )
    for name, write in layouts.WRITERS.items():
        write(folder / name, spec)
    with contextlib.redirect_stdout(sys.stderr):
        builders.main(
            ["penn_action", f"--manual_dir={folder / 'penn'}", f"--data_dir={folder / 'tfds'}"]
        )
    rates = {"rendering": _rendering_rate(spec, folder / "rendered")}
    read = {
        "`penn`: JPEG files": lambda: penn.clips(folder / "penn"),
        "`h36m`: mp4, every 5th or 200th frame": lambda: h36m.clips(folder / "h36m"),
        "`bbc_pose`: JPEG files": lambda: bbc_pose.clips(folder / "bbc_pose"),
        "`penn` as TensorFlow dataset": lambda: builders.clips("penn", folder / "tfds"),
        "`media`: folders of JPEG files": lambda: media.clips(folder / "penn" / "frames"),
        "`media`: mp4": lambda: media.clips(folder / "h36m" / "S9" / "Videos"),
        "`synthetic`: rendered before": lambda: synthetic.clips(spec, folder / "rendered"),
    }
    return rates | {what: _reading_rate(clips()) for what, clips in read.items()}


def _rendering_rate(spec, folder):
    one = dataclasses.replace(spec, train=1, test=1)
    synthetic.clips(one, folder / "warm up")  # compiles the renderer
    began = time.perf_counter()
    clips = synthetic.clips(spec, folder)
    return sum(clip.num_frames for clip in clips) / (time.perf_counter() - began)


def _reading_rate(clips):
    clips[0].read(0)
    began, count = time.perf_counter(), 0
    for clip in clips:
        for index in range(min(clip.num_frames, 200)):
            clip.read(index)
            count += 1
    return count / (time.perf_counter() - began)


def sources_table(rates: dict[str, float], size: int) -> str:
    """Return a Markdown table with a line for each source."""
    lines = [f"| source, {size} x {size} pixels | frames/s |", "|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {rate:.0f} |" for what, rate in rates.items())]) + "\n"


def table(rates: dict, about: dict) -> str:
    """Return a Markdown table with a line for each side and its ratio to the fastest DataLoader."""
    medians = {side: statistics.median(values) for side, values in rates.items()}
    yardstick = max(value for side, value in medians.items() if side != OURS)
    lines = [
        f"{about['frames']} frames of {about['pixels']} pixels ({about['what']}), batch {BATCH}, "
        f"{SIZE} px, {len(rates[OURS])} turns. {about['cpu']}, {about['cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + f"; {about['date']}.",
        "",
        "| side | pairs/s, median (lowest to highest) | ratio to the fastest DataLoader |",
        "|---|---|---|",
    ]
    for side, values in rates.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        lines.append(
            f"| {side} | {medians[side]:.0f} ({spread}) | {medians[side] / yardstick:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=pathlib.Path, help="folder in Penn Action's layout")
    parser.add_argument("--batches", type=int, default=40, help="of a turn (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="turns (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root
        if root is None:
            root = pathlib.Path(folder) / "people"
            # As many pixels as a frame of Penn Action (480 x 270).
            spec = synthetic.Spec(image_size=360, train=16, val=0, test=0, preset="plain")
            layouts.write_penn(root, spec)
        clips = select(penn.clips(root), "train")
        about = machine.describe() | {
            "what": "rendered people" if options.root is None else "Penn Action's layout",
            "frames": sum(clip.num_frames for clip in clips),
            "pixels": "x".join(map(str, clips[0].read(0).shape[1::-1])),
        }
        rates = measure(clips, options.batches, options.repeats, options.workers)
        text = table(rates, about)
        reading = {}
        if options.root is None:
            reading = sources(pathlib.Path(folder), 360, 48)
            text += "\n" + sources_table(reading, 360)
    print(text)
    if options.json:
        found = {"about": about, "pairs_per_second": rates, "frames_per_second": reading}
        options.json.write_text(json.dumps(found, indent=1))
    if options.markdown:
        command = f"```bash\npython -m benchmarks.data --markdown {options.markdown}\n```"
        head = f"# Speed of the data pipeline\n\n{command}\n\nmade this page:"
        options.markdown.write_text(f"{head}\n\n{text}")


if __name__ == "__main__":
    main()
