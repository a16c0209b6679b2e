"""Defaults of every experiment: the paper's settings that all its data sets share (section 4.2).

Not an experiment itself. Lists are tuples, because network and settings must be hashable.
"""

from typing import Any

import ml_collections


def get_config() -> Any:
    """Return the defaults; data set, joints, depth, weights and schedule are each config's own."""
    c: Any = ml_collections.ConfigDict()
    c.name = ""  # of the experiment; results go to runs/NAME
    c.seed = 0  # of initial weights, batches and adaptation
    # A model's file, written by `export`, instead of the workdir's training; "shipped" is the
    # included model.
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
    # Folder of TensorFlow datasets built from that source (data_pipelines/builders.py), to be read
    # instead.
    c.data.tfds = ""
    c.data.skeleton = ""  # key of ttp_jax.skeletons.SKELETONS
    # "media" and "project": "whole" frame or a region "x1,y1,x2,y2". "media": a file of boxes, or a
    # finder, "moving" or "people" (data_pipelines/locate.py). "project": "labels", around the
    # labelled joints, or "annotated".
    c.data.boxes = "whole"
    # "people" only: who of several: "largest", "left", "right", a number from the left, or "x,y".
    c.data.person = "largest"
    # "media" only: all videos and folders are recordings of this one subject; "": one each.
    c.data.same_subject = ""
    # Boxes' sides are divided by it. "project": 0 takes as much of the picture as all labels of the
    # training subjects need; whole pictures have a black margin at 1.
    c.data.zoom = 1.0
    # "bbc_pose" and "project": unlabelled frames to add to each test person (Figure 4).
    c.data.extra = 0
    c.data.refine = 0  # times to predict and take the box of the prediction
    c.data.fit = False  # auto scale: the box scale in which the model is most confident
    # Test time: shrink a subject's frames until crops have this many times the network's pixels,
    # and keep windows of `context` crop sides. 0 keeps whole pictures in their original pixels, as
    # the published program does; --inputs makes it 2, since a phone's pictures are far larger.
    c.data.oversample = 0.0
    c.data.context = 2.0  # side of these windows, in crop sides
    c.data.frames = ""  # "media" only: "100-199", counted from 0, last included; "" for all
    c.data.every = 1  # "media" only: take every nth of these frames
    # Share of the training subjects held out for validation, where the source has no such split.
    c.data.validation = 0.0
    # "project" only: what is read of it (`data_pipelines.projects.Options`), and who is held out.
    c.data.subject = ""  # regular expression on "folder/file", whose first group is the subject
    c.data.exclude = ""  # patterns of subjects, folders or videos: "*TESTSET*,File162"
    c.data.individuals = ""  # names with commas; all if empty
    c.data.scorer = ""  # whose labels, where several people labelled the same pictures
    c.data.view = ""  # the camera to read, where there are several
    c.data.category = ""  # of COCO, where several have keypoints
    c.data.flip_pairs = "names"  # by left and right in them, or "leftLip:rightLip,a:b", or ""
    c.data.hidden = False  # count joints that are labelled as hidden
    c.data.predictions = False  # SLEAP: take predictions for labels where the user made none
    c.data.margin = 0.3  # of boxes around labels, as a share of their longer side
    c.data.media = ""  # folder of pictures or videos that aren't where the labels say
    c.data.test_subjects = ""  # patterns of subjects; else a share of them, drawn by the seed
    c.data.val_subjects = ""  # likewise, for validation
    c.data.test_share = 0.0  # share of the subjects for testing, where none are named
    c.data.val_share = 0.0  # likewise, for validation
    c.data.labels = ""  # fingerprint of the labels, filled in
    c.data.folds = 0  # above 0: number of splits in which each subject is a test subject once
    c.data.fold = 0  # which of these splits, counted from 0
    # Unlabelled frames of each training subject, spread over its videos, for the self-supervised
    # task.
    c.data.unlabelled = 0
    c.data.labelled_share = 0.5  # with these: share of labelled frames in each batch
    c.data.workers = 0  # batches built at the same time; 0: one a CPU core

    c.model = ml_collections.ConfigDict()
    c.model.method = "transformer"  # or "shared", "rotation", "baseline"
    # What the encoder starts from: a torchvision ResNet file, a model's file of the same encoder
    # (.npz), "blazepose" as `fetch` got it, or "random".
    c.model.init = ""
    c.model.image_size = 128  # side of the crops that the network sees, in pixels
    c.model.color_order = "rgb"  # "bgr" only for the released checkpoints
    c.model.encoder = "resnet"  # or "blazepose", whose sizes are fixed (ttp_jax/models/encoders)
    c.model.depth = 18  # layers of the ResNet: 10, 18 or 50
    c.model.width = 64  # channels of its first stage
    c.model.feature_dim = 256  # channels of the features F
    c.model.upsamplings = 3  # doublings of the map's size after the trunk
    c.model.last_stride = 2  # of the trunk's last stage; 1 keeps its map twice as large
    c.model.num_maps = 30  # self-supervised keypoints
    c.model.sigma = 2.0  # of the Gaussian maps, in heatmap pixels
    c.model.logit_scale = 1.0  # above 1 for heatmaps smaller than 32 x 32
    c.model.heads = 4  # of the Transformer's attention
    c.model.ffn_dim = 1024  # width of its feed-forward layers
    c.model.decoder_layers = 1  # of the Transformer
    c.model.dropout = 0.1  # in the Transformer, during training
    # Channels of the appearance extractor's blocks; each after the first halves the picture.
    c.model.appearance_widths = (32, 64, 128, 256)
    c.model.keypoint_widths = (32, 64, 128, 256)  # likewise, of the keypoint encoder
    c.model.code_kernel = 7  # size of the first convolution of both
    # Or, not the paper's, "parabola": finer; "mean": of the cells around the peak, for maps trained
    # by cross-entropy; "centroid": the same for maps of logits, as BlazePose's.
    c.model.decode = "quarter"
    # Predict by the mean of a crop's maps and those of the mirrored crop: twice the time.
    c.model.flip_average = False
    # Whether a map's cell stands for the middle of the pixels that it covers, or for the first one.
    c.model.half_pixel = False

    c.loss = ml_collections.ConfigDict()
    c.loss.features = "hed"  # or a torchvision vgg16-*.pth, or a Keras VGG16 .h5
    c.loss.levels = 5  # VGG levels of the perceptual loss, beside the picture itself
    # Loss of the named joints: "mse" of Gaussian heatmaps, as in the paper, or "cross_entropy" of
    # each map's softmax over places.
    c.loss.supervised = "mse"
    c.loss.temperature = 0.1  # "cross_entropy": what maps are divided by before the softmax
    # Weight of rotation equivariance of the self-supervised maps beside the reconstruction.
    c.loss.equivariance = 0.0
    # Share of the source's blocks of 16 x 16 pixels that are hidden from the appearance extractor,
    # in training and at test time, so that copying the source doesn't pay.
    c.loss.source_masking = 0.0

    c.train = ml_collections.ConfigDict()
    c.train.batch_size = 32  # pairs an update
    # Stages, one after the other: (updates, learning rate, lambda, "constant" or "cosine").
    c.train.stages = ()
    c.train.precision = "float32"  # or "bfloat16"
    # Parts that a batch is cut into, to save memory. Batch statistics are then those of a part, and
    # running means and loss normalisers are updated once a part.
    c.train.accumulate = 1
    c.train.remat = False  # compute activations twice: less memory on accelerators, more time
    c.train.frames_per_epoch = 0  # targets drawn for each epoch; 0: all frames
    c.train.rotation = 30.0  # degrees; standard deviation of the random rotation
    c.train.rotation_prob = 0.6  # share of pairs that are rotated
    c.train.scale = 0.25  # standard deviation of the random scale
    c.train.flip_prob = 0.5  # share of pairs that are mirrored
    # Strength of random changes in brightness, contrast, colours, sharpness, noise; 1 works well.
    c.train.photometric = 0.0
    c.train.weight_decay = 0.0  # above 0: AdamW with this decay
    # Use the checkpoint of the last stage that scored best on validation subjects, not the last.
    c.train.best = False
    c.train.patience = 0  # checkpoints without a better score before training stops; 0: never
    c.train.log_every = 100  # updates between two lines of the history
    c.train.checkpoint_every = 5000  # updates between two checkpoints
    c.train.keep = 3  # checkpoints that stay on disk

    c.ttp = ml_collections.ConfigDict()
    # Adaptation method (docs/method.md).
    c.ttp.method = "ttp"
    c.ttp.bn_weight = 0.5  # "bn", "entropy": share of the subject's batch statistics, 0 to 1
    c.ttp.confidence = 0.3  # "entropy", "teacher": joints of lower confidence don't count
    c.ttp.teacher_decay = 0.97  # "teacher": share of the averaged model that an update keeps
    c.ttp.self_weight = 0.01  # "teacher+ttp": lambda of Eq. 10, the self-supervised loss's weight
    c.ttp.iterations = 1  # updates per frame
    c.ttp.batch_size = 32  # pairs an update
    c.ttp.learning_rate = 1e-4  # of Adam, constant
    c.ttp.rules = "reference"  # "ttp": what trains: "reference", "paper" or "norms"
    c.ttp.reset = "subject"  # when to return to the base model
    c.ttp.together = 0  # subjects side by side; 0: one on a CPU, else as many as fit into memory
    c.ttp.memory = 4096  # frames of a subject that its updates draw from, at most
    # Every nth frame is predicted but never adapted to, so that the reconstruction can be judged on
    # it; 0: none, as in the paper.
    c.ttp.held_out = 0
    c.ttp.save_minutes = 5.0  # minutes between two saved states of unfinished subjects
    c.ttp.normalisers = "reset"  # running means of the loss: "reset" for each subject, or "carried"
    c.ttp.rotation = 30.0  # degrees; standard deviation of the random rotation
    c.ttp.online_rotation_prob = 1.0  # share of pairs that are rotated, online
    c.ttp.offline_rotation_prob = 1.0  # likewise, offline
    c.ttp.scale = 0.25  # standard deviation of the random scale
    c.ttp.flip_prob = 0.5  # share of pairs that are mirrored

    # The paper's tables and figures.
    c.reproduce = ml_collections.ConfigDict()
    # Networks to train and compare.
    c.reproduce.methods = ("baseline", "rotation", "shared", "transformer")
    c.reproduce.seeds = (0, 1, 2)  # of each method's trainings
    c.reproduce.rotation_lambda = 1e-4  # of quarter turns, where the schedule has a lambda
    c.reproduce.lengths = (8, 16, 32, 64)  # Figure 4: frames after which online starts anew
    c.reproduce.extra = ()  # Figure 4, "bbc_pose" only: unlabelled frames added to each person's
    c.reproduce.rates = (3e-5, 1e-4, 3e-4)  # learning rates of the heat map, on validation people
    c.reproduce.iterations = (1, 2, 4)  # updates a frame of the heat map
    # Models that need no training: ((name of a training, file written by `export`), ...); "shipped"
    # is the included one.
    c.reproduce.given = ()
    # People of another data set to personalize to: its `data`, and `people`, names of clips (all if
    # none). Empty: no Table 6.
    c.transfer = ml_collections.ConfigDict()

    c.eval = ml_collections.ConfigDict()
    c.eval.pixels = 0.0  # above 0: accuracy at that many pixels, at half resolution, instead of PCK
    # PCK: shares of the length between two joints, "leftLip,rightLip", or along a line of more. If
    # empty, of the torso; where the joints have none, of the diagonal of the labelled joints' box.
    c.eval.scale_joints = ""
    c.eval.thresholds = (0.2, 0.5)  # the first is the headline
    c.eval.distances = False  # also the root mean square distance in pixels
    c.eval.probe_frames = 512  # frames for the label-free diagnostics and the linear readout
    c.eval.pictures = 4  # subjects to draw pictures of
    return c
