"""Personalize the model to the person in a video, or to many people, and predict them.

    python main.py personalize my_video.mp4 --scenario=offline
    python main.py personalize my_video.mp4 --config.data.boxes=120,40,520,700
    python main.py personalize videos/*.mp4 --scenario=offline --keep=fp16
    python main.py personalize --config=configs/penn.py --config.data.root=DIR --scenario=online

Each video, and each folder of pictures, is one person. Without any, the test people of the config
are taken. No label is needed, and none is used for learning.

online: frame by frame, an update on the frames seen so far, then the frame's prediction.
offline: as many updates as frames, on pairs of all frames, then all predictions.

Writes WORKDIR/results/SCENARIO/ (of the included model: runs/shipped/results/SCENARIO/).
NAME is the video's or the folder's:

    NAME_report.html    own videos: open this first, before and after with signs of quality
    NAME_overlay.mp4    own videos: both poses over the video, before red, after green
    NAME_scores.json    own videos with --labels: scores before and after
    exports/            own videos: before and after in the formats of other tools
    NAME.csv, NAME.npz  the personalized model's joints, in picture pixels
    NAME.png            the personalized model's view of some frames
    run.json            the receipt; `python main.py verify WORKDIR/results/SCENARIO` checks it

Joints of the included model: head, left_shoulder, right_shoulder, left_elbow, right_elbow,
left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, left_ankle, right_ankle.

--keep=full (fp16, rank8) keeps every personalized model: WORKDIR/people/NAME.npz, for `predict
--person=NAME` on other videos of that person; `python main.py people` lists and compares them.
Stop it at any time (Ctrl-C, SIGTERM, a crash): the same command (without --overwrite) goes on
inside the subject that was under way. On a CPU, where subjects run one at a time, that gives the
same bytes as if never stopped. Subjects are skipped whose results of the same files, frames and
boxes are there (with --keep their model, too); --overwrite does them again anyway. Results of
another model or other settings are moved aside, to results/SCENARIO.old1, and kept models of
another video or other settings to people/NAME.old1.npz. Other --formats, --smooth, --keypoints or
--labels need no adaptation. One command at a time writes a folder of results.
Elsewhere subjects of similar length and size run side by side where memory allows it
(config.ttp.together), and are equal up to rounding, which depends on how many do.
"""

import hashlib
import json
import pathlib

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from data_pipelines import clips as clips_lib
from ttp_jax import parallel, people, state, visualize
from ttp_jax.checkpoint import Unfinished, fingerprint
from ttp_jax.files import (
    DAMAGED,
    Damaged,
    inside,
    move_aside,
    only_one,
    read_arrays,
    read_json,
    write_json,
)
from ttp_jax.verbs import experiment, placing, receipts
from ttp_jax.verbs.delivery import Delivery
from ttp_jax.verbs.experiment import say
from ttp_jax.verbs.runner import OF_ONE, Result, Runner, Stopped, stopping

STOPPED = 143  # exit code, as of a program that SIGTERM ended


def run(config, workdir: pathlib.Path, options) -> int:
    """Personalize to the test split, or to what the options name."""
    if options.camera is not None or options.stdin:
        from ttp_jax.verbs import live  # which uses this module

        return live.run(config, workdir, options)
    if options.keep:
        people.pack({}, options.keep)  # a wrong form shows before the work
    return run_scenario(config, workdir, options.scenario or "online", options)


def run_scenario(
    config, workdir: pathlib.Path, scenario: str, options, folder: pathlib.Path | None = None
) -> int:
    """Do this process's share of the test subjects in one scenario; return the exit code.

    A subject that fails is named and skipped: the others finish, and the exit code is 1.

    Args:
      config: the experiment.
      workdir: where the model is.
      scenario: "online", "offline", or "none" (predict only).
      options: flags of the command line.
      folder: for the results; None for the scenario's own in the workdir.
    """
    work = _Work(config, workdir, scenario, options, folder)
    with experiment.alone_in(work.folder):
        return _run(config, workdir, work, options)


