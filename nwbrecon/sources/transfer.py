"""Bytes over HTTP: only the range that is asked for, with patience where a failure passes and links renewed.

The library for this is `remfile`. What is needed beside what it does (time limits, ``Retry-After``, a link renewed in
the middle of a read, a server that ignores ranges refused before it sends the whole file, no request at all where the
cache has everything) lies in its private parts; ``benchmarks/streaming.py`` compares the two.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from nwbrecon.errors import SourceError

__all__ = [
    "ByteReader",
    "FailurePasses",
    "HttpBytes",
    "PatientAdapter",
    "Probe",
    "UnreachableError",
    "patiently",
    "stable_url",
]

READ_ATTEMPTS = 7
"""Attempts at a range in the middle of a file: half a minute of waiting in all, for a network that comes back."""
CONTACT_ATTEMPTS = 4
"""Attempts at the first contact with a server: some seconds, after which the cache may serve alone."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
TIMEOUT = (10.0, 60.0)
"""Seconds for a connection to be made, and for the next bytes to come."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# what a signature adds to a link; it says who may read until when, not what is read
_SIGNATURE = re.compile(
    r"(x-(amz|goog|oss)-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id|"
    r"se|sig|sip|sp|spr|sr|srt|ss|st|sv|sk(oid|tid|t|e|s|v)|(access_?)?token)",
    re.IGNORECASE,
)
_logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class UnreachableError(SourceError):
    """The server did not answer, or not usefully, for as long as was waited."""


class FailurePasses(Exception):
    """A failure that may be gone at the next attempt.

    Parameters
    ----------
    reason
        What happened, as part of a sentence.
    wait
        Seconds that the server asks to wait, where it does.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        self.reason, self.wait = reason, wait
        super().__init__(reason)


@dataclass(frozen=True)
class Probe:
    """What a server says of a file before any of it travels.

    Attributes
    ----------
    size
        Bytes.
    validator
        ``ETag``, or else ``Last-Modified``: changes where the content does. ``None`` where the server gives neither.
    """

    size: int
    validator: str | None


class ByteReader(Protocol):
    """Something that can tell the size of a remote file and read parts of it."""

    def probe(self) -> Probe:
        """Ask for size and validator."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` to before ``stop``."""
        ...


def patiently(attempt: Callable[[], Result], what: str, attempts: int = READ_ATTEMPTS) -> Result:
    """Call ``attempt`` until it does not raise `FailurePasses`, waiting longer each time.

    The wait doubles from half a second up to a minute, with jitter, and is at least as long as the server asks for.

    Parameters
    ----------
    attempt
        What is to be done.
    what
        What is being read, for the errors.
    attempts
        How often, at most.

    Raises
    ------
    UnreachableError
        If the last attempt fails too, or the server asks for more than a minute. It says what was tried.
    """
    began, wait = time.monotonic(), FIRST_WAIT
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except FailurePasses as failure:
            asked = failure.wait or 0.0
            if number == attempts or asked > LONGEST_WAIT:
                tried = f"tried {number} times in {time.monotonic() - began:.0f} s" if number > 1 else "tried once"
                raise UnreachableError(
                    f"{what} could not be read: {failure.reason} ({tried}).",
                    f"The server asks to come back in {asked:.0f} s." if asked > LONGEST_WAIT else "",
                    "Check the connection and start again; what has arrived is in the cache and not transferred twice.",
                ) from failure.__cause__
            pause = max(wait * random.uniform(0.5, 1.0), asked)
            _logger.warning("%s: %s; trying again in %.1f s", what, failure.reason, pause)
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)
    raise AssertionError("attempts must be at least 1")


