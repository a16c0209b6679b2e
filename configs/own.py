"""Own videos and pictures with the model of a file: what `personalize my_video.mp4` uses.

Command:   python main.py personalize my_video.mp4   (BlazePose once it was fetched, else the
                                                       model that comes with the project)
           python main.py personalize my_video.mp4 --model=my_model.npz   (one of `export`)
           python main.py personalize --config=configs/own.py:my_model.npz my_video.mp4

Network, skeleton and the settings of adaptation are those in the model's file.
"""

import pathlib

from configs import common


def get_config(model="shipped"):
    c = common.get_config()
    c.name = pathlib.PurePath(model).stem
    c.base = model
    c.data.source = "media"
    c.data.boxes = "moving"  # "people" where BlazePose's networks are here
    # BlazePose's crops are large: at 2 ten seconds would take twice the memory, and it sees no more
    # (docs/notes.md).
    c.data.oversample = 1.5 if model == "blazepose" else 2.0
    c.ttp.held_out = 10
    return c
