"""Video in, responses out: models, observation models, likelihoods, training, checkpoints."""

from nwbrecon.encoding.encoder import Encoder, VideoEncoder
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.fields import receptive_fields
from nwbrecon.encoding.scores import EncoderScores
from nwbrecon.encoding.scoring import score_encoder
from nwbrecon.encoding.train import train

__all__ = [
    "Encoder",
    "EncoderEnsemble",
    "EncoderScores",
    "VideoEncoder",
    "receptive_fields",
    "score_encoder",
    "train",
]
