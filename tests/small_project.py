"""A synthetic DeepLabCut project: each subject has a colour, and its joints are moving dots."""

import pathlib

import cv2
import numpy as np

JOINTS = ("left_ear", "right_ear", "nose", "tail")
COLORS = ((230, 60, 60), (60, 230, 60), (60, 60, 230), (230, 230, 60))
SIZE = (48, 64)  # height, width


def joints_at(subject: int, frame: int) -> np.ndarray:
    """Where the joints [4, 2] are."""
    angle = 0.21 * frame + subject
    centre = np.array([32.0, 24.0]) + 4 * np.array([np.cos(angle), np.sin(angle)])
    return centre + np.array([[-9.0, -6.0], [9.0, -6.0], [0.0, -2.0], [0.0, 9.0]])


def picture(subject: int, frame: int) -> np.ndarray:
    """Frame of a subject's video, RGB uint8."""
    seen = np.full((*SIZE, 3), 40 + 12 * subject, np.uint8)
    for (x, y), color in zip(joints_at(subject, frame), COLORS, strict=True):
        cv2.circle(seen, (round(x), round(y)), 3, color, -1)
    return seen


def write(root: pathlib.Path, subjects: int = 6, frames: int = 30, every: int = 6) -> pathlib.Path:
    """Write the project: videos whole, every `every`th frame labelled by "lab"."""
    (root / "videos").mkdir(parents=True)
    for subject in range(subjects):
        name = f"mouse{subject}"
        folder = root / "labeled-data" / name
        folder.mkdir(parents=True)
        codec = cv2.VideoWriter.fourcc(*"MJPG")
        video = cv2.VideoWriter(str(root / "videos" / f"{name}.avi"), codec, 25, SIZE[::-1])
        rows = [
            ",".join(["scorer", *["lab"] * 8]),
            ",".join(["bodyparts", *(j for joint in JOINTS for j in (joint, joint))]),
            ",".join(["coords", *["x", "y"] * 4]),
        ]
        for frame in range(frames):
            seen = picture(subject, frame)
            video.write(np.ascontiguousarray(seen[..., ::-1]))
            if frame % every == 0:
                file = f"img{frame:03}.png"
                cv2.imwrite(str(folder / file), seen[..., ::-1])
                places = (f"{value:.3f}" for value in joints_at(subject, frame).ravel())
                rows.append(",".join([f"labeled-data/{name}/{file}", *places]))
        video.release()
        (folder / "CollectedData_lab.csv").write_text("\n".join([*rows, ""]))
    return root
