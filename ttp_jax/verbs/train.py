"""Train the model on labelled people, then evaluate it. The default verb.

    python main.py --config=configs/tiny.py
    python main.py train --config=configs/penn.py --config.data.root=DIR --workdir=runs/penn

Stops and resumes at any time: the same command goes on. Ctrl-C (once) and SIGTERM end it after the
step it is at, which is kept; exit code 143. What kills it at once, and every stop where several
processes train together, costs the steps since the last checkpoint (config.train.checkpoint_every).
Writes under the workdir: checkpoints/, config.json, losses and scores so far in history.json,
history.png and (TensorBoard) tensorboard/, and what `evaluate` writes.
"""

import contextlib
import functools
import json
import pathlib
import threading
import time
import warnings

import jax
import numpy as np
from clu import metric_writers
from tqdm import tqdm

from data_pipelines import clips as clips_lib
from data_pipelines import pipeline
from ttp_jax import parallel, steps, visualize
from ttp_jax.checkpoint import Checkpoints, base_of
from ttp_jax.files import Damaged, move_aside, read_json, write_json
from ttp_jax.models.pose import WITH_KEYPOINTS
from ttp_jax.state import NotFinite, TrainState, stage_at
from ttp_jax.verbs import evaluate, experiment, receipts
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.personalize import STOPPED
from ttp_jax.verbs.runner import Runner, Stopped, stopping


def run(config, workdir: pathlib.Path, options) -> int:
    """Train, then evaluate without personalization."""
    try:
        train(config, workdir)
    except Stopped as stop:
        say(f"{stop}: the same command goes on")
        return STOPPED
    if jax.process_count() > 1:
        say("trained; score it with `python main.py evaluate`, in one process")
        parallel.wait_for_hosts()
        return 0
    return evaluate.run(config, workdir, options)


def train(config, workdir: pathlib.Path, minutes: float = 0.0) -> TrainState:
    """Train to the schedule's end, from the last checkpoint if there is one; return the state.

    With `minutes` above 0 only until the first checkpoint after so many: call again to go on.
    Raises Stopped on SIGTERM and Ctrl-C, after it has saved the step it was at.
    Raises NotFinite at a loss that is NaN or infinite; the last checkpoint stays as it is.
    Raises ValueError where another process trains there, or the checkpoint is of other settings.
    """
    folder = workdir / "checkpoints"
    with experiment.alone_in(folder):
        return _train(config, workdir, Checkpoints(folder, config.train.keep), minutes)


def _train(config, workdir: pathlib.Path, checkpoints: Checkpoints, minutes: float) -> TrainState:
    began = time.monotonic()
    stages = experiment.stages_of(config)
    _check_parts(config)
    last_step = sum(stage.steps for stage in stages)
    if checkpoints.latest_step() is not None:
        _check_same(config, workdir)
    clips = experiment.load_clips(config)
    training, held_out = (clips_lib.select(clips, split) for split in ("train", "val"))
    if not training:
        raise clips_lib.DataError(f"no training clips in {config.data.root}.")
    features = experiment.load_vgg(config)
    mesh, tx = parallel.data_mesh(), experiment.optimizer(config)
    state = _start(config, tx, checkpoints, features, training, mesh)
    if state.step:
        say(f"resuming at step {int(state.step)} of {last_step}")
    if jax.process_index() == 0:
        experiment.save_config(config, workdir)
    features = jax.device_put(features, parallel.everywhere(mesh))
    stream = _device_batches(config, training, int(state.step), last_step, mesh)
    programs = {reconstruct: _step(config, tx, reconstruct) for reconstruct in (False, True)}
    key = jax.random.key(config.seed + 1)
    log, stop = _Log(config, workdir, int(state.step), last_step), threading.Event()
    with _stopped_by(stop), contextlib.closing(checkpoints), contextlib.closing(log):
        for step in range(int(state.step), last_step):
            stage = stage_at(stages, step)
            state, metrics = programs[stage.self_weight > 0](
                state, next(stream), key, features, stage.self_weight
            )
            log.add(step, metrics)
            done, stops = step + 1, stop.is_set()
            due = done % config.train.checkpoint_every == 0 or done == last_step
            if due or stops or done % config.train.log_every == 0:
                log.write()
            if due or stops:
                _check_weights(state)
                if due:
                    _validate(config, state, held_out, log, done)
                log.keep()  # first: what a kill in between leaves too much of is dropped
                checkpoints.save(state)
            if stops or (due and minutes and time.monotonic() - began > 60 * minutes):
                break
    if stop.is_set():
        raise Stopped(f"stopped after step {int(state.step)} of {last_step}")
    return state


def _stopped_by(event: threading.Event) -> contextlib.AbstractContextManager:
    """Ask by the event for a stop after a step; several processes would have to agree on one."""
    return stopping(event) if jax.process_count() == 1 else contextlib.nullcontext()


def _check_parts(config) -> None:
    """Refuse a batch that can't be cut into as many parts as the config says."""
    parts, batch_size = config.train.accumulate, config.train.batch_size
    if parts < 1 or batch_size % parts:
        raise ValueError(
            f"config.train.accumulate is {parts}: config.train.batch_size, {batch_size}, can't be "
            "cut into so many equal parts."
        )


