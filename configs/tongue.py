"""Tongues in ultrasound images, 14 points: 22 recordings for training, 5 for validation, 25 unseen
speakers for testing.

Command:   python main.py --config=configs/tongue.py            BlazePose's encoder, 128 px
           python main.py --config=configs/tongue.py:scratch    a small network from scratch, 64 px
           python main.py --config=configs/tongue.py:scratch_longer   the same, 1,000 updates more
Needs:     data/speech_dlc/Ultrasound, from the same source as the project of configs/lips.py.
Scores:    PCK at shares of the contour's length, from the vallecula along the tongue to its tip.

There are three machines, adults and children. The validation recordings cover all kinds that are in
the training recordings.
"""

from configs import lips

CONTOUR = (
    *("vallecula", "tongueRoot1", "tongueRoot2", "tongueBody1", "tongueBody2", "tongueDorsum1"),
    *("tongueDorsum2", "tongueBlade1", "tongueBlade2", "tongueTip1", "tongueTip2"),
)
VALIDATION = (
    *("ArticulateAnonymized_03", "ArticulateAnonymized_08", "TaL_1to8005", "TaL_1to8010"),
    "Ultrax_TD_002",
)


def get_config(base="pretrained"):
    c = lips.network("data/speech_dlc/Ultrasound", base, ("pretrained", "scratch"))
    c.name = "tongue" if base == "pretrained" else f"tongue_{base}"
    c.data.subject = r"^(?:UTI_Test_Set_COMBINED_ALL/)?(UTI_test_set_\d+|[^/]+)[-/]"
    c.data.test_subjects = "UTI_test_set_*"
    c.data.val_subjects = ",".join(VALIDATION)
    c.data.test_share = c.data.val_share = 0.0
    c.data.flip_pairs = ""  # the tip of the tongue is always on the same side
    c.train.flip_prob = c.ttp.flip_prob = 0.0
    c.data.unlabelled = 60 if base == "pretrained" else 400
    c.eval.scale_joints = ",".join(CONTOUR)
    c.eval.thresholds = (0.05, 0.1, 0.2)
    return c
