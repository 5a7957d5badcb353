from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Ellipse

from nwbrecon.evaluation import evaluate
from nwbrecon.results.curves import (
    controls_figure,
    fields_figure,
    frequency_figure,
    prediction_figure,
    reliability_figure,
    timeline_figure,
)
from nwbrecon.results.rois import describe_rois

from .examples import controls


@pytest.fixture(scope="module")
def rois(encoder, aligned):
    return describe_rois(encoder, aligned)


def test_frequencies_are_plotted_band_by_band(reconstructions, aligned):
    scores = evaluate(reconstructions, aligned)
    in_time, in_space = frequency_figure(scores, main="map").axes
    for axis, domain in ((in_time, "time"), (in_space, "space")):
        table = scores.frequencies
        rows = table[(table["domain"] == domain) & (table["method"] == "map")].dropna()
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), rows["pixel_correlation"])
        assert [float(Fraction(tick.get_text())) for tick in axis.get_xticklabels()] == list(rows["to_frequency"])


def test_controls_stand_beside_the_reconstruction():
    movies, judged, gray = controls_figure(controls(left_out=())).axes
    names = [tick.get_text() for tick in movies.get_yticklabels()]
    assert names == [
        "reconstruction",
        "with behavior",
        "brain signals alone",
        "cells shuffled",
        "labels permuted",
        "behavior alone",
    ]
    # a mark is the mean over three clips, a stroke what it is to be compared with
    places = {tuple(np.round([line.get_xdata()[0], line.get_ydata()[0]], 3)) for line in movies.lines}
    assert {(0.07, -4), (0.09, -4), (0.60, -3), (0.63, -3)} <= places
    assert [tick.get_text() for tick in judged.get_yticklabels()] == ["true movie", "reconstruction", "wrong clip"]
    assert [tick.get_text() for tick in gray.get_yticklabels()] == ["reconstruction", "gray screen"]
    assert len(controls_figure(controls(left_out=("gray",))).axes) == 2


def test_the_session_is_shown_by_split(reconstructions):
    trials = pd.DataFrame({"onset": [0.0, 60.0, 120.0], "seconds": 30.0, "split": ["train", "test", "train"]})
    (axis,) = timeline_figure(trials, reconstructions).axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["train", "test", "reconstructed"]
    train, test = (one for one in axis.collections if isinstance(one, PolyCollection))
    assert len(train.get_paths()) == 2
    np.testing.assert_allclose(test.get_paths()[0].get_extents().intervalx, [1.0, 1.5])
    marks = axis.lines[0].get_xdata()
    np.testing.assert_allclose(marks, [item.onset / 60 for item in reconstructions])


def test_fields_are_drawn_where_they_are_and_as_wide(rois, reconstructions):
    (axis,) = fields_figure(rois, reconstructions).axes
    drawn = [patch for patch in axis.patches if isinstance(patch, Ellipse)]
    assert len(drawn) == 40
    best = rois.nlargest(1, "validation_correlation").iloc[0]
    assert drawn[-1].center == (best["receptive_field_column"], best["receptive_field_row"])
    assert drawn[-1].width == 2 * best["receptive_field_size"]


def test_each_roi_is_a_point(rois):
    (axis,) = reliability_figure(rois).axes
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), rois["reliability"])
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), rois["validation_correlation"])


def test_predictions_stand_beside_their_ceilings(encoder, aligned, encoder_scores):
    rois = describe_rois(encoder, aligned, encoder_scores)
    (axis,) = prediction_figure(rois).axes
    ours, ceiling = (line.get_ydata() for line in axis.lines[:2])
    known = ~np.isnan(ceiling)
    assert known.any()
    assert (np.diff(ceiling[known]) <= 0).all()
    assert not known[known.sum() :].any()
    np.testing.assert_allclose(np.sort(ours), np.sort(rois["single_trial_correlation"]))
    pairs = rois.set_index("single_trial_ceiling")["single_trial_correlation"]
    np.testing.assert_allclose(ours[0], pairs[ceiling[0]])
    (axis,) = prediction_figure(rois.assign(single_trial_ceiling=np.nan)).axes
    assert axis.get_legend() is None
