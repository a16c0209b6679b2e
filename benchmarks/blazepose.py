"""BlazePose on labelled frames, and its speed: `python -m benchmarks.blazepose FOLDER`.

FOLDER is in Penn Action's layout. Prints PCK at 0.1, 0.2 and 0.5 of the torso over its 12 joints
without the head, with and without averaging over the mirrored crop. The crops are the square of
1.25 times the box's longer side around the box's centre; the project's own crop, which lies lower
(`geometry.box_to_crop`); and the finder's regions: upright, turned with the person, and as the
finder chooses between the two. Needs `python main.py fetch blazepose`.

    python -m benchmarks.blazepose FOLDER --every=4 --rendered=4 --methods=teacher --seeds=3

also personalizes it to each video and to rendered validation people, online and offline. Each gets
a row with scores before and after, with and without averaging, and seconds.
--set learning_rate=1e-4,... changes fields of config.ttp.
"""

import argparse
import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import penn, synthetic
from data_pipelines.people import tracks
from ttp_jax import api, geometry, metrics, steps
from ttp_jax.joint_maps import map_joints
from ttp_jax.models.pose import normalize
from ttp_jax.runs import finding
from ttp_jax.settings import Settings
from ttp_jax.skeletons import BLAZEPOSE33, PENN13

THRESHOLDS = (0.1, 0.2, 0.5)
BATCH = 8
RUNS = 9
SIDE = 256


def main() -> None:
    """Print scores and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--videos", default="0001", help="video names, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="use every nth frame")
    parser.add_argument("--rendered", type=int, default=0, help="number of rendered people to add")
    parser.add_argument("--model", default="blazepose", help="name or file of a model")
    parser.add_argument(
        "--methods", default="", help="personalization methods, separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", default="", help="name=value of config.ttp, separated by commas")
    options = parser.parse_args()
    model, names = api.load(options.model), options.videos.split(",")
    people = [
        (clip, range(0, clip.num_frames, options.every))
        for clip in penn.clips(options.folder)
        if clip.name in names
    ]
    people += [(clip, range(clip.num_frames)) for clip in rendered(options.rendered)]
    if options.methods:
        for clip, frames in people:
            for method in options.methods.split(","):
                chosen = with_settings(model, method, options.set)
                personalized(chosen, clip, frames, options.seeds)
        return
    for clip, frames in people:
        scores(model, clip, frames)
    speed(model)


def rendered(count: int) -> list:
    """Return clips of rendered validation people."""
    if not count:
        return []
    spec = synthetic.Spec(seed=5, image_size=320, train=0, val=count, test=0, eval_frames=24)
    return synthetic.clips(spec, "data/blazepose")


def with_settings(model: api.Model, method: str, changes: str) -> api.Model:
    """Return the model with some fields of `config.ttp` changed."""
    fields = dict(model.config["ttp"], method=method)
    # Model files of earlier versions lack some fields.
    known = Settings._field_defaults | fields
    for change in filter(None, changes.split(",")):
        name, value = change.split("=")
        fields[name] = type(known[name])(value)
    return dataclasses.replace(model, config={**model.config, "ttp": fields})


def personalized(model: api.Model, clip, frames, seeds: int) -> None:
    """Print a row for each scenario and seed."""
    pictures, boxes = np.stack([clip.read(t) for t in frames]), clip.boxes[list(frames)]

    def row(what, *columns):
        print(f"{clip.name:10} {what:24}", *columns, sep="  ", flush=True)

    def of_maps(model):
        return [
            pck(averaging(model, flip).predict(pictures, boxes)[0], clip, frames)
            for flip in (False, True)
        ]

    row(f"{len(pictures)} frames", "maps alone", "flip average")
    row("none", *of_maps(model))
    for scenario in api.SCENARIOS:
        for seed in range(seeds):
            result = api.personalize(model, pictures, boxes, scenario=scenario, seed=seed)
            what = f"{model.config['ttp']['method']} {scenario} seed {seed}"
            after = of_maps(result.model)
            if scenario == "online":  # scores of the run itself, then of the model at its end
                after = [pck(result.joints, clip, frames), "", "at the end", *after]
            row(what, *after, f"{result.seconds:.0f} s")


def averaging(model: api.Model, flip: bool) -> api.Model:
    """Return the model with or without averaging over mirrored crops."""
    order = tuple(map(int, model.skeleton.flip_order)) if flip else ()
    return dataclasses.replace(model, net=model.net.clone(flip_average=order))


def pck(joints, clip, frames) -> str:
    """Return the PCK of BlazePose's joints [T, 33, 2] at the three thresholds, as text."""
    truth, visible = clip.joints[list(frames)], clip.visible[list(frames)].copy()
    visible[:, PENN13.joints.index("head")] = False
    joints = map_joints(joints, BLAZEPOSE33, PENN13)
    shares = (metrics.pck(joints, truth, visible, PENN13, at).mean for at in THRESHOLDS)
    return " / ".join(f"{value:.1f}" for value in shares)


