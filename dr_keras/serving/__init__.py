"""The rater as a SavedModel: export, metadata, loading."""
