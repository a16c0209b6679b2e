"""Joint training: the loop, its checkpoints and its history."""

import contextlib
import errno
import functools
import json
import os
import pathlib
import threading
import time
import warnings
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from data_pipelines import clips as clips_lib
from data_pipelines import pipeline
from ttp_jax import parallel, steps, visualize
from ttp_jax.checkpoint import Best, Checkpoints, base_of
from ttp_jax.files import Damaged, move_aside, named, read_json, write_json
from ttp_jax.runs import (
    base_model,
    diagnostics,
    identity,
    plan,
    process,
    scoring,
    sources,
)
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Config, Experiment
from ttp_jax.runs.process import Stopped, progress_bar, say, stopping
from ttp_jax.state import NotFinite, Stage, TrainState, schedule, stage_at


def train(
    experiment: Experiment,
    workdir: pathlib.Path,
    minutes: float = 0.0,
    *,
    extend: bool = False,
    scored: bool = False,
) -> TrainState:
    """Train to the end of the schedule, from the last checkpoint if there is one; return the state.

    With `minutes` above 0, stop at the first checkpoint after that time; call again to continue.
    With `extend`, continue with a longer schedule that agrees with the old one up to now. `scored`
    says whether the caller scores the model of a labelled project afterwards, for the plan.

    Raises Stopped on SIGTERM and Ctrl-C, after saving the current step. Raises NotFinite if a loss
    is NaN or infinite; the last checkpoint stays as it is. Raises ValueError if another process
    trains in the workdir, or the checkpoint was made with other settings.
    """
    folder = workdir / "checkpoints"
    checkpoints = Checkpoints(folder, experiment.config.train.keep)
    with process.alone_in(folder), contextlib.closing(checkpoints):
        step = checkpoints.latest_step()
        if step is not None:
            _check_same(experiment.config, workdir, step if extend else None)
        return _train(experiment, workdir, checkpoints, minutes, scored)


def _train(
    experiment: Experiment,
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    minutes: float,
    scored: bool,
) -> TrainState:
    began, fields = time.monotonic(), experiment.config.train
    last_step = experiment.last_step
    _check_parts(fields)
    # `data.extra` adds frames for personalization, which have no labels to score.
    clips = sources.load_clips(experiment.changed({"data.extra": 0}).data)
    training, held_out = (clips_lib.select(clips, split) for split in ("train", "val"))
    if not training:
        raise clips_lib.DataError(f"no training clips in {experiment.data.root}.")
    features = experiment.features if experiment.task.needs_features else None
    mesh = parallel.data_mesh()
    state = _start(experiment, checkpoints, features, training, mesh)
    for line in plan.lines(experiment, clips, scored):
        say(line)
    if state.step:
        say(f"resuming at step {int(state.step)} of {last_step}")
    if jax.process_index() == 0:
        _save_config(experiment, training, workdir)
    features = jax.device_put(features, parallel.everywhere(mesh))
    more = _unlabelled(experiment.data, workdir)
    stream = _device_batches(experiment, training, int(state.step), last_step, mesh, more)
    programs = {reconstruct: _step(experiment, reconstruct) for reconstruct in (False, True)}
    key = jax.random.key(experiment.seed + 1)
    log = _Log(workdir, fields.batch_size, schedule(experiment.stages), int(state.step), last_step)
    chosen = _Best(fields, experiment.stages, checkpoints.folder, state)
    pace = plan.Pace(experiment.stages, say if jax.process_index() == 0 else lambda _: None)
    with _stopped_by(stop := threading.Event()), contextlib.closing(log):
        for step in range(int(state.step), last_step):
            stage = stage_at(experiment.stages, step)
            state, metrics = programs[stage.self_weight > 0](
                state, next(stream), key, features, stage.self_weight
            )
            log.add(step, metrics)
            done, stops = step + 1, stop.is_set()
            due = done % fields.checkpoint_every == 0 or done == last_step
            if due or stops or done % fields.log_every == 0:
                log.write()
                pace.note(done)
            if due or stops:
                _check_weights(state)
                if due and held_out:
                    chosen.add(state, _validate(experiment, state, held_out, log, done))
                # The history comes first, because resuming drops entries newer than the checkpoint.
                log.keep()
                checkpoints.save(state)
            if chosen.settled:
                say(f"stopped at step {done}: no better score in {chosen.patience} checkpoints")
                break
            if stops or (due and minutes and time.monotonic() - began > 60 * minutes):
                break
    if stop.is_set():
        raise Stopped(f"stopped after step {int(state.step)} of {last_step}")
    chosen.say()
    return state


