"""Slow, plain versions of what the library computes fast: one loop a line of the definition."""

import math


def pck(predicted, joints, visible, torso, threshold):
    """Return PCK in percent, over all visible joints of all frames.

    Joints are nested lists [T][K][2]; torso is a pair of lists of joint indices.
    """
    right = seen = 0
    for frame_predicted, frame_joints, frame_visible in zip(
        predicted, joints, visible, strict=True
    ):
        ends = []
        for group in torso:
            x = sum(frame_joints[k][0] for k in group) / len(group)
            y = sum(frame_joints[k][1] for k in group) / len(group)
            ends.append((x, y))
        length = math.dist(*ends)
        for guess, truth, shown in zip(frame_predicted, frame_joints, frame_visible, strict=True):
            if shown:
                seen += 1
                if length > 0 and math.dist(guess, truth) / length <= threshold:
                    right += 1
    return 100 * right / seen
