import json
from dataclasses import replace

import numpy as np
import pytest
import zarr
from PIL import Image

from nwbrecon.errors import ResultsError
from nwbrecon.results import Results
from nwbrecon.results.exporting import write_arrays, write_frames


@pytest.fixture(scope="module")
def results(reconstructions, scores, aligned):
    return Results(reconstructions, scores).with_true_movies(aligned)


def assert_complete(arrays, clips, results):
    assert list(clips) == [item.clip for item in results.reconstructions]
    for row in (0, 5):
        span = slice(arrays["first_frame"][row], arrays["first_frame"][row] + arrays["n_frames"][row])
        item = results.reconstructions[row]
        np.testing.assert_array_equal(arrays["video"][span], item.video)
        np.testing.assert_array_equal(arrays["std"][span], item.std)
        np.testing.assert_array_equal(arrays["ridge"][span], item.baselines["ridge"])
        np.testing.assert_array_equal(arrays["true"][span], results.true_movies[row])
        np.testing.assert_array_equal(arrays["times"][span], item.times)
    np.testing.assert_array_equal(arrays["mask"][:], results.reconstructions.mask)
    scores = results.scores.trials["pixel_correlation"]
    np.testing.assert_array_equal(arrays["scores_pixel_correlation"][:], scores)


def test_npz_opens_without_pickle(tmp_path, results):
    with np.load(write_arrays(tmp_path / "a.npz", results), allow_pickle=False) as arrays:
        assert_complete(arrays, arrays["clip"], results)
        assert list(arrays["scores_method"]) == list(results.scores.trials["method"])


def test_zarr(tmp_path, results):
    group = zarr.open_group(str(write_arrays(tmp_path / "a.zarr", results)), mode="r")
    assert_complete(group, group.attrs["clip"], results)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_png_frames_are_the_stored_pixels(tmp_path, results):
    folder = write_frames(tmp_path / "frames", results)
    clips = json.loads((folder / "frames.json").read_text())
    assert [clip["clip"] for clip in clips] == [item.clip for item in results.reconstructions]
    first = folder / clips[0]["folder"]
    assert len(list(first.glob("video_*.png"))) == 70
    with Image.open(first / "video_00042.png") as image:
        np.testing.assert_array_equal(np.asarray(image), results.reconstructions[0].video[42])
    with Image.open(first / "true_00042.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(results.true_movies[0][42]))


def test_tiff_stacks_are_exact(tmp_path, results):
    folder = write_frames(tmp_path / "frames", results, kind="tiff")
    with Image.open(folder / "002_clip_2" / "std.tiff") as image:
        assert image.n_frames == 70
        image.seek(69)
        np.testing.assert_array_equal(np.asarray(image), results.reconstructions[2].std[69])
    with Image.open(folder / "002_clip_2" / "true.tiff") as image:
        np.testing.assert_array_equal(np.asarray(image), results.true_movies[2][0])


def test_refusals_leave_nothing(tmp_path, results):
    with pytest.raises(ResultsError, match="names no arrays"):
        write_arrays(tmp_path / "a.mat", results)
    items = [replace(results.reconstructions[0], std=None), *results.reconstructions[1:]]
    mixed = replace(results, reconstructions=replace(results.reconstructions, items=items))
    with pytest.raises(ResultsError, match="5 of 6"):
        write_arrays(tmp_path / "a.npz", mixed)
    assert not list(tmp_path.iterdir())
