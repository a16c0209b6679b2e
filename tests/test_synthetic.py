"""Rendered people: determinism, labels on the body, and a cache that survives interruptions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipelines import synthetic
from data_pipelines.clips import select
from data_pipelines.rendered import bodies, draws, mocap, motions, renderer
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


def parts_shown(identity, pose, camera, size):
    """Index into the renderer's parts that each pixel shows; -1 is the room."""
    y, x = jnp.meshgrid(*2 * [jnp.arange(size, dtype=jnp.float32)], indexing="ij")
    return renderer._nearest(bodies.project(identity, pose, camera, size), x, y)[0]


def test_visible_joints_lie_on_their_parts(sampled):
    size = SPEC.image_size
    _, joints, visible, _ = jax.device_get(synthetic._render_frames(*sampled, size))
    # Look four times as closely: at 48 pixels, rounding a joint moves it by a third of a wrist.
    near = jax.jit(jax.vmap(lambda i, p, c: parts_shown(i, p, c, 4 * size)))
    part = np.asarray(near(*sampled))
    at = np.clip(np.round(4 * joints + 1.5).astype(int), 0, 4 * size - 1)
    shown = part[np.arange(len(part))[:, None], at[..., 1], at[..., 0]]
    assert visible.mean() > 0.7 and not visible.all()
    assert (shown[visible] >= 0).all()
    owns = np.array([[j in part.joints for j in PENN13.joints] for part in bodies.PARTS])
    own = owns[shown, np.arange(13)] & (shown >= 0)
    assert own[visible].mean() > 0.95  # the rest: parts less than the margin in front
    assert own[~visible].mean() < 0.1


def test_left_is_on_the_right_of_who_faces_the_camera(sampled):
    identity, pose, camera = jax.tree.map(lambda leaf: leaf[0], sampled)
    rest = pose._replace(angles=jnp.zeros_like(pose.angles))
    turned = [rest._replace(yaw=jnp.float32(yaw)) for yaw in (0.0, np.pi)]
    draw = jax.jit(lambda pose: bodies.project(identity, pose, camera, 48).joints)
    places = np.stack([draw(pose) for pose in turned])
    for left, right in PENN13.flip_pairs:
        assert places[0, left, 0] > places[0, right, 0]
        assert places[1, left, 0] < places[1, right, 0]


def test_limbs_keep_their_length(sampled):
    joints = np.asarray(jax.jit(jax.vmap(bodies.points_3d))(*sampled[:2])).reshape(16, 4, 13, 3)
    for a, b in PENN13.limbs[4:]:
        length = np.linalg.norm(joints[:, :, a] - joints[:, :, b], axis=-1)
        np.testing.assert_allclose(length, length[:, :1].repeat(4, 1), rtol=1e-4)
    assert joints[..., 1].min() > 0  # nobody sinks into the ground


def varied_people(count, **changes):
    """People in whom everything that "varied" adds can be switched on, flat over the frames."""
    spec = dataclasses.replace(SPEC, preset="varied", train=count, **changes)
    drawn = [jax.device_get(synthetic.sample_clip(spec, "train", i)) for i in range(count)]
    return spec, drawn


def test_only_varied_people_have_hats_bags_and_things_in_front():
    extras = ("hat", "backpack", "handbag", "loose")
    _, varied = varied_people(40)
    plain = [synthetic.sample_clip(SPEC, "train", i)[0] for i in range(8)]
    for name in extras:
        share = np.mean([getattr(identity, name) > 0 for identity, *_ in varied])
        assert 0.02 < share < 0.6
        assert not any(getattr(identity, name) > 0 for identity in plain)
    assert np.mean([(i.occluders[:, 2] > 0).any() for i, *_ in varied]) > 0.1
    assert not any((i.occluders[:, 2] > 0).any() for i in plain)


@pytest.mark.parametrize("extra", ["hat", "backpack", "handbag", "loose"])
def test_what_is_worn_shows_on_the_person(extra):
    _, drawn = varied_people(4)
    rendered = jax.jit(renderer.render, static_argnames="size")
    changes = []
    for identity, poses, cameras in drawn:
        pose, camera = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (poses, cameras))
        bare = identity._replace(
            occluders=np.zeros_like(identity.occluders), **{extra: 0.0 * identity.hat}
        )
        worn = bare._replace(**{extra: 1.0 + 0.0 * identity.hat})
        without, joints, _ = rendered(bare, pose, camera, size=64)
        with_it, same, _ = rendered(worn, pose, camera, size=64)
        np.testing.assert_array_equal(joints, same)
        changed = np.abs(np.asarray(without, int) - np.asarray(with_it, int)).max(-1) > 12
        changes.append(changed.mean())
    assert max(changes) > 0.004 and max(changes) < 0.25


