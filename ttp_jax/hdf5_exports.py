"""HDF5 files of other pose tools: DeepLabCut's tables, SLEAP's analysis files and projects.

On a full disk the HDF5 library reports nothing, or ends the process. So files are made in memory
and then written as bytes. For sleap-io's files, where this isn't possible, the space is tried out
first.
"""

import importlib
import io
import pathlib
import re
from typing import Any

import numpy as np

from ttp_jax.track import Track, mean_confidence

TABLE = "df_with_missing"  # key under which DeepLabCut looks for a table
PAGE = re.compile(r"\.\w+#\d+$")  # end of the name of a page: "stack.tif#2"
SLP_BYTES = 100  # upper bound for a point in a .slp with its share of the frame; about 35 in fact


def write_table(path: pathlib.Path, table: Any, form: str = "table") -> None:
    """Write a pandas table as DeepLabCut stores it.

    Args:
      path: the file.
      table: the `pandas.DataFrame`.
      form: "table" or "fixed", pandas' storage formats.

    Raises OSError if it can't be written.
    """
    import pandas

    memory = {"driver": "H5FD_CORE", "driver_core_backing_store": 0}
    with pandas.HDFStore(path, "w", **memory) as store:
        store.put(TABLE, table, format=form, track_times=False)
        if form == "table":
            # pandas 3 omits this attribute, without which earlier versions can't read the table.
            store.get_storer(TABLE).attrs.pandas_version = "0.15.2"
        image = store.root._v_file.get_file_image()
    path.write_bytes(image)


def write_analysis(path: pathlib.Path, track: Track) -> None:
    """Write SLEAP's analysis file, with axes in SLEAP's order (MATLAB's, reversed by HDF5).

    Because the format has no frame numbers, rows begin at the video's first frame; those before the
    track's first row are missing. The score of an instance is the mean confidence of its joints.
    There is no tracker, so tracking scores are NaN.

    Args:
      path: the file.
      track: the keypoints of one subject.

    Raises OSError if it can't be written.
    """
    import h5py

    before = np.full((track.first_row, track.skeleton.size, 3), np.nan)
    values = np.concatenate([before, track.points()])
    scores = mean_confidence(values)
    present = ~np.isnan(scores)
    names = np.array([joint.encode() for joint in track.skeleton.joints])
    limbs = np.array(track.skeleton.limbs, int).reshape(-1, 2)
    datasets = {
        "tracks": values[..., :2].T[None],  # [1, 2, K, T]
        "track_occupancy": present[:, None].astype(np.uint8),  # [T, 1], unlike the others
        "point_scores": values[..., 2].T[None],  # [1, K, T]
        "instance_scores": scores[None],  # [1, T]
        "tracking_scores": np.full((1, len(values)), np.nan),
        "track_names": np.array([track.name.encode()]),
        "node_names": names,
        "edge_names": names[limbs],
        "edge_inds": limbs,
    }
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, data in datasets.items():
            file.create_dataset(name, data=data, compression="gzip")
    path.write_bytes(memory.getvalue())


def write_slp(path: pathlib.Path, track: Track) -> None:
    """Write a SLEAP predictions file with sleap-io, which can be opened and corrected in SLEAP.

    It has one instance per frame, with the joints' confidence as point scores. It refers to the
    video that was predicted, or to the image files of a folder. Joints are in pixels of the frames
    in the video file, see `Track.in_stored_pixels`.

    Args:
      path: the file.
      track: the keypoints of one subject.

    Raises OSError if it can't be written.
    """
    sleap_io: Any = importlib.import_module("sleap_io")  # its names are only known at run time
    track = track.in_stored_pixels()
    nodes = list(track.skeleton.joints)
    edges = [(nodes[a], nodes[b]) for a, b in track.skeleton.limbs]
    skeleton = sleap_io.Skeleton(nodes, edges=edges, name=track.skeleton.name)
    video, numbers = _video(track, sleap_io), track.frames
    if isinstance(video.filename, list):  # SLEAP numbers the images in its list
        numbers = np.arange(len(track.joints))
    values, who, frames = track.points(), sleap_io.Track(track.name), []
    for number, row, score in zip(numbers, values, mean_confidence(values), strict=True):
        if np.isnan(score):
            continue
        instance = sleap_io.PredictedInstance.from_numpy(
            row[:, :2], skeleton=skeleton, point_scores=row[:, 2], score=float(score), track=who
        )
        frame = sleap_io.LabeledFrame(video=video, frame_idx=int(number), instances=[instance])
        frames.append(frame)
    labels = sleap_io.Labels(frames, videos=[video], skeletons=[skeleton], tracks=[who])
    path.write_bytes(bytes(2**18 + SLP_BYTES * values[..., 0].size))
    sleap_io.save_slp(labels, str(path))


def _video(track: Track, sleap_io):
    """Return the video of a track for SLEAP; only a name if the file is unknown."""
    if track.pictures is not None and not any(map(PAGE.search, track.pictures)):
        files = [str(pathlib.Path(track.video) / name) for name in track.pictures]
        return sleap_io.Video.from_filename(files)
    return sleap_io.Video(filename=track.video or track.name, open_backend=False)
