import builtins
import logging

import pytest

from nwbrecon.errors import SourceError
from nwbrecon.sources import resolve
from nwbrecon.sources.archive import DandiSpec, list_assets, parse_dandi

PATH = "sub-m1/sub-m1_ses-1_behavior+image+ophys.nwb"


@pytest.fixture(autouse=True)
def _nobody_is_asked(monkeypatch):
    """Neither the user for a key nor a server for the newest client."""

    def asked(*_, **__):
        raise AssertionError("asked")

    import etelemetry

    monkeypatch.delenv("DANDI_NO_ET", raising=False)
    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr("getpass.getpass", asked)
    monkeypatch.setattr(etelemetry, "check_available_version", asked)


@pytest.fixture
def content(nwb_path):
    return nwb_path.read_bytes()


@pytest.fixture
def asset(archive, content):
    return archive.add_asset("000402", PATH, content)


def identity(spec, archive):
    (file,) = resolve(spec, dandi_instance=archive.api).open()
    assert file.nwbfile.acquisition["a"].data[:].tolist() == [1.0, 2.0]
    file.close()
    return file.identity


@pytest.mark.parametrize(
    "spec",
    [
        "000402",
        "dandi:000402",
        "DANDI:000402/0.240101.1200",
        "dandi:000402@0.240101.1200",
        f"dandi:000402/{PATH}",
        "dandi:000402/sub-m1",
        "dandi:000402/sub-m1/",
        "dandi:000402/*ophys.nwb",
        "dandi:000402/sub-??/*ses-1*",
    ],
)
def test_an_asset_is_opened_by_any_of_its_names(archive, asset, spec):
    assert identity(spec, archive) == {
        "location": f"dandi:000402@0.240101.1200/{PATH}",
        "identifier": "id-1",
        "object_id": identity(spec, archive)["object_id"],
        "session_id": "1",
        "session_start_time": "2020-01-02T03:04:05+00:00",
        "dandiset": "000402",
        "version": "0.240101.1200",
        "path": PATH,
        "asset_id": asset.asset_id,
        "digest": asset.digests["dandi:sha2-256"],
        "etag": asset.digests["dandi:dandi-etag"],
        "dandi_instance": archive.api,
    }


def test_the_published_version_comes_first_and_then_the_draft(archive, content):
    archive.add_asset("000001", PATH, content, versions=("draft",))
    archive.add_asset("000001", "sub-m2/sub-m2_ses-1_ophys.nwb", content)
    assert identity("000001", archive)["path"] == "sub-m2/sub-m2_ses-1_ophys.nwb"
    assert identity(f"dandi:000001@draft/{PATH}", archive)["version"] == "draft"
    archive.add_dandiset("000002", versions=("draft",))
    archive.add_asset("000002", PATH, content)
    source = resolve("000002", dandi_instance=archive.api)
    assert source.location == f"dandi:000002@draft/{PATH}"
    assert source.notes == ("Dandiset 000002 has no published version; its draft is used, which may still change.",)
    assert resolve("dandi:000002@draft", dandi_instance=archive.api).notes == ()


def test_the_digest_is_the_archives_and_no_byte_travels_for_it(archive, asset, content):
    source = resolve("dandi:000402", dandi_instance=archive.api)
    assert source.digest() == asset.digests["dandi:sha2-256"]
    assert archive.sent() == 0
    archive.add_asset("000001", PATH, content, digests=("dandi:dandi-etag",))
    assert resolve("000001", dandi_instance=archive.api).digest() is None
    assert identity("000001", archive)["etag"] == archive.dandisets["000001"].assets[0].digests["dandi:dandi-etag"]


def test_the_second_time_only_the_archive_is_asked(archive, asset):
    identity("000402", archive)
    archive.forget()
    identity("000402", archive)
    assert {one.kind for one in archive.asked} == {"api"}
    assert archive.count() == 3


def test_new_metadata_or_another_version_are_no_new_bytes(archive, asset):
    identity("000402", archive)
    asset.asset_id = "0a0b0c0d-0000-4000-8000-000000000000"
    archive.forget()
    identity("dandi:000402@draft", archive)
    assert archive.sent() == 0


