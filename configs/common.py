"""Defaults of every experiment: the paper's settings that all its data sets share (section 4.2).

Not an experiment itself. Lists are tuples, because network and settings must be hashable.
"""

from typing import Any

import ml_collections


def get_config() -> Any:
    """Return the defaults; data set, joints, depth, weights and schedule are each config's own."""
    c: Any = ml_collections.ConfigDict()
    c.name = ""
    c.seed = 0
    # A model's file, written by `export`, instead of the workdir's training; "shipped" is the one
    # that comes with the project.
    c.base = ""
    # The joints, as `Skeleton.to_json` has them, where no key of SKELETONS names them: those of a
    # labelled project, which fills this in. Empty: `data.skeleton`.
    c.skeleton = ml_collections.ConfigDict()

    c.data = ml_collections.ConfigDict()
    c.data.source = (
        ""  # reader: "penn", "h36m", "bbc_pose", "synthetic"; "media": your own; "project"
    )
    # Folder of the data set; for "media" a video, a folder or a pattern; for "project" the folder
    # or file of a labelled project (DeepLabCut, SLEAP, Lightning Pose, COCO).
    c.data.root = ""
    # Folder of TensorFlow datasets built from that source (data_pipelines/builders.py): read these.
    c.data.tfds = ""
    c.data.skeleton = ""  # key of ttp_jax.skeletons.SKELETONS
    # "media" and "project": "whole" frame or a region "x1,y1,x2,y2". "media": a file of boxes, or a
    # finder, "moving" or "people" (data_pipelines/locate.py). "project": "labels", around the
    # labelled joints, or "annotated".
    c.data.boxes = "whole"
    # Boxes' sides are divided by it. "project": 0 takes as much of the picture as all labels of the
    # training subjects need; whole pictures have a black margin at 1.
    # "people" only: who of several: "largest", "left", "right", a number from the left, or "x,y".
    c.data.person = "largest"
    # "media" only: all videos and folders are recordings of this one subject; "": one each.
    c.data.same_subject = ""
    c.data.zoom = 1.0
    # "bbc_pose" and "project": unlabelled frames to add to each test person (Figure 4).
    c.data.extra = 0
    c.data.refine = 0  # rounds of predicting and taking the box of what was predicted
    c.data.fit = False  # of several sizes of the boxes take the one whose joints are likeliest
    # Test time: shrink a subject's frames until crops have this many times the network's pixels,
    # and keep windows of `context` crop sides. 0 keeps whole pictures in their original pixels, as
    # the published program does; --inputs makes it 2, since a phone's pictures are far larger.
    c.data.oversample = 0.0
    c.data.context = 2.0
    c.data.frames = ""  # "media" only: "100-199", counted from 0, last included; "" for all
    c.data.every = 1  # "media" only: of these every nth
    # Share of the training subjects held out for validation, where the source has no such split.
    c.data.validation = 0.0
    # "project" only: what is read of it (`data_pipelines.projects.Options`), and who is held out.
    c.data.subject = ""  # regular expression on "folder/file", whose first group is the subject
    c.data.exclude = ""  # patterns of subjects, folders or videos: "*TESTSET*,File162"
    c.data.individuals = ""  # names with commas; all if empty
    c.data.scorer = ""
    c.data.view = ""
    c.data.category = ""
    c.data.flip_pairs = "names"  # by left and right in them, or "leftLip:rightLip,a:b", or ""
    c.data.hidden = False  # count joints that are labelled as hidden
    c.data.predictions = False  # SLEAP: take predictions for labels where the user made none
    c.data.margin = 0.3  # of boxes around labels, as a share of their longer side
    c.data.media = ""  # folder of pictures or videos that aren't where the labels say
    c.data.test_subjects = ""  # patterns of subjects; else a share of them, drawn by the seed
    c.data.val_subjects = ""
    c.data.test_share = 0.0
    c.data.val_share = 0.0
    c.data.labels = ""  # fingerprint of the labels, filled in
    c.data.folds = 0  # above 0: subjects are split so often, each being a test subject once
    c.data.fold = 0  # which of them, counted from 0
    # Unlabelled frames of each training subject, spread over its videos, for the self-supervised
    # task, and the share of labelled frames among the targets of training.
    c.data.unlabelled = 0
    c.data.labelled_share = 0.5
    c.data.workers = 0  # batches built at the same time; 0: one a CPU core

    c.model = ml_collections.ConfigDict()
    c.model.method = "transformer"  # or "shared", "rotation", "baseline"
    # What the encoder starts from: a torchvision ResNet file, a model's file of the same encoder
    # (.npz), "blazepose" as `fetch` got it, or "random".
    c.model.init = ""
    c.model.image_size = 128
    c.model.color_order = "rgb"  # "bgr" only for the released checkpoints
    c.model.encoder = "resnet"  # or "blazepose", whose sizes are fixed (ttp_jax/models/encoders)
    c.model.depth = 18
    c.model.width = 64
    c.model.feature_dim = 256
    c.model.upsamplings = 3
    c.model.last_stride = 2
    c.model.num_maps = 30
    c.model.sigma = 2.0
    c.model.logit_scale = 1.0  # above 1 for heatmaps smaller than 32 x 32
    c.model.heads = 4
    c.model.ffn_dim = 1024
    c.model.decoder_layers = 1
    c.model.dropout = 0.1
    c.model.appearance_widths = (32, 64, 128, 256)
    c.model.keypoint_widths = (32, 64, 128, 256)
    c.model.code_kernel = 7
    # Or "parabola": finer, not the paper's; or "centroid", for maps of logits, as BlazePose's.
    c.model.decode = "quarter"
    # Whether a map's cell stands for the middle of the pixels that it covers, or for the first.
    c.model.half_pixel = False

    c.loss = ml_collections.ConfigDict()
    c.loss.features = "hed"  # or a torchvision vgg16-*.pth, or a Keras VGG16 .h5
    c.loss.levels = 5  # relu levels beside the picture itself
    # Of the named joints: "mse" of Gaussian heatmaps, as in the paper, or "cross_entropy" of each
    # map's softmax over places.
    c.loss.supervised = "mse"
    c.loss.temperature = 0.1  # "cross_entropy": what maps are divided by before the softmax
    # Weight of rotation equivariance of the self-supervised maps beside the reconstruction.
    c.loss.equivariance = 0.0
    # Share of the source's blocks of 16 x 16 pixels that the appearance encoder doesn't see, in
    # training and at test time, so that copying the source can't pay.
    c.loss.source_masking = 0.0

    c.train = ml_collections.ConfigDict()
    c.train.batch_size = 32
    # (updates, learning rate, lambda, "constant" or "cosine"), one after the other.
    c.train.stages = ()
    c.train.precision = "float32"  # or "bfloat16"
    # Parts a batch is cut into, for the memory's sake. Batch statistics are then of a part, and
    # running means and loss normalisers move once a part.
    c.train.accumulate = 1
    c.train.remat = False  # compute activations twice: less memory on accelerators, more time
    c.train.frames_per_epoch = 0  # 0: all frames
    c.train.rotation = 30.0
    c.train.rotation_prob = 0.6
    c.train.scale = 0.25
    c.train.flip_prob = 0.5
    # Strength of changes of brightness, contrast, colours, sharpness, noise, ...; 1 is a good one.
    c.train.photometric = 0.0
    c.train.weight_decay = 0.0  # above 0: AdamW
    # Use the checkpoint of the last stage that scored best on validation subjects, not the last
    # one; with `patience` above 0 stop after so many checkpoints that are no better.
    c.train.best = False
    c.train.patience = 0
    c.train.log_every = 100
    c.train.checkpoint_every = 5000
    c.train.keep = 3  # checkpoints

    c.ttp = ml_collections.ConfigDict()
    # "ttp", or "bn", "entropy", "teacher" (docs/method.md, Adaptation methods), "none".
    c.ttp.method = "ttp"
    c.ttp.bn_weight = 0.5  # "bn", "entropy": share of the subject's batch statistics, 0 to 1
    c.ttp.confidence = 0.3  # "entropy", "teacher": joints of lower heatmap peaks don't count
    c.ttp.teacher_decay = 0.97  # "teacher": share of the averaged model kept at an update
    c.ttp.iterations = 1  # updates per frame
    c.ttp.batch_size = 32
    c.ttp.learning_rate = 1e-4
    c.ttp.rules = "reference"  # "ttp": what trains: "reference", "paper" or "norms"
    c.ttp.reset = "subject"  # "subject", "never", or a number of frames (online)
    c.ttp.together = 0  # subjects side by side; 0: one on CPU, else as many as the memory holds
    c.ttp.memory = 4096  # frames of a subject that its updates draw from, at most
    # Every nth frame is predicted but never learned from, so that the reconstruction can be judged
    # on it; 0: none, as in the paper.
    c.ttp.held_out = 0
    c.ttp.save_minutes = 5.0  # between two states of unfinished subjects on disk
    c.ttp.normalisers = "reset"  # per subject, or "carried" from subject to subject
    c.ttp.rotation = 30.0
    c.ttp.online_rotation_prob = 1.0
    c.ttp.offline_rotation_prob = 1.0
    c.ttp.scale = 0.25
    c.ttp.flip_prob = 0.5

    # `reproduce`: the paper's tables and figures.
    c.reproduce = ml_collections.ConfigDict()
    c.reproduce.methods = ("baseline", "rotation", "shared", "transformer")
    c.reproduce.seeds = (0, 1, 2)
    c.reproduce.rotation_lambda = 1e-4  # of quarter turns, where the schedule has a lambda
    c.reproduce.lengths = (8, 16, 32, 64)  # Figure 4: frames after which online starts anew
    c.reproduce.extra = ()  # Figure 4, "bbc_pose" only: unlabelled frames added to each person's
    c.reproduce.rates = (3e-5, 1e-4, 3e-4)  # heat map, on validation people
    c.reproduce.iterations = (1, 2, 4)  # likewise
    # ((name of a training, file), ...): models that are there already, as `export` wrote them;
    # "shipped" is the included one. The name holds all that the model was trained on.
    c.reproduce.given = ()
    # People of another data set to personalize to: its `data`, and `people`, names of clips (all if
    # none). Empty: no Table 6.
    c.transfer = ml_collections.ConfigDict()

    c.eval = ml_collections.ConfigDict()
    c.eval.pixels = 0.0  # above 0: accuracy at that many pixels at half resolution, not PCK
    # PCK: shares of the length between two joints, "leftLip,rightLip", or along a line of more. If
    # empty, of the torso; where the joints have none, of the diagonal of the labelled joints' box.
    c.eval.scale_joints = ""
    c.eval.thresholds = (0.2, 0.5)  # the first is the headline
    c.eval.distances = False  # also the root mean square distance in pixels
    c.eval.probe_frames = 512  # frames for the label-free figures and the linear readout
    c.eval.pictures = 4  # subjects drawn
    return c
