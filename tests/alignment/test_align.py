import gc
from dataclasses import replace

import numpy as np
import pytest

import nwbrecon as nr
from nwbrecon.alignment.video import scale_frames
from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import AlignmentError, SettingsError
from nwbrecon.session.model import BehaviorSeries

SIZE = (9, 16)


def test_clips_movies_and_behavior_line_up(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE)
    assert aligned.behavior_names == ("running_speed", "pupil_size")
    for label in aligned.trials.index:
        trial = aligned.trial(label)
        shown = microns_like.stimulus.stores[aligned.trials.at[label, "clip"]].frames
        # each frame stays on for one bin; half precision rounds by 1/16 at most
        np.testing.assert_allclose(trial.video, scale_frames(shown, SIZE), atol=1 / 16)
        assert trial.video.dtype == np.float32
        # running was made to be half the time in seconds
        np.testing.assert_allclose(trial.behavior[:, 0], 0.5 * (trial.times + 0.5 / 30), atol=1e-4)
    assert [row["onset"] for _, row in aligned.trials.iterrows()] == list(microns_like.stimulus.presentations["onset"])


def test_the_most_repeated_clips_are_test_and_training_keeps_its_distance(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE)
    assert {aligned.trials.at[trial, "clip"] for trial in aligned.trials_in("test")} == {"clip 0", "clip 1"}
    assert len(aligned.trials_in("test")) == 12
    tested = np.concatenate([aligned.trial(trial).times for trial in aligned.trials_in("test")])
    for split in ("train", "validation"):
        for label in aligned.trials_in(split):
            trial = aligned.trial(label)
            assert trial.valid.any()
            distance = np.abs(trial.times[:, None] - tested).min(axis=1)
            assert (distance[trial.valid] > 2.0).all()
    assert all(aligned.trial(trial).valid.all() for trial in aligned.trials_in("test"))
    unused = aligned.trials_in("")
    assert unused
    assert not any(aligned.trial(trial).valid.any() for trial in unused)


def test_without_a_guard_every_frame_is_used(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE, guard_seconds=0)
    assert aligned.valid.all()
    assert aligned.trials_in("") == []


def test_a_movie_shown_ten_times_is_split_by_scenes(make_session, make_movie):
    clips = {"one": make_movie(1, 30.0)}
    session = make_session(clips, [("one", 3 + 30.0 * n) for n in range(10)], planes=1, imaging_rate=30.0)
    aligned = nr.align(session, frame_size=SIZE)
    assert {aligned.trials.at[trial, "clip"] for trial in aligned.trials_in("test")} == {"one[750:900]"}
    assert len(aligned.trials_in("train")) == 40
    for label in aligned.trials.index:
        row = aligned.trials.loc[label]
        expected = scale_frames(clips["one"][row["source_start"] : row["source_stop"]], SIZE)
        np.testing.assert_allclose(aligned.trial(label).video, expected, atol=1 / 16)
    # in the movie's own time too, nothing learned from comes within two seconds of the test scene
    for label in aligned.trials_in("train"):
        times = np.arange(150) / 30 + aligned.trials.at[label, "movie_start"]
        assert times[aligned.trial(label).valid].max() < 25 - 2


def test_frame_rates_other_than_the_movie(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE, frame_rate=15)
    shown = microns_like.stimulus.stores[aligned.trials.at[0, "clip"]].frames
    expected = scale_frames(shown, SIZE).reshape(60, 2, *SIZE).mean(axis=1)
    np.testing.assert_allclose(aligned.trial(0).video, expected, atol=1 / 16)


