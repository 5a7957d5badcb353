"""Where the bytes are: path, URL, DANDI asset or open file, resolved to an open, read-only NWB file."""

from nwbrecon.sources.model import OpenFile, Source, SourceFile
from nwbrecon.sources.spec import resolve

__all__ = ["OpenFile", "Source", "SourceFile", "resolve"]
