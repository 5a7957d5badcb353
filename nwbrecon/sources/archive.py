"""NWB files in a DANDI archive, by way of the `dandi` client."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from nwbrecon.errors import SourceError
from nwbrecon.sources.beside import places_beside
from nwbrecon.sources.cache import CacheEntry, default_cache
from nwbrecon.sources.choice import Listed, choose_session, is_nwb, label_of, list_sessions
from nwbrecon.sources.model import ListedSession, Source
from nwbrecon.sources.remote import RemoteContent, RemoteFile, from_cache, zarr_elsewhere
from nwbrecon.sources.transfer import HttpBytes, PatientAdapter, UnreachableError

if TYPE_CHECKING:
    import pandas as pd
    from dandi.dandiapi import DandiAPIClient, RemoteAsset, RemoteDandiset

__all__ = ["DandiFile", "DandiSpec", "dandi_sessions", "dandi_source", "list_assets", "parse_dandi"]

_VERSION = r"draft|\d+\.\d+\.\d+"


@dataclass(frozen=True)
class DandiSpec:
    """What a user named of an archive.

    Attributes
    ----------
    dandiset
        Six digits.
    version
        ``draft`` or a published version; ``None`` is the latest published, or else the draft.
    path
        A file, a folder, or a pattern with ``*``; empty for all.
    instance
        Name or URL of the archive; ``None`` where it was not named.
    """

    dandiset: str
    version: str | None = None
    path: str = ""
    instance: str | None = None

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return f"dandi:{self.dandiset}{version}" + (f"/{self.path}" if self.path else "")


@dataclass
class DandiFile(RemoteFile):
    """An NWB asset of a dandiset.

    Attributes
    ----------
    spec
        Dandiset, version and path.
    asset
        What the client knows of it.
    """

    spec: DandiSpec
    asset: RemoteAsset = field(repr=False)

    @property
    def location(self) -> str:
        """Such as ``dandi:000402@0.230307.2132/sub-17797/….nwb``."""
        return str(self.spec)

    def describe(self) -> RemoteContent:
        """Ask the archive for the asset's digests."""
        from dandi.dandiapi import BaseRemoteBlobAsset

        if not isinstance(self.asset, BaseRemoteBlobAsset):
            raise zarr_elsewhere(self.location)
        client = self.asset.client
        with _talking(self.location, client):
            metadata = self.asset.get_raw_metadata()
        digests = {name.removeprefix("dandi:"): value for name, value in metadata.get("digest", {}).items()}
        token = client.session.headers.get("Authorization")
        source = HttpBytes(
            self.asset.base_download_url,
            self.location,
            headers={"Authorization": str(token)} if token else {},
            advice=_access_advice(client),
            size=self.asset.size,
        )
        identity = {
            "location": self.location,
            "dandiset": self.spec.dandiset,
            "version": self.spec.version,
            "path": self.spec.path,
            "asset_id": self.asset.identifier,
            "digest": digests.get("sha2-256"),
            "etag": digests.get("dandi-etag"),
            "dandi_instance": client.api_url,
        }
        # a blob never changes, while an asset's id does with every edit of its metadata
        return RemoteContent(self.location, self.asset.size, self.asset.blob, source.read, digests, identity)

    def beside(self, path: str) -> DandiFile | None:
        """Find another asset of the same version by its path relative to the folder of this one."""
        own = PurePosixPath(self.spec.path)
        with _talking(self.location, self.asset.client):
            dandiset = self.asset.client.get_dandiset(self.spec.dandiset, self.spec.version)
            for place in places_beside(path, own.name):
                wanted = str(own.parent / place)
                for asset in dandiset.get_assets_with_path_prefix(wanted):
                    if asset.path == wanted:
                        return DandiFile(replace(self.spec, path=wanted), asset)
        return None


