import hashlib
import subprocess
import sys

import h5py
import pytest
from filelock import FileLock

from nwbrecon.errors import SourceError
from nwbrecon.sources import cache_entries, clear_cache, fetch, resolve
from nwbrecon.sources import remote as module
from nwbrecon.sources.transfer import HttpBytes

PATH = "sub-m1/sub-m1_ses-1_ophys.nwb"


@pytest.fixture
def content(nwb_path, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 50_000)
    content = nwb_path.read_bytes()
    assert len(content) > 150_000
    return content


@pytest.fixture
def spec(archive, content, monkeypatch):
    archive.add_asset("000402", PATH, content)
    monkeypatch.setenv("DANDI_INSTANCE", archive.api)
    return "dandi:000402"


def opened_value():
    (file,) = resolve("dandi:000402").open()
    try:
        return float(file.nwbfile.acquisition["a"].data[1])
    finally:
        file.close()


def test_all_of_a_file_is_fetched_and_read_locally_from_then_on(archive, spec, content, no_waiting):
    opened_value()
    (path,) = fetch(spec)
    assert path.read_bytes() == content
    assert sorted(file.name for file in path.parent.iterdir() if file.suffix != ".lock") == ["about.json", "whole.nwb"]
    (entry,) = cache_entries()
    assert (entry.whole, entry.cached, entry.size) == (True, len(content), len(content))
    archive.forget()
    assert opened_value() == 2.0
    assert fetch(spec) == [path]
    assert {one.kind for one in archive.asked} == {"api"}
    archive.stop()
    assert opened_value() == 2.0
    assert fetch(spec) == [path]
    archive.start()
    assert clear_cache("dandi:000402") == len(content)
    assert not path.exists()


def test_a_download_that_was_broken_off_goes_on(archive, spec, content, monkeypatch):
    read = HttpBytes.read

    def interrupted(self, start, stop):
        if start >= 100_000:
            raise KeyboardInterrupt
        return read(self, start, stop)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(HttpBytes, "read", interrupted)
        fetch(spec)
    assert archive.sent() == 100_000
    assert cache_entries()[0].cached == 100_000
    assert opened_value() == 2.0
    archive.forget()
    (path,) = fetch(spec)
    assert path.read_bytes() == content
    assert archive.sent() == len(content) - 100_000


def test_a_process_that_is_killed_leaves_what_it_had(archive, nwb_path, tmp_path):
    content = nwb_path.read_bytes() + bytes(300_000)
    url = archive.add_file("mouse.nwb", content)
    archive.latency = 0.2
    script = f"""
import sys
from nwbrecon.sources import fetch, remote
remote._PIECE = 50_000
fetch({url!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while archive.count("file") < 5:
        assert process.poll() is None
    process.kill()
    process.wait()
    archive.latency = 0.0
    held = cache_entries()[0].cached
    assert 100_000 <= held <= 250_000
    archive.forget()
    (path,) = fetch(url)
    assert path.read_bytes() == content
    assert archive.sent() <= len(content) - held


@pytest.mark.parametrize("digests", [("dandi:sha2-256",), ("dandi:dandi-etag",)])
def test_what_arrives_damaged_is_not_kept(archive, content, digests, monkeypatch):
    asset = archive.add_asset("000402", PATH, content, digests=digests)
    asset.content = content[:1000] + b"X" + content[1001:]
    with pytest.raises(SourceError, match=r"is not what its archive describes .*The digest .* was expected"):
        fetch("000402", dandi_instance=archive.api)
    assert cache_entries() == []
    asset.content = content
    assert fetch("000402", dandi_instance=archive.api)[0].read_bytes() == content


def test_a_url_is_fetched_too(archive, content):
    url = archive.add_file("mouse.nwb", content)
    (path,) = fetch(url)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
    archive.validators = False
    with pytest.raises(SourceError, match="neither ETag nor Last-Modified"):
        fetch(url)


def test_two_do_not_fetch_the_same_file_at_once(spec):
    shelf = resolve(spec).files[0].content.shelf()
    shelf.folder.mkdir(parents=True)
    with FileLock(shelf.folder / "whole.lock"), pytest.raises(SourceError, match="Another process is fetching"):
        fetch(spec)
    assert len(fetch(spec)) == 1


def test_what_does_not_fit_is_refused_before_it_travels(archive, spec, monkeypatch):
    monkeypatch.setenv("NWBRECON_CACHE_GIGABYTES", "0.0001")
    with pytest.raises(SourceError, match=r"fetched may take 100 kB more .*NWBRECON_CACHE_GIGABYTES to more"):
        fetch(spec)
    monkeypatch.delenv("NWBRECON_CACHE_GIGABYTES")
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=int(2e9)))
    with pytest.raises(SourceError, match=r"the disk of .* has 2 GB free\. Make room"):
        fetch(spec)
    assert archive.sent() == 0


def test_a_cache_that_cannot_be_written_to_is_said(spec, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NWBRECON_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match=r"could not be written to \(Not a directory\)\. Set NWBRECON_CACHE"):
        fetch(spec)


def test_fetched_files_do_not_count_as_blocks_to_evict(archive, spec, content, monkeypatch):
    monkeypatch.setenv("NWBRECON_CACHE_GIGABYTES", str(1.2 * len(content) / 1e9))
    (path,) = fetch(spec)
    url = archive.add_file("other.nwb", content)
    (file,) = resolve(url).open()
    file.close()
    assert path.exists()


def test_local_files_are_where_they_are(nwb_path):
    assert fetch(nwb_path) == [nwb_path]
    with nwb_path.open("rb") as file, pytest.raises(SourceError, match="not something"):
        fetch(file)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["link", "storage"])
def test_a_file_from_elsewhere_reads_no_other_file_of_this_computer(archive, nwb_path, tmp_path, kind, whole):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = [3.0, 4.0]
    with h5py.File(nwb_path, "a") as file:
        attributes = dict(file["acquisition/a/data"].attrs)
        del file["acquisition/a/data"]
        if kind == "link":
            file["acquisition/a/data"] = h5py.ExternalLink(secret, "data")
        else:
            file.create_dataset("acquisition/a/data", (2,), "f8", external=[(secret, 0, 16)])
            file["acquisition/a/data"].attrs.update(attributes)
    url = archive.add_file("mouse.nwb", nwb_path.read_bytes())
    if whole:
        fetch(url)
    with pytest.raises(SourceError, match=r"refers to another file \(acquisition/a/data -> .*secret\.h5\)"):
        resolve(url).open()
