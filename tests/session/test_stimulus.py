import numpy as np
import pytest
from pynwb.base import Images, TimeSeries
from pynwb.device import Device
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries, OpticalSeries
from pynwb.ophys import CorrectedImageStack, MotionCorrection, TwoPhotonSeries

import nwbrecon as nr
from nwbrecon.errors import SessionError
from nwbrecon.session import ScreenGeometry

from .conftest import clip_frames, new_file, with_movie, with_responses


@pytest.fixture
def nwb():
    return with_responses(new_file())


def series(name, n=60, rate=30.0, clip=0, kind=ImageSeries, **more):
    return kind(name=name, data=clip_frames(clip, n), unit="n.a.", rate=rate, starting_time=1.0, **more)


def chosen(nwb, **options):
    session = nr.open_session(nwb, **options)
    return list(session.stimulus.stores), " ".join(session.warnings)


def trials(nwb, starts=(1.0, 2.0)):
    nwb.add_trial_column(name="clip", description="clip")
    for start in starts:
        nwb.add_trial(start_time=start, stop_time=start + 1, clip=f"at {start}")


@pytest.mark.parametrize(
    "name", ["eye_camera", "EyeVideo", "FaceCam", "pupil_video", "body movie", "behavior_video", "video_cam_1", "cam0"]
)
def test_a_camera_is_never_the_stimulus(nwb, name):
    nwb.add_acquisition(series(name))
    trials(nwb)
    with pytest.raises(SessionError, match="no stimulus"):
        nr.open_session(nwb)


def test_a_movie_of_a_device_that_is_a_camera_is_not_the_stimulus(nwb):
    nwb.add_device(camera := Device(name="side camera"))
    nwb.add_acquisition(series("stimulus", device=camera))
    with pytest.raises(SessionError, match="no stimulus"):
        nr.open_session(nwb)


def test_the_imaged_movie_is_never_the_stimulus(nwb):
    plane = nwb.imaging_planes["ImagingPlane1"]
    nwb.add_acquisition(series("natural_movie_stimulus", kind=TwoPhotonSeries, imaging_plane=plane))
    shift = TimeSeries(name="xy_translation", data=np.zeros((60, 2)), unit="px", rate=30.0, starting_time=1.0)
    stack = CorrectedImageStack(
        name="stack",
        corrected=series("corrected"),
        original=nwb.acquisition["natural_movie_stimulus"],
        xy_translation=shift,
    )
    nwb.processing["ophys"].add(MotionCorrection(corrected_image_stacks=[stack]))
    trials(nwb)
    with pytest.raises(SessionError, match="no stimulus"):
        nr.open_session(nwb)


def test_what_is_shown_is_preferred_to_what_was_filmed(nwb):
    nwb.add_acquisition(series("movie_left"))
    nwb.add_acquisition(series("eye_tracking"))
    with_movie(nwb)
    trials(nwb)
    stores, warnings = chosen(nwb)
    assert stores == ["stimulus/presentation/movie"]
    assert "acquisition/movie_left was not used as a stimulus: something else is" in warnings


def test_a_name_is_enough_in_acquisition(nwb):
    nwb.add_acquisition(series("visual_stimulus"))
    stores, warnings = chosen(nwb)
    assert stores == ["acquisition/visual_stimulus"]
    assert "by its name" in warnings


def test_a_trials_table_is_enough_if_only_one_movie_fits_it(nwb):
    nwb.add_acquisition(series("recording"))
    with pytest.raises(SessionError, match="nothing says that it was shown"):
        nr.open_session(nwb)
    trials(nwb)
    stores, warnings = chosen(nwb)
    assert stores == ["acquisition/recording"]
    assert "since a table of intervals divides it" in warnings
    nwb.add_acquisition(series("recording_2"))
    with pytest.raises(SessionError, match=r"recording was not used.*recording_2 was not used"):
        nr.open_session(nwb)
    assert chosen(nwb, stimulus="recording_2")[0] == ["acquisition/recording_2"]
    assert chosen(nwb, stimulus="/acquisition/recording")[0] == ["acquisition/recording"]


def test_an_optical_series_is_a_movie(nwb):
    movie = series(
        "screen", kind=OpticalSeries, distance=0.15, field_of_view=np.array([1.2, 0.7]), orientation="upright"
    )
    nwb.add_stimulus(movie)
    session = nr.open_session(nwb)
    assert list(session.stimulus.stores) == ["stimulus/presentation/screen"]
    (screen,) = session.stimulus.screens.values()
    assert (screen.distance, screen.height, screen.width) == pytest.approx((15, 70, 120))
    assert screen.degrees == pytest.approx((2 * np.degrees(np.arctan(35 / 15)), 2 * np.degrees(np.arctan(4))), abs=0.06)
    told = ScreenGeometry(distance=20, height=30, width=50)
    assert list(nr.open_session(nwb, screen=told).stimulus.screens.values()) == [told]


