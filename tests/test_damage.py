"""Damaged or malicious files are either read or refused with a message.

    python -m pytest tests/test_damage.py -n0 -s -m slow      # all of them, with the tally

Each kind of file is damaged in many ways (`damage`) and given to its reader in the program. The
reader must return a result, or raise an error that `main.py` shows as one line naming the file.
For formats with checksums, a result must equal that of the undamaged file.
"""

import contextlib
import json
import pathlib
import resource
import shutil
import time
import types
import warnings

import cv2
import damage
import h5py
import jax
import made_projects
import numpy as np
import pytest
import scipy.io
import small_net
import small_run
import torch

import ttp_jax
from configs import tiny
from data_pipelines import h36m_files, labels, layouts, media, penn, projects, synthetic
from ttp_jax import checkpoint, convert, files, people, state
from ttp_jax.models import vgg
from ttp_jax.paper import records, reproduction
from ttp_jax.runs import (
    base_model,
    experiment,
    folds,
    identity,
    outcome,
    outputs,
    personalization,
    provenance,
    results,
    run_record,
    sources,
    training,
)
from ttp_jax.skeletons import PENN13
from ttp_jax.verbs import people as people_verb
from ttp_jax.verbs import verify

IN_WORDS = (ValueError, OSError, ImportError, ArithmeticError)  # as in main.py
MOST_MIB, MOST_SECONDS = 1024, 10.0  # the machine may be busy
QUICK, FULL = 40, 300  # mutations of a kind


