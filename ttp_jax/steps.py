"""The jittable steps: joint training, adaptation, prediction. Pure functions of pytrees."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from ttp_jax import augment, geometry, heatmaps, losses, tasks
from ttp_jax.conv import CONV_OUTPUT
from ttp_jax.models.pose import PoseNet, normalize
from ttp_jax.models.vgg import VGG16
from ttp_jax.state import Adaptation, Base, Flat, TrainState, adapted, parts

Batch = dict[str, jax.Array]
# Folded into keys. Both are far above the small part numbers that are folded in as well.
PHOTOMETRIC = 2**30  # into a step's key
MASKING = 2**30 + 1  # into the key of one part of a step


def init_state(
    model: PoseNet,
    tx: optax.GradientTransformation,
    key: jax.Array,
    image_size: int,
    normalisers: jax.Array,
) -> TrainState:
    """Return the state of a freshly initialised network and optimizer.

    Args:
      model: the network.
      tx: the optimizer.
      key: random key for the initial values.
      image_size: side of the crops in pixels.
      normalisers: start values of the loss's running means.
    """
    picture = jnp.zeros((1, image_size, image_size, 3))
    variables = model.init(key, picture, picture)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        normalisers=jnp.asarray(normalisers, jnp.float32),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    vgg: VGG16 | None,
    self_weight: jax.Array | float,
    *,
    model: PoseNet,
    tx: optax.GradientTransformation,
    task: tasks.Task | None = None,
    reconstruct: bool = True,
    accumulate: int = 1,
    remat: bool = False,
    bgr: bool = False,
    photometric: float = 0.0,
    source_masking: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make one update of joint training: L = L_sup + lambda L_self (Eq. 10).

    Args:
      state: current state.
      batch: "target", "source" uint8 [B, H, W, 3]; "heatmaps" [B, h, w, K]; "weights" [B, K];
        "joints" [B, K, 2] in crop pixels if the network is trained by cross-entropy.
      key: the run's key; the step number is folded into it, for dropout and augmentation.
      vgg: features of the perceptual loss; None if the task needs none.
      self_weight: lambda.
      model, tx: network and optimizer.
      task: the task whose loss is L_self; None for the network's own.
      reconstruct: False leaves out the self-supervised half altogether (lambda 0).
      accumulate: number of parts that the batch is split into; they run one after the other, to
        save memory.
      remat: see `rematerialised`.
      bgr: channel order, see `normalize`.
      photometric: strength of `augment.photometric`; both images of a pair change alike.
      source_masking: share of the source's blocks that are hidden, see `augment.mask_blocks`.

    Returns:
      The new state, and scalars: loss, supervised, self (the self-supervised loss), pixel_error
      (mean squared error of the reconstruction), accuracy (share of visible joints that are
      predicted within 5 % of the map's side).
    """
    step_key = jax.random.fold_in(key, state.step)
    if photometric:
        batch = _recoloured(batch, jax.random.fold_in(step_key, PHOTOMETRIC), photometric)
    task = (task or tasks.of(model.method)) if reconstruct else tasks.NOTHING

    def loss_of(params, batch_stats, normalisers, number, piece):
        variables = {"params": params, "batch_stats": batch_stats}
        own = jax.random.fold_in(step_key, number), vgg, normalisers, self_weight
        how = {"model": model, "task": task, "bgr": bgr, "source_masking": source_masking}
        return _joint_loss(variables, piece, *own, **how)

    (batch_stats, normalisers, gradients), metrics = _over_parts(
        loss_of, state, batch, accumulate, remat
    )
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state, normalisers), metrics


def _over_parts(loss_of: Callable, state: TrainState, batch: Batch, accumulate: int, remat: bool):
    """Return statistics, normalisers, mean gradients and mean metrics over a batch's parts."""

    def part(carry, inputs):
        batch_stats, normalisers, gradients = carry

        def loss_fn(params):
            return loss_of(params, batch_stats, normalisers, *inputs)

        loss = rematerialised(loss_fn) if remat else loss_fn
        (_, (batch_stats, normalisers, metrics)), new = jax.value_and_grad(loss, has_aux=True)(
            state.params
        )
        gradients = jax.tree.map(lambda a, b: a + b / accumulate, gradients, new)
        return (batch_stats, normalisers, gradients), metrics

    carry = (state.batch_stats, state.normalisers, jax.tree.map(jnp.zeros_like, state.params))
    if accumulate == 1:
        return part(carry, (0, batch))
    pieces = jax.tree.map(lambda a: a.reshape(accumulate, -1, *a.shape[1:]), batch)
    carry, stacked = jax.lax.scan(part, carry, (jnp.arange(accumulate), pieces))
    return carry, jax.tree.map(jnp.mean, stacked)


def _recoloured(batch: Batch, key: jax.Array, strength: float) -> Batch:
    """Return the batch with both images of each pair recoloured by the same draw.

    So the image to reconstruct is the one that the encoder sees, lit like its source.
    """
    pictures = ("target", "source")
    changed = {name: augment.photometric(key, batch[name], strength) for name in pictures}
    return {**batch, **changed}


def rematerialised(fn):
    """Return `fn` with a backward pass for which only the outputs of convolutions are kept.

    Normalisations and activations are recomputed. XLA's CPU compiler undoes this (it merges the two
    computations), so it saves memory on accelerators only.
    """
    return jax.checkpoint(fn, policy=jax.checkpoint_policies.save_only_these_names(CONV_OUTPUT))


