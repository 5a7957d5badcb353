"""NWB files at a URL."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from nwbrecon.errors import SourceError
from nwbrecon.sources.beside import places_beside
from nwbrecon.sources.cache import default_cache
from nwbrecon.sources.remote import RemoteContent, RemoteFile, from_cache, zarr_elsewhere
from nwbrecon.sources.transfer import (
    ByteReader,
    FailurePasses,
    HttpBytes,
    Probe,
    UnreachableError,
    patiently,
    stable_url,
)

__all__ = ["FsspecBytes", "Transport", "UrlFile"]

Transport = Literal["requests", "fsspec"]


@dataclass
class UrlFile(RemoteFile):
    """An NWB file at a URL.

    Attributes
    ----------
    url
        ``https://`` and ``http://``; with fsspec whatever it has a file system for, such as ``s3://``.
    transport
        What transfers the bytes. URLs that are not HTTP go through fsspec in any case.
    """

    url: str = field(repr=False)
    transport: Transport = "requests"

    @property
    def location(self) -> str:
        """The URL without user, password and signature."""
        return stable_url(self.url)

    def describe(self) -> RemoteContent:
        """Ask for size and validator; where the server does not answer, take what the cache holds of the URL."""
        if self.location.rstrip("/").endswith(".zarr"):
            raise zarr_elsewhere(self.location)
        source = self._bytes()
        try:
            probe = source.probe()
        except UnreachableError as failure:
            known = (entry for entry in default_cache().entries() if entry.location == self.location)
            if (entry := next(known, None)) is None:
                raise
            return from_cache(entry, failure)
        if probe.validator is None:
            note = f"{self.location} is not kept in the cache: its server gives neither ETag nor Last-Modified."
            return RemoteContent(self.location, probe.size, None, source.read, notes=(note,))
        return RemoteContent(self.location, probe.size, f"{self.location} {probe.size} {probe.validator}", source.read)

    def beside(self, path: str) -> UrlFile | None:
        """Find another file of the same server by its path relative to the folder of this one."""
        own = urlsplit(self.location)
        for place in places_beside(path, unquote(PurePosixPath(own.path).name)):
            folder, _, _ = own.path.rpartition("/")
            other = UrlFile(
                urlunsplit((own.scheme, own.netloc, f"{folder}/{quote(str(place))}", "", "")), self.transport
            )
            with suppress(SourceError):
                return other if other.content else None
        return None

    def _bytes(self) -> ByteReader:
        if self.transport == "requests" and self.url.lower().startswith(("http://", "https://")):
            return HttpBytes(self.url, self.location)
        return FsspecBytes(self.url, self.location)


class FsspecBytes:
    """Ranges of one file through fsspec.

    Parameters
    ----------
    url
        In any scheme that an installed file system serves.
    location
        What to call it in errors.

    Raises
    ------
    SourceError
        If fsspec, or what it needs for the scheme, is not installed.
    """

    def __init__(self, url: str, location: str) -> None:
        try:
            import fsspec

            self._files, self._path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            scheme = url.partition("://")[0]
            raise SourceError(
                f"{location} cannot be read through fsspec ({error}).",
                "http://, https:// and what an installed file system of fsspec serves can be read.",
                f"Install what serves {scheme}://, for example `pip install s3fs` for s3://.",
            ) from error
        self._location = location

    def probe(self) -> Probe:
        """Ask for size and validator."""
        info = patiently(lambda: self._call("info", self._path), self._location)
        marks = (info.get(name) for name in ("ETag", "etag", "LastModified", "mtime"))
        mark = next((str(mark) for mark in marks if mark), None)
        if not info.get("size"):
            raise SourceError(f"{self._location} is empty, or its size is not known.", "An NWB file was expected.")
        return Probe(int(info["size"]), mark)

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` to before ``stop``."""
        return patiently(lambda: self._read(start, stop), self._location)

    def _read(self, start: int, stop: int) -> bytes:
        data = self._call("cat_file", self._path, start=start, end=stop)
        if len(data) != stop - start:
            raise FailurePasses(f"{len(data)} bytes came in place of {stop - start}")
        return bytes(data)

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        try:
            return getattr(self._files, method)(*args, **options)
        except FileNotFoundError as error:
            # what is raised for whatever goes wrong when a size is asked for over HTTP, with the reason behind it
            if error.__cause__ is not None and not isinstance(error.__cause__, FileNotFoundError):
                raise FailurePasses(f"{type(error.__cause__).__name__}: {error.__cause__}") from error
            raise SourceError(f"There is no {self._location} ({error}).", "", "Check it.") from error
        except PermissionError as error:
            raise SourceError(f"{self._location} may not be read ({error}).") from error
        except Exception as error:
            # file systems of fsspec raise whatever the libraries beneath them raise
            raise FailurePasses(f"{type(error).__name__}: {error}") from error
