"""Training state on disk, with orbax: the last few steps, and the best on the validation split."""

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ttp_jax.state import Base, TrainState


class Checkpoints:
    """The checkpoints of one training, under `folder`.

    Saving is asynchronous; `close` waits for it.
    """

    def __init__(self, folder: str | pathlib.Path, keep: int = 3):
        self.folder = pathlib.Path(folder).expanduser().resolve()
        self._keep = keep
        self._last: ocp.CheckpointManager | None = None
        self._best: ocp.CheckpointManager | None = None

    def _open(self):
        if self._last is None:
            self._last = ocp.CheckpointManager(
                self.folder / "last", options=ocp.CheckpointManagerOptions(max_to_keep=self._keep)
            )
            self._best = ocp.CheckpointManager(
                self.folder / "best",
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=1, best_fn=lambda metrics: metrics["score"], best_mode="max"
                ),
            )
        assert self._best is not None
        return self._last, self._best

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Save under the state's step; also as the best if `score` (higher is better) is."""
        last, best = self._open()
        step = int(state.step)
        last.save(step, args=ocp.args.StandardSave(state))
        if score is not None:
            best.save(step, args=ocp.args.StandardSave(state), metrics={"score": score})

    def latest_step(self) -> int | None:
        """Number of the last whole checkpoint, None without any."""
        if not (self.folder / "last").is_dir():
            return None
        return self._open()[0].latest_step()

    def restore(self, template: TrainState, which: str = "last") -> TrainState:
        """Read the last or the best checkpoint; shapes must be those of `template`.

        Raises FileNotFoundError where there is none, ValueError where it is of another network.
        """
        last, best = self._open()
        manager = {"last": last, "best": best}[which]
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(
                f"no checkpoint in {self.folder / which}: train first, or point --workdir at a "
                "finished training."
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        try:
            restored: Any = manager.restore(step, args=ocp.args.StandardRestore(abstract))
            return restored
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"checkpoint {self.folder / which / str(step)} is not of the network that the "
                f"config describes ({str(error).splitlines()[0]}). Use the config it was trained "
                f"with: {self.folder.parent / 'config.json'}."
            ) from error

    def close(self) -> None:
        """Wait until everything is on disk."""
        for manager in (self._last, self._best):
            if manager is not None:
                manager.wait_until_finished()
                manager.close()
        self._last = self._best = None


def base_of(state: TrainState) -> Base:
    """What personalization needs of a training state."""
    return Base(state.params, state.batch_stats, state.normalisers)


def fingerprint(base: Base) -> str:
    """SHA-256 of a model's numbers: two models are the same if and only if these are."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(base):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def write_json(path: str | pathlib.Path, value) -> None:
    """Write `value` so that a crash leaves the old file or the new one, never half of it."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, allow_nan=True))
    part.replace(path)
