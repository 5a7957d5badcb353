"""What a notebook shows of the nouns: HTML that holds what they hold, and no markup from a file."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from small import make_mouse, smooth_noise

import nwbrecon
from nwbrecon import Reconstruction, Reconstructions
from nwbrecon.display import block, frame_row, list_html, table_html
from nwbrecon.errors import ResultsError
from nwbrecon.evaluation import score_movies

NASTY = "<img src=x onerror=alert(1)>"


class Checker(HTMLParser):
    """Every element that is opened is closed, in order."""

    VOID = frozenset({"img", "br", "input", "meta"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert all("alt" in attributes for tag, attributes in checker.tags if tag == "img")
    return " ".join(checker.text), checker.tags


@pytest.fixture(scope="module")
def mouse_():
    return make_mouse(n_rois=6, train=3, validation=1, test=1, repeats=2, seconds=2.0, make_movie=smooth_noise)


@pytest.fixture(scope="module")
def reconstructions(mouse_):
    aligned = mouse_.aligned
    items = [
        Reconstruction(
            str(aligned.trials.at[trial, "clip"]),
            (trial,),
            aligned.trial(trial).video,
            float(aligned.trials.at[trial, "onset"]),
            30.0,
            std=np.full(aligned.trial(trial).video.shape, 7.0, np.float32),
            info={"converged": True, "prior_weight": 0.5},
        )
        for trial in aligned.trials_in("test")
    ]
    mask = np.ones(aligned.frame_size, bool)
    return Reconstructions(items, "map", mask, mask.astype(np.float32), info={"gate": {"sentence": "It sees."}})


def test_parts_hold_text_not_markup():
    text, tags = parsed(
        block(NASTY, table_html([(NASTY,), (NASTY,)]), list_html([NASTY]), frame_row([(NASTY, np.ones((2, 2)))]))
    )
    assert text.count(NASTY) == 5
    assert [attributes["alt"] for tag, attributes in tags if tag == "img"] == [NASTY]
    assert all(attributes["src"].startswith("data:") for tag, attributes in tags if tag == "img")
    assert list_html([]) == frame_row([]) == ""


def test_a_session(mouse):
    with nwbrecon.open_session(mouse) as session:
        session.warnings.append(NASTY)
        text, _ = parsed(session._repr_html_())
        assert session.subject["subject_id"] in text
        for group in session.responses.values():
            assert group.name in text
        assert "running_speed" in text
        assert f"Warning: {NASTY}" in text


def test_an_aligned_session(mouse_):
    text, tags = parsed(mouse_.aligned._repr_html_())
    assert "20x32 pixels at 30 Hz, behavior: running_speed" in text
    assert "plane 1" in text
    assert "1 clips     2 trials" in text
    assert len([tag for tag, _ in tags if tag == "img"]) == 4


def test_an_encoder(small_encoder):
    text, _ = parsed(small_encoder._repr_html_())
    assert small_encoder.gate["sentence"] in text
    assert f"{np.nanmean(small_encoder.validation_scores):.3f}" in text
    assert "20x32" in text


def test_reconstructions_and_one_of_them(reconstructions):
    text, tags = parsed(reconstructions._repr_html_())
    assert "2 reconstructions by map, 100% of the frame covered" in text
    assert "It sees." in text
    assert "7.0" in text
    # one clip, shown twice
    assert len([tag for tag, _ in tags if tag == "img"]) == 1
    text, tags = parsed(reconstructions[0]._repr_html_())
    assert "60 frames of 20x32 pixels at 30 Hz" in text
    assert "prior_weight" in text
    assert len([tag for tag, _ in tags if tag == "img"]) == 4
    nasty = replace(reconstructions[0], clip=NASTY)
    assert NASTY not in nasty._repr_html_()


def test_scores(mouse_, reconstructions):
    noise = np.random.default_rng(0).normal(0, 20, reconstructions[0].video.shape)
    movies = {item.trials[0]: item.video + noise for item in reconstructions}
    scores = score_movies(reconstructions, movies, {item.trials[0]: at for at, item in enumerate(reconstructions)})
    text, _ = parsed(scores._repr_html_())
    assert f"{scores.mean('pixel_correlation', 'map'):.2f}" in text
    assert "Scores of 1 clips over 100% of the frame" in text


class TestPlay:
    def test_one_or_many_play_with_what_was_shown(self, reconstructions):
        one = reconstructions[0]
        page = one.play(true=one.video).page
        assert re.findall(r'data-stream="(\w+)"', page) == ["true", "video", "std"]
        many = reconstructions.play([item.video for item in reconstructions])
        assert 'data-stream="true"' in many.page
        assert 'data-stream="true"' not in reconstructions.play().page
        assert "<iframe" in many._repr_html_()

    def test_other_movies_are_refused(self, reconstructions):
        with pytest.raises(ResultsError, match="True movies of"):
            reconstructions[0].play(true=reconstructions[0].video[:5])
        with pytest.raises(ResultsError, match="True movies of"):
            nwbrecon.play(reconstructions, true=[reconstructions[0].video])
