"""Methods that adapt normalisation layers: batch statistics, and entropy (Tent)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from ttp_jax import crops, heatmaps, losses, state, steps
from ttp_jax.methods.base import ELSEWHERE, TO_JOINTS, Method, start_training


class BatchStatistics(Method):
    """Mix the subject's batch statistics into those of the training set; no gradient.

    Schneider et al., "Improving robustness against common corruptions by covariate shift
    adaptation", NeurIPS 2020; with `bn_weight` 1, Li et al., "Revisiting batch normalization for
    practical domain adaptation", 2016. Differs from both: the subject's statistics are pooled over
    all updates so far, and the weight is fixed instead of depending on the number of frames.

    `Adaptation.kept` holds "count", the updates so far, and "subject", the pooled means and
    variances by path.
    """

    def start(self, base, tools):
        """Start with a zero delta for the batch statistics on the way to the joints."""
        adaptation = super().start(base, tools)
        delta = self._statistics(base)
        if not delta:
            raise ValueError(
                f'the method "{tools.settings.method}" adapts batch statistics, and this network '
                "has no batch normalisation: it has nothing to adapt. Choose another "
                "config.ttp.method."
            )
        return adaptation.replace(delta=delta, kept=_empty_pool(delta))

    def draw(self, key, past, now, settings):
        """Draw crops without augmentation."""
        return crops.plain(key, past, now, settings)

    def update(self, adaptation, base, features, drawn, tools):
        """Pool the statistics in one pass, in which each layer already uses its new mix."""
        return self._pooled(adaptation, base, drawn, tools).replace(step=adaptation.step + 1)

    def _statistics(self, base):
        ours, _ = state.split(base.batch_stats, ((TO_JOINTS, True), (r"", False)))
        return {state.STATISTICS + path: jnp.zeros_like(value) for path, value in ours.items()}

    def _pooled(self, adaptation, base, pictures, tools):
        """Add crops [B, S, S, 3] to the pool, and put the new mix into the delta."""
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
    """Return an interceptor: each layer pools its input's statistics and uses the new mix."""

    def intercept(call, args, kwargs, context):
        layer = context.module
        if context.method_name != "__call__" or not layer.has_variable("subject", "mean"):
            return call(*args, **kwargs)
        wide = args[0].astype(jnp.promote_types(jnp.float32, args[0].dtype))
        axes, values = tuple(range(wide.ndim - 1)), wide.size // wide.shape[-1]
        # Unbiased, like the variance from training.
        mean, var = wide.mean(axes), wide.var(axes) * (values / max(values - 1, 1))
        # Pool with the earlier updates, which all have the same size (Chan et al. 1979).
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
    """Sharpen the heatmaps of confident joints by training normalisation scales and shifts.

    The loss is the mean entropy of these heatmaps, as distributions over cells (Wang et al., "Tent:
    fully test-time adaptation by entropy minimization", ICLR 2021). Batch statistics are mixed as
    in `BatchStatistics`; Tent uses those of the batch alone.
    """

    RULES = ((ELSEWHERE, False), (state.norms, True), (r"", False))

    def start(self, base, tools):
        """Start with a zero delta for scales, shifts and batch statistics, if there are any."""
        lacking = (
            'the method "entropy" trains the scales and shifts of normalisation layers, and this '
            "network has none"
        )
        adaptation = start_training(base, self.RULES, tools, lacking)
        statistics = self._statistics(base)
        kept = _empty_pool(statistics) if statistics else ()
        return adaptation.replace(delta={**adaptation.delta, **statistics}, kept=kept)

    def update(self, adaptation, base, features, drawn, tools):
        """Update the statistics, then make one step of Adam with them."""
        if adaptation.kept:
            adaptation = self._pooled(adaptation, base, drawn, tools)

        def loss_fn(delta):
            output: Any = tools.model.apply(state.adapted(base, delta), drawn)
            maps, how = output.heatmaps, tools.model.decode
            counts = heatmaps.decode(maps, how)[1] >= tools.settings.confidence
            shares = heatmaps.distributions(heatmaps.readable(maps, how))
            return losses.entropy(shares, counts), adaptation.normalisers

        return steps.descend(adaptation, loss_fn, tx=tools.tx)
