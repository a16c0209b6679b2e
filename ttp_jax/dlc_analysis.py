"""Predictions of a video in files that DeepLabCut finds as if it had analyzed the video itself.

    VIDEO + SCORER + .h5, .csv      the table of all frames
    VIDEO + SCORER + _meta.pickle   what `create_labeled_video` needs besides

Names and contents follow DeepLabCut 3.0.2 (`make_labeled_video.proc_video`,
`auxiliaryfunctions.find_analyzed_data`, `find_video_metadata`). The scorer is "DLC_" and the word
that is passed to DeepLabCut's functions as `init_weights`; with it they need no DeepLabCut network.
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
HIGHEST_PROTOCOL = 4  # of the pickle: every Python version that DeepLabCut supports reads it


def write(track: Track, folder: str | os.PathLike, which: str) -> list[Path]:
    """Write the three files of one track, and return their paths.

    The table begins at the video's first frame; frames that the track skips are missing (NaN).
    Joints are in pixels of the frames in the video file, see `Track.in_stored_pixels`.

    Args:
      track: track of a video whose path and image size are known.
      folder: where the files go; DeepLabCut's `destfolder`.
      which: end of the scorer, "after" or "before". DeepLabCut takes the first file whose name
        begins with the scorer that it is given, so neither scorer may be a prefix of the other.

    Raises:
      ImportError: pandas or PyTables isn't installed.
      ValueError: the track can't be written.
    """
    name = stem(track.video, track.name, which)
    every = _all_frames(track.in_stored_pixels())._replace(name=name, scorer=f"{SCORER}_{which}")
    tables = exports.write(every, folder, ["dlc-h5", "dlc-csv"])
    metadata = pickle.dumps(_metadata(every), HIGHEST_PROTOCOL)
    path = write_atomically(
        Path(folder) / f"{name}_meta.pickle", lambda temporary: temporary.write_bytes(metadata)
    )
    return [*tables, path]


def stem(video: str, name: str, which: str) -> str:
    """Return the stem of the files: the video's stem, or `name` without a video, and the scorer.

    Args:
      video: path of the video; "" if unknown.
      name: name of the track.
      which: see `write`.
    """
    return f"{Path(video).stem or name}{SCORER}_{which}"


def _all_frames(track: Track) -> Track:
    """Return the track with a row for each frame of the video up to its last; NaN if skipped."""
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
    """Return the metadata that DeepLabCut's own analysis writes, as far as it is known here."""
    width, height = track.picture_size or (0, 0)
    about = {
        "Scorer": track.scorer,
        "fps": float(track.frames_per_second),
        "nframes": len(track.joints),
        "frame_dimensions": (height, width),
        "cropping": False,  # joints are in pixels of the whole image
        "cropping_parameters": [0, width, 0, height],
    }
    return {"data": about}
