"""Write ``tests/data/results_v<schema>.nwb.gz``, once for each schema: ``python -m tests.results.store_version``."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

from nwbrecon.config import ResultsSettings
from nwbrecon.results import as_stored, write_results
from nwbrecon.results.layout import SCHEMA_VERSION

from .examples import aligned_session, encoder_for, evaluate, reconstruct


def main():
    aligned = aligned_session(clips=2, repeats=1, frames=31, size=(8, 12))
    made = as_stored(reconstruct(aligned, snapshots=3))
    target = Path(__file__).parents[1] / "data" / f"results_v{SCHEMA_VERSION}.nwb.gz"
    with TemporaryDirectory() as folder:
        path = write_results(
            Path(folder, "results.nwb"),
            made,
            evaluate(made, aligned),
            aligned=aligned,
            encoder=encoder_for(aligned),
            settings=ResultsSettings(include_stimulus=True),
            extra={
                "command_line": "nwbrecon run recording.nwb",
                "hardware": {"system": "Linux", "machine": "x86_64", "processor": "", "cpus": 2, "memory_gigabytes": 8},
            },
        )
        target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


if __name__ == "__main__":
    main()
