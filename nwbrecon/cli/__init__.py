"""The command line: one short file a command, no logic."""

from nwbrecon.cli.app import main

__all__ = ["main"]