@dataclass
class CachedDandiFile(RemoteFile):
    """An NWB asset of which the cache holds something, while its archive does not answer."""

    known: RemoteContent

    @property
    def location(self) -> str:
        """Where it is."""
        return self.known.location

    def describe(self) -> RemoteContent:
        """Give what the cache knows."""
        return self.known


def parse_dandi(text: str) -> DandiSpec | None:
    """Understand what names a dandiset or part of one, or return ``None`` where the text is something else.

    Raises
    ------
    SourceError
        If it begins as the name of a dandiset does, but does not go on as one.

    Examples
    --------
    >>> parse_dandi("000402")
    DandiSpec(dandiset='000402', version=None, path='', instance=None)
    >>> parse_dandi("dandi:000402@draft/sub-17797").path
    'sub-17797'
    >>> parse_dandi("DANDI:000402/0.230307.2132").version
    '0.230307.2132'
    >>> parse_dandi("dandi://ember-dandi/000402/sub-17797").instance
    'ember-dandi'
    >>> parse_dandi("https://dandiarchive.org/dandiset/000402/draft/files?location=sub-17797")
    DandiSpec(dandiset='000402', version='draft', path='sub-17797', instance='https://dandiarchive.org')
    """
    if re.fullmatch(r"\d{6}", text):
        return DandiSpec(text)
    page = re.match(rf"(https?://[^/]+)/(?:#/)?dandiset/(\d{{6}})(?:/({_VERSION}))?(?:/files)?/?(?:\?|$)", text)
    if page:
        folder = parse_qs(urlsplit(text).query).get("location", [""])[0]
        return DandiSpec(page[2], page[3], unquote(folder).strip("/"), page[1])
    if not text.lower().startswith("dandi:"):
        return None
    named = re.fullmatch(rf"dandi:(?://([^/]+)/)?(\d{{6}})(?:@([^/]+)|/({_VERSION}))?(?:/+(.*))?", text, re.IGNORECASE)
    if named is None:
        raise SourceError(
            f"{text} does not name a dandiset.",
            "dandi:ID, dandi:ID/PATH or dandi:ID@VERSION/PATH was expected, with an ID of six digits.",
            "For example dandi:000402 or dandi:000402@draft/sub-17797.",
        )
    return DandiSpec(named[2], named[3] or named[4], named[5] or "", named[1])


def dandi_source(spec: DandiSpec, dandi_instance: str | None = None) -> Source:
    """Find the one session in a dandiset that a spec names.

    Parameters
    ----------
    spec
        What the user named.
    dandi_instance
        Name or API URL of the archive, where the spec does not name it; the environment variable ``DANDI_INSTANCE``, or
        else the DANDI archive, by default.

    Raises
    ------
    SourceError
        If there is nothing of that name, several sessions fit, access is refused, or the archive does not answer and
        the cache holds nothing that fits.
    """
    where, found, notes = _find(spec, dandi_instance)
    chosen, more = choose_session(list(found), where)
    return _source(found, chosen, [*more, *notes])


def dandi_sessions(spec: DandiSpec, dandi_instance: str | None = None) -> list[ListedSession]:
    """List the sessions in a dandiset that a spec names, in order of their names.

    Raises
    ------
    SourceError
        If there is nothing of that name, access is refused, or the archive does not answer and the cache holds nothing
        that fits.
    """
    where, found, notes = _find(spec, dandi_instance)
    return list_sessions(list(found), where, lambda chosen, more: _source(found, chosen, [*more, *notes]))


def _find(
    spec: DandiSpec, dandi_instance: str | None
) -> tuple[str, dict[Listed, DandiFile | CachedDandiFile], list[str]]:
    """Give what was named, its version filled in; the files that fit; and what to say of it, in sentences."""
    client = _client(spec.instance or dandi_instance)
    try:
        dandiset, version = _dandiset(client, spec)
        assets = {asset.path: asset for asset in _matching(dandiset, version)}
    except UnreachableError as failure:
        known = _known(client, spec, failure)
        return str(spec), known, []
    if not assets:
        raise _nothing(dandiset, version)
    notes = []
    if spec.version is None and version.version == "draft":
        notes.append(f"Dandiset {spec.dandiset} has no published version; its draft is used, which may still change.")
    found: dict[Listed, DandiFile | CachedDandiFile] = {
        Listed(path, asset.size): DandiFile(replace(version, path=path), asset) for path, asset in assets.items()
    }
    return str(version), found, notes


