import pytest

from nwbrecon.simulation import simulate


def pytest_addoption(parser):
    parser.addoption(
        "--no-skips", action="store_true", help="count tests that were skipped, but for GPU tests, as failures"
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if session.config.getoption("--no-skips") and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--no-skips") and (skipped := _skipped(config)):
        terminalreporter.write_line(f"{len(skipped)} skipped tests count as failures (--no-skips)", red=True)


def _skipped(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # a doctest that is all +SKIP is there to be read
    return [
        report
        for report in reporter.stats.get("skipped", [])
        if "gpu" not in report.keywords and "+SKIP" not in str(report.longrepr)
    ]


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
