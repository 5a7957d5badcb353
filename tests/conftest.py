import socket

import pytest
from dandi_server import DandiServer
from small import ENCODER, make_mouse, smooth_noise

from nwbrecon.config import InversionSettings, TrainingSettings
from nwbrecon.progress import progress_shown
from nwbrecon.simulation import simulate


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the cache of who runs it, or talks to an archive that it did not name."""
    monkeypatch.setenv("NWBRECON_CACHE", str(tmp_path_factory.mktemp("cache")))
    for variable in ("NWBRECON_CACHE_GIGABYTES", "DANDI_INSTANCE", "DANDI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _on_the_cpu():
    """Nothing is computed on a GPU unless a test asks: what a CPU gives is the same everywhere, to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nwbrecon.encoding.device.gpu_found", lambda: False)
        yield


@pytest.fixture
def gpu(monkeypatch):
    """The name of the GPU as a device, which is taken where a device is chosen."""
    monkeypatch.setattr("nwbrecon.encoding.device.gpu_found", lambda: True)
    return "cuda"


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


def pytest_addoption(parser):
    parser.addoption(
        "--no-skips", action="store_true", help="count tests that were skipped, but for GPU tests, as failures"
    )


def pytest_collection_modifyitems(items):
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if not needing:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    # where tests are spread over processes, the one that hands them out counts
    if hasattr(session.config, "workerinput"):
        return
    if session.config.getoption("--no-skips") and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--no-skips") and (skipped := _skipped(config)):
        terminalreporter.write_line(f"{len(skipped)} skipped tests count as failures (--no-skips)", red=True)


def _skipped(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return [report for report in reporter.stats.get("skipped", []) if "gpu" not in report.keywords]


@pytest.fixture(scope="session")
def mouse(tmp_path_factory):
    """The smallest simulated recording that an encoder learns to see from, on disk: not to be written to."""
    return simulate(
        tmp_path_factory.mktemp("mouse") / "mouse.nwb",
        rois=100,
        planes=2,
        minutes=3.0,
        clip_seconds=5.0,
        test_clips=2,
        test_clip_seconds=3.0,
        test_repeats=5,
    )


@pytest.fixture(scope="session")
def small_mouse():
    """A simulated mouse with known cells, aligned: not to be changed."""
    return make_mouse(noise=0.3, make_movie=smooth_noise)


@pytest.fixture(scope="session")
def small_encoder(small_mouse):
    """An encoder of the small mouse that sees: not to be changed."""
    from nwbrecon.encoding import train

    with progress_shown(False):
        return train(small_mouse.aligned, ENCODER, TrainingSettings(epochs=3))


@pytest.fixture(scope="session")
def small_setup(small_mouse, small_encoder):
    """What is settled for the small mouse under one prior and weight: not to be changed."""
    from nwbrecon.inversion.settling import make_setup

    aligned = small_mouse.aligned
    settings = InversionSettings(prior="ridge", prior_weight=1.0, iterations=4, device="cpu")
    showings = [((trial,),) for trial in aligned.trials_in("test")]
    return make_setup([(small_encoder, aligned)], showings, settings, "map")


@pytest.fixture(scope="session")
def small_reconstructions(small_mouse, small_encoder, small_setup):
    """All test trials of the small mouse, inverted with that setup: not to be changed."""
    from nwbrecon.inversion import Reconstruction, Reconstructions
    from nwbrecon.inversion.setup import invert

    aligned = small_mouse.aligned
    settings = InversionSettings(prior="ridge", prior_weight=1.0, iterations=4, device="cpu")
    items = []
    for trial in aligned.trials_in("test"):
        made = invert(small_setup, [(small_encoder, aligned)], ((trial,),), settings)
        row = aligned.trials.loc[trial]
        video = small_setup.blended(made.fit.video, made.decoded)
        items.append(Reconstruction(row["clip"], (trial,), video, float(row["onset"]), aligned.frame_rate))
    return Reconstructions(
        items,
        "map",
        small_setup.mask,
        small_setup.coverage,
        settings=settings.model_dump(mode="json"),
        info={"behavior": "given"},
        setup=small_setup,
    )
