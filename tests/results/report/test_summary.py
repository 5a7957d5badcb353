from dataclasses import replace

import pandas as pd
import pytest

from nwbrecon.results import Results
from nwbrecon.results.report import summary
from nwbrecon.results.tables import told


@pytest.fixture
def results(reconstructions, scores):
    return Results(reconstructions, scores, {"subject": {"subject_id": "17"}, "source": {"session_id": "4"}})


def test_a_better_reconstruction_is_said_to_be_better(results):
    text = " ".join(summary.verdict(results))
    assert "the reconstruction beats the ridge decoder: it is better on 3 of 3 clips" in text
    assert "better than other clips on 3 of 3 clips" in text
    assert "lag of 0 frames" in text


def test_a_worse_one_is_said_to_be_worse(results):
    other = replace(results, reconstructions=replace(results.reconstructions, method="ridge"))
    assert "the ridge decoder does not beat the reconstruction: it is better on 0 of 3" in summary.verdict(other)[0]


@pytest.mark.parametrize(("shift", "words"), [(2, "2 frames late"), (-1, "1 frame early")])
def test_a_lag_is_said_with_its_direction(results, shift, words):
    lags = results.scores.lags.assign(lag=results.scores.lags["lag"] + shift)
    assert words in summary.lag_sentence(replace(results, scores=replace(results.scores, lags=lags)))


def test_cards_hold_the_means_and_intervals_of_the_summary(results):
    card = summary.cards(results)[0]
    assert card.label == "Pixel correlation"
    assert [bar.label for bar in card.bars] == ["reconstruction", "ridge decoder", "chance: other clips"]
    assert card.bars[0].text == f"{results.scores.mean('pixel_correlation', 'map'):.2f}"
    assert card.bars[0].low <= card.bars[0].length <= card.bars[0].high


def test_the_ceiling_stands_beside_the_score_where_clips_repeat(results):
    trials = results.scores.trials.assign(ceiling=0.9)
    bars = summary.cards(replace(results, scores=replace(results.scores, trials=trials)))[0].bars
    assert (bars[-1].label, bars[-1].text, bars[-1].length) == ("ceiling: noise", "0.90", 90)
    unknown = replace(results.scores, trials=trials.assign(ceiling=float("nan")))
    assert len(summary.cards(replace(results, scores=unknown))[0].bars) == 3


@pytest.mark.parametrize(("sees", "word"), [(True, "yes"), (False, "no")])
def test_the_gate_has_a_card_of_its_own(results, sees, word):
    gate = {"sees": sees, "n_visual": 12, "true": 0.25, "wrong": -0.02, "gray": 0.1}
    card = summary.gate_card(replace(results, reconstructions=replace(results.reconstructions, info={"gate": gate})))
    assert card.verdict == word
    assert "12 ROIs" in card.hint
    assert [(bar.label, bar.text, bar.length) for bar in card.bars] == [
        ("true movie", "0.25", 25),
        ("another clip", "−0.02", 0),
        ("gray screen", "0.10", 10),
    ]
    without = replace(results, reconstructions=replace(results.reconstructions, info={}))
    assert summary.gate_card(without) is None


def test_the_shown_trial_is_the_median_one(results):
    table = results.scores.trials.query("method == 'map'").sort_values("pixel_correlation")
    wanted = table["trial"].iloc[len(table) // 2]
    assert results.reconstructions[summary.median_row(results)].trials[0] == wanted


def test_what_went_in_says_when_there_was_no_behavior(results, aligned):
    from nwbrecon.results.provenance import gather

    content = gather(aligned, replace(aligned, behavior_names=()))
    rows = dict(summary.ingredients(replace(results, provenance=content)))
    assert rows["Behavior given"].startswith("none")
    assert rows["Responses"] == "40 ROIs in 1 plane (events)"
    assert "6 trials of 3 clips" in rows["Reconstructed"]
    content["scores"] = {"of_the_movie_as_stored": False}
    assert "before it was rounded" in dict(summary.ingredients(replace(results, provenance=content)))["Scores"]


def test_title_and_source(results):
    assert summary.title(results) == "mouse 17, session 4"
    identity = {"dandiset": "000402", "version": "0.1", "path": "sub-1/a.nwb"}
    assert (
        summary.source(replace(results, provenance={"source": identity})) == "DANDI 000402 (version 0.1), sub-1/a.nwb"
    )
    assert summary.title(replace(results, provenance={})) == "a recording"


def test_predictions_are_tabled_with_what_stands_beside_them(results, encoder_scores):
    assert summary.predictions(results) == {}
    told = {"encoder": {"scored_on": encoder_scores.info}}
    table = summary.predictions(replace(results, encoder_summary=encoder_scores.summary, provenance=told))
    assert table["on"] == "4 test trials of 2 clips"
    assert table["headings"][0] == "Single trial correlation"
    rows = dict(table["rows"])
    assert list(rows)[:3] == ["encoder", "linear-nonlinear model", "behavior alone"]
    assert rows["encoder"][0][0] == f"{encoder_scores.mean('single_trial_correlation'):.2f}".replace("-", "−")
    assert rows["encoder"][0][1].count(" to ") == 1
    assert rows["other showings"][1:] == [("", "")] * 3
    without = encoder_scores.summary.assign(mean=float("nan"))
    assert summary.predictions(replace(results, encoder_summary=without))["rows"] == []


def test_training_is_tabled_epoch_by_epoch(results, encoder):
    assert summary.training(results)["rows"] == []
    table = summary.training(replace(results, training=encoder.history))
    assert table["headings"] == ["Epoch", "Loss", "Validation correlation"]
    assert table["rows"][:2] == [["0", "", "0.2"], ["1", "4", "0.2"]]
    two = pd.concat([encoder.history, encoder.history.assign(member=1, seconds=12.3456)])
    table = summary.training(replace(results, training=two))
    assert table["headings"] == ["Member", "Epoch", "Loss", "Validation correlation", "Seconds"]
    assert table["rows"][0] == ["0", "0", "", "0.2", ""]
    assert table["rows"][-1] == ["1", "4", "1.5", "0.2", "12.35"]


@pytest.mark.parametrize(
    ("behavior", "method", "said", "ingredient"),
    [
        ("given", "map", "with behavior", "running speed"),
        ("withheld", "map", "from brain signals alone", "none; running speed withheld"),
        (
            "inferred",
            "map",
            "from brain signals alone, behavior inferred",
            "none; running speed inferred from the responses",
        ),
        ("absent", "map", "from brain signals alone", "running speed"),
        ("given", "ridge", "from brain signals alone", "running speed"),
        (None, "map", "", "running speed"),
    ],
)
def test_the_headline_says_whether_behavior_took_part(results, behavior, method, said, ingredient):
    info = {} if behavior is None else {"behavior": behavior}
    items = replace(results.reconstructions, method=method, info=info)
    alignment = {"groups": [], "n_rois": 0, "behavior": ["running_speed"], "seconds": {}}
    known = replace(results, reconstructions=items, provenance=results.provenance | {"alignment": alignment})
    assert told(items) == said
    assert dict(summary.ingredients(known))["Behavior given"] == ingredient
    assert summary.controls(known) is None
