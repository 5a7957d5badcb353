from dataclasses import replace

import numpy as np
import pytest

from nwbrecon import score_encoder
from nwbrecon.results import as_stored

from .examples import aligned_session, encoder_for, evaluate, reconstruct


@pytest.fixture(scope="session")
def aligned():
    return aligned_session()


@pytest.fixture(scope="session")
def reconstructions(aligned):
    return as_stored(reconstruct(aligned))


@pytest.fixture(scope="session")
def scores(reconstructions, aligned):
    return evaluate(reconstructions, aligned)


@pytest.fixture(scope="session")
def encoder(aligned):
    return encoder_for(aligned)


@pytest.fixture(scope="session")
def encoder_scores(aligned, encoder):
    """Of an encoder that has learned nothing, with baselines that are fitted to one of the clips."""
    split = np.where(aligned.trials["clip"] == "clip 2", "train", "test")
    return score_encoder(encoder, replace(aligned, trials=aligned.trials.assign(split=split)))
