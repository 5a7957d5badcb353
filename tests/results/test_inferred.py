from dataclasses import replace

import numpy as np
import pytest
from pynwb import NWBHDF5IO

from nwbrecon.results import as_stored, layout, read_results, write_results

from .examples import reconstruct


def found(reconstructions, names=("running speed", "pupil")):
    """The same reconstructions, two clips of which came with behavior that was found; one of them of two trials."""
    random = np.random.default_rng(0)
    items = list(reconstructions)
    for row, trials in ((0, items[0].trials), (3, (3, 0))):
        shape = (len(trials), len(items[row].video), 2)
        items[row] = replace(items[row], trials=trials, behavior=random.normal(size=shape).astype(np.float32))
        # a variable that was never recorded is not known
        items[row].behavior[..., 1] = np.nan if row else items[row].behavior[..., 1]
    info = reconstructions.info | ({"behavior_names": list(names)} if names else {})
    return replace(reconstructions, items=items, info=info)


@pytest.mark.parametrize("names", [("running speed", "pupil"), None])
def test_behavior_that_was_found_comes_back(tmp_path, aligned, names):
    made = found(as_stored(reconstruct(aligned)), names)
    path = write_results(tmp_path / "a.nwb", made, None, aligned=aligned)
    back = read_results(path).reconstructions
    for item, wanted in zip(back, made, strict=True):
        assert (item.behavior is None) == (wanted.behavior is None)
        if wanted.behavior is not None:
            np.testing.assert_array_equal(item.behavior, wanted.behavior)
            assert item.behavior.dtype == np.float32


def test_anyone_can_read_it_by_name(tmp_path, aligned):
    made = found(as_stored(reconstruct(aligned)))
    path = write_results(tmp_path / "a.nwb", made, None, aligned=aligned)
    with NWBHDF5IO(path, "r") as io:
        table = io.read().processing[layout.MODULE][layout.BEHAVIOR]
        assert table.colnames == ("reconstruction", "trial", "running_speed", "pupil")
        assert table["reconstruction"][:].tolist() == [0, 3, 3]
        assert table["trial"][:].tolist() == [made[0].trials[0], 3, 0]
        np.testing.assert_array_equal(table["running_speed"][2], made[3].behavior[1, :, 0])
        assert "running speed" in table["running_speed"].target.description


@pytest.mark.parametrize("names", [("a b", "a_b"), ("trial", "pupil"), ("", "pupil")])
def test_names_that_no_table_allows_are_numbered(tmp_path, aligned, names):
    made = found(as_stored(reconstruct(aligned)), names)
    path = write_results(tmp_path / "a.nwb", made, None, aligned=aligned)
    with NWBHDF5IO(path, "r") as io:
        table = io.read().processing[layout.MODULE][layout.BEHAVIOR]
        assert table.colnames == ("reconstruction", "trial", "variable_0", "variable_1")
    np.testing.assert_array_equal(read_results(path).reconstructions[0].behavior, made[0].behavior)


def test_where_none_was_sought_there_is_no_table(tmp_path, aligned):
    path = write_results(tmp_path / "a.nwb", reconstruct(aligned), None, aligned=aligned)
    with NWBHDF5IO(path, "r") as io:
        assert layout.BEHAVIOR not in io.read().processing[layout.MODULE].data_interfaces
    assert all(item.behavior is None for item in read_results(path).reconstructions)
