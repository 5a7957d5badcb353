import numpy as np

from nwbrecon.chunks import ChunkIterator


def test_an_array_is_handed_out_in_pieces():
    whole = np.random.default_rng(0).normal(size=(100, 200, 30)).astype(np.float32)
    pieces = list(ChunkIterator(lambda rows: whole[rows], whole.shape, np.float32))
    assert max(piece.data.nbytes for piece in pieces) <= 2**19
    assert len(pieces) == 5
    np.testing.assert_array_equal(np.concatenate([piece.data for piece in pieces]), whole)


def test_a_row_beyond_the_size_of_a_chunk_is_a_chunk():
    pieces = list(ChunkIterator(lambda rows: np.ones((3, 2**20), np.uint8)[rows], (3, 2**20), np.uint8))
    assert [piece.data.shape for piece in pieces] == [(1, 2**20)] * 3
