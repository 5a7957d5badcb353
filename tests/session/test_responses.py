import numpy as np
import pytest
from hdmf.common import VectorData
from pynwb.ophys import RoiResponseSeries

import nwbrecon as nr
from nwbrecon.errors import SessionError
from nwbrecon.session import SignalKind
from nwbrecon.session.responses import signal_kind

from .conftest import add_dff, add_plane, new_file, region, with_movie

# pynwb warns when such files are made; here they are wanted
pytestmark = pytest.mark.filterwarnings("ignore:RoiResponseSeries:UserWarning")

rng = np.random.default_rng(0)


@pytest.fixture
def nwb():
    return with_movie(new_file())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("processing/ophys/Fluorescence/RoiResponseSeries", SignalKind.RAW),
        ("processing/ophys/Fluorescence/Fluorescence", SignalKind.RAW),
        ("processing/ophys/Fluorescence/Demixed", SignalKind.RAW),
        ("processing/ophys/Fluorescence/Corrected", SignalKind.CORRECTED),
        ("processing/ophys/Fluorescence/Neuropil", SignalKind.NEUROPIL),
        ("processing/ophys/Neuropil/plane0", SignalKind.NEUROPIL),
        ("processing/ophys/Fluorescence/neuropil_corrected", SignalKind.CORRECTED),
        ("processing/ophys/Fluorescence/Deconvolved", SignalKind.EVENTS),
        ("processing/ophys/Deconvolved/plane0", SignalKind.EVENTS),
        ("processing/ophys/DfOverF/RoiResponseSeries", SignalKind.DFF),
        ("processing/ophys/DfOverF/DfOverFEvents", SignalKind.EVENTS),
        ("processing/brain_observatory_pipeline/Fluorescence/DfOverF", SignalKind.DFF),
        ("processing/brain_observatory_pipeline/l0_events/traces", SignalKind.EVENTS),
        ("processing/ophys/dff/traces", SignalKind.DFF),
        ("processing/ophys/corrected_fluorescence/traces", SignalKind.CORRECTED),
        ("processing/ophys/neuropil_trace/traces", SignalKind.NEUROPIL),
        ("processing/ophys/event_detection", SignalKind.EVENTS),
        ("processing/VISp_0/dff_timeseries/dff_timeseries", SignalKind.DFF),
        ("processing/ophys/Fluorescence/dF_F", SignalKind.DFF),
        ("processing/ophys/DfOverF/imaging_plane_1", SignalKind.DFF),
        ("processing/ophys/RoiResponseSeries", SignalKind.RAW),
    ],
)
def test_the_names_tell_what_a_signal_is(path, kind):
    assert signal_kind(path) is kind


def test_an_extension_type_tells_too():
    assert signal_kind("processing/ophys/traces", {"OphysEventDetection"}) is SignalKind.EVENTS


def only_group(nwb, **options):
    session = nr.open_session(nwb, **options)
    (group,) = session.responses.values()
    return group, " ".join(session.warnings)


def test_transposed_data_is_turned(nwb):
    data = rng.normal(size=(4, 50))
    add_dff(nwb, data, add_plane(nwb, 1, 4, 10.0))
    group, warnings = only_group(nwb)
    assert group.signal.shape == (50, 4)
    np.testing.assert_allclose(group.signal.read(3, 9), data.T[3:9].astype(np.float32))
    assert "transposed" in warnings


def test_a_square_is_taken_as_the_schema_has_it(nwb):
    data = rng.normal(size=(4, 4))
    add_dff(nwb, data, add_plane(nwb, 1, 4, 10.0), timestamps=np.arange(4.0))
    group, warnings = only_group(nwb)
    np.testing.assert_allclose(group.signal.read(0, 4), data.astype(np.float32))
    assert "transposed" not in warnings


def test_one_roi_may_have_one_dimension(nwb):
    data = rng.normal(size=50)
    add_dff(nwb, data, add_plane(nwb, 1, 1, 10.0))
    group, _ = only_group(nwb)
    np.testing.assert_allclose(group.signal.read(0, 50), data[:, None].astype(np.float32))


def test_conversion_and_offset_are_applied(nwb):
    table = add_plane(nwb, 1, 2, 10.0)
    data = rng.integers(0, 100, (30, 2)).astype(np.int16)
    series = RoiResponseSeries(
        name="raw", data=data, rois=region(table), unit="V", rate=10.0, conversion=0.5, offset=3.0
    )
    nwb.processing["ophys"].add(series)
    group, _ = only_group(nwb)
    assert group.kind is SignalKind.RAW
    assert group.signal.unit == "V"
    np.testing.assert_allclose(group.signal.read(0, 30), data * 0.5 + 3)


