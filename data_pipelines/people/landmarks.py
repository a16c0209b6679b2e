"""Joints of detected people, and tracking: a frame's joints give the regions of the next frame.

It follows MediaPipe's graphs `pose_landmark_by_roi_cpu` and `pose_landmarks_to_roi` (Apache-2.0).
The landmark network tells whether there is a person in a region, and where the joints are. Two of
its points give the region in the next frame, so the detector only runs now and then, to find
newcomers, and when a person is lost.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np

from data_pipelines import locate
from data_pipelines.people import detections
from data_pipelines.people.detections import NOBODY, People
from ttp_jax import geometry
from ttp_jax.skeletons import BLAZEPOSE33

SIZE = 256  # pixels of the network's input
CENTRE, AROUND = 33, 34  # the middle of the hips, and a point on the circle around the body
TORSO, THIGHS = [11, 12, 23, 24], [23, 24, 25, 26]  # between shoulders, hips and knees
EARS = [7, 8]  # their middle is Penn Action's head
BODY = slice(11, BLAZEPOSE33.size)  # without the face, whose joints are close together
LIMBS = [*range(11, 17), *range(23, 29)]  # the joints from shoulders to ankles
LEAST_PRESENCE = 0.5
LEAST_CONFIDENCE = 0.3  # smallest confidence of a joint that a box encloses
EVERY = 3  # run the detector on every third picture, and when somebody is lost
CLOSELY = 6  # search for small people in every sixth picture while nobody is followed
ALIKE = 0.6  # a detection with at least this overlap is of somebody who is already followed
SAME = 0.1  # results whose joints are at most this far apart on average (in sides) are one person
HIPS, COMMON = 0.15, 0.4  # as are results with hips this close and boxes overlapping this much

# Crops uint8 [n, 256, 256, 3] -> points [n, 39, 2] in their pixels, confidence, presence [n].
Look = Callable[[np.ndarray], tuple[Any, Any, Any]]


def follow(
    see: detections.See, look: Look, pictures: Iterable[np.ndarray | None]
) -> Iterator[People]:
    """Yield the people in each picture of a video.

    Args:
      see: the detector.
      look: the landmark network.
      pictures: uint8 RGB [H, W, 3] in order of time, a few a second; None for an unreadable one.
    """
    before = NOBODY
    for number, picture in enumerate(pictures):
        if picture is None:
            yield NOBODY
            continue
        due = number % EVERY == 0 or not len(before)
        now = NOBODY if due else found(look, picture, before)
        if due or len(now) < len(before):
            detected = detections.search(see, picture)
            if not len(before) and not len(detected) and number % CLOSELY == 0:
                detected = detections.search(see, picture, closely=True)
            now = found(look, picture, detections.joined(before, _not_among(before, detected)))
        yield now
        before = now


def found(look: Look, picture: np.ndarray, people: People) -> People:
    """Return the people whom the landmark network finds in these regions, each only once.

    It runs on each region both turned with the body and upright. The more confident result counts.
    """
    count = len(people)
    if not count:
        return NOBODY
    angles = np.concatenate([people.angles, np.zeros(count)])
    pairs = zip(np.tile(people.regions, (2, 1)), angles, strict=True)
    crops, affines = (
        np.stack(part) for part in zip(*(cut(picture, *p) for p in pairs), strict=True)
    )
    inside, *seen = (np.asarray(part, np.float64) for part in look(crops))
    both = geometry.transform_points(geometry.invert_affine(affines), inside)
    surest = seen[0][:, BODY].mean(1).reshape(2, count)
    best = np.arange(count) + count * surest.argmax(0)
    points, confidence, presence = (part[best] for part in (both, *seen))
    colours = np.array([_colours(*pair) for pair in zip(crops[best], inside[best], strict=True)])
    there = np.flatnonzero(presence >= LEAST_PRESENCE)
    sure = confidence[:, : BLAZEPOSE33.size].mean(1)
    kept: list[int] = []
    for i in there[np.argsort(-sure[there], kind="stable")]:
        if not any(_is_same(points[i], points[j]) for j in kept):
            kept.append(i)
    points, confidence = points[kept], confidence[kept]
    regions, angles = region_of(points[:, CENTRE], points[:, AROUND])
    boxes = _boxes(points, confidence, regions)
    poses = both[:, BODY].reshape(2, count, -1, 2).swapaxes(0, 1)[kept]
    fields = presence[kept], boxes, colours[kept], poses, surest.T[kept]
    return People(regions, angles, points[:, CENTRE], *fields)


def region_of(centre: np.ndarray, around: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return regions [n, 4] and angles [n] from the hips and a point around the body [n, 2]."""
    away = around - centre
    half = detections.ROOM * np.linalg.norm(away, axis=-1)[:, None]
    angles = np.degrees(np.arctan2(away[:, 0], -away[:, 1]))
    return np.concatenate([centre - half, centre + half], -1), angles


