"""Make the pictures of README and docs: a test person before and after TTP; the presets; plots.

    python -m benchmarks.pictures docs
    python -m benchmarks.pictures docs --only plots

Writes docs/before_after.webp (an animation), docs/figure5.png, docs/people.png, and the plots
docs/gains.svg and docs/over_time.svg of the numbers in docs/benchmark_rendered.md. Takes about two
minutes on two cores; the plots take a second.
"""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ttp_jax
from benchmarks import svg
from configs import demo
from data_pipelines import synthetic
from ttp_jax import geometry, metrics, visualize
from ttp_jax.models import pose
from ttp_jax.runs import drawing
from ttp_jax.skeletons import PENN13

# One of the 32 test people of configs/graded.py in new colours, whose gain (6 points) is near the
# mean (7.2), and who is clearly visible.
PERSON = 31
SIDE = 320  # pixels of a panel
INK, PAPER = (20, 20, 24), (255, 255, 255)
CAPTION = 34  # pixels of the line above a panel
PRESETS = {"plain": "train", "varied": "train", "shifted": "test", "wild": "test"}


def film(size: int | None = None) -> synthetic.Film:
    """Return the person as the benchmark renders it, or the same frames at another size."""
    data = demo.get_config().data
    fields = [field.name for field in dataclasses.fields(synthetic.Spec)]
    spec = synthetic.Spec(**{name: data[name] for name in fields})
    if size is not None:
        spec = dataclasses.replace(spec, image_size=size)
    return synthetic.film(spec, "test", PERSON, PENN13.joints)


def panel(frame, joints, name: str, truth, visible, caption: str) -> np.ndarray:
    """Draw one frame with the joints [K, 2] of a pose in its pixels, the truth and a caption."""
    picture = np.array(frame)
    drawing.draw_pose(picture, joints, PENN13, name, thick=4)
    for x, y in np.round(truth[visible]).astype(int).tolist():
        cv2.circle(picture, (x, y), 4, PAPER, -1, cv2.LINE_AA)
    sheet = Image.new("RGB", (SIDE, SIDE + CAPTION), PAPER)
    sheet.paste(Image.fromarray(picture), (0, CAPTION))
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(sheet).text((SIDE / 2, CAPTION / 2), caption, INK, font, anchor="mm")
    return np.asarray(sheet)


