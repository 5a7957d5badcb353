import json
import sys

import numpy as np
import pandas as pd
import pytest

from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.errors import EncoderError, SettingsError
from nwbrecon.pipeline.single import reconstruct_recording, train_encoder
from nwbrecon.results import read_results
from nwbrecon.simulation import simulate


@pytest.fixture(scope="module")
def trained(mouse, tiny, tmp_path_factory):
    return train_encoder(mouse, tmp_path_factory.mktemp("trained") / "encoder", tiny)


def test_an_encoder_is_saved_with_all_that_is_needed_to_use_it(trained, tiny):
    loaded = EncoderEnsemble.load(trained.folder)
    assert loaded.digest() == trained.encoder.digest()
    assert loaded.info["alignment"] == json.loads(tiny.alignment.model_dump_json())
    assert sorted(path.name for path in trained.folder.parent.iterdir()) == ["encoder"]
    assert loaded.gate["sentence"] in str(trained)
    assert json.loads(json.dumps(trained.to_dict(), default=str))["gate"]["sees"] is True


def test_it_is_the_encoder_that_a_run_would_train(trained, ran):
    assert EncoderEnsemble.load(ran.encoder_path).digest() == trained.encoder.digest()


def test_reconstructions_with_it_are_those_of_a_run(trained, mouse, ran, tiny, tmp_path):
    made = reconstruct_recording(mouse, trained.folder, tmp_path / "results.nwb", tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["results.nwb"]
    for one, other in zip(made.results.reconstructions, ran.results.reconstructions, strict=True):
        np.testing.assert_array_equal(one.video, other.video)
    assert "ridge decoder" in str(made)
    assert made.to_dict()["method"] == "map"
    pd.testing.assert_frame_equal(made.results.controls.table, ran.results.controls.table)
    pd.testing.assert_frame_equal(made.results.controls.verdicts, ran.results.controls.verdicts)


def test_chosen_trials_only(trained, mouse, tiny, ran, tmp_path):
    settings = tiny.model_copy(update={"alignment": type(tiny.alignment)()})
    wanted = ran.results.reconstructions[3].trials[0]
    made = reconstruct_recording(mouse, trained.folder, tmp_path / "results.nwb", settings, trials=f"{wanted}")
    assert [item.trials for item in made.results.reconstructions] == [(wanted,)]
    assert read_results(tmp_path / "results.nwb").provenance["settings"]["alignment"]["frame_rate"] == 15


def test_stopped_it_goes_on(mouse, tiny, trained, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["nwbrecon.inversion.reconstruct"], "make_setup", stopped)
        with pytest.raises(KeyboardInterrupt) as stop:
            reconstruct_recording(mouse, trained.folder, tmp_path / "results.nwb", tiny)
    state = tmp_path / "results.nwb.state"
    assert stop.value.__notes__ == [f"What is done is kept in {state}; the same command goes on from there."]
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


@pytest.mark.parametrize("words", ["exists already", "trials asked for are 3,x"])
def test_what_cannot_be_is_said(words, trained, mouse, tiny, tmp_path):
    out = tmp_path / "results.nwb"
    if "exists" in words:
        out.write_text("precious")
    with pytest.raises(SettingsError, match=words):
        reconstruct_recording(mouse, trained.folder, out, tiny, trials="3,x")
    assert not out.exists() or out.read_text() == "precious"


def test_other_settings_of_alignment_are_refused(trained, mouse, tiny, tmp_path):
    other = tiny.model_copy(update={"alignment": tiny.alignment.model_copy(update={"frame_rate": 10.0})})
    with pytest.raises(SettingsError, match="differ from those"):
        reconstruct_recording(mouse, trained.folder, tmp_path / "results.nwb", other)


def test_an_encoder_of_another_recording_is_refused(trained, tiny, tmp_path):
    other = simulate(
        tmp_path / "other.nwb", rois=10, planes=1, minutes=0.5, clip_seconds=5, test_clips=1, test_repeats=5
    )
    with pytest.raises(EncoderError, match="ROIs"):
        reconstruct_recording(other, trained.folder, tmp_path / "results.nwb", tiny)
    assert not (tmp_path / "results.nwb").exists()


def test_a_folder_that_is_no_encoder(mouse, tiny, tmp_path):
    with pytest.raises(EncoderError, match="holds no encoder"):
        reconstruct_recording(mouse, tmp_path, tmp_path / "results.nwb", tiny)
