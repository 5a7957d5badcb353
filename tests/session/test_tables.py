import numpy as np
import pytest
from hdmf.common import DynamicTable, EnumData, VectorData

from nwbrecon.session.contents import Item, holdings, walk
from nwbrecon.session.tables import column_values, read_intervals

from .conftest import new_file, with_movie, with_responses


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        (np.array([0.5, np.nan, 2]), [0.5, np.nan, 2]),
        (["a", "b", "ü"], ["a", "b", "ü"]),
        (np.array([b"a", b"\xff", b"c"]), ["a", "\ufffd", "c"]),
        ([True, False, True], [True, False, True]),
    ],
)
def test_plain_columns_are_read(data, expected):
    found = column_values(VectorData(name="a", description="a", data=data), 3)
    np.testing.assert_array_equal(found, np.array(expected, dtype=found.dtype))


def test_columns_that_are_not_plain_are_none():
    wide = VectorData(name="a", description="a", data=np.zeros((3, 9)))
    assert column_values(wide, 3) is None
    assert column_values(wide, 3, widest=9).shape == (3, 9)
    assert column_values(VectorData(name="a", description="a", data=np.zeros((3, 2, 2))), 3, widest=9) is None
    assert column_values(VectorData(name="a", description="a", data=[1, 2]), 3) is None
    table = DynamicTable(name="t", description="t", columns=[VectorData(name="x", description="x", data=[1, 2, 3])])
    table.add_column(name="ragged", description="r", data=[[1], [2, 3], []], index=True)
    assert column_values(table["ragged"], 3) is None


@pytest.mark.filterwarnings("ignore:EnumData is experimental:UserWarning")
def test_enumerated_columns_give_their_words():
    words = VectorData(name="words", description="w", data=["soma", "artifact"])
    column = EnumData(name="kind", description="k", data=[1, 0, 0], elements=words)
    assert column_values(column, 3).tolist() == ["artifact", "soma", "soma"]


def test_intervals_are_sorted_and_bad_ones_left_out():
    nwb = new_file()
    nwb.add_trial_column(name="clip", description="clip")
    for start, stop, clip in [(5.0, 6.0, "b"), (1.0, 2.0, "a"), (np.nan, 9.0, "x"), (8.0, 8.0, "y"), (9.0, 7.0, "z")]:
        nwb.add_trial(start_time=start, stop_time=stop, clip=clip)
    table = read_intervals(Item("intervals/trials", nwb.trials))
    assert table.name == "trials"
    assert list(table.rows["clip"]) == ["a", "b"]
    assert list(table.rows.index) == [0, 1]


def test_everything_is_walked_once():
    nwb = with_movie(with_responses(new_file()))
    nwb.add_trial(start_time=0.0, stop_time=1.0)
    nwb.add_unit(spike_times=[1.0])
    paths = [item.path for item in walk(nwb)]
    assert len(paths) == len(set(paths))
    assert {
        "stimulus/presentation/movie",
        "processing/ophys/ImageSegmentation/PlaneSegmentation1",
        "processing/ophys/DfOverF/dff",
        "intervals/trials",
        "units",
    } <= set(paths)
    item = next(item for item in walk(nwb) if item.name == "dff")
    assert item.parents == ("processing", "ophys", "DfOverF")
    assert item.is_series
    assert not item.is_intervals


def test_holdings_are_a_sentence():
    assert holdings([]) == "It holds no data at all."
    nwb = with_movie(with_responses(new_file()))
    sentence = holdings(list(walk(nwb)))
    assert "1 RoiResponseSeries" in sentence
    assert "stimulus/presentation/movie" in sentence
