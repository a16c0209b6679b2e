"""What every adaptation method offers, and the tools that it is given.

A method is a module beside this one and an entry in `methods.METHODS`.
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
        # The table imports every method, and those this module: it can be read only now.
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
      rules: what trains, as in `state.start_adaptation`.
      tools: network, optimizer and settings.
      lacking: what the method trains and the network hasn't, for the error.

    Raises:
      ValueError: no parameter trains.
    """
    adaptation = state.start_adaptation(base, rules, tools.tx)
    if not adaptation.delta:
        raise ValueError(f"{lacking}: it has nothing to adapt. Take another config.ttp.method.")
    return adaptation


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