def cut(picture: np.ndarray, region: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a turned region out of a picture; return the network's input, and the affine [2, 3]."""
    side = region[2] - region[0]
    crop = np.array([*(region[:2] + region[2:]) / 2, side, angle])
    affine = geometry.crop_affine(crop, SIZE)
    zoom = SIZE / side
    to_small = affine
    if zoom < 1:  # average the pixels that each new pixel covers, only around the region
        height, width = picture.shape[:2]
        low = np.floor(crop[:2] - 0.75 * side).clip(0, (width - 1, height - 1)).astype(int)
        high = np.ceil(crop[:2] + 0.75 * side).clip(low + 1, (width, height)).astype(int)
        picture = picture[low[1] : high[1], low[0] : high[0]]
        picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        to_small = geometry.window_affine(affine, np.array([zoom, *low * zoom]))
    return cv2.warpAffine(picture, to_small, (SIZE, SIZE)), affine


def _not_among(people: People, detected: People) -> People:
    """Return the detections of people who are not being followed yet."""
    new = [
        i
        for i, region in enumerate(detected.regions)
        if not len(people) or detections.overlaps(region, people.regions).max() < ALIKE
    ]
    return detections.some(detected, new)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two results, points [39, 2], are of the same person."""
    side = 2 * detections.ROOM * max(float(np.linalg.norm(one[AROUND] - one[CENTRE])), 1e-9)
    away = np.linalg.norm(one - other, axis=-1) / side
    boxes = [np.concatenate([own[BODY].min(0), own[BODY].max(0)]) for own in (one, other)]
    common = detections.overlaps(boxes[0], boxes[1][None])[0]
    return bool(away[BODY].mean() < SAME or (away[CENTRE] < HIPS and common > COMMON))


def _colours(crop: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the median RGB of torso and thighs [6]."""
    found = []
    for corners in (TORSO, THIGHS):
        mask = np.zeros(crop.shape[:2], np.uint8)
        around = cv2.convexHull(points[corners].round().astype(np.int32))
        cv2.fillConvexPoly(mask, around, 1)
        inside = crop[mask > 0]
        found.append(np.median(inside, 0) if len(inside) else np.full(3, np.nan))
    return np.concatenate(found)


def _boxes(points: np.ndarray, confidence: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return boxes [n, 4] like Penn Action's: around the joints, with a margin at each side.

    If less than half of the joints are known, the box comes from the region, see `body_boxes`.
    """
    joints = np.where(confidence[..., None] < LEAST_CONFIDENCE, np.nan, points)
    joints = np.concatenate([joints[:, EARS].mean(1, keepdims=True), joints[:, LIMBS]], 1)
    boxes = detections.body_boxes(regions)
    for i, own in enumerate(joints):
        known = own[np.isfinite(own).all(-1)]
        if 2 * len(known) >= len(own):
            low, high = known.min(0), known.max(0)
            room = locate.MARGIN * (high - low)
            boxes[i] = [*(low - room), *(high + room)]
    return boxes
