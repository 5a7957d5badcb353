import numpy as np
import pytest

from nwbrecon import open_session
from nwbrecon.config import SimulationSettings
from nwbrecon.errors import SettingsError, SourceError
from nwbrecon.simulation import simulate
from nwbrecon.simulation.truth import read_truth

SMALL = SimulationSettings(
    layout="plain", rois=5, planes=1, minutes=0.1, clip_seconds=3.0, test_clips=1, test_repeats=2, seed=3
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated") / "mouse.nwb", SMALL)


def test_recording_and_truth_lie_side_by_side(written):
    assert sorted(path.name for path in written.parent.iterdir()) == ["mouse.nwb", "mouse.truth.npz"]
    truth = read_truth(written)
    with open_session(written) as session:
        assert session.n_rois == 5
        np.testing.assert_allclose(session.stimulus.shown["onset"], truth["schedule/onset"], atol=1e-6)


def test_same_seed_gives_the_same_mouse_and_another_seed_another(written, tmp_path):
    again = read_truth(simulate(tmp_path / "again.nwb", SMALL))
    other = read_truth(simulate(tmp_path / "other.nwb", SMALL, seed=4))
    truth = read_truth(written)
    assert sorted(truth) == sorted(again)
    for name, values in truth.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
    assert not np.array_equal(truth["rates"], other["rates"])


def test_what_is_there_is_replaced_only_on_request(written, tmp_path):
    precious = tmp_path / "recording.nwb"
    precious.write_bytes(b"years of work")
    with pytest.raises(SettingsError, match=r"recording\.nwb exists already"):
        simulate(precious, SMALL)
    assert precious.read_bytes() == b"years of work"
    assert not precious.with_suffix(".truth.npz").exists()
    simulate(precious, SMALL, overwrite=True)
    with open_session(precious) as session:
        assert session.n_rois == 5


def test_own_movies_are_shown(tmp_path):
    rng = np.random.default_rng(0)
    movies = {name: rng.integers(0, 256, (120, 36, 64), dtype=np.uint8) for name in ("sea", "wood", "town")}
    np.savez(tmp_path / "movies.npz", **movies)
    path = simulate(tmp_path / "mouse.nwb", SMALL, movies=tmp_path / "movies.npz", minutes=0.05)
    truth = read_truth(path)
    assert set(truth["schedule/film"]) <= set(movies)
    shown = {name.removeprefix("clips/"): clip for name, clip in truth.items() if name.startswith("clips/")}
    assert len(shown) == 2
    for name, clip in shown.items():
        np.testing.assert_array_equal(clip, movies[name.split()[0]][: len(clip)])


@pytest.mark.parametrize(
    ("name", "overrides", "error", "words"),
    [
        ("mouse.h5", {}, SettingsError, "does not end in .nwb"),
        ("mouse.nwb", {"layout": "round"}, SettingsError, "layout is 'round'"),
        ("mouse.nwb", {"rois": 0}, SettingsError, "rois is 0"),
        ("mouse.nwb", {"movies": "no/such.npz"}, SourceError, "There is no no/such.npz"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(tmp_path, name, overrides, error, words):
    with pytest.raises(error, match=words):
        simulate(tmp_path / name, SMALL, **overrides)
    assert not any(tmp_path.iterdir())