def _run(config, workdir: pathlib.Path, work: "_Work", options) -> int:
    clips = clips_lib.by_subject(experiment.load_clips(config, "test"))
    if not clips:
        raise clips_lib.DataError(f"no test clips in {config.data.root}.")
    work.check(clips)
    if jax.process_index() == 0:
        receipts.prepare(work.folder, work.own)
        if options.overwrite:
            work.forget(clips)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("old results are gone")
    mine = clips[jax.process_index() :: jax.process_count()]
    done, todo = [], []
    for clip in mine:
        (done if work.is_done(clip) else todo).append(clip)
    if done:
        say(f"{len(done)} of {len(mine)} subjects are done already: nothing is adapted again")
    if todo and work.runner.carries and (len(todo) < len(clips) or jax.process_count() > 1):
        raise ValueError(
            "some subjects are done (or another process does them), but what is carried from "
            "subject to subject was not kept: start over with --overwrite, in one process."
        )
    try:
        for clip in done:
            work.unfinished.forget(clip.name)  # a kill may have left it
            work.deliver(clip)
        work.do(todo, drawn={clip.name for clip in clips[: config.eval.pictures]})
    except Stopped:
        again = "the same command" + " without --overwrite" * bool(options.overwrite)
        say(f"stopped after {len(work.seconds)} of {len(todo)} subjects: {again} goes on")
        work.write_receipt([clip.name for clip in clips])
        return STOPPED
    work.write_receipt([clip.name for clip in clips])
    say(f"{work.folder}: {len(done) + len(work.seconds)} subjects ({work.word}), run.json says how")
    if options.keep and work.seconds:
        say(f"{person_file(workdir, '*').parent}: their models, for `predict --person=NAME`")
    for name, error in work.failed.items():
        say(f"FAILED {name}: {error}")
    parallel.wait_for_hosts()
    return 1 if work.failed else 0


