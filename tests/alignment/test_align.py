import numpy as np
import pytest

import nwbrecon as nr
from nwbrecon.errors import AlignmentError, SettingsError

SIZE = (9, 16)


def test_the_most_repeated_clips_are_test_and_everything_lines_up(microns_like):
    aligned = nr.align(microns_like, frame_size=SIZE)
    assert {aligned.trials.at[trial, "clip"] for trial in aligned.trials_in("test")} == {"clip 0", "clip 1"}
    assert len(aligned.trials_in("test")) == 12
    assert len(aligned.trials_in("train")) >= 8
    assert aligned.behavior_names == ("running_speed", "pupil_size")
    for label in aligned.trials.index:
        trial = aligned.trial(label)
        # running was made to be half the time in seconds
        np.testing.assert_allclose(trial.behavior[:, 0], 0.5 * (trial.times + 0.5 / 30), atol=1e-4)
        assert trial.video.shape == (120, *SIZE)
        assert trial.video.dtype == np.float32


def test_unknown_settings_are_refused(microns_like):
    with pytest.raises(SettingsError, match="no setting frame_rat"):
        nr.align(microns_like, frame_rat=20)


def test_stimulus_and_responses_that_never_meet_are_refused(make_session, make_movie):
    clips = {f"{n}": make_movie(n, 3.0) for n in range(6)}
    session = make_session(clips, [(clip, 4.0 * n) for n, clip in enumerate(clips)], span=(5000, 5100))
    with pytest.raises(AlignmentError, match=r"from 0\.0 to 23\.0 s and responses recorded from 5000\.0 to 5099\.9 s"):
        nr.align(session, frame_size=SIZE)
