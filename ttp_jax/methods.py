"""Adaptation methods as values: what each draws, trains and keeps, and one update of it.

Nothing here knows of scenarios or of how frames come: `ttp` runs every method online and offline.
What a method learns is `Adaptation.delta`, what else it needs from update to update
`Adaptation.kept`. No method ever sees a label.
"""

import functools
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from ttp_jax import crops, geometry, heatmaps, losses, state, steps, tasks
from ttp_jax.frames import Frames
from ttp_jax.memory import Memory
from ttp_jax.models.pose import PoseNet
from ttp_jax.models.vgg import VGG16
from ttp_jax.settings import Settings
from ttp_jax.state import Adaptation, Base

# The parts between a picture and the joints' heatmaps.
TO_JOINTS = r"^(encoder|self_head|decoder|supervised_head)/"
ELSEWHERE = r"^(?!(encoder|self_head|decoder|supervised_head)/)"


class Tools(NamedTuple):
    """The unchanging parts of personalization, bound once: static but for their arrays."""

    model: PoseNet
    tx: optax.GradientTransformation
    settings: Settings

    @property
    def task(self) -> tasks.Task:
        """The network's self-supervised task."""
        return tasks.of(self.model.method, self.settings.equivariance)

    @property
    def method(self) -> "Method":
        """The adaptation method."""
        return of(self.settings.method)

    @property
    def needs_features(self) -> bool:
        """Whether updates need the features of the perceptual loss."""
        return self.method.needs_features(self)


class Method:
    """What every method offers; by itself the method "none", which leaves the model as it is.

    Attributes:
      minimises_task: whether updates lower the loss of the self-supervised task.
    """

    minimises_task: bool = False

    def check(self, task: tasks.Task, settings: Settings) -> None:
        """Check that the method can be used.

        Args:
          task: the network's self-supervised task.
          settings: of the personalization.

        Raises:
          ValueError: the task or a setting doesn't suit the method.
        """

    def needs_features(self, tools: Tools) -> bool:
        """Whether `update` needs the features of the perceptual loss."""
        return False

    def start(self, base: Base, tools: Tools) -> Adaptation:
        """Return a subject's state before its first frame.

        Args:
          base: the model to adapt.
          tools: network, optimizer and settings.

        Raises:
          ValueError: the network has nothing that the method could adapt.
        """
        return state.start_adaptation(base, ((r"", False),), tools.tx)

    def draw(self, key: jax.Array, past: Memory, now: Frames | None, settings: Settings) -> Any:
        """Draw an update's crops.

        Args:
          key: of the update.
          past: the frames so far, the current one included.
          now: the current frame [1] (online); None (offline).
          settings: see `Settings`.
        """

    def update(
        self, adaptation: Adaptation, base: Base, features: VGG16 | None, drawn: Any, tools: Tools
    ) -> Adaptation:
        """One update.

        Args:
          adaptation: the subject's state.
          base: the trained model.
          features: of the perceptual loss; None if `needs_features` is false.
          drawn: crops that `draw` returned.
          tools: network, optimizer, settings.
        """
        return adaptation


class SelfSupervised(Method):
    """Minimise the self-supervised loss on pairs of frames: TTP, the paper's method.

    What trains is `Settings.rules`' choice.
    """

    minimises_task = True

    def check(self, task, settings):
        """The task must allow it."""
        task.check(settings)

    def needs_features(self, tools):
        """As the task does."""
        return tools.task.needs_features

    def start(self, base, tools):
        """Nothing but the difference is kept."""
        rules = tools.settings.rules
        adaptation = state.start_adaptation(base, state.RULES[rules], tools.tx)
        if base.params and not any(re.search(TO_JOINTS, path) for path in adaptation.delta):
            raise ValueError(
                f"config.ttp.rules is {rules!r}, which trains nothing between the picture and this "
                "network's joints: they would stay as they are. Take other rules."
            )
        return adaptation

    def draw(self, key, past, now, settings):
        """Target and source of every pair."""
        return crops.pairs(key, past, now, settings)

    def update(self, adaptation, base, features, drawn, tools):
        """One step of Adam."""
        return steps.adapt_step(
            adaptation,
            base,
            drawn,
            features,
            model=tools.model,
            tx=tools.tx,
            task=tools.task,
            bgr=tools.settings.bgr,
        )


