"""The viewer: pictures overlaid with the poses before and after personalization."""

import json
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from ttp_jax import palette
from ttp_jax.report.page import checked, encoded, size_of
from ttp_jax.skeletons import Skeleton

CHANGED = 0.01  # share of a picture's longer side; a joint that moved less counts as unchanged
JPEG_QUALITY = 80
HINT = (
    f"Changed: moved by more than {CHANGED:.0%} of the picture's longer side. "
    "The arrow keys step from frame to frame."
)


def before_after(
    pictures: Sequence[np.ndarray],
    before: ArrayLike,
    after: ArrayLike,
    skeleton: Skeleton,
    *,
    confidence: Sequence | None = None,
    pcutoff: float = 0.0,
    frames: Sequence | np.ndarray | None = None,
    seconds: ArrayLike | None = None,
) -> str:
    """Return a viewer of poses over pictures, with controls to play, step, wipe and choose.

    The pictures determine the size of the file, so shrink them, and choose some frames of a long
    video. 60 pictures of 400 x 400 pixels take a few MB.

    Args:
      pictures: n pictures uint8 RGB [H, W, 3], embedded as JPEG.
      before: joints [n, K, 2] in pixels of these pictures; NaN joints are not drawn.
      after: as `before`.
      skeleton: skeleton of the joints.
      confidence: [n, K] before and [n, K] after; None if unknown.
      pcutoff: joints of lower confidence are drawn fainter; the reader can change it.
      frames: [n] numbers or names of the frames; 0 to n - 1 if None.
      seconds: [n] times of the frames, shown beside their numbers; None if unknown.

    Raises:
      ValueError: an array doesn't fit the pictures or the skeleton.
    """
    count = len(pictures)
    if not count:
        raise ValueError("got no pictures, expected at least one.")
    frames = list(range(count)) if frames is None else np.asarray(frames).tolist()
    poses = {"before": np.asarray(before, np.float64), "after": np.asarray(after, np.float64)}
    confidences = _confidences(confidence)
    pictures = [checked(image) for image in pictures]
    _check(poses, confidences, frames, seconds, count, skeleton)
    data = {
        "names": _names(frames, seconds),
        "sizes": [image.shape[1::-1] for image in pictures],
        "limbs": skeleton.limbs,
        "changed": CHANGED,
        "confidence": {name: values.round(3).tolist() for name, values in confidences.items()},
        **{name: _points_or_none(joints) for name, joints in poses.items()},
    }
    height, width = pictures[0].shape[:2]
    layers = "\n".join(_layer(pose, skeleton, f"-0.5 -0.5 {width} {height}") for pose in poses)
    return f"""<figure class="viewer">
<div class="pane"><div class="stage" style="--ratio:{width / height:.4f}">
{_images(pictures, frames)}
{layers}
<div class="divider" aria-hidden="true" hidden><span>before</span><span>after</span></div>
</div></div>
{_panel(count, skeleton, bool(confidences), pcutoff)}
<script type="application/json">{_json(data)}</script></figure>
"""


def _images(pictures, frames) -> str:
    """Return the pictures, all hidden except the first."""
    return "\n".join(
        f'<img src="{encoded(image, "JPEG", quality=JPEG_QUALITY)}"{size_of(image)} '
        f'alt="frame {escape(str(frame))}"{" hidden" * (i > 0)}>'
        for i, (image, frame) in enumerate(zip(pictures, frames, strict=True))
    )


def _confidences(confidence) -> dict[str, np.ndarray]:
    """Return the confidences of each pose, with 0 for unknown ones; empty if there are none."""
    if confidence is None:
        return {}
    both = zip(("before", "after"), confidence, strict=True)
    return {name: np.nan_to_num(np.asarray(values, np.float64)) for name, values in both}


def _check(poses, confidences, frames, seconds, count, skeleton) -> None:
    """Raise ValueError if a shape doesn't fit the number of pictures or the skeleton."""
    shape = (count, skeleton.size, 2)
    expected: dict[str, tuple] = {name: (values, shape) for name, values in poses.items()}
    expected |= {f"confidence {name}": (v, shape[:2]) for name, v in confidences.items()}
    expected["frames"] = (frames, shape[:1])
    if seconds is not None:
        expected["seconds"] = (seconds, shape[:1])
    for name, (values, wanted) in expected.items():
        if np.shape(values) != wanted:
            raise ValueError(
                f"got {name} {np.shape(values)}, expected {wanted} for {count} pictures and "
                f"{skeleton.name}."
            )


def _names(frames, seconds) -> list[str]:
    """Return the caption of each picture: "frame 12, 0.48 s"."""
    if seconds is None:
        return [f"frame {frame}" for frame in frames]
    return [f"frame {frame}, {at:.2f} s" for frame, at in zip(frames, seconds, strict=True)]


def _layer(pose, skeleton, box) -> str:
    """Return the empty paths of one pose, for the script to fill. Joints show names on hover."""
    limbs = "".join(f'<path class="limb {side}"/>' for side in palette.limb_sides(skeleton))
    joints = "\n".join(
        f'<path class="joint {side}"><title>{escape(spoken(joint))}, {pose}</title></path>'
        for joint, side in zip(skeleton.joints, palette.sides(skeleton), strict=True)
    )
    return f"""<svg class="{pose}" viewBox="{box}" aria-hidden="true">
<path class="rim limbs"/><path class="rim joints"/>{limbs}
{joints}</svg>"""


def _panel(count: int, skeleton, with_confidence: bool, pcutoff: float) -> str:
    """Return the controls for the frame and the poses to show, which also are the legend."""
    shown = [side for side in palette.SIDES if side in palette.sides(skeleton)]
    rows = []
    for pose in ("before", "after"):
        keys = "".join(
            f'<span class="swatch {side}"></span>{side if len(shown) > 1 else ""} '
            for side in shown
        )
        rows.append(f'<label class="{pose}">{_box(pose, True)}<b>{pose}</b> {keys}</label>')
    rows.append(f"<label>{_box('only')}joints only where changed</label>")
    wipe = (
        f"<label>{_box('wipe')}wipe</label>"
        '<input type="range" name="edge" min="0" max="100" value="50" disabled '
        'aria-label="wipe: percent of the picture that shows the pose before">'
    )
    rows.append(f'<div class="controls">{wipe}</div>')
    if with_confidence:
        number = (
            f'<input type="number" name="pcutoff" min="0" max="1" step="0.05" value="{pcutoff:g}">'
        )
        rows.append(f"<label>p-cutoff {number} joints of lower confidence are fainter</label>")
    return f"""<div class="panel">
<div class="controls"><button type="button">Play</button>
<input type="range" name="frame" min="0" max="{count - 1}" value="0" aria-label="frame">
<output></output></div>
<div class="choices">{"".join(rows)}</div>
<p class="muted">{HINT}</p></div>"""


def _box(name: str, on: bool = False) -> str:
    return f'<input type="checkbox" name="{name}"{" checked" * on}>'


def _points_or_none(joints) -> list:
    """Return joints [n, K, 2] as lists, rounded to hundredths, with None for NaN joints."""
    rounded = np.round(joints, 2).tolist()
    return [[point if np.isfinite(point).all() else None for point in pose] for pose in rounded]


def spoken(joint: str) -> str:
    """Return a joint's name in words: "left knee" for "left_knee"."""
    return joint.replace("_", " ")


def _json(data) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
