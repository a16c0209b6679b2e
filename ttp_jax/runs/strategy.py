"""How many subjects run in one call of a program, in which way, and on which devices."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttp_jax import driver, parallel, state, ttp
from ttp_jax.driver import CHUNK
from ttp_jax.frames import Frames
from ttp_jax.models.pose import PoseNet
from ttp_jax.runs import members
from ttp_jax.runs.members import Member
from ttp_jax.runs.process import say

MEMORY_SHARE = 0.7  # share of a device's free memory for subjects side by side
MOST_TOGETHER = 64
TIMED = 3  # timed calls of a program, of which the fastest counts


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How subjects are distributed over devices and time.

    Attributes:
      how: "map" (one after the other), "vmap" (side by side), "chunks" (some side by side, chunk
        after chunk; see `parallel.over_subjects`) or "auto". "auto" runs one subject at a time on a
        CPU. Elsewhere it runs as many as fit into memory, by "map" or "vmap", whichever is faster
        in a measurement.
      devices: number of devices that work on a group at the same time.
    """

    how: str = "auto"
    devices: int = 1


DEFAULT = Strategy()


def strategy(how: str | None, devices: str | None) -> Strategy:
    """Return the strategy for the flags --strategy and --devices.

    Raises ValueError if this machine doesn't have that many devices.
    """
    there, wanted = jax.local_device_count(), devices or "1"
    count = there if wanted == "all" else int(wanted) if wanted.isdigit() else 0
    if not 1 <= count <= there:
        raise ValueError(
            f"--devices={devices}: this machine has {there}. Give a number up to that, or all."
        )
    return Strategy(how or "auto", count)


class Planner:
    """Planner of a run: which programs to use, and how many subjects to give to each call."""

    def __init__(
        self, net: PoseNet, settings: ttp.Settings, scenario: str, strategy: Strategy, together: int
    ):
        """Create a planner.

        Args:
          net: the network.
          settings: settings of the personalization.
          scenario: a key of `members.PASSES`.
          strategy: the strategy that the user asked for.
          together: number of subjects in a call, `config.ttp.together`; 0 to measure it.
        """
        self._net, self.settings, self._scenario = net, settings, scenario
        self._strategy, self._together = strategy, together
        self._widths: dict[tuple[int, ...], int] = {}
        self._faster: str | None = None  # "map" or "vmap", once measured

    @property
    def places(self) -> tuple[Any, Any]:
        """The shardings of shared arrays and of the subjects' arrays."""
        devices = jax.local_devices()[: self._strategy.devices]
        if len(devices) == 1:
            return devices[0], devices[0]
        mesh = parallel.subject_mesh(devices)
        return parallel.everywhere(mesh), parallel.split_subjects(mesh)

    def programs(self, how: str = driver.ONE, devices: int = 0) -> driver.Programs:
        """Return the compiled programs for groups of subjects, or for one."""
        chunk = (self._together or 1) if how == "chunks" else None
        return driver.programs(self._net, self.settings, driver.Layout(how, chunk, devices))

    def width(
        self, member: Member, start: Callable[[], ttp.Subject], shared: tuple[state.Base, Any]
    ) -> int:
        """Return how many subjects like this one run in one call.

        Args:
          member: one of these subjects.
          start: function that returns its state.
          shared: the base model and the features of the loss.
        """
        devices, shape = self._strategy.devices, member.memory
        on_cpu = jax.default_backend() == "cpu" and self._strategy.how == "auto"
        if self._together == 1 or (not self._together and on_cpu):
            return devices
        if shape not in self._widths:
            each = self._together or self._fitting(member, start, shared)
            self._widths[shape] = devices * each
        return self._widths[shape]

    def padded(self, count: int) -> int:
        """Round `count` up to one of few sizes of a call, so that few programs are compiled."""
        devices = self._strategy.devices
        each = 1 << (-(-count // devices) - 1).bit_length()
        if self._strategy.how == "chunks":
            each = -(-each // (self._together or 1)) * (self._together or 1)
        return devices * each

    def halve(self, member: Member, count: int) -> int:
        """From now on, run half as many subjects like this one in a call; return how many."""
        self._widths[member.memory] = max(1, count // 2)
        return self._widths[member.memory]

    def program(
        self,
        name: str,
        subjects: ttp.Subject,
        frames: Frames | None,
        shared: tuple[state.Base, Any],
    ) -> driver.Program:
        """Return the program of a pass over a group of subjects [N, ...]."""
        devices = self._strategy.devices if self._strategy.devices > 1 else 0
        each, how = len(subjects.frame) // max(devices, 1), self._strategy.how
        if each == 1:
            how = "map"
        elif how == "auto" and jax.default_backend() == "cpu":
            how = "vmap"  # because config.ttp.together asks for more than one
        elif how == "auto":
            self._faster = self._faster or self._measured(name, devices, subjects, frames, shared)
            how = self._faster
        return getattr(self.programs(how, devices), name)

    def _fitting(self, member: Member, start, shared) -> int:
        """Return how many subjects fit into free memory, from the compiler's plan for one."""
        one = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[None], start()))
        chunk = member.frames.read([0], CHUNK)
        frames = jax.tree.map(lambda leaf: leaf[None], chunk)
        name = "adapt" if self._scenario == "offline" else members.PASSES[self._scenario][-1]
        program: Any = getattr(self.programs("vmap"), name)
        plan = program.lower(*shared, one, None if name == "adapt" else frames).compile()
        memory = plan.memory_analysis()
        leaves = jax.tree.leaves((frames, one.adaptation, one.memory))
        each = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        each += memory.temp_size_in_bytes + memory.output_size_in_bytes
        stats = jax.local_devices()[0].memory_stats() or {}
        free = stats.get("bytes_limit", each) - stats.get("bytes_in_use", 0)
        width = int(np.clip(MEMORY_SHARE * free / each, 1, MOST_TOGETHER))
        width = 2 ** (width.bit_length() - 1)
        say(
            f"running {width} subjects side by side: each needs {each / 2**20:.0f} MiB, "
            f"{free / 2**20:.0f} MiB are free"
        )
        return width

    def _measured(self, name: str, devices: int, subjects, frames, shared) -> str:
        """Measure whether one after the other ("map") or side by side ("vmap") is faster here."""
        seconds = {}
        for how in ("vmap", "map"):
            program, times = getattr(self.programs(how, devices), name), []
            for _ in range(1 + TIMED):  # the first call compiles
                # A copy, because programs reuse the memory of their arguments.
                own = jax.tree.map(jnp.copy, subjects)
                jax.block_until_ready(own)
                began = time.monotonic()
                jax.block_until_ready(program(*shared, own, frames))
                times.append(time.monotonic() - began)
            seconds[how] = min(times[1:])
        faster = min(seconds, key=seconds.__getitem__)
        shown = ", ".join(f"{how} {1000 * value:.0f} ms" for how, value in seconds.items())
        say(f"--strategy={faster} is faster here ({shown} for each chunk of frames)")
        return faster
