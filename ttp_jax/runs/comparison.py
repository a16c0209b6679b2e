"""What personalization gives a project's test subjects, and whether to use it."""

import pathlib

import jax

from data_pipelines.clips import Clip
from ttp_jax import people, state
from ttp_jax.checkpoint import fingerprint
from ttp_jax.runs import personalization
from ttp_jax.runs.batch import Runner
from ttp_jax.runs.experiment import Experiment
from ttp_jax.runs.personalization import RunOptions, person_file

STRANGER = "another's model"


def personalize_all(experiment: Experiment, workdir: pathlib.Path) -> int:
    """Personalize to the test subjects, online and offline; return the exit code.

    Offline models are kept, for the control and for `predict --person`.
    """
    for options in (RunOptions("online"), RunOptions("offline", keep="fp16")):
        if code := personalization.run(experiment, workdir, options):
            return code
    return 0


def strangers(
    experiment: Experiment, workdir: pathlib.Path, base: state.Base, clips: list[Clip]
) -> list | None:
    """Joints of each subject by the model that was personalized to the one before it.

    A gain that is personal isn't there. None where not all of the models are kept, or of fewer than
    two subjects.
    """
    if len(clips) < 2:
        return None
    runner, joints, own = Runner(experiment, base, "none"), [], fingerprint(base)
    for number, clip in enumerate(clips):
        try:
            other = people.read(person_file(workdir, clips[number - 1].name), own)
        except (FileNotFoundError, ValueError):
            return None
        delta = jax.device_put(other.delta)
        runner.use(base.replace(params=state.adapted(base, delta)["params"]))
        joints.append(runner.one(clip).joints)
    return joints


def recommendation(rows: dict, names: dict[str, str], count: int) -> str:
    """Which setting to use on new subjects, by the gains in the rows of an evaluation."""
    gains = {
        scenario: rows[name]["gain"]
        for scenario, name in names.items()
        if name in rows and "gain" in rows[name]
    }
    if not gains or count < 2:
        return "Recommended: label at least two test subjects; so far nothing tells."
    best = max(gains, key=lambda scenario: gains[scenario]["mean"])
    gain = gains[best]
    figures = (
        f"{gain['mean']:+.2f} +- {gain['standard_error']:.2f} points, {gain['worse']:.0%} worse"
    )
    if gain["mean"] > 2 * gain["standard_error"]:
        return f"Recommended for new subjects: --scenario={best} ({figures})."
    if gain["mean"] > 0:
        return (
            f"Recommended for new subjects: `predict`, without personalization: {best} is best "
            f"({figures}), but these {count} subjects don't show a clear gain."
        )
    return f"Recommended for new subjects: `predict`, without personalization ({best}: {figures})."
