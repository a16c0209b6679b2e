"""The table of adaptation methods: its numbers against plain arithmetic."""

import numpy as np
import pytest

from benchmarks import adaptation
from configs import lips
from ttp_jax import metrics

ABOUT = {"none": "no adaptation", "ttp-online": "TTP online", "ttp-offline": "TTP offline"}


def training(*rows):
    scores = [{"PCK@0.1": a, "PCK@0.05": b, adaptation.ERROR: c} for a, b, c in rows]
    named = zip(ABOUT, scores, strict=False)
    return {"rows": {name: {"scores": each, "seconds": 0.25} for name, each in named}}


def test_gains_are_means_over_subjects_and_trainings():
    one = training(([80, 90], [50, 60], [5, 6]), ([82, 89], [51, 61], [4, 6]))
    two = training(([70, 90], [40, 60], [5, 6]), ([76, 88], [41, 61], [4, 6]))
    head, _, plain, online = adaptation.table([one, two], ABOUT)
    assert head.startswith("| | PCK@0.1 | PCK@0.05 | mean error % | gain in PCK@0.1 |")
    assert plain == "| no adaptation | 82.5 | 52.5 | 5.5 |  |  |  | 0.25 |"
    low, high = metrics.bootstrap_interval(np.array([[2, -1], [6, -2]]))
    assert f"| 83.8 | 53.5 | 5.0 | +1.2 ({low:+.1f} to {high:+.1f}) | +1.0 (" in online
    assert online.endswith("| 50% | 0.25 |")  # the second subject, by its mean over trainings


def test_ways_are_those_that_the_network_has():
    pretrained, scratch = lips.get_config(), lips.get_config("scratch")
    assert "ttp-offline" in adaptation.ways(pretrained)
    assert not {"bn-online", "entropy-online"} & set(adaptation.ways(pretrained))
    assert "bn-online" in adaptation.ways(scratch)
    scratch.model.method = "baseline"
    assert "ttp-online" not in adaptation.ways(scratch)


def test_a_folder_without_a_training_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        adaptation.main([str(tmp_path)])
    assert f"{tmp_path} holds no training" in capsys.readouterr().err
