import numpy as np
import pytest
from small import clips_of

from nwbrecon.alignment import AlignedSession
from nwbrecon.config import EncoderSettings, TrainingSettings
from nwbrecon.encoding import train
from nwbrecon.encoding.sharing import check_core, check_together, settings_of_core
from nwbrecon.errors import EncoderError, SettingsError

SETTINGS = EncoderSettings(channels=2, kernel_size=3, gain=False)


def session(*splits):
    """Clips "0", "1" ..., which show the same in every session."""
    aligned = clips_of([40] * len(splits), splits)
    aligned.video = np.concatenate(
        [np.random.default_rng(clip).uniform(0, 255, (40, 8, 10)) for clip in range(len(splits))]
    )
    return aligned


@pytest.fixture(scope="module")
def lender():
    return train(session("train", "train", "validation", "test"), SETTINGS, TrainingSettings(epochs=0))


def test_sessions_that_agree_are_let_through_and_clips_of_one_alone_do_not_matter():
    aligned = session("train", "train", "validation", "test")
    check_together([aligned])
    check_together([aligned, session("train", "train", "validation", "test", "test")])
    check_together([aligned, session("train", "", "validation")])


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (("test", "train", "validation"), "Clip '0' is for testing in one of the sessions and for training in another"),
        (("train", "validation", "validation"), "Clip '1' is for validation in .* and for training in another"),
        (("train", "train", "test", "train"), r"Clip '2' is for testing .* validation in another, and 1 more clips"),
    ],
)
def test_a_clip_that_is_set_apart_in_one_session_and_not_in_another_is_refused(splits, words):
    one, other = session("train", "train", "validation", "test"), session(*splits)
    with pytest.raises(EncoderError, match=words):
        check_together([one, other])
    with pytest.raises(EncoderError, match=r"Clip '\d'"):
        check_together([one, one, other])


def test_clips_of_other_movies_may_have_the_same_name():
    one, other = session("train", "train", "validation"), session("validation", "train", "train")
    with pytest.raises(EncoderError, match="Clip '0'"):
        check_together([one, other])
    other.video = 255 - other.video
    check_together([one, other])


def test_no_sessions_and_other_clocks_are_refused():
    with pytest.raises(EncoderError, match="No sessions"):
        check_together([])
    aligned = session("train", "validation")
    with pytest.raises(EncoderError, match=r"15 Hz and .* 30 Hz"):
        check_together([aligned, AlignedSession(**vars(aligned) | {"frame_rate": 15.0})])


def test_a_core_is_for_its_frame_rate_and_size(lender):
    aligned = session("train", "train", "validation", "test")
    check_core(lender, aligned)
    with pytest.raises(EncoderError, match=r"8x10 pixels at 15 Hz. The core was learned at 8x10 pixels at 30 Hz"):
        check_core(lender, AlignedSession(**vars(aligned) | {"frame_rate": 15.0}))
    with pytest.raises(EncoderError, match=r"8x9 pixels.* The core was learned at 8x10"):
        check_core(lender, AlignedSession(**vars(aligned) | {"video": aligned.video[:, :, :9]}))


def test_a_core_that_learned_from_a_clip_that_is_set_apart_is_refused(lender):
    with pytest.raises(EncoderError, match="Clip '1' is for testing in the session and for training in what the core"):
        check_core(lender, session("train", "test", "validation", "test"))


def test_a_core_remembers_all_that_it_learned_from():
    one, other = session("train", "train", "validation"), session("train", "", "validation", "train")
    other.identity = {"identifier": "other"}
    encoder, _ = train([one, other], SETTINGS, TrainingSettings(epochs=0))
    # clip 3 was shown in the other session alone
    with pytest.raises(EncoderError, match="Clip '3' is for testing in the session"):
        check_core(encoder, session("train", "train", "validation", "test"))
    third = train(one, core=encoder, training=TrainingSettings(epochs=0))
    assert third.core_sessions == encoder.core_sessions
    assert [found["session"] for found in third.core_sessions] == [one.identity, {"identifier": "other"}]


def test_the_architecture_is_the_cores_and_what_contradicts_it_is_refused(lender):
    assert settings_of_core(EncoderSettings(), lender) == SETTINGS
    assert settings_of_core(EncoderSettings(channels=2, gain=True), lender) == SETTINGS.model_copy(
        update={"gain": True}
    )
    with pytest.raises(SettingsError, match=r"encoder\.channels is 4, but that of the core is 2"):
        settings_of_core(EncoderSettings(channels=4), lender)
    # a default that is asked for by name is asked for
    with pytest.raises(SettingsError, match=r"encoder\.kernel_size is 9, but that of the core is 3"):
        settings_of_core(EncoderSettings(kernel_size=9), lender)
