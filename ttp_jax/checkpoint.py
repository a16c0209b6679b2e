"""State on disk: of trainings (orbax), and of subjects whose personalization isn't done."""

import contextlib
import glob
import hashlib
import json
import pathlib
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from ttp_jax import fetch
from ttp_jax.files import DAMAGED, read_arrays, write_arrays
from ttp_jax.state import Base, TrainState

# The model that comes with the project.
SHIPPED = pathlib.Path(__file__).parent / "pretrained" / "rendered.npz"


class Checkpoints:
    """The checkpoints of one training, under `folder`.

    Saving is asynchronous; `close` waits for it.
    """

    def __init__(self, folder: str | pathlib.Path, keep: int = 3):
        self.folder = pathlib.Path(folder).expanduser().resolve()
        self._keep = keep
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=self._keep)
            self._manager = ocp.CheckpointManager(self.folder / "last", options=options)
        return self._manager

    def save(self, state: TrainState) -> None:
        """Save under the state's step."""
        self._open().save(int(state.step), args=ocp.args.StandardSave(state))

    def latest_step(self) -> int | None:
        """Number of the last whole checkpoint, None without any."""
        if not (self.folder / "last").is_dir():
            return None
        return self._open().latest_step()

    def restore(self, template: TrainState) -> TrainState:
        """Read the last checkpoint; shapes must be those of `template`.

        Arrays come to the devices of the template's, or as numpy arrays where those are.

        Raises FileNotFoundError where there is none, ValueError where it is of another network.
        """
        manager = self._open()
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(
                f"no checkpoint in {self.folder / 'last'}: train first, or point --workdir at a "
                "finished training."
            )
        abstract = jax.tree.map(_abstract, template)
        try:
            restored: Any = manager.restore(step, args=ocp.args.StandardRestore(abstract))
            wanted = _by_path(template)
            for path, leaf in _by_path(restored).items():  # orbax takes numpy arrays of any shape
                if leaf.shape != wanted[path].shape:
                    raise ValueError(f"{path} is {leaf.shape}, expected {wanted[path].shape}")
            return restored
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"checkpoint {self.folder / 'last' / str(step)} is not of the network that the "
                f"config describes ({str(error).splitlines()[0]}). Give the settings it was "
                f"trained with, which are in {self.folder.parent / 'config.json'}."
            ) from error

    def close(self) -> None:
        """Wait until everything is on disk."""
        if self._manager is not None:
            self._manager.wait_until_finished()
            self._manager.close()
        self._manager = None


class Best:
    """The model that scored best on validation subjects so far, one file beside the checkpoints."""

    def __init__(self, folder: str | pathlib.Path):
        self._path = pathlib.Path(folder).expanduser() / "best.npz"

    def save(self, state: TrainState, score: float) -> None:
        """Keep this one instead of what was kept."""
        leaves = _by_path(jax.device_get(base_of(state)))
        about = {"step": np.asarray(state.step), "score": np.array(score)}
        write_arrays(self._path, {**leaves, **about}, compress=False)

    def restore(self, template: Base) -> tuple[Base, int, float] | None:
        """The model, its step and its score; None where none was kept.

        Raises ValueError for one that is damaged or of another network than the template.
        """
        try:
            found = read_arrays(self._path)
        except FileNotFoundError:
            return None
        except DAMAGED as error:
            raise ValueError(f"{self._path} can't be read: train again.") from error
        step, score = int(found.pop("step")), float(found.pop("score"))
        wanted = _by_path(template)
        if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in found.items()}:
            raise ValueError(f"{self._path} is not of the network that the config describes.")
        structure = jax.tree.structure(template)
        return structure.unflatten(found[path] for path in wanted), step, score

    def forget(self) -> None:
        """Delete it."""
        self._path.unlink(missing_ok=True)


