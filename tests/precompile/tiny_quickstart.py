"""The quick start's configuration, so small that it lowers in seconds: bindings of gin."""

MODELS = [
    "SEQUENCE_LENGTH = 8",
    "language_model.width = 8",
    "text_rater.width = 8",
    "language_model.layer_count = 1",
    "text_rater.layer_count = 1",
]
ONE_UPDATE = [*MODELS, "MetaTrainer.unroll_length = 1"]
