import gzip
import time
from email.utils import formatdate

import numpy as np
import pytest
import requests

from nwbrecon.errors import SourceError
from nwbrecon.sources.transfer import (
    FailurePasses,
    HttpBytes,
    PatientAdapter,
    UnreachableError,
    patiently,
    stable_url,
)

CONTENT = np.random.default_rng(0).bytes(100_000)


@pytest.fixture
def url(archive):
    return archive.add_file("mouse.nwb", CONTENT)


@pytest.fixture
def blob(archive):
    """The address of an asset's download, which redirects to a signed link."""
    asset = archive.add_asset("000001", "sub-1/sub-1_ophys.nwb", CONTENT)
    return HttpBytes(f"{archive.api}/assets/{asset.asset_id}/download/", "dandi:000001/a.nwb", size=len(CONTENT))


def test_a_range_is_read_and_nothing_else(archive, url):
    source = HttpBytes(url, url)
    assert source.probe().size == len(CONTENT)
    assert archive.sent() == 0
    for start, stop in ((0, 1), (10, 5000), (99_999, 100_000), (0, 100_000)):
        archive.forget()
        assert source.read(start, stop) == CONTENT[start:stop]
        assert (archive.count(), archive.sent()) == (1, stop - start)


def test_one_connection_serves_for_all_ranges(archive, url):
    source = HttpBytes(url, url)
    source.probe()
    for start in range(0, 90_000, 3000):
        source.read(start, start + 3000)
    assert (archive.count(), archive.connections) == (31, 1)


def test_no_more_is_taken_than_was_asked_for(archive, no_waiting):
    zeros = gzip.compress(bytes(50_000_000))
    url = archive.add_file("bomb.nwb", zeros)
    archive.headers = {"Content-Encoding": "gzip"}
    assert HttpBytes(url, url).read(0, 1000) == zeros[:1000]


@pytest.mark.parametrize("length", ["-5", "many", ""])
def test_a_length_that_is_none_is_asked_for_otherwise(archive, url, length):
    archive.head_length = length
    assert HttpBytes(url, url).probe().size == len(CONTENT)


def test_a_redirect_in_a_circle_is_refused(archive, no_waiting):
    archive.add_file("a.nwb", CONTENT)
    archive.fail("file", 302, times=100, Location="/files/a.nwb")
    with pytest.raises(SourceError, match="Exceeded 30 redirects"):
        HttpBytes(f"{archive.root}/files/a.nwb", "it").read(0, 10)


def test_a_server_that_refuses_head_is_asked_for_one_byte(archive, url):
    archive.head = False
    probe = HttpBytes(url, url).probe()
    assert probe.size == len(CONTENT)
    assert probe.validator == archive.files["mouse.nwb"].blob
    assert archive.sent() == 1


def test_an_empty_file_is_said_to_be_empty(archive):
    url = archive.add_file("empty.nwb", b"")
    for archive.head in (True, False):
        with pytest.raises(SourceError, match=r"empty \(0 bytes\)"):
            HttpBytes(url, url).probe()


def test_a_redirect_is_followed_once_and_remembered(archive, blob):
    for start in range(0, 1000, 100):
        assert blob.read(start, start + 100) == CONTENT[start : start + 100]
    assert (archive.count("link"), archive.count("blob")) == (1, 10)


def test_an_expired_link_is_renewed_in_the_middle(archive, blob):
    assert blob.read(0, 10) == CONTENT[:10]
    archive.expire_links()
    assert blob.read(10, 20) == CONTENT[10:20]
    assert blob.read(20, 30) == CONTENT[20:30]
    assert [one.status for one in archive.asked] == [302, 206, 403, 302, 206, 206]


def test_a_signed_link_of_the_user_that_has_expired_is_said_to_have(archive):
    asset = archive.add_asset("000001", "a.nwb", CONTENT)
    link = archive.link_to(asset)
    archive.expire_links()
    with pytest.raises(SourceError, match=r"403 Forbidden\. If the link was signed, it has expired") as caught:
        HttpBytes(link, stable_url(link)).probe()
    assert "Signature" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_what_passes_is_waited_for(archive, url, no_waiting, status):
    archive.fail("file", status, times=3)
    assert HttpBytes(url, url).read(5, 50) == CONTENT[5:50]
    assert [one.status for one in archive.asked] == [status] * 3 + [206]
    assert [0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(no_waiting)] == [True] * 3


def test_the_server_says_how_long_to_wait(archive, url, no_waiting):
    archive.fail("file", 503, Retry_After="17")
    archive.fail("file", 429, Retry_After=formatdate(time.time() + 30, usegmt=True))
    archive.fail("file", 429, Retry_After="soon")
    assert HttpBytes(url, url).read(5, 50) == CONTENT[5:50]
    assert no_waiting[0] == 17
    assert 28 <= no_waiting[1] <= 30
    assert no_waiting[2] <= 2


def test_a_server_that_asks_for_an_hour_is_not_waited_for(archive, url, no_waiting):
    archive.fail("file", 503, Retry_After="3600")
    with pytest.raises(UnreachableError, match=r"503 .* The server asks to come back in 3600 s\."):
        HttpBytes(url, url).read(5, 50)
    assert no_waiting == []


