"""A linear world in which everything has a closed form: Gaussian movies, linear responses, Gaussian noise."""

import numpy as np
import torch

from nwbrecon.encoding.likelihoods import Gaussian
from nwbrecon.encoding.observation import Observation
from nwbrecon.inversion.evidence import Evidence
from nwbrecon.inversion.priors import MoviePrior
from nwbrecon.session import SignalKind

SHAPE = (7, 5, 6)
MEAN = 110.0


def covariance(shape=SHAPE, deviation=30.0, scales=(2.0, 1.2, 1.5)):
    """Autocovariance by lag of a stationary movie that is smooth in time and space."""
    lags = np.meshgrid(*(np.arange(3 * size) for size in shape), indexing="ij")
    return deviation**2 * np.exp(-0.5 * sum((lag / scale) ** 2 for lag, scale in zip(lags, scales, strict=True)))


def pixel_covariance(shape=SHAPE, **options):
    """``(pixel, pixel)`` covariance of all pixels of all frames of a clip, from the distances between them."""
    by_lag = covariance(shape, **options)
    places = np.stack([axis.ravel() for axis in np.indices(shape)])
    distance = np.abs(places[:, :, None] - places[:, None])
    return by_lag[tuple(distance)]


class LinearEncoder:
    """Rates are weighted sums of the pixels of this frame and the one before."""

    def __init__(self, now, before):
        self.now, self.before, self.warm_up = now, before, 0

    @classmethod
    def random(cls, n_rois, shape=SHAPE, seed=0):
        generator = torch.Generator().manual_seed(seed)
        now, before = (torch.randn(n_rois, *shape[1:], generator=generator, dtype=torch.float64) for _ in range(2))
        return cls(now / 10, before / 20)

    def predict_rates(self, video, behavior):
        video = video.double()
        past = torch.cat([torch.zeros_like(video[:, 0, :1]), video[:, 0, :-1]], dim=1)
        return torch.einsum("btyx,nyx->bnt", video[:, 0], self.now) + torch.einsum("btyx,nyx->bnt", past, self.before)


def responses_to(encoder, video, *, noise=0.0, weights=None, seed=0, known=None):
    """Evidence about a video ``(time, height, width)``: frames are measured two by two, with noise of unit weight."""
    n_frames, n_rois = len(video), len(encoder.now)
    pairs = torch.zeros(1, n_frames // 2, n_frames, dtype=torch.float64)
    for sample in range(n_frames // 2):
        pairs[0, sample, 2 * sample : 2 * sample + 2] = 1
    behavior = torch.zeros(1, n_frames, 0)
    rates = encoder.predict_rates(torch.as_tensor(video)[None, None].double(), behavior)
    measured = torch.einsum("bst,brt->bsr", pairs, rates)
    generator = torch.Generator().manual_seed(seed)
    measured = measured + noise * torch.randn(measured.shape, generator=generator, dtype=torch.float64)
    known = torch.ones_like(measured) if known is None else known
    half = n_rois // 2
    observations = [
        Observation(rois, pairs, measured[..., rois] * known[..., rois], known[..., rois], SignalKind.DFF)
        for rois in (slice(0, half), slice(half, n_rois))
    ]
    weights = torch.ones(n_rois, dtype=torch.float64) if weights is None else weights
    return Evidence(encoder, [Gaussian(), Gaussian()], observations, behavior, weights)


def design(evidence, shape=SHAPE):
    """``(measurement, pixel)`` matrix, measured values and precisions of what is known, group after group."""
    n_pixels = int(np.prod(shape))
    rows = []
    for pixel in range(n_pixels):
        video = torch.zeros(n_pixels, dtype=torch.float64)
        video[pixel] = 1
        rates = evidence.encoder.predict_rates(video.view(1, 1, *shape), evidence.behavior)
        rows.append(torch.cat([seen.expected(rates).flatten() for seen in evidence.observations]))
    matrix = torch.stack(rows, dim=1).numpy()
    measured = torch.cat([seen.measured.flatten() for seen in evidence.observations]).numpy()
    precision = torch.cat(
        [(seen.known * evidence.weights[seen.rois]).flatten() for seen in evidence.observations]
    ).numpy()
    known = precision > 0
    return matrix[known], measured[known], precision[known]


def posterior_mean(witnesses, prior_weight=1.0, shape=SHAPE, mean=MEAN, **options):
    """Closed form of the best video, from the covariance of the pixels."""
    parts = [design(evidence, shape) for evidence in witnesses]
    matrix, measured, precision = (np.concatenate([part[which] for part in parts]) for which in range(3))
    cross = pixel_covariance(shape, **options) / prior_weight @ matrix.T
    center = np.broadcast_to(mean, shape).ravel()
    solution = np.linalg.solve(matrix @ cross + np.diag(1 / precision), measured - matrix @ center)
    return (center + cross @ solution).reshape(shape)


def movie_prior(shape=SHAPE, mean=MEAN, **options):
    return MoviePrior(covariance(shape, **options), shape, mean)


def sample_video(seed=0, shape=SHAPE):
    """A movie drawn from the prior."""
    prior = movie_prior(shape)
    white = torch.randn(1, *prior.coordinates, generator=torch.Generator().manual_seed(seed))
    return prior.video(white)[0].numpy()


def white_noise(prior, seed=0):
    return torch.randn(1, *prior.coordinates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