def _source(found: Mapping[Listed, DandiFile | CachedDandiFile], chosen: list[Listed], notes: list[str]) -> Source:
    files = tuple(found[file] for file in chosen)
    return Source(", ".join(file.location for file in files), files, tuple(notes))


def list_assets(spec: str, *, dandi_instance: str | None = None) -> pd.DataFrame:
    """List the NWB files of a dandiset.

    Parameters
    ----------
    spec
        ``dandi:ID[@VERSION][/PATH]`` or an ID of six digits; the path may be a folder or a pattern with ``*``.
    dandi_instance
        Name or API URL of the archive.

    Returns
    -------
    pandas.DataFrame
        One row a file, with the columns ``subject``, ``session``, ``path``, ``size`` (bytes) and ``asset_id``.
        ``attrs`` holds ``dandiset`` and ``version``.

    Raises
    ------
    SourceError
        If there is no such dandiset or version, access is refused, or the archive does not answer.
    """
    import pandas as pd

    parsed = parse_dandi(spec)
    if parsed is None:
        raise SourceError(f"{spec} does not name a dandiset.", "dandi:ID or an ID of six digits was expected.")
    dandiset, version = _dandiset(_client(parsed.instance or dandi_instance), parsed)
    rows = [
        (label_of(asset.path, "sub"), label_of(asset.path, "ses"), asset.path, asset.size, asset.identifier)
        for asset in _matching(dandiset, version)
    ]
    table = pd.DataFrame(rows, columns=["subject", "session", "path", "size", "asset_id"])
    table.attrs = {"dandiset": version.dandiset, "version": version.version}
    return table.sort_values("path", ignore_index=True)


def _client(instance: str | None) -> DandiAPIClient:
    """Make a client without asking anybody anything, and without a prompt for a key."""
    # the client would ask a server for its newest version else, with every run
    os.environ.setdefault("DANDI_NO_ET", "1")
    from dandi.consts import DandiInstance, known_instances, known_instances_rev
    from dandi.dandiapi import DandiAPIClient

    wanted = (instance or os.environ.get("DANDI_INSTANCE") or "dandi").rstrip("/")
    name = known_instances_rev.get(wanted, wanted)
    if name in known_instances:
        chosen = known_instances[name]
    elif re.match(r"https?://[^/]+", wanted):
        chosen = DandiInstance(name=urlsplit(wanted).netloc, gui=None, api=wanted)
    else:
        raise SourceError(
            f"There is no DANDI archive {wanted}.",
            f"Known are {', '.join(known_instances)}.",
            "Name one of them, or give the URL of the archive's API (it ends in /api as a rule).",
        )
    client = DandiAPIClient(dandi_instance=chosen)
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, PatientAdapter())
    key = next((os.environ[variable] for variable in _key_variables(client) if os.environ.get(variable)), None)
    if key:
        client.session.headers["Authorization"] = f"token {key}"
    return client


def _key_variables(client: DandiAPIClient) -> list[str]:
    """Names of the environment variables that may hold the key, the one for the error first."""
    # the client's own name for an archive known by its URL alone has dots and colons, which shells do not export
    return [re.sub(r"\W", "_", client.api_key_env_var), client.api_key_env_var]


def _access_advice(client: DandiAPIClient) -> str:
    variable = _key_variables(client)[0]
    if "Authorization" in client.session.headers:
        return f"The key in {variable} is wrong or its owner may not read this; check it on the archive's web page."
    return f"If it is embargoed, set the environment variable {variable} to your key (on the archive's web page)."


