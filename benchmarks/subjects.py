"""Many subjects: throughput and memory by number, memory by length, equality with solo runs.

    python -m benchmarks.subjects --only throughput,equality,length --json subjects.json
    python -m benchmarks.subjects --only length --lengths 256,1024,4096

Runs the tiny network with random weights online on random pictures. Each line of `throughput` and
`length` runs in its own process, so that the peak memory is that line's. Takes a few minutes on two
cores.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.case import TINY, Case, prepare
from configs import rendered
from data_pipelines.clips import Clip
from data_pipelines.windows import SubjectFrames
from ttp_jax import parallel, ttp
from ttp_jax.frames import Frames
from ttp_jax.runs import base_model, experiment

FRAMES, PAIRS = 4, 8  # frames of each subject, pairs in each update
COUNTS = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (64, 512, 2048)
CAPACITY = 256  # frames that the memory holds in `length`
WIDTH = 4  # subjects in a chunk
LONG = 16  # this many subjects take so long that they need no warm-up run


def case() -> Case:
    """Return a case of the tiny network with a short video."""
    return prepare(TINY, "float32", 0, FRAMES).with_pairs(PAIRS)


def lifted(case: Case, how: str, mesh=None):
    """Return the jitted program that runs whole subjects online with one strategy."""
    tools = case.tools("online")

    def solo(base, vgg, frames, key):
        return ttp.personalize(base, vgg, frames, key, tools=tools)

    chunk = WIDTH if how == "chunks" else None
    return jax.jit(parallel.over_subjects(solo, how=how, chunk=chunk, shared=2, mesh=mesh))


def videos(case: Case, count: int) -> tuple[Frames, jax.Array]:
    """Return different frames and keys for `count` subjects."""
    rng = np.random.default_rng(1)
    shape = (count, *case.video.pictures.shape)
    pictures = rng.integers(0, 256, (*shape[:2], 12, 12, 3), np.uint8)
    sides = -(-shape[2] // 12)
    pictures = pictures.repeat(sides, 2).repeat(sides, 3)[:, :, : shape[2], : shape[3]]
    stacked = jax.tree.map(lambda a: jnp.stack([a] * count), case.video)
    return stacked._replace(pictures=jnp.asarray(pictures)), jax.random.split(
        jax.random.key(0), count
    )


def throughput(count: int, how: str) -> dict:
    """Measure seconds per subject of `count` subjects in one program, and peak memory."""
    here = case()
    program, (frames, keys) = lifted(here, how), videos(here, count)
    began = time.perf_counter()
    compiled = program.lower(here.base, here.vgg, frames, keys).compile()
    compile_seconds = time.perf_counter() - began
    if count < LONG:
        jax.block_until_ready(compiled(here.base, here.vgg, frames, keys))
    began = time.perf_counter()
    jax.block_until_ready(compiled(here.base, here.vgg, frames, keys))
    seconds = time.perf_counter() - began
    planned = compiled.memory_analysis()
    return {
        "seconds_per_subject": seconds / count,
        "frames_per_second": FRAMES * count / seconds,
        "compile_seconds": compile_seconds,
        "planned_mib": planned.temp_size_in_bytes / 2**20 if planned else None,
        "peak_mib": machine.peak_mib(),
    }


def length(count: int) -> dict:
    """Measure the peak memory of this process for one subject of `count` frames, in chunks."""
    here = case()
    tools = here.tools("online")
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (16, 45, 80, 3), np.uint8)

    def read(index):
        return coarse[index % 16].repeat(8, 0).repeat(8, 1)  # 640 x 360 pixels

    boxes = np.tile(np.array([200, 60, 360, 300], np.float32), (count, 1))
    clip = Clip("long", "long", "test", count, read, boxes)
    stream = SubjectFrames(clip, image_size=here.size.image_size, oversample=2.0)
    subject = ttp.start(
        here.base, jax.random.key(0), tools=tools, capacity=CAPACITY, shape=stream.shape
    )
    online = jax.jit(
        lambda subject, base, vgg, frames: ttp.online(subject, base, vgg, frames, tools=tools),
        donate_argnums=0,
    )
    began = time.perf_counter()
    with ThreadPoolExecutor(4) as readers:
        for chunk in stream.chunks(8, readers):
            frames = jax.tree.map(jnp.asarray, chunk)
            subject, found = online(subject, here.base, here.vgg, frames)
            jax.block_until_ready(found)
    seconds = time.perf_counter() - began
    return {"seconds_per_frame": seconds / count, "peak_mib": machine.peak_mib()}


def equality(workdir: str = "") -> list[dict]:
    """Compare each strategy with solo runs: joints in pixels, and relative parameter change.

    `workdir` is that of a trained network of the tiny one's size. An untrained network has no clear
    peaks, so the position of the highest one jumps.
    """
    here, count = case(), 4
    if workdir:
        base, _ = base_model.load_base(experiment.build(rendered.get_config()), workdir)
        here = dataclasses.replace(here, base=jax.device_put(base))
    frames, keys = videos(here, count)
    valid = frames.valid.at[1, 3:].set(False).at[2, 2:].set(False)  # clips of different lengths
    frames = frames._replace(valid=valid)
    solo = lifted(here, "map")

    def of(tree, i):
        return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)

    alone = [solo(here.base, here.vgg, of(frames, i), keys[i : i + 1]) for i in range(count)]
    rows = []
    meshes = {1: None, len(jax.devices()): parallel.subject_mesh()}
    for devices, mesh in meshes.items():
        for how in ("map", "vmap", "chunks"):
            if how == "chunks" and (count // devices) % WIDTH:
                continue
            together = lifted(here, how, mesh)(here.base, here.vgg, frames, keys)
            pixels = change = 0.0
            for i, (subject, (joints, _)) in enumerate(alone):
                good = np.asarray(valid[i])
                mine = np.asarray(together[1][0][i])[good]
                pixels = max(pixels, float(np.abs(mine - np.asarray(joints[0])[good]).max()))
                mine, its = of(together[0].adaptation.delta, i), subject.adaptation.delta
                # This bias has no effect on the bottleneck's softmax, so it is only rounding noise.
                paths = [path for path in its if path != "self_head/bias"]
                apart = sum(float(np.square(mine[path] - its[path]).sum()) for path in paths)
                whole = sum(float(np.square(its[path]).sum()) for path in paths)
                change = max(change, float(np.sqrt(apart / whole)))
            rows.append({"devices": devices, "how": how, "joints_px": pixels, "change": change})
    return rows


def alone(*words: str, devices: int = 1) -> list[dict]:
    """Measure in a separate process."""
    environment = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "benchmarks.subjects", "--line", *words]
    done = subprocess.run(
        command, env={**machine.environment(), **environment}, capture_output=True, text=True
    )
    if done.returncode:
        return [{"missing": done.stderr.strip().splitlines()[-1][:200]}]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.subjects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def numbers(text):
        return tuple(int(word) for word in text.split(","))

    parser.add_argument("--only", default="throughput,length,equality")
    parser.add_argument("--counts", type=numbers, default=COUNTS)
    parser.add_argument("--lengths", type=numbers, default=LENGTHS)
    parser.add_argument("--workdir", help="trained by configs/rendered.py, for equality")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--line", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.line:
        what, *rest = options.line
        measured = {
            "throughput": lambda count, how: [throughput(int(count), how)],
            "length": lambda count: [length(int(count))],
            "equality": lambda workdir="": equality(workdir),
        }[what](*rest)
        print(json.dumps(measured))
        return 0
    result: dict = {"machine": machine.describe(), "rows": []}

    def show(what, line, devices=1):
        for found in alone(what, *map(str, line), devices=devices):
            row = {"what": what, "line": line, **found}
            result["rows"].append(row)
            shown = (f"{k} {f'{v:.4g}' if isinstance(v, float) else v}" for k, v in found.items())
            print(what, *line, "|", ", ".join(shown), flush=True)
            if options.json:
                options.json.write_text(json.dumps(result, indent=1))

    wanted = options.only.split(",")
    if "equality" in wanted:
        for devices in (1, 4):
            show("equality", (options.workdir,) if options.workdir else (), devices)
    if "throughput" in wanted:
        for count in options.counts:
            for how in ("map", "vmap", "chunks"):
                if how != "chunks" or count % WIDTH == 0:
                    show("throughput", (count, how))
    if "length" in wanted:
        for count in options.lengths:
            show("length", (count,))
    return 0


if __name__ == "__main__":
    sys.exit(main())
