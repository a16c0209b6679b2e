"""Smoothing of predicted joints over time (paper section 4.5, Table 5). Plain numpy and scipy.

Joints are [T, K, 2] in pixels of consecutive frames; x and y of each joint are smoothed separately.
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
      joints: [T, K, 2] in pixels, NaN if missing.
      how: "savgol" or "one-euro".
      frames_per_second: rate of evenly spaced frames.
      times: ascending seconds [T] of unevenly spaced frames; "one-euro" only.

    Raises:
      ValueError: there is no such filter.
    """
    if how not in FILTERS:
        raise ValueError(f"got smoothing {how!r}, expected one of {', '.join(FILTERS)}.")
    return savgol(joints) if how == "savgol" else one_euro(joints, frames_per_second, times=times)


def savgol(joints: np.ndarray, window: int = 7, order: int = 2) -> np.ndarray:
    """Fit a polynomial to the frames around each frame (Savitzky and Golay 1964); uses the future.

    The paper names the filter, but not its settings: window and order are our choice. Frames are
    taken as evenly spaced. Stretches between missing frames that are shorter than the window get
    the largest odd window that fits; with fewer than `order` + 2 frames they stay as they are.

    Args:
      joints: [T, K, 2] in pixels, NaN if missing.
      window: number of frames, odd.
      order: order of the polynomial.
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
    """Apply the 1 euro filter, which smooths slow movement and follows fast movement; causal.

    Casiez et al. 2012. It is a low-pass filter whose cutoff grows from `cutoff` by `beta` times the
    speed in pixels per second. The speed itself is low-passed at `speed_cutoff`.

    Args:
      joints: [T, K, 2].
      frames_per_second: rate of evenly spaced frames.
      cutoff: cutoff for slow movement, in Hz.
      beta: growth of the cutoff, in Hz for each pixel per second.
      speed_cutoff: cutoff for the speed, in Hz.
      times: ascending seconds [T] of unevenly spaced frames.
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
    """Apply a filter to each stretch without NaN of each column, and tell it the first row."""
    joints = np.array(joints, np.float64)
    columns = joints.reshape(len(joints), -1)
    for column in columns.T:
        known = np.concatenate([[0], np.isfinite(column), [0]])
        starts, ends = (np.flatnonzero(np.diff(known) == step) for step in (1, -1))
        for start, end in zip(starts, ends, strict=True):
            column[start:end] = apply(column[start:end], int(start))
    return joints
