import itertools

import numpy as np
import pandas as pd
import pytest

from nwbrecon.alignment.resample import bin_counts
from nwbrecon.config import SimulationSettings
from nwbrecon.errors import SettingsError
from nwbrecon.metrics import correlation
from nwbrecon.session.activity import activity
from nwbrecon.session.model import ResponseGroup, Signal, SignalKind
from nwbrecon.simulation.session import FRAME_RATE, FRAME_SIZE, GAP_SECONDS, MARGIN_SECONDS, simulate_recording

SIZE = {"rois": 12, "planes": 3, "minutes": 0.2, "clip_seconds": 3.0, "test_clips": 2, "test_repeats": 3}


@pytest.fixture(scope="module")
def recording():
    return simulate_recording(SimulationSettings(**SIZE))


def films(*seconds, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"film {n}": rng.integers(0, 255, (round(length * FRAME_RATE), *FRAME_SIZE)).astype(np.uint8)
        for n, length in enumerate(seconds)
    }


def shown(movies, **settings):
    return simulate_recording(SimulationSettings(**SIZE | {"rois": 2, "planes": 1} | settings), movies)


def test_training_clips_are_shown_once_and_test_clips_repeated(recording):
    counts = recording.schedule.groupby("split")["clip"].value_counts()
    assert (counts["train"] == 1).all()
    assert (counts["test"] == 3).all()
    assert (len(counts["train"]), len(counts["test"])) == (4, 2)
    for _, rows in recording.schedule.groupby("clip"):
        assert rows["repeat"].tolist() == list(range(len(rows)))
        assert rows["split"].nunique() == 1


def test_showings_follow_one_another_with_gray_between(recording):
    schedule = recording.schedule
    lengths = schedule["clip"].map(lambda clip: len(recording.clips[clip])) / FRAME_RATE
    np.testing.assert_allclose(schedule["offset"] - schedule["onset"], lengths)
    np.testing.assert_allclose(schedule["onset"].iloc[1:].to_numpy() - schedule["offset"].iloc[:-1], GAP_SECONDS)
    assert schedule["onset"].iloc[0] == MARGIN_SECONDS
    assert recording.duration == pytest.approx(schedule["offset"].iloc[-1] + GAP_SECONDS + MARGIN_SECONDS)


def test_showings_of_a_test_clip_are_spread_over_the_session():
    schedule = shown(films(3.0, 3.0, 30.0), minutes=0.5, test_repeats=4).schedule
    at = schedule.loc[schedule["split"] == "test"].groupby("repeat")["onset"].mean() / schedule["onset"].max()
    assert at.is_monotonic_increasing
    assert at.iloc[0] < 0.35
    assert at.iloc[-1] > 0.65


def test_responses_come_after_what_is_shown(recording):
    # rates on the frame clock, against the change of the picture from frame to frame
    truth = recording.truth
    rates = truth["clean_rates"][:, truth["cell_type"] != "blind"].mean(axis=1)
    screen = np.full((len(rates), *FRAME_SIZE), 127.0)
    for row in recording.schedule.itertuples():
        first = round(row.onset * FRAME_RATE)
        screen[first : first + len(recording.clips[row.clip])] = recording.clips[row.clip]
    onsets = (recording.schedule["onset"] * FRAME_RATE).round().astype(int).to_numpy()
    before = np.mean([rates[onset - 4 : onset].mean() for onset in onsets])
    at = np.mean([rates[onset : onset + 2].mean() for onset in onsets])
    after = np.mean([rates[onset + 3 : onset + 7].mean() for onset in onsets])
    assert after > 2 * before
    assert after > 2 * at


def test_the_expected_rates_lack_what_nobody_can_know(recording):
    truth = recording.truth
    seeing = truth["cell_type"] != "blind"
    rates, clean, expected = (truth[name][:, seeing] for name in ("rates", "clean_rates", "expected_rates"))
    assert expected.max() < 80
    # of the rate of a trial they tell more than the movie alone does, and not all
    of_clean, of_expected = (correlation(known, rates).mean() for known in (clean, expected))
    assert of_clean + 0.01 < of_expected < 0.99


