"""The interface of adaptation methods, and the tools that they are given.

To add a method, add a module beside this one and an entry to `methods.METHODS`.
"""

from typing import Any, NamedTuple

import jax
import optax

from ttp_jax import state, tasks
from ttp_jax.frames import Frames
from ttp_jax.memory import Memory
from ttp_jax.models.pose import PoseNet
from ttp_jax.models.vgg import VGG16
from ttp_jax.settings import Settings
from ttp_jax.state import Adaptation, Base

# The parts of the network on the way from an image to the joints' heatmaps, and all others.
TO_JOINTS = r"^(encoder|self_head|decoder|supervised_head)/"
ELSEWHERE = r"^(?!(encoder|self_head|decoder|supervised_head)/)"


class Tools(NamedTuple):
    """Network, optimizer and settings of a personalization, bound once; they never change."""

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
        # Imported late, because `methods` imports this module.
        from ttp_jax import methods

        return methods.of(self.settings.method)

    @property
    def needs_features(self) -> bool:
        """Whether updates need the features of the perceptual loss."""
        return self.method.needs_features(self)


def start_training(base: Base, rules: state.Rules, tools: Tools, lacking: str) -> Adaptation:
    """Return a subject's state before its first frame, with the parameters to train in its delta.

    Args:
      base: the model to adapt.
      rules: which parameters train, as in `state.start_adaptation`.
      tools: network, optimizer and settings.
      lacking: start of the error message: what the method trains and the network lacks.

    Raises:
      ValueError: no parameter trains.
    """
    adaptation = state.start_adaptation(base, rules, tools.tx)
    if not adaptation.delta:
        raise ValueError(f"{lacking}: it has nothing to adapt. Choose another config.ttp.method.")
    return adaptation


class Method:
    """The interface of methods; by itself the method "none", which leaves the model as it is.

    Attributes:
      minimises_task: whether updates lower the loss of the self-supervised task.
    """

    minimises_task: bool = False

    def check(self, task: tasks.Task, settings: Settings) -> None:
        """Check that the method can be used.

        Args:
          task: the network's self-supervised task.
          settings: how to personalize.

        Raises:
          ValueError: the method doesn't work with the task or a setting.
        """

    def needs_features(self, tools: Tools) -> bool:
        """Return whether `update` needs the features of the perceptual loss."""
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
        """Draw the crops of an update.

        Args:
          key: the update's random key.
          past: the frames so far, including the current one.
          now: the current frame [1] (online); None (offline).
          settings: see `Settings`.
        """

    def update(
        self, adaptation: Adaptation, base: Base, features: VGG16 | None, drawn: Any, tools: Tools
    ) -> Adaptation:
        """Make one update.

        Args:
          adaptation: the subject's state.
          base: the trained model.
          features: features of the perceptual loss; None if `needs_features` is false.
          drawn: the crops that `draw` returned.
          tools: network, optimizer, settings.
        """
        return adaptation
