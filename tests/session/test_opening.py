import io

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.image import ImageSeries
from pynwb.ophys import DfOverF, RoiResponseSeries, TwoPhotonSeries

import nwbrecon as nr
from nwbrecon.errors import SessionError, SourceError
from nwbrecon.session import SignalKind

from .conftest import add_plane, clip_frames, new_file, region, write


def test_microns_layout_is_read_without_a_flag(microns):
    with nr.open_session(microns.path) as session:
        assert list(session.responses) == ["ImagingPlane1", "ImagingPlane2", "ImagingPlane3"]
        for name, group in session.responses.items():
            assert group.kind is SignalKind.RAW
            np.testing.assert_array_equal(group.timestamps, microns.sample_times[name])
            np.testing.assert_array_equal(group.rois.index % 1000, microns.soma[name])
            expected = microns.fluorescence[name][:, microns.soma[name]]
            np.testing.assert_array_equal(group.signal.read(0, len(expected)), expected)
            np.testing.assert_array_equal(group.signal.read(10, 13), expected[10:13])
            assert "area" not in group.rois
        shown = session.stimulus.shown
        assert list(shown["clip"]) == [f"hash{clip}" for _, clip, _, _ in microns.rows]
        assert list(shown["kind"]) == [{"Clip": "movie"}.get(kind, "noise") for kind, *_ in microns.rows]
        assert list(shown["film"]) == [
            f"film {clip % 2}" if kind == "Clip" else "" for kind, clip, _, _ in microns.rows
        ]
        np.testing.assert_allclose(shown["onset"], [start for *_, start, _ in microns.rows])
        np.testing.assert_allclose(shown["offset"], [stop for *_, stop in microns.rows])
        for row, (_, clip, start, _) in zip(shown.index, microns.rows, strict=True):
            np.testing.assert_allclose(session.stimulus.read(row), clip_frames(clip, 90), atol=1e-3)
            np.testing.assert_allclose(session.stimulus.clocks(row).onsets, start + np.arange(90) / 60)
        assert [store.name for store in session.stimulus.stores.values()] == ["Video: stimulus_17797_4_7_v4"]


def test_microns_behavior_is_in_common_units(microns):
    with nr.open_session(microns.path) as session:
        running, pupil = session.behavior["running_speed"], session.behavior["pupil_size"]
        # stored as cm/s under the unit m/s with a conversion of 0.01
        assert running.unit == "cm/s"
        np.testing.assert_allclose(running.values, microns.speed)
        np.testing.assert_array_equal(running.timestamps, microns.speed_times)
        np.testing.assert_allclose(pupil.values, np.sqrt(microns.minor * microns.major))
        assert np.isnan(pupil.values[50:60]).all()
        np.testing.assert_array_equal(pupil.timestamps, microns.eye_times)
        np.testing.assert_array_equal(session.behavior["gaze_y"].values, microns.gaze[:, 1])


def test_visual_coding_layout_is_read_without_a_flag(visual_coding):
    with nr.open_session(visual_coding.path) as session:
        (group,) = session.responses.values()
        assert group.kind is SignalKind.EVENTS
        assert group.neuropil is not None
        np.testing.assert_array_equal(group.timestamps, visual_coding.times)
        stored = {"DfOverFEvents": group.signal, "Neuropil": group.neuropil}
        stored |= {path.rpartition("/")[2]: signal for path, signal in group.alternatives.items()}
        assert set(stored) == set(visual_coding.signals)
        for name, signal in stored.items():
            np.testing.assert_array_equal(signal.read(100, 200), visual_coding.signals[name][100:200])
        shown = session.stimulus.shown
        movies = shown[shown["kind"] == "movie"]
        np.testing.assert_allclose(movies["onset"], visual_coding.onsets)
        np.testing.assert_allclose(movies["offset"], visual_coding.onsets + 2)
        assert set(movies["clip"]) == {"natural_movie_one"}
        np.testing.assert_allclose(session.stimulus.read(movies.index[9]), visual_coding.movie)
        images = shown[shown["kind"] == "image"]
        assert list(images["clip"]) == [f"natural_scenes[{k}]" for k in visual_coding.scene_order]
        for row, scene in zip(images.index, visual_coding.scene_order, strict=True):
            np.testing.assert_allclose(session.stimulus.read(row)[0], visual_coding.scenes[scene])
        np.testing.assert_array_equal(session.behavior["running_speed"].values, visual_coding.speed)
        assert "pupil_size" not in session.behavior
        assert any("no pupil" in warning for warning in session.warnings)


