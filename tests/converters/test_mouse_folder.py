import shutil

import numpy as np
import pytest

from nwbrecon.converters.mouse_folder import read_mouse_folder
from nwbrecon.errors import SourceError

from .release import write_release


def test_what_a_folder_holds(release):
    mouse = read_mouse_folder(release.path)
    assert [(trial.number, trial.tier) for trial in mouse.trials] == list(enumerate(release.tiers))
    assert [trial.n_frames for trial in mouse.trials] == [video.shape[2] for video in release.videos]
    assert mouse.frame_size == (36, 64)
    np.testing.assert_array_equal(mouse.unit_ids, release.unit_ids)
    np.testing.assert_array_equal(mouse.coordinates, release.coordinates)
    for number, trial in enumerate(mouse.trials):
        np.testing.assert_array_equal(mouse.video(trial), np.moveaxis(release.videos[number], 2, 0))
        np.testing.assert_array_equal(mouse.behavior[number], release.behavior[number].T)
        np.testing.assert_array_equal(mouse.pupil_center[number], release.pupil_center[number].T)
        if trial.recorded:
            np.testing.assert_array_equal(mouse.responses(trial), release.responses[number].T.astype(np.float32))


def test_equal_videos_are_one_clip_in_other_mice_and_types_too(release, tmp_path):
    clips = [trial.clip for trial in read_mouse_folder(release.path).trials]
    assert len(set(clips)) == 12
    assert (clips[8], clips[10]) == (clips[9], clips[11])
    # the same movies, other responses
    other = write_release(tmp_path / "other", n_cells=3)
    for file in (other.path / "data/videos").iterdir():
        video = np.load(file)
        np.save(file, video[..., : np.isfinite(video[0, 0]).sum()].astype(np.uint8))
        for name in ("responses", "behavior", "pupil_center"):
            array = np.load(other.path / "data" / name / file.name)
            np.save(other.path / "data" / name / file.name, array[:, : np.isfinite(video[0, 0]).sum()])
    assert [trial.clip for trial in read_mouse_folder(other.path).trials] == clips


@pytest.mark.parametrize("withheld", ["zeros", "nan", "absent"])
def test_withheld_responses_are_known_as_such(tmp_path, withheld):
    mouse = read_mouse_folder(write_release(tmp_path, withheld=withheld).path)
    assert [trial.recorded for trial in mouse.trials] == [True] * 12 + [False] * 2


def test_released_responses_of_test_trials_count(tmp_path):
    made = write_release(tmp_path, withheld="released", n_cells=600)
    # only the last cell was active: the others say nothing about whether responses are there
    file = made.path / "data/responses/12.npy"
    responses = np.load(file)
    responses[:-1] = 0
    np.save(file, responses)
    assert all(trial.recorded for trial in read_mouse_folder(made.path).trials)


@pytest.mark.parametrize(
    ("change", "levels"), [(0.0, "uint8"), (0.25, "float32"), (-1.0, "float32"), (300.0, "float32")]
)
def test_whole_grey_levels_are_kept_as_bytes(release, change, levels):
    file = release.path / "data/videos/3.npy"
    video = np.load(file)
    video[5, 6, 7] = change if change else video[5, 6, 7]
    np.save(file, video)
    mouse = read_mouse_folder(release.path)
    assert mouse.levels == levels
    found = mouse.video(mouse.trials[3])
    np.testing.assert_array_equal(found, np.moveaxis(video, 2, 0)[: len(found)])


def test_behavior_and_neurons_may_be_absent(release):
    shutil.rmtree(release.path / "data/behavior")
    shutil.rmtree(release.path / "data/pupil_center")
    shutil.rmtree(release.path / "meta/neurons")
    mouse = read_mouse_folder(release.path)
    assert (mouse.behavior, mouse.pupil_center, mouse.coordinates) == (None, None, None)
    np.testing.assert_array_equal(mouse.unit_ids, np.arange(7))


def test_trials_that_are_not_used_need_no_video(release):
    np.save(release.path / "meta/trials/tiers.npy", np.array([*release.tiers, "none"]))
    assert len(read_mouse_folder(release.path).trials) == 14


def replace(file, change):
    np.save(file, change(np.load(file)))


def lacking_pixel(video):
    video[1, 2, 3] = np.nan
    return video


