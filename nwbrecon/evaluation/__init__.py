"""How good a reconstruction is, how good it could be, and whether it can be trusted."""

from nwbrecon.evaluation.controls import Controls, run_controls
from nwbrecon.evaluation.evaluate import evaluate, score_movies
from nwbrecon.evaluation.scores import Scores

__all__ = ["Controls", "Scores", "evaluate", "run_controls", "score_movies"]
