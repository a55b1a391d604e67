"""Corpora, and how they become examples with stable ids."""
