import datetime

import numpy as np
import pytest
from PIL import Image
from pynwb.image import ImageSeries

import nwbrecon as nr
from nwbrecon.errors import SessionError
from nwbrecon.session.folder import PictureFile, StimulusFolder

from .conftest import clip_frames, new_file, with_responses
from .test_videos import encode


def flips(nwb, name, frames, start, rate=60.0, table=None, **columns):
    """A row a monitor flip, as in the Neuropixels files, which have no pixels."""
    table = nwb.create_time_intervals(name=table or f"{name}_presentations", description="flips")
    for column in ("stimulus_name", "frame", *columns):
        table.add_column(name=column, description=column)
    for number, frame in enumerate(frames):
        onset = start + number / rate
        table.add_row(
            start_time=onset, stop_time=onset + 1 / rate, stimulus_name=name, frame=float(frame),
            **{column: values[number] for column, values in columns.items()},
        )  # fmt: skip
    return table


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "stimuli").mkdir()
    return tmp_path / "stimuli"


def test_frames_of_a_movie_that_the_file_only_names(folder):
    nwb = with_responses(new_file())
    movie = clip_frames(3, 30)
    np.save(folder / "natural_movie_one.npy", movie)
    flips(nwb, "natural_movie_one", np.tile(np.repeat(np.arange(30), 2), 2), 3.0)
    with pytest.raises(SessionError, match=r"frames of natural_movie_one.*stimulus_folder"):
        nr.open_session(nwb)
    session = nr.open_session(nwb, stimulus_folder=folder)
    shown = session.stimulus.shown
    np.testing.assert_allclose(shown["onset"], [3.0, 4.0])
    assert set(shown["clip"]) == {"natural_movie_one"}
    np.testing.assert_array_equal(session.stimulus.read(shown.index[1]), movie)
    np.testing.assert_allclose(session.stimulus.clocks(shown.index[0]).onsets, 3 + np.arange(30) / 30)


def test_numbered_pictures_are_a_set(folder):
    nwb = with_responses(new_file())
    scenes = np.random.default_rng(0).integers(0, 256, (12, 10, 16), dtype=np.uint8)
    (folder / "natural_scenes").mkdir()
    for number, scene in enumerate(scenes):
        Image.fromarray(scene).save(folder / "natural_scenes" / f"scene {number}.png")
    order = np.array([11, 2, -1, 0, 10, 2])
    flips(nwb, "natural_scenes", order, 3.0, rate=4.0)
    session = nr.open_session(nwb, stimulus_folder=folder)
    shown = session.stimulus.shown
    assert list(shown["clip"]) == [f"natural_scenes[{k}]" for k in order[order >= 0]]
    assert set(shown["kind"]) == {"image"}
    for label, number in zip(shown.index, order[order >= 0], strict=True):
        np.testing.assert_array_equal(session.stimulus.read(label)[0], scenes[number])


@pytest.mark.parametrize("name", ["a1b2", "a1b2.mkv"])
def test_clips_by_the_names_and_hashes_in_a_table(folder, name):
    nwb = with_responses(new_file())
    clips = {key: clip_frames(seed, 30, 32, 48) for seed, key in enumerate((name.partition(".")[0], "c3d4"))}
    for key, frames in clips.items():
        encode(folder / f"{key}.mkv", frames)
    nwb.add_trial_column(name="condition_hash", description="what was shown")
    for number, shown in enumerate((name, "c3d4", name, "lost")):
        nwb.add_trial(start_time=2.0 + 3 * number, stop_time=3.0 + 3 * number, condition_hash=shown)
    session = nr.open_session(nwb, stimulus_folder=folder)
    shown = session.stimulus.shown
    np.testing.assert_allclose(shown["onset"], [2.0, 5.0, 8.0])
    assert shown["clip"].iloc[0] == shown["clip"].iloc[2] != shown["clip"].iloc[1]
    np.testing.assert_array_equal(session.stimulus.read(shown.index[1]), clips["c3d4"])
    assert "names lost (1 in all), of which there are no pixels" in " ".join(session.warnings)


