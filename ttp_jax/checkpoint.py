"""States on disk: training checkpoints (orbax), unfinished subjects, and model files."""

import contextlib
import functools
import glob
import hashlib
import json
import logging
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from ttp_jax import claims, fetch
from ttp_jax.files import (
    DAMAGED,
    Damaged,
    move_aside,
    named,
    parse_json,
    read_arrays,
    reason_of,
    write_arrays,
)
from ttp_jax.state import Base, TrainState

METADATA = "_CHECKPOINT_METADATA"  # orbax's file with a checkpoint's times and our checksum
# The included model.
SHIPPED = pathlib.Path(__file__).parent / "pretrained" / "rendered.npz"


class Checkpoints:
    """The checkpoints of one training, in `folder`.

    Saving is asynchronous; `close` waits for it. Each checkpoint has a digest of its numbers, so
    that one that was changed later counts as damaged.
    """

    def __init__(self, folder: str | pathlib.Path, keep: int = 3):
        self.folder = pathlib.Path(folder).expanduser().resolve()
        self._keep = keep
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            _quiet_threads()
            self._manager = self._made()
        return self._manager

    def _made(self) -> ocp.CheckpointManager:
        """Open the folder; a damaged METADATA that is still JSON stops orbax, so move it aside."""
        options = ocp.CheckpointManagerOptions(max_to_keep=self._keep)
        handler, last = ocp.StandardCheckpointHandler(), self.folder / "last"
        make = functools.partial(ocp.CheckpointManager, last, options=options)
        steps = [path for path in last.glob(f"*/{METADATA}") if path.parent.name.isdecimal()]
        for path in sorted(steps, key=lambda path: -int(path.parent.name)):
            with contextlib.suppress(ValueError):
                return make(item_handlers=handler)
            warnings.warn(f"the damaged {path} is now {move_aside(path)}", stacklevel=5)
        return make(item_handlers=handler)

    def save(self, state: TrainState) -> None:
        """Save under the state's step.

        Raises an OSError that names the folder if the disk is full. Because saving is asynchronous,
        the error may come from the previous save.
        """
        with self._named():
            self._open().save(
                int(state.step),
                args=ocp.args.StandardSave(state),
                custom_metadata={"sha256": fingerprint(state)},
            )

    def latest_step(self) -> int | None:
        """Return the step of the last checkpoint; None if there is none."""
        if not (self.folder / "last").is_dir():
            return None
        return self._open().latest_step()

    def restore(self, template: TrainState) -> TrainState:
        """Read the last undamaged checkpoint; its shapes must be those of `template`.

        Arrays are placed on the devices of the template's arrays, or are NumPy arrays where those
        are. Later checkpoints, which are damaged, are moved aside with a warning.

        Raises FileNotFoundError if there is no checkpoint, ValueError if it is of another network
        or all are damaged.
        """
        manager, damaged = self._open(), {}
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, template)
            except Damaged as error:
                damaged[step] = error
                continue
            for other in damaged:
                self._set_aside(other, step)
            return restored
        if damaged:
            reasons = "; ".join(f"step {step}: {error.reason}" for step, error in damaged.items())
            raise ValueError(
                f"every checkpoint in {self.folder / 'last'} is damaged ({reasons}): restore one "
                "from a "
                "backup, or delete the folder and train again."
            )
        raise FileNotFoundError(
            f"no checkpoint in {self.folder / 'last'}: train first, or point --workdir at a "
            "finished training."
        )

    def _restore(self, step: int, template: TrainState) -> TrainState:
        """Read one checkpoint; raise Damaged, or ValueError if it is of another network."""
        manager = self._open()
        try:
            stored = {
                leaf.name: leaf.shape for leaf in jax.tree.leaves(manager.item_metadata(step))
            }
            if not stored:
                raise ValueError("its list of arrays is missing")
        except Exception as error:  # what orbax raises depends on where the damage is
            raise _damaged(step, error) from error
        shapes = {name: leaf.shape for name, leaf in _by_name(template).items()}
        for name in (*shapes, *stored):
            if stored.get(name) != shapes.get(name):
                has = f"{name} is {stored.get(name)}, expected {shapes.get(name)}"
                raise ValueError(
                    f"checkpoint {self.folder / 'last' / str(step)} is not of the network that the "
                    f"config describes ({has}). Give the settings it was trained with, which are "
                    f"in {self.folder.parent / 'config.json'}."
                )
        try:
            abstract = jax.tree.map(_abstract, template)
            restored: Any = manager.restore(step, args=ocp.args.StandardRestore(abstract))
            digest = (manager.metadata(step).custom_metadata or {}).get("sha256")
            if digest not in (None, fingerprint(restored)):
                raise ValueError("its checksum does not match")
        except (MemoryError, jax.errors.JaxRuntimeError):  # not a damaged file
            raise
        except Exception as error:  # what orbax raises depends on where the damage is
            raise _damaged(step, error) from error
        return restored

    def _set_aside(self, step: int, whole: int) -> None:
        """Move a damaged checkpoint aside, so that training can go on from an earlier one."""
        path = self.folder / "last" / str(step)
        try:
            place = f"it is now in {move_aside(path)}"
        except OSError as error:  # not ours to move: it stays, and is skipped each time
            place = f"it stays there ({error.strerror})"
        self._open().reload()
        warnings.warn(
            f"checkpoint {path} is damaged: continuing from step {whole}, the last good one; "
            f"{place}.",
            stacklevel=4,
        )

    def close(self) -> None:
        """Wait until everything is on disk; raise OSError if the disk is full."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with self._named():
                manager.wait_until_finished()
                manager.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn orbax's errors on writing into an OSError that names the folder."""
        place = self.folder / "last"
        try:
            yield
        except OSError as error:
            raise named(OSError(error.errno, error.strerror), place) from error
        except ValueError as error:  # tensorstore's form of an OSError
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise named(OSError(int(code[1]), ""), place) from error


