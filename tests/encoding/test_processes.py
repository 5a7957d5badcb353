import pickle
import sys

import numpy as np
import pytest
import torch
from small import make_mouse, smooth_noise

from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding.processes import Processes, _pack, launch
from nwbrecon.encoding.training import Trainer
from nwbrecon.errors import EncoderError, SettingsError

ENCODER = EncoderSettings(channels=4, kernel_size=5)


@pytest.fixture(scope="module")
def aligned():
    return make_mouse(train=5, validation=2, test=1, seconds=3.0, n_rois=8, make_movie=smooth_noise).aligned


def trainer_of(aligned, state=None, **settings):
    settings = {
        "epochs": 2,
        "batch_windows": 3,
        "window_seconds": 1.0,
        "cutmix": 0.5,
        "readout_dropout": 0.2,
    } | settings
    return Trainer([aligned], ENCODER, TrainingSettings(**settings), state=state)


def test_alone_a_process_does_all_the_work():
    alone = Processes()
    assert alone.first
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    assert alone.agree("so") == "so"
    values = torch.ones(3)
    assert alone.sum(values) is values


@pytest.mark.slow
def test_two_processes_learn_what_one_does(aligned, tmp_path):
    alone, together = trainer_of(aligned), trainer_of(aligned, tmp_path, devices=2)
    (one,), (two,) = alone.run(), together.run()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    columns = ["epoch", "loss", "validation_correlation"]
    np.testing.assert_allclose(together.table()[columns], alone.table()[columns], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(together.roi_scores, alone.roi_scores)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["epoch-2.safetensors"]
    assert not two.training


@pytest.mark.slow
def test_what_goes_wrong_in_the_processes_is_said_as_if_there_were_one(aligned):
    trainer = trainer_of(aligned, devices=2, epochs=30, learning_rate=100.0, gradient_norm=1e9, average_decay=0.0)
    with pytest.raises(EncoderError, match=r"diverged in epoch \d+.*learning_rate"):
        trainer.run()


def test_more_processes_than_stretches_are_refused(aligned):
    with pytest.raises(SettingsError, match=r"training\.devices is 4, and training\.batch_windows 3\..*Raise"):
        trainer_of(aligned, devices=4)


def test_more_gpus_than_there_are_are_refused():
    count = torch.cuda.device_count()
    with pytest.raises(SettingsError, match=rf"training\.devices is {count + 1}, but torch finds {count} GPUs"):
        launch(print, torch.device("cuda"), count + 1)


def test_without_lightning_fabric_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(SettingsError, match=r"lightning-fabric is not installed.*nwbrecon\[cluster\]"):
        launch(print, torch.device("cpu"), 2)


def test_maps_of_files_are_handed_over_as_such(tmp_path):
    whole = np.lib.format.open_memmap(tmp_path / "video.npy", mode="w+", dtype=np.float16, shape=(500, 20, 30))
    whole[:] = np.random.default_rng(0).integers(0, 255, whole.shape)
    packed = _pack({"video": whole, "plain": np.arange(5), "part": whole[3:5]})
    assert len(packed) < 10_000
    back = pickle.loads(packed)
    for name, expected in (("video", whole), ("plain", np.arange(5)), ("part", whole[3:5])):
        np.testing.assert_array_equal(back[name], expected)
    assert back["video"].filename == whole.filename
    assert not back["video"].flags.writeable
