"""Write rendered people in the layouts of the real data sets, so that you can try every reader.

    python -m data_pipelines.layouts penn DIR      Penn Action: JPEG frames and .mat labels
    python -m data_pipelines.layouts h36m DIR      Human3.6M: mp4 videos and CDF poses
    python -m data_pipelines.layouts bbc_pose DIR  BBC Pose: JPEG frames and bbcpose.mat

The people are those of `synthetic`, with the names and splits of the data set, so scores are scores
on rendered people. The same seed gives the same people in all three. "head" is always the middle of
the head.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cdflib.cdfwrite
import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from data_pipelines import bbc_pose, h36m, h36m_files, synthetic
from data_pipelines.clips import DataError
from data_pipelines.synthetic import Film, Spec
from data_pipelines.video import announced
from ttp_jax.skeletons import BBC7, PENN13

JPEG_QUALITY = 95
# The points of the rendered body nearest to the official 32 joints, some of which are duplicates.
H36M_POINTS = (
    "root",
    "right_hip", "right_knee", "right_ankle", "right_toe", "right_toe",
    "left_hip", "left_knee", "left_ankle", "left_toe", "left_toe",
    "root", "waist", "neck", "nape", "head",
    "neck", "left_shoulder", "left_elbow", "left_wrist",
    "left_wrist", "left_hand", "left_hand", "left_hand",
    "neck", "right_shoulder", "right_elbow", "right_wrist",
    "right_wrist", "right_hand", "right_hand", "right_hand",
)  # fmt: skip
H36M_CAMERA = "54138969"
H36M_RECORDING = f"Rendered 1.{H36M_CAMERA}"
H36M_FRAMES_PER_SECOND = 50
BBC_FIELDS = (
    "videoName", "type", "source", "train_frames", "train_joints", "test_frames", "test_joints",
)  # fmt: skip


def write_penn(root: str | os.PathLike, spec: Spec) -> None:
    """Write `spec.train` and `spec.test` people as videos 0001, 0002, ... of Penn Action.

    Raises:
      DataError: `root` already holds something.
    """
    root = _fresh_folder(root)
    (root / "labels").mkdir()
    for number, (split, film) in enumerate(_films(spec, PENN13.joints), 1):
        _write_pictures(root / "frames" / f"{number:04d}", film, "{:06d}.jpg".format)
        count, size, _, _ = film.frames.shape
        label = {
            "action": "rendered",
            "train": 1 if split == "train" else -1,
            "nframes": count,
            "dimensions": np.array([[size, size, count]]),
            "bbox": film.boxes.astype(np.float64) + 1,  # MATLAB counts pixels from 1
            "x": film.points[..., 0].astype(np.float64) + 1,
            "y": film.points[..., 1].astype(np.float64) + 1,
            "visibility": film.visible.astype(np.uint8),
        }
        scipy.io.savemat(root / "labels" / f"{number:04d}.mat", label)


def write_bbc_pose(root: str | os.PathLike, spec: Spec) -> None:
    """Write 10 training and 10 test people as the videos of BBC Pose; all frames are labelled.

    Raises:
      DataError: `root` already holds something.
    """
    root = _fresh_folder(root)
    train, videos = bbc_pose.TRAIN_VIDEOS, bbc_pose.VIDEOS
    rows = np.zeros((1, videos), [(name, object) for name in BBC_FIELDS])
    spec = dataclasses.replace(spec, train=train, test=videos - train)
    for number, (split, film) in enumerate(_films(spec, BBC7.joints), 1):
        _write_pictures(root / str(number), film, "{}.jpg".format)
        frames = np.arange(1.0, len(film.frames) + 1)[None]
        joints = film.points.transpose(2, 1, 0).astype(np.float64) + 1
        by_hand = (frames, joints) if split == "test" else (np.zeros((1, 0)), np.zeros((0, 0)))
        values = (f"rendered{number}", split, "rendered", frames, joints, *by_hand)
        for name, value in zip(BBC_FIELDS, values, strict=True):
            rows[name][0, number - 1] = value
    scipy.io.savemat(root / "bbcpose.mat", {"bbcpose": rows})


def write_h36m(root: str | os.PathLike, spec: Spec) -> None:
    """Write people 1, 5, 6, 7, 8 and 9, 11 in the layout of the official download of Human3.6M.

    In the video, each frame of the spec is repeated until the next frame that its split uses (5 or
    200 frames later). The 3-D poses are those that the data set's camera would map to this picture.

    Raises:
      DataError: `root` already holds something.
    """
    root = _fresh_folder(root)
    people = [number for numbers in h36m_files.SUBJECTS.values() for number in numbers]
    train, test = (len(h36m_files.SUBJECTS[split]) for split in ("train", "test"))
    spec = dataclasses.replace(spec, train=train, test=test)
    films = _films(spec, H36M_POINTS)
    for number, (split, film) in zip(people, films, strict=True):
        folder = root / f"S{number}"
        stride = h36m_files.STRIDE[split]
        still = np.arange(stride * (len(film.frames) - 1) + 1) // stride
        _write_video(folder / "Videos" / f"{H36M_RECORDING}.mp4", film.frames, still)
        poses = folder / "MyPoseFeatures"
        write_poses(poses / "D2_Positions" / f"{H36M_RECORDING}.cdf", film.points[still])
        space = _in_space(film)[still]
        write_poses(poses / "D3_Positions_mono" / f"{H36M_RECORDING}.cdf", space)


WRITERS: dict[str, Callable[[Path, Spec], None]] = {
    "penn": write_penn,
    "h36m": write_h36m,
    "bbc_pose": write_bbc_pose,
}


def _fresh_folder(root: str | os.PathLike) -> Path:
    root = Path(root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise DataError(f"{root} already holds something: name a new folder.")
    return root


def _films(spec: Spec, names: Sequence[str]):
    """Yield (split, film) of the training people, then of the test people."""
    people = [(split, i) for split in ("train", "test") for i in range(getattr(spec, split))]
    for split, index in tqdm(people, desc="people", unit="person", dynamic_ncols=True):
        yield split, synthetic.film(spec, split, index, names)


def _write_pictures(folder: Path, film: Film, name_of: Callable[[int], str]) -> None:
    """Write JPEG files numbered from 1."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(film.frames, 1):
        flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        data = cv2.imencode(".jpg", picture[..., ::-1], flags)[1]
        # cv2.imwrite would ignore a full disk.
        (folder / name_of(number)).write_bytes(data.tobytes())


