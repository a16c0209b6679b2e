"""TensorFlow Datasets of every data source, one example per frame.

    python -m data_pipelines.builders penn_action --manual_dir=DIR --data_dir=OUT
    python main.py --config=configs/penn.py --config.data.tfds=OUT

`penn_action`, `bbc_pose` and `human36m` take the folder of config.data.root as --manual_dir;
`rendered_people` needs none and has a config for each preset (`rendered_people/shifted`).
`tfds build --imports=data_pipelines.builders penn_action ...` does the same, but the command line
of TFDS 4.9.10 needs apache-beam and mlcroissant to start.

Frames are stored as the bytes of their files, or as PNG if a source has no files. With the same
seed, training on the built data set uses the same batches as training on the folder.

Building is optional. It packs many small files into a few that are read sequentially.
"""

import argparse
import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import bbc_pose, h36m, penn, pictures, synthetic
from data_pipelines import clips as clips_lib
from data_pipelines.clips import Clip, DataError, FrameError
from ttp_jax.skeletons import BBC7, H36M16, PENN13, Skeleton

if __name__ == "__main__":
    # The module of the public name defines the builders, because TFDS refuses a second class of the
    # same name and records in the data set which module built it.
    from data_pipelines import builders

    sys.exit(builders.main())


class _People:
    """Base of the builders, not derived from a TFDS class, because TFDS registers such classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    SKELETON: Skeleton
    SPLITS: Sequence[str] = ("train", "test")
    DESCRIPTION: str
    HOMEPAGE: str | None = None
    CITATION: str | None = None
    READ: Callable[..., list[Clip]]  # reads the clips of all splits from a folder

    def __init__(self, *, file_format=None, **kwargs):
        # The only format of TFDS whose examples can be read in any order.
        kwargs["file_format"] = file_format or "array_record"
        super().__init__(**kwargs)

    def _info(self):
        joints = self.SKELETON.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.DESCRIPTION} Joints: {', '.join(self.SKELETON.joints)}.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "clip": tfds.features.Text(),
                    "subject": tfds.features.Text(),
                    "frame": np.int64,
                    "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "joints": tfds.features.Tensor(shape=(joints, 2), dtype=np.float32),
                    "visible": tfds.features.Tensor(shape=(joints,), dtype=np.bool_),
                }
            ),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            disable_shuffling=True,  # frames of a clip stay together, in order
        )

    def _clips(self, dl_manager) -> list[Clip]:
        return self.READ(dl_manager.manual_dir)

    def _split_generators(self, dl_manager):
        found = self._clips(dl_manager)
        return {
            split: self._generate_examples(clips_lib.select(found, split)) for split in self.SPLITS
        }

    def _generate_examples(self, clips):
        for clip in clips:
            for index in range(clip.num_frames):
                yield (
                    f"{clip.name}/{index:06d}",
                    {
                        "image": _encoded(clip, index),
                        "clip": clip.name,
                        "subject": clip.subject,
                        "frame": index,
                        "box": clip.boxes[index],
                        "joints": clip.joints[index],
                        "visible": clip.visible[index],
                    },
                )


class PennAction(_People, tfds.core.GeneratorBasedBuilder):
    """Penn Action."""

    SKELETON = PENN13
    DESCRIPTION = "Penn Action: 2,326 videos of one person each in 15 sports, 13 joints."
    HOMEPAGE = "http://dreamdragon.github.io/PennAction/"
    CITATION = """@inproceedings{zhang2013actemes,
  title={From Actemes to Action: A Strongly-Supervised Representation for Detailed Action
         Understanding},
  author={Zhang, Weiyu and Zhu, Menglong and Derpanis, Konstantinos G.},
  booktitle={ICCV},
  year={2013}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = penn.LAYOUT
    READ = staticmethod(penn.clips)


class BbcPose(_People, tfds.core.GeneratorBasedBuilder):
    """BBC Pose."""

    SKELETON = BBC7
    DESCRIPTION = "BBC Pose: 20 videos of sign language interpreters, 7 joints."
    HOMEPAGE = "https://www.robots.ox.ac.uk/~vgg/data/pose/"
    CITATION = """@article{charles2013automatic,
  title={Automatic and Efficient Human Pose Estimation for Sign Language Videos},
  author={Charles, James and Pfister, Tomas and Everingham, Mark and Zisserman, Andrew},
  journal={International Journal of Computer Vision},
  year={2013}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = bbc_pose.LAYOUT
    READ = staticmethod(bbc_pose.clips)


class Human36m(_People, tfds.core.GeneratorBasedBuilder):
    """Human3.6M, the frames that this project uses."""

    SKELETON = H36M16
    DESCRIPTION = (
        "Human3.6M: 7 people, 15 actions, 4 cameras; every 5th frame of people 1, 5, 6, 7, 8 and "
        "every 200th of people 9 and 11, 16 joints."
    )
    HOMEPAGE = "http://vision.imar.ro/human3.6m/"
    CITATION = """@article{ionescu2014human36m,
  title={Human3.6M: Large Scale Datasets and Predictive Methods for 3D Human Sensing in Natural
         Environments},
  author={Ionescu, Catalin and Papava, Dragos and Olaru, Vlad and Sminchisescu, Cristian},
  journal={IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year={2014}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = h36m.LAYOUT
    READ = staticmethod(h36m.clips)


class RenderedPeopleConfig(tfds.core.BuilderConfig):
    """A BuilderConfig with the `synthetic.Spec` to render."""

    def __init__(self, spec: synthetic.Spec, **kwargs):
        super().__init__(**kwargs)
        self.spec = spec


class RenderedPeople(_People, tfds.core.GeneratorBasedBuilder):
    """People rendered by this project."""

    SKELETON = PENN13
    SPLITS = synthetic.SPLITS
    DESCRIPTION = "Rendered people with exact joints, each with their own look, room and camera."
    BUILDER_CONFIGS: ClassVar = [
        RenderedPeopleConfig(synthetic.Spec(preset=preset), name=preset, version="1.0.0")
        for preset in synthetic.PRESETS
    ]

    def _clips(self, dl_manager):
        config: RenderedPeopleConfig = self.builder_config  # pyright: ignore[reportAssignmentType]
        return synthetic.clips(config.spec, dl_manager.download_dir / "rendered")


BUILDERS = {
    "penn": PennAction,
    "bbc_pose": BbcPose,
    "h36m": Human36m,
    "synthetic": RenderedPeople,
}


def clips(
    source: str, data_dir: str | os.PathLike, split: str | None = None, config=None
) -> list[Clip]:
    """List the clips of a built data set, without decoding pictures before they are read.

    All labels are read at once, in one pass over the whole data set.

    Args:
      source: key of `BUILDERS`, as in config.data.source.
      data_dir: folder in which it was built (--data_dir of `tfds build`).
      split: one split, or None for all.
      config: for "synthetic", the name of the preset or a `RenderedPeopleConfig`.

    Raises:
      DataError: there is no such builder, or nothing was built in `data_dir`.
    """
    if source not in BUILDERS:
        raise DataError(
            f"config.data.tfds is set, but source {source!r} has no builder; these have: "
            f"{', '.join(BUILDERS)}."
        )
    kwargs = {"config": config} if BUILDERS[source].BUILDER_CONFIGS else {}
    builder = BUILDERS[source](data_dir=os.path.expanduser(data_dir), **kwargs)
    if not builder.is_prepared():
        name = builder.name if not kwargs else f"{builder.name}/{builder.builder_config.name}"
        raise DataError(
            f"no data set {name} in {data_dir}. Build it: python -m data_pipelines.builders {name} "
            f"--manual_dir=DIR --data_dir={data_dir}"
        )
    splits = builder.SPLITS if split is None else [split]
    return [clip for own in splits for clip in _clips_of(builder, own)]


def _clips_of(builder, split: str) -> list[Clip]:
    if split not in builder.info.splits or not builder.info.splits[split].num_examples:
        return []
    decoders = {"image": tfds.decode.SkipDecoding()}
    examples = builder.as_data_source(split, decoders=decoders)
    rows = [{k: v for k, v in example.items() if k != "image"} for example in examples]
    starts = [i for i, row in enumerate(rows) if row["frame"] == 0]
    found = []
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        group = rows[start:stop]
        stacked = {k: np.stack([row[k] for row in group]) for k in ("box", "joints", "visible")}
        found.append(
            Clip(
                name=_text(group[0]["clip"]),
                subject=_text(group[0]["subject"]),
                split=split,
                num_frames=len(group),
                read=functools.partial(_read, examples, start),
                boxes=stacked["box"],
                joints=stacked["joints"],
                visible=stacked["visible"],
            )
        )
    return found


def _encoded(clip: Clip, index: int):
    """Return the bytes of the picture's file, or of a PNG made in memory."""
    if clip.file is not None:
        path = Path(clip.file(index))
        clip.read(index)  # a damaged file must stop the build, not a later training
        return os.fspath(path)
    return io.BytesIO(cv2.imencode(".png", clip.read(index)[..., ::-1])[1].tobytes())


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read(examples, start: int, index: int) -> np.ndarray:
    """Decode a stored picture with the same decoder as for folders, so that pixels are the same."""
    data = examples[start + index]["image"]
    picture = pictures.decode(data)
    if picture is None:
        raise FrameError(
            f"example {start + index} of a TFDS data set can't be decoded: rebuild it."
        )
    return picture


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the data set that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.builders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    named = {builder.name: builder for builder in BUILDERS.values()}
    parser.add_argument("name", help=f"{', '.join(named)}, or rendered_people/PRESET")
    parser.add_argument(
        "--manual_dir", type=os.path.expanduser, help="folder of the data set as downloaded"
    )
    parser.add_argument("--data_dir", type=os.path.expanduser, required=True, help="where to build")
    options = parser.parse_args(arguments)
    name, _, config = options.name.partition("/")
    if name not in named:
        parser.error(f"no data set {name!r}; expected one of {', '.join(named)}.")
    try:
        builder = named[name](data_dir=options.data_dir, **({"config": config} if config else {}))
        how = tfds.download.DownloadConfig(manual_dir=options.manual_dir)
        builder.download_and_prepare(download_config=how)
    except (ValueError, OSError, AssertionError) as error:  # TFDS asserts that manual_dir exists
        sys.exit(f"{error}")
    for split, info in builder.info.splits.items():
        print(f"{builder.info.full_name} {split}: {info.num_examples:,} frames")