FAULTS = {
    "no folder": (lambda path: shutil.rmtree(path), "There is no folder"),
    "no videos": (lambda path: shutil.rmtree(path / "data/videos"), r"no data/videos"),
    "no responses": (lambda path: shutil.rmtree(path / "data/responses"), r"no data/responses"),
    "no tiers": (lambda path: (path / "meta/trials/tiers.npy").unlink(), r"no meta/trials/tiers.npy"),
    "empty": (lambda path: [file.unlink() for file in (path / "data/videos").iterdir()], "holds no trial"),
    "images": (
        lambda path: (path / "data/videos").rename(path / "data/images"),
        "static images.*without a time course",
    ),
    "a video too few": (
        lambda path: (path / "data/videos/5.npy").unlink(),
        "13 videos and 14 tiers: no video of trial 5",
    ),
    "a tier too few": (lambda path: replace(path / "meta/trials/tiers.npy", lambda t: t[:-1]), "no tier of trial 13"),
    "behavior too few": (
        lambda path: (path / "data/behavior/2.npy").unlink(),
        "14 videos and 13 files of behavior: no behavior of trial 2",
    ),
    "pupil too many": (
        lambda path: shutil.copy(path / "data/pupil_center/2.npy", path / "data/pupil_center/20.npy"),
        "no video of trial 20",
    ),
    "train without responses": (lambda path: (path / "data/responses/1.npy").unlink(), "Trial 1 has the tier train"),
    "train with zeros": (lambda path: replace(path / "data/responses/1.npy", lambda r: 0 * r), "Trial 1 has the tier"),
    "frames first": (
        lambda path: replace(path / "data/videos/4.npy", lambda v: np.moveaxis(v, 2, 0)),
        r"data/videos/4.npy lacks pixels",
    ),
    "a flat video": (lambda path: replace(path / "data/videos/4.npy", lambda v: v[0]), r"shape \(64, 96\)"),
    "a video of nothing": (lambda path: replace(path / "data/videos/4.npy", lambda v: v * np.nan), "lacks pixels"),
    "a pixel lacks": (lambda path: replace(path / "data/videos/4.npy", lacking_pixel), "lacks pixels"),
    "other frames": (
        lambda path: replace(path / "data/videos/4.npy", lambda v: v[:, ::2]),
        r"columns\) differs: \(36, 64\) in trial 0, \(36, 32\) in trial 4",
    ),
    "other cells": (
        lambda path: replace(path / "data/responses/4.npy", lambda r: r[1:]),
        "cells differs: 7 in trial 0, 6 in trial 4",
    ),
    "responses too short": (
        lambda path: replace(path / "data/responses/4.npy", lambda r: r[:, 1:]),
        r"responses/4.npy has the shape \(7, 95\)",
    ),
    "three rows of behavior": (
        lambda path: replace(path / "data/behavior/4.npy", lambda b: b[[0, 0, 1]]),
        r"behavior/4.npy has the shape \(3, 96\)",
    ),
    "ids too few": (lambda path: replace(path / "meta/neurons/unit_ids.npy", lambda i: i[1:]), r"shape \(6,\)"),
    "ids twice": (lambda path: replace(path / "meta/neurons/unit_ids.npy", lambda i: 0 * i), "a cell twice"),
    "flat coordinates": (
        lambda path: replace(path / "meta/neurons/cell_motor_coordinates.npy", lambda c: c[:, :2]),
        r"shape \(7, 2\)",
    ),
    "cut off": (
        lambda path: (path / "data/videos/4.npy").write_bytes((path / "data/videos/4.npy").read_bytes()[:500]),
        "4.npy cannot be read as a NumPy array",
    ),
    "pickled": (
        lambda path: np.save(path / "meta/trials/tiers.npy", np.array(["train"] * 14, dtype=object)),
        "tiers.npy cannot be read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_said(release, fault):
    damage, words = FAULTS[fault]
    damage(release.path)
    with pytest.raises(SourceError, match=words):
        read_mouse_folder(release.path)


def test_one_trial_is_enough_but_no_response_is_not(tmp_path):
    made = write_release(tmp_path, tiers=["live_test_main"] * 2, clips=[0, 1])
    with pytest.raises(SourceError, match="responses of all 2 trials"):
        read_mouse_folder(made.path)


def test_a_file_and_a_folder_of_mice_are_told_apart(release, tmp_path):
    with pytest.raises(SourceError, match=r"Give one of the mice in it: dynamic12345-6-7-Video"):
        read_mouse_folder(tmp_path)
    (tmp_path / "mouse.zip").write_bytes(b"PK")
    with pytest.raises(SourceError, match="Unzip it"):
        read_mouse_folder(tmp_path / "mouse.zip")
