import socket

import pytest
from dandi_server import DandiServer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the cache of who runs it, or talks to an archive that it did not name."""
    monkeypatch.setenv("NWBRECON_CACHE", str(tmp_path_factory.mktemp("cache")))
    for variable in ("NWBRECON_CACHE_GIGABYTES", "DANDI_INSTANCE", "DANDI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch):
    """Any connection that leaves this computer fails the test."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a connection to {address} was tried")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def archive():
    """A DANDI archive on loopback."""
    with DandiServer() as server:
        yield server


@pytest.fixture
def no_waiting(monkeypatch):
    """The waits that would have been."""
    waits = []
    monkeypatch.setattr("nwbrecon.sources.transfer.time.sleep", waits.append)
    return waits