def scores(model: api.Model, clip, frames) -> None:
    """Print PCK of one clip."""
    boxes = clip.boxes[list(frames)]
    lower = geometry.box_to_crop(boxes)
    square = lower - [0, geometry.BOX_SHIFT, 0] * lower[:, 2:] / geometry.BOX_SCALE
    pictures = np.stack([clip.read(t) for t in frames])
    print(f"{clip.name}, {len(pictures)} frames: PCK at {', '.join(map(str, THRESHOLDS))}")
    turned, found = (rows[list(frames)] for rows in regions(clip))
    ways = {"square": square, "project's": lower, "upright": found[:, :3], "turned": turned}
    for name, crops in (ways | {"chosen": found}).items():
        for flip in (False, True):
            joints = predict(model, pictures, crops, flip)
            average = "flip average" if flip else ""
            print(f"  {name:10}{average:14}{pck(joints, clip, frames)}")


def regions(clip) -> tuple[np.ndarray, np.ndarray]:
    """Return crops [T, 4] of the largest person found: all turned, and turned or upright."""
    found = finding.followed(clip)
    person = tracks.choose(found.people, "largest", clip.name)
    always = dataclasses.replace(person, sure=[np.array([1.0, 0.0])] * len(person.sure))
    turned, chosen = (found.places(each, clip.num_frames).crops for each in (always, person))
    return turned, chosen


def predict(model: api.Model, pictures, crops, flip: bool) -> np.ndarray:
    """Return joints [T, 33, 2] in pixels of the pictures, predicted in batches."""
    program = jax.jit(functools.partial(_joints, model.net, flip))
    found = [
        program(model.base.params, pictures[t : t + BATCH], crops[t : t + BATCH].astype(np.float32))
        for t in range(0, len(pictures), BATCH)
    ]
    return np.concatenate(found)


def _joints(net, flip, params, pictures, crops):
    affine = geometry.crop_affine(crops, SIDE)
    x = normalize(jax.vmap(functools.partial(geometry.warp, size=SIDE))(pictures, affine))
    order = tuple(map(int, BLAZEPOSE33.flip_order)) if flip else ()
    points, _ = steps.predict({"params": params}, x, model=net.clone(flip_average=order))
    return geometry.transform_points(geometry.invert_affine(affine), points)


def speed(model: api.Model) -> None:
    """Print milliseconds a frame, forward and with the gradient of all parameters."""
    forward = jax.jit(lambda p, x: model.net.apply({"params": p}, x).heatmaps)
    backward = jax.jit(jax.grad(lambda p, x: jnp.mean(forward(p, x) ** 2)))
    for batch in (1, BATCH):
        x = jax.random.normal(jax.random.key(0), (batch, SIDE, SIDE, 3))
        for name, program in (("forward", forward), ("forward and backward", backward)):
            spent = timed(lambda program=program, x=x: program(model.base.params, x))
            wall, cpu = 1000 * spent / batch
            print(f"{name}, batch {batch}: {wall:.0f} ms per frame, {cpu:.0f} ms of a CPU core")


def timed(work) -> np.ndarray:
    """Return the median wall-clock and CPU seconds [2] of a program, after compiling it."""
    jax.block_until_ready(work())
    spent = []
    for _ in range(RUNS):
        began = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        spent.append(np.subtract((time.perf_counter(), time.process_time()), began))
    return np.median(spent, 0)


if __name__ == "__main__":
    main()
