"""A DANDI archive on loopback: answers as the archive's API does, and as the object store behind it.

The shapes of its answers are those in ``tests/data/dandi_api``, which are an archive's own. It counts requests and
bytes, and fails on demand.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

ANSWERS = Path(__file__).parent / "data" / "dandi_api"
PUBLISHED = "0.240101.1200"


def answer(name):
    return json.loads((ANSWERS / f"{name}.json").read_text())


@dataclass
class Asset:
    path: str
    content: bytes | Path
    versions: tuple[str, ...]
    digests: dict[str, str]
    asset_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    blob: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def size(self):
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def read(self, start, stop):
        if isinstance(self.content, bytes):
            return self.content[start:stop]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@dataclass
class Dandiset:
    identifier: str
    versions: tuple[str, ...] = (PUBLISHED, "draft")
    embargoed: bool = False
    assets: list[Asset] = field(default_factory=list)


@dataclass
class Asked:
    """One request: ``kind`` is ``api``, ``link`` (where a download redirects), ``blob`` or ``file``."""

    kind: str
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    kind: str
    times: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None


class DandiServer:
    """Use as a context manager; ``stop()`` and ``start()`` on the same port play a server that is away for a time."""

    def __init__(self, latency=0.0):
        self.latency = latency
        self.dandisets = {}
        self.files = {}
        self.key = "secret-key"
        self.ranges = True
        self.head = True
        self.validators = True
        self.headers = {}
        self.head_length = None
        self.asked = []
        self.connections = 0
        self.faults = []
        self._links = 0
        self._oldest_link = 0
        self._port = 0
        self._server = None

    def start(self):
        archive = self

        class Handler(_Handler):
            server_archive = archive

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        # connections that are kept alive have threads of their own, which would go on serving
        for connection in list(_Handler.open_connections.get(self._port, ())):
            connection.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    @property
    def root(self):
        return f"http://127.0.0.1:{self._port}"

    @property
    def api(self):
        return f"{self.root}/api"

    def add_dandiset(self, identifier, **options):
        self.dandisets[identifier] = Dandiset(identifier, **options)
        return self.dandisets[identifier]

    def add_asset(self, identifier, path, content, versions=None, digests=("dandi:dandi-etag", "dandi:sha2-256")):
        dandiset = self.dandisets.get(identifier) or self.add_dandiset(identifier)
        known = {name: _DIGESTS[name](content) for name in digests}
        asset = Asset(path, content, versions or dandiset.versions, known)
        dandiset.assets.append(asset)
        return asset

    def add_file(self, name, content):
        """Serve a file by itself, outside the archive; returns its URL."""
        self.files[name] = Asset(name, content, (), {})
        return f"{self.root}/files/{name}"

    def fail(self, kind, status, times=1, **headers):
        self.faults.append(Fault(kind, times, status, {name.replace("_", "-"): text for name, text in headers.items()}))

    def cut(self, kind, after, times=1):
        """Break the connection after so many bytes of the answer's body."""
        self.faults.append(Fault(kind, times, cut_after=after))

    def expire_links(self):
        self._oldest_link = self._links + 1

    def forget(self):
        self.asked.clear()

    def count(self, kind=None):
        return sum(kind in (None, one.kind) for one in self.asked)

    def sent(self, *kinds):
        """Bytes of bodies that were sent, of files and blobs unless kinds are named."""
        return sum(one.sent for one in self.asked if one.kind in (kinds or ("blob", "file")))

    # what the handler asks

    def fault(self, kind):
        for fault in self.faults:
            if fault.kind == kind and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def asset(self, asset_id):
        for dandiset in self.dandisets.values():
            for asset in dandiset.assets:
                if asset.asset_id == asset_id:
                    return dandiset, asset
        return None, None

    def link_to(self, asset):
        self._links += 1
        query = {"X-Amz-Expires": "21600", "X-Amz-Date": "20260101T000000Z", "X-Amz-Signature": f"{self._links:064d}"}
        return f"{self.root}/blobs/{asset.blob[:3]}/{asset.blob[3:6]}/{asset.blob}?{urlencode(query)}"

    def link_holds(self, query):
        return int(query.get("X-Amz-Signature", ["0"])[0]) >= max(self._oldest_link, 1)