@pytest.mark.parametrize(
    ("signal", "kind", "name"),
    [
        ("dff", SignalKind.DFF, "DfOverF"),
        ("corrected", SignalKind.CORRECTED, "Corrected"),
        ("raw", SignalKind.RAW, "Demixed"),
    ],
)
def test_the_signal_can_be_chosen(visual_coding, signal, kind, name):
    with nr.open_session(visual_coding.path, signal=signal) as session:
        (group,) = session.responses.values()
        assert group.kind is kind
        np.testing.assert_array_equal(group.signal.read(0, 5), visual_coding.signals[name][:5])


def test_plain_layout_is_read_without_a_flag(plain):
    with nr.open_session(plain.path) as session:
        (group,) = session.responses.values()
        assert group.kind is SignalKind.DFF
        np.testing.assert_allclose(group.timestamps, 2.5 + np.arange(900) / 15)
        shown = session.stimulus.shown
        assert list(shown["clip"]) == ["clip_7", "clip_8", "clip_7", "clip_9"]
        assert list(shown["split"]) == ["test", "train", "test", "train"]
        for row, clip in zip(shown.index, plain.clips, strict=True):
            # stored as 0-1
            np.testing.assert_allclose(session.stimulus.read(row), clip_frames(clip, 60), atol=1e-3)
        assert session.behavior == {}


def test_openscope_folder_is_one_session(openscope):
    with nr.open_session(openscope.folder) as session:
        assert len(session.responses) == 2
        for (plane, dff), group in zip(openscope.dff.items(), session.responses.values(), strict=True):
            assert str(plane) in group.name
            assert group.kind is SignalKind.DFF
            np.testing.assert_allclose(group.signal.read(0, 300), dff[:, [0, 1, 3]].astype(np.float32))
            np.testing.assert_allclose(group.timestamps, openscope.times[plane])
        shown = session.stimulus.shown
        np.testing.assert_allclose(shown["onset"], openscope.onsets)
        np.testing.assert_allclose(shown["offset"], openscope.onsets + 1)
        assert shown["clip"].nunique() == 1
        # flips are joined to frames, and the frame axis, stored last, comes first
        np.testing.assert_allclose(session.stimulus.read(shown.index[1]), openscope.movie)
        np.testing.assert_allclose(session.stimulus.clocks(shown.index[0]).onsets, 3 + np.arange(30) / 30)
        np.testing.assert_array_equal(session.behavior["running_speed"].values, np.full(600, 7.0))
        assert len(session.identity["files"]) == 2


def test_a_session_opens_from_whatever_is_open(microns):
    with h5py.File(microns.path, "r") as file, nr.open_session(file) as session:
        assert session.n_rois == 15
    with microns.path.open("rb") as file, nr.open_session(file) as session:
        assert session.n_rois == 15
    with NWBHDF5IO(microns.path, "r") as stream:
        session = nr.open_session(stream.read())
        assert session.n_rois == 15
        session.close()


class CountedFile(io.FileIO):
    """A file that counts the bytes that are read from it."""

    def __init__(self, path):
        super().__init__(path, "rb")
        self.count = 0

    def readinto(self, buffer):
        read = super().readinto(buffer)
        self.count += read
        return read

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