def test_bad_time_stamps_cost_their_samples_only(nwb):
    times = np.arange(30) / 10
    times[4], times[10], times[20], times[21] = np.nan, 99.0, times[19], -5
    data = rng.normal(size=(30, 2)).astype(np.float32)
    add_dff(nwb, data, add_plane(nwb, 1, 2, 10.0), timestamps=times)
    group, warnings = only_group(nwb)
    kept = np.delete(np.arange(30), [4, 10, 20, 21])
    np.testing.assert_array_equal(group.timestamps, times[kept])
    np.testing.assert_array_equal(group.signal.read(0, 26), data[kept])
    np.testing.assert_array_equal(group.signal.read(3, 6), data[kept[3:6]])
    assert group.signal.read(5, 5).shape == (0, 2)
    assert "4 samples" in warnings


@pytest.mark.filterwarnings("ignore:.*Length of data does not match:UserWarning")
@pytest.mark.parametrize("n_times", [25, 35])
def test_a_clock_of_another_length_is_said(tmp_path, nwb, n_times):
    import h5py

    from .conftest import write

    data = rng.normal(size=(30, 2)).astype(np.float32)
    add_dff(nwb, data, add_plane(nwb, 1, 2, 10.0), timestamps=np.arange(30) / 10)
    path = write(nwb, tmp_path / "a.nwb")
    with h5py.File(path, "a") as file:
        series = file["processing/ophys/DfOverF/dff"]
        attributes = dict(series["timestamps"].attrs)
        del series["timestamps"]
        series["timestamps"] = np.arange(n_times) / 10
        series["timestamps"].attrs.update(attributes)
    with nr.open_session(path) as session:
        (group,) = session.responses.values()
        n = min(30, n_times)
        assert group.signal.shape == (n, 2) == (len(group.timestamps), 2)
        np.testing.assert_array_equal(group.signal.read(0, n), data[:n])
        assert "30 samples" in " ".join(session.warnings)


def test_a_series_without_a_clock_takes_that_of_its_cells(nwb):
    table = add_plane(nwb, 1, 2, 10.0)
    add_dff(nwb, np.zeros((30, 2)), table, rate=np.nan)
    add_dff(nwb, np.zeros((30, 2)), table, name="Raw", container="Fluorescence", timestamps=np.arange(30) / 7)
    group, _ = only_group(nwb)
    assert group.kind is SignalKind.DFF
    np.testing.assert_array_equal(group.timestamps, np.arange(30) / 7)


def test_the_imaging_rate_is_the_last_resort(nwb):
    add_dff(nwb, np.zeros((30, 2)), add_plane(nwb, 1, 2, 5.0), rate=np.nan)
    group, warnings = only_group(nwb)
    np.testing.assert_allclose(group.timestamps, np.arange(30) / 5)
    assert "imaging rate" in warnings


def test_no_clock_at_all_is_an_error(nwb):
    add_dff(nwb, np.zeros((30, 2)), add_plane(nwb, 1, 2, np.nan), rate=np.nan)
    with pytest.raises(SessionError, match=r"no responses.*does not say when it was sampled"):
        nr.open_session(nwb)


def test_rows_of_one_table_in_two_series_are_two_groups(nwb):
    table = add_plane(nwb, 1, 5, 10.0)
    for name, rows in (("upper", [0, 1]), ("lower", [2, 3, 4])):
        series = RoiResponseSeries(
            name=name, data=np.full((20, len(rows)), rows[0]), rois=region(table, rows), unit="F", rate=10.0
        )
        nwb.processing["ophys"].add(series)
    session = nr.open_session(nwb)
    assert [group.n_rois for group in session.responses.values()] == [2, 3]
    assert list(session.responses) == ["ImagingPlane1", "ImagingPlane1 lower"]
    assert list(session.responses["ImagingPlane1 lower"].rois.index) == [1002, 1003, 1004]


def test_an_alternative_in_another_order_is_put_in_order(nwb):
    table = add_plane(nwb, 1, 3, 10.0)
    data = rng.normal(size=(20, 3)).astype(np.float32)
    add_dff(nwb, data, table)
    shuffled = RoiResponseSeries(
        name="raw", data=data[:, [2, 0, 1]], rois=region(table, [2, 0, 1]), unit="F", rate=10.0
    )
    nwb.processing["ophys"].add(shuffled)
    group, _ = only_group(nwb)
    (other,) = group.alternatives.values()
    np.testing.assert_array_equal(other.read(0, 20), data)