def test_several_sessions_are_an_error_that_lists_them(archive, content, asset):
    archive.add_asset("000402", "sub-m2/sub-m2_ses-1_ophys.nwb", content)
    archive.add_asset("000402", "sub-m2/sub-m2_desc-reconstruction_image.nwb", content)
    archive.add_asset("000402", "sub-m2/sub-m2_ses-1_ophys/movie.mp4", content)
    with pytest.raises(SourceError, match=r"holds 2 sessions \(2 files\): sub-m1/sub-m1_ses-1 .*Name one, such as"):
        resolve("000402", dandi_instance=archive.api)
    assert archive.sent() == 0
    assert len(resolve("dandi:000402/sub-m2", dandi_instance=archive.api).files) == 1


def test_the_processed_file_is_taken_and_this_is_said(archive, content, asset):
    archive.add_asset("000402", "sub-m1/sub-m1_ses-1_ophys.nwb", content)
    source = resolve("000402", dandi_instance=archive.api)
    assert source.location.endswith(PATH)
    assert "sub-m1_ses-1_ophys.nwb" in source.notes[0]
    assert resolve("dandi:000402/sub-m1/sub-m1_ses-1_ophys.nwb", dandi_instance=archive.api).notes == ()


def test_planes_of_one_session_are_opened_together(archive, make_nwb, tmp_path):
    for plane in (7, 8):
        content = make_nwb(tmp_path / "a.nwb", session=f"1-acq-{plane}").read_bytes()
        archive.add_asset("000871", f"sub-m1/sub-m1_ses-1-acq-{plane}_image+ophys.nwb", content)
    source = resolve("000871", dandi_instance=archive.api)
    files = source.open()
    assert [file.identity["session_id"] for file in files] == ["1-acq-7", "1-acq-8"]
    assert source.digest() is not None
    for file in files:
        file.close()


def test_large_dandisets_are_read_page_by_page(archive, content):
    for n in range(230):
        archive.add_asset("000728", f"sub-{n:03d}/sub-{n:03d}_ses-1_ophys.nwb", content)
    assert len(list_assets("000728", dandi_instance=archive.api)) == 230
    assert resolve("dandi:000728/sub-229", dandi_instance=archive.api).location.endswith("sub-229_ses-1_ophys.nwb")


def test_assets_are_listed_with_size_and_session(archive, content, asset):
    archive.add_asset("000402", "sub-m0/sub-m0_ses-4-scan-7_ophys.nwb", content[:1000])
    archive.add_asset("000402", "sub-m0/movie.avi", b"avi")
    table = list_assets("dandi:000402", dandi_instance=archive.api)
    assert table.attrs == {"dandiset": "000402", "version": "0.240101.1200"}
    assert table[["subject", "session", "path", "size"]].to_numpy().tolist() == [
        ["m0", "4-scan-7", "sub-m0/sub-m0_ses-4-scan-7_ophys.nwb", 1000],
        ["m1", "1", PATH, len(content)],
    ]
    assert table["asset_id"][1] == asset.asset_id
    assert archive.sent() == 0
    assert len(list_assets("dandi:000402/sub-m1", dandi_instance=archive.api)) == 1
    assert len(list_assets("dandi:000402/sub-m9", dandi_instance=archive.api)) == 0
    with pytest.raises(SourceError, match="does not name a dandiset"):
        list_assets("mouse.nwb")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dandi:000999", r"There is no dandi:000999 at http.*Check the ID"),
        ("dandi:000402@0.999999.1", r"There is no dandi:000402@0.999999.1.* at http"),
        ("dandi:000402@latest", r"There is no dandi:000402@latest"),
        ("dandi:000402/sub-m2", rf"no NWB file sub-m2\. It holds {PATH}\. .*or try the draft"),
        ("dandi:000402/SUB-M1", r"no NWB file SUB-M1"),
        ("dandi:000402/sub-m", r"no NWB file sub-m\."),
        ("dandi:000003", r"holds no NWB file\. Try another version"),
        ("dandi:402", r"does not name a dandiset.*six digits"),
        ("dandi:", r"does not name a dandiset"),
    ],
)
def test_what_is_not_there_is_said_not_to_be(archive, asset, spec, words):
    archive.add_dandiset("000003")
    with pytest.raises(SourceError, match=words.replace("+", r"\+")):
        resolve(spec, dandi_instance=archive.api)


