from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from nwbrecon.errors import ResultsError
from nwbrecon.results import figures


def drawn(figure):
    """Render for real; layout and fonts only fail then."""
    figure.canvas.draw()
    return figure


def test_frames_show_the_chosen_times(reconstructions, aligned):
    item = reconstructions[0]
    true = aligned.trial(0).video
    figure = drawn(figures.frames_figure(item, true, mask=reconstructions.mask, times=[0, 1.0, 2.0]))
    assert [axis.get_title() for axis in figure.axes[:3]] == ["0.0 s", "1.0 s", "2.0 s"]
    images = [axis.images[0].get_array() for axis in figure.axes]
    np.testing.assert_array_equal(images[1], true[30])
    np.testing.assert_array_equal(images[3 + 2], item.video[60])
    np.testing.assert_array_equal(images[6 + 1], item.video[30] - true[30])
    np.testing.assert_array_equal(images[9], item.std[0])


def test_frames_without_truth_or_uncertainty(reconstructions):
    figure = drawn(figures.frames_figure(replace(reconstructions[0], std=None), columns=4))
    assert len(figure.axes) == 4


def test_frames_of_another_movie_are_refused(reconstructions):
    with pytest.raises(ResultsError, match="same frames and pixels"):
        figures.frames_figure(reconstructions[0], np.zeros((3, 4, 5)))


def test_way_shows_each_snapshot_and_the_descent(reconstructions):
    item = reconstructions[0]
    figure = drawn(figures.way_figure(item, frame=5))
    axes = figure.subfigs[0].axes
    np.testing.assert_array_equal([axis.images[0].get_array() for axis in axes], item.snapshots[:, 5])
    assert [axis.get_title() for axis in axes] == [str(iteration) for iteration in item.snapshot_iterations]
    curve = figure.subfigs[1].axes[0].lines[0].get_ydata()
    assert curve[0] == 1
    assert curve[-1] == 0


def test_way_without_snapshots_or_history(reconstructions):
    bare = replace(reconstructions[0], snapshots=None, snapshot_iterations=None)
    assert len(drawn(figures.way_figure(bare)).axes) == 1
    with pytest.raises(ResultsError, match="neither snapshots nor"):
        figures.way_figure(replace(bare, history=pd.DataFrame()))


def test_scores_stand_where_they_should(scores):
    axis = drawn(figures.scores_figure(scores, main="map")).axes[0]
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels[-1] == "all clips"
    means = scores.trials.query("method == 'ridge'").groupby("clip")["pixel_correlation"].mean()
    ridge = next(line for line in axis.lines if line.get_label() == "ridge decoder")
    np.testing.assert_allclose(ridge.get_ydata(), means[labels[:-1]])


def test_a_clip_may_have_any_name(scores):
    odd = scores.trials.replace({"clip": {"clip 0": r"$\bad{ 5$"}})
    axis = drawn(figures.scores_figure(replace(scores, trials=odd), main="map")).axes[0]
    assert r"$\bad{ 5$" in [label.get_text() for label in axis.get_xticklabels()]


def test_many_clips_lose_their_names_but_not_their_dots(scores):
    many = pd.concat(
        [scores.trials.assign(clip=scores.trials["clip"] + f" {number}") for number in range(20)], ignore_index=True
    )
    axis = drawn(figures.scores_figure(replace(scores, trials=many), main="map")).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["all clips"]
    assert len(next(line for line in axis.lines if line.get_label() == "reconstruction").get_xdata()) == 60


def test_lag_marks_the_peak(scores):
    axis = drawn(figures.lag_figure(scores, main="map")).axes[0]
    peak = axis.lines[1]
    assert list(peak.get_xdata()) == [0]


def test_frame_scores_leave_gaps(scores):
    frames = scores.frames.copy()
    frames.loc[(frames["trial"] == 0) & (frames["frame"] == 7), "frame_correlation"] = np.nan
    axis = drawn(figures.frame_scores_figure(replace(scores, frames=frames), 0)).axes[0]
    assert np.isnan(axis.lines[0].get_ydata()[7])


def test_mask_and_training(reconstructions):
    assert "48%" in drawn(figures.mask_figure(reconstructions)).axes[0].get_title()
    history = pd.DataFrame(
        {"epoch": [0, 1, 0, 1], "member": [0, 0, 1, 1], "training_loss": [3, 2, 3, 1], "validation_correlation": 0.2}
    )
    figure = drawn(figures.training_figure(history))
    assert [len(axis.lines) for axis in figure.axes] == [2, 2]
    with pytest.raises(ResultsError, match="needs epoch"):
        figures.training_figure(pd.DataFrame({"a": [1]}))


def test_dark_figures_have_light_text_and_nothing_global_changes(scores, reconstructions):
    before = dict(mpl.rcParams)
    axis = drawn(figures.scores_figure(scores, style=figures.DARK)).axes[0]
    assert axis.yaxis.label.get_color() == figures.DARK.ink
    drawn(figures.mask_figure(reconstructions, style=figures.DARK))
    assert dict(mpl.rcParams) == before
