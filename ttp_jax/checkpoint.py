"""State on disk: of trainings (orbax), and of subjects whose personalization isn't done."""

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

METADATA = "_CHECKPOINT_METADATA"  # orbax's file of a checkpoint's times and our checksum
# The model that comes with the project.
SHIPPED = pathlib.Path(__file__).parent / "pretrained" / "rendered.npz"


class Checkpoints:
    """The checkpoints of one training, under `folder`.

    Saving is asynchronous; `close` waits for it. Each comes with a digest of its numbers, so that
    one that was changed since counts as damaged.
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
        """Open the folder. A damaged METADATA that is still JSON stops orbax, so it goes aside."""
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

        Raises OSError that names the folder where the disk is full; it may be of the save before.
        """
        with self._named():
            self._open().save(
                int(state.step),
                args=ocp.args.StandardSave(state),
                custom_metadata={"sha256": fingerprint(state)},
            )

    def latest_step(self) -> int | None:
        """Number of the last checkpoint, None without any."""
        if not (self.folder / "last").is_dir():
            return None
        return self._open().latest_step()

    def restore(self, template: TrainState) -> TrainState:
        """Read the last whole checkpoint; shapes must be those of `template`.

        Arrays come to the devices of the template's, or as numpy arrays where those are. Damaged
        checkpoints behind it are moved aside, with a warning.

        Raises FileNotFoundError where there is none, ValueError where it is of another network or
        none is whole.
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
        """One checkpoint; raises Damaged, or ValueError where it is of another network."""
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
        except Exception as error:  # likewise
            raise _damaged(step, error) from error
        return restored

    def _set_aside(self, step: int, whole: int) -> None:
        """Move a damaged checkpoint out of the way of the training that goes on."""
        path = self.folder / "last" / str(step)
        try:
            place = f"it is now in {move_aside(path)}"
        except OSError as error:  # others' files: it stays, and is passed over each time
            place = f"it stays there ({error.strerror})"
        self._open().reload()
        warnings.warn(
            f"checkpoint {path} is damaged: continuing from step {whole}, the last good one; "
            f"{place}.",
            stacklevel=4,
        )

    def close(self) -> None:
        """Wait until everything is on disk; raises OSError where the disk is full."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with self._named():
                manager.wait_until_finished()
                manager.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Make one OSError that names the folder of what orbax raises where it can't write."""
        place = self.folder / "last"
        try:
            yield
        except OSError as error:
            raise named(OSError(error.errno, error.strerror), place) from error
        except ValueError as error:  # as tensorstore reports it
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise named(OSError(int(code[1]), ""), place) from error


def _damaged(step: int, error: Exception) -> Damaged:
    return Damaged(f"step {step}", reason_of(error))


@functools.cache  # once a process
def _quiet_threads() -> None:
    """Keep out of the terminal what orbax raises here anyway, and logs in its threads, too.

    A full disk or a damaged checkpoint was hundreds of tracebacks long: of each array's write or
    read, and of each that came back to an event loop that was closed by then.
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
    """The model that scored best on validation subjects so far, one file beside the checkpoints."""

    def __init__(self, folder: str | pathlib.Path):
        self._path = pathlib.Path(folder).expanduser() / "best.npz"

    def save(self, state: TrainState, score: float) -> None:
        """Keep this one instead of what was kept.

        Args:
          state: of the training.
          score: its score on validation people.
        """
        leaves = _by_path(jax.device_get(base_of(state)))
        about = {"step": np.asarray(state.step), "score": np.array(score)}
        write_arrays(self._path, {**leaves, **about}, compress=False)

    def restore(self, template: Base) -> tuple[Base, int, float] | None:
        """Return the best model, its step and its score; None if none was kept.

        Args:
          template: a model of the expected shapes.

        Raises:
          ValueError: it is damaged, or of another network than the template.
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
        """Keep the state of a subject, replacing an earlier one.

        Args:
          name: of the subject.
          tree: its state, arrays in any nesting.
        """
        leaves = _by_path(jax.device_get(_with_key_data(tree)))
        write_arrays(self._folder / f"{name}.npz", leaves, compress=False)

    def restore(self, name: str, template: Any) -> Any | None:
        """Return the kept state of a subject; None if there is none, or one of another shape.

        Args:
          name: of the subject.
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
        """Delete the state of a subject, and what a process left that was killed writing it."""
        for path in self._folder.glob(f"{glob.escape(name)}.npz*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there are others in it, or it isn't there
            self._folder.rmdir()


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by orbax's names for them, "params.encoder.conv1.kernel"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in leaves}


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


def fingerprint(base: Base | TrainState) -> str:
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
            f"{blazepose_path()} does not exist: run `python main.py fetch blazepose`."
        )
    named = {"shipped": SHIPPED, "blazepose": blazepose_path()}
    return named.get(str(name)) or pathlib.Path(name).expanduser()


def default_model() -> str:
    """The model for videos of people: "blazepose" where it was fetched, else "shipped"."""
    return "blazepose" if blazepose_path().is_file() else "shipped"


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
    """Write a model as a NumPy archive without pickles; a crash leaves the old file or the new.

    Args:
      path: of the file.
      model: what to write.
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
    """Read what `write_model` wrote; arrays come as float32.

    Args:
      path: of the file.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is cut off, holds something else, or claims what can't be (`claims`). It is a
        ValueError.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: name a file that `export` wrote.")
    texts = {"config": ("U", 0), "about": ("U", 0)}
    # Numpy: this is read with the config, before it is settled which device jax shall use.
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
