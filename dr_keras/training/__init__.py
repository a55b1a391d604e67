"""Models trained on what a rater keeps."""
