"""A rater that learns beside one model while that model trains: `CuratedModel`."""
