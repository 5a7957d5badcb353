import pytest

from nwbrecon.config import (
    ARCHITECTURES,
    AlignmentSettings,
    DwiseNeuroSettings,
    EncoderSettings,
    InversionSettings,
    RunSettings,
    TrainingSettings,
    load_settings,
    stored_alignment,
)
from nwbrecon.errors import SettingsError


def test_overrides_go_on_top_of_the_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("alignment:\n  frame_rate: 20\n  frame_size: [18, 32]\n")
    settings = load_settings(RunSettings, path, alignment__frame_rate=25.0)
    assert settings.alignment.frame_rate == 25
    assert settings.alignment.frame_size == (18, 32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("alignment: {frame_rat: 20}", "no setting alignment.frame_rat"),
        ("alignment: {frame_rate: 0}", "alignment.frame_rate is 0"),
        ("encoder: {kernel_size: 8}", "encoder.kernel_size is 8: an odd number"),
        ("encoder: {kernel: 8}", "no setting encoder.kernel"),
        (
            "encoder: unet",
            "encoder is 'unet': one of factorized, quadrature, dwiseneuro, dwiseneuro-small was expected",
        ),
        ("encoder: {architecture: unet}", "one of factorized, quadrature, dwiseneuro, dwiseneuro-small was expected"),
        ("encoder: 3", "encoder is 3: one of factorized"),
        ("encoder: {architecture: dwiseneuro, channels: 4}", "no setting encoder.channels"),
        ("- 1", "does not hold names"),
        ("a: [", "cannot be read"),
    ],
)
def test_bad_files_are_refused_with_the_name(tmp_path, content, words):
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=words):
        load_settings(RunSettings, path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(RunSettings, tmp_path / "none.yaml")


def test_settings_of_before_there_was_a_choice_mean_what_they_meant():
    assert stored_alignment({"frame_rate": 15.0}).fit == "squeeze"
    now = AlignmentSettings(frame_rate=15.0)
    assert now.fit == "crop"
    assert stored_alignment(now.model_dump(mode="json")) == now
    assert stored_alignment({}) == AlignmentSettings()


def test_an_encoder_is_chosen_by_name_or_by_its_settings():
    assert load_settings(RunSettings).encoder == load_settings(RunSettings, encoder="factorized").encoder
    small = load_settings(RunSettings, encoder="dwiseneuro-small")
    assert small.encoder == ARCHITECTURES["dwiseneuro-small"] != DwiseNeuroSettings()
    other = load_settings(RunSettings, encoder__architecture="dwiseneuro", encoder__core_features=[8] * 9)
    assert other.encoder == DwiseNeuroSettings(core_features=(8,) * 9)
    for settings in (small, other, RunSettings()):
        assert RunSettings.model_validate(settings.model_dump()) == settings
        assert RunSettings.model_validate_json(settings.model_dump_json()) == settings


def test_what_is_not_asked_for_in_training_is_what_suits_the_architecture():
    assert RunSettings().training == TrainingSettings().suited_to(EncoderSettings()) == TrainingSettings()
    suited = load_settings(RunSettings, encoder="dwiseneuro", training__epochs=3, training__weight_decay=1e-3).training
    learning = DwiseNeuroSettings.learning
    assert (suited.epochs, suited.weight_decay) == (3, 1e-3)
    assert suited.learning_rate == learning["learning_rate"] != TrainingSettings().learning_rate
    assert RunSettings(encoder=DwiseNeuroSettings()).training == TrainingSettings(**learning)
    assert suited.readout_penalty == 0 != TrainingSettings().readout_penalty
    # once resolved, they stay
    assert suited.suited_to(DwiseNeuroSettings()) == suited.suited_to(EncoderSettings()) == suited


@pytest.mark.parametrize("name", DwiseNeuroSettings.without)
def test_what_an_architecture_has_no_part_for_is_refused(name):
    for make in (
        lambda: load_settings(RunSettings, encoder="dwiseneuro", **{f"training__{name}": 0.1}),
        lambda: TrainingSettings(**{name: 0.1}).suited_to(DwiseNeuroSettings()),
    ):
        with pytest.raises(
            SettingsError, match=rf"training\.{name} is 0\.1\. The architecture 'dwiseneuro' has nothing"
        ):
            make()
    assert getattr(load_settings(RunSettings, **{f"training__{name}": 0.1}).training, name) == 0.1
    assert getattr(load_settings(RunSettings, encoder="dwiseneuro", **{f"training__{name}": 0}).training, name) == 0


def test_the_fast_preset_has_its_own_defaults_and_gives_way_to_what_is_said():
    plain, fast = InversionSettings(), load_settings(RunSettings, inversion__preset="fast").inversion
    assert (plain.decoder, fast.decoder, fast.iterations) == ("ridge", "amortized", 0)
    assert (plain.uncertainty, fast.uncertainty) == (True, False)
    assert {name for name, value in fast if value != getattr(plain, name)} == {
        "preset",
        "decoder",
        "iterations",
        "gradient_step",
        "uncertainty",
    }
    assert fast.gradient_step
    short = InversionSettings(preset="fast", iterations=3)
    assert (short.decoder, short.prior_weight, short.uncertainty) == ("ridge", None, False)
    with pytest.raises(SettingsError, match="there is no uncertainty"):
        load_settings(RunSettings, inversion__iterations=0)
    assert not short.gradient_step
    with pytest.raises(SettingsError, match="takes the place of a search"):
        load_settings(RunSettings, inversion__gradient_step=True)
    with pytest.raises(SettingsError, match="takes no gradient step"):
        load_settings(RunSettings, inversion__preset="ridge", inversion__gradient_step=True)
    with pytest.raises(SettingsError, match="inferred by a search"):
        load_settings(RunSettings, inversion__preset="fast", inversion__behavior="inferred")
    # as written out before there were steps
    older = {name: value for name, value in fast.model_dump(mode="json").items() if name != "gradient_step"}
    assert not InversionSettings.model_validate(older).gradient_step
    said = InversionSettings(preset="fast", iterations=5, uncertainty=True, prior_weight=None)
    assert (said.iterations, said.uncertainty, said.prior_weight) == (5, True, None)
    for settings in (fast, said):
        assert InversionSettings.model_validate(settings.model_dump(mode="json")) == settings