class Unfinished:
    """States of subjects that are under way, one file each in `folder`.

    A file is in place as a whole or not at all, whenever the process is killed. NumPy archives and
    not orbax: of several processes each has subjects of its own, and orbax (0.12) writes arrays of
    one process alone from process 0 only.
    """

    def __init__(self, folder: str | pathlib.Path):
        self._folder = pathlib.Path(folder)

    def save(self, name: str, tree: Any) -> None:
        """Keep the state of a subject instead of what was kept."""
        leaves = _by_path(jax.device_get(_with_key_data(tree)))
        write_arrays(self._folder / f"{name}.npz", leaves, compress=False)

    def restore(self, name: str, template: Any) -> Any | None:
        """The state of a subject; None where there is none, or one of another shape."""
        try:
            found = read_arrays(self._folder / f"{name}.npz")
        except FileNotFoundError:
            return None
        except DAMAGED as error:
            warnings.warn(
                f"state of {name} can't be read ({error}): starting it again", stacklevel=2
            )
            return None
        wanted = _by_path(jax.eval_shape(_with_key_data, template))
        if {k: (v.shape, v.dtype) for k, v in wanted.items()} != {
            k: (v.shape, v.dtype) for k, v in found.items()
        }:
            return None

        def typed(value, like):
            is_key = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
            return jax.random.wrap_key_data(value) if is_key else value

        structure = jax.tree.structure(template)
        read = structure.unflatten(found[path] for path in wanted)
        return jax.tree.map(typed, read, template)

    def forget(self, name: str) -> None:
        """Delete the state of a subject, and what a process left that was killed writing it."""
        for path in self._folder.glob(f"{glob.escape(name)}.npz*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there are others in it, or it isn't there
            self._folder.rmdir()


def _by_path(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _with_key_data(tree: Any) -> Any:
    """Keys as plain numbers, which is what a file can hold."""

    def plain(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(plain, tree)


def _abstract(leaf):
    """What orbax is to restore: an array on the leaf's devices, or a numpy array."""
    return leaf if isinstance(leaf, np.ndarray) else ocp.utils.to_shape_dtype_struct(leaf)


def base_of(state: TrainState) -> Base:
    """What personalization needs of a training state."""
    return Base(state.params, state.batch_stats, state.normalisers)


def fingerprint(base: Base) -> str:
    """SHA-256 of a model's numbers: two models are the same if and only if these are."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(base):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def model_path(name: str | pathlib.Path) -> pathlib.Path:
    """The file of a model by name: "shipped", "blazepose", or the file's own.

    Raises FileNotFoundError where BlazePose wasn't fetched.
    """
    if name == "blazepose" and not blazepose_path().is_file():
        raise FileNotFoundError(
            f"{blazepose_path()} isn't there: `python main.py fetch blazepose` gets it."
        )
    named = {"shipped": SHIPPED, "blazepose": blazepose_path()}
    return named.get(str(name)) or pathlib.Path(name).expanduser()


def blazepose_path() -> pathlib.Path:
    """Where `fetch blazepose` puts the model's file."""
    return fetch.folder() / "blazepose" / "blazepose.npz"


class ModelFile(NamedTuple):
    """A trained model as one file holds it.

    Attributes:
      base: parameters (rounded to half precision in the file), statistics, normalisers.
      config: the parts of its experiment that it can't be used without: "data" (skeleton only),
        "model", "loss", "ttp", "train" (precision only).
      about: where it comes from: the "config"'s name, its last "step", all that it was "trained"
        on, or what else its writer knew.
    """

    base: Base
    config: dict[str, Any]
    about: dict[str, Any]


def write_model(path: pathlib.Path, model: ModelFile) -> None:
    """Write a model as a NumPy archive without pickles; a crash leaves the old file or the new."""
    params = traverse_util.flatten_dict(model.base.params, sep="/")
    stats = traverse_util.flatten_dict(model.base.batch_stats, sep="/")
    arrays = {f"params/{name}": np.asarray(v).astype(np.float16) for name, v in params.items()}
    arrays |= {f"batch_stats/{name}": np.asarray(v, np.float32) for name, v in stats.items()}
    arrays["normalisers"] = np.asarray(model.base.normalisers, np.float32)
    arrays["config"] = np.array(json.dumps(model.config))
    arrays["about"] = np.array(json.dumps(model.about))
    write_arrays(path, arrays)


def read_model(path: str | pathlib.Path) -> ModelFile:
    """Read what `write_model` wrote; arrays come as float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or holds something else.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} isn't there: name a model that `export` wrote.")
    try:
        arrays = read_arrays(path)
        config, about = (json.loads(str(arrays.pop(name))) for name in ("config", "about"))
        # Numpy: this is read with the config, before it is settled which device jax shall use.
        normalisers = np.asarray(arrays.pop("normalisers"))
        trees: dict[str, dict] = {"params": {}, "batch_stats": {}}
        for name, value in arrays.items():
            kind, _, place = name.partition("/")
            trees[kind][place] = np.asarray(value, np.float32)
    except DAMAGED as error:
        # Not NumPy's own words: they suggest to load the file in a way that runs code from it.
        raise ValueError(
            f"{path} is no whole model file of `export`: get it, or write it, again."
        ) from error
    params, stats = (traverse_util.unflatten_dict(tree, sep="/") for tree in trees.values())
    base = Base(params, stats, normalisers)  # pyright: ignore[reportArgumentType]
    return ModelFile(base, config, about)
