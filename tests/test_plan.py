"""How a training on a labelled project reports its pace."""

from ttp_jax.runs import plan
from ttp_jax.state import Stage

STAGES = (Stage(100, 1e-3, 0.0), Stage(400, 1e-3, 0.1))


def test_pace_is_told_once_a_stage_and_without_compiling(monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(plan.time, "monotonic", lambda: now[0])
    pace = plan.Pace(STAGES, said.append)
    for done, seconds in ((20, 300), (40, 340), (60, 380), (80, 420), (100, 460)):
        now[0] = seconds
        pace.note(done)
    assert said == ["stage 1 of 2: 2.00 s per update, about 2 minutes for the remaining 60"]
    for done, seconds in ((120, 1000), (140, 1100), (160, 1200)):
        now[0] = seconds
        pace.note(done)
    assert said[1:] == ["stage 2 of 2: 5.00 s per update, about 30 minutes for the remaining 360"]