class House:
    """A workdir with one of each file, as the product writes them, and what reads each."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.work, self.config = folder, folder / "work", small_run.get_config()
        for t, picture in enumerate(small_net.pictures(4, height=48, width=64)):
            (folder / "person0").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / f"person0/{t:04}.png"), picture)
        self.config.data.root = str(folder / "person0")
        self.experiment = experiment.build(self.config)
        drawn = small_net.variables(self.experiment.net, size=self.experiment.image_size)
        base = state.Base(drawn["params"], drawn["batch_stats"], np.ones(1, np.float32))
        self.base = jax.device_get(base)
        self.clips = sources.load_clips(self.config.data, "test")
        self.results = self.work / "results/online"
        provenance.prepare(self.results, identity.protocol(self.config, self.base, "online"))
        joints = np.random.default_rng(0).normal(size=(4, 13, 2)).astype(np.float32)
        result = types.SimpleNamespace(joints=joints, confidence=joints[..., 0], inputs="abc")
        results.write_result(self.results, self.clips[0], result, PENN13)  # pyright: ignore
        self.write_record(self.results)
        delta = state.split(self.base.params, state.RULES["reference"])[0]
        about = {"base": checkpoint.fingerprint(self.base), "scenario": "online", "updates": 4}
        place = personalization.person_file(self.work, "person0")
        people.write(place, delta, "rank1", about)
        identity.save_config(self.config, self.work)

    def write_record(self, folder):
        run = {"protocol": "online", "scenario": "online", "base": "abc", "person": None}
        run |= {"made_with": {"jax": "1"}, "config": self.config.to_dict()}
        run_record.write(folder, self.clips, run, run_record.Now({}, {}, {}, {}, {}))

    # What each reader makes of its file, as something that can be compared.

    def model(self, path):
        loaded = ttp_jax.load(path)
        assert experiment.kept_config(str(path))
        return loaded.base

    def person(self, path):
        people_verb.run(["list", str(path.parents[1])])
        return people.read(path, checkpoint.fingerprint(self.base), self.base)

    def result(self, path):
        return results.read_results(path.parent, self.clips)

    def unfinished(self, path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it begins again, and says so
            found = checkpoint.Unfinished(path.parent).restore(path.stem, self.a_state())
        return found and {**found, "key": jax.random.key_data(found["key"])}

    def a_state(self):
        return {"params": self.base.params, "key": jax.random.key(1), "turn": np.int32(1)}

    def run_record(self, path):
        (path.parent / "person0.csv").unlink(missing_ok=True)  # else all would be run again
        verify.run([str(path.parent)])
        self.write_record(path.parent)

    def protocol(self, path):
        provenance.prepare(path.parent, {"base": "another"})

    def workdir_config(self, path):
        stored = identity.training_config(path.parent)
        base_model.check_network(self.config, stored.to_dict(), path.parent)
        experiment.kept_config(str(path.parent))

    def history(self, path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            training._history(path)

    def pieces(self, path):
        files.read_json(path, records.PIECES)

    def record(self, path):
        config = tiny.get_config()
        config.reproduce.methods, config.reproduce.seeds = ("transformer",), (0,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it counts as missing, and says so
            built = experiment.build(config)
            name = records.record_name(built, records.RunSpec("transformer", "offline"))
            shutil.copy(path, path.parent / f"{name}.json")
            reproduction.write_report(built, path.parent / "report", path.parent)

    def evaluation(self, path):
        folds.merged([files.read_json(path, folds.EVALUATION)])

    def best(self, path):
        return checkpoint.Best(path.parent).restore(self.base)

    def outputs(self, path):
        made = outputs.Outputs(self.experiment, "online", path.parents[1], outputs.OutputOptions())
        made.is_done(self.clips[0])

    def kept_outputs(self, path):
        kept = path.parents[1] / "person0.npz"
        return outcome.read_outcome(self.clips[0], path, kept).before

    def boxes(self, path):
        media.open_inputs([str(self.folder / "person0")], boxes=str(path))

    def labels(self, path):
        labels.read(path, PENN13, "person0", (48, 64), count=4)

    def project(self, path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            alone = path.suffix in (".slp", ".json")
            projects.read(path if alone else next(p for p in path.parents if p.name == "project"))

    def mmpose(self, path):
        (h36m_files._read_json if path.suffix == ".json" else h36m_files._read_npz)(path)

    def poses(self, path):
        h36m_files._read_poses(path, 2)

    def penn_cache(self, path):
        return [vars(label) for label in penn._load_labels(path) or []] or None

    def rendered(self, path):
        paths = path.with_name("frames.npy"), path.with_name("labels.npz")
        synthetic._load_split(synthetic.Spec(test=2, eval_frames=3), "test", *paths)

    def torch_file(self, path):
        return convert.load_model(path, self.released())

    def released(self):
        kernel = np.zeros((1, 1, 8, 13), np.float32)
        return {"params": {"supervised_head": {"kernel": kernel, "bias": np.zeros(13, np.float32)}}}

    def features(self, path):
        found = files.read_hdf5(path)
        with contextlib.suppress(ValueError):
            vgg.load(str(path))
        return found


# --- The files -----------------------------------------------------------------------------------


def write_model(house, folder):
    config = house.config.to_dict()
    kept = {part: config[part] for part in ("model", "loss", "ttp")}
    kept |= {"data": {"skeleton": "penn13"}, "train": {"precision": "float32"}}
    path = folder / "model.npz"
    checkpoint.write_model(path, checkpoint.ModelFile(house.base, kept, {"step": 3}))
    return path


def copied(part):
    """A file of the workdir, in a copy of it."""

    def write(house, folder):
        shutil.copytree(house.work, folder / "work")
        return folder / "work" / part

    return write


def a_run_record(house, folder):
    """The run's record, of a run whose model is a file."""
    path = copied("results/online/run.json")(house, folder)
    record = json.loads(path.read_text())
    record["config"]["base"] = str(write_model(house, house.folder))
    path.write_text(json.dumps(record, indent=1))
    return path


def unfinished(house, folder):
    checkpoint.Unfinished(folder).save("person0", house.a_state())
    return folder / "person0.npz"


