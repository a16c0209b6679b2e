"""The rendered benchmark: the tiny network, trained until its keypoints follow the pose.

Command:   python main.py --config=configs/rendered.py   (then personalize, then evaluate)
Takes:     two hours on a CPU core (102 to 121 minutes measured, beside a second training); you can
           stop and resume it at any time.

The order of the stages matters. The supervised task alone quickly leaves the plateau of the mean
pose. Then the renderer learns at a small lambda. Only the large lambda makes the keypoints follow
the pose (the supervised loss of these small maps is a tenth of that of the paper's maps). Nothing
was chosen on the test people of this `data.seed`.
"""

from configs import tiny, tiny_penn


def get_config():
    c = tiny.get_config()
    c.name = "rendered"
    c.data.root = "data/benchmark"
    c.data.seed = 1
    c.data.train = 4000
    c.data.val = 16
    c.data.test = 32
    c.data.eval_frames = 48
    c.train.stages = (
        (2000, 2e-3, 0.0, "constant"),
        (1000, 2e-3, 1e-3, "constant"),
        (9000, 2e-3, 1e-2, "cosine"),
    )
    c.train.log_every = 100
    # Ten times the paper's, like lambda.
    c.reproduce.rotation_lambda = 1e-3
    c.reproduce.lengths = (4, 8, 16, 24)
    # From synthetic to real people: a folder in Penn Action's layout.
    c.transfer = tiny_penn.get_config().data
    c.transfer.about = "one real man, two cameras (Pose2Sim's recording in Penn Action's layout)"
    c.transfer.people = ("0002", "0003")
    c.transfer.fit = True  # chosen on video 0001, which isn't one of these two
    return c