def _joint_loss(
    variables, batch, key, vgg, normalisers, self_weight, *, model, task, bgr, source_masking
):
    target = normalize(batch["target"], bgr=bgr)
    source = normalize(batch["source"], bgr=bgr) if task.needs_source else None
    if source is not None and source_masking:
        source = augment.mask_blocks(jax.random.fold_in(key, MASKING), source, source_masking)
    output, updates = model.apply(
        variables, target, source, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    supervised = _supervised_loss(output, batch, model)
    # Blocks that did not run keep their statistics; some networks have none.
    batch_stats = {**variables["batch_stats"], **updates.get("batch_stats", {})}
    seen = tasks.Inputs(target, source, vgg, normalisers, bgr)
    self_loss, batch_stats, normalisers = task.training_loss(
        model, {**variables, "batch_stats": batch_stats}, output, seen
    )
    loss, pixel_error = supervised + self_weight * self_loss, jnp.zeros(())
    if output.reconstruction is not None:
        pixel_error = jnp.mean(jnp.square(output.reconstruction - target))
    metrics = {
        "loss": loss,
        "supervised": supervised,
        "self": self_loss,
        "pixel_error": pixel_error,
        "accuracy": _map_accuracy(output.heatmaps, batch["heatmaps"], batch["weights"]),
    }
    return loss, (batch_stats, normalisers, metrics)


def _supervised_loss(output, batch, model):
    if output.logits is None:
        return losses.joints_mse(output.heatmaps, batch["heatmaps"], batch["weights"])
    stride = batch["target"].shape[1] / output.logits.shape[1]
    cells = heatmaps.alignment(model.decode, model.half_pixel)
    points = geometry.crop_to_map(batch["joints"], stride, cells)
    return losses.joints_cross_entropy(output.logits, points, batch["weights"], model.sigma)


def _map_accuracy(maps, truth, weights):
    """Return the share of visible joints that are off by at most 5 % of the map's side."""
    distance = jnp.linalg.norm(heatmaps.decode(maps)[0] - heatmaps.decode(truth)[0], axis=-1)
    hit = distance <= 0.05 * maps.shape[1]
    return jnp.sum(hit * weights) / jnp.maximum(jnp.sum(weights), 1)


def adapt_step(
    state: Adaptation,
    base: Base,
    pairs: tuple[jax.Array, jax.Array],
    vgg: VGG16 | None,
    *,
    model: PoseNet,
    tx: optax.GradientTransformation,
    task: tasks.Task | None = None,
    bgr: bool = False,
) -> Adaptation:
    """Make one test-time update on pairs of one subject, by the self-supervised loss (section 3.2).

    The network runs in evaluation mode: batch statistics are used but not updated, dropout is off.

    Args:
      state: the subject's state; the parameters in its `delta` are the ones that train.
      base: the trained model.
      pairs: target and source [B, H, W, 3] in the network's colours.
      vgg: features of the perceptual loss; None if the task needs none.
      model, tx: network and optimizer.
      task: the task whose loss is minimised; None for the network's own.
      bgr: channel order, see `normalize`.
    """
    task = task or tasks.of(model.method)
    seen = tasks.Inputs(*pairs, vgg, state.normalisers, bgr)

    def loss_fn(delta):
        return task.test_loss(model, adapted(base, delta), seen)

    return descend(state, loss_fn, tx=tx)


def descend(
    state: Adaptation,
    loss_fn: Callable[[Flat], tuple[jax.Array, jax.Array]],
    *,
    tx: optax.GradientTransformation,
) -> Adaptation:
    """Update the parameters in a subject's `delta` once; batch statistics in it stay as they are.

    Args:
      state: the subject's state.
      loss_fn: delta -> loss and normalisers.
      tx: the optimizer.
    """
    trained, statistics = parts(state.delta)

    def loss_of(trained):
        return loss_fn(trained | statistics)

    (loss, normalisers), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
    updates, opt_state = tx.update(gradients, state.opt_state, trained)
    delta: Flat = optax.apply_updates(trained, updates)
    return state.replace(
        step=state.step + 1,
        delta=delta | statistics,
        opt_state=opt_state,
        normalisers=normalisers,
        loss=loss,
    )


def joint_maps(
    variables: dict, pictures: jax.Array, *, model: PoseNet, flip_order: Sequence[int] = ()
) -> jax.Array:
    """Return the joints' maps [B, h, w, K] of crops.

    Args:
      variables: the network's parameters and batch statistics.
      pictures: [B, H, W, 3] in the network's colours.
      model: the network.
      flip_order: index of each joint's mirror image [K]. If given, maps are averaged with those of
        the mirrored crops.
    """
    maps = model.apply(variables, pictures).heatmaps
    if not flip_order:
        return maps
    cells = heatmaps.alignment(model.decode, model.half_pixel)
    other = model.apply(variables, heatmaps.mirror(pictures, bool(cells))).heatmaps
    return (maps + heatmaps.mirror(other, cells)[..., jnp.array(flip_order)]) / 2


def predict(variables: dict, pictures: jax.Array, *, model: PoseNet) -> tuple[jax.Array, jax.Array]:
    """Predict the joints in crops.

    Args:
      variables: the network's parameters and batch statistics.
      pictures: [B, H, W, 3] in the network's colours.
      model: the network.

    Returns:
      Positions [B, K, 2] in crop pixels, and the confidence [B, K]: the heatmaps' peaks.
    """
    maps = joint_maps(variables, pictures, model=model, flip_order=model.flip_average)
    points, peaks = heatmaps.decode(maps, model.decode)
    stride = pictures.shape[1] / maps.shape[1]
    cells = heatmaps.alignment(model.decode, model.half_pixel)
    return geometry.map_to_crop(points, stride, cells), peaks
