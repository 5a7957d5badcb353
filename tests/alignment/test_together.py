import numpy as np
import pytest
from small import clips_of

from nwbrecon.alignment import AlignedSession
from nwbrecon.alignment.together import check_same_clock, show_the_same
from nwbrecon.errors import EncoderError


def test_sessions_of_one_clock_may_be_used_together_and_others_not():
    aligned = clips_of([20, 20], ["train", "validation"])
    check_same_clock([aligned, aligned], EncoderError)
    slower = AlignedSession(**vars(aligned) | {"frame_rate": 15.0})
    smaller = AlignedSession(**vars(aligned) | {"video": aligned.video[:, :, :9]})
    with pytest.raises(EncoderError, match=r"8x10 pixels at 15 Hz and 8x10 pixels at 30 Hz"):
        check_same_clock([aligned, slower], EncoderError)
    with pytest.raises(EncoderError, match=r"8x9 pixels at 30 Hz and 8x10 pixels"):
        check_same_clock([aligned, smaller], EncoderError)


def test_the_same_movie_is_known_again_brighter_and_a_little_longer():
    aligned = clips_of([20, 20], ["train", "validation"])
    other = AlignedSession(**vars(aligned) | {"video": np.clip(0.8 * aligned.video + 30, 0, 255)})
    assert show_the_same(aligned, 0, other, 0)
    assert not show_the_same(aligned, 0, other, 1)
    shorter = clips_of([15, 20], ["train", "validation"])
    shorter.video[:15] = aligned.video[:15]
    assert show_the_same(aligned, 0, shorter, 0)
