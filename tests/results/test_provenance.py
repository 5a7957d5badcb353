import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwbrecon.config import AlignmentSettings
from nwbrecon.errors import ResultsError
from nwbrecon.results import results_name
from nwbrecon.results.provenance import from_rows, gather, to_rows

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
# an empty list of mappings and an empty mapping are leaves, as is a list in which no value is a mapping
values = st.recursive(
    scalars | st.lists(scalars, max_size=3),
    lambda inner: (
        st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.lists(st.dictionaries(st.text(max_size=4), inner, max_size=3), max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=4))
def test_any_json_survives_the_table(content):
    rows = to_rows(content)
    assert len({path for path, _ in rows}) == len(rows)
    if content:
        assert from_rows(dict(rows)) == content


def test_settings_arrays_and_paths_become_plain():
    rows = dict(to_rows({"settings": AlignmentSettings(), "n": np.int64(3), "v": np.arange(2), "p": Path("a/b")}))
    assert json.loads(rows["settings.frame_size"]) == [36, 64]
    assert json.loads(rows["settings.responses.neuropil_factor"]) == 0.7
    assert (rows["n"], rows["v"], rows["p"]) == ("3", "[0, 1]", '"a/b"')


@pytest.mark.parametrize("rows", [{"a b": "1"}, {"a": "{"}, {"[0": "1"}])
def test_damaged_rows_are_refused(rows):
    with pytest.raises(ResultsError):
        from_rows(rows)


def test_gather_says_what_went_in(aligned):
    content = gather(aligned, aligned)
    assert content["source"]["identifier"] == "a-recording"
    assert content["alignment"]["groups"][0]["n_rois"] == content["alignment"]["n_rois"] == 40
    assert content["alignment"]["groups"][0]["sampling_rate"] == pytest.approx(1 / 0.15)
    assert content["split"] == {"test": ["clip 0", "clip 1", "clip 2"]}
    assert content["alignment"]["seconds"]["test"] == pytest.approx(6 * 70 / 30)
    assert {"nwbrecon", "python", "numpy", "pynwb"} <= set(content["software"])


def test_names_have_only_what_dandi_allows(aligned):
    assert results_name(aligned) == "sub-17797_ses-4-7_desc-reconstruction_image.nwb"
    aligned = type(aligned)(**{**vars(aligned), "subject": {"subject_id": "a_b:c/d."}, "identity": {}})
    assert results_name(aligned) == "sub-a-b-c-d_desc-reconstruction_image.nwb"
