"""Video in, responses out: models, observation models, likelihoods, training, checkpoints."""

from nwbrecon.encoding.encoder import Encoder, VideoEncoder
from nwbrecon.encoding.ensemble import EncoderEnsemble, train
from nwbrecon.encoding.fields import receptive_fields

__all__ = ["Encoder", "EncoderEnsemble", "VideoEncoder", "receptive_fields", "train"]