class TestEmbargo:
    @pytest.fixture
    def embargoed(self, archive, content):
        archive.add_dandiset("000007", embargoed=True)
        return archive.add_asset("000007", PATH, content)

    def variable(self, archive):
        return f"127_0_0_1_{archive.root.rpartition(':')[2]}_API_KEY"

    def test_without_a_key_it_says_which_variable_to_set(self, archive, embargoed, monkeypatch):
        # the key to another archive is not sent to this one
        monkeypatch.setenv("DANDI_API_KEY", archive.key)
        with pytest.raises(
            SourceError, match=rf"may not be read.*401.* set the environment variable {self.variable(archive)}"
        ):
            resolve("000007", dandi_instance=archive.api)
        assert not any("Authorization" in one.headers for one in archive.asked)

    def test_with_the_key_it_is_read(self, archive, embargoed, monkeypatch):
        monkeypatch.setenv(self.variable(archive), archive.key)
        assert identity("000007", archive)["asset_id"] == embargoed.asset_id
        assert all("Authorization" in one.headers for one in archive.asked if one.kind in ("api", "link"))

    def test_a_wrong_key_is_said_to_be_wrong(self, archive, embargoed, monkeypatch):
        monkeypatch.setenv(self.variable(archive), "old key")
        with pytest.raises(SourceError, match=rf"The key in {self.variable(archive)} is wrong") as caught:
            resolve("000007", dandi_instance=archive.api)
        assert "old key" not in str(caught.value)

    def test_a_key_that_is_withdrawn_meanwhile_is_said_to_be_wrong(self, archive, embargoed, monkeypatch):
        monkeypatch.setenv(self.variable(archive), archive.key)
        source = resolve("000007", dandi_instance=archive.api)
        _ = source.files[0].content
        archive.key = "new key"
        with pytest.raises(SourceError, match=r"may not be read: the server answers 401.*The key in"):
            # the download of the test archive needs the key as the list does
            archive.fail("link", 401)
            source.open()

    def test_the_clients_own_name_of_the_variable_works_too(self, archive, embargoed, monkeypatch):
        monkeypatch.setenv(f"{archive.root.removeprefix('http://')}_API_KEY", archive.key)
        assert identity("000007", archive)["dandiset"] == "000007"


class TestInstances:
    def test_the_environment_names_one(self, archive, asset, monkeypatch):
        monkeypatch.setenv("DANDI_INSTANCE", archive.api + "/")
        assert resolve("000402").location == f"dandi:000402@0.240101.1200/{PATH}"

    def test_known_names_are_known(self, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "requests.Session.request",
            lambda _, method, url, **__: seen.append(url) or (_ for _ in ()).throw(SourceError(".")),
        )
        for instance in (None, "ember-dandi", "https://dandiarchive.org", "https://api.sandbox.dandiarchive.org/api/"):
            with pytest.raises(SourceError):
                resolve("dandi:000402", dandi_instance=instance)
        with pytest.raises(SourceError):
            resolve("https://lincbrain.org/dandiset/000402/draft/files?location=sub-1")
        assert [url.split("/dandisets")[0] for url in seen] == [
            "https://api.dandiarchive.org/api",
            "https://api-dandi.emberarchive.org/api",
            "https://api.dandiarchive.org/api",
            "https://api.sandbox.dandiarchive.org/api",
            "https://api.lincbrain.org/api",
        ]

    def test_unknown_names_are_refused(self):
        with pytest.raises(SourceError, match=r"no DANDI archive elsewhere\. Known are dandi, .*ends in /api"):
            resolve("dandi:000402", dandi_instance="elsewhere")

    @pytest.mark.parametrize("path", ["", "/files", "/api/info"])
    def test_a_url_that_is_no_archive_is_refused(self, archive, asset, path):
        with pytest.raises(SourceError, match="/api as a rule"):
            resolve("dandi:000402", dandi_instance=archive.root + path)

    def test_an_archive_that_answers_nonsense_is_refused(self, archive, asset, monkeypatch):
        monkeypatch.setattr("dandi_server._Handler.api", lambda self, _: self.send(200, b"<html>welcome</html>"))
        with pytest.raises(SourceError, match="does not answer as the API of a DANDI archive"):
            resolve("dandi:000402", dandi_instance=archive.api)