def test_large_recordings_live_in_files_that_go_with_them(microns_like, tmp_path):
    small = nr.align(microns_like, frame_size=SIZE)
    large = nr.align(microns_like, frame_size=SIZE, memory_gigabytes=1e-6, cache_dir=tmp_path)
    assert isinstance(large.video, np.memmap)
    assert all(isinstance(group.activity, np.memmap) for group in large.groups)
    np.testing.assert_array_equal(small.video, large.video)
    np.testing.assert_array_equal(small.groups[1].activity, large.groups[1].activity)
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    del large
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_files(microns_like, tmp_path):
    for group in microns_like.responses.values():
        group.signal = replace(group.signal, read=lambda start, stop: np.zeros((stop - start, 6), np.float32))
    with pytest.raises(AlignmentError, match="None of the 12 ROIs changes during training"):
        nr.align(microns_like, frame_size=SIZE, memory_gigabytes=1e-6, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_responses_that_stop_early_leave_later_trials_out(make_session, make_movie):
    clips = {f"{n}": make_movie(n, 4.0) for n in range(10)}
    schedule = [(clip, 5.0 * n) for n, clip in enumerate(clips)]
    session = make_session(clips, schedule, span=(-1.0, 42.9), imaging_rate=30.0)
    aligned = nr.align(session, frame_size=SIZE, guard_seconds=0)
    assert list(aligned.trials["clip"]) == [f"{n}" for n in range(9)]
    assert aligned.trial(7).valid.all()
    assert aligned.trial(8).valid.sum() == pytest.approx(2.9 * 30, abs=2)
    assert "1 of 10 trials were left out: no responses were recorded then." in aligned.warnings
    assert "Responses cover only part of 1 trials; the rest of these is marked not valid." in aligned.warnings


def test_the_repeat_counts_showings_that_were_not_recorded(make_session, make_movie):
    clips = {f"{n}": make_movie(n, 4.0) for n in range(8)}
    schedule = [("0", 0.0), *((clip, 10 + 5.0 * n) for n, clip in enumerate(clips))]
    aligned = nr.align(make_session(clips, schedule, span=(8.0, 60.0)), frame_size=SIZE)
    assert list(aligned.trials["repeat"]) == [1, 0, 0, 0, 0, 0, 0, 0]


def test_samples_missing_in_every_group_make_frames_invalid(microns_like):
    for group in microns_like.responses.values():
        values = group.signal.read(0, group.signal.shape[0]).copy()
        values[(group.timestamps > 10.05) & (group.timestamps < 11.05)] = np.nan
        group.signal = replace(group.signal, read=lambda start, stop, values=values: values[start:stop])
    aligned = nr.align(microns_like, frame_size=SIZE, guard_seconds=0)
    row = aligned.trials.loc[1]
    starts = row["onset"] + np.arange(row["n_frames"]) / 30
    lost = np.ones(len(starts), dtype=bool)
    for group in aligned.groups:
        # a plane loses what lies between its last sample before 10.05 s and its last before 11.05 s
        before, last = (group.timestamps[group.timestamps < limit].max() for limit in (10.05, 11.05))
        lost &= (starts + 1 / 30 > before) & (starts < last)
    assert lost.sum() > 20
    np.testing.assert_array_equal(aligned.trial(1).valid, ~lost)
    assert aligned.valid.sum() == len(aligned.valid) - lost.sum()


def test_times_that_the_file_calls_invalid_are_neither_learned_from_nor_scored(microns_like):
    clean = nr.align(microns_like, frame_size=SIZE, guard_seconds=0)
    first, second = (clean.trials.at[label, "onset"] for label in clean.trials_in("train")[:2])
    spans = np.array([[first + 1, first + 2], [second + 0.2, second + 0.25]])
    microns_like.invalid_times = spans
    aligned = nr.align(microns_like, frame_size=SIZE, guard_seconds=0)
    starts = np.concatenate([aligned.trial(label).times for label in aligned.trials.index])
    touched = np.array([any(start < high and start + 1 / 30 > low for low, high in spans) for start in starts])
    np.testing.assert_array_equal(aligned.valid, ~touched)
    assert touched.sum() >= 31
    assert not np.array_equal(clean.groups[0].scale, aligned.groups[0].scale)


def test_stimulus_and_responses_that_never_meet_are_refused(make_session, make_movie):
    clips = {f"{n}": make_movie(n, 3.0) for n in range(6)}
    session = make_session(clips, [(clip, 4.0 * n) for n, clip in enumerate(clips)], span=(5000, 5100))
    with pytest.raises(AlignmentError, match=r"from 0\.0 to 23\.0 s and responses recorded from 5000\.0 to 5099\.9 s"):
        nr.align(session, frame_size=SIZE)


def test_one_clip_in_many_disguises_is_refused(make_session, make_movie):
    first = make_movie(0, 3.0)
    clips = {f"{n}": np.clip(first.astype(int) + n, 0, 255).astype(np.uint8) for n in range(6)}
    session = make_session(clips, [(clip, 4.0 * n) for n, clip in enumerate(clips)])
    with pytest.raises(AlignmentError, match="nearly the same content"):
        nr.align(session, frame_size=SIZE)
    aligned = nr.align(session, frame_size=SIZE, duplicate_correlation=1.0)
    assert aligned.trials_in("test")


def test_a_guard_longer_than_the_training_is_refused(microns_like):
    with pytest.raises(AlignmentError, match=r"training trials lie within 100 s .*guard_seconds"):
        nr.align(microns_like, frame_size=SIZE, guard_seconds=100)


def test_no_responses_is_an_error(microns_like):
    with pytest.raises(AlignmentError, match="holds no responses"):
        nr.align(replace(microns_like, responses={}))


def test_settings_are_checked_carried_and_overridden(microns_like):
    settings = AlignmentSettings(frame_size=SIZE, seed=3)
    aligned = nr.align(microns_like, settings, frame_rate=20, responses__plane_delays={"plane 1": 0.25})
    assert aligned.settings["frame_rate"] == 20
    assert aligned.settings["seed"] == 3
    assert aligned.settings["frame_size"] == list(SIZE)
    np.testing.assert_allclose(aligned.groups[0].timestamps, microns_like.responses["plane 1"].timestamps + 0.25)
    np.testing.assert_array_equal(aligned.groups[1].timestamps, microns_like.responses["plane 2"].timestamps)
    with pytest.raises(SettingsError, match="no setting frame_rat"):
        nr.align(microns_like, frame_rat=20)
    with pytest.raises(AlignmentError, match=r"plane_delays names plane 9\. The recording has plane 1, plane 2"):
        nr.align(microns_like, responses__plane_delays={"plane 9": 0.1})


def test_the_same_settings_give_the_same_result(microns_like):
    first, second = (nr.align(microns_like, frame_size=SIZE) for _ in range(2))
    assert first.trials.equals(second.trials)
    np.testing.assert_array_equal(first.groups[0].activity, second.groups[0].activity)


def test_behavior_is_ordered_and_what_is_useless_is_said(microns_like):
    times = np.array([1.0, 2.0, 2.0, 1.5, np.nan, 30.0, 30.1])
    microns_like.behavior["whisking"] = BehaviorSeries("whisking", np.arange(7.0), times, "a.u.", "made")
    late = np.arange(1e4, 1e4 + 10)
    microns_like.behavior["gaze_x"] = BehaviorSeries("gaze_x", late, late, "degrees", "made")
    aligned = nr.align(microns_like, frame_size=SIZE)
    assert aligned.behavior_names == ("running_speed", "pupil_size", "whisking")
    assert "3 samples of whisking whose times do not increase were left out." in aligned.warnings
    assert "gaze_x has no samples during the trials and was left out." in aligned.warnings


def test_a_recording_without_behavior_goes_without(make_session, make_movie):
    clips = {f"{n}": make_movie(n, 3.0) for n in range(8)}
    session = make_session(clips, [(clip, 4.0 * n) for n, clip in enumerate(clips)], behavior=False)
    aligned = nr.align(session, frame_size=SIZE)
    assert aligned.behavior.shape == (len(aligned.video), 0)
    assert "behavior   none" in repr(aligned)


def test_the_latency_is_checked(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE)
    assert aligned.info["latency"]["seconds"] == pytest.approx(0.1, abs=0.02)
    assert aligned.info["latency"]["clear"]
    assert not any("follows changes on the screen" in warning for warning in aligned.warnings)
    early = nr.align(microns_like, frame_size=SIZE, responses__plane_delays={"plane 1": -0.4, "plane 2": -0.4})
    assert early.info["latency"]["seconds"] == pytest.approx(-0.3, abs=0.02)
    assert "Population activity follows changes on the screen by -" in early.warnings[-1]


def test_warnings_of_the_session_come_first(microns_like):
    microns_like.warnings.append("The file has no pupil.")
    assert nr.align(microns_like, frame_size=(9, 9)).warnings[:2] == [
        "The file has no pupil.",
        "Movies of 18x32 pixels were scaled to 9x9, 44% of them, at left and right, cut off.",
    ]
    assert microns_like.warnings == ["The file has no pupil."]


def test_the_screen_may_lag_the_stamps(microns_like):
    stamped = nr.align(microns_like, frame_size=SIZE)
    late = nr.align(microns_like, frame_size=SIZE, monitor_delay_seconds=0.05)
    np.testing.assert_allclose(late.trials["onset"], stamped.trials["onset"] + 0.05)
    np.testing.assert_array_equal(late.video, stamped.video)
    # what was made to follow the stamps by 100 ms follows the screen by half of that
    assert late.info["latency"]["seconds"] == pytest.approx(0.05, abs=0.02)


def test_a_movie_of_another_shape_is_cropped_unless_asked_otherwise(make_session):
    """A wide movie whose outer columns are white: 8x24 in 8x16 loses four columns at either side."""
    frames = np.full((90, 8, 24), 100, np.uint8)
    frames[:, :, :4] = frames[:, :, -4:] = 255
    frames[::2, 3:5] //= 2
    session = make_session({str(n): frames for n in range(8)}, [(str(n), 5 + 3.0 * n) for n in range(8)])
    options = {"frame_size": (8, 16), "duplicate_correlation": 1}
    cropped = nr.align(session, **options)
    np.testing.assert_allclose(cropped.video[0], frames[0, :, 4:20], atol=0.1)
    assert "Movies of 8x24 pixels were scaled to 8x16, 33% of them, at left and right, cut off." in cropped.warnings
    squeezed = nr.align(session, fit="squeeze", **options)
    np.testing.assert_allclose(squeezed.video[1, 0], [255, 255, 203.3, *[100] * 10, 203.3, 255, 255], atol=0.1)
    boxed = nr.align(session, fit="letterbox", **options)
    # a third of the rows is gray, the rest shows every column
    np.testing.assert_allclose(boxed.video[1, :, 8], [127.5, 109.17, *[100] * 4, 109.17, 127.5], atol=0.1)
    np.testing.assert_allclose(boxed.video[1, 3], squeezed.video[1, 3], atol=0.1)
    again = nr.align(session, AlignmentSettings.model_validate(boxed.settings))
    np.testing.assert_array_equal(again.video, boxed.video)
