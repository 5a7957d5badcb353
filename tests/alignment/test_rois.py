import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment import align
from nwbrecon.alignment.rois import join_rois, read_roi_csv, select_rois
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError, SettingsError
from nwbrecon.session.model import ResponseGroup, Signal, SignalKind

SMALL = {"frame_rate": 15, "frame_size": (9, 16), "memory_gigabytes": 10}


def group(name, ids, columns, n_samples=50):
    values = np.arange(n_samples * len(ids), dtype=np.float32).reshape(n_samples, len(ids)) + 1000 * len(name)

    def signal(kind, factor):
        return Signal(kind.value, kind, "a.u.", lambda start, stop: factor * values[start:stop], values.shape)

    return ResponseGroup(
        name=name,
        signal=signal(SignalKind.RAW, 1),
        timestamps=np.arange(n_samples) / 7,
        rois=pd.DataFrame(columns, index=pd.Index(ids, name="roi")),
        neuropil=signal(SignalKind.NEUROPIL, 2),
        alternatives={"events": signal(SignalKind.EVENTS, 3)},
    )


@pytest.fixture
def groups():
    """Two planes that share the ids 1 and 2."""
    upper = group("field1", [0, 1, 2], {"area": ["V1", "V1", "LM"], "depth": 150.0, "snr": [1.0, 3.0, 9.0]})
    lower = group("field2", [1, 2, 5, 6], {"area": ["AL", "v1", None, "LM"], "depth": 300.0, "snr": [2, np.nan, 5, 6]})
    return {"field1": upper, "field2": lower}


def chosen(groups, **settings):
    kept, _ = select_rois(groups, AlignmentSettings(**settings))
    return {name: list(one.rois.index) for name, one in kept.items()}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"field1": [0, 1, 2], "field2": [1, 2, 5, 6]}),
        ({"areas": "V1"}, {"field1": [0, 1], "field2": [2]}),
        ({"areas": ["LM", "al"]}, {"field1": [2], "field2": [1, 6]}),
        ({"depth": (100, 150)}, {"field1": [0, 1, 2]}),
        ({"depth": (200, 400)}, {"field2": [1, 2, 5, 6]}),
        ({"snr": 3}, {"field1": [1, 2], "field2": [5, 6]}),
        ({"rois": [5, 0]}, {"field1": [0], "field2": [5]}),
        ({"rois": np.array([1])}, {"field1": [1], "field2": [1]}),
        ({"rois": {"field2": [1, 2]}}, {"field2": [1, 2]}),
        ({"areas": ["V1", "LM"], "depth": (0, 200), "snr": 2}, {"field1": [1, 2]}),
    ],
)
def test_the_rois_that_are_asked_for_are_left(groups, asked, expected):
    assert chosen(groups, **asked) == expected


def test_every_signal_keeps_the_columns_of_the_rois_that_are_left(groups, monkeypatch):
    whole = groups["field2"].signal.read(10, 30)
    monkeypatch.setattr("nwbrecon.session.model._VALUES_AT_ONCE", 12)
    (kept,) = select_rois(groups, AlignmentSettings(rois={"field2": [2, 6]}))[0].values()
    assert kept.signal.shape == (50, 2)
    np.testing.assert_array_equal(kept.signal.read(10, 30), whole[:, [1, 3]])
    np.testing.assert_array_equal(kept.neuropil.read(10, 30), 2 * whole[:, [1, 3]])
    np.testing.assert_array_equal(kept.using("events").signal.read(10, 30), 3 * whole[:, [1, 3]])
    assert kept.signal.read(45, 90).shape == (5, 2)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"areas": "RL"},
            r"No ROI lies in RL.*V1 \(2\), LM \(2\), AL \(1\), v1 \(1\) and 1 ROIs whose area is not known",
        ),
        ({"areas": ["V1", "RL"]}, "No ROI lies in RL"),
        ({"depth": (500, 600)}, "No ROI is 500 to 600 micrometers deep.*from 150 to 300"),
        ({"snr": 50}, "50 and more.*from 1 to 9"),
        ({"rois": [1, 77, 78]}, r"There is no ROI 77, 78.*0, 1, 2, 5, 6"),
        ({"rois": {"field1": [5]}}, "There is no ROI 5 in field1.*0, 1, 2"),
        ({"rois": {"field9": [5]}}, "There is no plane field9.*field1, field2"),
        ({"areas": "AL", "depth": (100, 200)}, r"None of the 7 ROIs is all of these: in AL \(1\), 100 to 200"),
    ],
)
def test_what_is_there_is_listed_where_nothing_fits(groups, asked, words):
    with pytest.raises(AlignmentError, match=words):
        chosen(groups, **asked)


def test_what_nothing_says_is_asked_for_as_a_table(groups):
    for one in groups.values():
        one.rois = one.rois.drop(columns="area")
    with pytest.raises(
        AlignmentError, match=r"nothing says the area of the ROIs; known of them are depth, snr.*roi_table"
    ):
        chosen(groups, areas="V1")


@pytest.mark.parametrize(
    "asked", [{"areas": []}, {"depth": (300, 100)}, {"depth": 5}, {"rois": ["one"]}, {"rois": []}, {"snr": "good"}]
)
def test_bad_settings_are_refused_before_any_work(make_session, make_movie, asked):
    session = make_session({"a": make_movie(0, 3.0)}, [("a", 1.0)])
    with pytest.raises(SettingsError):
        align(session, **asked)