def written(name, content):
    def write(house, folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path

    return write


def kept_outputs(house, folder):
    path = copied("results/online/delivery/person0.npz")(house, folder)
    joints = np.zeros((4, 13, 2), np.float32)
    about = {"figures": {"loss": [1.0, 2.0]}, "cost": {"updates": 4, "frames": 4}}
    inputs = str(files.read_arrays(path.parents[1] / "person0.npz")["inputs"])
    arrays = {"joints": joints, "confidence": joints[..., 0], "boxes": house.clips[0].boxes}
    text = np.array(json.dumps({**about, "inputs": inputs}))
    files.write_arrays(path, {**arrays, "about": text})
    return path


def best(house, folder):
    fields = house.base.params, house.base.batch_stats, (), house.base.normalisers
    found = state.TrainState(np.int32(7), *fields)
    checkpoint.Best(folder).save(found, 55.0)
    return folder / "best.npz"


def project(file, **how):
    """A labelled project with pictures, and one file of it."""

    def write(house, folder):
        root = folder / "project"
        made_projects.deeplabcut(root, recordings=("a",), frames=(3, 10), config=YAML, **how)
        return root / file

    return write


def sleap(house, folder):
    made_projects.video(folder / "a.mp4")
    made_projects.sleap(folder / "project.slp", [folder / "a.mp4"])
    return folder / "project.slp"


def coco(house, folder):
    made_projects.coco(folder / "project")
    return next((folder / "project").glob("*.json"))


def labels_h5(house, folder):
    index = [f"labeled-data/person0/img{frame:03d}.png" for frame in (0, 2)]
    table = made_projects.table(index, names=["head", "left_knee"])
    table.to_hdf(folder / "labels.h5", key="df_with_missing", mode="w")
    return folder / "labels.h5"


def penn_label(house, folder):
    fields = {
        **{name: np.full((4, 13), 20.0) for name in ("x", "y", "visibility")},
        **{"action": "jump", "pose": "front", "train": 1, "nframes": 4},
        "bbox": np.tile([11.0, 21, 40, 45], (4, 1)),
        "dimensions": np.array([[48, 64, 4]], np.uint16),
    }
    scipy.io.savemat(folder / "0001.mat", fields, do_compression=True)
    return folder / "0001.mat"


def penn_cache(house, folder):
    penn._store_labels(folder / "labels.npz", [penn.read_label(penn_label(house, folder))])
    return folder / "labels.npz"


def mmpose_npz(house, folder):
    names = np.array(["S1/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg"])
    arrays = {"imgname": names, "part": np.ones((1, 17, 3)), "S": np.ones((1, 17, 4))}
    files.write_arrays(folder / "h36m_train.npz", arrays)
    return folder / "h36m_train.npz"


def poses(house, folder):
    layouts.write_poses(folder / "poses.cdf", np.ones((5, 32, 2)))
    return folder / "poses.cdf"


def rendered(of):
    def write(house, folder):
        np.save(folder / "frames.npy", np.ones((2, 3, 8, 8, 3), np.uint8))
        joints = np.ones((2, 3, 13, 2), np.float32)
        rows = {"joints": joints, "visible": joints[..., 0] > 0, "boxes": joints[:, :, :4, 0]}
        files.write_arrays(folder / "labels.npz", rows, compress=False)
        return folder / of

    return write


def torch_file(house, folder):
    tensors = {"final_layer.weight": torch.ones(13, 8, 1, 1), "final_layer.bias": torch.ones(13)}
    torch.save(tensors, folder / "model.pth")
    return folder / "model.pth"


def features_file(house, folder):
    with h5py.File(folder / "vgg.h5", "w") as file:
        for block in range(1, 3):
            file[f"block{block}_conv1/kernel"] = np.ones((3, 3, 3, 8), np.float32)
            file.create_dataset(f"block{block}_conv1/bias", data=np.ones(64), compression="gzip")
    return folder / "vgg.h5"


MADE = {
    "seconds": 3.5, "date": "2026-01-01", "commit": None,
    "machine": {"device": "cpu: cpu", "cores": 2},
}  # fmt: skip
SCORES = {"PCK@0.2": {"mean": 50.0, "per_joint": {"head": 1.0}, "per_subject": [40.0, 60.0]}}
RECORD = {
    **MADE, "run": "transformer-seed0-offline", "seed": 0, "base": "abc", "people": ["a", "b"],
    "frames": 4, "seconds_per_frame": 0.5, "memory_mib": 100.0, "scores": SCORES,
    "smoothed": SCORES, "cross_subject_control": SCORES, "by_frame": [[1.0, None], [2.0, 3.0]],
    "bottleneck": {"before": {"own": 1.0, "other": 2.0, "copy": 3.0}},
}  # fmt: skip
COCO = {
    "images": [{"id": t, "file_name": f"{t:04}.png", "width": 64, "height": 48} for t in range(3)],
    "annotations": [
        {"id": t, "image_id": t, "category_id": 1, "keypoints": [10.0, 20.0, 2] * 2}
        for t in range(3)
    ],
    "categories": [{"id": 1, "keypoints": ["head", "left_knee"]}],
}
MMPOSE = {
    "images": [{"id": 7, "file_name": "S1/S1_Directions_1.54138969_000001.jpg"}],
    "annotations": [{"image_id": 7, "keypoints": [1.0, 2.0, 1] * 17, "keypoints_3d": [[1, 2, 3]]}],
}
DLC = """scorer,me,me,me,me
bodyparts,head,head,left_knee,left_knee
coords,x,y,x,y
0,10.5,11.5,20.5,21.5
2,10.5,11.5,20.5,21.5"""
YAML = """Task: walk
scorer: me
multianimalproject: false
bodyparts: [nose, ear_left, ear_right, tail]
skeleton:
- [nose, tail]
- [ear_left, ear_right]
video_sets:
  /videos/a.mp4:
    crop: 0, 64, 0, 48
"""
EVALUATION = {
    "test_subjects": ["a"], "rows": {"without TTP": {"PCK@0.2": {"mean": 50.0,
                                                             "per_subject": [50.0, None]}}},
}  # fmt: skip
BOXES = "frame,x1,y1,x2,y2,subject\n0,5,5,40,45,person0\n3,6,6,41,46,person0"
BOXES_JSON = [{"frame": 0, "x1": 5, "y1": 5, "x2": 40, "y2": 45, "subject": "person0"}]
DONE = {"wanted": {"formats": []}, "origin": "abc", "files": ["person0.csv"]}
# Kind of file: how it is written, what reads it, in which ways it breaks beside those of any file,
# and whether a result must be that of the undamaged file.
KINDS = {
    "model": (write_model, House.model, damage.of_archive, True),
    "kept model": (copied("people/person0.npz"), House.person, damage.of_archive, True),
    "results": (copied("results/online/person0.npz"), House.result, damage.of_archive, True),
    "unfinished state": (unfinished, House.unfinished, damage.of_archive, True),
    "run.json": (a_run_record, House.run_record, damage.of_json, False),
    "protocol.json": (copied("results/online/protocol.json"), House.protocol,
                      damage.of_json, False),
    "config.json": (copied("config.json"), House.workdir_config, damage.of_json, False),
    "history.json": (written("history.json", [{"step": 1, "loss": 2.0}]), House.history,
                     damage.of_json, False),
    "pieces.json": (written("pieces.json", {"pieces": [{**MADE, "from": 0, "to": 3}]}),
                    House.pieces, damage.of_json, False),
    "run record": (written("record.json", RECORD), House.record, damage.of_json, False),
    "outputs": (written("delivery/person0.json", DONE), House.outputs, damage.of_json, False),
    "kept outputs": (kept_outputs, House.kept_outputs, damage.of_archive, True),
    "evaluation.json": (written("evaluation.json", EVALUATION), House.evaluation,
                        damage.of_json, False),
    "best model": (best, House.best, damage.of_archive, True),
    "DeepLabCut .csv": (project("labeled-data/a/CollectedData_me.csv"), House.project,
                        damage.of_table, False),
    "DeepLabCut .h5": (project("labeled-data/a/CollectedData_me.h5", kinds=("h5",)),
                       House.project, None, False),
    "config.yaml": (project("config.yaml"), House.project, damage.of_table, False),
    "SLEAP .slp": (sleap, House.project, None, False),
    "COCO project": (coco, House.project, damage.of_json, False),
    "labels.h5": (labels_h5, House.labels, None, False),
    "boxes.csv": (written("boxes.csv", BOXES), House.boxes, damage.of_table, False),
    "boxes.json": (written("boxes.json", BOXES_JSON), House.boxes, damage.of_json, False),
    "labels.csv": (written("labels.csv", DLC), House.labels, damage.of_table, False),
    "labels.json": (written("labels.json", COCO), House.labels, damage.of_json, False),
    "labels.mat": (penn_label, House.labels, None, False),
    "Penn's labels, kept": (penn_cache, House.penn_cache, damage.of_archive, True),
    "mmpose's .npz": (mmpose_npz, House.mmpose, damage.of_archive, False),
    "mmpose's .json": (written("h36m_train.json", MMPOSE), House.mmpose, damage.of_json, False),
    "poses.cdf": (poses, House.poses, None, False),
    "rendered labels": (rendered("labels.npz"), House.rendered, damage.of_archive, False),
    "rendered pictures": (rendered("frames.npy"), House.rendered, None, False),
    "torch file": (torch_file, House.torch_file, None, False),
    "HDF5 file": (features_file, House.features, None, False),
}  # fmt: skip

BEGIN_ANEW = (  # instead of refusing what is damaged
    *("unfinished state", "protocol.json", "history.json", "run record", "outputs"),
    *("Penn's labels, kept", "rendered labels", "rendered pictures"),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return House(tmp_path_factory.mktemp("house"))


def same(one, other) -> bool:
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def tally(house, kind: str, count: int, tmp_path) -> dict[str, int]:
    """Break a file `count` times and read it; how often it was read, and refused in words.

    Anything else is an AssertionError, which says how to get the file.
    """
    write, read, breaks, checked = KINDS[kind]
    home = tmp_path / "home"
    home.mkdir()
    path = write(house, home)
    data = path.read_bytes()
    untouched = read(house, path)
    rng = np.random.default_rng(len(kind))
    ways = damage.of_bytes(data, rng)
    if breaks is not None:
        given = data if breaks is damage.of_archive else data.decode()
        ways = damage.alternately(breaks(given, rng), ways)
    found = {"read": 0, "refused": 0}
    for number in range(count):
        what, changed = next(ways)
        place = tmp_path / f"{number}"
        shutil.copytree(home, place)
        broken = place / path.relative_to(home)
        broken.unlink()
        broken.write_bytes(changed)
        case = f"{kind}, {what} ({broken})"
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            result = read(house, broken)
            found["read"] += 1
            if checked and result is not None and what.startswith(damage.CHANGED):
                assert same(result, untouched), f"{case}: read as something else, in silence"
        except IN_WORDS as error:
            found["refused"] += 1
            # A run's record names its model, which may be elsewhere, or not there.
            places = ("/",) if kind == "run.json" else (broken.name, str(broken.parent))
            assert any(place in str(error) for place in places), f"{case}: {error!r} names no file"
            assert len(str(error).splitlines()[0]) < 700, f"{case}: {error}"
        except Exception as error:
            raise AssertionError(f"{case}: {error!r}") from error
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert taken < MOST_MIB, f"{case}: {taken:.0f} MiB"
        assert time.monotonic() - began < MOST_SECONDS, f"{case}: takes too long"
        shutil.rmtree(place)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_words(house, tmp_path, kind):
    found = tally(house, kind, QUICK, tmp_path)
    assert found["refused"] > QUICK / 5 or kind in BEGIN_ANEW


def test_a_record_that_no_experiment_can_be_built_of_names_its_file(house, tmp_path):
    path = a_run_record(house, tmp_path)
    record = json.loads(path.read_text())
    del record["config"]["data"]["skeleton"]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"{path}: config.data.skeleton is ''"):
        verify.run([str(path.parent)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_of_each_kind(house, tmp_path, kind):
    found = tally(house, kind, FULL, tmp_path)
    print(f"\n{kind:18}{FULL:6} broken{found['read']:6} read{found['refused']:6} refused, 0 faults")
