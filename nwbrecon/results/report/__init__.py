"""The report: one HTML file that shows what was reconstructed and how far to trust it."""

from nwbrecon.results.report.notebook import Player, play
from nwbrecon.results.report.page import write_report

__all__ = ["Player", "play", "write_report"]
