import pytest

from nwbrecon.results.settled import information_map, prior_choice

MODEL = {"n_clips": 8, "n_films": 3, "covered": 0.937, "rank_correlation": 0.13}


def test_the_map_states_how_it_did_on_validation_clips():
    told = information_map({"error_model": MODEL})
    assert told.startswith("The information map is the error to be expected at each pixel given what the responses say")
    assert "8 validation clips of 3 films" in told
    assert "held the truth at 94% of the pixels" in told
    assert told.endswith("its rank correlation with the actual error was 0.13: not which pixels are wrong.")
    telling = information_map({"error_model": MODEL | {"rank_correlation": 0.45}})
    assert telling.endswith("0.45: and which pixels are wrong.")


@pytest.mark.parametrize(
    "info",
    # of earlier versions, of a single film, and of files that do not say
    [
        {"error_model": {"n_clips": 4, "scale": 1.2}},
        {"error_model": MODEL | {"covered": None}},
        {"error_model": None},
        {},
    ],
)
def test_a_map_of_which_nothing_is_known_says_so(info):
    assert information_map(info).endswith("How it did on clips that it was not calibrated on is not known.")


def rows(kinds=("movie",), weights=(0.5, 1.5, 5.0), by="explained"):
    return [{"prior": kind, "weight": weight, by: 1.0} for kind in kinds for weight in reversed(weights)]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ([], "movie, weight 1.5 (set beforehand)"),
        (rows(), "movie, weight 1.5 (of 0.5, 1.5 and 5: explains most of the validation clips)"),
        (rows(by="held_out"), "movie, weight 1.5 (of 0.5, 1.5 and 5: predicts held-out ROIs best)"),
        (
            rows(("movie", "ridge"), (1.5,)),
            "movie, weight 1.5 (of 1.5 and priors movie and ridge: explains most of the validation clips)",
        ),
    ],
)
def test_what_chose_the_weight_is_said(choice, said):
    assert prior_choice({"prior": "movie", "prior_weight": 1.5, "choice": choice}) == said


def test_what_was_not_inverted_has_no_prior():
    assert prior_choice({"prior": "", "prior_weight": 0.0, "choice": []}) == ""
    assert prior_choice({}) == ""
