"""Slow reference versions of fast functions: one plain loop per line of the definition."""

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


def soft_argmax(rows):
    """Expected (x, y) of one map, nested lists [h][w]: softmax of column and of row sums."""

    def mean_index(logits):
        weights = [math.exp(v - max(logits)) for v in logits]
        return sum(i * w for i, w in enumerate(weights)) / sum(weights)

    columns = [sum(row[x] for row in rows) for x in range(len(rows[0]))]
    return mean_index(columns), mean_index([sum(row) for row in rows])


def decode(rows):
    """Peak of one map, nested lists [h][w]: ((x, y), height), by the published program's rule."""
    height, width = len(rows), len(rows[0])
    peak, x, y = rows[0][0], 0, 0
    for j in range(height):
        for i in range(width):
            if rows[j][i] > peak:
                peak, x, y = rows[j][i], i, j
    if peak <= 0:
        return (0.0, 0.0), peak
    if not (1 < x < width - 1 and 1 < y < height - 1):
        return (float(x), float(y)), peak

    def sign(value):
        return (value > 0) - (value < 0)

    right_left = sign(rows[y][x + 1] - rows[y][x - 1])
    below_above = sign(rows[y + 1][x] - rows[y - 1][x])
    return (x + 0.25 * right_left, y + 0.25 * below_above), peak


def joints_mse(maps, truth, weights):
    """Half the mean squared error over examples, joints, places; nested lists [B][h][w][K]."""
    total = count = 0
    for b, example in enumerate(maps):
        for j, row in enumerate(example):
            for i, place in enumerate(row):
                for k, value in enumerate(place):
                    total += (weights[b][k] * (value - truth[b][j][i][k])) ** 2
                    count += 1
    return 0.5 * total / count


def normalised_sum(errors, means, momentum=0.01):
    """Sum of errors over their running means, which take the new errors first; and the means."""
    total, new = 0.0, []
    for error, mean in zip(errors, means, strict=True):
        mean = mean + momentum * (error - mean)
        total += error / mean
        new.append(mean)
    return total, new