class BatchStatistics(Method):
    """Replace the batch statistics by a mix of the source's and the subject's; no gradient.

    Schneider et al., "Improving robustness against common corruptions by covariate shift
    adaptation", NeurIPS 2020; with `bn_weight` 1 Li et al., "Revisiting batch normalization for
    practical domain adaptation", 2016. Differs from both: the subject's statistics are those of all
    updates so far, pooled, and the weight is fixed instead of following the number of frames.

    Keeps "count", updates so far, and "subject", the pooled means and variances by path.
    """

    def start(self, base, tools):
        """Differences of the statistics on the way to the joints."""
        adaptation = super().start(base, tools)
        delta = self._statistics(base)
        if not delta:
            raise ValueError(
                f'the method "{tools.settings.method}" adapts batch statistics, and this network '
                "has no batch normalisation: it has nothing to adapt. Take another "
                "config.ttp.method."
            )
        return adaptation.replace(delta=delta, kept=_empty_pool(delta))

    def draw(self, key, past, now, settings):
        """Frames as they are."""
        return crops.plain(key, past, now, settings)

    def update(self, adaptation, base, features, drawn, tools):
        """One pass, in which every layer uses the mix that it takes part in."""
        return self._pooled(adaptation, base, drawn, tools).replace(step=adaptation.step + 1)

    def _statistics(self, base):
        ours, _ = state.split(base.batch_stats, ((TO_JOINTS, True), (r"", False)))
        return {state.STATISTICS + path: jnp.zeros_like(value) for path, value in ours.items()}

    def _pooled(self, adaptation, base, pictures, tools):
        """Take crops [B, S, S, 3] into the pool; the new mix is in the delta."""
        count = adaptation.kept["count"]
        subject = traverse_util.unflatten_dict(adaptation.kept["subject"], sep="/")
        variables = {**state.adapted(base, adaptation.delta), "batch_stats": base.batch_stats}
        with nn.intercept_methods(_mixing(count, tools.settings.bn_weight)):
            _, updates = tools.model.apply(
                {**variables, "subject": subject}, pictures, mutable=["batch_stats", "subject"]
            )
        mixed, source = map(_flat, (updates["batch_stats"], base.batch_stats))
        pool = _flat(updates["subject"])
        changes = {state.STATISTICS + path: mixed[path] - source[path] for path in pool}
        return adaptation.replace(
            delta={**adaptation.delta, **changes}, kept={"count": count + 1, "subject": pool}
        )


def _flat(tree) -> state.Flat:
    return traverse_util.flatten_dict(tree, sep="/")


def _empty_pool(delta):
    zeros = {path.removeprefix(state.STATISTICS): jnp.zeros_like(v) for path, v in delta.items()}
    return {"count": jnp.zeros(()), "subject": zeros}


def _mixing(count: jax.Array, weight: float):
    """An interceptor: layers with batch statistics pool their input's and normalise by the mix."""

    def intercept(call, args, kwargs, context):
        layer = context.module
        if context.method_name != "__call__" or not layer.has_variable("subject", "mean"):
            return call(*args, **kwargs)
        wide = args[0].astype(jnp.promote_types(jnp.float32, args[0].dtype))
        axes, values = tuple(range(wide.ndim - 1)), wide.size // wide.shape[-1]
        # The source's variance is unbiased, too.
        mean, var = wide.mean(axes), wide.var(axes) * (values / max(values - 1, 1))
        # Pooled with the updates before, all of them of one size (Chan et al. 1979).
        before, spread = (layer.get_variable("subject", name) for name in ("mean", "var"))
        step = (mean - before) / (count + 1)
        pooled = {
            "mean": before + step,
            "var": spread + (var - spread) / (count + 1) + count * jnp.square(step),
        }
        for name, value in pooled.items():
            source = layer.get_variable("batch_stats", name)
            layer.put_variable("subject", name, value)
            layer.put_variable("batch_stats", name, (1 - weight) * source + weight * value)
        return call(*args, **kwargs)

    return intercept


