"""What is in a Sensorium folder comes back from the NWB file that is made of it."""

import json

import h5py
import numpy as np
import pytest

import nwbrecon as nr
from nwbrecon.alignment import responses_on_frames
from nwbrecon.converters import import_sensorium
from nwbrecon.converters.mouse_folder import read_mouse_folder
from nwbrecon.errors import SettingsError, SourceError

from .release import write_release

ORDER = ("running_speed", "pupil_size", "gaze_x", "gaze_y")


@pytest.fixture(scope="module")
def aligned(session):
    return nr.align(session, frame_rate=30.0, frame_size=(36, 64))


def behavior_of(made, trial):
    pupil, running = made.behavior[trial]
    return np.stack([running, pupil, *made.pupil_center[trial]], axis=1).astype(np.float32)


def test_the_session_gives_back_the_same_arrays(session, made):
    shown = session.stimulus.shown
    assert len(shown) == len(made.tiers)
    group = session.responses["all_planes"]
    assert group.kind == "events"
    values = group.signal.read(0, len(group.timestamps))
    for trial, (label, row) in enumerate(shown.iterrows()):
        np.testing.assert_array_equal(session.stimulus.read(label), np.moveaxis(made.videos[trial], 2, 0))
        clock = session.stimulus.clocks(label)
        n = len(clock.onsets)
        assert row["n_frames"] == n == made.videos[trial].shape[2]
        np.testing.assert_allclose(clock.onsets, row["onset"] + np.arange(n) / 30, rtol=0, atol=1e-9)
        for name, expected in zip(ORDER, behavior_of(made, trial).T, strict=True):
            series = session.behavior[name]
            found = series.values[np.isin(series.timestamps, clock.onsets)]
            np.testing.assert_array_equal(found.astype(np.float32), expected)
        inside = (group.timestamps > row["onset"] - 1e-6) & (group.timestamps < row["offset"] + 1e-6)
        if "test" in made.tiers[trial]:
            assert not inside.any()
        else:
            np.testing.assert_array_equal(values[inside][1:], made.responses[trial].T.astype(np.float32))
            assert np.isnan(values[inside][0]).all()


def test_aligning_shifts_and_scales_nothing(aligned, made):
    assert len(aligned.trials) == 12
    assert aligned.behavior_names == ORDER
    (group,) = aligned.groups
    for row in aligned.trials.index:
        trial = aligned.trial(row)
        np.testing.assert_array_equal(trial.video, np.moveaxis(made.videos[row], 2, 0))
        np.testing.assert_array_equal(trial.behavior, behavior_of(made, row))
        assert trial.valid.all()
        responses = responses_on_frames(aligned, row) * group.scale
        # up to the rounding of dividing by the scale and multiplying again
        np.testing.assert_allclose(responses, made.responses[row].T, rtol=3e-7)


def test_the_scale_is_the_spread_over_training_time(aligned, made):
    training = aligned.trials.index[aligned.trials["split"] == "train"]
    spread = np.concatenate([made.responses[row] for row in training], axis=1).std(axis=1)
    np.testing.assert_allclose(aligned.groups[0].scale, spread, rtol=1e-5)


def test_tiers_and_repeats(session, aligned, path):
    shown = session.stimulus.shown
    assert list(shown["split"]) == ["train"] * 8 + ["test"] * 6
    assert list(aligned.trials["repeat"]) == [0] * 8 + [0, 1, 0, 1]
    with h5py.File(path) as file:
        assert list(file["intervals/trials/tier"].asstr()[-3:]) == ["oracle", "live_test_main", "final_test_bonus"]
    # validation clips are drawn from the training clips, and nothing is lost to the guard between trials
    assert set(aligned.trials["split"]) == {"train", "validation", "test"}
    assert aligned.valid.all()


@pytest.mark.parametrize(
    ("withheld", "oracle", "expected"),
    [
        ("zeros", "auto", {"train": 8, "test": 4}),
        ("zeros", "validation", {"train": 8, "validation": 4}),
        ("released", "auto", {"train": 8, "validation": 4, "test": 2}),
        ("released", "test", {"train": 8, "test": 6}),
    ],
)
def test_what_oracle_trials_are_for(tmp_path, withheld, oracle, expected):
    made = write_release(tmp_path, withheld=withheld)
    found = import_sensorium(made.path, tmp_path / "mouse.nwb", oracle=oracle)
    assert found.splits == expected
    assert found.withheld == 14 - sum(expected.values())
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        splits = session.stimulus.shown["split"].value_counts()
    assert splits["train"] == 8
    assert splits.get("validation", 0) == expected.get("validation", 0)


def test_trials_of_no_tier_are_kept_but_not_used(tmp_path):
    tiers = ["train"] * 7 + ["none"] + ["oracle"] * 4
    made = write_release(tmp_path, tiers=tiers, clips=[0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9])
    found = import_sensorium(made.path, tmp_path / "mouse.nwb")
    assert found.splits == {"train": 7, "test": 4, "none": 1}
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        aligned = nr.align(session)
    assert not aligned.trial(7).valid.any()
    assert aligned.trials.loc[7, "split"] == ""
    others = aligned.trials.index.drop(7)
    assert all(aligned.trial(row).valid.all() for row in others)


def test_levels_that_are_no_whole_numbers_come_back_too(tmp_path):
    made = write_release(tmp_path)
    file = made.path / "data/videos/2.npy"
    video = np.load(file)
    video[3, 4, 5] = 17.125
    np.save(file, video)
    import_sensorium(made.path, tmp_path / "mouse.nwb")
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        found = session.stimulus.read(session.stimulus.shown.index[2])
    np.testing.assert_array_equal(found, np.moveaxis(video, 2, 0)[: len(found)])
    assert found[5, 3, 4] == 17.125


