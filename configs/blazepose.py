"""BlazePose as MediaPipe trained it: 33 joints of real people, heatmaps of 64 x 64 logits.

Command:   python main.py fetch blazepose   (once; 35 MB)
           python main.py personalize my_video.mp4
`fetch` uses this config to write the weights into the file that `--model=blazepose` reads. The
network's own last convolution is the supervised head, so the method is the baseline. To start a
network for other joints from its encoder, set config.model.encoder and config.model.init to
"blazepose".
"""

from configs import common


def get_config():
    c = common.get_config()
    c.name = "blazepose"
    c.base = "blazepose"
    c.data.skeleton = "blazepose33"
    c.data.oversample = 2.0
    c.model.method = "baseline"
    c.model.encoder = "blazepose"
    c.model.init = "blazepose"
    c.model.image_size = 256
    c.model.decode = "centroid"
    c.model.half_pixel = True
    # There is no self-supervised task. The teacher helps people on whom the model is unsure, and
    # costs precision on others (docs/blazepose.md), so nothing adapts unless you ask for it.
    c.ttp.method = "none"
    # For --method=teacher, because updates on 32 frames take seconds on a CPU core.
    c.ttp.batch_size = 4
    c.ttp.learning_rate = 3e-5
    return c
