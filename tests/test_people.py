"""Personalized models as files: what each form keeps, and what is refused."""

import numpy as np
import pytest

from ttp_jax import people
from ttp_jax.verbs import people as verb


def delta(seed=0):
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(3, 3, 16, 2)) @ rng.normal(size=(2, 32))  # rank 2 as a matrix
    arrays = {"encoder/conv/kernel": 1e-3 * low, "head/bias": 1e-4 * rng.normal(size=6)}
    return {path: array.astype(np.float32) for path, array in arrays.items()}


def written(path, form, **about):
    people.write(path, delta(), form, {"base": "abc", **about})
    return people.read(path, "abc")


def test_full_keeps_every_bit_and_half_precision_three_digits(tmp_path):
    for form, tolerance in (("full", 0), ("fp16", 1e-3)):
        person = written(tmp_path / "a.npz", form, updates=7)
        assert person.about == {"base": "abc", "form": form, "updates": 7}
        for path, wanted in delta().items():
            found = person.delta[path]
            assert found.dtype == np.float32 and found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=1e-7 * (tolerance > 0))


def test_low_rank_keeps_the_best_matrix_of_that_rank(tmp_path):
    wanted = delta()["encoder/conv/kernel"]
    exact = written(tmp_path / "a.npz", "rank2").delta["encoder/conv/kernel"]
    np.testing.assert_allclose(exact, wanted, atol=2e-3 * np.abs(wanted).max())
    one = written(tmp_path / "b.npz", "rank1").delta["encoder/conv/kernel"]
    values = np.linalg.svd(wanted.reshape(-1, 32), compute_uv=False)
    # Eckart and Young: what is left is the second singular value.
    assert np.linalg.norm(one - wanted) == pytest.approx(values[1], rel=0.01)
    # Vectors are kept whole; 6e-8 is the step of half precision near zero.
    kept = written(tmp_path / "c.npz", "rank1").delta["head/bias"]
    np.testing.assert_allclose(kept, delta()["head/bias"], rtol=1e-3, atol=6e-8)


@pytest.mark.parametrize("form", ["fp16", "rank2"])
def test_batch_statistics_keep_every_bit_in_all_forms(tmp_path, form):
    """A variance that falls from 1000.3 to 0.01 would be negative by half precision."""
    path = "batch_stats/encoder/bn1/var"
    wanted = np.array([-1000.29, 1e-9], np.float32)
    people.write(tmp_path / "a.npz", {path: wanted}, form, {"base": "x"})
    np.testing.assert_array_equal(people.read(tmp_path / "a.npz").delta[path], wanted)


def test_smaller_forms_are_smaller(tmp_path):
    rng = np.random.default_rng(0)
    kernel = {"kernel": rng.normal(size=(3, 3, 64, 64)).astype(np.float32)}
    sizes = []
    for form in ("full", "fp16", "rank16", "rank4"):
        people.write(tmp_path / "a.npz", kernel, form, {"base": "x"})
        sizes.append((tmp_path / "a.npz").stat().st_size)
    assert sizes == sorted(sizes, reverse=True) and sizes[3] < sizes[0] / 20


def test_a_path_may_be_text_and_a_file_that_could_not_be_read_is_not_written(tmp_path):
    path = str(tmp_path / "anna.npz")
    with pytest.raises(ValueError, match=r"about has no base: give .*checkpoint\.fingerprint"):
        people.write(path, delta(), "full", {"subject": "anna"})
    assert not list(tmp_path.iterdir())
    assert written(path, "full").delta.keys() == delta().keys()
    with pytest.raises(FileNotFoundError, match="models in .*: anna"):
        people.read(str(tmp_path / "bert.npz"))


def test_another_base_a_damaged_file_and_a_wrong_form_are_refused(tmp_path):
    path = tmp_path / "anna.npz"
    written(path, "fp16")
    with pytest.raises(
        ValueError, match="anna.npz was personalized from model abc, but this model is d"
    ):
        people.read(path, "def")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="anna.npz is damaged .*: personalize again"):
        people.read(path)
    with pytest.raises(FileNotFoundError, match=r"bert.npz does not exist; models in .*: anna\."):
        people.read(tmp_path / "bert.npz")
    for form in ("fp8", "rank0", "rank"):
        with pytest.raises(ValueError, match="full, fp16 or rankR"):
            people.pack(delta(), form)


def test_comparison_has_lengths_and_cosines_per_part():
    one = people.Person(delta(), {"base": "abc"})
    double = people.Person({path: -2 * array for path, array in delta().items()}, {"base": "abc"})
    rows = {part: numbers for part, *numbers in people.compare(one, double)}
    assert set(rows) == {"encoder", "head", "all"}
    for mine, other, cosine in rows.values():
        assert other == pytest.approx(2 * mine, rel=1e-5) and cosine == pytest.approx(-1, abs=1e-5)
    half = people.Person(dict(list(delta().items())[:1]), {"base": "abc"})  # by other rules
    assert people.compare(one, half)[-1][2] < people.compare(one, one)[-1][2]
    with pytest.raises(ValueError, match="different models"):
        people.compare(one, people.Person(delta(), {"base": "def"}))


def test_long_names_are_told_apart_and_keep_the_columns(tmp_path, capsys):
    names = "anna-monday-morning-1", "anna-monday-morning-2-after-lunch"
    for name in names:
        people.write(tmp_path / "people" / f"{name}.npz", delta(), "full", {"base": "abc"})
    verb.run(["compare", str(tmp_path), *names])
    head, *rows = capsys.readouterr().out.splitlines()
    assert all(f"|{name}|" in head for name in names) and {len(head)} == {*map(len, rows)}
    verb.run([str(tmp_path)])
    head, *rows = capsys.readouterr().out.splitlines()
    assert all(row[head.index("form") :].startswith("full") for row in rows)


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "..", ".", "", "a\0b"])
def test_names_with_folders_in_them_are_refused(tmp_path, name):
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "a").symlink_to(tmp_path)  # a folder that leads out
    for outside in (tmp_path / "x.npz", tmp_path / "b.npz"):
        outside.write_text("precious")
    for words in (["delete", str(tmp_path), name], ["compare", str(tmp_path), name, name]):
        with pytest.raises(ValueError, match="expected a plain name, without folders"):
            verb.run(words)
    assert (tmp_path / "x.npz").exists() and (tmp_path / "b.npz").exists()


def test_a_model_may_be_named_by_its_file_and_a_wrong_workdir_says_so(tmp_path, capsys):
    path = tmp_path / "people" / "anna.npz"
    people.write(path, delta(), "full", {"base": "abc"})
    assert verb.run(["delete", str(tmp_path), "anna.npz"]) == 0 and not path.exists()
    with pytest.raises(FileNotFoundError, match="models in .*people: none"):
        verb.run(["delete", str(tmp_path), "anna"])
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder: name the --workdir"):
        verb.run(["list", str(tmp_path / "nowhere")])
