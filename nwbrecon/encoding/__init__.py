"""Video in, responses out: models, observation models, likelihoods, training, checkpoints."""

from nwbrecon.encoding.encoder import Encoder, VideoEncoder
from nwbrecon.encoding.ensemble import EncoderEnsemble, train

__all__ = ["Encoder", "EncoderEnsemble", "VideoEncoder", "train"]