def test_a_thing_in_front_hides_the_joints_behind_it():
    _, ((identity, poses, cameras), *_) = varied_people(1)
    pose, camera = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (poses, cameras))
    rendered = jax.jit(renderer.render, static_argnames="size")
    free = identity._replace(occluders=np.zeros_like(identity.occluders))
    open_picture, joints, visible = (np.asarray(x) for x in rendered(free, pose, camera, size=64))
    desk = np.zeros_like(identity.occluders)
    desk[0] = [0.5, 1.0, 0.6, 0.4, 0.0, 1.0, 0.2, 0.5, 0.3, 0.0]  # the lower 40 % of the picture
    hidden = identity._replace(occluders=desk)
    picture, same, seen = (np.asarray(x) for x in rendered(hidden, pose, camera, size=64))
    np.testing.assert_array_equal(joints, same)
    low = (joints[:, 1] + 0.5) / 64 - camera.shake[1] > 0.6
    assert low.any() and visible[low].any()
    assert not seen[low].any()
    np.testing.assert_array_equal(seen[~low], visible[~low])
    assert picture[50:].std((0, 1)).max() < 12  # one colour, apart from blur and grain
    assert open_picture[50:].std((0, 1)).max() > 12
    assert np.abs(picture[:25].astype(int) - open_picture[:25]).mean() < 1


def test_motions_of_a_split_are_its_own():
    names = [name for split in motions.SPLITS for name in motions.CAPTURED[split]]
    with np.load(motions.MOTIONS_FILE) as file:
        assert sorted(names) == sorted(file.files)  # each clip in one split
    keys = jax.random.split(jax.random.key(0), 400)

    def combination(key, split):
        return jnp.stack(motions._combination(draws.Draw(key), split, True))

    pairs = [jax.vmap(combination, (0, None))(keys, split) for split in range(3)]
    train, val, test = ({tuple(row) for row in np.asarray(found).tolist()} for found in pairs)
    assert not train & (val | test) and not val & test
    assert len(train) > 80 and len(val) > 10 and len(test) > 10
    every = np.array(sorted(train | val | test))
    assert (every < (len(motions._UPPER), len(motions._LOWER))).all()


def test_captured_motion_bends_the_limbs_as_recorded():
    """Limb directions against forward kinematics of the recording's own rotations."""
    rng = np.random.default_rng(0)
    rows = np.zeros((6, 44))
    quaternions = rng.normal(size=(6, 9, 4)) * [1, 0.5, 0.5, 0.5] + [1.5, 0, 0, 0]
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    places = (4, 8, 12, 16, 21, 25, 30, 35, 39)  # quaternions in a row of DeepMimic
    for k, column in enumerate(places):
        rows[:, column : column + 4] = quaternions[:, k]
    rows[:, [20, 34]] = -rng.uniform(0.1, 2, (6, 2))  # knees
    rows[:, [29, 43]] = rng.uniform(0.1, 2, (6, 2))  # elbows
    angles = mocap.angles_of(rows)

    def turn(column):
        return Rotation.from_quat(rows[:, column : column + 4], scalar_first=True)

    def hinge(column):
        return Rotation.from_euler("z", rows[:, column : column + 1])

    trunk, down, up = turn(4) * turn(8), [0.0, -1.0, 0.0], [0.0, 1.0, 0.0]
    expected = {
        ("root", "waist"): turn(4).apply(up),
        ("waist", "neck"): trunk.apply(up),
        ("right_hip", "right_knee"): (turn(4) * turn(16)).apply(down),
        ("right_knee", "right_ankle"): (turn(4) * turn(16) * hinge(20)).apply(down),
        ("left_hip", "left_knee"): (turn(4) * turn(30)).apply(down),
        ("left_knee", "left_ankle"): (turn(4) * turn(30) * hinge(34)).apply(down),
        ("right_shoulder", "right_elbow"): (trunk * turn(25)).apply(down),
        ("right_elbow", "right_wrist"): (trunk * turn(25) * hinge(29)).apply(down),
        ("left_shoulder", "left_elbow"): (trunk * turn(39)).apply(down),
        ("left_elbow", "left_wrist"): (trunk * turn(39) * hinge(43)).apply(down),
        # The recording's z points to the person's right.
        ("left_hip", "right_hip"): turn(4).apply([0.0, 0.0, 1.0]),
    }
    identity = jax.device_get(synthetic.sample_clip(SPEC, "train", 0)[0])
    names = tuple({name: None for limb in expected for name in limb})

    @jax.vmap
    def body(row):
        pose = motions.Pose(row[:-1], row[-1], jnp.zeros(2), jnp.zeros(2, jnp.uint32))
        return bodies.points_3d(identity, pose, names)

    points = np.asarray(body(jnp.asarray(angles, jnp.float32)))
    for (a, b), theirs in expected.items():
        ours = points[:, names.index(b)] - points[:, names.index(a)]
        ours /= np.linalg.norm(ours, axis=-1, keepdims=True)
        left, height, front = ours.T
        np.testing.assert_allclose(np.stack([front, height, -left], -1), theirs, atol=1e-4)


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