def test_opening_reads_neither_masks_nor_movies_nor_responses(tmp_path):
    nwb = new_file()
    table = add_plane(nwb, 1, 0, 10.0)
    for roi in range(20):
        table.add_roi(id=roi, image_mask=np.random.default_rng(roi).random((256, 256), dtype=np.float32))
    nwb.processing["ophys"].add(container := DfOverF())
    data = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    container.add_roi_response_series(
        RoiResponseSeries(name="dff", data=data, rois=region(table), unit="a.u.", rate=10.0, starting_time=0.0)
    )
    movie = np.random.default_rng(0).integers(0, 255, (1000, 40, 60), dtype=np.uint8)
    nwb.add_stimulus(ImageSeries(name="movie", data=movie, unit="n.a.", rate=30.0, starting_time=10.0))
    nwb.add_trial_column(name="clip", description="clip")
    for number in range(10):
        nwb.add_trial(start_time=10 + 3.0 * number, stop_time=13 + 3.0 * number, clip=f"c{number}")
    path = write(nwb, tmp_path / "large.nwb")
    assert path.stat().st_size > 9e6
    with CountedFile(path) as file, nr.open_session(file) as session:
        assert file.count < 0.3e6
        np.testing.assert_allclose(session.stimulus.read(3), movie[270:360].astype(np.float32))
        np.testing.assert_array_equal(next(iter(session.responses.values())).signal.read(5, 7), data[5:7])
        assert file.count < 1.5e6


def test_a_file_without_responses_says_what_it_holds(tmp_path):
    nwb = new_file()
    add_plane(nwb, 1, 2, 10.0)
    nwb.add_acquisition(
        TwoPhotonSeries(
            name="raw",
            data=np.zeros((5, 4, 4)),
            imaging_plane=nwb.imaging_planes["ImagingPlane1"],
            unit="n.a.",
            rate=10.0,
        )
    )
    with pytest.raises(SessionError, match=r"holds no responses.*acquisition/raw.*segmentation"):
        nr.open_session(write(nwb, tmp_path / "raw.nwb"))


def test_a_file_without_a_stimulus_says_what_it_holds(tmp_path):
    nwb = new_file()
    table = add_plane(nwb, 1, 2, 10.0)
    nwb.processing["ophys"].add(container := DfOverF())
    container.add_roi_response_series(
        RoiResponseSeries(name="dff", data=np.zeros((50, 2)), rois=region(table), unit="a.u.", rate=10.0)
    )
    nwb.add_acquisition(ImageSeries(name="face_camera", data=np.zeros((50, 4, 4)), unit="n.a.", rate=10.0))
    nwb.add_acquisition(ImageSeries(name="recording", data=np.zeros((50, 4, 4)), unit="n.a.", rate=10.0))
    path = write(nwb, tmp_path / "no_stimulus.nwb")
    with pytest.raises(SessionError, match=r"no stimulus.*face_camera"):
        nr.open_session(path)
    with nr.open_session(path, stimulus="recording") as session:
        assert len(session.stimulus.presentations) == 1
    with pytest.raises(SessionError, match=r"no other in the file.*acquisition/recording"):
        nr.open_session(path, stimulus="other")


def test_nothing_stays_open_after_an_error(tmp_path):
    nwb = new_file()
    nwb.add_acquisition(TimeSeries(name="a", data=[1.0], unit="V", rate=1.0))
    path = write(nwb, tmp_path / "empty.nwb")
    with pytest.raises(SessionError):
        nr.open_session(path)
    with h5py.File(path, "a"):
        pass


def test_a_wrong_path_is_an_error_of_the_source(tmp_path):
    with pytest.raises(SourceError, match="no file"):
        nr.open_session(tmp_path / "none.nwb")


def test_planes_are_delayed_by_name(microns):
    with nr.open_session(microns.path, plane_delays={"ImagingPlane2": 0.05}) as session:
        assert [group.delay for group in session.responses.values()] == [0, 0.05, 0]
    with pytest.raises(SessionError, match=r"no plane Plane9.*ImagingPlane1"):
        nr.open_session(microns.path, plane_delays={"Plane9": 0.05})


def test_a_session_is_shown_as_a_table(microns):
    with nr.open_session(microns.path) as session:
        text = repr(session)
    assert "Session 4-scan-7 of subject 17797" in text
    assert "ImagingPlane2  4     6.3" in text
    assert "4_7_v4  5      3      60  5.5 - 19.0  movie, 12 x 20" in text
    assert "4_7_v4  2      2      60  9.5 - 15.0  noise, 12 x 20" in text
    assert "4_7_v4  7      1      60  5.0 - 17.5  gray, 12 x 20" in text
    assert "running_speed  cm/s" in text
    assert "2% missing" in text