def _write_video(path: Path, frames: np.ndarray, order: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    height, width = frames.shape[1:3]
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(os.fspath(path), code, H36M_FRAMES_PER_SECOND, (width, height))
    if not writer.isOpened():
        raise DataError(f"{path} can't be written: is the disk full, or OpenCV without ffmpeg?")
    for index in order:
        writer.write(np.ascontiguousarray(frames[index, ..., ::-1]))
    writer.release()
    if announced(path) != len(order):  # the writer ignores a full disk
        raise DataError(f"{path} was not written as a whole: is the disk full?")


def _in_space(film: Film) -> np.ndarray:
    """Return camera-space poses [T, 32, 3] in mm that the data set's camera maps to the film."""
    focal, middle = np.split(np.array(h36m.INTRINSICS[H36M_CAMERA]), 2)
    root = H36M_POINTS.index("root")
    # At this distance, the person is as large in that camera's picture as in ours.
    depth = focal[0] / film.scale[:, None] + film.depth - film.depth[:, root : root + 1]
    flat = (film.points - middle) / focal * depth[..., None]
    return 1000 * np.concatenate([flat, depth[..., None]], -1)


def write_poses(path: Path, poses: np.ndarray) -> None:
    """Write poses [T, joints, axes] as in the official files: one record for all frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = poses.reshape(1, len(poses), -1).astype(np.float32)
    file = cdflib.cdfwrite.CDF(path, cdf_spec={"Compressed": 0, "Encoding": 6})
    variable = {
        "Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True,
        "Dim_Sizes": list(values.shape[1:]), "Compress": 6,
    }  # fmt: skip
    file.write_var(variable, var_data=values)
    file.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the layout that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.layouts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("layout", choices=WRITERS)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument(
        "--train", type=int, default=8, help="training people (penn only; %(default)s)"
    )
    parser.add_argument("--test", type=int, default=4, help="test people (penn only; %(default)s)")
    parser.add_argument("--frames", type=int, default=16, help="frames per person (%(default)s)")
    parser.add_argument("--size", type=int, default=192, help="side of the pictures (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="who is drawn (%(default)s)")
    parser.add_argument(
        "--preset", choices=synthetic.PRESETS, default="plain", help="kind of people (%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        spec = Spec(
            seed=options.seed,
            image_size=options.size,
            train=options.train,
            val=0,
            test=options.test,
            train_frames=options.frames,
            eval_frames=options.frames,
            preset=options.preset,
        )
        WRITERS[options.layout](options.folder, spec)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"wrote {options.folder}")


if __name__ == "__main__":
    main()
