"""Speakers' lips, 8 points: 24 speakers for training, 4 for validation, 10 unseen ones for testing.

Command:   python main.py --config=configs/lips.py            BlazePose's encoder, 128 px
           python main.py --config=configs/lips.py:scratch    a small network from scratch, 64 px
           python main.py --config=configs/lips.py:second_split   the same, other speakers held out
           :scratch_longer and :second_split_longer train 1,000 updates more, at a smaller lambda:
           the better training (docs/benchmark.md)
Needs:     data/speech_dlc/Lips, a DeepLabCut project of Wrench and Balch-Tomes ("Beyond the edge:
           markerless pose estimation of speech articulators from ultrasound and camera images",
           Sensors 2022; its corpus TaL is CC BY-NC 4.0).
Scores:    PCK at shares of the mouth's width, from corner to corner.

Folders with TESTSET in their names show test speakers; nothing is trained on them or their videos.
The scratch schedule is a shortened version of that in configs/rendered.py.
"""

from configs import project, tiny

VALIDATION = ("006_xaud", "047_aud", "052_aud", "082_aud")
# Videos of the corpus that show test speakers, found by comparing images; 25fs and 33me have none.
OWN_VIDEOS = (
    *(("07me", "016_xaud"), ("07me", "043_sil"), ("12me", "008_xaud"), ("17ms", "094_aud")),
    *(("18fo", "179_aud"), ("18fo", "163_aud"), ("20fs", "061_aud"), ("51fe", "104_aud")),
    *(("51fe", "159_aud"), ("59fe", "130_aud"), ("63me", "070_aud")),
)
# Every third of the 24 training speakers.
SECOND_SPLIT = "005_xaud,042_sil,050_aud,054_aud,058_aud,063_aud,073_aud,080_aud"


def get_config(base="pretrained"):
    c = network("data/speech_dlc/Lips", base, ("pretrained", "scratch", "second_split"))
    c.name = "lips" if base == "pretrained" else f"lips_{base}"
    # In the folder of test frames, file names begin with the speaker: "07me-img055.png".
    c.data.subject = r"^(?:LipTest_COMBINED_TEST/)?([^/]+?)(?:-img|/)"
    c.data.exclude = "*TESTSET*,TaL_lips_training,File162"
    c.data.test_subjects = "??me,??ms,??fs,??fe,??fo"
    c.data.val_subjects = ",".join(VALIDATION)
    c.data.test_share = c.data.val_share = 0.0
    c.data.unlabelled = 60 if base == "pretrained" else 400
    c.data.labelled_share = 0.75 if base == "pretrained" else 0.5
    c.data.own_videos = ",".join(f"{who}=videos/{name}.avi" for who, name in OWN_VIDEOS)
    c.eval.scale_joints = "leftLip,rightLip"
    c.eval.opening = "topmidinner,bottommidinner"
    c.eval.thresholds = (0.05, 0.1, 0.2)  # gains were expected at 0.05
    if base.startswith("second_split"):
        c.data.exclude += ",LipTest*"
        c.data.test_subjects, c.data.val_subjects = SECOND_SPLIT, ""
        c.data.own_videos = ""  # those above show speakers that are left out here
        c.data.extra = 40  # they have 7 or 8 labelled frames each
    return c


def network(root, base, bases):
    """Return the config of a labelled project with one of two networks.

    "pretrained" has BlazePose's encoder, the others a small network. With "_longer" at the end, the
    small one is trained for 1,000 more updates at a lambda that leaves more to the supervised task.
    """
    small = tuple(each for each in bases if each != "pretrained")
    bases = (*bases, *(f"{each}_longer" for each in small))
    if base not in bases:
        raise ValueError(f":{base} of the config: expected one of :{', :'.join(bases)}.")
    if base == "pretrained":
        return project.get_config(root)
    c = from_scratch(root)
    if base.endswith("_longer"):
        c.train.stages += ((1000, 1e-3, 1e-3, "cosine"),)
        c.reproduce.methods = ("transformer", "baseline")
    return c


def from_scratch(root):
    """Return the config of a labelled project with the small network of the rendered people."""
    c = tiny.get_config()
    for field in ("seed", "preset", "image_size", "train", "val", "test"):
        del c.data[field]  # fields for rendered people only
    del c.data["train_frames"], c.data["eval_frames"]
    c.data.root, c.data.source, c.data.skeleton = root, "project", ""
    c.data.oversample = 2.0
    c.data.zoom = 0.0
    c.model.decode = "parabola"
    c.train.stages = (
        (1000, 2e-3, 0.0, "constant"),
        (500, 2e-3, 1e-3, "constant"),
        (2500, 2e-3, 1e-2, "cosine"),
    )
    c.train.rotation = 15.0
    c.train.scale = 0.15
    c.train.photometric = 0.3
    c.train.checkpoint_every = 250
    c.ttp.iterations = 4  # chosen on the validation speakers of lips, like the learning rate
    c.ttp.rotation = 15.0
    c.ttp.scale = 0.15
    c.reproduce.rotation_lambda = 1e-3  # ten times the paper's, like lambda
    c.reproduce.lengths = (4, 8, 16)
    c.reproduce.extra = (40,)
    return c
