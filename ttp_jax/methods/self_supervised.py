"""Personalization by the network's self-supervised task: the paper's method."""

import re

from ttp_jax import crops, state, steps
from ttp_jax.methods.base import TO_JOINTS, Method


class SelfSupervised(Method):
    """Minimise the self-supervised loss on pairs of frames: TTP, the paper's method.

    `Settings.rules` selects the parameters that train.
    """

    minimises_task = True

    def check(self, task, settings):
        """Check that the task can be minimised at test time."""
        task.check(settings)

    def needs_features(self, tools):
        """Return whether the task needs them."""
        return tools.task.needs_features

    def start(self, base, tools):
        """Start with a zero delta for the parameters that train."""
        rules = tools.settings.rules
        adaptation = state.start_adaptation(base, state.RULES[rules], tools.tx)
        if base.params and not any(re.search(TO_JOINTS, path) for path in adaptation.delta):
            raise ValueError(
                f"config.ttp.rules is {rules!r}, which trains nothing between the picture and this "
                "network's joints: they would stay unchanged. Choose other rules."
            )
        return adaptation

    def draw(self, key, past, now, settings):
        """Draw the target and source of every pair."""
        return crops.pairs(key, past, now, settings)

    def update(self, adaptation, base, features, drawn, tools):
        """Make one step of Adam."""
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
