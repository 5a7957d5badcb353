import pytest

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
