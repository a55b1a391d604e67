"""From scores to decisions: batch top-K, score distributions, filtered corpora."""
