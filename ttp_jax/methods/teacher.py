"""The mean teacher, alone and together with the self-supervised task."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ttp_jax import crops, geometry, heatmaps, losses, state, steps, tasks
from ttp_jax.methods.base import TO_JOINTS, Method, Tools, start_training


class Taught(NamedTuple):
    """The teacher's predictions, moved to where they belong in the student's crops.

    Attributes:
      points: joints [B, K, 2] in cells of the student's maps.
      maps: the teacher's maps [B, h, w, K] after the move, see `heatmaps.readable`.
      confidence: [B, K].
    """

    points: jax.Array
    maps: jax.Array
    confidence: jax.Array


class Teacher(Method):
    """Learn from the confident joints of an averaged model (mean teacher).

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017. The teacher's
    parameters are running means of the student's. The teacher sees each frame and its mirrored
    copy; its joints are the labels of the student, which sees the frame rotated, scaled, mirrored
    and recoloured. Each joint is weighted by its confidence; joints below `Settings.confidence` are
    ignored. All parts from the image to the joints train, except normalisation layers. The student
    makes the predictions.

    `Adaptation.kept` holds "teacher", the teacher's difference to the base.
    """

    RULES = ((state.norms, False), (TO_JOINTS, True), (r"", False))

    def start(self, base, tools):
        """Start teacher and student from the base's parameters."""
        lacking = (
            'the method "teacher" trains encoder and heads, and this network has no parts of '
            "these names"
        )
        adaptation = start_training(base, self.RULES, tools, lacking)
        return adaptation.replace(kept={"teacher": jax.tree.map(jnp.zeros_like, adaptation.delta)})

    def draw(self, key, past, now, settings):
        """Draw the teacher's and the student's crops of the same frames."""
        return crops.views(key, past, now, settings)

    def update(self, adaptation, base, features, drawn, tools):
        """Make one step of Adam for the student, then update the teacher's average."""
        student_loss = self._student_loss(adaptation, base, drawn, tools)

        def loss_fn(delta):
            return student_loss(delta), adaptation.normalisers

        return self._averaged(adaptation, steps.descend(adaptation, loss_fn, tx=tools.tx), tools)

    def _student_loss(self, adaptation, base, views, tools):
        """Return the loss as a function of the delta, with the teacher's joints as targets."""
        taught = _taught(state.adapted(base, adaptation.kept["teacher"]), views, tools)
        sure = taught.confidence >= tools.settings.confidence
        weights = jnp.where(sure, jnp.clip(taught.confidence, 0, 1), 0.0)

        def loss(delta):
            output: Any = tools.model.apply(state.adapted(base, delta), views.moved)
            return _student_loss(output, taught, weights, tools)

        return loss

    def _averaged(self, before, after, tools):
        """Return the state after an update, with the teacher moved towards the student."""
        keep, teacher = tools.settings.teacher_decay, before.kept["teacher"]
        teacher = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, teacher, after.delta)
        return after.replace(kept={"teacher": teacher})


class TeacherAndTask(Teacher):
    """The mean teacher's loss plus the self-supervised task's, added as in joint training (Eq. 10).

    The self-supervised loss has the weight `Settings.self_weight`, lambda. All parameters train,
    except normalisation layers: the parts that lead to the joints by both losses, the renderer by
    the self-supervised one. `Settings.rules` is ignored.
    """

    minimises_task = True
    RULES = ((state.norms, False), (r"", True))

    def check(self, task, settings):
        """Check that the task can be minimised at test time."""
        task.check(settings)

    def needs_features(self, tools):
        """Return whether the task needs them."""
        return tools.task.needs_features

    def draw(self, key, past, now, settings):
        """Draw the teacher's and the student's crops, and pairs for the task."""
        of_views, of_pairs = jax.random.split(key)
        pairs = crops.pairs(of_pairs, past, now, settings)
        return crops.views(of_views, past, now, settings), pairs

    def update(self, adaptation, base, features, drawn, tools):
        """Make one step of Adam on both losses, then update the teacher's average."""
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
    # Interpolation lowers peaks; uncorrected, the student's confidence would fall at every update.
    kept = maps.max((1, 2)) / jnp.maximum(there.max((1, 2)), 1e-3)
    there = jnp.clip(there * jnp.clip(kept, 0.5, 2.0)[:, None, None], 0.0, 1.0)
    moved = geometry.transform_points(affines, points), there, confidence
    # In a mirrored crop, the left wrist becomes the right one.
    swapped = moved[0][:, order], moved[1][..., order], moved[2][:, order]

    def chosen(moved, swapped):
        flipped = views.flipped.reshape(-1, *[1] * (moved.ndim - 1))
        return jnp.where(flipped, swapped, moved)

    return Taught(*map(chosen, moved, swapped))


def _student_loss(output, taught: Taught, weights: jax.Array, tools: Tools) -> jax.Array:
    """Return the loss that the joints were trained by, with the teacher's joints as the truth."""
    maps, model = output.heatmaps, tools.model
    height, width = maps.shape[1:3]
    if output.logits is not None:
        last = jnp.array([width - 1, height - 1])
        inside = ((taught.points >= 0) & (taught.points <= last)).all(-1)
        return losses.joints_cross_entropy(
            output.logits, taught.points, weights * inside, model.sigma
        )
    if model.decode == "centroid":  # the width of the peaks that it was trained on is unknown
        truth = taught.maps
    else:
        truth = heatmaps.gaussian_maps(taught.points, height, width, model.sigma)
    # The loss squares its weights.
    return losses.joints_mse(heatmaps.readable(maps, model.decode), truth, jnp.sqrt(weights))
