"""The predictions of one subject, in the form that `exports` writes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ttp_jax import deprecation, geometry
from ttp_jax.skeletons import Skeleton


@deprecation.fields(likelihood="confidence")
class Track(NamedTuple):
    """Predictions of one subject.

    Attributes:
      name: stem of the files.
      joints: float [T, K, 2] in image pixels, pixel centres at integers; NaN if missing.
      confidence: float [T, K], the heights of the heatmaps' peaks. Written clipped to 0..1, and as
        missing if the joint is.
      skeleton: skeleton of the K joints.
      frames_per_second: rows per second; 30 for images.
      first_frame: frame number of the first row in the video, counted from 0.
      picture_size: (width, height) in pixels, or None.
      boxes: [T, 4] person boxes x1, y1, x2, y2 in image pixels, or None.
      step: number of video frames from row to row. The files of SLEAP and OpenSim have no gaps: in
        them, skipped frames aren't counted.
      times: [T] seconds from the video's first frame; None if rows are evenly spaced.
      pictures: file names [T] of the rows' images, or None.
      pcutoff: joints of lower confidence, 0..1, are written as missing, see `exports`.
      video: path of the video, or of the folder of `pictures`; "" if unknown.
      scorer: name of the scorer in DeepLabCut's tables.
      stored_size: (width, height) of the frames in the video file, if they were stretched to
        `picture_size` because their pixels are not square; None otherwise.
    """

    name: str
    joints: np.ndarray
    confidence: np.ndarray
    skeleton: Skeleton
    frames_per_second: float = 30.0
    first_frame: int = 0
    picture_size: tuple[int, ...] | None = None
    boxes: np.ndarray | None = None
    step: int = 1
    times: np.ndarray | None = None
    pictures: Sequence[str] | None = None
    pcutoff: float = 0.0
    video: str = ""
    scorer: str = "ttp_jax"
    stored_size: tuple[int, ...] | None = None

    @property
    def frames(self) -> np.ndarray:
        """Frame numbers [T] of the rows in the video, counted from 0."""
        return self.first_frame + self.step * np.arange(len(self.joints))

    @property
    def seconds(self) -> np.ndarray:
        """Times [T] of the rows in seconds, counted from the video's first frame."""
        if self.times is not None:
            return np.asarray(self.times, np.float64)
        return self.frames / (self.frames_per_second * self.step)

    @property
    def first_row(self) -> int:
        """Index of the first row among all rows of the video."""
        return self.first_frame // self.step

    def values(self) -> np.ndarray:
        """Return float64 [T, K, 3] of x, y and confidence, all NaN if a joint is missing.

        For joints below the p-cutoff, x and y are NaN, but the confidence is not.

        Raises:
          ValueError: the arrays don't fit the skeleton or each other, or have invalid values.
        """
        joints, confidence = np.asarray(self.joints), np.asarray(self.confidence)
        rows = (len(joints), self.skeleton.size)
        if joints.shape != (*rows, 2) or confidence.shape != rows or not len(joints):
            raise ValueError(
                f"{self.name}: got joints {joints.shape} and confidence {confidence.shape}, "
                f"expected [T, {rows[1]}, 2] and [T, {rows[1]}] for {self.skeleton.name}, T >= 1."
            )
        missing = np.isnan(joints).any(-1)
        table = np.concatenate([joints, np.clip(confidence, 0, 1)[..., None]], -1, dtype=np.float64)
        table[missing] = np.nan
        if not np.isfinite(table[~missing]).all():
            bad = np.flatnonzero((~np.isfinite(table).all(-1) & ~missing).any(-1))[0]
            raise ValueError(
                f"{self.name}: row {bad} has an infinite joint, or a joint without a confidence; "
                "expected finite numbers. Set a joint to NaN if there is none."
            )
        lengths = {len(each) for each in (self.times, self.pictures) if each is not None}
        if lengths - {len(joints)}:
            raise ValueError(f"{self.name}: expected one time or picture per row, {len(joints)}.")
        if not (np.isfinite(self.frames_per_second) and self.frames_per_second > 0):
            raise ValueError(
                f"{self.name}: got {self.frames_per_second} frames per second, expected more than "
                "0. Give 30 for pictures."
            )
        if not 0 <= self.pcutoff <= 1:
            raise ValueError(f"{self.name}: got a p-cutoff of {self.pcutoff}, expected 0 to 1.")
        table[table[..., 2] < self.pcutoff, :2] = np.nan
        return table

    def in_stored_pixels(self) -> "Track":
        """Return the track, without boxes, in pixels of the frames in the video file.

        DeepLabCut and SLEAP draw on these frames, whatever the shape of their pixels.
        """
        if self.stored_size is None or self.picture_size is None:
            return self
        scale = np.divide(self.stored_size, self.picture_size)
        joints = geometry.rescale_points(np.asarray(self.joints), scale)
        size = self.stored_size
        return self._replace(joints=joints, picture_size=size, stored_size=None, boxes=None)

    def points(self) -> np.ndarray:
        """Return `values`, in which the confidence is also NaN wherever x and y are."""
        table = self.values()
        table[np.isnan(table[..., 0])] = np.nan
        return table


def mean_confidence(values: np.ndarray) -> np.ndarray:
    """Return the mean confidence [T] of the joints in each frame; NaN without any.

    Args:
      values: result of `Track.values` or `Track.points`, [T, K, 3].
    """
    found = ~np.isnan(values[..., 2])
    total = np.where(found, values[..., 2], 0.0).sum(1)
    return np.where(found.any(1), total / np.maximum(found.sum(1), 1), np.nan)
