import pytest

import nwbrecon as nr
from nwbrecon.converters import import_sensorium

from .release import write_release


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def path(made, tmp_path_factory):
    """A dandiset with the mouse in it."""
    folder = tmp_path_factory.mktemp("dandiset")
    (folder / "dandiset.yaml").write_text("identifier: DANDI:000000\nname: Made up\n")
    path = folder / "sub-12345" / "sub-12345_ses-6-scan-7_behavior+image+ophys.nwb"
    import_sensorium(made.path, path)
    return path


@pytest.fixture(scope="session")
def session(path):
    with nr.open_session(path) as session:
        yield session