def test_clips_by_number(folder):
    nwb = with_responses(new_file())
    for number in (4, 7):
        np.save(folder / f"{number}.npy", clip_frames(number, 30))
    nwb.add_trial_column(name="clip_number", description="number")
    nwb.add_trial_column(name="block", description="not a clip, though a file has this number")
    for start, number in enumerate((4.0, 7.0, 4.0)):
        nwb.add_trial(start_time=2.0 + start, stop_time=3.0 + start, clip_number=number, block=7)
    session = nr.open_session(nwb, stimulus_folder=folder)
    assert [store.rpartition("/")[2] for store in session.stimulus.presentations["store"]] == ["4", "7", "4"]


def test_a_clip_that_does_not_fill_its_interval_is_said(folder):
    nwb = with_responses(new_file())
    encode(folder / "slow.mkv", clip_frames(0, 30, 32, 48), rate=30)
    nwb.add_trial_column(name="movie", description="name")
    nwb.add_trial(start_time=2.0, stop_time=4.0, movie="slow")
    session = nr.open_session(nwb, stimulus_folder=folder)
    np.testing.assert_allclose(session.stimulus.clocks(0).onsets, 2 + np.arange(30) / 15)
    assert "30 frames at 30 Hz, which do not fill the intervals" in " ".join(session.warnings)


def test_a_series_of_videos_beside_the_file(tmp_path, folder):
    first, second = clip_frames(1, 20, 32, 48), clip_frames(2, 25, 32, 48)
    encode(folder / "a.mkv", first)
    encode(folder / "b.mkv", second)
    nwb = with_responses(new_file())
    series = ImageSeries(
        name="movie", external_file=["stimuli/a.mkv", "stimuli/b.mkv"], format="external", starting_frame=[0, 20],
        unit="n.a.", timestamps=3 + np.arange(45) / 30,
    )  # fmt: skip
    nwb.add_stimulus(series)
    from .conftest import write

    path = write(nwb, tmp_path / "mouse.nwb")
    with nr.open_session(path) as session:
        np.testing.assert_array_equal(session.stimulus.read(0), np.concatenate([first, second]))
        np.testing.assert_allclose(session.stimulus.clocks(0).onsets, 3 + np.arange(45) / 30)
        assert "begin with the frames" not in " ".join(session.warnings)
    # elsewhere, the folder is named
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    path.rename(moved / "mouse.nwb")
    with pytest.raises(SessionError, match=r"its pixels are in stimuli/a\.mkv, which is not in the folder"):
        nr.open_session(moved / "mouse.nwb")
    with nr.open_session(moved / "mouse.nwb", stimulus_folder=folder) as session:
        np.testing.assert_array_equal(session.stimulus.read(0)[20:], second)


def test_starting_frames_at_odds_with_the_files_are_said(tmp_path):
    encode(tmp_path / "a.mkv", clip_frames(1, 20, 32, 48))
    encode(tmp_path / "b.mkv", clip_frames(1, 20, 32, 48))
    nwb = with_responses(new_file())
    nwb.add_stimulus(
        ImageSeries(
            name="movie", external_file=["a.mkv", "b.mkv"], format="external", starting_frame=[0, 25], unit="n.a.",
            timestamps=3 + np.arange(45) / 30,
        )
    )  # fmt: skip
    session = nr.open_session(nwb, stimulus_folder=tmp_path)
    text = " ".join(session.warnings)
    assert "begin with the frames 0, 25; by their lengths it is 0, 20, which was taken" in text
    assert "40 frames and 45 time stamps" in text


