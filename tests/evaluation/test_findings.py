"""Verdicts on movies whose likeness is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nwbrecon import Reconstruction, Reconstructions
from nwbrecon.evaluation.findings import Case, of_behavior, of_behavior_alone, of_gray, of_permuted, of_shuffled

SHAPE = (60, 8, 10)


class Shown:
    """A session that knows its movies."""

    def __init__(self, movies):
        self.movies = movies

    def trial(self, trial):
        return SimpleNamespace(video=self.movies[trial])


@pytest.fixture
def case():
    """Three clips shown twice; reconstructions are half movie, half noise."""
    random = np.random.default_rng(0)
    clips = {clip: (128 + 30 * random.standard_normal(SHAPE)).astype(np.float32) for clip in "abc"}
    movies = {trial: clips[clip] for trial, clip in enumerate("abcabc")}
    items = [
        Reconstruction("abcabc"[trial], (trial,), like(movie, 1.0, random), 10.0 * trial, 30.0)
        for trial, movie in movies.items()
    ]
    mask = np.ones(SHAPE[1:], bool)
    made = Reconstructions(items, "map", mask, mask.astype(np.float32), info={"behavior": "given"})
    return Case(Shown(movies), made, items[:3])


def like(movie, noise, random):
    return (movie + noise * 30 * random.standard_normal(movie.shape)).astype(np.float32)


def movies_like(case, noise, seed=1):
    random = np.random.default_rng(seed)
    return [replace(item, video=like(case.true[item.clip], noise, random)) for item in case.items]


def nothing_like(case):
    random = np.random.default_rng(2)
    return [replace(item, video=random.uniform(0, 255, SHAPE).astype(np.float32)) for item in case.items]


@pytest.mark.parametrize("of", [of_permuted, of_behavior_alone])
def test_what_must_not_see_passes_if_it_does_not(case, of):
    blind = of(case, nothing_like(case))
    assert blind.verdict == "passed"
    assert blind.mean("reconstruction") == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert blind.mean("chance") == pytest.approx(0, abs=0.03)
    # correlation .3 of .7
    seeing = of(case, movies_like(case, 3.0))
    assert seeing.verdict == "not passed"
    assert "part of the movie" in seeing.sentence
    assert {row["clip"] for row in seeing.rows} == set("abc")


def test_chance_is_likeness_with_other_clips(case):
    swapped = [replace(item, video=case.true["abc"[index - 1]]) for index, item in enumerate(case.items)]
    found = of_permuted(case, swapped)
    # one of the two other clips is matched wholly
    assert found.mean("chance") == pytest.approx(0.5, abs=0.03)
    assert found.mean("control") == pytest.approx(0, abs=0.03)


def test_a_single_clip_has_no_chance(case):
    alone = replace(case.reconstructions, items=[case.reconstructions[0]])
    found = of_permuted(Case(case.aligned, alone, list(alone)), nothing_like(case)[:1])
    assert found.verdict == "compare"
    assert "not known" in found.sentence


def test_the_headline_says_whether_behavior_took_part(case):
    other = movies_like(case, 2.0)
    given = of_behavior(case, other)
    assert given.mean("with behavior") > given.mean("from brain signals alone")
    assert "made with behavior" in given.sentence
    case.reconstructions.info["behavior"] = "withheld"
    withheld = of_behavior(case, other)
    assert withheld.mean("with behavior") < withheld.mean("from brain signals alone")
    assert "made from brain signals alone." in withheld.sentence
    case.reconstructions.info["behavior"] = "inferred"
    inferred = of_behavior(case, other)
    assert inferred.mean("with behavior") < inferred.mean("from brain signals alone, behavior inferred")
    assert "made from brain signals alone, behavior inferred." in inferred.sentence


@pytest.mark.parametrize(
    ("noise", "said"), [(0.5, "costs that much"), (1.0, "hardly matters"), (2.0, "lends that much")]
)
def test_what_shared_noise_does_is_said(case, noise, said):
    found = of_shuffled(case, movies_like(case, noise))
    assert found.verdict == "compare"
    assert said in found.sentence
    # all showings of a clip are what to compare with
    own = [case.alike(item)["pixel_correlation"] for item in case.reconstructions]
    assert found.mean("reconstruction") == pytest.approx(np.mean(own))


def test_structure_in_a_gray_screen_is_told(case):
    flat = [replace(case.items[0], clip="gray", video=np.full(SHAPE, 120, np.float32), std=np.full(SHAPE, 30.0))]
    found = of_gray(case, flat)
    assert found.verdict == "passed"
    assert found.mean("gray screen", "deviation") == 0
    assert found.mean("true movie", "deviation") == pytest.approx(30, abs=1)
    assert "information map" not in found.sentence
    seen = [replace(flat[0], video=case.items[0].video)]
    case.reconstructions.setup = SimpleNamespace(covariances={"movie": np.full((1, 1, 1), 50.0**2)})
    hallucinated = of_gray(case, seen)
    assert hallucinated.verdict == "not passed"
    assert "structure is seen" in hallucinated.sentence
    assert "information map expects errors of 30 gray levels" in hallucinated.sentence
    assert "without any response, of 50." in hallucinated.sentence
    table = pd.DataFrame(hallucinated.rows)
    assert table.query("condition == 'prior'")["value"].tolist() == [50.0]
