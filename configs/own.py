"""Your own videos and images with a model file; `personalize my_video.mp4` uses this config.

Command:   python main.py personalize my_video.mp4   (BlazePose if it was fetched, else the
                                                       included model)
           python main.py personalize my_video.mp4 --model=my_model.npz   (written by `export`)
           python main.py personalize --config=configs/own.py:my_model.npz my_video.mp4

Network, skeleton and adaptation settings come from the model file.
"""

import pathlib

from configs import common


def get_config(model="shipped"):
    c = common.get_config()
    c.name = pathlib.PurePath(model).stem
    c.base = model
    c.data.source = "media"
    c.data.boxes = "moving"  # becomes "people" if BlazePose's networks are here
    # BlazePose's crops are large: with 2, ten seconds would take twice the memory, without a
    # benefit (docs/notes.md).
    c.data.oversample = 1.5 if model == "blazepose" else 2.0
    c.ttp.held_out = 10
    return c
