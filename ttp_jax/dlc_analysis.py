"""A video's predictions under the names that DeepLabCut looks for, as if it had analyzed it.

    VIDEO + SCORER + .h5, .csv      the table of all frames
    VIDEO + SCORER + _meta.pickle   what `create_labeled_video` asks for beside it

Names and contents after DeepLabCut 3.0.2 (`make_labeled_video.proc_video`,
`auxiliaryfunctions.find_analyzed_data`, `find_video_metadata`). A scorer is "DLC_" and a word that
its functions take as `init_weights`, so that they need no network of DeepLabCut's.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ttp_jax import exports
from ttp_jax.files import write_atomically
from ttp_jax.track import Track

SCORER = "DLC_ttp_jax"
HIGHEST_PROTOCOL = 4  # of the pickle: what any Python 3 of DeepLabCut's reads


def write(track: Track, folder: str | os.PathLike, which: str) -> list[Path]:
    """Write the three files of one track, and return their paths.

    The table begins with the video's first frame; frames that the track skips are missing.

    Args:
      track: of a video whose path and picture size are known.
      folder: where the files go; DeepLabCut's `destfolder`.
      which: ends the scorer, "after" or "before": DeepLabCut takes the first file whose name begins
        with the scorer that it is asked for, so neither scorer may begin the other.

    Raises:
      ImportError: pandas or PyTables isn't installed.
      ValueError: a track that no file can hold.
    """
    name = stem(track.video, track.name, which)
    every = _all_frames(track)._replace(name=name, scorer=f"{SCORER}_{which}")
    tables = exports.write(every, folder, ["dlc-h5", "dlc-csv"])
    metadata = pickle.dumps(_metadata(every), HIGHEST_PROTOCOL)
    path = write_atomically(
        Path(folder) / f"{name}_meta.pickle", lambda temporary: temporary.write_bytes(metadata)
    )
    return [*tables, path]


def stem(video: str, name: str, which: str) -> str:
    """Begin the files' names: that of the video's file, else `name`, and the scorer.

    Args:
      video: path of the video; "" where nobody knows.
      name: of the track.
      which: see `write`.
    """
    return f"{Path(video).stem or name}{SCORER}_{which}"


def _all_frames(track: Track) -> Track:
    """The track with one row for each frame of the video up to its last, NaN where it has none."""
    count, joints = int(track.frames[-1]) + 1, np.asarray(track.joints)
    places = np.full((count, *joints.shape[1:]), np.nan)
    confidence = np.full(places.shape[:2], np.nan)
    places[track.frames], confidence[track.frames] = joints, track.confidence
    return track._replace(
        joints=places,
        confidence=confidence,
        first_frame=0,
        step=1,
        frames_per_second=track.frames_per_second * track.step,
        times=None,
        pictures=None,
        boxes=None,
    )


def _metadata(track: Track) -> dict[str, Any]:
    """What DeepLabCut's own analysis says of itself, as far as it is known here."""
    width, height = track.picture_size or (0, 0)
    about = {
        "Scorer": track.scorer,
        "fps": float(track.frames_per_second),
        "nframes": len(track.joints),
        "frame_dimensions": (height, width),
        "cropping": False,  # places are those of whole pictures
        "cropping_parameters": [0, width, 0, height],
    }
    return {"data": about}
