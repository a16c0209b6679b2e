"""Drawing of poses, keypoints and reconstructions.

Images are uint8 RGB [H, W, 3], in and out. Points are (x, y) in pixels of the given image, pixel
centres at integers; NaN points are not drawn. `scale` enlarges the result, for images that are too
small to draw on.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from ttp_jax import palette
from ttp_jax.files import write_atomically
from ttp_jax.skeletons import Skeleton

SUPERSAMPLE = 4  # Pillow draws without anti-aliasing: draw larger, then average.
WHITE = (255, 255, 255)
INK = (20, 20, 24)
GAP = 4  # pixels between the images of a grid
TEXT = 13  # font size
DASH = 2.5  # length of a dash, in line widths
WARMTH = np.array(  # from cold to warm
    [[58, 76, 160], [116, 173, 209], [254, 236, 160], [253, 150, 70], [222, 40, 32]]
)


# --- Drawing on one image ------------------------------------------------------------------------


class _Canvas:
    """An image and a transparent, finer layer to draw on."""

    def __init__(self, image, scale: int = 1):
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"got a picture {image.shape} of {image.dtype}, expected uint8 RGB [H, W, 3]."
            )
        height, width = image.shape[0] * scale, image.shape[1] * scale
        self.base = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        self.layer = Image.new("RGBA", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self.draw = ImageDraw.Draw(self.layer)
        self.zoom = scale * SUPERSAMPLE
        # Strokes scale with the result, so that they are equally visible on large images.
        self.unit = max(0.75, min(height, width) / 150) * SUPERSAMPLE

    def place(self, point):
        """Return a point's position on the layer; None if it is NaN."""
        point = (np.asarray(point, np.float64) + 0.5) * self.zoom - 0.5
        return tuple(point.tolist()) if np.isfinite(point).all() else None

    def dot(self, point, color, radius: float = 2.0):
        """Draw a disc with a dark rim, `radius` in units."""
        center = self.place(point)
        if center:
            for r, fill in ((radius + 0.5, INK), (radius, color)):
                self.draw.circle(center, r * self.unit, fill=tuple(fill))

    def ring(self, center, color, radius: float = 2.0):
        """Draw a circle with a dark rim, `radius` in units."""
        center = self.place(center)
        if center:
            for width, ink in ((1.0, INK), (0.5, color)):
                edge = (radius + width / 2) * self.unit
                self.draw.circle(center, edge, outline=tuple(ink), width=round(width * self.unit))

    def line(self, a, b, color, width: float = 1.5, dashed: bool = False):
        """Draw a line with round ends, `width` in units; dashes have flat ends."""
        a, b = self.place(a), self.place(b)
        if not (a and b):
            return
        if not dashed:
            self._stroke(a, b, color, width * self.unit)
            return
        parts = max(1, round(math.dist(a, b) / (DASH * width * self.unit)))
        ends = np.linspace(a, b, 2 * (parts // 2) + 2).tolist()
        for start, end in zip(ends[0::2], ends[1::2], strict=True):
            flat = [tuple(start), tuple(end)]
            self.draw.line(flat, fill=tuple(color), width=max(1, round(width * self.unit)))

    def arrow(self, a, b, color, width: float = 1.0):
        """Draw an arrow with a dark rim from a to b; only its head if they are close."""
        a, b = self.place(a), self.place(b)
        if not (a and b):
            return
        delta = np.subtract(b, a)
        length = float(np.hypot(*delta))
        if length < self.unit:
            return
        along = delta / length
        across = along[::-1] * (-1, 1)
        head = min(5.0 * self.unit, length)
        neck = b - along * head
        corners = [tuple(c) for c in (b, neck + across * head * 0.4, neck - across * head * 0.4)]
        self._stroke(a, tuple(neck), INK, (width + 0.8) * self.unit)
        self.draw.polygon(corners, fill=INK, outline=INK, width=round(0.8 * self.unit))
        self._stroke(a, tuple(neck), color, width * self.unit)
        self.draw.polygon(corners, fill=tuple(color))

    def _stroke(self, a, b, color, width):
        self.draw.line([a, b], fill=tuple(color), width=max(1, round(width)))
        for end in (a, b):
            self.draw.circle(end, width / 2, fill=tuple(color))

    def picture(self) -> np.ndarray:
        """Return the image with the drawing on it."""
        layer = self.layer.resize(self.base.size, Image.Resampling.BOX)
        return np.asarray(Image.alpha_composite(self.base.convert("RGBA"), layer).convert("RGB"))


def draw_joints(
    image: np.ndarray,
    joints: ArrayLike,
    skeleton: Skeleton,
    visible: ArrayLike | None = None,
    scale: int = 1,
) -> np.ndarray:
    """Draw limbs and joints [K, 2] in the skeleton's colours; invisible ones are left out.

    Args:
      image: uint8 RGB [H, W, 3]; it is not changed.
      joints: [K, 2] in its pixels; NaN is not drawn.
      skeleton: skeleton of the joints.
      visible: [K], the joints to draw; all if None.
      scale: enlarges the image.

    Returns:
      uint8 [H * scale, W * scale, 3].
    """
    canvas = _Canvas(image, scale)
    _stick(canvas, joints, skeleton, visible, skeleton.colors)
    return canvas.picture()


def overlay(
    frame: np.ndarray,
    before: ArrayLike,
    after: ArrayLike,
    skeleton: Skeleton,
    truth: ArrayLike | None = None,
    visible: ArrayLike | None = None,
    scale: int = 1,
    *,
    confidence: Sequence | None = None,
    pcutoff: float = 0.0,
) -> np.ndarray:
    """Draw one frame's joints before and after personalization, and the truth if there is one.

    "before" is orange, dashed and drawn under "after", which is blue. The left side is darker than
    the right (`ttp_jax.palette`). The truth is white.

    Args:
      frame: image [H, W, 3].
      before: joints [K, 2] before personalization.
      after: joints [K, 2] after it.
      skeleton: skeleton of the joints.
      truth: true joints [K, 2], or None.
      visible: [K], whether the truth is known; predictions are always drawn.
      scale: enlarges the image.
      confidence: [K] before and [K] after, or None.
      pcutoff: joints of lower confidence are drawn hollow and without limbs.
    """
    canvas = _Canvas(frame, scale)
    if truth is not None:
        _stick(canvas, truth, skeleton, visible, [WHITE] * skeleton.size, radius=1.4, width=1.0)
    for i, (pose, joints) in enumerate((("before", before), ("after", after))):
        sure = None if confidence is None else ~(np.asarray(confidence[i]) < pcutoff)
        look = {"radius": 1.4, "width": 1.0, "dashed": pose == "before", "sure": sure}
        _stick(canvas, joints, skeleton, None, palette.colors(skeleton, pose), **look)
    image = Image.fromarray(canvas.picture())
    draw, x = ImageDraw.Draw(image), GAP
    named = {pose: palette.POSES[pose]["right"] for pose in palette.POSES}
    if truth is not None:
        named = {"truth": WHITE, **named}
    for name, color in named.items():
        draw.text((x, GAP), name, fill=color, font=_font(), stroke_width=2, stroke_fill=INK)
        x += draw.textlength(name, font=_font()) + 3 * GAP
    return np.asarray(image)


def _stick(
    canvas, joints, skeleton, visible, colors, radius=2.0, width=1.5, dashed=False, sure=None
):
    """Draw limbs, then joints; a limb has the mean colour of its ends.

    Joints that aren't `sure` [K] are hollow, and limbs that end in such a joint are left out.
    """
    joints = np.array(joints, np.float64)
    if joints.shape != (skeleton.size, 2):
        raise ValueError(
            f"got joints {joints.shape}, expected {(skeleton.size, 2)} for {skeleton.name}."
        )
    if visible is not None:
        joints[~np.asarray(visible).astype(bool)] = np.nan
    sure = np.ones(skeleton.size, bool) if sure is None else np.asarray(sure)
    limbs = [(a, b) for a, b in skeleton.limbs if sure[a] and sure[b]]
    # A dark rim under all limbs sets them off from a background of the same colour.
    for a, b in limbs:
        canvas.line(joints[a], joints[b], INK, width + 1.0)
    for a, b in limbs:
        mixed = np.mean([colors[a], colors[b]], axis=0).astype(int).tolist()
        canvas.line(joints[a], joints[b], mixed, width, dashed)
    for joint, color, filled in zip(joints, np.array(colors).tolist(), sure, strict=True):
        (canvas.dot if filled else canvas.ring)(joint, color, radius)


# --- The paper's Figure 5 ------------------------------------------------------------------------


def contribution_colors(affinity) -> np.ndarray:
    """Return RGB [M, 3] for the self-supervised keypoints, warmer the more they contribute.

    The contribution is c_j = sum_i W_ij (paper, appendix B, Eq. 13) of the affinity W [K, M],
    relative to the largest in the image.
    """
    return _warm(_contribution(affinity))


def figure5(
    rows: Sequence[Mapping], skeleton: Skeleton, scale: int = 4, threshold: float = 0.1
) -> np.ndarray:
    """Draw examples like the paper's Figure 5, one per row.

    The columns are: the input; the self-supervised keypoints, coloured by contribution, with an
    arrow to each joint for which their affinity is above `threshold`; the joints; the
    reconstruction; and the ground truth if a row has it. Unlike in the paper, arrows stay within
    the image of the keypoints.

    Args:
      rows: mappings of "image" and "reconstruction" [H, W, 3], "points" [M, 2], "joints" [K, 2],
        "affinity" [K, M] and, optionally, "truth" [K, 2] with "visible" [K].
      skeleton: skeleton of the joints.
      scale: enlarges every image.
      threshold: smallest affinity with an arrow, 0.1 in the paper.
    """
    headers = ["input", "self-supervised", "joints", "reconstruction"]
    with_truth = any(row.get("truth") is not None for row in rows)
    images = []
    for row in rows:
        image = row["image"]
        images += [
            _Canvas(image, scale).picture(),
            _correspondence(row, threshold, scale),
            draw_joints(image, row["joints"], skeleton, scale=scale),
            _Canvas(row["reconstruction"], scale).picture(),
        ]
        if with_truth:
            truth = row.get("truth")
            truth = np.full((skeleton.size, 2), np.nan) if truth is None else truth
            images.append(draw_joints(image, truth, skeleton, row.get("visible"), scale))
    headers += ["ground truth"] * with_truth
    return grid(images, len(headers), headers + [""] * (len(images) - len(headers)))


def _contribution(affinity) -> np.ndarray:
    """Return the contributions c [M] relative to their maximum."""
    contribution = np.asarray(affinity, np.float64).sum(0)
    return contribution / max(contribution.max(), np.finfo(float).tiny)


def _correspondence(row, threshold, scale) -> np.ndarray:
    """Draw keypoints, and arrows to the joints with which their affinity is high, warmest on top.

    The joints are small white dots.
    """
    affinity = np.asarray(row["affinity"], np.float64)
    points, joints = np.asarray(row["points"]), np.asarray(row["joints"])
    canvas = _Canvas(_faded(row["image"]), scale)
    for joint in joints:
        canvas.dot(joint, WHITE, radius=1.0)
    strong = np.argwhere(affinity > threshold)
    strong = strong[np.argsort(affinity[tuple(strong.T)])]
    for i, j in strong:
        canvas.arrow(points[j], joints[i], _warm(affinity[i, j]).tolist())
    colors = contribution_colors(affinity)
    for j in np.argsort(_contribution(affinity)):
        canvas.dot(points[j], colors[j].tolist())
    return canvas.picture()


def _faded(image) -> np.ndarray:
    """Return the image in pale grey, on which all colours of the scale can be told apart."""
    grey = np.mean(image, axis=-1, keepdims=True) * 0.55 + 100
    return np.broadcast_to(grey, np.shape(image)).astype(np.uint8)


def _warm(values) -> np.ndarray:
    """Map 0..1 to RGB from cold to warm: [...] -> [..., 3]."""
    stops = np.linspace(0, 1, len(WARMTH))
    channels = [np.interp(values, stops, channel) for channel in WARMTH.T]
    return np.stack(channels, -1).round().astype(np.uint8)


# --- Many images, files --------------------------------------------------------------------------


def grid(images: Sequence, columns: int, labels: Sequence[str] | None = None) -> np.ndarray:
    """Tile images row by row, with a label above each (a row of empty labels takes no space).

    Images may differ in size; every cell is as large as the largest image.

    Args:
      images: uint8 [H, W, 3] each.
      columns: images per row.
      labels: one per image; none if None.

    Raises:
      ValueError: there are no images, or the numbers of labels and images differ.
    """
    if not images:
        raise ValueError("got no pictures, expected at least one.")
    labels = [""] * len(images) if labels is None else list(labels)
    if len(labels) != len(images):
        raise ValueError(f"got {len(labels)} labels for {len(images)} pictures, expected as many.")
    height, width = (max(np.shape(image)[axis] for image in images) for axis in (0, 1))
    starts = range(0, len(images), columns)
    strips = [TEXT + GAP if any(labels[i : i + columns]) else 0 for i in starts]
    size = (
        columns * (width + GAP) + GAP,
        sum(strips) + len(starts) * (height + GAP) + GAP,
    )
    sheet = Image.new("RGB", size, WHITE)
    draw, y = ImageDraw.Draw(sheet), GAP
    for start, strip in zip(starts, strips, strict=True):
        y += strip
        for column, i in enumerate(range(start, min(start + columns, len(images)))):
            x = GAP + column * (width + GAP)
            draw.text((x + width / 2, y - GAP), labels[i], INK, _font(), anchor="ms")
            sheet.paste(Image.fromarray(np.asarray(images[i])), (x, y))
        y += height + GAP
    return np.asarray(sheet)


def _font():
    return ImageFont.load_default(size=TEXT)


def save(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write an image in the format of the suffix; missing folders are created.

    Args:
      path: the file, for example "x.png".
      image: uint8 RGB [H, W, 3].

    Raises an OSError that names the file, for example if the disk is full.
    """
    Image.init()  # fills the table of suffixes
    form = Image.registered_extensions()[pathlib.Path(path).suffix.lower()]
    write_atomically(path, lambda file: Image.fromarray(np.asarray(image)).save(file, form))


def plot_history(
    path: str | os.PathLike, records: Sequence[Mapping], keys: Sequence[str], x: str = "step"
) -> None:
    """Plot each key of the training records against `x`, in a panel of its own, into a file.

    Records without the key are skipped. Missing folders are created.

    Args:
      path: the image file.
      records: one mapping for each line of the training's history.
      keys: keys to plot, one per panel.
      x: key of the horizontal axis.
    """
    # Not pyplot, which keeps figures alive and picks a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(keys))
    count = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * count), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, key in enumerate(keys):
        points = [(record[x], record[key]) for record in records if key in record]
        axes = figure.add_subplot(count, columns, panel + 1)
        axes.plot(*np.array(points, np.float64).reshape(-1, 2).T, marker=".", color="#2f5fb3")
        axes.set(title=key, xlabel=x)
        axes.grid(alpha=0.3)
    form = pathlib.Path(path).suffix.removeprefix(".")
    write_atomically(path, lambda file: figure.savefig(file, dpi=110, format=form))
