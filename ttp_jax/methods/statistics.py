"""Methods that work on normalisation layers: batch statistics, and entropy (Tent)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from ttp_jax import crops, heatmaps, losses, state, steps
from ttp_jax.methods.base import ELSEWHERE, TO_JOINTS, Method, start_training


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
        lacking = (
            'the method "entropy" trains the scales and shifts of normalisation layers, and this '
            "network has none"
        )
        adaptation = start_training(base, self.RULES, tools, lacking)
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