def test_an_alternative_that_does_not_fit_is_left_out(nwb):
    table = add_plane(nwb, 1, 3, 10.0)
    add_dff(nwb, np.zeros((20, 3)), table)
    add_dff(nwb, np.zeros((15, 3)), table, name="Raw", container="Fluorescence")
    group, warnings = only_group(nwb)
    assert group.alternatives == {}
    assert "Fluorescence/Raw was left out" in warnings
    with pytest.raises(SessionError, match=r"no signal raw; it has processing/ophys/DfOverF/dff \(dF/F\)"):
        nr.open_session(nwb, signal="raw")


def test_a_region_that_names_too_few_rois_is_mended(nwb):
    table = add_plane(nwb, 1, 3, 10.0)
    series = RoiResponseSeries(name="raw", data=np.zeros((20, 3)), rois=region(table, [0, 1]), unit="F", rate=10.0)
    nwb.processing["ophys"].add(series)
    group, warnings = only_group(nwb)
    assert group.n_rois == 3
    assert "names 2 ROIs for its 3 columns" in warnings


def test_columns_that_fit_no_rois_are_left_out(nwb):
    table = add_plane(nwb, 1, 3, 10.0)
    bad = RoiResponseSeries(name="bad", data=np.zeros((20, 7)), rois=region(table), unit="F", rate=10.0)
    nwb.processing["ophys"].add(bad)
    with pytest.raises(SessionError, match=r"its 7 columns do not fit its 3 ROIs"):
        nr.open_session(nwb)


def test_background_and_lone_neuropil_are_no_responses(nwb):
    table, other = add_plane(nwb, 1, 2, 10.0), add_plane(nwb, 2, 2, 10.0)
    add_dff(nwb, np.zeros((20, 2)), table)
    add_dff(nwb, np.zeros((20, 2)), other, name="Neuropil", container="Fluorescence")
    add_dff(nwb, np.zeros((20, 2)), table, name="BackgroundFluorescence", container="Fluorescence")
    group, warnings = only_group(nwb)
    assert group.alternatives == {}
    assert "Neuropil was left out" in warnings
    assert "it is background" in warnings


@pytest.mark.parametrize(
    ("name", "values", "kept"),
    [
        ("mask_type", ["soma", "artifact", "soma"], [0, 2]),
        ("valid_roi", [True, True, False], [0, 1]),
        ("is_cell", [0.0, 1.0, 0.0], [1]),
        ("iscell", [[1.0, 0.9], [0.0, 0.2], [1.0, 0.7]], [0, 2]),
        ("Accepted", [1, 0, 0], [0]),
        ("Rejected", [1, 0, 0], [1, 2]),
        ("valid_roi", [False, False, False], [0, 1, 2]),
        ("is_cell", [0.2, 0.9, 0.5], [0, 1, 2]),
    ],
)
def test_what_is_no_cell_is_left_out(nwb, name, values, kept):
    table = add_plane(nwb, 1, 3, 10.0)
    table.add_column(name=name, description="which are cells", data=values)
    data = rng.normal(size=(20, 3)).astype(np.float32)
    add_dff(nwb, data, table)
    group, warnings = only_group(nwb)
    np.testing.assert_array_equal(group.rois.index, [1000 + roi for roi in kept])
    np.testing.assert_array_equal(group.signal.read(0, 20), data[:, kept])
    assert ("were left out by the column" in warnings) == (len(kept) < 3)


def test_the_roi_table_keeps_plain_columns_only(nwb):
    table = add_plane(nwb, 1, 2, 10.0)
    table.add_column(name="snr", description="signal to noise", data=[1.5, 2.5])
    table.add_column(name="centroid", description="place", data=[[1.0, 2.0], [3.0, 4.0]])
    table.add_column(name="embedding", description="many values", data=rng.normal(size=(2, 50)))
    table.add_column(name="tags", description="ragged", data=[["a"], ["b", "c"]], index=True)
    add_dff(nwb, np.zeros((20, 2)), table)
    group, _ = only_group(nwb)
    assert set(group.rois) == {"snr", "x", "y", "area", "depth"}
    assert list(group.rois["y"]) == [2.0, 4.0]
    assert list(group.rois["depth"]) == [150.0, 150.0]
    assert list(group.rois["area"]) == ["VISp", "VISp"]
    assert isinstance(table["snr"], VectorData)
    assert group.indicator == "GCaMP6s"
