"""The heart: inner optimizers, meta-gradient estimators, the population, the trainer."""
