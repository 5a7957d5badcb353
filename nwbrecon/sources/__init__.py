"""Where the bytes are: path, URL, DANDI asset or open file, resolved to an open, read-only NWB file."""

from nwbrecon.sources.archive import list_assets
from nwbrecon.sources.cache import CacheEntry, cache_entries, clear_cache
from nwbrecon.sources.model import ListedSession, OpenFile, Source, SourceFile
from nwbrecon.sources.spec import fetch, resolve, sessions_in

__all__ = [
    "CacheEntry",
    "ListedSession",
    "OpenFile",
    "Source",
    "SourceFile",
    "cache_entries",
    "clear_cache",
    "fetch",
    "list_assets",
    "resolve",
    "sessions_in",
]