@dataclass
class HttpBytes:
    """Ranges of one file on an HTTP server.

    Redirects are followed once and remembered. Where the remembered address refuses (a signed link has expired), the
    first address is asked again.

    Attributes
    ----------
    url
        Where to ask first.
    location
        What to call it in errors; shows no signature.
    headers
        Sent to `url` only, never to where it redirects.
    advice
        What to do where access is refused.
    size, validator
        What is known already; every answer must agree with it.
    """

    url: str = field(repr=False)
    location: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    advice: str = "If the link was signed, it has expired: make a new one. Embargoed files are opened as dandi:ID/PATH."
    size: int | None = None
    validator: str | None = None
    _direct: str | None = field(default=None, init=False, repr=False)
    _session: requests.Session = field(default_factory=requests.Session, init=False, repr=False)

    def probe(self) -> Probe:
        """Ask for size and validator, by a HEAD or, where that is refused, one byte.

        Raises
        ------
        UnreachableError
            If the server does not answer.
        SourceError
            If it refuses, has no such file, or the file is empty.
        """
        probe = patiently(self._probe, self.location, CONTACT_ATTEMPTS)
        if probe.size == 0:
            raise SourceError(f"{self.location} is empty (0 bytes).", "An NWB file was expected.")
        self.size, self.validator = probe.size, probe.validator
        return probe

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` to before ``stop``.

        Raises
        ------
        UnreachableError
            If they do not arrive however often they are asked for.
        SourceError
            If the server refuses, has no such file, cannot send parts of files, or the file is no longer the same.
        """
        return patiently(lambda: self._read(start, stop), self.location)

    def _probe(self) -> Probe:
        with self._send("HEAD", self.url, self.headers) as response:
            _raise_if_passing(response)
            # nothing, but the connection can be used again once it is read
            _ = response.content
            length = response.headers.get("Content-Length", "")
            if response.status_code == 200 and length.isdecimal():
                return Probe(int(length), _validator(response))
        # links that are signed for GET refuse HEAD, and some servers do not know it
        with self._get(0, 1) as response:
            if response.status_code == 416:
                return Probe(0, None)
            self._check(response, 0, 1)
            return Probe(_total(response), _validator(response))

    def _read(self, start: int, stop: int) -> bytes:
        with self._get(start, stop) as response:
            self._check(response, start, stop)
            try:
                # no more than was asked for, whatever the server sends
                data = response.raw.read(stop - start, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise FailurePasses(f"the connection broke off ({_innermost(error)})") from error
            if len(data) != stop - start:
                raise FailurePasses(f"{len(data)} bytes came in place of {stop - start}")
            self._direct = response.url if response.history or self._direct else None
            return data

    def _get(self, start: int, stop: int) -> requests.Response:
        asked = {"Range": f"bytes={start}-{stop - 1}"}
        if self._direct is not None:
            response = self._send("GET", self._direct, asked)
            if response.status_code not in (400, 401, 403, 404, 410):
                return response
            response.close()
            self._direct = None
        return self._send("GET", self.url, {**asked, **self.headers})

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        # a compressed transfer would count its ranges in compressed bytes
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            return self._session.request(
                method, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=True
            )
        except requests.RequestException as error:
            raise _failure(self.location, error) from error

    def _check(self, response: requests.Response, start: int, stop: int) -> None:
        _raise_if_passing(response)
        if response.status_code in (401, 403):
            raise SourceError(
                f"{self.location} may not be read: the server answers {_answer(response)}.", "", self.advice
            )
        if response.status_code in (404, 410):
            raise SourceError(f"There is no {self.location}: the server answers {_answer(response)}.", "", "Check it.")
        if response.status_code == 200:
            raise SourceError(
                f"The server of {self.location} does not send parts of files, only whole ones.",
                "To read a file where it is, its server must answer range requests.",
                "Download the file and give its path.",
            )
        if response.status_code == 416:
            raise self._changed()
        if response.status_code != 206:
            raise SourceError(f"{self.location} cannot be read: the server answers {_answer(response)}.")
        given = _range(response)
        if given is None or given[:2] != (start, stop):
            raise FailurePasses(f"the server sent {response.headers.get('Content-Range')!r} for {start}-{stop - 1}")
        validator = _validator(response)
        if self.size not in (None, given[2]) or (self.validator or validator) != (validator or self.validator):
            raise self._changed()
        self.validator = self.validator or validator

    def _changed(self) -> SourceError:
        return SourceError(
            f"{self.location} is no longer the file that it was when it was opened.", "", "Open it again."
        )


class PatientAdapter(HTTPAdapter):
    """For a client of its own, such as that of an archive: time limits, and patience with failures that pass."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send, again if need be; an answer that says "later" to the end is an `UnreachableError`."""
        what = stable_url(str(request.url))

        def attempt() -> requests.Response:
            try:
                response = super(PatientAdapter, self).send(request, stream, timeout or TIMEOUT, verify, cert, proxies)
                _raise_if_passing(response)
                if not stream:
                    _ = response.content
            except requests.RequestException as error:
                raise _failure(what, error) from error
            return response

        return patiently(attempt, what, CONTACT_ATTEMPTS)


def stable_url(url: str) -> str:
    """Leave out what does not say which file it is: user and password, signature, fragment.

    Examples
    --------
    >>> stable_url("https://me:secret@lab.org/mouse.nwb?version=2&X-Amz-Expires=60&X-Amz-Signature=a1#top")
    'https://lab.org/mouse.nwb?version=2'
    """
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, True) if not _SIGNATURE.fullmatch(name)]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(query), ""))


def _failure(what: str, error: requests.RequestException) -> Exception:
    if isinstance(error, requests.exceptions.SSLError):
        return SourceError(
            f"{what} cannot be read safely: {_innermost(error)}.",
            "A certificate that this computer trusts was expected.",
            "Check the address and the clock of this computer, or ask who runs the server or the network.",
        )
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
    )
    if isinstance(error, passing):
        return FailurePasses(f"no answer from the server ({_innermost(error)})")
    return SourceError(f"{what} cannot be read ({error}).", "", "Check the address.")


def _innermost(error: BaseException) -> str:
    """Words of the error at the bottom, without the objects that requests and urllib3 wrap around it."""
    while True:
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        below = next((one for one in inner if isinstance(one, BaseException)), None)
        if below is None:
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
        error = below


def _raise_if_passing(response: requests.Response) -> None:
    if response.status_code in _PASSING:
        response.close()
        raise FailurePasses(f"the server answers {_answer(response)}", _retry_after(response))


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    if text.strip().isdigit():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _answer(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason}".strip()


def _validator(response: requests.Response) -> str | None:
    mark = response.headers.get("ETag", "").removeprefix("W/").strip('"')
    return mark or response.headers.get("Last-Modified")


def _range(response: requests.Response) -> tuple[int, int, int] | None:
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip())
    return None if found is None else (int(found[1]), int(found[2]) + 1, int(found[3]))


def _total(response: requests.Response) -> int:
    given = _range(response)
    assert given is not None, "checked before"
    return given[2]
