"""Do a run again and compare: is every result still what the receipt says?

    python main.py verify runs/tiny/results/online

Reads run.json, which every `personalize` and `predict` writes, and checks, subject by subject: the
files are those of the receipt; the model is; run again in a folder of its own, the frames give the
same input and the results come out byte for byte alike. Exit code 1 if anything differs.
The same bytes can be expected on the same machine with the same versions; what differs is named.
"""

import json
import pathlib
import tempfile
import types

import ml_collections

from configs import common
from ttp_jax.checkpoint import fingerprint
from ttp_jax.verbs import experiment, personalize
from ttp_jax.verbs.experiment import say


def run(words: list[str]) -> int:
    """Verify the results in the folder that is named; return the exit code."""
    if len(words) != 1:
        raise ValueError("expected one folder of results: verify WORKDIR/results/online")
    folder = pathlib.Path(words[0])
    path = folder / "run.json"
    try:
        receipt = json.loads(path.read_text())
        config = config_of(receipt["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no receipt of a run ({error}).") from error
    if receipt["scenario"] == "live":
        raise ValueError("a camera's frames are gone: only runs on files can be done again.")
    say(f"{folder}: {len(receipt['subjects'])} subjects, {receipt['protocol']}")
    wrong = stored_files(folder, receipt)
    workdir = folder.resolve().parent.parent
    base, _ = experiment.load_base(config, workdir)
    if receipt["person"] is None and fingerprint(base) != receipt["base"]:
        wrong.append(f"the model in {workdir / 'checkpoints'} is not the one of the run")
    now = personalize.made_with()
    for name in now:
        if receipt["made_with"].get(name) != now[name]:
            say(f"note: {name} was {receipt['made_with'].get(name)}, is {now[name]}")
    if not wrong:
        wrong = done_again(config, workdir, receipt)
    for line in wrong:
        say(f"DIFFERS: {line}")
    say("differs from its receipt" if wrong else "verified: every byte as the receipt says")
    return 1 if wrong else 0


def stored_files(folder: pathlib.Path, receipt: dict) -> list[str]:
    """What is wrong with the files themselves."""
    wrong = []
    for subject in receipt["subjects"].values():
        for name, digest in subject["outputs"].items():
            if not (folder / name).exists():
                wrong.append(f"{folder / name} is missing")
            elif personalize.sha256(folder / name) != digest:
                wrong.append(f"{folder / name} was changed after the run")
    return wrong


def done_again(config, workdir: pathlib.Path, receipt: dict) -> list[str]:
    """Run all subjects once more; what came out differently."""
    options = types.SimpleNamespace(
        overwrite=False, keep=None, person=receipt["person"], deliver=False
    )
    # Several commands may have added their subjects.
    sources = {json.dumps(subject["data"]) for subject in receipt["subjects"].values()}
    with tempfile.TemporaryDirectory() as place:
        again = pathlib.Path(place)
        config.eval.pictures = 0
        for data in sorted(sources):
            config.data = config_of({"data": json.loads(data)}).data
            personalize.run_scenario(config, workdir, receipt["scenario"], options, again)
        found = personalize.read_json(again, "run") or {}
    wrong = []
    for name, subject in receipt["subjects"].items():
        new = found.get("subjects", {}).get(name)
        if new is None:
            wrong.append(f"{name}: no result this time, {found.get('failed', {}).get(name, '')}")
        elif new["inputs"] != subject["inputs"]:
            wrong.append(f"{name}: the frames or boxes are not those of the run")
        elif new["outputs"] != subject["outputs"]:
            wrong.append(f"{name}: the same frames gave other results")
    return wrong


def config_of(stored: dict) -> ml_collections.ConfigDict:
    """A config from its JSON, which knows no tuples; fields younger than it get their defaults."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(inner) for key, inner in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    config = common.get_config()
    with config.unlocked():
        config.update(tuples(stored))
    return config
