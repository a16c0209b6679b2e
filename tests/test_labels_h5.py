"""HDF5 label tables, read without pandas: the same values as pandas, and no pickles."""

import contextlib
import os
import pickle

import h5py
import numpy as np
import pandas
import pytest
import tables as pytables

from data_pipelines.clips import DataError
from data_pipelines.projects import hdf5
from data_pipelines.projects import tables as label_tables
from ttp_jax import exports, skeletons

COLUMNS = pandas.MultiIndex.from_product(
    [["me"], ["nose", "tàil", "left ear"], ["x", "y"]], names=["scorer", "bodyparts", "coords"]
)
PATHS = [f"labeled-data/a b/img{i}.png" for i in (7, 2, 30)]
INDICES = {
    "paths": PATHS,
    "numbers": [7, 2, 30],
    "windows": [path.replace("/", "\\") for path in PATHS],
    "three columns": pandas.MultiIndex.from_tuples([tuple(path.split("/")) for path in PATHS]),
}


def frame(index="paths", columns=COLUMNS):
    values = np.random.default_rng(0).uniform(0, 99, (3, len(columns)))
    values[0, 2:4] = np.nan
    return pandas.DataFrame(values, index=INDICES[index], columns=columns)


def write(folder, table, kind="fixed", key="df_with_missing"):
    path = folder / "CollectedData_me.h5"
    table.to_hdf(path, key=key, format=kind, mode="w")
    return path


def same(path):
    """Whether a file is read as pandas reads it."""
    truth, found = pandas.read_hdf(path), hdf5.read(path)
    assert found.columns == [tuple(map(str, column)) for column in truth.columns]
    rows = [row if isinstance(row, tuple) else (row,) for row in truth.index]
    assert found.index == ["/".join(map(str, row)) for row in rows]
    np.testing.assert_array_equal(found.values, truth.to_numpy())


# --- What pandas writes --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fixed", "table"])
@pytest.mark.parametrize("index", INDICES)
def test_both_kinds_hold_what_pandas_reads(tmp_path, index, kind):
    if (index, kind) == ("three columns", "table"):
        pytest.skip("pandas can't write it")
    same(write(tmp_path, frame(index), kind))
    same(write(tmp_path, frame(index), kind, key="keypoints"))


@pytest.mark.parametrize("kind", ["fixed", "table"])
def test_blocks_of_several_types_are_put_together(tmp_path, kind):
    table = frame()
    table[("me", "nose", "x")] = table[("me", "nose", "x")].astype(np.float32)
    table[("me", "left ear", "y")] = [1, 2, 3]
    path = write(tmp_path, table, kind)
    truth, found = pandas.read_hdf(path), hdf5.read(path)
    assert set(found.columns) == set(truth.columns)
    np.testing.assert_array_equal(found.values, truth[found.columns].to_numpy())


def test_several_animals_have_four_levels(tmp_path):
    columns = pandas.MultiIndex.from_product(
        [["me"], ["one", "two"], ["nose", "tail"], ["x", "y"]],
        names=["scorer", "individuals", "bodyparts", "coords"],
    )
    path = write(tmp_path, frame(columns=columns))
    same(path)
    assert [row.individual for row in label_tables.sheet(path).rows] == ["one", "two"] * 3


@pytest.mark.parametrize("count", [1, 200])
def test_own_exports_are_read_back(tmp_path, count):
    skeleton = skeletons.build("many", [f"joint{i}" for i in range(count)])
    joints = np.random.default_rng(0).uniform(0, 99, (4, count, 2))
    track = exports.Track("run", joints, np.ones((4, count)), skeleton, first_frame=11)
    (path,) = exports.write(track, tmp_path, ["dlc-h5"])
    sheet = label_tables.sheet(path)
    assert sheet.names == list(skeleton.joints)
    assert [row.picture for row in sheet.rows] == ["11", "12", "13", "14"]
    np.testing.assert_array_equal([row.joints for row in sheet.rows], joints)
    assert "predictions are used as labels" in sheet.notes[0]


# --- Pickles -------------------------------------------------------------------------------------


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def with_hostile_names(folder, marker, protocol):
    """The "table" kind, whose column names are a pickle."""
    path = write(folder, frame(), "table")
    with h5py.File(path, "r+") as file:
        attributes = file["df_with_missing/table"].attrs
        attributes["values_block_0_kind"] = np.bytes_(pickle.dumps(Evil(marker), protocol))
        file["df_with_missing"].attrs["non_index_axes"] = np.bytes_(
            pickle.dumps(Evil(marker), protocol)
        )
    return path


def with_hostile_index(folder, marker):
    """The "fixed" kind, whose index is an array of pickled objects."""
    path = write(folder, frame())
    with pytables.open_file(path, "r+") as file:
        file.remove_node("/df_with_missing/axis1")
        array = file.create_vlarray("/df_with_missing", "axis1", pytables.ObjectAtom())
        array.append(Evil(marker))
        array.attrs.kind, array.attrs.name = "object", "N."
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_column_names_run_nothing(tmp_path, protocol):
    path = with_hostile_names(tmp_path, tmp_path / "made", protocol)
    with pytest.raises(DataError, match=r"CollectedData_me.h5 can't be read.*\.csv beside it"):
        hdf5.read(path)
    assert not (tmp_path / "made").exists()
    with contextlib.suppress(Exception):
        pandas.read_hdf(path)  # the attack is real: pandas runs it
    assert (tmp_path / "made").exists()


