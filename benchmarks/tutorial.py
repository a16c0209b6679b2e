"""Make the pictures of docs/your_video.md with a rendered person, the page's commands, a browser.

    python -m benchmarks.tutorial docs

Writes docs/video_*.webp, docs/video_scores.png and docs/report.webp, and prints the output of the
commands. For the report it needs Chromium and its driver (`apt-get install chromium
chromium-driver`, `pip install selenium`). Takes about three minutes on two cores.
"""

import argparse
import contextlib
import io
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipelines import synthetic
from ttp_jax.skeletons import PENN13

SPEC = synthetic.Spec(seed=7, image_size=320, preset="plain", test=1, eval_frames=48)
SIDE, CAPTION, GAP = 300, 34, 10  # pixels of a panel, of the caption above it, between panels
PAPER, GOOD, BAD = (255, 255, 255), (0, 114, 178), (213, 94, 0)
LABELLED = (4, 16, 28, 40)  # frames that the user of the tutorial has labelled


def panel(picture: np.ndarray, caption: str, good: bool) -> np.ndarray:
    """Return a square picture below its caption, in the colour of advice or of a warning."""
    sheet = Image.new("RGB", (SIDE, SIDE + CAPTION), PAPER)
    sheet.paste(Image.fromarray(cv2.resize(picture, (SIDE, SIDE))), (0, CAPTION))
    font, color = ImageFont.load_default(size=18), GOOD if good else BAD
    ImageDraw.Draw(sheet).text((SIDE / 2, CAPTION / 2), caption, color, font, anchor="mm")
    return np.asarray(sheet)


def row(path: pathlib.Path, panels: Sequence[np.ndarray]) -> None:
    """Write panels side by side."""
    between = np.full((SIDE + CAPTION, GAP, 3), PAPER, np.uint8)
    parts = [part for each in panels for part in (between, each)][1:]
    Image.fromarray(np.concatenate(parts, axis=1)).save(path, quality=85)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def far_away(picture: np.ndarray, share: float = 0.35) -> np.ndarray:
    """Return the picture as a small part of a larger one, with rows extended by their medians."""
    size = picture.shape[0]
    inner = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    height = inner.shape[0]
    start = (size - height) // 2
    rows = np.clip(np.arange(size) - start, 0, height - 1)
    wide = np.repeat(np.median(inner, axis=1)[rows][:, None], size, axis=1)
    wide = cv2.GaussianBlur(wide, (0, 0), 3)
    # Fade the picture's edges into its surroundings.
    edge = np.minimum(np.arange(height), np.arange(height)[::-1]) / 12
    weight = np.clip(np.minimum(edge[:, None], edge[None]), 0, 1)[..., None]
    part = wide[start : start + height, start : start + height]
    part[:] = weight * inner + (1 - weight) * part
    return wide.round().astype(np.uint8)


def upper_half(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the square that shows the person down to the hips."""
    x1, y1, x2, y2 = box
    top, bottom = max(int(y1) - 15, 0), int((y1 + y2) / 2)
    left = max(int((x1 + x2 - bottom + top) / 2), 0)
    return picture[top:bottom, left : left + bottom - top]


def how_to_film(path: pathlib.Path, film: synthetic.Film) -> None:
    """Draw one good picture and two bad ones."""
    picture = film.frames[8]
    row(
        path,
        [
            panel(picture, "whole body, close enough", True),
            panel(far_away(picture), "too far away", False),
            panel(upper_half(picture, film.boxes[8]), "legs cut off", False),
        ],
    )


def which_box(path: pathlib.Path, film: synthetic.Film) -> None:
    """Draw good and bad boxes on one picture: there should be some room."""
    x1, y1, x2, y2 = film.boxes[8]
    center, half = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1]) / 2
    panels = []
    for caption, scale, good in (
        ("some room: right", 1.0, True),
        ("too tight: limbs outside", 0.55, False),
        ("too loose: add refine=2", 1.75, False),
    ):
        picture = film.frames[8].copy()
        low, high = (np.round(center + sign * scale * half).astype(int) for sign in (-1, 1))
        limit = picture.shape[0] - 4
        low, high = (np.clip(corner, 3, limit).tolist() for corner in (low, high))
        cv2.rectangle(picture, low, high, GOOD if good else BAD, 4)
        panels.append(panel(picture, caption, good))
    row(path, panels)


def personalized(folder: pathlib.Path, film: synthetic.Film) -> pathlib.Path:
    """Run the page's commands on a video of the person; return the folder of results."""
    video = folder / "my_video.mp4"
    writer = cv2.VideoWriter(
        str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, film.frames.shape[1:3]
    )
    for frame in film.frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    # The true joints of four frames, in the file format that the page shows.
    names = [joint for joint in PENN13.joints for _ in "xy"]
    rows = [["scorer", *["me"] * len(names)], ["bodyparts", *names]]
    rows.append(["coords", *["x", "y"] * PENN13.size])
    for t in LABELLED:
        seen = np.where(film.visible[t][:, None], film.points[t].round(1).astype(str), "")
        rows.append([str(t), *seen.ravel().tolist()])
    labels = folder / "my_labels.csv"
    labels.write_text("".join(f"{','.join(each)}\n" for each in rows))
    subprocess.run(
        [
            *(sys.executable, "main.py", "personalize", str(video), "--model=shipped"),
            *("--scenario=offline", f"--labels={labels}", f"--workdir={folder / 'out'}"),
            "--config.data.boxes=moving",
        ],
        check=True,
    )
    return folder / "out" / "results" / "offline"


def overlay(path: pathlib.Path, results: pathlib.Path, frames: Sequence[int]) -> None:
    """Draw frames of the overlay video."""
    video = cv2.VideoCapture(str(results / "my_video_overlay.mp4"))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1][..., ::-1])
    row(path, [panel(np.ascontiguousarray(pictures[t]), f"frame {t}", True) for t in frames])


@contextlib.contextmanager
def browser(width: int, height: int):
    """Start Chromium without a window, for a page of this size."""
    from selenium import webdriver  # imported here, because only this picture needs it

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield driver
    finally:
        driver.quit()


def screenshots(folder: pathlib.Path, report: pathlib.Path) -> None:
    """Take screenshots of the report's first screen and its table of scores."""
    with browser(1000, 900) as driver:
        driver.get(report.as_uri())
        time.sleep(1)
        shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        shot.save(folder / "report.webp", quality=85)
        tables = driver.find_elements("css selector", "table")
        scored = next(each for each in tables if "PCK" in each.text)
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", scored)
        scored.screenshot(str(folder / "video_scores.png"))
    for name in ("report.webp", "video_scores.png"):
        print(f"{folder / name}: {(folder / name).stat().st_size / 1e3:.0f} kB")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tutorial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", choices=("advice",), help="the pictures that need no model")
    options = parser.parse_args(argv)
    film = synthetic.film(SPEC, "test", 0, PENN13.joints)
    how_to_film(options.folder / "video_film.webp", film)
    which_box(options.folder / "video_boxes.webp", film)
    if options.only:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = personalized(pathlib.Path(folder), film)
        overlay(options.folder / "video_overlay.webp", results, (4, 22, 40))
        screenshots(options.folder, results / "my_video_report.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