def _save_config(experiment: Experiment, training: list[clips_lib.Clip], workdir) -> None:
    """Store the config in the workdir, with the names of a project's training subjects."""
    names = tuple(sorted({clip.subject for clip in training}))
    changes = {"data.training_subjects": names} if experiment.data.source == "project" else {}
    identity.save_config(experiment.changed(changes).config, workdir)


def _stopped_by(event: threading.Event) -> contextlib.AbstractContextManager:
    """Let signals set the event, unless there are several processes, which would have to agree."""
    return stopping(event) if jax.process_count() == 1 else contextlib.nullcontext()


def _check_parts(fields) -> None:
    """Raise if a batch can't be split into `config.train.accumulate` equal parts."""
    parts, batch_size = fields.accumulate, fields.batch_size
    if parts < 1 or batch_size % parts:
        raise ValueError(
            f"config.train.accumulate is {parts}: config.train.batch_size, {batch_size}, can't be "
            "cut into so many equal parts."
        )


def _check_same(config: Config, workdir: pathlib.Path, extended_at: int | None) -> None:
    """Raise if a training would be continued with other settings.

    If `extended_at` is a step, the schedule may differ after it.
    """
    stored = identity.training_config(workdir)
    if stored is None:
        return
    both = (identity.trained_on(each) for each in (stored, config))
    before, now = (json.loads(json.dumps(each)) for each in both)
    if extended_at is not None:
        _check_schedules(stored.train.stages, config.train.stages, extended_at)
        before["train"]["stages"] = now["train"]["stages"]
    if before != now:
        # With other labels or splits, a subject that was trained on may now be for testing.
        regrouped = config.data.source == "project" and before["data"] != now["data"]
        remedy = (
            " to train anew."
            if regrouped
            else ", or delete config.json in it to continue with the new settings. If only the "
            "stages that are still to come differ, use --extend."
        )
        raise ValueError(
            f"{workdir} has a training with other settings "
            f"({'; '.join(identity.differences(before, now))}): choose another --workdir{remedy}"
        )


def _check_schedules(before, now, step: int) -> None:
    """Raise if the new stages change any of the first `step` updates."""
    old, new = ([Stage(*stage) for stage in stages] for stages in (before, now))
    if not step:
        return
    rates = [jax.vmap(schedule(each))(np.arange(step)) for each in (old, new)]
    weights = [
        [stage_at(each, number).self_weight for number in range(step)] for each in (old, new)
    ]
    differs = (np.asarray(rates[0]) != np.asarray(rates[1])) | (
        np.array(weights[0]) != np.array(weights[1])
    )
    if differs.any():
        raise ValueError(
            "--extend: the new config.train.stages change update "
            f"{int(differs.argmax()) + 1}, but {step} updates are done already. Make the last "
            "stage longer if its decay is constant, otherwise add a stage."
        )


def _start(experiment: Experiment, checkpoints, features, training, mesh) -> TrainState:
    """Return the last checkpoint on all devices, or a new state if there is none."""
    resumes = checkpoints.latest_step() is not None
    normalisers = np.ones(experiment.config.loss.levels + 1, np.float32)
    if not resumes and features is not None:
        normalisers = base_model.normaliser_start(experiment, features, training)
    # A checkpoint has all weights, so the file that training started from isn't needed any more.
    start = base_model.random_state if resumes else base_model.init_training
    state = start(experiment, normalisers)
    state = jax.device_put(state, parallel.everywhere(mesh))
    return checkpoints.restore(state) if resumes else state