class TestOffline:
    def test_the_cache_serves_alone_and_says_so(self, archive, asset, no_waiting):
        known = identity("000402", archive)
        archive.stop()
        for spec in ("000402", f"dandi:000402/{PATH}", "dandi:000402@0.240101.1200", "dandi:000402/sub-m1/*"):
            source = resolve(spec, dandi_instance=archive.api)
            (file,) = source.open()
            assert file.nwbfile.acquisition["a"].data[:].tolist() == [1.0, 2.0]
            assert file.identity == known
            assert "read from the cache: its server does not answer" in file.notes[0]
            assert source.digest() == asset.digests["dandi:sha2-256"]
            file.close()
        archive.start()

    @pytest.mark.parametrize("spec", ["000001", "dandi:000402@draft", "dandi:000402/sub-m2"])
    def test_what_the_cache_does_not_hold_is_an_error(self, archive, asset, no_waiting, spec):
        identity("000402", archive)
        archive.stop()
        with pytest.raises(SourceError, match=r"no answer from the server \(Connection refused\) \(tried 4 times"):
            resolve(spec, dandi_instance=archive.api)
        archive.start()

    def test_another_archives_files_are_not_taken_for_its_own(self, archive, asset, no_waiting):
        identity("000402", archive)
        archive.stop()
        with pytest.raises(SourceError, match="could not be read"):
            resolve("000402", dandi_instance="http://127.0.0.1:9/api")
        archive.start()

    def test_an_archive_that_is_overloaded_is_waited_for(self, archive, asset, no_waiting):
        archive.fail("api", 503, times=3, Retry_After="7")
        assert identity("000402", archive)["dandiset"] == "000402"
        assert no_waiting == [7, 7, 7]


def test_the_clients_log_stays_off_the_screen(archive, asset, caplog):
    caplog.set_level(logging.DEBUG, "dandi")
    with pytest.raises(SourceError):
        resolve("dandi:000999", dandi_instance=archive.api)
    assert [record for record in caplog.records if record.name.startswith("dandi")] == []
    assert logging.getLogger("dandi").level == logging.DEBUG


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("dandi:000402@draft", DandiSpec("000402", "draft")),
        ("dandi:000402@0.1.2/a/b.nwb", DandiSpec("000402", "0.1.2", "a/b.nwb")),
        ("dandi:000402/draft/a.nwb", DandiSpec("000402", "draft", "a.nwb")),
        ("dandi:000402//a.nwb", DandiSpec("000402", None, "a.nwb")),
        ("dandi://dandi/000402@draft/a.nwb", DandiSpec("000402", "draft", "a.nwb", "dandi")),
        ("https://dandiarchive.org/dandiset/000402", DandiSpec("000402", None, "", "https://dandiarchive.org")),
        (
            "https://dandiarchive.org/dandiset/000402/0.1.2/files?location=sub-1%2Fa&page=1",
            DandiSpec("000402", "0.1.2", "sub-1/a", "https://dandiarchive.org"),
        ),
        ("https://api.dandiarchive.org/api/assets/x/download/", None),
        ("mouse.nwb", None),
        ("0004021", None),
    ],
)
def test_names_of_dandisets_are_understood(text, spec):
    assert parse_dandi(text) == spec
    if spec is not None and spec.instance is None:
        assert parse_dandi(str(spec)) == spec


def test_zarr_stores_are_refused_by_name(archive, monkeypatch):
    archive.add_asset("000402", "sub-m1/sub-m1_ses-1_ophys.nwb.zarr", b"")
    monkeypatch.setattr(
        "dandi_server._Handler.listed",
        lambda _, asset: {"asset_id": asset.asset_id, "zarr": asset.blob, "blob": None, "path": asset.path, "size": 5,
                          "created": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z"},
    )  # fmt: skip
    with pytest.raises(SourceError, match="is a Zarr store"):
        resolve("000402", dandi_instance=archive.api).open()
