import pytest

from nwbrecon.config import AlignmentSettings, RunSettings, load_settings, stored_alignment
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
