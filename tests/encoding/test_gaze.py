import numpy as np
import pytest
import torch
from small import FRAME_SIZE, fit, fresh_encoder, make_mouse, smooth_noise

from nwbrecon.encoding.gaze import _pieces, find_gaze_shift
from nwbrecon.encoding.observation import Window

# half the frame in columns and rows: what weights are in units of
HALF = (np.array(FRAME_SIZE[::-1]) - 1) / 2


def make(**options):
    return make_mouse(
        **{"train": 30, "seconds": 5.0, "noise": 0.1, "make_movie": smooth_noise, "types": ("simple", "complex")}
        | options
    )


def found_shift(aligned, trials=None, **settings):
    """Columns and rows that the picture moves with each gaze variable, as found."""
    encoder = fresh_encoder(aligned, channels=24, **settings)
    fit(encoder, aligned, trials or aligned.trials_in("train"))
    return encoder.shifter.shift.weight.detach().numpy() * HALF[:, None]


@pytest.fixture(scope="module")
def looking():
    return make(gaze=(1.2, -0.6))


@pytest.mark.parametrize("settings", [{}, {"core": "quadrature"}, {"plane_delay": True}], ids=str)
def test_the_shift_of_the_picture_with_the_gaze_is_found_before_training(looking, settings):
    np.testing.assert_allclose(found_shift(looking.aligned, **settings), [[1.2, 0.0], [0.0, -0.6]], atol=0.25)


def test_a_shift_far_beyond_the_first_step_is_found():
    np.testing.assert_allclose(found_shift(make(gaze=(2.6, 0.0)).aligned), [[2.6, 0.0], [0.0, 0.0]], atol=0.4)


def test_gaze_that_moves_nothing_is_given_no_shift():
    np.testing.assert_allclose(found_shift(make(gaze=(0.0, 0.0)).aligned), 0, atol=0.15)


def test_with_the_shift_the_linear_fit_predicts_more(looking):
    aligned = looking.aligned
    trials, scores = aligned.trials_in("train"), []
    for gaze_shift in (False, True):
        scores.append(fit(fresh_encoder(aligned, channels=24, gaze_shift=gaze_shift), aligned, trials))
    assert np.median(scores[1] - scores[0]) > 0.02


def test_one_direction_of_gaze_may_be_all_that_was_recorded(looking):
    aligned = make(gaze=(1.2, 0.0)).aligned
    aligned.behavior, aligned.behavior_names = aligned.behavior[:, :2], aligned.behavior_names[:2]
    np.testing.assert_allclose(found_shift(aligned), [[1.2], [0.0]], atol=0.25)


def test_gaze_that_was_not_measured_shifts_nothing():
    aligned = make(gaze=(2.0, 0.0), train=6).aligned
    aligned.behavior[:, 1:] = np.nan
    np.testing.assert_array_equal(found_shift(aligned), 0)


def test_a_single_clip_tells_nothing(looking):
    aligned = looking.aligned
    np.testing.assert_array_equal(found_shift(aligned, aligned.trials_in("train")[:1]), 0)


def test_no_more_is_read_than_is_of_use_and_it_is_from_all_over(looking, monkeypatch):
    aligned = looking.aligned
    windows = [Window(trial, 0, 150) for trial in aligned.trials_in("train")]
    assert _pieces(aligned, windows) == windows
    monkeypatch.setattr("nwbrecon.encoding.gaze._MOST_MINUTES", 0.5)
    pieces = _pieces(aligned, windows)
    assert len(pieces) == 6
    assert (pieces[0], pieces[-1]) == (windows[0], windows[-1])


def test_long_clips_are_cut_so_that_fits_can_be_judged(looking):
    pieces = _pieces(looking.aligned, [Window(3, 30, 1000)])
    assert [piece.start for piece in pieces] == [30, 280, 530, 780]
    assert sum(piece.n_frames for piece in pieces) == 1000


def test_a_plane_that_measured_in_clips_that_are_not_used_stops_nothing(monkeypatch):
    aligned = make(gaze=(1.2, 0.0), train=9).aligned
    onset = aligned.trials.at[aligned.trials_in("train")[1], "onset"]
    group = aligned.groups[1]
    group.activity[(group.timestamps < onset) | (group.timestamps > onset + 5)] = np.nan
    monkeypatch.setattr("nwbrecon.encoding.gaze._MOST_MINUTES", 0.25)
    assert np.isfinite(found_shift(aligned)).all()


def test_an_encoder_without_a_shifter_is_left_as_it_is(looking):
    encoder = fresh_encoder(looking.aligned, channels=24, gaze_shift=False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    find_gaze_shift(encoder, looking.aligned, [Window(0, 0, 150)])
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