def _damaged(step: int, error: Exception) -> Damaged:
    return Damaged(f"step {step}", reason_of(error))


@functools.cache  # once per process
def _quiet_threads() -> None:
    """Hide the errors that orbax logs in its threads; it also raises them here.

    Otherwise a full disk or a damaged checkpoint fills the terminal with hundreds of tracebacks:
    one for each array, and one for each that returns to an event loop that is closed by then.
    """

    def tells(record: logging.LogRecord) -> bool:
        text = f"{record.pathname} {record.getMessage()}"
        return not re.search("orbax|tensorstore", text)

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(tells)
    usual = sys.unraisablehook

    def show(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = show


BEST_REMEDY = "delete it, which leaves the last checkpoint, or train again"


class Best:
    """The model with the best validation score so far, in one file beside the checkpoints."""

    def __init__(self, folder: str | pathlib.Path):
        self._path = pathlib.Path(folder).expanduser() / "best.npz"

    def save(self, state: TrainState, score: float) -> None:
        """Save a model in place of the earlier one.

        Args:
          state: state of the training.
          score: its score on validation subjects.
        """
        leaves = _by_path(jax.device_get(base_of(state)))
        about = {"step": np.asarray(state.step), "score": np.array(score)}
        write_arrays(self._path, {**leaves, **about}, compress=False)

    def restore(self, template: Base) -> tuple[Base, int, float] | None:
        """Return the best model, its step and its score; None if none was saved.

        Args:
          template: a model of the expected shapes.

        Raises:
          ValueError: the file is damaged, or of another network than the template.
        """
        try:
            found = read_arrays(self._path, {"step": ("i", 0), "score": ("f", 0)}, BEST_REMEDY)
        except FileNotFoundError:
            return None
        step, score = int(found.pop("step")), float(found.pop("score"))
        wanted = _by_path(template)
        if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in found.items()}:
            raise ValueError(
                f"{self._path} belongs to another network than the config describes: give the "
                "config that it was trained with."
            )
        claims.check_numbers(found, self._path, BEST_REMEDY)
        structure = jax.tree.structure(template)
        return structure.unflatten(found[path] for path in wanted), step, score

    def forget(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)


