"""Rendered people: determinism, labels on the body, and a cache that survives accidents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines import synthetic
from data_pipelines.clips import select
from ttp_jax.skeletons import PENN13

SPEC = synthetic.Spec(
    image_size=48, train=3, val=2, test=1, train_frames=4, eval_frames=4, preset="shifted"
)


def pixels(clip):
    return np.stack([clip.read(t) for t in range(clip.num_frames)])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def clips(cache):
    return synthetic.clips(SPEC, cache)


@pytest.fixture(scope="module")
def sampled():
    """Sixteen clips of four frames as (identity, pose, camera), flat over the frames."""
    drawn = [jax.device_get(synthetic.sample_clip(SPEC, "train", i)) for i in range(16)]
    identity, pose, camera = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    identity = jax.tree.map(lambda leaf: np.repeat(leaf, 4, 0), identity)
    return identity, *jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (pose, camera))


def test_clips_keep_the_contract(clips):
    assert [c.name for c in clips] == [
        "train-00000", "train-00001", "train-00002", "val-00000", "val-00001", "test-00000",
    ]  # fmt: skip
    for clip in clips:
        assert clip.subject == clip.name and clip.num_frames == 4
        image = clip.read(3)
        assert type(image) is np.ndarray and image.dtype == np.uint8
        assert image.shape == (48, 48, 3) and image.std() > 5
        assert clip.boxes.shape == (4, 4) and clip.boxes.dtype == np.float32
        assert clip.joints.shape == (4, 13, 2) and clip.joints.dtype == np.float32
        assert clip.visible.shape == (4, 13) and clip.visible.dtype == bool
        low, high = clip.boxes[:, None, :2], clip.boxes[:, None, 2:]
        assert ((clip.joints > low) & (clip.joints < high)).all()
        height = (clip.boxes[:, 3] - clip.boxes[:, 1]) / 48
        assert height.min() > 0.3 and height.max() < 1.05


def test_more_subjects_leave_the_first_ones_as_they_are(clips, tmp_path):
    more = synthetic.clips(dataclasses.replace(SPEC, train=5, val=0, test=0), tmp_path)
    assert len(more) == 5
    for one, other in zip(select(clips, "train"), more, strict=False):
        np.testing.assert_array_equal(pixels(one), pixels(other))
        np.testing.assert_array_equal(one.joints, other.joints)


def test_rendering_again_gives_the_same_bytes(clips, tmp_path):
    for one, other in zip(clips, synthetic.clips(SPEC, tmp_path), strict=True):
        np.testing.assert_array_equal(pixels(one), pixels(other))
        np.testing.assert_array_equal(one.joints, other.joints)


def test_seed_changes_everybody(clips, tmp_path):
    other = synthetic.clips(dataclasses.replace(SPEC, seed=1), tmp_path)
    for one, two in zip(clips, other, strict=True):
        assert np.abs(pixels(one).astype(int) - pixels(two)).mean() > 5
        assert np.abs(one.joints - two.joints).max() > 1


def test_no_subject_in_two_splits():
    plain = dataclasses.replace(SPEC, preset="plain")
    drawn = [
        synthetic.sample_clip(plain, split, i)
        for split in synthetic.SPLITS
        for i in range(getattr(plain, split))
    ]
    for k, (identity, pose, _) in enumerate(drawn):
        for other_identity, other_pose, _ in drawn[:k]:
            assert np.abs(identity.bones - other_identity.bones).max() > 1e-3
            assert np.abs(pose.angles - other_pose.angles).max() > 0.05


def test_only_val_and_test_are_shifted():
    contrast = {
        split: [float(synthetic.sample_clip(SPEC, split, i)[0].contrast) for i in range(6)]
        for split in synthetic.SPLITS
    }
    assert min(contrast["train"]) > max(contrast["val"] + contrast["test"])


def test_visible_joints_lie_on_their_parts(sampled):
    size = SPEC.image_size
    _, joints, visible, _ = jax.device_get(synthetic._render_frames(*sampled, size))
    # Look four times as closely: at 48 pixels, rounding a joint moves it by a third of a wrist.
    near = jax.jit(jax.vmap(lambda i, p, c: synthetic.part_map(i, p, c, 4 * size)))
    part = np.asarray(near(*sampled))
    at = np.clip(np.round(4 * joints + 1.5).astype(int), 0, 4 * size - 1)
    shown = part[np.arange(len(part))[:, None], at[..., 1], at[..., 0]]
    assert visible.mean() > 0.7 and not visible.all()
    assert (shown[visible] >= 0).all()
    owns = np.array([[j in part.joints for j in PENN13.joints] for part in synthetic.PARTS])
    own = owns[shown, np.arange(13)] & (shown >= 0)
    assert own[visible].mean() > 0.95  # the rest: parts less than the margin in front
    assert own[~visible].mean() < 0.1


def test_left_is_on_the_right_of_who_faces_the_camera(sampled):
    identity, pose, camera = jax.tree.map(lambda leaf: leaf[0], sampled)
    rest = pose._replace(angles=jnp.zeros_like(pose.angles))
    turned = [rest._replace(yaw=jnp.float32(yaw)) for yaw in (0.0, np.pi)]
    draw = jax.jit(lambda pose: synthetic._project(identity, pose, camera, 48).joints)
    places = np.stack([draw(pose) for pose in turned])
    for left, right in PENN13.flip_pairs:
        assert places[0, left, 0] > places[0, right, 0]
        assert places[1, left, 0] < places[1, right, 0]


def test_limbs_keep_their_length(sampled):
    joints = np.asarray(jax.jit(jax.vmap(synthetic.joints_3d))(*sampled[:2])).reshape(16, 4, 13, 3)
    for a, b in PENN13.limbs[4:]:
        length = np.linalg.norm(joints[:, :, a] - joints[:, :, b], axis=-1)
        np.testing.assert_allclose(length, length[:, :1].repeat(4, 1), rtol=1e-4)
    assert joints[..., 1].min() > 0  # nobody sinks into the ground


def test_cache_is_read_not_rendered(clips, cache, monkeypatch):
    monkeypatch.setattr(synthetic, "_render_clips", None)
    (cache / "synthetic-0123-train.npy.77.tmp").write_bytes(b"left over by a killed run")
    again = synthetic.clips(SPEC, cache)
    np.testing.assert_array_equal(pixels(again[0]), pixels(clips[0]))


def test_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(synthetic, "_render_clips", stop)
        synthetic.clips(SPEC, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    assert len(synthetic.clips(SPEC, tmp_path)) == 6


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_cache_is_rendered_anew(clips, tmp_path, suffix):
    synthetic.clips(SPEC, tmp_path)
    (path,) = tmp_path.glob(f"train-*{suffix}")
    path.write_bytes(path.read_bytes()[:-200])
    for one, other in zip(
        select(clips, "train"), select(synthetic.clips(SPEC, tmp_path), "train"), strict=True
    ):
        np.testing.assert_array_equal(pixels(one), pixels(other))
        np.testing.assert_array_equal(one.joints, other.joints)


def test_more_test_people_do_not_cost_the_training_people_again(tmp_path):
    synthetic.clips(SPEC, tmp_path)
    before = {path.name for path in tmp_path.glob("train-*")}
    synthetic.clips(dataclasses.replace(SPEC, test=SPEC.test + 1), tmp_path)
    assert {path.name for path in tmp_path.glob("train-*")} == before


def test_bad_specs_are_refused():
    with pytest.raises(ValueError, match="'odd'; valid ones: plain, shifted"):
        synthetic.Spec(preset="odd")
    with pytest.raises(ValueError, match="train_frames is 0, expected at least 1"):
        synthetic.Spec(train_frames=0)


def test_contact_sheet_is_written(clips, tmp_path):
    sheet = synthetic.contact_sheet(clips, tmp_path / "sheet.png", rows=2, columns=3, zoom=2)
    assert sheet.shape == (2 * 96, 3 * 96, 3) and sheet.dtype == np.uint8
    assert (tmp_path / "sheet.png").stat().st_size > 1000
