from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from nwbinspector import Importance, inspect_nwbfile
from pynwb import NWBHDF5IO

from nwbrecon.alignment import reliability
from nwbrecon.config import ResultsSettings
from nwbrecon.encoding import receptive_fields
from nwbrecon.encoding.prediction import predict_samples
from nwbrecon.errors import EncoderError, ResultsError
from nwbrecon.results import read_results, write_results

from .examples import aligned_session, encoder_for


@pytest.fixture(scope="module")
def path(tmp_path_factory, reconstructions, scores, aligned, encoder, encoder_scores):
    path = tmp_path_factory.mktemp("results") / "results.nwb"
    return write_results(path, reconstructions, scores, aligned=aligned, encoder=encoder, encoder_scores=encoder_scores)


def test_each_roi_is_described(path, aligned, encoder):
    rois = read_results(path).rois
    assert rois["group"].tolist() == ["plane 1"] * 40
    assert rois["roi_id"].tolist() == list(range(40))
    np.testing.assert_allclose(rois["x"], aligned.rois["x"])
    fields = receptive_fields(encoder).to_numpy()
    columns = ["receptive_field_row", "receptive_field_column", "receptive_field_size"]
    np.testing.assert_allclose(rois[columns].to_numpy(), fields)
    np.testing.assert_allclose(rois["reliability"], reliability(aligned, range(6)))
    np.testing.assert_allclose(rois["validation_correlation"], np.linspace(0, 0.5, 40))
    assert (rois["dispersion"] == 1.5).all()


def test_how_well_each_is_predicted_comes_back_and_how_well_all_are(path, encoder_scores):
    results = read_results(path)
    found = encoder_scores.of("encoder")
    for name in ("single_trial_correlation", "correlation_to_average", "normalized_correlation", "bits"):
        np.testing.assert_allclose(results.rois[name], found[name])
    for name in ("oracle", "single_trial_ceiling", "average_ceiling"):
        np.testing.assert_allclose(results.rois[name], encoder_scores.repeats[name])
    pd.testing.assert_frame_equal(results.encoder_summary, encoder_scores.summary, check_dtype=False)
    assert results.provenance["encoder"]["scored_on"] == encoder_scores.info


def test_an_encoder_need_not_be_scored(tmp_path, aligned, encoder, reconstructions):
    results = read_results(write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, encoder=encoder))
    assert not len(results.encoder_summary)
    assert "bits" not in results.rois


def test_scores_of_another_encoder_are_refused(tmp_path, aligned, encoder, reconstructions, encoder_scores):
    other = replace(encoder_scores, repeats=encoder_scores.repeats.iloc[:30])
    with pytest.raises(ResultsError, match="encoder of 30 ROIs"):
        write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, encoder=encoder, encoder_scores=other)


def test_predictions_are_those_for_the_stored_movies(path, aligned, encoder, reconstructions):
    found = read_results(path).predicted["plane 1"]
    assert (np.diff(found.times) > 0).all()
    group = aligned.groups[0]
    for item in reconstructions:
        trial = item.trials[0]
        video = torch.from_numpy(item.video)[None, None]
        ((expected, _),) = predict_samples(encoder, aligned, [trial], shown={trial: video}.__getitem__)
        expected = expected[np.isfinite(expected).any(axis=1)]
        inside = (found.times > item.onset) & (found.times <= item.times[-1] + 1 / 30 + 1e-9)
        np.testing.assert_array_equal(found.values[inside], expected)
        # samples of the group's own clock, after the frames that the encoder looks back on
        assert np.isin(found.times[inside], group.timestamps).all()
        assert found.times[inside][0] > item.onset + encoder.warm_up / 30


def test_predictions_are_tied_to_their_rois_and_times_within_nwb(path):
    made = read_results(path).predicted["plane 1"]
    with NWBHDF5IO(path, "r") as io:
        module = io.read().processing["reconstruction"]
        group = module["response_groups"].to_dataframe().iloc[0]
        assert group["group"] == "plane 1"
        np.testing.assert_array_equal(group["sampled_at"], made.times)
        # the region gives the ROIs themselves, with their predictions
        assert group["rois"]["roi_id"].tolist() == list(range(40))
        np.testing.assert_array_equal(group["rois"]["predicted"].iloc[7], made.values[:, 7])
        assert module["response_groups"]["rois"].target.table is module["rois"]


def test_several_planes_have_a_row_each(tmp_path, reconstructions):
    aligned = aligned_session()
    (group,) = aligned.groups
    halves = [slice(0, 15), slice(15, 40)]
    aligned.groups = [
        type(group)(
            name,
            group.kind,
            group.timestamps + shift,
            group.activity[:, half],
            group.scale[half],
            group.rois.iloc[half],
            group.origin,
        )
        for name, half, shift in zip(("left/plane", "right"), halves, (0, 0.07), strict=True)
    ]
    write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, encoder=encoder_for(aligned))
    results = read_results(tmp_path / "a.nwb")
    assert {name: made.values.shape[1] for name, made in results.predicted.items()} == {"left/plane": 15, "right": 25}
    assert results.rois["group"].value_counts().to_dict() == {"left/plane": 15, "right": 25}
    assert not set(results.predicted["left/plane"].times) & set(results.predicted["right"].times)


def test_more_rois_than_samples_are_no_fault(tmp_path, reconstructions):
    """A recording of thousands of ROIs, and few samples of slow planes in the clips."""
    aligned = aligned_session()
    (group,) = aligned.groups
    group.activity = np.tile(group.activity, (1, 10))
    group.scale = np.ones(400, np.float32)
    group.rois = pd.concat([group.rois] * 10, ignore_index=True)
    write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, encoder=encoder_for(aligned))
    made = read_results(tmp_path / "a.nwb").predicted["plane 1"].values
    assert made.shape[1] == 400 > made.shape[0]
    found = [
        message
        for message in inspect_nwbfile(nwbfile_path=tmp_path / "a.nwb")
        if message.importance != Importance.BEST_PRACTICE_SUGGESTION
    ]
    assert not found, found


def test_predictions_are_left_out_where_not_wanted(tmp_path, aligned, encoder, reconstructions):
    settings = ResultsSettings(include_predictions=False)
    write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, encoder=encoder, settings=settings)
    results = read_results(tmp_path / "a.nwb")
    assert results.predicted == {}
    assert len(results.rois) == 40


def test_the_encoder_is_identified(path, encoder):
    kept = read_results(path).provenance
    assert kept["encoder"]["weights"] == encoder.digest()
    assert kept["encoder"]["training_data"] == "a hash"
    assert kept["settings"]["encoder"]["channels"] == 8
    assert kept["settings"]["training"] == {"likelihood": "auto", "seed": 0}


def test_the_training_comes_back(path, encoder):
    pd.testing.assert_frame_equal(read_results(path).training, encoder.history, check_dtype=False)


def test_an_encoder_of_another_session_is_refused(tmp_path, aligned, encoder, reconstructions):
    with pytest.raises(ResultsError, match="aligned session"):
        write_results(tmp_path / "a.nwb", reconstructions, None, encoder=encoder)
    other = encoder_for(aligned_session(size=(20, 32)))
    with pytest.raises(EncoderError, match="frame size"):
        write_results(tmp_path / "a.nwb", reconstructions, None, aligned=aligned, encoder=other)
    assert not list(tmp_path.iterdir())
