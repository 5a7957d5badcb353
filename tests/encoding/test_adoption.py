from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nwbrecon.config import InversionSettings
from nwbrecon.encoding import adopt_encoder, score_encoder
from nwbrecon.encoding.calibration import gate
from nwbrecon.encoding.device import device_of
from nwbrecon.errors import EncoderError, InversionError
from nwbrecon.inversion import Margins, MoviePrior, Reconstructor, autocovariance, gather_evidence, reconstruct
from nwbrecon.metrics import dynamic_correlation
from nwbrecon.progress import progress_shown

QUICK = InversionSettings(prior_weight=1.0, iterations=6, uncertainty=False, device="cpu")


class Known(nn.Module):
    """The network that somebody else trained: only what the protocol asks for."""

    def __init__(self, encoder):
        super().__init__()
        self.network = encoder

    @property
    def warm_up(self):
        return self.network.warm_up

    def predict_rates(self, video, behavior):
        return self.network.predict_rates(video, behavior)


class Filters(nn.Module):
    """A linear filter for each ROI, half-rectified."""

    warm_up = 0

    def __init__(self, filters, gain, bias):
        super().__init__()
        for name, values in (("filters", filters), ("gain", gain), ("bias", bias)):
            self.register_buffer(name, torch.from_numpy(values).float())

    def predict_rates(self, video, behavior):
        drive = torch.einsum("btyx,nyx->bnt", video[:, 0] / 255 - 0.5, self.filters)
        return nn.functional.softplus(self.gain[:, None] * drive + self.bias[:, None])


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with progress_shown(False):
        yield


@pytest.fixture(scope="module")
def adopted(small_mouse, small_encoder):
    return adopt_encoder(Known(small_encoder.encoders[0]), small_mouse.aligned)


def test_it_is_calibrated_as_if_it_had_been_trained_here(adopted, small_encoder, small_mouse):
    np.testing.assert_allclose(adopted.validation_scores, small_encoder.validation_scores, rtol=1e-5)
    np.testing.assert_allclose(adopted.dispersion, small_encoder.dispersion, rtol=1e-5)
    for name, values in small_encoder.noise.arrays().items():
        np.testing.assert_allclose(getattr(adopted.noise, name), values, rtol=1e-4, atol=1e-5)
    assert adopted.gate["sees"]
    # which cells are visual was asked of another linear fit than that of our own encoder
    aligned = small_mouse.aligned
    ours = gate(small_encoder, aligned, aligned.trials_in("validation"), adopted.linear_scores)
    assert adopted.gate["true"] == pytest.approx(ours.true, rel=1e-4)
    adopted.check_fits(small_mouse.aligned)
    assert adopted.n_rois == small_mouse.aligned.n_rois
    assert not any(weight.requires_grad for weight in adopted.parameters())
    assert "EncoderEnsemble: 1 member" in repr(adopted)
    assert "not known" not in adopted._repr_html_()


def test_it_is_inverted_to_the_same_movie(adopted, small_encoder, small_mouse):
    aligned = small_mouse.aligned
    trials = aligned.trials_in("test")[:1]
    of_adopted, of_ours = (reconstruct(encoder, aligned, trials, QUICK) for encoder in (adopted, small_encoder))
    assert of_adopted.method == "map"
    np.testing.assert_allclose(of_adopted[0].video, of_ours[0].video, atol=0.5)


def test_a_few_filters_written_by_hand_are_inverted(small_mouse):
    aligned = small_mouse.aligned
    # each ROI's spike-triggered average, of which a few lines make an encoder
    sums = np.zeros((aligned.n_rois, *aligned.frame_size))
    for trial in aligned.trials_in("train"):
        video = aligned.trial(trial).video / 255 - 0.5
        onset = aligned.trials.at[trial, "onset"]
        first = 0
        for group in aligned.groups:
            frames = np.round((group.timestamps - onset) * aligned.frame_rate).astype(int) - 3
            inside = (frames >= 0) & (frames < len(video))
            values = group.activity[inside] - group.activity[inside].mean(axis=0)
            rois = slice(first, first + group.n_rois)
            sums[rois] += np.tensordot(values.T, video[frames[inside]], axes=1)
            first = rois.stop
    sums /= np.linalg.norm(sums.reshape(len(sums), -1), axis=1)[:, None, None]
    encoder = adopt_encoder(Filters(sums, np.full(len(sums), 1.0), np.full(len(sums), -1.0)), aligned)
    assert device_of(encoder).type == "cpu"
    trial = aligned.trials_in("test")[0]
    made = reconstruct(encoder, aligned, [trial], QUICK)
    assert made[0].video.shape == aligned.trial(trial).video.shape
    assert np.isfinite(made[0].video).all()
    # by hand as well, as the example of Reconstructor has it
    margins = Margins(encoder.warm_up, 3)
    movies = [aligned.trial(label).video for label in aligned.trials_in("train")]
    mean = float(np.mean([movie.mean() for movie in movies]))
    shape = (margins.around(len(made[0].video)), *aligned.frame_size)
    prior = MoviePrior(autocovariance(movies, (30, shape[1] - 1, shape[2] - 1), mean), shape, mean)
    fit = Reconstructor(gather_evidence(encoder, aligned, trial, margins), prior, margins)
    outcome = fit.run(6)
    assert outcome.n_iterations > 0
    assert fit.history["objective"].iloc[-1] < fit.history["objective"].iloc[0]
    assert dynamic_correlation(fit.video, aligned.trial(trial).video) > 0


def test_its_scores_can_be_told(adopted, small_mouse):
    scores = score_encoder(adopted, small_mouse.aligned)
    assert np.isfinite(scores.mean("single_trial_correlation"))


def test_what_cannot_be_adopted_is_refused(small_mouse, small_encoder, adopted, tmp_path):
    aligned = small_mouse.aligned
    with pytest.raises(EncoderError, match=r"is a str\. A torch\.nn\.Module was expected"):
        adopt_encoder("encoder", aligned)
    few = replace(aligned, trials=aligned.trials.assign(split=aligned.trials["split"].replace("validation", "")))
    with pytest.raises(EncoderError, match="16 training and 0 validation trials"):
        adopt_encoder(Known(small_encoder.encoders[0]), few)
    with pytest.raises(EncoderError, match="made elsewhere"):
        adopted.save(tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()

    class Wide(Known):
        def predict_rates(self, video, behavior):
            return super().predict_rates(video, behavior).repeat(1, 2, 1)

    with pytest.raises(EncoderError, match=r"\(batch, roi, time\)"):
        adopt_encoder(Wide(small_encoder.encoders[0]), aligned)


def test_a_search_with_what_is_no_encoder_is_refused(small_mouse, small_encoder):
    aligned = small_mouse.aligned
    trial = aligned.trials_in("test")[0]
    margins = Margins(small_encoder.warm_up, 3)
    (witness,) = gather_evidence(small_encoder, aligned, trial, margins)
    shape = (margins.around(len(aligned.trial(trial).video)), *aligned.frame_size)
    prior = MoviePrior(np.eye(1)[:, :, None] + np.zeros(shape), shape, 127.0)

    class Blind(Known):
        def predict_rates(self, video, behavior):
            return super().predict_rates(video.detach(), behavior)

    with pytest.raises(EncoderError, match="No gradient"):
        Reconstructor([replace(witness, encoder=Blind(small_encoder.encoders[0]))], prior, margins)
    with pytest.raises(InversionError, match="No response"):
        Reconstructor([], prior, margins)