def _check_same(config, workdir: pathlib.Path) -> None:
    """Refuse to go on with a training of other settings."""
    stored = experiment.training_config(workdir)
    if stored is None:
        return
    before, now = (json.loads(json.dumps(experiment.trained_on(each))) for each in (stored, config))
    if before != now:
        raise ValueError(
            f"{workdir} holds a training of other settings "
            f"({'; '.join(receipts.differences(before, now))}): name another --workdir, or "
            "delete config.json in it to go on with the new ones."
        )


def _start(config, tx, checkpoints: Checkpoints, features, training, mesh) -> TrainState:
    """The last checkpoint, on all devices; without one a new state."""
    resumes = checkpoints.latest_step() is not None
    normalisers = np.ones(config.loss.levels + 1, np.float32)
    if not resumes and config.model.method in WITH_KEYPOINTS:
        normalisers = experiment.normaliser_start(config, features, training)
    # A checkpoint has all weights: the file that training began with may be gone.
    start = experiment.random_state if resumes else experiment.init_training
    state = start(config, tx, normalisers)
    state = jax.device_put(state, parallel.everywhere(mesh))
    return checkpoints.restore(state) if resumes else state


def _check_weights(state: TrainState) -> None:
    """Raise NotFinite before weights are kept that nothing could go on from.

    The loss of a step tells of the weights before it: the last update shows only here.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.device_get(jax.tree.leaves(state.params))):
        raise NotFinite(
            f"the weights after step {int(state.step)} are not finite. The last checkpoint is kept:"
            " lower the learning rate (config.train.stages) and run again."
        )


def _step(config, tx, reconstruct: bool):
    """The program of one update, with the self-supervised half or without."""
    step = functools.partial(
        steps.train_step,
        model=experiment.build_model(config),
        tx=tx,
        reconstruct=reconstruct,
        accumulate=config.train.accumulate,
        remat=config.train.remat,
        bgr=experiment.is_bgr(config),
    )
    return jax.jit(step, donate_argnums=0)


def _device_batches(config, clips, first, last, mesh):
    """Batches from `first` to `last`, copied to the devices ahead of use."""
    process = jax.process_index(), jax.process_count()
    stream = experiment.training_pairs(config, clips, first, max(last - first, 0), process)
    sharding = parallel.split_batch(mesh)
    wanted = ("target", "source", "heatmaps", "weights")

    def put(batch):  # this process's rows of the global batch
        own = {name: batch[name] for name in wanted}
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), own)

    return pipeline.device_prefetch(pipeline.numpy_batches(stream), put)


def _validate(config, state, clips, log, step) -> None:
    """Score on the validation split, for the history, where the data set has one."""
    if not clips:
        return
    predictor = Runner(config, parallel.local(base_of(state)), "none")
    score = evaluate.headline(config, clips, predictor.joints_of(clips))
    log.scalars(step, {"val_score": score})


def _history(path: pathlib.Path) -> list[dict]:
    """Losses and scores so far; a damaged file of them is moved aside and costs no training."""
    try:
        return read_json(path, [{"step": int}]) or []
    except Damaged as error:
        warnings.warn(f"{error} It is now {move_aside(path, path.suffix)}.", stacklevel=2)
        return []


class _Log:
    """Progress bar, the history of losses and scores, and the check that every loss is finite."""

    def __init__(self, config, workdir, first, last):
        self._first = jax.process_index() == 0  # the one of several processes that tells
        self._writer = metric_writers.create_default_writer(
            str(workdir / "tensorboard"), just_logging=not self._first, asynchronous=False
        )
        self._workdir = workdir
        self._batch_size = config.train.batch_size
        self._waiting: list[tuple[int, dict]] = []
        earlier = _history(workdir / "history.json")  # up to the last checkpoint
        self._history = [record for record in earlier if record["step"] <= first]
        self._bar = tqdm(
            total=last, initial=first, unit="step", dynamic_ncols=True, disable=not self._first
        )
        self._time = time.monotonic()

    def add(self, step, metrics):
        self._waiting.append((step, metrics))

    def write(self):
        """Fetch what waits on the device, check it, show and write its mean."""
        if not self._waiting:
            return
        fetched = [(step, jax.device_get(metrics)) for step, metrics in self._waiting]
        for step, metrics in fetched:
            if not np.isfinite(metrics["loss"]):
                raise NotFinite(
                    f"the loss of step {step + 1} is {metrics['loss']}. The last checkpoint is "
                    "kept: lower the learning rate (config.train.stages) and run again."
                )
        done = fetched[-1][0] + 1
        mean = {k: float(np.mean([m[k] for _, m in fetched])) for k in fetched[0][1]}
        now = time.monotonic()
        mean["pictures_per_second"] = len(fetched) * self._batch_size / (now - self._time)
        self._time = now
        self._waiting.clear()
        self._bar.update(len(fetched))
        self._bar.set_postfix_str(
            f"loss {mean['loss']:.4f}, joints within 5 % {100 * mean['accuracy']:.0f}, "
            f"{mean['pictures_per_second']:.0f} pictures/s"
        )
        self.scalars(done, mean)

    def scalars(self, step, values):
        self._writer.write_scalars(step, values)
        self._writer.flush()
        self._history.append({"step": step, **values})

    def keep(self):
        """Write the history that belongs to a checkpoint, as a table and as a picture."""
        if self._first:
            write_json(self._workdir / "history.json", self._history)
            keys = ("supervised", "self", "accuracy", "val_score")
            shown = [key for key in keys if any(key in record for record in self._history)]
            visualize.plot_history(self._workdir / "history.png", self._history, shown)

    def close(self):
        self._bar.close()
        self._writer.close()