def test_behavior_that_was_lost_stays_missing(tmp_path):
    made = write_release(tmp_path)
    file = made.path / "data/behavior/2.npy"
    behavior = np.load(file)
    behavior[0, 30:60] = np.nan  # longer than what is bridged
    np.save(file, behavior)
    import_sensorium(made.path, tmp_path / "mouse.nwb")
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        found = nr.align(session, frame_rate=30.0, frame_size=(36, 64)).trial(2).behavior[:, 1]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), np.arange(30, 60))


def test_what_the_folder_lacks_is_said(tmp_path):
    made = write_release(tmp_path)
    for name in ("data/behavior", "data/pupil_center", "meta/neurons"):
        (made.path / name).rename(tmp_path / name.replace("/", "-"))
    plain = tmp_path / "my mouse"
    made.path.rename(plain)
    found = import_sensorium(plain, tmp_path / "mouse.nwb")
    assert len(found.warnings) == 3
    assert all(warning in str(found) for warning in found.warnings)
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        assert session.behavior == {}
        assert session.subject["subject_id"] == "my mouse"
        assert "area" not in session.responses["all_planes"].rois
        assert "depth" not in session.responses["all_planes"].rois
        aligned = nr.align(session, frame_rate=30.0, frame_size=(36, 64))
    assert aligned.behavior_names == ()


def test_the_license_is_told(made, tmp_path):
    found = import_sensorium(made.path, tmp_path / "mouse.nwb")
    assert "CC BY-NC-ND 4.0" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["license"] == found.license


def test_a_file_that_is_there_is_kept_unless_asked(made, tmp_path):
    target = tmp_path / "mouse.nwb"
    target.write_text("old")
    with pytest.raises(SettingsError, match="exists already"):
        import_sensorium(made.path, target)
    assert target.read_text() == "old"
    import_sensorium(made.path, target, overwrite=True)
    with h5py.File(target) as file:
        assert "trials" in file["intervals"]


def test_a_folder_that_changes_meanwhile_leaves_the_old_file(tmp_path, monkeypatch):
    made = write_release(tmp_path / "release")
    target = tmp_path / "out" / "mouse.nwb"
    target.parent.mkdir()
    target.write_text("old")

    def read_then_damage(folder):
        mouse = read_mouse_folder(folder)
        (made.path / "data/responses/9.npy").unlink()
        return mouse

    monkeypatch.setattr("nwbrecon.converters.sensorium.read_mouse_folder", read_then_damage)
    with pytest.raises(SourceError, match=r"9\.npy cannot be read"):
        import_sensorium(made.path, target, overwrite=True)
    assert [(file.name, file.read_text()) for file in target.parent.iterdir()] == [("mouse.nwb", "old")]


def test_bad_requests_are_refused_before_the_folder_is_read(tmp_path):
    with pytest.raises(SettingsError, match=r"does not end in \.nwb"):
        import_sensorium(tmp_path, tmp_path / "mouse.h5")
    with pytest.raises(SettingsError, match="auto, test, validation"):
        import_sensorium(tmp_path, tmp_path / "mouse.nwb", oracle="train")


def test_unknown_tiers_are_refused(tmp_path):
    made = write_release(tmp_path, tiers=["train"] * 3 + ["odd"], clips=range(4))
    with pytest.raises(SourceError, match="the tiers odd"):
        import_sensorium(made.path, tmp_path / "mouse.nwb")


def filters(n_cells, seed=5):
    """Where each cell looks: a light and a dark spot."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:36, :64]
    spots = [
        np.exp(-((rows - rng.uniform(4, 32)) ** 2 + (columns - rng.uniform(4, 60)) ** 2) / (2 * 4.0**2))
        for _ in range(2 * n_cells)
    ]
    return np.array(spots[::2]) - 0.5 * np.array(spots[1::2])


def see(video, rng):
    drive = np.einsum("crx,rxt->ct", filters(60), video - 127) / 2000
    return rng.gamma(2.0, np.maximum(drive, 0.02) / 2.0)


@pytest.mark.slow
def test_the_main_job_runs_on_it(tmp_path):
    tiers = ["train"] * 16 + ["oracle"] * 6 + ["live_test_main"]
    made = write_release(
        tmp_path, tiers=tiers, clips=[*range(16), *[16] * 3, *[17] * 3, 18], lengths=(120,), padded=130, n_cells=60,
        respond=see,
    )  # fmt: skip
    import_sensorium(made.path, tmp_path / "mouse.nwb")
    result = nr.run(
        tmp_path / "mouse.nwb",
        tmp_path / "out",
        **{
            "alignment__frame_rate": 15,
            "alignment__frame_size": (18, 32),
            "encoder__channels": 16,
            "encoder__kernel_size": 7,
            "training__epochs": 10,
            "inversion__iterations": 8,
            "inversion__candidate_weights": [1.0],
            "inversion__selection_trials": 1,
        },
    )
    items = result.results.reconstructions
    with nr.open_session(tmp_path / "mouse.nwb") as session:
        oracle = set(session.stimulus.shown["clip"].iloc[16:22])
    assert {item.clip for item in items} == oracle
    correlations = result.results.scores.trials.query("method == 'map'")["pixel_correlation"]
    assert correlations.median() > 0.2
