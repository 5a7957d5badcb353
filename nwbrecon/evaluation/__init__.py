"""How good a reconstruction is, and how good it could be."""

from nwbrecon.evaluation.evaluate import evaluate, score_movies
from nwbrecon.evaluation.scores import Scores

__all__ = ["Scores", "evaluate", "score_movies"]
