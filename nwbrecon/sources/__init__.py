"""Where the bytes are: path, URL, DANDI asset or open file, resolved to an open, read-only NWB file."""
