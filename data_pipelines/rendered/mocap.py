"""Turn DeepMimic's motion-capture clips into the joint angles of the rendered people.

    python -m data_pipelines.rendered.mocap DIR    # DIR/humanoid3d_*.txt -> motions.npz

The resulting file is part of the project (motions_LICENSE.txt has its terms); this module documents
where it came from. A row of DeepMimic holds dt, the root's position and the rotations of 13 joints:
quaternions (w, x, y, z), or one angle for knees and elbows. Its axes are x to the front, y up, z to
the person's right; ours are in `motions`.
"""

import pathlib
import sys

import numpy as np
from scipy.spatial.transform import Rotation

from data_pipelines.rendered.motions import (
    ANGLES,
    MOTION_STEP,
    MOTIONS_FILE,
    MOTIONS_PER_SECOND,
)
from ttp_jax.files import parse_json

# From their axes to ours: left = -right, up, front.
_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
# Columns of a row.
_ROOT, _CHEST, _NECK = 4, 8, 12
_LEGS = {"right": (16, 20), "left": (30, 34)}  # hip, knee; the ankles that follow are not used
_ARMS = {"right": (25, 29), "left": (39, 43)}  # shoulder, elbow


def angles_of(rows: np.ndarray) -> np.ndarray:
    """Convert rows [T, 44] of DeepMimic to `ANGLES` and the yaw, radians [T, 24]."""

    def turn(column):
        wxyz = rows[:, column : column + 4]
        matrix = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).as_matrix()
        return Rotation.from_matrix(_AXES @ matrix @ _AXES.T)

    found = {}
    found["yaw"], found["roll"], found["lean"] = turn(_ROOT).as_euler("YZX").T
    found["twist"], found["side"], found["bend"] = turn(_CHEST).as_euler("YZX").T
    found["neck_yaw"], found["neck_pitch"], _ = turn(_NECK).as_euler("YXZ").T
    upright = Rotation.from_euler("X", found["lean"][:, None])  # our legs don't lean with the hips
    for side, out in (("left", 1), ("right", -1)):
        ball, hinge = _LEGS[side]
        abduct, flex, twist = (upright * turn(ball)).as_euler("ZXY").T
        found[f"{side}_hip_abduct"], found[f"{side}_hip_flex"] = out * abduct, -flex
        found[f"{side}_hip_twist"], found[f"{side}_knee"] = out * twist, -rows[:, hinge]
        ball, hinge = _ARMS[side]
        abduct, flex, twist = turn(ball).as_euler("ZXY").T
        found[f"{side}_shoulder_abduct"], found[f"{side}_shoulder_flex"] = out * abduct, -flex
        found[f"{side}_shoulder_twist"], found[f"{side}_elbow"] = -out * twist, rows[:, hinge]
    return np.stack([found[name] for name in (*ANGLES, "yaw")], -1)


def read_clip(path: pathlib.Path) -> np.ndarray:
    """Read one clip as rows [T, 44] at `MOTIONS_PER_SECOND`, each the nearest captured one."""
    rows = np.array(parse_json(path.read_text(), path, {"Frames": [[float]]})["Frames"])
    times = np.concatenate([[0.0], np.cumsum(rows[:-1, 0])])
    wanted = np.arange(0, times[-1], 1 / MOTIONS_PER_SECOND)
    return rows[np.abs(times - wanted[:, None]).argmin(1)]


def main() -> None:
    """Convert the clips of a folder."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    paths = sorted(pathlib.Path(sys.argv[1]).expanduser().glob("humanoid3d_*.txt"))
    if not paths:
        sys.exit(f"{sys.argv[1]} holds no humanoid3d_*.txt.")
    clips = {}
    for path in paths:
        angles = np.round(angles_of(read_clip(path)) / MOTION_STEP).astype(np.int16)
        clips[path.stem.removeprefix("humanoid3d_")] = angles
    np.savez_compressed(MOTIONS_FILE, **clips)
    seconds = sum(map(len, clips.values())) / MOTIONS_PER_SECOND
    print(f"wrote {MOTIONS_FILE}: {len(clips)} clips, {seconds:.0f} s: {', '.join(clips)}")


if __name__ == "__main__":
    main()