def test_the_eye_moves_the_picture_and_the_camera_sees_it_move(recording):
    shift = recording.truth["retinal_shift"]
    assert 0.5 < shift.std() < 2.5
    frames = (np.arange(len(shift)) + 0.5) / FRAME_RATE
    seen = recording.pupil.dropna()
    moved = np.interp(seen["timestamps"], frames, shift[:, 1])
    assert np.corrcoef(seen["gaze_x"], moved)[0, 1] < -0.5


def test_the_same_seed_gives_the_same_recording_and_another_gives_another(recording):
    again = simulate_recording(SimulationSettings(**SIZE))
    for one, two in zip(recording.planes, again.planes, strict=True):
        np.testing.assert_array_equal(one.fluorescence, two.fluorescence)
    assert recording.schedule.equals(again.schedule)
    assert recording.pupil.equals(again.pupil)
    movies = films(3.0, 3.0, 12.0)
    one, other = shown(movies), shown(movies, seed=1)
    assert not np.allclose(one.planes[0].fluorescence[:100], other.planes[0].fluorescence[:100])
    assert not np.allclose(one.running["speed"][:100], other.running["speed"][:100])


def test_mice_may_see_the_same_and_differ_in_all_else(recording):
    other = simulate_recording(SimulationSettings(**SIZE, seed=7, stimulus_seed=0))
    pd.testing.assert_frame_equal(other.schedule, recording.schedule)
    for clip, video in recording.clips.items():
        np.testing.assert_array_equal(other.clips[clip], video)
    assert (other.truth["spatial_filters"] != recording.truth["spatial_filters"]).any()
    assert (other.truth["retinal_shift"] != recording.truth["retinal_shift"]).any()


def test_the_number_of_cells_and_planes_is_what_was_asked_for(recording):
    assert len(recording.planes) == 3
    assert sum(plane.fluorescence.shape[1] for plane in recording.planes) == 12
    assert recording.truth["rates"].shape == (round(recording.duration * FRAME_RATE), 12)
    movies = films(3.0, 3.0, 3.0)
    single = shown(movies, layout="visual-coding", planes=3)
    assert (len(single.planes), single.imaging_rate) == (1, 30.0)
    assert [shown(movies, rois=8, planes=planes).imaging_rate for planes in (1, 8)] == pytest.approx([7.8, 6.0])


def test_planes_without_a_cell_are_refused():
    with pytest.raises(SettingsError, match=r"2 ROIs .* 3 planes"):
        shown(films(3.0, 3.0, 3.0), planes=3)
    # one plane is enough for one
    assert len(shown(films(3.0, 3.0, 3.0), rois=1, planes=3, layout="visual-coding").planes) == 1


def test_rates_are_those_of_spikes_that_were_imaged(recording):
    # light that is brighter than a moment ago means spikes: rises go with the rate of the cell, not of others
    together, crossed = [], []
    for plane in recording.planes:
        light = plane.fluorescence - 0.7 * plane.neuropil
        frames = (np.arange(len(recording.truth["rates"])) + 0.5) / FRAME_RATE
        rates = np.stack([np.interp(plane.timestamps - 0.05, frames, rate) for rate in recording.truth["rates"].T], 1)
        rise = np.diff(light, axis=0)
        for column, cell in enumerate(plane.cells):
            together.append(correlation(rise[:, column], rates[1:, cell]))
            crossed.append(correlation(rise[:, column], rates[1:, (cell + 1) % 12]))
    assert np.mean(together) > np.mean(crossed) + 0.15


def test_what_the_rig_did_not_measure_is_only_in_the_truth(recording):
    measured = {"timestamps", "fluorescence", "neuropil", "positions", "depth", "image_shape", "name", "cells"}
    assert set(vars(recording.planes[0])) == measured
    assert list(recording.running) == ["timestamps", "speed"]
    assert list(recording.pupil) == ["timestamps", "radius", "gaze_x", "gaze_y"]
    assert {"rates", "spatial_filters", "retinal_shift", "hidden_gain", "plane_delays"} <= set(recording.truth)
    for number, plane in enumerate(recording.planes):
        assert recording.truth["plane_delays"][number] == plane.timestamps[0]