def before_after(path: pathlib.Path, seen: synthetic.Film) -> ttp_jax.Model:
    """Personalize the included model offline to one person, and animate both predictions."""
    shown, model = film(SIDE), ttp_jax.load()
    result = ttp_jax.personalize(model, seen.frames, seen.boxes, scenario="offline")
    zoom = SIDE / seen.frames.shape[1]
    images = []
    poses = {"before": result.before, "after": result.joints}
    scores = {
        name: metrics.pck(joints, seen.points, seen.visible, model.skeleton, 0.2).mean
        for name, joints in poses.items()
    }
    for t in range(len(seen.frames)):
        panels = [
            panel(
                shown.frames[t],
                geometry.rescale_points(joints[t], zoom),
                name,
                shown.points[t],
                shown.visible[t],
                f"{name}: {scores[name]:.0f} % of joints correct",
            )
            for name, joints in poses.items()
        ]
        images.append(Image.fromarray(np.concatenate(panels, axis=1)))
    first, *rest = images
    first.save(path, save_all=True, append_images=rest, duration=1000 // 12, loop=0, quality=60)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {scores}")
    return result.model


def figure5(path: pathlib.Path, model: ttp_jax.Model, seen: synthetic.Film) -> None:
    """Draw the paper's Figure 5 for three frames, each with another frame as its source."""
    size, frames = model.image_size, (8, 24, 40)
    affines = [geometry.crop_affine(geometry.box_to_crop(seen.boxes[t]), size) for t in frames]
    crops = [
        geometry.warp(jnp.asarray(seen.frames[t]), jnp.asarray(affine), size)
        for t, affine in zip(frames, affines, strict=True)
    ]
    joints, _ = model.predict(seen.frames[list(frames)], seen.boxes[list(frames)])
    targets = pose.normalize(jnp.stack(crops))
    variables = {"params": model.base.params, "batch_stats": model.base.batch_stats}
    output: Any = jax.jit(model.net.apply)(variables, targets, jnp.roll(targets, 1, 0))
    stride = size / output.self_heatmaps.shape[1]
    rows = [
        {
            "image": np.asarray(crops[i]).round().astype(np.uint8),
            "reconstruction": np.asarray(pose.denormalize(output.reconstruction[i]), np.uint8),
            "points": np.asarray(output.points[i]) * stride,
            "joints": geometry.transform_points(affines[i], joints[i]),
            "affinity": np.asarray(output.affinity[i]),
            "truth": geometry.transform_points(affines[i], seen.points[t]),
            "visible": seen.visible[t],
        }
        for i, t in enumerate(frames)
    ]
    # Small enough to keep the titles readable if a page is 690 pixels wide.
    visualize.save(path, visualize.figure5(rows, model.skeleton, scale=2))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def people(path: pathlib.Path, columns: int = 6) -> None:
    """Draw rendered people, with a labelled row for each preset."""
    rows = []
    font = ImageFont.load_default(size=22)
    for preset, split in PRESETS.items():
        spec = synthetic.Spec(seed=7, image_size=160, preset=preset, train_frames=1, eval_frames=1)
        films = [synthetic.film(spec, split, i, ("root",)) for i in range(columns)]
        label = Image.new("RGB", (150, 160), PAPER)
        kind = "training" if split == "train" else "test"
        text = f"{preset},\n{kind}\npeople"
        ImageDraw.Draw(label).multiline_text((10, 80), text, INK, font, anchor="lm", spacing=6)
        pictures = np.concatenate([each.frames[0] for each in films], axis=1)
        rows.append(np.concatenate([np.asarray(label), pictures], axis=1))
    Image.fromarray(np.concatenate(rows)).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


# --- Plots of the benchmark ----------------------------------------------------------------------


def table(page: str, title: str) -> list[list[str]]:
    """Return the table rows below a heading of docs/benchmark_rendered.md, without the header."""
    _, _, rest = page.partition(f"## {title}")
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def interval(cell: str) -> tuple[float, float, float]:
    """Return mean, low and high of a cell such as "+1.0 (-2.0 to +3.0)"."""
    found = [float(number) for number in re.findall(r"[+-]\d+\.\d+", cell)]
    return found[0], found[1], found[2]


def plot(path: pathlib.Path, rows: dict[str, tuple[float, float, float]], label: str) -> None:
    """Plot points with intervals, one in each row, from the top down; 0 is marked."""

    def draw(axes):
        axes.axvline(0, color="#888888", linewidth=1)
        for place, (mean, low, high) in enumerate(rows.values()):
            axes.plot((low, high), (place, place), color="#0072b2", linewidth=2)
            axes.plot(mean, place, "o", color="#0072b2")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)

    svg.save(path, (4.8, 0.7 + 0.28 * len(rows)), draw)


def plots(folder: pathlib.Path) -> None:
    """Plot the gains of the methods, and the gain over the quarters of a video."""
    page = (folder / "benchmark_rendered.md").read_text()
    names = {
        "offline, cross-subject control": "cross-subject control",
        "Feat. shared (rotation)": "rotation",
        "Feat. shared (keypoint)": "feature sharing",
        "Transformer (keypoint)": "Transformer",
    }
    gains = {
        ", ".join(names.get(cell, cell) for cell in row[:2]): interval(row[4])
        for row in table(page, "Table 1")
        if "to" in row[4]
    }
    order = sorted(gains, key=lambda name: name.partition(",")[0], reverse=True)
    label = "gain in PCK@0.2 (95 %)"
    plot(folder / "gains.svg", {name: gains[name] for name in order}, label)
    quarters = {f"frames {row[0]}": interval(row[1]) for row in table(page, "Figure 3")}
    plot(folder / "over_time.svg", quarters, label)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", choices=("plots", "people", "person"))
    options = parser.parse_args(argv)
    if options.only in (None, "plots"):
        plots(options.folder)
    if options.only in (None, "people"):
        people(options.folder / "people.png")
    if options.only not in (None, "person"):
        return 0
    seen = film()
    personal = before_after(options.folder / "before_after.webp", seen)
    figure5(options.folder / "figure5.png", personal, seen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