class _Work:
    """One run over subjects: the programs, where results go, and what became of each subject.

    Attributes:
      word: what is done, in the user's words.
      folder: of the results.
      own: what decides the results beside the pictures, `protocol`.
      unfinished: states of subjects under way.
      runner: the scenario's programs.
      seconds: of the subjects done in this run.
      failed: subjects that failed in this run, and why.
    """

    def __init__(self, config, workdir: pathlib.Path, scenario: str, options, folder):
        self._config, self._workdir, self._scenario = config, workdir, scenario
        self._person, self._form = options.person, options.keep
        found, self._step = experiment.load_base(config, workdir)
        # Once: of numbers on the host, each program's Runner would make its own copy there.
        trained = jax.device_put(found, jax.local_devices()[0])
        base, name = trained, scenario
        if self._person:
            path = person_file(workdir, self._person)
            person = people.read(path, fingerprint(trained), trained.params)
            base = trained.replace(params=state.adapted(trained, person.delta)["params"])
            name = f"person-{self._person}"
        self.word = "predict" if name == "none" else name
        self.folder = workdir / "results" / name if folder is None else folder
        self.own = receipts.protocol(config, base, scenario)
        self.unfinished = Unfinished(self.folder / "unfinished")
        self.runner = Runner(config, base, scenario, self.unfinished)
        self._predictor = Runner(config, base, "none")
        self._plain = Runner(config, trained, "none") if self._person else self._predictor
        changed = scenario != "none" or self._person  # else there is no before and after
        own_media = config.data.source == "media" and changed and options.deliver
        self._delivery = Delivery(config, name, self.folder, options) if own_media else None
        self.seconds: dict[str, float] = {}
        self.failed: dict[str, str] = {}

    def check(self, clips) -> None:
        """Refuse what can't be done before anything is done or replaced."""
        if self._delivery:
            self._delivery.check(clips)

    def forget(self, clips) -> None:
        """Count nothing of these subjects as done: NAME.npz goes, whose presence means just that.

        Their other files stay until there are new ones.
        """
        for clip in clips:
            (self.folder / f"{clip.name}.npz").unlink(missing_ok=True)
            self.unfinished.forget(clip.name)

    def is_done(self, clip) -> bool:
        """Whether the results of just these frames are there, and the model where it is kept."""
        if self._form:
            try:
                kept = people.read(person_file(self._workdir, clip.name))
            except (FileNotFoundError, ValueError):
                return False
            if not people.is_of(kept, self._about(clip)):
                return False
        path = self.folder / f"{clip.name}.npz"
        try:
            same = receipts.is_of(path, clip)
        except FileNotFoundError:
            return False
        except DAMAGED as error:
            aside = move_aside(path, path.suffix)
            say(f"{clip.name}: its results can't be read ({error}), are now in {aside}: again")
            return False
        if not same:
            say(f"{clip.name}: the results in {self.folder} are of other frames or boxes: again")
        return same

    def _about(self, clip) -> dict[str, str]:
        """What is said of a kept model, and must be true of one to count as this run's."""
        assert self._form
        protocol = hashlib.sha256(json.dumps(self.own, sort_keys=True).encode()).hexdigest()
        own = {"base": self.own["base"], "scenario": self._scenario, "form": self._form}
        return {**own, "protocol": protocol, "origin": clip.origin}

    def do(self, clips, drawn: set[str]) -> None:
        """Adapt to the subjects and write what comes of each, with pictures of those in `drawn`.

        Raises Stopped where the run was asked to stop.
        """
        bar = tqdm(
            total=sum(clip.num_frames for clip in clips),
            unit="frame",
            desc=self.word,
            dynamic_ncols=True,
            disable=not clips,
        )
        bar.set_postfix_str("the first frames take longer: programs are compiled")
        with stopping(self.runner.stop), bar:
            for clip, result in self.runner.many(self._boxed(clips), bar):
                if isinstance(result, Exception):
                    self.failed[clip.name] = str(result)
                    continue
                if self._delivery:
                    bar.set_postfix_str(f"{clip.name}: adapted; now its report and video")
                try:
                    self._finish(clip, result, clip.name in drawn)
                except OF_ONE as error:
                    self.failed[clip.name] = str(error)
                    continue
                ready = f"{len(self.seconds)} of {len(clips)} subjects"
                bar.set_description_str(f"{self.word}, {ready}")

    def _boxed(self, clips):
        for clip in clips:
            try:
                yield placing.placed(clip, self._predictor, self._config)
            except OF_ONE as error:
                self.failed[clip.name] = str(error)

    def _finish(self, clip, result: Result, draw: bool) -> None:
        if self._form:
            about = {**self._about(clip), "updates": int(result.adaptation.step)}
            target = person_file(self._workdir, clip.name)
            if aside := people.make_room(target, self._about(clip)):
                say(f"{target}: the model of another run or video is now in {aside}")
            people.write(target, jax.device_get(result.adaptation.delta), self._form, about)
        if draw and self._config.model.method == "transformer":
            visualize.save(self.folder / f"{clip.name}.png", self.runner.picture(clip, result))
        if self._delivery:
            before = self._plain.one(clip)
            both = ((self._plain, before), (self.runner, result))
            models = [(one.variables(found), found.joints) for one, found in both]
            figures = self.runner.figures(result.frames, *models)
            self._delivery.keep(clip, result, before, figures)
        receipts.write_result(self.folder, clip, result, self._config)
        self.seconds[clip.name] = result.seconds
        self.deliver(clip)

    def deliver(self, clip) -> None:
        """Make what an own video's user wants of results on disk, unless it is there."""
        if not self._delivery:
            return
        if self._delivery.is_done(clip):
            say(f"  {self._delivery.report(clip.name)}")
            return
        try:
            self._delivery.write(clip)
        except (OSError, ImportError, ValueError) as error:
            # The keypoints are on disk: the same command tries again what is made of them.
            self.failed[clip.name] = f"its keypoints are written, but not all of the rest: {error}"

    def write_receipt(self, names: list[str]) -> None:
        """Write run.json: all that is needed to do the run again and see whether it came out alike.

        It tells of all of `names` that have results; several processes add theirs to one file.
        """
        path = self.folder / "run.json"
        with only_one(path, wait=True):
            try:
                before = read_json(path, receipts.RECEIPT) or {}
            except Damaged as error:
                before, aside = {}, move_aside(path, path.suffix)
                say(f"{error} It is now in {aside}, {path} begins anew.")
            write_json(path, self._receipt(names, before))

    def _receipt(self, names: list[str], before: dict) -> dict:
        def files(name):
            parts = ("csv", "npz")
            return {f"{name}.{suffix}": self.folder / f"{name}.{suffix}" for suffix in parts}

        def written(name):
            return all(path.exists() for path in files(name).values())

        # Subjects of earlier commands stay: another video is no reason to forget.
        subjects = {name: old for name, old in before.get("subjects", {}).items() if written(name)}
        for name in filter(written, names):
            old = subjects.pop(name, {})
            try:
                stored = read_arrays(files(name)[f"{name}.npz"])
            except DAMAGED:
                continue  # not done: a run to come makes them
            outputs = {file: receipts.sha256(path) for file, path in files(name).items()}
            if old.get("outputs") != outputs:
                old = {}  # of earlier results: those on disk were killed before their receipt
            now = name in self.seconds or not old
            subjects[name] = {
                "frames": len(stored["joints"]),
                "seconds": self.seconds.get(name, old.get("seconds")),
                "data": self._config.data.to_dict() if now else old["data"],
                "made_with": receipts.made_with() if now else old["made_with"],
                "inputs": str(stored["inputs"]),
                "outputs": outputs,
            }
        still = {k: v for k, v in before.get("failed", {}).items() if k not in subjects}
        return {
            "protocol": receipts.protocol_line(self._config, self._scenario, self._person),
            "scenario": self._scenario,
            "base": self.own["base"],
            "checkpoint_step": self._step,
            "person": self._person,
            "seed": self._config.seed,
            "made_with": receipts.made_with(),
            "subjects": subjects,
            "failed": {**still, **self.failed},
            "config": self._config.to_dict(),
        }


def person_file(workdir: pathlib.Path, name: str) -> pathlib.Path:
    """Where a personalized model is kept."""
    return inside(workdir / "people", f"{name}.npz")
