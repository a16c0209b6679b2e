"""Show what a config describes, without data: parameters, sizes, schedule, what trains when.

python main.py info --config=configs/penn.py
"""

import jax
import jax.numpy as jnp

from ttp_jax import state
from ttp_jax.verbs import experiment
from ttp_jax.verbs.experiment import say


def run(config, workdir, options) -> int:
    """Print the description; counts come from the initialised tree."""
    del workdir, options
    model, size = experiment.build_model(config), config.model.image_size
    picture = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), picture, picture))
    params = variables["params"]
    skeleton, maps = experiment.skeleton_of(config), experiment.heatmap_size(config)

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    say(f"{config.name}: method {config.model.method}, ResNet-{config.model.depth}")
    say(f"picture {size} x {size}, heatmaps {maps} x {maps} x {skeleton.size} ({skeleton.name})")
    say(f"initialised from: {config.model.init}; features of the loss: {config.loss.features}")
    say(f"\nparameters {count(params):>14,}")
    for name, part in sorted(params.items()):
        say(f"  {name:<18}{count(part):>8,}")
    if config.model.method != "baseline":
        say("\ntrains at test time:")
        for name in ("reference", "paper"):
            trainable, frozen = state.split(params, state.RULES[name])
            mark = "*" if name == config.ttp.rules else " "
            say(
                f" {mark}{name:<10}{count(trainable):>12,} in {len(trainable)} tensors, "
                f"frozen {count(frozen):,} in {len(frozen)}"
            )
    say("\ntraining stages (updates, learning rate, lambda, decay):")
    for stage in experiment.stages_of(config):
        say(f"  {tuple(stage)}")
    return 0
