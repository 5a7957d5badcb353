import pytest

from nwbrecon.errors import SourceError
from nwbrecon.sources.choice import Listed, choose_session, is_nwb, label_of, sessions_of

WHERE = "dandi:000728@0.240827.1809"


def listed(*paths, size=1000):
    return [Listed(path, size) for path in paths]


def chosen(*paths):
    files, notes = choose_session(listed(*paths), WHERE)
    return [file.path for file in files], notes


def test_one_file_is_taken():
    assert chosen("sub-1/sub-1_ses-2_ophys.nwb") == (["sub-1/sub-1_ses-2_ophys.nwb"], [])
    assert chosen("tuesday.nwb") == (["tuesday.nwb"], [])


def test_the_processed_file_is_taken_and_the_raw_one_named():
    stem = "sub-501800164/sub-501800164_ses-501271265-StimB"
    files = [Listed(f"{stem}_ophys.nwb", 55_000_000_000), Listed(f"{stem}_behavior+image+ophys.nwb", 300_000_000)]
    (file,), (note,) = choose_session(files, WHERE)
    assert file is files[1]
    assert "StimB_behavior+image+ophys.nwb (300 MB) is used" in note
    assert "StimB_ophys.nwb (55 GB)" in note


def test_points_in_names_are_part_of_them():
    paths, notes = chosen("sub-1/sub-1_ses-2.5_image+ophys.nwb.zarr", "sub-1/sub-1_ses-2.5_ophys.nwb")
    assert paths == ["sub-1/sub-1_ses-2.5_image+ophys.nwb.zarr"]
    assert len(notes) == 1
    with pytest.raises(SourceError, match="holds 2 sessions"):
        chosen("sub-1/sub-1_ses-2.5_ophys.nwb", "sub-1/sub-1_ses-2.6_ophys.nwb")


def test_planes_of_one_session_belong_together():
    paths = [f"sub-656228/sub-656228_ses-1245548523-acq-{n}_image+ophys.nwb" for n in (1245937740, 1245937736)]
    assert chosen(*paths) == (sorted(paths), [])


def test_the_processed_file_is_taken_plane_by_plane():
    stem = "sub-1/sub-1_ses-2-acq-"
    paths, notes = chosen(*(f"{stem}{n}_{kind}.nwb" for n in (3, 4) for kind in ("image+ophys", "ophys")))
    assert paths == [f"{stem}{n}_image+ophys.nwb" for n in (3, 4)]
    assert len(notes) == 2


@pytest.mark.parametrize(
    "paths",
    [
        ("sub-1/sub-1_ses-2_obj-a_image+ophys.nwb", "sub-1/sub-1_ses-2_obj-b_image+ophys.nwb"),
        ("sub-1/sub-1_ses-2_behavior+ophys.nwb", "sub-1/sub-1_ses-2_image.nwb"),
        ("sub-1/sub-1_ses-2-acq-3_image+ophys.nwb", "sub-1/sub-1_ses-2_image.nwb"),
    ],
)
def test_files_of_which_none_holds_more_are_listed(paths):
    with pytest.raises(SourceError, match=r"holds 2 files of one session which .*Name the file that holds") as caught:
        choose_session(listed(*paths), WHERE)
    assert all(path in str(caught.value) for path in paths)


def test_several_sessions_are_listed_with_how_to_choose():
    files = listed(
        *(f"sub-17797/sub-17797_ses-{n}-scan-7_behavior+image+ophys.nwb" for n in range(19)), size=70_200_000_000
    )
    with pytest.raises(SourceError) as caught:
        choose_session(files, "dandi:000402@0.1.2/sub-17797")
    assert str(caught.value) == (
        "dandi:000402@0.1.2/sub-17797 holds 19 sessions (19 files): "
        + ", ".join(f"sub-17797/sub-17797_ses-{n}-scan-7 (70.2 GB)" for n in (0, 1, 10, 11, 12))
        + ", and 14 more. One session was expected. "
        "Name one, such as dandi:000402@0.1.2/sub-17797/sub-17797_ses-0-scan-7_behavior+image+ophys.nwb "
        "(`nwbrecon inspect dandi:000402@0.1.2/sub-17797` says what each holds)."
    )


def test_of_a_session_in_several_files_a_pattern_is_named():
    files = listed(*(f"sub-1/sub-1_ses-{s}-acq-{a}_image+ophys.nwb" for s in (1, 2) for a in (3, 4)))
    with pytest.raises(
        SourceError, match=r"\(2 kB in 2 files\).* such as dandi:000728@0.240827.1809/sub-1/sub-1_ses-1\*"
    ):
        choose_session(files, WHERE)


def test_sessions_go_by_folder_subject_and_session():
    assert list(sessions_of(listed("b/sub-1_ses-2_x.nwb", "a/sub-1_ses-2_x.nwb", "a/sub-1_ses-2_y.nwb", "c.nwb"))) == [
        "a/sub-1_ses-2",
        "b/sub-1_ses-2",
        "c",
    ]


def test_names_without_labels_have_none():
    assert label_of("a/tuesday.nwb", "sub") == label_of("sub-1/notes.nwb", "sub") == ""
    assert label_of("sub-1/sub-1_ses-2-acq-3_ophys.nwb", "ses") == "2"


def test_zarr_is_nwb_too():
    assert is_nwb("sub-1/sub-1_ses-2_ophys.nwb.zarr")
    assert not is_nwb("sub-1/image.zarr")
