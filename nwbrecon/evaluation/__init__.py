"""How good a reconstruction is, and how good it could be."""

from nwbrecon.evaluation.scores import Scores

__all__ = ["Scores"]
