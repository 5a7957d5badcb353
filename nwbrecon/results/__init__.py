"""Results NWB, read back, video, report and figures."""

from nwbrecon.results.model import Results
from nwbrecon.results.provenance import results_name
from nwbrecon.results.reading import read_results
from nwbrecon.results.stored import as_stored
from nwbrecon.results.writing import write_results

__all__ = ["Results", "as_stored", "read_results", "results_name", "write_results"]
