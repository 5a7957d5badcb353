"""Video in, responses out: models, observation models, likelihoods, training, checkpoints."""
