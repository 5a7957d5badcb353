from dataclasses import replace

import numpy as np
import pytest

from nwbrecon.errors import ResultsError
from nwbrecon.results import Results


def test_true_movies_are_those_of_the_trials(reconstructions, aligned):
    results = Results(reconstructions).with_true_movies(aligned)
    np.testing.assert_array_equal(results.true_movies[4], aligned.trial(4).video)


def test_a_part_of_a_trial_gets_its_part_of_the_movie(reconstructions, aligned):
    item = reconstructions[1]
    part = replace(item, video=item.video[10:30], onset=item.times[10])
    results = Results(replace(reconstructions, items=[part])).with_true_movies(aligned)
    np.testing.assert_array_equal(results.true_movies[0], aligned.trial(1).video[10:30])


@pytest.mark.parametrize(
    ("shift", "trial", "words"), [(0.0, 99, "trial 99"), (1.0, 1, "true movie"), (-1.0, 1, "true")]
)
def test_another_session_is_refused(reconstructions, aligned, shift, trial, words):
    item = replace(reconstructions[1], onset=reconstructions[1].onset + shift, trials=(trial,))
    with pytest.raises(ResultsError, match=words):
        Results(replace(reconstructions, items=[item])).with_true_movies(aligned)


def test_warnings_are_those_of_the_provenance_where_there_is_one(reconstructions):
    assert Results(reconstructions).warnings == reconstructions.warnings
    assert Results(reconstructions, provenance={"warnings": ["a"]}).warnings == ["a"]


def test_it_says_what_it_holds(reconstructions, scores):
    text = repr(Results(reconstructions, scores))
    assert text.startswith("Results: 6 reconstructions of 3 clips by map, 18x32 pixels, 48% of them scored")
    assert f"pixel_correlation    map         {scores.mean('pixel_correlation', 'map'):.3f}" in text
    assert "1 warnings" in text


def test_a_notebook_shows_verdict_and_stills(reconstructions, scores, aligned):
    provenance = {"subject": {"subject_id": "<b>"}}
    page = Results(reconstructions, scores, provenance).with_true_movies(aligned)._repr_html_()
    assert page.count("<img") == 2
    assert "mouse &lt;b&gt;" in page
    assert "beats the ridge decoder" in page