@pytest.mark.parametrize(
    "name",
    ["../secret.mkv", "/tmp/../{folder}/secret.mkv", "a/../../secret.mkv", "link.mkv", "file://{folder}/secret.mkv"],
)
def test_a_file_names_nothing_outside_its_folder(tmp_path, name):
    encode(tmp_path / "secret.mkv", clip_frames(1, 20, 32, 48))
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.mkv").symlink_to(tmp_path / "secret.mkv")
    nwb = with_responses(new_file())
    nwb.add_stimulus(
        ImageSeries(
            name="movie", external_file=[name.format(folder=tmp_path)], format="external", starting_frame=[0],
            unit="n.a.", rate=30.0, num_samples=20,
        )
    )  # fmt: skip
    from .conftest import write

    with pytest.raises(SessionError, match="which is not in the folder of the NWB file"):
        nr.open_session(write(nwb, inner / "mouse.nwb"))


def test_a_camera_that_filmed_into_a_file_is_not_the_stimulus(tmp_path):
    encode(tmp_path / "video.mkv", clip_frames(1, 60, 32, 48))
    nwb = with_responses(new_file())
    nwb.add_acquisition(
        ImageSeries(
            name="video", external_file=["video.mkv"], format="external", starting_frame=[0], unit="n.a.",
            timestamps=3 + np.arange(60) / 30,
        )
    )  # fmt: skip
    nwb.add_trial_column(name="clip", description="clip")
    nwb.add_trial(start_time=3.0, stop_time=4.0, clip="a")
    with pytest.raises(SessionError, match="no stimulus"):
        nr.open_session(nwb, stimulus_folder=tmp_path)
    assert len(nr.open_session(nwb, stimulus_folder=tmp_path, stimulus="video").stimulus.presentations) == 1


def test_a_folder_without_stimuli_is_refused(tmp_path):
    with pytest.raises(SessionError, match="There is no folder"):
        StimulusFolder(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(SessionError, match="holds nothing that could be a stimulus"):
        StimulusFolder(tmp_path)


def test_two_stimuli_of_one_name_are_refused_when_they_are_asked_for(folder):
    for part in "ab":
        (folder / part).mkdir()
        np.save(folder / part / "clip.npy", clip_frames(0, 5))
    np.save(folder / "other.npy", clip_frames(0, 5))
    stimuli = StimulusFolder(folder)
    assert stimuli["stimulus_folder/other"].n_frames == 5
    with pytest.raises(SessionError, match=r"2 stimuli of the name clip: a/clip\.npy, b/clip\.npy"):
        stimuli["stimulus_folder/clip"]


def test_pickles_are_never_loaded(folder):
    np.save(folder / "clip.npy", np.array([datetime.date(2020, 1, 1)], dtype=object), allow_pickle=True)
    with pytest.raises(SessionError, match=r"clip\.npy cannot be read as an array"):
        StimulusFolder(folder)["stimulus_folder/clip"]


def test_pictures_are_grey_whatever_they_hold(tmp_path):
    colors = np.zeros((4, 6, 3), np.uint8)
    colors[..., 1] = 204
    Image.fromarray(colors).save(tmp_path / "color.png")
    Image.fromarray(colors).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(tmp_path / "deep.tif")
    for name in ("color.png", "palette.png"):
        picture = PictureFile(tmp_path / name)
        assert picture.shape == (4, 6)
        np.testing.assert_allclose(picture[:], 0.587 * 204, atol=1)
    np.testing.assert_array_equal(PictureFile(tmp_path / "deep.tif")[1:3], np.full((2, 6), 1000))
    (tmp_path / "none.png").write_bytes(b"no picture")
    with pytest.raises(SessionError, match=r"none\.png cannot be read as a picture"):
        PictureFile(tmp_path / "none.png")
    cut = (tmp_path / "color.png").read_bytes()[:-30]
    (tmp_path / "cut.png").write_bytes(cut)
    with pytest.raises(SessionError, match=r"cut\.png cannot be read as a picture"):
        PictureFile(tmp_path / "cut.png")[:]
