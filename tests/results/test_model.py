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