@contextmanager
def _talking(what: str, client: DandiAPIClient) -> Iterator[None]:
    """Turn what the client raises into a `SourceError`, and keep its log off the screen."""
    import requests
    from dandi.exceptions import NotFoundError

    log = logging.getLogger("dandi")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    except NotFoundError as error:
        raise SourceError(
            f"There is no {what} at {client.api_url}.",
            "",
            "Check the ID and the version; an archive other than DANDI itself is named with dandi_instance "
            "(--dandi-instance), as the URL of its API, which ends in /api as a rule.",
        ) from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise SourceError(
                f"{what} may not be read: {client.api_url} answers {status}.", "", _access_advice(client)
            ) from error
        raise SourceError(f"{what} could not be read: {client.api_url} answers {status}.") from error
    except (requests.RequestException, ValueError, KeyError, AssertionError) as error:
        raise SourceError(
            f"{client.api_url} does not answer as the API of a DANDI archive ({type(error).__name__}).",
            "",
            "Check its URL; it ends in /api as a rule.",
        ) from error
    finally:
        log.setLevel(level)


def _dandiset(client: DandiAPIClient, spec: DandiSpec) -> tuple[RemoteDandiset, DandiSpec]:
    """Give the dandiset, and the spec with its version filled in."""
    with _talking(f"dandi:{spec.dandiset}", client):
        dandiset = client.get_dandiset(spec.dandiset, spec.version)
        return dandiset, replace(spec, version=dandiset.version_id)


def _matching(dandiset: RemoteDandiset, spec: DandiSpec) -> list[RemoteAsset]:
    """NWB files that a spec names: the file itself, those in the folder, or those that match the pattern."""
    # servers differ in how they take letter case and patterns, so that they are asked for a prefix only
    prefix = re.split(r"[*?\[]", spec.path)[0]
    with _talking(str(spec), dandiset.client):
        assets = list(dandiset.get_assets_with_path_prefix(prefix) if prefix else dandiset.get_assets())
    return [asset for asset in assets if _fits(asset.path, spec.path)]


def _fits(path: str, wanted: str) -> bool:
    if path == wanted:
        return True
    folder = wanted.strip("/")
    return is_nwb(path) and (not folder or path.startswith(f"{folder}/") or fnmatchcase(path, wanted))


def _nothing(dandiset: RemoteDandiset, spec: DandiSpec) -> SourceError:
    with _talking(str(spec), dandiset.client):
        others = [asset.path for asset in dandiset.get_assets() if is_nwb(asset.path)]
    if not others:
        found = f"dandi:{spec.dandiset}@{spec.version} holds no NWB file."
        return SourceError(found, "", "Try another version, such as @draft." if spec.version != "draft" else "")
    alike = get_close_matches(spec.path, others, n=3, cutoff=0.5) or others[:3]
    more = f" and {len(others) - len(alike)} more" if len(others) > len(alike) else ""
    return SourceError(
        f"dandi:{spec.dandiset}@{spec.version} holds no NWB file {spec.path}.",
        f"It holds {', '.join(alike)}{more}.",
        "Name one of its files or folders, or a pattern such as sub-17797/*"
        + (", or try the draft (@draft)." if spec.version != "draft" else "."),
    )


def _known(
    client: DandiAPIClient, spec: DandiSpec, failure: UnreachableError
) -> dict[Listed, DandiFile | CachedDandiFile]:
    """Find what was read before, while the archive does not answer."""
    known: dict[str, CacheEntry] = {}
    version = spec.version
    for entry in default_cache().entries():
        about = entry.about.get("identity", {})
        if (about.get("dandiset"), about.get("dandi_instance")) != (spec.dandiset, client.api_url):
            continue
        if version in (None, about["version"]) and _fits(about["path"], spec.path):
            version = about["version"]
            known[about["path"]] = entry
    if not known:
        raise failure
    return {Listed(path, entry.size): CachedDandiFile(from_cache(entry, failure)) for path, entry in known.items()}
