"""The README's table of real people: `python -m benchmarks.real_people FOLDER`.

FOLDER is in Penn Action's layout. Each video is processed as by `personalize`, which finds the
person without using labels. Prints PCK at 0.1, 0.2 and 0.5 of the torso over 12 joints (without the
head), for the mean pose of rendered people in the detected boxes, and for the included model and
BlazePose before and after personalization. Needs `python main.py fetch blazepose`.
"""

import argparse

import numpy as np

from benchmarks.blazepose import THRESHOLDS
from configs import own
from data_pipelines import penn, synthetic
from data_pipelines.clips import Clip
from ttp_jax import joint_maps, metrics
from ttp_jax.runs import base_model, boxes, experiment, process, scoring
from ttp_jax.runs.batch import Runner
from ttp_jax.skeletons import PENN13

MEAN_OF = synthetic.Spec(seed=0, image_size=64, train=64, val=0, test=0, train_frames=8)
SIDE = 256  # pixels of the crops in which poses are averaged


def main() -> None:
    """Print a row for each video and predictor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--videos", default="0001,0002,0003", help="names, joined by commas")
    parser.add_argument("--models", default="shipped,blazepose", help="names, joined by commas")
    parser.add_argument("--method", default="", help="of personalization; else each model's own")
    parser.add_argument("--scenario", default="offline", help="online or offline")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rendered", default="data/real_people", help="folder for rendered people")
    options = parser.parse_args()
    process.use_compilation_cache()
    names = options.videos.split(",")
    clips = [clip for clip in penn.clips(options.folder) if clip.name in names]
    rendered = synthetic.clips(MEAN_OF, options.rendered)
    for number, name in enumerate(options.models.split(",")):
        run(name, clips, options, rendered if number == 0 else [])


def run(name: str, clips: list[Clip], options: argparse.Namespace, rendered: list[Clip]) -> None:
    """Print the rows of a model, after the mean pose of the rendered people, if there are any."""
    config = own.get_config(name)
    experiment.take_model(config)
    config.data.boxes, config.seed = "people", options.seed
    config.ttp.method = options.method or config.ttp.method
    made = experiment.build(config)
    base, _ = base_model.load_base(made, "")
    before = Runner(made, base, "none")
    after = Runner(made, base, options.scenario)
    for clip in clips:
        found = boxes.resolve(clip.without_labels(), before, config.data)
        if rendered:
            (mean,) = scoring.mean_pose(rendered, [found], SIDE)
            row(clip, "mean pose", mean)
        row(clip, f"{name}, before", penn_joints(before.one(found).joints, made.skeleton))
        if config.ttp.method != "none":
            result = after.one(found)
            what = f"{name}, {config.ttp.method} {options.scenario}"
            row(clip, what, penn_joints(result.joints, made.skeleton))


def penn_joints(joints: np.ndarray, skeleton) -> np.ndarray:
    """Convert joints to Penn Action's."""
    return joints if skeleton == PENN13 else joint_maps.map_joints(joints, skeleton, PENN13)


def row(clip: Clip, what: str, joints: np.ndarray) -> None:
    """Print the scores of predictions [T, 13, 2]."""
    assert clip.joints is not None and clip.visible is not None
    visible = clip.visible.copy()
    visible[:, PENN13.joints.index("head")] = False
    shares = (metrics.pck(joints, clip.joints, visible, PENN13, at).mean for at in THRESHOLDS)
    print(f"{clip.name}  {what:28}", " / ".join(f"{share:.1f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