class Entropy(BatchStatistics):
    """Sharpen the heatmaps of confident joints by the normalisation layers' scales and shifts.

    The loss is the mean entropy of their heatmaps as distributions over places (Wang et al., "Tent:
    fully test-time adaptation by entropy minimization", ICLR 2021). Batch statistics follow the
    subject's as in `BatchStatistics`; Tent takes those of the batch alone.
    """

    RULES = ((ELSEWHERE, False), (state.norms, True), (r"", False))

    def start(self, base, tools):
        """Scales and shifts on the way to the joints, and batch statistics if there are some."""
        adaptation = state.start_adaptation(base, self.RULES, tools.tx)
        if not adaptation.delta:
            raise ValueError(
                'the method "entropy" trains the scales and shifts of normalisation layers, and '
                "this network has none: it has nothing to adapt. Take another config.ttp.method."
            )
        statistics = self._statistics(base)
        kept = _empty_pool(statistics) if statistics else ()
        return adaptation.replace(delta={**adaptation.delta, **statistics}, kept=kept)

    def update(self, adaptation, base, features, drawn, tools):
        """The statistics, then one step of Adam with those."""
        if adaptation.kept:
            adaptation = self._pooled(adaptation, base, drawn, tools)

        def loss_fn(delta):
            output: Any = tools.model.apply(state.adapted(base, delta), drawn)
            maps, how = output.heatmaps, tools.model.decode
            counts = heatmaps.decode(maps, how)[1] >= tools.settings.confidence
            shares = heatmaps.distributions(heatmaps.readable(maps, how))
            return losses.entropy(shares, counts), adaptation.normalisers

        return steps.descend(adaptation, loss_fn, tx=tools.tx)


class Taught(NamedTuple):
    """What a teacher says of moved crops.

    Attributes:
      points: joints [B, K, 2] in cells of the moved crops' maps.
      maps: the teacher's maps [B, h, w, K] as they lie there, `heatmaps.readable`.
      confidence: [B, K].
    """

    points: jax.Array
    maps: jax.Array
    confidence: jax.Array


class Teacher(Method):
    """Learn the confident joints of an averaged model (mean teacher).

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017. The teacher, whose
    parameters are running means of the student's, sees frames as they are and mirrored; its joints
    are the labels of the student, who sees them turned, scaled, mirrored and recoloured. A joint
    weighs as its confidence, one below `Settings.confidence` nothing. What leads from the picture
    to the joints trains, but for normalisation layers. Predictions are the student's.

    Keeps "teacher", its difference to the base.
    """

    RULES = ((state.norms, False), (TO_JOINTS, True), (r"", False))

    def start(self, base, tools):
        """Both begin with the base's parameters."""
        adaptation = state.start_adaptation(base, self.RULES, tools.tx)
        if not adaptation.delta:
            raise ValueError(
                'the method "teacher" trains encoder and heads, and this network has none of '
                "these names: it has nothing to adapt. Take another config.ttp.method."
            )
        return adaptation.replace(kept={"teacher": jax.tree.map(jnp.zeros_like, adaptation.delta)})

    def draw(self, key, past, now, settings):
        """Frames as they are, and moved."""
        return crops.views(key, past, now, settings)

    def update(self, adaptation, base, features, drawn, tools):
        """One step of Adam for the student, then the teacher's mean."""
        student_loss = self._student_loss(adaptation, base, drawn, tools)

        def loss_fn(delta):
            return student_loss(delta), adaptation.normalisers

        return self._averaged(adaptation, steps.descend(adaptation, loss_fn, tx=tools.tx), tools)

    def _student_loss(self, adaptation, base, views, tools):
        """The loss of a delta whose targets are the teacher's joints."""
        taught = _taught(state.adapted(base, adaptation.kept["teacher"]), views, tools)
        sure = taught.confidence >= tools.settings.confidence
        weights = jnp.where(sure, jnp.clip(taught.confidence, 0, 1), 0.0)

        def loss(delta):
            output: Any = tools.model.apply(state.adapted(base, delta), views.moved)
            return _student_loss(output, taught, weights, tools)

        return loss

    def _averaged(self, before, after, tools):
        """The state after an update, with the teacher moved towards the student."""
        keep, teacher = tools.settings.teacher_decay, before.kept["teacher"]
        teacher = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, teacher, after.delta)
        return after.replace(kept={"teacher": teacher})


