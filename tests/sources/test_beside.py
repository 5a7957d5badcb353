import os

import pytest

from nwbrecon.sources import resolve
from nwbrecon.sources.beside import inside, places_beside


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "../a.mp4", "a/../../b.mp4", "/a.mp4", "\\\\server\\a.mp4", "C:\\a.mp4", "c:/a.mp4",
        "file:///a.mp4", "https://lab.org/a.mp4", "a\0.mp4", "..\\a.mp4", "/",
    ],
)  # fmt: skip
def test_nothing_outside_the_folder_is_beside(path):
    assert places_beside(path, "mouse.nwb") == []


def test_windows_separators_are_separators():
    assert [str(place) for place in places_beside("movies\\a.mp4", "m.nwb")] == ["movies/a.mp4", "m/a.mp4"]


def test_a_file_is_found_where_it_is_named_or_where_it_was_organized(tmp_path):
    nwb = tmp_path / "sub-1_image.nwb"
    for name in ("movies", "sub-1_image"):
        (tmp_path / name).mkdir()
    (tmp_path / "movies" / "a.mp4").write_bytes(b"a")
    (tmp_path / "sub-1_image" / "b.mp4").write_bytes(b"b")
    assert inside(nwb, "movies/a.mp4").read_bytes() == b"a"
    assert inside(nwb, "movies/b.mp4").read_bytes() == b"b"
    assert inside(nwb, "movies") is None
    assert inside(nwb, "x" * 5000) is None


def test_links_that_lead_out_or_nowhere_are_not_followed(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"s")
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "circle.mp4").symlink_to(folder / "circle.mp4")
    (folder / "in.mp4").write_bytes(b"i")
    (folder / "link.mp4").symlink_to(folder / "in.mp4")
    os.mkfifo(folder / "pipe.mp4")
    found = {name: inside(folder / "mouse.nwb", f"{name}.mp4") for name in ("out", "circle", "link", "pipe", "none")}
    assert {name for name, place in found.items() if place} == {"link"}


PATH = "sub-m1/sub-m1_ses-1_behavior+image+ophys.nwb"


def test_an_asset_beside_another_is_read_by_streaming(archive, nwb_path):
    archive.add_asset("000402", PATH, nwb_path)
    archive.add_asset("000402", "sub-m1/sub-m1_ses-1_behavior+image+ophys/x_external_file_0.mp4", b"0123456789")
    archive.add_asset("000402", "sub-m1/movies/a.mp4", b"abcdefghij")
    archive.add_asset("000402", "secret.mp4", b"secret")
    (file,) = resolve(f"dandi:000402/{PATH}", dandi_instance=archive.api).open()
    try:
        for name, content in (("x_external_file_0.mp4", b"0123456789"), ("movies/a.mp4", b"abcdefghij")):
            stream = file.beside(name)
            stream.seek(2)
            assert stream.read(3) == content[2:5]
        assert file.beside("../secret.mp4") is None
        assert file.beside("movies/b.mp4") is None
    finally:
        file.close()


def test_a_file_beside_a_url_is_read_by_streaming(archive, nwb_path):
    url = archive.add_file("lab/mouse.nwb", nwb_path.read_bytes())
    archive.add_file("lab/my movies/a.mp4", b"abcdefghij")
    (file,) = resolve(url).open()
    try:
        assert file.beside("my movies/a.mp4").read() == b"abcdefghij"
        assert file.beside("b.mp4") is None
        assert file.beside("../lab/my movies/a.mp4") is None
    finally:
        file.close()