def test_a_hostile_index_runs_nothing(tmp_path):
    path = with_hostile_index(tmp_path, tmp_path / "made")
    with pytest.raises(DataError, match="axis1 holds pickled Python objects, which are never open"):
        hdf5.read(path)
    assert not (tmp_path / "made").exists()
    with contextlib.suppress(Exception):
        pandas.read_hdf(path)
    assert (tmp_path / "made").exists()


NAMES = [("me", "nose", "x"), ("me", "nose", "y"), ("me", "tàil", "x")]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_names_are_understood_without_unpickling(protocol):
    assert hdf5._pickled_names(pickle.dumps(NAMES, protocol)) == NAMES
    assert hdf5._pickled_names(pickle.dumps(NAMES * 700, protocol)) == NAMES * 700
    assert hdf5._pickled_names(b"(lp" + b"9" * 400 + b"\n.") == []  # takes no memory


HOSTILE = {
    "a call": pickle.dumps(Evil("x")),
    "a class": pickle.dumps(Evil),
    "a dictionary": pickle.dumps({"a": 1}),
    "numbers": pickle.dumps([(1, 2, 3)]),
    "text": pickle.dumps("names"),
    "too deep": pickle.dumps([[["a"]]]),
    "cut off": pickle.dumps(NAMES)[:-5],
    "no pickle": b"names",
    "nothing": b"",
    "an empty stack": b"a.",
    "no mark": b"t.",
    "no memo": b"g7\n.",
    "a huge length": b"\x8c\xff.",
    "a list in itself": b"(lp0\ng0\na.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_other_pickles_are_refused(case):
    with pytest.raises((ValueError, IndexError, KeyError, TypeError, AttributeError)):
        hdf5._pickled_names(HOSTILE[case])


# --- Damage --------------------------------------------------------------------------------------


def change(path, what, value):
    with h5py.File(path, "r+") as file:
        group = file["df_with_missing"]
        if what in group.attrs:
            group.attrs[what] = value
        else:
            del group[what]
            if value is not None:
                group[what] = value


DAMAGE = {
    "no values": ("block0_values", None, "can't be read as a table that pandas wrote"),
    "no numbers": ("block0_values", np.full((3, 6), b"x"), "expected numbers"),
    "fewer rows": ("block0_values", np.zeros((2, 6)), "2 x 6 values, but 3 names of rows"),
    "one axis": ("block0_values", np.zeros(18), "can't be read"),
    "a place beyond": ("axis0_label1", np.array([0, 0, 9, 9, 1, 1], np.int8), "can't be read"),
    "a place below": ("axis0_label1", np.array([0, 0, -1, -1, 1, 1], np.int8), "has no indices"),
    "other names": ("axis0_level1", np.array([b"a", b"b", b"c"]), "come twice or have no values"),
    "no text": ("axis0_level1", np.array([b"\xff", b"b", b"c"]), "can't be read"),
    "huge": ("nblocks", 2**40, "can't be read"),
    "no kind": ("pandas_type", np.bytes_(b"series"), "holds df_with_missing, expected one table"),
    "levels": ("axis0_nlevels", 9, "can't be read"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path, case):
    what, value, message = DAMAGE[case]
    path = write(tmp_path, frame())
    change(path, what, value)
    with pytest.raises(DataError, match=message) as error:
        hdf5.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_claim_of_many_cells_takes_no_memory(tmp_path):
    path = write(tmp_path, frame())
    with h5py.File(path, "r+") as file:
        del file["df_with_missing/block0_values"]
        file["df_with_missing"].create_dataset("block0_values", (2**20, 2**20), chunks=(1, 1024))
    with pytest.raises(DataError, match="claims 1099511627776 cells"):
        hdf5.read(path)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(DataError, match=r"gone.h5 can't be read: no such file"):
        hdf5.read(tmp_path / "gone.h5")
    path = tmp_path / "cut.h5"
    whole = write(tmp_path, frame()).read_bytes()
    for data in (b"", b"no HDF5", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cut.h5"):
            hdf5.read(path)
    with h5py.File(path, "w") as file:
        file["tracks"] = np.zeros(3)
    with pytest.raises(DataError, match="holds tracks, expected one table that pandas wrote"):
        hdf5.read(path)
    two = pandas.HDFStore(path, "w")
    two.put("a", frame(), track_times=False)
    two.put("b", frame(), track_times=False)
    two.close()
    with pytest.raises(DataError, match="holds a, b, expected one table"):
        hdf5.read(path)


def test_a_flipped_byte_is_an_error_in_words_or_no_matter(tmp_path):
    whole = write(tmp_path, frame(), "table").read_bytes()
    path = tmp_path / "flipped.h5"
    rng = np.random.default_rng(0)
    read = 0
    for place in rng.integers(0, len(whole), 150):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            label_tables.sheet(path)
            read += 1
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert read  # most of a small file is empty
