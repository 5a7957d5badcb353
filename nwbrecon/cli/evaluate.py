"""``nwbrecon evaluate``."""

from __future__ import annotations

from nwbrecon.cli.options import (
    AsJson,
    Config,
    DandiInstance,
    OriginalSource,
    Results,
    Set,
    located,
    settings_for,
    show,
    talking,
)
from nwbrecon.config import RunSettings

__all__ = ["evaluate"]


def evaluate(
    results: Results,
    source: OriginalSource = None,
    dandi_instance: DandiInstance = None,
    config: Config = None,
    assignments: Set = None,
    as_json: AsJson = False,
) -> None:
    """Score what is stored in a results file."""
    settings = settings_for(RunSettings, config, assignments)
    from nwbrecon.pipeline.stored import evaluate_results

    with talking(as_json):
        show(evaluate_results(results, located(source, dandi_instance), settings.evaluation), as_json)
