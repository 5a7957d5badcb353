import pytest

from .release import write_release


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path)
