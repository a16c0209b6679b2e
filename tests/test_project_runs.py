"""From a labelled project to its table, with the commands that a user types."""

import json

import pytest
import small_project
import small_run

TINY = (
    *("--config.model.encoder=resnet", "--config.model.init=random", "--config.model.half_pixel=0"),
    *("--config.model.image_size=32", "--config.model.depth=10", "--config.model.width=4"),
    *("--config.model.feature_dim=8", "--config.model.heads=2", "--config.model.ffn_dim=16"),
    *("--config.model.num_maps=6", "--config.model.appearance_widths=(4,8)"),
    *("--config.model.keypoint_widths=(4,8)", "--config.loss.levels=0"),
    *("--config.train.batch_size=4", "--config.ttp.batch_size=4", "--config.train.log_every=2"),
    "--config.train.stages=((4,2e-3,0.0,'constant'),(4,1e-3,0.1,'cosine'))",
    "--config.train.checkpoint_every=2",
)


MOST = 1800  # seconds of one command: a busy machine compiles for minutes


def done(*words):
    return small_run.done(small_run.command(*words), MOST)


@pytest.mark.slow
def test_a_project_is_trained_scored_and_used(tmp_path):
    root = small_project.write(tmp_path / "mice")
    work = tmp_path / "work"
    own = (f"--project={root}", "--test=mouse1,mouse4", *TINY)
    frames = ("--config.data.unlabelled=5", "--config.data.extra=3")
    printed = done("train", *own, *frames, f"--workdir={work}")
    assert "DeepLabCut project" in printed and "test     2 subjects" in printed
    assert "unlabelled: 15 frames of 3 training subjects" in printed
    assert "best on validation subjects" in printed and "Recommended" in printed
    assert "choose between no TTP, online and offline on the 1 validation subject." in printed
    report = json.loads((work / "evaluation.json").read_text())
    rows = report["rows"]
    assert report["test_subjects"] == ["mouse1", "mouse4"]
    control = "cross-subject control"
    assert {"without TTP", "TTP online", "TTP offline", control} <= set(rows)
    chosen = report["chosen"]
    assert len(chosen["subjects"]) == 1 and not {"mouse1", "mouse4"} & set(chosen["subjects"])
    assert set(chosen["means"]) == {"none", "online", "offline"}
    assert report["seconds_a_frame"]["TTP online"] > 0
    assert len(rows["TTP offline"]["gain"]["interval95"]) == 2
    assert list(rows["TTP offline"]["PCK@0.1"]["per_joint"]) == list(small_project.JOINTS)
    assert "RMSE px" in rows["without TTP"]

    again = done("train", *own, *frames, f"--workdir={work}")
    assert "2 of 2 subjects are done already" in again

    video = str(root / "videos" / "mouse4.avi")
    done("personalize", video, f"--model={work}", "--frames=0-5")
    table = (work / "videos/results/online/mouse4.csv").read_text().splitlines()
    assert "left_ear_x,left_ear_y" in table[0] and len(table) == 1 + 6
    assert (work / "results/online/mouse4.npz").is_file()  # the training's own results stay
    # A new video is cropped as the labelled frames were; in boxes of the user's it is not.
    done("predict", video, f"--model={work}", "--frames=0-0")
    other = tmp_path / "region"
    region = "--config.data.boxes=10,6,56,44"
    done("predict", video, f"--model={work}", "--frames=0-0", region, f"--workdir={other}")
    zooms = [
        json.loads((folder / "results/none/run.json").read_text())["config"]["data"]["zoom"]
        for folder in (work / "videos", other)
    ]
    trained = json.loads((work / "config.json").read_text())
    assert zooms == [trained["data"]["zoom"], 1.0] and zooms[0] > 1
    seen = trained["data"]["training_subjects"]
    assert len(seen) == 3 and not {"mouse1", "mouse4"} & {*seen}

    exported = tmp_path / "mice.npz"
    done("export", *own, f"--workdir={work}", f"--model={exported}")
    other = tmp_path / "other"
    done("suggest", video, f"--model={exported}", "--count=3", f"--workdir={other}")
    assert len(list((other / "suggested/labeled-data/mouse4").glob("*.png"))) == 3
