"""Do a run again and compare: is every result still what the receipt says?

    python main.py verify runs/tiny/results/online

Reads run.json, which every `personalize` and `predict` writes, and checks, subject by subject: the
files are those of the receipt; the model is; run again in a folder of its own, the frames give the
same input and the results come out byte for byte alike. Exit code 1 if anything differs.
The same bytes can be expected on the same machine with the same versions and, on a GPU, where
subjects run side by side, as many of them at a time; versions that differ are named.
"""

import json
import pathlib
import tempfile
import types

from ttp_jax.checkpoint import fingerprint
from ttp_jax.files import inside, read_json
from ttp_jax.verbs import experiment, personalize, receipts
from ttp_jax.verbs.experiment import say


def run(words: list[str]) -> int:
    """Verify the results in the folder that is named; return the exit code."""
    if len(words) != 1:
        raise ValueError("expected one folder of results: verify WORKDIR/results/online")
    folder = pathlib.Path(words[0])
    path = folder / "run.json"
    receipt = read_json(path, {"scenario": str, "config": dict})
    if receipt is None:
        raise ValueError(f"{path} isn't there: {folder} holds no receipt of a run.")
    if receipt["scenario"] == "live":
        raise ValueError("a camera's frames are gone: only runs on files can be done again.")
    receipt = read_json(path, receipts.RECEIPT)
    config = experiment.stored_config(receipt["config"], path)
    say(f"{folder}: {len(receipt['subjects'])} subjects, {receipt['protocol']}")
    wrong = stored_files(folder, receipt) or ["no subject is in it"] * (not receipt["subjects"])
    workdir = folder.resolve().parent.parent
    base, _ = experiment.load_base(config, workdir)
    if receipt["person"] is None and fingerprint(base) != receipt["base"]:
        place = experiment.model_path(config.base) if config.base else workdir / "checkpoints"
        wrong.append(f"the model in {place} is not the one of the run")
    now = receipts.made_with()
    made = [s["made_with"] for s in receipt["subjects"].values()]
    for name in now:
        for then in sorted({str(m.get(name)) for m in made} - {now[name]}):
            say(f"note: {name} was {then}, is {now[name]}")
    if not wrong:
        again = done_again(config, workdir, receipt)
        if again is None:
            say("stopped: nothing can be said")
            return personalize.STOPPED
        wrong = again
    for line in wrong:
        say(f"DIFFERS: {line}")
    say("differs from its receipt" if wrong else "verified: every byte as the receipt says")
    return 1 if wrong else 0


def stored_files(folder: pathlib.Path, receipt: dict) -> list[str]:
    """What is wrong with the files themselves."""
    wrong = []
    for subject in receipt["subjects"].values():
        for name, digest in subject["outputs"].items():
            path = inside(folder, name)
            if not path.is_file():
                wrong.append(f"{path} is missing")
            elif receipts.sha256(path) != digest:
                wrong.append(f"{path} was changed after the run")
    return wrong


def done_again(config, workdir: pathlib.Path, receipt: dict) -> list[str] | None:
    """Run all subjects once more; what came out differently. None where that was stopped."""
    options = types.SimpleNamespace(
        overwrite=False, keep=None, person=receipt["person"], deliver=False
    )
    config.eval.pictures = 0
    # Several commands may have added their subjects; one may name a subject of another, too.
    by_source: dict[str, dict[str, dict]] = {}
    for name, subject in receipt["subjects"].items():
        by_source.setdefault(json.dumps(subject["data"]), {})[name] = subject
    wrong = []
    for data, subjects in sorted(by_source.items()):
        config.data = experiment.stored_config({"data": json.loads(data)}, "run.json").data
        with tempfile.TemporaryDirectory() as place:
            again = pathlib.Path(place) / "again"
            code = personalize.run_scenario(config, workdir, receipt["scenario"], options, again)
            if code == personalize.STOPPED:
                return None
            wrong += differences(subjects, read_json(again / "run.json") or {})
    return wrong


def differences(subjects: dict[str, dict], found: dict) -> list[str]:
    """What another receipt says differently of these subjects."""
    wrong = []
    for name, subject in subjects.items():
        new = found.get("subjects", {}).get(name)
        if new is None:
            wrong.append(f"{name}: no result this time, {found.get('failed', {}).get(name, '')}")
        elif new["inputs"] != subject["inputs"]:
            wrong.append(f"{name}: the frames or boxes are not those of the run")
        elif new["outputs"] != subject["outputs"]:
            wrong.append(f"{name}: the same frames gave other results")
    return wrong
