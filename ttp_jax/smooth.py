"""Smoothing of predicted joints over time (paper section 4.5, Table 5). Plain numpy and scipy.

Joints are [T, K, 2] in pixels of consecutive frames; each joint's x and y is smoothed by itself.
Frames that are NaN stay NaN, and nothing is smoothed across them.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.signal

FILTERS = ("savgol", "one-euro")


def smooth(
    joints: np.ndarray, how: str, frames_per_second: float = 30.0, times: np.ndarray | None = None
) -> np.ndarray:
    """Return the joints smoothed by the filter of this name; see `savgol` and `one_euro`.

    Args:
      joints: [T, K, 2] in pixels, NaN where a frame has no joint.
      how: "savgol" or "one-euro".
      frames_per_second: of evenly spaced frames.
      times: seconds [T], ascending, of frames that are not evenly spaced; for "one-euro" only.

    Raises:
      ValueError: no filter of this name.
    """
    if how not in FILTERS:
        raise ValueError(f"got smoothing {how!r}, expected one of {', '.join(FILTERS)}.")
    return savgol(joints) if how == "savgol" else one_euro(joints, frames_per_second, times=times)


def savgol(joints: np.ndarray, window: int = 7, order: int = 2) -> np.ndarray:
    """Fit a polynomial to the frames around each frame (Savitzky and Golay 1964); sees the future.

    The paper names the filter, not its settings: window and order are our choice. Frames count as
    evenly spaced. Stretches between missing frames that are shorter than the window get the largest
    odd window that fits; below `order` + 2 frames they stay as they are.

    Args:
      joints: [T, K, 2] in pixels, NaN where a frame has no joint.
      window: number of frames, odd.
      order: of the polynomial.
    """

    def fit(values, start):
        del start
        width = min(window, len(values) - (len(values) % 2 == 0))
        if width <= order:
            return values
        return np.asarray(scipy.signal.savgol_filter(values, width, order))

    return _by_stretch(joints, fit)


def one_euro(
    joints: np.ndarray,
    frames_per_second: float = 30.0,
    cutoff: float = 1.0,
    beta: float = 0.05,
    speed_cutoff: float = 1.0,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Follow slow movement steadily and fast movement without delay; sees the past only.

    Casiez et al. 2012. Frequencies in Hz: a low-pass filter whose cutoff grows from `cutoff` by
    `beta` times the speed in pixels a second, itself low-passed at `speed_cutoff`.

    Args:
      joints: [T, K, 2].
      frames_per_second: of evenly spaced frames.
      cutoff: of slow movement, in Hz.
      beta: in Hz for each pixel a second.
      speed_cutoff: in Hz.
      times: seconds [T], ascending, of frames that are not evenly spaced.
    """

    def weight(frequency, rate):
        return 1 / (1 + rate / (2 * math.pi * frequency))

    def follow(values, start):
        found, speed, rate = [values[0]], 0.0, frames_per_second
        for i, value in enumerate(values[1:], start + 1):
            if times is not None:
                rate = 1 / (times[i] - times[i - 1])
            now = (value - found[-1]) * rate
            speed += weight(speed_cutoff, rate) * (now - speed)
            share = weight(cutoff + beta * abs(speed), rate)
            found.append(found[-1] + share * (value - found[-1]))
        return np.array(found)

    return _by_stretch(joints, follow)


def _by_stretch(joints, apply: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Apply a filter to every stretch without NaN of every column; it also gets its first row."""
    joints = np.array(joints, np.float64)
    columns = joints.reshape(len(joints), -1)
    for column in columns.T:
        known = np.concatenate([[0], np.isfinite(column), [0]])
        starts, ends = (np.flatnonzero(np.diff(known) == step) for step in (1, -1))
        for start, end in zip(starts, ends, strict=True):
            column[start:end] = apply(column[start:end], int(start))
    return joints