def test_films_are_cut_into_clips_and_whole_films_set_apart():
    movies = films(3.2, 7.0, 13.0, 10.0)
    recording = shown(movies)
    assert set(recording.schedule["film"]) <= set(movies)
    test_films = set(recording.schedule.query("split == 'test'")["film"])
    assert len(test_films) == 2
    assert not test_films & set(recording.schedule.query("split == 'train'")["film"])
    for row in recording.schedule.drop_duplicates("clip").itertuples():
        start, stop = (int(part) for part in row.clip.removeprefix(row.film).split()[0].split("-"))
        np.testing.assert_array_equal(recording.clips[row.clip], movies[row.film][start:stop])


def test_short_films_are_shown_again_mirrored_and_backwards():
    movies = films(3.0, 3.0, 3.0)
    recording = shown(movies, minutes=0.2, clip_seconds=3.0)
    training = recording.schedule.query("split == 'train'")
    (film,) = set(training["film"])
    assert len(training) == 4
    expected = {
        f"{film} 0-90": movies[film],
        f"{film} 0-90 mirrored": movies[film][:, :, ::-1],
        f"{film} 0-90 backwards": movies[film][::-1],
        f"{film} 0-90 mirrored backwards": movies[film][::-1, :, ::-1],
    }
    assert set(training["clip"]) == set(expected)
    for clip, video in expected.items():
        np.testing.assert_array_equal(recording.clips[clip], video)


def test_no_more_is_shown_than_was_asked_for():
    recording = shown(films(3.0, 3.0, 60.0), minutes=0.2)
    training = recording.schedule.query("split == 'train'")
    assert (training["offset"] - training["onset"]).sum() == pytest.approx(12.0)
    assert recording.clips.keys() == set(recording.schedule["clip"])


@pytest.mark.parametrize("movies", [films(2.0, 2.0, 2.0), films(9.0), {}])
def test_too_little_film_is_refused(movies):
    with pytest.raises(SettingsError, match=r"movies give .* were asked for"):
        shown(movies)


def test_no_test_clips_may_be_asked_for():
    schedule = shown(films(9.0), test_clips=0).schedule
    assert set(schedule["split"]) == {"train"}


@pytest.mark.slow
def test_repeats_of_a_clip_correlate_as_in_real_recordings():
    recording = simulate_recording(SimulationSettings(rois=150, minutes=1.0, test_clips=4, test_clip_seconds=6.0))
    reliability = []
    for plane in recording.planes:
        measured = deconvolved(plane)
        # activity at the plane's usual interval, by showing
        repeats: list[list[np.ndarray]] = [[] for _ in range(5)]
        for row in recording.schedule.query("split == 'test'").itertuples():
            edges = row.onset + 0.05 + np.arange(0, row.offset - row.onset, 1 / recording.imaging_rate)
            repeats[row.repeat].append(bin_counts(plane.timestamps, measured, edges[:-1], edges[1:]))
        order = recording.schedule.query("split == 'test'").groupby("repeat")["clip"]
        aligned = [
            np.concatenate([part for _, part in sorted(zip(clips, parts, strict=True), key=lambda pair: pair[0])])
            for (_, clips), parts in zip(order, repeats, strict=True)
        ]
        reliability.append(np.mean([correlation(one, two) for one, two in itertools.combinations(aligned, 2)], axis=0))
    assert 0.2 < np.concatenate(reliability).mean() < 0.4
    # some cells are hardly driven, some are very reliable
    low, high = np.quantile(np.concatenate(reliability), [0.1, 0.9])
    assert low < 0.2
    assert high > 0.4


def deconvolved(plane):
    def signal(values, kind):
        return Signal("", kind, "a.u.", lambda start, stop: values[start:stop], values.shape)

    group = ResponseGroup(
        plane.name,
        signal(plane.fluorescence, SignalKind.RAW),
        plane.timestamps,
        pd.DataFrame(index=range(len(plane.cells))),
        neuropil=signal(plane.neuropil, SignalKind.NEUROPIL),
        indicator="GCaMP6s",
    )
    return activity(group).values
