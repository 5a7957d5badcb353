import json

import numpy as np
import pytest

from nwbrecon import align, open_session
from nwbrecon.errors import NwbreconError, ResultsError
from nwbrecon.pipeline.stored import evaluate_results, export_results, report_results
from nwbrecon.results import Results, write_results


@pytest.fixture(scope="module")
def without_movies(ran, mouse, tiny, tmp_path_factory):
    """The same results in a file that does not hold the true movies."""
    path = tmp_path_factory.mktemp("stored") / "results.nwb"
    with open_session(mouse) as session:
        aligned = align(session, tiny.alignment)
        items = ran.results.reconstructions
        return write_results(path, items, ran.results.scores, aligned=aligned, session=session)


def test_scores_of_the_file_alone_are_those_with_the_recording(ran, mouse):
    alone = evaluate_results(ran.results_path)
    beside = evaluate_results(ran.results_path, mouse)
    # the file holds the true movie in whole gray levels
    numbers = (scored.scores.trials.select_dtypes("number") for scored in (alone, beside))
    np.testing.assert_allclose(*numbers, atol=2e-3)
    assert alone.scores.mean("pixel_correlation", "map") == pytest.approx(
        ran.results.scores.mean("pixel_correlation", "map"), abs=2e-3
    )
    assert "ridge decoder" in str(alone)
    assert json.loads(json.dumps(alone.to_dict(), default=float))["method"] == "map"


def test_without_true_movies_the_recording_is_asked_for(without_movies, mouse):
    with pytest.raises(ResultsError, match="--source"):
        evaluate_results(without_movies)
    assert len(evaluate_results(without_movies, mouse).scores.trials) == 20


def test_the_recording_is_read_as_it_was_for_the_results(ran, mouse, tiny, tmp_path):
    with open_session(mouse) as session:
        aligned = align(session, tiny.alignment)
        reading = {**aligned.settings["reading"], "stimulus": "acquisition/another"}
        aligned.settings = {**aligned.settings, "reading": reading}
        path = write_results(
            tmp_path / "results.nwb", ran.results.reconstructions, None, aligned=aligned, session=session
        )
    with pytest.raises(NwbreconError, match="acquisition/another"):
        evaluate_results(path, mouse)


def test_another_recording_is_refused(without_movies, spoiled):
    def change(file):
        file.attrs["object_id"] = "another"

    with pytest.raises(ResultsError, match="object_id"):
        evaluate_results(without_movies, spoiled(change))


def test_clips_that_were_trained_on_are_not_scored(ran, monkeypatch):
    read = ran.results
    learned = Results(
        read.reconstructions,
        read.scores,
        read.provenance | {"split": {"train": [read.reconstructions[0].clip]}},
        read.true_movies,
    )
    monkeypatch.setattr("nwbrecon.pipeline.stored.read_results", lambda _: learned)
    with pytest.raises(NwbreconError, match="was trained on 1 of the reconstructed clips"):
        evaluate_results("results.nwb")


def test_a_report_is_made_anew(ran, mouse, tmp_path):
    written = report_results(ran.results_path, tmp_path / "new", mouse)
    assert written.files == {"report": tmp_path / "new" / "report.html"}
    assert "<html" in (tmp_path / "new" / "report.html").read_text()


def test_everything_is_exported(ran, tmp_path):
    written = export_results(
        ran.results_path, video=tmp_path / "a.mp4", frames=tmp_path / "frames", arrays=tmp_path / "a.npz"
    )
    assert set(written.files) == {"video", "frames", "arrays"}
    arrays = np.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(arrays["video"], np.concatenate([item.video for item in ran.results.reconstructions]))
    assert "true" in arrays
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    assert len(list((tmp_path / "frames").iterdir())) == 11