def _check_weights(state: TrainState) -> None:
    """Raise NotFinite if the weights are not finite, because no training could continue from them.

    A step's loss is computed before its update, so the new weights must be checked as well.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.device_get(jax.tree.leaves(state.params))):
        raise NotFinite(
            f"the weights after step {int(state.step)} are not finite. The last checkpoint is kept:"
            " lower the learning rate (config.train.stages) and run again."
        )


def _step(experiment: Experiment, reconstruct: bool):
    """Return the program of one update, with or without the self-supervised task."""
    step = functools.partial(
        steps.train_step,
        model=experiment.net,
        tx=experiment.tx,
        task=experiment.task,
        reconstruct=reconstruct,
        accumulate=experiment.config.train.accumulate,
        remat=experiment.config.train.remat,
        bgr=experiment.bgr,
        photometric=experiment.config.train.photometric,
        source_masking=experiment.config.loss.source_masking,
    )
    return jax.jit(step, donate_argnums=0)


def _unlabelled(data: Config, workdir: pathlib.Path) -> list[clips_lib.Clip]:
    """Return clips of the training subjects' unlabelled frames, if the config asks for them."""
    count = data.unlabelled
    if not count or data.source != "project":
        return []
    say(f"reading up to {count} unlabelled frames of each training subject, once")
    found, left_out = sources.unlabelled(data, workdir / "unlabelled")
    frames, subjects = sum(c.num_frames for c in found), len({c.subject for c in found})
    say(f"unlabelled: {frames} frames of {subjects} training subjects")
    for sentence in left_out:
        say(f"  left out: {sentence}")
    return found


def _device_batches(experiment: Experiment, clips, first, last, mesh, unlabelled=()):
    """Yield batches from `first` to `last`, copied to the devices ahead of use."""
    process = jax.process_index(), jax.process_count()
    stream = sources.training_pairs(
        experiment, clips, first, max(last - first, 0), process, unlabelled
    )
    sharding = parallel.split_batch(mesh)
    exact = ("joints",) if experiment.net.temperature else ()
    wanted = ("target", "source", "heatmaps", "weights", *exact)

    def put(batch):  # this process's rows of the global batch
        own = {name: batch[name] for name in wanted}
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), own)

    return pipeline.device_prefetch(pipeline.numpy_batches(stream), put)


class _Best:
    """The checkpoint of the last stage with the best score on validation subjects.

    Earlier stages don't count, because parts that adapt together must have been trained together.
    """

    def __init__(self, fields, stages: Sequence[Stage], folder: pathlib.Path, state: TrainState):
        self.patience = fields.patience
        self._keeps, self._file = fields.best, Best(folder)
        self._first = sum(stage.steps for stage in stages[:-1])
        self._since, self._best = 0, None
        known = self._file.restore(base_of(state)) if self._keeps and state.step else None
        # A later step is left over from a training that has since been started again.
        if known is not None and known[1] > state.step:
            self._file.forget()
        elif known is not None:
            self._best = known[1:]
            self._since = (int(state.step) - known[1]) // fields.checkpoint_every

    def add(self, state: TrainState, score: float) -> None:
        """Note the score of a checkpoint."""
        if state.step <= self._first or not np.isfinite(score):
            return
        if self._best is not None and score <= self._best[1]:
            self._since += 1
            return
        self._since, self._best = 0, (int(state.step), score)
        if self._keeps and jax.process_index() == 0:
            self._file.save(state, score)

    @property
    def settled(self) -> bool:
        """Whether `patience` checkpoints have passed without a better score."""
        return 0 < self.patience <= self._since

    def say(self) -> None:
        """Print which checkpoint is used."""
        if self._keeps and self._best is not None:
            step, score = self._best
            say(
                f"using the checkpoint of step {step}, the best on validation subjects: {score:.2f}"
            )