def areas_of(groups):
    return {name: one.rois["area"].fillna("").tolist() for name, one in groups.items()}


@pytest.mark.parametrize(
    "planes",
    [{"plane": ["field2", "field1", "field2"]}, {"field": [2, 1, 2]}, {"Group": ["field2", "field1", "field2"]}],
)
def test_a_table_is_joined_on_id_and_plane(groups, planes):
    table = pd.DataFrame({"mask_id": [5, 1, 1], "brain_area": ["RL", "PM", "RL"], "weight": [0.5, 1.5, 2.5], **planes})
    joined, (warning,) = join_rois(groups, table)
    # the table wins where it says something, and the file where it does not
    assert areas_of(joined) == {"field1": ["V1", "PM", "LM"], "field2": ["RL", "v1", "RL", "LM"]}
    np.testing.assert_array_equal(joined["field2"].rois["weight"], [2.5, np.nan, 0.5, np.nan])
    assert "does not know 4 of 7 ROIs" in warning
    assert "weight" not in groups["field1"].rois


def test_a_table_is_joined_on_an_id_that_the_file_has_too(groups):
    groups["field1"].rois["cell_specimen_id"] = [700, 701, 702]
    groups["field2"].rois["cell_specimen_id"] = [800, 801, 802, 803]
    joined, _ = join_rois(groups, pd.DataFrame({"cell_specimen_id": [803, 700], "area": ["X", "Y"]}))
    assert areas_of(joined) == {"field1": ["Y", "V1", "LM"], "field2": ["AL", "v1", "", "X"]}


def test_a_table_may_be_indexed_by_the_id(groups):
    table = pd.DataFrame({"area": ["X", "Y"]}, index=pd.Index([6, 0], name="roi"))
    joined, _ = join_rois(groups, table)
    assert areas_of(joined) == {"field1": ["Y", "V1", "LM"], "field2": ["AL", "v1", "", "X"]}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"cell": [1], "area": ["V1"]}, "has no column of ids; it has cell, area"),
        ({"roi_id": [0, 0], "area": ["V1", "V1"]}, "several rows of roi_id 0.*column plane"),
        ({"roi_id": [1], "area": ["V1"]}, "Planes share the ids of their ROIs, such as 1.*field1, field2"),
        (
            {"roi_id": [91, 92], "area": ["V1", "LM"]},
            "knows none of the 7 ROIs: its roi_id are 91, 92, the file's are 0, 1",
        ),
        ({"roi_id": [0], "plane": ["field7"], "area": ["V1"]}, "knows none of the 7 ROIs.*of field7.*field1, field2"),
    ],
)
def test_a_table_that_cannot_be_joined_says_why(groups, table, words):
    with pytest.raises(AlignmentError, match=words):
        join_rois(groups, pd.DataFrame(table))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_is_read_whatever_separates_its_columns(tmp_path, separator):
    path = tmp_path / "areas.csv"
    rows = [["roi_id", "area"], ["3", "V1"], ["4", "LM"]]
    path.write_text("\n".join(separator.join(row) for row in rows))
    assert read_roi_csv(path).to_dict("list") == {"roi_id": [3, 4], "area": ["V1", "LM"]}


def test_a_csv_that_is_not_there_says_so(tmp_path):
    with pytest.raises(AlignmentError, match="cannot be read"):
        read_roi_csv(tmp_path / "no.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(AlignmentError, match="cannot be read"):
        read_roi_csv(tmp_path / "empty.csv")


def test_the_aligned_session_holds_the_rois_that_were_asked_for(microns_like, tmp_path):
    whole = align(microns_like, **SMALL)
    areas = {0: "V1", 3: "LM", 5: "V1", 101: "V1", 104: "LM"}
    table = pd.DataFrame({"roi_id": list(areas), "brain_area": list(areas.values())})
    table.to_csv(tmp_path / "areas.csv", index=False)
    aligned = align(microns_like, areas="V1", roi_table=tmp_path / "areas.csv", **SMALL)
    assert aligned.rois["roi_id"].tolist() == [0, 5, 101]
    assert set(aligned.rois["area"]) == {"V1"}
    np.testing.assert_array_equal(aligned.groups[0].activity, whole.groups[0].activity[:, [0, 5]])
    assert any("3 of 12 ROIs were selected: in V1 (3)" in warning for warning in aligned.warnings)
    # what was done can be done again from the settings that travel
    again = align(microns_like, AlignmentSettings.model_validate(aligned.settings))
    assert again.digest() == aligned.digest()
    in_memory = align(microns_like, areas="V1", roi_table=table, **SMALL)
    pd.testing.assert_frame_equal(in_memory.rois, aligned.rois)


def test_a_plane_without_chosen_rois_is_left_out_and_the_others_keep_their_delay(microns_like):
    aligned = align(microns_like, rois=[101, 102], responses__plane_delays={"plane 1": 0.1, "plane 2": 0.2}, **SMALL)
    (kept,) = aligned.groups
    np.testing.assert_allclose(kept.timestamps, microns_like.responses["plane 2"].timestamps + 0.2)
    assert aligned.info["plane_delays"] == {"plane 2": 0.2}
