"""Video in, responses out: models, observation models, likelihoods, training, checkpoints."""

from nwbrecon.encoding.adoption import adopt_encoder
from nwbrecon.encoding.core import QuadratureCore
from nwbrecon.encoding.encoder import Encoder, VideoEncoder
from nwbrecon.encoding.ensemble import EncoderEnsemble
from nwbrecon.encoding.factorized import FactorizedCore
from nwbrecon.encoding.fields import receptive_fields
from nwbrecon.encoding.masks import MaskReadout
from nwbrecon.encoding.parts import Core, Readout
from nwbrecon.encoding.readout import PointReadout
from nwbrecon.encoding.scores import EncoderScores
from nwbrecon.encoding.scoring import score_encoder
from nwbrecon.encoding.train import train
from nwbrecon.encoding.validation import validate_encoder

__all__ = [
    "Core",
    "Encoder",
    "EncoderEnsemble",
    "EncoderScores",
    "FactorizedCore",
    "MaskReadout",
    "PointReadout",
    "QuadratureCore",
    "Readout",
    "VideoEncoder",
    "adopt_encoder",
    "receptive_fields",
    "score_encoder",
    "train",
    "validate_encoder",
]