class TeacherAndTask(Teacher):
    """The mean teacher's loss plus the self-supervised task's, added as in joint training (Eq. 10).

    Its weight is `Settings.self_weight`, lambda. All but normalisation layers trains: what leads to
    the joints by both losses, the renderer by its own. `Settings.rules` isn't asked.
    """

    minimises_task = True
    RULES = ((state.norms, False), (r"", True))

    def check(self, task, settings):
        """The task must allow it."""
        task.check(settings)

    def needs_features(self, tools):
        """As the task does."""
        return tools.task.needs_features

    def draw(self, key, past, now, settings):
        """Frames as they are and moved, and pairs."""
        of_views, of_pairs = jax.random.split(key)
        pairs = crops.pairs(of_pairs, past, now, settings)
        return crops.views(of_views, past, now, settings), pairs

    def update(self, adaptation, base, features, drawn, tools):
        """One step of Adam on both, then the teacher's mean."""
        views, (target, source) = drawn
        student_loss = self._student_loss(adaptation, base, views, tools)
        seen = tasks.Inputs(target, source, features, adaptation.normalisers, tools.settings.bgr)

        def loss_fn(delta):
            variables = state.adapted(base, delta)
            loss, normalisers = tools.task.test_loss(tools.model, variables, seen)
            return student_loss(delta) + tools.settings.self_weight * loss, normalisers

        return self._averaged(adaptation, steps.descend(adaptation, loss_fn, tx=tools.tx), tools)


def _taught(variables, views: crops.Views, tools: Tools) -> Taught:
    settings, model = tools.settings, tools.model
    order = jnp.array(settings.flip_order or range(model.num_joints))
    maps = steps.joint_maps(variables, views.plain, model=model, flip_order=settings.flip_order)
    size = maps.shape[1]
    points, confidence = heatmaps.decode(maps, model.decode)
    cells = heatmaps.alignment(model.decode, model.half_pixel)
    affines = geometry.map_affine(views.affines, settings.image_size / size, cells)
    warp = jax.vmap(functools.partial(geometry.warp, size=size))
    maps = heatmaps.readable(maps, model.decode)
    there = warp(maps, affines)
    # Interpolation lowers peaks: the student would be less sure with every update.
    kept = maps.max((1, 2)) / jnp.maximum(there.max((1, 2)), 1e-3)
    there = jnp.clip(there * jnp.clip(kept, 0.5, 2.0)[:, None, None], 0.0, 1.0)
    moved = geometry.transform_points(affines, points), there, confidence
    # The left wrist of a mirrored person is the right one.
    swapped = moved[0][:, order], moved[1][..., order], moved[2][:, order]

    def chosen(moved, swapped):
        flipped = views.flipped.reshape(-1, *[1] * (moved.ndim - 1))
        return jnp.where(flipped, swapped, moved)

    return Taught(*map(chosen, moved, swapped))


def _student_loss(output, taught: Taught, weights: jax.Array, tools: Tools) -> jax.Array:
    """The loss that the network's joints were trained by, with the teacher's as the truth."""
    maps, model = output.heatmaps, tools.model
    height, width = maps.shape[1:3]
    if output.logits is not None:
        last = jnp.array([width - 1, height - 1])
        inside = ((taught.points >= 0) & (taught.points <= last)).all(-1)
        return losses.joints_cross_entropy(
            output.logits, taught.points, weights * inside, model.sigma
        )
    if model.decode == "centroid":  # how wide its maps are is nowhere written down
        truth = taught.maps
    else:
        truth = heatmaps.gaussian_maps(taught.points, height, width, model.sigma)
    # The loss squares its weights.
    return losses.joints_mse(heatmaps.readable(maps, model.decode), truth, jnp.sqrt(weights))


METHODS = {
    "ttp": SelfSupervised(),
    "bn": BatchStatistics(),
    "entropy": Entropy(),
    "teacher": Teacher(),
    "teacher+ttp": TeacherAndTask(),
    "none": Method(),
}


def of(name: str) -> Method:
    """The adaptation method of this name; ValueError for an unknown one."""
    if name not in METHODS:
        raise ValueError(f"config.ttp.method is {name!r}, expected one of {', '.join(METHODS)}.")
    return METHODS[name]
