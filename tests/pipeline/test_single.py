import json
import sys

import numpy as np
import pandas as pd
import pytest

from nwbrecon.config import EncoderSettings
from nwbrecon.encoding import EncoderEnsemble
from nwbrecon.encoding.training import Trainer
from nwbrecon.errors import EncoderError, ResultsError, SettingsError
from nwbrecon.pipeline.reproduce import reproduce
from nwbrecon.pipeline.single import reconstruct_recording, train_encoder, train_encoders
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


@pytest.fixture(scope="module")
def other_mouse(tmp_path_factory):
    """Another mouse that saw other movies, for less long."""
    return simulate(
        tmp_path_factory.mktemp("other") / "other.nwb",
        rois=20,
        planes=1,
        minutes=0.6,
        clip_seconds=5.0,
        test_clips=1,
        test_repeats=5,
        seed=3,
    )


def quick(tiny):
    return tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 1})})


def test_encoders_of_several_recordings_get_a_folder_each_and_share_a_core(mouse, other_mouse, tiny, tmp_path):
    made = train_encoders([mouse, other_mouse], tmp_path / "encoders", quick(tiny))
    names = [one.folder.name for one in made.encoders]
    assert sorted(path.name for path in (tmp_path / "encoders").iterdir()) == sorted(names)
    assert len(set(names)) == 2
    assert all(name.startswith("sub-") for name in names)
    one, two = (EncoderEnsemble.load(entry.folder) for entry in made.encoders)
    assert [one.n_rois, two.n_rois] == [100, 20]
    assert one.encoders[0].core_digest() == two.encoders[0].core_digest()
    assert [path.name for path in tmp_path.iterdir()] == ["encoders"]
    assert len(made.to_dict()["encoders"]) == 2
    assert str(made.encoders[1].folder) in str(made)
    with pytest.raises(SettingsError, match="exists already"):
        train_encoders([mouse, other_mouse], tmp_path / "encoders", quick(tiny))


def test_training_together_that_is_stopped_says_where_it_goes_on(mouse, other_mouse, tiny, tmp_path, monkeypatch):
    validate, calls = Trainer._validate, []

    def stopped(self):
        calls.append(self)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return validate(self)

    settings = tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 2})})
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_validate", stopped)
        with pytest.raises(KeyboardInterrupt) as stop:
            train_encoders([mouse, other_mouse], tmp_path / "encoders", settings)
    state = tmp_path / "encoders.state"
    assert stop.value.__notes__ == [f"What is done is kept in {state}; the same command goes on from there."]
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    epochs = []
    monkeypatch.setattr(
        Trainer, "_train_epoch", lambda self, order, train=Trainer._train_epoch: epochs.append(1) or train(self, order)
    )
    resumed = train_encoders([mouse, other_mouse], tmp_path / "encoders", settings)
    assert len(epochs) == 1
    whole = train_encoders([mouse, other_mouse], tmp_path / "whole", settings)
    for one, other in zip(resumed.encoders, whole.encoders, strict=True):
        assert one.encoder.digest() == other.encoder.digest()


def test_a_core_is_taken_over_from_a_folder_and_goes_with_the_results(trained, other_mouse, tiny, tmp_path):
    made = train_encoder(
        other_mouse,
        tmp_path / "encoder",
        quick(tiny).model_copy(update={"encoder": EncoderSettings()}),
        core=trained.folder,
    )
    assert made.encoder.encoders[0].core_digest() == trained.encoder.encoders[0].core_digest()
    assert made.encoder.info["core"]["encoder"] == trained.encoder.digest()
    reconstruct_recording(other_mouse, made.folder, tmp_path / "results.nwb", quick(tiny))
    core = read_results(tmp_path / "results.nwb").provenance["encoder"]["core"]
    assert core["encoder"] == trained.encoder.digest()
    # the name of the recording, not the folders of this computer
    assert [one["session"]["location"] for one in core["sessions"]] == ["mouse.nwb"]
    with pytest.raises(ResultsError, match=r"core was learned from mouse\.nwb"):
        reproduce(tmp_path / "results.nwb", other_mouse)


def test_a_teacher_is_named_in_what_it_taught_and_results_that_rest_on_one_are_not_reproduced(
    trained, mouse, tiny, tmp_path
):
    made = train_encoder(mouse, tmp_path / "encoder", quick(tiny), teacher=trained.folder)
    assert EncoderEnsemble.load(made.folder).info["teacher"] == trained.encoder.digest()
    reconstruct_recording(mouse, made.folder, tmp_path / "results.nwb", quick(tiny))
    with pytest.raises(ResultsError, match="learned from the predictions of another"):
        reproduce(tmp_path / "results.nwb", mouse)


def test_a_core_of_another_architecture_than_is_asked_for_is_refused(trained, other_mouse, tiny, tmp_path):
    settings = tiny.model_copy(update={"encoder": EncoderSettings(channels=8)})
    with pytest.raises(SettingsError, match=r"encoder\.channels is 8, but that of the core is 16"):
        train_encoder(other_mouse, tmp_path / "encoder", settings, core=trained.folder)
    assert not (tmp_path / "encoder").exists()
