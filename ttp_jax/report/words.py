"""Settings in words, for report readers who don't know the config's fields."""

from typing import Any

import numpy as np

SCENARIOS = {
    "online": "online: frame by frame, each predicted after an update on the frames so far",
    "offline": "offline: the model adapts to all frames first, then predicts them",
    "none": "no adaptation: each frame is predicted by the model as it is",
}
TRAINS = {
    "reference": "all convolutions except the joints' decoder; not the normalisation layers",
    "paper": "encoder and self-supervised head",
    "norms": "scales and shifts of the normalisation layers",
}
METHODS = {
    "ttp": "test-time personalization by the self-supervised task",
    "bn": "batch statistics of the subject",
    "entropy": "lower entropy of the heatmaps, by the normalisation layers",
    "teacher": "mean teacher: the confident joints of an averaged model are the targets",
    "teacher+ttp": "mean teacher and the self-supervised task together",
}
COSTS = {  # keys in stored results -> words in the report
    "seconds a frame, with compiling": "seconds per frame, with compilation",
    "seconds a frame, without": "seconds per frame, without compilation",
}
BOXES = {
    "moving": "the moving region of the video",
    "people": "the person, found by a detector and followed",
    "whole": "the whole picture",
}


def scenario(name: str) -> str:
    """Describe the scenario "online", "offline", "none" or "person-NAME"."""
    if name.startswith("person-"):
        return f"the kept model of {name.removeprefix('person-')}, without further adaptation"
    return SCENARIOS.get(name, name)


def model(base: str) -> str:
    """Describe the model that adapts: "shipped", or the name of a file or training."""
    return "the included model, trained on rendered people" if base == "shipped" else base


def cost(stored: dict[str, float]) -> dict[str, float]:
    """Describe the cost of an adaptation, stored as name -> value."""
    return {COSTS.get(name, name): value for name, value in stored.items()}


def updates(ttp) -> dict[str, str]:
    """Describe how the model adapts, as name -> value.

    Args:
      ttp: `config.ttp`, or a record with its `method`, `iterations`, `batch_size`, `learning_rate`
        and `rules`.
    """
    trains = {"trainable parts": TRAINS.get(ttp.rules, str(ttp.rules))}
    return {
        "adaptation method": METHODS.get(ttp.method, str(ttp.method)),
        "updates": f"{ttp.iterations} per frame, with {ttp.batch_size} frames or pairs each",
        "learning rate": f"{ttp.learning_rate:g}",
        **(trains if ttp.method == "ttp" else {}),
    }


def boxes(
    data: Any, places: np.ndarray, picture_size: tuple[int, int], nobody: bool = False
) -> dict[str, str]:
    """Describe the boxes that were used, as name -> value.

    Args:
      data: `config.data`, or a record with its `boxes`, `fit` and `refine`.
      places: the boxes [T, 4] in picture pixels.
      picture_size: height and width.
      nobody: whether a finder looked for the person and found nobody.
    """
    where = BOXES.get(data.boxes, f"given: {data.boxes}")
    if nobody:
        where = f"{BOXES['whole']}, because no person was found"
    if data.fit:
        where += ", at the scale at which the model is most confident"
    if data.refine:
        where += f", then refined {data.refine} time(s) from the predicted joints"
    low, high = np.asarray(places, np.float64).reshape(-1, 2, 2).swapaxes(0, 1)
    width, height = np.median(high - low, axis=0)
    size = f"{width:.0f} x {height:.0f} px (median), in frames of "
    return {"box": where, "size of the box": f"{size}{picture_size[1]} x {picture_size[0]} px"}
