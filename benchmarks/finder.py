"""How well people are found: `python -m benchmarks.finder FOLDER_OR_VIDEO ...`.

Lists the people found in each video, and seconds. For a folder in Penn Action's layout, which has
labels, also prints the overlap (intersection over union) of the found boxes with the labels' boxes,
mean and minimum over frames, and the share of the labelled joints inside the network's crop.
`--turn=90` turns the pictures first. `--draw=DIR` writes some frames with boxes, regions and
joints. Needs `python main.py fetch blazepose`.
"""

import argparse
import dataclasses
import pathlib
import time

import cv2
import numpy as np

from data_pipelines import media, penn
from data_pipelines.clips import Clip
from data_pipelines.people import detections, landmarks, tracks
from ttp_jax import detector, geometry
from ttp_jax.runs import finding, process
from ttp_jax.runs.drawing import draw_pose
from ttp_jax.skeletons import BLAZEPOSE33

DRAWN, PIXELS = 6, 800  # number of frames to draw of a clip, and their longer side
COLOURS = ((255, 140, 0), (0, 200, 255), (120, 255, 80), (255, 80, 200))


def main() -> None:
    """Print a line for each clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--videos", default="", help="names of a folder's videos, with commas")
    parser.add_argument("--turn", type=int, default=0, help="degrees: 0, 90, 180 or 270")
    parser.add_argument("--draw", default="", help="folder for pictures")
    options = parser.parse_args()
    process.use_compilation_cache()
    names = options.videos.split(",") if options.videos else None
    for given in options.inputs:
        labelled = pathlib.Path(given, "labels").is_dir()
        for clip in penn.clips(given) if labelled else media.clips(given):
            if names is None or clip.name in names:
                measure(turned(clip, options.turn // 90), options.draw)


def turned(clip: Clip, quarters: int) -> Clip:
    """Return the clip with its pictures, boxes and joints turned clockwise."""
    for _ in range(quarters % 4):
        clip = _quarter(clip)
    return clip


def _quarter(clip: Clip) -> Clip:
    read, height = clip.read, clip.largest[0]

    def there(points):
        return np.stack([height - 1 - points[..., 1], points[..., 0]], -1)

    corners = there(clip.boxes.reshape(-1, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], -1).astype(np.float32)
    joints = None if clip.joints is None else there(clip.joints)
    sizes = None if clip.sizes is None else clip.sizes[:, ::-1]
    return dataclasses.replace(
        clip,
        read=lambda index: np.ascontiguousarray(np.rot90(read(index), -1)),
        boxes=boxes,
        joints=joints,
        sizes=sizes,
    )


def measure(clip: Clip, folder: str) -> None:
    """Find the people of a clip, print scores, and draw some frames."""
    began = time.perf_counter(), time.process_time()
    looks, people = finding.followed(clip)
    wall, cpu = np.subtract((time.perf_counter(), time.process_time()), began)
    cost = f"{wall:.1f} s, {cpu:.1f} of the CPU, {len(looks)} looks at {clip.num_frames} frames"
    print(f"{clip.name}: {len(people)} people, {cost}")
    for number, track in enumerate(people, 1):
        x, y = track.place
        about = f"hips at {x:.0f},{y:.0f}, region {track.side:.0f} px"
        turn = np.median(np.abs(track.angles))
        print(f"  {number}: {about}, turned by {turn:.0f}, {len(track.looks)} looks")
    places = [tracks.places_of(track, looks, clip.num_frames) for track in people]
    if places and clip.joints is not None:
        chosen = people.index(tracks.choose(people, "largest", clip.name))
        print(f"  {scores(clip, places[chosen])}")
    if folder:
        draw(clip, places, pathlib.Path(folder))


def scores(clip: Clip, places: geometry.Places) -> str:
    """Compare the found boxes with the labels; return the scores as text."""
    pairs = zip(places.boxes, clip.boxes, strict=True)
    overlap = np.array([detections.overlaps(ours, theirs[None])[0] for ours, theirs in pairs])
    there = places.there
    affine = geometry.crop_affine(places.crops.astype(np.float64), 1)
    inside = geometry.transform_points(affine, clip.joints)
    within = ((inside > 0) & (inside < 1)).all(-1)[clip.visible & there[:, None]].mean()
    return (
        f"found in {there.mean():.0%} of the frames; overlap with the labels' box: mean "
        f"{overlap[there].mean():.2f}, minimum {overlap[there].min():.2f}; {within:.1%} of the "
        "joints inside the region"
    )


def draw(clip: Clip, places: list[geometry.Places], folder: pathlib.Path) -> None:
    """Write some frames with the boxes, regions and joints found in them."""
    folder.mkdir(parents=True, exist_ok=True)
    look = detector.load_landmarks()
    for t in np.linspace(0, clip.num_frames - 1, min(DRAWN, clip.num_frames)).astype(int):
        picture = clip.read(t).copy()
        thick = max(1, round(max(picture.shape) / 500))
        plain = picture.copy()
        for colour, each in zip(COLOURS, places, strict=False):
            if not each.there[t]:
                continue
            low, high = each.boxes[t].round().astype(int).reshape(2, 2).tolist()
            cv2.rectangle(picture, low, high, colour, thick)
            back = geometry.invert_affine(geometry.crop_affine(each.crops[t].astype(float), 1))
            square = geometry.transform_points(back, np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]))
            cv2.polylines(picture, [square.round().astype(int)], True, colour, thick)
            crop = each.crops[t].astype(float)
            region = np.array([*(crop[:2] - crop[2] / 2), *(crop[:2] + crop[2] / 2)])
            seen, affine = landmarks.cut(plain, region, crop[3])
            points, confidence, _ = look(seen[None])
            points = geometry.transform_points(geometry.invert_affine(affine), points[0])
            joints = points[: BLAZEPOSE33.size]
            sure = {"confidence": confidence[0, : BLAZEPOSE33.size], "pcutoff": 0.3}
            draw_pose(picture, joints, BLAZEPOSE33, "after", thick + 1, **sure)
        zoom = min(1.0, PIXELS / max(picture.shape))
        picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{clip.name}_{t:04}.png"), picture[..., ::-1])


if __name__ == "__main__":
    main()