@pytest.mark.parametrize("after", [0, 1, 999])
def test_a_connection_that_breaks_off_is_taken_up_again(archive, url, no_waiting, after):
    archive.cut("file", after, times=2)
    assert HttpBytes(url, url).read(1000, 2000) == CONTENT[1000:2000]
    assert len(no_waiting) == 2


def test_in_the_end_it_is_said_what_was_tried(archive, url, no_waiting):
    archive.fail("file", 503, times=100)
    with pytest.raises(UnreachableError, match=r"mouse\.nwb could not be read: the server answers 503 .*tried 7 times"):
        HttpBytes(url, url).read(0, 10)
    assert len(archive.asked) == 7
    archive.stop()
    with pytest.raises(UnreachableError, match=r"Connection refused\) \(tried 7 times .*Check the connection"):
        HttpBytes(url, url).read(0, 10)
    archive.start()


def test_a_server_that_is_back_is_used_again(archive, url, monkeypatch):
    archive.stop()
    monkeypatch.setattr("nwbrecon.sources.transfer.time.sleep", lambda _: archive.start())
    assert HttpBytes(url, url).read(0, 10) == CONTENT[:10]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"may not be read.*401.*set the key"),
        (403, r"may not be read.*403.*set the key"),
        (404, r"There is no .*404"),
        (410, r"There is no .*410"),
        (418, r"cannot be read: the server answers 418"),
    ],
)
def test_what_does_not_pass_is_said_at_once(archive, url, no_waiting, status, words):
    archive.fail("file", status)
    with pytest.raises(SourceError, match=words):
        HttpBytes(url, url, advice="set the key").read(0, 10)
    assert no_waiting == []
    assert archive.count() == 1


def test_a_server_without_ranges_is_refused_before_the_whole_file_comes(archive, no_waiting):
    url = archive.add_file("large.nwb", bytes(64_000_000))
    archive.ranges = False
    with pytest.raises(SourceError, match=r"does not send parts of files.*Download the file"):
        HttpBytes(url, url).read(0, 1000)
    assert archive.sent() < 32_000_000
    assert no_waiting == []


def test_a_file_that_changes_meanwhile_is_noticed(archive, url):
    source = HttpBytes(url, url)
    source.probe()
    archive.add_file("mouse.nwb", CONTENT[::-1])
    with pytest.raises(SourceError, match="no longer the file"):
        source.read(0, 10)
    archive.validators = False
    archive.add_file("mouse.nwb", CONTENT[:50_000])
    for start in (0, 60_000):
        with pytest.raises(SourceError, match="no longer the file"):
            source.read(start, start + 10)


def test_headers_go_to_the_first_address_alone(archive, blob):
    blob.headers = {"Authorization": f"token {archive.key}"}
    blob.read(0, 10)
    blob.read(10, 20)
    assert "Authorization" in archive.asked[0].headers
    assert "Authorization" not in archive.asked[-1].headers


@pytest.mark.parametrize("url", ["http://", "http://[::1/a.nwb", "http://127.0.0.1:99999/a.nwb"])
def test_an_address_that_is_none_is_refused(url, no_waiting):
    with pytest.raises(SourceError):
        HttpBytes(url, "it").probe()


def test_a_client_of_its_own_is_made_patient(archive, no_waiting):
    session = requests.Session()
    session.mount("http://", PatientAdapter())
    archive.fail("api", 503, times=2)
    archive.cut("api", 5)
    assert session.get(f"{archive.api}/info/").json()["version"]
    assert [one.status for one in archive.asked] == [503, 503, 200, 200]
    archive.fail("api", 503, times=100)
    with pytest.raises(UnreachableError, match="tried 4 times"):
        session.get(f"{archive.api}/info/")
    archive.faults.clear()
    assert session.get(f"{archive.root}/nothing").status_code == 404


def test_other_errors_are_not_tried_again():
    def broken():
        raise KeyError("not about the network")

    with pytest.raises(KeyError):
        patiently(broken, "it")


def test_waits_do_not_grow_beyond_a_minute(no_waiting):
    def never():
        raise FailurePasses("it rains")

    with pytest.raises(UnreachableError, match="it rains"):
        patiently(never, "it", attempts=20)
    assert max(no_waiting) <= 60
    assert len(no_waiting) == 19


@pytest.mark.parametrize(
    ("url", "stable"),
    [
        ("https://h/a.nwb?X-Goog-Signature=1&x-goog-date=2", "https://h/a.nwb"),
        ("https://h/a.nwb?AWSAccessKeyId=1&Signature=2&Expires=3", "https://h/a.nwb"),
        ("https://h/a.nwb?Policy=1&Key-Pair-Id=2&Signature=3", "https://h/a.nwb"),
        ("https://h/a.nwb?sv=2020&se=2026&sr=b&sp=r&sig=abc", "https://h/a.nwb"),
        ("https://h/download?file=12&token=abc", "https://h/download?file=12"),
        ("https://h/a b.nwb?seed=3", "https://h/a b.nwb?seed=3"),
    ],
)
def test_a_signature_is_no_part_of_which_file_it_is(url, stable):
    assert stable_url(url) == stable
