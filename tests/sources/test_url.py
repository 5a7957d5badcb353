import sys

import numpy as np
import pytest

from nwbrecon.errors import SourceError
from nwbrecon.sources import resolve
from nwbrecon.sources.cache import cache_entries


def first_values(source):
    (file,) = source.open()
    try:
        return file.nwbfile.acquisition["a"].data[:].tolist(), file
    finally:
        file.close()


@pytest.fixture
def url(archive, nwb_path):
    return archive.add_file("mouse.nwb", nwb_path.read_bytes())


@pytest.fixture
def signed(archive, nwb_path):
    """Links to the same asset, each with a signature of its own."""
    asset = archive.add_asset("000001", "a.nwb", nwb_path.read_bytes())
    return lambda: archive.link_to(asset)


def test_a_url_is_opened_and_identified(url):
    source = resolve(url)
    values, file = first_values(source)
    assert values == [1.0, 2.0]
    assert file.identity["location"] == source.location == url
    assert file.identity["identifier"] == "id-1"
    assert file.notes == ()
    assert source.digest() is None


def test_the_second_time_nothing_but_its_identity_is_asked_for(archive, url):
    first_values(resolve(url))
    archive.forget()
    assert first_values(resolve(url))[0] == [1.0, 2.0]
    assert [(one.method, one.sent) for one in archive.asked] == [("HEAD", 0)]


def test_the_signature_may_change(archive, signed):
    first_values(resolve(signed()))
    archive.expire_links()
    archive.forget()
    source = resolve(signed())
    assert first_values(source)[0] == [1.0, 2.0]
    assert archive.sent() == 1  # what is signed for GET answers no HEAD
    assert "Signature" not in source.location + repr(source)
    assert len(cache_entries()) == 1


def test_another_file_at_the_same_place_is_another_file(archive, url, make_nwb, tmp_path):
    first_values(resolve(url))
    archive.add_file("mouse.nwb", make_nwb(tmp_path / "b.nwb", session="2").read_bytes())
    _, file = first_values(resolve(url))
    assert file.identity["identifier"] == "id-2"
    assert len(cache_entries()) == 2


def test_without_a_server_the_cache_serves_alone_and_says_so(archive, url, no_waiting):
    first_values(resolve(url))
    archive.stop()
    values, file = first_values(resolve(url))
    assert values == [1.0, 2.0]
    assert len(file.notes) == 1
    assert "read from the cache: its server does not answer" in file.notes[0]
    with pytest.raises(SourceError, match=r"other\.nwb could not be read: no answer .*Check the connection"):
        resolve(url.replace("mouse", "other")).open()
    archive.start()


def test_what_the_cache_lacks_is_said_without_a_server(archive, make_nwb, tmp_path, no_waiting):
    import h5py

    path = make_nwb(tmp_path / "a.nwb")
    with h5py.File(path, "a") as file:
        clock = file["acquisition/a/starting_time"]
        assert clock[()] == 0
        del file["acquisition/a/data"]
        file["acquisition/a/data"] = np.arange(1_000_000.0)
        file["acquisition/a/data"].attrs.update({"unit": "V", "conversion": 1.0, "resolution": -1.0, "offset": 0.0})
    url = archive.add_file("long.nwb", path.read_bytes())
    (file,) = resolve(url).open()
    assert file.nwbfile.acquisition["a"].data[999_999] == 999_999
    file.close()
    archive.stop()
    (file,) = resolve(url).open()
    assert file.nwbfile.acquisition["a"].data[999_999] == 999_999
    with pytest.raises(SourceError, match=r"does not hold the bytes .* does not answer.*cache fetch"):
        file.nwbfile.acquisition["a"].data[300_000:400_000]
    file.close()
    archive.start()


def test_a_server_that_vouches_for_nothing_is_not_cached(archive, url):
    archive.validators = False
    for _ in range(2):
        archive.forget()
        _, file = first_values(resolve(url))
        assert "neither ETag nor Last-Modified" in file.notes[0]
        assert archive.sent() > 0
    assert cache_entries() == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>log in first</html>", "is not an HDF5 file"),
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n", "cannot be opened as HDF5"),
    ],
)
def test_what_is_no_nwb_is_said_to_be_none(archive, content, words):
    with pytest.raises(SourceError, match=words):
        resolve(archive.add_file("page.nwb", content)).open()