def _validate(experiment: Experiment, state, clips, log, step) -> float:
    """Score the validation split for the history."""
    base = parallel.local(base_of(state))
    predictor = Runner(experiment, base, "none")
    joints = predictor.joints_of(clips)
    labels = experiment.skeleton, scoring.measures_from(experiment.config.eval)
    score = scoring.headline(clips, joints, *labels)
    log.scalars(step, {"val_score": score})
    if experiment.net.parts.affinity:
        variables = {"params": base.params, "batch_stats": base.batch_stats}
        frames = sources.subject_frames(clips[0], experiment.data, experiment.image_size)
        seen = variables, clips[0], frames, joints[0]
        log.picture(step, "figure5", diagnostics.figure5(experiment, *seen))
    return score


def _history(path: pathlib.Path) -> list[dict]:
    """Read losses and scores so far; move a damaged file aside instead of stopping the training."""
    try:
        return read_json(path, [{"step": int}]) or []
    except Damaged as error:
        warnings.warn(f"{error} It is now {move_aside(path, path.suffix)}.", stacklevel=2)
        return []


class _Log:
    """The progress bar, the history of losses and scores, and the check for finite losses."""

    def __init__(self, workdir: pathlib.Path, batch_size: int, rate, first: int, last: int):
        # Imported before clu imports TensorFlow, so that it starts silently.
        self._errors = pipeline.tensorflow().errors
        from clu import metric_writers

        self._first = jax.process_index() == 0  # only one of several processes prints
        self._writer = metric_writers.create_default_writer(
            str(workdir / "tensorboard"), just_logging=not self._first, asynchronous=False
        )
        self._workdir = workdir
        self._batch_size, self._rate, self._last = batch_size, rate, last
        self._waiting: list[tuple[int, dict]] = []
        earlier = _history(workdir / "history.json")  # kept below only up to the last checkpoint
        self._history = [record for record in earlier if record["step"] <= first]
        self._bar = progress_bar(last, "training", initial=first, disable=not self._first)
        self._time = time.monotonic()

    def add(self, step, metrics):
        self._waiting.append((step, metrics))

    def write(self):
        """Fetch the pending metrics, check them, show and write their means."""
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
        mean["learning_rate"] = float(self._rate(done - 1))
        mean["pictures_per_second"] = len(fetched) * self._batch_size / (now - self._time)
        self._time = now
        self._waiting.clear()
        self._bar.set_postfix_str(
            f"step {done} of {self._last}, loss {mean['loss']:.4f}, "
            f"{100 * mean['accuracy']:.0f} % of joints within 5 % of the crop, "
            f"{mean['pictures_per_second']:.0f} pictures/s",
            refresh=False,
        )
        self._bar.update(len(fetched))
        self.scalars(done, mean)

    def scalars(self, step, values):
        with self._named():
            self._writer.write_scalars(step, values)
            self._writer.flush()
        self._history.append({"step": step, **values})

    def picture(self, step, name, pixels):
        """Show uint8 pixels [H, W, 3] in TensorBoard, and write the newest picture to a file."""
        with self._named():
            self._writer.write_images(step, {name: pixels[None]})
        if self._first:
            visualize.save(self._workdir / f"{name}.png", pixels)

    def keep(self):
        """Write the history that belongs to a checkpoint, as JSON and as a plot."""
        if self._first:
            write_json(self._workdir / "history.json", self._history)
            keys = ("supervised", "self", "accuracy", "val_score")
            shown = [key for key in keys if any(key in record for record in self._history)]
            visualize.plot_history(self._workdir / "history.png", self._history, shown)

    def close(self):
        self._bar.close()
        with contextlib.suppress(self._errors.OpError):  # the full disk has already been reported
            self._writer.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn TensorFlow's error about a failed write into an OSError that names the folder."""
        try:
            yield
        except self._errors.OpError as error:
            full = isinstance(error, self._errors.ResourceExhaustedError)
            code, place = errno.ENOSPC if full else errno.EIO, self._workdir / "tensorboard"
            raise named(OSError(code, os.strerror(code)), place) from error
