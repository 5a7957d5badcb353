"""What was settled before clips were inverted, in words: the prior's weight, and what the information map is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["information_map", "prior_choice"]

# rank correlation with the actual error below which a map does not tell which pixels are wrong
_TELLING = 0.4


def information_map(info: Mapping[str, Any]) -> str:
    """Say what the standard deviations are, and how they did on validation clips, where `info` knows that.

    Parameters
    ----------
    info
        `nwbrecon.inversion.Reconstructions.info`; of files of earlier versions too.

    Examples
    --------
    >>> information_map({"error_model": {"n_clips": 8, "n_films": 3, "covered": 0.94, "rank_correlation": 0.1}})[-70:]
    'orrelation with the actual error was 0.10: not which pixels are wrong.'
    """
    sentence = (
        "The information map is the error to be expected at each pixel given what the responses say, as a standard "
        "deviation in gray levels: how much is known"
    )
    model = info.get("error_model") or {}
    ranked, covered = model.get("rank_correlation"), model.get("covered")
    if ranked is None or covered is None:
        return f"{sentence}. How it did on clips that it was not calibrated on is not known."
    verdict = "and which pixels are wrong" if ranked >= _TELLING else "not which pixels are wrong"
    return (
        f"{sentence}. On {model['n_clips']} validation clips of {model['n_films']} films, each film predicted from the "
        f"others, 95 % intervals held the truth at {covered:.0%} of the pixels, and within clips its rank correlation "
        f"with the actual error was {ranked:.2f}: {verdict}."
    )


def prior_choice(info: Mapping[str, Any]) -> str:
    """Say which prior has which weight, and what chose it; empty where nothing was inverted.

    Examples
    --------
    >>> table = [{"prior": "movie", "weight": weight, "explained": 0.3} for weight in (0.5, 1.5)]
    >>> prior_choice({"prior": "movie", "prior_weight": 1.5, "choice": table})
    'movie, weight 1.5 (of 0.5 and 1.5: explains most of the validation clips)'
    """
    if not info.get("prior"):
        return ""
    said, table = f"{info['prior']}, weight {info['prior_weight']:g}", info.get("choice") or []
    if not table:
        return f"{said} (set beforehand)"
    *some, last = [f"{weight:g}" for weight in sorted({row["weight"] for row in table})]
    among = f"{', '.join(some)} and {last}" if some else last
    kinds = list(dict.fromkeys(row["prior"] for row in table))
    if len(kinds) > 1:
        among += f" and priors {' and '.join(kinds)}"
    why = "explains most of the validation clips" if "explained" in table[0] else "predicts held-out ROIs best"
    return f"{said} (of {among}: {why})"