def test_a_zarr_store_on_a_server_is_called_one(archive):
    for name in ("mouse.nwb.zarr", "mouse.nwb.zarr/"):
        with pytest.raises(SourceError, match=r"is a Zarr store on a server.*Download the store"):
            resolve(f"{archive.root}/files/{name}").open()
    assert archive.count() == 0


def test_a_file_that_is_cut_short_is_said_to_be(archive, nwb_path):
    with pytest.raises(SourceError, match="cut short"):
        resolve(archive.add_file("cut.nwb", nwb_path.read_bytes()[:-10])).open()


def test_a_failure_while_the_structure_is_read_is_told_as_it_is(archive, url, no_waiting):
    source = resolve(url)
    _ = source.files[0].content
    archive.fail("file", 503, times=1000)
    with pytest.raises(SourceError, match=r"503 Service Unavailable \(tried 7 times"):
        source.open()


def test_several_urls_make_one_session(archive, make_nwb, tmp_path):
    urls = [
        archive.add_file(f"sub-m1_ses-1-acq-{n}_ophys.nwb", make_nwb(tmp_path / f"{n}.nwb").read_bytes())
        for n in range(2)
    ]
    files = resolve(urls).open()
    assert [file.identity["location"] for file in files] == urls
    mixed = resolve([urls[0], tmp_path / "1.nwb"]).open()
    assert [file.identity["location"] for file in mixed] == [urls[0], str(tmp_path / "1.nwb")]
    for file in files + mixed:
        file.close()


def test_user_and_password_are_sent_and_not_shown(archive, url):
    source = resolve(url.replace("http://", "http://me:secret@"))
    _, file = first_values(source)
    assert "Authorization" in archive.asked[0].headers
    assert "secret" not in source.location + repr(source) + str(file.identity)
    assert "secret" not in str(cache_entries()[0].about)


class TestFsspec:
    @pytest.fixture
    def memory(self, nwb_path):
        fsspec = pytest.importorskip("fsspec")
        files = fsspec.filesystem("memory")
        files.pipe("/lab/mouse.nwb", nwb_path.read_bytes())
        yield files
        files.rm("/lab", recursive=True)

    def test_any_scheme_that_it_knows_is_read(self, memory):
        assert first_values(resolve("memory://lab/mouse.nwb"))[0] == [1.0, 2.0]

    def test_http_goes_through_it_where_asked_for(self, archive, url):
        pytest.importorskip("aiohttp")
        values, _ = first_values(resolve(url, transport="fsspec"))
        assert values == [1.0, 2.0]
        assert {one.headers["User-Agent"].split("/")[0] for one in archive.asked} == {"Python"}
        archive.forget()
        first_values(resolve(url, transport="fsspec"))
        assert archive.sent() == 0

    def test_what_passes_is_waited_for(self, archive, url, no_waiting):
        pytest.importorskip("aiohttp")
        archive.fail("file", 503, times=4)
        assert first_values(resolve(url, transport="fsspec"))[0] == [1.0, 2.0]
        assert len(no_waiting) == 2

    def test_what_is_not_there_is_said_not_to_be(self, memory):
        with pytest.raises(SourceError, match=r"There is no memory://lab/other\.nwb"):
            resolve("memory://lab/other.nwb").open()

    def test_a_scheme_that_nobody_knows_is_refused(self):
        with pytest.raises(SourceError, match=r"foo://bar.* cannot be read through fsspec.*Protocol not known: foo"):
            resolve("foo://bar/a.nwb").open()

    def test_a_scheme_whose_library_is_missing_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(SourceError, match="pip install s3fs"):
            resolve("s3://bucket/a.nwb").open()

    def test_without_fsspec_it_is_said(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(SourceError, match="cannot be read through fsspec"):
            resolve("memory://lab/mouse.nwb").open()
