"""Results NWB, read back, video, report and figures."""
