import pytest

from nwbrecon.errors import SourceError
from nwbrecon.sources import resolve


def names(source):
    return [file.path.name for file in source.files]


def test_planes_of_one_session_are_opened_together(make_nwb, tmp_path):
    for plane in (2, 1):
        make_nwb(tmp_path / f"sub-7_ses-8-acq-{plane}_image+ophys.nwb", "7", f"8-acq-{plane}")
    # what this package wrote beside them, and what is hidden or of another kind, is no plane
    make_nwb(tmp_path / "sub-7_ses-8_desc-reconstruction_image.nwb", "7", "8")
    (tmp_path / "notes.txt").write_text("notes")
    source = resolve(tmp_path)
    assert names(source) == ["sub-7_ses-8-acq-1_image+ophys.nwb", "sub-7_ses-8-acq-2_image+ophys.nwb"]
    assert source.location == str(tmp_path)
    opened = source.open()
    assert len(opened) == 2
    for file in opened:
        file.close()


def test_a_folder_with_one_file_is_that_file(make_nwb, tmp_path):
    make_nwb(tmp_path / "tuesday.nwb")
    assert names(resolve(tmp_path)) == ["tuesday.nwb"]


def test_a_folder_with_several_sessions_says_which(make_nwb, tmp_path):
    for session in (1, 2):
        for plane in (1, 2)[:session]:
            make_nwb(tmp_path / f"sub-7_ses-{session}-acq-{plane}_ophys.nwb")
    with pytest.raises(
        SourceError, match=r"holds 2 sessions \(3 files\): sub-7_ses-1 \(\d+ kB\), sub-7_ses-2 \(\d+ kB in 2 files\)"
    ):
        resolve(tmp_path)


def test_of_a_processed_and_a_raw_file_the_processed_one_is_taken(make_nwb, tmp_path):
    make_nwb(tmp_path / "sub-7_ses-1_ophys.nwb")
    make_nwb(tmp_path / "sub-7_ses-1_behavior+image+ophys.nwb")
    source = resolve(tmp_path)
    assert names(source) == ["sub-7_ses-1_behavior+image+ophys.nwb"]
    assert "sub-7_ses-1_ophys.nwb" in source.notes[0]


def test_files_of_one_session_that_are_not_planes_are_not_mixed(make_nwb, tmp_path):
    make_nwb(tmp_path / "sub-7_ses-1_obj-a_ophys.nwb")
    make_nwb(tmp_path / "sub-7_ses-1_obj-b_ophys.nwb")
    with pytest.raises(SourceError, match="not its imaging planes"):
        resolve(tmp_path)


def test_a_folder_without_nwb_says_where_there_is_some(make_nwb, tmp_path):
    with pytest.raises(SourceError, match=r"holds no NWB file\."):
        resolve(tmp_path)
    for subject in range(5):
        make_nwb(tmp_path / f"sub-{subject}" / "a.nwb")
    with pytest.raises(SourceError, match=r"its folders do: sub-0/a.nwb, sub-1/a.nwb, sub-2/a.nwb and 2 more"):
        resolve(tmp_path)


def test_a_list_must_be_of_one_session(make_nwb, tmp_path):
    one, other = make_nwb(tmp_path / "a.nwb", session="1"), make_nwb(tmp_path / "b.nwb", session="2")
    with pytest.raises(SourceError, match=r"a.nwb is of subject m1, session 1; .*b.nwb is of subject m1, session 2"):
        resolve([one, other]).open()
    # nothing is left open
    for path in (one, other):
        with path.open("r+b") as file:
            file.write(b"")
    mouse = make_nwb(tmp_path / "c.nwb", subject="m2", session="1")
    with pytest.raises(SourceError, match="subject m2"):
        resolve([one, mouse]).open()


def test_a_list_may_not_hold_folders_or_missing_files(make_nwb, tmp_path):
    one = make_nwb(tmp_path / "a.nwb")
    with pytest.raises(SourceError, match="is a folder in a list"):
        resolve([one, tmp_path])
    with pytest.raises(SourceError, match="no file"):
        resolve([one, tmp_path / "b.nwb"])
    assert len(resolve([one, one]).files) == 1