@pytest.mark.parametrize("distance", [0.0, -1.0, np.nan, np.inf])
def test_a_screen_at_no_distance_is_said(nwb, distance):
    nwb.add_stimulus(series("screen", kind=OpticalSeries, distance=distance, field_of_view=[1.2, 0.7]))
    session = nr.open_session(nwb)
    assert session.stimulus.screens == {}
    assert "has a length that is no length" in " ".join(session.warnings)


def test_a_template_alone_was_not_shown(nwb):
    nwb.add_stimulus_template(series("natural_movie"))
    with pytest.raises(SessionError, match=r"holds no stimulus.*stimulus/templates/natural_movie"):
        nr.open_session(nwb)


def test_pixels_outside_the_file_are_said(nwb):
    nwb.add_stimulus(
        ImageSeries(
            name="movie", external_file=["clips/a.avi"], format="external", starting_frame=[0], unit="n.a.",
            timestamps=np.arange(9.0),
        )
    )  # fmt: skip
    with pytest.raises(SessionError, match=r"pixels are in clips/a\.avi, .*stimulus_folder"):
        nr.open_session(nwb)
    nwb.add_acquisition(series("visual_stimulus"))
    stores, warnings = chosen(nwb)
    assert stores == ["acquisition/visual_stimulus"]
    assert "its pixels are in clips/a.avi" in warnings


def test_gratings_without_pixels_are_said(nwb):
    with_movie(nwb)
    from pynwb.epoch import TimeIntervals

    gratings = TimeIntervals(name="drifting_gratings", description="gratings")
    gratings.add_row(start_time=20.0, stop_time=22.0)
    nwb.add_stimulus(gratings)
    nwb.add_invalid_time_interval(start_time=3.0, stop_time=4.0)
    _, warnings = chosen(nwb)
    assert "drifting_gratings was not used as a stimulus: the pixels of its 1 intervals" in warnings
    assert "1 stretches invalid (1 s)" in warnings


def test_what_is_described_twice_is_used_once(nwb):
    template = Images(
        name="frames", images=[GrayscaleImage(name=f"f{k}", data=clip_frames(0, 60)[k]) for k in range(60)]
    )
    nwb.add_stimulus_template(template)
    nwb.add_stimulus(
        IndexSeries(
            name="shown", data=np.arange(60), unit="N/A", indexed_images=template, timestamps=1 + np.arange(60) / 30
        )
    )
    nwb.add_stimulus(series("as_shown"))
    session = nr.open_session(nwb)
    assert list(session.stimulus.presentations["store"]) == ["stimulus/templates/frames"]
    assert "1 presentations by stimulus/presentation/as_shown were left out" in " ".join(session.warnings)


def test_several_movies_one_after_the_other_are_all_used(nwb):
    for number in range(3):
        nwb.add_stimulus(
            ImageSeries(
                name=f"clip_{number}",
                data=clip_frames(number % 2, 60),
                unit="n.a.",
                rate=30.0,
                starting_time=3.0 * number,
            )
        )
    session = nr.open_session(nwb)
    shown = session.stimulus.shown
    np.testing.assert_allclose(shown["onset"], [0, 3, 6])
    assert shown["store"].nunique() == 3
    # the third looks like the first
    assert shown["clip"].iloc[0] == shown["clip"].iloc[2] != shown["clip"].iloc[1]


def test_an_index_into_images_of_several_sizes_is_said(nwb):
    template = Images(
        name="mixed",
        images=[GrayscaleImage(name="a1", data=np.zeros((4, 6))), GrayscaleImage(name="a2", data=np.zeros((5, 6)))],
    )
    nwb.add_stimulus_template(template)
    nwb.add_stimulus(IndexSeries(name="shown", data=[0, 1], unit="N/A", indexed_images=template, timestamps=[1.0, 2.0]))
    with pytest.raises(SessionError, match="images of mixed differ in size"):
        nr.open_session(nwb)


def test_a_movie_of_one_frame_or_no_pixels_is_no_movie(nwb):
    nwb.add_stimulus(series("stimulus_still", n=1))
    nwb.add_stimulus(TimeSeries(name="photodiode", data=np.zeros(10), unit="V", rate=10.0))
    with pytest.raises(SessionError, match="no stimulus"):
        nr.open_session(nwb)


def test_a_movie_that_may_lie_on_its_side_is_said(nwb):
    nwb.add_stimulus(
        ImageSeries(name="movie", data=clip_frames(0, 60).transpose(0, 2, 1), unit="n.a.", rate=30.0, starting_time=1.0)
    )
    assert 'frame_axes="TXY"' in chosen(nwb)[1]
    session = nr.open_session(nwb, frame_axes="TXY")
    np.testing.assert_allclose(session.stimulus.read(0), clip_frames(0, 60))
    assert "frame_axes" not in " ".join(session.warnings)