def _etag(content):
    from dandischema.digests.dandietag import DandiETag

    if isinstance(content, Path):
        return DandiETag.from_file(content).as_str()
    return hashlib.md5(hashlib.md5(content).digest()).hexdigest() + "-1"


def _sha256(content):
    return hashlib.sha256(content.read_bytes() if isinstance(content, Path) else content).hexdigest()


_DIGESTS = {"dandi:dandi-etag": _etag, "dandi:sha2-256": _sha256}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # headers and body go in one packet; two would wait for each other's acknowledgement
    wbufsize = -1
    disable_nagle_algorithm = True
    open_connections: dict = {}  # noqa: RUF012

    @property
    def archive(self):
        return self.server_archive

    def setup(self):
        super().setup()
        self.archive.connections += 1
        self.open_connections.setdefault(self.server.server_address[1], set()).add(self.connection)

    def finish(self):
        self.open_connections[self.server.server_address[1]].discard(self.connection)
        super().finish()

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, OSError, ValueError):
            self.close_connection = True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        path = unquote(parts.path)
        kind = "file" if path.startswith("/files/") else "blob" if path.startswith("/blobs/") else "api"
        if path.endswith("/download/"):
            kind = "link"
        self.asked = Asked(kind, self.command, path, dict(self.headers))
        self.archive.asked.append(self.asked)
        if self.archive.latency:
            time.sleep(self.archive.latency)
        self.fault = self.archive.fault(kind)
        if self.fault is not None and self.fault.status:
            return self.send(self.fault.status, b"try later", self.fault.headers)
        if kind == "file":
            asset = self.archive.files.get(path.removeprefix("/files/"))
            if asset is None:
                return self.send(404, b"no such file")
            if self.command == "HEAD" and not self.archive.head:
                return self.send(403, b"")
            return self.send_asset(asset)
        if kind == "blob":
            return self.blob(path)
        if not path.startswith("/api/"):
            return self.send(404, b"<html>no such page</html>")
        return self.api(path.removeprefix("/api"))

    def blob(self, path):
        assets = [asset for dandiset in self.archive.dandisets.values() for asset in dandiset.assets]
        asset = next((asset for asset in assets if asset.blob == path.rpartition("/")[2]), None)
        if asset is None:
            return self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if "Authorization" in self.headers and urlsplit(self.archive.api).netloc != self.headers["Host"]:
            return self.send(400, b"<Error><Code>InvalidArgument</Code></Error>")
        # the signature is for GET alone
        if self.command == "HEAD" or not self.archive.link_holds(self.query):
            return self.send(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
        return self.send_asset(asset)

    def send_asset(self, asset):
        size, status, headers = asset.size, 200, {}
        start, stop = 0, size
        if self.archive.validators:
            headers["ETag"] = f'"{asset.digests.get("dandi:dandi-etag", asset.blob)}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and self.archive.ranges:
            start, stop, status = int(wanted[1]), min(int(wanted[2]) + 1, size), 206
            if start >= size:
                return self.send(416, b"", {"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if self.archive.ranges:
            headers["Accept-Ranges"] = "bytes"
        return self.send(status, (asset, start, stop), headers)

    def api(self, path):
        if path == "/info/":
            info = answer("info")
            info["services"]["api"]["url"] = self.archive.api
            return self.json(info)
        if "Authorization" in self.headers and self.headers["Authorization"] != f"token {self.archive.key}":
            return self.json({"detail": "Invalid token."}, 401)
        asset = re.fullmatch(r"(?:/dandisets/\d+/versions/[^/]+)?/assets/([^/]+)/(info/|download/)?", path)
        if asset:
            return self.api_asset(*asset.groups())
        found = re.fullmatch(r"/dandisets/(\d+)/(?:versions/(?:([^/]+)/)?(info/|assets/)?)?", path)
        dandiset = self.archive.dandisets.get(found[1]) if found else None
        if dandiset is None:
            return self.json(answer("dandiset_404"), 404)
        if self.refuses(dandiset):
            return None
        if found[2] and found[2] not in dandiset.versions:
            return self.json({"detail": "No Version matches the given query."}, 404)
        if found[3] == "assets/":
            return self.api_assets(dandiset, found[2])
        if found[3] == "info/":
            return self.json({**answer("version_info"), **self.version(dandiset, found[2])})
        if path.endswith("/versions/"):
            return self.json({**answer("versions"), "results": [self.version(dandiset, v) for v in dandiset.versions]})
        published = [version for version in dandiset.versions if version != "draft"]
        data = {**answer("dandiset"), "identifier": dandiset.identifier}
        data["embargo_status"] = "EMBARGOED" if dandiset.embargoed else "OPEN"
        data["most_recent_published_version"] = self.version(dandiset, published[-1]) if published else None
        data["draft_version"] = self.version(dandiset, "draft")
        return self.json(data)

    def version(self, dandiset, version):
        assets = [asset for asset in dandiset.assets if version in asset.versions]
        sizes = {"asset_count": len(assets), "size": sum(asset.size for asset in assets)}
        return {**answer("dandiset")["draft_version"], "version": version, **sizes}

    def api_assets(self, dandiset, version):
        prefix, glob = (self.query.get(name, [""])[0].lower() for name in ("path", "glob"))
        assets = [
            self.listed(asset)
            for asset in sorted(dandiset.assets, key=lambda asset: asset.path)
            if version in asset.versions
            and asset.path.lower().startswith(prefix)
            and (not glob or fnmatchcase(asset.path.lower(), glob))
        ]
        page, size = (int(self.query.get(name, [default])[0]) for name, default in (("page", 1), ("page_size", 100)))
        more = page * size < len(assets)
        following = {**{name: values[0] for name, values in self.query.items()}, "page": page + 1}
        self.json(
            {
                # the archive counts on the first page alone
                "count": len(assets) if page == 1 else None,
                "next": f"{self.archive.root}{urlsplit(self.path).path}?{urlencode(following)}" if more else None,
                "previous": None,
                "results": assets[(page - 1) * size : page * size],
            }
        )

    def api_asset(self, asset_id, what):
        dandiset, asset = self.archive.asset(asset_id)
        if asset is None:
            return self.json({"detail": "No Asset matches the given query."}, 404)
        if self.refuses(dandiset):
            return None
        if what == "download/":
            return self.send(302, b"", {"Location": self.archive.link_to(asset)})
        metadata = copy.deepcopy(answer("asset_metadata"))
        metadata.update(path=asset.path, identifier=asset.asset_id, contentSize=asset.size, digest=asset.digests)
        metadata["contentUrl"] = [
            f"{self.archive.api}/assets/{asset.asset_id}/download/",
            f"{self.archive.root}/blobs/{asset.blob[:3]}/{asset.blob[3:6]}/{asset.blob}",
        ]
        return self.json({**self.listed(asset), "metadata": metadata} if what == "info/" else metadata)

    def listed(self, asset):
        known = {"asset_id": asset.asset_id, "blob": asset.blob, "path": asset.path, "size": asset.size}
        return {**answer("assets_page1")["results"][0], **known}

    def refuses(self, dandiset):
        if dandiset.embargoed and self.headers.get("Authorization") != f"token {self.archive.key}":
            self.json({"detail": "Authentication credentials were not provided."}, 401)
            return True
        return False

    def json(self, content, status=200):
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send(self, status, body, headers=None):
        asset, start, stop = body if isinstance(body, tuple) else (None, 0, len(body))
        self.asked.status = status
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        length = str(stop - start)
        if self.command == "HEAD" and self.archive.head_length is not None:
            length = self.archive.head_length
        self.send_header("Content-Length", length)
        if asset is not None:
            for name, text in self.archive.headers.items():
                self.send_header(name, text)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault is not None and self.fault.cut_after is not None:
            stop = min(stop, start + self.fault.cut_after)
            self.close_connection = True
        for offset in range(start, stop, 1 << 20):
            piece = (
                body[offset : min(offset + (1 << 20), stop)]
                if asset is None
                else asset.read(offset, min(offset + (1 << 20), stop))
            )
            # counted first: who has received it may ask at once
            self.asked.sent += len(piece)
            self.wfile.write(piece)