class Unfinished:
    """States of unfinished subjects, one file each in `folder`.

    A file is complete or absent, even if the process is killed. The files are NumPy archives, not
    orbax checkpoints: if there are several processes, each has its own subjects, and orbax (0.12)
    writes arrays that belong to a single process only from process 0.
    """

    def __init__(self, folder: str | pathlib.Path):
        self._folder = pathlib.Path(folder)

    def save(self, name: str, tree: Any) -> None:
        """Save the state of a subject in place of an earlier one.

        Args:
          name: name of the subject.
          tree: its state, arrays in any nesting.
        """
        leaves = _by_path(jax.device_get(_with_key_data(tree)))
        write_arrays(self._folder / f"{name}.npz", leaves, compress=False)

    def restore(self, name: str, template: Any) -> Any | None:
        """Return the saved state of a subject; None if it is missing, damaged or of another shape.

        Args:
          name: name of the subject.
          template: a state of the expected shapes.
        """
        try:
            found = read_arrays(self._folder / f"{name}.npz")
        except FileNotFoundError:
            return None
        except DAMAGED as error:
            warnings.warn(
                f"state of {name} can't be read ({error}): starting it from the beginning",
                stacklevel=2,
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
        """Delete the state of a subject, and temporary files of a process killed while writing."""
        for path in self._folder.glob(f"{glob.escape(name)}.npz*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder isn't empty, or doesn't exist
            self._folder.rmdir()


def _by_name(tree: Any) -> dict[str, Any]:
    """Return the leaves by orbax's names for them, "params.encoder.conv1.kernel"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in leaves}


def _by_path(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _with_key_data(tree: Any) -> Any:
    """Return a tree with random keys as plain numbers, which a file can hold."""

    def plain(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(plain, tree)


def _abstract(leaf):
    """Tell orbax what to restore: an array on the leaf's devices, or a NumPy array."""
    return leaf if isinstance(leaf, np.ndarray) else ocp.utils.to_shape_dtype_struct(leaf)


def base_of(state: TrainState) -> Base:
    """Return the part of a training state that personalization starts from."""
    return Base(state.params, state.batch_stats, state.normalisers)


def fingerprint(base: Base | TrainState) -> str:
    """Return the SHA-256 of a model's numbers, which identifies the model."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(base):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def model_path(name: str | pathlib.Path) -> pathlib.Path:
    """Return the file of a model by name: "shipped", "blazepose", or a path.

    Raises FileNotFoundError if BlazePose is asked for and wasn't fetched.
    """
    if name == "blazepose" and not blazepose_path().is_file():
        raise FileNotFoundError(
            f"{blazepose_path()} does not exist: run `python main.py fetch blazepose`."
        )
    named = {"shipped": SHIPPED, "blazepose": blazepose_path()}
    return named.get(str(name)) or pathlib.Path(name).expanduser()


def default_model() -> str:
    """Return the model for videos of people: "blazepose" if it was fetched, else "shipped"."""
    return "blazepose" if blazepose_path().is_file() else "shipped"


def blazepose_path() -> pathlib.Path:
    """Return where `fetch blazepose` puts the model file."""
    return fetch.folder() / "blazepose" / "blazepose.npz"


class ModelFile(NamedTuple):
    """The content of a model file.

    Attributes:
      base: parameters (rounded to half precision in the file), statistics, normalisers.
      config: the parts of the experiment's config that the model can't be used without: "data"
        (skeleton only), "model", "loss", "ttp", "train" (precision only).
      about: where the model comes from: name of the "config", last "step", data it was "trained"
        on, digests of a project's "training_subjects", and anything else that its writer noted.
    """

    base: Base
    config: dict[str, Any]
    about: dict[str, Any]


def write_model(path: pathlib.Path, model: ModelFile) -> None:
    """Write a model as a NumPy archive without pickles; a crash leaves the old file or the new.

    Args:
      path: the file.
      model: the model to write.
    """
    params = traverse_util.flatten_dict(model.base.params, sep="/")
    stats = traverse_util.flatten_dict(model.base.batch_stats, sep="/")
    arrays = {f"params/{name}": np.asarray(v).astype(np.float16) for name, v in params.items()}
    arrays |= {f"batch_stats/{name}": np.asarray(v, np.float32) for name, v in stats.items()}
    arrays["normalisers"] = np.asarray(model.base.normalisers, np.float32)
    arrays["config"] = np.array(json.dumps(model.config))
    arrays["about"] = np.array(json.dumps(model.about))
    write_arrays(path, arrays)


def read_model(path: str | pathlib.Path) -> ModelFile:
    """Read a file that `write_model` wrote; arrays are returned as float32.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: the file is cut off, is no model file, or claims impossible settings (`claims`).
        Damaged is a ValueError.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}: name a file that `python main.py export` wrote.")
    texts = {"config": ("U", 0), "about": ("U", 0)}
    # NumPy, because this is read with the config, before jax's device is chosen.
    arrays = read_arrays(path, {**texts, "normalisers": ("f", 1)}, claims.REMEDY)
    config, about = (
        parse_json(str(arrays.pop(name)), f"{path}: {name}", remedy=claims.REMEDY) for name in texts
    )
    claims.check_settings(config, about, path)
    normalisers = arrays.pop("normalisers")
    trees: dict[str, dict] = {"params": {}, "batch_stats": {}}
    for name, value in arrays.items():
        kind, _, place = name.partition("/")
        if kind not in trees:
            raise Damaged(path, f"it has {name[:60]!r}", claims.REMEDY)
        trees[kind][place] = value.astype(np.float32) if value.dtype.kind == "f" else value
    claims.check_arrays(trees["params"], trees["batch_stats"], normalisers, config, path)
    params, stats = (traverse_util.unflatten_dict(tree, sep="/") for tree in trees.values())
    base = Base(params, stats, normalisers)  # pyright: ignore[reportArgumentType]
    return ModelFile(base, config, about)
