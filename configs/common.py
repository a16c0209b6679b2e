"""Defaults of every experiment: the paper's settings that all its data sets share (section 4.2).

Not an experiment itself. Lists are tuples, because network and settings must be hashable.
"""

from typing import Any

import ml_collections


def get_config() -> Any:
    """Return the defaults; each config sets its data set, joints, depth, weights and schedule."""
    c: Any = ml_collections.ConfigDict()
    c.name = ""  # name of the experiment; results go to runs/NAME
    c.seed = 0  # seed of the initial weights, the batches and the adaptation
    # A model file written by `export`, to use instead of a training in the workdir; "shipped" is
    # the included model.
    c.base = ""
    # The joints, in the form of `Skeleton.to_json`, if SKELETONS doesn't have them; a labelled
    # project fills this in. If empty, `data.skeleton` names them.
    c.skeleton = ml_collections.ConfigDict()

    c.data = ml_collections.ConfigDict()
    # The reader: "penn", "h36m", "bbc_pose", "synthetic", "media" (your videos and images) or
    # "project" (a labelled project).
    c.data.source = ""
    # Folder of the data set. For "media" a video, a folder or a pattern; for "project" the folder
    # or file of a labelled project (DeepLabCut, SLEAP, Lightning Pose, COCO).
    c.data.root = ""
    # Folder of the TensorFlow Datasets built from this source (data_pipelines/builders.py), to read
    # instead.
    c.data.tfds = ""
    c.data.skeleton = ""  # name of the skeleton in ttp_jax.skeletons.SKELETONS
    # Where the person is, for "media" and "project": the "whole" frame, or a region "x1,y1,x2,y2".
    # "media" also takes a file of boxes, "moving" (the moving region) or "people" (BlazePose's
    # detector); "project" also takes "labels" (boxes around the labelled joints) or "annotated"
    # (the boxes in the file).
    c.data.boxes = "whole"
    # With boxes="people", which of several people: "largest", "left", "right", a number from the
    # left, or a point "x,y".
    c.data.person = "largest"
    # "media" only: name of the one subject that all videos and folders show; if empty, each is a
    # subject.
    c.data.same_subject = ""
    # Magnification of the boxes: their sides are divided by it. At 1, whole images get a black
    # margin. For "project", 0 chooses the largest that keeps all labels of the training subjects.
    c.data.zoom = 1.0
    # "bbc_pose" and "project": number of unlabelled frames to add to each test subject (Figure 4).
    c.data.extra = 0
    # "project": videos of held-out subjects whose labels have no video of their own, in the
    # project's folder: "ann=videos/7.avi,ann=videos/8.avi,bob=videos/9.avi". `extra` counts their
    # frames.
    c.data.own_videos = ""
    c.data.refine = 0  # how many times to predict, then use the box around the predicted joints
    c.data.fit = False  # use the box scale at which the model is most confident (auto scale)
    # At test time, frames are shrunk until crops have this many times the network's pixels, and
    # windows of `context` crop sides are kept. 0 keeps whole images in original pixels, as the
    # published program does. --inputs sets 2, because a phone's images are far larger.
    c.data.oversample = 0.0
    c.data.context = 2.0  # side of these windows, in crop sides
    c.data.frames = ""  # "media" only: frames to use, as "100-199", counted from 0; if empty, all
    c.data.every = 1  # "media" only: use every nth of these frames
    # Share of the training subjects to hold out for validation, if the source has no validation
    # split.
    c.data.validation = 0.0
    # Regular expression that is matched with "folder/file"; its first group is the subject. This
    # field and those down to `labelled_share` are for labelled projects only
    # (`data_pipelines.projects.Options`).
    c.data.subject = ""
    c.data.exclude = ""  # patterns of subjects, folders or videos to leave out: "*TESTSET*,File162"
    c.data.individuals = ""  # individuals to read, separated by commas; if empty, all
    c.data.scorer = ""  # whose labels to read, if several people labelled the same images
    c.data.view = ""  # which camera to read, if there are several
    c.data.category = ""  # COCO: which category to read, if several have keypoints
    # Joints that swap in a mirrored image: "names" finds left and right in their names; otherwise
    # pairs, "leftLip:rightLip,a:b"; if empty, none swap.
    c.data.flip_pairs = "names"
    c.data.hidden = False  # use joints that are labelled as hidden
    c.data.predictions = False  # SLEAP: use predictions as labels where the user made none
    c.data.margin = 0.3  # margin of boxes around labels, as a share of their longer side
    c.data.media = ""  # folder of images or videos that aren't where the labels say
    # Patterns of the test subjects; if empty, `test_share` of them at random, with every
    # seed the same ones.
    c.data.test_subjects = ""
    c.data.val_subjects = ""  # likewise for validation
    c.data.test_share = 0.0  # share of the subjects for testing, if none are named
    c.data.val_share = 0.0  # likewise for validation
    c.data.labels = ""  # fingerprint of the labels; the program fills it in
    c.data.training_subjects = ()  # names of the training subjects; training fills it in
    # Number of splits in which each subject is a test subject once; 0: a single split.
    c.data.folds = 0
    c.data.fold = 0  # which of these splits to use, counted from 0
    # Number of unlabelled frames of each training subject, spread over its videos, to use for the
    # self-supervised task.
    c.data.unlabelled = 0
    # Share of labelled frames in each batch, if there are unlabelled ones.
    c.data.labelled_share = 0.5
    # "synthetic": preset of the validation and test people, if it isn't `preset`, as in Table 7.
    c.data.grade = ""
    c.data.workers = 0  # batches to build at the same time; 0: one for each CPU core

    c.model = ml_collections.ConfigDict()
    # The network and its self-supervised task: "transformer", "shared", "rotation" or "baseline".
    c.model.method = "transformer"
    # Initial weights of the encoder: a torchvision ResNet file, a model file with the same encoder
    # (.npz), "blazepose" after `fetch blazepose`, or "random".
    c.model.init = ""
    c.model.image_size = 128  # side of the crops that the network sees, in pixels
    c.model.color_order = "rgb"  # "rgb", or "bgr" for the released checkpoints
    # "resnet", or "blazepose", whose sizes are fixed (ttp_jax/models/encoders).
    c.model.encoder = "resnet"
    c.model.depth = 18  # layers of the ResNet: 10, 18 or 50
    c.model.width = 64  # channels of its first stage
    c.model.feature_dim = 256  # channels of the features F
    c.model.upsamplings = 3  # how many times the map is doubled after the ResNet
    c.model.last_stride = 2  # stride of the ResNet's last stage; 1 keeps its map twice as large
    c.model.num_maps = 30  # number of self-supervised keypoints
    c.model.sigma = 2.0  # standard deviation of the Gaussian maps, in heatmap pixels
    # Factor of the bottleneck's logits; above 1 for heatmaps smaller than 32 x 32.
    c.model.logit_scale = 1.0
    c.model.heads = 4  # attention heads of the Transformer
    c.model.ffn_dim = 1024  # width of its feed-forward layers
    c.model.decoder_layers = 1  # number of its layers
    c.model.dropout = 0.1  # dropout in the Transformer during training
    # Channels of the blocks of the appearance extractor; each block after the first halves the
    # image.
    c.model.appearance_widths = (32, 64, 128, 256)
    c.model.keypoint_widths = (32, 64, 128, 256)  # likewise for the keypoint encoder
    c.model.code_kernel = 7  # size of the first convolution of both
    # How joints are read from heatmaps: "quarter" as in the paper; "parabola", which is finer;
    # "mean" of the cells around the peak, for maps trained by cross-entropy; "centroid", the same
    # for maps of logits such as BlazePose's.
    c.model.decode = "quarter"
    # Average the maps of each crop and its mirrored copy, which doubles the time of a prediction.
    c.model.flip_average = False
    # Whether the position of a heatmap cell is the middle of the pixels that it covers, or the
    # first of them.
    c.model.half_pixel = False

    c.loss = ml_collections.ConfigDict()
    # Features of the perceptual loss: "hed" (the included ones), a torchvision vgg16-*.pth, or a
    # Keras VGG16 .h5.
    c.loss.features = "hed"
    c.loss.levels = 5  # VGG levels of the perceptual loss, in addition to the image itself
    # Supervised loss: "mse" of Gaussian heatmaps, as in the paper, or "cross_entropy" of the
    # softmax over each map.
    c.loss.supervised = "mse"
    c.loss.temperature = 0.1  # "cross_entropy": maps are divided by this before the softmax
    # Weight of the rotation equivariance loss, which is added to the reconstruction loss
    # (docs/method.md).
    c.loss.equivariance = 0.0
    # Share of the source's blocks of 16 x 16 pixels that are hidden from the appearance extractor,
    # in training and at test time, so that copying the source is not enough.
    c.loss.source_masking = 0.0

    c.train = ml_collections.ConfigDict()
    c.train.batch_size = 32  # pairs in each update
    # Training stages in order, each (updates, learning rate, lambda, "constant" or "cosine").
    c.train.stages = ()
    c.train.precision = "float32"  # "float32" or "bfloat16"
    # Number of parts that a batch is split into to save memory. Batch statistics are then those of
    # a part, and running means and loss normalisers are updated once for each part.
    c.train.accumulate = 1
    c.train.remat = False  # recompute activations: less memory on accelerators, more time
    c.train.frames_per_epoch = 0  # target frames drawn in each epoch; 0: all frames
    c.train.rotation = 30.0  # standard deviation of the random rotation, in degrees
    c.train.rotation_prob = 0.6  # share of pairs that are rotated
    c.train.scale = 0.25  # standard deviation of the random scale
    c.train.flip_prob = 0.5  # share of pairs that are mirrored
    # Strength of random changes of brightness, contrast, colours, sharpness and noise; 0: none.
    c.train.photometric = 0.0
    c.train.weight_decay = 0.0  # above 0: AdamW with this weight decay
    # Use the checkpoint of the last stage with the best score on the validation subjects instead of
    # the last one.
    c.train.best = False
    c.train.patience = 0  # stop after this many checkpoints without a better score; 0: never
    c.train.log_every = 100  # updates between two entries of the history
    c.train.checkpoint_every = 5000  # updates between two checkpoints
    c.train.keep = 3  # number of checkpoints to keep on disk

    c.ttp = ml_collections.ConfigDict()
    # "ttp", "bn", "entropy", "teacher", "teacher+ttp" or "none" (docs/method.md).
    c.ttp.method = "ttp"
    c.ttp.bn_weight = 0.5  # "bn", "entropy": weight of the subject's batch statistics, 0 to 1
    c.ttp.confidence = 0.3  # "entropy", "teacher": joints of lower confidence are ignored
    c.ttp.teacher_decay = 0.97  # "teacher": share of itself that the teacher keeps at each update
    c.ttp.self_weight = 0.01  # "teacher+ttp": weight of the self-supervised loss, lambda of Eq. 10
    c.ttp.iterations = 1  # updates for each frame
    c.ttp.batch_size = 32  # pairs in each update
    c.ttp.learning_rate = 1e-4  # learning rate of Adam, constant
    c.ttp.rules = "reference"  # "ttp": which parameters train: "reference", "paper" or "norms"
    # When to return to the base model: for each "subject", or every so many frames.
    c.ttp.reset = "subject"
    # Subjects side by side; 0: one on a CPU, otherwise as many as fit into memory.
    c.ttp.together = 0
    c.ttp.memory = 4096  # maximum number of a subject's frames that updates draw from
    # Every nth frame is predicted, but the model never adapts to it, so that the reconstruction can
    # be judged on it; 0: none, as in the paper.
    c.ttp.held_out = 0
    c.ttp.save_minutes = 5.0  # minutes between two saves of unfinished subjects
    # Running means of the loss: "reset" for each subject, or "carried" over.
    c.ttp.normalisers = "reset"
    c.ttp.rotation = 30.0  # standard deviation of the random rotation, in degrees
    c.ttp.online_rotation_prob = 1.0  # share of pairs that are rotated, online
    c.ttp.offline_rotation_prob = 1.0  # likewise, offline
    c.ttp.scale = 0.25  # standard deviation of the random scale
    c.ttp.flip_prob = 0.5  # share of pairs that are mirrored

    # The paper's tables and figures.
    c.reproduce = ml_collections.ConfigDict()
    # Networks to train and compare.
    c.reproduce.methods = ("baseline", "rotation", "shared", "transformer")
    c.reproduce.seeds = (0, 1, 2)  # seeds of each method's trainings
    # Lambda of the method "rotation", in stages that have a lambda.
    c.reproduce.rotation_lambda = 1e-4
    # Figure 4: numbers of frames after which online TTP restarts.
    c.reproduce.lengths = (8, 16, 32, 64)
    # Figure 4, "bbc_pose" only: numbers of unlabelled frames to add to each person.
    c.reproduce.extra = ()
    c.reproduce.rates = (3e-5, 1e-4, 3e-4)  # learning rates of the heat map on validation people
    c.reproduce.iterations = (1, 2, 4)  # updates a frame of the heat map on validation people
    # Whose subjects the tables score: "test"; "val" to choose settings by any of them.
    c.reproduce.split = "test"
    # "synthetic" only: presets of test people to compare gains on, ((preset, what it is), ...).
    c.reproduce.grades = ()
    # Models that don't have to be trained: ((name of a training, file written by `export`), ...);
    # "shipped" is the included one.
    c.reproduce.given = ()
    # People of another data set to personalize to: its `data`, and `people`, names of clips (all if
    # none). Empty: no Table 6.
    c.transfer = ml_collections.ConfigDict()

    c.eval = ml_collections.ConfigDict()
    c.eval.pixels = 0.0  # above 0: accuracy at that many pixels, at half resolution, instead of PCK
    # Length that is the unit of PCK: between two joints, "leftLip,rightLip", or along a line of
    # more. If empty, the torso; for joints without a torso, the diagonal of the labelled joints'
    # box.
    c.eval.scale_joints = ""
    c.eval.thresholds = (0.2, 0.5)  # thresholds of PCK; the first is the headline
    # Two joints whose distance is also compared with that of the labels: "upper,lower" of the lips.
    c.eval.opening = ""
    c.eval.distances = False  # also report the root mean square distance in pixels
    c.eval.probe_frames = 512  # frames for the label-free diagnostics and the linear readout
    c.eval.pictures = 4  # number of subjects to draw pictures of
    return c
